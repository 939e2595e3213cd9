"""What a peer of the console channel asks, from the decoded message to the answer in its outbox.

Reading a message is synchronous up to the tasks that wait for an actor's answer, one for each request.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import trio

from core import ActorError, Address, new_trace
from protocols.console import Done, Login, Resume, Session, Subscription
from protocols.errors import RpcError
from protocols.jsonrpc import Request, RequestId, Wire, decode_request, decode_value, encode_error, encode_result

from ._errors import Failure, failure_of, refusal, refused_by_actor
from ._peer import REQUESTS_IN_FLIGHT, CloseCode, Peer
from .front import ReplayStream
from .hub import Subscribe, Unsubscribe

LOGIN_DEADLINE_S = 30.0  # from connection to the first successful log-in
LOGIN_TIMEOUT_S = 10.0  # for the accounts actor to answer; hashing a password takes a while on purpose
MAX_FAILED_LOGINS = 5  # of one connection
SUBSCRIBE_TIMEOUT_S = 5.0

LOGIN, RESUME, SUBSCRIBE = "session.login", "session.resume", "site.subscribe"
LOGOUT = "session.logout"
BY_ITSELF = (RESUME, SUBSCRIBE, "site.inspect", "cases.list", "flow.report", "mode.list", "site.figures", "phone.list")
"""What pages ask without anybody touching them: it keeps no session alive."""
SESSION_OVER = "session.over"


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


class Known:
    """What changes once a peer has logged in: it no longer counts as anonymous, and may send larger things."""

    def __init__(self, not_anonymous: Callable[[], None], stream: ReplayStream) -> None:
        self._not_anonymous, self._stream = not_anonymous, stream

    def once(self) -> None:
        self._not_anonymous()
        self._stream.throttle.relax()


def _permits(peer: Peer, permission: str) -> bool:
    return peer.session is not None and (not permission or permission in peer.session.permissions)


class Requests:
    """The half of `Channel` that answers; the other one keeps the connections."""

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
        self._counts: collections.Counter[str] = collections.Counter()

    def count(self, what: str) -> None:
        """Note an event under its name; the front counts its own refusals here, too."""
        self._counts[what] += 1

    async def _log_in_soon(self, peer: Peer) -> None:
        await trio.sleep(LOGIN_DEADLINE_S)
        if peer.session is None:
            peer.close(CloseCode.NO_LOGIN)

    # -- one message: synchronous from here to the tasks --------------------------------------------------------

    def _on_message(self, peer: Peer, message: str | bytes, nursery: trio.Nursery, known: Known) -> None:
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
        known: Known,
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
        self, peer: Peer, request_id: RequestId, message: Login | Resume, trace: str, known: Known
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
