"""What upsd says, and what it may say instead."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.nut import NutError, PowerSource, PowerState, ask, complete, read


def answer(status: str, *more: str) -> bytes:
    lines = ["BEGIN LIST VAR ups", f'VAR ups ups.status "{status}"', *more, "END LIST VAR ups"]
    return "\n".join([*lines, ""]).encode()


@pytest.mark.parametrize(
    ("status", "source"),
    [
        ("OL", PowerSource.MAINS),
        ("OL CHRG", PowerSource.MAINS),
        ("OB DISCHRG", PowerSource.BATTERY),
        ("OB LB", PowerSource.LOW),
        ("OL LB", PowerSource.MAINS),
        ("FSD OL", PowerSource.LOW),
        ("BYPASS", PowerSource.UNKNOWN),
        ("", PowerSource.UNKNOWN),
    ],
)
def test_its_words(status: str, source: PowerSource) -> None:
    assert read(answer(status), "ups").source is source


def test_charge_and_minutes_where_it_says_them() -> None:
    data = answer("OB", 'VAR ups battery.charge "57"', 'VAR ups battery.runtime "1260"')
    assert read(data, "ups") == PowerState(source=PowerSource.BATTERY, charge=57.0, runtime_s=1260.0, status="OB")
    assert read(answer("OB", 'VAR ups battery.charge "nan"', 'VAR ups battery.runtime "-1"'), "ups").charge is None


@pytest.mark.parametrize("data", [b"ERR UNKNOWN-UPS\n", b"", b"BEGIN LIST VAR ups\nEND LIST VAR ups\n"])
def test_no_answer_is_an_error_of_its_own(data: bytes) -> None:
    with pytest.raises(NutError):
        read(data, "ups")


def test_an_answer_is_complete_with_its_last_line() -> None:
    whole = answer("OL")
    assert complete(whole)
    assert not any(complete(whole[:length]) for length in range(len(whole)))
    assert complete(b"ERR ACCESS-DENIED\n")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_state_or_its_own_error(data: bytes) -> None:
    complete(data)
    for each in (data, b'VAR ups ups.status "' + data):
        with contextlib.suppress(NutError):
            assert isinstance(read(each, "ups"), PowerState)


def test_a_name_that_would_be_a_command_is_refused() -> None:
    assert ask("ups-1") == b"LIST VAR ups-1\n"
    for name in ("", "a b", "ups\nFSD ups", "ü"):
        with pytest.raises(NutError):
            ask(name)
