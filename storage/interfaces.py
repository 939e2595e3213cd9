"""What the domain knows of storage: operations told to the ledger, and the facts its pure rules decide on.

The ledger (`storage.ledger`) is an actor with one PostgreSQL connection that commits in groups: whatever queued while
the last commit ran goes into the next one.  Operations are the messages below; each is answered (`reply_to`, or ask)
once it is on disk, and with `LedgerUnavailable` when it is not known to be.  Asking again is always safe: every
operation carries its own identity.  This module imports no database library.

`Passed` and `Ended` of `protocols.messages` are operations too, answered with `Booked` and `Settled`; `GrantOp` is
answered with `Granted` or `Denied` from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import ClassVar, Literal

import msgspec

from protocols.clock import LocalTime
from protocols.messages import Base, CredentialKind, Direction
from protocols.rights import ProductRules, ZoneRight

# isort: off - given out here with the rest of the seam
from storage._office_ops import (
    BatchBooked as BatchBooked,
)
from storage._office_ops import (
    Batches as Batches,
)
from storage._office_ops import (
    CancelOrder as CancelOrder,
)
from storage._office_ops import (
    CardReplaced as CardReplaced,
)
from storage._office_ops import (
    Codes as Codes,
)
from storage._office_ops import (
    Collect as Collect,
)
from storage._office_ops import (
    Collected as Collected,
)
from storage._office_ops import (
    CompleteRefund as CompleteRefund,
)
from storage._office_ops import (
    CreateCodes as CreateCodes,
)
from storage._office_ops import (
    CredentialBooks as CredentialBooks,
)
from storage._office_ops import (
    DecideRefund as DecideRefund,
)
from storage._office_ops import (
    ExportCodes as ExportCodes,
)
from storage._office_ops import (
    FindBooks as FindBooks,
)
from storage._office_ops import (
    HoldTicket as HoldTicket,
)
from storage._office_ops import (
    ListBatches as ListBatches,
)
from storage._office_ops import (
    ListCodes as ListCodes,
)
from storage._office_ops import (
    MarkCard as MarkCard,
)
from storage._office_ops import (
    MoveCodes as MoveCodes,
)
from storage._office_ops import (
    Named as Named,
)
from storage._office_ops import (
    NamePeople as NamePeople,
)
from storage._office_ops import (
    OfficeDone as OfficeDone,
)
from storage._office_ops import (
    OfficeOp as OfficeOp,
)
from storage._office_ops import (
    OrderBooks as OrderBooks,
)
from storage._office_ops import (
    PaymentBooked as PaymentBooked,
)
from storage._office_ops import (
    PaymentNotice as PaymentNotice,
)
from storage._office_ops import (
    Person as Person,
)
from storage._office_ops import (
    RefundBooked as RefundBooked,
)
from storage._office_ops import (
    RefundPart as RefundPart,
)
from storage._office_ops import (
    ReplaceCard as ReplaceCard,
)
from storage._office_ops import (
    RequestRefund as RequestRefund,
)
from storage._office_ops import (
    ReverseAdmission as ReverseAdmission,
)
from storage._office_ops import (
    Reversed as Reversed,
)
from storage._office_ops import (
    RightBooks as RightBooks,
)
from storage._office_ops import (
    TicketBooks as TicketBooks,
)
from storage._office_ops import (
    TransferPlaces as TransferPlaces,
)
from storage._phone_ops import (
    Blocked as Blocked,
)
from storage._phone_ops import (
    BlockedTickets as BlockedTickets,
)
from storage._phone_ops import (
    SiteFigures as SiteFigures,
)
from storage._phone_ops import (
    SpanFigures as SpanFigures,
)
from storage._upload_ops import (
    UploadBooked as UploadBooked,
)
from storage._upload_ops import (
    UploadOp as UploadOp,
)

# isort: on


class LedgerError(Exception):
    """Base of what the ledger answers instead of a result."""


class LedgerUnavailable(LedgerError):
    """The database is down, hung or unreachable; nothing is known to have been written."""


class LedgerRefused(LedgerError):
    """The operation itself is wrong (a constraint, an unknown product); asking again will not help."""


# --- what the site is, written down at start ----------------------------------------------------------------------


class ZoneSetup(msgspec.Struct, frozen=True, kw_only=True):
    """A zone as the site file describes it; all bounds are people, None binds nobody.

    Entry stops at `stop_at` and goes on at `resume_at`; sale the same; `day_limit` first entries of visitors a day.
    """

    zone: str
    name: str
    limit: int | None
    stop_at: int | None = None
    resume_at: int | None = None
    sale_stop_at: int | None = None
    sale_resume_at: int | None = None
    day_limit: int | None = None
    reentry_when_stopped: bool = True
    staff_counts: bool = False


class ProductSetup(msgspec.Struct, frozen=True, kw_only=True):
    """A product as the site file describes it. A changed one becomes a new version; sold tickets keep theirs.

    `pax` people per use.  `effective_from` (YYYY-MM-DD; empty: always): several setups of one product with different
    dates are its versions, and a sale uses the newest whose date has come on its business day (`in_force`).
    """

    product: str
    name_zh: str
    name_en: str
    product_class: str
    price_cents: int
    pax: int
    rules: ProductRules
    effective_from: str = ""


def in_force(versions: Iterable[ProductSetup], day: str) -> ProductSetup | None:
    """The version of one product that is sold on a business day (YYYY-MM-DD); None before its first."""
    begun = [version for version in versions if version.effective_from <= day]
    return max(begun, key=lambda version: version.effective_from, default=None)


class SiteSetup(msgspec.Struct, frozen=True, kw_only=True):
    """Given to the ledger when it is made; it brings the tables in line whenever it (re)connects."""

    site: str
    name: str
    timezone: str
    business_day_start: str  # HH:MM
    night_close: bool = True  # write off who is left inside on paper when a business day ends
    zones: list[ZoneSetup]  # `outside` is added by the ledger
    products: list[ProductSetup]


# --- facts for the pure decision ----------------------------------------------------------------------------------


class RightFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One entitlement that a credential may use, as it stands in the transaction that will use it.

    `sold` is None for unlimited use (an annual card).  Times are seconds since the epoch.  `rules` are those of the
    product's version that was sold, `rule` this right's place in them.  The counters of a day (`used_day` people who
    used the right, `reentries_day` who came back, `out_day` who were seen to leave and have not come back) are those
    of the scan's own business day.  `used_today` names the products that the same order or holder has used today.
    """

    entitlement: int
    ticket: int
    ticket_state: str  # blank | in_stock | reserved | unpaid | active | on_hold | blocked | void | refunded | expired
    credential_state: str  # active | lost | superseded | void
    product: str
    product_class: str
    rules: ProductRules
    rule: int = 0
    zone: str  # empty: the right's zones share it
    pax: int = 1  # people per use
    sold: int | None
    redeemed: int
    held: int
    refunded: int
    reserved_refund: int
    valid_from: float
    valid_to: float
    last_used_at: float | None
    last_used_lane: str
    first_used_at: float | None = None
    last_exit_at: float | None = None
    used_day: int = 0
    reentries_day: int = 0
    reentries_held: int = 0
    out_day: int = 0
    slot_from: float | None = None
    slot_to: float | None = None
    first_used_on: date | None = None  # the business day of the first use
    holder_hash: bytes | None = None  # of the person that the ticket is bound to
    face_bound: bool = False  # a face was taken to compare with
    used_today: list[str] = []
    promised: int = 0  # places set aside for single people who have not come yet
    person: PersonFacts | None = None  # the credential is one person's, of a list

    @property
    def right(self) -> ZoneRight:
        """What the rules say of this right."""
        return self.rules.rights[self.rule]

    @property
    def zones(self) -> list[str]:
        """Where the right leads."""
        return [self.zone] if self.zone else self.right.zones


class PersonFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one person of a list has used of a right: open grants, and uses."""

    held: int = 0
    redeemed: int = 0


class ZoneFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A zone at the moment of the decision: people inside, people who hold an open grant into it, the limit.

    `staff` of those inside take no visitor's place.  `stopped`: no new visitor enters, whatever room there is (the
    hysteresis, or people's order); re-entries do if `reentry_when_stopped`.  `left_today`: first entries that the
    day's limit still allows.
    """

    zone: str
    inside: int
    held: int
    limit: int | None
    staff: int = 0
    stopped: bool = False
    reentry_when_stopped: bool = True
    left_today: int | None = None


class ScanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: where from and to, when (`local` is the same moment on the site's clock), and with what proof.

    `holder_hash` is the ID that was presented beside or as the credential; `face_taken`: a photograph came with the
    scan and shows one face, to compare with later; `stamp`: staff have looked at the holder and take it upon
    themselves; `product`: of several tickets on one credential the one that staff have chosen.
    """

    lane: str
    to_zone: str
    now: float
    pax: int | None  # asked for by the device, None: as many as the ticket allows
    max_pax: int  # the lane's own limit for one grant
    face_ok: bool  # the holder's face was compared with the card's template and matched
    from_zone: str = "outside"
    direction: Direction = Direction.ENTRY
    lane_class: str = ""
    local: LocalTime | None = None  # None: the site's clock shows UTC
    face_taken: bool = False
    holder_hash: bytes | None = None
    stamp: bool = False
    product: str = ""


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """The decision: `pax` people may pass on `entitlement`. Only an exit may be on no ticket at all."""

    entitlement: int | None
    ticket: int | None
    pax: int
    remaining: int
    product_class: str
    kind: GrantKind = "entry"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The decision: no. `code` is a refusal code; the rest helps staff and visitor, and is silent on other holders."""

    code: str
    lane_of_use: str = ""
    used_at: float | None = None
    valid_from: float | None = None
    passes_at: float | None = None  # the moment from which it would pass
    opens: str = ""  # the same on the site's clock, YYYY-MM-DD or YYYY-MM-DD HH:MM, where a window decides
    zones: list[str] = []  # where it would pass now
    tomorrow: int = 0  # uses of the next business day


GrantKind = Literal["entry", "reentry", "exit"]
"""`entry` uses a right up, `reentry` comes back on one that was used, `exit` needs none."""

DecideRule = Callable[[list[RightFacts], ZoneFacts, ScanFacts], Permit | Refusal]
"""`actors.admission.rules.decide`: pure, used unchanged by the server and by a lane controller on its own."""


# --- operations ---------------------------------------------------------------------------------------------------


class GrantOp(Base, frozen=True, kw_only=True):
    """Decide and hold, in one transaction. Answered with `Granted` or `Denied`.

    A known (device, nonce) is answered with its grant before any other check.  `credential_hash` is the keyed hash of
    the credential's value; for a signed ticket code `ticket` is its verified ticket id and the hash is of that id.
    """

    lane: str
    device: str
    nonce: str
    kind: CredentialKind
    credential_hash: bytes
    from_zone: str
    to_zone: str
    max_pax: int
    pax: int | None
    ttl_s: float
    at: float  # the device's clock
    counter_epoch: str | None  # the board's cumulative counters as read before opening; None for a linked gate
    counter_entries: int | None
    counter_exits: int | None
    face_ok: bool
    direction: Direction = Direction.ENTRY  # zones are those of the movement: an exit's `to_zone` is outside
    lane_class: str = ""
    ticket: int | None = None  # a signed code's
    issue_index: int | None = None  # what a card says of itself
    holder_hash: bytes | None = None  # the ID that was presented beside the credential
    holder_enc: bytes | None = None
    template_enc: bytes | None = None  # the face that was taken, sealed
    template_algorithm: str = ""
    stamp: str = ""  # who of the staff has looked at the holder
    product: str = ""  # chosen by staff, of several tickets
    refused: str = ""  # the code that it is refused with, unless it was granted before

    def __repr__(self) -> str:  # hashes, seals and faces are not for logs
        return f"GrantOp(lane={self.lane!r}, device={self.device!r}, nonce={self.nonce!r}, kind={self.kind!r})"


class AddShort(Base, frozen=True, kw_only=True):
    """Give a ticket a short code (`protocols.shortcode`), by its keyed hash. Answered with `Ok`.

    Refused for a ticket that does not exist, and for a code that is taken: draw another one.
    """

    ticket: int
    value_hash: bytes


class RefusedScan(Base, frozen=True, kw_only=True):
    """Log of a scan that was refused before any look-up (forged, unknown format, lane closed). Unanswered."""

    overflow: ClassVar[str] = "drop_oldest"
    lane: str
    device: str
    nonce: str
    kind: CredentialKind
    credential_hash: bytes
    code: str
    at: float


class OpenCase(Base, frozen=True, kw_only=True):
    """Something for people to work on: tailgate, forced, late_pass, unresolved grant, device alarm. Unanswered.

    `key` makes it once only: a case with the same key is not opened again.
    """

    key: str
    kind: str
    lane: str
    severity: str
    detail: str
    at: float


class CaseWork(Base, frozen=True, kw_only=True):
    """What somebody did about a case: `what` is acknowledged, assigned (`detail`: to whom), note or closed.

    Answered with `Ok`; its entry in the audit log is written with it.
    """

    case: int
    what: str
    detail: str
    user: str
    at: float


class SaleLineOp(msgspec.Struct, frozen=True, kw_only=True):
    product: str
    quantity: int
    visit_date: str  # YYYY-MM-DD, site zone
    card_hash: bytes | None = None
    card_tail: str = ""
    holder_enc: bytes | None = None
    template_enc: bytes | None = None  # encrypted face embedding
    template_algorithm: str = ""
    slot: str = ""  # when the booked time begins, HH:MM, for products that are sold by time
    version: int = 0  # of the product, as its price was shown; 0: the one on sale now
    shown_cents: int | None = None  # the price that was shown: an old one is kept for a while after it has changed
    preprinted: list[int] = []  # ticket numbers of pre-printed codes that are sold, one for each of `quantity`
    serials: list[tuple[int, int]] = []  # the same by (batch, serial)


class SaleOp(Base, frozen=True, kw_only=True):
    """Order, tenders, tickets, credentials and print jobs, all or nothing. Answered with `SaleBooked`.

    (channel, key) is the order's identity: repeated, it is answered with the same order.
    Raises (answers) LedgerRefused for an unknown product, tenders that do not cover the total, or a known card.
    With `pay_within_s` the order waits for its money: no tenders, tickets `unpaid`, places held; a `PaymentNotice`
    issues them.  `supplement_of`: the group's order to which this one adds people.
    """

    channel: str
    key: str
    user: str
    lines: list[SaleLineOp]
    tenders: list[tuple[str, int]]
    printer: str
    at: float
    pay_within_s: float = 0.0
    supplement_of: int | None = None


class BookedTicket(msgspec.Struct, frozen=True, kw_only=True):
    ticket: int
    product: str
    product_name_zh: str
    product_name_en: str
    product_class: str
    zones: list[str]
    price_cents: int
    pax: int
    valid_from: float
    valid_to: float
    print_job: int | None
    slot_from: float | None = None
    slot_to: float | None = None
    state: str = "active"  # unpaid while its order waits for the money


class SaleBooked(Base, frozen=True, kw_only=True):
    order: int
    total_cents: int
    change_cents: int
    tickets: list[BookedTicket]
    repeated: bool


class PrintJobState(Base, frozen=True, kw_only=True):
    """A print job moved on: printing | done | failed. Unanswered, ordered."""

    job: int
    state: str
    detail: str
    at: float


class AuditEntry(Base, frozen=True, kw_only=True):
    """Who did what: every command of a person that changes something. Hash-chained by the ledger. Unanswered."""

    user: str
    role: str
    action: str
    subject: str
    reason: str
    at: float


class IncidentNote(Base, frozen=True, kw_only=True):
    """One line of an evacuation's record, written after sending. Unanswered; repeats of (incident, seq) are one."""

    incident: int
    seq: int
    at: float
    kind: str  # triggered | acknowledged | restore_requested | restored | rearmed
    lane: str
    user: str
    detail: str


class Calibrate(Base, frozen=True, kw_only=True):
    """Correct a zone's count by `delta`, booked as a pair with `outside`. Answered with the zone's `ZoneCount`.

    `staff` of them are staff (it may also be the only thing that is corrected).  `key`, where there is one, makes the
    correction once only, however often it is said.
    """

    zone: str
    delta: int
    reason: str
    user: str
    at: float
    staff: int = 0
    key: str = ""


class StopZone(Base, frozen=True, kw_only=True):
    """Stop entry or sale of a zone, or let one in for one out, until then at the latest; None: allow it again.

    Answered with the zone's `ZoneCount`.
    """

    zone: str
    what: Literal["entry", "sale", "one_for_one"]
    until: float | None
    user: str
    reason: str
    at: float


# --- questions ----------------------------------------------------------------------------------------------------


class LaneLedger(Base, frozen=True, kw_only=True):
    """Ask: what the ledger knows of a lane, at start and after a reconnect. Answered with `LaneBooks`."""

    lane: str
    device: str
    epoch: str | None  # counters of which epoch to report; None: of the latest


class OpenGrant(msgspec.Struct, frozen=True, kw_only=True):
    grant: int
    nonce: str
    ticket: int
    pax: int
    passed: int
    granted_at: float
    ttl_s: float
    counter_epoch: str | None
    counter_entries: int | None
    counter_exits: int | None
    direction: Direction = Direction.ENTRY


class LaneBooks(Base, frozen=True, kw_only=True):
    """`entries` and `exits` are the highest counters booked in the asked epoch, None when there are none yet."""

    lane: str
    open_grants: list[OpenGrant]
    epoch: str | None
    entries: int | None
    exits: int | None
    entries_today: int
    exits_today: int


class CounterBaseline(Base, frozen=True, kw_only=True):
    """The first counters seen in a new epoch: what stood there before is nobody's passage. Answered with `Ok`."""

    lane: str
    device: str
    epoch: str
    entries: int
    exits: int
    at: float


class Ok(Base, frozen=True, kw_only=True):
    """Done, on disk."""


class ZoneCount(msgspec.Struct, frozen=True, kw_only=True):
    """A zone as committed. `entered`: visitors' first entries of the business day; the stops as in `ZoneSetup`.

    `people` count against the limit; None: all who are inside or hold an open grant.
    """

    zone: str
    inside: int
    held: int
    limit: int | None
    people: int | None = None
    staff: int = 0
    entered: int = 0
    stop_at: int | None = None
    resume_at: int | None = None
    full: bool = False
    sale_full: bool = False
    entry_stopped_until: float | None = None
    sale_stopped_until: float | None = None
    one_for_one_until: float | None = None


class ZonesChanged(Base, frozen=True, kw_only=True):
    """ledger -> occupancy, after each commit that moved somebody: the zones as committed."""

    overflow: ClassVar[str] = "drop_oldest"
    zones: list[ZoneCount]


class PassTemplate(Base, frozen=True, kw_only=True):
    """Ask: the face that a card or ticket is to be compared with. Answered with `Template`."""

    credential_hash: bytes
    kind: CredentialKind = CredentialKind.CARD


class Template(Base, frozen=True, kw_only=True):
    """`template_enc` is None when the card is unknown or has no template. `needs_face` as the product says.

    `binds_face`: the first use binds the ticket to a face; until it was `used`, a new one replaces the one before.
    """

    needs_face: bool
    ticket: int | None
    template_enc: bytes | None
    algorithm: str
    binds_face: bool = False
    used: bool = False


class Explain(Base, frozen=True, kw_only=True):
    """Ask: the facts that a scan of this credential into this zone would be decided on. Answered with `ScanBooks`.

    Reads only: no scan is logged and nothing is locked.  `credential_hash` and `ticket` as in `GrantOp`;
    `at` None: now.
    """

    kind: CredentialKind
    credential_hash: bytes
    to_zone: str
    from_zone: str = "outside"
    lane: str = ""
    ticket: int | None = None
    at: float | None = None


class ScanBooks(Base, frozen=True, kw_only=True):
    """Every right of the credential, in the order of their ids; none when it is unknown. `zone` None: no such zone."""

    rights: list[RightFacts]
    zone: ZoneFacts | None
    local: LocalTime | None = None  # the asked moment on the site's clock
    refused: str = ""  # the code of a pre-printed code that was not sold or is void


class EntryStatistics(Base, frozen=True, kw_only=True):
    """Ask: who entered, from one business day (YYYY-MM-DD) to another one inclusive. Answered with `Entries`."""

    first: str
    last: str


class EntryCount(msgspec.Struct, frozen=True, kw_only=True):
    """Entries into a zone on a business day: first ones, those of people who came back, of staff, and without a grant.

    They add up to `total` (domain model, invariant 27).
    """

    zone: str
    day: str
    first: int
    reentries: int
    staff: int
    free: int
    total: int


class Entries(Base, frozen=True, kw_only=True):
    rows: list[EntryCount]


class ListPrintJobs(Base, frozen=True, kw_only=True):
    """Ask: the print jobs of an order (or, with order None, all unfinished ones). Answered with `PrintJobRows`."""

    order: int | None


class PrintJobRow(msgspec.Struct, frozen=True, kw_only=True):
    job: int
    ticket: int
    printer: str
    state: str
    detail: str


class PrintJobRows(Base, frozen=True, kw_only=True):
    jobs: list[PrintJobRow]
    tickets: list[BookedTicket]


class LedgerState(Base, frozen=True, kw_only=True):
    """ledger -> who asked to know: the database is reachable or not, with the settings that durability rests on."""

    overflow: ClassVar[str] = "drop_oldest"
    available: bool
    detail: str
    durable: bool  # fsync, full_page_writes and synchronous_commit are all on
