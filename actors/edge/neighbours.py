"""Lanes of one entrance tell each other what they let in, so that a code is used once also without the server.

What was let in is published at once, corrected at its end, said again for a while, and told to whoever has just
started: NNG's publications may be lost, and a neighbour may have been away.
"""

from __future__ import annotations

import collections
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog
import trio

from actors.edge._parts import Disk, Tell
from core import Address, Stop
from protocols.edge import USES_PER_NOTICE, EdgeError, Fresh, Notice, Use, open_notice, seal_notice
from protocols.messages import Telemetry
from storage.interfaces import LedgerUnavailable

REPEAT_S = 5.0  # what was said lately is said again this often
REPEAT_FOR_S = 60.0
RECENT_MAX = 512  # uses that are said again
HELLO_USES_MAX = 16_384  # the newest, told to a neighbour that has just started
HELLO_FOR_S = 16 * 3600.0  # a long day
HELLO_PAUSE_S = 0.01  # between two notices of all that
HELLO_EVERY_S = 2.0  # a neighbour that starts again and again is not told all each time

log = structlog.get_logger(__name__)


class Outlet(Protocol):
    """Where this lane publishes: `drivers.nng.NeighbourLink`."""

    async def run(self, heard: Callable[[bytes], None], *, task_status: trio.TaskStatus[None] = ...) -> None: ...
    def publish(self, data: bytes) -> bool: ...


class NeighbourStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start. `heard` is when each neighbour was last heard, seconds since the epoch."""

    said: int
    taken: int
    refused: int  # wrong MAC, a stranger, or repeated
    heard: dict[str, float]


class _Again(Telemetry, frozen=True, kw_only=True):
    pass


class _Heard(Telemetry, frozen=True, kw_only=True):
    notice: Notice


class _Opened(Telemetry, frozen=True, kw_only=True):
    """The sockets are open."""


class NeighbourActor:
    """The actor. `lanes` are the neighbours' names; without any, nothing is opened. `key` is the entrance's."""

    def __init__(
        self, *, lane: str, lanes: Sequence[str], key: bytes, outlet: Outlet | None, disk: Disk, retry_s: float = 2.0
    ) -> None:
        self._lane = lane
        self._key = key
        self._outlet = outlet
        self._disk = disk
        self._retry_s = retry_s
        self._fresh = Fresh(list(lanes))
        self._boot = secrets.token_hex(8)
        self._seq = 0
        self._recent: collections.deque[tuple[float, Use]] = collections.deque(maxlen=RECENT_MAX)
        self._told_all_at = float("-inf")
        self._heard_at: dict[str, float] = {}
        self._said = self._taken = self._refused = 0

    def statistics(self) -> NeighbourStatistics:
        """What was said and heard."""
        return NeighbourStatistics(
            said=self._said, taken=self._taken, refused=self._refused, heard=dict(self._heard_at)
        )

    async def run(self, me: Address) -> None:
        self._me = me
        me.set_timer("again", REPEAT_S, _Again())
        async with trio.open_nursery() as nursery:
            if self._outlet is not None:
                nursery.start_soon(self._keep_open, self._outlet)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Tell(uses=uses):
                        now = trio.current_time()
                        self._recent.extend((now, use) for use in uses)
                        self._say(uses)
                    case _Opened():
                        self._say([], hello=True)
                    case _Heard(notice=notice):
                        await self._take(notice)
                    case _Again():
                        me.set_timer("again", REPEAT_S, _Again())
                        self._say(self._latest())
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    def _latest(self) -> list[Use]:
        """The last word on each use of the last while."""
        since = trio.current_time() - REPEAT_FOR_S
        return list({(use.subject, use.grant): use for at, use in self._recent if at >= since}.values())

    async def _keep_open(self, outlet: Outlet) -> None:
        """The sockets, for ever: a port that is taken is tried again."""
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(outlet.run, self._arrived)
                    self._me.tell(_Opened())
            except* Exception as group:
                log.warning("lane.neighbours_down", error="; ".join(str(each) for each in group.exceptions)[:200])
            await trio.sleep(self._retry_s)

    def _arrived(self, data: bytes) -> None:
        """Bytes from the network: only a new notice of a neighbour becomes a message."""
        try:
            notice = open_notice(self._key, data)
        except EdgeError:
            self._refused += 1
            return
        if notice.lane == self._lane or not self._fresh.take(notice):
            self._refused += 1
            return
        self._heard_at[notice.lane] = time.time()
        self._me.tell(_Heard(notice=notice))

    async def _take(self, notice: Notice) -> None:
        uses = [use for use in notice.uses if use.lane == notice.lane]  # each speaks for itself
        try:
            if uses:
                await self._disk.do(lambda book: book.neighbour(uses))
                self._taken += len(uses)
            if notice.hello and trio.current_time() - self._told_all_at >= HELLO_EVERY_S:
                self._told_all_at = trio.current_time()
                since = time.time() - HELLO_FOR_S
                uses = await self._disk.do(lambda book: book.own_uses(since, HELLO_USES_MAX), reads=True)
                for start in range(0, len(uses), USES_PER_NOTICE):  # slowly: a subscriber's queue is short
                    self._say(uses[start : start + USES_PER_NOTICE])
                    await trio.sleep(HELLO_PAUSE_S)
        except LedgerUnavailable as exc:
            log.warning("lane.neighbour_not_written", error=str(exc)[:200])

    def _say(self, uses: Sequence[Use], *, hello: bool = False) -> None:
        if self._outlet is None or not (uses or hello):
            return
        for start in range(0, max(1, len(uses)), USES_PER_NOTICE):
            self._seq += 1
            notice = Notice(
                lane=self._lane,
                boot=self._boot,
                seq=self._seq,
                hello=hello,
                uses=list(uses[start : start + USES_PER_NOTICE]),
            )
            if self._outlet.publish(seal_notice(self._key, notice)):
                self._said += 1


