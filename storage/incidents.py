"""Evacuations afterwards: their record, who passed, and which tickets they concerned. Reads only."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import msgspec

from storage.connection import Dsn, in_asyncio
from storage.queries import load

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0


class IncidentError(Exception):
    """The record cannot be read, or there is no such incident. The text says which."""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One evacuation. `ended_at` None: it was not restored yet. Times are seconds since the epoch."""

    incident: int
    started_at: float
    ended_at: float | None


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the record."""

    at: float
    kind: str
    lane: str
    user_name: str
    detail: str


class Passages(msgspec.Struct, frozen=True, kw_only=True):
    """People who passed a lane one way within a minute, which began at `minute`."""

    lane: str
    direction: str
    from_zone: str
    to_zone: str
    minute: float
    people: int


class Affected(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that it concerned. `why`: broken_off, turned_away or entered_before (the stronger one)."""

    ticket: int
    order_id: int
    product: str
    pax: int
    why: str
    lane: str
    at: float


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one evacuation."""

    incident: Incident
    notes: list[Note]
    passages: list[Passages]
    tickets: list[Affected]


async def incidents(dsn: Dsn, site: str) -> list[Incident]:
    """The latest ones, newest first. Raises IncidentError."""
    found: list[Incident] = await _translated(_incidents, dsn, site)
    return found


async def record(dsn: Dsn, site: str, incident: int | None = None) -> Record:
    """One evacuation, or the latest. Raises IncidentError."""
    found: Record = await _translated(_record, dsn, site, incident)
    return found


async def _translated(function: Any, dsn: Dsn, *arguments: Any) -> Any:
    try:
        return await in_asyncio(_connected, function, dsn, arguments)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as exc:
        raise IncidentError(f"the record of evacuations cannot be read: {exc}") from exc


async def _connected(function: Any, dsn: Dsn, arguments: tuple[Any, ...]) -> Any:
    connection = await asyncpg.connect(**dsn.asyncpg(), timeout=CONNECT_TIMEOUT_S, command_timeout=READ_TIMEOUT_S)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await function(connection, *arguments)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _incidents(connection: asyncpg.Connection, site: str) -> list[Incident]:
    return [Incident(**row) for row in await connection.fetch(_sql()["incidents"], site)]


async def _record(connection: asyncpg.Connection, site: str, wanted: int | None) -> Record:
    known = await _incidents(connection, site)
    found = next((each for each in known if wanted in (None, each.incident)), None)
    if found is None:
        raise IncidentError("there was no evacuation yet" if wanted is None else f"there is no incident {wanted}")
    until = found.ended_at if found.ended_at is not None else time.time()
    sql = _sql()
    period = (site, found.started_at, until)
    return Record(
        incident=found,
        notes=[Note(**row) for row in await connection.fetch(sql["incident_notes"], site, found.incident)],
        passages=[Passages(**row) for row in await connection.fetch(sql["incident_passages"], *period)],
        tickets=[Affected(**row) for row in await connection.fetch(sql["incident_tickets"], *period)],
    )


def _sql() -> dict[str, str]:
    return load("incidents")
