"""An open passage that a counter watches: no barrier, nobody is asked, and everybody is counted once.

The counter's cumulative counts are the truth, as on a board: a passage's identity is (device, epoch, direction, count),
so whatever was missed (a broker that was restarted, a server that was killed) is booked from the difference.  In an
evacuation there is nothing to open: the lane says so at once, and who flees is counted as such.
"""

from __future__ import annotations

import time

import trio

from actors._common import offer
from actors.counter import AskBooks
from actors.gate import STATISTICS_EVERY_S, GateReport, GateResume, device_view
from actors.lane import LaneConfig, LaneParts, OpenLane, PauseLane, SetLaneMode
from actors.lane._fleeing import Fleeing
from actors.lane._shared import Face, LaneCommandRefused, zones_of
from core import Address, Envelope, Stop
from drivers.base import Barrier, DeviceDown, DeviceEvent, DeviceUp, Driver, PassageCounted
from protocols.messages import (
    Booked,
    Counters,
    Direction,
    LaneMode,
    PassageKind,
    Passed,
    Release,
    ReleaseAck,
    Restore,
    Telemetry,
)
from storage.interfaces import CounterBaseline, LaneBooks

WINDOW = 256  # statements on their way to the ledger at once: a day's people must not overrun the outbox
STUCK_S = 6.0  # without progress for this long, the ledger is asked again where it stands
RETRY_S = 0.5  # when the outbox has no room

Commands = SetLaneMode | OpenLane | PauseLane


class _Look(Telemetry, frozen=True, kw_only=True):
    """A lane's own timer: is there anything that does not move?"""


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class CountingActor:
    """Child of the device supervisor; owns a counter's driver, which has `resume` beside what every driver has."""

    def __init__(self, name: str, driver: Driver, lane: Address, lane_name: str, hub: Address) -> None:
        self._name = name
        self._driver = driver
        self._lane = lane
        self._lane_name = lane_name
        self._hub = hub
        self._last: DeviceUp | DeviceDown | None = None

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._driver.run, self._emit)
            me.set_timer("statistics", 0.0, _Tick())
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case GateResume(epoch=epoch, entries=entries, exits=exits):
                        self._driver.resume(epoch, entries, exits)  # type: ignore[attr-defined]
                    case GateReport():
                        if self._last is not None:
                            offer(self._lane, self._last)
                    case _Tick():
                        me.set_timer("statistics", STATISTICS_EVERY_S, _Tick())
                        self._show()
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    def _emit(self, event: DeviceEvent) -> None:
        match event:
            case DeviceUp() | DeviceDown():
                self._last = event
                self._show()
            case PassageCounted(direction=direction, epoch=epoch, counter=counter):
                self._last = _with(self._last, direction, epoch, counter)
        offer(self._lane, event)  # without room nothing is lost: the next count says it again

    def _show(self) -> None:
        offer(self._hub, device_view(self._name, "counter", self._lane_name, self._driver.statistics()))


