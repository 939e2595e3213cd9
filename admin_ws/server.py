"""The actor behind the console's port: listens, looks at each connection's first request, and sends it on."""

from __future__ import annotations

import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from core import Address, Stop
from protocols.console_accounts import EndSessions

from ._peer import CLOSE_TIMEOUT_S
from .channel import Channel, ChannelStatistics, Record, Route
from .front import BadHead, Head, ReplayStream, read_head, refuse, same_origin
from .pages import STATIC_FOLDER, load_pages, make_application, make_server

MAX_CONNECTIONS = 512  # pages and channels together
MAX_CONNECTIONS_PER_HOST = 320
HEAD_TIMEOUT_S = 5.0  # from accepting (or, with TLS, from the end of its handshake) to the end of the head
TLS_TIMEOUT_S = 5.0
BACKLOG = 128
KEEP_ALIVE_IDLE_S, KEEP_ALIVE_INTERVAL_S, KEEP_ALIVE_PROBES = 5, 2, 3
UNACKNOWLEDGED_S = 10  # sent data that stays unacknowledged this long ends the connection: the cable is out

CHANNEL_PATH = "/channel"

_log = structlog.get_logger("admin_ws.server")


class ConsoleStatistics(msgspec.Struct, frozen=True):
    """Open connections, and what the channel says of itself."""

    connections: int
    channel: ChannelStatistics


