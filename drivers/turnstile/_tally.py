"""People counted: from a board's 24-bit cumulative counters to counts that only grow, within a named epoch.

A wrap is not the end of an epoch: the counts go on above 2**24.  A reset is: the board counts from zero again, so a
number would mean another person than before, and the epoch gets a new name.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from protocols.board4 import COUNTER_MODULUS, advance
from protocols.messages import Counters

# The checksum is eight bits, so one damaged frame in 256 looks sound.  People do not come through a lane by the dozen
# between two polls: a reading that says so, or that says reset, counts only when the next reading agrees.
JUMP_MAX = 16  # people of one direction between two readings


class Step(msgspec.Struct, frozen=True):
    """What a believed reading adds. `restarted`: nothing can be said about single people, take the counts anew."""

    entries: int = 0
    exits: int = 0
    restarted: bool = False


class Tally:
    """The counts of one board. `rename` makes the name of a new epoch."""

    def __init__(self, epoch: str, rename: Callable[[], str]) -> None:
        self._rename = rename
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
        if not (self._known and _near(counts.entries, entries) and _near(counts.exits, exits)):
            doubted, self._doubted = self._doubted, (entries, exits)
            if doubted is None or not (_near(doubted[0], entries) and _near(doubted[1], exits)):
                return None
        self._doubted = None
        return self._believe(entries, exits)

    def _believe(self, entries: int, exits: int) -> Step:
        before, first = self._counts, self._last is None
        self._last = (entries, exits)
        if not self._known:
            self._counts, self._known = Counters(before.epoch, entries, exits), True
            return Step(restarted=True)
        more_entries = advance(before.entries % COUNTER_MODULUS, entries)
        more_exits = advance(before.exits % COUNTER_MODULUS, exits)
        if more_entries is None or more_exits is None:
            self._left.add(before.epoch)
            self._counts = Counters(self._rename(), entries, exits)
            return Step(restarted=True)
        self._counts = Counters(before.epoch, before.entries + more_entries, before.exits + more_exits)
        jumped = more_entries > JUMP_MAX or more_exits > JUMP_MAX
        return Step(restarted=True) if first or jumped else Step(more_entries, more_exits)


def _near(old: int, new: int) -> bool:
    step = advance(old % COUNTER_MODULUS, new)
    return step is not None and step <= JUMP_MAX
