"""The server's work sockets: a `rep` socket that devices ask, and a `pub` socket that wakes them.

With TLS each device has a certificate, whose name is looked at with every single message.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog
import trio

from drivers.nng._address import check_address
from drivers.nng._sp import Ears, Peer, Publisher, Replier, bound
from drivers.nng._throttle import LOG_INTERVAL_S, Throttle
from protocols.devicelink import (
    MAX_WORK_BYTES,
    Refused,
    WorkReply,
    WorkRequest,
    decode_request,
    encode,
    publish_wake,
)
from protocols.errors import LinkError
from protocols.sp import Protocol

CONTEXTS = 64  # requests that are worked on at the same time, over all devices
PER_DEVICE = 8  # of these for one device name, so that one that floods leaves room for the others
ANSWER_DEADLINE_S = 2.0  # the handler must answer within this, or the device hears `unavailable`
RECEIVE_MAX_BYTES = MAX_WORK_BYTES + 64 * 1024  # up to here we answer `bad_message`; beyond it the connection ends
WAKES_AT_ONCE = 8  # half of what may wait for a subscriber, who hears everybody's
WAKE_STEP_S = 0.02
WAKES_MAX = 4096  # devices that wait to be woken
ERROR_TEXT_MAX = 200  # characters of a complaint that go back to the device

Handler = Callable[[WorkRequest], Awaitable[WorkReply]]

log = structlog.get_logger(__name__)


class WorkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the server's start, and what is going on now."""

    requests: int
    answers: int
    bad_messages: int  # not a message of the device link
    dropped_connections: int  # ended, because a message was too large or the peer does not speak SP
    refused_connections: int  # TLS failed, a certificate that is not accepted, or too many
    wrong_devices: int  # requests in another device's name than the certificate's
    timeouts: int  # the handler did not answer in time
    failures: int  # the handler raised
    too_many: int
    unsent_answers: int  # the device did not take its answer
    wakes: int
    wake_subscribers: int  # open now
    slow_subscribers: int  # cut off because they did not keep up; they come again
    connections: int  # open now
    busy: int  # requests being worked on now
    busy_max: int


