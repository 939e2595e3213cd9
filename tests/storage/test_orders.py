"""Orders that wait for their money, booked times, prices that change meanwhile, and codes that were printed before."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
import trio

from actors.admission import decide
from core.testing import patient_time
from protocols.messages import Denied, Granted
from protocols.rights import SlotTimes
from storage.audit import audit
from storage.interfaces import (
    BatchBooked,
    Batches,
    CancelOrder,
    Codes,
    CompleteRefund,
    CreateCodes,
    DecideRefund,
    ExportCodes,
    FindBooks,
    LedgerRefused,
    ListBatches,
    ListCodes,
    ListPrintJobs,
    MoveCodes,
    OrderBooks,
    PaymentBooked,
    PaymentNotice,
    PrintJobRows,
    ProductSetup,
    RefundBooked,
    RequestRefund,
    SaleBooked,
    StopZone,
)
from storage.testing import (
    Database,
    LedgerUser,
    command,
    fresh_database,
    grant_op,
    hash_id,
    ledger_running,
    product,
    run_sql,
    sale,
    setup,
)

patient = pytest.fixture(autouse=True)(patient_time)

SLOTS = [SlotTimes(opens="09:00", closes="12:00", places=5), SlotTimes(opens="22:00", closes="02:00", places=2)]


def timed(**changes: object) -> ProductSetup:
    return product("timed", slots=SLOTS, **changes)


async def clean(database: Database) -> None:
    report = await audit(database.dsn, "demo")
    assert report.clean, report.broken


def waiting(name: str = "adult", quantity: int = 1, **changes: object) -> object:
    return sale(name, quantity, **({"tenders": [], "pay_within_s": 600.0, "channel": "web"} | changes))


def notice(order: int, amount_cents: int = 10_000, **changes: object) -> PaymentNotice:
    fields = {"order": order, "tender": "wechat", "amount_cents": amount_cents, "user": "web", "reason": ""}
    paid: PaymentNotice = command(PaymentNotice, **(fields | changes))
    return paid


async def show(ledger: LedgerUser, code: int) -> Granted | Denied:
    """A signed code is read: the number that it carries is verified."""
    answer: Granted | Denied = await ledger.ask(msgspec.structs.replace(grant_op(code), ticket=code))
    return answer


async def found(ledger: LedgerUser, number: int) -> OrderBooks:
    books: OrderBooks = await ledger.ask(FindBooks(number=number))
    return books


async def state_of(ledger: LedgerUser, order: int, state: str) -> None:
    """Wait until the sweep has brought an order to a state."""
    with trio.fail_after(20):
        while (await found(ledger, order)).state != state:
            await trio.sleep(0.05)


async def stock(database: Database, opens: str = "09:00") -> tuple[int, int]:
    (row,) = await database.fetch("select held, sold from slots where opens = $1", opens)
    return row["held"], row["sold"]


# --- paying -----------------------------------------------------------------------------------------------------------


async def test_an_order_waits_for_its_money_and_opens_nothing_before() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        booked: SaleBooked = await ledger.ask(waiting("adult", 2, printer="p1"))
        assert [ticket.state for ticket in booked.tickets] == ["unpaid", "unpaid"]
        assert (await found(ledger, booked.order)).state == "created"
        early = await ledger.scan(booked.tickets[0].ticket)
        assert isinstance(early, Denied) and early.code == "unpaid"
        assert await database.fetchval("select count(*) from print_jobs") == 0
        paid: PaymentBooked = await ledger.ask(notice(booked.order, 20_000))
        assert (paid.outcome, paid.tickets) == ("paid", [ticket.ticket for ticket in booked.tickets])
        assert (await found(ledger, booked.order)).state == "issued"
        jobs: PrintJobRows = await ledger.ask(ListPrintJobs(order=booked.order))
        assert [job.state for job in jobs.jobs] == ["queued", "queued"], "printed once it is paid"
        assert isinstance(await ledger.scan(booked.tickets[0].ticket), Granted)
        await clean(database)


async def test_scenario_8_however_many_notices_come_an_order_is_issued_once() -> None:
    """Invariant 16: repeated and concurrent notices, of one provider and of two."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        booked: SaleBooked = await ledger.ask(waiting("adult", 3, printer="p1"))
        answers: list[PaymentBooked] = []

        async def send(op: PaymentNotice) -> None:
            answers.append(await ledger.ask(op))

        first, other = notice(booked.order, 30_000), notice(booked.order, 30_000, tender="alipay")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(send, first)
                nursery.start_soon(send, other)
        assert sorted({answer.outcome for answer in answers}) == ["given_back", "paid"]
        assert sum(not answer.repeated for answer in answers) == 2
        winners = {answer.outcome: answer for answer in answers}
        assert winners["given_back"].refund is not None and "paid already" in winners["given_back"].detail
        assert await database.fetchval("select count(*) from tickets") == 3
        assert await database.fetchval("select count(*) from print_jobs") == 3
        assert await database.fetchval("select count(*) from cases where kind = 'payment'") == 1
        books = await found(ledger, booked.order)
        (back,) = books.refunds
        assert (back.state, back.amount_cents, back.ticket) == ("approved", 30_000, None)
        await ledger.ask(command(CompleteRefund, refund=back.refund))
        assert (await found(ledger, booked.order)).refunded_cents == 30_000
        await clean(database)


