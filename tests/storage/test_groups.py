"""Groups: batches over several lanes, refunds in between, paper, names, and the vector of the domain model's section 6."""

from __future__ import annotations

import pytest
import trio

from protocols.messages import Denied, EndReason, Granted
from storage.audit import audit
from storage.interfaces import (
    BookedTicket,
    Collect,
    Collected,
    CompleteRefund,
    DecideRefund,
    FindBooks,
    HoldTicket,
    LedgerRefused,
    NamePeople,
    Named,
    OrderBooks,
    Person,
    RefundBooked,
    RequestRefund,
    SaleBooked,
    TicketBooks,
    TransferPlaces,
)
from storage.testing import (
    Database,
    LedgerUser,
    command,
    fresh_database,
    hash_id,
    ledger_running,
    product,
    sale,
    setup,
)


async def clean(database: Database) -> None:
    report = await audit(database.dsn, "demo")
    assert report.clean, report.broken


async def books_of(ledger: LedgerUser, ticket: int) -> TicketBooks:
    found: OrderBooks = await ledger.ask(FindBooks(number=ticket))
    return next(each for each in found.tickets if each.ticket == ticket)


async def refund(ledger: LedgerUser, ticket: int, places: int, **fields: object) -> RefundBooked:
    """Ask for a refund, have it approved by another one, hand the money over."""
    asked: RefundBooked = await ledger.ask(command(RequestRefund, ticket=ticket, places=places, **fields))
    await ledger.ask(command(DecideRefund, refund=asked.refund, approved=True, user="finance"))
    done: RefundBooked = await ledger.ask(command(CompleteRefund, refund=asked.refund))
    assert done.state == "done"
    return done


async def batch(ledger: LedgerUser, ticket: int, lane: str, pax: int, passed: int) -> Granted:
    granted = await ledger.scan(ticket, lane=lane, max_pax=pax)
    assert isinstance(granted, Granted), granted
    for _ in range(passed):
        await ledger.passes(granted, lane=lane)
    return granted


async def test_the_vector_of_section_6() -> None:
    """Domain model, section 6: 30 sold, refunds and two lanes; 30 = 23 redeemed + 7 refunded at the end."""
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (group,) = await ledger.sell("group30")
        ticket = group.ticket
        await refund(ledger, ticket, 5)
        assert (await books_of(ledger, ticket)).to_pass == 25
        a = await batch(ledger, ticket, "lane1", 12, 11)
        b = await batch(ledger, ticket, "lane2", 12, 12)
        assert (a.pax, b.pax, b.remaining) == (12, 12, 1)
        assert (await books_of(ledger, ticket)).to_pass == 1
        with pytest.raises(LedgerRefused, match="1 places of ticket .* can be refunded, not 2"):
            await ledger.ask(command(RequestRefund, ticket=ticket, places=2))
        await ledger.ends(a, 11, lane="lane1", why=EndReason.TIMEOUT)
        await ledger.ends(b, 12, lane="lane2")
        (right,) = (await books_of(ledger, ticket)).rights
        assert (right.redeemed, right.held) == (23, 0)
        assert (await books_of(ledger, ticket)).to_pass == 2
        done = await refund(ledger, ticket, 2)
        assert done.amount_cents == 2 * 8_000
        denied = await ledger.scan(ticket, lane="lane3")
        assert isinstance(denied, Denied) and denied.code in ("pax_exhausted", "already_used")
        (right,) = (await books_of(ledger, ticket)).rights
        assert (right.sold, right.redeemed, right.refunded) == (30, 23, 7)
        await clean(database)
