"""Questions to the ledger, answered within the batch they came with, after its writes."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import asyncpg

from storage._sales import booked_ticket
from storage.interfaces import (
    Explain,
    LaneBooks,
    LaneLedger,
    ListPrintJobs,
    OpenGrant,
    PassTemplate,
    PrintJobRow,
    PrintJobRows,
    RightFacts,
    ScanBooks,
    Template,
    ZoneFacts,
)
from storage.queries import load

Question = LaneLedger | PassTemplate | ListPrintJobs | Explain
QUESTIONS = (LaneLedger, PassTemplate, ListPrintJobs, Explain)


def business_day_start(now: float, timezone: ZoneInfo, start: time) -> float:
    """When the business day began that `now` belongs to; all in seconds since the epoch."""
    local = datetime.fromtimestamp(now, timezone)
    day = local.date() if local.time() >= start else local.date() - timedelta(days=1)
    return datetime.combine(day, start, timezone).timestamp()


async def answer(
    connection: asyncpg.Connection, site: str, question: Question, day_start: float
) -> LaneBooks | Template | PrintJobRows | ScanBooks:
    """Answer one question."""
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
        row = await connection.fetchrow(sql["template"], site, question.credential_hash)
        if row is None:
            return Template(needs_face=False, ticket=None, template_enc=None, algorithm="")
        return Template(
            needs_face=row["needs_face"],
            ticket=row["ticket"],
            template_enc=row["template_enc"],
            algorithm=row["algorithm"],
        )
    if isinstance(question, Explain):
        return await _explain(connection, site, question, sql)
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


async def _explain(
    connection: asyncpg.Connection, site: str, question: Explain, sql: dict[str, str]
) -> ScanBooks:
    rights = await connection.fetch(sql["rights_of"], site, str(question.kind), question.credential_hash)
    zone = await connection.fetchrow(sql["zone_now"], site, question.to_zone)
    return ScanBooks(
        rights=[RightFacts(**row) for row in rights],
        zone=None if zone is None else ZoneFacts(**zone),
    )
