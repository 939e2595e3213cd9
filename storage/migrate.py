"""Migrations: numbered SQL files, applied once each, in order, in one transaction, under a lock.

A migration that was applied is never edited: its checksum is recorded and compared at every start.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from storage._pq import Connection

LOCK_KEY = 0x5061_6966_616E_6701  # advisory lock: two servers that start at once migrate one after the other
LOCK_LIMIT_S = 60.0


class MigrationError(Exception):
    """The database's schema is not one that this version can use."""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str
    checksum: str


def migrations() -> list[Migration]:
    """The migrations that come with this version, in order. Raises MigrationError if numbers are missing or double."""
    found = []
    for file in files("storage").joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            sql = file.read_text(encoding="utf-8")
            found.append(Migration(int(number), name, sql, hashlib.sha256(sql.encode()).hexdigest()))
    found.sort()
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migrations are not numbered 1, 2, 3, …")
    return found


async def migrate(connection: asyncpg.Connection | Connection, known: list[Migration] | None = None) -> list[int]:
    """Apply what is missing (a coroutine of the connection's own loop); returns the numbers that were applied.

    Raises:
        MigrationError: the database is newer than this version, or an applied migration has changed since.
    """
    known = migrations() if known is None else known
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK_KEY, timeout=LOCK_LIMIT_S)
        await connection.execute(
            "create table if not exists migrations (number int primary key, name text not null, "
            "checksum text not null, applied_at timestamptz not null default now())"
        )
        rows = await connection.fetch("select number, name, checksum from migrations order by number")
        applied = {row["number"]: row for row in rows}
        by_number = {migration.number: migration for migration in known}
        for number, row in applied.items():
            ours = by_number.get(number)
            if ours is None:
                raise MigrationError(f"the database has migration {number} ({row['name']}), made by a newer version")
            if ours.checksum != row["checksum"]:
                raise MigrationError(f"migration {number} ({row['name']}) differs from the one that was applied")
        missing = [migration for migration in known if migration.number not in applied]
        for migration in missing:
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into migrations (number, name, checksum) values ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    return [migration.number for migration in missing]
