"""Batches that are paused at the lane, and visitors whose ticket is scanned on the way out."""

from __future__ import annotations

import msgspec
import pytest
import trio

from actors.errors import CommandRefused
from actors.gate import GateClose, GateOpen
from actors.lane import LinkCall, PauseLane
from actors.lane._board import PAUSE_SCAN_S
from actors.testing import BoardRig, board_lane, books, granted, heard, lane_config, link_lane, only, open_grant, scan
from actors.testing import settle as told
from drivers.base import Barrier
from protocols import devicelink as link
from protocols.messages import Decide, Direction, Ended, EndReason, LaneMode, PassageKind, Passed
from storage.interfaces import RefusedScan

GUIDE = "the guide's code"
EXIT = Direction.EXIT


async def batch(rig: BoardRig, *, passed: int, pax: int = 20) -> None:
    """A group of `pax` runs through the lane, `passed` of them are in."""
    await rig.to_idle()
    rig.lane.tell(scan("n1", code=GUIDE))
    await told()
    rig.lane.tell(granted("n1", pax=pax))
    await told()
    await rig.move(Barrier.OPENING, Barrier.OPEN)
    for _ in range(passed):
        await rig.person()
    await rig.forget()


async def test_a_paused_batch_keeps_the_places_of_the_rest(autojump_clock):
    async with board_lane() as rig:
        await batch(rig, passed=12)
        assert await rig.lane.ask(PauseLane(reason="the guide asked", by="ann"), 1.0) == 12
        await told()
        assert only(await heard(rig.gate), GateClose), "nobody else of the group follows"
        assert await rig.said() == [], "whoever is in the barrier still counts"
        await rig.person()
        await rig.move(Barrier.CLOSED)
        passed, ended = await rig.said()
        assert (passed.kind, passed.grant) == (PassageKind.GRANTED, 1)
        assert (ended.passed, ended.why) == (13, EndReason.PAUSED)
        assert rig.state == "idle", "free for others"


async def test_the_guide_pauses_by_showing_the_code_again(autojump_clock):
    async with board_lane() as rig:
        await batch(rig, passed=3)
        await trio.sleep(PAUSE_SCAN_S + 0.1)
        rig.lane.tell(scan("n2", code=GUIDE))
        await told()
        await rig.move(Barrier.CLOSED)
        (ended,) = await rig.said()
        assert (ended.nonce, ended.passed, ended.why) == ("n1", 3, EndReason.PAUSED)


async def test_a_code_that_stays_before_the_reader_pauses_nothing(autojump_clock):
    async with board_lane() as rig:
        await batch(rig, passed=1)
        for number in range(2, 8):
            await trio.sleep(PAUSE_SCAN_S / 3)
            rig.lane.tell(scan(f"n{number}", code=GUIDE))
            await told()
        assert rig.state == "granted"
        assert {refused.code for refused in only(await heard(rig.books), RefusedScan)} == {"in_progress"}


async def test_before_anybody_has_passed_the_code_again_is_only_impatience(autojump_clock):
    async with board_lane() as rig:
        await batch(rig, passed=0)
        await trio.sleep(PAUSE_SCAN_S + 0.1)
        rig.lane.tell(scan("n2", code=GUIDE))
        await told()
        assert rig.state == "granted"


