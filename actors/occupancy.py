"""How many people are where, against the limits, and the curve of who came and went.

The counts themselves live in the ledger and change only in the transaction that books a passage; this actor shows
them, and says when a zone slows down or is full.  The limit is enforced where grants are committed, not here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
import trio

from actors._common import offer
from actors.evacuation import ZonesNow
from actors.lane._shared import Flow
from actors.pace import Pace
from core import Address, Stop
from protocols.console import FeedEvent, FlowPoint, ZoneView
from protocols.messages import Telemetry
from storage.interfaces import ZoneCount, ZonesChanged

ANNOUNCE_AT = 0.8  # of the limit: people at the entrances should know
SLOW_AT = 0.9  # of the limit: the console turns to `slow`
FULL_UNTIL = 0.98  # a full zone is shown as full until this much is left, so that it does not flicker
FLOW_EVERY_S = 1.0
MINUTE_S = 60


CROSSED = {  # what people are told when a zone comes into this state: severity, code, Chinese, English
    "announced": ("notice", "zone_announced", "{name} 人数较多 {people}/{limit}", "{name} fills: {people} of {limit}"),
    "slow": ("warning", "zone_slow", "{name} 接近限流 {people}/{limit}", "{name} is nearly full: {people} of {limit}"),
    "full": ("warning", "capacity_hold", "{name} 达到限流 {limit} 人", "{name} is at its limit of {limit}"),
    "stopped": ("warning", "entry_stopped", "{name} 已暂停入园", "Entry to {name} is stopped"),
}
RANK = {"normal": 0, "announced": 1, "slow": 2, "full": 3, "stopped": 4}


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """From which part of its limit on a zone is announced, and shown as slow."""

    announce_at: float = ANNOUNCE_AT
    slow_at: float = SLOW_AT


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class Occupancy:
    """The actor. `names` maps a zone to what people call it, `marks` to its thresholds if they are its own.

    `evacuation` is told the counts, once a second at most, whenever they have changed.
    """

    def __init__(
        self,
        *,
        names: dict[str, str],
        hub: Address,
        marks: Mapping[str, Marks] | None = None,
        evacuation: Address | None = None,
    ) -> None:
        self._names = names
        self._marks = marks or {}
        self._hub = hub
        self._evacuation = evacuation
        self._told: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._zones: dict[str, ZoneCount] = {}
        self._views: dict[str, ZoneView] = {}
        self._paces: dict[str, Pace] = {}
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
                    self._tell_evacuation()
                    for zone in list(self._zones.values()):  # a stop may have come to its end
                        self._show(zone)
                case Stop():
                    return

    def _show(self, zone: ZoneCount) -> None:
        """Tell the view of a zone when it changed, and people when it came into a worse state or out of the worst."""
        if zone.zone == "outside":
            return
        self._zones[zone.zone] = zone
        now = time.time()
        inside = max(0, zone.inside)
        before = self._states.get(zone.zone, "normal")
        state = zone_state(zone, before, now, self._marks.get(zone.zone, Marks()))
        self._states[zone.zone] = state
        name = self._names.get(zone.zone, zone.zone)
        if RANK[state] > RANK[before]:
            severity, code, zh, en = CROSSED[state]
            words = {"name": name, "people": people_of(zone), "limit": zone.limit}
            self._tell(severity, code, zh.format(**words), en.format(**words))
        elif before in ("full", "stopped") and RANK[state] < RANK["full"]:
            self._tell("notice", "entry_resumed", f"{name} 恢复入园", f"Entry to {name} goes on")
        pace = self._paces.setdefault(zone.zone, Pace())
        pace.add(trio.current_time(), inside)
        view = ZoneView(
            zone=zone.zone,
            name=name,
            inside=inside,
            held=zone.held,
            limit=zone.limit,
            state=state,
            staff=zone.staff,
            entered=zone.entered,
            sale_stopped=zone.sale_full or runs(zone.sale_stopped_until, now),
            one_for_one=runs(zone.one_for_one_until, now),
            stopped_until=zone.entry_stopped_until if runs(zone.entry_stopped_until, now) else None,
            trend_per_min=pace.per_min,
            full_in_s=pace.full_in_s(people_of(zone), zone.limit),
        )
        if view != self._views.get(zone.zone):
            self._views[zone.zone] = view
            self._hub.tell(view)

    def _tell_evacuation(self) -> None:
        """Who flees is counted down from here, should the ledger be away by then."""
        inside = {name: max(0, zone.inside) for name, zone in self._zones.items()}
        if self._evacuation is not None and inside != self._told:
            self._told = inside
            offer(self._evacuation, ZonesNow(zones=inside))

    def _tell(self, severity: str, code: str, text_zh: str, text_en: str) -> None:
        event = FeedEvent(
            at=time.time(), kind="alarm", severity=severity, code=code, text_zh=text_zh, text_en=text_en
        )
        offer(self._hub, event)

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


def zone_state(zone: ZoneCount, before: str, now: float, marks: Marks) -> str:
    """normal, announced, slow, full or stopped (by people). Full ends only a little below the limit, if not later."""
    if runs(zone.entry_stopped_until, now):
        return "stopped"
    limit = zone.limit
    if limit is None:
        return "full" if zone.full else "normal"
    people = people_of(zone)
    if zone.full or people >= limit or (before == "full" and people >= limit * FULL_UNTIL):
        return "full"
    if people >= limit * marks.slow_at:
        return "slow"
    return "announced" if people >= limit * marks.announce_at else "normal"


def people_of(zone: ZoneCount) -> int:
    """Who counts against the limit."""
    return max(0, zone.inside) + zone.held if zone.people is None else zone.people


def runs(until: float | None, now: float) -> bool:
    """Has something that lasts until then not ended?"""
    return until is not None and now < until
