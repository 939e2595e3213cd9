"""Every check of lanes that decided alone is seen to fail, and it alone, when the data are what they must not be."""

from __future__ import annotations

import time

import pytest

from actors.admission import decide
from protocols.messages import Granted
from protocols.uploads import RecEnded, RecGrant, Record, RecPassed
from storage._lists import ListReader
from storage.audit import audit, check_names
from storage.connection import Dsn
from storage.interfaces import UploadOp
from storage.queries import load
from storage.testing import TEMPLATE, LedgerUser, audit_after, cluster, hash_id, ledger_running, run_sql, setup

# What is done to the data, behind the back of constraints and triggers; which check must notice.
CORRUPTIONS: dict[str, list[str]] = {
    "offline_grants_are_what_they_came_to": ["update offline_grants set pax = 2 where outcome = 'booked'"],
    "journals_are_booked_up_to_their_mark": ["update upload_marks set upto = 1 where device = 'lane2-host'"],
    "offline_conflicts_are_cases": ["update cases set detail = 'somebody' where kind = 'double_use'"],
    "nobody_is_let_in_twice_in_silence": [
        "delete from offline_conflicts where nonce in (select nonce from offline_grants where outcome = 'conflict')"
    ],
    "list_versions_count_up": ["update list_versions set ledger_seq = 1000000 where version = 1"],
}

_busy: list[Dsn] = []


async def _busy_site(ledger: LedgerUser, dsn: Dsn) -> None:
    """Two lanes let the same ticket in; one also lets in somebody whom nobody knows; lists are read."""
    (ticket,) = await ledger.sell("adult")
    (other,) = await ledger.sell("adult")
    for lane, tickets in (("lane1", [ticket.ticket]), ("lane2", [ticket.ticket, 4711])):
        records: list[Record] = []
        for number in tickets:
            nonce = f"{lane}-{number}"
            credential = hash_id("code", str(number))
            for body in (
                RecGrant(nonce=nonce, kind="code", credential=credential, ticket=number, pax=1),
                RecPassed(nonce=nonce),
                RecEnded(nonce=nonce, passed=1),
            ):
                records.append(Record(seq=len(records) + 1, at=time.time() - 60, body=body))
        await ledger.ask(
            UploadOp(
                lane=lane,
                device=f"{lane}-host",
                journal=lane,
                oldest=1,
                records=records,
                from_zone="outside",
                to_zone="park",
                ttl_s=5.0,
            )
        )
    reader = ListReader(setup(), dsn)
    async with reader.running():
        await reader.part(None, None, "")
        granted = await ledger.scan(other.ticket)
        assert isinstance(granted, Granted)
        await reader.part(None, None, "")


async def _busy_database() -> Dsn:
    """Made once and left as it is: what tests do to it is rolled back."""
    if not _busy:
        server = await cluster()
        await run_sql(server.dsn, f"create database busy_offline template {TEMPLATE}")
        dsn = server.dsn.with_database("busy_offline")
        async with ledger_running(dsn, site=setup(), decide=decide, clock=time.time) as ledger:
            await _busy_site(ledger, dsn)
        _busy.append(dsn)
    return _busy[0]


def test_every_check_is_listed_here() -> None:
    assert list(CORRUPTIONS) == list(load("audit_offline"))


async def test_a_site_whose_lanes_were_alone_is_clean() -> None:
    report = await audit(await _busy_database(), "demo")
    assert report.clean, report.broken


@pytest.mark.parametrize("name", list(CORRUPTIONS))
async def test_the_check_notices_and_no_other_does(name: str) -> None:
    report = await audit_after(await _busy_database(), *CORRUPTIONS[name])
    assert report.checked == check_names()
    assert {broken for broken, _ in report.broken} == {name}
