"""The actor of the lists: a part is read once, kept for who asks again, and nobody waits for a lost database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from actors import lists as module
from actors.lists import LaneCall, Lists
from core import Address, AskTimeout, Child, Supervisor
from core.testing import running
from protocols import devicelink as link
from protocols.lists import ListMark, Part
from storage.interfaces import LedgerUnavailable

MARK = ListMark(7, "t")


class Source:
    """Parts of a list of five; each takes a while."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.takes_s = 0.1
        self.down = False
        self.open = False
        self.change, self.older = 7, False
        self.looked = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.open = True
        yield
        self.open = False

    async def moved(self, since: int | None) -> tuple[int, bool]:
        self.looked += 1
        if self.down:
            raise LedgerUnavailable("away")
        return self.change, since is not None and self.change > since and self.older

    async def part(self, have: ListMark | None, part: ListMark | None, cursor: str) -> Part:
        assert self.open
        self.read.append(cursor)
        await trio.sleep(self.takes_s)
        if self.down:
            raise LedgerUnavailable("away")
        number = int(cursor or "0")
        following = str(number + 1) if number < 4 else ""
        return Part("whole", MARK, None, not cursor, following, 1, b"data %d" % number, 0)


@asynccontextmanager
async def _actor() -> AsyncIterator[tuple[Source, Lists, Address]]:
    source = Source()
    actor = Lists(source, clock=lambda: 5.0)
    address = Address("lists", capacity=256)
    async with running(Supervisor("test", [Child(address, actor.run)])):
        yield source, actor, address


def _call(cursor: str = "", *, seq: int = 1, have: ListMark | None = None, lane: str = "lane1") -> LaneCall:
    part = MARK if cursor else None
    request = link.GetList(device="g", boot="b", seq=seq, at=1.0, have=have, part=part, cursor=cursor)
    return LaneCall(lane=lane, request=request)


async def test_a_list_comes_part_by_part_and_each_is_read_once(autojump_clock: object) -> None:
    async with _actor() as (source, actor, address):
        cursor, got = "", []
        while True:
            reply = await address.ask(_call(cursor, seq=9), 2.0)
            assert isinstance(reply, link.ListPart)
            assert (reply.seq, reply.server_at, reply.mark) == (9, 5.0, MARK)
            got.append(reply.data)
            cursor = reply.cursor
            if not cursor:
                break
        assert got == [b"data %d" % number for number in range(5)]
        assert source.read == ["", "1", "2", "3", "4"]
        assert (actor.statistics().parts, actor.statistics().wholes) == (5, 1)


async def test_a_part_that_came_too_late_is_there_when_it_is_asked_for_again(autojump_clock: object) -> None:
    async with _actor() as (source, _, address):
        source.takes_s = 2.5
        try:
            await address.ask(_call("2"), 1.0)
            raise AssertionError("it takes longer than that")
        except AskTimeout:
            pass
        await trio.sleep(2.0)
        reply = await address.ask(_call("2", seq=2), 0.1)
        assert isinstance(reply, link.ListPart)
        assert (reply.seq, reply.data) == (2, b"data 2")
        assert source.read.count("2") == 1


async def test_what_is_kept_gets_old(autojump_clock: object) -> None:
    async with _actor() as (source, _, address):
        for _ in range(2):
            await address.ask(_call("4"), 2.0)
            await trio.sleep(module.KEPT_S + 1)
        assert source.read.count("4") == 2


async def test_the_beginning_is_always_read_anew(autojump_clock: object) -> None:
    async with _actor() as (source, _, address):
        for _ in range(3):
            await address.ask(_call(), 2.0)
        assert source.read.count("") == 3


async def test_all_who_ask_for_one_part_wait_for_the_same(autojump_clock: object) -> None:
    async with _actor() as (source, _, address), trio.open_nursery() as nursery:
        answers: list[object] = []

        async def ask() -> None:
            answers.append(await address.ask(_call("3"), 2.0))

        for _ in range(20):
            nursery.start_soon(ask)
        await trio.sleep(1.0)
        assert len(answers) == 20
        assert source.read.count("3") == 1


async def test_a_database_that_is_away_is_said_and_comes_back(autojump_clock: object) -> None:
    async with _actor() as (source, actor, address):
        source.down = True
        reply = await address.ask(_call(), 2.0)
        assert isinstance(reply, link.Refused)
        assert (reply.code, reply.seq) == ("unavailable", 1)
        assert actor.statistics().failed == 1
        source.down = False
        assert isinstance(await address.ask(_call(), 2.0), link.ListPart)


async def test_no_number_of_lanes_makes_more_than_a_few_reads(autojump_clock: object) -> None:
    async with _actor() as (_, actor, address), trio.open_nursery() as nursery:
        answers: list[object] = []

        async def ask(number: int) -> None:
            answers.append(await address.ask(_call(have=ListMark(number, "x")), 5.0))

        for number in range(100):
            nursery.start_soon(ask, number)
        await trio.sleep(3.0)
        assert len(answers) == 100
        codes = [answer.code for answer in answers if isinstance(answer, link.Refused)]
        assert codes == ["too_many"] * (100 - module.READING_MAX)
        assert actor.statistics().refused == len(codes)
        assert isinstance(await address.ask(_call(), 2.0), link.ListPart)


@asynccontextmanager
async def _waking(lanes: int) -> AsyncIterator[tuple[Source, list[float], Lists]]:
    """With lanes that ask every five seconds; the times at which they were woken."""
    source, woken = Source(), []
    actor = Lists(source, wake=lambda: woken.append(trio.current_time()))
    address = Address("lists", capacity=256)

    async def ask() -> None:
        while True:
            for number in range(lanes):
                await address.ask(_call("4", lane=f"lane{number}"), 5.0)
            await trio.sleep(5.0)

    async with running(Supervisor("test", [Child(address, actor.run)])), trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(3.0)
        assert len(woken) == 1  # for what changed between their lists and our first look
        woken.clear()
        yield source, woken, actor
        nursery.cancel_scope.cancel()


async def test_a_change_wakes_the_lanes_at_once_and_once(autojump_clock: object) -> None:
    async with _waking(1) as (source, woken, actor):
        assert woken == []
        source.change += 1
        start = trio.current_time()
        await trio.sleep(3.0)
        assert [at - start < 2 * module.LOOK_S for at in woken] == [True]
        assert actor.statistics().wakes == 2


async def test_many_lanes_are_woken_for_sales_now_and_then_and_for_a_revocation_sooner(autojump_clock: object) -> None:
    async with _waking(200) as (source, woken, _):
        for _ in range(100):  # a sale every tenth of a second
            source.change += 1
            await trio.sleep(0.1)
        assert 4 <= len(woken) <= 7  # two seconds apart
        await trio.sleep(5.0)
        woken.clear()
        source.change, source.older = source.change + 1, False
        await trio.sleep(0.5)
        source.change, source.older = source.change + 1, True
        start = trio.current_time()
        await trio.sleep(1.0)
        assert len(woken) == 2
        assert woken[1] - start < 0.5


async def test_nobody_is_woken_for_a_database_that_is_away_or_when_no_lane_asks(autojump_clock: object) -> None:
    async with _waking(1) as (source, woken, _):
        source.down = True
        source.change += 1
        await trio.sleep(10.0)
        assert woken == []
        source.down = False
        await trio.sleep(3.0)
        assert len(woken) == 1
    source = Source()
    actor, address = Lists(source, wake=lambda: woken.append(0.0)), Address("lists", capacity=8)
    async with running(Supervisor("test", [Child(address, actor.run)])):
        await trio.sleep(60.0)
        assert source.looked == 0