class CountedLane:
    """The actor of an open lane. `source` is its counter's actor, `outbox` keeps its statements until they are on disk
    (`actors.counter.Counter`)."""

    def __init__(self, config: LaneConfig, parts: LaneParts, source: Address, outbox: Address) -> None:
        self._config = config
        self._parts = parts
        self._source = source
        self._outbox = outbox
        self._face = Face(config, "counter", parts)
        self._fleeing = Fleeing(config, parts.evacuation)
        self._incident: int | None = None
        self._up = False
        self._began: Counters | None = None  # the first counts of the epoch that the counter is in
        self._seen: Counters | None = None  # the newest
        self._stated: Counters | None = None  # up to where the outbox was told; None: the ledger has to say first
        self._books: LaneBooks | None = None
        self._asked_resume = False  # the counter was told the ledger's books, and has not answered
        self._open = 0  # statements that are not on disk yet, as far as is known
        self._moved_at = 0.0  # Trio's clock: the last progress

    def refuses(self, direction: Direction = Direction.ENTRY) -> str:
        """The code with which the lane refuses everybody this way now: there is nobody to ask here."""
        return self._face.refuses(direction)

    async def run(self, me: Address) -> None:
        self._me = me
        self._stated, self._asked_resume = None, False  # what an earlier incarnation told, only the ledger knows
        self._show()
        offer(self._source, GateReport())
        me.set_timer("look", RETRY_S, _Look())
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case DeviceUp(counters=Counters() as counters):
                    self._on_up(counters)
                case PassageCounted(direction=direction, epoch=epoch, counter=counter):
                    self._on_counted(direction, epoch, counter)
                case DeviceDown():
                    self._up = False
                    self._show()
                case LaneBooks() as books:
                    self._on_books(books)
                case Booked() as booked:
                    self._on_booked(booked)
                case _Look():
                    me.set_timer("look", RETRY_S, _Look())
                    self._look()
                case Release(incident=incident):
                    if incident != self._incident:
                        self._fleeing.begin(self._seen)
                    self._incident = incident
                    self._show()
                    self._acknowledge()
                case Restore(incident=incident):
                    if self._incident == incident:
                        self._incident = None
                        self._show()
                case SetLaneMode() | OpenLane() | PauseLane():
                    _refuse(envelope)
                case Stop():
                    return

    # --- what is counted ----------------------------------------------------------------------------------------

    def _on_up(self, counters: Counters) -> None:
        self._up = True
        if self._began is None or self._began.epoch != counters.epoch:
            self._began = counters
        self._seen = counters
        if self._asked_resume:
            self._asked_resume = False
            assert self._books is not None
            self._settle(self._books)
        elif self._stated is None:
            offer(self._outbox, AskBooks())
        elif self._stated.epoch != counters.epoch:
            self._begin(self._began)  # it was reset while we watched
        self._state()
        self._show()

    def _on_counted(self, direction: Direction, epoch: str, counter: int) -> None:
        if self._incident is not None:
            self._fleeing.counted(direction, epoch, counter)
        if self._seen is not None and self._seen.epoch == epoch:
            self._seen = _raised(self._seen, direction, counter)
            self._state()

    def _on_books(self, books: LaneBooks) -> None:
        """Where the ledger stands; only asked for when we do not know what was stated."""
        self._face.show(entries=books.entries_today, exits=books.exits_today)
        if self._stated is not None or self._seen is None or not self._up:
            return
        self._books = books
        if books.epoch is None or books.entries is None or books.exits is None:
            assert self._began is not None
            self._begin(self._began)
            self._state()
        else:
            self._asked_resume = offer(
                self._source, GateResume(epoch=books.epoch, entries=books.entries, exits=books.exits)
            )
        self._show()

    def _settle(self, books: LaneBooks) -> None:
        """The counter answered in the epoch of the books, or in another one because it was reset meanwhile."""
        assert self._seen is not None and self._began is not None
        if books.epoch == self._seen.epoch and books.entries is not None and books.exits is not None:
            self._stated = Counters(self._seen.epoch, books.entries, books.exits)
            self._open = 0
        else:
            self._begin(self._began)

    def _begin(self, counters: Counters) -> None:
        """The counting begins here: what the counters said first in this epoch is nobody's passage."""
        baseline = CounterBaseline(
            lane=self._config.lane,
            device=self._config.device,
            epoch=counters.epoch,
            entries=counters.entries,
            exits=counters.exits,
            at=time.time(),
        )
        if offer(self._outbox, baseline):
            self._stated, self._open = counters, 0
        else:
            self._stated = None

    def _state(self) -> None:
        """Tell the outbox who passed since, one statement for each person, a bounded number at once."""
        seen = self._seen
        while self._stated is not None and seen is not None and self._open < WINDOW:
            stated = self._stated
            if stated.epoch != seen.epoch:
                return
            if stated.entries < seen.entries:
                direction, count = Direction.ENTRY, stated.entries + 1
            elif stated.exits < seen.exits:
                direction, count = Direction.EXIT, stated.exits + 1
            else:
                return
            if not offer(self._outbox, self._passed(direction, stated.epoch, count)):
                return
            self._stated = _raised(stated, direction, count)
            self._open += 1
            self._moved_at = trio.current_time()

    def _passed(self, direction: Direction, epoch: str, count: int) -> Passed:
        from_zone, to_zone = zones_of(self._config, direction)
        return Passed(
            lane=self._config.lane,
            device=self._config.device,
            boot=epoch,
            seq=count,
            direction=direction,
            kind=PassageKind.FREE if self._incident is None else PassageKind.EMERGENCY,
            grant=None,
            from_zone=from_zone,
            to_zone=to_zone,
            at=time.time(),
        )

    def _on_booked(self, booked: Booked) -> None:
        self._open = max(0, self._open - 1)
        self._moved_at = trio.current_time()
        if not booked.repeated:
            self._face.counted(booked.direction)
        self._state()

    def _look(self) -> None:
        """Go on where there was no room; ask the ledger where it stands when nothing moves."""
        self._state()
        if trio.current_time() - self._moved_at < STUCK_S:
            return
        self._moved_at = trio.current_time()
        if self._stated is not None and self._open > 0:
            self._stated = None  # an answer was lost, or the ledger refused: it knows best
        if self._stated is None and self._up:
            self._asked_resume = False
            offer(self._outbox, AskBooks())

    # --- what is shown ------------------------------------------------------------------------------------------

    def _acknowledge(self) -> None:
        assert self._incident is not None
        ack = ReleaseAck(
            lane=self._config.lane,
            incident=self._incident,
            barrier=Barrier.RELEASED.value,
            sensed_open=True,  # there is nothing that could be shut
            at=time.time(),
        )
        offer(self._parts.evacuation, ack)

    def _show(self) -> None:
        released = self._incident is not None
        counting = "counting" if self._stated is not None else "recovering"
        self._face.show(
            state="released" if released else counting if self._up else "unavailable",
            available=self._up and self._stated is not None,
            barrier=Barrier.RELEASED.value if released else Barrier.OPEN.value,
            mode=(LaneMode.EMERGENCY_RELEASED if released else LaneMode.FREE_COUNTED).value,
        )


def _refuse(envelope: Envelope) -> None:
    refusal = LaneCommandRefused("no_barrier", "This lane has no barrier; it only counts", "本通道无闸门，仅计数")
    envelope.fail(refusal)


def _raised(counters: Counters, direction: Direction, counter: int) -> Counters:
    if direction is Direction.ENTRY:
        return Counters(counters.epoch, max(counters.entries, counter), counters.exits)
    return Counters(counters.epoch, counters.entries, max(counters.exits, counter))


def _with(
    before: DeviceUp | DeviceDown | None, direction: Direction, epoch: str, counter: int
) -> DeviceUp | DeviceDown | None:
    """What a lane that begins anew has to hear: the last word on the device, with the newest counts."""
    if isinstance(before, DeviceUp) and before.counters is not None and before.counters.epoch == epoch:
        return DeviceUp(counters=_raised(before.counters, direction, counter), barrier=before.barrier)
    return before
