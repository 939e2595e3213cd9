"""The console channel's vocabulary: what a control-room page or a sales window asks, and what it is shown.

Carried by JSON-RPC 2.0 (`jsonrpc`) over a WebSocket, as JSON text or MessagePack by subprotocol (`paifang.json`,
`paifang.msgpack`).  Views are state (the newest replaces the older one of the same key); `FeedEvent`s are events (none
is dropped).  What belongs to a part of it stands in the modules beside this one (`console_views`,
`console_accounts`, `console_sales`, `console_office`) and is found here under one name.  Which method takes and gives
what, and who may call it, is the table in `console_methods`.  The page's TypeScript types are generated from all of
them (`admin_ws.typescript`).
"""

from __future__ import annotations

import msgspec

from protocols._bounds import Clock, Detail, Number, Pax, Secret, Signed, Word
from protocols.console_accounts import (
    BeginTotp,
    ConfirmTotp,
    CreateUser,
    DisableUser,
    ListRoles,
    ListSessions,
    ListUsers,
    Login,
    Logout,
    OneTimePassword,
    RecoveryCodes,
    RemoveTotp,
    RemoveUser,
    ResetPassword,
    ResetTotp,
    Resume,
    RevokeSessions,
    RoleList,
    RoleRow,
    Session,
    SessionList,
    SessionRow,
    SetPassword,
    SetUserRole,
    TotpSecret,
    UserList,
    UserRow,
)
from protocols.console_cases import (
    AcknowledgeCase,
    AssignCase,
    CaseList,
    CaseNote,
    CaseView,
    CloseCase,
    FindHistory,
    FindResult,
    HistoryLine,
    ListCases,
    NoteCase,
)
from protocols.console_office import (
    AskRefund,
    BatchList,
    BatchView,
    CancelUnpaid,
    CardView,
    CodePage,
    CollectedView,
    CollectPlaces,
    CredentialView,
    ExportView,
    FindOrder,
    GetBatches,
    GetCodes,
    HoldPlaces,
    MovePlaces,
    NamedPerson,
    NamedView,
    NameList,
    NewCard,
    NewCodes,
    NotePayment,
    OrderView,
    PaperView,
    PaymentView,
    PayRefund,
    RefundPartView,
    RefundView,
    ReversedView,
    RightView,
    SetCardState,
    SettleRefund,
    ShiftCodes,
    TakeOutCodes,
    TicketView,
    UndoAdmission,
)
from protocols.console_reports import (
    FlowReport,
    FlowSum,
    GetFlowReport,
    GetTrace,
    LaneThroughput,
    RefusalCount,
    TracePath,
    TraceStep,
)
from protocols.console_sales import (
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
    Tender,
)
from protocols.console_views import (
    Delta,
    DeviceView,
    EvacuationView,
    FeedEvent,
    FlowPoint,
    LaneRelease,
    LaneView,
    ModesNow,
    ModeView,
    Snapshot,
    Subscription,
    ZoneView,
)
from protocols.console_wallet import GetWallet, Wallet
from protocols.messages import Base

