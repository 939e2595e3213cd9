"""A ticket printer: jobs one after the other, each done only when the printer itself says so.

A job of which nothing was sent is tried again as it is.  One that broke in the middle, or was never confirmed, may
have come out or come out later: it is printed again as another copy, with a print id of its own, and the copy before
is void.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

import trio

from actors._common import offer
from actors.gate import device_view
from core import Address, Stop
from drivers.base import Printer
from drivers.errors import DeviceError, DeviceRefused, JobBroken, JobUnconfirmed
from protocols.console import FeedEvent
from protocols.messages import Base
from storage.interfaces import PrintJobState

JOBS_MAX = 500  # waiting at one printer; more are refused to the window at once
DONE_MAX = 1000  # printed jobs that are remembered, so that none is printed twice
JOB_TIMEOUT_S = 15.0
RETRY_REFUSED_S = 3.0  # paper out, cover open: people need a moment
RETRY_MIN_S, RETRY_MAX_S = 0.5, 10.0  # nobody answers
RETRY_VOID_MAX_S = 120.0  # after each copy that was void the pause doubles: a printer in doubt must not eat the roll


Reprint = Callable[[bytes, int], bytes]
"""(payload, copy) -> the same job as copy 2, 3 …: marked as printed again, with a print id of its own."""


def _as_it_was(payload: bytes, copy: int) -> bytes:
    return payload


class PrintTicket(Base, frozen=True, kw_only=True):
    """sales -> printer: print this job. Unanswered; its state goes to the ledger and to the console."""

    job: int
    payload: bytes

    def __repr__(self) -> str:  # the payload carries a ticket code
        return f"PrintTicket(job={self.job})"


class PrinterActor:
    """Child of the device supervisor. Waiting jobs outlive a crash of the actor, because the object does."""

    def __init__(
        self, name: str, printer: Printer, *, ledger: Address, hub: Address, reprint: Reprint = _as_it_was
    ) -> None:
        self._name = name
        self._printer = printer
        self._reprint = reprint
        self._ledger = ledger
        self._hub = hub
        self._jobs: collections.deque[PrintTicket] = collections.deque()
        self._known: set[int] = set()
        self._done: collections.deque[int] = collections.deque(maxlen=DONE_MAX)
        self._copy = 1  # of the first job: the one that is being printed, or is next
        self._begun = False  # it was handed to the printer, and how that ended is not known

    async def run(self, me: Address) -> None:
        self._wake = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._print_all)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case PrintTicket() as job:
                        if job.job in self._known:
                            continue  # offered again after a restart of sales
                        if job.job in self._done:
                            self._state(job.job, "done", "")  # the ledger had not heard of it when sales asked
                            continue
                        if len(self._jobs) >= JOBS_MAX:
                            self._state(job.job, "failed", "too many jobs wait at this printer")
                            continue
                        self._known.add(job.job)
                        self._jobs.append(job)
                        self._wake.set()
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _print_all(self) -> None:
        retry_s = RETRY_MIN_S
        while True:
            self._hub.tell(device_view(self._name, "printer", "", self._printer.statistics()))
            if not self._jobs:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            job = self._jobs[0]
            if self._begun:  # we crashed in the middle of it
                self._void(job, "interrupted")
            self._state(job.job, "printing", "" if self._copy == 1 else f"copy {self._copy}")
            self._begun = True
            try:
                payload = job.payload if self._copy == 1 else self._reprint(job.payload, self._copy)
                await self._printer.print_job(payload, JOB_TIMEOUT_S)
            except DeviceError as exc:
                self._begun = False
                if isinstance(exc, JobBroken | JobUnconfirmed):
                    self._void(job, str(exc))
                    await trio.sleep(min(RETRY_VOID_MAX_S, RETRY_REFUSED_S * 2 ** min(self._copy - 2, 10)))
                    continue
                self._state(job.job, "queued", str(exc))
                self._complain(str(exc))
                await trio.sleep(RETRY_REFUSED_S if isinstance(exc, DeviceRefused) else retry_s)
                retry_s = min(RETRY_MAX_S, retry_s * 2)
                continue
            retry_s = RETRY_MIN_S
            self._jobs.popleft()
            self._known.discard(job.job)
            self._done.append(job.job)
            self._state(job.job, "done", "" if self._copy == 1 else f"copy {self._copy}")
            self._copy, self._begun = 1, False

    def _void(self, job: PrintTicket, why: str) -> None:
        """What came out of the job so far, now or later, counts no more: it is printed again as the next copy."""
        self._state(job.job, "printing", f"copy {self._copy} is void: {why}")
        self._complain(f"{why} — 第 {self._copy} 份作废，重新打印 copy {self._copy} is void and printed again")
        self._copy += 1

    def _state(self, job: int, state: str, detail: str) -> None:
        offer(self._ledger, PrintJobState(job=job, state=state, detail=detail[:200], at=time.time()))

    def _complain(self, text: str) -> None:
        offer(
            self._hub,
            FeedEvent(
                at=time.time(),
                kind="print",
                severity="warning",
                code="printer",
                text_zh=f"打印机 {self._name}：{text}",
                text_en=f"Printer {self._name}: {text}",
            ),
        )
