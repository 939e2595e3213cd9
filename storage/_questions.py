"""Questions to the ledger, answered within the batch they came with, after its writes."""

from __future__ import annotations

from datetime import date

from storage._admit import facts_of, presented_by, refused_before
from storage._books import Books
from storage._facts import Versions
from storage._gate import load_books
from storage._phone import PHONE_QUESTIONS, PhoneQuestion, answer_phone
from storage._phone_ops import Blocked, SpanFigures
from storage._pq import Connection
from storage._sales import booked_ticket
from storage.interfaces import (
    Entries,
    EntryCount,
    EntryStatistics,
    Explain,
    GrantOp,
    LaneBooks,
    LaneLedger,
    LedgerRefused,
    ListPrintJobs,
    OpenGrant,
    PassTemplate,
    PrintJobRow,
    PrintJobRows,
    ScanBooks,
    Template,
)
from storage.queries import load

Question = LaneLedger | PassTemplate | ListPrintJobs | EntryStatistics | PhoneQuestion
QUESTIONS = (LaneLedger, PassTemplate, ListPrintJobs, EntryStatistics, *PHONE_QUESTIONS)


async def answer(
    connection: Connection, site: str, question: Question, day_start: float, versions: Versions
) -> LaneBooks | Template | PrintJobRows | Entries | Blocked | SpanFigures:
    """Answer one question."""
    if isinstance(question, PHONE_QUESTIONS):
        return await answer_phone(connection, site, question)
    sql = load("questions")
    if isinstance(question, LaneLedger):
        opened = await connection.fetch(sql["open_grants"], site, question.lane)
        epoch = question.epoch or await connection.fetchval(sql["latest_epoch"], site, question.device)
        counters = await connection.fetchrow(sql["lane_counters"], site, question.device, epoch or "")
        today = await connection.fetchrow(sql["lane_today"], site, question.lane, day_start)
        assert counters is not None
        assert today is not None
        known = epoch is not None
        return LaneBooks(
            lane=question.lane,
            open_grants=[
                OpenGrant(
                    grant=row["grant_id"],
                    nonce=row["nonce"],
                    ticket=row["ticket"],
                    pax=row["pax"],
                    passed=row["passed"],
                    granted_at=row["granted_at"],
                    ttl_s=row["ttl_s"],
                    counter_epoch=row["counter_epoch"],
                    counter_entries=row["counter_entries"],
                    counter_exits=row["counter_exits"],
                )
                for row in opened
            ],
            epoch=epoch,
            entries=counters["entries"] if known else None,
            exits=counters["exits"] if known else None,
            entries_today=today["entries"],
            exits_today=today["exits"],
        )
    if isinstance(question, PassTemplate):
        row = await connection.fetchrow(sql["template"], site, question.credential_hash, str(question.kind))
        if row is None:
            return Template(needs_face=False, ticket=None, template_enc=None, algorithm="")
        rules = versions[row["product"], row["version"]].rules
        return Template(
            binds_face=rules.binds == "face",
            used=row["used"],
            needs_face=rules.needs_face,
            ticket=row["ticket"],
            template_enc=row["template_enc"],
            algorithm=row["algorithm"],
        )
    if isinstance(question, EntryStatistics):
        try:
            days = [date.fromisoformat(question.first), date.fromisoformat(question.last)]
        except ValueError as exc:
            raise LedgerRefused(f"a business day is YYYY-MM-DD: {exc}") from exc
        rows = await connection.fetch(sql["entries"], site, *days)
        return Entries(rows=[EntryCount(**dict(row)) for row in rows])
    jobs = await connection.fetch(sql["print_jobs"], site, question.order)
    tickets = await connection.fetch(
        sql["tickets_by_id"], site, sorted({row["ticket"] for row in jobs}), question.order
    )
    return PrintJobRows(
        jobs=[
            PrintJobRow(
                job=row["job"],
                ticket=row["ticket"],
                printer=row["printer"],
                state=row["state"],
                detail=row["detail"],
            )
            for row in jobs
        ],
        tickets=[booked_ticket(row) for row in tickets],
    )


async def explain(connection: Connection, site: str, question: Explain, books: Books) -> ScanBooks:
    """The facts that a scan would be decided on, seen at the question's time; nothing is locked or written."""
    op = GrantOp(
        lane=question.lane,
        device="",
        nonce="",
        kind=question.kind,
        credential_hash=question.credential_hash,
        from_zone=question.from_zone,
        to_zone=question.to_zone,
        max_pax=1,
        pax=None,
        ttl_s=1.0,
        at=books.now,
        counter_epoch=None,
        counter_entries=None,
        counter_exits=None,
        face_ok=False,
        ticket=question.ticket,
    )
    await load_books(connection, site, books, [op], lock=False)
    zone = books.zones.get(question.to_zone)
    if zone is not None:
        zone.begin_day(books.day.isoformat())
        zone.settle(books.now)
    return ScanBooks(
        rights=facts_of(books, op, presented_by(books, op)),
        zone=None if zone is None else zone.facts(books.now),
        local=books.local,
        refused=refused_before(books, op),
    )
