"""Short codes: as people type them, and every single typing error noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import TicketCodeError
from protocols.shortcode import ALPHABET, CHARACTERS, derived_short, grouped, looks_short, new_short, parse_short

bodies = st.text(alphabet=ALPHABET, min_size=CHARACTERS - 1, max_size=CHARACTERS - 1)


def complete(body: str) -> str:
    (code,) = [body + check for check in ALPHABET if looks_short(body + check)]
    return code


@given(bodies)
def test_it_is_read_however_it_is_typed(body: str) -> None:
    code = complete(body)
    typed = grouped(code).lower().replace("0", "o").replace("1", "l").replace("v", "u")
    for text in (code, typed, f"  {grouped(code)} ", " ".join(code)):
        assert parse_short(text) == code and looks_short(text)


@given(bodies, st.integers(0, CHARACTERS - 1), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_noticed(body: str, place: int, wrong: str) -> None:
    code = complete(body)
    mistyped = code[:place] + wrong + code[place + 1 :]
    assert looks_short(mistyped) == (mistyped == code)


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        code = parse_short(text)
    except TicketCodeError as exc:
        assert exc.reason == "unknown_code" and not looks_short(text)
    else:
        assert len(code) == CHARACTERS and set(code) <= set(ALPHABET)


def test_new_ones_are_good_and_not_the_same() -> None:
    codes = {new_short() for _ in range(200)}
    assert len(codes) == 200 and all(parse_short(code) == code for code in codes)


@pytest.mark.parametrize("text", ["", "ABC", "PF1:" + "A" * 96, "CODE-SECRET", "12345678901"])
def test_other_texts_are_none(text: str) -> None:
    assert not looks_short(text)


def test_one_is_made_of_a_digest_and_always_the_same() -> None:
    digest = bytes(range(0x20, 0x40))
    assert derived_short(digest) == derived_short(digest[:6]) == "40GJ48S44K"
    assert derived_short(bytes(6)) == "0" * CHARACTERS and derived_short(b"\xff" * 6)[:9] == "Z" * 9
    with pytest.raises(ValueError, match="at least 6 bytes"):
        derived_short(digest[:5])


@given(st.binary(min_size=6, max_size=64), st.integers(0, 44))
def test_every_bit_of_the_digest_counts(digest: bytes, bit: int) -> None:
    code = derived_short(digest)
    assert parse_short(code) == code
    changed = int.from_bytes(digest[:6], "big") ^ 1 << (47 - bit)
    assert derived_short(changed.to_bytes(6, "big")) != code
