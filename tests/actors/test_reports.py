"""The way of a scan, and how people moved, as the console is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
import trio

from actors.errors import CommandRefused
from actors.reports import ANSWERS, DAY_S, HOUR_S, SPANS, Reports, first_step
from core import Address, Child, Envelope, Supervisor, Trail
from core.testing import running
from protocols.console import FlowReport, GetFlowReport, GetTrace, TracePath
from storage.reports import FlowFigures, LaneFigures, StepFigures

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")


class Denied(msgspec.Struct, frozen=True):
    code: str


class Books:
    """What would be read: counted, and away or slow if the test says so."""

    def __init__(self) -> None:
        self.reads = 0
        self.away = False
        self.gate = trio.Event()
        self.gate.set()

    async def read(self, first: float, last: float, step_s: int) -> FlowFigures:
        self.reads += 1
        await self.gate.wait()
        if self.away:
            raise CommandRefused("unavailable", "away", "不可用")
        return FlowFigures(
            steps=[StepFigures(at=first, entries=3, exits=1, refused=2)],
            refusals=[("already_used", 2)],
            lanes=[LaneFigures(lane="n1", entries=3, exits=1, refused=2, busiest_minute=2, median_s=1.5)],
            complete=True,
        )


@pytest.fixture
def books() -> Iterator[Books]:
    yield Books()


async def test_a_refusals_way_is_told_with_its_words_in_both_languages(books: Books) -> None:
    trail = Trail(answers=ANSWERS)
    trail.note("lane/n1", Envelope(Denied(code="already_used"), 1e9, "t1", trio.current_time()))
    address = Address("reports")
    actor = Reports(trail=trail, read=books.read, timezone=SHANGHAI)
    async with running(Supervisor("root", [Child(address, actor.run)])):
        path: TracePath = await address.ask(GetTrace(trace="t1"), 5.0)
        (step,) = path.steps
        assert (step.actor, step.message, step.code) == ("lane/n1", "Denied", "already_used")
        assert step.text_zh and step.text_en
        assert (await address.ask(GetTrace(trace="nothing"), 5.0)).steps == []


async def test_ten_pages_that_look_are_one_question_and_an_unknown_span_is_refused(
    books: Books, autojump_clock: trio.testing.MockClock
) -> None:
    address = Address("reports")
    actor = Reports(trail=Trail(), read=books.read, timezone=SHANGHAI)
    async with running(Supervisor("root", [Child(address, actor.run)])):
        for _ in range(10):
            told: FlowReport = await address.ask(GetFlowReport(span="hour"), 5.0)
        assert books.reads == 1
        assert told.refusals[0].text_en and told.refusals[0].count == 2
        assert (told.step_s, told.last - told.first) == (HOUR_S, 24 * HOUR_S)
        await trio.sleep(6.0)
        await address.ask(GetFlowReport(span="hour"), 5.0)
        assert books.reads == 2
        with pytest.raises(CommandRefused) as refused:
            await address.ask(GetFlowReport(span="year"), 5.0)
        assert refused.value.code == "bad_span"


async def test_books_that_are_away_are_a_refusal_and_slow_ones_stop_nobody_else(
    books: Books, autojump_clock: trio.testing.MockClock
) -> None:
    books.away = True
    address = Address("reports")
    actor = Reports(trail=Trail(), read=books.read, timezone=SHANGHAI)
    async with running(Supervisor("root", [Child(address, actor.run)])), trio.open_nursery() as nursery:
        with pytest.raises(CommandRefused) as refused:
            await address.ask(GetFlowReport(), 5.0)
        assert refused.value.code == "unavailable"
        books.away, books.gate = False, trio.Event()
        for span in ("hour", "day"):
            nursery.start_soon(address.ask, GetFlowReport(span=span), 60.0)
        await trio.sleep(1.0)
        with pytest.raises(CommandRefused) as busy:
            await address.ask(GetFlowReport(span="minute"), 5.0)
        assert busy.value.code == "busy"
        assert (await address.ask(GetTrace(trace="x"), 1.0)).steps == []
        books.gate.set()


@pytest.mark.parametrize("zone", [SHANGHAI, NEW_YORK])
@pytest.mark.parametrize("span", list(SPANS))
def test_the_last_step_is_the_present_one(span: str, zone: ZoneInfo) -> None:
    step_s, count = SPANS[span]
    for moment in ("2026-11-22T03:58:31", "2026-11-22T00:00:00", "2026-11-22T23:59:59"):
        now = datetime.fromisoformat(moment).replace(tzinfo=zone).timestamp()
        first = first_step(now, span, zone)
        assert first + step_s * (count - 1) <= now < first + step_s * count
    assert DAY_S % step_s == 0
