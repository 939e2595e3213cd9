"""A sale: order, tenders, tickets, print.

The ledger writes all of it in one transaction under the window's key; only then are codes signed and jobs handed to
the printer.  The same key gets the same order again, with the same codes, because Ed25519 signs deterministically.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from datetime import time as clock_time
from zoneinfo import ZoneInfo

import msgspec
import trio

from actors._asked import Slots
from actors._common import offer
from actors.errors import CommandRefused
from actors.passes import EnrolFace, EnrolledFace, FaceRefused
from actors.printer import PrintTicket
from core import ActorError, Address, Envelope, Stop
from protocols.clock import business_day
from protocols.console import (
    FeedEvent,
    GetPrintJobs,
    ListProducts,
    PrintJobs,
    PrintJobView,
    Products,
    ProductView,
    Sell,
    SellLine,
    Sold,
    SoldTicket,
)
from protocols.errors import WireError
from protocols.messages import Telemetry
from storage.interfaces import (
    BookedTicket,
    LedgerError,
    ListPrintJobs,
    PrintJobRows,
    PrintJobState,
    ProductSetup,
    SaleBooked,
    SaleLineOp,
    SaleOp,
    in_force,
)

SALES_MAX = 64  # under way at once; more are refused as busy
LEDGER_S = 5.0
ENROL_S = 12.0
LINES_MAX = 50
QUANTITY_MAX = 200
NUMBER_DIGITS_MAX = 16  # of 53 bits
TENDERS = frozenset({"cash", "bank_card", "alipay", "wechat", "other"})
RESUME_AFTER_S = 2.0  # after start, unfinished print jobs are handed to their printers again
RESUME_EVERY_S = 20.0  # and then this often

SignTicket = Callable[[BookedTicket], str]
"""The text of a ticket's code."""
ReadCode = Callable[[str], int]
"""The ticket number in the text of a ticket's code. Raises WireError for what is none of ours."""
Render = Callable[[BookedTicket, str, int], bytes]
"""(ticket, code, order) -> bytes for the printer."""


class SaleRefused(CommandRefused):
    """Nothing was sold; the code says why."""


class HolderSeal(msgspec.Struct, frozen=True):
    """How personal data of a sale is kept: hash of a card's number, encryption of a holder's name."""

    hash_card: Callable[[str], bytes]
    seal_name: Callable[[str], bytes]


class _ResumePrinting(Telemetry, frozen=True, kw_only=True):
    pass


