"""Brings the journal to the server: in order, again until it is acknowledged, and forgotten only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
import trio

from actors._common import offer
from actors.edge._parts import Ask, Disk, LinkUp, Uploaded, Written
from core import Address, Stop
from drivers.errors import DeviceError
from protocols import devicelink as link
from protocols.messages import Telemetry
from protocols.uploads import RECORDS_MAX, Record
from storage.interfaces import LedgerUnavailable

UPLOAD_S = 10.0  # one upload may take so long; then it is said again
RETRY_MIN_S = 0.25
RETRY_MAX_S = 5.0
GATHER_S = 0.05  # records of one moment go together

log = structlog.get_logger(__name__)


class UploadStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start."""

    uploads: int
    records: int  # acknowledged
    refused: int  # the server will not have an upload: something is wrong with this lane


class _Go(Telemetry, frozen=True, kw_only=True):
    pass


class UploadActor:
    """The actor. Works while the link is up and something waits; a failure is a pause, never an end."""

    def __init__(self, *, disk: Disk, ask: Ask, header: Callable[[], Any], decider: Address) -> None:
        self._decider = decider
        self._disk = disk
        self._ask = ask
        self._header = header
        self._up = False
        self._pause_s = RETRY_MIN_S
        self._uploads = self._records = self._refused = 0
        self._working = False
        self._more = False

    def statistics(self) -> UploadStatistics:
        return UploadStatistics(uploads=self._uploads, records=self._records, refused=self._refused)

    async def run(self, me: Address) -> None:
        self._working = self._up = False
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case LinkUp(up=up):
                        came, self._up = up and not self._up, up
                        if came and not self._working:
                            self._pause_s, self._working = RETRY_MIN_S, True
                            me.set_timer("go", 0.0, _Go())
                    case Written() if self._up and not self._working:
                        self._working = True
                        me.set_timer("go", GATHER_S, _Go())
                    case Written():
                        self._more = True
                    case _Go():
                        self._working = True
                        nursery.start_soon(self._work, me)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _work(self, me: Address) -> None:
        """Upload until nothing waits or something goes wrong."""
        self._more = False
        try:
            while self._up and await self._upload_some():
                pass
            self._pause_s = RETRY_MIN_S
            self._working = False
            if self._more:  # written while the last answer was on its way
                me.tell(Written())
            if self._up:
                offer(self._decider, Uploaded())
        except (DeviceError, LedgerUnavailable, ConnectionError) as exc:
            if not self._up:  # tried again when it is
                self._working = False
                return
            log.info("lane.upload_waits", error=str(exc)[:200], pause_s=self._pause_s)
            me.set_timer("go", self._pause_s, _Go())
            self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)

    async def _upload_some(self) -> bool:
        """One upload. False when nothing waits. Raises DeviceError or ConnectionError when it was not taken."""
        rows, boot = await self._disk.do(lambda book: (book.pending(RECORDS_MAX), book.boot), reads=True)
        if not rows:
            return False
        records = [Record(seq=row.seq, at=row.at, body=self._disk.book.body(row)) for row in rows]
        request = link.Upload(**self._header(), journal=boot, oldest=rows[0].seq, records=records)
        reply = await self._ask(request, UPLOAD_S)
        if not isinstance(reply, link.UploadAck):
            self._refused += 1
            raise ConnectionError(f"the server answers {type(reply).__name__} {getattr(reply, 'code', '')}")
        self._uploads += 1
        upto = reply.upto
        gone = await self._disk.do(lambda book: book.acknowledged(reply.journal, upto))
        self._records += gone
        if not gone:  # nothing would change by asking at once again
            raise ConnectionError(f"the server has records up to {upto} of journal {reply.journal!r}")
        return True
