"""A sale: all or nothing at the ledger, the same order for the same key, and every ticket printed in the end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
import trio

from actors import sales as module
from actors.errors import CommandRefused
from actors.passes import EnrolFace, EnrolledFace, FaceRefused
from actors.printer import PrintTicket
from actors.sales import HolderSeal, Sales
from actors.testing import alive, heard, only, settle
from core import Address, AskTimeout
from core.testing import Probe
from protocols.console import FeedEvent, GetPrintJobs, ListProducts, Sell, SellLine, Sold, Tender
from protocols.errors import PrinterError
from protocols.rights import ProductRules, ZoneRight
from storage.interfaces import (
    BookedTicket,
    LedgerRefused,
    LedgerUnavailable,
    ListPrintJobs,
    PrintJobRow,
    PrintJobRows,
    PrintJobState,
    ProductSetup,
    SaleBooked,
    SaleOp,
)

PATIENCE_S = 20.0


def product(name: str, *, needs_face: bool = False, price_cents: int = 8000) -> ProductSetup:
    return ProductSetup(
        product=name, name_zh="成人票", name_en="Adult", product_class="full", price_cents=price_cents,
        pax=1, rules=ProductRules(rights=[ZoneRight(zones=["park"])], needs_face=needs_face),
    )  # fmt: skip


def ticket(number: int, *, job: int | None = None) -> BookedTicket:
    return BookedTicket(
        ticket=number, product="adult", product_name_zh="成人票", product_name_en="Adult", product_class="full",
        zones=["park"], price_cents=8000, pax=1, valid_from=0.0, valid_to=60.0, print_job=job,
    )  # fmt: skip


def order(**changes) -> Sell:
    fields = {
        "key": "k1",
        "lines": [SellLine(product="adult", quantity=2)],
        "tenders": [Tender(tender="cash", amount_cents=20000)],
        "printer": "w1",
        "by": "ann",
    }
    return Sell(**(fields | changes))


def booked(*tickets: BookedTicket, repeated: bool = False) -> SaleBooked:
    return SaleBooked(order=500, total_cents=16000, change_cents=4000, tickets=list(tickets), repeated=repeated)


class Rig:
    def __init__(self) -> None:
        self.ledger, self.passes, self.hub = Probe("ledger"), Probe("passes"), Probe("consoles")
        self.printer = Probe("printer/w1", capacity=8)
        self.me = Address("sales", capacity=256)
        self.poison: int | None = None  # a ticket that cannot be printed
        self.actor = Sales(
            products=[product("adult"), product("annual", needs_face=True)],
            timezone="Asia/Shanghai",
            sign=lambda ticket: f"code {ticket.ticket}",
            render=self.render,
            holder=HolderSeal(hash_card=lambda card: f"h{card}".encode(), seal_name=lambda name: f"s{name}".encode()),
            ledger=self.ledger,
            passes=self.passes,
            printers={"w1": self.printer},
            hub=self.hub,
        )

    def render(self, ticket: BookedTicket, code: str, order: int) -> bytes:
        if ticket.ticket == self.poison:
            raise PrinterError("no such character")
        return f"{code} of {order}".encode()

    async def ask(self, message, outcome: list) -> None:
        try:
            outcome.append(await self.me.ask(message, PATIENCE_S))
        except Exception as exc:
            outcome.append(exc)

    async def payloads(self):
        return [job.payload for job in only(await heard(self.printer), PrintTicket)]


@asynccontextmanager
async def sales(*, crashes=0, started=True):
    """The shop, past its first look for unfinished print jobs."""
    rig = Rig()
    async with trio.open_nursery() as nursery, alive(rig.actor.run, rig.me, crashes=crashes):

        def sell(message):
            outcome: list = []
            nursery.start_soon(rig.ask, message, outcome)
            return outcome

        rig.sell = sell
        if started:
            await trio.sleep(module.RESUME_AFTER_S + 0.1)
            await rig.ledger.expect(ListPrintJobs)
            rig.ledger.envelope.reply(PrintJobRows(jobs=[], tickets=[]))
        await settle()
        yield rig
        nursery.cancel_scope.cancel()


async def test_a_sale_is_booked_whole_then_signed_then_printed(autojump_clock):
    async with sales() as rig:
        outcome = rig.sell(order())
        operation = await rig.ledger.expect(SaleOp)
        assert (operation.channel, operation.key, operation.user, operation.printer) == ("window", "k1", "ann", "w1")
        assert operation.tenders == [("cash", 20000)]
        (line,) = operation.lines
        assert (line.product, line.quantity, line.card_hash, line.holder_enc) == ("adult", 2, None, None)
        assert line.visit_date == datetime.now(ZoneInfo("Asia/Shanghai")).date().isoformat()
        assert await rig.payloads() == [], "nothing is printed that is not on disk"
        rig.ledger.envelope.reply(booked(ticket(1, job=11), ticket(2, job=12)))
        await settle()
        (sold,) = outcome
        assert isinstance(sold, Sold)
        assert (sold.order, sold.total_cents, sold.change_cents, sold.repeated) == (500, 16000, 4000, False)
        assert [each.code for each in sold.tickets] == ["code 1", "code 2"] and sold.print_jobs == [11, 12]
        assert await rig.payloads() == [b"code 1 of 500", b"code 2 of 500"]
        (line,) = only(await heard(rig.hub), FeedEvent)
        assert "ann" in line.text_en and "160.00" in line.text_en


async def test_the_same_key_is_the_same_order_and_nothing_is_printed_or_told_twice(autojump_clock):
    async with sales() as rig:
        for repeated in (False, True):
            outcome = rig.sell(order())
            await rig.ledger.expect(SaleOp)
            rig.ledger.envelope.reply(booked(ticket(1, job=11), repeated=repeated))
            await settle()
            assert (outcome[0].repeated, outcome[0].tickets[0].code) == (repeated, "code 1")
        assert len(await rig.payloads()) == 1
        assert len(only(await heard(rig.hub), FeedEvent)) == 1


async def test_a_sale_without_a_printer_prints_nothing(autojump_clock):
    async with sales() as rig:
        rig.sell(order(printer=""))
        await rig.ledger.expect(SaleOp)
        rig.ledger.envelope.reply(booked(ticket(1)))
        assert await rig.payloads() == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": ""}, "bad_key"),
        ({"key": "k" * 65}, "bad_key"),
        ({"channel": ""}, "bad_key"),
        ({"lines": []}, "bad_lines"),
        ({"lines": [SellLine(product="adult", quantity=1)] * 51}, "bad_lines"),
        ({"lines": [SellLine(product="elephant", quantity=1)]}, "unknown_product"),
        ({"lines": [SellLine(product="adult", quantity=0)]}, "bad_quantity"),
        ({"lines": [SellLine(product="adult", quantity=201)]}, "bad_quantity"),
        ({"lines": [SellLine(product="annual", quantity=2, card="123", photo=b"x")]}, "bad_quantity"),
        ({"tenders": [Tender(tender="shells", amount_cents=1)]}, "bad_tender"),
        ({"tenders": [Tender(tender="cash", amount_cents=-1)]}, "bad_tender"),
        ({"printer": "w9"}, "unknown_printer"),
        ({"lines": [SellLine(product="adult", quantity=1, serials=["4"])]}, "bad_serial"),
        ({"lines": [SellLine(product="adult", quantity=1, serials=["4-1x"])]}, "bad_serial"),
        ({"lines": [SellLine(product="adult", quantity=1, serials=["4-" + "9" * 40])]}, "bad_serial"),
        ({"lines": [SellLine(product="adult", quantity=1, serials=["٤-١"])]}, "bad_serial"),
        ({"lines": [SellLine(product="adult", quantity=1, codes=["PF1:X"])]}, "bad_code"),
        ({"lines": [SellLine(product="annual", quantity=1, card="123")]}, "photo_required"),
        ({"lines": [SellLine(product="annual", quantity=1, photo=b"x")]}, "photo_required"),
    ],
)
async def test_what_no_ledger_need_see_is_refused_and_nothing_is_sold(autojump_clock, changes, code):
    async with sales() as rig:
        outcome = rig.sell(order(**changes))
        assert await heard(rig.ledger) == [] and await rig.payloads() == []
        assert isinstance(outcome[0], CommandRefused) and outcome[0].code == code and outcome[0].text_zh


@pytest.mark.parametrize(
    ("error", "code"),
    [(LedgerRefused("the tenders do not cover the total"), "refused"), (LedgerUnavailable("away"), "unavailable")],
)
async def test_what_the_ledger_does_not_take_is_not_sold(autojump_clock, error, code):
    async with sales() as rig:
        outcome = rig.sell(order())
        await rig.ledger.expect(SaleOp)
        rig.ledger.envelope.fail(error)
        await settle()
        assert isinstance(outcome[0], CommandRefused) and outcome[0].code == code
        assert await rig.payloads() == [] and only(await heard(rig.hub), FeedEvent) == []


async def test_an_unknown_outcome_is_told_as_such(autojump_clock):
    async with sales() as rig:
        outcome = rig.sell(order())
        await trio.sleep(module.LEDGER_S + 0.1)
        assert isinstance(outcome[0], AskTimeout)


async def test_what_the_window_says_of_time_price_codes_and_money_to_come_reaches_the_ledger(autojump_clock):
    async with sales() as rig:
        rig.actor._read_code = lambda text: int(text.removeprefix("PF1:"))
        line = SellLine(product="adult", quantity=2, slot="09:00", shown_cents=8000, codes=["PF1:77"], serials=["4-12"])
        message = order(lines=[line], tenders=[], pay_within_s=600.0, supplement_of=44, printer="")
        outcome = rig.sell(message)
        asked = await rig.ledger.expect(SaleOp)
        (sold,) = asked.lines
        assert (sold.slot, sold.shown_cents, sold.preprinted, sold.serials) == ("09:00", 8000, [77], [(4, 12)])
        assert (asked.pay_within_s, asked.supplement_of, asked.tenders) == (600.0, 44, [])
        unpaid = msgspec.structs.replace(ticket(1), state="unpaid")
        rig.ledger.envelope.reply(booked(unpaid))
        await settle()
        assert outcome[0].tickets[0].code == "", "no code before the money"


# --- cards ------------------------------------------------------------------------------------------------------


async def test_a_card_is_sold_with_its_holders_template_and_no_name_in_clear(autojump_clock):
    async with sales() as rig:
        line = SellLine(product="annual", quantity=1, card="1234567890", holder="Wang", photo=b"jpeg")
        rig.sell(order(lines=[line]))
        assert (await rig.passes.expect(EnrolFace)).photo == b"jpeg"
        rig.passes.envelope.reply(EnrolledFace(template_enc=b"sealed", algorithm="a1"))
        (sold,) = (await rig.ledger.expect(SaleOp)).lines
        assert (sold.card_hash, sold.card_tail, sold.holder_enc) == (b"h1234567890", "7890", b"sWang")
        assert (sold.template_enc, sold.template_algorithm) == (b"sealed", "a1")


async def test_the_tail_of_a_short_card_number_would_be_most_of_it(autojump_clock):
    async with sales() as rig:
        rig.sell(order(lines=[SellLine(product="adult", quantity=1, card="12345678")]))
        (sold,) = (await rig.ledger.expect(SaleOp)).lines
        assert sold.card_tail == ""


async def test_a_photograph_that_cannot_be_used_sells_no_card(autojump_clock):
    async with sales() as rig:
        outcome = rig.sell(order(lines=[SellLine(product="annual", quantity=1, card="123", photo=b"x")]))
        await rig.passes.expect(EnrolFace)
        rig.passes.envelope.fail(FaceRefused("several_faces"))
        await settle()
        assert outcome[0].code == "bad_photo" and "several_faces" in outcome[0].text_en
        assert await heard(rig.ledger) == []


# --- printing ---------------------------------------------------------------------------------------------------


def rows(*jobs: tuple[int, str]) -> PrintJobRows:
    """Print jobs with their states; a job's ticket is ten less."""
    return PrintJobRows(
        jobs=[PrintJobRow(job=job, ticket=job - 10, printer="w1", state=state, detail="") for job, state in jobs],
        tickets=[ticket(job - 10, job=job) for job, _ in jobs],
    )


