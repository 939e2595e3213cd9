"""Questions of phones: the tickets that are not to be let in without the ledger, and a manager's figures.

Each question looks at a bounded number of rows, so that a phone that loads its list keeps no gate waiting.
"""

from __future__ import annotations

from storage._phone_ops import Blocked, BlockedTickets, SiteFigures, SpanFigures, SpanRow
from storage._pq import Connection
from storage.queries import load

WINDOW = 4000  # tickets that one question looks at

PhoneQuestion = BlockedTickets | SiteFigures
PHONE_QUESTIONS = (BlockedTickets, SiteFigures)


async def answer_phone(connection: Connection, site: str, question: PhoneQuestion) -> Blocked | SpanFigures:
    """Answer one question; nothing is locked."""
    sql = load("phone")
    if isinstance(question, BlockedTickets):
        row = await connection.fetchrow(
            sql["blocked"], site, question.after, question.zone, WINDOW, question.since, question.valid_at
        )
        assert row is not None
        return Blocked(tickets=list(row["tickets"]), next=row["last"])
    spans = []
    for begin, end in question.spans:
        row = await connection.fetchrow(sql["figures"], site, begin, end)
        assert row is not None
        spans.append(SpanRow(**dict(row)))
    lanes = await connection.fetch(sql["of_lanes"], site, question.lanes_since)
    inside = await connection.fetchval(sql["inside"], site)
    return SpanFigures(
        spans=spans, lanes=[(row["lane"], row["entries"], row["exits"]) for row in lanes], inside=int(inside)
    )
