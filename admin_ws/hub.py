"""The actor `consoles`: keeps what a control room sees, and tells every page what changed.

Views are state: of many told within a batch the newest of each key goes out.  Feed events are history: every one goes
out, in order.  At most one `Delta` is sent per `BATCH_S`, encoded once per wire form whatever the number of pages; a
`Delta` without content is sent when nothing happened for `HEARTBEAT_S`, so that a page can tell silence from a dead
line.  A page that cannot keep up is its own problem: `Subscriber.offer` never waits.
"""

from __future__ import annotations

import math
import time
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
    ModesNow,
    Snapshot,
    Subscription,
    ZoneView,
)
from protocols.jsonrpc import Frame, RequestId, Wire, encode_notification, encode_result

from ._board import ALL, FEED_LINES, FLOW_MINUTES, REMOVED, Board, is_empty, only

__all__ = ["BATCH_S", "FEED_LINES", "FLOW_MINUTES", "HEARTBEAT_S", "REMOVED", "Hub", "Subscribe", "Unsubscribe"]

BATCH_S = 0.05  # shortest time between two deltas
GATHER_S = 0.005  # from a change after a quiet time to its delta, so that what was told together is shown together
HEARTBEAT_S = 1.0  # longest time between two deltas; a page calls itself stale after three
HUB_MAILBOX_CAPACITY = 4096  # messages; a full one refuses feed events and sheds views

DELTA_METHOD = "site.delta"

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
    wanted: Subscription = Subscription()


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
        timezone: the site's, an IANA name; "" leaves pages to their own.
    """

    def __init__(
        self, *, site: str, site_name: str, clock: Callable[[], float] = time.time, timezone: str = ""
    ) -> None:
        self._board = Board(site=site, site_name=site_name, clock=clock, timezone=timezone)
        # Changes wait here until they become a revision. A snapshot shows the last revision only, so that a page
        # which joins in the middle of a batch does not see the same feed line twice.
        self._pending: dict[Hashable, Any] = {}
        self._pending_feed: list[FeedEvent] = []
        self._subscribers: dict[Subscriber, frozenset[str]] = {}
        self._quiet_since: dict[frozenset[str], float] = {}  # topics -> when their subscribers were sent anything last
        self._last_sent_at = -math.inf  # Trio time
        self._flush_at: float | None = None  # Trio time; None: no batch is open
        self._views = self._events = self._deltas = self._heartbeats = self._encodings = self._frames = 0

    def statistics(self) -> HubStatistics:
        """Counts since the start of the process."""
        return HubStatistics(
            revision=self._board.revision,
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
        elif isinstance(message, ModesNow):
            key = "modes"
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
        views, feed = list(self._pending.values()), self._pending_feed
        self._pending, self._pending_feed = {}, []
        delta = self._board.apply(
            lanes=(view for view in views if isinstance(view, LaneView)),
            zones=(view for view in views if isinstance(view, ZoneView)),
            devices=(view for view in views if isinstance(view, DeviceView)),
            flow=(view for view in views if isinstance(view, FlowPoint)),
            evacuation=next((view for view in views if isinstance(view, EvacuationView)), None),
            modes=next((view for view in views if isinstance(view, ModesNow)), None),
            feed=feed,
        )
        self._deltas += 1
        self._broadcast(delta)

    def _beat(self, me: Address) -> None:
        quiet_s = trio.current_time() - self._last_sent_at
        if quiet_s >= HEARTBEAT_S:
            self._heartbeats += 1
            self._broadcast(self._board.heartbeat())
            quiet_s = 0.0
        me.set_timer("beat", HEARTBEAT_S - quiet_s, _Beat())

    # -- pages --------------------------------------------------------------------------------------------------

    def _subscribe(self, message: Subscribe) -> None:
        wanted = message.wanted
        topics = ALL.intersection(wanted.topics) if wanted.topics else ALL
        snapshot = self._board.snapshot(topics, epoch=wanted.epoch, revision=wanted.revision)
        frame = encode_result(message.subscriber.wire, message.request_id, snapshot)
        self._encodings += 1
        self._frames += 1
        if message.subscriber.offer(frame):
            self._subscribers[message.subscriber] = topics
            self._quiet_since.setdefault(topics, trio.current_time())

    def snapshot(self) -> Snapshot:
        """Everything as of the last revision."""
        return self._board.snapshot()

    def _broadcast(self, delta: Delta) -> None:
        """Offer a delta to everybody, encoded once for each wire form and set of topics.

        Who asked for other topics than those that changed hears nothing, but a heartbeat in time.
        """
        self._last_sent_at = now = trio.current_time()
        frames: dict[tuple[Wire, frozenset[str]], Frame | None] = {}
        sent = set()
        for subscriber, topics in tuple(self._subscribers.items()):
            key = subscriber.wire, topics
            if key not in frames:
                theirs = delta if topics == ALL else only(delta, topics)
                late = now - self._quiet_since.get(topics, -math.inf) >= HEARTBEAT_S
                if topics == ALL or late or not is_empty(theirs):
                    frames[key] = encode_notification(subscriber.wire, DELTA_METHOD, theirs)
                    self._encodings += 1
                    sent.add(topics)
                else:
                    frames[key] = None
            frame = frames[key]
            if frame is None:
                continue
            self._frames += 1
            if not subscriber.offer(frame):
                self._subscribers.pop(subscriber, None)
        self._quiet_since = {topics: now if topics in sent else since for topics, since in self._quiet_since.items()
                             if topics in self._subscribers.values()}  # fmt: skip
