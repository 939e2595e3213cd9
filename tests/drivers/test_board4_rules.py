"""The pure rules of the board-4 driver: which command next, and how many people a reading is.

Time is a number here.  The properties run the rules against a board that adds people to an opening that is open
already, over a line that loses commands and answers at random: the unkind reading of the board's description.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.turnstile._meaning import reading_of
from drivers.turnstile._speech import Act, Order, Reading
from drivers.turnstile._tally import JUMP_MAX, Step, Tally
from drivers.turnstile._wishes import (
    CLOSE_TRY_S,
    OPEN_REPEAT_S,
    REARM_TRY_S,
    RELEASE_KEEP_S,
    RELEASE_REPEAT_S,
    Wishes,
)
from drivers.turnstile.board4 import Board4Dialect
from protocols.board4 import COUNTER_MODULUS, PAX_MAX, State, Status
from protocols.messages import Counters, Direction

NOBODY = Counters("0", 0, 0)
TICK_S = 0.05


ENTER_CLOSE = Order(Act.CLOSE, Direction.ENTRY)
HOLD = Order(Act.RELEASE)


def enter_open(pax: int, deadline: float) -> Order:
    return Order(Act.OPEN, Direction.ENTRY, pax, deadline)


def seen(state: State) -> Reading:
    """What the rules see of a board 4 in this state."""
    return reading_of(Status(1, state, 0, 0, max(int(state), 0)))


def wishes(*escape: Direction) -> Wishes:
    made = Wishes(Board4Dialect(1, escape or (Direction.EXIT,)).style)
    made.observe(seen(State.CLOSED_IDLE), NOBODY, 0.0)
    return made


# --- open -------------------------------------------------------------------------------------------------------------


def test_an_open_is_sent_with_its_deadline() -> None:
    made = wishes()
    made.open(Direction.ENTRY, 2, 5.0, 0.0)
    assert made.due(0.0) == enter_open(2, 5.0)
    assert made.due(0.1) is None


def test_no_more_people_than_the_board_can_be_told() -> None:
    made = wishes()
    made.open(Direction.EXIT, 300, 5.0, 0.0)
    assert made.due(0.0) == Order(Act.OPEN, Direction.EXIT, PAX_MAX, 5.0)


@pytest.mark.parametrize("pax", [0, -1])
def test_an_open_for_nobody_is_refused(pax: int) -> None:
    made = wishes()
    made.open(Direction.ENTRY, pax, 5.0, 0.0)
    assert made.due(0.0) is None
    assert "refused" in made.refused


def test_two_closed_statuses_well_after_the_command_allow_another() -> None:
    made = wishes()
    made.open(Direction.ENTRY, 1, 5.0, 0.0)
    assert made.due(0.0) is not None
    made.observe(seen(State.CLOSED_IDLE), NOBODY, 0.1)
    made.observe(seen(State.CLOSED_IDLE), NOBODY, 0.2)
    assert made.due(0.2) is None  # a slow board
    assert made.due(OPEN_REPEAT_S + 0.01) == enter_open(1, 5.0)
    made.observe(seen(State.CLOSED_IDLE), NOBODY, OPEN_REPEAT_S + 0.1)
    assert made.due(3 * OPEN_REPEAT_S) is None  # one status is not proof: it may have been on its way


@pytest.mark.parametrize(
    "state", [State.OPEN_MANUAL, State.INTRUSION, State.SELF_TEST, State.UNLISTED, State.OPEN_EXIT]
)
def test_without_proof_that_it_is_closed_an_open_is_not_repeated(state: State) -> None:
    made = wishes()
    made.open(Direction.ENTRY, 1, 9.0, 0.0)
    assert made.due(0.0) is not None
    for tick in range(1, 60):
        made.observe(seen(state), NOBODY, tick * 0.1)
        assert made.due(tick * 0.1) is None


def test_seen_opening_is_executed_for_good() -> None:
    made = wishes()
    made.open(Direction.ENTRY, 1, 9.0, 0.0)
    assert made.due(0.0) is not None
    made.observe(seen(State.OPENING_ENTRY), NOBODY, 0.1)
    for tick in range(2, 60):
        made.observe(seen(State.CLOSED_IDLE), NOBODY, tick * 0.1)  # it closed again, unused
        assert made.due(tick * 0.1) is None


def test_one_counted_of_several_is_executed_for_good() -> None:
    """Opened, one of three walked, closed again, and every answer of that time was lost."""
    made = wishes()
    made.open(Direction.ENTRY, 3, 9.0, 0.0)
    assert made.due(0.0) is not None
    for tick in range(10, 40):
        made.observe(seen(State.CLOSED_IDLE), Counters("0", 1, 0), tick * 0.1)
        assert made.due(tick * 0.1) is None


def test_the_state_of_the_turn_before_proves_nothing_about_this_one() -> None:
    made = wishes()
    made.open(Direction.ENTRY, 1, 9.0, 0.0)
    assert made.due(0.0) is not None
    made.observe(seen(State.OPEN_ENTRY), Counters("0", 1, 0), 0.5)  # passed; the barrier is still open
    made.open(Direction.ENTRY, 1, 9.0, 0.5)
    assert made.due(0.5) == enter_open(1, 9.0)
    made.observe(seen(State.OPEN_ENTRY), Counters("0", 1, 0), 0.6)  # this command was lost
    made.observe(seen(State.CLOSING_ENTRY), Counters("0", 1, 0), 0.8)
    made.observe(seen(State.CLOSED_IDLE), Counters("0", 1, 0), 1.0)
    made.observe(seen(State.CLOSED_IDLE), Counters("0", 1, 0), 1.1)
    assert made.due(1.2) == enter_open(1, 9.0)


def test_an_exit_that_is_under_way_is_left_alone() -> None:
    """Free exit: somebody is walking out when the next visitor scans."""
    made = wishes()
    made.observe(seen(State.OPEN_EXIT), NOBODY, 0.0)
    made.open(Direction.ENTRY, 1, 9.0, 0.0)
    assert made.due(0.0) == enter_open(1, 9.0)
    made.observe(seen(State.OPEN_EXIT), NOBODY, 0.1)
    made.close(0.1)
    assert made.due(0.1) == ENTER_CLOSE
    assert made.due(0.2) is None


def test_close_without_a_turn_and_with_the_barrier_closed_sends_nothing() -> None:
    made = wishes()
    made.close(0.0)
    assert made.due(0.0) is None


def test_close_gives_up_on_a_barrier_that_stays_open() -> None:
    made = wishes()
    made.open(Direction.ENTRY, 1, 9.0, 0.0)
    assert made.due(0.0) is not None
    made.observe(seen(State.OPEN_ENTRY), NOBODY, 0.1)
    made.close(0.1)
    sent = 0
    for tick in range(200):
        made.observe(seen(State.OPEN_ENTRY), NOBODY, tick * 0.1)
        sent += made.due(tick * 0.1) is not None
    assert 5 < sent <= CLOSE_TRY_S / 0.4 + 2
    assert "does not close" in made.refused


# --- release ----------------------------------------------------------------------------------------------------------


def test_release_drops_everything_else() -> None:
    made = wishes()
    made.open(Direction.ENTRY, 1, 9.0, 0.0)
    made.close(0.0)
    made.rearm(0.0)
    made.release()
    assert made.due(0.0) == HOLD
    made.observe(seen(State.OPEN_IDLE), NOBODY, 0.1)
    made.open(Direction.ENTRY, 1, 9.0, 0.2)
    made.close(0.2)
    assert [made.due(tick * 0.1) for tick in range(2, 50)] == [None] * 48


def test_a_hold_goes_out_for_each_escape_direction() -> None:
    made = wishes(Direction.EXIT, Direction.ENTRY)
    made.release()
    assert [made.due(0.0), made.due(0.01), made.due(0.02)] == [HOLD, Order(Act.RELEASE, step=1), None]


@pytest.mark.parametrize(
    ("state", "pause_s"),
    [
        (State.CLOSED_IDLE, RELEASE_REPEAT_S),
        (State.CLOSING_EXIT, RELEASE_REPEAT_S),
        (State.TAILGATING, RELEASE_REPEAT_S),
        (State.OPEN_MANUAL, RELEASE_KEEP_S),
        (State.OPEN_ENTRY, RELEASE_KEEP_S),
    ],
)
def test_a_hold_is_repeated_as_long_as_the_board_is_not_held(state: State, pause_s: float) -> None:
    made = wishes()
    made.release()
    sent = 0
    for tick in range(1000):
        made.observe(seen(state), NOBODY, tick * 0.01)
        sent += made.due(tick * 0.01) is not None
    assert sent == pytest.approx(10 / pause_s, rel=0.1)


def test_release_again_does_not_hurry_the_line() -> None:
    made = wishes()
    sent = 0
    for tick in range(100):
        made.release()
        sent += made.due(tick * 0.01) is not None
    assert sent <= 1 / RELEASE_REPEAT_S + 1


def test_a_lost_board_is_held_again_first_thing() -> None:
    made = wishes()
    made.release()
    assert made.due(0.0) is not None
    made.observe(seen(State.OPEN_IDLE), NOBODY, 0.1)
    assert made.due(0.2) is None
    made.lost()
    assert made.due(0.2) == HOLD


def test_rearm_closes_both_ways_until_sensed_closed() -> None:
    made = wishes()
    made.release()
    assert made.due(0.0) is not None
    made.observe(seen(State.OPEN_IDLE), NOBODY, 0.1)
    made.rearm(0.2)
    assert {made.due(0.2), made.due(0.3)} == {Order(Act.REARM), Order(Act.REARM, step=1)}
    made.observe(seen(State.OPEN_IDLE), NOBODY, 0.4)
    assert made.due(0.8) is not None
    assert made.due(0.9) is not None
    made.observe(seen(State.CLOSING_EXIT), NOBODY, 1.0)
    assert [made.due(1.0 + tick * 0.1) for tick in range(30)] == [None] * 30


def test_rearm_is_given_up_in_the_end() -> None:
    made = wishes()
    made.rearm(0.0)
    for tick in range(int(REARM_TRY_S * 10) + 20):
        made.observe(seen(State.OPEN_FIRE), NOBODY, tick * 0.1)
        made.due(tick * 0.1)
    assert made.due(REARM_TRY_S + 5) is None
    assert "stays open" in made.refused


# --- properties over a line that loses --------------------------------------------------------------------------------


class AddingBoard:
    """Opens add people; an unused opening ends after `keep_s`; one closed before somebody walks stays closed."""

    def __init__(self, rng: random.Random, keep_s: float) -> None:
        self.rng = rng
        self.keep_s = keep_s
        self.credit = 0
        self.until = 0.0
        self.entries = 0
        self.held = False
        self.opened_at: list[float] = []

    def obey(self, order: Order, now: float) -> None:
        if order.act is Act.OPEN:
            self.credit += order.pax
            self.until = now + self.keep_s
            self.opened_at.append(now)
        elif order.act is Act.CLOSE:
            self.credit = 0
        elif order.act is Act.RELEASE:
            self.held = True
        elif order.act is Act.REARM:
            self.held = False

    def tick(self, now: float, eager: float) -> None:
        if now > self.until:
            self.credit = 0
        if self.credit and self.rng.random() < eager:
            self.credit -= 1
            self.entries += 1

    @property
    def state(self) -> State:
        if self.held:
            return State.OPEN_IDLE
        return State.OPEN_ENTRY if self.credit else State.CLOSED_IDLE


losses = st.floats(0.0, 0.95)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lost_commands=losses,
    lost_answers=losses,
    eager=st.floats(0.0, 0.5),
    pax=st.integers(1, 6),
    deadline_s=st.floats(0.1, 4.0),
    late_answers=st.booleans(),
)
def test_whatever_is_lost_one_grant_lets_at_most_its_people_through(
    seed: int,
    lost_commands: float,
    lost_answers: float,
    eager: float,
    pax: int,
    deadline_s: float,
    late_answers: bool,
) -> None:
    rng = random.Random(seed)
    board = AddingBoard(rng, keep_s=rng.uniform(0.5, 3.0))
    made = wishes()
    made.open(Direction.ENTRY, pax, deadline_s, 0.0)
    late: tuple[State, int] | None = None
    for tick in range(int((deadline_s + 6.0) / TICK_S)):
        now = tick * TICK_S
        order = made.due(now)
        if order is not None:
            assert order.act is Act.OPEN
            assert now < deadline_s, "a late open was sent"
            if rng.random() >= lost_commands:
                board.obey(order, now)
        # an answer may have left the board just before the command arrived
        told = late if late is not None and rng.random() < 0.5 else (board.state, board.entries)
        late = (board.state, board.entries) if late_answers else None
        if order is None and rng.random() >= lost_answers:
            made.observe(seen(told[0]), Counters("0", told[1], 0), now)
        board.tick(now, eager)
    assert board.entries <= pax


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), lost_commands=st.floats(0.0, 0.7), lost_answers=st.floats(0.0, 0.7))
def test_whatever_is_lost_a_release_opens_and_stays(seed: int, lost_commands: float, lost_answers: float) -> None:
    rng = random.Random(seed)
    board = AddingBoard(rng, keep_s=2.0)
    made = wishes()
    released = False
    for tick in range(600):
        now = tick * TICK_S
        if tick == 100:
            made.release()
            released = True
        elif not released and rng.random() < 0.2:
            made.open(Direction.ENTRY, 2, now + 2.0, now)
        elif rng.random() < 0.1:
            made.close(now)
        order = made.due(now)
        if order is not None:
            assert not released or order.act is Act.RELEASE
            if rng.random() >= lost_commands:
                board.obey(order, now)
        elif rng.random() >= lost_answers:
            made.observe(seen(board.state), Counters("0", board.entries, 0), now)
        board.tick(now, 0.1)
        if board.held and rng.random() < 0.01:
            board.held = False  # its power flickered
    for tick in range(600, 1000):
        now = tick * TICK_S
        order = made.due(now)
        if order is not None and rng.random() >= lost_commands:
            board.obey(order, now)
        elif order is None and rng.random() >= lost_answers:
            made.observe(seen(board.state), Counters("0", board.entries, 0), now)
    assert board.held


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), lost_commands=losses, lost_answers=losses)
def test_many_grants_in_a_row_let_nobody_through_on_top(seed: int, lost_commands: float, lost_answers: float) -> None:
    """The lane's way: open for one, end it with close after its time, then the next. Never two on one ticket."""
    rng = random.Random(seed)
    board = AddingBoard(rng, keep_s=1.0)
    made = wishes()
    now = 0.0
    for granted in range(1, 9):
        made.open(Direction.ENTRY, 1, now + 1.5, now)
        until = now + rng.uniform(0.5, 3.0)
        ended = False
        while now < until + 20.0:
            now += TICK_S
            if now >= until and not ended:
                made.close(now)
                ended = True
            order = made.due(now)
            if order is not None:
                if rng.random() >= lost_commands:
                    board.obey(order, now)
            elif rng.random() >= lost_answers:
                made.observe(seen(board.state), Counters("0", board.entries, 0), now)
            board.tick(now, 0.05)
            if ended and board.state is State.CLOSED_IDLE and now > until + 2.0:
                break
        assert board.entries <= granted


