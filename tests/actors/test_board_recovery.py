"""A lane that comes back, from a crash, a restart or a lost board: all who were counted are booked, and no grant stays.

The board counts on without us; the ledger knows what was booked. The difference is what we missed.
"""

from __future__ import annotations

import pytest
import trio

from actors.counter import AskBooks
from actors.gate import GateClose, GateOpen, GateReport, GateResume
from actors.lane._board import SETTLE_S
from actors.testing import EPOCH, board_lane, books, granted, heard, lane_config, only, open_grant, settle
from drivers.base import Barrier, DeviceDown, DeviceUp, PassageCounted
from protocols.messages import Counters, Direction, Ended, EndReason, LaneMode, Passed, Release
from storage.interfaces import CounterBaseline

OPEN, CLOSED, RELEASED = Barrier.OPEN, Barrier.CLOSED, Barrier.RELEASED
ENTRY, EXIT = Direction.ENTRY, Direction.EXIT


def told(statements):
    """Statements in a form that is short to compare."""
    return [
        (str(said.direction), said.seq, str(said.kind), said.grant)
        if isinstance(said, Passed)
        else ("end", said.grant, said.passed, str(said.why))
        for said in statements
    ]


async def test_a_lane_that_starts_asks_its_gate_and_then_the_books(autojump_clock):
    async with board_lane() as rig:
        assert await heard(rig.gate) == [GateReport()]
        assert rig.state == "unavailable" and await heard(rig.counter) == []
        await rig.up()
        assert rig.state == "recovering" and await heard(rig.counter) == [AskBooks()]


async def test_the_first_counters_ever_seen_are_nobodys_passage(autojump_clock):
    async with board_lane() as rig:
        rig.entries, rig.exits = 4711, 4700
        await rig.up()
        await rig.recover(books(entries=None, exits=None, epoch=None))
        (baseline,) = await rig.said()
        assert isinstance(baseline, CounterBaseline)
        assert (baseline.epoch, baseline.entries, baseline.exits) == (EPOCH, 4711, 4700)
        assert rig.state == "idle"
        await rig.person()
        assert told(await rig.said()) == [("entry", 4712, "forced", None)], "counting goes on from there"


async def test_what_the_board_counted_meanwhile_is_booked_first_to_the_open_grant(autojump_clock):
    async with board_lane() as rig:
        rig.entries, rig.exits = 105, 22
        await rig.up()
        await rig.recover(books(open_grant(9, pax=3, passed=1), entries=100, exits=20))
        assert told(await rig.said()) == [
            ("entry", 101, "granted", 9),
            ("entry", 102, "granted", 9),
            ("end", 9, 3, "recovered"),
            ("entry", 103, "unattended", None),
            ("entry", 104, "unattended", None),
            ("entry", 105, "unattended", None),
            ("exit", 21, "exit", None),
            ("exit", 22, "exit", None),
        ]
        assert rig.state == "idle"


async def test_a_grant_on_which_nobody_passed_is_free_again(autojump_clock):
    async with board_lane() as rig:
        rig.entries = 100
        await rig.up()
        await rig.recover(books(open_grant(9, pax=3), open_grant(10, nonce="n2"), entries=100))
        assert told(await rig.said()) == [("end", 9, 0, "recovered"), ("end", 10, 0, "recovered")]


async def test_two_open_grants_share_the_people_in_the_order_they_were_given(autojump_clock):
    async with board_lane() as rig:
        rig.entries = 103
        await rig.up()
        await rig.recover(books(open_grant(9, pax=2), open_grant(10, nonce="n2", pax=2), entries=100))
        assert told(await rig.said()) == [
            ("entry", 101, "granted", 9),
            ("entry", 102, "granted", 9),
            ("end", 9, 2, "recovered"),
            ("entry", 103, "granted", 10),
            ("end", 10, 1, "recovered"),
        ]


async def test_a_board_whose_counters_were_reset_begins_anew_and_old_grants_are_left_to_people(autojump_clock):
    async with board_lane() as rig:
        rig.epoch, rig.entries, rig.exits = "e2", 3, 1
        await rig.up()
        await rig.recover(books(open_grant(9, epoch=EPOCH), open_grant(10, epoch="e2"), entries=100, exits=50))
        baseline, ended = await rig.said()
        assert isinstance(baseline, CounterBaseline)
        assert (baseline.epoch, baseline.entries, baseline.exits) == ("e2", 3, 1)
        assert told([ended]) == [("end", 10, 0, "recovered")]
        assert rig.state == "idle"