async def test_after_a_restart_what_was_sold_and_not_printed_is_printed(autojump_clock):
    async with sales(started=False) as rig:
        await rig.ledger.expect(ListPrintJobs, within_s=module.RESUME_AFTER_S + 0.1)
        rig.ledger.envelope.reply(rows((11, "queued"), (12, "printing"), (13, "failed")))
        assert len(await rig.payloads()) == 3


async def test_unfinished_jobs_are_asked_for_until_the_ledger_answers(autojump_clock):
    async with sales(started=False) as rig:
        for _ in range(3):
            await rig.ledger.expect(ListPrintJobs, within_s=module.RESUME_AFTER_S + 0.1)
            rig.ledger.envelope.fail(LedgerUnavailable("away"))
        await rig.ledger.expect(ListPrintJobs, within_s=module.RESUME_AFTER_S + 0.1)
        rig.ledger.envelope.reply(rows((11, "queued")))
        assert len(await rig.payloads()) == 1


async def test_a_sale_whose_answer_was_lost_is_printed_all_the_same(autojump_clock):
    """The window asks again with its key and hears `repeated`; nobody has handed the jobs over yet."""
    async with sales() as rig:
        rig.sell(order())
        await trio.sleep(module.LEDGER_S + 0.1)
        await heard(rig.ledger)
        rig.sell(order())
        await rig.ledger.expect(SaleOp)
        rig.ledger.envelope.reply(booked(ticket(1, job=11), repeated=True))
        await settle()
        assert await rig.payloads() == [], "it may have been printed: only the ledger knows"
        await rig.ledger.expect(ListPrintJobs, within_s=60.0)
        rig.ledger.envelope.reply(rows((11, "queued")))
        assert len(await rig.payloads()) == 1