class Sales:
    """The actor. `printers` maps a printer's name to its address."""

    def __init__(
        self,
        *,
        products: list[ProductSetup],
        timezone: str,
        business_day_start: str = "04:00",
        sign: SignTicket,
        read_code: ReadCode | None = None,
        render: Render,
        holder: HolderSeal,
        ledger: Address,
        passes: Address,
        printers: Mapping[str, Address],
        hub: Address,
    ) -> None:
        self._products: dict[str, list[ProductSetup]] = {}
        for product in products:
            self._products.setdefault(product.product, []).append(product)
        self._day_start = clock_time.fromisoformat(business_day_start)
        self._zone = ZoneInfo(timezone)
        self._sign = sign
        self._read_code = read_code
        self._render = render
        self._holder = holder
        self._ledger = ledger
        self._passes = passes
        self._printers = printers
        self._hub = hub

    async def run(self, me: Address) -> None:
        me.set_timer("printing", RESUME_AFTER_S, _ResumePrinting())
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, SALES_MAX, SaleRefused)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case ListProducts():
                        envelope.reply(Products(products=[_view(product) for product in self._on_sale().values()]))
                    case Sell() | GetPrintJobs():
                        slots.attend(envelope, self._answer)
                    case _ResumePrinting():
                        nursery.start_soon(self._resume_printing, me)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _answer(self, envelope: Envelope) -> Sold | PrintJobs:
        asked: Sell | GetPrintJobs = envelope.msg
        if isinstance(asked, Sell):
            return await self._sell(asked)
        rows: PrintJobRows = await self._ledger.ask(ListPrintJobs(order=asked.order), LEDGER_S)
        jobs = [
            PrintJobView(job=row.job, ticket=row.ticket, state=row.state, detail=row.detail) for row in rows.jobs
        ]
        return PrintJobs(jobs=jobs)

    async def _sell(self, order: Sell) -> Sold:
        self._check(order)
        lines = [await self._line(line) for line in order.lines]
        booked: SaleBooked = await self._ledger.ask(
            SaleOp(
                channel=order.channel,
                key=order.key,
                user=order.by,
                lines=lines,
                tenders=[(tender.tender, tender.amount_cents) for tender in order.tenders],
                printer=order.printer,
                at=time.time(),
                pay_within_s=order.pay_within_s,
                supplement_of=order.supplement_of,
            ),
            LEDGER_S,
        )
        tickets = [self._sold(ticket) for ticket in booked.tickets]
        if order.printer and not booked.repeated:
            for ticket, sold in zip(booked.tickets, tickets, strict=True):
                self._print(order.printer, ticket, sold.code, booked.order)
        if not booked.repeated:
            self._tell(order, booked)
        return Sold(
            order=booked.order,
            total_cents=booked.total_cents,
            change_cents=booked.change_cents,
            tickets=tickets,
            print_jobs=[ticket.print_job for ticket in booked.tickets if ticket.print_job is not None],
            repeated=booked.repeated,
        )

    def _on_sale(self) -> dict[str, ProductSetup]:
        """What is sold on this business day."""
        day = business_day(time.time(), self._zone, self._day_start).isoformat()
        offers = {product: in_force(versions, day) for product, versions in self._products.items()}
        return {product: offer for product, offer in offers.items() if offer is not None}

    def _check(self, order: Sell) -> None:
        """Raises SaleRefused for what no ledger need see."""
        if not 0 < len(order.key) <= 64 or not 0 < len(order.channel) <= 40:
            raise SaleRefused("bad_key", "A sale needs a key of 1 to 64 characters and a channel", "单号无效")
        if not 0 < len(order.lines) <= LINES_MAX:
            raise SaleRefused("bad_lines", f"A sale has 1 to {LINES_MAX} lines", "订单行数无效")
        on_sale = self._on_sale()
        for line in order.lines:
            if line.product not in on_sale:
                raise SaleRefused("unknown_product", f"There is no product {line.product}", "没有此票种")
            if not 1 <= line.quantity <= QUANTITY_MAX:
                raise SaleRefused("bad_quantity", f"1 to {QUANTITY_MAX} of one product", "数量无效")
            if line.card and line.quantity != 1:
                raise SaleRefused("bad_quantity", "A card is one", "一张卡一份")
        for tender in order.tenders:
            if tender.tender not in TENDERS or tender.amount_cents < 0:
                raise SaleRefused("bad_tender", f"Tender {tender.tender} is unknown or negative", "支付方式无效")
        if order.printer and order.printer not in self._printers:
            raise SaleRefused("unknown_printer", f"There is no printer {order.printer}", "没有此打印机")

    async def _line(self, line: SellLine) -> SaleLineOp:
        product = self._on_sale()[line.product]
        template, algorithm = None, ""
        if product.rules.needs_face:
            if not line.photo or not line.card:
                raise SaleRefused("photo_required", "This card needs its number and a photograph", "需要卡号和照片")
            try:
                enrolled: EnrolledFace = await self._passes.ask(EnrolFace(photo=line.photo), ENROL_S)
            except FaceRefused as exc:
                raise SaleRefused("bad_photo", f"The photograph cannot be used: {exc.code}", "照片不可用") from exc
            template, algorithm = enrolled.template_enc, enrolled.algorithm
        return SaleLineOp(
            product=line.product,
            quantity=line.quantity,
            visit_date=line.visit_date or datetime.now(self._zone).date().isoformat(),
            card_hash=self._holder.hash_card(line.card) if line.card else None,
            card_tail=line.card[-4:] if len(line.card) > 8 else "",
            holder_enc=self._holder.seal_name(line.holder) if line.holder else None,
            template_enc=template,
            template_algorithm=algorithm,
            slot=line.slot,
            shown_cents=line.shown_cents,
            preprinted=[self._preprinted(code) for code in line.codes],
            serials=[_serial(text) for text in line.serials],
        )

    def _preprinted(self, code: str) -> int:
        """The number in a pre-printed code that the window has read."""
        if self._read_code is None:
            raise SaleRefused("bad_code", "This window sells no pre-printed codes", "此窗口不售预制票")
        try:
            return self._read_code(code)
        except WireError as exc:
            raise SaleRefused("bad_code", "This is no code of ours", "不是本景区的票码") from exc

    def _sold(self, ticket: BookedTicket) -> SoldTicket:
        return SoldTicket(
            ticket=ticket.ticket,
            product=ticket.product,
            code="" if ticket.state == "unpaid" else self._sign(ticket),
            pax=ticket.pax,
            valid_from=ticket.valid_from,
            valid_to=ticket.valid_to,
        )

    def _print(self, printer: str, ticket: BookedTicket, code: str, order: int) -> None:
        address = self._printers.get(printer)
        if address is None or ticket.print_job is None:
            return
        try:
            payload = self._render(ticket, code, order)
        except WireError as exc:  # sold is sold: the window sees that this one is not printed, and why
            state = PrintJobState(job=ticket.print_job, state="failed", detail=str(exc)[:200], at=time.time())
            offer(self._ledger, state)
            return
        offer(address, PrintTicket(job=ticket.print_job, payload=payload))

    async def _resume_printing(self, me: Address) -> None:
        """Hand over again what was sold and not printed: after a restart, a lost answer, or for a full queue's sake.

        The printer knows what it has already.
        """
        me.set_timer("printing", RESUME_EVERY_S, _ResumePrinting())
        try:
            rows: PrintJobRows = await self._ledger.ask(ListPrintJobs(order=None), LEDGER_S)
        except (ActorError, LedgerError):
            me.set_timer("printing", RESUME_AFTER_S, _ResumePrinting())
            return
        tickets = {ticket.ticket: ticket for ticket in rows.tickets}
        for row in rows.jobs:
            ticket = tickets.get(row.ticket)
            if ticket is not None:
                self._print(row.printer, ticket, self._sign(ticket), 0)

    def _tell(self, order: Sell, booked: SaleBooked) -> None:
        count, total = len(booked.tickets), booked.total_cents / 100
        offer(
            self._hub,
            FeedEvent(
                at=time.time(),
                kind="sale",
                severity="info",
                code="sold",
                text_zh=f"{order.by or order.channel} 售出 {count} 张，{total:.2f} 元",
                text_en=f"{order.by or order.channel} sold {count} ticket{'s' * (count > 1)}, ¥{total:.2f}",
            ),
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX


def _serial(text: str) -> tuple[int, int]:
    """BATCH-SERIAL, as it is printed beside a pre-printed code."""
    batch, _, serial = text.strip().partition("-")
    if not (_is_number(batch) and _is_number(serial)):
        raise SaleRefused("bad_serial", f"{text} is no serial: write BATCH-SERIAL", "编号格式应为 批次-序号")
    return int(batch), int(serial)


def _view(product: ProductSetup) -> ProductView:
    return ProductView(
        product=product.product,
        name_zh=product.name_zh,
        name_en=product.name_en,
        product_class=product.product_class,
        price_cents=product.price_cents,
        pax=product.pax,
        needs_photo=product.rules.needs_face,
        slots=[times.opens for times in product.rules.slots],
    )
