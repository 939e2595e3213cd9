"""Recording what goes over a device's wires, and playing it back to a driver.

A trace is a text file of JSON lines: first what was recorded, then every chunk of bytes in the order in which it was
seen (`in` from the device, `out` to it), the driver's events and the commands that were given.  `recording` taps the
serial lines and sockets that are opened inside it; `play` takes the device's place on a pseudo terminal or a socket.

A trace holds what the wires carried, so also codes that open a gate: it is written for its owner alone (0600).
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import msgspec
import trio

TRACE_VERSION = 1
TRACE_MAX_BYTES = 64_000_000  # of a file that is read
CHUNK_MAX_BYTES = 65_536  # of one entry
TRACE_MODE = 0o600

IN, OUT, EVENT, COMMAND = "in", "out", "event", "command"


class TraceError(Exception):
    """A trace cannot be written, read or played. The text says why and what to do."""


class TraceHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `table` is the device's description in the site file."""

    paifang_trace: int = TRACE_VERSION
    device: str
    kind: str
    recorded_at: float  # seconds since the epoch
    table: dict[str, Any] = {}


class TraceEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One chunk of bytes, event or command. `t` is seconds since the beginning; `place` is the line or the socket."""

    t: float
    what: str  # in | out | event | command
    place: str = ""  # serial:PATH, tcp:HOST:PORT, udp:HOST:PORT
    hex: str = ""
    words: str = ""  # of an event, or a command's name
    arguments: dict[str, Any] = {}

    @property
    def octets(self) -> bytes:
        return bytes.fromhex(self.hex)


class Trace(msgspec.Struct, frozen=True):
    """A whole recording."""

    header: TraceHeader
    entries: list[TraceEntry]

    def events(self) -> list[str]:
        """What the driver said while it was recorded, in words."""
        return [entry.words for entry in self.entries if entry.what == EVENT]

    def places(self) -> list[str]:
        """The lines and sockets that bytes went over, in the order in which they were first used."""
        return list(dict.fromkeys(entry.place for entry in self.entries if entry.what in (IN, OUT)))


class Recorder:
    """Hands every entry to `take`, which must be quick."""

    def __init__(self, take: Callable[[TraceEntry], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._take = take
        self._clock = clock
        self._began = clock()

    def octets(self, what: str, place: str, data: bytes) -> None:
        """Bytes came `in` or went `out`."""
        for at in range(0, len(data), CHUNK_MAX_BYTES):
            chunk = bytes(data[at : at + CHUNK_MAX_BYTES])
            self._take(TraceEntry(t=self._now(), what=what, place=place, hex=chunk.hex()))

    def event(self, words: str) -> None:
        self._take(TraceEntry(t=self._now(), what=EVENT, words=words))

    def command(self, name: str, **arguments: Any) -> None:
        self._take(TraceEntry(t=self._now(), what=COMMAND, words=name, arguments=arguments))

    def _now(self) -> float:
        return round(self._clock() - self._began, 4)


_RECORDER: ContextVar[Recorder | None] = ContextVar("drivers.trace", default=None)


def current() -> Recorder | None:
    """The recorder of whoever opens a line now, or None."""
    return _RECORDER.get()


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Lines and sockets that are opened inside, also by tasks that are started inside, are recorded.

    Sockets are tapped by a socket factory of the whole Trio run: record one device in a run.
    """
    token = _RECORDER.set(recorder)
    before = trio.socket.set_custom_socket_factory(_TappedSockets())
    try:
        yield recorder
    finally:
        trio.socket.set_custom_socket_factory(before)
        _RECORDER.reset(token)


class TraceWriter:
    """A trace file, growing line by line, so that a cut recording is a shorter one. Made for its owner alone.

    Raises TraceError when the file cannot be made, or is there already.
    """

    def __init__(self, path: Path, header: TraceHeader) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, TRACE_MODE)
        except FileExistsError as exc:
            raise TraceError(f"{path}: is there already; name a new file") from exc
        except OSError as exc:
            raise TraceError(f"{path}: cannot be made: {exc.strerror}") from exc
        self._file: TextIO = os.fdopen(descriptor, "w", encoding="utf-8")
        self._put(header)

    def take(self, entry: TraceEntry) -> None:
        self._put(entry)

    def close(self) -> None:
        self._file.close()

    def _put(self, value: TraceHeader | TraceEntry) -> None:
        self._file.write(msgspec.json.encode(value).decode() + "\n")
        self._file.flush()


def read_trace(path: Path) -> Trace:
    """Raises TraceError, with the line, for anything that is not a trace."""
    try:
        with path.open("rb") as file:
            raw = file.read(TRACE_MAX_BYTES + 1)
    except OSError as exc:
        raise TraceError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(raw) > TRACE_MAX_BYTES:
        raise TraceError(f"{path}: too large; at most {TRACE_MAX_BYTES} bytes")
    lines = raw.split(b"\n")
    try:
        header = msgspec.json.decode(lines[0], type=TraceHeader)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise TraceError(f"{path}:1: not a trace of paifang: {exc}") from exc
    if header.paifang_trace != TRACE_VERSION:
        raise TraceError(f"{path}:1: version {header.paifang_trace}; this program reads {TRACE_VERSION}")
    entries = []
    decoder = msgspec.json.Decoder(TraceEntry)
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            entry = decoder.decode(line)
            bytes.fromhex(entry.hex)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as exc:
            if number == len(lines):  # cut off while it was written
                break
            raise TraceError(f"{path}:{number}: {exc}") from exc
        entries.append(entry)
    return Trace(header, entries)


# --- sockets ------------------------------------------------------------------------------------------------------


class _TappedSockets(trio.abc.SocketFactory):
    """Makes sockets that tell the recorder of the task that made them."""

    def socket(self, family: int = -1, type: int = -1, proto: int = -1) -> Any:
        plain = stdlib_socket.socket(family, type, proto)
        recorder = current()
        if recorder is None:
            return trio.socket.from_stdlib_socket(plain)
        plain.setblocking(False)
        made = _tapped_class()(plain)
        made._recorder = recorder
        return made


@cache
def _tapped_class() -> Any:
    """Trio's own socket class with a tap. Trio names it in no public place, so one is made to ask it."""
    with stdlib_socket.socket() as plain:
        concrete: Any = type(trio.socket.from_stdlib_socket(plain))

    class TappedSocket(concrete):  # type: ignore[misc]
        """A Trio socket whose bytes are recorded."""

        _recorder: Recorder

        async def send(self, data: Any, *rest: Any) -> int:
            sent: int = await super().send(data, *rest)
            self._recorder.octets(OUT, self._place(), bytes(memoryview(data)[:sent]))
            return sent

        async def sendto(self, data: Any, *rest: Any) -> int:
            sent: int = await super().sendto(data, *rest)
            self._recorder.octets(OUT, self._place(rest[-1]), bytes(data))
            return sent

        async def recv(self, *rest: Any) -> bytes:
            data: bytes = await super().recv(*rest)
            self._recorder.octets(IN, self._place(), data)
            return data

        async def recvfrom(self, *rest: Any) -> tuple[bytes, Any]:
            data, sender = await super().recvfrom(*rest)
            self._recorder.octets(IN, self._place(sender), data)
            return data, sender

        def _place(self, other: Any = None) -> str:
            wire = "udp" if self.type == stdlib_socket.SOCK_DGRAM else "tcp"
            try:
                other = other or self.getpeername()
            except OSError:
                other = ("", 0)
            return f"{wire}:{other[0]}:{other[1]}" if isinstance(other, tuple) else f"{wire}:{other}"

    return TappedSocket
