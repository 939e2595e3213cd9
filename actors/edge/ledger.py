"""What a lane's machine says to "the ledger" at a lane controller: written into its journal, answered from it."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from actors._common import offer
from actors.edge._parts import Book, Disk, Tell, Written
from core import Address, Envelope, Stop
from protocols.messages import Ended, Passed
from protocols.uploads import RecAlarm, RecRefused
from storage.interfaces import CounterBaseline, LaneLedger, LedgerUnavailable, OpenCase, RefusedScan

DETAIL_CHARACTERS_MAX = 200

log = structlog.get_logger(__name__)


class EdgeLedger:
    """The actor. Answers what is on disk and only then; `LedgerUnavailable` means that it is not, and is asked again.

    `passed` hears of each person that was booked, for figures.
    """

    def __init__(
        self,
        *,
        disk: Disk,
        neighbours: Address,
        upload: Address,
        clock: Callable[[], float] = time.time,
        passed: Callable[[Passed], None] = lambda statement: None,
    ) -> None:
        self._disk = disk
        self._neighbours = neighbours
        self._upload = upload
        self._clock = clock
        self._passed = passed

    async def run(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            if isinstance(envelope.msg, Stop):
                return
            try:
                await self._take(envelope)
            except LedgerUnavailable as exc:
                envelope.fail(exc)

    async def _take(self, envelope: Envelope) -> None:
        match envelope.msg:
            case Passed() as passage:
                booked = await self._disk.do(lambda book: book.passed(passage))
                if not booked.repeated:
                    self._passed(passage)
                envelope.reply(booked)
            case Ended() as end:
                settlement = await self._disk.do(lambda book: book.ended(end))
                if settlement.uses:
                    offer(self._neighbours, Tell(uses=settlement.uses))
                envelope.reply(settlement.settled)
            case CounterBaseline() as baseline:
                envelope.reply(await self._disk.do(lambda book: book.baseline(baseline)))
            case LaneLedger() as question:
                envelope.reply(await self._disk.do(lambda book: book.books(question, self._clock()), reads=True))
                return  # nothing new to upload
            case RefusedScan() | OpenCase() as note:
                await self._disk.do(lambda book: _note(book, note))
            case _:
                return  # words for the server's ledger that a lane has no use for
        offer(self._upload, Written())


def _note(book: Book, note: RefusedScan | OpenCase) -> None:
    if isinstance(note, RefusedScan):
        refused = RecRefused(
            nonce=note.nonce or "none", kind=note.kind.value, code=note.code, credential=note.credential_hash
        )
        book.note(refused, note.at)
        return
    detail = note.detail[:DETAIL_CHARACTERS_MAX].replace("\0", "")
    book.note(RecAlarm(kind=note.kind, detail=detail, severity=note.severity), note.at)
