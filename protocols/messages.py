"""What actors say to each other about a visitor at a lane: frozen, tagged values.

Times: `at` is seconds since the Unix epoch (UTC, float) as the named device or the server saw it; durations end in
`_s` and are measured monotonically by the receiver.  Ids of our own rows are 53-bit integers (safe in JSON), made by
`new_id`.  `lane`, `zone`, `device` and `site` are the short names of the site file.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar

import msgspec

ID_EPOCH_S = 1_735_689_600  # 2025-01-01T00:00:00Z: ids start small and last 69 years
ID_RANDOM_BITS = 12
ID_LOW_BITS = 40  # ids that are made while the clock says a time before the epoch begin somewhere below


class IdSource:
    """Unique, increasing 53-bit ids: 41 bits of milliseconds, 12 bits that count within one.

    Never repeats within a process, also when the clock steps back; two processes of one site are kept apart by the
    database's primary keys.  A clock before the epoch (a board without a battery) gives small ids that begin at random,
    so that two such lanes do not both begin at 1.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._last = secrets.randbelow(1 << ID_LOW_BITS)

    def __call__(self) -> int:
        milliseconds = int((self._clock() - ID_EPOCH_S) * 1000)
        fresh = (milliseconds << ID_RANDOM_BITS) | secrets.randbelow(1 << (ID_RANDOM_BITS - 2))
        self._last = max(fresh, self._last + 1)
        return self._last


new_id = IdSource()


def id_at(at: float) -> int:
    """Below every id that was made later than `at` (seconds since the epoch)."""
    return max(0, int((at - ID_EPOCH_S) * 1000)) << ID_RANDOM_BITS


class Direction(StrEnum):
    ENTRY = "entry"
    EXIT = "exit"


class PassageKind(StrEnum):
    """Why a person passed. Every kind but `granted` and `late` is a passage without a grant."""

    GRANTED = "granted"
    LATE = "late"  # after the grant's end, counted against it while the entitlement had room
    EXIT = "exit"  # a free exit through a bidirectional or exit lane
    TAILGATE = "tailgate"
    FORCED = "forced"
    REVERSE = "reverse"
    FREE = "free"
    EMERGENCY = "emergency"
    STAFF = "staff"
    UNATTENDED = "unattended"  # the board counted it while no server was watching


class GrantState(StrEnum):
    OPEN = "open"
    UNRESOLVED = "unresolved"  # past its ttl, and the lane has not said how it ended
    COMMITTED = "committed"
    PARTLY = "partly"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class EndReason(StrEnum):
    COMPLETE = "complete"
    TIMEOUT = "timeout"
    PAUSED = "paused"
    FAULT = "fault"
    NEVER_OPENED = "never_opened"  # the grant reached the lane too late, or not at all
    RECOVERED = "recovered"  # settled from the board's counters after a restart or reconnect
    EMERGENCY = "emergency"


class LaneMode(StrEnum):
    """`domain`'s lane modes; the main job uses those of one plain site."""

    CLOSED = "closed"
    NORMAL_ENTRY = "normal_entry"
    NORMAL_EXIT = "normal_exit"
    BIDIRECTIONAL = "bidirectional"
    FREE_COUNTED = "free_counted"
    MAINTENANCE = "maintenance"
    FAULT = "fault"
    EMERGENCY_RELEASED = "emergency_released"
    NEEDS_REARM = "needs_rearm"


class CredentialKind(StrEnum):
    CODE = "code"  # a signed ticket code, from a QR reader
    CARD = "card"  # an annual card's number or UID
    ID_NUMBER = "id_number"  # of an identity document, from its reader
    SHORT = "short"  # ten characters that somebody typed, in place of a code that cannot be read


class Base(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=False):
    """A message: immutable, keyword-only, tagged with its own name on every wire."""

    overflow: ClassVar[str] = "refuse"  # what a full mailbox does with it: refuse | drop_oldest | wait


class Telemetry(Base, frozen=True, kw_only=True):
    """State for people to look at: the newest value wins, a full mailbox sheds the oldest."""

    overflow: ClassVar[str] = "drop_oldest"


class Credential(msgspec.Struct, frozen=True):
    """What a reader read. `value` is secret: never log it, store only its keyed hash."""

    kind: CredentialKind
    value: str
    issue_index: int | None = None  # what a card says of its own issue; a higher one supersedes lower ones

    def __repr__(self) -> str:  # a traceback or a log line must not carry a usable ticket
        return f"Credential({self.kind}, …{self.value[-3:] if len(self.value) > 12 else ''})"


class Counters(msgspec.Struct, frozen=True):
    """A lane's cumulative counts. `epoch` changes when the board's counters were reset."""

    epoch: str
    entries: int
    exits: int


