"""Values on the wire: what our own codec writes PostgreSQL reads, and the other way round."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time
from typing import Any

import asyncpg
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from storage._pq import Connection, open_connection
from storage._wire import UnknownType, decoder, encoder
from storage.testing import cluster, fresh_database

MOMENT = datetime(2026, 2, 28, 23, 59, 59, 123_456, tzinfo=UTC)
VALUES: list[tuple[str, Any]] = [
    ("bool", True), ("bool", False), ("int2", -7), ("int4", 2**31 - 1), ("int8", -(2**63)), ("float8", 1.5e300),
    ("text", "检票口 'a' \\ {}\n"), ("text", ""), ("bytea", b"\0\xff"), ("date", date(1999, 12, 31)),
    ("date", date(2100, 2, 28)), ("time", time(23, 59, 59, 999_999)), ("timestamptz", MOMENT),
    ("jsonb", '{"a": [1, null]}'), ("int8[]", []), ("int8[]", [1, 2**53]), ("int8[]", [1, None, 3]), ("int4[]", [0]),
    ("text[]", ["a", None, "", "检"]), ("text[]", []), ("bytea[]", [b"", b"\0"]), ("float8[]", [0.5, None]),
    ("float8[]", [1, 2.5]), ("bool[]", [True, False]), ("date[]", [date(2026, 1, 1), None]),
    ("timestamptz[]", [MOMENT, None]), ("text", None), ("int8[]", None),
]  # fmt: skip
INT8, TEXT, INT8S, TEXTS = 20, 25, 1016, 1009


@asynccontextmanager
async def _connection() -> AsyncIterator[Connection]:
    server = await cluster()
    async with fresh_database() as database:
        assert database.dsn.host == server.dsn.host
        connection = await open_connection(database.dsn, {"timezone": "UTC", "application_name": "a name"}, 10.0)
        try:
            yield connection
        finally:
            connection.terminate()


@pytest.mark.parametrize(("kind", "value"), VALUES)
async def test_postgresql_gives_back_what_it_was_given(kind: str, value: Any) -> None:
    async with _connection() as connection:
        assert await connection.fetchval(f"select $1::{kind}", value) == value


async def test_a_row_is_read_by_name_and_by_place_and_records_come_as_tuples() -> None:
    async with _connection() as connection:
        row = await connection.fetchrow(
            "select 1::int8 as a, 'x'::text as b, array[row (1::int8, 'y'::text, null::int4), row (2, 'z', 3)] as c, "
            "array[null, 5]::int4[] as d, null::text[] as e, current_setting('application_name') as f"
        )
        assert row is not None
        assert (row["a"], row[1], row.get("nothing"), "".join(row.keys())) == (1, "x", None, "abcdef")
        assert row["c"] == [(1, "y", None), (2, "z", 3)]
        assert (row["d"], row["e"], row["f"]) == ([None, 5], None, "a name")
        assert dict(row.items())["a"] == 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int4", 2**31), ("int8", "1"), ("int4[]", [1, 2**31]), ("text", 5), ("text[]", [5]), ("text", "\ud800")],
)
async def test_what_no_column_takes_is_refused_before_it_is_sent(kind: str, value: Any) -> None:
    async with _connection() as connection:
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval(f"select $1::{kind}", value)
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval("select $1::int4", 1, 2)
        assert await connection.fetchval("select 1") == 1


async def test_errors_are_those_of_asyncpg_and_the_session_goes_on() -> None:
    async with _connection() as connection:
        await connection.execute("create temp table t (id int8 constraint small check (id < 10)); select 1")
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await connection.execute("insert into t values ($1)", 11)
        assert refused.value.constraint_name == "small"
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.execute("this is no sql")
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.fetch("select * from nowhere where a = $1", 1)
        await connection.executemany("insert into t values ($1)", [(1,), (2,)])
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("insert into t values ($1)", 3)
                raise ZeroDivisionError
        assert await connection.fetchval("select sum(id)::int8 from t") == 3


async def test_a_piece_that_fails_takes_the_rest_of_it_along_and_not_the_next() -> None:
    async with _connection() as connection:
        await connection.execute("create temp table t (id int8 primary key)")
        insert = await connection.prepare("insert into t select unnest($1::int8[])")
        look = await connection.prepare("select count(*) as n from t")
        connection.send(insert, [1, 1])
        connection.send(insert, [2])
        bad = connection.mark()
        connection.send(insert, [3])
        connection.send(look)
        good = connection.mark()
        assert [row["n"] for row in (await connection.results(good))[1]] == [1]
        assert isinstance(bad.error, asyncpg.UniqueViolationError)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.results(bad)


async def test_a_commit_of_what_has_failed_is_an_error() -> None:
    async with _connection() as connection:
        begin, commit = await connection.prepare("begin"), await connection.prepare("commit")
        await connection.execute("begin")
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("select * from nowhere")
        connection.send(commit)
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await connection.results(connection.mark())
        connection.send(begin)
        connection.send(commit)
        await connection.results(connection.mark())


async def test_a_wait_that_takes_too_long_cuts_the_connection() -> None:
    async with _connection() as connection:
        with pytest.raises(TimeoutError):
            await connection.fetchval("select pg_sleep(60)::text", timeout=0.1)
        with pytest.raises(OSError, match="connection"):
            await connection.fetchval("select 1")


async def test_nobody_there_is_an_error_and_takes_no_longer_than_it_may(tmp_path: Any) -> None:
    server = await cluster()
    nowhere = server.dsn.with_database("no_such_database")
    with pytest.raises((OSError, asyncpg.PostgresError), match="no_such_database"):
        await open_connection(nowhere, {}, 10.0)
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / ".s.PGSQL.5432"))
    listener.listen(1)
    with listener, pytest.raises(TimeoutError):
        await open_connection(type(nowhere)(host=str(tmp_path), user="x", database="x"), {}, 0.1)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
def test_numbers_come_back_from_their_array(values: list[int | None]) -> None:
    assert decoder(INT8S)(encoder(INT8S)(values)) == values


@given(st.lists(st.one_of(st.none(), st.text())))
def test_texts_come_back_from_their_array(values: list[str | None]) -> None:
    try:
        data = encoder(TEXTS)(values)
    except UnicodeEncodeError:
        assert any("\ud800" <= character <= "\udfff" for value in values if value for character in value)
    else:
        assert decoder(TEXTS)(data) == values


@given(st.integers())
def test_a_number_too_large_is_refused(value: int) -> None:
    if -(2**63) <= value < 2**63:
        assert decoder(INT8)(encoder(INT8)(value)) == value
    else:
        with pytest.raises(struct.error):
            encoder(INT8)(value)


def test_an_unknown_type_is_said() -> None:
    with pytest.raises(UnknownType):
        encoder(1)
    with pytest.raises(UnknownType):
        decoder(1)
    assert decoder(TEXT)("检".encode()) == "检"
