"""Cases and histories, read from the books over a connection of their own: the gates' batches never wait for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import trio

from storage._pq import Connection, open_connection
from storage.connection import Dsn
from storage.queries import load

CONNECT_S = 3.0
STATEMENT_MS = 3_000
READ_S = 5.0  # everything together
CASES_MAX = 500  # in one answer
EVENTS_MAX = 500


class CasesUnreadable(Exception):
    """The books cannot be read now; the text says why."""


class Note(msgspec.Struct, frozen=True):
    """What somebody did: acknowledged, assigned (`detail` is to whom), note, closed."""

    at: float
    user: str
    what: str
    detail: str


class Case(msgspec.Struct, frozen=True):
    """A case; `state` is open, acknowledged, assigned, resolved or closed."""

    case: int
    kind: str
    lane: str
    severity: str
    detail: str
    opened_at: float
    state: str
    assigned_to: str
    notes: list[Note]


class Event(msgspec.Struct, frozen=True):
    """A scan (`admitted`, `refused`) or the passages of a grant; `code` is the scan's, or the direction."""

    at: float
    kind: str
    lane: str
    code: str
    grant: int | None
    people: int


async def read_cases(dsn: Dsn, site: str, *, state: str, limit: int, case: int | None = None) -> list[Case]:
    """Cases that are `waiting`, `all`, or in one state; the newest first. Raises CasesUnreadable."""
    async with _reading(dsn, site) as connection:
        sql = load("cases")
        rows = await connection.fetch(sql["cases"], site, state, min(limit, CASES_MAX), case)
        noted = await connection.fetch(sql["case_notes"], site, [row["case_id"] for row in rows])
    notes: dict[int, list[Note]] = defaultdict(list)
    for row in noted:
        notes[row["case_id"]].append(Note(row["at"], row["user_name"], row["what"], row["detail"]))
    return [
        Case(
            case=row["case_id"],
            kind=row["kind"],
            lane=row["lane"],
            severity=row["severity"],
            detail=row["detail"],
            opened_at=row["opened_at"],
            state=row["state"],
            assigned_to=row["assigned_to"],
            notes=notes[row["case_id"]],
        )
        for row in rows
    ]


async def find_ticket(dsn: Dsn, site: str, hashes: Sequence[tuple[str, bytes]]) -> int | None:
    """The ticket of a credential given as (kind, keyed hash); None when there is none. Raises CasesUnreadable."""
    async with _reading(dsn, site) as connection:
        kinds, values = [kind for kind, _ in hashes], [value for _, value in hashes]
        ticket = await connection.fetchval(load("cases")["ticket_of"], site, kinds, values)
    return None if ticket is None else int(ticket)


async def read_history(dsn: Dsn, site: str, tickets: Sequence[int]) -> list[Event]:
    """What happened to tickets at gates, the newest first. Raises CasesUnreadable."""
    async with _reading(dsn, site) as connection:
        rows = await connection.fetch(load("cases")["history"], site, list(tickets), EVENTS_MAX)
    return [
        Event(row["at"], row["kind"], row["lane"], row["code"], row["grant_id"], row["people"]) for row in rows
    ]


@asynccontextmanager
async def _reading(dsn: Dsn, site: str) -> AsyncIterator[Connection]:
    settings = {
        "timezone": "UTC",
        "default_transaction_read_only": "on",
        "statement_timeout": str(STATEMENT_MS),
        "application_name": f"paifang cases {site}"[:60],
        "jit": "off",
    }
    try:
        with trio.fail_after(READ_S):
            connection = await open_connection(dsn, settings, CONNECT_S)
            try:
                yield connection
            finally:
                connection.terminate()
    except (OSError, asyncpg.PostgresError, trio.TooSlowError) as exc:
        raise CasesUnreadable(str(exc) or type(exc).__name__) from exc
