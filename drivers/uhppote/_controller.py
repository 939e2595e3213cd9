"""One UHPPOTE controller, shared by the doors, readers and inputs that are its faces.

Whichever face runs carries the loop; when it stops, another takes it over.  The loop sends what is due (a release
first), fetches every event in the order of its index, and asks for the status: events are fire-and-forget packets, so
what they say is only a hint to look, and the index tells what was lost.
"""

from __future__ import annotations

import collections
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from ipaddress import IPv4Address
from typing import Protocol

import trio

from drivers._statistics import Meter
from drivers.base import RETRY_MAX_S, Availability, DriverStatistics
from drivers.errors import DeviceError, DeviceUnavailable
from drivers.serial import Backoff
from drivers.uhppote._door import UhppoteDoor
from drivers.uhppote._exchange import Exchange
from drivers.uhppote._inputs import UhppoteInputs, UhppoteReader
from protocols.messages import Direction
from protocols.uhppote import (
    SERIAL_MAX,
    Event,
    EventType,
    Status,
    UhppoteError,
    ask_event,
    ask_firmware,
    ask_handled,
    ask_status,
    mark_handled,
    read_event,
    record_special_events,
    set_clock,
    set_listener,
)

CATCH_UP_MAX = 500  # events fetched after an absence; what is older is passed over, and said
ANNOUNCED_MAX = 256  # indexes of events whose packet came, to tell which were lost
CLOCK_SKEW_MAX_S = 2.0  # a controller's clock that is off by more is set, at each set-up and each hour
CLOCK_EVERY_S = 3600.0
RENEW_EVERY_S = 60.0  # listener and special events are set again this often: a controller that lost them says nothing
RELEASE_RETRY_S = 1.0  # a controller that is away in an evacuation is looked for this often


class Face(Protocol):
    """A door, a reader or the inputs of a controller, as the controller sees it."""

    def up(self, status: Status) -> None: ...
    def down(self, reason: str) -> None: ...
    def on_event(self, event: Event, age_s: float) -> None: ...
    def on_status(self, status: Status, asked_at: float, heard_at: float) -> None: ...
    async def command(self, exchange: Exchange, *, set_up: bool) -> None: ...

    @property
    def released(self) -> bool: ...
    @property
    def look_again_s(self) -> float | None: ...


