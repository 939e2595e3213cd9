"""Ticket printers: a job is done when the printer says so itself, after the job, and not before.

Each job has a connection of its own: ask for cover, paper and readiness, send, ask again.  A job that fails is cut
off, and what still lies in our own buffers is thrown away, so that a ticket does not come out after it was reported
as failed (what the printer had taken by then may still be printed; the caller prints again under a new print id).

The answers to status requests do not say what they answer, so one question is asked at a time, never twice on one
connection without its answer: two answers on the way would be taken for each other.
"""

from __future__ import annotations

import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from drivers._statistics import Meter
from drivers.base import Availability, DriverStatistics
from drivers.errors import DeviceError, DeviceRefused, DeviceUnavailable
from drivers.serial import SerialLine, check_baud, open_line
from protocols.errors import PrinterError
from protocols.escpos import PrinterStatus, StatusKind, decode_status, status_request

CONNECT_S = 3.0
ANSWER_S = 2.0  # a printer answers a status request at once, whatever it is doing
BUSY_PAUSE_S = 0.2  # between questions to a printer that is offline for no reason that it names
STRAY_BYTES_MAX = 64  # bytes that answer nothing (flow control, unasked status) before the answer has to come
JOB_BYTES_MAX = 256 * 1024  # a ticket has two thousand
QUESTIONS = (StatusKind.PRINTER, StatusKind.OFFLINE_CAUSE, StatusKind.PAPER)


class _Channel(ABC):
    """One connection to a printer. Every failure is DeviceUnavailable."""

    @abstractmethod
    async def send(self, data: bytes) -> None: ...

    @abstractmethod
    async def receive(self) -> bytes: ...


class _Progress:
    """How far one job has come, for the words of its failure."""

    stage = "waiting for another job"
    queued = True


