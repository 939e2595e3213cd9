"""The evacuation's bench, small: that every lane is told and acknowledged, and that its figures are there."""

from __future__ import annotations

import pytest

from bench import evacuation

pytestmark = pytest.mark.slow


def test_every_lane_is_acknowledged_and_nobody_admitted_while_the_database_is_stopped() -> None:
    report = evacuation.run(quick=True, lanes=10)
    figures = report["figures"]
    assert figures["acknowledged"] == figures["lanes"] == 10
    assert figures["granted_after"] == 0
    assert 0.0 < figures["last_sent_ms"] <= figures["last_ack_ms"]
    assert report["ratios"]["vs_bare_nng"] > 0.0