class UhppoteController:
    """`host` is its IPv4 address, `serial` its serial number; `listen_port` 0 takes any free one for its events.

    Raises ValueError for an address, a serial number or a port that cannot be.
    """

    def __init__(
        self,
        host: str,
        serial: int,
        *,
        port: int = 60000,
        listen_host: str = "",
        listen_port: int = 0,
        poll_s: float = 0.5,
        rng: random.Random | None = None,
    ) -> None:
        self._host = str(IPv4Address(host))
        if listen_host:
            IPv4Address(listen_host)
        if not 1 <= serial <= SERIAL_MAX:
            raise ValueError(f"serial number {serial}; 1 to {SERIAL_MAX} are possible")
        if not 1 <= port <= 65535 or not 0 <= listen_port <= 65535 or poll_s <= 0:
            raise ValueError(f"port {port}, listen_port {listen_port} or poll_s {poll_s} cannot be")
        self.serial = serial
        self.meter = Meter()
        self._port = port
        self._listen = (listen_host, listen_port)
        self._poll_s = poll_s
        self._backoff = Backoff(rng or random.Random())
        self._carrying = trio.Lock()
        self._faces: list[Face] = []
        self._status: Status | None = None  # as long as the controller is heard
        self._handled: int | None = None  # index of the newest event that was handed on
        self._announced: collections.deque[int] = collections.deque(maxlen=ANNOUNCED_MAX)
        self._nap: trio.CancelScope | None = None
        self._woken = False
        self.recovered = 0  # events that were fetched because their packet never came
        self.passed_over = 0  # events that were too many to fetch

    def statistics(self) -> DriverStatistics:
        return self.meter.snapshot()

    def door(self, number: int, *, open_s: int = 3, sensor: bool = True) -> UhppoteDoor:
        """Door 1 to 4 as a gate. Raises ValueError for another number or an impossible opening time, s."""
        return UhppoteDoor(self, number, open_s=open_s, sensor=sensor)

    def reader(self, door: int, *, direction: Direction = Direction.ENTRY) -> UhppoteReader:
        """The reader at a door, on the way in or on the way out."""
        return UhppoteReader(self, door, direction)

    def inputs(self, *, debounce_s: float = 0.05) -> UhppoteInputs:
        """Its fire contact, buttons and door contacts."""
        return UhppoteInputs(self, debounce_s=debounce_s)

    # --- for the faces ------------------------------------------------------------------------------------------

    @contextmanager
    def attached(self, face: Face) -> Iterator[None]:
        self._faces.append(face)
        if self._status is not None:
            face.up(self._status)
        try:
            yield
        finally:
            self._faces.remove(face)

    async def carry(self) -> None:
        """Run the controller's loop, or wait until it is this face's turn to; until cancelled."""
        async with self._carrying:
            while True:
                try:
                    with Exchange(self._host, self._port, self.serial, self._listen, self.meter) as exchange:
                        await self._serve(exchange)
                except DeviceError as exc:
                    self._lost(str(exc))
                pause_s = self._backoff.next_s()
                await self._rest(min(pause_s, RELEASE_RETRY_S if self._any_released() else RETRY_MAX_S))

    def wake(self) -> None:
        self._woken = True
        if self._nap is not None:
            self._nap.cancel()

    # --- the loop -----------------------------------------------------------------------------------------------

    async def _serve(self, exchange: Exchange) -> None:
        address = await exchange.open()
        failure: DeviceError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen_for_events, exchange)
            try:
                await self._speak(exchange, address)
            except DeviceError as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _speak(self, exchange: Exchange, address: tuple[str, int]) -> None:
        for face in tuple(self._faces):  # a release does not wait for any set-up
            if face.released:
                await face.command(exchange, set_up=True)
        while self._handled is None and self._faces and all(face.released for face in self._faces):
            # `paifang evacuate`, beside a server that may live: its listener and its events are left alone
            await self._look(exchange, events=False)
            await self._rest(self._pause_s())
            self._woken = False
            for face in tuple(self._faces):
                await face.command(exchange, set_up=False)
        await self._set_up(exchange, address)
        renew_at, clock_at = trio.current_time() + RENEW_EVERY_S, trio.current_time() + CLOCK_EVERY_S
        while True:
            self._woken = False
            for face in sorted(self._faces, key=lambda one: not one.released):
                await face.command(exchange, set_up=False)
            await self._look(exchange)
            now = trio.current_time()
            if now >= renew_at:
                renew_at = now + RENEW_EVERY_S
                await self._ask_for_events(exchange, address)
            if now >= clock_at:
                clock_at = now + CLOCK_EVERY_S
                await self._set_clock(exchange)
            await self._rest(self._pause_s())

    async def _set_up(self, exchange: Exchange, address: tuple[str, int]) -> None:
        self.meter.firmware = await exchange.ask(ask_firmware(self.serial))
        await self._ask_for_events(exchange, address)
        status: Status = await exchange.ask(ask_status(self.serial))
        self._note_clock(status)
        await self._set_clock(exchange)
        if self._handled is None:
            marked: int = await exchange.ask(ask_handled(self.serial))
            self._handled = marked if 0 < marked <= status.index else status.index
        for face in tuple(self._faces):
            await face.command(exchange, set_up=True)
        await self._look(exchange)

    async def _ask_for_events(self, exchange: Exchange, address: tuple[str, int]) -> None:
        """A new controller reports neither doors nor buttons nor fire, and to nobody."""
        if not await exchange.ask(record_special_events(self.serial)):
            raise DeviceUnavailable(f"{exchange.name}: does not record special events")
        if not await exchange.ask(set_listener(self.serial, *address)):
            raise DeviceUnavailable(f"{exchange.name}: does not take {address[0]}:{address[1]} as its listener")

    def _pause_s(self) -> float:
        looks = [face.look_again_s for face in self._faces]
        return min([self._poll_s, *(look for look in looks if look is not None)])

    async def _look(self, exchange: Exchange, *, events: bool = True) -> None:
        """Events up to now, then the status."""
        asked_at = trio.current_time()
        status: Status = await exchange.ask(ask_status(self.serial))
        heard_at = trio.current_time()
        self._backoff.reset()
        self._note_clock(status)
        if events:
            await self._catch_up(exchange, status)
        news = self._status is None
        self._status = status
        if news:
            self.meter.now(Availability.AVAILABLE)
            for face in self._faces:
                face.up(status)
        for face in self._faces:
            face.on_status(status, asked_at, heard_at)

    async def _catch_up(self, exchange: Exchange, status: Status) -> None:
        """Hand on every event between the last one and the newest, each once and in order.

        They are fetched, also those whose packet came: anybody can send a packet.  They are marked as handled first:
        after a crash in between, one may be missing, and none is there twice.
        """
        assert self._handled is not None
        announced, newest = set(self._announced), status.index
        if newest < self._handled:
            self._handled = newest  # its memory was cleared, or it was exchanged: its events begin anew
            return
        first = self._handled + 1
        if newest - self._handled > CATCH_UP_MAX:
            first = newest - CATCH_UP_MAX + 1
            self.passed_over += first - self._handled - 1
            self.meter.error(f"{first - self._handled - 1} events passed over")
        events: list[tuple[Event, float]] = []
        for index in range(first, newest + 1):
            event: Event | None = await exchange.ask(ask_event(self.serial, index))
            self.recovered += index not in announced
            if event is not None and event.type != EventType.NONE:
                events.append((event, _age_s(event, status, index in announced)))
        if newest > self._handled:
            await exchange.ask(mark_handled(self.serial, newest))
            self._handled = newest
        for event, age_s in events:
            for face in self._faces:
                face.on_event(event, age_s)

    async def _listen_for_events(self, exchange: Exchange) -> None:
        while True:
            packet = await exchange.next_event()
            try:
                event = read_event(packet, self.serial)
            except UhppoteError:
                self.meter.bad_frames += 1
                continue
            self._announced.append(event.index)
            self.wake()

    def _lost(self, reason: str) -> None:
        self.meter.error(reason)
        self._status = None
        if self.meter.availability is Availability.AVAILABLE:
            self.meter.reconnects += 1
        if self.meter.now(Availability.UNAVAILABLE):
            for face in self._faces:
                face.down(reason)

    def _any_released(self) -> bool:
        return any(face.released for face in self._faces)

    # --- its clock ----------------------------------------------------------------------------------------------

    def _note_clock(self, status: Status) -> None:
        ours = datetime.now()
        self.meter.clock_skew_s = None if status.clock is None else (status.clock - ours).total_seconds()

    async def _set_clock(self, exchange: Exchange) -> None:
        skew_s = self.meter.clock_skew_s
        if skew_s is None or abs(skew_s) > CLOCK_SKEW_MAX_S:
            await exchange.ask(set_clock(self.serial, datetime.now()))

    async def _rest(self, pause_s: float) -> None:
        if self._woken:
            return
        with trio.CancelScope() as self._nap:
            await trio.sleep(max(0.0, pause_s))
        self._nap = None


def _age_s(event: Event, status: Status, announced: bool) -> float:
    """How long ago it happened, by the controller's own clock; with a broken one, whether its packet came just now."""
    if status.clock is None or event.at is None:
        return 0.0 if announced else math.inf
    return (status.clock - event.at).total_seconds()
