"""Which mode a lane has to be in, and which openings of schedules are due. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time, timedelta, tzinfo

import msgspec

from protocols.messages import LaneMode
from protocols.modes import KINDS, Running

CLOSE_DAY = "close_day"
LETS_OUT = frozenset({LaneMode.NORMAL_EXIT, LaneMode.BIDIRECTIONAL, LaneMode.FREE_COUNTED})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule: `mode` of `lanes`, from `begin` to `end` by the site's clock, on `days` (0 is Monday)."""

    lanes: Sequence[str]
    mode: str
    begin: time
    end: time
    days: frozenset[int]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """One lane's turn of a schedule. `key` is its name for good."""

    key: str
    lane: str
    mode: str
    until: float


def lane_mode(lane: str, base: LaneMode, running: Iterable[Running]) -> LaneMode:
    """What a lane has to be: the newest of its own modes, then the close of the day, then its mode without any."""
    newest: Running | None = None
    closing = False
    for each in running:
        if each.kind == CLOSE_DAY:
            closing = True
        elif each.subject != lane or KINDS[each.kind].of != "lane":
            continue
        elif newest is None or (each.since, each.mode) > (newest.since, newest.mode):
            newest = each
    if newest is not None:
        return LaneMode(KINDS[newest.kind].lane_mode)
    if closing:
        return LaneMode.NORMAL_EXIT if base in LETS_OUT else LaneMode.CLOSED
    return base


def openings(plans: Sequence[Plan], now: float, timezone: tzinfo) -> list[Opening]:
    """The turns of schedules that are due at `now`, whether or not they were started."""
    local = datetime.fromtimestamp(now, timezone)
    found = []
    for number, plan in enumerate(plans):
        for back in (0, 1):  # one of yesterday may last into today
            day = local.date() - timedelta(days=back)
            if day.weekday() not in plan.days:
                continue
            begin = datetime.combine(day, plan.begin, timezone)
            over = day if plan.end > plan.begin else day + timedelta(days=1)
            end = datetime.combine(over, plan.end, timezone).timestamp()
            if begin.timestamp() <= now < end:
                found += [
                    Opening(key=f"{day}/{number}/{plan.mode}/{lane}", lane=lane, mode=plan.mode, until=end)
                    for lane in plan.lanes
                ]
    return found


def latest(minutes: Mapping[str, int], running: Running, now: float) -> float:
    """When a mode ends at the latest, also when the clock was set meanwhile: never later than its longest time."""
    longest_s = minutes[running.kind] * 60.0
    return min(running.until, running.since + longest_s, now + longest_s)
