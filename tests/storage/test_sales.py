"""Selling: what an order becomes, what is refused, and that nothing is half done."""

from __future__ import annotations

import datetime
import time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from core.testing import Probe
from protocols.messages import CredentialKind, Denied, Granted
from storage.audit import audit
from storage.interfaces import (
    LedgerRefused,
    ListPrintJobs,
    PassTemplate,
    PrintJobRows,
    PrintJobState,
    SaleBooked,
    SaleLineOp,
    Template,
)
from storage.testing import Database, fresh_database, hash_id, ledger_running, product, sale, setup, visit_date

CARD = hash_id("card", "04A1B2C3")


async def _clean(database: Database) -> None:
    report = await audit(database.dsn, "demo")
    assert report.clean, report.broken


async def test_an_order_is_priced_paid_issued_and_queued_for_printing() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        booked: SaleBooked = await ledger.ask(
            sale("adult", 3, tenders=[("wechat", 20_000), ("cash", 15_000)], printer="p1")
        )
        assert (booked.total_cents, booked.change_cents, booked.repeated) == (30_000, 5_000, False)
        assert len({ticket.ticket for ticket in booked.tickets}) == 3
        assert len({ticket.print_job for ticket in booked.tickets} - {None}) == 3
        assert await database.fetch("select tender, tendered_cents, change_cents from payments order by payment") == [
            {"tender": "wechat", "tendered_cents": 20_000, "change_cents": 0},
            {"tender": "cash", "tendered_cents": 15_000, "change_cents": 5_000},
        ]
        await _clean(database)


async def test_the_same_order_again_is_the_same_order() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        op, replies = sale("both", 2, printer="p1"), Probe("replies")
        for _ in range(3):
            ledger.address.tell(op, reply_to=replies)
        first, *others = [await replies.expect(SaleBooked) for _ in range(3)]
        later: SaleBooked = await ledger.ask(op)
        assert not first.repeated
        for other in (*others, later):
            assert other == msgspec.structs.replace(first, repeated=True)
        other_channel: SaleBooked = await ledger.ask(msgspec.structs.replace(op, channel="kiosk"))
        assert other_channel.order != first.order
        await _clean(database)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"product": "dragon"}, "not on sale"),
        ({"quantity": 0}, "1 to 500"),
        ({"quantity": 501}, "1 to 500"),
        ({"visit_date": "2026-02-30"}, "YYYY-MM-DD"),
        ({"visit_date": "soon"}, "YYYY-MM-DD"),
        ({"visit_date": "20261122"}, "YYYY-MM-DD"),
        ({"visit_date": "2026-W47-7"}, "YYYY-MM-DD"),
        ({"visit_date": "9999-12-31"}, "YYYY-MM-DD"),
        ({"tenders": []}, "10000 cents unpaid"),
        ({"tenders": [("cash", 9_999)]}, "1 cents unpaid"),
        ({"tenders": [("wechat", 10_001)]}, "change is given on cash only"),
        ({"tenders": [("cash", 20_000), ("cash", -10_000)]}, "-10000 cents is none"),
        ({"tenders": [("", 10_000)]}, "is none"),
        ({"lines": []}, "1 to 50 lines"),
        ({"channel": ""}, "a channel, a key and a user"),
        ({"user": ""}, "a channel, a key and a user"),
        ({"key": "a\0b"}, "refused by the database"),
        ({"quantity": 2, "card_hash": CARD}, "one ticket"),
        ({"card_hash": b"short"}, "constraint"),
    ],
)
async def test_a_wrong_order_is_refused_and_nothing_of_it_is_kept(changes: dict[str, Any], words: str) -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        op = sale("adult", **({"tenders": [("cash", 10_000 * changes.get("quantity", 1))]} | changes))
        with pytest.raises(LedgerRefused, match=words):
            await ledger.ask(op)
        for table in ("orders", "order_lines", "payments", "tickets", "entitlements", "credentials", "print_jobs"):
            assert await database.fetchval(f"select count(*) from {table}") == 0
        await ledger.sell("adult")


