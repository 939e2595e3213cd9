"""How fast a zone fills: a straight line through its last ten minutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.pace import SAMPLE_S, WINDOW_S, Pace


def filled(per_min: float, minutes: float = 5.0, start: int = 100) -> Pace:
    pace = Pace()
    for step in range(int(minutes * 60 / SAMPLE_S) + 1):
        at = 1000.0 + step * SAMPLE_S
        pace.add(at, round(start + per_min * step * SAMPLE_S / 60))
    return pace


def test_a_steady_stream_is_seen_with_its_pace_and_its_end() -> None:
    pace = filled(12.0)
    assert pace.per_min == pytest.approx(12.0, abs=0.2)
    assert pace.full_in_s(160, 280) == pytest.approx(600, abs=60)


def test_a_zone_that_empties_has_a_pace_and_no_end() -> None:
    pace = filled(-8.0, start=500)
    assert pace.per_min == pytest.approx(-8.0, abs=0.2)
    assert pace.full_in_s(460, 500) is None


def test_of_less_than_a_minute_nothing_is_concluded() -> None:
    pace = Pace()
    for step in range(4):
        pace.add(step * SAMPLE_S, step * 100)
    assert pace.per_min is None
    assert pace.full_in_s(300, 1000) is None


def test_without_a_limit_at_the_limit_or_in_a_far_future_there_is_no_forecast() -> None:
    pace = filled(1.0)
    assert pace.full_in_s(10, None) is None
    assert pace.full_in_s(100, 100) is None
    assert pace.full_in_s(10, 100_000) is None


def test_what_is_older_than_the_window_is_forgotten() -> None:
    pace = filled(30.0, minutes=5)
    for step in range(int(WINDOW_S / SAMPLE_S) + 2):
        pace.add(5000.0 + step * SAMPLE_S, 250)
    assert pace.per_min == 0.0


def test_a_clock_that_goes_backward_begins_anew() -> None:
    pace = filled(30.0)
    pace.add(10.0, 0)
    assert pace.per_min is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**6)), max_size=200))
def test_any_counts_give_a_pace_or_none_and_a_forecast_that_lies_ahead(counts: list[tuple[float, int]]) -> None:
    pace = Pace()
    for at, inside in counts:
        pace.add(at, inside)
        soon = pace.full_in_s(inside, 1000)
        assert soon is None or soon >= 60