async def test_a_notice_after_a_restart_and_with_another_amount_under_its_key() -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn, decide=decide) as ledger:
            booked: SaleBooked = await ledger.ask(waiting())
            op = notice(booked.order)
            await ledger.ask(op)
        async with ledger_running(database.dsn, decide=decide) as ledger:
            again: PaymentBooked = await ledger.ask(op)
            assert (again.repeated, again.outcome) == (True, "paid")
            with pytest.raises(LedgerRefused, match="used for another command"):
                await ledger.ask(notice(booked.order, 9_999, key=op.key))
            with pytest.raises(LedgerRefused, match="order 5 is not known"):
                await ledger.ask(notice(5))
            wrong: PaymentBooked = await ledger.ask(notice(booked.order, 9_999))
            assert (wrong.outcome, wrong.detail) == ("given_back", "9999 cents were paid instead of 10000")
            for amount in (0, -1):
                with pytest.raises(LedgerRefused, match="is none"):
                    await ledger.ask(notice(booked.order, amount))
        await clean(database)


async def test_money_that_comes_too_late_gets_its_places_back_while_there_are_any() -> None:
    """Scenario 8: payment after expiry is held again, or refunded; never lost in silence."""
    site = setup(products=[timed()])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        first: SaleBooked = await ledger.ask(waiting("timed", 3, slot="09:00", pay_within_s=0.01))
        second: SaleBooked = await ledger.ask(waiting("timed", 2, slot="09:00", pay_within_s=0.01))
        for order in (first.order, second.order):
            await state_of(ledger, order, "expired")
        assert await stock(database) == (0, 0)
        await ledger.ask(sale("timed", 2, slot="09:00"))
        late: PaymentBooked = await ledger.ask(notice(first.order, 30_000))
        assert (late.outcome, len(late.tickets)) == ("held_again", 3)
        assert await stock(database) == (0, 5)
        too_late: PaymentBooked = await ledger.ask(notice(second.order, 20_000))
        assert (too_late.outcome, too_late.tickets) == ("given_back", [])
        assert "no places are left" in too_late.detail
        assert (await found(ledger, second.order)).state == "expired"
        await clean(database)