# --- counting ---------------------------------------------------------------------------------------------------------


def tally(entries: int = 0, exits: int = 0, epoch: str = "0") -> Tally:
    names = iter(f"new-{n}" for n in range(100))
    made = Tally(epoch, lambda: next(names))
    assert made.read(entries, exits) is None  # the first reading needs a second that agrees
    assert made.read(entries, exits) == Step(restarted=True)
    return made


def test_before_the_first_reading_nothing_is_known() -> None:
    assert Tally("0", lambda: "x").counts is None


def test_steps_add_up() -> None:
    made = tally(10, 20)
    assert made.read(12, 21) == Step(2, 1)
    assert made.counts == Counters("0", 12, 21)


def test_one_odd_reading_is_not_believed() -> None:
    made = tally(10, 20)
    for odd in ((9, 20), (10, 19), (10 + JUMP_MAX + 1, 20), (500_000, 3), (0, 0)):
        assert made.read(*odd) is None
        assert made.read(10, 20) == Step(0, 0)
    assert made.counts == Counters("0", 10, 20)


def test_two_odd_readings_that_disagree_are_not_believed() -> None:
    made = tally(10, 20)
    assert made.read(5000, 20) is None
    assert made.read(90_000, 20) is None
    assert made.read(10, 20) == Step(0, 0)