async def test_counters_below_the_booked_ones_book_nobody(autojump_clock):
    async with board_lane() as rig:
        rig.entries, rig.exits = 90, 5
        await rig.up()
        await rig.recover(books(open_grant(9), entries=100, exits=50))
        assert told(await rig.said()) == [("end", 9, 0, "recovered")]


async def test_while_the_barrier_stands_open_for_an_old_grant_nothing_is_settled(autojump_clock):
    async with board_lane() as rig:
        rig.entries, rig.barrier = 100, OPEN
        await rig.up()
        await rig.recover(books(open_grant(9, pax=2), entries=100))
        assert rig.state == "recovering" and await rig.said() == []
        await rig.person()
        assert rig.state == "recovering"
        await rig.move(Barrier.CLOSING, CLOSED)
        assert told(await rig.said()) == [("entry", 101, "granted", 9), ("end", 9, 1, "recovered")], (
            "who passes meanwhile passes on the old grant, and is booked once"
        )
        assert rig.state == "idle"


async def test_who_passes_before_the_books_come_is_booked_once(autojump_clock):
    async with board_lane() as rig:
        rig.entries = 100
        await rig.up()
        await rig.person()
        await rig.person(EXIT)
        assert await rig.said() == []
        await rig.recover(books(open_grant(9), entries=100, exits=0))
        assert told(await rig.said()) == [
            ("entry", 101, "granted", 9),
            ("end", 9, 1, "recovered"),
            ("exit", 1, "exit", None),
        ]
        await rig.person()
        assert told(await rig.said()) == [("entry", 102, "forced", None)]


async def test_a_barrier_that_stays_open_for_an_old_grant_is_closed_in_the_end(autojump_clock):
    async with board_lane() as rig:
        rig.entries, rig.barrier = 100, OPEN
        await rig.up()
        await rig.recover(books(open_grant(9), entries=100))
        await rig.forget()
        await trio.sleep(SETTLE_S + 0.1)
        assert await heard(rig.gate) == [GateClose()] and rig.state == "recovering"
        await rig.move(CLOSED)
        assert told(await rig.said()) == [("end", 9, 0, "recovered")]


async def test_books_that_do_not_come_are_asked_for_again(autojump_clock):
    async with board_lane() as rig:
        await rig.up()
        await heard(rig.counter)
        await trio.sleep(SETTLE_S + 0.1)
        assert await heard(rig.counter) == [AskBooks()]
        assert rig.state == "recovering"


async def test_a_gate_that_never_answers_the_resume_is_asked_again(autojump_clock):
    """Its actor may have died holding the order; without another one the lane would stay shut for ever."""
    async with board_lane() as rig:
        await rig.up()
        rig.lane.tell(books(entries=5))
        assert only(await heard(rig.gate), GateResume) == [GateResume(epoch=EPOCH, entries=5, exits=0)]
        await heard(rig.counter)
        await trio.sleep(SETTLE_S + 0.1)
        assert await heard(rig.counter) == [AskBooks()]
        rig.lane.tell(books(entries=5))
        assert only(await heard(rig.gate), GateResume) == [GateResume(epoch=EPOCH, entries=5, exits=0)]
        rig.entries = 5
        await rig.up()
        assert rig.state == "idle"


async def test_books_asked_for_before_a_further_interruption_do_no_harm(autojump_clock):
    async with board_lane() as rig:
        rig.entries = 100
        await rig.up()
        await rig.device(DeviceDown(reason="unplugged"))
        rig.lane.tell(books(entries=50))
        await settle()
        assert rig.state == "unavailable" and await rig.said() == []
        await rig.up()
        await rig.recover(books(entries=100))
        assert await rig.said() == [] and rig.state == "idle"


async def test_a_gate_found_held_open_after_a_start_waits_for_a_person(autojump_clock):
    async with board_lane() as rig:
        rig.barrier = RELEASED
        await rig.up()
        await rig.recover()
        assert rig.state == "needs_rearm"
        assert only(await heard(rig.gate), GateClose) == []


@pytest.mark.parametrize("mode", [LaneMode.CLOSED, LaneMode.NORMAL_ENTRY])
async def test_a_mode_set_meanwhile_holds_after_the_recovery(autojump_clock, mode):
    async with board_lane(config=lane_config(mode=mode)) as rig:
        await rig.to_idle()
        await rig.device(DeviceDown(reason="unplugged"))
        await rig.up()
        await rig.recover()
        assert rig.actor._face.view.mode == mode.value


# --- a board that comes back in the middle ----------------------------------------------------------------------


