"""What a console sees of an evacuation."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from actors.evacuation.counting import Counting
from actors.evacuation.latch import Latch
from actors.evacuation.scope import Place
from protocols.console import EvacuationView, LaneRelease


class LaneState(msgspec.Struct, kw_only=True):
    """What is known of one lane's release; times are Trio's."""

    commanded_at: float = 0.0
    acknowledged_at: float | None = None
    sensed_open: bool = False
    barrier: str = "unknown"


def view(
    latch: Latch,
    released: frozenset[str],
    seen: Mapping[str, LaneState],
    places: Mapping[str, Place],
    unsensing: frozenset[str],
    counting: Counting,
    requested_by: str,
) -> EvacuationView:
    """The whole picture, lanes in the order of their names."""
    if latch.state == "normal":
        return EvacuationView(state="normal", drill=latch.drill, triggered_by=latch.by)
    now = time.time()
    lanes = [
        LaneRelease(
            lane=lane,
            commanded=latch.state == "released" and lane in released,
            acknowledged=state.acknowledged_at is not None,
            sensed_open=state.sensed_open,
            barrier=state.barrier,
            acknowledged_after_ms=None
            if state.acknowledged_at is None
            else round((state.acknowledged_at - state.commanded_at) * 1000, 1),
            name=places[lane].name,
            entrance=places[lane].entrance,
            can_sense=lane not in unsensing,
            out=counting.tally.out.get(lane, 0),
            out_last_minute=counting.last_minute(lane, now),
        )
        for lane, state in sorted(seen.items())
        if lane in released
    ]
    return EvacuationView(
        state=latch.state,
        incident=latch.incident,
        drill=latch.drill,
        triggered_by=latch.by,
        triggered_at=latch.at,
        restore_requested_by=requested_by,
        lanes=lanes,
        scope=",".join(latch.lanes) or "site",
        inside_at_start=counting.inside_at_start,
        out=counting.out,
        out_by_hand=sum(counting.tally.by_hand.values()),
        back=counting.back,
        left=counting.left,
    )
