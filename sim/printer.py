"""A simulated ESC/POS ticket printer on TCP or behind a pty. It prints into files: one per ticket, as the bytes came.

It answers `DLE EOT n` at once and `GS r` in its turn, as a real one does, and knows the troubles of real ones: paper
out in the middle of a ticket, cover open, slow, silent, garbage, switched off.  With `bytes_per_s` it has a memory and
a head that needs time: what it took before the paper ran out comes out when there is paper again.
"""

from __future__ import annotations

import collections
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import trio

from protocols.errors import PrinterError
from protocols.escpos import (
    JobParser,
    PaperCut,
    PrinterStatus,
    QrPrinted,
    SequenceAsked,
    StatusKind,
    encode_sequence,
    encode_status,
)
from sim.line import SimLine
from sim.truth import Truth

JOB_BYTES_MAX = 256 * 1024  # a job that is longer is no ticket: the connection is dropped
JOBS_KEPT_MAX = 2_000  # files; older ones are overwritten
CONNECTIONS_MAX = 16
READ_BYTES = 4096
MEMORY_BYTES = 64 * 1024  # of a slow printer; more than that waits on the wire
STEP_S = 0.01  # how often a slow head moves
REAL_TIME = b"\x10\x04"

READY = PrinterStatus(online=True)
NO_PAPER = PrinterStatus(online=False, paper_end=True)


