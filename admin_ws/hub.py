"""The actor `consoles`: keeps what a control room sees, and tells every page what changed.

Views are state: of many told within a batch the newest of each key goes out.  Feed events are history: every one goes
out, in order.  At most one `Delta` is sent per `BATCH_S`, encoded once per wire form whatever the number of pages; a
`Delta` without content is sent when nothing happened for `HEARTBEAT_S`, so that a page can tell silence from a dead
line.  A page that cannot keep up is its own problem: `Subscriber.offer` never waits.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import msgspec
import structlog
import trio

from core import Address, Stop
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
from protocols.jsonrpc import Frame, RequestId, Wire, encode_notification, encode_result

BATCH_S = 0.05  # shortest time between two deltas
GATHER_S = 0.005  # from a change after a quiet time to its delta, so that what was told together is shown together
HEARTBEAT_S = 1.0  # longest time between two deltas; a page calls itself stale after three
FEED_LINES = 500  # lines of the feed in a snapshot; older ones are in the database
FLOW_MINUTES = 24 * 60  # points of the flow curve in a snapshot
HUB_MAILBOX_CAPACITY = 4096  # messages; a full one refuses feed events and sheds views

DELTA_METHOD = "site.delta"
REMOVED = "removed"  # availability of a device that is in the site file no more

_log = structlog.get_logger("admin_ws.hub")


class Subscriber(Protocol):
    """Somebody who is sent frames. Implemented by a peer of the channel, and by probes in tests."""

    wire: Wire

    def offer(self, frame: Frame) -> bool:
        """Take a frame to send, without waiting; False when the subscriber is gone and wants no more."""
        ...


class Subscribe(msgspec.Struct, frozen=True):
    """peer -> hub: answer this request with a snapshot, then send every delta from there on.

    The hub itself puts the snapshot into the subscriber's outbox: were it the answer of an ask, a delta could overtake
    it on its way through the scheduler.
    """

    subscriber: Subscriber
    request_id: RequestId


class Unsubscribe(msgspec.Struct, frozen=True):
    """peer -> hub: no more frames. No harm if it was not subscribed."""

    subscriber: Subscriber


class HubStatistics(msgspec.Struct, frozen=True):
    """What the hub did since it was made: `events` and `views` told, `deltas` built, `frames` offered to pages."""

    revision: int
    subscribers: int
    views: int
    events: int
    deltas: int
    heartbeats: int
    encodings: int
    frames: int


class _Flush(msgspec.Struct, frozen=True):
    """Timer: the batch is over."""


class _Beat(msgspec.Struct, frozen=True):
    """Timer: say that we are alive, if nothing else was said."""


class Hub:
    """State and subscribers of the console hub; `run` is the actor's main.

    The state belongs to the object, not to an incarnation of the actor: a restarted hub goes on with the same pages
    and the same revision.

    Args:
        site: the site's id; `site_name` is what people read.
        clock: seconds since the epoch; only for `server_at`.
    """

    def __init__(self, *, site: str, site_name: str, clock: Callable[[], float] = time.time) -> None:
        self._site, self._site_name, self._clock = site, site_name, clock
        self._revision = 0
        self._lanes: dict[str, LaneView] = {}
        self._zones: dict[str, ZoneView] = {}
        self._devices: dict[str, DeviceView] = {}
        self._flow: dict[float, FlowPoint] = {}
        self._evacuation = EvacuationView(state="normal")
        self._feed: deque[FeedEvent] = deque(maxlen=FEED_LINES)
        # Changes wait here until they become a revision. A snapshot shows the last revision only, so that a page
        # which joins in the middle of a batch does not see the same feed line twice.
        self._pending: dict[Hashable, Any] = {}
        self._pending_feed: list[FeedEvent] = []
        self._subscribers: dict[Subscriber, None] = {}
        self._last_sent_at = -math.inf  # Trio time
        self._flush_at: float | None = None  # Trio time; None: no batch is open
        self._views = self._events = self._deltas = self._heartbeats = self._encodings = self._frames = 0

    def statistics(self) -> HubStatistics:
        """Counts since the start of the process."""
        return HubStatistics(
            revision=self._revision,
            subscribers=len(self._subscribers),
            views=self._views,
            events=self._events,
            deltas=self._deltas,
            heartbeats=self._heartbeats,
            encodings=self._encodings,
            frames=self._frames,
        )

    async def run(self, me: Address) -> None:
        """The actor's main: serves until `Stop`. Unknown messages are logged and ignored: nobody's fault ends it."""
        me.set_timer("beat", HEARTBEAT_S, _Beat())
        self._flush_at = None  # a timer dies with its incarnation
        if self._pending or self._pending_feed:
            self._arm(me)
        while True:
            envelope = await me.receive()
            message = envelope.msg
            if isinstance(message, Stop):
                return
            if isinstance(message, FeedEvent):
                self._events += 1
                self._pending_feed.append(message)
                self._arm(me)
            elif isinstance(message, _Flush):
                self._flush()
            elif isinstance(message, _Beat):
                self._beat(me)
            elif isinstance(message, Subscribe):
                self._subscribe(message)
                envelope.reply(None)
            elif isinstance(message, Unsubscribe):
                self._subscribers.pop(message.subscriber, None)
                envelope.reply(None)
            elif self._take_view(message):
                self._views += 1
                self._arm(me)
            else:
                _log.warning("unknown_message", type=type(message).__name__)

    # -- changes ------------------------------------------------------------------------------------------------

    def _take_view(self, message: object) -> bool:
        """Note a view for the next batch, in place of an older one of the same key; False for anything else."""
        key: Hashable
        if isinstance(message, LaneView):
            key = ("lane", message.lane)
        elif isinstance(message, ZoneView):
            key = ("zone", message.zone)
        elif isinstance(message, DeviceView):
            key = ("device", message.device)
        elif isinstance(message, FlowPoint):
            key = ("flow", message.minute)
        elif isinstance(message, EvacuationView):
            key = "evacuation"
        else:
            return False
        self._pending[key] = message
        return True

    def _arm(self, me: Address) -> None:
        """Make sure that the batch ends: `BATCH_S` after the last delta; soon, if that is long ago."""
        if self._flush_at is None:
            now = trio.current_time()
            self._flush_at = max(now + GATHER_S, self._last_sent_at + BATCH_S)
            me.set_timer("flush", self._flush_at - now, _Flush())

    def _flush(self) -> None:
        """Turn what is pending into the next revision and offer it to everybody."""
        self._flush_at = None
        views = list(self._pending.values())
        lanes = [view for view in views if isinstance(view, LaneView)]
        zones = [view for view in views if isinstance(view, ZoneView)]
        devices = [view for view in views if isinstance(view, DeviceView)]
        flow = sorted((view for view in views if isinstance(view, FlowPoint)), key=lambda point: point.minute)
        evacuation = next((view for view in views if isinstance(view, EvacuationView)), None)
        feed = self._pending_feed
        self._pending, self._pending_feed = {}, []

        self._lanes.update((view.lane, view) for view in lanes)
        self._zones.update((view.zone, view) for view in zones)
        self._devices.update((view.device, view) for view in devices)
        for view in devices:
            if view.availability == REMOVED:  # pages hear it once; whoever joins later never knows of it
                self._devices.pop(view.device, None)
        self._flow.update((point.minute, point) for point in flow)
        while len(self._flow) > FLOW_MINUTES:
            del self._flow[min(self._flow)]
        self._evacuation = evacuation or self._evacuation
        self._feed.extend(feed)
        self._revision += 1
        self._deltas += 1
        self._broadcast(
            Delta(
                revision=self._revision,
                server_at=self._clock(),
                lanes=lanes,
                zones=zones,
                devices=devices,
                evacuation=evacuation,
                flow=flow,
                feed=feed,
            )
        )

    def _beat(self, me: Address) -> None:
        quiet_s = trio.current_time() - self._last_sent_at
        if quiet_s >= HEARTBEAT_S:
            self._heartbeats += 1
            self._broadcast(Delta(revision=self._revision, server_at=self._clock()))
            quiet_s = 0.0
        me.set_timer("beat", HEARTBEAT_S - quiet_s, _Beat())

    # -- pages --------------------------------------------------------------------------------------------------

    def _subscribe(self, message: Subscribe) -> None:
        frame = encode_result(message.subscriber.wire, message.request_id, self.snapshot())
        self._encodings += 1
        self._frames += 1
        if message.subscriber.offer(frame):
            self._subscribers[message.subscriber] = None

    def snapshot(self) -> Snapshot:
        """Everything as of the last revision."""
        return Snapshot(
            revision=self._revision,
            site=self._site,
            site_name=self._site_name,
            server_at=self._clock(),
            lanes=list(self._lanes.values()),
            zones=list(self._zones.values()),
            devices=list(self._devices.values()),
            evacuation=self._evacuation,
            flow=[self._flow[minute] for minute in sorted(self._flow)],
            feed=list(self._feed),
        )

    def _broadcast(self, delta: Delta) -> None:
        self._last_sent_at = trio.current_time()
        frames: dict[Wire, Frame] = {}
        for subscriber in tuple(self._subscribers):
            frame = frames.get(subscriber.wire)
            if frame is None:
                frame = frames[subscriber.wire] = encode_notification(subscriber.wire, DELTA_METHOD, delta)
                self._encodings += 1
            self._frames += 1
            if not subscriber.offer(frame):
                self._subscribers.pop(subscriber, None)
