"""What the office asks of the ledger: refunds, holds, collections, names, cards, reversals, payments, code batches.

Part of `storage.interfaces`, which gives these names out.  Every operation is an `OfficeOp`: `key` is its identity.
Asked again with the same content, it is answered with what was answered before, and nothing is done a second time;
the same key with another content is `LedgerRefused`.  What is done is written to the audit log in the same
transaction, with `user`, `role` and `reason`.  Words and rules: domain model, section 6 (groups) and 5 (states).
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from protocols.messages import Base

KEY_CHARACTERS_MAX = 64


class OfficeOp(Base, frozen=True, kw_only=True):
    """A command of a person (or of a payment provider): who, as what, why, and the key that makes it once only.

    `at` is not part of its identity.
    """

    realm: ClassVar[str] = ""  # not empty for the ledger's own commands: nobody else's key is theirs
    key: str
    user: str
    role: str
    reason: str
    at: float


class OfficeDone(Base, frozen=True, kw_only=True):
    """Carried out, or carried out before (`repeated`)."""

    detail: str
    repeated: bool = False


# --- refunds ------------------------------------------------------------------------------------------------------


class RequestRefund(OfficeOp, frozen=True, kw_only=True):
    """Give back `places` of a ticket. They cannot be used from now on, whatever becomes of the request.

    Refundable are places of which nothing was used and that nobody holds, uncollected ones first.  A place that was
    handed out as paper or promised to a named person needs that credential in `credentials`; it is void at once.
    Answered with `RefundBooked` in state `requested`.
    """

    ticket: int
    places: int
    credentials: list[int] = []


class DecideRefund(OfficeOp, frozen=True, kw_only=True):
    """Approve or reject a request. A rejected one gives its places and its paper back."""

    refund: int
    approved: bool


class CompleteRefund(OfficeOp, frozen=True, kw_only=True):
    """The money of an approved refund was handed over: the places are refunded for good, a slot's places are free."""

    refund: int


