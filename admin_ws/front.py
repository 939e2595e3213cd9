"""The front door: one TCP port for the pages and for the WebSocket channel.

A browser trusts a page to open a WebSocket to the page's own origin, so both live on one port.  The front reads the
head of the first request, bounded in size and time, and hands the connection to the one who can serve it, together
with the bytes that it has read.  Nothing here parses more than it needs to decide.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping

import msgspec
import trio

MAX_HEAD_BYTES = 8 * 1024
MAX_HEADERS = 64
RECEIVE_BYTES = 4 * 1024
SEND_TIMEOUT_S = 10.0  # for one send to a client that does not read
BURST_BYTES_ANONYMOUS = 32 * 1024  # what somebody may send before we know who it is
RATE_BYTES_ANONYMOUS = 8 * 1024  # per second
BURST_BYTES_KNOWN = 2 * 1024 * 1024  # an annual card's photograph fits
RATE_BYTES_KNOWN = 64 * 1024  # per second

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class BadHead(ValueError):
    """The first bytes are not a request that we serve. `status` is what to answer; None: say nothing, just close."""

    def __init__(self, status: int | None, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Head(msgspec.Struct, frozen=True):
    """A request's line and headers; names in lower case, the values of a repeated header joined by a comma."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The target without the query."""
        return self.target.partition("?")[0]

    @property
    def upgrade(self) -> str:
        """What the client wants to change to, in lower case; empty for a plain request."""
        return self.headers.get("upgrade", "").strip().lower()


