"""A simulated UHPPOTE controller with four doors, over UDP. It is no real controller.

Its packets are written with the field encoders of the `uhppoted` library and taken apart by that library's decoders in
the driver; recorded packets of that project's own simulator are the check on both (tests/protocols).  It can misbehave:
silent, slow, events lost, twice or in the wrong order, foreign packets, its memory cleared, its power gone.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
import trio
from uhppoted import codec, encode

from protocols.uhppote import DOORS, FIRE_INPUT, Mode, Reason

DATAGRAM_MAX = 1024
EVENTS_MAX = 5000  # kept in its memory
TICK_S = 0.01
STRANGER = 0x0BADCAFE


class Recorded(msgspec.Struct, frozen=True):
    index: int
    type: int
    granted: bool
    door: int
    direction: int
    card: int
    at: datetime
    reason: int


class SimUhppote:
    """Serve it with `serve`; `port` is where it listens. Time on it is `clock()`, which can be wrong by `skew`."""

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.port = 0
        self.modes = dict.fromkeys(DOORS, Mode.CONTROLLED)
        self.delays_s = dict.fromkeys(DOORS, 5)
        self.doors_open = dict.fromkeys(DOORS, False)
        self.buttons = dict.fromkeys(DOORS, False)
        self.cards: set[int] = set()  # known to the controller itself
        self.fire = False
        self.events: list[Recorded] = []
        self.first_index = 1
        self.handled = 0
        self.special_events = False  # as a new one: doors, buttons and alarms are not recorded
        self.listener: tuple[str, int] | None = None
        self.skew = timedelta(0)
        self.heard: list[int] = []  # functions, newest last, bounded
        self.opened: list[int] = []  # doors opened on command
        self.powered = True
        self.silent = False
        self.lose_answers = 0
        self.slow_s = 0.0
        self.lose_events = 0
        self.send_twice = False
        self.hold_back = 0  # so many event packets are sent only after the next one
        self._held_back: list[bytes] = []
        self._unlocked_until = dict.fromkeys(DOORS, 0.0)
        self._socket: trio.socket.SocketType | None = None
        self._outbox: list[bytes] = []

    # --- what happens at it ---------------------------------------------------------------------------------------

    def swipe(self, card: int, door: int = 1, *, outward: bool = False) -> None:
        """Somebody holds a card before a reader."""
        known = card in self.cards
        if known:
            self._unlock(door)
        reason = Reason.SWIPE if known else 6
        self._record(1, known, door, 2 if outward else 1, card, reason)

    def push(self, door: int = 1) -> None:
        """Somebody opens and shuts a door. Raises AssertionError when it is locked."""
        assert self.unlocked(door), f"door {door} is locked"
        self.open_leaf(door)
        self.shut_leaf(door)

    def open_leaf(self, door: int, *, forced: bool = False) -> None:
        self.doors_open[door] = True
        self._record(3 if forced else 2, True, door, 1, 8, Reason.FORCED if forced else Reason.DOOR_OPENED)

    def shut_leaf(self, door: int) -> None:
        self.doors_open[door] = False
        self._record(2, True, door, 1, 9, Reason.DOOR_CLOSED)

    def press(self, door: int = 1) -> None:
        """The button beside a door, for who leaves."""
        self._unlock(door)
        self._record(2, True, door, 1, 1, Reason.BUTTON)

    def set_fire(self, on: bool) -> None:
        """The fire contact."""
        self.fire = on
        if on:
            self._record(3, True, 1, 1, 0, Reason.FIRE)

    def clear_memory(self) -> None:
        """A factory reset: events begin with 1 again, and it tells nobody."""
        self.events, self.first_index, self.handled = [], 1, 0
        self.special_events, self.listener = False, None

    def unlocked(self, door: int) -> bool:
        if not self.powered or self.modes[door] is Mode.NORMALLY_CLOSED:
            return False
        return self.modes[door] is Mode.NORMALLY_OPEN or self._unlocked_until[door] > trio.current_time()

    @property
    def newest(self) -> int:
        return self.first_index + len(self.events) - 1

    def clock(self) -> datetime:
        return datetime.now() + self.skew

    # --- the network ----------------------------------------------------------------------------------------------

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on a loopback port until cancelled; `nursery.start` returns it."""
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as self._socket:
            await self._socket.bind(("127.0.0.1", port))
            self.port = int(self._socket.getsockname()[1])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_events)
                task_status.started(self.port)
                while True:
                    packet, sender = await self._socket.recvfrom(DATAGRAM_MAX)
                    answer = self._answer(packet)
                    if answer is None or self.silent or not self.powered:
                        continue
                    if self.lose_answers > 0:
                        self.lose_answers -= 1
                        continue
                    if self.slow_s:
                        await trio.sleep(self.slow_s)
                    await self._socket.sendto(answer, sender)

    async def _send_events(self) -> None:
        assert self._socket is not None
        while True:
            while self._outbox and self.listener is not None:
                packet = self._outbox.pop(0)
                for _ in range(2 if self.send_twice else 1):
                    with suppress(OSError):
                        await self._socket.sendto(packet, self.listener)
            await trio.sleep(TICK_S)

    async def intrude(self, packet: bytes) -> None:
        """A packet to the listener's port that the controller would not send, from its own address."""
        assert self._socket is not None and self.listener is not None
        await self._socket.sendto(packet, self.listener)

    def event_packet(self, event: Recorded, *, serial: int | None = None) -> bytes:
        """An event as it goes to the listener."""
        packet = self._head(codec.LISTEN_EVENT, serial)
        self._fill_event(packet, event)
        self._fill_state(packet)
        return bytes(packet)

    # --- answering ------------------------------------------------------------------------------------------------

    def _answer(self, asked: bytes) -> bytes | None:
        if len(asked) != 64 or asked[0] != codec.SOM or int.from_bytes(asked[4:8], "little") != self.serial:
            return None
        function = asked[1]
        self.heard = [*self.heard[-999:], function]
        if not self.powered:
            return None
        packet = self._head(function)
        door, number = asked[8], int.from_bytes(asked[8:12], "little")
        match function:
            case codec.GET_CONTROLLER:
                packet[26:28] = bytes.fromhex("0892")
                encode.pack_date(datetime(2022, 2, 1), packet, 28)
            case codec.GET_STATUS:
                if self.events:
                    self._fill_event(packet, self.events[-1])
                self._fill_state(packet)
            case codec.SET_TIME:
                told = datetime.strptime(asked[8:15].hex(), "%Y%m%d%H%M%S")
                self.skew = told - datetime.now()
                encode.pack_datetime(told, packet, 8)
            case codec.OPEN_DOOR:
                opened = door in DOORS and self.modes[door] is not Mode.NORMALLY_CLOSED
                if opened:
                    self.opened.append(door)
                    self._unlock(door)
                    self._record(2, True, door, 1, 0xE9CDCCEA, Reason.REMOTE_OPEN)  # with a card number that is none
                encode.pack_bool(opened, packet, 8)
            case codec.SET_DOOR | codec.GET_DOOR if door in DOORS:
                if function == codec.SET_DOOR:
                    self.modes[door], self.delays_s[door] = Mode(asked[9]), asked[10]
                packet[8:11] = bytes([door, self.modes[door], self.delays_s[door]])
            case codec.SET_LISTENER:
                self.listener = (".".join(map(str, asked[8:12])), int.from_bytes(asked[12:14], "little"))
                encode.pack_bool(True, packet, 8)
            case codec.RECORD_SPECIAL_EVENTS:
                self.special_events = bool(asked[8])
                encode.pack_bool(True, packet, 8)
            case codec.GET_EVENT_INDEX:
                encode.pack_uint32(self.handled, packet, 8)
            case codec.SET_EVENT_INDEX:
                encode.pack_bool(self.handled != number, packet, 8)
                self.handled = number
            case codec.GET_EVENT:
                at = number - self.first_index
                if 0 <= at < len(self.events):
                    self._fill_event(packet, self.events[at])
            case _:
                return None
        return bytes(packet)

    def _head(self, function: int, serial: int | None = None) -> bytearray:
        packet = bytearray(64)
        encode.pack_uint8(codec.SOM, packet, 0)
        encode.pack_uint8(function, packet, 1)
        encode.pack_uint32(self.serial if serial is None else serial, packet, 4)
        return packet

    def _fill_event(self, packet: bytearray, event: Recorded) -> None:
        encode.pack_uint32(event.index, packet, 8)
        encode.pack_uint8(event.type, packet, 12)
        encode.pack_bool(event.granted, packet, 13)
        encode.pack_uint8(event.door, packet, 14)
        encode.pack_uint8(event.direction, packet, 15)
        encode.pack_uint32(event.card, packet, 16)
        encode.pack_datetime(event.at, packet, 20)
        encode.pack_uint8(event.reason, packet, 27)

    def _fill_state(self, packet: bytearray) -> None:
        now = self.clock()
        for door in DOORS:
            encode.pack_bool(self.doors_open[door], packet, 27 + door)
            encode.pack_bool(self.buttons[door], packet, 31 + door)
        packet[37:40] = bytes.fromhex(f"{now:%H%M%S}")
        encode.pack_uint8(sum(1 << door - 1 for door in DOORS if self.unlocked(door)), packet, 49)
        encode.pack_uint8(FIRE_INPUT if self.fire else 0, packet, 50)
        packet[51:54] = bytes.fromhex(f"{now:%y%m%d}")

    def _unlock(self, door: int) -> None:
        self._unlocked_until[door] = trio.current_time() + self.delays_s[door]

    def _record(self, kind: int, granted: bool, door: int, direction: int, card: int, reason: int) -> None:
        if kind != 1 and not self.special_events:
            return
        event = Recorded(self.newest + 1, kind, granted, door, direction, card, self.clock(), reason)
        self.events.append(event)
        if len(self.events) > EVENTS_MAX:
            self.events.pop(0)
            self.first_index += 1
        if self.lose_events > 0 or not self.powered:
            self.lose_events -= 1
            return
        if self.hold_back > 0:
            self.hold_back -= 1
            self._held_back.append(self.event_packet(event))
            return
        self._outbox += [self.event_packet(event), *self._held_back]
        self._held_back = []
