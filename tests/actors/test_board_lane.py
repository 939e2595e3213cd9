"""A lane on a board: what it asks, opens, counts and says, state by state."""

from __future__ import annotations

import msgspec
import pytest
import trio

from actors.errors import CommandRefused
from actors.gate import GateClose, GateLook, GateOpen
from actors.lane import OpenLane, SetLaneMode
from actors.lane._board import CLOSING_S, DECIDE_S
from actors.testing import DEVICE, EPOCH, BoardRig, board_lane, granted, heard, lane_config, only, scan, settle
from core import Failed
from drivers.base import AlarmKind, Barrier, DeviceDown, GateAlarm, PassageCounted
from protocols.console import FeedEvent, LaneView
from protocols.messages import (
    Booked,
    Decide,
    Denied,
    Direction,
    Ended,
    EndReason,
    GrantState,
    LaneMode,
    PassageKind,
    Passed,
    Release,
)
from storage.interfaces import LedgerUnavailable, OpenCase, RefusedScan

OPEN, OPENING, CLOSED = Barrier.OPEN, Barrier.OPENING, Barrier.CLOSED
ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
SHORT_S = 0.05


async def last_view(rig: BoardRig) -> LaneView:
    return only(await heard(rig.hub), LaneView)[-1]


async def refusals(rig: BoardRig) -> list[str]:
    return [refused.code for refused in only(await heard(rig.books), RefusedScan)]


# --- scan and decision ------------------------------------------------------------------------------------------


async def test_a_scan_is_asked_with_the_counters_as_read_before_opening(autojump_clock):
    async with board_lane() as rig:
        rig.entries, rig.exits = 7, 3
        await rig.to_idle()
        asked_at = trio.current_time()
        rig.lane.tell(scan("n1"), trace="abc")
        question = await rig.admission.expect(Decide)
        assert (question.from_zone, question.to_zone, question.max_pax, question.ttl_s) == ("outside", "park", 10, 8.0)
        assert question.counters == rig.counters()
        assert rig.admission.envelope.deadline == asked_at + DECIDE_S, "a decision that comes later is worth nothing"
        assert rig.admission.envelope.trace == "abc"
        assert await rig.said() == [] and await heard(rig.gate) == []


