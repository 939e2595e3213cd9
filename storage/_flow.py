"""The flow of batches through one connection: while one is written, the next is decided and a third is looked up.

A batch has four parts: the question for what it touches, the decision (plain Python), its writes, and COMMIT.  One
after the other, PostgreSQL and we would wait for each other half of the time.  So what goes to the server is

    begin 1, question 1 | question 2 | writes 1, commit 1 | begin 2, question 3 | writes 2, commit 2 | ...

and question 2 is answered while batch 1 is decided, batch 2 is decided while batch 1 is written.  The answer to
question 2 does not know what batch 1 writes.  That is harmless as long as the two touch different tickets, grants,
scans and passages (`keys`); otherwise question 2 is asked again when batch 1 is on disk.  What all batches touch, the
zones, is handed over as the batch before left it.  Both rest on the ledger being the only writer.

COMMIT of a batch is sent when the one before is on disk and answered: there is one batch at most whose outcome can be
unknown, and nothing is decided on what may yet be undone without being decided anew when it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import structlog
import trio

from storage._asked import ask_books
from storage._batch import (
    BEGIN,
    GATE_TYPES,
    Attempt,
    Site,
    book,
    is_poison,
    one_by_one,
    open_books,
    send_commit,
)
from storage._gate import apart, hand_over, keys_of
from storage._pq import Connection, Piece

log = structlog.get_logger(__name__)


class Flow:
    """Batches of one site on their way through one connection.

    Args:
        take: the operations that wait, or None; called when there is room for another batch.
        answer: told each batch when it is on disk.
    """

    def __init__(
        self,
        connection: Connection,
        site: Site,
        take: Callable[[], Attempt | None],
        answer: Callable[[Attempt], None],
    ) -> None:
        self.connection = connection
        self._site = site
        self._take = take
        self._answer = answer
        self.committing: Attempt | None = None  # COMMIT is sent, not answered
        self.current: Attempt | None = None  # taken, and perhaps decided
        self.following: Attempt | None = None  # taken, and perhaps asked for
        self._patience: trio.CancelScope | None = None  # while nothing but COMMIT is waited for

    @property
    def idle(self) -> bool:
        return self.committing is None and self.current is None and self.following is None

    async def advance(self) -> None:
        """Decide and send one batch, and answer the one before; without a batch that waits, only that.

        Raises whatever the connection raises when the database fails, never for what is wrong with an operation.
        """
        try:
            if self.current is None:
                self.current, self.following = self.following or self._take(), None
            if self.current is None:
                if await self._answered():
                    await self._finish()
            else:
                await self._carry(self.current)
                self.committing, self.current = self.current, None
        except Exception as exc:
            if not is_poison(exc) and not isinstance(exc, asyncpg.InFailedSQLTransactionError):
                raise
            await self._repair(exc)

    def interrupt(self) -> None:
        """There is something to take: it need not wait for the COMMIT that is waited for."""
        if self._patience is not None:
            self._patience.cancel()

    async def _answered(self) -> bool:
        """Wait for the answer to COMMIT, with nothing else to do. False when there is now."""
        with trio.CancelScope() as self._patience:
            await self.connection.answered()
        interrupted, self._patience = self._patience.cancelled_caught, None
        return not interrupted

    async def _finish(self) -> None:
        """Wait until the batch whose COMMIT was sent is on disk, and answer it."""
        attempt = self.committing
        if attempt is not None:
            assert attempt.committed is not None
            await self.connection.results(attempt.committed)
            self._done(attempt)
            self.committing = None

    def _done(self, attempt: Attempt) -> None:
        self._site.audit, self._site.closed = attempt.audit, attempt.closed
        self._answer(attempt)

    async def _carry(self, attempt: Attempt) -> None:
        """Everything up to sending COMMIT; on the way the batch before is answered."""
        connection, site = self.connection, self._site
        if attempt.asked is None:
            await self._ask(attempt)
            await self._finish()
        assert attempt.asked is not None
        found = (await connection.results(attempt.asked))[-1]
        last = self.committing or site
        attempt.audit, attempt.closed = last.audit, last.closed
        work = open_books(site, attempt.ops, found, attempt.audit)
        behind, attempt.behind = attempt.behind, None
        if behind is not None:
            assert behind.books is not None
            if not apart(behind.books, work.books):
                await self._finish()
                attempt.start_over()
                await self._carry(attempt)
                return
            hand_over(behind.books, work.books)
        attempt.books = work.books
        begun = await self._begin(attempt)
        attempt.answers = await book(connection, site, attempt, work, attempt.ops)
        await connection.flush()
        await self._finish()
        if begun is not None:
            await connection.results(begun)
        await send_commit(connection, site, attempt)
        await connection.flush()

    async def _ask(self, attempt: Attempt) -> None:
        """Begin the batch's transaction with the question for what it touches."""
        connection, site = self.connection, self._site
        begin = await connection.prepare(BEGIN)
        gate_ops = [op for op in attempt.ops if type(op) in GATE_TYPES]
        question = await ask_books(connection, site.site, site.shop, site.today(), gate_ops) if gate_ops else None
        connection.send(begin)  # nothing is queued before everything is known to be fit to be
        if question is not None:
            connection.send_encoded(*question)
        attempt.begun = True
        attempt.asked = connection.mark()

    async def _begin(self, attempt: Attempt) -> Piece | None:
        """Begin the transaction if need be, and ask for what the batch that follows touches."""
        connection = self.connection
        self.following = self._take() if attempt.simple else None
        question = await self._question_behind(attempt, self.following)
        if attempt.begun and question is None:
            return None
        if not attempt.begun:
            connection.send(await connection.prepare(BEGIN))
            attempt.begun = True
        if question is not None:
            connection.send_encoded(*question)
        piece = connection.mark()
        if question is not None:
            assert self.following is not None
            self.following.asked, self.following.behind = piece, attempt
        await connection.flush()
        return piece

    async def _question_behind(self, attempt: Attempt, following: Attempt | None) -> Any:
        if following is None or not following.simple:
            return None
        site = self._site
        try:
            attempt.keys = attempt.keys or keys_of(attempt.ops)
            following.keys = keys_of(following.ops)
            if not attempt.keys.isdisjoint(following.keys):
                return None
            return await ask_books(  # the zones are handed over
                self.connection, site.site, site.shop, site.today(), following.ops, zones=False
            )
        except Exception as exc:
            if not is_poison(exc):
                raise
            return None  # it will fail again when its turn has come, and then it is its own trouble

    async def _repair(self, exc: Exception) -> None:
        """A batch cannot be written as it is: it is undone and carried out one by one. Those behind it start over."""
        connection = self.connection
        await connection.drain()
        bad = self.committing
        if bad is not None:
            assert bad.committed is not None
            failed = bad.committed.error
            if failed is None:  # on disk; it is the next one that is bad
                self._done(bad)
                self.committing = bad = None
            elif not is_poison(failed):
                raise failed
        if bad is None:
            bad = self.current
            if bad is None or bad.committed is not None or not is_poison(exc):
                raise exc
        log.warning("batch taken apart", operations=len(bad.ops), reason=str(exc))
        for attempt in (self.current, self.following):
            if attempt is not None:
                attempt.start_over()
        await connection.execute("rollback")
        await one_by_one(connection, self._site, bad)
        self._done(bad)
        if bad is self.committing:
            self.committing = None
        else:
            self.current = None
