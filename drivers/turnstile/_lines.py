"""What a bus speaks over: a serial line, or datagrams to one board."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from drivers.errors import DeviceUnavailable
from drivers.serial import open_line

DATAGRAM_MAX = 2048  # bytes; the longest frame has 37
RESOLVE_S = 5.0  # a name must be found within this; an address needs no time


class Line(Protocol):
    """One way to one or more boards. Failures are DeviceUnavailable; cancelling loses nothing."""

    async def send_all(self, data: bytes, deadline_s: float, *, drain: bool = False) -> None: ...

    async def receive_some(self, max_bytes: int) -> bytes: ...

    def close(self) -> None: ...


OpenLine = Callable[[], Awaitable[Line]]


def serial_opener(path: str, baud: int) -> OpenLine:
    """Opens the tty at `path`, again and again."""

    async def opened() -> Line:
        return open_line(path, baud)

    return opened


def udp_opener(host: str, port: int) -> OpenLine:
    """Opens a socket that hears nobody but `host`:`port`."""

    async def opened() -> Line:
        return await UdpLine.to(host, port)

    return opened


class UdpLine:
    """Datagrams to and from one peer. Others' are not heard: the socket is connected."""

    def __init__(self, socket: trio.socket.SocketType, name: str) -> None:
        self._socket = socket
        self._name = name

    @classmethod
    async def to(cls, host: str, port: int) -> UdpLine:
        """Raises DeviceUnavailable when the name is not found, or there is no way to it."""
        name = f"{host}:{port} (UDP)"
        with trio.move_on_after(RESOLVE_S):
            try:
                found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
                family, kind, protocol, _, address = found[0]
                socket = trio.socket.socket(family, kind, protocol)
                try:
                    await socket.connect(address)
                except BaseException:
                    socket.close()
                    raise
            except OSError as exc:
                raise DeviceUnavailable(f"{name}: {exc.strerror or exc}") from exc
            return cls(socket, name)
        raise DeviceUnavailable(f"{name}: the name was not found within {RESOLVE_S:g} s")

    async def send_all(self, data: bytes, deadline_s: float, *, drain: bool = False) -> None:
        """One datagram. `drain` is for lines that have a queue of their own."""
        with trio.move_on_after(deadline_s) as scope:
            try:
                await self._socket.send(data)
            except OSError as exc:
                raise DeviceUnavailable(f"{self._name}: {exc.strerror or exc}") from exc
        if scope.cancelled_caught:
            raise DeviceUnavailable(f"{self._name}: takes no bytes (waited {deadline_s:.2f} s)")

    async def receive_some(self, max_bytes: int) -> bytes:
        """One datagram; an empty one is passed over."""
        while True:
            try:
                data = await self._socket.recv(DATAGRAM_MAX)
            except OSError as exc:
                raise DeviceUnavailable(f"{self._name}: {exc.strerror or exc}") from exc
            if data:
                return bytes(data[:max_bytes])

    def close(self) -> None:
        self._socket.close()
