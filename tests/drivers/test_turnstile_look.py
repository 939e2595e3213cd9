"""How often a board is looked at: at its own pace, and for a short while more often when somebody waits for it."""

from __future__ import annotations

import pytest

from drivers.base import DeviceUp
from drivers.turnstile._tally import Tally
from drivers.turnstile._unit import HURRY_S, LOOK_S, Unit
from drivers.turnstile.board4 import Board4Dialect
from protocols.board4 import State, encode_status, status

POLL_S = 0.1


def unit(poll_s: float = POLL_S) -> Unit:
    """A board that is up, closed, and was asked at 0.0. Its first counts are believed when they are read twice."""
    made = Unit(
        "board",
        1,
        Board4Dialect(1),
        Tally("0", lambda: "1"),
        poll_s,
        trusts_acknowledgement=False,
        infers_tailgating=False,
    )
    events: list[object] = []
    made.begin(events.append, 0.0)
    ask(made, -POLL_S, State.CLOSED_IDLE)
    ask(made, 0.0, State.CLOSED_IDLE)
    assert len(events) == 1 and isinstance(events[0], DeviceUp)
    return made


def ask(made: Unit, now: float, state: State) -> None:
    """One question and its answer."""
    talk = made.poll(now)
    assert talk is not None
    made.asking(talk, now)
    for frame in made.dialect.framer().feed(encode_status(status(1, state, 0, 0))):
        assert made.hear(frame, now)


async def test_nobody_waits_and_the_board_is_asked_at_its_own_pace(autojump_clock: object) -> None:
    made = unit()
    assert not made.poll_due(POLL_S - 0.01) and made.poll_due(POLL_S)


async def test_who_waits_does_not_wait_for_the_next_poll(autojump_clock: object) -> None:
    made = unit()
    ask(made, 0.01, State.CLOSING_ENTRY)
    made.look(0.02)
    assert made.poll_due(0.02)


async def test_a_barrier_that_still_moves_is_looked_at_often_until_it_is_closed(autojump_clock: object) -> None:
    made = unit()
    made.look(0.0)
    now = 0.0
    for _ in range(5):
        ask(made, now, State.CLOSING_ENTRY)
        assert made.next_poll == pytest.approx(now + LOOK_S)
        now += LOOK_S
    ask(made, now, State.CLOSED_IDLE)
    ask(made, now + LOOK_S, State.CLOSED_IDLE)
    assert made.next_poll == pytest.approx(now + LOOK_S + POLL_S)


async def test_a_barrier_that_never_closes_is_hurried_for_a_short_while_only(autojump_clock: object) -> None:
    made = unit()
    made.look(0.0)
    ask(made, HURRY_S, State.OPEN_ENTRY)
    assert made.next_poll == pytest.approx(HURRY_S + POLL_S)


async def test_a_board_with_a_quicker_pace_of_its_own_keeps_it(autojump_clock: object) -> None:
    made = unit(poll_s=LOOK_S / 2)
    made.look(0.0)
    ask(made, 0.0, State.CLOSING_ENTRY)
    assert made.next_poll == pytest.approx(LOOK_S / 2)
