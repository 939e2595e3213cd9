"""The supply: people hear of the battery once, and a nearly empty one ends the lane in order, once."""

from __future__ import annotations

from typing import Any

import trio

from actors.edge import PowerActor
from actors.testing import alive, heard, only
from core import Address
from core.testing import Probe
from drivers.errors import DeviceUnavailable
from protocols.nut import PowerSource, PowerState
from storage.interfaces import OpenCase


class Supply:
    def __init__(self) -> None:
        self.state: PowerState | None = PowerState(source=PowerSource.MAINS)

    async def read(self) -> PowerState:
        await trio.lowlevel.checkpoint()
        if self.state is None:
            raise DeviceUnavailable("nobody answers")
        return self.state


async def test_each_change_is_said_once_and_low_ends_the_lane(autojump_clock: Any) -> None:
    supply, ledger, stops = Supply(), Probe("ledger"), []
    me = Address("power", capacity=8)
    actor = PowerActor(
        read=supply.read, lane="n1", ledger=ledger, low=lambda: stops.append(1), clock=lambda: 5.0, poll_s=5.0
    )
    async with alive(actor.run, me):
        await trio.sleep(30)
        assert only(await heard(ledger), OpenCase) == []
        supply.state = PowerState(source=PowerSource.BATTERY, runtime_s=1800.0)
        await trio.sleep(60)
        cases = only(await heard(ledger), OpenCase)
        assert [(case.kind, case.detail) for case in cases] == [("power_battery", "30 min left")]
        assert actor.state.source is PowerSource.BATTERY
        supply.state = None
        await trio.sleep(60)
        assert [case.kind for case in only(await heard(ledger), OpenCase)] == ["power_unknown"]
        assert stops == [], "silence is no low battery"
        supply.state = PowerState(source=PowerSource.LOW)
        await trio.sleep(60)
        assert stops == [1]


async def test_one_low_answer_is_a_self_test(autojump_clock: Any) -> None:
    supply, stops = Supply(), []
    me = Address("power", capacity=8)
    actor = PowerActor(
        read=supply.read, lane="n1", ledger=Probe("l"), low=lambda: stops.append(1), clock=lambda: 5.0, poll_s=5.0
    )
    async with alive(actor.run, me):
        supply.state = PowerState(source=PowerSource.LOW)
        await trio.sleep(4)
        supply.state = PowerState(source=PowerSource.MAINS)
        await trio.sleep(60)
        assert stops == []
