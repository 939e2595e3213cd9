"""The tree: whatever becomes of business, safety notices nothing; no device can take anything down with it."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors import site as module
from actors.site import SiteTree, supervise
from core import Address, Child, Notice, NoticeKind, Stop
from core.testing import running

WHILE_S = 900.0  # long enough for the longest backoff many times over


class Crash(Exception):
    pass


class Actor:
    """Notes when it starts and stops; with `lives_s` it crashes after that time, each time."""

    def __init__(self, name: str, log: list[str], *, lives_s: float | None = None) -> None:
        self.address = Address(name)
        self.log = log
        self.lives_s = lives_s

    @property
    def starts(self) -> int:
        return self.address.incarnation

    def child(self) -> Child:
        return Child(self.address, self.run)

    async def run(self, me: Address) -> None:
        self.log.append(f"start {me.name}")
        while True:
            with trio.move_on_after(self.lives_s or 1e9) as alive:
                envelope = await me.receive()
            if alive.cancelled_caught:
                raise Crash(me.name)
            if isinstance(envelope.msg, Stop):
                self.log.append(f"stop {me.name}")
                return
            envelope.reply("here")


class Site:
    def __init__(self, **crashing: float) -> None:
        self.log: list[str] = []
        self.notices: list[Notice] = []
        names = ("evacuation", "link", "lane", "reader", "ledger", "hub")
        for name in names:
            setattr(self, name, Actor(name, self.log, lives_s=crashing.get(name)))
        tree = SiteTree(
            evacuation=self.evacuation.child(),
            link=self.link.child(),
            devices=[self.lane.child(), self.reader.child()],
            business=[self.ledger.child(), self.hub.child()],
        )
        self.root = supervise(tree, hook=self.notices.append)


@asynccontextmanager
async def site(**crashing: float):
    built = Site(**crashing)
    async with running(built.root):
        yield built


async def test_safety_starts_first_and_stops_last(autojump_clock):
    async with site() as built:
        pass
    order = ["evacuation", "link", "lane", "reader", "ledger", "hub"]
    assert built.log == [f"start {name}" for name in order] + [f"stop {name}" for name in order[::-1]]


@pytest.mark.parametrize("crashing", [{"ledger": 0.01}, {"ledger": 0.01, "hub": 0.02}])
async def test_business_that_crashes_for_ever_never_touches_safety(autojump_clock, crashing):
    async with site(**crashing) as built:
        await trio.sleep(WHILE_S)
        for name in ("evacuation", "link", "lane", "reader"):
            assert getattr(built, name).starts == 1, name
            assert await getattr(built, name).address.ask("there?", 1.0) == "here"
        assert built.ledger.starts > WHILE_S / (module.BUSINESS_BACKOFF_MAX_S * 1.3)
        assert [notice for notice in built.notices if notice.kind is NoticeKind.GAVE_UP] == []
        assert {notice.supervisor for notice in built.notices} == {"business"}


async def test_a_device_that_crashes_for_ever_harms_no_other_and_is_tried_again_and_again(autojump_clock):
    async with site(reader=0.01) as built:
        await trio.sleep(WHILE_S)
        assert built.reader.starts > WHILE_S / (module.DEVICE_BACKOFF_MAX_S * 1.3)
        for name in ("evacuation", "link", "lane", "ledger", "hub"):
            assert getattr(built, name).starts == 1, name
        assert {notice.supervisor for notice in built.notices} == {"devices"}


async def test_evacuation_is_back_within_a_second_however_often_it_crashes(autojump_clock):
    async with site(evacuation=0.5) as built:
        await trio.sleep(WHILE_S)
        assert built.evacuation.starts > WHILE_S / (0.5 + module.SAFETY_BACKOFF_MAX_S * 1.1) - 1
        for name in ("link", "lane", "ledger"):
            assert getattr(built, name).starts == 1, name


async def test_when_everything_crashes_everything_is_started_again(autojump_clock):
    names = ("evacuation", "link", "lane", "reader", "ledger", "hub")
    async with site(**dict.fromkeys(names, 0.3)) as built:
        await trio.sleep(WHILE_S)
        assert all(getattr(built, name).starts > 50 for name in names)
        assert [notice for notice in built.notices if notice.kind is NoticeKind.GAVE_UP] == []


async def test_a_crashing_neighbour_delays_no_start(autojump_clock):
    async with site(link=0.0001) as built:
        assert built.hub.starts == 1


async def test_a_site_without_a_link_runs(autojump_clock):
    log: list[str] = []
    evacuation, lane = Actor("evacuation", log), Actor("lane", log)
    tree = SiteTree(evacuation=evacuation.child(), link=None, devices=[lane.child()], business=[])
    async with running(supervise(tree)):
        assert log == ["start evacuation", "start lane"]


async def test_an_actor_that_hangs_delays_the_stop_by_a_bounded_time(autojump_clock):
    log: list[str] = []

    async def hang(me: Address) -> None:
        await me.receive()
        await trio.sleep_forever()

    deaf = Address("deaf")
    evacuation = Actor("evacuation", log)
    tree = SiteTree(evacuation=evacuation.child(), link=None, devices=[], business=[Child(deaf, hang)])
    async with running(supervise(tree)):
        deaf.tell("a message it never comes back from")
        await trio.sleep(1.0)
        before = trio.current_time()
    assert trio.current_time() - before <= 6.0
    assert log[-1] == "stop evacuation"
