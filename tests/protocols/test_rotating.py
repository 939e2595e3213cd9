"""Rotating codes: the same in every implementation, good for a minute and a half, worthless when changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import TicketCodeError
from protocols.rotating import STEP_S, TEXT_CHARACTERS, is_rotating, rotating_text, verify_rotating

KEY = bytes(range(32))
TICKET = 602_734_912_733_184
NOW = 1_798_056_000.0


def key_of(ticket: int) -> bytes:
    return KEY if ticket == TICKET else b"another ticket's key"


def refusal(text: str, at: float = NOW) -> str:
    with pytest.raises(TicketCodeError) as caught:
        verify_rotating(text, key_of, at)
    return caught.value.reason


def test_the_vector() -> None:
    assert rotating_text(TICKET, KEY, NOW) == "PFR1:8C0C/5Y*B000EK0GJH-K4RR3B9I3GR9UIXXS"


@given(st.integers(0, (1 << 53) - 1), st.binary(min_size=1, max_size=64), st.floats(0, 1e10), st.floats(-30, 30))
def test_what_is_shown_is_accepted_while_it_is_shown_and_a_step_around(ticket, key, at, off) -> None:
    text = rotating_text(ticket, key, at)
    assert is_rotating(text) and len(text) == TEXT_CHARACTERS
    assert verify_rotating(text, lambda _: key, max(0.0, at + off)) == ticket


@pytest.mark.parametrize("steps", [-1000, -2, 2, 3, 2880])
def test_a_picture_of_it_is_worthless_two_steps_later(steps: int) -> None:
    text = rotating_text(TICKET, KEY, NOW)
    assert refusal(text, NOW + steps * STEP_S) == "bad_signature"
    for near in (-1, 0, 1):
        assert verify_rotating(text, key_of, NOW + near * STEP_S) == TICKET


@given(st.data())
def test_no_changed_character_is_accepted(data) -> None:
    text = rotating_text(TICKET, KEY, NOW)
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[place]))
    assert refusal(text[:place] + character + text[place + 1 :]) in ("unknown_code", "bad_signature")


@given(st.text(max_size=80) | st.text(max_size=80).map(lambda text: "PFR1:" + text))
def test_no_text_raises_anything_else(text: str) -> None:
    assert refusal(text) in ("unknown_code", "bad_signature")


def test_a_number_that_no_ticket_has_is_not_made() -> None:
    for ticket in (-1, 1 << 53):
        with pytest.raises(ValueError, match="53 bits"):
            rotating_text(ticket, KEY, NOW)
