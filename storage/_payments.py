"""Orders that wait for their money: paid exactly once, given up, or run out; no money is lost in silence.

A payment that comes after its order ran out gets its places back while there are any, otherwise an automatic refund
(domain model, section 5, and invariant 16).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from storage._issue import current_times
from storage._office import Office, Outcome
from storage._office_ops import CancelOrder, OfficeDone, OfficeOp, PaymentBooked, PaymentNotice
from storage._pq import Connection
from storage._refunds import give_payment_back
from storage._rows import BIGINT_LIMIT, check_text
from storage._stock import Stock, settle_held
from storage.interfaces import LedgerRefused
from storage.queries import load

EXPIRIES_PER_SWEEP = 100  # orders that run out in one transaction; the next sweep goes on
SYSTEM = "system"


class ExpireOrder(OfficeOp, frozen=True, kw_only=True):
    """The ledger's own command: an order was not paid in time, its places are free again."""

    realm: ClassVar[str] = "#"
    order: int


class _Order(NamedTuple):
    state: str  # held | paid | expired | cancelled; an order that was paid at once is `paid`
    total_cents: int
    overdue: bool
    tickets: list[int]
    valid_to: float  # of the ticket that is valid longest


async def _order(office: Office, order: int) -> _Order:
    row = await office.fetchrow("order_for_payment", order, office.now)
    if row is None:
        raise LedgerRefused(f"order {order} is not known")
    return _Order(row["state"], row["total_cents"], row["overdue"], list(row["tickets"] or ()), row["valid_to"])


async def pay(office: Office, op: PaymentNotice, command: str) -> Outcome:
    check_text(tender=op.tender)
    if not op.tender or not 0 < op.amount_cents <= BIGINT_LIMIT:
        raise LedgerRefused(f"a payment of {op.amount_cents} cents by {op.tender!r} is none")
    order = await _order(office, op.order)
    row = await office.fetchrow("next_payment", op.order)
    assert row is not None
    payment: int = row["payment"]
    outcome, detail = "given_back", ""
    if op.amount_cents != order.total_cents:
        detail = f"{op.amount_cents} cents were paid instead of {order.total_cents}"
    elif order.state == "paid":
        detail = "the order is paid already"
    elif order.state == "cancelled":
        detail = "the order was cancelled"
    elif order.valid_to <= office.now:
        detail = "the order's tickets have run out"
    elif order.state == "held":
        outcome = "paid"
    elif await _hold_again(office, op.order):
        outcome = "held_again"
    else:
        detail = "the order ran out, and no places are left"
    await office.execute("insert_payment", op.order, payment, op.tender, op.amount_cents)
    refund = None
    if outcome == "given_back":
        refund = await give_payment_back(office, op.order, payment, op.amount_cents, command)
        office.records.case(
            f"payment:{refund}", "payment", "", "warning",
            f"order {op.order}: {op.amount_cents} cents go back, {detail}", office.now,
        )  # fmt: skip
    else:
        if outcome == "paid":
            await settle_held(office.connection, office.site, op.order, sold=True)
        await office.execute("set_reservation", op.order, "paid", office.now)
        await office.execute("activate_tickets", op.order)
        await _queue_prints(office, op.order)
    await office.execute(
        "insert_notice", op.tender, op.key, op.order, op.amount_cents, outcome, refund, office.now
    )
    tickets = [] if outcome == "given_back" else order.tickets
    answer = PaymentBooked(order=op.order, outcome=outcome, tickets=tickets, refund=refund, detail=detail)
    return Outcome(answer, f"order {op.order}, {op.amount_cents} cents by {op.tender}: {outcome}")


async def _hold_again(office: Office, order: int) -> bool:
    """After expiry: take the places of the order's slots again, all or none."""
    lines = [row for row in await office.fetch("slot_lines", order) if row["slot"]]
    stock = Stock(office.site)
    keys = [(row["product"], row["visit_date"], row["slot"]) for row in lines]
    await stock.load(office.connection, keys)
    try:
        for key, row in zip(keys, lines, strict=True):
            rules = office.shop.versions[row["product"], row["version"]].rules
            times = next(times for times in rules.slots if times.opens == row["slot"])
            now_on = current_times(office.shop, row["product"], times, office.now)
            stock.take(key, now_on, row["people"], held=False)
    except LedgerRefused:
        return False
    await stock.write(office.connection)
    return True


async def _queue_prints(office: Office, order: int) -> None:
    """What the order was to be printed on is known since it was made; printing waits for the money."""
    rows = await office.fetch("to_print", order)
    jobs = [(office.new_id(), order, row["ticket"], row["printer"], office.now) for row in rows]
    await office.execute_many("insert_print_job", jobs)


async def cancel(office: Office, op: CancelOrder, command: str) -> Outcome:
    order = await _order(office, op.order)
    if order.state != "held":
        cure = ": refund its tickets instead" if order.state == "paid" else ""
        raise LedgerRefused(f"order {op.order} is {order.state}{cure}")
    await settle_held(office.connection, office.site, op.order, sold=False)
    await office.execute("set_reservation", op.order, "cancelled", office.now)
    await office.execute("void_tickets", op.order)
    return Outcome(OfficeDone(detail="cancelled"), f"order {op.order} cancelled")


async def expire(office: Office, op: ExpireOrder, command: str) -> Outcome:
    order = await _order(office, op.order)
    if order.state != "held" or not order.overdue:
        raise LedgerRefused(f"order {op.order} is {order.state}")
    await settle_held(office.connection, office.site, op.order, sold=False)
    await office.execute("set_reservation", op.order, "expired", office.now)
    return Outcome(OfficeDone(detail="expired"), f"order {op.order} expired")


async def overdue_orders(connection: Connection, site: str, now: float) -> list[ExpireOrder]:
    """The commands that end what nobody has paid for in time."""
    rows = await connection.fetch(load("office")["overdue"], site, now, EXPIRIES_PER_SWEEP)
    return [
        ExpireOrder(key=f"expire:{row['order_id']}", user=SYSTEM, role="", reason="", at=now, order=row["order_id"])
        for row in rows
    ]
