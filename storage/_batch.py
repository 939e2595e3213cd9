"""One batch, one transaction: load what it touches, decide in memory, write, commit.

Everything that is written goes to the server at once, in the order of `storage._flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from protocols.clock import business_day, business_day_start
from protocols.messages import Base, Ended, Passed
from storage._admit import admit
from storage._asked import ask_books
from storage._books import Books
from storage._gate import GATE_OPS, Sweep, fill_books, load_books, load_rarer, write_books
from storage._issue import Shop
from storage._occupancy import calibrate, close_day, stop
from storage._office import Office, carry_out
from storage._office_books import OFFICE_QUESTIONS, answer_office
from storage._office_handlers import HANDLERS
from storage._office_ops import OfficeOp
from storage._pq import Connection, Piece, Record
from storage._questions import QUESTIONS, answer, explain
from storage._records import EMPTY_CHAIN, AuditHead, Records
from storage._rows import Rows
from storage._sales import SALES_OPS, Sales
from storage._upload_ops import UploadOp
from storage._uploads import upload
from storage.interfaces import (
    AddShort,
    AuditEntry,
    Calibrate,
    CaseWork,
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
KNOWN: frozenset[type[Base]] = frozenset((
    *GATE_OPS, *SALES_OPS, *QUESTIONS, Explain, *HANDLERS, *OFFICE_QUESTIONS,
    OpenCase, CaseWork, AuditEntry, IncidentNote, Sweep,
))  # fmt: skip
BEGIN, COMMIT = "begin", "commit"
GATE_TYPES = frozenset((*GATE_OPS, Sweep))
SALES_TYPES, QUESTION_TYPES = frozenset(SALES_OPS), frozenset((*QUESTIONS, Explain))
OFFICE_TYPES = frozenset((*HANDLERS, *OFFICE_QUESTIONS))
SIMPLE_TYPES = frozenset((GrantOp, Passed, Ended, RefusedScan))  # touch what their keys say

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

    def today(self) -> date:
        """The business day."""
        return business_day(self.clock(), self.timezone, self.day_start)


@dataclass(slots=True)
class Attempt:
    """A batch under way. After a lost connection `committing` and `number` say what must be found out."""

    ops: list[Base]
    number: int  # no other batch of the site ever has it
    waiting: list[Any] = field(default_factory=list)  # for each operation, who waits for its answer
    answers: list[Any] = field(default_factory=list)  # a value, or an exception to answer with
    zones: list[ZoneCount] = field(default_factory=list)
    committing: bool = False
    committed: Piece | None = None  # all that it writes, up to its COMMIT
    audit: AuditHead = EMPTY_CHAIN
    closed: date = date.min
    one_by_one: bool = False
    again: bool = False  # it has lost one connection already
    begun: bool = False  # its transaction
    asked: Piece | None = None  # what it touches
    behind: Attempt | None = None  # the batch whose writes that answer does not know
    keys: set[Any] = field(default_factory=set)
    books: Books | None = None

    @property
    def simple(self) -> bool:
        """Does it touch nothing but what its keys say?"""
        return all(type(op) in SIMPLE_TYPES for op in self.ops)

    def start_over(self) -> None:
        """What was asked and begun for it is void."""
        self.begun, self.asked, self.behind, self.books = False, None, None, None


async def one_by_one(connection: Connection, site: Site, attempt: Attempt) -> None:
    """The batch failed as a whole: each operation under its own savepoint, so that one bad one harms nobody."""
    attempt.one_by_one, attempt.committing, attempt.committed = True, False, None
    attempt.answers, attempt.zones = [], []
    await connection.execute("begin")
    attempt.audit, attempt.closed = site.audit, site.closed
    for op in attempt.ops:
        before = attempt.audit, attempt.closed
        await connection.execute("savepoint one")
        try:
            answers = await _book_alone(connection, site, attempt, op)
            await connection.execute("set constraints all immediate")
            await connection.execute("set constraints all deferred")
        except Exception as exc:
            if not is_poison(exc):
                raise
            await connection.drain()
            await connection.execute("rollback to one")
            attempt.audit, attempt.closed = before
            refused = LedgerRefused(_reason(exc))
            refused.__cause__ = exc
            answers = [refused]
            if isinstance(op, UNANSWERED):
                case = _refused_case(op, _reason(exc), site.clock(), site.new_id())
                await _book_alone(connection, site, attempt, case)
        await connection.execute("release one")
        attempt.answers += answers
    await connection.results(await send_commit(connection, site, attempt))


async def _book_alone(connection: Connection, site: Site, attempt: Attempt, op: Base) -> list[Any]:
    begun: Piece | None = None
    if type(op) in GATE_TYPES:
        connection.send_encoded(*await ask_books(connection, site.site, site.shop, site.today(), [op]))
        begun = connection.mark()
    found = (await connection.results(begun))[-1] if begun else []
    return await book(connection, site, attempt, open_books(site, [op], found, attempt.audit), [op])


async def send_commit(connection: Connection, site: Site, attempt: Attempt) -> Piece:
    """Queue the mark and COMMIT, which ends the piece of everything that the batch writes."""
    mark, commit = await connection.prepare(load("setup")["mark"]), await connection.prepare(COMMIT)
    if not all(type(op) in QUESTION_TYPES for op in attempt.ops):
        connection.send(mark, site.site, attempt.number)
    attempt.committing = True  # from here on it may be on its way
    connection.send(commit)
    attempt.committed = connection.mark()
    return attempt.committed


def is_poison(exc: Exception) -> bool:
    """Is the operation to blame? Also for what our own code could not write: others need not suffer for it."""
    return isinstance(exc, POISON) or not isinstance(exc, FAILURES)


class Work(NamedTuple):
    """What one batch works on."""

    books: Books
    records: Records
    sales: Sales


def open_books(site: Site, ops: Sequence[Base], found: Sequence[Record], audit: AuditHead) -> Work:
    """The books as they were found, before anything is applied."""
    now = site.clock()
    records = Records(site.site, now, audit)
    books = Books(Rows(site.site, load("gate")), records, site.decide, now, site.new_id, site.next_seq, site.shop)
    if any(type(op) in GATE_TYPES for op in ops):
        fill_books(books, found[0])
    return Work(books, records, Sales(site.site, site.shop, now, site.new_id))


async def book(
    connection: Connection, site: Site, attempt: Attempt, work: Work, ops: Sequence[Base]
) -> list[Any]:
    """Apply operations, and queue what they write. Returns their answers."""
    books, records, sales = work
    if any(type(op) in GATE_TYPES for op in ops):
        await load_rarer(connection, site.site, books, ops)
        _begin_day(site, attempt, books)
    if any(type(op) in SALES_TYPES for op in ops):
        await sales.load(connection, ops)
    answers = [_apply(op, books, sales, records) for op in ops]
    moved = await write_books(connection, site.site, books)
    if moved:
        attempt.zones = moved
    await sales.write(connection)
    if any(type(op) in OFFICE_TYPES for op in ops):
        await _office(connection, site, attempt, ops, answers, records)
    await records.write(connection)
    attempt.audit = records.audit
    for place, op in enumerate(ops):
        if isinstance(op, Explain):
            at = books.now if op.at is None else op.at
            seen = Books(Rows(site.site, {}), records, site.decide, at, site.new_id, site.next_seq, site.shop)
            answers[place] = await explain(connection, site.site, op, seen)
        if isinstance(op, QUESTIONS):
            day_start = business_day_start(books.now, site.timezone, site.day_start)
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
    connection: Connection,
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
        await load_books(connection, site.site, books, office.corrections)
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


# By type, because `match` asks every class in turn, which is a microsecond for each that is not it.
_BOOKED: dict[type[Base], Callable[[Books, Any], Any]] = {
    GrantOp: admit,
    Passed: Books.passed,
    Ended: Books.ended,
    AddShort: Books.add_short,
    Calibrate: calibrate,
    StopZone: stop,
    CounterBaseline: Books.baseline,
    RefusedScan: Books.refused,
    UploadOp: upload,
}
_SOLD: dict[type[Base], Callable[[Sales, Any], Any]] = {SaleOp: Sales.sale, PrintJobState: Sales.print_job}
_RECORDED: dict[type[Base], Callable[[Records, Any], Any]] = {
    OpenCase: Records.open_case,
    CaseWork: Records.case_work,
    AuditEntry: Records.entry,
    IncidentNote: Records.note,
}


def _apply(op: Base, books: Books, sales: Sales, records: Records) -> Any:
    """Move the books. A refusal, or a rule that fails, is this operation's answer and nobody else's trouble."""
    try:
        kind = type(op)
        if kind in _BOOKED:
            return _BOOKED[kind](books, op)
        if kind in _SOLD:
            return _SOLD[kind](sales, op)
        if kind in _RECORDED:
            return _RECORDED[kind](records, op)
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
