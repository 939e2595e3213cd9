"""Several OSDP readers on one RS-485 line, under Trio and without a thread.

An `OsdpBus` is one line; `bus.reader(...)` makes the driver of one reader at it.  Readers come and go while the bus
runs: whichever runs first serves the line for all of them, and passes it on when it is cancelled.  A reader that is
silent is tried again every few seconds, one silent reader at a time, so that the others never wait longer than for
one question (200 ms); one whose key is wrong is tried more and more rarely, up to 80 s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from drivers._statistics import Meter
from drivers.base import (
    SILENT_AFTER_S,
    Availability,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    DriverStatistics,
    Emit,
    Feedback,
    InputChanged,
    InputState,
)
from drivers.errors import DeviceError
from drivers.feedback import Pattern, Patterns
from drivers.osdp import _commands
from drivers.osdp._commands import Language
from drivers.osdp._keys import KEY_BYTES
from drivers.osdp._library import READERS_MAX, Panel, library, panel, reader_info
from drivers.osdp._seat import PROBE_GAP_S, Phase, Seat, SeatChannel
from drivers.serial import Backoff, SerialLine, check_baud, open_line, reconnecting
from protocols import osdp
from protocols.messages import CredentialKind

TICK_S = 0.02  # how often the library gets its turn when nothing is heard; it asks for 50 ms at most
TURNS = 4  # of the library at once: an answer taken, the next question chosen, and sent
WRITE_DEADLINE_S = 0.5  # a line that takes no bytes for this long is treated as gone
HALF_FRAME_S = 0.3  # a frame that stops for this long was cut off
STEADY_S = 5.0
CLOCK_JUMP_S = 0.2  # a clock that is corrected gently moves by half a thousandth
SIGNAL_PATIENCE_S = 1.0  # a feedback that could not be sent within this is dropped: a late light misleads
FLOOD_BYTES = 4096  # read at once; after a full read there is a pause
FLOOD_PAUSE_S = 0.02

_INPUTS = {0: InputState.INACTIVE, 1: InputState.ACTIVE}


def _turn(reader: OsdpReader) -> tuple[bool, float]:
    """Who is tried first: who was there a moment ago; known-dead ones last."""
    return (reader.meter.availability is not Availability.AVAILABLE, reader.seat.next_try_s)


class OsdpReader:
    """One reader at a bus: a `drivers.base.Signalling`. Made by `OsdpBus.reader`."""

    def __init__(
        self,
        bus: OsdpBus,
        address: int,
        key: bytes | None,
        patterns: Patterns,
        text: Language,
        reverse: bool,
        keypad: str,
        rng: random.Random,
    ) -> None:
        self.address = address
        self.meter = Meter()
        self.seat = Seat(address, key, rng)
        self.wish: tuple[float, Pattern] | None = None  # not yet given to the library, and since when
        self.standing: Pattern | None = None  # a light that stays until something else is said
        self.lost_s: float | None = None  # since when it is not online, while that is not yet reported
        self.online_s: float | None = None
        self.asked_status = False  # since it came online; from then on a reader tells what changes
        self.shines = False  # with a light that stays until something else is said
        self.shone = False  # so, at any time
        self.tidy = False  # that light is to be ended, whether it is there or not
        self.emit: Emit | None = None
        self.left = trio.Event()  # its `run` has ended
        self._bus = bus
        self._key = key
        self._patterns = patterns
        self._text = text
        self._reverse = reverse
        self._keypad = keypad
        self._keys = osdp.Keypad()
        self._inputs: dict[str, InputState] = {}
        self._ups = 0

    @property
    def secure(self) -> bool:
        """Whether a key is set; nothing but the secure channel is spoken then."""
        return self._key is not None

    async def run(self, emit: Emit) -> None:
        """Serve the reader until cancelled; and while it is this reader's turn, the whole bus."""
        if self.emit is not None:
            raise RuntimeError(f"reader {self.address} runs already")
        self.emit, self.left = emit, trio.Event()
        try:
            await self._bus.serve(self)
        finally:
            self.emit = None

    def statistics(self) -> DriverStatistics:
        return self.meter.snapshot()

    def signal(self, feedback: Feedback) -> None:
        """Light, sound and text for it. Dropped when the reader is not there."""
        pattern = self._patterns.of(feedback)
        self.standing = pattern if pattern.light.lasts_ms == 0 else None
        if self.meter.availability is not Availability.AVAILABLE:
            self.meter.error("a signal was dropped: the reader is not there")
            return
        self.wish = (trio.current_time(), pattern)

    # --- told by the bus ----------------------------------------------------------------------------------------------

    def up(self) -> None:
        """The reader answers, and trusts us."""
        self.lost_s = None
        if self.meter.now(Availability.AVAILABLE):
            self._ups += 1
            self.meter.reconnects = self._ups - 1
            self._tell(DeviceUp())

    def down(self, reason: str, availability: Availability = Availability.UNAVAILABLE) -> None:
        self.meter.error(reason)
        self.lost_s = None
        if self.meter.now(availability):
            self.wish = None
            self._inputs.clear()
            self._tell(DeviceDown(reason=reason))

    def heard(self, event: dict[str, Any]) -> None:
        """Something the reader said of its own accord, as the library tells it."""
        found = library()
        if event["event"] == found.EVENT_CARDREAD:
            self._card(event)
        elif event["event"] == found.EVENT_KEYPRESS and self._keypad != "off":
            for number in self._keys.feed(event["data"], trio.current_time()):
                if self._keypad == "card":
                    self._tell(CredentialRead(kind=CredentialKind.CARD, value=number))
                else:
                    self._tell(CodeRead(text=number))
        elif event["event"] == found.EVENT_STATUS:
            report = event["report"]
            if event["type"] == found.STATUS_REPORT_LOCAL:
                for name, said in zip(("tamper", "power"), report, strict=False):
                    self._input(name, said)
            elif event["type"] == found.STATUS_REPORT_INPUT:
                for contact, said in enumerate(report, 1):
                    self._input(f"input-{contact}", said)

    def began(self, said: dict[str, int]) -> None:
        """A dialogue stands, with a reader that says who it is; it may have been off, and have forgotten its light."""
        self.asked_status = False
        self.tidy = self.shone and self.standing is None  # the command that ended the light may have been lost
        if self.standing is not None and self.wish is None:
            self.wish = (trio.current_time(), self.standing)
        firmware = said["firmware_version"]
        version = f"{firmware >> 16 & 0xFF}.{firmware >> 8 & 0xFF}.{firmware & 0xFF}"
        identity = (
            f"vendor {said['vendor_code'] & 0xFFFFFF:06X} model {said['model']}.{said['version']} "
            f"serial {said['serial_number'] & 0xFFFFFFFF} firmware {version}"
        )
        if identity != self.meter.firmware:
            self.meter.firmware = identity
            self.seat.refused.clear()  # another reader, which may know more

    def commands(self, capable: Callable[[int], bool]) -> list[dict[str, Any]]:
        """What is to be sent for the present wish, which is fulfilled with that. Empty for a wish that is too old."""
        if self.wish is None:
            tidy, self.tidy = self.tidy, False
            return [_commands.dark()] if tidy else []
        (since_s, pattern), self.wish = self.wish, None
        if trio.current_time() - since_s > SIGNAL_PATIENCE_S:
            self.meter.error("a signal was dropped: the bus was busy")
            return []
        found = library()
        commands: list[dict[str, Any]] = []
        refused = self.seat.refused
        if capable(found.CAP_READER_LED_CONTROL) and osdp.LED not in refused:
            lasting = pattern.light.lasts_ms == 0
            commands += [_commands.dark()] if (self.shines or self.tidy) and not lasting else []
            commands.append(_commands.light(pattern.light))
            self.shines, self.shone, self.tidy = lasting, self.shone or lasting, False
        if capable(found.CAP_READER_AUDIBLE_OUTPUT) and osdp.BUZZER not in refused and pattern.sound.count:
            commands.append(_commands.sound(pattern.sound))
        if capable(found.CAP_READER_TEXT_OUTPUT) and osdp.TEXT not in refused:
            words = _commands.text(pattern, self._text)
            commands += [words] if words is not None else []
        return commands

    def _card(self, event: dict[str, Any]) -> None:
        try:
            value = osdp.card_value(event["data"], event.get("length", 0), reverse=self._reverse)
        except osdp.OsdpError as exc:
            self.meter.bad_frames += 1
            self.meter.error(f"a card was not understood: {exc}")
            return
        self._tell(CredentialRead(kind=CredentialKind.CARD, value=value))

    def _input(self, name: str, said: int) -> None:
        state = _INPUTS.get(said, InputState.UNKNOWN)
        before = self._inputs.get(name)
        self._inputs[name] = state
        if state is not before and not (before is None and state is InputState.INACTIVE):
            self._tell(InputChanged(name=name, state=state))

    def _tell(self, event: DeviceEvent) -> None:
        if self.emit is not None:
            self.emit(event)


