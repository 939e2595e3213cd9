"""The question for what a batch touches: each of its shapes is one that PostgreSQL takes, and asks what it should."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
import trio_asyncio

from protocols.messages import Booked, Denied, Granted
from storage import _asked
from storage._asked import question
from storage.queries import QueryError, load
from storage.testing import connected, fresh_database, ledger_running

LOAD = load("gate")["load"]
WORDS = (*(word for word, _ in _asked.WANTED), "zones")
SHAPES = list(chain.from_iterable(combinations(WORDS, count) for count in range(len(WORDS) + 1)))


def test_a_part_is_there_only_for_its_word_and_parameters_are_numbered_anew() -> None:
    sql = "select $1,\n--[some\n  $3::int,\n--]\n--[not some\n  0,\n--]\n  $7::text, $1"
    assert question(sql, frozenset()) == ("select $1,\n  0,\n  $2::text, $1", (1, 7))
    assert question(sql, frozenset({"some", "more"})) == ("select $1,\n  $2::int,\n  $3::text, $1", (1, 3, 7))


def test_parts_may_stand_in_parts() -> None:
    sql = "a\n--[x\nb\n--[not y\nc\n--]\nd\n--]\ne"
    texts = {words: question(sql, frozenset(words)).sql.replace("\n", "") for words in ("", "x", "y", "xy")}
    assert texts == {"": "ae", "x": "abcde", "y": "ae", "xy": "abde"}


@pytest.mark.parametrize("sql", ["a\n--[x\nb", "a\n--]\nb", "--[x\n--]\n--]\n--[x"])
def test_parts_that_are_not_closed_or_closed_twice_are_a_fault(sql: str) -> None:
    with pytest.raises(QueryError):
        question(sql, frozenset({"x"}))


async def test_every_shape_of_the_question_is_a_statement() -> None:
    async with fresh_database() as database, connected(database.dsn) as connection:
        for words in SHAPES:
            asked = question(LOAD, frozenset(words))
            statement = await trio_asyncio.aio_as_trio(connection.prepare)(asked.sql)
            assert len(statement.get_parameters()) == len(asked.places), words
            columns = {attribute.name for attribute in statement.get_attributes()}
            assert {"grants", "tickets", "rights"} <= columns
            assert ("zones" in columns, "mains" in columns) == ("zones" in words, "mains" in words)
            assert ("credentials" in columns, "passages" in columns) == ("scans" in words, "passages" in words)


async def test_what_is_left_out_is_asked_for_when_it_is_wanted_again() -> None:
    """Batches of one operation each, of all shapes in turn, on one connection: each finds what the others have done."""
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        for _ in range(3):
            (ticket,) = await ledger.sell("adult")
            granted = await ledger.scan(ticket.ticket)
            assert isinstance(granted, Granted)
            booked = await ledger.passes(granted)
            assert isinstance(booked, Booked) and not booked.repeated
            again = await ledger.scan(ticket.ticket)
            assert isinstance(again, Denied) and again.code == "already_used"
            assert not (await ledger.ends(granted, 1)).repeated
            assert (await ledger.ends(granted, 1, grant=None)).repeated  # by its nonce
        assert await database.fetchval("select inside from zones where zone = 'park'") == 3
