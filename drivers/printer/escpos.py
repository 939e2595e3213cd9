"""Ticket printers: a job is done when the printer says so itself, after the job, and not before.

Each job has a connection of its own: ask for cover, paper and readiness, send, ask again.  A job that fails is cut
off, and what still lies in our own buffers is thrown away, so that a ticket does not come out after it was reported
as failed (what the printer had taken by then may still be printed; the caller prints again under a new print id).

`DLE EOT` is answered at once, also while the printer still has the job in its memory.  So there is a second question,
`GS r`, which takes its place in the job and is answered when everything before it is printed.  Not every printer knows
it: each is asked once, while it is idle (`Confirm.AUTO`).

The answers to status requests do not say what they answer, so one question of a kind is asked at a time, never twice
on one connection without its answer: two answers on the way would be taken for each other.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from enum import StrEnum

import trio

from drivers.errors import DeviceUnavailable, JobBroken
from drivers.printer._channel import Channel, file_channel, serial_channel, tcp_channel
from drivers.printer._job import JobPrinter, Progress
from drivers.serial import check_baud
from protocols.errors import PrinterError
from protocols.escpos import (
    PrinterStatus,
    StatusKind,
    decode_sequence,
    decode_status,
    sequence_request,
    status_request,
)

BUSY_PAUSE_S = 0.2  # between questions to a printer that is not done and names no reason
PROBE_S = 0.4  # an idle printer that knows `GS r` answers at once
STRAY_BYTES_MAX = 64  # bytes that answer nothing (flow control, unasked status) before the answer has to come
QUESTIONS = (StatusKind.PRINTER, StatusKind.OFFLINE_CAUSE, StatusKind.PAPER)


class Confirm(StrEnum):
    """How a printer says that a job is done."""

    AUTO = "auto"  # by `GS r` where it knows that, which is tried once
    SEQUENCE = "sequence"  # by `GS r`
    STATUS = "status"  # by `DLE EOT` alone: it has taken everything, and had paper and a closed cover after that


class _EscPosPrinter(JobPrinter[PrinterStatus]):
    """What all ways of connecting share."""

    _answers_end_with_connection = False  # a late answer to an earlier job's question cannot arrive in a later job

    def __init__(self, name: str, confirm: Confirm) -> None:
        super().__init__(name)
        # whether `GS r` is known to it; None until it was tried
        self._sequence = {Confirm.AUTO: None, Confirm.SEQUENCE: True, Confirm.STATUS: False}[confirm]
        self._tries = confirm is Confirm.AUTO
        self._awaited = False  # `GS r` was sent, and its answer has not come
        self._settled = False  # no answer to one of an earlier job can be on its way
        self._well = False  # what it last said of itself while a job was confirmed
        self._printed: PrinterStatus | None = None  # that answer

    async def _talk(self, channel: Channel, payload: bytes | None, progress: Progress) -> PrinterStatus:
        self._awaited = False
        return await super()._talk(channel, payload, progress)

    async def _prepare(self, channel: Channel) -> None:
        """Try once whether `GS r` is known, and let no answer to an earlier one be taken for that to this job's.

        What a printer prints instead of knowing it, the reset at the beginning of the job takes away.
        """
        if self._sequence is False or (self._sequence and (self._settled or self._answers_end_with_connection)):
            return
        await self._ask_in_sequence(channel)
        # it may still be printing what an earlier job left in its memory: then the job's own time counts
        with trio.move_on_after(PROBE_S if self._sequence is None else float("inf")):
            while self._awaited:
                self._sort(await channel.receive())
        self._sequence = not self._awaited
        self._awaited = False
        if self._sequence and not self._answers_end_with_connection:
            with trio.move_on_after(PROBE_S):  # an earlier answer comes just before this one: this one follows at once
                while True:
                    self._meter.heard(len(await channel.receive()))
            self._settled = True

    def _last_words(self) -> bytes:
        """A question by itself could come to a printer that has lost the job meanwhile, and has nothing to print."""
        if not self._sequence:
            return b""
        self._settled, self._printed, self._awaited = False, None, True
        return sequence_request()

    async def _confirm(self, channel: Channel) -> PrinterStatus:
        try:
            return await self._watch(channel)
        except trio.Cancelled:
            if self._tries and self._awaited and self._well:
                self._sequence = None  # well, and silent about the job: perhaps another printer stands there now
            raise

    async def _watch(self, channel: Channel) -> PrinterStatus:
        """Until the job is done."""
        self._well = False
        while True:
            status = await self._ask(channel)
            self._well = status.ready
            if self._sequence and self._printed is not None:
                status = status.combined(self._printed)
            if status.cover_open or status.paper_end or status.error:
                raise JobBroken(f"{self._name}: {_words(status)} during the job")
            if status.ready and not (self._sequence and self._awaited):
                self._settled = True
                return status
            await trio.sleep(BUSY_PAUSE_S)

    async def _ask_in_sequence(self, channel: Channel) -> None:
        self._printed, self._awaited = None, True
        await channel.send(sequence_request())

    def _reason(self, status: PrinterStatus) -> str:
        return "" if status.ready else _words(status)

    async def _ask(self, channel: Channel) -> PrinterStatus:
        status = PrinterStatus()
        for kind in QUESTIONS:
            await channel.send(status_request(kind))
            status = status.combined(await self._answer(channel, kind))
        return status

    async def _answer(self, channel: Channel, kind: StatusKind) -> PrinterStatus:
        stray = 0
        while stray <= STRAY_BYTES_MAX:
            answers = self._sort(await channel.receive())
            for octet in answers:
                try:
                    answer = decode_status(kind, octet)
                except PrinterError:
                    stray += 1
                    self._meter.bad_frames += 1
                    if stray > STRAY_BYTES_MAX:
                        break
                else:
                    self._meter.frames_in += 1
                    return answer
        raise DeviceUnavailable(f"{self._name}: answers, but not as an ESC/POS printer does")

    def _sort(self, data: bytes) -> bytes:
        """Keep an answer to `GS r`, which may come between all others; the rest is returned."""
        self._meter.heard(len(data))
        rest = bytearray()
        for octet in data:
            if not self._awaited:
                rest.append(octet)
                continue
            try:
                self._printed = decode_sequence(octet)
            except PrinterError:
                rest.append(octet)
            else:
                self._awaited = False
                self._meter.frames_in += 1
        return bytes(rest)


class TcpPrinter(_EscPosPrinter):
    """A `drivers.base.Printer` at a TCP address; ticket printers listen on port 9100."""

    _answers_end_with_connection = True

    def __init__(self, host: str, port: int = 9100, *, confirm: Confirm = Confirm.AUTO) -> None:
        super().__init__(f"printer {host}:{port}", confirm)
        self._host = host
        self._port = port

    def _connect(self) -> AbstractAsyncContextManager[Channel]:
        return tcp_channel(self._name, self._host, self._port)


class SerialPrinter(_EscPosPrinter):
    """A `drivers.base.Printer` on a serial line. Raises ValueError for a rate that no line has."""

    def __init__(self, path: str, baud: int = 19200, *, confirm: Confirm = Confirm.AUTO) -> None:
        super().__init__(f"printer {path}", confirm)
        self._path = path
        self._baud = check_baud(baud)

    def _connect(self) -> AbstractAsyncContextManager[Channel]:
        return serial_channel(self._path, self._baud)


class FilePrinter(_EscPosPrinter):
    """A `drivers.base.Printer` on USB, by its file; it has to answer status requests there."""

    def __init__(self, path: str = "/dev/usb/lp0", *, confirm: Confirm = Confirm.AUTO) -> None:
        super().__init__(f"printer {path}", confirm)
        self._path = path

    def _connect(self) -> AbstractAsyncContextManager[Channel]:
        return file_channel(self._path)


def _words(status: PrinterStatus) -> str:
    """Why it does not print, in words for the person beside it."""
    reasons = (
        (status.cover_open, "盖未合上 cover open"),
        (status.paper_end, "缺纸 out of paper"),
        (status.error, "故障 printer error"),
    )
    return ", ".join(text for applies, text in reasons if applies) or "离线 offline"
