"""A simulated ESC/POS ticket printer on TCP. It prints into files: one per ticket, with the bytes as they came.

It answers `DLE EOT n` as a real one does, and knows the troubles of real ones: paper out, cover open, switched off.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from protocols.errors import PrinterError
from protocols.escpos import JobParser, PaperCut, PrinterStatus, QrPrinted, StatusAsked, encode_status
from sim.truth import Truth

JOB_BYTES_MAX = 256 * 1024  # a job that is longer is no ticket: the connection is dropped
JOBS_KEPT_MAX = 2_000  # files; older ones are overwritten
CONNECTIONS_MAX = 4
READ_BYTES = 4096


class SimPrinter:
    """A printer that listens on `host`:`port` (0: any free one, see `port` once `run` has started)."""

    def __init__(self, printer: str, host: str, port: int, folder: Path, truth: Truth) -> None:
        self.printer = printer
        self.host = host
        self.port = port
        self.status = PrinterStatus(online=True)
        self.spoilt = 0  # jobs of bytes that no printer understands, or that came while it could not print
        self.jobs = 0
        self._folder = folder
        self._truth = truth
        self._paper = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                partial(trio.serve_tcp, self._serve, self.port, host=self.host, handler_nursery=nursery)
            )
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            self._paper.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await stream.aclose()
            return
        try:
            await self._print(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # switched off on the other side
        except PrinterError:
            self.spoilt += 1
        finally:
            self._paper.release_on_behalf_of(stream)
            await trio.aclose_forcefully(stream)

    async def _print(self, stream: trio.SocketStream) -> None:
        parser = JobParser()
        job = bytearray()
        codes: list[str] = []
        async for data in stream:
            job += data
            if len(job) > JOB_BYTES_MAX:
                return
            for event in parser.feed(bytes(data)):
                if isinstance(event, StatusAsked):
                    await stream.send_all(encode_status(event.kind, self.status))
                elif isinstance(event, QrPrinted):
                    codes.append(event.text)
                elif isinstance(event, PaperCut):
                    if self.status.ready:
                        self._finish(bytes(job), codes)
                    else:
                        self.spoilt += 1
                    job.clear()
                    codes = []

    def _finish(self, job: bytes, codes: list[str]) -> None:
        """A ticket falls out of the slot."""
        self.jobs += 1
        name = f"{self.printer}-{self.jobs % JOBS_KEPT_MAX:05d}.escpos"
        (self._folder / name).write_bytes(job)
        self._truth.print(self.printer, job=name, codes=codes)
