"""One WebSocket connection: an outbox that never makes anybody wait, the limits of one client, and an orderly end."""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Any

import msgspec
import trio
from trio_websocket import ConnectionClosed

from protocols.console import Session
from protocols.jsonrpc import Frame, Wire

from .front import ReplayStream

OUTBOX_FRAMES = 64  # a page that is so far behind (3 s of deltas) is evicted
OUTBOX_BYTES = 8 * 1024 * 1024  # two large snapshots
STUCK_CLOSE_S = 0.5  # the same for a client that reads nothing: it would not hear it
PONG_TICK_S, PONG_TICKS = 0.9, 3  # a ping that is unanswered for so many looks in a row ends the connection
CLOSE_TIMEOUT_S = 2.0  # to finish the frame being sent, say why, and hear the client's own close
REQUESTS_IN_FLIGHT = 8  # of one peer; more are answered `busy`
REQUEST_RATE_PER_S = 20.0
REQUEST_BURST = 40
TEXT_FRAME, BINARY_FRAME = 0x81, 0x82  # first byte of a final frame
STRIKES = 50  # bad or superfluous messages before a peer is closed; forgiven at one a second


class CloseCode(IntEnum):
    """Why a WebSocket was closed, beside the codes of RFC 6455 section 7.4."""

    GOING_AWAY = 1001
    WRONG_FORM = 1003  # text on a binary channel or the reverse
    TOO_BIG = 1009
    NO_LOGIN = 4001  # nobody logged in within the time allowed
    TOO_SLOW = 4002  # the outbox ran full, or a send took too long
    FLOOD = 4003  # too many messages, damaged messages or failed log-ins
    FULL = 4004  # as many consoles as the server allows
    REVOKED = 4005  # the session was ended by somebody


_last_framed: tuple[Frame | None, bytes] = (None, b"")


def framed(frame: Frame) -> bytes:
    """A message as one WebSocket frame of a server: final, unmasked, without extensions (RFC 6455 section 5.2).

    The newest one is kept, because a broadcast asks for the same again and again.
    """
    global _last_framed
    if _last_framed[0] is frame:
        return _last_framed[1]
    code, payload = (TEXT_FRAME, frame.encode()) if isinstance(frame, str) else (BINARY_FRAME, frame)
    size = len(payload)
    if size < 126:
        data = bytes((code, size)) + payload
    elif size < 1 << 16:
        data = bytes((code, 126)) + size.to_bytes(2, "big") + payload
    else:
        data = bytes((code, 127)) + size.to_bytes(8, "big") + payload
    _last_framed = frame, data
    return data


class Bucket:
    """So many a second, so many at once. Trio time."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate, self._burst, self._left, self._at = rate_per_s, burst, float(burst), trio.current_time()

    def take(self) -> bool:
        """One more; False when there are none left."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class PeerStatistics(msgspec.Struct, frozen=True):
    """One connection, for `site.inspect` and tests."""

    user: str
    wire: str
    outbox: int
    sent: int
    in_flight: int


