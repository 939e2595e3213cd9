"""The office over the console channel: orders, groups, refunds, cards, codes. `key` makes each command once only."""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocols._bounds import LIST_MAX, Detail, Number, Numbers, Pax, Word
from protocols.console_sales import SoldTicket
from protocols.messages import Base


class FindOrder(Base, frozen=True, kw_only=True):
    """office.find: an order by its number, or by that of a ticket or paper of it."""

    number: Number


class RightView(Base, frozen=True, kw_only=True):
    """One right of a ticket, in uses. `sold` null is unlimited."""

    zones: list[str]
    sold: int | None
    redeemed: int
    held: int
    refunded: int
    reserved_refund: int


class CredentialView(Base, frozen=True, kw_only=True):
    """What opens a ticket; of its value only the last characters. `personal`: one person's, as paper or by name."""

    credential: int
    kind: str
    tail: str
    state: str
    issue_index: int
    personal: bool
    redeemed: int


class TicketView(Base, frozen=True, kw_only=True):
    ticket: int
    line: int
    product: str
    product_name_zh: str
    product_name_en: str
    state: str
    hold_reason: str
    pax: int
    collected: int
    named: int
    to_pass: int
    to_refund: int
    to_collect: int
    valid_from: float
    valid_to: float
    slot_from: float | None
    slot_to: float | None
    rights: list[RightView]
    credentials: list[CredentialView]


class RefundPartView(Base, frozen=True, kw_only=True):
    tender: str
    amount_cents: int


class RefundView(Base, frozen=True, kw_only=True):
    """A refund; `state` is requested, approved, rejected or done."""

    refund: int
    order: int
    ticket: int | None
    places: int
    amount_cents: int
    parts: list[RefundPartView]
    state: str
    requested_by: str
    repeated: bool = False


class OrderView(Base, frozen=True, kw_only=True):
    """An order with all its tickets; `order` 0 when there is none."""

    order: int
    channel: str
    user: str
    sold_at: float
    total_cents: int
    paid_cents: int
    refunded_cents: int
    state: str
    pay_by: float | None
    supplement_of: int | None
    tickets: list[TicketView]
    refunds: list[RefundView]


class HoldPlaces(Base, frozen=True, kw_only=True):
    """office.hold: put a ticket on hold (`held`), or resume it."""

    ticket: Number
    held: bool
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""


class AskRefund(Base, frozen=True, kw_only=True):
    """office.refund: give back `places`; papers and named places that are given up are in `credentials`."""

    ticket: Number
    places: Pax
    reason: Detail
    key: Word
    credentials: Numbers = []
    by: Word = ""
    by_role: Word = ""


class SettleRefund(Base, frozen=True, kw_only=True):
    """office.decide_refund: approve or reject. A large one needs another person than the one who asked."""

    refund: Number
    approved: bool
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""


class PayRefund(Base, frozen=True, kw_only=True):
    """office.pay_refund: the money of an approved refund was handed over."""

    refund: Number
    key: Word
    reason: Detail = ""
    by: Word = ""
    by_role: Word = ""


class CollectPlaces(Base, frozen=True, kw_only=True):
    """office.collect: hand out `places` of a group's ticket as paper, one person each."""

    ticket: Number
    places: Pax
    workstation: Word
    key: Word
    reason: Detail = ""
    by: Word = ""
    by_role: Word = ""


class PaperView(Base, frozen=True, kw_only=True):
    """A paper: its number, and what its QR carries."""

    paper: int
    code: str

    def __repr__(self) -> str:
        return f"PaperView(paper={self.paper})"


class CollectedView(Base, frozen=True, kw_only=True):
    ticket: int
    papers: list[PaperView]
    collected: int
    repeated: bool


class NamedPerson(Base, frozen=True, kw_only=True):
    """Somebody on a list of names. Neither is kept as it is: the number is hashed and sealed, the name sealed."""

    name: Detail
    id_number: Word

    def __repr__(self) -> str:
        return "NamedPerson(…)"


class NameList(Base, frozen=True, kw_only=True):
    """office.name_people: set places of a group's ticket aside for these people; their IDs open for them alone."""

    ticket: Number
    people: Annotated[list[NamedPerson], msgspec.Meta(max_length=LIST_MAX)]
    key: Word
    reason: Detail = ""
    by: Word = ""
    by_role: Word = ""


