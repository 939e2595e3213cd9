"""The safety sockets: a `pub` that says releases, a `rep` that hears acknowledgements and polls. Nothing else.

They share no socket, context or task with the work sockets, and nothing here awaits anything but the wire: a flood of
scans costs a release at most a turn of the event loop.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import msgspec
import structlog
import trio

from drivers.nng import _sockets
from drivers.nng._address import check_address
from drivers.nng._errors import LinkTimeout
from drivers.nng._sp import Ears, Peer, Publisher, Replier, bound
from drivers.nng._throttle import LOG_INTERVAL_S, Throttle
from drivers.nng._tls import SERVER_NAME, LinkTls, client_config
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
from protocols.sp import Protocol

CONTEXTS = 32  # polls and acknowledgements in hand at the same time

log = structlog.get_logger(__name__)


class SafetyStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start."""

    published: int
    unpublished: int  # `publish` while the sockets were not open
    requests: int
    bad_messages: int
    dropped_connections: int  # ended, because a message was too large or the peer does not speak SP
    refused_connections: int  # TLS failed, a certificate that is not accepted, or too many
    wrong_devices: int  # words in another device's name than the certificate's
    failures: int  # `on_request` raised
    unsent_answers: int


async def ask_safety(
    url: str, request: SafetyRequest, deadline_s: float, *, tls: LinkTls | None = None
) -> SafetyState | None:
    """Ask a safety `rep` socket once, on a socket of its own. None when there is no (good) answer in time.

    Raises LinkTlsError when the files of `tls` cannot be used.
    """
    config = None if tls is None else client_config(tls, check_server=False)
    req = _sockets.open_req()
    with _sockets.dialled(req, url, MAX_SAFETY_BYTES, tls=config):
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
        tls: ssl.SSLContext | None = None,
        accepts: Callable[[Peer], bool] = lambda peer: True,
    ) -> None:
        """`keys` are the site file's names of the two addresses; `accepts` is asked about each new connection.

        Raises LinkAddressError for an address that must not be bound.
        """
        check_address(keys[0], release_url, tls)
        check_address(keys[1], safety_url, tls)
        self._release = Ears(keys[0], release_url, Protocol.PUB, 0, tls=tls, accepts=accepts)
        self._safety = Ears(keys[1], safety_url, Protocol.REP, MAX_SAFETY_BYTES, tls=tls, accepts=accepts)
        self._publisher = Publisher(self._release)
        self._replier = Replier(self._safety, self._reply, contexts)
        self._on_request = on_request
        self._throttle = Throttle()
        self._published = self._unpublished = self._requests = self._bad = self._wrong = self._failures = 0
        self._told_dropped = 0

    @property
    def release_url(self) -> str:
        """With the port really bound, once `run` has started."""
        return self._release.url

    @property
    def safety_url(self) -> str:
        return self._safety.url

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises DeviceUnavailable when an address cannot be bound."""
        try:
            async with bound(self._release, self._safety) as (release, safety), trio.open_nursery() as nursery:
                await nursery.start(self._publisher.run, release)
                nursery.start_soon(self._replier.run, safety)
                nursery.start_soon(self._tell_drops)
                task_status.started()
        finally:
            self._log_drops()

    def end(self, name: str) -> int:
        """End all connections of a certificate's name, at once. Returns how many there were."""
        return self._release.end(name) + self._safety.end(name)

    def recheck(self) -> int:
        """Ask `accepts` again about every open connection, and end those that it no longer wants. Returns how many."""
        return self._release.recheck() + self._safety.recheck()

    def publish(self, release: Release) -> bool:
        """Send `release` to every lane now. Never waits, never raises.

        Queued for every connection in the caller's own turn, so nothing can stand before it.  False when the sockets
        are not open: publish again until everybody acknowledged, which is the caller's duty anyway (a publication can
        be lost).
        """
        if not self._publisher.publish(publish_release(release)):
            self._unpublished += 1
            return False
        self._published += 1
        return True

    def statistics(self) -> SafetyStatistics:
        return SafetyStatistics(
            published=self._published,
            unpublished=self._unpublished,
            requests=self._requests,
            bad_messages=self._bad,
            dropped_connections=self._dropped,
            refused_connections=sum(ears.refused + ears.crowded for ears in (self._release, self._safety)),
            wrong_devices=self._wrong,
            failures=self._failures,
            unsent_answers=self._replier.unsent,
        )

    async def _reply(self, peer: Peer, data: bytes) -> bytes | None:
        state = self._answer(peer, data)
        return None if state is None else encode(state)

    @property
    def _dropped(self) -> int:
        return self._release.foreign + self._safety.foreign

    async def _tell_drops(self) -> None:
        while True:
            await trio.sleep(LOG_INTERVAL_S)
            self._log_drops()

    def _log_drops(self) -> None:
        new, self._told_dropped = self._dropped - self._told_dropped, self._dropped
        if new:
            count = self._throttle.due("dropped_connection")
            log.warning("safety.dropped_connection", count=count, dropped=new, limit_bytes=MAX_SAFETY_BYTES)

    def _answer(self, peer: Peer, data: bytes) -> SafetyState | None:
        self._requests += 1
        try:
            request = decode_safety_request(data)
        except LinkError as exc:
            self._bad += 1
            count = self._throttle.due("bad_message")
            if count:
                log.warning("safety.bad_message", count=count, error=str(exc)[:200], bytes=len(data))
            return None
        if peer.name not in (None, SERVER_NAME, request.device):  # `paifang evacuate` asks with the server's own
            self._wrong += 1
            count = self._throttle.due("wrong_device")
            if count:
                log.warning("safety.wrong_device", count=count, device=request.device, certificate=peer.name)
            return None
        try:
            return self._on_request(request)
        except Exception as exc:  # the next lane's acknowledgement must not suffer for this one's
            self._failures += 1
            count = self._throttle.due("failure")
            if count:
                log.error("safety.failure", count=count, exc_info=exc)
            return None
