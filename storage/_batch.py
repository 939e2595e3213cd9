"""One batch, one transaction: load what it touches, decide in memory, write, commit.

The module speaks asyncio (asyncpg does); the ledger crosses over once per batch, because each crossing costs as much
as a query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from protocols.clock import business_day, business_day_start
from protocols.messages import Base, Ended, Passed
from storage._admit import admit
from storage._books import Books
from storage._gate import GATE_OPS, Sweep, load_books, write_books
from storage._issue import Shop
from storage._occupancy import calibrate, close_day, stop
from storage._office import Office, carry_out
from storage._office_books import OFFICE_QUESTIONS, answer_office
from storage._office_handlers import HANDLERS
from storage._office_ops import OfficeOp
from storage._questions import QUESTIONS, answer, explain
from storage._records import EMPTY_CHAIN, AuditHead, Records
from storage._rows import Rows
from storage._sales import SALES_OPS, Sales
from storage.interfaces import (
    AuditEntry,
    Calibrate,
    CounterBaseline,
    DecideRule,
    Explain,
    GrantOp,
    IncidentNote,
    LedgerRefused,
    OpenCase,
    PrintJobState,
    RefusedScan,
    SaleOp,
    StopZone,
    ZoneCount,
)
from storage.queries import load

# What a database that fails can raise through asyncpg, its internal errors on a dying connection included.
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# What PostgreSQL says about an operation that is wrong and stays wrong.
POISON = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
UNANSWERED = (RefusedScan, OpenCase, PrintJobState, AuditEntry, IncidentNote)
KNOWN: tuple[type[Base], ...] = (
    *GATE_OPS, *SALES_OPS, *QUESTIONS, Explain, *HANDLERS, *OFFICE_QUESTIONS,
    OpenCase, AuditEntry, IncidentNote, Sweep,
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Site:
    """What every batch of a site shares: its rules, and where its two chains stand."""

    site: str
    decide: DecideRule
    shop: Shop
    timezone: ZoneInfo
    day_start: time
    clock: Callable[[], float]
    new_id: Callable[[], int]
    ledger_seq: int = 0
    audit: AuditHead = EMPTY_CHAIN
    night_close: bool = True
    closed: date = date.min  # the last business day whose counts were written off

    def next_seq(self) -> int:
        """Gaps are harmless: a batch that is rolled back leaves one."""
        self.ledger_seq += 1
        return self.ledger_seq


@dataclass(slots=True)
class Attempt:
    """A batch under way. After a lost connection `committing` and `xid` say what must be found out."""

    ops: list[Base]
    answers: list[Any] = field(default_factory=list)  # a value, or an exception to answer with
    zones: list[ZoneCount] = field(default_factory=list)
    xid: str = ""
    committing: bool = False
    audit: AuditHead = EMPTY_CHAIN
    closed: date = date.min
    one_by_one: bool = False


async def transact(connection: asyncpg.Connection, site: Site, attempt: Attempt) -> None:
    """Carry out the batch. After this every operation has its answer and all of it is on disk.

    Raises whatever asyncpg raises when the database fails, never for what is wrong with an operation.
    """
    await connection.execute("begin")
    attempt.audit, attempt.closed = site.audit, site.closed
    try:
        attempt.answers = await _book(connection, site, attempt, attempt.ops)
        await _commit(connection, attempt)
    except Exception as exc:
        if not _is_poison(exc):
            raise
        log.warning("batch taken apart", operations=len(attempt.ops), reason=_reason(exc))
        attempt.committing = False
        await connection.execute("rollback")
        await _one_by_one(connection, site, attempt)
    site.audit, site.closed = attempt.audit, attempt.closed


async def _one_by_one(connection: asyncpg.Connection, site: Site, attempt: Attempt) -> None:
    """The batch failed as a whole: each operation under its own savepoint, so that one bad one harms nobody."""
    attempt.one_by_one = True
    attempt.answers, attempt.zones = [], []
    await connection.execute("begin")
    attempt.audit, attempt.closed = site.audit, site.closed
    for op in attempt.ops:
        before = attempt.audit, attempt.closed
        await connection.execute("savepoint one")
        try:
            answers = await _book(connection, site, attempt, [op])
            await connection.execute("set constraints all immediate")
            await connection.execute("set constraints all deferred")
        except Exception as exc:
            if not _is_poison(exc):
                raise
            await connection.execute("rollback to one")
            attempt.audit, attempt.closed = before
            refused = LedgerRefused(_reason(exc))
            refused.__cause__ = exc
            answers = [refused]
            if isinstance(op, UNANSWERED):
                case = _refused_case(op, _reason(exc), site.clock(), site.new_id())
                await _book(connection, site, attempt, [case])
        await connection.execute("release one")
        attempt.answers += answers
    await _commit(connection, attempt)


def _is_poison(exc: Exception) -> bool:
    """Is the operation to blame? Also for what our own code could not write: others need not suffer for it."""
    return isinstance(exc, POISON) or not isinstance(exc, FAILURES)


async def _commit(connection: asyncpg.Connection, attempt: Attempt) -> None:
    if not attempt.xid:
        attempt.xid = await connection.fetchval("select coalesce(pg_current_xact_id_if_assigned()::text, '')")
    attempt.committing = True
    await connection.execute("commit")


async def _book(connection: asyncpg.Connection, site: Site, attempt: Attempt, ops: Sequence[Base]) -> list[Any]:
    now = site.clock()
    records = Records(site.site, now, attempt.audit)
    rows = Rows(site.site, load("gate"))
    books = Books(rows, records, site.decide, now, site.new_id, site.next_seq, site.shop)
    sales = Sales(site.site, site.shop, now, site.new_id)
    gate_ops = [op for op in ops if isinstance(op, (*GATE_OPS, Sweep))]
    if gate_ops:
        attempt.xid = await load_books(connection, site.site, books, gate_ops) or attempt.xid
        _begin_day(site, attempt, books)
    if any(isinstance(op, SALES_OPS) for op in ops):
        await sales.load(connection, ops)
    answers = [_apply(op, books, sales, records) for op in ops]
    zones = await write_books(connection, site.site, books)
    if zones:
        attempt.zones = zones
    await sales.write(connection)
    if any(isinstance(op, (OfficeOp, *OFFICE_QUESTIONS)) for op in ops):
        await _office(connection, site, attempt, ops, answers, records)
    await records.write(connection)
    attempt.audit = records.audit
    for place, op in enumerate(ops):
        if isinstance(op, Explain):
            at = now if op.at is None else op.at
            seen = Books(Rows(site.site, {}), records, site.decide, at, site.new_id, site.next_seq, site.shop)
            answers[place] = await explain(connection, site.site, op, seen)
        if isinstance(op, QUESTIONS):
            day_start = business_day_start(now, site.timezone, site.day_start)
            answers[place] = await answer(connection, site.site, op, day_start, site.shop.versions)
    return answers


def close_is_due(site: Site) -> bool:
    """Has a business day ended that is not closed?"""
    yesterday = business_day(site.clock(), site.timezone, site.day_start) - timedelta(days=1)
    return site.night_close and site.closed < yesterday


def _begin_day(site: Site, attempt: Attempt, books: Books) -> None:
    """Let the books know what day it is; the first batch of a business day closes the one before."""
    today = business_day(books.now, site.timezone, site.day_start)
    books.today = today.isoformat()
    yesterday = today - timedelta(days=1)
    if site.night_close and attempt.closed < yesterday:
        close_day(books, yesterday.isoformat())
        attempt.closed = yesterday
    if attempt.closed >= yesterday:
        books.closed_before = business_day_start(books.now, site.timezone, site.day_start)


async def _office(
    connection: asyncpg.Connection,
    site: Site,
    attempt: Attempt,
    ops: Sequence[Base],
    answers: list[Any],
    records: Records,
) -> None:
    """People's commands, one after the other, to what gates and windows have left; then the office's questions."""
    now = site.clock()
    office = Office(connection, site.site, site.shop, now, records, site.new_id)
    for place, op in enumerate(ops):
        if isinstance(op, OfficeOp):
            answers[place] = await carry_out(office, op, HANDLERS[type(op)])
    if office.corrections:  # of a zone's count: booked as everybody else's
        rows = Rows(site.site, load("gate"))
        books = Books(rows, records, site.decide, now, site.new_id, site.next_seq, site.shop)
        attempt.xid = await load_books(connection, site.site, books, office.corrections) or attempt.xid
        _begin_day(site, attempt, books)
        for correction in office.corrections:
            calibrate(books, correction)
        attempt.zones = await write_books(connection, site.site, books) or attempt.zones
    for place, op in enumerate(ops):
        if isinstance(op, OFFICE_QUESTIONS):
            try:
                answers[place] = await answer_office(office, op)
            except LedgerRefused as exc:
                answers[place] = exc


def _apply(op: Base, books: Books, sales: Sales, records: Records) -> Any:
    """Move the books. A refusal, or a rule that fails, is this operation's answer and nobody else's trouble."""
    try:
        match op:
            case GrantOp():
                return admit(books, op)
            case Passed():
                return books.passed(op)
            case Ended():
                return books.ended(op)
            case Calibrate():
                return calibrate(books, op)
            case StopZone():
                return stop(books, op)
            case CounterBaseline():
                return books.baseline(op)
            case RefusedScan():
                return books.refused(op)
            case SaleOp():
                return sales.sale(op)
            case PrintJobState():
                return sales.print_job(op)
            case OpenCase():
                return records.open_case(op)
            case AuditEntry():
                return records.entry(op)
            case IncidentNote():
                return records.note(op)
            case _:
                return None  # a question, answered after the writes
    except LedgerRefused as exc:
        refused = exc
    except Exception as exc:
        log.exception("an operation failed", op=type(op).__name__)
        refused = LedgerRefused(f"{type(op).__name__} failed: {type(exc).__name__}")
        refused.__cause__ = exc
    if isinstance(op, UNANSWERED):
        records.open_case(_refused_case(op, str(refused), books.now, books.new_id()))
    return refused


def _refused_case(op: Base, reason: str, now: float, number: int) -> OpenCase:
    """Nobody waits for the answer to such an operation, so its refusal must wait for somebody."""
    name = type(op).__name__
    detail = f"{name} could not be written: {reason}"
    return OpenCase(key=f"refused:{number}", kind="refused", lane="", severity="alarm", detail=detail, at=now)


def _reason(exc: BaseException) -> str:
    constraint = getattr(exc, "constraint_name", None)
    return f"refused by the constraint {constraint}" if constraint else f"refused by the database: {exc}"
