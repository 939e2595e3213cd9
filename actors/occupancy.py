"""How many people are where, against the limits, and the curve of who came and went.

The counts themselves live in the ledger and change only in the transaction that books a passage; this actor shows
them, and says when a zone slows down or is full.  The limit is enforced where grants are committed, not here.
"""

from __future__ import annotations

import time

from actors._common import offer
from actors.lane._shared import Flow
from core import Address, Stop
from protocols.console import FeedEvent, FlowPoint, ZoneView
from protocols.messages import Telemetry
from storage.interfaces import ZoneCount, ZonesChanged

SLOW_AT = 0.9  # of the limit: the console turns to `slow`
FULL_UNTIL = 0.98  # a full zone is shown as full until this much is left, so that it does not flicker
FLOW_EVERY_S = 1.0
MINUTE_S = 60


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class Occupancy:
    """The actor. `names` maps a zone to what people call it."""

    def __init__(self, *, names: dict[str, str], hub: Address) -> None:
        self._names = names
        self._hub = hub
        self._states: dict[str, str] = {}
        self._minute = 0.0
        self._flow = [0, 0, 0]
        self._changed = False

    async def run(self, me: Address) -> None:
        me.set_timer("flow", FLOW_EVERY_S, _Tick())
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case ZonesChanged(zones=zones):
                    for zone in zones:
                        self._show(zone)
                case Flow() as flow:
                    self._count(flow)
                case _Tick():
                    me.set_timer("flow", FLOW_EVERY_S, _Tick())
                    self._roll()
                case Stop():
                    return

    def _show(self, zone: ZoneCount) -> None:
        if zone.zone == "outside":
            return
        inside = max(0, zone.inside)
        state = zone_state(inside + zone.held, zone.limit, self._states.get(zone.zone, "normal"))
        if state != self._states.get(zone.zone) and state == "full":
            name = self._names.get(zone.zone, zone.zone)
            offer(
                self._hub,
                FeedEvent(
                    at=time.time(),
                    kind="alarm",
                    severity="warning",
                    code="capacity_hold",
                    text_zh=f"{name} 达到限流 {zone.limit} 人",
                    text_en=f"{name} is at its limit of {zone.limit}",
                ),
            )
        self._states[zone.zone] = state
        self._hub.tell(
            ZoneView(
                zone=zone.zone,
                name=self._names.get(zone.zone, zone.zone),
                inside=inside,
                held=zone.held,
                limit=zone.limit,
                state=state,
            )
        )

    def _count(self, flow: Flow) -> None:
        self._roll()
        self._flow[0] += flow.entries
        self._flow[1] += flow.exits
        self._flow[2] += flow.refused
        self._changed = True

    def _roll(self) -> None:
        """Tell the running minute when it changed, and begin a new one when it is over."""
        minute = time.time() // MINUTE_S * MINUTE_S
        if self._changed or minute != self._minute:
            if self._minute:
                entries, exits, refused = self._flow
                self._hub.tell(FlowPoint(minute=self._minute, entries=entries, exits=exits, refused=refused))
            self._changed = False
        if minute != self._minute:
            self._minute, self._flow = minute, [0, 0, 0]


def zone_state(people: int, limit: int | None, before: str) -> str:
    """normal, slow or full; `people` counts those who hold an open grant. Full ends only a little below the limit."""
    if limit is None:
        return "normal"
    if people >= limit or (before == "full" and people >= limit * FULL_UNTIL):
        return "full"
    return "slow" if people >= limit * SLOW_AT else "normal"