def test_a_reset_seen_twice_is_a_new_epoch() -> None:
    made = tally(1000, 900)
    assert made.read(0, 0) is None
    assert made.read(1, 0) == Step(restarted=True)
    assert made.counts == Counters("new-0", 1, 0)


def test_a_jump_seen_twice_keeps_the_epoch_and_names_no_single_people() -> None:
    made = tally(10, 20)
    assert made.read(300, 20) is None
    assert made.read(301, 20) == Step(restarted=True)
    assert made.counts == Counters("0", 301, 20)


def test_a_wrap_keeps_the_epoch() -> None:
    made = tally(COUNTER_MODULUS - 1, 5)
    assert made.read(2, 5) == Step(3, 0)
    assert made.counts == Counters("0", COUNTER_MODULUS + 2, 5)
    assert made.read(4, 6) == Step(2, 1)
    assert made.counts == Counters("0", COUNTER_MODULUS + 4, 6)


def test_resume_after_a_wrap_goes_on_above_it() -> None:
    made = Tally("0", lambda: "new")
    made.resume("a", COUNTER_MODULUS + 100, 7)
    assert made.read(103, 7) == Step(restarted=True)
    assert made.counts == Counters("a", COUNTER_MODULUS + 103, 7)


def test_resume_finds_a_reset_that_nobody_saw() -> None:
    made = Tally("0", lambda: "new")
    made.resume("0", 1000, 1000)
    assert made.read(3, 2) is None
    assert made.read(3, 2) == Step(restarted=True)
    assert made.counts == Counters("new", 3, 2)