async def test_a_job_for_which_the_printer_had_no_room_is_offered_again(autojump_clock):
    async with sales() as rig:
        while rig.printer.statistics().depth < rig.printer.capacity:
            rig.printer.tell("something else")
        rig.sell(order())
        await rig.ledger.expect(SaleOp)
        rig.ledger.envelope.reply(booked(ticket(1, job=11)))
        await heard(rig.printer)
        await rig.ledger.expect(ListPrintJobs, within_s=60.0)
        rig.ledger.envelope.reply(rows((11, "queued")))
        assert len(await rig.payloads()) == 1


async def test_a_ticket_that_cannot_be_printed_is_sold_and_stops_no_other(autojump_clock):
    async with sales() as rig:
        rig.poison = 1
        outcome = rig.sell(order())
        await rig.ledger.expect(SaleOp)
        rig.ledger.envelope.reply(booked(ticket(1, job=11), ticket(2, job=12)))
        await settle()
        assert isinstance(outcome[0], Sold) and len(outcome[0].tickets) == 2
        assert await rig.payloads() == [b"code 2 of 500"]
        (failed,) = only(await heard(rig.ledger), PrintJobState)
        assert (failed.job, failed.state) == (11, "failed") and "no such character" in failed.detail
        await rig.ledger.expect(ListPrintJobs, within_s=60.0)
        rig.ledger.envelope.reply(rows((11, "failed"), (13, "queued")))
        assert await rig.payloads() == [b"code 3 of 0"], "nor does it after a restart"
        assert rig.me.incarnation == 1


