"""What people see of zones and flow: states that do not flicker, and a curve with one point a minute."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from actors import occupancy as module
from actors.health import Health
from actors.lane._shared import Flow
from actors.occupancy import Marks, Occupancy, zone_state
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols.console import DeviceView, FeedEvent, FlowPoint, ZoneView
from storage.interfaces import LedgerState, ZoneCount, ZonesChanged

MINUTE_S = 60.0
NOON = 1_760_000_000 // 60 * 60.0


def count(inside: int = 0, limit: int | None = 100, **more) -> ZoneCount:
    return ZoneCount(**{"zone": "park", "inside": inside, "held": 0, "limit": limit} | more)


class Rig:
    def __init__(self) -> None:
        self.hub = Probe("consoles")
        self.me = Address("occupancy", capacity=512)
        self.actor = Occupancy(names={"park": "公园"}, hub=self.hub)

    async def zone(self, inside: int, *, held: int = 0, limit: int | None = 100, zone: str = "park"):
        self.me.tell(ZonesChanged(zones=[ZoneCount(zone=zone, inside=inside, held=held, limit=limit)]))
        return await heard(self.hub)

    async def points(self) -> list[FlowPoint]:
        return only(await heard(self.hub), FlowPoint)


@pytest.fixture
def clock(monkeypatch):
    """The wall clock goes with the virtual one, from noon on."""

    class Wall:
        offset_s = NOON

        @classmethod
        def time(cls) -> float:
            return cls.offset_s + trio.current_time()

    monkeypatch.setattr(module, "time", Wall)
    return Wall


@asynccontextmanager
async def occupancy():
    rig = Rig()
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig


# --- zones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("people", "limit", "before", "state"),
    [
        (0, 100, "normal", "normal"),
        (79, 100, "normal", "normal"),
        (80, 100, "normal", "announced"),
        (89, 100, "normal", "announced"),
        (90, 100, "normal", "slow"),
        (99, 100, "slow", "slow"),
        (100, 100, "slow", "full"),
        (130, 100, "full", "full"),
        (99, 100, "full", "full"),
        (98, 100, "full", "full"),
        (97, 100, "full", "slow"),
        (89, 100, "full", "announced"),
        (79, 100, "full", "normal"),
        (5000, None, "full", "normal"),
        (0, 0, "normal", "full"),
        (1, 1, "normal", "full"),
        (0, 1, "full", "normal"),
    ],
)
def test_a_zone_is_slow_then_full_and_full_for_a_little_longer(people, limit, before, state):
    assert zone_state(count(people, limit), before, NOON, Marks()) == state


@given(st.integers(0, 500), st.integers(0, 300), st.sampled_from(["normal", "slow", "full"]))
def test_at_its_limit_a_zone_is_full_whatever_it_was_and_far_below_it_never_is(people, limit, before):
    state = zone_state(count(people, limit), before, NOON, Marks())
    if people >= limit:
        assert state == "full"
    if people < limit * 0.8:
        assert state == "normal"


@pytest.mark.parametrize(
    ("zone", "state"),
    [
        ({"full": True}, "full"),
        ({"full": True, "limit": None}, "full"),
        ({"entry_stopped_until": NOON + 1}, "stopped"),
        ({"entry_stopped_until": NOON}, "normal"),
        ({"entry_stopped_until": NOON + 1, "full": True}, "stopped"),
        ({"inside": 95, "people": 70, "staff": 25}, "normal"),
    ],
)
def test_a_stop_shows_whatever_room_there_is_and_staff_take_none(zone, state):
    assert zone_state(count(**zone), "normal", NOON, Marks()) == state


def test_a_zone_may_have_thresholds_of_its_own():
    marks = Marks(announce_at=0.3, slow_at=0.5)
    assert [zone_state(count(people, 100), "normal", NOON, marks) for people in (29, 30, 50)] == [
        "normal",
        "announced",
        "slow",
    ]


async def test_a_stop_that_ends_by_itself_is_shown_to_end(autojump_clock, clock):
    async with occupancy() as rig:
        stopped = count(10, 100, entry_stopped_until=NOON + 60)
        rig.me.tell(ZonesChanged(zones=[stopped]))
        told = await heard(rig.hub)
        assert only(told, ZoneView)[0].state == "stopped" and only(told, ZoneView)[0].stopped_until == NOON + 60
        assert [line.code for line in only(told, FeedEvent)] == ["entry_stopped"]
        await trio.sleep(50)
        assert only(await heard(rig.hub), ZoneView) == [], "nothing new"
        await trio.sleep(15)
        told = await heard(rig.hub)
        assert only(told, ZoneView)[0].state == "normal" and only(told, ZoneView)[0].stopped_until is None
        assert [line.code for line in only(told, FeedEvent)] == ["entry_resumed"]


async def test_each_threshold_is_told_on_the_way_up_only(autojump_clock, clock):
    async with occupancy() as rig:
        codes = []
        for people in (79, 80, 85, 90, 100, 97, 85, 70, 81):
            codes.append([line.code for line in only(await rig.zone(people), FeedEvent)])
        up = [[], ["zone_announced"], [], ["zone_slow"], ["capacity_hold"]]
        assert codes == [*up, ["entry_resumed"], [], [], ["zone_announced"]]


async def test_who_holds_an_open_grant_counts_as_inside(autojump_clock, clock):
    async with occupancy() as rig:
        (view,) = only(await rig.zone(80, held=12), ZoneView)
        assert (view.name, view.inside, view.held, view.limit, view.state) == ("公园", 80, 12, 100, "slow")


async def test_the_limit_is_told_once_when_it_is_reached_and_again_after_it_was_over(autojump_clock, clock):
    async with occupancy() as rig:
        lines = []
        for people in (99, 100, 101, 99, 98, 100, 97, 99, 100):
            told = only(await rig.zone(people), FeedEvent)
            lines.append(len([line for line in told if line.code == "capacity_hold"]))
        assert lines == [0, 1, 0, 0, 0, 0, 0, 0, 1]


async def test_a_miscount_below_zero_is_nobody_inside(autojump_clock, clock):
    async with occupancy() as rig:
        (view,) = only(await rig.zone(-3), ZoneView)
        assert view.inside == 0


async def test_outside_is_no_zone_to_show(autojump_clock, clock):
    async with occupancy() as rig:
        assert await rig.zone(-40, zone="outside") == []


async def test_an_unknown_zone_is_shown_by_its_id(autojump_clock, clock):
    async with occupancy() as rig:
        (view,) = only(await rig.zone(1, zone="annex"), ZoneView)
        assert view.name == "annex"


# --- the curve --------------------------------------------------------------------------------------------------


async def test_the_curve_has_a_point_a_minute_with_everybody_in_it(autojump_clock, clock):
    async with occupancy() as rig:
        await trio.sleep(1.5)
        for _ in range(3):
            rig.me.tell(Flow(lane="g1", entries=1))
        rig.me.tell(Flow(lane="g2", exits=1))
        rig.me.tell(Flow(lane="g2", refused=1))
        await trio.sleep(1.0)
        assert (await rig.points())[-1] == FlowPoint(minute=NOON, entries=3, exits=1, refused=1), "as it grows"
        await trio.sleep(MINUTE_S)
        rig.me.tell(Flow(lane="g1", entries=1))
        await trio.sleep(2 * MINUTE_S)
        by_minute = {point.minute: point for point in await rig.points()}
        counts = {minute: (point.entries, point.exits, point.refused) for minute, point in by_minute.items()}
        assert counts[NOON + MINUTE_S] == (1, 0, 0)
        assert counts[NOON + 2 * MINUTE_S] == (0, 0, 0)


async def test_who_comes_in_the_last_moment_of_a_minute_is_in_that_minute(autojump_clock, clock):
    async with occupancy() as rig:
        await trio.sleep(59.5)
        rig.me.tell(Flow(lane="g1", entries=1))
        await trio.sleep(0.6)
        rig.me.tell(Flow(lane="g1", entries=1))
        rig.me.tell(Flow(lane="g1", entries=1))
        await trio.sleep(2.0)
        newest = {point.minute: point.entries for point in await rig.points()}
        assert newest == {NOON: 1, NOON + MINUTE_S: 2}


@given(st.lists(st.tuples(st.floats(0, 90), st.integers(0, 2)), max_size=12))
def test_nobody_is_lost_from_the_curve_or_in_it_twice(moves):
    async def day() -> None:
        async with occupancy() as rig:
            for pause_s, kind in moves:
                await trio.sleep(pause_s)
                rig.me.tell(Flow(lane="g1", entries=kind == 0, exits=kind == 1, refused=kind == 2))
            await trio.sleep(130.0)
            newest = {point.minute: (point.entries, point.exits, point.refused) for point in await rig.points()}
            total = tuple(map(sum, zip(*newest.values(), strict=True))) if newest else (0, 0, 0)
            assert total == tuple(sum(kind == each for _, kind in moves) for each in range(3))

    class Wall:
        @staticmethod
        def time() -> float:
            return NOON + trio.current_time()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", Wall)
        trio.run(day, clock=trio.testing.MockClock(autojump_threshold=0))


# --- the server's own health ------------------------------------------------------------------------------------


async def test_the_ledgers_state_is_told_once_for_each_change(autojump_clock):
    hub, me = Probe("consoles"), Address("health")
    async with alive(Health(hub=hub).run, me):

        async def told(**state) -> list[str]:
            me.tell(LedgerState(detail="why", **state))
            messages = await heard(hub)
            assert only(messages, DeviceView)[-1].availability == ("available" if state["available"] else "unavailable")
            return [line.code for line in only(messages, FeedEvent)]

        assert await told(available=False, durable=False) == ["ledger_down"]
        assert await told(available=False, durable=False) == []
        assert await told(available=True, durable=True) == ["ledger_up"]
        assert await told(available=True, durable=True) == []
        assert await told(available=True, durable=False) == ["not_durable"]
        assert await told(available=True, durable=False) == []
        assert await told(available=True, durable=True) == []
        assert await told(available=True, durable=False) == ["not_durable"], "it is news again"
        assert await told(available=False, durable=False) == ["ledger_down"]


async def test_a_database_that_is_not_durable_is_shown_as_such(autojump_clock):
    hub, me = Probe("consoles"), Address("health")
    async with alive(Health(hub=hub).run, me):
        me.tell(LedgerState(available=True, detail="fsync is off", durable=False))
        (view,) = only(await heard(hub), DeviceView)
        assert view.detail == "NOT DURABLE: fsync is off"
