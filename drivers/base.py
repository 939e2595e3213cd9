"""The seam between the domain and hardware: what a gate, a reader and a printer can do, and what they report.

A driver owns one device's I/O.  `run(emit)` is its endless loop: it connects, retries with backoff, and reports
through `emit` (synchronous, never blocks).  Commands are synchronous too: they put the wish into the driver, the loop
carries it out, and the outcome comes back as an event, because a lost reply is not a failed open.  A driver never
raises out of `run` because of its device: unplugged, garbled and silent are states, not errors.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from protocols.messages import Counters, CredentialKind, Direction

RETRY_MIN_S = 0.25  # first try after a lost device; doubles
RETRY_MAX_S = 5.0
SILENT_AFTER_S = 1.5  # a polled device that has not answered for this long is unavailable (2 s is the promise)


class Availability(StrEnum):
    UNKNOWN = "unknown"  # never spoken to since start
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    UNAUTHENTICATED = "unauthenticated"  # it answers, and refuses our key or we its: retrying blindly does not help


class Barrier(StrEnum):
    """The barrier's sensed state."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    RELEASED = "released"  # held open or arm dropped, until re-armed
    UNKNOWN = "unknown"


class AlarmKind(StrEnum):
    TAILGATE = "tailgate"
    REVERSE = "reverse"
    INTRUSION = "intrusion"
    LOITERING = "loitering"
    PINCH = "pinch"
    FORCED = "forced"
    FIRE = "fire"
    POWER_LOSS = "power_loss"
    EXTERNAL = "external"
    SELF_TEST = "self_test"
    FAULT = "fault"


class GateCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    counts: bool
    direction: bool
    drop_arm: bool
    hold_open: bool
    anti_pinch: bool
    fire_input: bool


class DriverStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a maintainer asks about a device. Counts are since the process started."""

    availability: Availability
    since_s: float  # in this availability for so long
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    bad_frames: int
    reconnects: int
    last_heard_s: float | None  # seconds ago
    last_error: str
    firmware: str = ""  # as the device says it; empty when it does not
    clock_skew_s: float | None = None  # the device's clock minus ours, for devices that have one
    counters: Counters | None = None  # cumulative, as last read
    last_said: str = ""  # the last event in words that hold no secret
    last_said_s: float | None = None  # seconds ago
    replaced: int = 0  # times that its description in the site file was changed while the server ran


class DeviceEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of what a driver reports."""


class DeviceUp(DeviceEvent, frozen=True, kw_only=True):
    """The device answers. A gate with counters says them, so that what was missed can be booked."""

    counters: Counters | None = None
    barrier: Barrier = Barrier.UNKNOWN


class DeviceDown(DeviceEvent, frozen=True, kw_only=True):
    reason: str


class BarrierChanged(DeviceEvent, frozen=True, kw_only=True):
    barrier: Barrier
    detail: str  # the board's own word for its state
    counters: Counters | None = None


class PassageCounted(DeviceEvent, frozen=True, kw_only=True):
    """One person was counted by the board. `counter` is the cumulative count of that direction after this person."""

    direction: Direction
    epoch: str
    counter: int


class GateAlarm(DeviceEvent, frozen=True, kw_only=True):
    kind: AlarmKind


class CodeRead(DeviceEvent, frozen=True, kw_only=True):
    """A reader read one code. `symbology` is the AIM identifier (`]Q1`) or empty."""

    text: str
    symbology: str = ""

    def __repr__(self) -> str:  # the code opens a gate: keep it out of logs and tracebacks
        return f"CodeRead(symbology={self.symbology!r}, {len(self.text)} characters)"


class CredentialRead(DeviceEvent, frozen=True, kw_only=True):
    """A reader read a card or a document: a card's UID in upper-case hex or its number, or an ID number.

    `issue_index` is what the card itself says of its issue, if it says anything: a higher one supersedes lower ones.
    """

    kind: CredentialKind
    value: str
    issue_index: int | None = None

    def __repr__(self) -> str:  # it opens a gate or names a person: keep it out of logs and tracebacks
        return f"CredentialRead(kind={self.kind.value!r}, {len(self.value)} characters)"


class CardRejected(DeviceEvent, frozen=True, kw_only=True):
    """A card was presented that is not to be trusted. Nothing of it is said but the reason.

    `wrong_key` (not ours, or a copied number), `no_record`, `not_authentic`, `other_site`, `random_uid` (a telephone),
    `unreadable` (it left too early, or is of a kind that we do not know).
    """

    reason: str


class InputState(StrEnum):
    """A supervised contact. `BROKEN` is a cut or shorted line: an alarm, never mistaken for quiet."""

    INACTIVE = "inactive"
    ACTIVE = "active"
    BROKEN = "broken"
    UNKNOWN = "unknown"


class InputChanged(DeviceEvent, frozen=True, kw_only=True):
    """A debounced input of a board: a fire contact, a button, a door contact. `name` as the site file calls it."""

    name: str
    state: InputState


class Outcome(StrEnum):
    """What a visitor is told at a lane, whatever the device can do to say it."""

    GO = "go"
    WAIT = "wait"
    STOP = "stop"
    EMERGENCY = "emergency"


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """Light, sound and text for one outcome. `product_class` chooses a pattern of its own, where the site has one."""

    outcome: Outcome
    product_class: str = ""
    text_zh: str = ""
    text_en: str = ""


Emit = Callable[[DeviceEvent], None]


class Driver(Protocol):
    """What every driver has."""

    async def run(self, emit: Emit) -> None:
        """Serve the device until cancelled."""

    def statistics(self) -> DriverStatistics: ...


class Signalling(Driver, Protocol):
    """A reader or display that can tell the visitor the outcome."""

    def signal(self, feedback: Feedback) -> None:
        """Show and sound it. Synchronous; dropped when the device is away, for a late light misleads."""


class Gate(Driver, Protocol):
    """A turnstile board: tripod, wing or swing.

    `open` is idempotent for one grant: asking again while it is open neither opens twice nor adds people.
    """

    @property
    def capabilities(self) -> GateCapabilities: ...

    def open(self, direction: Direction, pax: int, deadline_s: float) -> None:
        """Let `pax` people through. Dropped unexecuted if not sent within `deadline_s` (late is never)."""

    def close(self) -> None:
        """Close after a grant; ignored while released."""

    def release(self) -> None:
        """Hold open for an evacuation: goes before every other command, is repeated until sensed, never expires."""

    def rearm(self) -> None:
        """End a release: lift the arm or close the wings, and obey `open` again."""

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """What the ledger booked last. Counters read at or above these go on in `epoch`; lower ones begin a new one.

        The next reading is reported as a `DeviceUp` with its counters, also when the device was up already.
        """


class Looking(Protocol):
    """A gate that is asked for its state at intervals, and can be asked at once."""

    def look(self) -> None:
        """Somebody waits for the barrier to close: look now, and more often than usual for a short while."""


class Printer(Protocol):
    """A ticket printer. `print_job` returns once the printer itself says that it is done.

    Raises `drivers.errors.DeviceError` when it is not: the job must be printed again under a new print id.
    """

    async def print_job(self, payload: bytes, timeout_s: float) -> None: ...

    def statistics(self) -> DriverStatistics: ...