@pytest.mark.parametrize("state", ["idle", "deciding", "closing", "released", "needs_rearm", "unavailable"])
async def test_without_a_batch_there_is_nothing_to_pause(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to(state)
        with pytest.raises(CommandRefused) as refused:
            await rig.lane.ask(PauseLane(reason="x", by="ann"), 1.0)
        assert refused.value.code == "no_batch"
        assert rig.state == state


async def test_a_smart_gate_is_told_to_pause(autojump_clock):
    async with link_lane() as rig:
        with pytest.raises(CommandRefused):
            await rig.lane.ask(PauseLane(reason="x", by="ann"), 1.0)
        header = {"device": "gate-g1", "boot": "b", "at": 0.0}
        request = link.Scan(**header, seq=1, nonce="n1", kind="code", value="x")
        rig.lane.tell(LinkCall(request=request), reply_to=rig.link)
        await told()
        rig.lane.tell(granted("n1", pax=20))
        await told()
        await rig.lane.ask(PauseLane(reason="x", by="ann"), 1.0)
        answer = await rig.lane.ask(LinkCall(request=link.Fetch(**header, seq=2)), 1.0)
        assert [command.name for command in answer.commands] == ["pause"]


# --- exits ------------------------------------------------------------------------------------------------------


async def test_a_ticket_scanned_on_the_way_out_opens_outwards(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.lane.tell(scan("n1", direction=EXIT))
        question = await rig.admission.expect(Decide)
        assert (question.from_zone, question.to_zone) == ("park", "outside")
        rig.lane.tell(granted("n1", grant=5))
        order = await rig.gate.expect(GateOpen)
        assert (order.direction, order.pax) == (EXIT, 1)
        await rig.move(Barrier.OPEN)
        await rig.person(EXIT)
        await rig.move(Barrier.CLOSED)
        passed, ended = await rig.said()
        assert (passed.kind, passed.grant, passed.direction) == (PassageKind.GRANTED, 5, EXIT)
        assert (passed.from_zone, passed.to_zone) == ("park", "outside")
        assert (ended.grant, ended.passed, ended.why) == (5, 1, EndReason.COMPLETE)


async def test_who_walks_in_through_a_barrier_that_opened_outwards_has_no_grant(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.lane.tell(scan("n1", direction=EXIT))
        await told()
        rig.lane.tell(granted("n1"))
        await told()
        await rig.move(Barrier.OPEN)
        await rig.person()
        (passed,) = await rig.said()
        assert (passed.kind, passed.grant) == (PassageKind.FORCED, None)
        assert rig.state == "granted", "the visitor who leaves is still expected"


async def test_who_leaves_while_somebody_is_let_in_uses_nobodys_grant(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted()
        await rig.move(Barrier.OPEN)
        await rig.person(EXIT)
        (passed,) = await rig.said()
        assert (passed.kind, passed.grant) == (PassageKind.EXIT, None)


@pytest.mark.parametrize("mode", [LaneMode.NORMAL_ENTRY, LaneMode.CLOSED])
async def test_a_lane_that_lets_nobody_out_refuses_a_scan_on_the_way_out(autojump_clock, mode):
    async with board_lane(config=lane_config(mode=mode)) as rig:
        await rig.to_idle()
        rig.lane.tell(scan("n1", direction=EXIT))
        await told()
        assert [refused.code for refused in only(await heard(rig.books), RefusedScan)] == ["lane_closed"]
        assert await heard(rig.admission) == []


async def test_an_exit_lane_takes_a_scan_on_the_way_out(autojump_clock):
    async with board_lane(config=lane_config(mode=LaneMode.NORMAL_EXIT)) as rig:
        await rig.to_idle()
        rig.lane.tell(scan("n1", direction=EXIT))
        assert await rig.admission.expect(Decide)


async def test_after_a_restart_exits_settle_the_grant_of_an_exit_first(autojump_clock):
    async with board_lane() as rig:
        rig.entries, rig.exits = 4, 9
        await rig.up()
        outwards = msgspec.structs.replace(open_grant(7), direction=EXIT)
        await rig.recover(books(outwards, entries=4, exits=7))
        said = await rig.said()
        assert [(m.kind, m.grant, m.seq) for m in only(said, Passed)] == [
            (PassageKind.GRANTED, 7, 8),
            (PassageKind.EXIT, None, 9),
        ]
        (ended,) = only(said, Ended)
        assert (ended.grant, ended.passed, ended.why) == (7, 1, EndReason.RECOVERED)


async def test_a_smart_gate_asks_for_a_visitor_who_leaves(autojump_clock):
    async with link_lane(config=lane_config(mode=LaneMode.NORMAL_EXIT)) as rig:
        request = link.Scan(
            device="gate-g1", boot="b", at=0.0, seq=1, nonce="n1", kind="code", value="x", direction="exit"
        )
        rig.lane.tell(LinkCall(request=request), reply_to=rig.link)
        question = await rig.admission.expect(Decide)
        assert (question.from_zone, question.to_zone, question.scan.direction) == ("park", "outside", EXIT)
