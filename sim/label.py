"""A simulated label printer on raw TCP, in ZPL or TSPL. It is no real printer: it keeps the bytes of each label.

Faults on command: labels out (also in the middle of a job), head open, slow, silent, garbage.
"""

from __future__ import annotations

import re
from functools import partial
from typing import NoReturn

import trio

from protocols.label import (
    TSPL_STATUS_REQUEST,
    ZPL_STATUS_REQUEST,
    LabelStatus,
    encode_tspl_status,
    encode_zpl_status,
)
from protocols.slip import Language

JOB_BYTES_MAX = 1024 * 1024  # what is not a label by then never will be: the connection is dropped
READ_BYTES = 4096
STEP_S = 0.01
_ENDS = {Language.ZPL: re.compile(rb"\^XZ\r?\n?"), Language.TSPL: re.compile(rb"PRINT \d+,\d+\r\n")}


class SimLabelPrinter:
    """A printer that listens on `host` (`port` is known once `run` has started)."""

    def __init__(self, language: Language | str, host: str = "127.0.0.1", *, label_s: float = 0.0) -> None:
        self.language = Language(language)
        self.host = host
        self.port = 0
        self.status = LabelStatus()
        self.label_s = label_s  # how long one label takes
        self.labels_left: int | None = None  # then they are out
        self.silent = False
        self.garbage = b""  # said before every answer
        self.printed: list[bytes] = []
        self._waiting: list[bytes] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                partial(trio.serve_tcp, self._serve, 0, host=self.host, handler_nursery=nursery)
            )
            self.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(self._turn)
            task_status.started()

    def refill(self) -> None:
        """New labels: it goes on with what waits."""
        self.labels_left = None
        self.status = LabelStatus()

    async def _turn(self) -> NoReturn:
        while True:
            await trio.sleep(STEP_S)
            if not self._waiting or not self.status.ready:
                continue
            if self.labels_left == 0:
                self.status = LabelStatus(paper_out=True)
                continue
            await trio.sleep(self.label_s)
            self.printed.append(self._waiting.pop(0))
            if self.labels_left is not None:
                self.labels_left -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        request = ZPL_STATUS_REQUEST if self.language is Language.ZPL else TSPL_STATUS_REQUEST
        buffer = b""
        try:
            async for data in stream:
                buffer += data
                while (at := buffer.find(request)) >= 0:
                    buffer = self._take(buffer[:at]) + buffer[at + len(request) :]
                    await self._say(stream)
                buffer = self._take(buffer)
                if len(buffer) > JOB_BYTES_MAX:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # switched off on the other side
        finally:
            await trio.aclose_forcefully(stream)

    def _take(self, data: bytes) -> bytes:
        """Whole labels wait to be printed; the rest is returned."""
        while (end := _ENDS[self.language].search(data)) is not None:
            self._waiting.append(data[: end.end()])
            data = data[end.end() :]
        return data

    async def _say(self, stream: trio.SocketStream) -> None:
        if self.silent:
            return
        now = LabelStatus(
            **{name: getattr(self.status, name) for name in LabelStatus.__struct_fields__ if name != "pending"},
            pending=len(self._waiting),
        )
        encode = encode_zpl_status if self.language is Language.ZPL else encode_tspl_status
        await stream.send_all(self.garbage + encode(now))
