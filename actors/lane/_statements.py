"""What a lane on a board states to its counter: people who passed, grants that are over, where the counting began."""

from __future__ import annotations

import collections
import time

from actors._common import offer
from actors.counter import AskBooks
from actors.lane._shared import LaneConfig, zones_of
from core import Address
from protocols.messages import Counters, Direction, Ended, EndReason, PassageKind, Passed
from storage.interfaces import CounterBaseline, LaneBooks

OVER_MAX = 64  # ended grants that are remembered: books read before the lane's own word arrived still call them open


class Statements:
    """One lane's words. `counter` keeps each until it is on disk; a full one is counted by its mailbox, and the board
    still knows."""

    def __init__(self, config: LaneConfig, counter: Address) -> None:
        self._config = config
        self._counter = counter
        self._over: collections.deque[int] = collections.deque(maxlen=OVER_MAX)  # grants that were said to be over

    def ask_books(self) -> None:
        """What does the ledger know of this lane? Answered with `LaneBooks` once everything said is on disk."""
        offer(self._counter, AskBooks())

    def passed(self, direction: Direction, epoch: str, value: int, kind: PassageKind, grant: int | None) -> None:
        """One person passed; `value` is the board's cumulative counter after this person."""
        config = self._config
        from_zone, to_zone = zones_of(config, direction)
        self._say(
            Passed(
                lane=config.lane,
                device=config.device,
                boot=epoch,
                seq=value,
                direction=direction,
                kind=kind,
                grant=grant,
                from_zone=from_zone,
                to_zone=to_zone,
                at=time.time(),
            )
        )

    def end(self, grant: int | None, nonce: str, passed: int, why: EndReason) -> None:
        """A grant is over; without its id, the scan whose answer never came is given up."""
        config = self._config
        if grant is not None:
            self._over.append(grant)
        self._say(
            Ended(
                lane=config.lane, device=config.device, grant=grant, nonce=nonce, passed=passed, why=why, at=time.time()
            )
        )

    def baseline(self, now: Counters) -> None:
        """The counting begins here: what the counters say already is nobody's passage."""
        config = self._config
        self._say(
            CounterBaseline(
                lane=config.lane,
                device=config.device,
                epoch=now.epoch,
                entries=now.entries,
                exits=now.exits,
                at=time.time(),
            )
        )

    def settle(self, books: LaneBooks, now: Counters) -> None:
        """Book what the board counted and the ledger does not know; end the grants that were open."""
        if books.epoch != now.epoch or books.entries is None or books.exits is None:
            self.baseline(now)
            for grant in books.open_grants:
                if grant.counter_epoch is None or grant.counter_epoch != now.epoch:
                    continue  # its counters are gone: `unresolved`, a person settles it
                self.end(grant.grant, grant.nonce, grant.passed, EndReason.RECOVERED)
            return
        counted = {Direction.ENTRY: now.entries, Direction.EXIT: now.exits}
        following = {Direction.ENTRY: books.entries + 1, Direction.EXIT: books.exits + 1}
        for grant in books.open_grants:
            if grant.counter_epoch != now.epoch:
                continue
            passed, way = grant.passed, grant.direction
            over = grant.grant in self._over  # its end is said again, should it have been lost; nobody passes on it
            while not over and following[way] <= counted[way] and passed < grant.pax:
                self.passed(way, now.epoch, following[way], PassageKind.GRANTED, grant.grant)
                following[way] += 1
                passed += 1
            self.end(grant.grant, grant.nonce, passed, EndReason.RECOVERED)
        for way, kind in ((Direction.ENTRY, PassageKind.UNATTENDED), (Direction.EXIT, PassageKind.EXIT)):
            for value in range(following[way], counted[way] + 1):
                self.passed(way, now.epoch, value, kind, None)

    def _say(self, statement: Passed | Ended | CounterBaseline) -> None:
        offer(self._counter, statement)
