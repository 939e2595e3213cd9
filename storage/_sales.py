"""Orders: priced, paid, issued and queued for printing in one transaction, once per (channel, key)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import asyncpg

from protocols.messages import Base
from storage._issue import Issuer, Shop, validity
from storage._rows import BIGINT_LIMIT, Rows, check_text
from storage.interfaces import (
    BookedTicket,
    LedgerRefused,
    PrintJobState,
    SaleBooked,
    SaleOp,
)
from storage.queries import load

SALES_OPS = (SaleOp, PrintJobState)
CASH = "cash"
LINES_LIMIT = 50  # per order
QUANTITY_LIMIT = 500  # tickets per line: an order is one transaction
PRINT_STATES = ("printing", "done", "failed")
WRITES = ("insert_orders", "insert_lines", "insert_payments", "insert_tickets", "insert_entitlements",
          "insert_credentials", "insert_passes", "insert_print_jobs", "update_print_jobs")  # fmt: skip

class Sales:
    """One batch's orders and print jobs."""

    def __init__(self, site: str, shop: Shop, now: float, new_id: Callable[[], int]) -> None:
        self.rows = Rows(site, load("sales"))
        self._site = site
        self._shop = shop
        self._now = now
        self._new_id = new_id
        self._issuer = Issuer(self.rows, shop, now, new_id)
        self._orders: dict[tuple[str, str], SaleBooked] = {}
        self._cards: set[bytes] = set()
        self._jobs: set[int] = set()

    async def load(self, connection: asyncpg.Connection, ops: Sequence[Base]) -> None:
        sql = load("sales")
        sales = [op for op in ops if isinstance(op, SaleOp)]
        jobs = [op.job for op in ops if isinstance(op, PrintJobState)]
        if sales:
            keys = [op.channel for op in sales], [op.key for op in sales]
            orders = {row["order_id"]: row for row in await connection.fetch(sql["orders"], self._site, *keys)}
            if orders:
                tickets: dict[int, list[BookedTicket]] = {order: [] for order in orders}
                for row in await connection.fetch(sql["tickets_of_orders"], self._site, list(orders)):
                    tickets[row["order_id"]].append(booked_ticket(row))
                for order, row in orders.items():
                    self._orders[row["channel"], row["key"]] = SaleBooked(
                        order=order,
                        total_cents=row["total_cents"],
                        change_cents=row["change_cents"],
                        tickets=tickets[order],
                        repeated=True,
                    )
            cards = [line.card_hash for op in sales for line in op.lines if line.card_hash is not None]
            if cards:
                for row in await connection.fetch(sql["cards"], self._site, cards):
                    self._cards.add(row["value_hash"])
        if jobs:
            for row in await connection.fetch(sql["print_jobs"], self._site, jobs):
                self._jobs.add(row["job"])

    async def write(self, connection: asyncpg.Connection) -> None:
        await self.rows.write(connection, *WRITES)

    # -- operations -----------------------------------------------------------------------------------------------

    def sale(self, op: SaleOp) -> SaleBooked:
        """Sell. Everything is checked before anything is written down. Raises LedgerRefused."""
        known = self._orders.get((op.channel, op.key))
        if known is not None:
            return known
        total_cents, change_cents = self._check(op)
        order = self._new_id()
        self.rows.add("insert_orders", order, op.channel, op.key, op.user, total_cents, change_cents, op.at)
        self._pay(order, op, change_cents)
        tickets: list[BookedTicket] = []
        for place, line in enumerate(op.lines, 1):
            offer = self._shop.offer(line.product, self._now)
            assert offer is not None, "checked"
            sold = (order, place, line.product, offer.version, line.quantity, offer.product.price_cents)
            self.rows.add("insert_lines", *sold, date.fromisoformat(line.visit_date))
            numbers = range(1, line.quantity + 1)
            tickets += [self._issuer.issue(order, place, number, op.printer, line, offer) for number in numbers]
            if line.card_hash is not None:
                self._cards.add(line.card_hash)
        booked = SaleBooked(
            order=order, total_cents=total_cents, change_cents=change_cents, tickets=tickets, repeated=False
        )
        self._orders[op.channel, op.key] = SaleBooked(
            order=order, total_cents=total_cents, change_cents=change_cents, tickets=tickets, repeated=True
        )
        return booked

    def print_job(self, op: PrintJobState) -> None:
        if op.job not in self._jobs:
            raise LedgerRefused(f"print job {op.job} is not known")
        if op.state not in PRINT_STATES:
            raise LedgerRefused(f"a print job cannot become {op.state!r}; it can be {', '.join(PRINT_STATES)}")
        check_text(detail=op.detail)
        moves = self.rows.pending("update_print_jobs")
        moves[:] = [move for move in moves if move[0] != op.job]  # the last word of a batch is the one that counts
        self.rows.add("update_print_jobs", op.job, op.state, op.detail, op.at)

    # -- parts ----------------------------------------------------------------------------------------------------

    def _check(self, op: SaleOp) -> tuple[int, int]:
        """Total and change in cents."""
        check_text(channel=op.channel, key=op.key, user=op.user, printer=op.printer)
        if not (op.channel and op.key and op.user):
            raise LedgerRefused("an order needs a channel, a key and a user")
        if not 1 <= len(op.lines) <= LINES_LIMIT:
            raise LedgerRefused(f"an order has 1 to {LINES_LIMIT} lines, not {len(op.lines)}")
        total_cents = 0
        cards = set(self._cards)
        for line in op.lines:
            offer = self._shop.offer(line.product, self._now)
            if offer is None:
                raise LedgerRefused(f"product {line.product!r} is not on sale")
            if not 1 <= line.quantity <= QUANTITY_LIMIT:
                raise LedgerRefused(f"a line has 1 to {QUANTITY_LIMIT} tickets, not {line.quantity}")
            validity(line, offer, self._shop.timezone)
            check_text(card_tail=line.card_tail, template_algorithm=line.template_algorithm)
            if line.card_hash is not None:
                if line.quantity != 1:
                    raise LedgerRefused("a card belongs to one ticket")
                if line.card_hash in cards:
                    raise LedgerRefused("this card is already in use")
                cards.add(line.card_hash)
            total_cents += line.quantity * offer.product.price_cents
        for tender, cents in op.tenders:
            check_text(tender=tender)
            if not tender or not 0 < cents <= BIGINT_LIMIT:
                raise LedgerRefused(f"a tender of {cents} cents is none")
        if total_cents > BIGINT_LIMIT:
            raise LedgerRefused("the total is beyond counting")
        change_cents = sum(cents for _, cents in op.tenders) - total_cents
        if change_cents < 0:
            raise LedgerRefused(f"the tenders leave {-change_cents} cents unpaid")
        if change_cents > sum(cents for tender, cents in op.tenders if tender == CASH):
            raise LedgerRefused(f"{change_cents} cents too much, and change is given on cash only")
        return total_cents, change_cents

    def _pay(self, order: int, op: SaleOp, change_cents: int) -> None:
        for place, (tender, cents) in enumerate(op.tenders, 1):
            back = min(cents, change_cents) if tender == CASH else 0
            change_cents -= back
            self.rows.add("insert_payments", order, place, tender, cents, back)


def booked_ticket(row: asyncpg.Record) -> BookedTicket:
    """A ticket as the tables know it."""
    return BookedTicket(
        ticket=row["ticket"],
        product=row["product"],
        product_name_zh=row["name_zh"],
        product_name_en=row["name_en"],
        product_class=row["product_class"],
        zones=list(row["zones"]),
        price_cents=row["unit_price_cents"],
        pax=row["pax"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        print_job=row["job"],
    )
