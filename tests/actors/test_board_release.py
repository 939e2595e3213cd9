"""Evacuation at a lane on a board: it opens from any state, says what is sensed, and closes after people said so."""

from __future__ import annotations

import pytest
import trio

from actors.counter import AskBooks
from actors.gate import GateClose, GateOpen, GateRearm, GateRelease
from actors.lane._board import REARM_S, SETTLE_S
from actors.testing import EPOCH, BoardRig, board_lane, books, granted, heard, only, scan, settle
from drivers.base import Barrier, BarrierChanged, DeviceDown, DeviceUp, PassageCounted
from protocols.console import FeedEvent, LaneView
from protocols.messages import (
    Counters,
    Direction,
    Ended,
    EndReason,
    PassageKind,
    Rearm,
    Release,
    ReleaseAck,
    Restore,
)
from storage.interfaces import CounterBaseline

OPEN, CLOSED, RELEASED = Barrier.OPEN, Barrier.CLOSED, Barrier.RELEASED
STATES = ["unavailable", "recovering", "idle", "deciding", "granted", "closing", "released", "needs_rearm", "rearming"]


async def acks(rig: BoardRig) -> list[ReleaseAck]:
    return only(await heard(rig.evacuation), ReleaseAck)


@pytest.mark.parametrize("state", STATES)
async def test_a_release_is_carried_out_from_any_state_without_any_time_passing(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to(state)
        before = trio.current_time()
        rig.lane.tell(Release(incident=7), system=True)
        assert GateRelease() in await heard(rig.gate)
        assert rig.state == "released"
        (ack, *_) = await acks(rig)
        assert ack.incident == 7 and ack.lane == "g1"
        assert trio.current_time() == before
        view = only(await heard(rig.hub), LaneView)
        assert not view or view[-1].mode == "emergency_released"


async def test_a_release_is_the_next_thing_read_whatever_waits(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        for number in range(500):
            rig.lane.tell(scan(f"n{number}"))
        rig.lane.tell(Release(incident=7), system=True)
        await settle()
        first, *_ = await heard(rig.gate)
        assert first == GateRelease()
        assert await heard(rig.admission) == [], "not one of them was asked before"


async def test_a_lane_whose_neighbours_are_all_deaf_and_full_still_releases_and_says_so(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        for probe in (rig.admission, rig.books, rig.occupancy, rig.hub, rig.gate, rig.counter):
            while probe.statistics().depth < probe.capacity:
                probe.tell(Release(incident=0))
        before = trio.current_time()
        rig.lane.tell(Release(incident=7), system=True)
        await settle()
        assert rig.state == "released" and trio.current_time() == before
        assert [ack.incident for ack in await acks(rig)] == [7]
        assert GateRelease() in [rig.gate._system[index].msg for index in range(len(rig.gate._system))]


@pytest.mark.parametrize("state", ["unavailable", "recovering", "idle", "deciding", "granted", "closing"])
async def test_full_neighbours_make_no_lane_die(autojump_clock, state):
    """A lane that crashed for a neighbour's fullness would wait in its supervisor's backoff when the release comes."""
    async with board_lane() as rig:
        await rig.to(state)
        for probe in (rig.admission, rig.books, rig.occupancy, rig.hub, rig.gate, rig.counter, rig.evacuation):
            while probe.statistics().depth < probe.capacity:
                probe.tell(Release(incident=0))
        await rig.up()
        rig.lane.tell(books())
        rig.lane.tell(scan("x"))
        rig.lane.tell(granted("first"))
        await rig.move(OPEN)
        await rig.person()
        await trio.sleep(30.0)
        await rig.device(DeviceDown(reason="gone"))
        await rig.up()
        await trio.sleep(30.0)
        rig.lane.tell(Release(incident=7), system=True)
        await settle()
        assert rig.state == "released"


async def test_the_acknowledgement_is_what_is_sensed(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.lane.tell(Release(incident=7), system=True)
        await settle()
        await rig.move(Barrier.OPENING, RELEASED)
        assert [(ack.barrier, ack.sensed_open) for ack in await acks(rig)] == [
            ("closed", False),
            ("opening", False),
            ("released", True),
        ]


async def test_a_release_told_again_is_acknowledged_again(autojump_clock):
    async with board_lane() as rig:
        await rig.to("released")
        rig.lane.tell(Release(incident=1), system=True)
        assert [ack.sensed_open for ack in await acks(rig)] == [True]
        assert await heard(rig.gate) == [GateRelease()]


async def test_a_barrier_that_falls_shut_while_released_is_released_again(autojump_clock):
    async with board_lane() as rig:
        await rig.to("released")
        await rig.move(CLOSED)
        assert await heard(rig.gate) == [GateRelease()]
        assert [ack.sensed_open for ack in await acks(rig)] == [False]


async def test_a_board_that_comes_back_is_released_at_once(autojump_clock):
    async with board_lane() as rig:
        rig.lane.tell(Release(incident=7), system=True)
        await rig.forget()
        await rig.up()
        assert rig.state == "released"
        assert only(await heard(rig.gate), GateRelease) == [GateRelease()]
        assert [ack.barrier for ack in await acks(rig)] == ["closed"]


@pytest.mark.parametrize(("state", "passed"), [("granted", 0), ("closing", 1)])
async def test_a_running_grant_ends_with_the_emergency_and_who_flees_costs_nobody_a_ticket(
    autojump_clock, state, passed
):
    async with board_lane() as rig:
        await rig.to(state)
        rig.lane.tell(Release(incident=7), system=True)
        (ended,) = only(await rig.said(), Ended)
        assert (ended.grant, ended.passed, ended.why) == (1, passed, EndReason.EMERGENCY)
        await rig.person()
        (person,) = await rig.said()
        assert (person.kind, person.grant) == (PassageKind.EMERGENCY, None)


async def test_people_who_are_let_in_by_hand_end_no_grant_in_an_emergency(autojump_clock):
    from actors.lane import OpenLane

    async with board_lane() as rig:
        await rig.to_idle()
        await rig.lane.ask(OpenLane(pax=2, reason="guests", by="ann"), 1.0)
        rig.lane.tell(Release(incident=7), system=True)
        assert await rig.said() == [] and rig.state == "released"


@pytest.mark.parametrize(
    "message",
    [
        Rearm(user="ann"),
        DeviceUp(counters=Counters(EPOCH, 0, 0), barrier=CLOSED),
        DeviceDown(reason="unplugged"),
        BarrierChanged(barrier=CLOSED, detail=""),
        BarrierChanged(barrier=RELEASED, detail=""),
        PassageCounted(direction=Direction.ENTRY, epoch=EPOCH, counter=1),
        books(),
        granted("first"),
        scan("n7"),
        Release(incident=2),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_nothing_but_a_restore_leads_out_of_a_release(autojump_clock, message):
    async with board_lane() as rig:
        await rig.to("released")
        rig.lane.tell(message)
        await trio.sleep(3600.0)
        assert rig.state == "released"
        assert only(await heard(rig.gate), GateClose, GateRearm, GateOpen) == []


async def test_a_restore_of_another_incident_does_not_end_an_older_lanes_wait(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.lane.tell(Restore(incident=9), system=True)
        await settle()
        assert rig.state == "idle"


async def test_after_the_restore_a_person_re_arms_and_the_lane_is_believed_when_it_is_sensed_closed(autojump_clock):
    async with board_lane() as rig:
        await rig.to("released")
        rig.lane.tell(Restore(incident=1), system=True)
        await settle()
        assert rig.state == "needs_rearm" and await heard(rig.gate) == []
        await trio.sleep(3600.0)
        assert rig.state == "needs_rearm", "no clock re-arms"
        rig.lane.tell(Rearm(user="ann"))
        assert await heard(rig.gate) == [GateRearm()] and rig.state == "rearming"
        await rig.move(Barrier.CLOSING, CLOSED)
        assert rig.state == "recovering", "what was counted meanwhile is compared with the books"
        await rig.recover()
        assert rig.state == "idle" and rig.actor._face.view.mode == "bidirectional"
        await rig.to_deciding()


async def test_a_gate_that_does_not_close_after_re_arming_needs_it_again(autojump_clock):
    async with board_lane() as rig:
        await rig.to("rearming")
        await trio.sleep(REARM_S + 0.1)
        assert rig.state == "needs_rearm"
        assert [line.code for line in only(await heard(rig.hub), FeedEvent)] == ["not_rearmed"]


@pytest.mark.parametrize("state", ["needs_rearm", "rearming"])
async def test_a_second_evacuation_in_the_middle_of_the_first_ones_end(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to(state)
        rig.lane.tell(Release(incident=2), system=True)
        await settle()
        assert rig.state == "released"
        rig.lane.tell(Rearm(user="ann"))
        await settle()
        assert rig.state == "released"
        gate = await heard(rig.gate)
        assert gate == [GateRelease()]


async def test_what_passed_in_an_evacuation_is_not_booked_twice_afterwards(autojump_clock):
    async with board_lane() as rig:
        await rig.to("released")
        await rig.person(Direction.EXIT, count=40)
        assert [passed.seq for passed in await rig.said()] == list(range(1, 41))
        rig.exits += 2  # while the board was not heard
        await rig.device(DeviceDown(reason="unplugged"))
        await rig.up()
        assert [(passed.seq, passed.kind) for passed in await rig.said()] == [
            (41, PassageKind.EMERGENCY),
            (42, PassageKind.EMERGENCY),
        ]
        rig.lane.tell(Restore(incident=1), system=True)
        rig.lane.tell(Rearm(user="ann"))
        await settle()
        await rig.move(CLOSED)
        await rig.recover(books(entries=0, exits=42))
        assert await rig.said() == [] and rig.state == "idle"


async def test_a_released_board_that_is_not_heard_any_more_is_not_called_open(autojump_clock):
    async with board_lane() as rig:
        await rig.to("released")
        await rig.device(DeviceDown(reason="unplugged"))
        assert [(ack.barrier, ack.sensed_open) for ack in await acks(rig)] == [("unknown", False)]


async def test_a_server_started_in_an_evacuation_compares_the_books_and_counts_at_once(autojump_clock):
    async with board_lane() as rig:
        rig.lane.tell(Release(incident=7), system=True)
        rig.barrier, rig.entries, rig.exits = RELEASED, 5, 3
        await rig.up()
        assert only(await heard(rig.counter), AskBooks) == [AskBooks()]
        rig.lane.tell(books(entries=5, exits=1))
        await rig.up()
        assert [(passed.seq, passed.kind) for passed in await rig.said()] == [
            (2, PassageKind.EXIT),
            (3, PassageKind.EXIT),
        ]
        await rig.person(Direction.EXIT)
        assert [(passed.seq, passed.kind) for passed in await rig.said()] == [(4, PassageKind.EMERGENCY)]
        assert rig.state == "released"


async def test_books_that_do_not_come_in_an_evacuation_are_asked_for_again(autojump_clock):
    async with board_lane() as rig:
        rig.lane.tell(Release(incident=7), system=True)
        rig.barrier = RELEASED
        await rig.up()
        await rig.forget()
        await trio.sleep(SETTLE_S + 0.1)
        assert only(await heard(rig.counter), AskBooks) == [AskBooks()]
        rig.lane.tell(books(entries=None, exits=None, epoch=None))
        assert [type(word) for word in await rig.said()] == [CounterBaseline], "nothing was ever booked here"
        await rig.person(Direction.EXIT)
        assert [passed.seq for passed in await rig.said()] == [1]


async def test_a_board_that_is_reset_in_an_evacuation_counts_on_from_where_it_is(autojump_clock):
    async with board_lane() as rig:
        await rig.to("released")
        await rig.person(Direction.EXIT, count=2)
        await rig.said()
        await rig.device(DeviceDown(reason="reset"))
        rig.epoch, rig.entries, rig.exits, rig.barrier = "e2", 0, 0, CLOSED
        await rig.up()
        assert GateRelease() in await heard(rig.gate)
        (baseline,) = await rig.said()
        assert (type(baseline), baseline.epoch, baseline.exits) == (CounterBaseline, "e2", 0)
        await rig.person(Direction.EXIT)
        assert [(passed.boot, passed.seq, passed.kind) for passed in await rig.said()] == [
            ("e2", 1, PassageKind.EMERGENCY)
        ]


async def test_a_board_that_comes_back_before_re_arming_is_shown_as_there(autojump_clock):
    async with board_lane() as rig:
        await rig.to("needs_rearm")
        await rig.device(DeviceDown(reason="unplugged"))
        assert not rig.actor._face.view.available
        await rig.up()
        assert rig.actor._face.view.available and rig.state == "needs_rearm"


@pytest.mark.parametrize(("state", "ends"), [("idle", []), ("granted", [(1, 0)]), ("closing", [(1, 1)])])
async def test_a_board_released_at_the_board_itself_uses_up_no_ticket_and_ends_there_too(autojump_clock, state, ends):
    async with board_lane() as rig:
        await rig.to(state)
        await rig.move(RELEASED)
        assert rig.state == "needs_rearm"
        assert [(ended.grant, ended.passed) for ended in await rig.said()] == ends
        rig.lane.tell(scan("n9"))
        await rig.person(Direction.EXIT)
        await rig.person()
        assert [passed.kind for passed in await rig.said()] == [PassageKind.EMERGENCY] * 2
        assert await heard(rig.admission) == [] and only(await heard(rig.gate), GateClose, GateRearm, GateOpen) == []
        await rig.move(Barrier.CLOSING, CLOSED)
        await rig.recover()
        assert rig.state == "idle"


async def test_a_visitor_who_waits_when_the_board_is_released_is_not_charged(autojump_clock):
    async with board_lane() as rig:
        await rig.to("deciding")
        await rig.move(RELEASED)
        rig.lane.tell(granted("first"))
        assert [(ended.grant, ended.nonce, ended.why) for ended in await rig.said()] == [
            (None, "first", EndReason.NEVER_OPENED),
            (1, "first", EndReason.NEVER_OPENED),
        ]


async def test_after_an_evacuation_a_barrier_that_falls_shut_is_not_taken_for_re_armed(autojump_clock):
    async with board_lane() as rig:
        await rig.to("needs_rearm")
        await rig.move(CLOSED)
        await rig.up()
        assert rig.state == "needs_rearm"
