"""A QR reader on a serial line: one `CodeRead` for each code, nothing for noise.

A reader says nothing while nobody scans, so it counts as available while its line is open; only an unplugged one, or
a line that somebody else holds, is noticed.  The same code twice in a row is reported twice: what that means is for
the lane to say.  Readers that read on command are started and stopped; what they answer to that is never a code.
"""

from __future__ import annotations

import random
from enum import StrEnum

import trio

from drivers._statistics import Meter
from drivers.base import Availability, CodeRead, DeviceDown, DeviceUp, DriverStatistics, Emit
from drivers.errors import DeviceError
from drivers.scanner._trigger import Triggering
from drivers.serial import Backoff, SerialLine, check_baud, open_line, reconnecting
from protocols.scanner import TRIGGERS, ReplyFilter, ScannerFramer

HALF_LINE_S = 0.3  # a line that stops for this long was cut off; what follows is another one
READ_BYTES = 1024
FLOOD_PAUSE_S = 0.02  # after a full read: 51 kB/s, more than any line carries and little work
READS_PER_S_MAX = 20  # people do not scan faster; a reader that reads its own lamp does
TRIGGER_TICK_S = 0.05  # how often a reader that reads on command is looked after
WRITE_DEADLINE_S = 0.5  # a line that takes no bytes for this long is treated as gone
READING_MIN_S, READING_MAX_S = 0.5, 3600.0


class TriggerMode(StrEnum):
    CONTINUOUS = "continuous"
    ON_DEMAND = "on_demand"


class QrScanner:
    """A `drivers.base.Driver` for a reader at `path` (better its link under /dev/serial/by-id).

    Without a `trigger`, the reader must be set to watch by itself, and nothing is sent.  With one (a family of
    `protocols.scanner.TRIGGERS`), a `continuous` reader is kept reading, and one `on_demand` reads from
    `start_reading` to the first code.  `reading_s` is how long it reads by itself when it is told to once.

    `bad_frames` of its statistics counts lines that were damaged, cut off, too long, or too many in one second.
    Raises ValueError for a rate that no line has, an unknown family or mode, and on_demand without a trigger.
    """

    def __init__(
        self,
        path: str,
        baud: int = 9600,
        *,
        rng: random.Random | None = None,
        trigger: str = "",
        mode: str = TriggerMode.CONTINUOUS,
        reading_s: float = 5.0,
    ) -> None:
        self._path = path
        self._baud = check_baud(baud)
        self._meter = Meter()
        self._backoff = Backoff(rng or random.Random())
        self._opened = 0
        self._second = 0.0  # when the present second began
        self._in_second = 0  # codes since then
        self._replies = ReplyFilter(trigger)
        self._reading_s = reading_s
        self._trigger = self._triggering(trigger, mode)

    async def run(self, emit: Emit) -> None:
        """Serve the reader until cancelled."""

        async def serve(line: SerialLine) -> None:
            self._opened += 1
            self._meter.reconnects = self._opened - 1
            if self._meter.now(Availability.AVAILABLE):
                emit(DeviceUp())
            await self._read(line, emit)

        def lost(exc: DeviceError) -> None:
            self._meter.error(exc)
            if self._meter.now(Availability.UNAVAILABLE):
                emit(DeviceDown(reason=str(exc)))

        await reconnecting(lambda: open_line(self._path, self._baud), serve, lost, self._backoff)

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot()

    @property
    def reading(self) -> bool:
        """Whether a reader with a trigger was told to read. One without always reads."""
        return self._trigger is None or self._trigger.reading

    def start_reading(self, seconds: float | None = None) -> None:
        """Read until the first code, at most `seconds` (`reading_s` by default). Nothing without a trigger."""
        if self._trigger is not None:
            self._trigger.start(trio.current_time(), self._reading_s if seconds is None else seconds)

    def stop_reading(self) -> None:
        """Stop now. A continuous reader goes on."""
        if self._trigger is not None:
            self._trigger.stop()

    def _triggering(self, family: str, mode: str) -> Triggering | None:
        if not READING_MIN_S <= self._reading_s <= READING_MAX_S:
            raise ValueError(f"reading_s is {READING_MIN_S:g} to {READING_MAX_S:g}, not {self._reading_s:g}")
        if mode not in list(TriggerMode):
            raise ValueError(f"a reader's mode is {' or '.join(TriggerMode)}, not {mode!r}")
        if not family:
            if mode == TriggerMode.ON_DEMAND:
                raise ValueError(f"a reader that reads on demand needs a trigger: {', '.join(TRIGGERS)}")
            return None
        if family not in TRIGGERS:
            raise ValueError(f"no trigger is known for {family!r}; there are {', '.join(TRIGGERS)}")
        return Triggering(
            TRIGGERS[family],
            continuous=mode == TriggerMode.CONTINUOUS,
            reading_s=self._reading_s,
            answers=self._replies.answers,
        )

    async def _read(self, line: SerialLine, emit: Emit) -> None:
        framer = ScannerFramer()
        bad_before = self._meter.bad_frames
        surplus = 0
        in_line = False  # bytes came, and no pause yet
        heard_s = trio.current_time()
        self._replies.reset()
        if self._trigger is not None:
            self._trigger.opened(heard_s)
        while True:
            await self._look_after(line)
            data = b""
            with trio.move_on_after(self._patience_s(in_line)):
                data = await line.receive_some(READ_BYTES)
            if data:
                in_line, heard_s = True, trio.current_time()
                self._backoff.reset()
                self._meter.heard(len(data))
            ended = in_line and not data and trio.current_time() - heard_s >= HALF_LINE_S
            codes = self._replies.reset() if ended else self._without_replies(data)
            for read in framer.feed(codes):
                if self._trigger is not None:
                    self._trigger.code_read(trio.current_time())
                if self._too_many():
                    surplus += 1
                    continue
                self._meter.frames_in += 1
                emit(CodeRead(text=read.text, symbology=read.symbology))
            if ended:
                in_line = False
                framer.reset()
            self._meter.bad_frames = bad_before + framer.bad_frames + surplus
            if len(data) >= READ_BYTES:
                await trio.sleep(FLOOD_PAUSE_S)

    def _patience_s(self, in_line: bool) -> float:
        """How long to wait for bytes."""
        if self._trigger is not None:
            return TRIGGER_TICK_S
        return HALF_LINE_S if in_line else float("inf")

    def _without_replies(self, data: bytes) -> bytes:
        codes, replies = self._replies.feed(data)
        for reply in replies:
            if self._trigger is not None:
                self._trigger.heard(reply)
                self._note_trigger()
        return codes

    async def _look_after(self, line: SerialLine) -> None:
        """Send what the trigger has to say now."""
        if self._trigger is None:
            return
        for command in self._trigger.due(trio.current_time()):
            await line.send_all(command, WRITE_DEADLINE_S)
            self._meter.sent(len(command))
        self._note_trigger()

    def _note_trigger(self) -> None:
        if self._trigger is not None and self._trigger.last_error:
            self._meter.error(self._trigger.last_error)

    def _too_many(self) -> bool:
        now = trio.current_time()
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        self._in_second += 1
        return self._in_second > READS_PER_S_MAX
