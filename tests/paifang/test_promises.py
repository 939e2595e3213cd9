"""Each promise of a run, broken by one figure."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from paifang.promises import broken

GOOD: dict[str, Any] = {
    "sold": 50,
    "admitted": 100,
    "refused": {"already_used": 3},
    "same_code": {"scans": 200, "lanes": 10, "opened": 1},
    "double_passages": 0,
    "limit_exceeded": 0,
    "occupancy_error": 0,
    "scan_to_open_ms": {"p50": 20.0, "p99": 90.0},
    "printed": 40,
    "faces": {"accepted": 2, "refused": 2},
    "evacuation": {"lanes": 14, "acknowledged": 14, "sensed_open": 14, "last_ack_ms": 420.0},
    "kills": 1,
    "in_flight_at_kill": 3,
    "acknowledged_lost": 0,
    "acknowledged_doubled": 0,
    "audit": {"checked": 30, "broken": []},
    "loop_lag_ms": {"p99": 3.0, "max": 12.0},
    "database": {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "commits": 400},
}


def test_a_good_report_breaks_nothing() -> None:
    assert broken(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sold", 0),
        ("admitted", 0),
        ("printed", 0),
        ("same_code.opened", 0),
        ("same_code.opened", 2),
        ("same_code.scans", 199),
        ("same_code.lanes", 9),
        ("double_passages", 1),
        ("limit_exceeded", 1),
        ("occupancy_error", 1),
        ("acknowledged_lost", 1),
        ("acknowledged_doubled", 1),
        ("faces.accepted", 3),
        ("faces.refused", 0),
        ("evacuation.acknowledged", 13),
        ("evacuation.sensed_open", 13),
        ("evacuation.last_ack_ms", None),
        ("evacuation.last_ack_ms", 1000.1),
        ("audit.checked", 0),
        ("audit.broken", ["holds: 1 row"]),
        ("database.fsync", "off"),
        ("database.full_page_writes", "off"),
        ("database.synchronous_commit", "local"),
        ("database.commits", 0),
        ("in_flight_at_kill", 0),
    ],
)
def test_each_broken_promise_is_one_sentence(path: str, value: Any) -> None:
    report = copy.deepcopy(GOOD)
    place = report
    *parents, name = path.split(".")
    for parent in parents:
        place = place[parent]
    place[name] = value
    assert len(broken(report)) == 1


def test_without_a_kill_nothing_need_be_in_flight() -> None:
    assert broken({**GOOD, "kills": 0, "in_flight_at_kill": 0}) == []
