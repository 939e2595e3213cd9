"""Label printers on raw TCP, in ZPL or TSPL: done when nothing is left to print and nothing stands against it.

Both languages answer for the whole queue: `~HS` says how many formats and labels are waiting, `ESC ! ?` whether it is
printing.  So a job begins only on a printer that has nothing else to do.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio

from drivers.errors import DeviceUnavailable, JobBroken
from drivers.printer._channel import Channel, tcp_channel
from drivers.printer._job import JobPrinter
from protocols.errors import PrinterError
from protocols.label import (
    TSPL_STATUS_REQUEST,
    ZPL_STATUS_REQUEST,
    LabelStatus,
    decode_tspl_status,
    decode_zpl_status,
)
from protocols.slip import Language

BUSY_PAUSE_S = 0.2  # between questions to a printer that is still printing
IDLE_TWICE_S = 0.3  # idle has to be said twice, so far apart: just after the last byte it may not have begun


class LabelPrinter(JobPrinter[LabelStatus]):
    """A `drivers.base.Printer` for labels at a TCP address. Raises ValueError for a language that is not a label's."""

    def __init__(self, host: str, port: int = 9100, *, language: Language | str = Language.ZPL) -> None:
        super().__init__(f"label printer {host}:{port}")
        self._host = host
        self._port = port
        self._language = Language(language)
        if self._language is Language.ESCPOS:
            raise ValueError("a label printer speaks zpl or tspl")

    def _connect(self) -> AbstractAsyncContextManager[Channel]:
        return tcp_channel(self._name, self._host, self._port)

    async def _ask(self, channel: Channel) -> LabelStatus:
        zpl = self._language is Language.ZPL
        await channel.send(ZPL_STATUS_REQUEST if zpl else TSPL_STATUS_REQUEST)
        data = b""
        while True:
            received = await channel.receive()
            self._meter.heard(len(received))
            data += received
            try:
                status = decode_zpl_status(data) if zpl else decode_tspl_status(data)
            except PrinterError as exc:
                self._meter.bad_frames += 1
                raise DeviceUnavailable(f"{self._name}: answers, but not in {self._language.upper()}") from exc
            if status is not None:
                self._meter.frames_in += 1
                return status

    def _reason(self, status: LabelStatus) -> str:
        return _words(status) or ("正在打印 printing something else" if status.pending else "")

    async def _confirm(self, channel: Channel) -> LabelStatus:
        idle = 0
        while True:
            status = await self._ask(channel)
            if not status.ready:
                raise JobBroken(f"{self._name}: {_words(status)} during the job")
            idle = idle + 1 if status.done else 0
            if idle == 2:
                return status
            await trio.sleep(IDLE_TWICE_S if idle else BUSY_PAUSE_S)


def _words(status: LabelStatus) -> str:
    """Why it does not print, in words for the person beside it; empty when nothing stands against it."""
    reasons = (
        (status.head_open, "盖未合上 head open"),
        (status.paper_out, "缺纸 out of labels"),
        (status.ribbon_out, "碳带用尽 out of ribbon"),
        (status.jammed, "卡纸 jammed"),
        (status.paused, "已暂停 paused"),
        (status.error, "故障 printer error"),
    )
    return ", ".join(text for applies, text in reasons if applies)
