"""What both kinds of lane share: their description, their neighbours, their view on the console, their modes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from actors._common import offer
from actors.admission.refusals import OK, RefusalText, words
from actors.errors import CommandRefused
from core import Address
from drivers.base import Barrier, Feedback, Outcome
from protocols.console import FeedEvent, LaneView
from protocols.messages import Base, Credential, Direction, LaneMode, Telemetry

ENTRY_MODES = frozenset({LaneMode.NORMAL_ENTRY, LaneMode.BIDIRECTIONAL})
EXIT_MODES = frozenset({LaneMode.NORMAL_EXIT, LaneMode.BIDIRECTIONAL})
OPERATOR_MODES = frozenset(
    {
        LaneMode.CLOSED,
        LaneMode.NORMAL_ENTRY,
        LaneMode.NORMAL_EXIT,
        LaneMode.BIDIRECTIONAL,
        LaneMode.MAINTENANCE,
        LaneMode.FREE_COUNTED,
    }
)
WAIT_CODES = frozenset({"in_progress"})  # an answer is on its way
AFTER_RELEASE = frozenset({"needs_rearm", "rearming"})  # still open: the light stays until the lane works again
ALARM_SHOWN_S = 10.0  # on the lane's tile; the feed and the cases keep it
MANUAL_PAX_MAX = 50  # people in one manual opening


class LaneConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as the site file describes it."""

    lane: str
    name: str
    entrance: str
    kind: str
    from_zone: str
    to_zone: str
    mode: LaneMode
    max_group: int
    grant_ttl_s: float
    device: str  # of its board, or of its smart gate
    class_: str = ""  # for products that name it among their `lane_classes`; empty: for all


SayToVisitor = Callable[[str, str, Feedback], None]  # lane, reader (empty: all of the lane's), light and sound and text


def _to_nobody(lane: str, reader: str, feedback: Feedback) -> None:
    """A lane whose readers have neither light nor sound."""


Stored = Callable[[Credential], bytes]  # a credential's keyed hash; nothing for what cannot be one of the site's


def _not_stored(credential: Credential) -> bytes:
    """A lane that knows no keys: what it refuses by itself is found by its lane and time alone."""
    return b""


