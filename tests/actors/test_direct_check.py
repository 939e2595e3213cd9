"""A direct check at a lane on a board: held free by ordinary openings, everybody counted, and ended like a grant."""

from __future__ import annotations

import pytest
import trio

from actors.errors import CommandRefused
from actors.gate import GateClose, GateOpen, GateRearm, GateRelease
from actors.lane import OpenLane, SetLaneMode
from actors.lane._board import FREE_RENEW_S
from actors.testing import BoardRig, board_lane, heard, only, scan
from drivers.base import Barrier, DeviceDown
from protocols.messages import Direction, LaneMode, PassageKind, Passed, Rearm, Release, Restore
from storage.interfaces import RefusedScan

FREE = LaneMode.FREE_COUNTED


async def set_mode(rig: BoardRig, mode: LaneMode) -> None:
    await rig.lane.ask(SetLaneMode(mode=mode, reason="crowd", by="ann"), 1.0)


async def to_free(rig: BoardRig) -> None:
    await rig.to_idle()
    await set_mode(rig, FREE)
    order = await rig.gate.expect(GateOpen)
    assert (order.direction, order.pax) == (Direction.ENTRY, 10)
    await rig.move(Barrier.OPENING, Barrier.OPEN)
    assert rig.state == "free"


async def test_a_gate_is_held_free_without_a_release_and_opened_again_when_it_closes(autojump_clock: object) -> None:
    async with board_lane() as rig:
        await to_free(rig)
        await rig.move(Barrier.CLOSED)
        await trio.sleep(FREE_RENEW_S + 0.1)
        orders = await heard(rig.gate)
        assert only(orders, GateOpen)
        assert not only(orders, GateRelease, GateRearm)  # that is for emergencies alone
        assert rig.state == "free"


async def test_whoever_walks_through_either_way_is_counted_as_free(autojump_clock: object) -> None:
    async with board_lane() as rig:
        await to_free(rig)
        await rig.person(count=3)
        await rig.person(Direction.EXIT)
        passed = only(await rig.said(), Passed)
        assert [(each.kind, each.grant) for each in passed] == [(PassageKind.FREE, None)] * 4
        rig.lane.tell(scan("n1"))
        assert [each.code for each in only(await heard(rig.books), RefusedScan)] == ["lane_closed"]


async def test_its_end_closes_the_gate_and_who_is_still_in_it_counts_as_free(autojump_clock: object) -> None:
    async with board_lane() as rig:
        await to_free(rig)
        await heard(rig.gate)
        await set_mode(rig, LaneMode.BIDIRECTIONAL)
        await rig.gate.expect(GateClose)
        await rig.person()
        await rig.move(Barrier.CLOSING, Barrier.CLOSED)
        assert [each.kind for each in only(await rig.said(), Passed)] == [PassageKind.FREE]
        assert rig.state == "idle"


async def test_a_release_goes_before_it_and_after_rearming_it_goes_on(autojump_clock: object) -> None:
    async with board_lane() as rig:
        await to_free(rig)
        rig.lane.tell(Release(incident=7), system=True)
        await rig.move(Barrier.RELEASED)
        assert rig.state == "released"
        await heard(rig.gate)
        await trio.sleep(60)
        assert not only(await heard(rig.gate), GateClose, GateOpen)
        rig.lane.tell(Restore(incident=7))
        rig.lane.tell(Rearm(user="ann"))
        await rig.move(Barrier.CLOSING, Barrier.CLOSED)
        await rig.recover()
        assert rig.state == "free"


async def test_a_board_that_comes_back_is_free_again_and_no_hand_opens_it_meanwhile(autojump_clock: object) -> None:
    async with board_lane() as rig:
        await to_free(rig)
        with pytest.raises(CommandRefused) as refused:
            await rig.lane.ask(OpenLane(pax=1, reason="x", by="ann"), 1.0)
        assert refused.value.code == "lane_busy"
        await rig.device(DeviceDown(reason="unplugged"))
        assert rig.state == "unavailable"
        await rig.up()
        await rig.recover()
        assert rig.state == "free"
