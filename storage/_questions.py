"""Questions to the ledger, answered within the batch they came with, after its writes."""

from __future__ import annotations

import asyncpg

from storage._facts import Right, Ticket, Versions
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
    ScanBooks,
    Template,
    ZoneFacts,
)
from storage.queries import load

Question = LaneLedger | PassTemplate | ListPrintJobs | Explain
QUESTIONS = (LaneLedger, PassTemplate, ListPrintJobs, Explain)


async def answer(
    connection: asyncpg.Connection, site: str, question: Question, day_start: float, versions: Versions
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
            needs_face=versions[row["product"], row["version"]].rules.needs_face,
            ticket=row["ticket"],
            template_enc=row["template_enc"],
            algorithm=row["algorithm"],
        )
    if isinstance(question, Explain):
        return await _explain(connection, site, question, sql, versions)
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
    connection: asyncpg.Connection, site: str, question: Explain, sql: dict[str, str], versions: Versions
) -> ScanBooks:
    rows = await connection.fetch(sql["rights_of"], site, str(question.kind), question.credential_hash)
    zone = await connection.fetchrow(sql["zone_now"], site, question.to_zone)
    rights = []
    for row in rows:
        ticket = Ticket(*row["ticket_row"])
        product = versions[ticket.product, ticket.version]
        rights.append(Right(*row["right_row"]).facts(ticket, product, row["credential_state"]))
    return ScanBooks(rights=rights, zone=None if zone is None else ZoneFacts(**zone))
