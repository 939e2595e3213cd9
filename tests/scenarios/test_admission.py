"""Scenarios of the domain model (section 14) at real lanes: what naive builds get wrong."""

from __future__ import annotations

import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.testing import SiteRig, site_rig, until
from protocols.console import CalibrateZone, Done, PauseBatch, StopZoneFor
from protocols.messages import Direction, PassageKind

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
WALK_S = 0.15


async def people(rig: SiteRig, lane: str, count: int) -> int:
    """So many people of an opened lane walk in, one after the other; how many got through."""
    place, through = rig.lane(lane), 0
    for _ in range(count):
        if not await place.barrier.wait_turn(ENTRY, 3.0):
            break
        through += await place.walk(WALK_S, ticket=None, visitor="test") is PassageKind.GRANTED
    return through


async def right(rig: SiteRig) -> tuple[int, int]:
    """Redeemed and held of the only ticket that is a group's."""
    (row,) = await rig.rows(
        "select e.redeemed, e.held from entitlements e join tickets t using (site, ticket) where t.product = 'group'"
    )
    return row["redeemed"], row["held"]


@pytest.mark.parametrize("lane", ["s1", "g1"])
async def test_scenario_2_server_killed_between_grant_and_passage_loses_and_doubles_nothing(tmp_path, lane):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        ticket = await rig.sell()
        place = rig.lane(lane)
        scanned = await place.scan(ticket.code, 4.0, cause="test")
        assert scanned.opened
        rig.kill()
        assert await place.walk(WALK_S, ticket=None, visitor="test") is PassageKind.GRANTED
        place.done(scanned, 1)
        await rig.start()
        await rig.lanes_idle(30.0)
        await rig.settled(20.0)
        await until_value(rig, "select count(*) from redemptions", 1)
        assert await rig.value("select inside from zones where zone = 'park'") == 1
        for other in ("s1", "g1"):
            assert not await rig.admit(other, ticket.code, patience_s=1.5)
        assert (await rig.audit()).broken == []


