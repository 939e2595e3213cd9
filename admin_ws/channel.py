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

from core import ActorError, Address, new_trace
from protocols.console import Done, Login, Resume, Session, Subscription
from protocols.console_accounts import CheckSession
from protocols.errors import RpcError
from protocols.jsonrpc import (
    MAX_REQUEST_BYTES,
    Request,
    RequestId,
    Wire,
    decode_request,
    decode_value,
    encode_error,
    encode_notification,
    encode_result,
)

from ._errors import Failure, failure_of, refusal, refused_by_actor
from ._peer import REQUESTS_IN_FLIGHT, CloseCode, Peer, PeerStatistics
from .front import RECEIVE_BYTES, ReplayStream
from .hub import Subscribe, Unsubscribe

MAX_PEERS = 256
MAX_ANONYMOUS_PER_HOST = 16  # connections of one host that have not logged in
HANDSHAKE_TIMEOUT_S = 5.0
LOGIN_DEADLINE_S = 30.0  # from connection to the first successful log-in
LOGIN_TIMEOUT_S = 10.0  # for the accounts actor to answer; hashing a password takes a while on purpose
MAX_FAILED_LOGINS = 5  # of one connection
SUBSCRIBE_TIMEOUT_S = 5.0
REVALIDATE_S = 60.0  # how often a session is checked to be still good
LINGER_S = 1.0  # to let a client read why, when unread bytes of its own would otherwise reset the connection

LOGIN, RESUME, SUBSCRIBE = "session.login", "session.resume", "site.subscribe"
LOGOUT = "session.logout"
BY_ITSELF = (RESUME, SUBSCRIBE, "site.inspect", "cases.list", "flow.report", "mode.list", "site.figures", "phone.list")
"""What pages ask without anybody touching them: it keeps no session alive."""
SESSION_OVER = "session.over"
DAMAGED = (1002, 1007)  # RFC 6455 section 7.4: not WebSocket frames, or not the text that they should be

