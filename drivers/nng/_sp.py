"""The server's end of NNG's `req`/`rep` and `pub`/`sub` over TCP or TLS, on Trio's own streams.

    ears = Ears("link.work", url, Protocol.REP, max_bytes, tls)     one listening address
    replier = Replier(ears, answer)                                 answers requests, many at a time
    publisher = Publisher(ears)                                     publishes to whoever is connected

Nobody who connects can make the others wait: each connection has tasks of its own, a bound on what it may have under
way, and a deadline for greeting and for taking what is sent to it.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import trio

from drivers.errors import DeviceUnavailable
from drivers.nng._tls import expires_at
from protocols.errors import LinkError
from protocols.sp import Decoder, Protocol, frame, greeting, split_request

GREETING_S = 5.0  # a connection that has not greeted (with TLS: shaken hands) by then ends
CONNECTIONS_MAX = 4096  # of one address of ours; more are closed at once
DESCRIPTORS_PART = 8  # and at most this part of the files that the process may have open: four addresses, half of them
NAMED_MAX = 16  # of one certificate's name; a device needs one, and some more while old ones are noticed to be dead
STRANGERS_MAX = 256  # of one address of theirs, that have not greeted yet
UNDER_WAY_MAX = 32  # requests of one connection that are worked on; more wait in its socket
QUEUE_MAX = 16  # publications that wait for one subscriber; one that is slower is cut off, comes again and polls
SEND_S = 1.0  # a peer that takes nothing for so long is cut off
LINGER_S = 0.2  # closing waits this long for what was just published to leave
BACKLOG = 1024
LINGER_STEP_S = 0.005
RECEIVE_BYTES = 65536


class Peer(NamedTuple):
    """Who is at the other end: an address, and what stands in the certificate where there is TLS."""

    address: str
    name: str | None = None  # the common name: a device's id
    serial: str | None = None  # hexadecimal
    expires_at: float | None = None  # seconds since the epoch


Listeners: TypeAlias = list[trio.SocketListener]
Talk: TypeAlias = Callable[[Peer, trio.abc.Stream, Decoder, list[bytes]], Awaitable[None]]


class Ears:
    """One address that is listened on, and what is counted there.

    `key` is the site file's name of `url`, for complaints; `tls` makes it SP over TLS. `accepts(peer)` may send a peer
    away; `changed(up)` hears of connections that have greeted.
    """

    def __init__(
        self,
        key: str,
        url: str,
        protocol: Protocol,
        max_bytes: int,
        *,
        tls: ssl.SSLContext | None = None,
        life_s: float = math.inf,
        accepts: Callable[[Peer], bool] = lambda peer: True,
        changed: Callable[[bool], None] = lambda up: None,
    ) -> None:
        self.key = key
        self.url = url  # with the port really bound, once `listen` has started
        self.protocol = protocol
        self.max_bytes = max_bytes
        self.tls = tls
        self.life_s = life_s  # a connection ends after this
        self.accepts = accepts
        self.changed = changed
        self.foreign = 0  # connections ended because the other end speaks something else, or too much at once
        self.crowded = 0  # closed at once: too many
        self.refused = 0  # sent away: TLS failed, or not accepted
        self._connected = 0
        self._strangers: Counter[str] = Counter()
        self._named: Counter[str] = Counter()
        self._most = connections_max()
        self._open: dict[trio.CancelScope, Peer] = {}

    async def bind(self) -> Listeners:
        """Listen. Raises DeviceUnavailable naming the key."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or 0
        try:
            found = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
        except OSError as exc:
            taken = exc.errno == errno.EADDRINUSE or "in use" in str(exc)
            what = "another program listens there already" if taken else f"cannot listen there: {exc}"
            raise DeviceUnavailable(f'{self.key} = "{self.url}": {what}') from exc
        if not port:  # any port: one, not one for each family
            for extra in found[1:]:
                await extra.aclose()
            found = found[:1]
            bound = found[0].socket.getsockname()[1]
            self.url = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{bound}"
        return found

    def end(self, name: str) -> int:
        """End all connections of a certificate's name, at once. Returns how many there were."""
        ended = [scope for scope, peer in self._open.items() if peer.name == name]
        for scope in ended:
            scope.cancel()
        return len(ended)

    def recheck(self) -> int:
        """Ask `accepts` again about every open connection, and end those that it no longer wants. Returns how many."""
        ended = [scope for scope, peer in self._open.items() if not self.accepts(peer)]
        for scope in ended:
            scope.cancel()
        self.refused += len(ended)
        return len(ended)

    async def serve(self, raw: trio.SocketStream, talk: Talk) -> None:
        """One connection: greet, then `talk`. Never raises for what the other end does."""
        try:
            address = str(raw.socket.getpeername()[0])
        except OSError:
            await trio.aclose_forcefully(raw)
            return
        if self._connected >= self._most or self._strangers[address] >= STRANGERS_MAX:
            self.crowded += 1
            await trio.aclose_forcefully(raw)
            return
        self._connected += 1
        stream: trio.abc.Stream = raw
        name: str | None = None  # under which the connection is counted
        decoder = Decoder(self.protocol, self.max_bytes)
        try:
            with trio.move_on_after(self.life_s) as scope:
                self._strangers[address] += 1
                try:
                    with trio.fail_after(GREETING_S):
                        stream, peer = await self._secured(raw, address)
                        if not self.accepts(peer):  # before the greeting: it never sees itself connected
                            self.refused += 1
                            return
                        if peer.name is not None:
                            if self._named[peer.name] >= NAMED_MAX:
                                self.crowded += 1
                                return
                            name = peer.name
                            self._named[name] += 1
                        await stream.send_all(greeting(self.protocol))
                        early = await self._greeted(stream, decoder)
                finally:
                    _one_less(self._strangers, address)
                self._open[scope] = peer
                self.changed(True)
                try:
                    await talk(peer, stream, decoder, early)
                finally:
                    del self._open[scope]
                    self.changed(False)
        except* ssl.SSLError:
            self.refused += 1
        except* LinkError:
            self.foreign += 1
        except* (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass
        finally:
            self._connected -= 1
            if name is not None:
                _one_less(self._named, name)
            await trio.aclose_forcefully(stream)

    async def _secured(self, raw: trio.SocketStream, address: str) -> tuple[trio.abc.Stream, Peer]:
        if self.tls is None:
            return raw, Peer(address)
        secured = trio.SSLStream(raw, self.tls, server_side=True, https_compatible=True)
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as exc:
            if isinstance(exc.__cause__, ssl.SSLError):
                raise exc.__cause__ from exc
            raise
        certificate = secured.getpeercert() or {}
        peer = Peer(address, common_name(certificate), certificate.get("serialNumber"), expires_at(certificate))
        return secured, peer

    async def _greeted(self, stream: trio.abc.Stream, decoder: Decoder) -> list[bytes]:
        """Until the other end has greeted. Returns what it has said beyond."""
        while True:
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise trio.BrokenResourceError("ended before it greeted")
            early = list(decoder.feed(bytes(data)))
            if decoder.greeted:
                return early


@asynccontextmanager
async def bound(*ears: Ears) -> AsyncIterator[list[Listeners]]:
    """All of them listen, or none does. Raises DeviceUnavailable."""
    async with AsyncExitStack() as stack:
        listening: list[Listeners] = []
        for each in ears:
            listening.append(await each.bind())
            for listener in listening[-1]:
                await stack.enter_async_context(listener)
        yield listening


def connections_max() -> int:
    """How many connections one address may have open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, files // DESCRIPTORS_PART)


def _one_less(counts: Counter[Any], key: object) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """The CN of a certificate's subject, as `ssl` shows it."""
    for attributes in (certificate or {}).get("subject", ()):
        for name, value in attributes:
            if name == "commonName":
                return str(value)
    return None


class Replier:
    """Answers requests: `answer(peer, body)` returns the reply's body, or None for none at all.

    It is called in a task of its own for each request, at most `limit` at a time over all connections.
    """

    def __init__(self, ears: Ears, answer: Callable[[Peer, bytes], Awaitable[bytes | None]], limit: int) -> None:
        self._ears = ears
        self._answer = answer
        self._limit = limit
        self._room = trio.Semaphore(limit)
        self.answers = 0
        self.unsent = 0  # the peer did not take it

    async def run(self, listeners: Listeners) -> None:
        """Serve until cancelled."""
        await trio.serve_listeners(partial(self._ears.serve, talk=self._talk), listeners)

    async def _talk(self, peer: Peer, stream: trio.abc.Stream, decoder: Decoder, early: list[bytes]) -> None:
        line = _Line(stream)
        async with trio.open_nursery() as nursery:
            messages = early
            while True:
                for message in messages:
                    stack, body = split_request(message)
                    await line.room()
                    await self._room.acquire()
                    line.under_way += 1
                    nursery.start_soon(self._reply, peer, line, stack, body)
                data = await stream.receive_some(RECEIVE_BYTES)
                if not data:
                    nursery.cancel_scope.cancel()  # nobody is there to hear the answers
                    return
                messages = list(decoder.feed(bytes(data)))

    async def _reply(self, peer: Peer, line: _Line, stack: bytes, body: bytes) -> None:
        try:
            answer = await self._answer(peer, body)
            if answer is not None:
                await line.send(frame(stack, answer))
                self.answers += 1
        except trio.BrokenResourceError:
            self.unsent += 1
            raise
        finally:
            line.done()
            self._room.release()


def _sent_at_once(stream: trio.abc.Stream, data: bytes) -> bytes:
    """What is left to send, after as much as the socket takes without waiting. With TLS all of it is left."""
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):  # full, or gone: whoever sends the rest finds that out
            return data[os.write(stream.socket.fileno(), data) :]
    return data


