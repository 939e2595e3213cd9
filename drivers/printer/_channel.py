"""Connections to printers: TCP, a serial line, a USB printer's file. Every failure is a DeviceError."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import termios
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from drivers.errors import DeviceRefused, DeviceUnavailable
from drivers.serial import LineBusy, SerialLine, open_line

CONNECT_S = 3.0
READ_BYTES = 256
_FILE_CURES = {
    errno.EACCES: "add the user that runs the server to the group lp",
    errno.ENOENT: "not plugged in, or the path is wrong",
    errno.EBUSY: "another program has it open",
}


class Channel(ABC):
    """One connection to a printer. Every failure is DeviceUnavailable, or DeviceRefused where a reason is known."""

    @abstractmethod
    async def send(self, data: bytes) -> None: ...

    @abstractmethod
    async def receive(self) -> bytes: ...


@asynccontextmanager
async def tcp_channel(name: str, host: str, port: int) -> AsyncIterator[Channel]:
    """Raw TCP, for one job; when it fails, unsent bytes are thrown away with it."""
    stream: trio.SocketStream | None = None
    try:
        with trio.move_on_after(CONNECT_S):
            stream = await trio.open_tcp_stream(host, port)
    except OSError as exc:
        raise DeviceUnavailable(f"{name}: cannot be reached: {exc}; nothing was sent") from exc
    if stream is None:
        raise DeviceUnavailable(f"{name}: cannot be reached in {CONNECT_S:.0f} s; nothing was sent")
    try:
        yield _TcpChannel(name, stream)
    except BaseException:
        # reset instead of a polite close, which would go on delivering a job that has just been given up
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise
    finally:
        stream.socket.close()


@asynccontextmanager
async def serial_channel(path: str, baud: int) -> AsyncIterator[Channel]:
    """A serial line, for one job."""
    with open_line(path, baud) as line:
        yield _SerialChannel(line)


@asynccontextmanager
async def file_channel(path: str) -> AsyncIterator[Channel]:
    """A USB printer's file, such as /dev/usb/lp0, for one job: locked, and both directions used."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        cure = _FILE_CURES.get(exc.errno or 0)
        words = f"{path}: {exc.strerror or exc}" + (f" ({cure})" if cure else "")
        raise DeviceUnavailable(f"{words}; nothing was sent") from exc
    try:
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            raise DeviceUnavailable(f"{path}: is not a printer; nothing was sent")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise LineBusy(f"{path}: in use by another process; nothing was sent") from exc
        yield _FileChannel(path, fd)
    except BaseException:
        with suppress(termios.error, OSError):
            termios.tcflush(fd, termios.TCOFLUSH)  # where it is a tty; a printer's file has no queue of ours
        raise
    finally:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)


class _TcpChannel(Channel):
    def __init__(self, name: str, stream: trio.SocketStream) -> None:
        self._name = name
        self._stream = stream

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as exc:
            raise DeviceUnavailable(f"{self._name}: the connection broke while sending") from exc

    async def receive(self) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(READ_BYTES))
        except trio.BrokenResourceError as exc:
            raise DeviceUnavailable(f"{self._name}: the connection broke") from exc
        if not data:
            raise DeviceUnavailable(f"{self._name}: hung up")
        return data


class _SerialChannel(Channel):
    def __init__(self, line: SerialLine) -> None:
        self._line = line

    async def send(self, data: bytes) -> None:
        # the time limit is that of the job, which cancels this; what is unsent then is dropped with the line
        await self._line.send_all(data, float("inf"), drain=True)

    async def receive(self) -> bytes:
        return await self._line.receive_some(READ_BYTES)


class _FileChannel(Channel):
    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._fd)
            except OSError as exc:
                if exc.errno == errno.ENOSPC:  # what Linux makes of a USB printer's word that it has no paper
                    raise DeviceRefused(f"{self._path}: 缺纸 out of paper") from exc
                raise DeviceUnavailable(f"{self._path}: {exc.strerror or exc}") from exc

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._fd)
            except OSError as exc:
                raise DeviceUnavailable(f"{self._path}: {exc.strerror or exc}") from exc
            else:
                if not data:
                    raise DeviceUnavailable(f"{self._path}: hung up")
                return data
