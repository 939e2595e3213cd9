"""Every check of what rights remember is seen to fail, and it alone, when the data are what they must not be."""

from __future__ import annotations

import time

import pytest

from actors.admission import decide
from protocols.messages import Direction, Granted
from protocols.rights import Reentry
from storage.audit import audit, check_names
from storage.connection import Dsn
from storage.interfaces import SiteSetup
from storage.queries import load
from storage.testing import TEMPLATE, LedgerUser, audit_after, cluster, ledger_running, product, run_sql, setup

# What is done to the data, behind the back of constraints and triggers; which check must notice.
CORRUPTIONS: dict[str, list[str]] = {
    "days_count_their_uses": ["update entitlements set used_day = used_day + 1 where sold = 1 and used_day = 1"],
    "reentries_count_their_passages": ["update entitlements set reentries_day = 7 where reentries_day = 1"],
    "nobody_returns_who_was_not_in": [
        "update grants set kind = 'exit', entitlement = null where kind = 'entry' and entitlement in "
        "(select entitlement from grants where kind = 'reentry')",
    ],
    "tickets_are_where_they_were_seen": ["update tickets set at_zone = 'tower' where at_zone = 'park'"],
    "exits_use_nothing": [
        "update redemptions set grant_id = (select grant_id from grants where kind = 'exit'), "
        "entitlement = (select entitlement from grants where kind = 'exit') "
        "where entitlement = (select entitlement from grants where kind = 'exit')",
    ],
    "a_day_allows_its_uses": [
        "update products set rules = jsonb_set(rules, '{rights,0,uses_per_day}', '1') where product = 'daily'"
    ],
}
# What follows from the corruption by itself.
ALSO = {
    "nobody_returns_who_was_not_in": {
        "redemptions_use_the_right_granted", "exits_use_nothing", "first_entries_match_passages",
    },
    "exits_use_nothing": {"redemptions_match_passages", "redemptions_use_the_right_granted"},
}  # fmt: skip

_busy: list[Dsn] = []


async def _busy_site(ledger: LedgerUser) -> None:
    """Somebody enters, leaves and comes back; somebody uses a card twice a day; somebody is on the way back."""

    async def enter(ticket: int, people: int = 1) -> Granted:
        granted = await ledger.scan(ticket)
        assert isinstance(granted, Granted)
        for _ in range(people):
            await ledger.passes(granted)
        if people:
            await ledger.ends(granted, people)
        return granted

    back, other = (each.ticket for each in await ledger.sell("back", 2))
    (daily,) = await ledger.sell("daily")
    await enter(back)
    out = await ledger.scan(back, direction=Direction.EXIT, from_zone="park", to_zone="outside")
    assert isinstance(out, Granted)
    await ledger.passes(out, direction=Direction.EXIT, from_zone="park", to_zone="outside")
    await ledger.ends(out, 1)
    await enter(back)
    await enter(other)
    await enter(other, people=0)  # holds a grant to come back
    for _ in range(2):
        await enter(daily.ticket)


def _site() -> SiteSetup:
    return setup(products=[product("back", reentry=Reentry()), product("daily", uses=9, uses_per_day=2)])


async def _busy_database() -> Dsn:
    """Made once and left as it is: what tests do to it is rolled back."""
    if not _busy:
        server = await cluster()
        await run_sql(server.dsn, f"create database busy_rights template {TEMPLATE}")
        dsn = server.dsn.with_database("busy_rights")
        async with ledger_running(dsn, site=_site(), decide=decide, clock=time.time) as ledger:
            await _busy_site(ledger)
        _busy.append(dsn)
    return _busy[0]


def test_every_check_is_listed_here() -> None:
    assert list(CORRUPTIONS) == list(load("audit_rights"))


async def test_a_site_with_people_who_come_back_is_clean() -> None:
    report = await audit(await _busy_database(), "demo")
    assert report.clean, report.broken


@pytest.mark.parametrize("name", list(CORRUPTIONS))
async def test_the_check_notices_and_no_other_does(name: str) -> None:
    report = await audit_after(await _busy_database(), *CORRUPTIONS[name])
    assert report.checked == check_names()
    assert {broken for broken, _ in report.broken} == {name} | ALSO.get(name, set())
