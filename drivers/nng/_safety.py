"""The safety sockets: a `pub` that says releases, a `rep` that hears acknowledgements and polls. Nothing else.

They share no socket, context or task with the work sockets, and nothing here awaits anything but the wire: a flood of
scans costs a release at most a turn of the event loop.
"""

from __future__ import annotations

from collections.abc import Callable

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
    MAX_SAFETY_BYTES,
    Release,
    SafetyRequest,
    SafetyState,
    decode_safety_request,
    decode_safety_state,
    encode,
    publish_release,
)
from protocols.errors import LinkError

CONTEXTS = 32  # polls and acknowledgements in hand at the same time
SEND_DEADLINE_S = 0.5  # a lane that does not take its answer polls again
BROKEN_PAUSE_S = 0.01  # before listening again after an error, so that a lasting one cannot spin
LINGER_S = 0.2  # closing waits this long for a release that was just published to leave

log = structlog.get_logger(__name__)


class SafetyStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start."""

    published: int
    unpublished: int  # `publish` while the sockets were not open
    requests: int
    bad_messages: int
    dropped_connections: int  # dropped by NNG itself, because a message was too large or the peer does not speak SP
    failures: int  # `on_request` raised
    unsent_answers: int


async def ask_safety(url: str, request: SafetyRequest, deadline_s: float) -> SafetyState | None:
    """Ask a safety `rep` socket once, on a socket of its own. None when there is no (good) answer in time."""
    req = _sockets.open_req()
    with _sockets.dialled(req, url, MAX_SAFETY_BYTES):
        try:
            return decode_safety_state(await _sockets.exchange(req, encode(request), deadline_s))
        except (LinkTimeout, LinkError):
            return None


class SafetyServer:
    """Publishes releases and answers lanes. `run` serves until cancelled.

    `on_request` is synchronous and must be quick: it notes the acknowledgement or poll and returns what is latched.
    When it raises, the lane gets no answer (it asks again) rather than a wrong "nothing is latched".
    """

    def __init__(
        self,
        release_url: str,
        safety_url: str,
        on_request: Callable[[SafetyRequest], SafetyState],
        *,
        keys: tuple[str, str] = ("link.release", "link.safety"),
        contexts: int = CONTEXTS,
    ) -> None:
        """`keys` are the site file's names of the two addresses. Raises LinkAddressError when one is not loopback."""
        self._keys = keys
        check_loopback(keys[0], release_url)
        check_loopback(keys[1], safety_url)
        self.release_url = release_url  # with the port really bound, once `run` has started
        self.safety_url = safety_url
        self._on_request = on_request
        self._contexts = contexts
        self._pub: pynng.Pub0 | None = None
        self._throttle = Throttle()
        self._drops = Drops(self._dropped)
        self._last_publish = -1e9
        self._published = self._unpublished = self._requests = self._bad = self._failures = self._unsent = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises DeviceUnavailable when an address cannot be bound."""
        with (
            _sockets.listening(_sockets.open_pub, self._keys[0], self.release_url, 1) as pub,
            _sockets.listening(_sockets.open_rep, self._keys[1], self.safety_url, MAX_SAFETY_BYTES) as rep,
        ):
            self.release_url, self.safety_url = pub.url, rep.url
            self._pub = pub.socket
            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(self._contexts):
                        nursery.start_soon(self._serve, rep.socket)
                    nursery.start_soon(self._drops.watch, rep)
                    task_status.started()
            finally:
                self._pub = None
                with trio.CancelScope(shield=True):  # bounded by LINGER_S: NNG drops what is queued when it closes
                    await trio.sleep(max(0.0, self._last_publish + LINGER_S - trio.current_time()))

    def publish(self, release: Release) -> bool:
        """Send `release` to every lane now. Never waits, never raises.

        Handed to NNG in the caller's own turn, so nothing can stand before it.  False when the sockets are not open:
        publish again until everybody acknowledged, which is the caller's duty anyway (a publication can be lost).
        """
        if self._pub is None or not _sockets.publish_now(self._pub, publish_release(release)):
            self._unpublished += 1
            return False
        self._published += 1
        self._last_publish = trio.current_time()
        return True

    def statistics(self) -> SafetyStatistics:
        return SafetyStatistics(
            published=self._published,
            unpublished=self._unpublished,
            requests=self._requests,
            bad_messages=self._bad,
            dropped_connections=self._drops.total(),
            failures=self._failures,
            unsent_answers=self._unsent,
        )

    async def _serve(self, rep: pynng.Rep0) -> None:
        with _sockets.context(rep) as ctx:
            while True:
                try:
                    data = await _sockets.receive(ctx)
                except LinkTimeout:  # that connection broke; the context serves the next one
                    await trio.sleep(BROKEN_PAUSE_S)
                    continue
                state = self._answer(data)
                if state is None:
                    continue  # receiving again drops the request
                try:
                    await _sockets.send(ctx, encode(state), SEND_DEADLINE_S)
                except LinkTimeout:
                    self._unsent += 1

    def _dropped(self, new: int) -> None:
        count = self._throttle.due("dropped_connection")
        if count:
            log.warning("safety.dropped_connection", count=count, dropped=new, limit_bytes=MAX_SAFETY_BYTES)

    def _answer(self, data: bytes) -> SafetyState | None:
        self._requests += 1
        try:
            request = decode_safety_request(data)
        except LinkError as exc:
            self._bad += 1
            count = self._throttle.due("bad_message")
            if count:
                log.warning("safety.bad_message", count=count, error=str(exc)[:200], bytes=len(data))
            return None
        try:
            return self._on_request(request)
        except Exception as exc:  # the next lane's acknowledgement must not suffer for this one's
            self._failures += 1
            count = self._throttle.due("failure")
            if count:
                log.error("safety.failure", count=count, exc_info=exc)
            return None
