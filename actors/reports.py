"""What people ask about the past: the way of one scan through the actors, and how people moved.

Nothing at a gate waits for it: the trail is memory, and the figures are read over a connection of their own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import trio

from actors._asked import Slots
from actors.admission import words
from actors.errors import CommandRefused
from core import Address, Envelope, Stop, Trail
from protocols.console import (
    FlowReport,
    FlowSum,
    GetFlowReport,
    GetTrace,
    LaneThroughput,
    RefusalCount,
    TracePath,
    TraceStep,
)

READS_MAX = 2  # reports read at once; more are refused as busy
KEPT_S = 5.0  # a report that is not older is given again: ten pages that look are one question
ANSWERS = frozenset({"Denied", "FeedEvent", "Ended"})
"""Messages whose code is shown with a trace. None of them carries what opens a gate."""

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
SPANS: dict[str, tuple[int, int]] = {"minute": (MINUTE_S, 60), "hour": (HOUR_S, 24), "day": (DAY_S, 14)}
"""Span -> seconds of a step, and how many of them."""


class Figures(Protocol):
    """What the books say of a time (`storage.reports.FlowFigures`)."""

    @property
    def steps(self) -> Sequence[Any]: ...

    @property
    def refusals(self) -> Sequence[tuple[str, int]]: ...

    @property
    def lanes(self) -> Sequence[Any]: ...

    @property
    def complete(self) -> bool: ...


class Reports:
    """The actor behind `trace.path` and `flow.report`.

    Args:
        trail: where the runtime writes the way of each message.
        read: the figures from `first` to `last` in steps of `step_s`; raises CommandRefused when the books are away.
        timezone: of the site; its days begin at midnight here, as people read a calendar.
    """

    def __init__(
        self, *, trail: Trail, read: Callable[[float, float, int], Awaitable[Figures]], timezone: ZoneInfo
    ) -> None:
        self._trail = trail
        self._read = read
        self._timezone = timezone
        self._kept: dict[str, tuple[float, FlowReport]] = {}

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, READS_MAX)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case GetTrace(trace=trace):
                        envelope.reply(self._path(trace))
                    case GetFlowReport():
                        slots.attend(envelope, self._report)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    def _path(self, trace: str) -> TracePath:
        steps = []
        for step in self._trail.steps(trace):
            text = words(step.code) if step.code else None
            steps.append(
                TraceStep(
                    at=step.at,
                    actor=step.actor,
                    message=step.message,
                    waited_ms=round(step.waited_s * 1000, 3),
                    code=step.code,
                    text_zh="" if text is None else text.visitor_zh,
                    text_en="" if text is None else text.visitor_en,
                )
            )
        return TracePath(trace=trace, steps=steps)

    async def _report(self, envelope: Envelope) -> FlowReport:
        asked: GetFlowReport = envelope.msg
        span = asked.span
        if span not in SPANS:
            allowed = ", ".join(SPANS)
            raise CommandRefused("bad_span", f"A span is one of {allowed}", f"时间粒度须为 {allowed}")
        now = trio.current_time()
        kept = self._kept.get(span)
        if kept is None or now - kept[0] > KEPT_S:
            step_s, count = SPANS[span]
            first = first_step(time.time(), span, self._timezone)
            figures = await self._read(first, first + step_s * count, step_s)
            kept = (now, _report(span, first, figures))
            self._kept[span] = kept
        return kept[1]


def first_step(now: float, span: str, timezone: ZoneInfo) -> float:
    """When the first step of a report begins, so that its last one is the present one. Seconds since the epoch."""
    step_s, count = SPANS[span]
    here = datetime.fromtimestamp(now, timezone)
    if span == "day":
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight + timedelta(days=1)).timestamp() - step_s * count
    return now // step_s * step_s - step_s * (count - 1)


def _report(span: str, first: float, figures: Figures) -> FlowReport:
    step_s, count = SPANS[span]
    return FlowReport(
        span=span,
        step_s=step_s,
        first=first,
        last=first + step_s * count,
        points=[
            FlowSum(at=step.at, entries=step.entries, exits=step.exits, refused=step.refused) for step in figures.steps
        ],
        refusals=[
            RefusalCount(code=code, count=times, text_zh=words(code).visitor_zh, text_en=words(code).visitor_en)
            for code, times in figures.refusals
        ],
        lanes=[
            LaneThroughput(
                lane=lane.lane,
                entries=lane.entries,
                exits=lane.exits,
                refused=lane.refused,
                busiest_minute=lane.busiest_minute,
                median_s=lane.median_s,
            )
            for lane in figures.lanes
        ],
        complete=figures.complete,
    )
