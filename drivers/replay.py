"""Playing a trace back to a driver: the recording takes the device's place, on a pseudo terminal or a socket.

What the device said is said again once the driver has sent as many bytes as it had sent by then, or after
PATIENCE_S without them; a device that speaks by itself keeps its own pace.  Commands are given again where they
stood.  So a fault that was seen at a gate at night is a test in the morning.
"""

from __future__ import annotations

import os
import pty
import socket as stdlib_socket
import tempfile
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from drivers.base import DeviceEvent, Driver
from drivers.trace import COMMAND, EVENT, IN, OUT, Trace, TraceEntry, TraceError

PATIENCE_S = 1.0  # how long the device's next words wait for the driver to have sent what it had sent by then
PACE_MAX_S = 1.0  # longest pause that is kept; nobody wants to wait for a recorded lunch hour
AFTER_S = 0.5  # what the driver still says after the last entry is part of it
READ_MAX = 4096  # bytes

Perform = Callable[[Driver, str, dict[str, Any]], None]
MakeDriver = Callable[[dict[str, str]], Driver]


async def replay(trace: Trace, make: MakeDriver, perform: Perform, *, emit: Callable[[DeviceEvent], None]) -> None:
    """Run the driver that `make` builds against the recording until its end.

    `make` is given where each recorded place now is: a path for `serial:…`, `HOST:PORT` for `tcp:…` and `udp:…`.
    `perform` carries out a recorded command on the driver. Raises TraceError when there is nothing to play.
    """
    places = trace.places()
    if not places:
        raise TraceError("the trace holds no bytes: nothing of this device can be played")
    async with _stages(places) as stages, trio.open_nursery() as nursery:
        driver = make({place: stage.where for place, stage in stages.items()})
        for stage in stages.values():
            nursery.start_soon(stage.listen)
        nursery.start_soon(driver.run, emit)
        await _play(trace.entries, stages, lambda entry: perform(driver, entry.words, entry.arguments))
        await trio.sleep(AFTER_S)
        nursery.cancel_scope.cancel()


async def _play(entries: list[TraceEntry], stages: dict[str, _Stage], command: Callable[[TraceEntry], None]) -> None:
    due = dict.fromkeys(stages, 0)  # bytes that the driver had sent by now, on each place
    last_t = 0.0
    for entry in entries:
        pause_s = min(max(entry.t - last_t, 0.0), PACE_MAX_S)
        last_t = max(entry.t, last_t)
        if entry.what == OUT:
            due[entry.place] += len(entry.octets)
        elif entry.what == EVENT:
            continue
        else:
            await trio.sleep(pause_s)
            for place, stage in stages.items():
                await stage.wait_heard(due[place])
        if entry.what == IN:
            await stages[entry.place].say(entry.octets)
        elif entry.what == COMMAND:
            command(entry)


class _Stage:
    """One end of one wire: counts what the driver sends, says what the device said."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._heard = 0
        self._news = trio.Event()

    def count(self, octets: int) -> None:
        self._heard += octets
        self._news.set()
        self._news = trio.Event()

    async def wait_heard(self, octets: int) -> None:
        """Until the driver has sent so many bytes in all, or PATIENCE_S have gone by."""
        with trio.move_on_after(PATIENCE_S):
            while self._heard < octets:
                await self._news.wait()

    async def listen(self) -> None:
        raise NotImplementedError

    async def say(self, data: bytes) -> None:
        raise NotImplementedError


class _PtyStage(_Stage):
    def __init__(self, master: int, where: str) -> None:
        super().__init__(where)
        self._master = master

    async def listen(self) -> None:
        while True:
            try:
                self.count(len(os.read(self._master, READ_MAX)))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._master)

    async def say(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._master, view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._master)


class _SocketStage(_Stage):
    """TCP: the newest connection. UDP: whoever spoke last."""

    def __init__(self, sock: trio.socket.SocketType, wire: str) -> None:
        host, port = sock.getsockname()[:2]
        super().__init__(f"{host}:{port}")
        self._sock = sock
        self._wire = wire
        self._send: Callable[[bytes], Awaitable[object]] | None = None
        self._met = trio.Event()

    async def listen(self) -> None:
        if self._wire == "udp":
            while True:
                data, sender = await self._sock.recvfrom(READ_MAX)
                self._meet(partial(self._answer, sender))
                self.count(len(data))
        async with trio.open_nursery() as nursery:
            while True:
                connection, _ = await self._sock.accept()
                nursery.start_soon(self._converse, trio.SocketStream(connection))

    async def _answer(self, sender: Any, data: bytes) -> None:
        await self._sock.sendto(data, sender)

    async def _converse(self, stream: trio.SocketStream) -> None:
        self._meet(stream.send_all)
        async with stream:
            try:
                while data := await stream.receive_some(READ_MAX):
                    self.count(len(data))
            except trio.BrokenResourceError:
                return  # the driver hung up, as it may

    async def say(self, data: bytes) -> None:
        with trio.move_on_after(PATIENCE_S):
            await self._met.wait()
            assert self._send is not None
            try:
                await self._send(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                return  # the driver hung up: the rest of that connection is said to nobody

    def _meet(self, send: Callable[[bytes], Awaitable[object]]) -> None:
        self._send = send
        self._met.set()


@asynccontextmanager
async def _stages(places: list[str]) -> AsyncIterator[dict[str, _Stage]]:
    """A pty or a socket for each place of the trace; all closed at the end."""
    made: dict[str, _Stage] = {}
    descriptors: list[int] = []
    sockets: list[trio.socket.SocketType] = []
    with tempfile.TemporaryDirectory(prefix="paifang-replay-") as folder:
        try:
            for number, place in enumerate(places):
                wire = place.partition(":")[0]
                if wire == "serial":
                    master, slave = pty.openpty()
                    descriptors += [master, slave]
                    tty.setraw(slave)
                    os.set_blocking(master, False)
                    link = Path(folder) / f"line-{number}"
                    link.symlink_to(os.ttyname(slave))
                    made[place] = _PtyStage(master, str(link))
                elif wire in ("tcp", "udp"):
                    kind = stdlib_socket.SOCK_DGRAM if wire == "udp" else stdlib_socket.SOCK_STREAM
                    sock = trio.socket.socket(stdlib_socket.AF_INET, kind)
                    sockets.append(sock)
                    await sock.bind(("127.0.0.1", 0))
                    if wire == "tcp":
                        sock.listen()
                    made[place] = _SocketStage(sock, wire)
                else:
                    raise TraceError(f"{place}: bytes of this kind of wire cannot be played")
            yield made
        finally:
            for descriptor in descriptors:
                trio.lowlevel.notify_closing(descriptor)
                os.close(descriptor)
            for sock in sockets:
                sock.close()
