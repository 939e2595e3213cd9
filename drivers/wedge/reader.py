"""A reader that pretends to be a keyboard: the driver reads its input device and nobody else gets its keys.

Like any reader it says nothing while nobody scans, so it counts as available while its device is open.
"""

from __future__ import annotations

import random
from typing import Literal, get_args

import trio

from drivers._statistics import Meter
from drivers.base import (
    Availability,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    DriverStatistics,
    Emit,
)
from drivers.errors import DeviceError
from drivers.serial import Backoff
from drivers.wedge._device import READ_BYTES, InputDevice
from protocols.messages import CredentialKind
from protocols.scanner import Read, ScannerFramer
from protocols.wedge import KeyReader

HALF_LINE_S = 0.5  # a reader types a character every few milliseconds; one that stops for this long was cut off
FLOOD_PAUSE_S = 0.02
READS_PER_S_MAX = 20
STEADY_S = 5.0
UID_DIGITS = 8  # a card of four bytes
UID_MAX = 0xFFFFFFFF

Card = Literal["no", "text", "decimal"]


class WedgeReader:
    """A `drivers.base.Driver` for the input device at `path` (its link under /dev/input/by-id).

    `card` says what it reads: codes (`no`), cards whose number is taken as it is typed (`text`), or cards whose four
    bytes are typed as one decimal number (`decimal`), which is then written in hexadecimal like any UID.  Without
    `grab`, everybody else gets the keys as well.  Raises ValueError for another `card`.
    """

    def __init__(self, path: str, *, grab: bool = True, card: Card = "no", rng: random.Random | None = None) -> None:
        if card not in get_args(Card):
            raise ValueError(f"card is {', '.join(get_args(Card))}, not {card!r}")
        self._path = path
        self._grab = grab
        self._card = card
        self._meter = Meter()
        self._backoff = Backoff(rng or random.Random())
        self._opened = 0
        self._second = 0.0  # when the present second began
        self._in_second = 0  # reads since then

    async def run(self, emit: Emit) -> None:
        """Serve the reader until cancelled."""
        while True:
            opened_at: float | None = None
            try:
                with InputDevice(self._path, grab=self._grab) as device:
                    opened_at = trio.current_time()
                    self._opened += 1
                    self._meter.reconnects = self._opened - 1
                    if self._meter.now(Availability.AVAILABLE):
                        emit(DeviceUp())
                    await self._read(device, emit)
            except DeviceError as exc:
                self._meter.error(exc)
                if self._meter.now(Availability.UNAVAILABLE):
                    emit(DeviceDown(reason=str(exc)))
            if opened_at is not None and trio.current_time() - opened_at >= STEADY_S:
                self._backoff.reset()
            await trio.sleep(self._backoff.next_s())

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot()

    async def _read(self, device: InputDevice, emit: Emit) -> None:
        keys, framer = KeyReader(), ScannerFramer()
        bad_before = self._meter.bad_frames
        unfit = 0
        in_line = False
        while True:
            data = b""
            with trio.move_on_after(HALF_LINE_S if in_line else float("inf")):
                data = await device.receive_some()
            in_line = bool(data)
            if data:
                self._backoff.reset()
                self._meter.heard(len(data))
            else:
                framer.reset()
            for read in framer.feed(keys.feed(data)):
                event = self._event(read)
                if event is None or self._too_many():
                    unfit += 1
                    continue
                self._meter.frames_in += 1
                emit(event)
            self._meter.bad_frames = bad_before + framer.bad_frames + unfit
            if len(data) >= READ_BYTES:
                await trio.sleep(FLOOD_PAUSE_S)

    def _event(self, read: Read) -> DeviceEvent | None:
        """What was read; nothing when it is not what this reader reads."""
        if self._card == "no":
            return CodeRead(text=read.text, symbology=read.symbology)
        value = read.text.strip().upper()
        if self._card == "decimal":
            if not (value.isascii() and value.isdecimal()) or len(value) > 10 or not 0 < int(value) <= UID_MAX:
                self._meter.error("a card was not understood: not a decimal number of four bytes")
                return None
            value = f"{int(value):0{UID_DIGITS}X}"
        elif not (value.isascii() and value.isalnum()):
            self._meter.error("a card was not understood: not letters and digits")
            return None
        return CredentialRead(kind=CredentialKind.CARD, value=value)

    def _too_many(self) -> bool:
        now = trio.current_time()
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        self._in_second += 1
        return self._in_second > READS_PER_S_MAX
