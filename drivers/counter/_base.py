"""What every people counter's driver does with a reading: believe it, count by it, and say so."""

from __future__ import annotations

import random
import time

import trio

from drivers._cumulative import Cumulative
from drivers._statistics import Meter
from drivers.base import Availability, DeviceDown, DeviceUp, DriverStatistics, Emit, PassageCounted
from drivers.serial import Backoff
from protocols.messages import Counters, Direction

JSON_MODULUS = 2**53  # a count in JSON does not wrap


class CounterDriver:
    """Base of the drivers; `_read` takes a reading, `_down` a loss. Counts go on in an epoch, see `Cumulative`."""

    def __init__(self, modulus: int, rng: random.Random | None) -> None:
        self._rng = rng or random.Random()
        self._backoff = Backoff(self._rng)
        self._meter = Meter()
        self._tally = Cumulative(modulus, self._new_epoch)
        self._emit: Emit = to_nobody
        self._up = False

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """What the ledger booked last; answered with a `DeviceUp`, now or with the next reading. See `Gate.resume`."""
        self._tally.resume(epoch, entries, exits)
        if self._up:
            self._say_up(self._tally.counts)

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot()

    def _read(self, entries: int, exits: int) -> None:
        """One reading of the device's own cumulative counts."""
        step = self._tally.read(entries, exits, trio.current_time())
        self._meter.frames_in += 1
        self._backoff.reset()
        if step is None:
            self._meter.error(f"odd counts {entries} and {exits}: the next reading has to agree")
            return
        counts = self._tally.counts
        assert counts is not None
        self._meter.counters = counts
        if not self._up:
            self._say_up(counts)
            return
        if step.restarted:
            self._down("its counters were reset, or it was exchanged")
            self._say_up(Counters(counts.epoch, counts.entries - step.entries, counts.exits - step.exits))
        if step.entries:
            self._say(Direction.ENTRY, counts.epoch, counts.entries)
        if step.exits:
            self._say(Direction.EXIT, counts.epoch, counts.exits)

    def _say(self, direction: Direction, epoch: str, counter: int) -> None:
        """The newest count says everybody up to it; a rush through a wide door is one event, not fifty."""
        self._emit(PassageCounted(direction=direction, epoch=epoch, counter=counter))

    def _say_up(self, counts: Counters | None) -> None:
        self._up = True
        self._meter.now(Availability.AVAILABLE)
        self._emit(DeviceUp(counters=counts))

    def _down(self, reason: str, availability: Availability = Availability.UNAVAILABLE) -> None:
        self._meter.error(reason)
        self._up = False
        if self._meter.now(availability):
            self._emit(DeviceDown(reason=reason))

    def _new_epoch(self) -> str:
        return f"{int(time.time()):x}-{self._rng.getrandbits(16):04x}"


def to_nobody(event: object) -> None:
    """Before `run` and after it there is nobody to tell."""
