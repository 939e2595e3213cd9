"""One print job at a time, with its time limit, its words, and the difference between not begun and broken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import trio

from drivers._statistics import Meter
from drivers.base import Availability, DriverStatistics
from drivers.errors import DeviceError, DeviceRefused, DeviceUnavailable, JobBroken, JobUnconfirmed
from drivers.printer._channel import Channel

S = TypeVar("S")

ANSWER_S = 2.0  # a printer answers a status request at once, whatever it is doing
JOB_BYTES_MAX = 256 * 1024  # a ticket has two thousand


class Progress:
    """How far one job has come, for the words and the kind of its failure."""

    stage = "waiting for another job"
    queued = True
    begun = False  # something was sent, so something may come out


class JobPrinter(ABC, Generic[S]):
    """A `drivers.base.Printer` in any language; `S` is what it says of itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._meter = Meter()
        self._lock = trio.Lock()

    def statistics(self) -> DriverStatistics:
        """`frames_out` counts jobs begun, `frames_in` answers; availability is that of the last job or question."""
        return self._meter.snapshot()

    async def print_job(self, payload: bytes, timeout_s: float) -> None:
        """See `Printer.print_job`. Jobs wait for each other, within their own time.

        Raises JobBroken or JobUnconfirmed once anything was sent: then the job is printed again under a new print id.
        Before that, when nothing came out, DeviceRefused when the printer names a reason (paper, cover, fault),
        DeviceUnavailable when it does not answer, ValueError for a job that is empty or too large.
        """
        if not 0 < len(payload) <= JOB_BYTES_MAX:
            raise ValueError(f"a job has 1 to {JOB_BYTES_MAX} bytes, not {len(payload)}")
        await self._timed(payload, timeout_s)

    async def status(self, timeout_s: float = ANSWER_S) -> S:
        """Ask without printing. Raises DeviceUnavailable."""
        return await self._timed(None, timeout_s)

    async def _timed(self, payload: bytes | None, timeout_s: float) -> S:
        progress = Progress()
        answer: list[S] = []
        try:
            with trio.move_on_after(timeout_s):
                async with self._lock:
                    progress.queued, progress.stage = False, "connecting; nothing was sent"
                    async with self._connect() as channel:
                        answer.append(await self._talk(channel, payload, progress))
            if not answer:
                failure = DeviceRefused if progress.queued else DeviceUnavailable
                raise failure(f"{self._name}: not done in {timeout_s:.1f} s ({progress.stage})")
        except DeviceError as exc:
            self._meter.error(exc)
            refused = isinstance(exc, DeviceRefused)
            self._meter.now(Availability.AVAILABLE if refused else Availability.UNAVAILABLE)
            if progress.begun and not isinstance(exc, JobBroken | JobUnconfirmed):
                raise (JobBroken if refused else JobUnconfirmed)(str(exc)) from exc
            raise
        self._meter.now(Availability.AVAILABLE)
        return answer[0]

    async def _talk(self, channel: Channel, payload: bytes | None, progress: Progress) -> S:
        progress.stage = "asking whether it is ready; nothing was sent"
        with trio.move_on_after(ANSWER_S) as patience:
            status = await self._ask(channel)
        if patience.cancelled_caught:
            raise DeviceUnavailable(f"{self._name}: does not answer; nothing was sent")
        if payload is None:
            return status
        reason = self._reason(status)
        if reason:
            raise DeviceRefused(f"{self._name}: {reason}; nothing was sent")
        await self._prepare(channel)
        progress.stage, progress.begun = "sending", True
        self._meter.sent(len(payload))
        await channel.send(payload + self._last_words())
        progress.stage = "sent, and not confirmed"
        return await self._confirm(channel)

    async def _prepare(self, channel: Channel) -> None:
        """What has to be asked before a job."""

    def _last_words(self) -> bytes:
        """What is sent at the end of a job, in one piece with it: what is lost with the job has to be lost as well."""
        return b""

    @abstractmethod
    def _connect(self) -> AbstractAsyncContextManager[Channel]:
        """A connection for one job; when the job fails, unsent bytes are thrown away with it."""

    @abstractmethod
    async def _ask(self, channel: Channel) -> S:
        """The printer's state now."""

    @abstractmethod
    def _reason(self, status: S) -> str:
        """Why it does not take a job, in words for the person beside it; empty when it does."""

    @abstractmethod
    async def _confirm(self, channel: Channel) -> S:
        """Return when the printer says that the job is done. Raises JobBroken when it names a reason why not.

        There is no limit of its own here: the question waits behind the job wherever that is buffered.
        """
