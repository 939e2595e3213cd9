"""A small client of the console channel, for the command line, simulated sales windows and tests.

    async with ConsoleClient.connect("ws://127.0.0.1:8460/channel") as console:
        await console.login("anna", password)
        sold = await console.call("sales.sell", Sell(...), Sold)
        snapshot = await console.subscribe()
        async for delta in console.deltas():
            ...
"""

from __future__ import annotations

import contextlib
import math
import ssl
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from protocols.console import Delta, Login, Resume, Session, Snapshot
from protocols.errors import RpcError
from protocols.jsonrpc import (
    MAX_RESPONSE_BYTES,
    ErrorObject,
    Response,
    Wire,
    decode_response,
    decode_value,
    encode_request,
)

from .hub import DELTA_METHOD

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
FAREWELL_S = 0.1  # of a client that is cancelled
CALL_TIMEOUT_S = 10.0
NOTIFICATIONS = 1024  # unread ones; a program that subscribes must read


class ConsoleError(Exception):
    """Something went wrong on the console channel.

    ConsoleError
    ├─ ConsoleRefused   the server answered no; `code` is stable, `text_zh` and `text_en` are for people
    ├─ ConsoleTimeout   no answer in time; the outcome is unknown
    └─ ConsoleClosed    not connected, or no longer; `close_code` is the WebSocket's
    """


class ConsoleRefused(ConsoleError):
    """The server answered with an error. Nothing else is wrong with the connection."""

    def __init__(self, error: ErrorObject) -> None:
        data = error.data if isinstance(error.data, dict) else {}
        self.rpc_code = error.code
        self.code = str(data.get("code", ""))
        self.text_zh, self.text_en = str(data.get("text_zh", "")), str(data.get("text_en", "") or error.message)
        self.hint, self.trace = str(data.get("hint", "")), str(data.get("trace", ""))
        super().__init__(f"{self.code}: {self.text_en}")


class ConsoleTimeout(ConsoleError):
    """No answer within the deadline. The command may have been carried out: repeat only what may be done twice."""


class ConsoleClosed(ConsoleError):
    """The connection could not be opened, or has ended. `close_code` is 0 if it never opened."""

    def __init__(self, detail: str, close_code: int = 0) -> None:
        super().__init__(f"{detail} ({close_code})" if close_code else detail)
        self.close_code = close_code


