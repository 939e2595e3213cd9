"""A door of a UHPPOTE controller as a gate: open, hold open by its door mode, re-arm; passage by its door contact."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import trio

from drivers._cumulative import OwnCounts
from drivers.base import (
    AlarmKind,
    Barrier,
    BarrierChanged,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    DriverStatistics,
    Emit,
    GateAlarm,
    GateCapabilities,
    InputChanged,
    PassageCounted,
)
from drivers.modbus._contact import Contact, Watched
from drivers.uhppote._exchange import Exchange
from protocols.messages import Direction
from protocols.uhppote import DOORS, OPEN_S_MAX, Event, EventType, Mode, Reason, Status, ask_door, open_door, set_door

if TYPE_CHECKING:
    from drivers.uhppote._controller import UhppoteController

RELEASE_REPEAT_S = 0.5  # a door that is not sensed released is told again this often
REARM_TRY_S = 30.0  # a controller that is away for longer when it is re-armed stays open
BUTTON_S = 3.0  # beyond the opening time: who pressed the button has opened the door by then

_ALARMS = {Reason.FORCED: AlarmKind.FORCED, Reason.OPEN_TOO_LONG: AlarmKind.FAULT, Reason.FIRE: AlarmKind.FIRE}


class UhppoteDoor:
    """A `drivers.base.Gate`. A door counts nobody, so everybody who was let in is taken to have passed when it opens.

    `open_s` is how long the lock opens.  With `sensor` the door's contact says when it was opened; without, an opening
    that the controller confirmed counts.  Whoever leaves by the button is counted as one exit when the door opens.
    """

    capabilities = GateCapabilities(
        counts=False, direction=False, drop_arm=False, hold_open=True, anti_pinch=False, fire_input=True
    )

    def __init__(self, controller: UhppoteController, door: int, *, open_s: int, sensor: bool) -> None:
        if door not in DOORS:
            raise ValueError(f"door {door}; a controller has doors 1 to 4")
        if not 1 <= open_s <= OPEN_S_MAX:
            raise ValueError(f"open_s {open_s}; 1 to {OPEN_S_MAX} are possible")
        self._controller = controller
        self._door = door
        self._open_s = open_s
        self._sensor = sensor
        self._emit: Emit = _to_nobody
        self._up = False
        self._released = False
        self._released_at = -math.inf  # when the mode was set last
        self._rearm_until = -math.inf
        self._mode: Mode | None = None  # as the controller said it last
        self._doubtful = False  # the lock is not as that mode would have it: somebody else may have set another
        self._barrier = Barrier.UNKNOWN
        self._counts = OwnCounts(self._new_epoch)
        self._wish: tuple[Direction, int, float] | None = None  # direction, people, deadline
        self._turn: tuple[Direction, int, float] | None = None  # sent: direction, people not yet passed, over at
        self._button_until = -math.inf
        self._fire = Watched(Contact(name="fire", input=0))

    # --- commands -----------------------------------------------------------------------------------------------

    def open(self, direction: Direction, pax: int, deadline_s: float) -> None:
        """See `Gate.open`. Asked again before that turn is over, it changes nothing."""
        now = trio.current_time()
        if self._released or self._held:
            self._controller.meter.error(f"door {self._door}: open refused, it is held open")
        elif self._wish is None and (self._turn is None or self._turn[0] is not direction or now >= self._turn[2]):
            self._wish = (direction, max(1, pax), now + deadline_s)
            self._controller.wake()

    def close(self) -> None:
        """See `Gate.close`. The lock closes by itself after `open_s`."""
        self._wish = self._turn = None

    def release(self) -> None:
        if not self._released:
            self._released, self._released_at = True, -math.inf
        self._wish = self._turn = None
        self._rearm_until = -math.inf
        self._controller.wake()

    def rearm(self) -> None:
        self._released = False
        self._rearm_until = trio.current_time() + REARM_TRY_S
        self._controller.wake()

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """See `Gate.resume`."""
        self._counts.resume(epoch, entries, exits)
        if self._up:
            self._emit(DeviceUp(counters=self._counts.counts, barrier=self._barrier))

    # --- the driver ---------------------------------------------------------------------------------------------

    async def run(self, emit: Emit) -> None:
        """Serve the door until cancelled."""
        self._emit = emit
        try:
            with self._controller.attached(self):
                await self._controller.carry()
        finally:
            self._emit, self._up = _to_nobody, False

    def statistics(self) -> DriverStatistics:
        return self._controller.statistics()

    # --- as a face of its controller ----------------------------------------------------------------------------

    @property
    def released(self) -> bool:
        return self._released

    @property
    def look_again_s(self) -> float | None:
        closed = self._released and self._barrier is not Barrier.RELEASED
        return RELEASE_REPEAT_S if closed else self._fire.look_again_s

    def up(self, status: Status) -> None:
        self._up = True
        self._fire.forget()
        self._barrier = self._sense(status)
        self._emit(DeviceUp(counters=self._counts.counts, barrier=self._barrier))

    def down(self, reason: str) -> None:
        self._up = False
        self._mode, self._barrier = None, Barrier.UNKNOWN
        self._wish = self._turn = None
        self._emit(DeviceDown(reason=reason))

    async def command(self, exchange: Exchange, *, set_up: bool) -> None:
        """Bring the door's mode in line, then open it if that is wished and still in time."""
        serial, door, now = self._controller.serial, self._door, trio.current_time()
        if self._released:
            if set_up or (self._barrier is not Barrier.RELEASED and now - self._released_at >= RELEASE_REPEAT_S):
                self._released_at = now
                self._mode = await exchange.ask(set_door(serial, door, Mode.NORMALLY_OPEN, self._open_s))
            return
        if self._mode is None or set_up or self._doubtful:
            self._mode = await exchange.ask(ask_door(serial, door))
            self._doubtful = False
        if self._mode is not Mode.NORMALLY_OPEN or now < self._rearm_until:
            if set_up or self._mode is not Mode.CONTROLLED:
                self._mode = await exchange.ask(set_door(serial, door, Mode.CONTROLLED, self._open_s))
            self._rearm_until = -math.inf
        wish, self._wish = self._wish, None
        if wish is None:
            return
        if trio.current_time() >= wish[2] or self._held:
            self._controller.meter.error(f"door {door}: open dropped")
            return
        self._turn = (wish[0], wish[1], trio.current_time() + self._open_s + BUTTON_S)
        if await exchange.ask(open_door(serial, door)) and not self._sensor:
            self._let_in()

    def on_event(self, event: Event, age_s: float) -> None:
        if event.door != self._door and event.reason != Reason.FIRE:
            return
        now = trio.current_time()
        if event.reason == Reason.BUTTON:
            self._button_until = now + self._open_s + BUTTON_S
            if not self._sensor:
                self._count(Direction.EXIT, 1)
        elif event.reason == Reason.DOOR_OPENED and self._sensor:
            if self._turn is not None and now < self._turn[2]:
                self._let_in()
            elif now < self._button_until:
                self._button_until = -math.inf
                self._count(Direction.EXIT, 1)
        elif event.reason in _ALARMS and event.type in (EventType.DOOR, EventType.ALARM) and age_s < math.inf:
            self._emit(GateAlarm(kind=_ALARMS[Reason(event.reason)]))

    def on_status(self, status: Status, asked_at: float, heard_at: float) -> None:
        unlocked = status.relays[self._door - 1]
        ours = self._turn is not None and asked_at < self._turn[2]
        self._doubtful = not unlocked if self._mode is Mode.NORMALLY_OPEN else unlocked and not ours
        barrier = self._sense(status)
        if barrier is not self._barrier:
            self._barrier = barrier
            said = "door open" if status.doors_open[self._door - 1] else "door closed"
            lock = "unlocked" if unlocked else "locked"
            self._emit(BarrierChanged(barrier=barrier, detail=f"{said}, {lock}", counters=self._counts.counts))
        if (fire := self._fire.sample({0: status.fire}, asked_at, heard_at)) is not None:
            self._emit(InputChanged(name="fire", state=fire))

    # --- small helpers ------------------------------------------------------------------------------------------

    @property
    def _held(self) -> bool:
        """Somebody else set it to normally open: only a re-arm ends that."""
        return self._mode is Mode.NORMALLY_OPEN and not self._released

    def _sense(self, status: Status) -> Barrier:
        """A door whose lock is open can be passed, also while its leaf is shut."""
        unlocked = status.relays[self._door - 1]
        if self._mode is Mode.NORMALLY_OPEN and unlocked:
            return Barrier.RELEASED
        return Barrier.OPEN if unlocked or (self._sensor and status.doors_open[self._door - 1]) else Barrier.CLOSED

    def _let_in(self) -> None:
        """Everybody of the turn has passed, as far as a door can tell."""
        assert self._turn is not None
        direction, pax, _ = self._turn
        self._turn = None
        self._count(direction, pax)

    def _count(self, direction: Direction, people: int) -> None:
        entry = direction is Direction.ENTRY
        self._counts.add(people if entry else 0, 0 if entry else people)
        counts = self._counts.counts
        newest = counts.entries if entry else counts.exits
        for counter in range(newest - people + 1, newest + 1):
            self._say(PassageCounted(direction=direction, epoch=counts.epoch, counter=counter))

    def _say(self, event: DeviceEvent) -> None:
        if self._up:  # otherwise it is in the counters of the next DeviceUp
            self._emit(event)

    def _new_epoch(self) -> str:
        return f"{self._controller.serial}-{self._door}-{int(time.time() * 1000):x}"


def _to_nobody(event: object) -> None:
    """Before `run` and after it there is nobody to tell."""
