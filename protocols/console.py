"""The console channel's vocabulary: what a control-room page or a sales window asks, and what it is shown.

Carried by JSON-RPC 2.0 (`jsonrpc`) over a WebSocket, as JSON text or MessagePack by subprotocol (`paifang.json`,
`paifang.msgpack`).  Views are state (the newest replaces the older one of the same key); `FeedEvent`s are events (none
is dropped).  The page's TypeScript types are generated from this file (`admin_ws.typescript`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocols._bounds import LIST_MAX, Clock, Detail, Number, Numbers, Pax, Secret, Signed, Word
from protocols.messages import Base, Telemetry

# --- views: told to the console hub by the actors that own them, sent on to every subscribed page -----------------


class LaneView(Telemetry, frozen=True, kw_only=True):
    lane: str
    name: str
    entrance: str
    kind: str  # tripod | wing | swing
    transport: str  # serial | link
    from_zone: str
    to_zone: str
    mode: str
    state: str  # idle | deciding | granted | passing | released | needs_rearm | unavailable …
    available: bool
    barrier: str
    entries: int  # passages since midnight of the business day, as booked
    exits: int
    passed: int = 0  # of `pax`, while a grant runs
    pax: int = 0
    last_code: str = ""  # ok, or the last refusal's code
    last_text_zh: str = ""
    last_text_en: str = ""
    last_at: float | None = None
    alarm: str = ""


class ZoneView(Telemetry, frozen=True, kw_only=True):
    zone: str
    name: str
    inside: int
    held: int  # people who hold an open grant into this zone
    limit: int | None
    state: str  # normal | announced | slow | full | stopped
    staff: int = 0  # of `inside`
    entered: int = 0  # visitors' first entries of the business day
    sale_stopped: bool = False
    one_for_one: bool = False
    stopped_until: float | None = None  # entry was stopped by people, until then at the latest


class DeviceView(Telemetry, frozen=True, kw_only=True):
    """One device's health. Availability `removed` takes it off the page: it is in the site file no more."""

    device: str
    kind: str  # gate | reader | printer | counter | fire | link | database | face
    lane: str
    availability: str  # unknown | available | unavailable | unauthenticated | removed
    detail: str = ""  # the last error
    bad_frames: int = 0
    reconnects: int = 0
    last_said: str = ""  # in words that hold no secret
    last_said_at: float | None = None  # seconds since the epoch
    since: float | None = None  # in this availability since then
    frames: int = 0  # received, sound ones
    error_rate: float | None = None  # damaged of all frames received, 0 to 1; None while there were none
    firmware: str = ""
    clock_skew_s: float | None = None  # the device's clock minus ours
    entries: int | None = None  # its own cumulative counts
    exits: int | None = None


class LaneRelease(Base, frozen=True, kw_only=True):
    lane: str
    commanded: bool
    acknowledged: bool
    sensed_open: bool
    barrier: str
    acknowledged_after_ms: float | None


class EvacuationView(Telemetry, frozen=True, kw_only=True):
    state: str  # normal | released | restoring
    incident: int | None = None
    drill: bool = False
    triggered_by: str = ""
    triggered_at: float | None = None
    restore_requested_by: str = ""
    lanes: list[LaneRelease] = msgspec.field(default_factory=list)


class FlowPoint(Telemetry, frozen=True, kw_only=True):
    """People through the lanes in one minute of the site's clock; `minute` is its start, seconds since the epoch."""

    minute: float
    entries: int
    exits: int
    refused: int


class FeedEvent(Base, frozen=True, kw_only=True):
    """One line of the event feed. Ids and codes that open a gate never appear here."""

    at: float
    kind: str  # admitted | refused | passage | alarm | sale | print | device | mode | evacuation | case | login
    severity: str  # info | notice | warning | alarm
    lane: str = ""
    code: str = ""
    text_zh: str = ""
    text_en: str = ""
    trace: str = ""


class Snapshot(Base, frozen=True, kw_only=True):
    revision: int
    site: str
    site_name: str
    server_at: float
    lanes: list[LaneView]
    zones: list[ZoneView]
    devices: list[DeviceView]
    evacuation: EvacuationView
    flow: list[FlowPoint]
    feed: list[FeedEvent]  # the newest, oldest first


class Delta(Base, frozen=True, kw_only=True):
    """What changed since the revision before. Views replace those of the same key; feed lines are appended."""

    revision: int
    server_at: float
    lanes: list[LaneView] = msgspec.field(default_factory=list)
    zones: list[ZoneView] = msgspec.field(default_factory=list)
    devices: list[DeviceView] = msgspec.field(default_factory=list)
    evacuation: EvacuationView | None = None
    flow: list[FlowPoint] = msgspec.field(default_factory=list)
    feed: list[FeedEvent] = msgspec.field(default_factory=list)


# --- methods: the params of each, and its result ------------------------------------------------------------------


class Login(Base, frozen=True, kw_only=True):
    """session.login. Refused with `bad_login` after a constant-time check; three failures lock for a while."""

    user: Word
    password: Secret

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


