"""The actor that owns the device link: it routes a device's words to its lane, and a release to everybody.

Only devices of the site file exist; anybody else is refused and shown on the console.  The safety side answers polls
from memory, synchronously, and touches nothing of the work side.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

import structlog
import trio

from actors._clocks import DeviceClocks
from actors._common import offer
from actors.evacuation import Broadcast
from actors.lane import LinkCall, SafetySeen
from actors.lane._link import Wake
from actors.lists import LaneCall
from core import ActorError, Address, Stop, new_trace
from protocols import devicelink as link
from protocols.console import DeviceView, FeedEvent
from protocols.messages import Telemetry

LANE_ANSWER_S = 1.8  # a little less than the link's own answer deadline
UNKNOWN_SHOWN_MAX = 50  # different unknown device names shown on the console; a scanner of names must not fill it
UNKNOWN_EVERY_S = 10.0  # between two feed lines about unknown devices
STATISTICS_EVERY_S = 5.0
PUBLISHED_AT_ONCE = 8  # releases of single lanes: half of what may wait for a subscriber
PUBLISH_EVERY_S = 0.05
CLOCK_TOLERANCE_S = 30.0  # a device's clock that is further off is told to people
WORK_RETRY_MIN_S, WORK_RETRY_MAX_S = 0.1, 2.0  # between two tries to open the work sockets


log = structlog.get_logger(__name__)


class WorkSocket(Protocol):
    """`drivers.nng.WorkServer`."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...
    def wake(self, device: str) -> None: ...
    def recheck(self) -> int: ...