class NamedView(Base, frozen=True, kw_only=True):
    ticket: int
    credentials: list[int]
    named: int
    repeated: bool


class MovePlaces(Base, frozen=True, kw_only=True):
    """office.transfer: unused places from one ticket to another one of the same line."""

    from_ticket: Number
    to_ticket: Number
    places: Pax
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""


class NewCard(Base, frozen=True, kw_only=True):
    """office.replace_card: a new card for a ticket; older ones open nothing from this moment on."""

    ticket: Number
    card: Word
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""

    def __repr__(self) -> str:
        return f"NewCard(ticket={self.ticket})"


class CardView(Base, frozen=True, kw_only=True):
    ticket: int
    credential: int
    issue_index: int
    superseded: int
    repeated: bool


class SetCardState(Base, frozen=True, kw_only=True):
    """office.mark_card: a ticket's newest card is `lost`, `frozen`, or was found (`active`)."""

    ticket: Number
    state: Word
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""


class UndoAdmission(Base, frozen=True, kw_only=True):
    """office.reverse: undo the latest `places` admissions of a ticket; with `correct_count` nobody went in."""

    ticket: Number
    places: Pax
    reason: Detail
    key: Word
    correct_count: bool = False
    by: Word = ""
    by_role: Word = ""


class ReversedView(Base, frozen=True, kw_only=True):
    ticket: int
    places: int
    zones: list[str]
    repeated: bool


class NotePayment(Base, frozen=True, kw_only=True):
    """sales.paid: a payment provider's word that an order was paid. (tender, key) is its identity."""

    order: Number
    tender: Word
    key: Word
    amount_cents: Number
    by: Word = ""
    by_role: Word = ""


class PaymentView(Base, frozen=True, kw_only=True):
    """`outcome`: paid, held_again, or given_back with the number of the automatic refund and why."""

    order: int
    outcome: str
    tickets: list[SoldTicket]
    refund: int | None
    detail: str
    repeated: bool


class CancelUnpaid(Base, frozen=True, kw_only=True):
    """sales.cancel: give an unpaid order up."""

    order: Number
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""


class NewCodes(Base, frozen=True, kw_only=True):
    """codes.create: draw codes to be printed before they are sold."""

    product: Word
    quantity: Number
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""


class BatchView(Base, frozen=True, kw_only=True):
    """A batch of codes, and how many are in which state."""

    batch: int
    product: str
    quantity: int
    created_by: str
    blank: int
    at_printer: int
    in_stock: int
    sold: int
    void: int
    lost: int
    exported: int
    repeated: bool = False


class GetBatches(Base, frozen=True, kw_only=True):
    """codes.status: one batch, or with 0 the latest."""

    batch: Number = 0


class BatchList(Base, frozen=True, kw_only=True):
    batches: list[BatchView]


class TakeOutCodes(Base, frozen=True, kw_only=True):
    """codes.export: by another person than the one who made the batch. Fetch the codes with codes.page then."""

    batch: Number
    handed_to: Detail
    reason: Detail
    key: Word
    by: Word = ""
    by_role: Word = ""


class ExportView(Base, frozen=True, kw_only=True):
    """`codes` lines wait; `sha256` (hexadecimal) is that of all of them, each ended by a line feed."""

    batch: int
    codes: int
    sha256: str


class GetCodes(Base, frozen=True, kw_only=True):
    """codes.page: lines of an export that was just made, from the `first` one (0) on."""

    batch: Number
    first: Number
    by: Word = ""


class CodePage(Base, frozen=True, kw_only=True):
    """Lines of an export: batch, serial and code, separated by commas."""

    batch: int
    first: int
    lines: list[str]

    def __repr__(self) -> str:
        return f"CodePage(batch={self.batch}, first={self.first}, {len(self.lines)} lines)"


class ShiftCodes(Base, frozen=True, kw_only=True):
    """codes.move: serials `first` to `last` are `in_stock` (at a workstation), `void` or `lost`."""

    batch: Number
    first: Number
    last: Number
    state: Word
    reason: Detail
    key: Word
    workstation: Word = ""
    by: Word = ""
    by_role: Word = ""
