"""What the console shows: views and events."""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocols._bounds import Number, Word
from protocols.messages import Base, Telemetry

TOPICS = ("lanes", "zones", "devices", "evacuation", "modes", "flow", "feed")
TOPICS_MAX = 32  # named in one subscription

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
    trend_per_min: float | None = None  # people more or fewer a minute, over the last ten
    full_in_s: float | None = None  # until the limit, if it goes on like this


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
    """One lane in an evacuation. `commanded` false: it is not one of those that are released.

    `sensed_open` is what counts. A lane whose gate cannot sense (`can_sense` false) is never known to be open.
    """

    lane: str
    commanded: bool
    acknowledged: bool
    sensed_open: bool
    barrier: str
    acknowledged_after_ms: float | None
    name: str = ""
    entrance: str = ""
    can_sense: bool = True
    out: int = 0  # people who left by it since the trigger
    out_last_minute: int = 0


class EvacuationView(Telemetry, frozen=True, kw_only=True):
    state: str  # normal | released | restoring
    incident: int | None = None
    drill: bool = False
    triggered_by: str = ""
    triggered_at: float | None = None
    restore_requested_by: str = ""
    lanes: list[LaneRelease] = msgspec.field(default_factory=list)
    scope: str = "site"  # or the lanes that are released, separated by commas
    inside_at_start: int | None = None  # people in the zones that are left, when it was triggered
    out: int = 0  # counted out since, by lanes and by hand
    out_by_hand: int = 0
    back: int = 0  # went back in
    left: int | None = None  # probably still inside


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


class Subscription(Base, frozen=True, kw_only=True):
    """site.subscribe: these topics (none named is all), and what was seen last, to go on from there.

    Topics are `lanes`, `zones`, `devices`, `evacuation`, `flow`, `feed`; names that are not known are passed over.
    """

    topics: Annotated[list[Word], msgspec.Meta(max_length=TOPICS_MAX)] = []
    epoch: Word = ""  # of the last snapshot
    revision: Number | None = None  # of the last delta or snapshot


class ModeView(Base, frozen=True, kw_only=True):
    """A mode that runs. `in_force` false: its lane does not obey yet (released, away), and is told again."""

    mode: int
    kind: str
    subject: str
    zh: str
    en: str
    owner: str
    reason: str
    since: float
    until: float
    in_force: bool


class ModesNow(Telemetry, frozen=True, kw_only=True):
    """Everything that is otherwise for a while, the newest first."""

    modes: list[ModeView]


class Snapshot(Base, frozen=True, kw_only=True):
    """The state as of `revision`; `replaces` names the topics that are here whole.

    Of the other topics that were asked for, here is only what changed since the revision that was asked from, as in a
    `Delta`.  `epoch` changes when the server starts anew: revisions of two epochs cannot be compared.  `timezone` is
    the site's, an IANA name: people far away read its times, and not their own.
    """

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
    epoch: str = ""
    timezone: str = ""
    modes: ModesNow | None = None  # None: not asked for, or nobody has said yet
    topics: list[str] = msgspec.field(default_factory=lambda: list(TOPICS))
    replaces: list[str] = msgspec.field(default_factory=lambda: list(TOPICS))


class Delta(Base, frozen=True, kw_only=True):
    """What changed since the revision before. Views replace those of the same key; feed lines are appended."""

    revision: int
    server_at: float
    lanes: list[LaneView] = msgspec.field(default_factory=list)
    zones: list[ZoneView] = msgspec.field(default_factory=list)
    devices: list[DeviceView] = msgspec.field(default_factory=list)
    evacuation: EvacuationView | None = None
    modes: ModesNow | None = None
    flow: list[FlowPoint] = msgspec.field(default_factory=list)
    feed: list[FeedEvent] = msgspec.field(default_factory=list)