async def test_an_order_is_cancelled_before_it_is_paid_and_only_then() -> None:
    site = setup(products=[timed()])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        booked: SaleBooked = await ledger.ask(waiting("timed", 4, slot="09:00"))
        assert await stock(database) == (4, 0)
        await ledger.ask(command(CancelOrder, order=booked.order))
        assert await stock(database) == (0, 0)
        assert (await found(ledger, booked.order)).state == "cancelled"
        back: PaymentBooked = await ledger.ask(notice(booked.order, 40_000))
        assert (back.outcome, back.detail) == ("given_back", "the order was cancelled")
        paid: SaleBooked = await ledger.ask(sale("timed", slot="09:00"))
        with pytest.raises(LedgerRefused, match="is paid: refund its tickets instead"):
            await ledger.ask(command(CancelOrder, order=paid.order))
        with pytest.raises(LedgerRefused, match="is cancelled"):
            await ledger.ask(command(CancelOrder, order=booked.order))
        await clean(database)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tenders": [("cash", 10_000)]}, "no tenders"),
        ({"pay_within_s": -1.0}, "waits up to"),
        ({"pay_within_s": 1e9}, "waits up to"),
        ({"pay_within_s": float("nan")}, "waits up to"),
        ({"product": "free"}, "no money to wait for"),
        ({"card_hash": hash_id("card", "1")}, "when they are paid"),
        ({"preprinted": [5]}, "5 is not known|when they are paid"),
    ],
)
async def test_an_order_that_cannot_wait_is_refused(changes: dict[str, object], words: str) -> None:
    site = setup(products=[product("adult"), product("free", price_cents=0)])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        with pytest.raises(LedgerRefused, match=words):
            await ledger.ask(waiting("adult", **changes))
        assert await database.fetchval("select count(*) from orders") == 0


# --- booked times -----------------------------------------------------------------------------------------------------


async def test_no_more_is_sold_for_a_time_than_there_are_places() -> None:
    """Invariant 11, with sales and reservations at once."""
    site = setup(products=[timed()])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        sold = 0

        async def buy(number: int) -> None:
            nonlocal sold
            op = waiting("timed", slot="09:00") if number % 2 else sale("timed", slot="09:00")
            try:
                await ledger.ask(op)
            except LedgerRefused as exc:
                assert "0 places are left at 09:00" in str(exc)
            else:
                sold += 1

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(buy, number)
        assert sold == 5 and sum(await stock(database)) == 5
        with pytest.raises(Exception, match="slot_never_oversold"):
            await run_sql(database.dsn, "update slots set sold = sold + 1 where opens = '09:00'")
        with pytest.raises(LedgerRefused, match="2 places are left at 22:00"):
            line = sale("timed", 3, slot="22:00")
            await ledger.ask(line)
        await clean(database)


async def test_two_lines_of_one_order_share_the_places() -> None:
    site = setup(products=[timed(pax=2)])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (line,) = sale("timed", slot="09:00").lines
        with pytest.raises(LedgerRefused, match="1 places are left"):
            await ledger.ask(sale("timed", lines=[line] * 3))
        assert await database.fetchval("select count(*) from orders") == 0
        booked: SaleBooked = await ledger.ask(sale("timed", lines=[line] * 2))
        assert len(booked.tickets) == 2
        await clean(database)


async def test_a_ticket_carries_its_time_on_the_sites_clock_over_midnight_too() -> None:
    site = setup(products=[timed()])
    zone = ZoneInfo(site.timezone)
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        op = sale("timed", slot="22:00", visit_date="2026-12-31")
        booked: SaleBooked = await ledger.ask(op)
        (ticket,) = booked.tickets
        assert ticket.slot_from is not None and ticket.slot_to is not None
        spans = [datetime.fromtimestamp(at, zone).isoformat()[:16] for at in (ticket.slot_from, ticket.slot_to)]
        assert spans == ["2026-12-31T22:00", "2027-01-01T02:00"]
        again: SaleBooked = await ledger.ask(op)
        assert again.repeated and again.tickets == booked.tickets
        for slot, words in (("", "sold for 09:00, 22:00, not for no time"), ("10:00", "not for 10:00")):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(sale("timed", slot=slot))
        await clean(database)