class Session(Base, frozen=True, kw_only=True):
    token: str
    user: str
    role: str
    permissions: list[str]
    methods: list[str] = msgspec.field(default_factory=list)  # what this session may call; filled in by the channel

    def __repr__(self) -> str:
        return f"Session(user={self.user!r}, role={self.role!r})"


class Resume(Base, frozen=True, kw_only=True):
    """session.resume: the token of an earlier log-in."""

    token: Secret

    def __repr__(self) -> str:
        return "Resume(…)"


class Trigger(Base, frozen=True, kw_only=True):
    """evacuation.trigger. `by` is filled in by the channel from the session, never by the page.

    `reason` has no bound on purpose: nothing about it may refuse an evacuation.
    """

    reason: str = ""
    drill: bool = False
    by: str = ""


class RestoreRequest(Base, frozen=True, kw_only=True):
    """evacuation.restore: two different people must ask; the second one restores."""

    reason: Detail = ""
    by: Word = ""


class RearmLane(Base, frozen=True, kw_only=True):
    """lane.rearm: the lane goes back to the mode before the evacuation. `lane` "*" means every one that waits."""

    lane: Word
    by: Word = ""


class SetMode(Base, frozen=True, kw_only=True):
    """lane.set_mode. A reason is required."""

    lane: Word
    mode: Word
    reason: Detail
    by: Word = ""


class StopZoneFor(Base, frozen=True, kw_only=True):
    """zone.stop: stop `entry` or `sale` of a zone, or let `one_for_one` in, for so many minutes; 0 ends it.

    A reason is required.
    """

    zone: Word
    what: Word
    minutes: Number
    reason: Detail
    by: Word = ""


class CalibrateZone(Base, frozen=True, kw_only=True):
    """zone.calibrate: correct a zone's count by `delta` people. A large one needs a second person who asks the same.

    A reason is required; the same `key` corrects once only.
    """

    zone: Word
    delta: Signed
    reason: Detail
    key: Word = ""
    by: Word = ""


class PauseBatch(Base, frozen=True, kw_only=True):
    """lane.pause: end the running batch after the person in the barrier; the rest of the group keep their places.

    A reason is required.
    """

    lane: Word
    reason: Detail
    by: Word = ""


class ManualOpen(Base, frozen=True, kw_only=True):
    """lane.open: let `pax` people through without a ticket, booked as `staff`. A reason is required."""

    lane: Word
    pax: Pax
    reason: Detail
    by: Word = ""


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


class GetTree(Base, frozen=True, kw_only=True):
    """site.inspect: the live actor tree, as `core.inspect_tree` gives it."""


class ExplainScan(Base, frozen=True, kw_only=True):
    """site.explain: would this be admitted at this lane, and if not, what would help? Nothing is booked or logged.

    `at` asks for another moment than now; the lane's mode of that moment is not known and not judged.
    """

    code: Secret  # as a reader reads it: a ticket code, or `CARD:` and an annual card's number
    lane: Word
    at: Clock | None = None
    face_ok: bool = False  # suppose that the holder's face was compared and matches

    def __repr__(self) -> str:
        return f"ExplainScan(lane={self.lane!r}, at={self.at!r})"


class ExplainStep(Base, frozen=True, kw_only=True):
    """One check, in the order of the decision. The first `refused` decides; later ones are `also_refused`."""

    check: str  # lane | signature | known | credential | ticket | validity | zone | uses | factor | gap | capacity
    name_zh: str
    name_en: str
    verdict: str  # ok | refused | also_refused
    text_zh: str  # what was looked at
    text_en: str
    code: str = ""  # of the refusal
    cure_zh: str = ""  # what would make this check pass
    cure_en: str = ""
    passes_at: float | None = None  # this check passes from then on
    passes_zones: list[str] = msgspec.field(default_factory=list)  # the ticket passes at lanes into these zones
    leave: int = 0  # so many people must leave first


class Explanation(Base, frozen=True, kw_only=True):
    """What a gate would say, and every step that led to it. `code` is `ok` or the refusal's."""

    lane: str
    zone: str
    at: float
    admitted: bool
    code: str
    text_zh: str  # what the visitor would read
    text_en: str
    pax: int  # people who would be let in
    ticket: int | None
    product: str
    steps: list[ExplainStep]


class ReloadSite(Base, frozen=True, kw_only=True):
    """site.reload: read the site file again. With `dry_run`, say what would change and change nothing."""

    dry_run: bool = False
    by: Word = ""


class SiteChange(Base, frozen=True, kw_only=True):
    """One difference between the site file and what runs."""

    subject: str  # a device's name, or a table of the site file
    what: str  # added | changed | removed
    detail: str  # what is different, key by key
    state: str  # applied | would_apply | waits (its lane is busy) | restart (takes effect when the server is restarted)


class Reloaded(Base, frozen=True, kw_only=True):
    """What came of a reload, or would. Empty when the file says what runs already."""

    changes: list[SiteChange]
    warnings: list[str] = msgspec.field(default_factory=list)


# --- the office: orders, groups, refunds, cards, codes. `key` makes each command once only ------------------------


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


class Done(Base, frozen=True, kw_only=True):
    """A command was carried out, or is on its way; `detail` says which."""

    detail: str = ""
