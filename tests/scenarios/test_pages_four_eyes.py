"""What needs two people cannot be done by one, whatever that one may do: a duty manager tries each alone."""

from __future__ import annotations

import pytest

from admin_ws.client import ConsoleClient, ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, site_rig, until
from protocols import console as c
from protocols.console_methods import METHODS
from protocols.phone import StubCount, StubsBooked

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow

ATTENDANT = '[[lanes]]\nid = "hand"\nname = "H"\nkind = "attendant"\nto_zone = "park"\n[[printers]]'
MANY = 50  # people; one person alone corrects up to 20


def with_attendant(text: str) -> str:
    return text.replace("[[printers]]", ATTENDANT, 1)


def test_these_methods_need_two_people_and_each_is_tried_below() -> None:
    assert {name for name, method in METHODS.items() if method.four_eyes} == {
        "evacuation.restore", "zone.calibrate", "phone.stubs", "office.decide_refund", "codes.export",
    }  # fmt: skip


async def test_a_duty_manager_alone_restores_corrects_refunds_and_exports_nothing_that_needs_two(tmp_path):
    async with site_rig(tmp_path, serial=0, linked=1, configure=with_attendant) as rig:
        group = await rig.sell("group")  # worth more than one person alone may pay back
        async with ConsoleClient.connect(rig.url) as manager:
            await manager.login("manager", PASSWORD)

            for key in ("a", "b"):  # asking twice makes no second person
                correct = c.CalibrateZone(zone="park", delta=MANY, reason="counted", key=key)
                assert "second person" in (await manager.call("zone.calibrate", correct, c.Done)).detail
                stubs = StubCount(lane="hand", key=f"stubs-{key}-1", counted=0, stubs=MANY, reason="torn off")
                assert (await manager.call("phone.stubs", stubs, StubsBooked)).state == "waiting"
            assert await rig.value("select count(*) from calibrations") == 0

            ask = c.AskRefund(ticket=group.ticket, places=10, reason="rain", key="ask")
            asked = await manager.call("office.refund", ask, c.RefundView)
            assert asked.state == "requested"
            approve = c.SettleRefund(refund=asked.refund, approved=True, reason="rain", key="approve")
            with pytest.raises(ConsoleRefused):
                await manager.call("office.decide_refund", approve, c.RefundView)
            assert await rig.value("select count(*) from redemptions") == 0

            draw = c.NewCodes(product="adult", quantity=9, reason="summer", key="draw")
            batch = await manager.call("codes.create", draw, c.BatchView)
            export = c.TakeOutCodes(batch=batch.batch, handed_to="Wang", reason="summer", key="x")
            with pytest.raises(ConsoleRefused) as refused:
                await manager.call("codes.export", export, c.ExportView)
            assert refused.value.code == "four_eyes"
            assert await rig.value("select count(*) from code_exports") == 0

            await manager.call("evacuation.trigger", c.Trigger(reason="test"), c.Done)
            lane = rig.lane("g1")
            await until(lambda: lane.released, "the lane is open", 30.0)
            assert "second person" in (await manager.call("evacuation.restore", c.RestoreRequest(), c.Done)).detail
            with pytest.raises(ConsoleRefused, match="second person"):
                await manager.call("evacuation.restore", c.RestoreRequest(), c.Done)
            assert lane.released

            # and with a second person each of them is done
            await rig.ask("security1", "evacuation.restore", c.RestoreRequest(), c.Done)
            await manager.call("lane.rearm", c.RearmLane(lane="g1"), c.Done)
            correct = c.CalibrateZone(zone="park", delta=MANY, reason="counted, too", key="c")
            await rig.ask("operator", "zone.calibrate", correct, c.Done)
            assert await rig.value("select sum(delta)::int from calibrations where zone = 'park'") == MANY
        assert (await rig.audit()).broken == []
