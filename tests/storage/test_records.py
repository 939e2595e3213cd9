"""Cases, the record of an evacuation, and the audit log's chain."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio_asyncio import aio_as_trio

from core.testing import Probe
from storage._records import FIRST_HASH, audit_hash
from storage.audit import audit
from storage.interfaces import AuditEntry, IncidentNote, LaneLedger, OpenCase
from storage.testing import TEMPLATE, LedgerUser, cluster, connected, fetch, fresh_database, ledger_running


def _entry(number: int, **changes: str) -> AuditEntry:
    fields = {"user": "chen", "role": "operator", "action": "lane.open", "subject": "lane1", "reason": "带行李"}
    return AuditEntry(**(fields | changes), at=1_800_000_000.123456 + number)


async def _told(ledger: LedgerUser) -> None:
    """Wait until what was told before is written."""
    await ledger.ask(LaneLedger(lane="lane1", device="d", epoch=None))


async def test_the_audit_log_is_a_chain_over_restarts() -> None:
    async with fresh_database() as database:
        for start in (0, 10):
            async with ledger_running(database.dsn) as ledger:
                for number in range(10):
                    ledger.address.tell(_entry(start + number))
                await _told(ledger)
        rows = await database.fetch("select seq, prev_hash, hash from audit_log order by seq")
        assert [row["seq"] for row in rows] == list(range(1, 21))
        assert [row["prev_hash"] for row in rows] == [FIRST_HASH, *(row["hash"] for row in rows[:-1])]
        assert (await audit(database.dsn, "demo")).clean


async def test_an_entry_without_a_name_is_refused_and_the_chain_goes_on() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        for entry in (_entry(1), _entry(2, user=""), _entry(3, action=""), _entry(4, reason="a\0b"), _entry(5)):
            ledger.address.tell(entry)
        await _told(ledger)
        assert await database.fetchval("select count(*) from audit_log") == 2
        assert await database.fetchval("select count(*) from cases where kind = 'refused'") == 3
        assert (await audit(database.dsn, "demo")).clean


@pytest.mark.parametrize(
    "tampering",
    [
        "delete from audit_log where seq = 2",
        "delete from audit_log where seq = 1",
        "update audit_log set user_name = 'wang' where seq = 2",
        "update audit_log set at = at + interval '1 second' where seq = 3",
        "update audit_log set subject = 'lane1r', reason = 'x' where seq = 1",
        "update audit_log set seq = seq + 1 where seq = 3",
    ],
)
async def test_the_chain_breaks_wherever_it_is_touched(tampering: str) -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn) as ledger:
            for number in range(3):
                ledger.address.tell(_entry(number))
            await _told(ledger)
        await database.corrupt(tampering)
        report = await audit(database.dsn, "demo")
        assert {name for name, _ in report.broken} == {"audit_chain_is_whole"}


async def test_append_only_tables_refuse_change_even_to_us() -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn) as ledger:
            ledger.address.tell(_entry(1))
            await ledger.sell("adult")
            await _told(ledger)
        async with connected(database.dsn) as connection:
            for statement in (
                "update audit_log set reason = ''",
                "delete from audit_log",
                "truncate audit_log",
                "update orders set total_cents = 0",
                "delete from payments",
                "truncate scans",
            ):
                with pytest.raises(Exception, match="append-only"):
                    await aio_as_trio(connection.execute)(statement)


async def test_the_database_hashes_as_we_do() -> None:
    server = await cluster()
    words = ["chen", "", "票", "a:b", "3:x\n𝄞"]
    rows = await fetch(
        server.dsn.with_database(TEMPLATE),
        "select audit_hash($1, $2, timestamptz 'epoch' + $3::bigint * interval '1 microsecond', variadic $4) as hash",
        FIRST_HASH,
        7,
        1_800_000_000_123_457,
        words,
    )
    assert rows[0]["hash"] == audit_hash(FIRST_HASH, 7, 1_800_000_000_123_457, words)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=5), min_size=5, max_size=5), st.lists(st.text(max_size=5), min_size=5, max_size=5))
def test_no_two_entries_read_the_same(one: list[str], other: list[str]) -> None:
    if one != other:
        assert audit_hash(FIRST_HASH, 1, 1, one) != audit_hash(FIRST_HASH, 1, 1, other)


async def test_a_case_is_opened_once() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        case = OpenCase(key="k", kind="forced", lane="lane1", severity="alarm", detail="first", at=time.time())
        for _ in range(3):
            ledger.address.tell(case)
        await _told(ledger)
        ledger.address.tell(OpenCase(key="k", kind="forced", lane="lane1", severity="alarm", detail="again", at=1.0))
        await _told(ledger)
        assert await database.fetch("select detail, state from cases") == [{"detail": "first", "state": "open"}]


async def test_an_evacuations_notes_are_kept_once_each() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        for seq in (0, 1, 1, 0, 2):
            note = IncidentNote(incident=5, seq=seq, at=1000.0 + seq, kind="acknowledged", lane="l", user="", detail="")
            ledger.address.tell(note)
        await _told(ledger)
        assert [row["seq"] for row in await database.fetch("select seq from incident_notes order by seq")] == [0, 1, 2]
        assert await database.fetchval("select extract(epoch from started_at)::int from incidents") == 1000
        assert (await audit(database.dsn, "demo")).clean


async def test_the_probe_hears_nothing_of_unanswered_operations() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        replies = Probe("replies")
        ledger.address.tell(_entry(1), reply_to=replies)
        assert await replies.expect(type(None)) is None  # answered with nothing, for whoever does wait
