"""The site file: zones, lanes, devices, products and addresses of one site, as typed values.

`load(path)` reads and validates `site.toml`; every complaint names the file, the key, what is wrong and what is
allowed.  `sites/demo.toml` is the commented example that comes with the product.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from paifang._site_devices import Board, Controller, CounterDevice, FeedbackPattern, Fire, Printer, Reader
from paifang._site_modes import ModesTable
from paifang._site_outgoing import Alarms, EvacuationTable, Mail, Webhook
from paifang._site_types import Count, Name, Part, Port, Positive
from paifang._site_types import Table as _Table
from protocols.rights import SlotTimes, ZoneRight

__all__ = [
    "Alarms",
    "Board",
    "Controller",
    "CounterDevice",
    "Database",
    "EvacuationTable",
    "Face",
    "FeedbackPattern",
    "Fire",
    "Http",
    "Lane",
    "Link",
    "Mail",
    "Printer",
    "Product",
    "Reader",
    "Sessions",
    "Site",
    "SiteFile",
    "Webhook",
    "Zone",
]


class Site(_Table, frozen=True, kw_only=True):
    """The site. `night_close`: whoever is left inside on paper when a business day ends is written off."""

    id: Name
    name: str
    name_en: str = ""
    timezone: str = "Asia/Shanghai"
    business_day_start: str = "04:00"
    night_close: bool = True


class Database(_Table, frozen=True, kw_only=True):
    """`url` empty: the embedded PostgreSQL under the data folder. Otherwise `postgresql://user@host/database`."""

    url: str = ""


PublicUrl = Annotated[str, msgspec.Meta(pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?)?$")]


class Http(_Table, frozen=True, kw_only=True):
    """The console's port. `metrics`: `/metrics` there, for Prometheus, open to whoever can reach the port.

    `public_url` is where visitors' phones reach the pages, for links to tickets.
    """

    host: str = "127.0.0.1"
    port: Port = 8460
    metrics: bool = False
    public_url: PublicUrl = ""


class WebCertificate(_Table, frozen=True, kw_only=True):
    """`[web.tls]`: files of your own, or `authority = true` for a certificate of the site's own authority."""

    certificate: str = ""
    key: str = ""
    authority: bool = False


SessionSeconds = Annotated[float, msgspec.Meta(ge=60, le=7 * 86400)]


class Web(_Table, frozen=True, kw_only=True):
    """How the console's port is reached: TLS, and the names that people type for it beside `http.host`."""

    tls: WebCertificate | None = None
    names: Annotated[list[str], msgspec.Meta(max_length=24)] = []


class Sessions(_Table, frozen=True, kw_only=True):
    """How long people stay logged in: without a command, and from the log-in however busy they are.

    Channels look once a minute, so that is how exact it is.
    """

    idle_s: SessionSeconds = 2 * 3600.0
    longest_s: SessionSeconds = 12 * 3600.0


class Link(_Table, frozen=True, kw_only=True):
    """NNG addresses of the device link: `tcp://` on loopback alone, or `tls+tcp://` on any, all six alike.

    `work` is the rep socket, `wake` the pub; `release` and `safety` are the pub and rep of the safety link;
    `evacuate_release` and `evacuate_safety` are where `paifang evacuate` listens and which every lane also dials.
    `enrol`, if any, is where new lane controllers get their certificates.  A device's clock that is further off than
    `clock_tolerance_s` is told to people.
    """

    work: str = "tcp://127.0.0.1:8461"
    wake: str = "tcp://127.0.0.1:8462"
    release: str = "tcp://127.0.0.1:8463"
    safety: str = "tcp://127.0.0.1:8464"
    evacuate_release: str = "tcp://127.0.0.1:8465"
    evacuate_safety: str = "tcp://127.0.0.1:8466"
    enrol: str = ""
    clock_tolerance_s: Positive = 30.0