class LaneParts(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a lane talks to. `admission` decides, `books` answers what is on disk: the ledger, or an upload to it.

    `stored` gives the form of a credential under which a refusal that needed no decision is found again.
    """

    admission: Address
    books: Address
    evacuation: Address
    occupancy: Address
    hub: Address
    gates: Mapping[str, Sequence[str]] = {}  # names of the plain lanes that lead into each zone, to send visitors to
    signal: SayToVisitor = _to_nobody
    stored: Stored = _not_stored


class Flow(Telemetry, frozen=True, kw_only=True):
    """lane -> occupancy, for the flow curve: one person entered or left, or one scan was refused."""

    lane: str
    entries: int = 0
    exits: int = 0
    refused: int = 0


class LaneCommandRefused(CommandRefused):
    """An operator's command does not fit the lane: unknown mode, missing reason, lane released. The text says which."""


class SetLaneMode(Base, frozen=True, kw_only=True):
    """site -> lane. Answered with nothing; fails with LaneCommandRefused."""

    mode: LaneMode
    reason: str
    by: str


class OpenLane(Base, frozen=True, kw_only=True):
    """site -> lane: let `pax` people in without a ticket. Answered with nothing; fails with LaneCommandRefused."""

    pax: int
    reason: str
    by: str


class PauseLane(Base, frozen=True, kw_only=True):
    """site -> lane: end the running batch after the person who is in the barrier; the rest keep their places.

    Answered with how many of it have passed; fails with LaneCommandRefused when no batch runs.
    """

    reason: str
    by: str


class AlarmOver(Telemetry, frozen=True, kw_only=True):
    """A lane's own timer: the alarm was shown for long enough."""


class Face:
    """What the console sees of a lane; every change is told to the hub at once."""

    def __init__(self, config: LaneConfig, transport: str, parts: LaneParts) -> None:
        self._config = config
        self._parts = parts
        self._view = LaneView(
            lane=config.lane,
            name=config.name,
            entrance=config.entrance,
            kind=config.kind,
            transport=transport,
            from_zone=config.from_zone,
            to_zone=config.to_zone,
            mode=config.mode.value,
            state="starting",
            available=False,
            barrier=Barrier.UNKNOWN.value,
            entries=0,
            exits=0,
        )

        self.reader = ""  # who scanned last: what the visitor is told is told there

    @property
    def view(self) -> LaneView:
        return self._view

    def refuses(self, direction: Direction = Direction.ENTRY) -> str:
        """The code with which everybody is refused this way as the lane now stands; empty if the ticket decides."""
        view = self._view
        if view.state == "released":
            return "emergency_go"
        if view.state in ("needs_rearm", "rearming"):
            return "lane_closed"
        if not view.available:
            return "unavailable"
        return "" if view.mode in (ENTRY_MODES if direction is Direction.ENTRY else EXIT_MODES) else "lane_closed"

    def show(self, **changes: object) -> None:
        """Change fields of the view; telling nothing when nothing changed."""
        before = self._view
        if any(getattr(before, name) != value for name, value in changes.items()):  # mostly there is nothing new
            self._view = view = msgspec.structs.replace(before, **changes)
            self._parts.hub.tell(view)
            if before.state != view.state:
                self._light(before.state, view.state)

    def _light(self, before: str, now: str) -> None:
        """A release is shown at every reader of the lane, and so is its end."""
        if now == "released":
            self._parts.signal(self._config.lane, "", Feedback(outcome=Outcome.EMERGENCY))
        elif (before == "released" or before in AFTER_RELEASE) and now not in AFTER_RELEASE:
            self._parts.signal(self._config.lane, "", Feedback(outcome=Outcome.WAIT))

    def counted(self, direction: Direction) -> None:
        """One more passage is on disk."""
        if direction is Direction.ENTRY:
            self.show(entries=self._view.entries + 1)
            self._parts.occupancy.tell(Flow(lane=self._config.lane, entries=1))
        else:
            self.show(exits=self._view.exits + 1)
            self._parts.occupancy.tell(Flow(lane=self._config.lane, exits=1))

    def answered(
        self, code: str, text: RefusalText | None = None, trace: str = "", *, product_class: str = ""
    ) -> None:
        """A scan was admitted (`ok`) or refused, in the words of its case: at the reader, on the tile, in the feed and
        in the flow."""
        text = text or words(code)
        now = time.time()
        self._parts.signal(
            self._config.lane,
            self.reader,
            Feedback(
                outcome=_outcome(code),
                product_class=product_class,
                text_zh=text.visitor_zh if code != OK else "",  # the pattern of its class has words of its own
                text_en=text.visitor_en if code != OK else "",
            ),
        )
        self.show(last_code=code, last_text_zh=text.visitor_zh, last_text_en=text.visitor_en, last_at=now)
        if code == OK:
            self.feed("admitted", "info", code, text.visitor_zh, text.visitor_en, trace)
        else:
            self._parts.occupancy.tell(Flow(lane=self._config.lane, refused=1))
            zh, en = f"{text.visitor_zh}：{text.staff_zh}", f"{text.visitor_en}. {text.staff_en}"
            self.feed("refused", "notice", code, zh, en, trace)

    def mode_set(self, by: str, mode: LaneMode) -> None:
        self.feed("mode", "notice", mode.value, f"{by} 设为 {mode.value}", f"{by} set {mode.value}")

    def opened_by_hand(self, by: str, pax: int) -> None:
        self.feed("mode", "notice", "manual_open", f"{by} 人工放行 {pax} 人", f"{by} let {pax} in by hand")

    def paused(self, by: str, passed: int, pax: int) -> None:
        text_zh, text_en = f"{by} 暂停团队，已过 {passed}/{pax}", f"{by} paused the batch after {passed}/{pax}"
        self.feed("mode", "notice", "paused", text_zh, text_en)

    def feed(self, kind: str, severity: str, code: str, text_zh: str, text_en: str, trace: str = "") -> None:
        offer(
            self._parts.hub,
            FeedEvent(
                at=time.time(),
                kind=kind,
                severity=severity,
                lane=self._config.lane,
                code=code,
                text_zh=text_zh,
                text_en=text_en,
                trace=trace,
            ),
        )


def takes(mode: LaneMode, direction: Direction) -> bool:
    """May somebody be let through in this direction as the lane now stands?"""
    return mode in (ENTRY_MODES if direction is Direction.ENTRY else EXIT_MODES)


def zones_of(config: LaneConfig, direction: Direction) -> tuple[str, str]:
    """From where to where a person goes who passes the lane in this direction."""
    ends = config.from_zone, config.to_zone
    return ends if direction is Direction.ENTRY else ends[::-1]


def no_batch() -> LaneCommandRefused:
    return LaneCommandRefused("no_batch", "No batch is passing at this lane", "本通道没有正在通过的团队")


def _outcome(code: str) -> Outcome:
    """What a visitor sees and hears of an answer."""
    if code == OK:
        return Outcome.GO
    if code == "emergency_go":
        return Outcome.EMERGENCY
    return Outcome.WAIT if code in WAIT_CODES else Outcome.STOP


def check_mode(message: SetLaneMode) -> None:
    """Raises LaneCommandRefused when an operator may not set this mode like this."""
    if message.mode not in OPERATOR_MODES:
        allowed = ", ".join(sorted(OPERATOR_MODES))
        raise LaneCommandRefused(
            "bad_mode",
            f"Mode {message.mode} cannot be set by hand",
            f"不能手动设为 {message.mode}",
            f"one of {allowed}",
        )
    if not message.reason.strip():
        raise LaneCommandRefused("reason_required", "A mode change needs a reason", "请填写原因")


def check_open(message: OpenLane) -> None:
    """Raises LaneCommandRefused for a manual opening without a reason or for an impossible number of people."""
    if not 1 <= message.pax <= MANUAL_PAX_MAX:
        raise LaneCommandRefused(
            "bad_pax", f"1 to {MANUAL_PAX_MAX} people can be let in by hand", f"人工放行人数为 1 到 {MANUAL_PAX_MAX}"
        )
    if not message.reason.strip():
        raise LaneCommandRefused("reason_required", "Opening by hand needs a reason", "请填写原因")
