"""The console channel: JSON-RPC 2.0 over a WebSocket, from pages and programs to the actors of the site.

A peer logs in first; then its session's permissions are in memory and decide which methods it may call.  What a method
means is not known here: the composition root gives a table of routes, each a method, its params, and the address that
answers.  The reader of a peer never waits for anything but the next message: answers come from tasks of their own, and
sending is putting a frame into the peer's bounded outbox.

*Evacuation.*  A route with `system=True` is told on the system lane in the same step in which the message was decoded,
before rate limits, without a look-up and without an await; permission for it came with the log-in and outlives the
session's expiry.  The answer says only that it was told; what the lanes did is seen in `EvacuationView`.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, wrap_server_stream

from core import ActorError, Address
from protocols.console_accounts import CheckSession
from protocols.jsonrpc import (
    MAX_REQUEST_BYTES,
    Wire,
    encode_notification,
)

from ._errors import refused_by_actor
from ._peer import CloseCode, Peer, PeerStatistics
from ._requests import LOGIN_TIMEOUT_S, SESSION_OVER, Known, Record, Requests, Route
from .front import RECEIVE_BYTES, ReplayStream
from .hub import Unsubscribe

__all__ = ["Channel", "ChannelStatistics", "Record", "Route"]

MAX_PEERS = 256
MAX_ANONYMOUS_PER_HOST = 16  # connections of one host that have not logged in
HANDSHAKE_TIMEOUT_S = 5.0
REVALIDATE_S = 60.0  # how often a session is checked to be still good
LINGER_S = 1.0  # to let a client read why, when unread bytes of its own would otherwise reset the connection
DAMAGED = (1002, 1007)  # RFC 6455 section 7.4: not WebSocket frames, or not the text that they should be

_log = structlog.get_logger("admin_ws.channel")


class ChannelStatistics(msgspec.Struct, frozen=True):
    """The channel so far. `counts`: an entry per kind of event, `connected`, `refused.<why>`, `closed.<why>`…"""

    peers: list[PeerStatistics]
    counts: dict[str, int]


class Channel(Requests):
    """Serves WebSocket connections that the front accepted.

    Args:
        hub: the consoles hub; `site.subscribe` is answered by it.
        accounts: answers `Login` and `Resume` with a `Session`, or fails them with a coded refusal.
        routes: all other methods.
        view_permission: needed for `site.subscribe`; "" means that being logged in is enough.
        record: notes commands of routes with `audit`.
    """

    def __init__(
        self,
        *,
        hub: Address,
        accounts: Address,
        routes: Iterable[Route],
        view_permission: str = "",
        record: Record | None = None,
    ) -> None:
        super().__init__(hub=hub, accounts=accounts, routes=routes, view_permission=view_permission, record=record)
        self._peers: dict[Peer, None] = {}
        self._empty = trio.Event()
        self._anonymous: collections.Counter[str] = collections.Counter()

    def statistics(self) -> ChannelStatistics:
        """Who is connected, and what was refused and why."""
        return ChannelStatistics(
            peers=[peer.statistics() for peer in self._peers], counts=dict(sorted(self._counts.items()))
        )

    def has_room(self, host: str) -> bool:
        """May one more connection from this host begin?"""
        return len(self._peers) < MAX_PEERS and self._anonymous[host] < MAX_ANONYMOUS_PER_HOST

    def close_all(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Begin to close every connection."""
        for peer in tuple(self._peers):
            peer.close(code)

    def end_sessions(self, sessions: Iterable[str]) -> None:
        """These sessions were revoked: close what uses them. An evacuation needs a new log-in then, too."""
        over = set(sessions)
        for peer in tuple(self._peers):
            if peer.session is not None and peer.session.session in over and not peer.logging_out:
                peer.session_over = True
                peer.close(CloseCode.REVOKED)

    async def wait_empty(self) -> None:
        """Wait until the last connection has ended."""
        while self._peers:
            self._empty = trio.Event()
            await self._empty.wait()

    # -- one connection -----------------------------------------------------------------------------------------

    async def serve(self, stream: ReplayStream, host: str) -> None:
        """Serve one connection to its end. Whatever a client does ends this connection and nothing else."""
        self._anonymous[host] += 1
        anonymous = contextlib.ExitStack()
        anonymous.callback(self._forget_anonymous, host)
        try:
            with anonymous:
                async with trio.open_nursery() as nursery:
                    await self._attend(nursery, stream, anonymous.close)
                    nursery.cancel_scope.cancel()
        except* Exception as group:
            self.count("closed.error")
            _log.warning("peer_failed", host=host, exc_info=group)
        finally:
            await trio.aclose_forcefully(stream)

    def _forget_anonymous(self, host: str) -> None:
        self._anonymous[host] -= 1
        if not self._anonymous[host]:
            del self._anonymous[host]

    async def _attend(self, nursery: trio.Nursery, stream: ReplayStream, known: Callable[[], None]) -> None:
        socket: Any = None
        wire: Wire | None = None
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
            # compression is not offered: a small message cannot become a large one
            request = await wrap_server_stream(
                nursery, stream, max_message_size=MAX_REQUEST_BYTES, receive_buffer_size=RECEIVE_BYTES
            )
            wire = _choose(request)
            if wire is None:
                self.count("refused.subprotocol")
                await request.reject(400, body=b"subprotocol paifang.json or paifang.msgpack\n")
                return
            socket = await request.accept(subprotocol=str(wire))
        if socket is None or wire is None:
            self.count("refused.handshake")
            return
        peer = Peer(socket, wire, stream)
        self._peers[peer] = None
        self.count("connected")
        try:
            nursery.start_soon(peer.write)
            nursery.start_soon(peer.watch)
            nursery.start_soon(self._log_in_soon, peer)
            nursery.start_soon(self._revalidate, peer)
            nursery.start_soon(self._read, peer, nursery, Known(known, stream))
            await peer.end()
        finally:
            del self._peers[peer]
            if not self._peers:
                self._empty.set()
            code = peer.closed_for or CloseCode.GOING_AWAY
            self.count(f"closed.{code.name.lower()}")
            if peer.slow_at:
                self.count(f"too_slow.{peer.slow_at}")
            with contextlib.suppress(ActorError):  # the hub forgets a closed peer anyway at its next delta
                self._hub.tell(Unsubscribe(peer))
        if peer.closed_for is CloseCode.TOO_BIG:
            await _linger(stream)

    async def _revalidate(self, peer: Peer) -> None:
        """Ask from time to time whether the session is still good. Accounts being away changes nothing."""
        while True:
            await trio.sleep(REVALIDATE_S)
            session = peer.session
            if session is None or peer.session_over:
                continue
            try:
                check = CheckSession(token=session.token, idle_s=trio.current_time() - peer.active_at)
                await self._accounts.ask(check, LOGIN_TIMEOUT_S)
            except Exception as error:
                if refused_by_actor(error) and peer.session is session:
                    peer.session_over = True
                    self.count("session_over")
                    with contextlib.suppress(ActorError):  # then it sees a little more than it should, until it closes
                        self._hub.tell(Unsubscribe(peer))
                    peer.offer(encode_notification(peer.wire, SESSION_OVER, {}))

    async def _read(self, peer: Peer, nursery: trio.Nursery, known: Known) -> None:
        while True:
            try:
                message = await peer.socket.get_message()
            except ConnectionClosed as closed:
                code = closed.reason.code if closed.reason is not None else None
                if code in DAMAGED and peer.closed_for is None:
                    self.count("refused.damaged")
                too_big = code == CloseCode.TOO_BIG
                if too_big and peer.closed_for is None:
                    self.count("refused.too_big")
                peer.close(CloseCode.TOO_BIG if too_big else CloseCode.GOING_AWAY)
                return
            self._on_message(peer, message, nursery, known)


def _choose(request: WebSocketRequest) -> Wire | None:
    """The first subprotocol of the client's list that we speak."""
    for name in request.proposed_subprotocols:
        with contextlib.suppress(ValueError):
            return Wire(name)
    return None


async def _linger(stream: ReplayStream) -> None:
    """Half-close and read on for a moment: closing over unread bytes resets, and the reason would be lost."""
    with trio.move_on_after(LINGER_S), contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_eof()
        while await stream.receive_some():
            pass
