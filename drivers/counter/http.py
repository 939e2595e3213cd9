"""People counters over HTTP: asked every few seconds, or telling by themselves."""

from __future__ import annotations

import base64
import hmac
import random
from urllib.parse import urlsplit

import trio

from drivers.base import Availability, Emit
from drivers.counter._base import JSON_MODULUS, CounterDriver, to_nobody
from drivers.counter._http import NotAuthorized, get, serve
from drivers.errors import DeviceError
from protocols.peoplecounter import AXIS, CounterForm, CounterReportError, read_report

MISSES_MAX = 2  # polls that fail in a row before the counter is away
REFUSED_PAUSE_S = 60.0  # a device that refuses our password is not asked again and again: it would lock us out
CONNECTIONS_MAX = 8
REBIND_S = 5.0  # between two tries to listen on a port that is taken


class HttpPullCounter(CounterDriver):
    """Asks `url` (http or https) every `poll_s`. Raises ValueError for an address that cannot be.

    Basic and digest authentication.  A counter that refuses the password is `unauthenticated`, and asked once a minute.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: str = "",
        poll_s: float = 5.0,
        form: CounterForm = AXIS,
        serial: str = "",
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(JSON_MODULUS, rng)
        parts = urlsplit(url)
        plain = url.isascii() and url.isprintable() and " " not in url
        if not plain or parts.scheme not in ("http", "https") or not parts.hostname or parts.username or poll_s <= 0:
            raise ValueError(
                f"{parts.scheme}://{parts.hostname}: an address such as http://192.0.2.7/path; poll_s above 0"
            )
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._user, self._password = user, password
        self._poll_s = poll_s
        self._form = form
        self._serial = serial
        self._misses = 0

    async def run(self, emit: Emit) -> None:
        """Serve the counter until cancelled."""
        self._emit, self._up = emit, False
        try:
            while True:
                pause_s = await self._poll()
                await trio.sleep(pause_s)
        finally:
            self._emit = to_nobody

    async def _poll(self) -> float:
        """One question; how long to wait for the next, s."""
        try:
            body = await get(
                self._host, self._port, self._target, tls=self._tls, user=self._user, password=self._password
            )
            self._meter.sent(0)
            self._meter.heard(len(body))
            report = read_report(body, self._form)
            if self._serial and report.serial != self._serial:
                raise CounterReportError("another device answers: its serial number is not the one of the site file")
        except NotAuthorized as exc:
            self._down(str(exc), Availability.UNAUTHENTICATED)
            return REFUSED_PAUSE_S
        except (DeviceError, CounterReportError) as exc:
            self._meter.bad_frames += isinstance(exc, CounterReportError)
            self._meter.error(exc)
            self._misses += 1
            if self._misses >= MISSES_MAX:
                self._down(str(exc))
            return min(self._poll_s, self._backoff.next_s())
        self._misses = 0
        self._read(report.entries, report.exits)
        return self._poll_s


class HttpPushCounter(CounterDriver):
    """Listens on `host` and `port` for a counter that posts its reports. Raises ValueError without a `token`.

    The counter shows the token as `Authorization: Bearer …`, or as the password of basic authentication; `serial`, if
    given, must be the report's.  Without a report for `silent_after_s` it is away.  `bound_port` is where it listens.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str,
        form: CounterForm = AXIS,
        serial: str = "",
        silent_after_s: float = 120.0,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(JSON_MODULUS, rng)
        if not token:
            raise ValueError("a counter that posts needs a token; anybody else could post too")
        if not 0 <= port <= 65535 or silent_after_s <= 0:
            raise ValueError(f"port {port} or silent_after_s {silent_after_s} cannot be")
        self.bound_port: int | None = None
        self._address = (host, port)
        self._token = token.encode()
        self._form = form
        self._serial = serial
        self._silent_after_s = silent_after_s
        self._reported = trio.Event()
        self._slots = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def run(self, emit: Emit) -> None:
        """Serve the counter until cancelled."""
        self._emit, self._up = emit, False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._notice_silence)
                while True:
                    await self._listen()
                    await trio.sleep(REBIND_S)
        finally:
            self._emit, self.bound_port = to_nobody, None

    async def _listen(self) -> None:
        try:
            listeners = await trio.open_tcp_listeners(self._address[1], host=self._address[0])
        except OSError as exc:
            self._down(f"{self._address[0]}:{self._address[1]}: cannot listen: {exc.strerror or exc}")
            return
        self.bound_port = int(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            self._slots.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await stream.aclose()
            return
        try:
            await serve(stream, self._on_request)
        finally:
            self._slots.release_on_behalf_of(stream)

    def _on_request(self, method: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, dict[str, str], bytes]:
        status = self._on_post(headers, body) if method == "POST" else 405
        return status, {"WWW-Authenticate": "Bearer"} if status == 401 else {}, b""

    def _on_post(self, headers: dict[bytes, bytes], body: bytes) -> int:
        """One report; the status of the answer."""
        self._meter.heard(len(body))
        if not self._may(headers):
            self._meter.bad_frames += 1
            self._meter.error("a report without the token was refused")
            return 401
        try:
            report = read_report(body, self._form)
        except CounterReportError as exc:
            self._meter.bad_frames += 1
            self._meter.error(exc)
            return 400
        if self._serial and report.serial != self._serial:
            self._meter.bad_frames += 1
            self._meter.error("a report of another device was refused")
            return 403
        self._reported.set()
        self._read(report.entries, report.exits)
        return 204

    def _may(self, headers: dict[bytes, bytes]) -> bool:
        shown = headers.get(b"authorization", b"")
        scheme, _, word = shown.partition(b" ")
        if scheme.lower() == b"basic":
            try:
                word = base64.b64decode(word, validate=True).partition(b":")[2]
            except ValueError:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(word.strip(), self._token)

    async def _notice_silence(self) -> None:
        while True:
            self._reported = trio.Event()
            with trio.move_on_after(self._silent_after_s) as scope:
                await self._reported.wait()
            if scope.cancelled_caught:
                self._down(f"no report for {self._silent_after_s:g} s")
