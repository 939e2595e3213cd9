"""What the site's views say, as metrics: lanes, zones, the evacuation, and how often what was fed to the consoles.

Every view and every event passes by the address of the consoles' hub.  It is looked at on the way, so that figures are
right whether the hub lives or not, and no actor knows of metrics.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from core import Address, DeadLetters
from protocols.console import DeviceView, EvacuationView, FeedEvent, LaneView, ZoneView

EVENTS_MAX = 500  # kinds, severities and codes that are told apart; codes are words of ours, but who knows
OTHER = "other"


class Passing(Address):
    """An address whose messages are looked at on the way. `see` must be quick and never raise."""

    __slots__ = ("_see",)

    def __init__(self, name: str, *, capacity: int, dead_letters: DeadLetters, see: Callable[[Any], None]) -> None:
        super().__init__(name, capacity=capacity, dead_letters=dead_letters)
        self._see = see

    def tell(self, msg: Any, **options: Any) -> None:
        """As `Address.tell`."""
        self._see(msg)
        super().tell(msg, **options)


class Views:
    """The latest of each view, and counts of events."""

    def __init__(self) -> None:
        self.lanes: dict[str, LaneView] = {}
        self.zones: dict[str, ZoneView] = {}
        self.evacuation = EvacuationView(state="normal")
        self.database = False
        self.events: collections.Counter[tuple[str, str, str]] = collections.Counter()

    def see(self, message: Any) -> None:
        """Note what passes by."""
        kind = type(message)
        if kind is LaneView:
            self.lanes[message.lane] = message
        elif kind is FeedEvent:
            key = (message.kind, message.severity, message.code)
            if key not in self.events and len(self.events) >= EVENTS_MAX:
                key = (message.kind, message.severity, OTHER)
            self.events[key] += 1
        elif kind is ZoneView:
            self.zones[message.zone] = message
        elif kind is EvacuationView:
            self.evacuation = message
        elif kind is DeviceView and message.kind == "database":
            self.database = message.availability == "available"

    def ready(self) -> dict[str, bool]:
        """What a site needs to do its work; safety needs none of it."""
        return {"database": self.database, "lanes": bool(self.lanes)}

    def metrics(self) -> Iterator[Metric]:
        """In families of Prometheus'."""
        yield GaugeMetricFamily("paifang_database_up", "1 while the ledger can write", float(self.database))
        yield from self._lanes()
        yield from self._zones()
        yield from self._evacuation()
        events = CounterMetricFamily(
            "paifang_feed_events", "Lines of the feed; of `refused` by why", labels=("kind", "severity", "code")
        )
        for key, count in self.events.items():
            events.add_metric(key, count)
        yield events

    def _lanes(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("paifang_lane_up", "1 while the lane can take visitors", labels=("lane", "entrance"))
        state = GaugeMetricFamily(
            "paifang_lane_state", "1 for the state and mode that it is in", labels=("lane", "state", "mode")
        )
        today = GaugeMetricFamily("paifang_lane_today", "People of the business day", labels=("lane", "direction"))
        for lane in self.lanes.values():
            up.add_metric((lane.lane, lane.entrance), float(lane.available))
            state.add_metric((lane.lane, lane.state, lane.mode), 1.0)
            today.add_metric((lane.lane, "entry"), lane.entries)
            today.add_metric((lane.lane, "exit"), lane.exits)
        yield from (up, state, today)

    def _zones(self) -> Iterator[Metric]:
        inside = GaugeMetricFamily("paifang_zone_inside", "People inside", labels=("zone",))
        held = GaugeMetricFamily("paifang_zone_held", "People who are let in just now", labels=("zone",))
        limit = GaugeMetricFamily("paifang_zone_limit", "Of people; absent without one", labels=("zone",))
        state = GaugeMetricFamily("paifang_zone_state", "1 for the state that it is in", labels=("zone", "state"))
        for zone in self.zones.values():
            inside.add_metric((zone.zone,), zone.inside)
            held.add_metric((zone.zone,), zone.held)
            if zone.limit is not None:
                limit.add_metric((zone.zone,), zone.limit)
            state.add_metric((zone.zone, zone.state), 1.0)
        yield from (inside, held, limit, state)

    def _evacuation(self) -> Iterator[Metric]:
        view = self.evacuation
        commanded = [lane for lane in view.lanes if lane.commanded]
        for name, what, value in (
            ("paifang_evacuation_released", "1 while lanes are released", float(view.state == "released")),
            ("paifang_evacuation_drill", "1 while it is a drill", float(view.state == "released" and view.drill)),
            ("paifang_evacuation_restoring", "1 while lanes wait for re-arming", float(view.state == "restoring")),
            ("paifang_evacuation_lanes", "Lanes that are released", float(len(commanded))),
            (
                "paifang_evacuation_lanes_not_open",
                "Of these, not sensed open",
                float(sum(not lane.sensed_open for lane in commanded)),
            ),
            ("paifang_evacuation_people_out", "Counted out since the trigger", float(view.out)),
        ):
            yield GaugeMetricFamily(name, what, value)
        left = GaugeMetricFamily("paifang_evacuation_people_left", "Probably inside; absent when unknown", labels=())
        if view.left is not None:
            left.add_metric((), view.left)
        yield left
