"""Whoever leaves by a released lane is counted at once, whether the ledger answers or not.

What is booked is another matter, and comes later if it must (`_statements`): this is for people who want to know now
who is still inside.
"""

from __future__ import annotations

import time

from actors._common import offer
from actors.lane._shared import LaneConfig, zones_of
from core import Address
from protocols.messages import Counters, Direction, PassedReleased

AT_ONCE_MAX = 1000  # people told of one step of a counter


class Fleeing:
    """Turns a board's cumulative counters into people, from the release on."""

    def __init__(self, config: LaneConfig, evacuation: Address) -> None:
        self._config = config
        self._evacuation = evacuation
        self._last: dict[tuple[str, Direction], int] = {}

    def begin(self, now: Counters | None) -> None:
        """Released: what was counted so far is nobody who flees."""
        self._last.clear()
        if now is not None:
            self._last = {(now.epoch, Direction.ENTRY): now.entries, (now.epoch, Direction.EXIT): now.exits}

    def stands(self, counters: Counters) -> None:
        """The board says where its counters stand; the first word of an epoch is only a beginning."""
        for direction, value in ((Direction.ENTRY, counters.entries), (Direction.EXIT, counters.exits)):
            if (counters.epoch, direction) in self._last:
                self.counted(direction, counters.epoch, value)
            else:
                self._last[counters.epoch, direction] = value

    def counted(self, direction: Direction, epoch: str, counter: int) -> None:
        """People passed, up to this value."""
        before = self._last.get((epoch, direction), counter - 1)
        for value in range(max(before, counter - AT_ONCE_MAX) + 1, counter + 1):
            self.passed(direction, epoch, value)
        self._last[epoch, direction] = max(before, counter)

    def passed(self, direction: Direction, boot: str, seq: int) -> None:
        """One person, named by (boot, direction, seq); the evacuation counts each once."""
        config = self._config
        from_zone, to_zone = zones_of(config, direction)
        word = PassedReleased(
            lane=config.lane,
            device=config.device,
            boot=boot,
            direction=direction,
            seq=seq,
            from_zone=from_zone,
            to_zone=to_zone,
            at=time.time(),
        )
        offer(self._evacuation, word)