class SimPrinter:
    """A printer that listens on `host`:`port` (0: any free one, see `port` once `run` has started).

    With `line` it is behind a pty at that path as well.
    """

    def __init__(
        self,
        printer: str,
        host: str,
        port: int,
        folder: Path,
        truth: Truth,
        *,
        line: Path | None = None,
        bytes_per_s: float | None = None,
        sequence: bool = True,
    ) -> None:
        self.printer = printer
        self.host = host
        self.port = port
        self.status = READY
        self.sequence = sequence  # it knows `GS r`
        self.paper_left: int | None = None  # bytes that can still be printed; then the paper is out
        self.silent = False
        self.twice = False  # every answer comes two times
        self.garbage = b""  # said before every answer
        self.spoilt = 0  # jobs of bytes that no printer understands, or that came while it could not print
        self.jobs = 0
        self.line = None if line is None else SimLine(line)
        self._folder = folder
        self._truth = truth
        self._connections = trio.CapacityLimiter(CONNECTIONS_MAX)
        self._bytes_per_s = bytes_per_s
        self._memory: collections.deque[tuple[bytes, _Talk]] = collections.deque()
        self._parser = JobParser()
        self._job = bytearray()
        self._codes: list[str] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(
                    partial(trio.serve_tcp, self._serve, self.port, host=self.host, handler_nursery=nursery)
                )
                self.port = listeners[0].socket.getsockname()[1]
                if self.line is not None:
                    nursery.start_soon(self._serve_line, self.line)
                if self._bytes_per_s is not None:
                    nursery.start_soon(self._turn)
                task_status.started()
        finally:
            if self.line is not None:
                self.line.close()

    def refill(self) -> None:
        """New paper, the cover closed: it goes on with what is in its memory."""
        self.paper_left = None
        self.status = READY

    @property
    def midway(self) -> bool:
        """Whether the head has begun a job whose end is still in the memory."""
        return bool(self._job) and bool(self._memory)

    def power_loss(self) -> None:
        """Everything in its memory is gone."""
        self._memory.clear()
        self._forget()

    # --- the wires ------------------------------------------------------------------------------------------------

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            self._connections.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await stream.aclose()
            return
        try:
            talk = _Talk(stream.send_all)
            async for data in stream:
                await self._take(bytes(data), talk)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # switched off on the other side
        except PrinterError:
            self.spoilt += 1
            self._forget()
        finally:
            if self._bytes_per_s is None:
                self._forget()  # half a job; a slow one keeps it in its memory
            self._connections.release_on_behalf_of(stream)
            await trio.aclose_forcefully(stream)

    async def _serve_line(self, line: SimLine) -> NoReturn:
        async def send(data: bytes) -> None:
            line.send(data)

        talk = _Talk(send)
        while True:
            try:
                await self._take(await line.receive(), talk)
            except PrinterError:
                self.spoilt += 1
                self._forget()

    async def _take(self, data: bytes, talk: _Talk) -> None:
        """Bytes from a wire: real-time questions are answered at once, everything else goes to the head."""
        data, questions = talk.sorted(data)
        if self._bytes_per_s is None:
            await self._print(data, talk)
        else:
            while sum(len(piece) for piece, _ in self._memory) > MEMORY_BYTES:  # noqa: ASYNC110  the head is slow
                await trio.sleep(STEP_S)
            self._memory.append((data, talk))
        for question in questions:
            await self._say(talk, encode_status(question, self.status))

    async def _say(self, talk: _Talk, answer: bytes) -> None:
        if self.silent:
            return
        try:
            async with talk.turn:  # the head and the real-time answers share the wire
                await talk.send((self.garbage + answer) * (2 if self.twice else 1))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # whoever asked has gone

    # --- the head -------------------------------------------------------------------------------------------------

    async def _turn(self) -> NoReturn:
        """A slow head: so many bytes a second, as long as there is paper and the cover is closed."""
        assert self._bytes_per_s is not None
        while True:
            await trio.sleep(STEP_S)
            budget = max(1, int(self._bytes_per_s * STEP_S))
            while budget and self._memory and self.status.ready:
                data, talk = self._memory.popleft()
                if len(data) > budget:
                    self._memory.appendleft((data[budget:], talk))
                    data = data[:budget]
                budget -= len(data)
                try:
                    rest = await self._print(data, talk)
                except PrinterError:
                    self.spoilt += 1
                    self._forget()
                    continue
                if rest:
                    self._memory.appendleft((rest, talk))

    async def _print(self, data: bytes, talk: _Talk) -> bytes:
        """Put bytes on paper; those that there was no paper for are returned."""
        rest = b""
        if self.paper_left is not None and self.status.ready:
            data, rest = data[: self.paper_left], data[self.paper_left :]
            self.paper_left -= len(data)
        self._job += data
        if len(self._job) > JOB_BYTES_MAX:
            raise PrinterError("a job that is no ticket")
        for event in self._parser.feed(data):
            if isinstance(event, QrPrinted):
                self._codes.append(event.text)
            elif isinstance(event, SequenceAsked):
                if self.sequence and self.status.ready:
                    await self._say(talk, encode_sequence(self.status))
            elif isinstance(event, PaperCut):
                if self.status.ready:
                    self._finish()
                else:
                    self.spoilt += 1
                self._job.clear()
                self._codes = []
        if rest and self.paper_left == 0:
            self.status = NO_PAPER
        return rest

    def _forget(self) -> None:
        self._parser.reset()
        self._job.clear()
        self._codes = []

    def _finish(self) -> None:
        """A ticket falls out of the slot."""
        self.jobs += 1
        name = f"{self.printer}-{self.jobs % JOBS_KEPT_MAX:05d}.escpos"
        (self._folder / name).write_bytes(bytes(self._job))
        self._truth.print(self.printer, job=name, codes=self._codes)


class _Talk:
    """One connection: where answers go, and the beginning of a question that has not come wholly."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self.send = send
        self.turn = trio.Lock()
        self._tail = b""

    def sorted(self, data: bytes) -> tuple[bytes, list[StatusKind]]:
        """What is to be printed, and the real-time questions among it; they are seen wherever they stand."""
        data, self._tail = self._tail + data, b""
        rest = b""
        found = []
        while (at := data.find(REAL_TIME)) >= 0 and at + 2 < len(data):
            if data[at + 2] in set(StatusKind):
                found.append(StatusKind(data[at + 2]))
                rest, data = rest + data[:at], data[at + 3 :]
            else:
                rest, data = rest + data[: at + 2], data[at + 2 :]
        for tail in (REAL_TIME, REAL_TIME[:1]):
            if data.endswith(tail):
                data, self._tail = data[: -len(tail)], tail
                break
        return rest + data, found