class _Line:
    """A connection's way out, used by several tasks: whoever finds it free sends for those who come meanwhile, too."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._waiting = bytearray()
        self._sending = False
        self._free = trio.Event()
        self.under_way = 0

    async def room(self) -> None:
        while self.under_way >= UNDER_WAY_MAX:
            self._free = trio.Event()
            await self._free.wait()

    def done(self) -> None:
        self.under_way -= 1
        self._free.set()

    async def send(self, data: bytes) -> None:
        """Raises trio.BrokenResourceError when the peer is gone or does not take it."""
        if not self._sending and not self._waiting and not (data := _sent_at_once(self._stream, data)):
            return
        self._waiting += data
        if self._sending:
            return
        self._sending = True
        try:
            while self._waiting:
                out, self._waiting = bytes(self._waiting), bytearray()
                with trio.move_on_after(SEND_S) as scope:
                    await self._stream.send_all(out)
                if scope.cancelled_caught:
                    raise trio.BrokenResourceError(f"takes nothing for {SEND_S:g} s")
        finally:
            self._sending = False


class Publisher:
    """Publishes to whoever is connected."""

    def __init__(self, ears: Ears) -> None:
        self._ears = ears
        self._outlets: set[_Outlet] = set()
        self._open = False
        self.slow = 0  # subscribers cut off because they did not keep up

    @property
    def subscribers(self) -> int:
        """Connected now."""
        return len(self._outlets)

    async def run(
        self, listeners: Listeners, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled, and then as long as LINGER_S until everything has left."""
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as connections:
                nursery.start_soon(self._until_cancelled, connections)
                self._open = True
                task_status.started()
                try:
                    await trio.serve_listeners(partial(self._ears.serve, talk=self._talk), listeners)
                finally:
                    self._open = False

    async def _until_cancelled(self, connections: trio.CancelScope) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._open = False
            with trio.move_on_after(LINGER_S, shield=True):
                while any(outlet.waiting for outlet in self._outlets):  # noqa: ASYNC110 whichever leaves last
                    await trio.sleep(LINGER_STEP_S)
            connections.cancel()

    def publish(self, data: bytes) -> bool:
        """Hand a publication to all that are connected. Never waits, never raises. False when not running."""
        if not self._open:
            return False
        whole = frame(data)
        for outlet in list(self._outlets):
            if not outlet.put(whole):
                self.slow += 1
        return True

    async def _talk(self, peer: Peer, stream: trio.abc.Stream, decoder: Decoder, early: list[bytes]) -> None:
        async with trio.open_nursery() as nursery:
            outlet = _Outlet(nursery.cancel_scope, stream)
            self._outlets.add(outlet)
            try:
                nursery.start_soon(outlet.run, stream)
                if early or await stream.receive_some(1):
                    raise LinkError("a subscriber that speaks")
                nursery.cancel_scope.cancel()
            finally:
                self._outlets.discard(outlet)


class _Outlet:
    """What waits for one subscriber."""

    def __init__(self, connection: trio.CancelScope, stream: trio.abc.Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._queue: deque[bytes] = deque()
        self._wanted = trio.Event()
        self.waiting = 0  # publications that have not left

    def put(self, data: bytes) -> bool:
        """False when the subscriber is too slow; it is cut off.

        Without TLS it leaves in this very turn if the socket takes it: hundreds of lanes have a release before any of
        our own tasks does something about it.
        """
        if self.waiting == 0 and not (data := _sent_at_once(self._stream, data)):
            return True
        if self.waiting >= QUEUE_MAX:
            self._connection.cancel()
            return False
        self._queue.append(data)
        self.waiting += 1
        self._wanted.set()
        return True

    async def run(self, stream: trio.abc.Stream) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._queue:
                count = len(self._queue)
                data = b"".join(self._queue)
                self._queue.clear()
                await stream.send_all(data)
                self.waiting -= count