class OsdpBus:
    """One RS-485 line at `path` (better its link under /dev/serial/by-id). Raises ValueError for a bad rate."""

    def __init__(self, path: str, baud: int = 9600, *, rng: random.Random | None = None) -> None:
        self.path = path
        self._baud = check_baud(baud)
        self._rng = rng or random.Random()
        self._backoff = Backoff(self._rng)
        self._known: dict[int, OsdpReader] = {}
        self._running: list[OsdpReader] = []  # whose `run` is under way, in the library's order
        self._turn = trio.Lock()  # who has it serves the line
        self._panel: Panel | None = None
        self._channels: list[SeatChannel] = []
        self._events: list[tuple[OsdpReader, dict[str, Any]]] = []
        self._framer = osdp.OsdpFramer()
        self._bytes_at = 0.0
        self._next_probe_s = 0.0
        self._clock_lead_s = 0.0  # of the clock on the wall, before the steady one

    def reader(
        self,
        address: int,
        *,
        key: bytes | None = None,
        patterns: Patterns | None = None,
        text: Language = "en",
        reverse: bool = False,
        keypad: str = "code",
    ) -> OsdpReader:
        """The driver of the reader at `address` (0 to 126). With `key` (16 bytes), only its secure channel is spoken.

        `text` is the language of its display, `reverse` turns UIDs round, and `keypad` says what a typed number is:
        a `code`, a `card`, or nothing (`off`).  A later reader at the same address takes the place of the earlier one.
        Raises ValueError for an address, a key or a word that cannot be.
        """
        if not 0 <= address <= osdp.ADDRESS_MAX:
            raise ValueError(f"an OSDP address is 0 to {osdp.ADDRESS_MAX}, not {address}")
        if key is not None and len(key) != KEY_BYTES:
            raise ValueError(f"an OSDP key has {KEY_BYTES} bytes")
        if text not in ("en", "zh", "none"):
            raise ValueError(f"text is en, zh or none, not {text!r}")
        if keypad not in ("code", "card", "off"):
            raise ValueError(f"keypad is code, card or off, not {keypad!r}")
        if address not in self._known and len(self._known) >= READERS_MAX:
            raise ValueError(f"more than {READERS_MAX} readers at {self.path}")
        reader = OsdpReader(self, address, key, patterns or Patterns(), text, reverse, keypad, self._rng)
        self._known[address] = reader
        return reader

    async def serve(self, reader: OsdpReader) -> None:
        """For `OsdpReader.run`: be polled until cancelled, and serve the line for all when nobody else does.

        A reader that is to take the place of another at its address waits until that one has left.
        """
        while (other := next((each for each in self._running if each.address == reader.address), None)) is not None:
            await other.left.wait()
        self._running.append(reader)
        self._panel = None
        try:
            async with self._turn:
                await reconnecting(self._open, self._serve_line, self._lost, self._backoff)
        finally:
            self._running.remove(reader)
            self._panel = None
            reader.left.set()

    def _open(self) -> SerialLine:
        return open_line(self.path, self._baud)

    def _lost(self, exc: DeviceError) -> None:
        for reader in self._running:
            reader.seat.line_lost()
            reader.online_s = None
            reader.down(str(exc))

    # --- while the line is open ---------------------------------------------------------------------------------------

    async def _serve_line(self, line: SerialLine) -> None:
        self._framer = osdp.OsdpFramer()
        for reader in self._running:
            reader.seat.line_lost()
        while True:
            data = b""
            with trio.move_on_after(TICK_S):
                data = await line.receive_some(FLOOD_BYTES)
            now_s = trio.current_time()
            for reader in self._running:
                reader.seat.now_s = now_s
            if self._panel is None or self._clock_was_set() or any(reader.seat.stuck for reader in self._running):
                self._build()
            if data:
                self._hear(data, now_s)
            self._step(now_s)
            if questions := self._questions():
                await line.send_all(questions, WRITE_DEADLINE_S)
            self._tell()
            if len(data) >= FLOOD_BYTES:
                await trio.sleep(FLOOD_PAUSE_S)

    def _clock_was_set(self) -> bool:
        """The clock on the wall jumped. The library's pauses are measured with it, and may now last for hours."""
        lead_s = time.time() - time.monotonic()
        before_s, self._clock_lead_s = self._clock_lead_s, lead_s
        return abs(lead_s - before_s) > CLOCK_JUMP_S

    def _build(self) -> None:
        """A new panel for the readers that run now. The library cannot add or remove one."""
        for channel in self._channels:
            channel.seat = None
        self._channels = [SeatChannel(reader.seat) for reader in self._running]
        self._events.clear()
        flags = library().FLAG_ENABLE_NOTIFICATION
        self._panel = panel(
            [
                reader_info(reader.address, channel, key=reader.seat.key, flags=flags)
                for reader, channel in zip(self._running, self._channels, strict=True)
            ]
        )
        readers = tuple(self._running)
        events = self._events

        def note(number: int, event: dict[str, Any]) -> int:
            with suppress(IndexError):
                events.append((readers[number], dict(event)))
            event.clear()  # the library never frees it
            return 0

        self._panel.set_event_callback(note)
        for reader in self._running:
            reader.online_s = None
            reader.seat.line_lost()
            if reader.meter.availability is Availability.AVAILABLE:
                reader.lost_s = trio.current_time()  # it has a moment to come back unnoticed

    def _hear(self, data: bytes, now_s: float) -> None:
        if self._framer.pending_bytes and now_s - self._bytes_at > HALF_FRAME_S:
            self._framer.reset()
        self._bytes_at = now_s
        bad_before = self._framer.bad_frames
        asked = next((reader for reader in self._running if reader.seat.unanswered), None)
        for frame in self._framer.feed(data):
            reader = next((each for each in self._running if each.address == frame.address), None)
            if reader is None or not frame.reply:  # somebody else's, or the echo of a question
                continue
            if reader.seat.hear(frame):
                reader.meter.frames_in += 1
                reader.meter.heard(osdp.HEAD_BYTES + len(frame.security) + 1 + len(frame.data) + 1 + frame.crc)
                self._backoff.reset()
            else:
                reader.meter.bad_frames += 1
        if asked is not None:
            asked.meter.bad_frames += self._framer.bad_frames - bad_before

    def _step(self, now_s: float) -> None:
        assert self._panel is not None
        self._schedule(now_s)
        self._signal()
        for _ in range(TURNS):
            self._panel.refresh()
        for reader, event in self._take_notices():
            if event["arg0"] and reader.seat.phase is Phase.SETTLING:
                reader.seat.online()
                reader.online_s = now_s
                reader.began(self._panel.get_pd_id(self._running.index(reader)))
            elif not event["arg0"]:
                self._panel.flush_commands(self._running.index(reader))  # they would come out when it is back
                reader.seat.offline()
                reader.online_s = None
        for reader in self._running:
            self._judge(reader, now_s)

    def _schedule(self, now_s: float) -> None:
        """Who is tried now: one silent reader at a time, and a moment for the others in between."""
        assert self._panel is not None
        for number, reader in enumerate(self._running):
            seat = reader.seat
            if seat.phase is Phase.KICKED:
                if self._panel.is_pd_enabled(number):
                    self._panel.disable_pd(number)
                else:
                    self._panel.enable_pd(number)
                    seat.probe()
            elif seat.phase is Phase.PROBED and not seat.on_trial:
                seat.give_up()
                self._next_probe_s = now_s + PROBE_GAP_S
        if now_s < self._next_probe_s or any(each.seat.phase in (Phase.KICKED, Phase.PROBED) for each in self._running):
            return
        due = [each for each in self._running if each.seat.phase is Phase.OUT and each.seat.next_try_s <= now_s]
        if due:
            min(due, key=_turn).seat.kick()

    def _signal(self) -> None:
        assert self._panel is not None
        for number, reader in enumerate(self._running):
            if reader.seat.phase is not Phase.ONLINE:
                continue
            if reader.seat.confirmed and not reader.asked_status:
                reader.asked_status = True
                self._ask_status(number, reader)
            if commands := reader.commands(partial(self._capable, number)):
                self._panel.flush_commands(number)  # what an older feedback left
            for command in commands:
                if not self._panel.submit_command(number, command):
                    reader.meter.error("a signal was dropped: the reader went away")

    def _ask_status(self, number: int, reader: OsdpReader) -> None:
        assert self._panel is not None
        found = library()
        kinds = [(found.STATUS_REPORT_LOCAL, 0x64)]
        if self._capable(number, found.CAP_CONTACT_STATUS_MONITORING):
            kinds.append((found.STATUS_REPORT_INPUT, 0x65))
        for kind, code in kinds:
            if code not in reader.seat.refused:
                self._panel.submit_command(number, {"command": found.CMD_STATUS, "type": kind})

    def _capable(self, number: int, code: int) -> bool:
        assert self._panel is not None
        return self._panel.check_capability(number, code)[0] > 0

    def _take_notices(self) -> list[tuple[OsdpReader, dict[str, Any]]]:
        """The library's word on who is there, out of the events; what readers said stays for `_tell`."""
        found = library()
        notices = [
            (reader, event)
            for reader, event in self._events
            if event.get("event") == found.EVENT_NOTIFICATION
        ]
        self._events[:] = [each for each in self._events if each[1].get("event") != found.EVENT_NOTIFICATION]
        return [each for each in notices if each[1].get("type") == found.EVENT_NOTIFICATION_PD_STATUS]

    def _judge(self, reader: OsdpReader, now_s: float) -> None:
        """What is to be reported of this reader's availability."""
        seat = reader.seat
        if seat.phase is Phase.ONLINE and seat.confirmed and not seat.silent:
            reader.up()
            if reader.online_s is not None and now_s - reader.online_s > STEADY_S:
                seat.steady()
            return
        if seat.authentication and seat.phase is not Phase.ONLINE:
            reader.down(seat.authentication, Availability.UNAUTHENTICATED)
        elif seat.phase is Phase.FAILED or seat.silent:
            if reader.lost_s is None or now_s - reader.lost_s > SILENT_AFTER_S or seat.silent:
                reader.down("no answer")
        elif reader.meter.availability is Availability.AVAILABLE or (
            reader.meter.availability is Availability.UNKNOWN and seat.tried
        ):
            reader.lost_s = now_s if reader.lost_s is None else reader.lost_s
            if now_s - reader.lost_s > SILENT_AFTER_S:
                reader.down(seat.reason)

    def _questions(self) -> bytes:
        questions = b""
        for reader in self._running:
            seat = reader.seat
            if seat.question:
                reader.meter.sent(len(seat.question))
                questions += seat.question
                seat.question = b""
        if questions:
            self._framer.reset()  # whoever has not finished by now never will
        return questions

    def _tell(self) -> None:
        events, self._events[:] = list(self._events), []
        for reader, event in events:
            if reader in self._running:
                reader.heard(event)
