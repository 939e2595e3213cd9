"""Several OSDP readers on one RS-485 line, under Trio and without a thread.

An `OsdpBus` is one line; `bus.reader(...)` makes the driver of one reader at it.  Readers come and go while the bus
runs: whichever runs first serves the line for all of them, and passes it on when it is cancelled.  A reader that is
silent is tried again every few seconds, one silent reader at a time, so that the others never wait longer than for
one question (200 ms); one whose key is wrong is tried more and more rarely, up to 80 s.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from drivers.base import SILENT_AFTER_S, Availability
from drivers.errors import DeviceError
from drivers.feedback import Patterns
from drivers.osdp._commands import Language
from drivers.osdp._keys import KEY_BYTES
from drivers.osdp._library import READERS_MAX, Panel, library, panel, reader_info
from drivers.osdp._seat import PROBE_GAP_S, Phase, SeatChannel
from drivers.osdp.reader import OsdpReader
from drivers.serial import Backoff, SerialLine, check_baud, open_line, reconnecting
from protocols import osdp

TICK_S = 0.02  # how often the library gets its turn when nothing is heard; it asks for 50 ms at most
TURNS = 4  # of the library at once: an answer taken, the next question chosen, and sent
WRITE_DEADLINE_S = 0.5  # a line that takes no bytes for this long is treated as gone
HALF_FRAME_S = 0.3  # a frame that stops for this long was cut off
STEADY_S = 5.0
OWN_PAUSE_S = 0.25  # a turn of ours that came so late says nothing of the readers
CLOCK_JUMP_S = 0.2  # a clock that is corrected gently moves by half a thousandth
FLOOD_BYTES = 4096  # read at once; after a full read there is a pause
FLOOD_PAUSE_S = 0.02


def _turn(reader: OsdpReader) -> tuple[bool, float]:
    """Who is tried first: who was there a moment ago; known-dead ones last."""
    return (reader.meter.availability is not Availability.AVAILABLE, reader.seat.next_try_s)


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
        reader = OsdpReader(self.serve, address, key, patterns or Patterns(), text, reverse, keypad, self._rng)
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
        now_s = trio.current_time()
        while True:
            data = b""
            with trio.move_on_after(TICK_S):
                data = await line.receive_some(FLOOD_BYTES)
            before_s, now_s = now_s, trio.current_time()
            for reader in self._running:
                reader.seat.now_s = now_s
            if now_s - before_s > OWN_PAUSE_S:
                self._paused(now_s - before_s)
            if self._clock_was_set() or self._panel is None or any(reader.seat.stuck for reader in self._running):
                self._build()
            if data:
                self._hear(data, now_s)
            self._step(now_s)
            if questions := self._questions():
                await line.send_all(questions, WRITE_DEADLINE_S)
            self._tell()
            if len(data) >= FLOOD_BYTES:
                await trio.sleep(FLOOD_PAUSE_S)

    def _paused(self, pause_s: float) -> None:
        """We did not look for a while: the readers are not to blame for it."""
        for reader in self._running:
            reader.seat.paused(pause_s)
            if reader.lost_s is not None:
                reader.lost_s += pause_s

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
            self._down(reader, seat.authentication, Availability.UNAUTHENTICATED)
        elif seat.phase is Phase.FAILED or seat.silent:
            if reader.lost_s is None or now_s - reader.lost_s > SILENT_AFTER_S or seat.silent:
                self._down(reader, "no answer")
        elif reader.meter.availability is Availability.AVAILABLE or (
            reader.meter.availability is Availability.UNKNOWN and seat.tried
        ):
            reader.lost_s = now_s if reader.lost_s is None else reader.lost_s
            if now_s - reader.lost_s > SILENT_AFTER_S:
                self._down(reader, seat.reason)

    def _down(self, reader: OsdpReader, reason: str, availability: Availability = Availability.UNAVAILABLE) -> None:
        """Report it; and what it was still to be told is worth nothing when it is back."""
        if self._panel is not None and reader.meter.availability is Availability.AVAILABLE:
            self._panel.flush_commands(self._running.index(reader))
        reader.down(reason, availability)

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