class Scan(Base, frozen=True, kw_only=True):
    """A credential was presented. The same (device, nonce) always gets the same grant."""

    lane: str
    device: str
    nonce: str
    credential: Credential
    at: float
    direction: Direction = Direction.ENTRY
    pax: int | None = None  # None: as many as the ticket still allows
    photo: bytes | None = None  # a JPEG or PNG from the lane's camera, where a face is checked or taken
    holder: Credential | None = None  # the ID that was presented beside the credential
    stamp: str = ""  # who of the staff has looked at the holder, where a factor could not be taken
    product: str = ""  # which of several tickets on one credential staff have chosen

    def __repr__(self) -> str:  # the photograph is personal, and too long for any log line
        photo = "" if self.photo is None else f", {len(self.photo)} bytes of photograph"
        return f"Scan(lane={self.lane!r}, device={self.device!r}, nonce={self.nonce!r}, {self.credential!r}{photo})"


class Decide(Base, frozen=True, kw_only=True):
    """lane -> admission: may this visitor pass? Answered with `Granted` or `Denied` (or core's `Failed`)."""

    scan: Scan
    from_zone: str
    to_zone: str
    max_pax: int
    ttl_s: float
    counters: Counters | None = None  # the board's, as read before opening; None for a linked gate
    lane_class: str = ""


class Granted(Base, frozen=True, kw_only=True):
    """The right is held on disk; the lane may open for `pax` people within `ttl_s`.

    `fresh` is False when the same nonce was answered before: only an `open` grant opens, and `passed` of its `pax`
    are gone already.
    """

    nonce: str
    grant: int
    ticket: int
    pax: int
    passed: int
    ttl_s: float
    state: GrantState
    fresh: bool
    product_class: str
    remaining: int  # people who may still pass on this ticket after this grant


class Denied(Base, frozen=True, kw_only=True):
    """A refusal: a stable code (see `actors.admission.refusals`) and what helps people."""

    nonce: str
    code: str
    hint: str = ""  # for staff, e.g. lane and time of the last use; nothing about other holders
    lane_of_use: str = ""
    used_at: float | None = None
    valid_from: float | None = None
    opens: str = ""  # from when it would pass, on the site's clock: YYYY-MM-DD HH:MM, or a date
    used_on_clock: str = ""  # the last use, the same way
    today: str = ""  # the business day of this answer
    zones: list[str] = []  # where it would pass now
    tomorrow: int = 0  # uses of the next business day


class Passed(Base, frozen=True, kw_only=True):
    """lane -> admission: one person passed. (device, boot, direction, seq) is its identity, however often re-sent.

    On a serial board `boot` is the counter epoch and `seq` the cumulative counter after this person.
    Answered with `Booked` once it is on disk. With `ended` the grant is over with this person, complete, after so many:
    both are booked together, or neither is.
    """

    lane: str
    device: str
    boot: str
    seq: int
    direction: Direction
    kind: PassageKind
    grant: int | None
    from_zone: str
    to_zone: str
    at: float
    ended: int | None = None


class Booked(Base, frozen=True, kw_only=True):
    device: str
    boot: str
    seq: int
    direction: Direction
    kind: PassageKind  # as booked: the ledger may turn `granted` into `late` or `tailgate`
    repeated: bool
    ended: bool = False  # the end that was said with it is booked, too
    end_refused: str = ""  # why the end was not; the passage is booked all the same


class Ended(Base, frozen=True, kw_only=True):
    """lane -> admission: the lane's own statement that a grant is over. The only thing that ends a hold.

    Exactly one of `grant` and `nonce` need be known: a lane that gave up before the answer came says its nonce.
    Answered with `Settled`.
    """

    lane: str
    device: str
    grant: int | None
    nonce: str
    passed: int
    why: EndReason
    at: float


class Settled(Base, frozen=True, kw_only=True):
    grant: int | None
    nonce: str
    passed: int
    repeated: bool


class Alarm(Telemetry, frozen=True, kw_only=True):
    """Something at a lane that people should look at. `kind` is a word of `domain.md` section 4 (ALARM)."""

    lane: str
    device: str
    kind: str
    at: float
    detail: str = ""


# --- evacuation ---------------------------------------------------------------------------------------------------


class Release(Base, frozen=True, kw_only=True):
    """evacuation -> lane, on the system lane of its mailbox: open and stay open. Never expires."""

    incident: int
    drill: bool = False


class ReleaseAck(Base, frozen=True, kw_only=True):
    """lane -> evacuation: what the lane's sensors say, not an echo of the command."""

    lane: str
    incident: int
    barrier: str  # a drivers.base.Barrier value
    sensed_open: bool
    at: float


class PassedReleased(Telemetry, frozen=True, kw_only=True):
    """lane -> evacuation: one person passed while the lane was released. (device, boot, direction, seq) names it."""

    lane: str
    device: str
    boot: str
    direction: Direction
    seq: int
    from_zone: str
    to_zone: str
    at: float


class Restore(Base, frozen=True, kw_only=True):
    """evacuation -> lane: the incident is over; wait for re-arming."""

    incident: int


class Rearm(Base, frozen=True, kw_only=True):
    """operator -> lane: go back to the mode before the evacuation."""

    user: str


class AdoptRelease(Base, frozen=True, kw_only=True):
    """lane -> evacuation: this lane says that it is released. `proof` is the signed release that it shows, if any."""

    lane: str
    incident: int
    proof: bytes = b""
