"""The main job on real transports: sell at the window, admit at serial and linked lanes, refuse, evacuate, restore."""

from __future__ import annotations

import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.testing import site_rig, until
from protocols.console import Done, RearmLane, RestoreRequest, Trigger
from sim.lane import Result

patient = pytest.fixture(autouse=True)(patient_time_with_processes)


async def test_a_ticket_sold_at_the_window_is_admitted_once_at_a_serial_and_at_a_linked_lane(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        one, two = (await rig.sell_all("adult", 2)).tickets
        assert await rig.admit("s1", one.code)
        assert await rig.admit("g1", two.code)
        assert not await rig.admit("g1", one.code, patience_s=1.5)
        assert not await rig.admit("s1", two.code, patience_s=1.5)
        await rig.settled()
        assert await rig.value("select inside from zones where zone = 'park'") == 2
        codes = {row["code"] for row in await rig.rows("select code from scans where code <> 'ok'")}
        assert codes == {"already_used"}
        assert (await rig.audit()).broken == []


async def test_evacuation_opens_every_lane_and_nothing_closes_before_two_people_restore(tmp_path):
    async with site_rig(tmp_path, serial=2, linked=2) as rig:
        async with rig.console("security1") as first, rig.console("security2") as second:
            begun = trio.current_time()
            await first.call("evacuation.trigger", Trigger(reason="test"), Done)
            await until(lambda: all(lane.released for lane in rig.devices.lanes.values()), "all lanes are open", 1.0)
            state = await rig.shows(
                lambda state: (
                    len(state.evacuation.lanes) == 4 and all(lane.sensed_open for lane in state.evacuation.lanes)
                ),
                "every lane acknowledged with its sensed barrier",
            )
            assert trio.current_time() - begun < 5.0
            assert max(lane.acknowledged_after_ms for lane in state.evacuation.lanes) < 2000
            ticket = await rig.sell()
            scanned = await rig.lane("g1").gate.scan(ticket.code, 2.0, cause="test")
            assert scanned.code == "emergency_go"
            assert await rig.value("select count(*) from grants") == 0
            await first.call("evacuation.restore", RestoreRequest(), Done)
            with pytest.raises(Exception, match="second person"):
                await first.call("evacuation.restore", RestoreRequest(), Done)
            await trio.sleep(0.5)
            assert all(lane.released for lane in rig.devices.lanes.values())
            await second.call("evacuation.restore", RestoreRequest(), Done)
            await trio.sleep(0.5)
            assert all(lane.released for lane in rig.devices.lanes.values())  # until a person re-arms them
            await second.call("lane.rearm", RearmLane(lane="*"), Done)
            await rig.lanes_idle()
            assert await rig.admit("s1", ticket.code)


async def test_the_limit_holds_over_lanes_and_an_exit_makes_room(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=2, limit=2) as rig:
        tickets = (await rig.sell_all("adult", 4)).tickets
        assert await rig.admit("s1", tickets[0].code)
        assert await rig.admit("g1", tickets[1].code)
        scanned = await rig.lane("g2").scan(tickets[2].code, 2.0, cause="test")
        assert (scanned.result, scanned.code) == (Result.DENIED, "capacity_hold")
        assert await rig.lane("g1").leave(0.2, "test", 3.0)
        await rig.settled()
        with trio.fail_after(30):
            while not await rig.admit("g2", tickets[2].code):
                await trio.sleep(0.1)
        assert (await rig.audit()).broken == []