class Console:
    """Pages and the console channel on one port. `run` is the actor's main.

    Args:
        host, port: where to listen; port 0 takes a free one, see `.port`.
        hub: address of the consoles hub (`admin_ws.hub.Hub`).
        accounts: answers `Login` and `Resume` with a `Session`.
        routes: the methods that pages may call.
        site_id, site_name: shown by `/healthz`.
        view_permission: what a session needs for `site.subscribe`; "" is being logged in.
        metrics: text for `/metrics`; without it there is no such page.
        ready: for `/readyz`, what visitors can only be let in with, and whether it is there.
        record: notes commands for the audit log, see `channel.Record`.
        tls: serve HTTPS and WSS only.
        static_folder: what Vite built.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        hub: Address,
        accounts: Address,
        routes: Sequence[Route],
        site_id: str,
        site_name: str,
        view_permission: str = "",
        metrics: Callable[[], bytes] | None = None,
        ready: Callable[[], Mapping[str, bool]] = dict,
        record: Record | None = None,
        tls: ssl.SSLContext | None = None,
        static_folder: Path = STATIC_FOLDER,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._site_id, self._site_name, self._hub = site_id, site_name, hub
        self._static_folder, self._metrics, self._ready = static_folder, metrics, ready
        self.channel = Channel(
            hub=hub, accounts=accounts, routes=routes, view_permission=view_permission, record=record
        )
        self._open: dict[trio.SocketStream, None] = {}
        self._hosts: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """The port being listened on; 0 before the first start if none was given."""
        return self._port

    def statistics(self) -> ConsoleStatistics:
        """A look from outside."""
        return ConsoleStatistics(connections=len(self._open), channel=self.channel.statistics())

    async def run(self, me: Address) -> None:
        """Serve until `Stop`; then say goodbye to every page and close.

        Raises:
            OSError: the port is taken or not ours; a supervisor tries again.
        """
        pages = load_pages(self._static_folder)
        if not pages:
            _log.warning("console_not_built", folder=str(self._static_folder))
        serve_pages = make_server(
            make_application(
                pages, health=self._health, metrics=self._metrics, ready=self._ready, secure=self._tls is not None
            )
        )
        listeners = await trio.open_tcp_listeners(self._port, host=self._host, backlog=BACKLOG)
        if self._port == 0:  # `localhost` may be two sockets, which would get two different ports
            for extra in listeners[1:]:
                await extra.aclose()
            listeners = listeners[:1]
            self._port = listeners[0].socket.getsockname()[1]

        async def handle(raw: trio.SocketStream) -> None:
            await self._handle(raw, serve_pages)

        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                await accepting.start(partial(trio.serve_listeners, handle, listeners, handler_nursery=connections))
                me.state = f"listening on {self._host}:{self._port}"
                while True:
                    envelope = await me.receive()
                    if isinstance(envelope.msg, Stop):
                        break
                    if isinstance(envelope.msg, EndSessions):
                        self.channel.end_sessions(envelope.msg.sessions)
                        continue
                    envelope.fail(TypeError(f"the console server takes no {type(envelope.msg).__name__}"))
                me.state = "closing"
                accepting.cancel_scope.cancel(reason="the console server stops")  # closes the listeners, too
            self.channel.close_all()
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await self.channel.wait_empty()
            for raw in tuple(self._open):  # ends even a send that a library shields from cancellation
                raw.socket.close()
            connections.cancel_scope.cancel(reason="the console server stops")

    def _health(self) -> dict[str, object]:
        alive = self._hub.alive
        return {
            "status": "ok" if alive else "degraded",
            "site": self._site_id,
            "name": self._site_name,
            "hub": self._hub.state,
        }

    async def _handle(self, raw: trio.SocketStream, serve_pages: Callable[[ReplayStream], object]) -> None:
        """One TCP connection, from accepting to closing. Whatever goes wrong in it stays in it."""
        try:
            host = raw.socket.getpeername()[0]
        except OSError:  # gone already
            await trio.aclose_forcefully(raw)
            return
        self._open[raw] = None
        self._hosts[host] += 1
        try:
            if len(self._open) > MAX_CONNECTIONS or self._hosts[host] > MAX_CONNECTIONS_PER_HOST:
                self.channel.count("refused.connections")
                await refuse(raw, 503, "too many connections")
                return
            _detect_dead_lines(raw)
            await self._look_and_serve(raw, host, serve_pages)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.channel.count("connection.broken")
        except* Exception as group:
            self.channel.count("connection.failed")
            _log.warning("connection_failed", host=host, exc_info=group)
        finally:
            del self._open[raw]
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            await trio.aclose_forcefully(raw)

    async def _look_and_serve(
        self, raw: trio.SocketStream, host: str, serve_pages: Callable[[ReplayStream], object]
    ) -> None:
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = raw
        if self._tls is not None:
            stream = trio.SSLStream(raw, self._tls, server_side=True, https_compatible=True)
            with trio.move_on_after(TLS_TIMEOUT_S) as patience:
                await stream.do_handshake()
            if patience.cancelled_caught:
                self.channel.count("refused.tls")
                return
        try:
            head, data = await read_head(stream, HEAD_TIMEOUT_S)
            check(head)
        except BadHead as error:
            self.channel.count("refused.head")
            if error.status is not None:
                await refuse(stream, error.status, str(error))
            return
        replay = ReplayStream(stream, data)
        if head.path != CHANNEL_PATH:
            await serve_pages(replay)  # type: ignore[misc]
        elif not same_origin(head):
            self.channel.count("refused.origin")
            await refuse(stream, 403, "a page of another origin may not open the channel")
        elif not self.channel.has_room(host):
            self.channel.count("refused.full")
            await refuse(stream, 503, "too many consoles")
        else:
            await self.channel.serve(replay, host)


def check(head: Head) -> None:
    """Raises BadHead for requests that neither the pages nor the channel serve."""
    if head.method not in ("GET", "HEAD"):
        raise BadHead(405, "GET and HEAD only")
    if "transfer-encoding" in head.headers or head.headers.get("content-length", "0") != "0":
        raise BadHead(400, "no request here has a body")
    if head.path == CHANNEL_PATH:
        if head.upgrade != "websocket" or head.method != "GET":
            raise BadHead(426, "this path speaks WebSocket")
    elif head.upgrade:
        raise BadHead(400, "nothing to upgrade to")


def _detect_dead_lines(raw: trio.SocketStream) -> None:
    """Let the kernel notice a client whose cable was pulled, in seconds instead of a quarter of an hour."""
    options = [(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEP_ALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEP_ALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_S * 1000),  # milliseconds
    ):
        if hasattr(trio.socket, name):  # Linux has them all
            options.append((trio.socket.IPPROTO_TCP, getattr(trio.socket, name), value))
    for level, option, value in options:
        with contextlib.suppress(OSError):  # gone already: the first read says so
            raw.setsockopt(level, option, value)