async def test_a_grant_opens_for_its_people_and_a_late_open_is_worth_nothing(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding()
        rig.lane.tell(granted(pax=4, passed=1, ttl_s=6.0))
        order = await rig.gate.expect(GateOpen)
        assert (order.direction, order.pax) == (ENTRY, 3), "one of the four had passed before"
        assert rig.gate.envelope.deadline == trio.current_time() + 6.0
        view = await last_view(rig)
        assert (view.state, view.passed, view.pax, view.last_code) == ("granted", 1, 4, "ok")


async def test_one_person_passes_and_the_grant_ends_complete_once_the_barrier_is_closed(autojump_clock):
    async with board_lane() as rig:
        rig.entries = 41
        await rig.to_idle()
        await rig.to_granted(grant=77)
        await rig.move(OPENING, OPEN)
        await rig.person()
        (passed,) = await rig.said()
        assert (passed.kind, passed.grant, passed.boot, passed.seq) == (PassageKind.GRANTED, 77, EPOCH, 42)
        assert (passed.direction, passed.from_zone, passed.to_zone, passed.device) == (ENTRY, "outside", "park", DEVICE)
        assert rig.state == "closing"
        await rig.move(Barrier.CLOSING)
        assert await rig.said() == [], "not over while the barrier moves"
        await rig.move(CLOSED)
        (ended,) = await rig.said()
        assert (ended.grant, ended.nonce, ended.passed, ended.why) == (77, "n1", 1, EndReason.COMPLETE)
        assert rig.state == "idle"


async def test_whoever_steps_back_loses_nothing(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted()
        await rig.move(OPENING, OPEN, Barrier.CLOSING, CLOSED)
        (ended,) = await rig.said()
        assert (ended.passed, ended.why) == (0, EndReason.TIMEOUT)
        assert rig.state == "idle"


async def test_a_barrier_that_has_not_opened_yet_ends_no_grant(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted()
        await rig.move(Barrier.UNKNOWN, CLOSED)
        assert rig.state == "granted" and await rig.said() == []


async def test_nobody_comes_until_the_time_is_over(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted()
        await heard(rig.gate)
        await trio.sleep(8.0 - SHORT_S)
        assert rig.state == "granted"
        await trio.sleep(2 * SHORT_S)
        assert only(await heard(rig.gate), GateClose), "an opening on its way must not outlive the grant"
        (ended,) = await rig.said()
        assert (ended.passed, ended.why) == (0, EndReason.TIMEOUT)
        assert rig.state == "idle"


async def test_a_group_passes_partly_and_the_rest_is_free_again(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted(pax=5)
        await rig.move(OPENING, OPEN)
        for _ in range(3):
            await rig.person()
        assert rig.state == "granted"
        assert (await last_view(rig)).passed == 3
        await trio.sleep(8.0 + SHORT_S)
        assert rig.state == "closing"
        await rig.move(CLOSED)
        *passages, ended = await rig.said()
        assert [(passed.kind, passed.seq) for passed in passages] == [(PassageKind.GRANTED, n) for n in (1, 2, 3)]
        assert (ended.passed, ended.why) == (3, EndReason.TIMEOUT)


async def test_who_still_passes_while_the_barrier_closes_passes_on_the_grant(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted(pax=2)
        await rig.move(OPEN)
        await rig.person()
        await trio.sleep(8.0 + SHORT_S)
        assert rig.state == "closing"
        await rig.person()
        await rig.move(CLOSED)
        first, second, ended = await rig.said()
        assert (first.grant, second.grant, second.kind) == (1, 1, PassageKind.GRANTED)
        assert (ended.passed, ended.why) == (2, EndReason.COMPLETE)


async def test_a_barrier_that_does_not_close_is_told_again_and_shown(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted()
        await rig.move(OPEN)
        await rig.person()
        await rig.forget()
        await trio.sleep(2 * CLOSING_S + SHORT_S)
        assert len(only(await heard(rig.gate), GateClose)) == 2
        assert (await last_view(rig)).alarm == "not_closed"
        assert await rig.said() == [] and rig.state == "closing", "people may still be on their way through"


async def test_a_refusal_opens_nothing_and_shows_words_to_visitor_and_staff(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding()
        rig.lane.tell(Denied(nonce="n1", code="already_used", lane_of_use="g2", used_at=0.0))
        messages = await heard(rig.hub)
        view = only(messages, LaneView)[-1]
        assert (view.last_code, view.last_text_zh, view.last_text_en) == (
            "already_used",
            "此票已使用",
            "This ticket was used already",
        )
        (line,) = only(messages, FeedEvent)
        assert line.code == "already_used" and "g2" in line.text_en
        assert rig.state == "idle" and await heard(rig.gate) == [] and await rig.said() == []


async def test_without_a_decision_in_time_the_visitor_is_refused_and_the_scan_given_up(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding("n9")
        await trio.sleep(DECIDE_S)
        await settle()
        (ended,) = await rig.said()
        assert (ended.grant, ended.nonce, ended.passed, ended.why) == (None, "n9", 0, EndReason.NEVER_OPENED)
        assert rig.state == "idle" and await heard(rig.gate) == []
        assert (await last_view(rig)).last_code == "unavailable"


async def test_a_grant_that_comes_too_late_opens_nothing_and_is_given_back(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding("n9")
        await trio.sleep(DECIDE_S + SHORT_S)
        await rig.forget()
        rig.lane.tell(granted("n9", grant=5))
        (ended,) = await rig.said()
        assert (ended.grant, ended.nonce, ended.passed, ended.why) == (5, "n9", 0, EndReason.NEVER_OPENED)
        assert await heard(rig.gate) == [] and rig.state == "idle"


async def test_a_late_grant_for_the_visitor_before_does_not_open_for_this_one(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding("old")
        await trio.sleep(DECIDE_S + SHORT_S)
        await rig.to_deciding("new")
        await rig.forget()
        rig.lane.tell(granted("old", grant=5))
        (ended,) = await rig.said()
        assert (ended.grant, ended.why) == (5, EndReason.NEVER_OPENED)
        assert rig.state == "deciding" and await heard(rig.gate) == []
        rig.lane.tell(Denied(nonce="old", code="void"))
        await settle()
        assert rig.state == "deciding", "nor does a refusal meant for somebody else"


@pytest.mark.parametrize("state", [GrantState.UNRESOLVED, GrantState.COMMITTED, GrantState.CANCELLED])
async def test_only_an_open_grant_opens(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding()
        rig.lane.tell(granted(state=state, fresh=False))
        await settle()
        assert rig.state == "idle" and await heard(rig.gate) == [] and await rig.said() == []
        assert (await last_view(rig)).last_code == "in_progress"


async def test_when_it_is_unknown_whether_a_grant_was_written_the_lane_gives_it_up(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding("n3")
        question = Decide(scan=scan("n3"), from_zone="outside", to_zone="park", max_pax=1, ttl_s=1)
        rig.lane.tell(Failed(question, LedgerUnavailable()))
        (ended,) = await rig.said()
        assert (ended.grant, ended.nonce, ended.why) == (None, "n3", EndReason.NEVER_OPENED)
        assert rig.state == "idle" and await heard(rig.gate) == []
        assert (await last_view(rig)).last_code == "unavailable"


async def test_an_admission_without_room_refuses_at_once(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        for number in range(rig.admission.capacity):
            rig.admission.tell(scan(f"old{number}"))
        rig.lane.tell(scan())
        assert await refusals(rig) == ["unavailable"]
        assert rig.state == "idle" and await rig.said() == []


@pytest.mark.parametrize("left_by", [DeviceDown(reason="unplugged"), Release(incident=1)])
async def test_a_question_that_is_abandoned_is_given_up_whatever_its_answer_will_be(autojump_clock, left_by):
    """The answer may be lost with a dying ledger: without the lane's word the hold would stay for ever."""
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding("n4")
        rig.lane.tell(left_by)
        (ended,) = await rig.said()
        assert (ended.grant, ended.nonce, ended.passed, ended.why) == (None, "n4", 0, EndReason.NEVER_OPENED)
        rig.lane.tell(granted("n4", grant=8))
        (late,) = await rig.said()
        assert (late.grant, late.why) == (8, EndReason.NEVER_OPENED)
        assert only(await heard(rig.gate), GateOpen) == []


# --- who scans when he may not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("unavailable", "unavailable"),
        ("recovering", "unavailable"),
        ("deciding", "in_progress"),
        ("granted", "in_progress"),
        ("released", "emergency_go"),
        ("needs_rearm", "lane_closed"),
        ("rearming", "lane_closed"),
    ],
)
async def test_a_scan_at_the_wrong_moment_is_refused_without_asking_anybody(autojump_clock, state, code):
    async with board_lane() as rig:
        await rig.to(state)
        await rig.forget()
        rig.lane.tell(scan("second"))
        assert await refusals(rig) == [code]
        assert rig.state == state
        assert await heard(rig.admission) == [] and await heard(rig.gate) == [] and await rig.said() == []
        assert (await last_view(rig)).last_code == code


@pytest.mark.parametrize("mode", [LaneMode.CLOSED, LaneMode.NORMAL_EXIT, LaneMode.MAINTENANCE])
async def test_a_lane_that_lets_nobody_in_asks_nobody(autojump_clock, mode):
    async with board_lane(config=lane_config(mode=mode)) as rig:
        await rig.to_idle()
        rig.lane.tell(scan())
        assert await refusals(rig) == ["lane_closed"]
        assert await heard(rig.admission) == []


async def test_the_next_visitor_may_scan_while_the_barrier_closes_and_nobody_else(autojump_clock):
    async with board_lane() as rig:
        await rig.to("closing")
        rig.lane.tell(scan("second"))
        rig.lane.tell(scan("third"))
        assert await refusals(rig) == ["in_progress"], "only one waits in software"
        assert await heard(rig.admission) == []
        await rig.move(CLOSED)
        (question,) = await heard(rig.admission)
        assert question.scan.nonce == "second" and rig.state == "deciding"


async def test_the_gate_is_looked_at_when_somebody_waits_for_the_barrier_to_close(autojump_clock):
    async with board_lane() as rig:
        await rig.to("closing")
        assert only(await heard(rig.gate), GateLook) == [], "nobody waits"
        rig.lane.tell(scan("second"))
        rig.lane.tell(scan("third"))
        assert only(await heard(rig.gate), GateLook) == [GateLook()], "once, and not for who is refused"


async def test_a_scan_that_waited_too_long_for_the_barrier_is_dropped(autojump_clock):
    async with board_lane() as rig:
        await rig.to("closing")
        rig.lane.tell(scan("second"), deadline=trio.current_time() + 3.0)
        await trio.sleep(3.1)
        await rig.move(CLOSED)
        assert rig.state == "idle" and await heard(rig.admission) == []


@pytest.mark.parametrize("state", ["deciding", "granted", "closing"])
async def test_the_same_ticket_again_while_its_passage_runs_is_in_progress(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to(state)
        rig.lane.tell(scan("again", code="code-first"))
        assert await refusals(rig) == ["in_progress"]
        assert rig.state == state and await heard(rig.admission) == []


# --- counting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "mode", "direction", "kind"),
    [
        ("idle", LaneMode.BIDIRECTIONAL, ENTRY, PassageKind.FORCED),
        ("idle", LaneMode.BIDIRECTIONAL, EXIT, PassageKind.EXIT),
        ("idle", LaneMode.NORMAL_EXIT, EXIT, PassageKind.EXIT),
        ("idle", LaneMode.NORMAL_ENTRY, EXIT, PassageKind.REVERSE),
        ("idle", LaneMode.CLOSED, ENTRY, PassageKind.FORCED),
        ("deciding", LaneMode.BIDIRECTIONAL, ENTRY, PassageKind.FORCED),
        ("granted", LaneMode.BIDIRECTIONAL, ENTRY, PassageKind.GRANTED),
        ("granted", LaneMode.BIDIRECTIONAL, EXIT, PassageKind.EXIT),
        ("granted", LaneMode.NORMAL_ENTRY, EXIT, PassageKind.REVERSE),
        ("closing", LaneMode.BIDIRECTIONAL, ENTRY, PassageKind.TAILGATE),
        ("released", LaneMode.BIDIRECTIONAL, ENTRY, PassageKind.EMERGENCY),
        ("released", LaneMode.BIDIRECTIONAL, EXIT, PassageKind.EMERGENCY),
        ("needs_rearm", LaneMode.BIDIRECTIONAL, EXIT, PassageKind.EMERGENCY),
        ("rearming", LaneMode.BIDIRECTIONAL, EXIT, PassageKind.EMERGENCY),
    ],
)
async def test_why_somebody_passed_is_judged_by_the_state_of_the_lane(autojump_clock, state, mode, direction, kind):
    async with board_lane(config=lane_config(mode=mode)) as rig:
        await rig.to(state)
        await rig.person(direction)
        (passed,) = await rig.said()
        assert (passed.kind, passed.direction) == (kind, direction)
        assert passed.grant == (1 if kind is PassageKind.GRANTED else None)
        inward = (passed.from_zone, passed.to_zone) == ("outside", "park")
        assert inward == (direction is ENTRY)


async def test_who_follows_on_the_heels_of_an_alarm_is_a_tailgate(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.lane.tell(GateAlarm(kind=AlarmKind.TAILGATE))
        await rig.person()
        await trio.sleep(11.0)
        await rig.person()
        assert [passed.kind for passed in await rig.said()] == [PassageKind.TAILGATE, PassageKind.FORCED]


async def test_a_count_that_jumps_is_that_many_people_each_with_a_number_of_its_own(autojump_clock):
    async with board_lane() as rig:
        rig.entries = 100
        await rig.to_idle()
        await rig.to_granted(pax=2)
        await rig.move(OPEN)
        await rig.person(count=3)
        assert [(passed.seq, passed.kind) for passed in await rig.said()] == [
            (101, PassageKind.GRANTED),
            (102, PassageKind.GRANTED),
            (103, PassageKind.TAILGATE),
        ], "the third came along with two who had a ticket"


async def test_a_count_said_twice_is_one_person(autojump_clock):
    async with board_lane() as rig:
        rig.entries = rig.exits = 9
        await rig.to_idle()
        await rig.to_granted(pax=3)
        await rig.person()
        await rig.device(PassageCounted(direction=ENTRY, epoch=EPOCH, counter=10))
        await rig.device(PassageCounted(direction=ENTRY, epoch=EPOCH, counter=4))
        await rig.move(OPEN)  # carries the same counters
        assert [passed.seq for passed in await rig.said()] == [10]


async def test_a_count_of_another_epoch_is_nobody(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.device(PassageCounted(direction=ENTRY, epoch="e0", counter=900))
        assert await rig.said() == []


async def test_a_person_whose_own_report_was_lost_is_counted_by_the_next_word_about_the_barrier(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted()
        await rig.move(OPEN)
        rig.entries += 1
        await rig.move(CLOSED)
        passed, ended = await rig.said()
        assert (passed.seq, passed.kind, passed.grant) == (1, PassageKind.GRANTED, 1)
        assert (ended.passed, ended.why) == (1, EndReason.COMPLETE)


async def test_the_console_counts_what_is_on_disk_not_what_was_said(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        booked = Booked(device=DEVICE, boot=EPOCH, seq=1, direction=ENTRY, kind=PassageKind.GRANTED, repeated=False)
        rig.lane.tell(booked)
        rig.lane.tell(msgspec.structs.replace(booked, repeated=True))
        rig.lane.tell(msgspec.structs.replace(booked, direction=EXIT))
        view = await last_view(rig)
        assert (view.entries, view.exits) == (1, 1)
        assert len(await heard(rig.occupancy)) == 2


async def test_the_console_is_told_of_changes_only(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.move(CLOSED)
        await rig.move(CLOSED)
        assert await heard(rig.hub) == []
        await rig.move(OPEN)
        assert [view.barrier for view in await heard(rig.hub)] == ["open"]


# --- alarms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(AlarmKind))
async def test_an_alarm_is_shown_and_some_are_a_case_for_people(autojump_clock, kind):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.lane.tell(GateAlarm(kind=kind))
        messages = await heard(rig.hub)
        assert only(messages, LaneView)[-1].alarm == kind.value
        (line,) = only(messages, FeedEvent)
        assert line.kind == "alarm" and line.text_zh != kind.value, "has a word in Chinese"
        people_look = kind in {AlarmKind.TAILGATE, AlarmKind.REVERSE, AlarmKind.INTRUSION, AlarmKind.FORCED}
        assert [case.kind for case in only(await heard(rig.books), OpenCase)] == [kind.value] * people_look
        assert rig.state == "idle"


async def test_an_alarm_that_is_over_is_shown_no_longer(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.lane.tell(GateAlarm(kind=AlarmKind.LOITERING))
        await trio.sleep(9.0)
        assert (await last_view(rig)).alarm == "loitering"
        rig.lane.tell(GateAlarm(kind=AlarmKind.PINCH))
        await trio.sleep(9.0)
        assert (await last_view(rig)).alarm == "pinch", "a newer one begins anew"
        await trio.sleep(1.1)
        assert (await last_view(rig)).alarm == ""


# --- what people command ----------------------------------------------------------------------------------------


async def test_a_mode_is_set_with_a_reason_and_lasts(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        assert await rig.lane.ask(SetLaneMode(mode=LaneMode.CLOSED, reason="lunch", by="ann"), 1.0) is None
        messages = await heard(rig.hub)
        assert only(messages, LaneView)[-1].mode == "closed"
        assert "ann" in only(messages, FeedEvent)[0].text_en
        rig.lane.tell(scan())
        assert await refusals(rig) == ["lane_closed"]
        await rig.lane.ask(SetLaneMode(mode=LaneMode.NORMAL_ENTRY, reason="back", by="ann"), 1.0)
        await rig.to_deciding()


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (SetLaneMode(mode=LaneMode.EMERGENCY_RELEASED, reason="fire", by="ann"), "bad_mode"),
        (SetLaneMode(mode=LaneMode.NEEDS_REARM, reason="why not", by="ann"), "bad_mode"),
        (SetLaneMode(mode=LaneMode.CLOSED, reason=" ", by="ann"), "reason_required"),
        (OpenLane(pax=0, reason="vip", by="ann"), "bad_pax"),
        (OpenLane(pax=51, reason="vip", by="ann"), "bad_pax"),
        (OpenLane(pax=1, reason="", by="ann"), "reason_required"),
    ],
)
async def test_a_command_that_does_not_fit_changes_nothing(autojump_clock, order, code):
    async with board_lane() as rig:
        await rig.to_idle()
        with pytest.raises(CommandRefused) as refused:
            await rig.lane.ask(order, 1.0)
        assert refused.value.code == code and refused.value.text_zh
        assert await heard(rig.gate) == [] and await heard(rig.hub) == [] and rig.state == "idle"


async def test_people_let_in_by_hand_are_booked_as_staff_and_end_no_grant(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.lane.ask(OpenLane(pax=2, reason="guests", by="ann"), 1.0)
        (order,) = only(await heard(rig.gate), GateOpen)
        assert order.pax == 2 and rig.state == "granted"
        await rig.move(OPEN)
        await rig.person()
        await rig.person()
        assert rig.state == "closing"
        await rig.person()
        await rig.move(CLOSED)
        assert [(passed.kind, passed.grant) for passed in await rig.said()] == [
            (PassageKind.STAFF, None),
            (PassageKind.STAFF, None),
            (PassageKind.TAILGATE, None),
        ]
        assert rig.state == "idle"


@pytest.mark.parametrize(
    "state", ["unavailable", "recovering", "deciding", "granted", "closing", "released", "needs_rearm", "rearming"]
)
async def test_a_lane_that_is_not_idle_cannot_be_opened_by_hand(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to(state)
        with pytest.raises(CommandRefused) as refused:
            await rig.lane.ask(OpenLane(pax=1, reason="guests", by="ann"), 1.0)
        assert refused.value.code == "lane_busy"
        assert only(await heard(rig.gate), GateOpen) == []


async def test_while_released_no_mode_is_set(autojump_clock):
    async with board_lane() as rig:
        await rig.to("released")
        with pytest.raises(CommandRefused) as refused:
            await rig.lane.ask(SetLaneMode(mode=LaneMode.CLOSED, reason="close it!", by="ann"), 1.0)
        assert refused.value.code == "released"
        assert (await heard(rig.hub), await heard(rig.gate), rig.state) == ([], [], "released")


# --- the board goes away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["recovering", "idle", "deciding", "granted", "closing"])
async def test_a_board_that_goes_away_makes_the_lane_unavailable_and_ends_no_grant(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to(state)
        await rig.device(DeviceDown(reason="unplugged"))
        assert rig.state == "unavailable"
        assert [ended for ended in only(await rig.said(), Ended) if ended.grant is not None] == [], (
            "only its counters can say whether somebody passed"
        )
        view = await last_view(rig)
        assert (view.available, view.barrier, view.state) == (False, "unknown", "unavailable")
        await rig.up()
        assert rig.state == "recovering"


@pytest.mark.parametrize("state", ["released", "needs_rearm", "rearming"])
async def test_a_released_lane_stays_released_without_its_board(autojump_clock, state):
    async with board_lane() as rig:
        await rig.to(state)
        await rig.device(DeviceDown(reason="unplugged"))
        assert rig.state == state
        assert (await last_view(rig)).available is False


async def test_no_word_of_the_lane_carries_the_code(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        secret = "PF1:SECRET-TICKET-CODE"
        rig.lane.tell(scan("n1", code=secret))
        await settle()
        rig.lane.tell(granted())
        rig.lane.tell(scan("n2", code=secret))
        for probe in (rig.hub, rig.books, rig.occupancy, rig.counter):
            assert secret not in repr([msgspec.to_builtins(message) for message in await heard(probe)])


async def test_every_statement_survives_a_wire(autojump_clock):
    from core.testing import serialized

    async with board_lane() as rig:
        with serialized():
            await rig.to_idle()
            await rig.to_granted()
            await rig.move(OPEN)
            await rig.person()
            await rig.move(CLOSED)
            passed, ended = await rig.said()
            assert isinstance(passed, Passed) and isinstance(ended, Ended)
