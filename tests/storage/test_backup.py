"""Backup, destroy, restore: the same data, a clean audit, and a ledger that goes on."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.messages import Granted
from storage.audit import audit
from storage.backup import BackupError, backup, restore
from storage.connection import Dsn
from storage.embedded import embedded
from storage.interfaces import AuditEntry, LaneLedger
from storage.testing import Database, cluster, fetch, fresh_database, ledger_running, quick_folder, run_sql


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: these tests make many clusters."""
    with quick_folder() as folder:
        yield folder


async def _everything(dsn: Dsn) -> dict[str, list[dict[str, Any]]]:
    names = await fetch(dsn, "select tablename from pg_tables where schemaname = 'public' order by 1")
    tables = [row["tablename"] for row in names]
    return {table: await fetch(dsn, f'select t::text as row from "{table}" t order by 1') for table in tables}


async def test_backup_destroy_restore(tmp_path: Path) -> None:
    file, told = tmp_path / "site.backup", []
    async with embedded(tmp_path / "one") as server:
        async with ledger_running(server.dsn) as ledger:
            tickets = await ledger.sell("adult", 5, printer="p1")
            granted = await ledger.scan(tickets[0].ticket)
            assert isinstance(granted, Granted)
            await ledger.passes(granted)
            ledger.address.tell(AuditEntry(user="chen", role="", action="a", subject="", reason="", at=1.0))
            await ledger.ask(LaneLedger(lane="lane1", device="d", epoch=None))
            assert await backup(server.dsn, file, progress=told.append) == file.stat().st_size > 1000
        before = await _everything(server.dsn)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {"grants", "tickets", "audit_log"} <= set(told)
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []  # noqa: ASYNC240

    async with embedded(tmp_path / "two") as server:
        told.clear()
        await restore(file, server.dsn, progress=told.append)
        assert {"grants", "tickets", "audit_log"} <= set(told)
        assert await _everything(server.dsn) == before
        report = await audit(server.dsn, "demo")
        assert report.clean, report.broken
        async with ledger_running(server.dsn) as ledger:
            assert (await ledger.ends(granted, 1)).passed == 1
            await ledger.sell("adult")
        report = await audit(server.dsn, "demo")
        assert report.clean, report.broken


async def test_a_backup_replaces_nothing(tmp_path: Path) -> None:
    file = tmp_path / "site.backup"
    file.write_text("precious")
    async with fresh_database() as database:
        with pytest.raises(BackupError, match="never replaces"):
            await backup(database.dsn, file)
        with pytest.raises(BackupError, match="cannot write"):
            await backup(database.dsn, tmp_path / "missing" / "site.backup")
    assert file.read_text() == "precious"


async def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    server = await cluster()
    with pytest.raises(BackupError, match="does not exist"):
        await backup(server.dsn.with_database("nowhere"), tmp_path / "site.backup")
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_a_backup_goes_only_into_an_empty_database(tmp_path: Path) -> None:
    file = tmp_path / "site.backup"
    async with fresh_database() as database:
        await backup(database.dsn, file)
        with pytest.raises(BackupError, match="empty"):
            await restore(file, database.dsn)
    with pytest.raises(BackupError, match="no file"):
        await restore(tmp_path / "other", database.dsn)
    with pytest.raises(BackupError, match="cannot be reached"):
        await restore(file, database.dsn.with_database("nowhere"))


async def test_a_damaged_backup_restores_nothing(tmp_path: Path) -> None:
    whole, damaged = tmp_path / "site.backup", tmp_path / "damaged"
    server = await cluster()
    async with fresh_database() as database:
        async with ledger_running(database.dsn) as ledger:
            await ledger.sell("adult", 400)
        await backup(database.dsn, whole)
    data = whole.read_bytes()
    await run_sql(server.dsn, "drop database if exists restored", "create database restored")
    target = Database(server.dsn.with_database("restored"))
    try:
        flipped = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
        for content in (b"", b"nonsense" * 100, data[: len(data) // 2], data[:-500], data[:-1], data + b" ", flipped):
            damaged.write_bytes(content)
            with pytest.raises(BackupError, match="damaged"):
                await restore(damaged, target.dsn)
            assert await target.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    finally:
        await run_sql(server.dsn, "drop database restored with (force)")
