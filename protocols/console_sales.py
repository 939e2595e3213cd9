"""What a sales window asks over the console channel, and what it is answered."""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocols._bounds import LIST_MAX, Clock, Detail, Number, Secret, Signed, Word
from protocols.messages import Base


class ListProducts(Base, frozen=True, kw_only=True):
    """sales.products."""


class ProductView(Base, frozen=True, kw_only=True):
    product: str
    name_zh: str
    name_en: str
    product_class: str
    price_cents: int
    pax: int
    needs_photo: bool
    slots: list[str] = []  # when its booked times begin, HH:MM; none: it is not sold by time


class Products(Base, frozen=True, kw_only=True):
    products: list[ProductView]


class SellLine(Base, frozen=True, kw_only=True):
    product: Word
    quantity: Number
    card: Word = ""  # an annual card's number, for products that are cards
    holder: Detail = ""
    photo: bytes = b""  # the holder's photograph, for face-checked cards (base64 in JSON)
    visit_date: Word = ""  # YYYY-MM-DD in the site's zone; empty is today
    slot: Word = ""  # when the booked time begins, HH:MM, for products that are sold by time
    shown_cents: Number | None = None  # the price of one that was shown: kept for a while after it has changed
    codes: Annotated[list[Secret], msgspec.Meta(max_length=LIST_MAX)] = []  # pre-printed codes that are sold
    serials: Annotated[list[Word], msgspec.Meta(max_length=LIST_MAX)] = []  # the same as BATCH-SERIAL

    def __repr__(self) -> str:
        return f"SellLine(product={self.product!r}, quantity={self.quantity})"


class Tender(Base, frozen=True, kw_only=True):
    tender: Word  # cash | bank_card | alipay | wechat | other
    amount_cents: Signed


class Sell(Base, frozen=True, kw_only=True):
    """sales.sell. The same (channel, key) is the same order, however often it is sent."""

    key: Word
    lines: Annotated[list[SellLine], msgspec.Meta(max_length=LIST_MAX)]
    tenders: Annotated[list[Tender], msgspec.Meta(max_length=LIST_MAX)]
    channel: Word = "window"
    printer: Word = ""  # a printer's name; empty prints nothing
    pay_within_s: Clock = 0.0  # the order waits so long for its money: no tenders, and no codes before it is paid
    supplement_of: Number | None = None  # the group's order that this one adds people to
    by: Word = ""


class SoldTicket(Base, frozen=True, kw_only=True):
    ticket: int
    product: str
    code: str  # what the QR carries; given to the seller only; empty while the order waits for its money
    pax: int
    valid_from: float
    valid_to: float

    def __repr__(self) -> str:
        return f"SoldTicket(ticket={self.ticket}, product={self.product!r})"


class Sold(Base, frozen=True, kw_only=True):
    order: int
    total_cents: int
    change_cents: int
    tickets: list[SoldTicket]
    print_jobs: list[int]
    repeated: bool


class GetPrintJobs(Base, frozen=True, kw_only=True):
    """sales.print_jobs: how far the print jobs of an order are."""

    order: Number


class PrintJobView(Base, frozen=True, kw_only=True):
    job: int
    ticket: int
    state: str  # queued | printing | done | failed
    detail: str = ""


class PrintJobs(Base, frozen=True, kw_only=True):
    jobs: list[PrintJobView]