async def test_refunded_places_can_be_sold_again_once_the_money_is_back() -> None:
    site = setup(products=[timed(pax=5)])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (ticket,) = await ledger.sell("timed", slot="09:00")
        asked: RefundBooked = await ledger.ask(command(RequestRefund, ticket=ticket.ticket, places=3))
        await ledger.ask(command(DecideRefund, refund=asked.refund, approved=True))
        assert await stock(database) == (0, 5)
        await ledger.ask(command(CompleteRefund, refund=asked.refund))
        assert await stock(database) == (0, 2)
        await clean(database)


async def test_the_number_of_places_follows_the_site_file_but_never_below_what_is_sold() -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn, decide=decide, site=setup(products=[timed()])) as ledger:
            await ledger.sell("timed", 4, slot="09:00")
        fewer = product("timed", slots=[SlotTimes(opens="09:00", closes="12:00", places=2)])
        async with ledger_running(database.dsn, decide=decide, site=setup(products=[fewer])) as ledger:
            with pytest.raises(LedgerRefused, match="0 places are left"):
                await ledger.sell("timed", slot="09:00")
        more = product("timed", slots=[SlotTimes(opens="09:00", closes="12:00", places=6)])
        async with ledger_running(database.dsn, decide=decide, site=setup(products=[more])) as ledger:
            await ledger.sell("timed", 2, slot="09:00")
        await clean(database)


async def test_nothing_is_sold_for_today_into_a_zone_whose_sale_is_stopped_and_who_has_a_ticket_enters() -> None:
    """Stop-sale apart from stop-entry (domain model, section 11); the stricter of stop and slots wins."""
    zone = ZoneInfo("Asia/Shanghai")
    site = setup(products=[product("adult"), product("tower", zones=["tower"]), timed()])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (before,) = await ledger.sell("adult")
        waits: SaleBooked = await ledger.ask(waiting("adult"))
        order = {"zone": "park", "what": "sale", "user": "max", "reason": "crowded", "at": time.time()}
        await ledger.ask(StopZone(**order, until=time.time() + 600))
        today = datetime.now(zone).date().isoformat()
        for op in (sale("adult", visit_date=today), sale("adult"), waiting("adult"), sale("timed", slot="09:00")):
            with pytest.raises(LedgerRefused, match="the sale for today is stopped: park"):
                await ledger.ask(op)
        assert await ledger.sell("tower")
        in_a_week = (datetime.now(zone).date() + timedelta(days=7)).isoformat()
        assert await ledger.sell("adult", visit_date=in_a_week)
        paid: PaymentBooked = await ledger.ask(notice(waits.order))
        assert paid.outcome == "paid", "it was booked before"
        assert isinstance(await ledger.scan(before.ticket), Granted)
        await ledger.ask(StopZone(**order, until=None))
        assert await ledger.sell("adult")
        await clean(database)


# --- prices that change -----------------------------------------------------------------------------------------------


async def test_scenario_20_a_cart_is_sold_at_the_price_that_it_was_shown() -> None:
    """Invariant 21: the page names the version it showed; an old one is good for an hour, another one never."""
    now = time.time()
    async with fresh_database() as database:
        async with ledger_running(database.dsn, decide=decide, site=setup(products=[product("adult")])) as ledger:
            old: SaleBooked = await ledger.ask(sale("adult"))
        dearer = setup(products=[product("adult", price_cents=12_000)])
        async with ledger_running(database.dsn, decide=decide, site=dearer) as ledger:
            shown: SaleBooked = await ledger.ask(sale("adult", version=1))
            current: SaleBooked = await ledger.ask(sale("adult"))
            assert (old.total_cents, shown.total_cents, current.total_cents) == (10_000, 10_000, 12_000)
            by_price: SaleBooked = await ledger.ask(sale("adult", shown_cents=10_000))
            assert by_price.total_cents == 10_000
            with pytest.raises(LedgerRefused, match="costs 12000 cents now, not 9000"):
                await ledger.ask(sale("adult", shown_cents=9_000))
            with pytest.raises(LedgerRefused, match="not on sale as version 7"):
                await ledger.ask(sale("adult", version=7))
        async with ledger_running(database.dsn, decide=decide, site=dearer, clock=lambda: now + 7_200) as ledger:
            with pytest.raises(LedgerRefused, match="not on sale as version 1"):
                await ledger.ask(sale("adult", version=1))
            with pytest.raises(LedgerRefused, match="costs 12000 cents now"):
                await ledger.ask(sale("adult", shown_cents=10_000))
            assert (await ledger.ask(sale("adult", version=2))).total_cents == 12_000
        prices = await database.fetch("select unit_price_cents, version from order_lines order by order_id")
        assert [tuple(row.values()) for row in prices] == [
            (10_000, 1), (10_000, 1), (12_000, 2), (10_000, 1), (12_000, 2),
        ]  # fmt: skip
        await clean(database)


