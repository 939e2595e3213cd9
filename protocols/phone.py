"""What a phone in an attendant's hand says over the console channel, and what it is told.

A phone stands for a lane of kind `attendant`: its scan is decided as any other, and whoever is let in has passed.
Everything that a phone says carries a word of its own (`nonce`, `key`), so saying it again changes nothing; what was
decided without the server is said later, in order, in `PhoneUpload`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from protocols._bounds import Clock, Detail, Number, Secret, Signed, Word
from protocols.messages import Base

UPLOAD_MAX = 64  # records in one upload
PEOPLE_MAX = 200  # people in one record
LIST_PAGE_BYTES = 160_000  # of marks in one answer
MARK_BYTES = 8  # of a ticket on the list: the first of the SHA-256 of "site:ticket"

Nonce = Annotated[str, msgspec.Meta(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
People = Annotated[int, msgspec.Meta(ge=1, le=PEOPLE_MAX)]
Way = Literal["entry", "exit"]


class PhoneScan(Base, frozen=True, kw_only=True):
    """phone.scan: a code was read. Answered with `PhoneVerdict` once it is on disk.

    `pax` null: as many as the ticket still allows.  The same `nonce` gets the same answer and books nothing twice.
    """

    lane: Word
    nonce: Nonce
    code: Secret
    pax: People | None = None
    direction: Way = "entry"
    by: Word = ""

    def __repr__(self) -> str:
        return f"PhoneScan(lane={self.lane!r}, nonce={self.nonce!r})"


class PhoneVerdict(Base, frozen=True, kw_only=True):
    """What the phone shows. `code` is `ok` or a refusal's (docs/refusals.md)."""

    nonce: str
    code: str
    admitted: bool
    pax: int  # people who were let in now
    remaining: int  # people who may still come on this ticket
    product_class: str
    text_zh: str  # what the visitor is told
    text_en: str
    staff_zh: str  # what helps the attendant
    staff_en: str


class PhoneRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a phone did without the server.

    `code` empty: people were only counted (direct check).  `at` is seconds since the epoch, by the server's clock as
    the phone knows it.
    """

    nonce: Nonce
    at: Clock
    pax: People = 1
    code: Secret = ""
    direction: Way = "entry"

    def __repr__(self) -> str:
        return f"PhoneRecord(nonce={self.nonce!r}, at={self.at!r}, pax={self.pax!r})"


class PhoneUpload(Base, frozen=True, kw_only=True):
    """phone.upload: records in the order in which they happened. Answered with `PhoneUploaded`.

    Those people have passed: what the ledger would refuse stands, and people get a case that names it.
    """

    lane: Word
    records: Annotated[list[PhoneRecord], msgspec.Meta(min_length=1, max_length=UPLOAD_MAX)]
    by: Word = ""

    def __repr__(self) -> str:
        return f"PhoneUpload(lane={self.lane!r}, {len(self.records)} records)"


class PhoneBooked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one record. `conflict` is the code that the ledger would have refused with, or empty."""

    nonce: str
    passed: int
    conflict: str = ""


class PhoneUploaded(Base, frozen=True, kw_only=True):
    """What is on disk; records behind the last one are to be sent again."""

    booked: list[PhoneBooked]


class GetPhoneList(Base, frozen=True, kw_only=True):
    """phone.list: which tickets must not be let in at a lane without the server, page by page.

    `after` is the `next` of the page before; `since` (the `made_at` of the whole list that the phone has) leaves out
    tickets that were used before.
    """

    lane: Word
    after: Number = 0
    since: Clock = 0.0


class PhoneKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that ticket codes are verified with: 32 bytes of Ed25519."""

    key_id: int
    public: bytes


class PhoneList(Base, frozen=True, kw_only=True):
    """One page. `marks` are `MARK_BYTES` for each ticket; `next` null ends the list.

    `zone_bit` is the lane's zone in a code's zones, 0 where codes cannot name it; `alone` are the product classes
    that may be let in without the server.
    """

    made_at: float
    site: str
    zone_bit: int
    keys: list[PhoneKey]
    alone: list[int]
    max_group: int
    marks: bytes
    next: int | None


class PhoneCount(Base, frozen=True, kw_only=True):
    """phone.count: so many people passed while everybody was let through (direct check), on no ticket yet."""

    lane: Word
    nonce: Nonce
    people: People
    direction: Way = "entry"
    by: Word = ""


class StubCount(Base, frozen=True, kw_only=True):
    """phone.stubs: after a direct check, what the torn-off stubs say: `stubs` people, where `counted` were counted.

    The difference is booked as a correction of the lane's zone: by one person alone up to the site's rule, by two
    above it, who both say the same.  The same `key` is booked once.
    """

    lane: Word
    key: Nonce
    counted: Number
    stubs: Number
    reason: Detail = ""
    by: Word = ""


class StubsBooked(Base, frozen=True, kw_only=True):
    """`state`: same | booked | waiting (a second person must say the same)."""

    difference: Signed
    state: str
    detail: str = ""


class GetFigures(Base, frozen=True, kw_only=True):
    """site.figures: today beside yesterday at this time, for a manager's phone. Reads only."""


class LaneFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Passages of one lane on a business day."""

    lane: str
    name: str
    entries: int
    exits: int


class DayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A business day up to a time of day. `sales_cents` is what was paid less what was paid back."""

    day: str  # YYYY-MM-DD
    entries: int
    exits: int
    refused: int
    orders: int
    tickets: int
    sales_cents: int


class Figures(Base, frozen=True, kw_only=True):
    """`inside` is people in all zones now; `yesterday_all` is the whole of yesterday."""

    at: float
    inside: int
    today: DayFigures
    yesterday: DayFigures
    yesterday_all: DayFigures
    lanes: list[LaneFigures]