async def test_a_window_sees_how_far_its_print_jobs_are(autojump_clock):
    async with sales() as rig:
        outcome = rig.sell(GetPrintJobs(order=500))
        assert (await rig.ledger.expect(ListPrintJobs)).order == 500
        rig.ledger.envelope.reply(rows((11, "done"), (12, "printing")))
        await settle()
        assert [(job.job, job.state) for job in outcome[0].jobs] == [(11, "done"), (12, "printing")]


# --- the rest ---------------------------------------------------------------------------------------------------


async def test_the_window_sees_the_products(autojump_clock):
    async with sales() as rig:
        products = (await rig.me.ask(ListProducts(), 1.0)).products
        assert [(each.product, each.price_cents, each.needs_photo) for each in products] == [
            ("adult", 8000, False),
            ("annual", 8000, True),
        ]


async def test_a_slow_ledger_holds_no_other_window_up_and_too_many_are_told_so(autojump_clock):
    async with sales() as rig:
        outcomes = [rig.sell(order(key=f"k{number}")) for number in range(module.SALES_MAX)]
        await settle()
        with pytest.raises(CommandRefused) as refused:
            await rig.me.ask(order(key="one more"), 1.0)
        assert refused.value.code == "busy"
        assert (await rig.me.ask(ListProducts(), 1.0)).products
        for _ in range(module.SALES_MAX):
            await rig.ledger.expect(SaleOp)
            rig.ledger.envelope.reply(booked(ticket(1)))
        await settle()
        assert all(isinstance(outcome[0], Sold) for outcome in outcomes)