class SafetySocket(Protocol):
    """`drivers.nng.SafetyServer`."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...
    def publish(self, release: link.Release) -> bool: ...
    def recheck(self) -> int: ...


Handler = Callable[[link.WorkRequest], Awaitable[link.WorkReply]]
OnSafety = Callable[[link.SafetyRequest], link.SafetyState]
Watch = Callable[[Callable[[], None]], Awaitable[None]]


class _Publish(Telemetry, frozen=True, kw_only=True):
    """Go on publishing."""


class LinkActor:
    """Child of `safety`. `lanes` maps a device's name to its lane's (name, address).

    `make_work` and `make_safety` build the sockets round our two handlers; they are made anew at each start.  `watch`
    calls back whenever connections that are open may no longer be wanted.  `books` hears of clocks that are off.
    `services` answer what is no matter of the lane's actor: lists, and journals.
    """

    def __init__(
        self,
        *,
        site: str,
        lanes: Mapping[str, tuple[str, Address]],
        hub: Address,
        make_work: Callable[[Handler], WorkSocket],
        make_safety: Callable[[OnSafety], SafetySocket],
        watch: Watch | None = None,
        books: Address | None = None,
        clock_tolerance_s: float = CLOCK_TOLERANCE_S,
        services: Mapping[type[link.WorkRequest], Address] | None = None,
    ) -> None:
        self._services = services or {}
        names = {device: lane for device, (lane, _) in lanes.items()}
        self._clocks = DeviceClocks(clock_tolerance_s, names, hub=hub, books=books)
        self._watch = watch
        self._site = site
        self._lanes = lanes
        self._hub = hub
        self._make_work = make_work
        self._make_safety = make_safety
        self._release: link.Release | None = None
        self._releases: dict[str, link.Release] = {}  # by lane, while not the whole site is released
        self._safety: SafetySocket | None = None
        self._said: Broadcast | None = None  # published by `say`, and told to us as well
        self._to_publish: collections.deque[link.Release] = collections.deque()
        self._unknown: dict[str, int] = {}
        self._unknown_told_at = -UNKNOWN_EVERY_S

    def say(self, broadcast: Broadcast) -> None:
        """Publish in the caller's turn: before the tasks of hundreds of lanes, which were told as well, have theirs.

        For the evacuation alone, which tells us the same again, should we not be there now. Never waits, never raises.
        """
        if self._safety is None:
            return
        try:
            self._take(broadcast)
        except Exception:  # whatever it is, the evacuation goes on
            log.exception("link.not_said")

    def _take(self, broadcast: Broadcast) -> None:
        """A new broadcast is published; one that was just said already is not."""
        if broadcast is self._said or self._safety is None:
            return
        self._release, self._releases = broadcast.release, broadcast.lanes
        self._publish(self._safety)
        self._said = broadcast

    async def run(self, me: Address) -> None:
        self._me, self._safety, self._said = me, None, None
        work = self._make_work(self._on_work)
        safety = self._make_safety(self._on_safety)
        async with trio.open_nursery() as nursery:
            await nursery.start(safety.run)
            self._safety = safety
            self._publish(safety)  # restarted in the middle of an evacuation
            nursery.start_soon(self._keep_working, work)
            if self._watch is not None:
                nursery.start_soon(self._watch, partial(self._recheck, work, safety))
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Broadcast() as broadcast:
                        self._take(broadcast)
                        self._said = None  # the same one told again is a repetition, and meant
                    case _Publish():
                        self._publish_some(safety)
                    case Wake(device=device):
                        work.wake(device)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    def _publish(self, safety: SafetySocket) -> None:
        """Say the release of the whole site, or those of single lanes: some now, the others when those have left."""
        self._to_publish.clear()
        if self._release is not None:
            safety.publish(self._release)
            return
        self._to_publish.extend(self._releases.values())
        self._publish_some(safety)

    def _publish_some(self, safety: SafetySocket) -> None:
        """Everybody hears every publication, and who has too many waiting is cut off. A lane's poll finds its own."""
        for _ in range(min(PUBLISHED_AT_ONCE, len(self._to_publish))):
            safety.publish(self._to_publish.popleft())
        if self._to_publish:
            self._me.set_timer("publish", PUBLISH_EVERY_S, _Publish())

    async def _keep_working(self, work: WorkSocket) -> None:
        """Serve the work sockets for ever. What is wrong with them (a port that is taken) is not safety's trouble."""
        pause_s = WORK_RETRY_MIN_S
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(work.run)
                    if pause_s > WORK_RETRY_MIN_S:
                        self._show_work("")
                    pause_s = WORK_RETRY_MIN_S
            except* Exception as group:
                words = "; ".join(str(each) for each in group.exceptions)[:200]
                self._show_work(words)
                log.warning("link.work_down", error=words, pause_s=pause_s)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, WORK_RETRY_MAX_S)

    def _recheck(self, work: WorkSocket, safety: SafetySocket) -> None:
        ended = work.recheck() + safety.recheck()
        if ended:
            log.warning("link.ended", connections=ended, why="certificate revoked or run out")

    def _show_work(self, trouble: str) -> None:
        availability = "unavailable" if trouble else "available"
        self._hub.tell(DeviceView(device="link", kind="link", lane="", availability=availability, detail=trouble))

    async def _on_work(self, request: link.WorkRequest) -> link.WorkReply:
        """One request of a device, answered by its lane. Called from a task of the link's own."""
        known = self._lanes.get(request.device)
        if known is None:
            self._stranger(request.device)
            return _refused(request, "unknown_device", "this device is not in the site file")
        lane, address = known
        heard = self._clocks.heard(request)
        call: LinkCall | LaneCall = LinkCall(request=heard)
        service = self._services.get(type(request))
        if service is not None:  # with the device's own clock: whoever books it puts all its times right
            address, call = service, LaneCall(lane=lane, request=request)
        elif isinstance(request, link.GetList | link.Upload | link.Renew):
            return _refused(request, "unavailable", "this server has no lists, takes no journals, renews nothing")
        try:
            reply = await address.ask(call, LANE_ANSWER_S, trace=new_trace())
        except ActorError:
            return _refused(request, "unavailable", "the lane did not answer in time; repeat")
        if isinstance(reply, link.Welcome):
            return link.Welcome(
                seq=reply.seq,
                server_at=reply.server_at,
                site=self._site,
                lane=reply.lane,
                mode=reply.mode,
                released=reply.released,
                incident=reply.incident,
                v=link.common_version(request) if isinstance(request, link.Hello) else link.VERSION,
            )
        answer: link.WorkReply = reply
        return answer

    def _on_safety(self, request: link.SafetyRequest) -> link.SafetyState:
        """A poll or an acknowledgement: note what the lane senses, answer what is latched."""
        known = self._lanes.get(request.device)
        if known is not None:
            if isinstance(request, link.ReleaseAck):
                seen = SafetySeen(
                    barrier=request.barrier, released=request.sensed_open, incident=request.incident, proof=None
                )
            else:
                proof = b"" if request.proof is None else link.encode(request.proof)
                seen = SafetySeen(
                    barrier=request.barrier, released=request.released, incident=request.incident, proof=proof
                )
            known[1].tell(seen)
            return link.SafetyState(release=self._release or self._releases.get(known[0]))
        return link.SafetyState(release=self._release)

    def _stranger(self, device: str) -> None:
        if device in self._unknown or len(self._unknown) < UNKNOWN_SHOWN_MAX:
            self._unknown[device] = self._unknown.get(device, 0) + 1
            self._hub.tell(
                DeviceView(
                    device=device,
                    kind="link",
                    lane="",
                    availability="unavailable",
                    detail="unknown device, refused",
                    bad_frames=self._unknown[device],
                )
            )
        now = trio.current_time()
        if now - self._unknown_told_at >= UNKNOWN_EVERY_S:
            self._unknown_told_at = now
            offer(
                self._hub,
                FeedEvent(
                    at=time.time(),
                    kind="device",
                    severity="warning",
                    code="device_not_authorised",
                    text_zh=f"拒绝未登记的设备 {device}",
                    text_en=f"Refused unknown device {device}",
                ),
            )


def _refused(request: link.WorkRequest, code: str, text: str) -> link.Refused:
    return link.Refused(seq=request.seq, server_at=time.time(), code=code, text=text)