class WorkServer:
    """Answers devices. `run` serves until cancelled; `wake` may be called at any time.

    `handler` is called for every well-formed request and must be safe to call twice for the same one: a device
    re-sends what was not answered.  It runs in a task of its own; when it takes longer than `answer_deadline_s` it
    is cancelled and the device hears `Refused(unavailable)`, as it does when the handler raises.
    """

    def __init__(
        self,
        work_url: str,
        wake_url: str,
        handler: Handler,
        *,
        contexts: int = CONTEXTS,
        per_device: int = PER_DEVICE,
        answer_deadline_s: float = ANSWER_DEADLINE_S,
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
        accepts: Callable[[Peer], bool] = lambda peer: True,
    ) -> None:
        """`accepts` is asked about each new connection.

        Raises LinkAddressError for an address that must not be bound.
        """
        check_address("link.work", work_url, tls)
        check_address("link.wake", wake_url, tls)
        self._work = Ears(
            "link.work",
            work_url,
            Protocol.REP,
            RECEIVE_MAX_BYTES,
            tls=tls,
            accepts=accepts,
            changed=self._connection_changed,
        )
        self._wake = Ears("link.wake", wake_url, Protocol.PUB, 0, tls=tls, accepts=accepts)
        self._replier = Replier(self._work, self._reply, contexts)
        self._publisher = Publisher(self._wake)
        self._handler = handler
        self._per_device = per_device
        self._answer_deadline_s = answer_deadline_s
        self._clock = clock
        self._throttle = Throttle()
        self._to_wake: dict[str, None] = {}
        self._wake_wanted = trio.Event()
        self._woken, self._woken_at = 0, float("-inf")  # in this step, and when it began
        self._busy: dict[str, int] = {}
        self._busy_total = 0
        self._busy_max = 0
        self._requests = self._bad = self._wrong = self._timeouts = self._failures = 0
        self._too_many = self._wakes = self._connections = self._told_dropped = 0

    @property
    def work_url(self) -> str:
        """With the port really bound, once `run` has started."""
        return self._work.url

    @property
    def wake_url(self) -> str:
        return self._wake.url

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises DeviceUnavailable when an address cannot be bound."""
        try:
            async with bound(self._work, self._wake) as (work, wake), trio.open_nursery() as nursery:
                nursery.start_soon(self._replier.run, work)
                await nursery.start(self._publisher.run, wake)
                nursery.start_soon(self._tell_drops)
                nursery.start_soon(self._wake_others)
                task_status.started()
        finally:
            self._to_wake.clear()
            self._log_drops()

    def end(self, name: str) -> int:
        """End all connections of a certificate's name, at once. Returns how many there were."""
        return self._work.end(name) + self._wake.end(name)

    def recheck(self) -> int:
        """Ask `accepts` again about every open connection, and end those that it no longer wants. Returns how many."""
        return self._work.recheck() + self._wake.recheck()

    def wake(self, device: str) -> None:
        """Tell `device` to fetch. Never blocks, never raises; a lost wake-up only costs the device's own interval.

        Of many at once the first leave in the caller's turn and the others a few at a time, so that no subscriber is
        cut off for being slow.  A device that waits for its wake-up already gets one.
        """
        now = trio.current_time()
        if now - self._woken_at >= WAKE_STEP_S:
            self._woken, self._woken_at = 0, now
        if not self._to_wake and self._woken < WAKES_AT_ONCE:
            self._wake_now(device)
        elif len(self._to_wake) < WAKES_MAX:
            self._to_wake[device] = None
            self._wake_wanted.set()

    def _wake_now(self, device: str) -> None:
        self._woken += 1
        if self._publisher.publish(publish_wake(device)):
            self._wakes += 1

    async def _wake_others(self) -> None:
        """Those that had to wait, in the order in which they came."""
        while True:
            await self._wake_wanted.wait()
            self._wake_wanted = trio.Event()
            while self._to_wake:
                await trio.sleep(WAKE_STEP_S)
                self._woken, self._woken_at = 0, trio.current_time()
                for device in list(self._to_wake)[:WAKES_AT_ONCE]:
                    del self._to_wake[device]
                    self._wake_now(device)

    def statistics(self) -> WorkStatistics:
        return WorkStatistics(
            requests=self._requests,
            answers=self._replier.answers,
            bad_messages=self._bad,
            dropped_connections=self._dropped,
            refused_connections=sum(ears.refused + ears.crowded for ears in (self._work, self._wake)),
            wrong_devices=self._wrong,
            timeouts=self._timeouts,
            failures=self._failures,
            too_many=self._too_many,
            unsent_answers=self._replier.unsent,
            wakes=self._wakes,
            wake_subscribers=self._publisher.subscribers,
            slow_subscribers=self._publisher.slow,
            connections=self._connections,
            busy=self._busy_total,
            busy_max=self._busy_max,
        )

    async def _reply(self, peer: Peer, data: bytes) -> bytes:
        return encode(await self._answer(peer, data))

    async def _answer(self, peer: Peer, data: bytes) -> WorkReply:
        self._requests += 1
        try:
            request = decode_request(data)
        except LinkError as exc:
            self._bad += 1
            self._log("bad_message", error=str(exc)[:ERROR_TEXT_MAX], bytes=len(data))
            return self._refused(0, "bad_message", str(exc))
        device = request.device
        if peer.name is not None and peer.name != device:
            self._wrong += 1
            self._log("wrong_device", device=device, certificate=peer.name, address=peer.address)
            return self._refused(request.seq, "unknown_device", "the certificate is another device's")
        if self._busy.get(device, 0) >= self._per_device:
            self._too_many += 1
            self._log("too_many", device=device)
            return self._refused(request.seq, "too_many", f"at most {self._per_device} requests at a time")
        self._busy[device] = self._busy.get(device, 0) + 1
        self._busy_total += 1
        self._busy_max = max(self._busy_max, self._busy_total)
        try:
            with trio.move_on_after(self._answer_deadline_s):
                return await self._handler(request)
            self._timeouts += 1
            self._log("timeout", device=device, request=type(request).__name__)
        except Exception as exc:  # whatever went wrong behind us, the link and its other devices carry on
            self._failures += 1
            self._log("failure", exc_info=exc, device=device, request=type(request).__name__)
        finally:
            self._busy_total -= 1
            self._busy[device] -= 1
            if not self._busy[device]:
                del self._busy[device]
        return self._refused(request.seq, "unavailable", "not answered in time; send it again")

    def _refused(self, seq: int, code: str, text: str) -> Refused:
        return Refused(seq=seq, server_at=self._clock(), code=code, text=text[:ERROR_TEXT_MAX])

    def _connection_changed(self, up: bool) -> None:
        self._connections += 1 if up else -1

    @property
    def _dropped(self) -> int:
        return self._work.foreign + self._wake.foreign

    async def _tell_drops(self) -> None:
        while True:
            await trio.sleep(LOG_INTERVAL_S)
            self._log_drops()

    def _log_drops(self) -> None:
        new, self._told_dropped = self._dropped - self._told_dropped, self._dropped
        if new:
            self._log("dropped_connection", dropped=new, limit_bytes=RECEIVE_MAX_BYTES)

    def _log(self, what: str, **values: object) -> None:
        count = self._throttle.due(what)
        if count:
            log.warning(f"link.{what}", count=count, **values)