async def test_a_price_of_tomorrow_is_asked_from_the_business_day_on_that_it_is_for() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    midnight = datetime(2026, 11, 30, 4, 0, tzinfo=zone)  # business days of the site begin at 04:00
    site = setup(
        products=[
            product("adult", days=400),
            product("adult", days=400, price_cents=15_000, effective_from="2026-11-30"),
        ]
    )
    prices = []
    async with fresh_database() as database:
        for at in (midnight - timedelta(seconds=1), midnight, midnight + timedelta(days=300)):
            async with ledger_running(database.dsn, decide=decide, site=site, clock=at.timestamp) as ledger:
                booked: SaleBooked = await ledger.ask(sale("adult", visit_date="2026-12-01"))
                prices.append(booked.total_cents)
        assert prices == [10_000, 15_000, 15_000]
        async with ledger_running(
            database.dsn, decide=decide, site=site, clock=(midnight + timedelta(minutes=30)).timestamp
        ) as ledger:
            in_the_cart: SaleBooked = await ledger.ask(sale("adult", version=1, visit_date="2026-12-01"))
            assert in_the_cart.total_cents == 10_000
        await clean(database)


async def test_a_product_is_sold_within_its_season_only() -> None:
    today = datetime.now(UTC).date()
    past, future = (today - timedelta(days=9)).isoformat(), (today + timedelta(days=9)).isoformat()
    site = setup(
        products=[
            product("over", sale_last=past),
            product("not_yet", sale_first=future),
            product("now", sale_first=past, sale_last=future),
        ]
    )
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        assert await ledger.sell("now")
        for name, words in (("over", f"until {past}"), ("not_yet", f"from {future}")):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.sell(name)


# --- pre-printed codes ------------------------------------------------------------------------------------------------


async def in_stock(ledger: LedgerUser, quantity: int = 10, name: str = "adult") -> tuple[BatchBooked, list[int]]:
    """A batch that has come back from the printer; its tickets in the order of their serials."""
    made: BatchBooked = await ledger.ask(command(CreateCodes, product=name, quantity=quantity))
    codes: Codes = await ledger.ask(ListCodes(batch=made.batch))
    await ledger.ask(
        command(ExportCodes, batch=made.batch, handed_to="printer Wang", sha256=bytes(32), user="finance")
    )
    moved = command(MoveCodes, batch=made.batch, first=1, last=quantity, state="in_stock", workstation="w1")
    return await ledger.ask(moved), [ticket for _, ticket in codes.codes]