__all__ = [  # what lives in the modules beside this one; add new messages there
    "AcknowledgeCase",
    "AskRefund",
    "AssignCase",
    "BatchList",
    "BatchView",
    "BeginTotp",
    "CalibrateZone",
    "CancelUnpaid",
    "CardView",
    "CaseList",
    "CaseNote",
    "CaseView",
    "CloseCase",
    "CodePage",
    "CollectPlaces",
    "CollectedView",
    "ConfirmTotp",
    "CountOut",
    "CreateUser",
    "CredentialView",
    "Delta",
    "DeviceView",
    "DisableUser",
    "Done",
    "EvacuationView",
    "ExplainScan",
    "ExplainStep",
    "Explanation",
    "ExportView",
    "FeedEvent",
    "FindHistory",
    "FindOrder",
    "FindResult",
    "FlowPoint",
    "FlowReport",
    "FlowSum",
    "GetBatches",
    "GetCodes",
    "GetFlowReport",
    "GetPrintJobs",
    "GetTrace",
    "GetTree",
    "GetWallet",
    "HistoryLine",
    "HoldPlaces",
    "LaneRelease",
    "LaneThroughput",
    "LaneView",
    "ListCases",
    "ListProducts",
    "ListRoles",
    "ListSessions",
    "ListUsers",
    "Login",
    "Logout",
    "ManualOpen",
    "ModeView",
    "ModesNow",
    "MovePlaces",
    "NameList",
    "NamedPerson",
    "NamedView",
    "NewCard",
    "NewCodes",
    "NoteCase",
    "NotePayment",
    "OneTimePassword",
    "OrderView",
    "PaperView",
    "PauseBatch",
    "PayRefund",
    "PaymentView",
    "PrintJobView",
    "PrintJobs",
    "ProductView",
    "Products",
    "RearmLane",
    "RecoveryCodes",
    "RefundPartView",
    "RefundView",
    "RefusalCount",
    "ReloadSite",
    "Reloaded",
    "RemoveTotp",
    "RemoveUser",
    "ResetPassword",
    "ResetTotp",
    "RestoreRequest",
    "Resume",
    "ReversedView",
    "RevokeSessions",
    "RightView",
    "RoleList",
    "RoleRow",
    "Sell",
    "SellLine",
    "Session",
    "SessionList",
    "SessionRow",
    "SetCardState",
    "SetMode",
    "SetPassword",
    "SetUserRole",
    "SettleRefund",
    "ShiftCodes",
    "SiteChange",
    "Snapshot",
    "Sold",
    "SoldTicket",
    "StopZoneFor",
    "Subscription",
    "TakeOutCodes",
    "Tender",
    "TicketView",
    "TotpSecret",
    "TracePath",
    "TraceStep",
    "Trigger",
    "UndoAdmission",
    "UserList",
    "UserRow",
    "Wallet",
    "ZoneView",
]

# --- methods: the params of each, and its result ------------------------------------------------------------------


class Trigger(Base, frozen=True, kw_only=True):
    """evacuation.trigger. `by` is filled in by the channel from the session, never by the page.

    `reason` has no bound on purpose: nothing about it may refuse an evacuation. `scope` is empty for the whole site,
    else `entrance:NAME`, `zone:NAME` or `lane:NAME`, several separated by commas; what is not understood means
    everything.
    """

    reason: str = ""
    drill: bool = False
    by: str = ""
    scope: str = ""


class CountOut(Base, frozen=True, kw_only=True):
    """evacuation.count: people counted out by hand, where no sensor counts. A negative number corrects.

    `place` is a lane's name or any other word for where it was.
    """

    place: Word
    people: Signed
    by: Word = ""


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


class GetTree(Base, frozen=True, kw_only=True):
    """site.inspect: the live actor tree, as `core.inspect_tree` gives it."""


class ExplainScan(Base, frozen=True, kw_only=True):
    """site.explain: would this be admitted at this lane, and if not, what would help? Nothing is booked or logged.

    `at` asks for another moment than now; the lane's mode of that moment is not known and not judged.
    """

    code: Secret  # as a reader reads it: a ticket code, a live one, a typed short one, or `CARD:` and a card's number
    lane: Word
    at: Clock | None = None
    face_ok: bool = False  # suppose that the holder's face was compared and matches
    id_number: bool = False  # the code is the number of an ID
    holder: Secret = ""  # the number of the ID that is shown beside the code
    way_out: bool = False  # they want out
    stamp: bool = False  # suppose that staff have looked at the holder
    product: Word = ""  # suppose that staff have chosen it, of several tickets

    def __repr__(self) -> str:
        return f"ExplainScan(lane={self.lane!r}, at={self.at!r})"


class ExplainStep(Base, frozen=True, kw_only=True):
    """One check, in the order of the decision. The first `refused` decides; later ones are `also_refused`."""

    check: str  # lane | signature | known | way_out | credential | ticket | validity | zone | uses | factor | gap | ...
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


class Done(Base, frozen=True, kw_only=True):
    """A command was carried out, or is on its way; `detail` says which."""

    detail: str = ""
