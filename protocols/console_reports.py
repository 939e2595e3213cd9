"""What the console is told on request about the past: the way of one scan through the actors, and how people moved.

Part of the console channel's vocabulary (`protocols.console`).
"""

from __future__ import annotations

import msgspec

from protocols._bounds import Word
from protocols.messages import Base


class GetTrace(Base, frozen=True, kw_only=True):
    """trace.path: the way of one scan. `trace` is that of a line of the feed."""

    trace: Word


class TraceStep(Base, frozen=True, kw_only=True):
    """One message handed to one actor, never with its content; `code` and the sentence when it answered something."""

    at: float
    actor: str
    message: str
    waited_ms: float  # in the actor's mailbox
    code: str = ""
    text_zh: str = ""
    text_en: str = ""


class TracePath(Base, frozen=True, kw_only=True):
    """In the order in which it happened; empty when the server keeps it no longer (memory only, the latest ones)."""

    trace: str
    steps: list[TraceStep]


class GetFlowReport(Base, frozen=True, kw_only=True):
    """flow.report: `span` is `minute` (of the last hour), `hour` (of 24) or `day` (of 14, on the site's clock)."""

    span: Word = "hour"


class FlowSum(Base, frozen=True, kw_only=True):
    """People in one step; `at` is its start."""

    at: float
    entries: int
    exits: int
    refused: int


class RefusalCount(Base, frozen=True, kw_only=True):
    code: str
    count: int
    text_zh: str = ""
    text_en: str = ""


class LaneThroughput(Base, frozen=True, kw_only=True):
    """A lane in the time of the report. `median_s` is from the grant to its first passage; None without any."""

    lane: str
    entries: int
    exits: int
    refused: int
    busiest_minute: int  # people in the busiest minute, both ways
    median_s: float | None


class FlowReport(Base, frozen=True, kw_only=True):
    """Counted from what was booked, not from what was shown."""

    span: str
    step_s: int
    first: float
    last: float
    points: list[FlowSum]
    refusals: list[RefusalCount]  # the most frequent first
    lanes: list[LaneThroughput]
    complete: bool = msgspec.field(default=True)  # false: there were more scans than are looked at
