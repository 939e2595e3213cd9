"""The tables of one site, read whole for figures: on a connection of our own, read-only, in one snapshot.

Runs its queries on an asyncio loop in a thread of its own, because it is no part of the server and shares nothing with
its ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec
import trio

from paifang.figures import (
    CalibrationRow,
    EndRow,
    EntitlementRow,
    GrantRow,
    NoteRow,
    OrderRow,
    PassageRow,
    PrintJobRow,
    Rows,
    ScanRow,
    TicketRow,
    ZoneRow,
)
from storage.connection import Dsn
from storage.embedded import DATABASE, USER

QUERY_LIMIT_S = 60.0
CONNECT_LIMIT_S = 10.0
STATISTICS_PAUSE_S = 1.2  # PostgreSQL's sessions report their commits once a second

Row = TypeVar("Row", bound=msgspec.Struct)
Result = TypeVar("Result")

QUERIES: dict[type[msgspec.Struct], str] = {
    ZoneRow: 'select zone, inside, limit_people as "limit" from zones where site = $1',
    OrderRow: "select order_id as \"order\", channel || '/' || key as key from orders where site = $1",
    TicketRow: 'select ticket, order_id as "order", pax, product from tickets where site = $1',
    EntitlementRow: "select entitlement, ticket, zone, sold from entitlements where site = $1",
    GrantRow: (
        'select grant_id as "grant", ledger_seq as seq, lane, device, nonce, ticket, entitlement, to_zone, pax,'
        ' zone_limit as "limit" from grants where site = $1'
    ),
    EndRow: 'select grant_id as "grant", ledger_seq as seq, passed from grant_ends where site = $1',
    PassageRow: (
        'select device, boot, direction, seq as number, ledger_seq as seq, lane, kind, grant_id as "grant",'
        " from_zone, to_zone from passages where site = $1"
    ),
    CalibrationRow: (
        "select zone, delta, ledger_seq as seq from calibrations where site = $1"
        " union all select against, -delta, ledger_seq from calibrations where site = $1"
    ),
    ScanRow: "select lane, nonce, code from scans where site = $1",
    NoteRow: (
        "select incident, extract(epoch from noted_at)::float8 as at, kind, lane from incident_notes where site = $1"
    ),
    PrintJobRow: "select job, ticket, state from print_jobs where site = $1",
}


class RowsError(Exception):
    """The database cannot be read; the text says why."""


class LiveDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """What a running PostgreSQL says of itself. `commits` is `pg_stat_database.xact_commit` of our database."""

    fsync: str
    full_page_writes: str
    synchronous_commit: str
    commits: int


def running_dsn(data_dir: Path) -> Dsn:
    """How to reach the embedded PostgreSQL that a server runs on a data folder. Raises RowsError."""
    try:
        folder = (data_dir / "pg.socket").read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise RowsError(f"{data_dir}: no embedded database runs here ({exc.strerror})") from exc
    return Dsn(host=folder, user=USER, database=DATABASE)


async def read_rows(dsn: Dsn, site: str) -> Rows:
    """Everything that figures need, as of one moment. Raises RowsError."""

    async def read(connection: asyncpg.Connection[Any]) -> Rows:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = {kind: await _fetch(connection, kind, site) for kind in QUERIES}
        return Rows(
            zones=_typed(found, ZoneRow),
            orders=_typed(found, OrderRow),
            tickets=_typed(found, TicketRow),
            entitlements=_typed(found, EntitlementRow),
            grants=_typed(found, GrantRow),
            ends=_typed(found, EndRow),
            passages=_typed(found, PassageRow),
            calibrations=_typed(found, CalibrationRow),
            scans=_typed(found, ScanRow),
            notes=_typed(found, NoteRow),
            print_jobs=_typed(found, PrintJobRow),
        )

    return await _on_loop(dsn, read)


async def read_live(dsn: Dsn) -> LiveDatabase:
    """Settings and commits of a running database, as a new session sees them. Raises RowsError."""

    async def read(connection: asyncpg.Connection[Any]) -> LiveDatabase:
        row = await connection.fetchrow(
            "select current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,"
            " current_setting('synchronous_commit') as synchronous_commit,"
            " (select xact_commit from pg_stat_database where datname = current_database()) as commits"
        )
        assert row is not None
        return msgspec.convert(dict(row), LiveDatabase)

    await trio.sleep(STATISTICS_PAUSE_S)
    return await _on_loop(dsn, read)


async def _fetch(connection: asyncpg.Connection[Any], kind: type[msgspec.Struct], site: str) -> list[msgspec.Struct]:
    rows = await connection.fetch(QUERIES[kind], site, timeout=QUERY_LIMIT_S)
    return [msgspec.convert(dict(row), kind) for row in rows]


def _typed(found: dict[type[msgspec.Struct], list[msgspec.Struct]], kind: type[Row]) -> Sequence[Row]:
    return [row for row in found[kind] if isinstance(row, kind)]


async def _on_loop(dsn: Dsn, work: Callable[[asyncpg.Connection[Any]], Awaitable[Result]]) -> Result:
    """Run `work(connection)` on an asyncio loop in a thread."""

    async def main() -> Result:
        connection = await asyncpg.connect(**dsn.asyncpg(), timeout=CONNECT_LIMIT_S, command_timeout=QUERY_LIMIT_S)
        try:
            return await work(connection)
        finally:
            await connection.close(timeout=CONNECT_LIMIT_S)

    try:
        return await trio.to_thread.run_sync(asyncio.run, main())
    except (OSError, asyncpg.PostgresError, TimeoutError) as exc:
        raise RowsError(f"{dsn}: {exc}") from exc