async def test_a_grant_is_settled_from_the_counters_when_the_board_was_away(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_granted(grant=5, pax=3)
        await rig.move(OPEN)
        await rig.person()
        await rig.device(DeviceDown(reason="unplugged"))
        rig.entries += 1  # nobody heard of this one
        rig.barrier = CLOSED
        await rig.up()
        await rig.recover(books(open_grant(5, pax=3, passed=1), entries=1))
        assert told(await rig.said()) == [
            ("entry", 1, "granted", 5),
            ("entry", 2, "granted", 5),
            ("end", 5, 2, "recovered"),
        ]


async def test_nobody_passes_on_a_grant_that_was_given_back_even_if_the_books_call_it_open(autojump_clock):
    """The ledger was asked before the lane's own word reached it, or that word was lost: so it is said again."""
    async with board_lane() as rig:
        await rig.to_idle()
        await rig.to_deciding("n4")
        await rig.device(DeviceDown(reason="unplugged"))
        rig.entries += 1
        await rig.up()
        rig.lane.tell(granted("n4", grant=8))
        await rig.recover(books(open_grant(8, nonce="n4"), entries=0))
        assert told(await rig.said()) == [
            ("end", None, 0, "never_opened"),
            ("end", 8, 0, "never_opened"),
            ("end", 8, 0, "recovered"),
            ("entry", 1, "unattended", None),
        ]


async def test_counters_that_jump_in_the_middle_are_settled_with_the_books(autojump_clock):
    async with board_lane() as rig:
        await rig.to_idle()
        rig.epoch, rig.entries, rig.exits = "e2", 0, 0
        await rig.up()
        assert rig.state == "recovering", "the board was reset: its driver says so by coming up anew"
        await rig.device(PassageCounted(direction=ENTRY, epoch="e2", counter=1))
        assert await rig.said() == []
        rig.entries = 1
        await rig.recover(books(entries=0, epoch=EPOCH))
        (baseline,) = await rig.said()
        assert (baseline.epoch, baseline.entries) == ("e2", 1)


# --- the actor dies ---------------------------------------------------------------------------------------------


async def test_a_lane_that_dies_in_the_middle_of_a_passage_settles_it_from_the_counters(autojump_clock):
    async with board_lane(crashes=1) as rig:
        await rig.to_idle()
        await rig.to_granted(grant=5, pax=2)
        await rig.move(OPEN)
        await rig.person()
        await rig.forget()
        await rig.crash()
        assert rig.state == "recovering" and only(await heard(rig.gate), GateReport, GateOpen) == [GateReport()]
        assert await heard(rig.counter) == [AskBooks()]
        rig.lane.tell(books(open_grant(5, pax=2, passed=1), entries=1))
        await rig.up()
        assert rig.state == "recovering", "the barrier is open still"
        await rig.person()
        await rig.move(CLOSED)
        assert told(await rig.said()) == [("entry", 2, "granted", 5), ("end", 5, 2, "recovered")]


async def test_a_grant_told_to_a_lane_that_died_meanwhile_is_given_back(autojump_clock):
    async with board_lane(crashes=1) as rig:
        await rig.to_idle()
        await rig.to_deciding()
        await rig.crash()
        given_up, *_ = only(await rig.said(), Ended)  # by its nonce, whatever becomes of the answer
        assert (given_up.grant, given_up.nonce, given_up.why) == (None, granted().nonce, EndReason.NEVER_OPENED)
        rig.lane.tell(granted(grant=5))
        assert [(ended.grant, ended.why) for ended in only(await rig.said(), Ended)] == [(5, EndReason.NEVER_OPENED)]
        assert only(await heard(rig.gate), GateOpen) == []


async def test_a_lane_that_dies_while_released_comes_back_released(autojump_clock):
    async with board_lane(crashes=1) as rig:
        await rig.to("released")
        await rig.crash()
        assert rig.state == "released"
        await rig.device(DeviceUp(counters=Counters(EPOCH, 0, 0), barrier=RELEASED))
        assert rig.state == "released"
        (ack,) = (await heard(rig.evacuation))[-1:]
        assert (ack.incident, ack.sensed_open) == (1, True)


async def test_a_release_waits_out_no_crash(autojump_clock):
    async with board_lane(crashes=1) as rig:
        await rig.to_idle()
        rig.hub.armed = True
        rig.lane.tell(PassageCounted(direction=EXIT, epoch=EPOCH, counter=1))
        rig.lane.tell(Release(incident=3), system=True)
        await trio.sleep(0.1)
        assert rig.state == "released"
