"""URLs, named queries, migrations."""

from __future__ import annotations

import contextlib
from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio_asyncio import aio_as_trio

from protocols.clock import business_day_start
from storage.connection import BadUrl, Dsn, in_asyncio, parse_url
from storage.migrate import Migration, MigrationError, migrate, migrations
from storage.queries import QueryError, load, parse
from storage.testing import cluster, connected, fresh_database, run_sql


def test_a_url_is_taken_apart() -> None:
    assert parse_url("postgresql://pai:fa%40ng@db.example:5433/site?sslmode=verify-full") == Dsn(
        host="db.example", port=5433, user="pai", password="fa@ng", database="site", sslmode="verify-full"
    )
    assert parse_url("postgres://pai@/site?host=/run/postgresql").host == "/run/postgresql"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://pai@db/site",
        "postgresql://db/site",
        "postgresql://pai@/site",
        "postgresql://pai@db",
        "postgresql://pai@db:99999/site",
        "postgresql://pai:hunter2@db:x/site",
        "postgresql://pai@db/site?sslmode=maybe",
        "postgresql://pai:hunter2@db/site?options=-c",
        "",
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        parse_url(url)
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_no_url_raises_anything_else(text: str) -> None:
    for url in (text, "postgresql://" + text):
        with contextlib.suppress(BadUrl):
            parse_url(url)


def test_a_password_is_never_shown_nor_put_on_a_command_line() -> None:
    dsn = parse_url("postgresql://pai:hunter2@db/site")
    assert "hunter2" not in f"{dsn} {dsn!r}"
    assert dsn.environment()["PGPASSWORD"] == "hunter2"
    assert dsn.asyncpg()["password"] == "hunter2"


async def test_what_asyncio_raises_comes_out_bare() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await in_asyncio(fail)


def test_queries_are_named() -> None:
    assert parse("-- a comment\n-- name: one\n-- why\nselect 1\n\n-- name: two\nselect 2\n") == {
        "one": "-- why\nselect 1",
        "two": "select 2",
    }
    with pytest.raises(QueryError, match="two queries"):
        parse("-- name: one\nselect 1\n-- name: one\nselect 2\n")
    with pytest.raises(QueryError, match="empty"):
        parse("-- name: one\n\n-- name: two\nselect 2\n")


@pytest.mark.parametrize("file", ["gate", "sales", "records", "questions", "setup", "audit", "schema"])
async def test_every_query_is_one_that_postgresql_understands(file: str) -> None:
    async with fresh_database() as database, connected(database.dsn) as connection:
        for sql in load(file).values():
            await aio_as_trio(connection.prepare)(sql)


async def test_migrations_are_applied_once_and_in_order() -> None:
    server = await cluster()
    await run_sql(server.dsn, "create database migrating")
    try:
        async with connected(server.dsn.with_database("migrating")) as connection:
            numbers = [migration.number for migration in migrations()]
            assert await aio_as_trio(migrate)(connection) == numbers
            assert await aio_as_trio(migrate)(connection) == []
            more = [*migrations(), Migration(len(numbers) + 1, "more", "create table more (x int)", "c")]
            assert await aio_as_trio(migrate)(connection, more) == [len(numbers) + 1]
    finally:
        await run_sql(server.dsn, "drop database migrating with (force)")


async def test_a_database_of_a_newer_version_and_a_changed_migration_are_refused() -> None:
    async with fresh_database() as database, connected(database.dsn) as connection:
        first, *others = migrations()
        changed = [first._replace(checksum="x"), *others]
        for known, words in ((changed, "differs"), ([first], "newer version")):
            try:
                await aio_as_trio(migrate)(connection, known)
            except MigrationError as exc:
                assert words in str(exc)
            else:
                raise AssertionError("migrated")


async def test_a_migration_that_fails_changes_nothing() -> None:
    async with fresh_database() as database, connected(database.dsn) as connection:
        known = migrations()
        bad = [*known, Migration(len(known) + 1, "bad", "create table half (x int); select 1/0", "c")]
        try:
            await aio_as_trio(migrate)(connection, bad)
        except Exception as exc:
            assert "division by zero" in str(exc)
        assert await aio_as_trio(connection.fetchval)("select to_regclass('half')") is None
        assert await aio_as_trio(migrate)(connection) == []


@pytest.mark.parametrize(
    ("now", "day"),
    [("2026-05-01T03:59", "2026-04-30"), ("2026-05-01T04:00", "2026-05-01"), ("2026-05-01T23:59", "2026-05-01")],
)
def test_a_business_day_begins_when_the_site_says(now: str, day: str) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    moment = datetime.fromisoformat(now).replace(tzinfo=zone).timestamp()
    start = datetime.fromtimestamp(business_day_start(moment, zone, time(4)), zone)
    assert start.isoformat() == f"{day}T04:00:00+08:00"
