"""HTTP/1.1 in the two shapes that counters need: ask once, and be told. On h11, with bounds on everything."""

from __future__ import annotations

import base64
import secrets
import ssl
from collections.abc import Callable

import h11
import trio

from drivers.counter import _digest as digest
from drivers.errors import DeviceRefused, DeviceUnavailable
from protocols.peoplecounter import BODY_MAX

READ_BYTES = 4096
REQUEST_S = 5.0  # for a whole exchange, in either shape
UNAUTHORIZED = frozenset({401, 403})
HEAD_MAX = 16 * 1024  # bytes of a request's head

Handle = Callable[[str, dict[bytes, bytes], bytes], tuple[int, dict[str, str], bytes]]
"""(method, headers in lower case, body) -> status, further headers and body of the answer."""


class NotAuthorized(DeviceRefused):
    """The device refuses our name and password."""


async def get(host: str, port: int, target: str, *, tls: bool, user: str, password: str) -> bytes:
    """The body of a 200 answer. Raises DeviceUnavailable, DeviceRefused and NotAuthorized."""
    try:
        with trio.fail_after(REQUEST_S):
            return await _get(host, port, target, tls=tls, user=user, password=password)
    except trio.TooSlowError as exc:
        raise DeviceUnavailable(f"{host}:{port}: no answer within {REQUEST_S:g} s") from exc
    except (OSError, trio.BrokenResourceError, ssl.SSLError) as exc:
        raise DeviceUnavailable(f"{host}:{port}: {getattr(exc, 'strerror', None) or exc}") from exc
    except h11.ProtocolError as exc:
        raise DeviceRefused(f"{host}:{port}: does not speak HTTP: {exc}") from exc


async def _get(host: str, port: int, target: str, *, tls: bool, user: str, password: str) -> bytes:
    status, challenges, body = await _ask(host, port, target, tls=tls, authorization="")
    if status == 401 and user:  # a password is shown only to a device that asks, and in its best form
        authorization = _answer_to(challenges, target, user=user, password=password)
        if authorization:
            status, _, body = await _ask(host, port, target, tls=tls, authorization=authorization)
    if status in UNAUTHORIZED:
        raise NotAuthorized(f"{host}:{port}: refuses our name and password ({status})")
    if status != 200:
        raise DeviceRefused(f"{host}:{port}: answers {status}")
    return body


def _answer_to(challenges: list[str], target: str, *, user: str, password: str) -> str:
    for challenge in challenges:
        answered = digest.answer(
            challenge, user=user, password=password, method="GET", target=target, cnonce=secrets.token_hex(8)
        )
        if answered is not None:
            return answered
    if any(challenge.lower().startswith("basic") for challenge in challenges):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return ""


async def _ask(host: str, port: int, target: str, *, tls: bool, authorization: str) -> tuple[int, list[str], bytes]:
    """One request on a connection of its own: status, challenges, body."""
    stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
    if tls:
        stream = trio.SSLStream(stream, ssl.create_default_context(), server_hostname=host, https_compatible=True)
    try:
        headers = [
            (b"Host", f"{host}:{port}".encode()),
            (b"Accept", b"application/json"),
            (b"Connection", b"close"),
        ]
        if authorization:
            headers.append((b"Authorization", authorization.encode()))
        connection = h11.Connection(h11.CLIENT)
        await stream.send_all(
            connection.send(h11.Request(method="GET", target=target, headers=headers))
            + connection.send(h11.EndOfMessage())
        )
        status, challenges, body = 0, [], b""
        while not isinstance(event := await _next(connection, stream), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
                challenges = [value.decode("latin-1") for name, value in event.headers if name == b"www-authenticate"]
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_MAX:
                    raise DeviceRefused(f"{host}:{port}: says more than {BODY_MAX} bytes")
            elif isinstance(event, h11.ConnectionClosed):
                raise DeviceUnavailable(f"{host}:{port}: closed the connection")
        return status, challenges, body
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time()):
            await stream.aclose()


async def serve(stream: trio.SocketStream, handle: Handle) -> None:
    """Answer the requests on one connection until it ends, or its time is over."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
    with trio.move_on_after(REQUEST_S):
        try:
            while True:
                status, headers, body = await _one(connection, stream, handle)
                lines = [("Content-Length", str(len(body))), *headers.items()]
                answer = h11.Response(status_code=status, headers=lines)
                sent = [connection.send(part) for part in (answer, h11.Data(body), h11.EndOfMessage())]
                await stream.send_all(b"".join(part for part in sent if part))
                if connection.our_state is h11.MUST_CLOSE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
        except (h11.ProtocolError, trio.BrokenResourceError, EOFError):
            pass  # whatever it was, it was no request
    with trio.CancelScope(shield=True, deadline=trio.current_time()):
        await stream.aclose()


async def _one(
    connection: h11.Connection, stream: trio.SocketStream, handle: Handle
) -> tuple[int, dict[str, str], bytes]:
    request: h11.Request | None = None
    body = b""
    while True:
        if connection.they_are_waiting_for_100_continue:
            await stream.send_all(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        event = await _next(connection, stream)
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_MAX:
                return 413, {}, b""
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            raise EOFError
    assert request is not None
    return handle(request.method.decode(), dict(request.headers), body)


async def _next(connection: h11.Connection, stream: trio.abc.Stream) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some(READ_BYTES)))
    return event
