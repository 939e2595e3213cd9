"""The actor round a turnstile board's driver: commands in, events out to the lane.

A board's I/O loop and its mailbox run side by side, so that a release is handed to the driver the moment it is read,
whatever the line is doing.  The driver keeps release before everything else by itself.
"""

from __future__ import annotations

import math
import time

import msgspec
import trio

from actors._common import offer
from core import Address, Stop
from drivers.base import (
    AlarmKind,
    Availability,
    BarrierChanged,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    DriverStatistics,
    Gate,
    GateAlarm,
    InputChanged,
    InputState,
    PassageCounted,
)
from protocols.console import DeviceView
from protocols.messages import Base, Direction, Telemetry

STATISTICS_EVERY_S = 5.0  # how often the console sees the counts of frames and errors


class GateOpen(Base, frozen=True, kw_only=True):
    direction: Direction
    pax: int


class GateClose(Base, frozen=True, kw_only=True):
    """Close after a grant."""


class GateRelease(Base, frozen=True, kw_only=True):
    """Hold open for an evacuation. Told on the system lane."""


class GateRearm(Base, frozen=True, kw_only=True):
    """End a release."""


class GateResume(Base, frozen=True, kw_only=True):
    """What the ledger knows of this board's counters; answered with a `DeviceUp` that carries the epoch."""

    epoch: str
    entries: int
    exits: int


class FireInput(Base, frozen=True, kw_only=True):
    """gate -> fire: the state of the fire contact at a board. `momentary`: the board says when it begins, never when it
    ends."""

    contact: str
    state: InputState
    momentary: bool = False


class GateLook(Telemetry, frozen=True, kw_only=True):
    """Somebody waits for the barrier to close: do not wait for the next poll."""


class GateReport(Base, frozen=True, kw_only=True):
    """Say again what is known of the device: for a lane that was restarted."""


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class GateActor:
    """Child of the device supervisor; owns one `Gate`.

    `fire` is told of the board's own fire contact, under the lane's name; without it, that opens this lane alone.
    """

    def __init__(
        self, name: str, gate: Gate, lane: Address, lane_name: str, hub: Address, *, fire: Address | None = None
    ) -> None:
        self._name = name
        self._gate = gate
        self._lane = lane
        self._lane_name = lane_name
        self._hub = hub
        self._fire = fire
        self._says_level = False  # the board says its fire contact's level, not only when an alarm begins
        self._last: DeviceEvent | None = None

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gate.run, self._emit)
            me.set_timer("statistics", 0.0, _Tick())
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case GateOpen(direction=direction, pax=pax):
                        left_s = envelope.deadline - trio.current_time()
                        self._gate.open(direction, pax, 3600.0 if math.isinf(left_s) else left_s)
                    case GateRelease():
                        self._gate.release()
                    case GateClose():
                        self._gate.close()
                    case GateRearm():
                        self._gate.rearm()
                    case GateResume(epoch=epoch, entries=entries, exits=exits):
                        self._gate.resume(epoch, entries, exits)
                    case GateLook():
                        if (look := getattr(self._gate, "look", None)) is not None:
                            look()
                    case GateReport():
                        if self._last is not None:
                            offer(self._lane, self._last)
                    case _Tick():
                        me.set_timer("statistics", STATISTICS_EVERY_S, _Tick())
                        self._show()
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return
                    case _:
                        envelope.reply(None)

    def _emit(self, event: DeviceEvent) -> None:
        self._tell_fire(event)
        self._last = _known(self._last, event)
        if isinstance(event, DeviceUp | DeviceDown):
            self._show()
        offer(self._lane, event)  # without room nothing is lost for good: the next count and state say it again

    def _tell_fire(self, event: DeviceEvent) -> None:
        """A fire at one board is a fire on the site. On the system lane: the fire actor reads it first."""
        if self._fire is None:
            return
        match event:
            case InputChanged(name="fire", state=state):
                self._says_level = True
                offer(self._fire, FireInput(contact=self._lane_name, state=state), system=True)
            case GateAlarm(kind=AlarmKind.FIRE) if not self._says_level:
                alarm = FireInput(contact=self._lane_name, state=InputState.ACTIVE, momentary=True)
                offer(self._fire, alarm, system=True)

    def _show(self) -> None:
        self._hub.tell(device_view(self._name, "gate", self._lane_name, self._gate.statistics()))


def _known(before: DeviceEvent | None, event: DeviceEvent) -> DeviceEvent | None:
    """What is known of the board after an event, as a lane that begins anew has to hear it."""
    if isinstance(event, DeviceUp | DeviceDown):
        return event
    if not isinstance(before, DeviceUp):
        return before
    counters = before.counters
    match event:
        case BarrierChanged():
            counters = counters if event.counters is None else event.counters
            return msgspec.structs.replace(before, barrier=event.barrier, counters=counters)
        case PassageCounted(direction=Direction.ENTRY) if counters is not None and event.epoch == counters.epoch:
            return msgspec.structs.replace(before, counters=msgspec.structs.replace(counters, entries=event.counter))
        case PassageCounted() if counters is not None and event.epoch == counters.epoch:
            return msgspec.structs.replace(before, counters=msgspec.structs.replace(counters, exits=event.counter))
    return before


def device_view(name: str, kind: str, lane: str, statistics: DriverStatistics) -> DeviceView:
    """What the console shows of a device."""
    now = time.time()
    received = statistics.frames_in + statistics.bad_frames
    counters = statistics.counters
    return DeviceView(
        device=name,
        kind=kind,
        lane=lane,
        availability=statistics.availability.value,
        detail=statistics.last_error,
        bad_frames=statistics.bad_frames,
        reconnects=statistics.reconnects,
        last_said=statistics.last_said,
        last_said_at=None if statistics.last_said_s is None else now - statistics.last_said_s,
        since=None if statistics.availability is Availability.UNKNOWN else now - statistics.since_s,
        frames=statistics.frames_in,
        error_rate=round(statistics.bad_frames / received, 4) if received else None,
        firmware=statistics.firmware,
        clock_skew_s=statistics.clock_skew_s,
        entries=None if counters is None else counters.entries,
        exits=None if counters is None else counters.exits,
    )