async def test_scenario_3_who_steps_back_may_go_through_another_lane_and_only_then(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        ticket = await rig.sell()
        first, second = rig.lane("s1"), rig.lane("g1")
        scanned = await first.scan(ticket.code, 4.0, cause="test")
        assert scanned.opened
        await first.walk(WALK_S, ticket=None, visitor="test", step_back=True)
        refused = await second.scan(ticket.code, 3.0, cause="test")
        assert (refused.opened, refused.code) == (False, "in_progress"), "the first lane still stands open"
        first.done(scanned, 0)
        await rig.settled(15.0)
        assert await rig.admit("g1", ticket.code)
        await rig.settled()
        assert await rig.value("select count(*) from redemptions") == 1
        assert (await rig.audit()).broken == []


async def test_scenario_4_a_group_on_three_lanes_with_a_pause_on_one(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=2, configure=lambda text: text.replace(
        'mode = "bidirectional"\n', 'mode = "bidirectional"\nmax_group = 4\n'
    )) as rig:  # fmt: skip
        ticket = await rig.sell("group")
        opened = [await rig.lane(lane).scan(ticket.code, 4.0, cause="test", pax=4) for lane in ("g1", "g2")]
        assert [scanned.pax for scanned in opened] == [4, 4]
        third = await rig.lane("s1").scan(ticket.code, 4.0, cause="test", pax=2)
        assert third.opened, "two places are left for the third lane"
        assert await people(rig, "g1", 1) == 1
        order = PauseBatch(lane="g1", reason="the guide asked")
        await rig.ask("operator", "lane.pause", order, Done)
        assert [await people(rig, "g2", 4), await people(rig, "s1", 2)] == [4, 2]
        rig.lane("s1").done(third, 2)
        await rig.settled(15.0)
        assert await right(rig) == (7, 0), "three of the paused batch keep their places"
        again = await rig.lane("g2").scan(ticket.code, 4.0, cause="test")
        assert (again.opened, again.pax) == (True, 3)
        assert await people(rig, "g2", 3) == 3
        await rig.settled(15.0)
        last = await rig.lane("g1").scan(ticket.code, 3.0, cause="test")
        assert (last.opened, last.code) == (False, "pax_exhausted")
        assert (await rig.audit()).broken == []


async def test_scenario_13_who_follows_walks_against_or_crawls_under_is_seen_and_costs_nobody_a_place(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        for lane in ("s1", "g1"):
            ticket = await rig.sell()
            place = rig.lane(lane)
            scanned = await place.scan(ticket.code, 4.0, cause="test")
            assert scanned.opened
            async with trio.open_nursery() as nursery:  # two in one turn
                kinds: list[PassageKind | None] = []

                async def walk(direction: Direction, delay_s: float, into: list = kinds, at=place) -> None:
                    await trio.sleep(delay_s)
                    into.append(await at.barrier.walk(direction, 0.3, visitor="test"))

                nursery.start_soon(walk, ENTRY, 0.0)
                nursery.start_soon(walk, ENTRY, 0.1)
                nursery.start_soon(walk, EXIT, 0.2)
            place.done(scanned, 1)
            assert sorted(filter(None, kinds)) == [PassageKind.GRANTED, PassageKind.REVERSE, PassageKind.TAILGATE]
            assert await place.settled()
            assert await place.barrier.walk(ENTRY, 0.1, visitor="child") is None  # under a closed barrier
        await rig.settled(15.0)
        await until_value(rig, "select count(*) from passages", 6)
        assert await rig.value("select count(*) from redemptions") == 2
        assert await rig.value("select inside from zones where zone = 'park'") == 2, "four went in and two came out"
        cases = {row["kind"] for row in await rig.rows("select kind from cases")}
        assert cases >= {"tailgate", "reverse", "intrusion"}, cases
        assert (await rig.audit()).broken == []


async def test_scenario_12_a_dead_exit_sensor_is_corrected_by_two_people_and_entry_goes_on(tmp_path):
    async with site_rig(
        tmp_path,
        serial=0,
        linked=1,
        limit=30,
        configure=lambda text: text.replace("limit = 30\n", "limit = 30\nstop_at = 0.9\nresume_at = 0.5\n"),
    ) as rig:
        for _ in range(3):
            ticket = await rig.sell("group")
            scanned = await rig.lane("g1").scan(ticket.code, 4.0, cause="test")
            await people(rig, "g1", min(scanned.pax, 9))
            await rig.settled(15.0)
        ticket = await rig.sell()
        refused = await rig.lane("g1").scan(ticket.code, 3.0, cause="test")
        assert (refused.opened, refused.code) == (False, "capacity_hold"), "27 of 30 are inside: stopped at nine tenths"
        correct = CalibrateZone(zone="park", delta=-22, reason="exit sensor is dead; counted by hand", key="c1")
        waiting = await rig.ask("operator", "zone.calibrate", correct, Done)
        assert waiting.detail == "waiting for a second person"
        await rig.ask("manager", "zone.calibrate", correct, Done)
        assert await rig.admit("g1", ticket.code)
        await until_value(rig, "select inside from zones where zone = 'park'", 6)
        actors = {row["user_name"] for row in await rig.rows("select user_name from calibrations")}
        assert actors == {"operator+manager"}
        assert (await rig.audit()).broken == []


async def test_entry_is_stopped_by_people_at_once_and_goes_on_when_they_say_so(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        ticket = await rig.sell()
        await rig.ask("operator", "zone.stop", StopZoneFor(zone="park", what="entry", minutes=10, reason="storm"), Done)
        refused = await rig.lane("g1").scan(ticket.code, 3.0, cause="test")
        assert (refused.opened, refused.code) == (False, "capacity_hold")
        await rig.shows(lambda state: state.zones[0].state == "stopped", "the zone is shown as stopped")
        resume = StopZoneFor(zone="park", what="entry", minutes=0, reason="over")
        await rig.ask("operator", "zone.stop", resume, Done)
        assert await rig.admit("s1", ticket.code)
        actions = [row["action"] for row in await rig.rows("select action from audit_log where action like 'zone%'")]
        assert actions == ["zone.stop", "zone.stop"]
        assert (await rig.audit()).broken == []


async def until_value(rig: SiteRig, sql: str, wanted: object, within_s: float = 15.0) -> None:
    """Wait until the ledger says so."""
    found: list[object] = [None]
    with trio.move_on_after(within_s):
        while found[0] != wanted:
            found[0] = await rig.value(sql)
            await trio.sleep(0.05)
    await until(lambda: found[0] == wanted, f"{sql} is {wanted}, not {found[0]}", 0.1)