class Peer:
    """A connected page or program.

    `offer` is how everybody sends: synchronous, bounded, and false as soon as the connection is on its way out. `run`
    owns the writer; the channel owns the reading.

    Args:
        socket: an accepted trio-websocket connection.
        wire: the form that the subprotocol chose.
        stream: what is under the socket; with it frames go out at once where there is room.
    """

    def __init__(self, socket: Any, wire: Wire, stream: ReplayStream | None = None) -> None:
        self.socket = socket
        self._stream = stream
        self._writing = False
        self.wire = wire
        self.session: Session | None = None
        self.session_over = False  # its token is no longer good; an evacuation may still be triggered
        self.logging_in = False
        self.failed_logins = 0
        self.logging_out = False
        self.active_at = trio.current_time()  # when something was commanded last
        self.in_flight = 0
        self.requests = Bucket(REQUEST_RATE_PER_S, REQUEST_BURST)
        self.strikes = Bucket(1.0, STRIKES)
        self.closed_for: CloseCode | None = None
        self.slow_at = ""  # what a peer that was too slow had not done: `frames`, `bytes`, `pong`
        self._outbox: deque[Frame] = deque()
        self._outbox_bytes = 0
        self._sent = 0
        self._wake = trio.Event()
        self._closing = trio.Event()

    def statistics(self) -> PeerStatistics:
        """A look from outside."""
        return PeerStatistics(
            user=self.session.user if self.session else "",
            wire=self.wire,
            outbox=len(self._outbox),
            sent=self._sent,
            in_flight=self.in_flight,
        )

    def offer(self, frame: Frame) -> bool:
        """Queue a frame; a peer that has no room for it is evicted. False when it is gone or going."""
        if self.closed_for is not None:
            return False
        if self._stream is not None and not self._outbox and not self._writing and self._stream.take(framed(frame)):
            self._sent += 1
            if self._stream.owes:
                self._wake.set()
            return True
        if len(self._outbox) >= OUTBOX_FRAMES or self._outbox_bytes + len(frame) > OUTBOX_BYTES:
            self._fell_behind("frames" if len(self._outbox) >= OUTBOX_FRAMES else "bytes")
            return False
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        self._wake.set()
        return True

    def close(self, code: CloseCode) -> None:
        """Begin the end; the first reason counts. What is queued is dropped: a client that reconnects starts anew."""
        if self.closed_for is None:
            self.closed_for = code
            self._outbox.clear()
            self._outbox_bytes = 0
            self._closing.set()

    def _fell_behind(self, at: str) -> None:
        if self.closed_for is None and not self.socket.closed:
            self.slow_at = at
        self.close(CloseCode.GOING_AWAY if self.socket.closed else CloseCode.TOO_SLOW)

    def strike(self) -> None:
        """The client sent something that it should not; too often, and it is closed."""
        if not self.strikes.take():
            self.close(CloseCode.FLOOD)

    async def write(self) -> None:
        """Send what is queued, in order, until the connection ends."""
        while True:
            self._writing = True
            try:
                if self._stream is not None and self._stream.owes:
                    await self._stream.send_all(b"")
                while self._outbox:
                    frame = self._outbox.popleft()
                    self._outbox_bytes -= len(frame)
                    if self._stream is None:
                        await self.socket.send_message(frame)
                    else:
                        await self._stream.send_all(framed(frame))
                    self._sent += 1
            except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                return
            self._writing = False
            self._wake = trio.Event()
            await self._wake.wait()

    async def watch(self) -> None:
        """Close a client that answers no ping: it reads nothing, and what is sent to it only fills buffers.

        Looks are counted instead of seconds, so that a machine which stood still evicts nobody.  One that has said
        goodbye and no longer reads is not slow: it is gone, and our half of the farewell may never get through.
        """
        while True:
            pong = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ping, pong)
                for _ in range(PONG_TICKS):
                    await trio.sleep(PONG_TICK_S)
                    if pong.is_set() or self.socket.closed:
                        break
                else:
                    self._fell_behind("pong")
                if self.socket.closed:
                    self.close(CloseCode.GOING_AWAY)
                if self.closed_for is not None:
                    nursery.cancel_scope.cancel()
                    return

    async def _ping(self, pong: trio.Event) -> None:
        try:
            await self.socket.ping()
        except ConnectionClosed:
            return
        pong.set()

    async def end(self) -> None:
        """Wait until somebody calls `close`, then say why, within `CLOSE_TIMEOUT_S`.

        A frame that is half sent is finished first, or the client could not read the close frame after it; a client
        that reads nothing at all learns it from the broken connection.
        """
        await self._closing.wait()
        code = self.closed_for or CloseCode.GOING_AWAY
        with trio.move_on_after(STUCK_CLOSE_S if code is CloseCode.TOO_SLOW else CLOSE_TIMEOUT_S):
            await self.socket.aclose(int(code), code.name.lower())
