"""People counted: from what a board says to counts that only grow, within a named epoch.

Most boards have cumulative counters (`Tally`).  A wrap is not the end of an epoch: the counts go on above the modulus.
A reset is: the board counts from zero again, so a number would mean another person than before, and the epoch gets a
new name.  A board without counters says each person once or not at all; for it the driver counts (`OwnCount`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from protocols.board4 import COUNTER_MODULUS
from protocols.messages import Counters, Direction

# The checksum is eight bits, so one damaged frame in 256 looks sound.  People do not come through a lane by the dozen
# between two polls: a reading that says so, or that says reset, counts only when the next reading agrees.
JUMP_MAX = 16  # people of one direction between two readings

# A counter that moved on by more than this share of its range was not counting people: the board was changed or reset.
# A busy lane passes forty a minute, so a sixteenth of 24 bits is more than two weeks without anybody listening.
ADVANCE_SHARE = 16
# Across the wrap the same jump could as well be a reset from a high count, so less is believed: two days of people.
WRAP_SHARE = 256


class Step(msgspec.Struct, frozen=True):
    """What a believed reading adds. `restarted`: nothing can be said about single people, take the counts anew."""

    entries: int = 0
    exits: int = 0
    restarted: bool = False


NOBODY = Step()


def advance(old: int, new: int, modulus: int) -> int | None:
    """How many people a cumulative counter moved on by, or None when it was reset (or the board changed).

    A wrap is told from a reset by size: shortly after the wrap the counter can only have moved a little.
    """
    if new >= old:
        return new - old if new - old <= modulus // ADVANCE_SHARE else None
    wrapped = (new - old) % modulus
    return wrapped if wrapped <= modulus // WRAP_SHARE else None


class Tally:
    """The counts of a board whose counters wrap at `modulus`. `rename` makes the name of a new epoch."""

    def __init__(self, epoch: str, rename: Callable[[], str], *, modulus: int = COUNTER_MODULUS) -> None:
        self._rename = rename
        self._modulus = modulus
        self._counts = Counters(epoch, 0, 0)
        self._known = False  # whether `_counts` says anything
        self._last: tuple[int, int] | None = None  # the last believed reading
        self._doubted: tuple[int, int] | None = None
        self._left: set[str] = set()  # epochs that ended while we watched

    @property
    def counts(self) -> Counters | None:
        """The counts as last believed, None before there are any."""
        return self._counts if self._last is not None else None

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """Go on from counts that were booked before, in any earlier life of the server.

        Ignored when they are older than what we know: an epoch that we saw end, or the same one further back.
        """
        ours = self._counts
        behind = epoch == ours.epoch and entries <= ours.entries and exits <= ours.exits
        if epoch in self._left or (self._last is not None and behind):
            return
        self._counts, self._known = Counters(epoch, entries, exits), True
        if self._last is not None:
            self._believe(*self._last)

    def read(self, entries: int, exits: int) -> Step | None:
        """A reading of the board. None when it is so odd that the next one has to agree first."""
        counts = self._counts
        if not (self._known and self._near(counts.entries, entries) and self._near(counts.exits, exits)):
            doubted, self._doubted = self._doubted, (entries, exits)
            if doubted is None or not (self._near(doubted[0], entries) and self._near(doubted[1], exits)):
                return None
        self._doubted = None
        return self._believe(entries, exits)

    def said(self, direction: Direction) -> Step:
        """A board with counters speaks of nobody else."""
        return NOBODY

    def _believe(self, entries: int, exits: int) -> Step:
        before, first = self._counts, self._last is None
        self._last = (entries, exits)
        if not self._known:
            self._counts, self._known = Counters(before.epoch, entries, exits), True
            return Step(restarted=True)
        more_entries = advance(before.entries % self._modulus, entries, self._modulus)
        more_exits = advance(before.exits % self._modulus, exits, self._modulus)
        if more_entries is None or more_exits is None:
            self._left.add(before.epoch)
            self._counts = Counters(self._rename(), entries, exits)
            return Step(restarted=True)
        self._counts = Counters(before.epoch, before.entries + more_entries, before.exits + more_exits)
        jumped = more_entries > JUMP_MAX or more_exits > JUMP_MAX
        return Step(restarted=True) if first or jumped else Step(more_entries, more_exits)

    def _near(self, old: int, new: int) -> bool:
        step = advance(old % self._modulus, new, self._modulus)
        return step is not None and step <= JUMP_MAX


class OwnCount:
    """The counts that a driver keeps for a board without counters, in an epoch of its own.

    What passes while nobody listens is lost, as the board has no memory of it.  `resume` goes on above what was booked.
    """

    def __init__(self, rename: Callable[[], str]) -> None:
        self._counts = Counters(rename(), 0, 0)
        self._resumed = False

    @property
    def counts(self) -> Counters:
        return self._counts

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """Go on from what was booked. The first time, people counted since the start come on top; later on, only
        counts of our own epoch that are higher than ours can be news, and then the books have seen more than we."""
        ours = self._counts
        if not self._resumed and epoch != ours.epoch:
            self._counts = Counters(epoch, entries + ours.entries, exits + ours.exits)
        elif epoch == ours.epoch:
            self._counts = Counters(epoch, max(entries, ours.entries), max(exits, ours.exits))
        self._resumed = True

    def read(self, entries: int, exits: int) -> Step:
        """A board without counters reads nothing."""
        return NOBODY

    def said(self, direction: Direction) -> Step:
        """One person passed."""
        ours = self._counts
        if direction is Direction.ENTRY:
            self._counts = Counters(ours.epoch, ours.entries + 1, ours.exits)
            return Step(entries=1)
        self._counts = Counters(ours.epoch, ours.entries, ours.exits + 1)
        return Step(exits=1)
