"""From a device's cumulative counters to counts that only grow, within a named epoch. Pure: time comes in as numbers.

A counter that wraps goes on in its epoch; one that was reset begins a new one, because a number would mean another
person than before.  The two look alike (a lower reading), so what decides is whether so many people can have come
through in the time since the last reading.  A reading that cannot be counts only when the next one agrees.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from protocols.messages import Counters

PEOPLE_PER_S_MAX = 5.0  # through one passage, in one direction; a wide one in a rush has two or three
PEOPLE_AT_ONCE_MAX = 20  # more than that between two readings that are close together is damage
UNSEEN_WRAP_MAX = 2000  # people by which a counter may have wrapped while no server watched


class Step(msgspec.Struct, frozen=True):
    """What a reading adds. `restarted`: a new epoch, or the first reading; take the counts anew.

    A restarted one may add people too: those that a counter which was just reset says since.
    """

    entries: int = 0
    exits: int = 0
    restarted: bool = False


class Cumulative:
    """The counts of a device with counters of its own, modulo `modulus`. `rename` names a new epoch."""

    def __init__(self, modulus: int, rename: Callable[[], str]) -> None:
        self._modulus = modulus
        self._rename = rename
        self._counts = Counters(rename(), 0, 0)
        self._known = False  # whether `_counts` says anything
        self._last: tuple[int, int, float] | None = None  # the last believed reading, and when
        self._doubted: tuple[int, int, float] | None = None
        self._left: set[str] = set()  # epochs that ended while we watched

    @property
    def counts(self) -> Counters | None:
        """The counts as last believed, None before there are any."""
        return self._counts if self._last is not None else None

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """Go on from counts that were booked before. Ignored when they are older than what we know."""
        behind = epoch == self._counts.epoch and entries <= self._counts.entries and exits <= self._counts.exits
        if epoch in self._left or (self._last is not None and behind):
            return
        self._counts, self._known = Counters(epoch, entries, exits), True
        if self._last is not None:
            self._unwatched(self._last[0], self._last[1])

    def read(self, entries: int, exits: int, now: float) -> Step | None:
        """A reading at `now` (s, any clock that only goes forward). None when the next one has to agree first."""
        reading = (entries % self._modulus, exits % self._modulus, now)
        if self._last is None:
            self._last = reading
            self._unwatched(reading[0], reading[1])
            return Step(restarted=True)
        more = self._steps(self._last, reading)
        if more is not None:
            self._doubted, self._last = None, reading
            self._add(*more)
            return Step(*more)
        doubted, self._doubted = self._doubted, reading
        if doubted is None or self._steps(doubted, reading) is None:
            return None
        most = _most(now - self._last[2])
        self._doubted, self._last = None, reading
        if reading[0] <= most and reading[1] <= most:  # reset a moment ago: these came through since
            self._begin(0, 0)
            self._add(reading[0], reading[1])
            return Step(reading[0], reading[1], restarted=True)
        self._begin(reading[0], reading[1])
        return Step(restarted=True)

    def _steps(self, old: tuple[int, int, float], new: tuple[int, int, float]) -> tuple[int, int] | None:
        """How many came through between two readings, None if that many cannot have."""
        most = _most(new[2] - old[2])
        entries, exits = (new[0] - old[0]) % self._modulus, (new[1] - old[1]) % self._modulus
        return (entries, exits) if entries <= most and exits <= most else None

    def _unwatched(self, entries: int, exits: int) -> None:
        """The first reading after what was booked: any number may have come through meanwhile."""
        if not self._known:
            self._counts, self._known = Counters(self._counts.epoch, entries, exits), True
            return
        steps = [self._since(self._counts.entries, entries), self._since(self._counts.exits, exits)]
        if steps[0] is None or steps[1] is None:
            self._begin(entries, exits)
        else:
            self._add(steps[0], steps[1])

    def _since(self, booked: int, reading: int) -> int | None:
        low = booked % self._modulus
        if reading >= low:
            return reading - low
        wrapped = reading + self._modulus - low
        return wrapped if wrapped <= min(UNSEEN_WRAP_MAX, self._modulus // 4) else None

    def _add(self, entries: int, exits: int) -> None:
        counts = self._counts
        self._counts = Counters(counts.epoch, counts.entries + entries, counts.exits + exits)

    def _begin(self, entries: int, exits: int) -> None:
        self._left.add(self._counts.epoch)
        self._counts = Counters(self._rename(), entries, exits)


def _most(seconds: float) -> float:
    """How many people can have come through in one direction."""
    return PEOPLE_AT_ONCE_MAX + PEOPLE_PER_S_MAX * max(0.0, seconds)


class OwnCounts:
    """Counts of a driver that sees single people pass, on a device without counters. They go on from what was booked.

    What passes while no server watches is not seen by anybody, and not counted.
    """

    def __init__(self, rename: Callable[[], str]) -> None:
        self._counts = Counters(rename(), 0, 0)
        self._adopted = False

    @property
    def counts(self) -> Counters:
        return self._counts

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """Go on from what was booked; what was counted since the start comes on top of it."""
        ours = self._counts
        if epoch == ours.epoch:
            self._counts = Counters(epoch, max(entries, ours.entries), max(exits, ours.exits))
        elif not self._adopted:
            self._counts = Counters(epoch, entries + ours.entries, exits + ours.exits)
        self._adopted = True

    def add(self, entries: int, exits: int) -> None:
        ours = self._counts
        self._counts = Counters(ours.epoch, ours.entries + entries, ours.exits + exits)
