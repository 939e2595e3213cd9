"""Cases are worked with words, once closed they stay so; a history is found by whatever somebody has in hand."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from actors.cases import STATES, Cases
from actors.errors import CommandRefused
from actors.testing import alive, heard, only, settle
from core import Address, Stop
from core.testing import Probe
from protocols import console as c
from storage.cases import Case, Event, Note
from storage.interfaces import CaseWork, LedgerRefused, LedgerUnavailable, Ok


class Books:
    def __init__(self) -> None:
        self.state, self.tickets, self.down = "open", {"CARD:7": 12}, False
        self.asked = []

    async def cases(self, state, limit, case):
        if self.down:
            raise CommandRefused("unavailable", "The books cannot be read: away")
        self.asked.append((state, limit, case))
        notes = [Note(1.0, "ann", "assigned", "bob"), Note(2.0, "ann", "note", "the wind")]
        return [Case(4, "forced", "lane1", "alarm", "d", 1.0, self.state, "bob", notes)] if case in (None, 4) else []

    async def ticket_of(self, text):
        return self.tickets.get(text)

    async def history(self, tickets):
        assert tickets == [12]
        return [
            Event(3.0, "passage", "lane1", "entry", 9, 2), Event(2.0, "admitted", "lane1", "ok", 9, 0),
            Event(1.0, "refused", "lane1", "used_up", None, 0),
        ]  # fmt: skip


class Rig:
    def __init__(self) -> None:
        self.books, self.hub, self.me = Books(), Probe("hub"), Address("cases")
        self.ledger, self.office = Address("ledger"), Address("office")
        self.work, self.answer = [], Ok()

    async def keep(self, me):
        while not isinstance((envelope := await me.receive()).msg, Stop):
            self.work.append(envelope.msg)
            if isinstance(self.answer, Exception):
                envelope.fail(self.answer)
            else:
                envelope.reply(self.answer)

    async def find(self, me):
        while not isinstance((envelope := await me.receive()).msg, Stop):
            known = envelope.msg.number in (5, 12)
            ticket = c.TicketView(
                ticket=12, line=1, product="adult", product_name_zh="", product_name_en="", state="valid",
                hold_reason="", pax=1, collected=0, named=0, to_pass=1, to_refund=1, to_collect=0, valid_from=0.0,
                valid_to=1.0, slot_from=None, slot_to=None, rights=[], credentials=[],
            )  # fmt: skip
            envelope.reply(c.OrderView(
                order=5 if known else 0, channel="window", user="", sold_at=0.0, total_cents=0, paid_cents=0,
                refunded_cents=0, state="paid", pay_by=None, supplement_of=None, tickets=[ticket] if known else [],
                refunds=[],
            ))  # fmt: skip


@asynccontextmanager
async def cases():
    rig = Rig()
    actor = Cases(books=rig.books, ledger=rig.ledger, office=rig.office, hub=rig.hub)
    async with alive(actor.run, rig.me), alive(rig.keep, rig.ledger), alive(rig.find, rig.office):
        await settle()
        yield rig


async def refused(rig, message) -> str:
    with pytest.raises(CommandRefused) as error:
        await rig.me.ask(message, 20.0)
    return error.value.code


async def test_cases_are_listed_with_what_was_done_about_them(autojump_clock):
    async with cases() as rig:
        (case,) = (await rig.me.ask(c.ListCases(limit=10_000), 5.0)).cases
        assert (case.case, case.assigned_to, [note.text for note in case.notes]) == (
            4, "bob", ["Assigned to bob", "the wind"]
        )  # fmt: skip
        assert rig.books.asked == [("waiting", 500, None)]
        for state in STATES:
            await rig.me.ask(c.ListCases(state=state), 5.0)
        assert await refused(rig, c.ListCases(state="lost")) == "bad_state"


@pytest.mark.parametrize(
    ("order", "what", "detail"),
    [
        (c.AcknowledgeCase(case=4, by="ann"), "acknowledged", ""),
        (c.AssignCase(case=4, to=" bob ", by="ann"), "assigned", "bob"),
        (c.AssignCase(case=4, to="", by="ann"), "assigned", ""),
        (c.NoteCase(case=4, text="the wind", by="ann"), "note", "the wind"),
        (c.CloseCase(case=4, reason="seen", by="ann"), "closed", "seen"),
    ],
)
async def test_what_is_done_is_on_disk_before_it_is_answered_and_said(autojump_clock, order, what, detail):
    async with cases() as rig:
        assert await rig.me.ask(order, 20.0) == c.Done(detail=what)
        (work,) = only(rig.work, CaseWork)
        assert (work.case, work.what, work.detail, work.user) == (4, what, detail, "ann")
        (event,) = only(await heard(rig.hub), c.FeedEvent)
        assert event.kind == "case" and event.code == what and "ann" in event.text_zh


async def test_what_makes_no_sense_is_refused_and_not_written(autojump_clock):
    async with cases() as rig:
        assert await refused(rig, c.NoteCase(case=4, text="  ", by="ann")) == "no_reason"
        assert await refused(rig, c.CloseCase(case=4, reason="", by="ann")) == "no_reason"
        assert await refused(rig, c.AcknowledgeCase(case=5, by="ann")) == "unknown_case"
        rig.books.state = "closed"
        assert await refused(rig, c.AcknowledgeCase(case=4, by="ann")) == "case_closed"
        rig.books.down = True
        assert await refused(rig, c.AcknowledgeCase(case=4, by="ann")) == "unavailable"
        assert rig.work == [] and await heard(rig.hub) == []


@pytest.mark.parametrize(("answer", "code"), [(LedgerUnavailable("x"), "no_ledger"), (LedgerRefused("x"), "refused")])
async def test_a_ledger_that_says_no_is_said_so(autojump_clock, answer, code):
    async with cases() as rig:
        rig.answer = answer
        assert await refused(rig, c.AcknowledgeCase(case=4, by="ann")) == code
        assert await heard(rig.hub) == []


@pytest.mark.parametrize("text", ["5", "12", "CARD:7", " CARD:7 "])
async def test_a_history_is_found_by_number_or_by_card(autojump_clock, text):
    async with cases() as rig:
        found = await rig.me.ask(c.FindHistory(text=text), 20.0)
        assert [order.order for order in found.orders] == [5]
        assert [(line.kind, line.code, line.grant) for line in found.events] == [
            ("passage", "entry", 9), ("admitted", "ok", 9), ("refused", "used_up", None)
        ]  # fmt: skip
        assert "2" in found.events[0].text_zh and found.events[2].text_zh


@pytest.mark.parametrize("text", ["", "   ", "nobody", "999", "9" * 400, "٣"])
async def test_what_nobody_has_finds_nothing(autojump_clock, text):
    async with cases() as rig:
        assert await rig.me.ask(c.FindHistory(text=text), 20.0) == c.FindResult(orders=[], events=[])