async def test_a_card_opens_with_its_own_hash_and_is_sold_once() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell(
            "annual", card_hash=CARD, card_tail="04A1B2C3D4E5", template_enc=b"sealed", template_algorithm="dlib-1",
            holder_enc=b"name", printer="p1",
        )  # fmt: skip
        assert ticket.print_job is None
        assert await database.fetchval("select tail from credentials") == "B2C3D4E5"
        assert await ledger.ask(PassTemplate(credential_hash=CARD)) == Template(
            needs_face=True, ticket=ticket.ticket, template_enc=b"sealed", algorithm="dlib-1"
        )
        assert await ledger.ask(PassTemplate(credential_hash=hash_id("card", "other"))) == Template(
            needs_face=False, ticket=None, template_enc=None, algorithm=""
        )
        granted = await ledger.scan(0, kind=CredentialKind.CARD, credential_hash=CARD)
        assert isinstance(granted, Granted)
        as_code = await ledger.scan(ticket.ticket, lane="lane2")
        assert isinstance(as_code, Denied)  # a card has no code that could be copied
        for op in (sale("annual", card_hash=CARD), _two_lines_of_one_card()):
            with pytest.raises(LedgerRefused, match="already in use"):
                await ledger.ask(op)
        replies = Probe("replies")
        other = hash_id("card", "new")
        for _ in range(2):
            ledger.address.tell(sale("annual", card_hash=other), reply_to=replies)
        await replies.expect(SaleBooked)
        with pytest.raises(AssertionError, match="already in use"):
            await replies.expect(SaleBooked)
        await _clean(database)


def _two_lines_of_one_card() -> Any:
    line = SaleLineOp(product="annual", quantity=1, visit_date=visit_date(), card_hash=hash_id("card", "twice"))
    return sale("annual", lines=[line, line])


@pytest.mark.parametrize(
    ("timezone", "day", "days", "hours"),
    [
        ("Asia/Shanghai", "2026-06-30", 1, 24),
        ("Asia/Shanghai", "2024-02-28", 2, 48),
        ("Europe/Berlin", "2026-03-29", 1, 23),  # clocks go forward
        ("Europe/Berlin", "2026-10-25", 1, 25),  # and back
        ("America/New_York", "2026-12-31", 365, 365 * 24),
    ],
)
async def test_validity_is_counted_in_days_of_the_site(timezone: str, day: str, days: int, hours: int) -> None:
    site = msgspec.structs.replace(setup(products=[product("adult", days=days)]), timezone=timezone)
    async with fresh_database() as database, ledger_running(database.dsn, site=site) as ledger:
        (ticket,) = await ledger.sell("adult", visit_date=day)
        start = datetime.datetime.fromtimestamp(ticket.valid_from, ZoneInfo(timezone))
        assert start.isoformat()[:19] == f"{day}T00:00:00"
        assert ticket.valid_to - ticket.valid_from == hours * 3600


async def test_a_changed_product_is_a_new_version_and_sold_tickets_keep_theirs() -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn, site=setup(products=[product("adult", pax=2)])) as ledger:
            (old,) = await ledger.sell("adult")
        dearer = setup(products=[product("adult", pax=2, price_cents=12_000, zones=["park", "tower"])])
        for _ in range(2):
            async with ledger_running(database.dsn, site=dearer) as ledger:
                (new,) = await ledger.sell("adult")
                granted = await ledger.scan(old.ticket, lane=f"lane{_}")
                assert isinstance(granted, Granted)
                await ledger.ends(granted, 0, lane=f"lane{_}")
                wrong = await ledger.scan(old.ticket, to_zone="tower")
                assert isinstance(wrong, Denied)
        assert (old.price_cents, new.price_cents) == (10_000, 12_000)
        assert await database.fetchval("select max(version) from products") == 2
        async with ledger_running(database.dsn, site=setup(products=[product("other")])) as ledger:
            with pytest.raises(LedgerRefused, match="not on sale"):
                await ledger.sell("adult")
        await _clean(database)


async def test_print_jobs_move_in_order_and_can_be_listed() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        booked: SaleBooked = await ledger.ask(sale("adult", 3, printer="p1"))
        jobs = [ticket.print_job for ticket in booked.tickets]
        assert all(job is not None for job in jobs)
        now = time.time()
        for state in ("printing", "done"):
            ledger.address.tell(PrintJobState(job=jobs[0] or 0, state=state, detail="", at=now))
        ledger.address.tell(PrintJobState(job=jobs[1] or 0, state="failed", detail="缺纸", at=now))
        ledger.address.tell(PrintJobState(job=jobs[2] or 0, state="eaten", detail="", at=now))
        ledger.address.tell(PrintJobState(job=1, state="done", detail="", at=now))
        rows: PrintJobRows = await ledger.ask(ListPrintJobs(order=booked.order))
        assert [(row.job, row.state, row.detail) for row in rows.jobs] == [
            (jobs[0], "done", ""),
            (jobs[1], "failed", "缺纸"),
            (jobs[2], "queued", ""),
        ]
        assert rows.tickets == booked.tickets
        unfinished: PrintJobRows = await ledger.ask(ListPrintJobs(order=None))
        assert [row.job for row in unfinished.jobs] == jobs[1:]
        assert [ticket.ticket for ticket in unfinished.tickets] == [ticket.ticket for ticket in booked.tickets[1:]]
        kinds = await database.fetch("select kind from cases")
        assert kinds == [{"kind": "refused"}, {"kind": "refused"}]
        await _clean(database)
