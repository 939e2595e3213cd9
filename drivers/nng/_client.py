"""A device's end of the link: what the simulated gates use, and the reference for whoever builds a real one.

Work: `ask` sends a request and re-sends it, same bytes and so same `seq`, until it is answered; `deliver` also takes
"not now" for no answer, for what must not be lost.  Safety: both the server and `paifang evacuate` are subscribed to
and polled each second, each in tasks of its own, because either may hang while the other says "open".
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypedDict

import msgspec
import pynng
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from drivers.nng import _sockets
from drivers.nng._clock import ServerClock
from drivers.nng._endpoint import SafetyEndpoint, Sensed
from drivers.nng._errors import LinkTimeout
from drivers.nng._throttle import Throttle
from drivers.nng._tls import LinkTls, client_config
from protocols.devicelink import (
    EVERYBODY,
    MAX_SAFETY_BYTES,
    MAX_WORK_BYTES,
    VERSION,
    VERSIONS,
    Heartbeat,
    Hello,
    Refused,
    Release,
    ReleaseAck,
    SafetyPoll,
    Wake,
    Welcome,
    WorkReply,
    WorkRequest,
    decode_publication,
    decode_reply,
    encode,
    verify_release,
)
from protocols.errors import LinkError

ATTEMPT_S = 2.5  # one try of a request; a little above the server's own deadline, so that its `unavailable` is heard
HANDOVER_S = 5.0  # a connection with a new certificate is waited for so long before the old one is given up
HANDOVER_STEP_S = 0.05
# When a server was stopped, killed and started, a dialler of NNG has been seen never to connect again: whoever asks
# in vain for so long, and so often, dials anew.
STUCK_S = 10.0
STUCK_MAX_S = 60.0  # it doubles while nobody answers: most often there is no server
STUCK_TRIES = 3
WATCH_S = 1.0
RETRY_MIN_S = 0.1  # pause before the second try; doubles
RETRY_MAX_S = 2.0
ASKS_MAX = 8  # requests of one device that are outstanding at the same time; the server takes no more of one device
REPLY_MAX_BYTES = MAX_WORK_BYTES  # a part of the lists fills it
INCIDENTS_MAX = 64  # handled incidents that are remembered

log = structlog.get_logger(__name__)


class LinkAddresses(Protocol):
    """The `[link]` table of the site file (`paifang.site.Link`), NNG addresses."""

    @property
    def work(self) -> str: ...
    @property
    def wake(self) -> str: ...
    @property
    def release(self) -> str: ...
    @property
    def safety(self) -> str: ...
    @property
    def evacuate_release(self) -> str: ...
    @property
    def evacuate_safety(self) -> str: ...


class Header(TypedDict):
    """The fields that every work request starts with: `Scan(**client.header(), nonce=…)`."""

    device: str
    boot: str
    seq: int
    at: float


class ClientStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start. `connected` is the work socket's."""

    connected: bool
    asked: int
    answered: int
    resent: int
    bad_replies: int  # not a message, or the answer to something else
    wakes: int
    releases: int  # incidents handed to `on_release`
    bad_releases: int  # signature, key or site wrong
    polls_unanswered: int
    clock_offset_s: float | None  # the server's clock minus ours, from the quickest of the last answers
    round_trip_s: float | None  # of that answer


