"""The server's work sockets: a `rep` socket that devices ask, and a `pub` socket that wakes them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec
import pynng
import structlog
import trio

from drivers.nng import _sockets
from drivers.nng._address import check_loopback
from drivers.nng._drops import Drops
from drivers.nng._errors import LinkTimeout
from drivers.nng._throttle import Throttle
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

CONTEXTS = 64  # requests that are worked on at the same time, over all devices
PER_DEVICE = 8  # of these for one device name, so that one that floods leaves room for the others
ANSWER_DEADLINE_S = 2.0  # the handler must answer within this, or the device hears `unavailable`
SEND_DEADLINE_S = 1.0  # a device that does not take its answer loses it
BROKEN_PAUSE_S = 0.01  # before listening again after an error, so that a lasting one cannot spin
RECEIVE_MAX_BYTES = MAX_WORK_BYTES + 64 * 1024  # up to here we answer `bad_message`; beyond it NNG drops the connection
ERROR_TEXT_MAX = 200  # characters of a complaint that go back to the device

Handler = Callable[[WorkRequest], Awaitable[WorkReply]]

log = structlog.get_logger(__name__)


class WorkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the server's start, and what is going on now."""

    requests: int
    answers: int
    bad_messages: int  # not a message of the device link
    dropped_connections: int  # dropped by NNG itself, because a message was too large or the peer does not speak SP
    timeouts: int  # the handler did not answer in time
    failures: int  # the handler raised
    too_many: int
    unsent_answers: int  # the device did not take its answer
    wakes: int
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
    ) -> None:
        """Raises LinkAddressError when an address is not loopback."""
        check_loopback("link.work", work_url)
        check_loopback("link.wake", wake_url)
        self.work_url = work_url  # with the port really bound, once `run` has started
        self.wake_url = wake_url
        self._handler = handler
        self._contexts = contexts
        self._per_device = per_device
        self._answer_deadline_s = answer_deadline_s
        self._clock = clock
        self._pub: pynng.Pub0 | None = None
        self._throttle = Throttle()
        self._drops = Drops(self._dropped)
        self._busy: dict[str, int] = {}
        self._busy_total = 0
        self._busy_max = 0
        self._requests = self._answers = self._bad = self._timeouts = self._failures = 0
        self._too_many = self._unsent = self._wakes = self._connections = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises DeviceUnavailable when an address cannot be bound."""
        listening = _sockets.listening
        with (
            listening(_sockets.open_rep, "link.work", self.work_url, RECEIVE_MAX_BYTES, self._pipe_changed) as rep,
            listening(_sockets.open_pub, "link.wake", self.wake_url, 1) as pub,
        ):
            self.work_url = rep.url
            self._pub, self.wake_url = pub.socket, pub.url
            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(self._contexts):
                        nursery.start_soon(self._serve, rep.socket)
                    nursery.start_soon(self._drops.watch, rep)
                    task_status.started()
            finally:
                self._pub = None
                self._connections = 0

    def wake(self, device: str) -> None:
        """Tell `device` to fetch. Never blocks, never raises; a lost wake-up only costs the device's own interval."""
        if self._pub is not None and _sockets.publish_now(self._pub, publish_wake(device)):
            self._wakes += 1

    def statistics(self) -> WorkStatistics:
        return WorkStatistics(
            requests=self._requests,
            answers=self._answers,
            bad_messages=self._bad,
            dropped_connections=self._drops.total(),
            timeouts=self._timeouts,
            failures=self._failures,
            too_many=self._too_many,
            unsent_answers=self._unsent,
            wakes=self._wakes,
            connections=self._connections,
            busy=self._busy_total,
            busy_max=self._busy_max,
        )

    async def _serve(self, rep: pynng.Rep0) -> None:
        with _sockets.context(rep) as ctx:
            while True:
                try:
                    data = await _sockets.receive(ctx)
                except LinkTimeout:  # that connection broke; the context serves the next one
                    await trio.sleep(BROKEN_PAUSE_S)
                    continue
                reply = await self._answer(data)
                try:
                    await _sockets.send(ctx, encode(reply), SEND_DEADLINE_S)
                except LinkTimeout:
                    self._unsent += 1
                else:
                    self._answers += 1

    async def _answer(self, data: bytes) -> WorkReply:
        self._requests += 1
        try:
            request = decode_request(data)
        except LinkError as exc:
            self._bad += 1
            self._log("bad_message", error=str(exc)[:ERROR_TEXT_MAX], bytes=len(data))
            return self._refused(0, "bad_message", str(exc))
        device = request.device
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

    def _dropped(self, new: int) -> None:
        self._log("dropped_connection", dropped=new, limit_bytes=RECEIVE_MAX_BYTES)

    def _pipe_changed(self, up: bool) -> None:
        self._connections = max(0, self._connections + (1 if up else -1))

    def _log(self, what: str, **values: object) -> None:
        count = self._throttle.due(what)
        if count:
            log.warning(f"link.{what}", count=count, **values)
