"""The audit: every promise that the tables can be asked about, checked on live data.

Reads one snapshot in one transaction, so it can run beside the server; stops nothing, changes nothing.
Each check is a query of `storage/sql/audit*.sql` and carries the name of what it checks.
"""

from __future__ import annotations

import asyncpg
import msgspec

from storage.connection import Dsn, in_asyncio
from storage.migrate import migrations
from storage.queries import load

CONNECT_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 300.0  # of one check, on a year of data
DETAIL_LIMIT = 20  # broken rows told per check
SCRATCH_SCHEMA = "paifang_audit_scratch"
GUARDS = "guards_are_in_force"
FILES = ("audit", "audit_rights", "audit_office", "audit_offline")  # of storage/sql


class AuditError(Exception):
    """The audit could not be carried out; it says nothing about the data."""


class AuditReport(msgspec.Struct, frozen=True):
    """`broken` holds (check, detail) pairs, at most `DETAIL_LIMIT` and a summary per check."""

    site: str
    checked: list[str]
    broken: list[tuple[str, str]]

    @property
    def clean(self) -> bool:
        return not self.broken


async def audit(dsn: Dsn, site: str) -> AuditReport:
    """Check everything. Raises AuditError when the database cannot be reached or has no tables of ours."""
    try:
        return await in_asyncio(_audit, dsn, site)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        raise AuditError(f"the audit of site {site} was not completed: {exc}") from exc


def check_names() -> list[str]:
    """The names of all checks, in their order."""
    return [*_checks(), GUARDS]


def _checks() -> dict[str, str]:
    return {name: sql for file in FILES for name, sql in load(file).items()}


async def _audit(dsn: Dsn, site: str) -> AuditReport:
    connection = await asyncpg.connect(**dsn.asyncpg(), timeout=CONNECT_TIMEOUT_S, command_timeout=CHECK_TIMEOUT_S)
    try:
        await connection.execute("set jit = off")  # compiling a check takes longer than running it
        async with connection.transaction(isolation="repeatable_read"):
            return await check(connection, site)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def check(connection: asyncpg.Connection, site: str) -> AuditReport:
    """All checks on this connection, in its transaction (an asyncio coroutine)."""
    broken: list[tuple[str, str]] = []
    for name, sql in _checks().items():
        takes_site = "$1" in sql
        rows = await connection.fetch(sql, *([site] if takes_site else []))
        broken += _told(name, [str(row[0]) for row in rows])
    broken += _told(GUARDS, await _missing_guards(connection))
    return AuditReport(site, check_names(), broken)


def _told(name: str, details: list[str]) -> list[tuple[str, str]]:
    told = [(name, detail) for detail in details[:DETAIL_LIMIT]]
    if len(details) > DETAIL_LIMIT:
        told.append((name, f"and {len(details) - DETAIL_LIMIT} more"))
    return told


async def _missing_guards(connection: asyncpg.Connection) -> list[str]:
    """Constraints and triggers are promises only while they are in force (invariants 1, 3, 6, 8, 16, 17).

    What they should be is not a list that grows old: the migrations are played into a scratch schema, which
    is rolled back, and the two schemas are compared.
    """
    sql = load("schema")["guards"]
    real = {row["guard"]: row["definition"] for row in await connection.fetch(sql)}
    await connection.execute("savepoint scratch")
    try:
        await connection.execute(f"create schema {SCRATCH_SCHEMA}; set local search_path = {SCRATCH_SCHEMA}")
        for migration in migrations():
            await connection.execute(migration.sql)
        wanted = {row["guard"]: row["definition"] for row in await connection.fetch(sql)}
    finally:
        await connection.execute("rollback to scratch")
    return [
        f"{guard} is {'not as made: ' + real[guard] if guard in real else 'missing'}"
        for guard, definition in wanted.items()
        if real.get(guard) != definition
    ]
