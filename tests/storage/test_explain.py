"""The question behind `paifang explain`: the very facts that a scan is decided on, and nothing changes by asking."""

from __future__ import annotations

import hashlib
import time

from trio_asyncio import aio_as_trio

from actors.admission import decide
from protocols.messages import CredentialKind, Denied, Granted
from storage.interfaces import Explain, Permit, Refusal, RightFacts, ScanBooks, ScanFacts, ZoneFacts
from storage.testing import (
    Database,
    LedgerUser,
    connected,
    fresh_database,
    hash_id,
    ledger_running,
    run_sql,
    setup,
)

TABLES = "select tablename from pg_tables where schemaname = 'public' order by tablename"


async def contents(database: Database) -> dict[str, tuple[int, str]]:
    """Of every table: how many rows, and a digest of them all."""
    found = {}
    for table in [row["tablename"] for row in await database.fetch(TABLES)]:
        rows = await database.fetch(f'select t::text as line from "{table}" t order by 1')
        digest = hashlib.sha256("\n".join(row["line"] for row in rows).encode()).hexdigest()
        found[table] = (len(rows), digest)
    return found


def question(ticket: int, to_zone: str = "park", **changes: object) -> Explain:
    fields = {"kind": CredentialKind.CODE, "credential_hash": hash_id("code", str(ticket)), "to_zone": to_zone}
    return Explain(**(fields | changes))  # type: ignore[arg-type]


async def books(ledger: LedgerUser, asked: Explain) -> ScanBooks:
    answer = await ledger.ask(asked)
    assert isinstance(answer, ScanBooks)
    return answer


async def test_asking_changes_nothing_in_any_table() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=setup(limit=9)) as ledger:
        (used,) = await ledger.sell("adult")
        (fresh,) = await ledger.sell("both")
        granted = await ledger.scan(used.ticket)
        assert isinstance(granted, Granted)
        await ledger.passes(granted)
        await ledger.ends(granted, 1)
        before = await contents(database)
        assert before["scans"][0] == 1 and before["grants"][0] == 1 and before["tickets"][0] == 2
        for asked in (question(used.ticket), question(fresh.ticket), question(4711), question(fresh.ticket, "nowhere")):
            for _ in range(3):
                await books(ledger, asked)
        assert await contents(database) == before


async def test_asking_waits_for_no_lock_and_keeps_none() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (ticket,) = await ledger.sell("adult")
        async with connected(database.dsn) as other:
            await aio_as_trio(other.execute)("begin; select * from entitlements for update")
            await books(ledger, question(ticket.ticket))
            await aio_as_trio(other.execute)("rollback")
        impatient = "set lock_timeout = '50ms'"
        for table in ("entitlements", "zones", "tickets", "credentials"):
            await run_sql(database.dsn, impatient, f"begin; select * from {table} for update nowait; rollback")
        assert isinstance(await ledger.scan(ticket.ticket), Granted)


async def test_the_facts_are_those_that_the_scan_is_decided_on() -> None:
    seen: list[tuple[list[RightFacts], ZoneFacts]] = []

    def recording(rights: list[RightFacts], zone: ZoneFacts, scan: ScanFacts) -> Permit | Refusal:
        seen.append((rights, zone))
        return decide(rights, zone, scan)

    site = setup(limit=50)
    async with fresh_database() as database, ledger_running(database.dsn, decide=recording, site=site) as ledger:
        (both,) = await ledger.sell("both")
        (group,) = await ledger.sell("group30")
        (annual,) = await ledger.sell("annual", card_hash=hash_id("card", "77"), card_tail="77", template_enc=b"t",
                                      template_algorithm="a", holder_enc=b"h")  # fmt: skip
        granted = await ledger.scan(group.ticket)
        assert isinstance(granted, Granted)
        await ledger.passes(granted)
        card = {"kind": CredentialKind.CARD, "credential_hash": hash_id("card", "77")}
        for ticket, to_zone, changes in (
            (both, "park", {}),
            (both, "tower", {}),
            (group, "park", {}),
            (annual, "park", card),
        ):
            facts = await books(ledger, question(ticket.ticket, to_zone, **changes))
            seen.clear()
            await ledger.scan(ticket.ticket, to_zone=to_zone, **changes)
            (decided,) = seen
            assert (facts.rights, facts.zone) == decided
        assert facts.rights[0].sold is None and facts.rights[0].rules.needs_face
        assert facts.zone is not None and facts.zone.inside == 1 and facts.zone.limit == 50


async def test_what_is_unknown_has_no_rights_and_a_zone_that_is_not_there_is_said_so() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (ticket,) = await ledger.sell("adult")
        stranger = await books(ledger, question(4711))
        assert stranger.rights == [] and stranger.zone == ZoneFacts(zone="park", inside=0, held=0, limit=None)
        assert (await books(ledger, question(ticket.ticket, "nowhere"))).zone is None
        wrong_kind = await books(ledger, question(ticket.ticket, kind=CredentialKind.CARD))
        assert wrong_kind.rights == []


async def test_a_question_sees_what_was_booked_before_it() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await ledger.scan(ticket.ticket)
        assert isinstance(granted, Granted)
        (held,) = (await books(ledger, question(ticket.ticket))).rights
        assert (held.held, held.redeemed) == (1, 0)
        await ledger.passes(granted)
        await ledger.ends(granted, 1)
        (used,) = (await books(ledger, question(ticket.ticket))).rights
        assert (used.held, used.redeemed, used.last_used_lane) == (0, 1, "lane1")
        assert used.last_used_at is not None and abs(used.last_used_at - time.time()) < 60
        assert isinstance(await ledger.scan(ticket.ticket), Denied)