def parse_head(head: bytes) -> Head:
    """The head of a request, up to and with the empty line.

    Raises:
        BadHead: not HTTP/1.1, a repeated Host, a folded or damaged header line, or too many of them.
    """
    try:
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
    except ValueError as error:
        raise BadHead(400, "not a request line") from error
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadHead(505 if version.startswith("HTTP/") else 400, "not HTTP/1.1")
    if not method.isalpha() or not method.isupper() or not target.startswith("/"):
        raise BadHead(400, "not a method and a path")
    lines = [line for line in lines[1:] if line]
    if len(lines) > MAX_HEADERS:
        raise BadHead(431, "too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not name or name != name.strip() or not name.isprintable():
            raise BadHead(400, "damaged header")
        if key in headers:
            if key in ("host", "origin", "content-length", "upgrade"):
                raise BadHead(400, f"more than one {key}")
            headers[key] += ", " + value.strip()
        else:
            headers[key] = value.strip()
    return Head(method, target, headers)


async def read_head(stream: trio.abc.ReceiveStream, timeout_s: float) -> tuple[Head, bytes]:
    """Read until the empty line that ends the head; returns it and every byte read so far.

    Raises:
        BadHead: too long, too slow, damaged, or closed before it was complete.
    """
    data = bytearray()
    with trio.move_on_after(timeout_s) as patience:
        while True:
            try:
                chunk = await stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise BadHead(None, "broken") from error
            if not chunk:
                raise BadHead(None, "closed")
            searched = max(0, len(data) - 3)
            data += chunk
            end = data.find(b"\r\n\r\n", searched)
            if end > MAX_HEAD_BYTES or (end < 0 and len(data) > MAX_HEAD_BYTES):
                raise BadHead(431, "head too large")
            if end >= 0:
                return parse_head(bytes(data[: end + 2])), bytes(data)
    assert patience.cancelled_caught
    raise BadHead(408, "head too slow")


def same_origin(head: Head) -> bool:
    """May a page of this origin open the channel? Only a page that came from the host it talks to.

    A browser sends Origin with every WebSocket request and lets no page forge it; a program that sends none is no
    browser and carries no one else's authority.  `null` (a sandboxed frame, a file) is nobody's origin.
    """
    origin = head.headers.get("origin")
    if origin is None:
        return True
    host = head.headers.get("host", "").lower()
    try:
        parts = urllib.parse.urlsplit(origin.lower())
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        return False
    if parts.username is not None:
        return False
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    allowed = {f"{name}:{port or default}"}
    if (port or default) == default:
        allowed.add(name)
    return host in allowed


async def refuse(stream: trio.abc.Stream, status: int, detail: str) -> None:
    """Answer with a plain error, without waiting long for a client that does not read, and close."""
    body = f"{status} {REASONS.get(status, 'Error')}: {detail}\n".encode()
    head = [f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}"]
    head += [f"{name}: {value}" for name, value in SECURITY_HEADERS.items()]
    head += ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", "Connection: close", "", ""]
    with trio.move_on_after(SEND_TIMEOUT_S):
        try:
            await stream.send_all("\r\n".join(head).encode("latin-1") + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


class Throttle:
    """How many bytes one client may send: a bucket that refills, kept by the receiver.

    Tiny frames (pings above all) cost far more time than bytes, and this thread also serves the gates; so whoever
    sends faster than a person types is simply read more slowly, and TCP slows the sender down.
    """

    def __init__(self, rate_bytes_per_s: float = RATE_BYTES_ANONYMOUS, burst_bytes: int = BURST_BYTES_ANONYMOUS):
        self._rate, self._burst = rate_bytes_per_s, burst_bytes
        self._left: float = burst_bytes
        self._at = trio.current_time()

    def relax(self) -> None:
        """The client has logged in."""
        self._rate, self._burst = RATE_BYTES_KNOWN, BURST_BYTES_KNOWN
        self._left = self._burst

    def spend(self, count: int) -> float:
        """Take `count` bytes from the bucket; returns the seconds to wait before reading on."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - count
        self._at = now
        return max(0.0, -self._left / self._rate)


class ReplayStream(trio.abc.HalfCloseableStream):
    """A stream that first gives back what was already read from it, reads at a bounded rate, and whose sends end.

    hypercorn shields its sends from cancellation, so that a client which stops reading could hold up our stop: hence
    the deadline here, inside the shield.
    """

    def __init__(self, stream: trio.abc.Stream, replay: bytes) -> None:
        self._stream, self._replay = stream, replay
        self.throttle = Throttle()
        self._sending = trio.Lock()  # what was handed over in one piece is sent in one piece
        self._rest = b""  # of what `take` took; goes out before anything else

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket at the bottom; hypercorn asks it for both ends' addresses."""
        bottom = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        assert isinstance(bottom, trio.SocketStream)
        return bottom.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """The bytes that were read before, then the stream's own."""
        if self._replay:
            await trio.lowlevel.checkpoint()
            size = len(self._replay) if max_bytes is None else max_bytes
            data, self._replay = self._replay[:size], self._replay[size:]
            return data
        received = await self._stream.receive_some(min(max_bytes or RECEIVE_BYTES, RECEIVE_BYTES))
        wait_s = self.throttle.spend(len(received))
        if wait_s > 0:
            await trio.sleep(wait_s)
        return received

    @property
    def owes(self) -> bool:
        """Has `take` taken more than the socket did? Then somebody has to call `send_all`, if with nothing."""
        return bool(self._rest)

    def take(self, data: bytes) -> bool:
        """Send without waiting and without a task of its own, if that can be done now; False: nothing was sent.

        A broadcast to hundreds of consoles costs a system call each this way.  Not over TLS.
        """
        if self._rest or self._sending.locked() or not isinstance(self._stream, trio.SocketStream):
            return False
        try:
            sent = os.write(self._stream.socket.fileno(), data)
        except OSError:  # no room now, or broken: whoever sends next finds out
            return False
        self._rest = data[sent:]
        return True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or break the stream when the client does not read for `SEND_TIMEOUT_S`."""
        with trio.move_on_after(SEND_TIMEOUT_S) as patience:
            async with self._sending:
                rest, self._rest = self._rest, b""
                await self._stream.send_all(rest + bytes(data) if rest else data)
        if patience.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client does not read")

    async def wait_send_all_might_not_block(self) -> None:
        """Passed through."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Half-close a plain stream; TLS has no such thing, and the caller goes on to close."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream; a TLS peer is not waited for."""
        if isinstance(self._stream, trio.SSLStream):
            await trio.aclose_forcefully(self._stream)
        else:
            await self._stream.aclose()