class RefundPart(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back to one tender."""

    tender: str
    amount_cents: int


class RefundBooked(Base, frozen=True, kw_only=True):
    """A refund as it stands; `parts` add up to `amount_cents`, the tender that was paid last comes first."""

    refund: int
    order: int
    ticket: int | None
    places: int
    amount_cents: int
    parts: list[RefundPart]
    state: str  # requested | approved | rejected | done
    requested_by: str
    repeated: bool = False


# --- tickets ------------------------------------------------------------------------------------------------------


class HoldTicket(OfficeOp, frozen=True, kw_only=True):
    """Put a ticket on hold (`held`) or resume it. Validity goes on meanwhile. Answered with `OfficeDone`."""

    ticket: int
    held: bool


class Collect(OfficeOp, frozen=True, kw_only=True):
    """Hand out `places` of a group's ticket as paper for one person each. Answered with `Collected`."""

    ticket: int
    places: int
    workstation: str


class Collected(Base, frozen=True, kw_only=True):
    """`papers` are the numbers to sign as codes, one a person; `collected` of the ticket so far, this time included."""

    ticket: int
    papers: list[int]
    collected: int
    repeated: bool = False


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody on a list of names: the keyed hash of the ID number to look it up, the rest sealed."""

    id_hash: bytes
    id_enc: bytes
    name_enc: bytes
    tail: str = ""


class NamePeople(OfficeOp, frozen=True, kw_only=True):
    """Set places of a ticket aside for named people: the ID of each opens for exactly this person.

    Refused whole if somebody is on the list already.  Answered with `Named`.
    """

    ticket: int
    people: list[Person]


class Named(Base, frozen=True, kw_only=True):
    """One credential for each person, in the order given."""

    ticket: int
    credentials: list[int]
    named: int  # on the ticket's list, this time included
    repeated: bool = False


class TransferPlaces(OfficeOp, frozen=True, kw_only=True):
    """Move unused places from one ticket to another one of the same line (-k/+k). Answered with `OfficeDone`."""

    from_ticket: int
    to_ticket: int
    places: int


class ReplaceCard(OfficeOp, frozen=True, kw_only=True):
    """A new card for a ticket: its issue index is one higher, all older cards are superseded in the same moment."""

    ticket: int
    card_hash: bytes
    tail: str = ""


class CardReplaced(Base, frozen=True, kw_only=True):
    ticket: int
    credential: int
    issue_index: int
    superseded: int  # older cards that no longer open
    repeated: bool = False


class MarkCard(OfficeOp, frozen=True, kw_only=True):
    """A ticket's newest card is `lost` or `frozen`, or was found again (`active`). Answered with `OfficeDone`."""

    ticket: int
    state: str


class ReverseAdmission(OfficeOp, frozen=True, kw_only=True):
    """Undo the latest `places` uses of a ticket (the turnstile did not turn; by mistake), as new rows.

    `correct_count`: nobody went in, so the people are taken out of the zone's count as well, booked as calibration.
    Answered with `Reversed`.
    """

    ticket: int
    places: int
    correct_count: bool = False


class Reversed(Base, frozen=True, kw_only=True):
    ticket: int
    places: int
    zones: list[str]
    repeated: bool = False


# --- orders -------------------------------------------------------------------------------------------------------


class PaymentNotice(OfficeOp, frozen=True, kw_only=True):
    """Somebody's word that an order was paid. (tender, key) is its identity; `user` says which channel it came by.

    Issues the order's tickets exactly once.  Money that pays for nothing (an order that is paid already, has been
    cancelled, or expired when no places are left; a wrong amount) is given back by an automatic refund.
    Answered with `PaymentBooked`.
    """

    order: int
    tender: str
    amount_cents: int


class PaymentBooked(Base, frozen=True, kw_only=True):
    """`outcome`: paid | held_again (after expiry, there were places left) | given_back (see `refund`, `detail`)."""

    order: int
    outcome: str
    tickets: list[int]
    refund: int | None = None
    detail: str = ""
    repeated: bool = False


class CancelOrder(OfficeOp, frozen=True, kw_only=True):
    """Give an unpaid order up. A paid one is refunded instead. Answered with `OfficeDone`."""

    order: int


# --- pre-printed codes --------------------------------------------------------------------------------------------


class CreateCodes(OfficeOp, frozen=True, kw_only=True):
    """Draw `quantity` codes for a product, serials 1 to `quantity`, all blank. Answered with `BatchBooked`."""

    product: str
    quantity: int


class ExportCodes(OfficeOp, frozen=True, kw_only=True):
    """The codes of a batch went out, to be printed by `handed_to`; `sha256` of what went out is kept.

    Refused for whoever made the batch: two people see every export.  Answered with `BatchBooked`.
    """

    batch: int
    handed_to: str
    sha256: bytes


class MoveCodes(OfficeOp, frozen=True, kw_only=True):
    """Move serials `first` to `last` on: `in_stock` (at `workstation`), `void` or `lost`. All of them or none."""

    batch: int
    first: int
    last: int
    state: str
    workstation: str = ""


class BatchBooked(Base, frozen=True, kw_only=True):
    """A batch, and how many of its codes are in which state."""

    batch: int
    product: str
    quantity: int
    created_by: str
    states: dict[str, int]
    exported: int = 0  # times
    repeated: bool = False


# --- questions ----------------------------------------------------------------------------------------------------


class FindBooks(Base, frozen=True, kw_only=True):
    """Ask: all about an order, by its number or that of one of its tickets or papers. Answered with `OrderBooks`.

    Of a very large order the first 500 tickets are told, the one asked for before all others.
    """

    number: int


class RightBooks(msgspec.Struct, frozen=True, kw_only=True):
    """One right of a ticket with its counters, in uses."""

    zones: list[str]
    sold: int | None
    redeemed: int
    held: int
    refunded: int
    reserved_refund: int


class CredentialBooks(msgspec.Struct, frozen=True, kw_only=True):
    credential: int
    kind: str
    tail: str
    state: str
    issue_index: int
    personal: bool
    redeemed: int


class TicketBooks(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket; places are people. `state` is the one that the counters add up to."""

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
    rights: list[RightBooks]
    credentials: list[CredentialBooks]


class OrderBooks(Base, frozen=True, kw_only=True):
    """`order` 0: nothing was found. `state`: the order's, as its counters and payments say."""

    order: int
    channel: str = ""
    user: str = ""
    sold_at: float = 0.0
    total_cents: int = 0
    paid_cents: int = 0
    refunded_cents: int = 0
    state: str = ""
    pay_by: float | None = None
    supplement_of: int | None = None
    tickets: list[TicketBooks] = []
    refunds: list[RefundBooked] = []


class ListBatches(Base, frozen=True, kw_only=True):
    """Ask: one batch of codes, or with 0 the latest of them. Answered with `Batches`."""

    batch: int


class Batches(Base, frozen=True, kw_only=True):
    batches: list[BatchBooked]


class ListCodes(Base, frozen=True, kw_only=True):
    """Ask: the codes of a batch that are not void or lost, for export. Answered with `Codes`."""

    batch: int


class Codes(Base, frozen=True, kw_only=True):
    """`codes` are (serial, ticket), in order; what else a signed code says is the product's."""

    batch: int
    product: str
    created_by: str
    created_at: float
    pax: int
    product_class: str
    zones: list[str]
    codes: list[tuple[int, int]]