class _EscPosPrinter(ABC):
    """What both ways of connecting share."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._meter = Meter()
        self._lock = trio.Lock()

    def statistics(self) -> DriverStatistics:
        """`frames_out` counts jobs begun, `frames_in` answers; availability is that of the last job or question."""
        return self._meter.snapshot()

    async def print_job(self, payload: bytes, timeout_s: float) -> None:
        """See `Printer.print_job`. Jobs wait for each other, within their own time.

        Raises DeviceRefused when the printer names a reason (paper, cover, error), DeviceUnavailable when it does not
        answer or is not done in time, ValueError for a job that is empty or too large.
        """
        if not 0 < len(payload) <= JOB_BYTES_MAX:
            raise ValueError(f"a job has 1 to {JOB_BYTES_MAX} bytes, not {len(payload)}")
        await self._timed(payload, timeout_s)

    async def status(self, timeout_s: float = ANSWER_S) -> PrinterStatus:
        """Ask without printing. Raises DeviceUnavailable."""
        return await self._timed(None, timeout_s)

    async def _timed(self, payload: bytes | None, timeout_s: float) -> PrinterStatus:
        progress = _Progress()
        answer: PrinterStatus | None = None
        try:
            with trio.move_on_after(timeout_s):
                async with self._lock:
                    progress.queued, progress.stage = False, "connecting; nothing was sent"
                    async with self._connect() as channel:
                        answer = await self._talk(channel, payload, progress)
            if answer is None:
                failure = DeviceRefused if progress.queued else DeviceUnavailable
                raise failure(f"{self._name}: not done in {timeout_s:.1f} s ({progress.stage})")
        except DeviceError as exc:
            self._meter.error(exc)
            refused = isinstance(exc, DeviceRefused)
            self._meter.now(Availability.AVAILABLE if refused else Availability.UNAVAILABLE)
            raise
        self._meter.now(Availability.AVAILABLE)
        return answer

    async def _talk(self, channel: _Channel, payload: bytes | None, progress: _Progress) -> PrinterStatus:
        progress.stage = "asking whether it is ready; nothing was sent"
        with trio.move_on_after(ANSWER_S) as patience:
            status = await self._ask(channel)
        if patience.cancelled_caught:
            raise DeviceUnavailable(f"{self._name}: does not answer; nothing was sent")
        if payload is None:
            return status
        if not status.ready:
            raise DeviceRefused(f"{self._name}: {_reason(status)}; nothing was sent")
        progress.stage = "sending"
        self._meter.sent(len(payload))
        await channel.send(payload)
        progress.stage = "sent, and not confirmed"
        # No limit of its own here: the question waits behind the job wherever that is buffered.
        while not (status := await self._ask(channel)).ready:
            if status.cover_open or status.paper_end or status.error:
                raise DeviceRefused(f"{self._name}: {_reason(status)} during the job")
            await trio.sleep(BUSY_PAUSE_S)
        return status

    async def _ask(self, channel: _Channel) -> PrinterStatus:
        status = PrinterStatus()
        for kind in QUESTIONS:
            await channel.send(status_request(kind))
            status = status.combined(await self._answer(channel, kind))
        return status

    async def _answer(self, channel: _Channel, kind: StatusKind) -> PrinterStatus:
        stray = 0
        while stray <= STRAY_BYTES_MAX:
            data = await channel.receive()
            self._meter.heard(len(data))
            for octet in data:
                try:
                    answer = decode_status(kind, octet)
                except PrinterError:
                    stray += 1
                    self._meter.bad_frames += 1
                else:
                    self._meter.frames_in += 1
                    return answer
        raise DeviceUnavailable(f"{self._name}: answers, but not as an ESC/POS printer does")

    @abstractmethod
    def _connect(self) -> AbstractAsyncContextManager[_Channel]:
        """A connection for one job; when the job fails, unsent bytes are thrown away with it."""


class TcpPrinter(_EscPosPrinter):
    """A `drivers.base.Printer` at a TCP address; ticket printers listen on port 9100."""

    def __init__(self, host: str, port: int = 9100) -> None:
        super().__init__(f"printer {host}:{port}")
        self._host = host
        self._port = port

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[_Channel]:
        stream: trio.SocketStream | None = None
        try:
            with trio.move_on_after(CONNECT_S):
                stream = await trio.open_tcp_stream(self._host, self._port)
        except OSError as exc:
            raise DeviceUnavailable(f"{self._name}: cannot be reached: {exc}; nothing was sent") from exc
        if stream is None:
            raise DeviceUnavailable(f"{self._name}: cannot be reached in {CONNECT_S:.0f} s; nothing was sent")
        try:
            yield _TcpChannel(self._name, stream)
        except BaseException:
            # reset instead of a polite close, which would go on delivering a job that has just been given up
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise
        finally:
            stream.socket.close()


class SerialPrinter(_EscPosPrinter):
    """A `drivers.base.Printer` on a serial line. Raises ValueError for a rate that no line has."""

    def __init__(self, path: str, baud: int = 19200) -> None:
        super().__init__(f"printer {path}")
        self._path = path
        self._baud = check_baud(baud)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[_Channel]:
        with open_line(self._path, self._baud) as line:
            yield _SerialChannel(line)


class _TcpChannel(_Channel):
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
            data = bytes(await self._stream.receive_some(STRAY_BYTES_MAX))
        except trio.BrokenResourceError as exc:
            raise DeviceUnavailable(f"{self._name}: the connection broke") from exc
        if not data:
            raise DeviceUnavailable(f"{self._name}: hung up")
        return data


class _SerialChannel(_Channel):
    def __init__(self, line: SerialLine) -> None:
        self._line = line

    async def send(self, data: bytes) -> None:
        # the time limit is that of the job, which cancels this; what is unsent then is dropped with the line
        await self._line.send_all(data, float("inf"), drain=True)

    async def receive(self) -> bytes:
        return await self._line.receive_some(STRAY_BYTES_MAX)


def _reason(status: PrinterStatus) -> str:
    """Why it does not print, in words for the person beside it."""
    reasons = (
        (status.cover_open, "盖未合上 cover open"),
        (status.paper_end, "缺纸 out of paper"),
        (status.error, "故障 printer error"),
    )
    return ", ".join(text for applies, text in reasons if applies) or "离线 offline"
