"""Every check of the audit is seen to fail, and it alone, when the data are what it says they must not be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from protocols.messages import Denied, Granted, PassageKind
from storage.audit import DETAIL_LIMIT, AuditError, audit, check_names
from storage.connection import Dsn
from storage.interfaces import AuditEntry, Calibrate, IncidentNote, SiteSetup, StopZone
from storage.queries import load
from storage.testing import (
    TEMPLATE,
    LedgerUser,
    audit_after,
    cluster,
    ledger_running,
    product,
    run_sql,
    setup,
)

# What is done to the data, behind the back of constraints and triggers; which check must notice.
CORRUPTIONS: dict[str, list[str]] = {
    "site_is_known": ["delete from sites"],
    "never_more_used_than_sold": [
        "update entitlements set refunded = refunded + 5 where ticket = (select min(ticket) from grants)",
    ],
    "redeemed_counters_match_redemptions": ["update entitlements set redeemed = 0 where redeemed = 1 and sold = 1"],
    "held_counters_match_holds": [
        "update entitlements set held = held - 1 where entitlement in "
        "(select entitlement from grants join holds using (site, grant_id))",
    ],
    "single_use_admits_one_person": [
        # a second grant of a single-use right, consistent in everything but the number of people
        "update entitlements set sold = 1, redeemed = 2 where entitlement in (select entitlement from grants g join "
        "grant_ends e using (site, grant_id) where g.pax = 2)",
        "update products set pax = 1 where product = 'pair'",
        "update tickets set pax = 1 where product = 'pair'",
    ],
    "holds_are_the_open_grants": [
        # the hold of an open grant vanishes, and the counters with it
        "update entitlements set held = 0",
        "update zones set held = 0",
        "delete from holds",
    ],
    "holds_count_their_passages": [
        "update holds set passed = passed + 1",
        "update entitlements set held = held - 1 where held > 0",
        "update zones set held = held - 1 where zone = 'park'",
    ],
    "ends_count_their_passages": ["update grant_ends set passed = 0 where passed = 1"],
    "grants_admit_no_more_than_their_pax": [
        "update grants set pax = 1 where pax = 2 and grant_id in (select grant_id from grant_ends)",
    ],
    "granted_passages_have_their_grant": [
        "alter table passages drop constraint passages_check",
        "update passages set kind = 'free' where kind = 'late'",
        "alter table passages add constraint passages_check check ((kind in ('granted', 'late')) = "
        "(grant_id is not null)) not valid",
    ],
    "late_means_after_the_end": ["update passages set kind = 'granted' where kind = 'late'"],
    "redemptions_match_passages": [
        "update redemptions set seq = seq + 1000000 where seq = (select min(seq) from redemptions)",
    ],
    "redemptions_use_the_right_granted": [
        # two people on two grants, each booked on the other's right: every counter still adds up
        "update redemptions r set entitlement = other.entitlement from redemptions other where r.grant_id = "
        "(select min(grant_id) from grants) and other.grant_id = (select grant_id from grants where pax = 3) "
        "or r.grant_id = (select grant_id from grants where pax = 3) and other.grant_id = "
        "(select min(grant_id) from grants)",
    ],
    "grants_fit_their_right": ["update grants set ticket = 1 where pax = 3"],
    "grants_are_within_validity": ["update tickets set valid_from = valid_to - interval '1 minute'"],
    "lanes_act_for_themselves": [
        "update grant_ends set lane = 'lane9' where grant_id = (select min(grant_id) from grants)",
    ],
    "abandoned_scans_open_nothing": [
        "insert into abandoned_scans select site, lane, nonce, device, 'timeout', now() from grants limit 1",
    ],
    "every_grant_has_its_scan": ["delete from scans where grant_id = (select min(grant_id) from grants)"],
    "irregular_passages_are_cases": ["delete from cases where kind = 'tailgate'"],
    "unresolved_grants_are_cases": ["update holds set unresolved = true"],
    "events_are_in_one_order": ["update grants set ledger_seq = 1000000 where pax = 3"],
    "zone_counts_match_movements": [
        "update zones set inside = inside + 1 where zone = 'park'",
        "update zones set inside = inside - 1 where zone = 'outside'",
    ],
    "zones_conserve_people": [
        "update passages set to_zone = 'nowhere' where grant_id = (select min(grant_id) from grants)",
        "update zones set inside = inside - 1, entered = entered - 1 where zone = 'park'",
    ],
    "nothing_points_nowhere": [
        "insert into grant_ends (site, grant_id, ledger_seq, lane, passed, said, why, device_at, booked_at) "
        "values ('demo', 1, 1000000, 'lane1', 0, 0, 'timeout', now(), now())",
        "update tickets set at_zone = 'nowhere', at_since = now() where ticket = (select min(ticket) from tickets)",
    ],
    "zone_holds_match_holds": ["update zones set held = held + 1 where zone = 'tower'"],
    "limits_held_at_every_grant": ["update grants set zone_limit = 1"],
    "staff_counts_match_movements": [
        "update zones set staff = staff + 1 where zone = 'park'",
        "update zones set staff = staff - 1 where zone = 'outside'",
    ],
    "first_entries_match_passages": ["update zones set entered = entered + 1 where zone = 'park'"],
    "stops_are_what_people_ordered": ["update zones set sale_stopped_until = null"],
    "days_close_with_what_was_left": ["update day_closes set residual = residual + 1"],
    "payments_match_orders": ["delete from payments where order_id = (select min(order_id) from orders)"],
    "orders_add_up": [
        "update orders set total_cents = total_cents + 1, change_cents = change_cents - 1",
        "update payments set change_cents = change_cents - 1",
    ],
    "sold_lines_keep_their_price": ["update products set price_cents = 1 where product = 'adult'"],
    "lines_are_issued_once": ["update tickets set number = 2 where ticket = (select max(ticket) from tickets)"],
    "tickets_carry_what_was_sold": ["update entitlements set sold = 99 where sold = 30"],
    "tickets_can_be_presented": ["delete from credentials where ticket = (select max(ticket) from tickets)"],
    "print_jobs_belong_to_their_order": [
        "update print_jobs set order_id = (select min(order_id) from orders) "
        "where job = (select max(job) from print_jobs)",
    ],
    "everything_done_names_somebody": [
        "alter table calibrations drop constraint calibrations_reason_check",
        "update calibrations set reason = ''",
        "alter table calibrations add constraint calibrations_reason_check check (reason <> '') not valid",
    ],
    "audit_chain_is_whole": ["update audit_log set reason = 'another' where seq = 2"],
    "evacuation_notes_have_their_incident": ["delete from incidents"],
    "settings_are_durable": ["set local synchronous_commit = off"],
    "guards_are_in_force": ["alter table grants disable trigger append_only"],
}
# A guard that was taken away to corrupt the data is noticed, too.
ALSO = {
    "zones_conserve_people": {"nothing_points_nowhere"},
    "granted_passages_have_their_grant": {"guards_are_in_force"},
    "everything_done_names_somebody": {"guards_are_in_force"},
    "never_more_used_than_sold": {"guards_are_in_force", "refunds_match_the_counters"},
    "single_use_admits_one_person": {"guards_are_in_force", "never_more_used_than_sold"},
}
NO_CONSTRAINT = (
    "alter table entitlements drop constraint never_more_than_sold, drop constraint never_more_set_aside_than_sold"
)
ALSO["redemptions_match_passages"] = {"days_count_their_uses"}
for _check in ("grants_fit_their_right", "zones_conserve_people", "nothing_points_nowhere"):
    ALSO[_check] = ALSO.get(_check, set()) | {"tickets_are_where_they_were_seen"}
for _check in ("never_more_used_than_sold", "single_use_admits_one_person"):
    CORRUPTIONS[_check].insert(0, NO_CONSTRAINT)

_busy: list[Dsn] = []


async def _busy_site(ledger: LedgerUser) -> None:
    """A little of everything that can happen at gates and windows."""
    adults = await ledger.sell("adult", 3, printer="p1")
    (group,) = await ledger.sell("group30", printer="p1")
    (pair,) = await ledger.sell("pair")
    used = await ledger.scan(adults[0].ticket)
    assert isinstance(used, Granted)
    await ledger.passes(used)
    await ledger.ends(used, 1)
    assert isinstance(await ledger.scan(adults[0].ticket), Denied)
    two = await ledger.scan(pair.ticket)
    assert isinstance(two, Granted)
    await ledger.passes(two)
    await ledger.ends(two, 1)
    assert (await ledger.passes(two)).kind is PassageKind.LATE
    assert (await ledger.passes(two)).kind is PassageKind.TAILGATE
    three = await ledger.scan(group.ticket, lane="lane2", max_pax=3)
    assert isinstance(three, Granted)
    await ledger.passes(three, lane="lane2")
    await ledger.passes(None, kind=PassageKind.EXIT, from_zone="park", to_zone="outside")
    await ledger.ask(Calibrate(zone="park", delta=2, reason="counted", user="chen", at=time.time()))
    now = time.time()
    for number in range(3):
        entry = AuditEntry(user="chen", role="operator", action="open", subject="lane1", reason=f"r{number}", at=now)
        ledger.address.tell(entry)
    ledger.address.tell(
        IncidentNote(incident=7, seq=0, at=now, kind="triggered", lane="", user="chen", detail="drill")
    )
    until = time.time() + 3600.0
    await ledger.ask(StopZone(zone="park", what="sale", until=until, user="chen", reason="crowd", at=time.time()))
    (warden,) = await ledger.sell("staff")
    for number in range(2):
        inside = await ledger.scan(warden.ticket, lane="lane3")
        assert isinstance(inside, Granted)
        if number == 0:
            await ledger.passes(inside, lane="lane3")
        await ledger.ends(inside, 1 - number, lane="lane3")
    await ledger.ask(Calibrate(zone="tower", delta=1, reason="counted", user="chen", at=time.time()))


def _site() -> SiteSetup:
    products = [product("adult"), product("group30", pax=30, price_cents=240_000), product("pair", pax=2)]
    products.append(product("staff", product_class="staff", uses=0))
    return setup(limit=50, products=products)


async def _busy_database() -> Dsn:
    """Made once and left as it is: what tests do to it is rolled back."""
    if not _busy:
        server = await cluster()
        await run_sql(server.dsn, f"create database busy template {TEMPLATE}")
        dsn = server.dsn.with_database("busy")
        async with ledger_running(dsn, site=_site()) as ledger:
            await _busy_site(ledger)
        _busy.append(dsn)
    return _busy[0]


async def _broken_by(*statements: str) -> set[str]:
    """The checks that fail after these statements, run with triggers and foreign keys switched off."""
    report = await audit_after(await _busy_database(), *statements)
    assert report.checked == check_names()
    return {name for name, _ in report.broken}


def test_every_check_is_listed_here() -> None:
    elsewhere = {*load("audit_office"), *load("audit_rights"), *load("audit_offline")}
    assert list(CORRUPTIONS) == [name for name in check_names() if name not in elsewhere]


async def test_a_busy_site_is_clean() -> None:
    report = await audit(await _busy_database(), "demo")
    assert report.clean, report.broken


@pytest.mark.parametrize("name", list(CORRUPTIONS))
async def test_the_check_notices_and_no_other_does(name: str) -> None:
    assert await _broken_by(*CORRUPTIONS[name]) == {name} | ALSO.get(name, set())


async def test_another_site_of_the_database_is_not_this_ones_business() -> None:
    dsn = await _busy_database()
    report = await audit(dsn, "elsewhere")
    assert report.broken == [("site_is_known", "there is no site elsewhere")]


async def test_without_a_database_the_audit_says_so_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(AuditError):
        await audit(Dsn(host=str(tmp_path), user="nobody", database="none"), "demo")


async def test_a_hundred_broken_rows_are_told_in_twenty_and_a_number() -> None:
    report = await audit_after(
        await _busy_database(),
        "insert into holds (site, grant_id, lane, pax, expires_at) "
        "select 'demo', n, 'lane1', 1, now() from generate_series(1, 100) n",
    )
    details = [detail for name, detail in report.broken if name == "holds_are_the_open_grants"]
    assert len(details) == DETAIL_LIMIT + 1
    assert details[-1] == "and 80 more"