class Zone(_Table, frozen=True, kw_only=True):
    """A zone, and how many people it takes.

    The thresholds are parts of `limit`: people are told at `announce_at` and `slow_at`; entry stops at `stop_at` and
    goes on at `resume_at`; the sale of tickets for today does the same, if it has thresholds. Holders of a ticket who
    come back enter a stopped zone if `reentry_when_stopped`; staff take a visitor's place only if `staff_counts`.
    `day_limit` bounds the first entries of a business day.
    """

    id: Name
    name: str
    name_en: str = ""
    limit: Count | None = None
    announce_at: Part = 0.8
    slow_at: Part = 0.9
    stop_at: Part = 1.0
    resume_at: Part = 1.0
    sale_stop_at: Part | None = None
    sale_resume_at: Part | None = None
    day_limit: Count | None = None
    reentry_when_stopped: bool = True
    staff_counts: bool = False


class Lane(_Table, frozen=True, kw_only=True):
    """One lane: a `board` and a reader or more, a `device` on the device link, or, without a barrier, a `counter`.

    A lane with a counter has kind `open`: whoever walks through is counted and nobody is asked for a ticket.
    One of kind `attendant` has none of them: somebody stands there and scans with a phone.
    """

    id: Name
    name: str
    entrance: str = ""
    kind: Literal["tripod", "wing", "swing", "open", "attendant"] = "wing"
    from_zone: Name = "outside"
    to_zone: Name
    mode: Literal["normal_entry", "normal_exit", "bidirectional", "closed"] = "bidirectional"
    class_: Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9][a-z0-9_-]{0,39})?$")] = msgspec.field(
        name="class", default=""
    )  # a lane with a class is for products that name it among their `lane_classes`
    max_group: Count = 10
    grant_ttl_s: Positive = 5.0
    board: Board | None = None
    readers: list[Reader] = []
    device: Name | None = None
    counter: CounterDevice | None = None


ProductClass = Literal["full", "discount", "group", "free", "annual", "season", "month", "package", "times", "vip",
                       "staff", "contractor", "resident", "merchant_service"]  # fmt: skip
Minutes = Annotated[int, msgspec.Meta(ge=0)]


class Product(_Table, frozen=True, kw_only=True):
    """What is sold. `uses` 0 means as often as wanted (an annual card); `days` is how long it is valid.

    `zones`, `uses` and `min_gap_s` are the short way to say one right; `rights` says any number of them, in full.
    The other keys are those of `protocols.rights.ProductRules`.
    """

    id: Name
    name: str
    name_en: str
    class_: ProductClass = msgspec.field(name="class")
    price_cents: Annotated[int, msgspec.Meta(ge=0)]
    zones: list[Name] = []
    pax: Count = 1
    uses: Annotated[int, msgspec.Meta(ge=0)] = 1
    min_gap_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    rights: list[ZoneRight] = []
    effective_from: str = ""  # YYYY-MM-DD; tables with one id and different dates are its versions
    days: Count = 1
    needs_face: bool = False
    binds: Literal["none", "face", "id"] = "none"
    id_policy: Literal["none", "one_per_order", "one_per_person"] = "none"
    requires: list[Name] = []
    lane_classes: list[Name] = []
    slots: list[SlotTimes] = []
    slot_early_minutes: Minutes = 0
    slot_late_minutes: Minutes = 0
    grant_ttl_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    refund: Literal["open", "until_first_use", "none"] = "open"
    group_min: Annotated[int, msgspec.Meta(ge=0)] = 0
    below_group_min: Literal["keep", "deny"] = "keep"
    code_and_paper: bool = True
    offline: Literal["accept", "accept_limited", "refuse"] = "accept"
    sale_first: str = ""
    sale_last: str = ""


class Face(_Table, frozen=True, kw_only=True):
    """Workers that compare faces; `tolerance` is the largest distance between embeddings that is the same person."""

    workers: Annotated[int, msgspec.Meta(ge=0, le=16)] = 1
    tolerance: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.55


class SiteFile(_Table, frozen=True, kw_only=True):
    site: Site
    database: Database = Database()
    http: Http = Http()
    web: Web = Web()
    sessions: Sessions = Sessions()
    link: Link = Link()
    face: Face = Face()
    evacuation: EvacuationTable = EvacuationTable()
    alarms: Alarms = Alarms()
    modes: ModesTable = ModesTable()
    zones: list[Zone]
    lanes: list[Lane]
    controllers: list[Controller] = []
    fire: list[Fire] = []
    feedback: list[FeedbackPattern] = []
    printers: list[Printer] = []
    products: list[Product] = []