_log = structlog.get_logger("admin_ws.channel")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A method that pages may call.

    `params` is decoded from the request and told to `address`; if it has a field `by` (and `by_role`), the session's
    user (and role) is put there, whatever the client wrote. `permission` "" means that being logged in is enough.
    `timeout_s` bounds the wait for the answer. `system`: told at once on the system lane; nobody waits for the answer.
    `audit`: the channel itself says who did it and what came of it; the actor does not.
    """

    method: str
    params: type[msgspec.Struct]
    address: Address
    permission: str
    timeout_s: float
    system: bool = False
    audit: bool = False


Record = Callable[[str, str, str, Any, str], None]
"""Notes a command for the audit log: user, role, method, params, and the code of a refusal or ""; never raises."""


class ChannelStatistics(msgspec.Struct, frozen=True):
    """The channel so far. `counts` has one entry per kind of event: `connected`, `refused.<why>`, `closed.<why>`…"""

    peers: list[PeerStatistics]
    counts: dict[str, int]


class Channel:
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
        self._record = record
        self._hub, self._accounts, self._view_permission = hub, accounts, view_permission
        self._routes: dict[str, Route] = {}
        for route in routes:
            if route.method in self._routes or route.method in (LOGIN, RESUME, SUBSCRIBE):
                raise ValueError(f"two routes for {route.method}")
            self._routes[route.method] = route
        self._stamped = {r.method for r in self._routes.values() if "by" in r.params.__struct_fields__}
        self._peers: dict[Peer, None] = {}
        self._empty = trio.Event()
        self._anonymous: collections.Counter[str] = collections.Counter()
        self._counts: collections.Counter[str] = collections.Counter()

    def statistics(self) -> ChannelStatistics:
        """Who is connected, and what was refused and why."""
        return ChannelStatistics(
            peers=[peer.statistics() for peer in self._peers], counts=dict(sorted(self._counts.items()))
        )

    def count(self, what: str) -> None:
        """Note an event under its name; the front counts its own refusals here, too."""
        self._counts[what] += 1

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
            nursery.start_soon(self._read, peer, nursery, _Known(known, stream))
            await peer.end()
        finally:
            del self._peers[peer]
            if not self._peers:
                self._empty.set()
            code = peer.closed_for or CloseCode.GOING_AWAY
            self.count(f"closed.{code.name.lower()}")
            with contextlib.suppress(ActorError):  # the hub forgets a closed peer anyway at its next delta
                self._hub.tell(Unsubscribe(peer))
        if peer.closed_for is CloseCode.TOO_BIG:
            await _linger(stream)

    async def _log_in_soon(self, peer: Peer) -> None:
        await trio.sleep(LOGIN_DEADLINE_S)
        if peer.session is None:
            peer.close(CloseCode.NO_LOGIN)

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

    async def _read(self, peer: Peer, nursery: trio.Nursery, known: _Known) -> None:
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

    # -- one message: synchronous from here to the tasks --------------------------------------------------------

    def _on_message(self, peer: Peer, message: str | bytes, nursery: trio.Nursery, known: _Known) -> None:
        if peer.closed_for is not None:
            return
        if isinstance(message, str) is not (peer.wire is Wire.JSON):
            self.count("refused.wrong_form")
            peer.close(CloseCode.WRONG_FORM)
            return
        try:
            request = decode_request(peer.wire, message)
        except RpcError as error:
            self._refuse(peer, None, failure_of(error), "malformed")
            peer.strike()
            return
        route = self._routes.get(request.method)
        if route is not None and route.system and _permits(peer, route.permission):
            self._tell_now(peer, request, route)
            return
        trace = new_trace()
        if request.id is msgspec.UNSET:  # by the specification nobody would learn what came of it
            self.count("refused.notification")
            peer.strike()
            return
        request_id = request.id
        if not peer.requests.take():
            self._refuse(peer, request_id, refusal("rate_limited", trace), "rate_limited")
            peer.strike()
            return
        try:
            self._dispatch(peer, request, request_id, route, trace, nursery, known)
        except RpcError as error:
            self._refuse(peer, request_id, failure_of(error, trace), "bad_params")
            peer.strike()

    def _tell_now(self, peer: Peer, request: Request, route: Route) -> None:
        """Nothing stands between the message and the tell."""
        assert peer.session is not None
        try:
            params = decode_value(peer.wire, request.params, route.params)
        except RpcError:
            params = route.params()  # a damaged reason must not stop an evacuation
        trace = new_trace()
        request_id = None if request.id is msgspec.UNSET else request.id
        try:
            route.address.tell(self._stamp(peer, route, params), system=True, trace=trace)
        except Exception as error:
            self._refuse(peer, request_id, failure_of(error, trace), "trigger_failed")
            return
        self.count("told")
        peer.active_at = trio.current_time()
        self._note(peer, route, params)
        if not request.is_notification:
            done = Done(detail="told" if route.address.alive else "queued")
            peer.offer(encode_result(peer.wire, request_id, done))

    def _dispatch(
        self,
        peer: Peer,
        request: Request,
        request_id: RequestId,
        route: Route | None,
        trace: str,
        nursery: trio.Nursery,
        known: _Known,
    ) -> None:
        """Check, decode and start one request. Raises RpcError for params of the wrong shape."""
        if request.method in (LOGIN, RESUME):
            kind: type[Login] | type[Resume] = Login if request.method == LOGIN else Resume
            message = decode_value(peer.wire, request.params, kind)
            if peer.logging_in:
                self._refuse(peer, request_id, refusal("busy", trace), "busy")
                return
            peer.logging_in = True
            nursery.start_soon(self._log_in, peer, request_id, message, trace, known)
            return
        why = ""
        permission = self._view_permission if request.method == SUBSCRIBE else route.permission if route else ""
        if peer.session is None:
            why = "not_logged_in"
        elif peer.session_over:
            why = "session_over"
        elif route is None and request.method != SUBSCRIBE:
            why = "unknown_method"
        elif not _permits(peer, permission):
            why = "forbidden"
        elif peer.in_flight >= REQUESTS_IN_FLIGHT:
            why = "busy"
        if why:
            self._refuse(peer, request_id, refusal(why, trace), why)
            if why in ("not_logged_in", "unknown_method"):
                peer.strike()
            return
        if request.method not in BY_ITSELF:
            peer.active_at = trio.current_time()
        if route is None:
            wanted = decode_value(peer.wire, request.params, Subscription)
            peer.in_flight += 1
            nursery.start_soon(self._subscribe, peer, request_id, wanted, trace)
            return
        params = self._stamp(peer, route, decode_value(peer.wire, request.params, route.params))
        peer.in_flight += 1
        peer.logging_out = request.method == LOGOUT
        nursery.start_soon(self._call, peer, request_id, route, params, trace, nursery)

    def _stamp(self, peer: Peer, route: Route, params: Any) -> Any:
        """Who asks is what the session says, not what the page says."""
        if route.method not in self._stamped or peer.session is None:
            return params
        who = {"by": peer.session.user}
        if "by_role" in route.params.__struct_fields__:
            who["by_role"] = peer.session.role
        if "by_session" in route.params.__struct_fields__:
            who["by_session"] = peer.session.session
        return msgspec.structs.replace(params, **who)

    def _refuse(self, peer: Peer, request_id: RequestId, failure: Failure, why: str) -> None:
        self.count(f"refused.{why}")
        peer.offer(encode_error(peer.wire, request_id, failure.code, failure.message, failure.data))

    # -- tasks, one per request ---------------------------------------------------------------------------------

    async def _call(
        self, peer: Peer, request_id: RequestId, route: Route, params: Any, trace: str, nursery: trio.Nursery
    ) -> None:
        try:
            value = await route.address.ask(params, route.timeout_s, trace=trace)
            if isinstance(value, Session):  # a new password is a new session
                value = peer.session = msgspec.structs.replace(value, methods=self._methods(value))
                peer.session_over = False
            frame = encode_result(peer.wire, request_id, Done() if value is None else value)
        except Exception as error:
            failure = failure_of(error, trace)
            self._refuse(peer, request_id, failure, f"by_actor.{failure.data['code']}")
            self._note(peer, route, params, failure.data["code"])
        else:
            self.count("answered")
            self._note(peer, route, params)
            if route.method == LOGOUT:
                self._forget(peer, nursery)
            peer.offer(frame)
        finally:
            peer.in_flight -= 1
            peer.logging_out = False

    def _note(self, peer: Peer, route: Route, params: Any, refused: str = "") -> None:
        """For the audit log, after the fact: nothing waits for it."""
        if route.audit and self._record is not None and peer.session is not None:
            self._record(peer.session.user, peer.session.role, route.method, params, refused)

    def _forget(self, peer: Peer, nursery: trio.Nursery) -> None:
        """Nobody is logged in here any more; the connection may be used to log in again."""
        peer.session, peer.session_over = None, False
        with contextlib.suppress(ActorError):
            self._hub.tell(Unsubscribe(peer))
        nursery.start_soon(self._log_in_soon, peer)

    async def _subscribe(self, peer: Peer, request_id: RequestId, wanted: Subscription, trace: str) -> None:
        try:
            await self._hub.ask(Subscribe(peer, request_id, wanted), SUBSCRIBE_TIMEOUT_S, trace=trace)
            self.count("subscribed")
        except Exception as error:
            failure = failure_of(error, trace)
            self._refuse(peer, request_id, failure, f"by_actor.{failure.data['code']}")
        finally:
            peer.in_flight -= 1

    async def _log_in(
        self, peer: Peer, request_id: RequestId, message: Login | Resume, trace: str, known: _Known
    ) -> None:
        try:
            session = await self._accounts.ask(message, LOGIN_TIMEOUT_S, trace=trace)
            session = msgspec.structs.replace(session, methods=self._methods(session))
        except Exception as error:
            failure = failure_of(error, trace)
            self._refuse(peer, request_id, failure, f"login.{failure.data['code']}")
            peer.failed_logins += refused_by_actor(error)
            if peer.failed_logins >= MAX_FAILED_LOGINS:
                peer.close(CloseCode.FLOOD)
        else:
            peer.session, peer.session_over, peer.failed_logins = session, False, 0
            peer.active_at = trio.current_time()
            known.once()
            self.count("logged_in")
            peer.offer(encode_result(peer.wire, request_id, session))
        finally:
            peer.logging_in = False

    def _methods(self, session: Session) -> list[str]:
        """What this session may call, so that a page shows no button that would only refuse."""
        held = set(session.permissions) | {""}
        methods = [method for method, route in self._routes.items() if route.permission in held]
        return sorted(methods + ([SUBSCRIBE] if self._view_permission in held else []))


class _Known:
    """What changes once a peer has logged in: it no longer counts as anonymous, and may send larger things."""

    def __init__(self, not_anonymous: Callable[[], None], stream: ReplayStream) -> None:
        self._not_anonymous, self._stream = not_anonymous, stream

    def once(self) -> None:
        self._not_anonymous()
        self._stream.throttle.relax()


def _permits(peer: Peer, permission: str) -> bool:
    return peer.session is not None and (not permission or permission in peer.session.permissions)


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