class _Call:
    """A question under way."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.response: Response | None = None


class Notifications:
    """An iterator over what the server says unasked. (No generator: those want closing when one stops half-way.)"""

    def __init__(self, source: trio.MemoryReceiveChannel[Response]) -> None:
        self._source = source

    def __aiter__(self) -> Notifications:
        return self

    async def __anext__(self) -> tuple[str, msgspec.Raw]:
        note = await self._source.__anext__()
        return note.method, note.params


class Deltas:
    """An iterator over deltas; other notifications are passed over."""

    def __init__(self, source: Notifications, wire: Wire) -> None:
        self._source, self._wire = source, wire

    def __aiter__(self) -> Deltas:
        return self

    async def __anext__(self) -> Delta:
        while True:
            method, params = await self._source.__anext__()
            if method == DELTA_METHOD:
                return decode_value(self._wire, params, Delta)


class ConsoleClient:
    """One connection. Make it with `connect`; calls may run at the same time."""

    def __init__(self, socket: Any, wire: Wire) -> None:
        self._socket, self._wire = socket, wire
        self._next_id = 0
        self._calls: dict[int, _Call] = {}
        self._closed: ConsoleClosed | None = None
        self._notes_in, self._notes_out = trio.open_memory_channel[Response](NOTIFICATIONS)

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, *, wire: Wire = Wire.MSGPACK, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[ConsoleClient]:
        """Open the channel at `url`, such as `ws://127.0.0.1:8460/channel`.

        Args:
            url: `ws:` or `wss:`.
            wire: the subprotocol.
            tls: for `wss:`; the system's certificates if not given.

        Raises:
            ConsoleClosed: nobody listens there, or the server refuses.
        """
        stream = await _open_stream(url, tls)
        closing = False
        # The stream is ours and not the library's: when the server closes first, trio-websocket leaves it open.
        try:
            async with trio.open_nursery() as nursery:
                parts = urllib.parse.urlsplit(url)
                try:
                    with trio.fail_after(CONNECT_TIMEOUT_S):
                        socket = await wrap_client_stream(
                            nursery, stream, parts.netloc, parts.path or "/", subprotocols=[str(wire)],
                            max_message_size=MAX_RESPONSE_BYTES,
                        )  # fmt: skip
                except (HandshakeError, trio.TooSlowError) as error:
                    raise ConsoleClosed(f"{url}: {error!r}") from error
                if socket.subprotocol is None:  # closed before the handshake was answered, or refused
                    raise ConsoleClosed(f"{url}: the server refuses the connection")
                client = cls(socket, wire)
                nursery.start_soon(client._read)
                try:
                    yield client
                finally:
                    closing = True
                    # who is cancelled has nobody left who reads the answer: say goodbye, and do not wait for it
                    cancelled = trio.current_effective_deadline() == -math.inf
                    with trio.move_on_after(FAREWELL_S if cancelled else CLOSE_TIMEOUT_S, shield=True):
                        await socket.aclose()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            only = _only(group)
            if isinstance(only, HandshakeError):  # raised by the library's reader, beside us
                raise ConsoleClosed(f"{url}: {only!r}") from only
            if not (closing and isinstance(only, LocalProtocolError)):  # a ping that came while we closed
                raise only from None
        finally:
            await trio.aclose_forcefully(stream)

    async def login(self, user: str, password: str) -> Session:
        """Log in. Raises ConsoleRefused with the code `bad_login` or `locked`."""
        return await self.call("session.login", Login(user=user, password=password), Session)

    async def resume(self, token: str) -> Session:
        """Go on with an earlier session. Raises ConsoleRefused."""
        return await self.call("session.resume", Resume(token=token), Session)

    async def subscribe(self) -> Snapshot:
        """Everything as of now; from then on `deltas` yields what changes."""
        return await self.call("site.subscribe", {}, Snapshot)

    async def call(self, method: str, params: object, result: type[T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        """Call a method and wait for its result.

        Raises:
            ConsoleRefused: the server says no, and why.
            ConsoleTimeout: no answer within `timeout_s`; the outcome is unknown.
            ConsoleClosed: the connection ended; the outcome is unknown.
            RpcError: the answer is not a `result`.
        """
        if self._closed is not None:
            raise self._closed
        self._next_id += 1
        request_id, call = self._next_id, _Call()
        self._calls[request_id] = call
        try:
            with trio.move_on_after(timeout_s):
                await self._send(encode_request(self._wire, request_id, method, params))
                await call.answered.wait()
        finally:
            del self._calls[request_id]
        if call.response is None:
            raise self._closed or ConsoleTimeout(f"{method}: no answer within {timeout_s:g} s")
        if call.response.error is not None:
            raise ConsoleRefused(call.response.error)
        return decode_value(self._wire, call.response.result, result)

    def deltas(self) -> Deltas:
        """Every delta since `subscribe`, in order; ends when the connection does."""
        return Deltas(self.notifications(), self._wire)

    def notifications(self) -> Notifications:
        """Every notification as (method, undecoded params); ends when the connection does."""
        return Notifications(self._notes_out)

    async def _send(self, frame: str | bytes) -> None:
        try:
            await self._socket.send_message(frame)
        except ConnectionClosed as error:
            raise self._ended(error) from error

    async def _read(self) -> None:
        with self._notes_in:
            while True:
                try:
                    response = decode_response(self._wire, await self._socket.get_message())
                except ConnectionClosed as error:
                    self._ended(error)
                    return
                except RpcError:
                    continue  # nothing a caller could do; its own deadline tells it
                if response.method:
                    try:
                        self._notes_in.send_nowait(response)
                    except trio.WouldBlock:
                        self._ended(None)
                        await self._socket.aclose(1008, "notifications unread")
                        return
                elif isinstance(response.id, int) and response.id in self._calls:
                    call = self._calls[response.id]
                    call.response = response
                    call.answered.set()

    def _ended(self, error: ConnectionClosed | None) -> ConsoleClosed:
        if self._closed is None:
            reason = error.reason if error is not None else None
            detail = "closed" if error is not None else f"more than {NOTIFICATIONS} notifications unread"
            self._closed = ConsoleClosed(
                detail if reason is None else f"closed: {reason.reason or reason.name}",
                0 if reason is None else reason.code,
            )
        for call in self._calls.values():
            call.answered.set()
        return self._closed


async def _open_stream(
    url: str, tls: ssl.SSLContext | None
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    """A connected stream. Raises ConsoleClosed."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ConsoleClosed(f"{url}: not a ws: or wss: address")
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            if parts.scheme == "ws":
                return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
            context = tls or ssl.create_default_context()
            return await trio.open_ssl_over_tcp_stream(
                parts.hostname, parts.port or 443, ssl_context=context, https_compatible=True
            )
    except (OSError, ValueError, trio.TooSlowError) as error:
        raise ConsoleClosed(f"{url}: {error!r}") from error


def _only(group: BaseExceptionGroup[Any]) -> BaseException:
    """A group of one as the one; the nursery inside `connect` is nobody's business."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
