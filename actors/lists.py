"""The actor that gives lane controllers their lists (`protocols.lists`), part by part.

A part is read in a task of its own; whoever asks again for one that is being read waits for the same.  A part that came
too late for the link's deadline is kept, so that the repeated request finds it, and the part behind it is read ahead:
a lane then waits for its network and its own disk only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec
import structlog
import trio

from core import Address, Envelope, Stop
from protocols import devicelink as link
from protocols.lists import WHOLE, ListMark, Part
from protocols.messages import Base
from storage.interfaces import LedgerUnavailable

READING_MAX = 8  # different parts under way; more lanes are told to come back
WAITING_MAX = 64  # requests for the same part: as many as the link has under way
KEPT_PARTS = 8  # read, and perhaps not fetched yet; 400 kB each at most
KEPT_S = 30.0
LOOK_S = 0.2  # for changes, while lanes ask for lists at all
AWAY_S = 60.0  # a lane that has not asked for so long is not there
SOLD_S = 2.0  # between two wake-ups for what was sold: each is a version, and a write to every lane's disk
PER_LANE_S = 0.01  # and so much for each lane that will ask: a hundred questions a second
HURRY_PER_LANE_S = 0.002  # the same for what was taken back, stopped or changed
UNREADABLE_S = 2.0  # pause when the database does not say

Wanted = tuple[ListMark | None, ListMark | None, str]

log = structlog.get_logger(__name__)


class Source(Protocol):
    """`storage._lists.ListReader`."""

    def running(self) -> AbstractAsyncContextManager[None]: ...
    async def part(self, have: ListMark | None, part: ListMark | None, cursor: str) -> Part: ...
    async def moved(self, since: int | None) -> tuple[int, bool]: ...


class LaneCall(Base, frozen=True, kw_only=True):
    """link -> whoever serves it: what a lane's controller asks. Answered with a `devicelink` reply."""

    lane: str
    request: link.WorkRequest


class ListStatistics(msgspec.Struct, frozen=True):
    """Since the start of the actor."""

    parts: int  # read
    bytes: int  # of them, packed
    wholes: int  # whole lists begun
    refused: int  # for want of room
    failed: int  # reads that the database did not answer
    wakes: int  # lanes were told that there is something new


class Lists:
    """Child of `business`. `source` reads the parts; nothing is read twice at once.

    `wake` tells all lanes that something has changed. What was revoked is told at once; what was sold, of which a lane
    needs to know nothing, only so often that the lanes' questions stay few. A wake-up that is lost costs a lane its own
    interval.
    """

    def __init__(
        self, source: Source, *, clock: Callable[[], float] = time.time, wake: Callable[[], object] | None = None
    ) -> None:
        self._source = source
        self._clock = clock
        self._wake = wake
        self._asked: dict[str, float] = {}  # lane -> when it last asked; lanes of the site file
        self._waiting: dict[Wanted, list[Envelope]] = {}
        self._kept: OrderedDict[Wanted, tuple[Part, float]] = OrderedDict()
        self._parts = self._bytes = self._wholes = self._refused = self._failed = self._wakes = 0

    def statistics(self) -> ListStatistics:
        return ListStatistics(self._parts, self._bytes, self._wholes, self._refused, self._failed, self._wakes)

    async def run(self, me: Address) -> None:
        self._waiting.clear()
        self._kept.clear()
        async with self._source.running(), trio.open_nursery() as nursery:
            if self._wake is not None:
                nursery.start_soon(self._watch, self._wake)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case LaneCall(lane=lane, request=link.GetList() as request):
                        self._asked[lane] = trio.current_time()
                        self._on_request(envelope, request, nursery)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _watch(self, wake: Callable[[], object]) -> None:
        """Look for changes and wake the lanes, until cancelled."""
        seen: int | None = None
        waiting = hurry = False
        told_at = float("-inf")
        while True:
            await trio.sleep(LOOK_S)
            now = trio.current_time()
            lanes = sum(1 for at in self._asked.values() if now - at < AWAY_S)
            if not lanes:
                seen, waiting, hurry = None, False, False
                continue
            try:
                newest, older = await self._source.moved(seen)
            except LedgerUnavailable:
                await trio.sleep(UNREADABLE_S)
                continue
            if seen is None or newest > seen:  # at first: what changed since the list that was just asked for
                waiting, hurry = True, hurry or older
            seen = newest
            if waiting and now - told_at >= (lanes * HURRY_PER_LANE_S if hurry else max(SOLD_S, lanes * PER_LANE_S)):
                waiting, hurry, told_at = False, False, now
                self._wakes += 1
                wake()

    def _on_request(self, envelope: Envelope, request: link.GetList, nursery: trio.Nursery) -> None:
        wanted = request.have, request.part, request.cursor
        kept, until = self._kept.get(wanted, (None, 0.0))
        if kept is not None and until > trio.current_time():
            self._answer(envelope, kept)
            self._ahead(wanted, kept, nursery)
            return
        waiting = self._waiting.get(wanted)
        if waiting is None and len(self._waiting) < READING_MAX:
            self._waiting[wanted] = [envelope]
            nursery.start_soon(self._read, wanted, nursery)
        elif waiting is not None and len(waiting) < WAITING_MAX:
            waiting.append(envelope)
        else:
            self._refused += 1
            self._refuse(envelope, "too_many", "too many lists are being read; repeat")

    async def _read(self, wanted: Wanted, nursery: trio.Nursery) -> None:
        try:
            part = await self._source.part(*wanted)
        except LedgerUnavailable as exc:
            self._failed += 1
            for envelope in self._waiting.pop(wanted):
                self._refuse(envelope, "unavailable", "the list cannot be read now; repeat")
            log.info("lists.unavailable", error=str(exc)[:200])
            return
        self._parts += 1
        self._bytes += len(part.data)
        self._wholes += part.first and part.kind == WHOLE
        if wanted[2]:  # what begins a list is asked anew each time
            self._kept[wanted] = part, trio.current_time() + KEPT_S
            while len(self._kept) > KEPT_PARTS:
                self._kept.popitem(last=False)
        waiting = self._waiting.pop(wanted)
        for envelope in waiting:
            self._answer(envelope, part)
        if waiting:
            self._ahead(wanted, part, nursery)

    def _ahead(self, wanted: Wanted, part: Part, nursery: trio.Nursery) -> None:
        """Read what is asked for next, if there is room."""
        behind = wanted[0], part.mark, part.cursor
        known = behind in self._kept or behind in self._waiting
        if part.cursor and not known and len(self._waiting) < READING_MAX // 2:
            self._waiting[behind] = []
            nursery.start_soon(self._read, behind, nursery)

    def _answer(self, envelope: Envelope, part: Part) -> None:
        reply = link.ListPart(seq=envelope.msg.request.seq, server_at=self._clock(), **msgspec.structs.asdict(part))
        envelope.reply(reply)

    def _refuse(self, envelope: Envelope, code: str, text: str) -> None:
        seq = envelope.msg.request.seq
        envelope.reply(link.Refused(seq=seq, server_at=self._clock(), code=code, text=text))
