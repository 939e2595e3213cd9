"""What the hub knows, with the revision at which each piece changed: enough to go on from where a page left off.

State needs no history: a page that missed ten changes of a lane needs the last one.  What does need one is bounded: the
feed's lines, and the devices that are no more.  A page that is further behind gets that topic whole.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from protocols.console import (
    Delta,
    DeviceView,
    EvacuationView,
    FeedEvent,
    FlowPoint,
    LaneView,
    Snapshot,
    ZoneView,
)
from protocols.console_views import TOPICS, ModesNow

FEED_LINES = 500  # lines of the feed in a snapshot; older ones are in the database
FLOW_MINUTES = 24 * 60  # points of the flow curve in a snapshot
REMOVED_MAX = 256  # devices that are no more, for pages that were away
REMOVED = "removed"  # availability of a device that is in the site file no more
EPOCH_BYTES = 6

ALL = frozenset(TOPICS)

V = TypeVar("V")


class Board:
    """Everything that pages see. `revision` counts changes within one `epoch`, which a new server begins."""

    def __init__(self, *, site: str, site_name: str, clock: Callable[[], float], timezone: str = "") -> None:
        self._site, self._site_name, self._timezone, self._clock = site, site_name, timezone, clock
        self.epoch = secrets.token_hex(EPOCH_BYTES)
        self.revision = 0
        self._lanes: dict[str, tuple[int, LaneView]] = {}
        self._zones: dict[str, tuple[int, ZoneView]] = {}
        self._devices: dict[str, tuple[int, DeviceView]] = {}
        self._flow: dict[float, tuple[int, FlowPoint]] = {}
        self._evacuation = EvacuationView(state="normal")
        self._modes: ModesNow | None = None
        self._feed: deque[tuple[int, FeedEvent]] = deque()
        self._removed: deque[tuple[int, DeviceView]] = deque()
        self._feed_from = 0  # lines up to this revision may have been forgotten
        self._removed_from = 0

    def apply(
        self,
        *,
        lanes: Iterable[LaneView],
        zones: Iterable[ZoneView],
        devices: Iterable[DeviceView],
        evacuation: EvacuationView | None,
        flow: Iterable[FlowPoint],
        feed: Iterable[FeedEvent],
        modes: ModesNow | None = None,
    ) -> Delta:
        """Take changes over as the next revision, and say what changed."""
        self.revision += 1
        now = self.revision
        delta = Delta(
            revision=now,
            server_at=self._clock(),
            lanes=list(lanes),
            zones=list(zones),
            devices=list(devices),
            evacuation=evacuation,
            flow=sorted(flow, key=lambda point: point.minute),
            feed=list(feed),
            modes=modes,
        )
        self._lanes.update((view.lane, (now, view)) for view in delta.lanes)
        self._zones.update((view.zone, (now, view)) for view in delta.zones)
        for view in delta.devices:
            if view.availability == REMOVED:  # pages hear it once; whoever joins later never knows of it
                self._devices.pop(view.device, None)
                self._removed.append((now, view))
            else:
                self._devices[view.device] = (now, view)
        self._flow.update((point.minute, (now, point)) for point in delta.flow)
        while len(self._flow) > FLOW_MINUTES:
            del self._flow[min(self._flow)]
        self._evacuation = evacuation or self._evacuation
        self._modes = modes or self._modes
        self._feed.extend((now, line) for line in delta.feed)
        while len(self._feed) > FEED_LINES:
            self._feed_from = self._feed.popleft()[0]
        while len(self._removed) > REMOVED_MAX:
            self._removed_from = self._removed.popleft()[0]
        return delta

    def heartbeat(self) -> Delta:
        """A delta without content."""
        return Delta(revision=self.revision, server_at=self._clock())

    def snapshot(self, topics: frozenset[str] = ALL, *, epoch: str = "", revision: int | None = None) -> Snapshot:
        """These topics as of the last revision; to who saw this `epoch` up to `revision`, only what changed since."""
        known = epoch == self.epoch and revision is not None and 0 <= revision <= self.revision
        seen = revision if known and revision is not None else -1
        whole = {topic for topic in topics if not known or topic in ("evacuation", "modes")}
        if known and seen < self._feed_from:
            whole |= topics & {"feed"}
        if known and seen < self._removed_from:
            whole |= topics & {"devices"}

        def since(topic: str) -> int:
            return -1 if topic in whole else seen if topic in topics else self.revision

        devices = _after(self._devices, since("devices"))
        if "devices" not in whole:
            back = {view.device for view in devices}
            gone = {view.device: view for at, view in self._removed if at > since("devices")}
            devices += [view for name, view in gone.items() if name not in back and name not in self._devices]
        return Snapshot(
            revision=self.revision,
            site=self._site,
            site_name=self._site_name,
            server_at=self._clock(),
            lanes=_after(self._lanes, since("lanes")),
            zones=_after(self._zones, since("zones")),
            devices=devices,
            evacuation=self._evacuation,
            flow=sorted(_after(self._flow, since("flow")), key=lambda point: point.minute),
            feed=[line for at, line in self._feed if at > since("feed")],
            modes=self._modes if "modes" in topics else None,
            epoch=self.epoch,
            timezone=self._timezone,
            topics=[topic for topic in TOPICS if topic in topics],
            replaces=[topic for topic in TOPICS if topic in whole],
        )


def _after(views: Mapping[object, tuple[int, V]] | Mapping[str, tuple[int, V]] | Mapping[float, tuple[int, V]],
           revision: int) -> list[V]:  # fmt: skip
    return [view for at, view in views.values() if at > revision]


def only(delta: Delta, topics: frozenset[str]) -> Delta:
    """The delta of somebody who asked for these topics."""
    return msgspec.structs.replace(
        delta,
        lanes=delta.lanes if "lanes" in topics else [],
        zones=delta.zones if "zones" in topics else [],
        devices=delta.devices if "devices" in topics else [],
        evacuation=delta.evacuation if "evacuation" in topics else None,
        flow=delta.flow if "flow" in topics else [],
        feed=delta.feed if "feed" in topics else [],
        modes=delta.modes if "modes" in topics else None,
    )


def is_empty(delta: Delta) -> bool:
    """Is there nothing in it but its revision?"""
    parts = (delta.lanes, delta.zones, delta.devices, delta.evacuation, delta.flow, delta.feed, delta.modes)
    return not any(parts)
