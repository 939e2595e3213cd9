"""The office: orders found, groups held and collected, refunds, cards, admissions undone, codes printed in advance.

People's commands become the ledger's, each with the person, the role and the reason, under the key that makes it once
only; the ledger writes the audit entry in the same transaction.  Secrets stay here: a code is signed after its number
is on disk, an ID number is hashed and sealed before it is told to anybody.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec
import trio

from actors._asked import Slots
from actors._common import offer
from actors.errors import CommandRefused
from core import Address, Envelope, Stop
from protocols import console as c
from storage.interfaces import (
    BatchBooked,
    Batches,
    BookedTicket,
    CancelOrder,
    Codes,
    Collect,
    Collected,
    CompleteRefund,
    CreateCodes,
    DecideRefund,
    ExportCodes,
    FindBooks,
    HoldTicket,
    ListBatches,
    ListCodes,
    MarkCard,
    MoveCodes,
    NamePeople,
    OfficeOp,
    OrderBooks,
    PaymentBooked,
    PaymentNotice,
    Person,
    ReplaceCard,
    RequestRefund,
    ReverseAdmission,
    TicketBooks,
    TransferPlaces,
)

COMMANDS_MAX = 32  # under way at once; more are refused as busy
LEDGER_S = 5.0
BATCH_S = 15.0  # ten thousand codes are written in one transaction
EXPORTS_MAX = 4  # signed batches kept in memory until they have been fetched
EXPORT_S = 600.0  # and no longer than this
PAGE_LINES = 200  # of an export, per request
CODE_YEARS = 5  # what a pre-printed code says of its validity; what counts is what it is sold as
YEAR_S = 366 * 86_400.0
ID_NUMBER = re.compile(r"^[0-9A-Z]{5,20}$")  # of an identity card, a passport, a travel permit
STATES = ("blank", "at_printer", "in_stock", "sold", "void", "lost")

T = TypeVar("T")

COMMANDS = (
    c.FindOrder, c.HoldPlaces, c.AskRefund, c.SettleRefund, c.PayRefund, c.CollectPlaces, c.NameList, c.MovePlaces,
    c.NewCard, c.SetCardState, c.UndoAdmission, c.NotePayment, c.CancelUnpaid, c.NewCodes, c.GetBatches,
    c.TakeOutCodes, c.GetCodes, c.ShiftCodes,
)  # fmt: skip


class OfficeSeal(msgspec.Struct, frozen=True):
    """How the office keeps secrets: keyed hashes of ID numbers and cards, sealed names and numbers, signed codes."""

    hash_id_number: Callable[[str], bytes]
    hash_card: Callable[[str], bytes]
    seal_id_number: Callable[[str], bytes]
    seal_name: Callable[[str], bytes]
    sign: Callable[[BookedTicket], str]


class _Export(NamedTuple):
    lines: list[str]
    by: str
    until: float  # Trio's clock


class Office:
    """The actor behind `office.*`, `codes.*`, `sales.paid` and `sales.cancel`.

    `product_class` is the class of each product, for codes that are signed anew.
    """

    def __init__(
        self, *, ledger: Address, hub: Address, seal: OfficeSeal, product_class: dict[str, str]
    ) -> None:
        self._ledger = ledger
        self._hub = hub
        self._seal = seal
        self._class = product_class
        self._exports: OrderedDict[int, _Export] = OrderedDict()

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, COMMANDS_MAX)
            while True:
                envelope = await me.receive()
                if isinstance(envelope.msg, Stop):
                    nursery.cancel_scope.cancel()
                    return
                if not isinstance(envelope.msg, COMMANDS):
                    envelope.fail(CommandRefused("unknown_command", "The office does not know this", "未知指令"))
                    continue
                slots.attend(envelope, self._answer)

    async def _answer(self, envelope: Envelope) -> Any:
        msg = envelope.msg
        match msg:
            case c.FindOrder():
                return _mirrored(await self._ask(FindBooks(number=msg.number)), c.OrderView)
            case c.HoldPlaces():
                return await self._hold(msg)
            case c.AskRefund():
                asked = _op(RequestRefund, msg, ticket=msg.ticket, places=msg.places, credentials=msg.credentials)
                return await self._refund(asked, "refund_requested")
            case c.SettleRefund():
                decided = _op(DecideRefund, msg, refund=msg.refund, approved=msg.approved)
                return await self._refund(decided, "refund_approved" if msg.approved else "refund_rejected")
            case c.PayRefund():
                return await self._refund(_op(CompleteRefund, msg, refund=msg.refund), "refund_done")
            case c.CollectPlaces():
                return await self._collect(msg)
            case c.NameList():
                return await self._name(msg)
            case c.MovePlaces():
                moved = _op(
                    TransferPlaces, msg, from_ticket=msg.from_ticket, to_ticket=msg.to_ticket, places=msg.places
                )
                return c.Done(detail=(await self._ask(moved)).detail)
            case c.NewCard():
                card = msg.card.strip()
                if not card:
                    raise CommandRefused("bad_card", "A card needs its number", "请输入卡号")
                tail = card[-4:] if len(card) > 8 else ""
                new = _op(ReplaceCard, msg, ticket=msg.ticket, card_hash=self._seal.hash_card(card), tail=tail)
                return _mirrored(await self._ask(new), c.CardView)
            case c.SetCardState():
                return c.Done(detail=(await self._ask(_op(MarkCard, msg, ticket=msg.ticket, state=msg.state))).detail)
            case c.UndoAdmission():
                return await self._reverse(msg)
            case c.NotePayment():
                return await self._paid(msg)
            case c.CancelUnpaid():
                return c.Done(detail=(await self._ask(_op(CancelOrder, msg, order=msg.order))).detail)
            case _:
                return await self._codes(msg)

    async def _ask(self, op: Any, timeout_s: float = LEDGER_S) -> Any:
        return await self._ledger.ask(op, timeout_s)

    # --- groups -----------------------------------------------------------------------------------------------

    async def _hold(self, msg: c.HoldPlaces) -> c.Done:
        done = await self._ask(_op(HoldTicket, msg, ticket=msg.ticket, held=msg.held))
        if not done.repeated:
            code = "held" if msg.held else "resumed"
            zh, en = ("暂停", "put on hold") if msg.held else ("恢复", "resumed")
            self._say(code, f"票 {msg.ticket} 已{zh}：{msg.reason}", f"Ticket {msg.ticket} {en}: {msg.reason}")
        return c.Done(detail=done.detail)

    async def _refund(self, op: OfficeOp, code: str) -> c.RefundView:
        booked = await self._ask(op)
        if not booked.repeated:
            yuan = booked.amount_cents / 100
            zh = {"requested": "申请", "approved": "已批准", "rejected": "已驳回", "done": "已完成"}[booked.state]
            self._say(
                code,
                f"退票{zh}：订单 {booked.order}，{booked.places} 人，{yuan:.2f} 元",
                f"Refund {booked.state}: order {booked.order}, {booked.places} places, {yuan:.2f}",
            )
        return _mirrored(booked, c.RefundView)

    async def _collect(self, msg: c.CollectPlaces) -> c.CollectedView:
        op = _op(Collect, msg, ticket=msg.ticket, places=msg.places, workstation=msg.workstation)
        collected: Collected = await self._ask(op)
        ticket, _ = await self._ticket(msg.ticket)
        papers = [c.PaperView(paper=paper, code=self._sign(ticket, paper, 1)) for paper in collected.papers]
        return c.CollectedView(
            ticket=msg.ticket, papers=papers, collected=collected.collected, repeated=collected.repeated
        )

    async def _ticket(self, number: int) -> tuple[TicketBooks, OrderBooks]:
        found: OrderBooks = await self._ask(FindBooks(number=number))
        ticket = next((ticket for ticket in found.tickets if ticket.ticket == number), None)
        if ticket is None:
            raise CommandRefused("unknown_ticket", f"There is no ticket {number}", "没有此票")
        return ticket, found

    def _sign(self, ticket: TicketBooks, number: int, pax: int) -> str:
        """The code of one number of a ticket: its own, or that of a paper."""
        zones = list(dict.fromkeys(zone for right in ticket.rights for zone in right.zones))
        return self._seal.sign(
            BookedTicket(
                ticket=number,
                product=ticket.product,
                product_name_zh=ticket.product_name_zh,
                product_name_en=ticket.product_name_en,
                product_class=self._class.get(ticket.product, "full"),
                zones=zones,
                price_cents=0,
                pax=pax,
                valid_from=ticket.valid_from,
                valid_to=ticket.valid_to,
                print_job=None,
            )
        )

    async def _name(self, msg: c.NameList) -> c.NamedView:
        people = []
        for person in msg.people:
            number = person.id_number.strip().upper()
            if not ID_NUMBER.match(number) or not person.name.strip():
                raise CommandRefused("bad_person", "Each person needs a name and an ID number", "姓名或证件号无效")
            people.append(
                Person(
                    id_hash=self._seal.hash_id_number(number),
                    id_enc=self._seal.seal_id_number(number),
                    name_enc=self._seal.seal_name(person.name.strip()),
                    tail=number[-4:] if len(number) > 8 else "",
                )
            )
        return _mirrored(await self._ask(_op(NamePeople, msg, ticket=msg.ticket, people=people)), c.NamedView)

    async def _reverse(self, msg: c.UndoAdmission) -> c.ReversedView:
        op = _op(ReverseAdmission, msg, ticket=msg.ticket, places=msg.places, correct_count=msg.correct_count)
        undone = await self._ask(op)
        if not undone.repeated:
            self._say(
                "reversed",
                f"撤销检票：票 {msg.ticket}，{msg.places} 人：{msg.reason}",
                f"Admission reversed: ticket {msg.ticket}, {msg.places} people: {msg.reason}",
            )
        return _mirrored(undone, c.ReversedView)

    # --- orders -----------------------------------------------------------------------------------------------

    async def _paid(self, msg: c.NotePayment) -> c.PaymentView:
        op = PaymentNotice(
            key=msg.key,
            user=msg.by,
            role=msg.by_role,
            reason="",
            at=time.time(),
            order=msg.order,
            tender=msg.tender,
            amount_cents=msg.amount_cents,
        )
        booked: PaymentBooked = await self._ask(op)
        tickets: list[c.SoldTicket] = []
        if booked.tickets:
            found: OrderBooks = await self._ask(FindBooks(number=booked.order))
            tickets = [
                c.SoldTicket(
                    ticket=ticket.ticket,
                    product=ticket.product,
                    code=self._sign(ticket, ticket.ticket, ticket.pax),
                    pax=ticket.pax,
                    valid_from=ticket.valid_from,
                    valid_to=ticket.valid_to,
                )
                for ticket in found.tickets
            ]
        if booked.outcome == "given_back" and not booked.repeated:
            self._say(
                "payment_given_back",
                f"订单 {booked.order} 的付款将原路退回：{booked.detail}",
                f"A payment of order {booked.order} goes back: {booked.detail}",
                severity="warning",
            )
        return c.PaymentView(
            order=booked.order,
            outcome=booked.outcome,
            tickets=tickets,
            refund=booked.refund,
            detail=booked.detail,
            repeated=booked.repeated,
        )

    # --- codes that are printed in advance ----------------------------------------------------------------------

    async def _codes(self, msg: Any) -> Any:
        match msg:
            case c.NewCodes():
                op = _op(CreateCodes, msg, product=msg.product, quantity=msg.quantity)
                return _batch(await self._ask(op, BATCH_S))
            case c.GetBatches():
                found: Batches = await self._ask(ListBatches(batch=msg.batch))
                return c.BatchList(batches=[_batch(batch) for batch in found.batches])
            case c.ShiftCodes():
                moved = _op(
                    MoveCodes, msg, batch=msg.batch, first=msg.first, last=msg.last, state=msg.state,
                    workstation=msg.workstation,
                )  # fmt: skip
                return _batch(await self._ask(moved, BATCH_S))
            case c.TakeOutCodes():
                return await self._export(msg)
            case c.GetCodes():
                return self._page(msg)
        raise CommandRefused("unknown_command", "The office does not know this", "未知指令")

    async def _export(self, msg: c.TakeOutCodes) -> c.ExportView:
        """Sign first, then write down what goes out: its hash stands in the books before anybody has a line of it."""
        codes: Codes = await self._ask(ListCodes(batch=msg.batch), BATCH_S)
        if codes.created_by == msg.by:
            raise CommandRefused(
                "four_eyes", "Somebody else than who made the batch must export it", "须由制作人以外的人导出"
            )
        lines = await trio.to_thread.run_sync(self._signed, codes)
        digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode())
        await self._ask(
            _op(ExportCodes, msg, batch=msg.batch, handed_to=msg.handed_to, sha256=digest.digest()), BATCH_S
        )
        self._exports.pop(msg.batch, None)
        while len(self._exports) >= EXPORTS_MAX:
            self._exports.popitem(last=False)
        self._exports[msg.batch] = _Export(lines, msg.by, trio.current_time() + EXPORT_S)
        self._say(
            "codes_exported",
            f"批次 {msg.batch} 的 {len(lines)} 个码已导出给 {msg.handed_to}",
            f"{len(lines)} codes of batch {msg.batch} exported for {msg.handed_to}",
            severity="notice",
        )
        return c.ExportView(batch=msg.batch, codes=len(lines), sha256=digest.hexdigest())

    def _signed(self, codes: Codes) -> list[str]:
        lines = []
        for serial, ticket in codes.codes:
            code = self._seal.sign(
                BookedTicket(
                    ticket=ticket,
                    product=codes.product,
                    product_name_zh="",
                    product_name_en="",
                    product_class=codes.product_class,
                    zones=codes.zones,
                    price_cents=0,
                    pax=codes.pax,
                    valid_from=codes.created_at,
                    valid_to=codes.created_at + CODE_YEARS * YEAR_S,
                    print_job=None,
                )
            )
            lines.append(f"{codes.batch},{serial},{code}")
        return lines

    def _page(self, msg: c.GetCodes) -> c.CodePage:
        export = self._exports.get(msg.batch)
        if export is not None and trio.current_time() > export.until:
            del self._exports[msg.batch]
            export = None
        if export is None or export.by != msg.by:
            raise CommandRefused("no_export", f"Batch {msg.batch} was not exported by you just now", "没有可取的导出")
        return c.CodePage(batch=msg.batch, first=msg.first, lines=export.lines[msg.first : msg.first + PAGE_LINES])

    def _say(self, code: str, text_zh: str, text_en: str, *, severity: str = "info") -> None:
        event = c.FeedEvent(
            at=time.time(), kind="office", severity=severity, code=code, text_zh=text_zh, text_en=text_en
        )
        offer(self._hub, event)


def _op(kind: type[T], msg: Any, **fields: Any) -> T:
    """The ledger's form of a person's command."""
    common = {"key": msg.key, "user": msg.by, "role": msg.by_role, "reason": msg.reason.strip(), "at": time.time()}
    return kind(**common, **fields)


def _mirrored(value: Any, kind: type[T]) -> T:
    """A value of the ledger as the console's view of the same fields."""
    return msgspec.convert(_untagged(msgspec.to_builtins(value)), kind)


def _untagged(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untagged(each) for key, each in value.items() if key != "type"}
    if isinstance(value, list):
        return [_untagged(each) for each in value]
    return value


def _batch(booked: BatchBooked) -> c.BatchView:
    return c.BatchView(
        batch=booked.batch,
        product=booked.product,
        quantity=booked.quantity,
        created_by=booked.created_by,
        **{state: booked.states.get(state, 0) for state in STATES},
        exported=booked.exported,
        repeated=booked.repeated,
    )