async def test_scenario_18_a_pre_printed_code_opens_only_after_it_was_sold() -> None:
    """Invariant 20: scanned before, then sold, then scanned; each step of its life is written down."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        batch, codes = await in_stock(ledger)
        assert batch.states == {"in_stock": 10}
        before = await show(ledger, codes[2])
        assert isinstance(before, Denied) and before.code == "not_yet_active"
        booked: SaleBooked = await ledger.ask(sale("adult", 2, preprinted=[codes[2], codes[4]], printer="p1"))
        assert [ticket.ticket for ticket in booked.tickets] == [codes[2], codes[4]]
        assert await database.fetchval("select count(*) from print_jobs") == 0, "they are printed already"
        assert isinstance(await show(ledger, codes[2]), Granted)
        assert isinstance(await show(ledger, codes[3]), Denied)
        by_serial: SaleBooked = await ledger.ask(sale("adult", serials=[(batch.batch, 1)]))
        assert by_serial.tickets[0].ticket == codes[0]
        listed: Batches = await ledger.ask(ListBatches(batch=0))
        assert listed.batches[0].states == {"in_stock": 7, "sold": 3}
        moves = await database.fetch("select state, first, last, command from code_moves order by move")
        assert [row["state"] for row in moves] == ["blank", "at_printer", "in_stock"]
        assert all(row["command"] for row in moves)
        await clean(database)


async def test_a_code_is_sold_once_and_for_its_own_product() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        batch, codes = await in_stock(ledger)
        await ledger.ask(sale("adult", preprinted=[codes[0]]))
        for changes, words in (
            ({"preprinted": [codes[0]]}, "serial 1 .* is sold, not in stock"),
            ({"preprinted": [codes[1]] * 2, "quantity": 2}, "named twice"),
            ({"preprinted": [codes[1]], "quantity": 2}, "1 pre-printed codes are named for 2 tickets"),
            ({"preprinted": [12345]}, "12345 is not known"),
            ({"serials": [(batch.batch, 11)]}, "has no serial 11"),
            ({"preprinted": [codes[1]], "product": "both"}, "printed for another product"),
        ):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(sale("adult", **changes))
        results: list[bool] = []

        async def sell() -> None:
            try:
                await ledger.ask(sale("adult", preprinted=[codes[5]]))
                results.append(True)
            except LedgerRefused:
                results.append(False)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(sell)
        assert results.count(True) == 1
        await clean(database)


async def test_void_and_lost_ranges_never_open_and_are_never_sold() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        batch, codes = await in_stock(ledger)
        await ledger.ask(command(MoveCodes, batch=batch.batch, first=1, last=3, state="lost", reason="van stolen"))
        await ledger.ask(command(MoveCodes, batch=batch.batch, first=4, last=4, state="void", reason="misprint"))
        for ticket in codes[:4]:
            denied = await show(ledger, ticket)
            assert isinstance(denied, Denied) and denied.code == "void"
            with pytest.raises(LedgerRefused, match="not in stock"):
                await ledger.ask(sale("adult", preprinted=[ticket]))
        await ledger.ask(sale("adult", preprinted=[codes[4]]))
        moved = {"batch": batch.batch, "first": 5, "last": 6}
        for fields, words in (
            (moved | {"state": "void"}, "serial 5 .* is sold: it cannot become void"),
            (moved | {"first": 1, "last": 2, "state": "in_stock", "workstation": "w2"}, "is lost"),
            (moved | {"last": 11, "state": "void"}, "serials 1 to 10"),
            (moved | {"first": 7, "state": "void"}, "serials 1 to 10"),
            (moved | {"first": 6, "state": "in_stock"}, "at a workstation"),
            (moved | {"first": 6, "state": "sold"}, "cannot be moved to 'sold'"),
            (moved | {"batch": 9, "state": "void"}, "batch 9 is not known"),
        ):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(MoveCodes, **fields))
        await clean(database)


async def test_two_people_see_every_export_and_what_went_out_is_known_by_its_hash() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        made: BatchBooked = await ledger.ask(command(CreateCodes, product="adult", quantity=3))
        again: BatchBooked = await ledger.ask(command(CreateCodes, product="adult", quantity=3))
        assert made.batch != again.batch and made.states == {"blank": 3}
        codes: Codes = await ledger.ask(ListCodes(batch=made.batch))
        assert [serial for serial, _ in codes.codes] == [1, 2, 3]
        out = {"batch": made.batch, "handed_to": "Wang", "sha256": bytes(range(32))}
        with pytest.raises(LedgerRefused, match="somebody else than chief"):
            await ledger.ask(command(ExportCodes, **out))
        exported: BatchBooked = await ledger.ask(command(ExportCodes, **out, user="finance"))
        assert (exported.exported, exported.states) == (1, {"at_printer": 3})
        for fields, words in (
            (out | {"handed_to": ""}, "to whom"),
            (out | {"sha256": b"short"}, "SHA-256"),
            (out | {"batch": 4}, "batch 4 is not known"),
        ):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(ExportCodes, **fields, user="finance"))
        row = await database.fetch("select sha256, exported_by, created_by from code_exports")
        assert row == [{"sha256": bytes(range(32)), "exported_by": "finance", "created_by": "chief"}]
        for fields, words in (
            ({"product": "dragon", "quantity": 1}, "not on sale"),
            ({"product": "annual", "quantity": 1}, "needs its holder's face"),
            ({"product": "adult", "quantity": 0}, "1 to 10000"),
            ({"product": "adult", "quantity": 10_001}, "1 to 10000"),
        ):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(CreateCodes, **fields))
        await clean(database)


@pytest.mark.slow
async def test_nobody_can_take_anothers_key_away() -> None:
    """A user's name and key never read like a payment's, a colleague's, or the ledger's own."""
    site = setup(products=[product("adult"), product("g", pax=5, product_class="group")])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (group,) = await ledger.sell("g")
        booked: SaleBooked = await ledger.ask(waiting(pay_within_s=2.0))
        ask = {"ticket": group.ticket, "places": 1}
        expiry = f"expire:{booked.order}"
        for user, key in (("@6", "wechat:tx"), ("pay", "wechat:tx"), ("system", expiry), ("a", "b:c")):
            await ledger.ask(command(RequestRefund, **ask, user=user, key=key))
        later: SaleBooked = await ledger.ask(waiting())
        assert (await ledger.ask(notice(later.order, key="tx"))).outcome == "paid"
        await state_of(ledger, booked.order, "expired")
        other: RefundBooked = await ledger.ask(command(RequestRefund, **ask, user="a:b", key="c"))
        assert not other.repeated
        await clean(database)


@pytest.mark.slow
async def test_a_large_order_is_told_with_the_ticket_asked_for_first_and_a_large_batch_is_drawn_in_time() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (line,) = sale("adult", 400).lines
        booked: SaleBooked = await ledger.ask(sale("adult", lines=[line, line]))
        last = booked.tickets[-1].ticket
        books = await found(ledger, last)
        assert (len(books.tickets), books.tickets[0].ticket) == (500, last)
        assert [ticket.ticket for ticket in books.tickets[1:]] == [ticket.ticket for ticket in booked.tickets[:499]]
        batch: BatchBooked = await ledger.ask(command(CreateCodes, product="adult", quantity=10_000), 30.0)
        codes: Codes = await ledger.ask(ListCodes(batch=batch.batch), 30.0)
        assert len(codes.codes) == len({ticket for _, ticket in codes.codes}) == 10_000
        await clean(database)


async def test_invariant_16_a_notice_whose_answer_was_lost_in_a_crash_is_answered_as_before() -> None:
    """The ledger is stopped in the middle of many notices, again and again; each order is issued once all the same."""
    async with fresh_database() as database:
        orders: list[SaleBooked] = []
        async with ledger_running(database.dsn, decide=decide) as ledger:
            for _ in range(6):
                orders.append(await ledger.ask(waiting("adult", 2)))
        notices = [notice(booked.order, 20_000) for booked in orders for _ in range(2)]
        for _ in range(3):
            async with ledger_running(database.dsn, decide=decide) as ledger, trio.open_nursery() as nursery:
                for op in notices:
                    nursery.start_soon(_send, ledger, op)
                await trio.sleep(0.02)
                nursery.cancel_scope.cancel()  # whoever asked is gone, and the ledger stops
        async with ledger_running(database.dsn, decide=decide) as ledger:
            answers = [await ledger.ask(op) for op in notices]
        assert [answer.outcome for answer in answers].count("paid") == len(orders)
        assert [answer.outcome for answer in answers].count("given_back") == len(orders)
        assert await database.fetchval("select count(*) from tickets where state = 'active'") == 2 * len(orders)
        await clean(database)


async def _send(ledger: LedgerUser, op: PaymentNotice) -> None:
    await ledger.ask(op)