class LinkClient:
    """One device. `run` keeps the link up until cancelled; the other methods may be used while it runs.

    `on_release` is called once per incident, synchronously, as soon as a release with a good signature arrives from
    anywhere; `sensed` is asked for the state that acknowledgements and polls report.  `on_link(up)` tells when the
    work connection comes (say `Hello` then) and goes.  `on_wake`: commands wait to be fetched; `on_lists`: the lists of
    lane controllers have changed.  Losing the link opens and closes nothing.
    """

    def __init__(
        self,
        link: LinkAddresses,
        device: str,
        release_keys: Mapping[str, Ed25519PublicKey],
        *,
        site: str,
        sensed: Callable[[], Sensed],
        on_release: Callable[[Release], None],
        lane: str = "",
        on_wake: Callable[[], None] = lambda: None,
        on_lists: Callable[[], object] = lambda: None,
        on_link: Callable[[bool], None] = lambda up: None,
        boot: str | None = None,
        clock: Callable[[], float] = time.time,
        tls: LinkTls | None = None,
    ) -> None:
        """`lane` is this device's lane, for releases of one lane only; `boot` defaults to a fresh random name.

        With `tls` the addresses are `tls+tcp://…`.  Raises LinkTlsError when its files cannot be used.
        """
        self.device = device
        self.boot = boot or secrets.token_hex(8)
        self._link = link
        self._keys = release_keys
        self._site = site
        self._lane = lane
        self.sensed = sensed
        self._on_release = on_release
        self._on_wake = on_wake
        self._on_lists = on_lists
        self._on_link = on_link
        self._clock = clock
        self._work_tls = None if tls is None else client_config(tls)
        self.safety_tls = None if tls is None else client_config(tls, check_server=False)  # releases are signed
        self._seq = 0
        self._work: pynng.Req0 | None = None
        self._ready = trio.Event()
        self._renewed = trio.Event()  # another certificate is to be used
        self._limit = trio.CapacityLimiter(ASKS_MAX)
        self._throttle = Throttle()
        self._incidents: dict[int, Release] = {}  # handled ones, oldest first
        self._endpoints = (
            SafetyEndpoint(self, link.release, link.safety),
            SafetyEndpoint(self, link.evacuate_release, link.evacuate_safety),
        )
        self._clocks = ServerClock()
        self.version = VERSION  # what the server has agreed to; GetList and Upload need 2
        self.connected = False
        self._asked = self._answered = self._resent = self._bad_replies = 0
        self._wakes = self._releases = self._bad_releases = self._unanswered = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link up until cancelled. Ready at once: ready never means connected."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_working)
            for endpoint in self._endpoints:
                nursery.start_soon(endpoint.run)
            task_status.started()

    def use(self, tls: LinkTls) -> None:
        """Go on with another certificate: the work sockets are dialled anew, and what was asked is asked again.

        The safety sockets take it at the next start: no date is looked at there.  Raises LinkTlsError; then everything
        stays as it is.
        """
        self._work_tls = client_config(tls)
        self._renewed.set()

    async def _keep_working(self) -> None:
        """The work sockets, until cancelled: those of a new certificate first, then an end of the old ones."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                self._renewed = trio.Event()
                await nursery.start(self._work_with, self._renewed)
                await self._renewed.wait()

    async def _watch(self) -> None:
        """Dial anew when questions stay without any answer."""
        answered, tried, since, patience_s = -1, 0, 0.0, STUCK_S
        while True:
            await trio.sleep(WATCH_S)
            now, tries = trio.current_time(), self._asked + self._resent
            if answered != self._answered:
                answered, tried, since, patience_s = self._answered, tries, now, STUCK_S
            elif now - since >= patience_s and tries - tried >= STUCK_TRIES:
                self.log("dialled_anew", unanswered_s=round(now - since, 1))
                self._renewed.set()
                tried, since, patience_s = tries, now, min(2 * patience_s, STUCK_MAX_S)

    async def _work_with(self, renewed: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """One pair of work sockets, from when it is in use until nothing is asked over it any more."""
        came = trio.Event()

        def changed(up: bool) -> None:
            if up:
                came.set()
            self._link_changed(work, up)

        work = _sockets.open_req()
        _sockets.watch_pipes(work, changed)
        with _sockets.dialled(work, self._link.work, REPLY_MAX_BYTES, tls=self._work_tls):
            if self._work is not None:
                with trio.move_on_after(HANDOVER_S):
                    await came.wait()
            before, self._work = self._work, work
            self._ready.set()
            if before is not None:
                self._link_changed(work, came.is_set())
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen_wakes)
                    task_status.started()
                    await renewed.wait()
                    while self._work is work:  # noqa: ASYNC110 - the other pair says so, within HANDOVER_S
                        await trio.sleep(HANDOVER_STEP_S)
                    await trio.sleep(ATTEMPT_S)  # whoever asks over this one has given up by then
                    nursery.cancel_scope.cancel()
            finally:
                if self._work is work:
                    self._work = None
                    self._ready = trio.Event()
                    self.connected = False

    def header(self) -> Header:
        """The header of the next request: takes the next `seq`."""
        self._seq += 1
        return Header(device=self.device, boot=self.boot, seq=self._seq, at=self._clock())

    async def ask(self, request: WorkRequest, deadline_s: float) -> WorkReply:
        """Send until answered. Raises LinkTimeout after `deadline_s`: it may have been carried out nevertheless.

        `Refused` is an answer, also `unavailable`.  Any number of tasks may ask; at most ASKS_MAX at a time are sent.
        """
        if isinstance(request, Hello) and not request.speaks:
            request = msgspec.structs.replace(request, speaks=list(VERSIONS))
        elif isinstance(request, Heartbeat) and request.round_trip_s is None:
            request = msgspec.structs.replace(request, round_trip_s=self._clocks.round_trip_s)
        with trio.move_on_after(deadline_s):
            async with self._limit:
                return await self._ask(encode(request), request.seq)
        raise LinkTimeout(f"{type(request).__name__} seq {request.seq}: no answer within {deadline_s:g} s")

    async def deliver(self, request: WorkRequest) -> WorkReply:
        """Send until the server has it, however long that takes: for passages and the ends of grants.

        Returns the first answer that is not "come again" (`unavailable`, `too_many`).  Bounded by the caller's
        cancellation alone, because such a message must never be given up.
        """
        data = encode(request)
        pause_s = RETRY_MIN_S
        while True:
            async with self._limit:
                reply = await self._ask(data, request.seq)
            if not (isinstance(reply, Refused) and reply.code in {"unavailable", "too_many"}):
                return reply
            self._resent += 1
            await trio.sleep(pause_s * (0.5 + secrets.randbelow(1000) / 1000))
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    def statistics(self) -> ClientStatistics:
        return ClientStatistics(
            connected=self.connected,
            asked=self._asked,
            answered=self._answered,
            resent=self._resent,
            bad_replies=self._bad_replies,
            wakes=self._wakes,
            releases=self._releases,
            bad_releases=self._bad_releases,
            polls_unanswered=self._unanswered,
            clock_offset_s=self._clocks.offset_s,
            round_trip_s=self._clocks.round_trip_s,
        )

    async def _ask(self, data: bytes, seq: int) -> WorkReply:
        self._asked += 1
        pause_s = RETRY_MIN_S
        while True:
            await self._ready.wait()
            work = self._work
            assert work is not None
            try:
                start, start_at = trio.current_time(), self._clock()
                reply = decode_reply(await _sockets.exchange(work, data, ATTEMPT_S))
                self._clocks.answered(start_at, trio.current_time() - start, reply.server_at)
                if isinstance(reply, Welcome):
                    self.version = reply.v
                if reply.seq == seq or (isinstance(reply, Refused) and reply.seq == 0):
                    self._answered += 1
                    return reply
                raise LinkError(f"an answer to seq {reply.seq} instead of {seq}")
            except LinkTimeout:
                pass
            except LinkError as exc:
                self._bad_replies += 1
                self.log("bad_reply", error=str(exc)[:200])
            self._resent += 1
            await trio.sleep(pause_s * (0.5 + secrets.randbelow(1000) / 1000))
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def _listen_wakes(self) -> None:
        sub = _sockets.open_sub(b"wake/")
        with _sockets.dialled(sub, self._link.wake, MAX_SAFETY_BYTES, tls=self._work_tls):
            while True:
                try:
                    publication = decode_publication(await _sockets.receive(sub))
                except LinkError as exc:
                    self.log("bad_publication", error=str(exc)[:200])
                    continue
                if not isinstance(publication, Wake):
                    continue
                if publication.device == self.device:
                    self._wakes += 1
                    self._on_wake()
                elif publication.device == EVERYBODY:
                    self._on_lists()

    def _link_changed(self, work: pynng.Req0, up: bool) -> None:
        if self._work is not work:  # the end of a connection that we have closed ourselves
            return
        self.connected = up
        self._on_link(up)

    def release_arrived(self, release: Release) -> bool:
        """Check a release; if it is new, hand it over. True when it is genuine and meant for us."""
        key = self._keys.get(release.key)
        try:
            if key is None:
                raise LinkError(f"no release key {release.key!r}")
            if release.site != self._site:
                raise LinkError(f"a release of site {release.site!r}")
            verify_release(release, key)
        except LinkError as exc:
            self._bad_releases += 1
            self.log("bad_release", error=str(exc)[:200])
            return False
        if release.scope not in {"site", self._lane}:
            return False
        if release.incident in self._incidents:
            return True
        if len(self._incidents) >= INCIDENTS_MAX:
            del self._incidents[next(iter(self._incidents))]
        self._incidents[release.incident] = release
        self._releases += 1
        self._on_release(release)
        for endpoint in self._endpoints:  # whoever published it, both may be waiting for the acknowledgement
            endpoint.owe(release.incident)
        return True

    def poll_message(self) -> SafetyPoll:
        sensed = self.sensed()
        return SafetyPoll(
            device=self.device,
            released=sensed.released,
            incident=sensed.incident,
            barrier=sensed.barrier,
            at=self._clock(),
            proof=self._incidents.get(sensed.incident) if sensed.released and sensed.incident is not None else None,
        )

    def ack_message(self, incident: int) -> ReleaseAck:
        sensed = self.sensed()
        return ReleaseAck(
            device=self.device, incident=incident, barrier=sensed.barrier, sensed_open=sensed.open, at=self._clock()
        )

    def poll_unanswered(self) -> None:
        self._unanswered += 1

    def log(self, what: str, **values: object) -> None:
        count = self._throttle.due(what)
        if count:
            log.warning(f"link.{what}", device=self.device, count=count, **values)
