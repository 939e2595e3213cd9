"""A QR reader on a serial line: one `CodeRead` for each code, nothing for noise.

A reader says nothing while nobody scans, so it counts as available while its line is open; only an unplugged one, or
a line that somebody else holds, is noticed.  The same code twice in a row is reported twice: what that means is for
the lane to say.
"""

from __future__ import annotations

import random

import trio

from drivers._statistics import Meter
from drivers.base import Availability, CodeRead, DeviceDown, DeviceUp, DriverStatistics, Emit
from drivers.errors import DeviceError
from drivers.serial import Backoff, SerialLine, check_baud, open_line, reconnecting
from protocols.scanner import ScannerFramer

HALF_LINE_S = 0.3  # a line that stops for this long was cut off; what follows is another one
READ_BYTES = 1024
FLOOD_PAUSE_S = 0.02  # after a full read: 51 kB/s, more than any line carries and little work
READS_PER_S_MAX = 20  # people do not scan faster; a reader that reads its own lamp does


class QrScanner:
    """A `drivers.base.Driver` for a reader at `path` (better its link under /dev/serial/by-id).

    `bad_frames` of its statistics counts lines that were damaged, cut off, too long, or too many in one second.
    Raises ValueError for a rate that no line has.
    """

    def __init__(self, path: str, baud: int = 9600, *, rng: random.Random | None = None) -> None:
        self._path = path
        self._baud = check_baud(baud)
        self._meter = Meter()
        self._backoff = Backoff(rng or random.Random())
        self._opened = 0
        self._second = 0.0  # when the present second began
        self._in_second = 0  # codes since then

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

    async def _read(self, line: SerialLine, emit: Emit) -> None:
        framer = ScannerFramer()
        bad_before = self._meter.bad_frames
        surplus = 0
        in_line = False
        while True:
            data = b""
            with trio.move_on_after(HALF_LINE_S if in_line else float("inf")):
                data = await line.receive_some(READ_BYTES)
            in_line = bool(data)
            if not data:
                framer.reset()
            else:
                self._backoff.reset()
                self._meter.heard(len(data))
            for read in framer.feed(data):
                if self._too_many():
                    surplus += 1
                    continue
                self._meter.frames_in += 1
                emit(CodeRead(text=read.text, symbology=read.symbology))
            self._meter.bad_frames = bad_before + framer.bad_frames + surplus
            if len(data) >= READ_BYTES:
                await trio.sleep(FLOOD_PAUSE_S)

    def _too_many(self) -> bool:
        now = trio.current_time()
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        self._in_second += 1
        return self._in_second > READS_PER_S_MAX
