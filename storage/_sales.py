"""Orders: priced, paid, issued and queued for printing in one transaction, once per (channel, key)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from protocols.clock import business_day
from protocols.messages import Base
from protocols.rights import STAFF_CLASSES, zones_of
from storage._issue import Issuer, Offer, Shop, current_times, slot_times, validity
from storage._pq import Connection, Record
from storage._rows import BIGINT_LIMIT, Rows, check_text
from storage._stock import SlotKey, Stock
from storage.interfaces import (
    BookedTicket,
    LedgerRefused,
    PrintJobState,
    SaleBooked,
    SaleLineOp,
    SaleOp,
)
from storage.queries import load

SALES_OPS = (SaleOp, PrintJobState)
CASH = "cash"
LINES_LIMIT = 50  # per order
QUANTITY_LIMIT = 500  # tickets per line: an order is one transaction
PRINT_STATES = ("printing", "done", "failed")
PAY_WITHIN_LIMIT_S = 7 * 86_400.0  # an order may wait so long for its money
WRITES = ("insert_orders", "insert_lines", "insert_payments", "insert_tickets", "insert_entitlements",
          "insert_credentials", "insert_passes", "insert_print_jobs", "update_print_jobs", "insert_reservations",
          "sell_preprinted")  # fmt: skip


@dataclass(slots=True)
class _Code:
    """A pre-printed code that a sale may name."""

    ticket: int
    batch: int
    serial: int
    state: str
    product: str
    version: int

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
        self._codes: dict[int, _Code] = {}
        self._serials: dict[tuple[int, int], int] = {}
        self._supplemented: set[int] = set()
        self._stock = Stock(site)
        self._stopped: set[str] = set()  # zones for which nothing is sold today

    async def load(self, connection: Connection, ops: Sequence[Base]) -> None:
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
            rows = await connection.fetch(sql["stopped_sales"], self._site, self._now)
            self._stopped = {row["zone"] for row in rows}
            await self._load_rest(connection, sales)
        if jobs:
            for row in await connection.fetch(sql["print_jobs"], self._site, jobs):
                self._jobs.add(row["job"])

    async def _load_rest(self, connection: Connection, sales: list[SaleOp]) -> None:
        """What few orders need: slots, pre-printed codes, the orders that they supplement."""
        office = load("office")
        lines = [line for op in sales for line in op.lines]
        await self._stock.load(connection, [_slot_key(line) for line in lines if line.slot and _is_date(line)])
        tickets = [ticket for line in lines for ticket in line.preprinted]
        serials = [serial for line in lines for serial in line.serials]
        if tickets or serials:
            columns = [batch for batch, _ in serials], [serial for _, serial in serials]
            for row in await connection.fetch(office["preprinted"], self._site, tickets, *columns):
                code = _Code(**row)
                self._codes[code.ticket] = code
                self._serials[code.batch, code.serial] = code.ticket
        supplemented = [op.supplement_of for op in sales if op.supplement_of is not None]
        if supplemented:
            rows = await connection.fetch(load("sales")["known_orders"], self._site, supplemented)
            self._supplemented = {row["order_id"] for row in rows}

    async def write(self, connection: Connection) -> None:
        await self.rows.write(connection, *WRITES)
        await self._stock.write(connection)

    # -- operations -----------------------------------------------------------------------------------------------

    def sale(self, op: SaleOp) -> SaleBooked:
        """Sell. Everything is checked before anything is written down. Raises LedgerRefused."""
        known = self._orders.get((op.channel, op.key))
        if known is not None:
            return known
        total_cents, change_cents = self._check(op)
        order = self._new_id()
        sold = (op.channel, op.key, op.user, total_cents, change_cents, op.at, op.supplement_of)
        self.rows.add("insert_orders", order, *sold)
        self._pay(order, op, change_cents)
        waits = op.pay_within_s > 0
        if waits:
            self.rows.add("insert_reservations", order, self._now + op.pay_within_s, op.printer, self._now)
        tickets: list[BookedTicket] = []
        for place, line in enumerate(op.lines, 1):
            tickets += self._sell_line(order, place, op, line, waits)
        booked = SaleBooked(
            order=order, total_cents=total_cents, change_cents=change_cents, tickets=tickets, repeated=False
        )
        self._orders[op.channel, op.key] = SaleBooked(
            order=order, total_cents=total_cents, change_cents=change_cents, tickets=tickets, repeated=True
        )
        return booked

    def _sell_line(self, order: int, place: int, op: SaleOp, line: SaleLineOp, waits: bool) -> list[BookedTicket]:
        offer = self._offer(line)
        sold = (order, place, line.product, offer.version, line.quantity, offer.product.price_cents)
        self.rows.add("insert_lines", *sold, date.fromisoformat(line.visit_date), line.slot)
        times = slot_times(line, offer)
        if times is not None:
            now_on = current_times(self._shop, line.product, times, self._now)
            self._stock.take(_slot_key(line), now_on, line.quantity * offer.product.pax, held=waits)
        codes = self._named_codes(line)
        for code in codes:
            self._codes[code].state = "sold"
            self.rows.add("sell_preprinted", code, self._now)
        if line.card_hash is not None:
            self._cards.add(line.card_hash)
        printer = "" if waits or codes else op.printer  # printed when it is paid, or long ago
        state = "unpaid" if waits else "active"
        return [
            self._issuer.issue(order, place, number, printer, line, offer, ticket=ticket, state=state)
            for number, ticket in enumerate(codes or [None] * line.quantity, 1)
        ]

    def _offer(self, line: SaleLineOp) -> Offer:
        """What the line is sold as. Raises LedgerRefused."""
        offer = self._shop.shown(line.product, line.version, self._now)
        if offer is not None and line.shown_cents not in (None, offer.product.price_cents):
            now_cents = offer.product.price_cents
            offer = self._shop.priced(line.product, line.shown_cents or 0, self._now)
            if offer is None:
                raise LedgerRefused(f"product {line.product!r} costs {now_cents} cents now, not {line.shown_cents}")
        if offer is None:
            version = f" as version {line.version}" if line.version else ""
            raise LedgerRefused(f"product {line.product!r} is not on sale{version}")
        rules = offer.product.rules
        today = business_day(self._now, self._shop.timezone, self._shop.day_start).isoformat()
        if today < rules.sale_first:
            raise LedgerRefused(f"product {line.product!r} is on sale from {rules.sale_first}")
        if rules.sale_last and today > rules.sale_last:
            raise LedgerRefused(f"product {line.product!r} was on sale until {rules.sale_last}")
        stopped = self._stopped.intersection(zones_of(rules))
        if stopped and line.visit_date <= today and offer.product.product_class not in STAFF_CLASSES:
            raise LedgerRefused(f"the sale for today is stopped: {', '.join(sorted(stopped))} takes nobody else")
        return offer

    def _named_codes(self, line: SaleLineOp) -> list[int]:
        """The pre-printed tickets that a line sells, none for an ordinary one. Raises LedgerRefused."""
        codes = list(line.preprinted)
        for serial in line.serials:
            if serial not in self._serials:
                raise LedgerRefused(f"batch {serial[0]} has no serial {serial[1]}")
            codes.append(self._serials[serial])
        return codes

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
        cards, codes = set(self._cards), set[int]()
        wanted: dict[SlotKey, int] = {}
        if op.supplement_of is not None and op.supplement_of not in self._supplemented:
            raise LedgerRefused(f"order {op.supplement_of} is not known, and cannot be added to")
        for line in op.lines:
            offer = self._offer(line)
            if not 1 <= line.quantity <= QUANTITY_LIMIT:
                raise LedgerRefused(f"a line has 1 to {QUANTITY_LIMIT} tickets, not {line.quantity}")
            validity(line, offer, self._shop.timezone)
            self._check_slot(line, offer, wanted)
            self._check_codes(line, offer, codes)
            check_text(card_tail=line.card_tail, template_algorithm=line.template_algorithm)
            if line.card_hash is not None:
                if line.quantity != 1:
                    raise LedgerRefused("a card belongs to one ticket")
                if line.card_hash in cards:
                    raise LedgerRefused("this card is already in use")
                cards.add(line.card_hash)
            total_cents += line.quantity * offer.product.price_cents
        if op.pay_within_s:
            return self._check_waiting(op, total_cents), 0
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

    def _check_waiting(self, op: SaleOp, total_cents: int) -> int:
        if not 0 < op.pay_within_s <= PAY_WITHIN_LIMIT_S:
            raise LedgerRefused(f"an order waits up to {PAY_WITHIN_LIMIT_S:g} s for its money, not {op.pay_within_s:g}")
        if op.tenders:
            raise LedgerRefused("an order that waits for its money is not paid yet: no tenders")
        if any(line.card_hash is not None or line.preprinted or line.serials for line in op.lines):
            raise LedgerRefused("cards and pre-printed codes are handed out when they are paid")
        if not 0 < total_cents <= BIGINT_LIMIT:
            raise LedgerRefused(f"there is no money to wait for: the total is {total_cents} cents")
        return total_cents

    def _check_slot(self, line: SaleLineOp, offer: Offer, wanted: dict[SlotKey, int]) -> None:
        """Are there places for this line, and for those of the order before it?"""
        times = slot_times(line, offer)
        if times is None:
            return
        key, people = _slot_key(line), line.quantity * offer.product.pax
        now_on = current_times(self._shop, line.product, times, self._now)
        left = self._stock.slot(key, now_on).left - wanted.get(key, 0)
        if people > left:
            raise LedgerRefused(f"{max(0, left)} places are left at {line.slot} on {line.visit_date}, not {people}")
        wanted[key] = wanted.get(key, 0) + people

    def _check_codes(self, line: SaleLineOp, offer: Offer, codes: set[int]) -> None:
        """Are the pre-printed codes of this line in stock, for this product, and one for each ticket?"""
        named = self._named_codes(line)
        if not named:
            return
        if len(named) != line.quantity or line.card_hash is not None:
            raise LedgerRefused(f"{len(named)} pre-printed codes are named for {line.quantity} tickets")
        for ticket in named:
            code = self._codes.get(ticket)
            if code is None:
                raise LedgerRefused(f"pre-printed code {ticket} is not known")
            if code.state != "in_stock" or ticket in codes:
                state = "named twice" if ticket in codes else code.state
                raise LedgerRefused(f"serial {code.serial} of batch {code.batch} is {state}, not in stock")
            if code.product != line.product or self._shop.versions[code.product, code.version].pax != offer.product.pax:
                raise LedgerRefused(f"serial {code.serial} of batch {code.batch} was printed for another product")
            codes.add(ticket)

    def _pay(self, order: int, op: SaleOp, change_cents: int) -> None:
        for place, (tender, cents) in enumerate(op.tenders, 1):
            back = min(cents, change_cents) if tender == CASH else 0
            change_cents -= back
            self.rows.add("insert_payments", order, place, tender, cents, back)


def _slot_key(line: SaleLineOp) -> SlotKey:
    return line.product, date.fromisoformat(line.visit_date), line.slot


def _is_date(line: SaleLineOp) -> bool:
    try:
        date.fromisoformat(line.visit_date)
    except ValueError:
        return False
    return True


def booked_ticket(row: Record) -> BookedTicket:
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
        slot_from=row["slot_from"],
        slot_to=row["slot_to"],
        state=row["state"],
    )