@pytest.mark.parametrize(("booked", "expected"), [(8, 10), (10, 10)])
def test_resume_in_the_same_epoch_keeps_what_is_known_better(booked: int, expected: int) -> None:
    made = tally(10, 0)
    made.resume("0", booked, 0)
    assert made.counts == Counters("0", expected, 0)


def test_resume_above_the_reading_finds_the_reset() -> None:
    made = tally(10, 0)
    made.resume("0", 11, 0)
    assert made.counts == Counters("new-0", 10, 0)


def test_resume_into_an_epoch_that_we_saw_end_changes_nothing() -> None:
    """The ledger may not have booked the new epoch yet; naming it a second time would count its people twice."""
    made = tally(1000, 900)
    assert made.read(2, 0) is None
    assert made.read(2, 0) == Step(restarted=True)
    made.resume("0", 1000, 900)
    assert made.counts == Counters("new-0", 2, 0)


@given(st.lists(st.tuples(st.integers(0, JUMP_MAX), st.integers(0, JUMP_MAX)), max_size=60), st.integers(0, 2**24 - 1))
def test_nobody_is_lost_or_doubled(steps: list[tuple[int, int]], start: int) -> None:
    made = tally(start, 0)
    entries, exits = start, 0
    for more_entries, more_exits in steps:
        entries, exits = entries + more_entries, exits + more_exits
        assert made.read(entries % COUNTER_MODULUS, exits % COUNTER_MODULUS) == Step(more_entries, more_exits)
    assert made.counts == Counters("0", entries, exits)


# --- old news ---------------------------------------------------------------------------------------------------------


def test_a_closing_waits_until_the_board_is_heard_and_ends_when_it_is_held_by_then() -> None:
    made = wishes()
    made.lost()
    made.close(0.0)
    assert made.due(0.1) is None
    made.observe(seen(State.OPEN_MANUAL), NOBODY, 0.2)
    assert made.due(0.2) is None
    made.observe(seen(State.OPEN_ENTRY), NOBODY, 0.3)
    assert made.due(0.3) is None, "it is gone, not put off"


def test_a_closing_of_before_the_board_was_lost_is_not_carried_out() -> None:
    made = wishes()
    made.observe(seen(State.OPEN_ENTRY), NOBODY, 0.0)
    made.close(0.0)
    made.lost()
    made.observe(seen(State.OPEN_ENTRY), NOBODY, 1.0)
    assert made.due(1.0) is None


def test_a_re_arming_that_could_not_be_sent_in_time_is_not_sent_late() -> None:
    made = wishes()
    made.rearm(0.0)
    made.lost()
    made.observe(seen(State.OPEN_IDLE), NOBODY, REARM_TRY_S)
    assert made.due(REARM_TRY_S) is None
