"""Scan to passage on real PostgreSQL: what is granted, booked, ended and counted."""

from __future__ import annotations

import time

import pytest
import trio

from core import Failed
from core.testing import Probe, patient_time
from protocols.messages import CredentialKind, Denied, EndReason, Granted, GrantState, PassageKind, Settled
from storage.audit import audit
from storage.interfaces import (
    Calibrate,
    CounterBaseline,
    LaneBooks,
    LaneLedger,
    LedgerRefused,
    LedgerState,
    Ok,
    Permit,
    Refusal,
    RefusedScan,
    RightFacts,
    ScanFacts,
    ZoneFacts,
    ZonesChanged,
)
from storage.testing import (
    Database,
    LedgerUser,
    end,
    fresh_database,
    grant_op,
    hash_id,
    ledger_running,
    passage,
    plain_decide,
    run_sql,
    setup,
)

patient = pytest.fixture(autouse=True)(patient_time)


async def _granted(ledger: LedgerUser, ticket: int, **changes: object) -> Granted:
    answer = await ledger.scan(ticket, **changes)  # type: ignore[arg-type]
    assert isinstance(answer, Granted), answer
    return answer


async def _clean(database: Database) -> None:
    report = await audit(database.dsn, "demo")
    assert report.clean, report.broken


async def _cases(database: Database) -> list[tuple[str, str]]:
    rows = await database.fetch("select kind, state from cases order by case_id")
    return [(row["kind"], row["state"]) for row in rows]


async def test_a_ticket_admits_one_person_and_is_used_then() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await ledger.scan(ticket.ticket)
        assert isinstance(granted, Granted)
        assert (granted.pax, granted.state, granted.fresh, granted.remaining) == (1, GrantState.OPEN, True, 0)
        assert (await ledger.passes(granted)).kind is PassageKind.GRANTED
        settled = await ledger.ends(granted, 1)
        assert (settled.passed, settled.repeated) == (1, False)
        again = await ledger.scan(ticket.ticket, lane="lane2")
        assert isinstance(again, Denied)
        assert (again.code, again.lane_of_use) == ("already_used", "lane1")
        assert await database.fetch("select zone, inside, held from zones order by zone") == [
            {"zone": "outside", "inside": -1, "held": 0},
            {"zone": "park", "inside": 1, "held": 0},
            {"zone": "tower", "inside": 0, "held": 0},
        ]


async def test_64_scans_of_one_code_at_once_are_one_grant() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        answers: list[Granted | Denied] = []

        async def scan(lane: str) -> None:
            answers.append(await ledger.scan(ticket.ticket, lane=lane))

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(scan, f"lane{number % 10}")
        granted = [answer for answer in answers if isinstance(answer, Granted)]
        assert len(granted) == 1
        assert {answer.code for answer in answers if isinstance(answer, Denied)} == {"in_progress"}
        assert await database.fetchval("select count(*) from grants") == 1


async def test_a_person_who_steps_back_keeps_the_right() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        first = await ledger.scan(ticket.ticket)
        assert isinstance(first, Granted)
        await ledger.ends(first, 0, why=EndReason.TIMEOUT)
        second = await ledger.scan(ticket.ticket, lane="lane2")
        assert isinstance(second, Granted)


async def test_limit_counts_holds_of_the_same_batch() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, site=setup(limit=7)) as ledger:
        tickets = await ledger.sell("adult", 20)
        answers: list[Granted | Denied] = []

        async def scan(number: int) -> None:
            answers.append(await ledger.scan(tickets[number].ticket, lane=f"lane{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(scan, number)
        assert sum(isinstance(answer, Granted) for answer in answers) == 7
        assert {answer.code for answer in answers if isinstance(answer, Denied)} == {"capacity_hold"}


# -- groups ---------------------------------------------------------------------------------------------------------


async def test_a_group_of_thirty_over_three_lanes_is_thirty_people() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("group30")
        people = {"lane1": 0, "lane2": 0, "lane3": 0}

        async def lane(name: str) -> None:
            while True:
                answer = await ledger.scan(ticket.ticket, lane=name, max_pax=4)
                if isinstance(answer, Denied):
                    if answer.code == "already_used":
                        return
                    await trio.sleep(0.01)  # in_progress: others still hold places
                    continue
                passing = answer.pax - 1 if people[name] == 0 else answer.pax  # one steps back in the first batch
                for _ in range(passing):
                    await ledger.passes(answer, lane=name)
                people[name] += passing
                await ledger.ends(answer, passing, lane=name)

        async with trio.open_nursery() as nursery:
            for name in people:
                nursery.start_soon(lane, name)
        assert sum(people.values()) == 30
        assert await database.fetchval("select redeemed from entitlements") == 30
        assert await database.fetchval("select inside from zones where zone = 'park'") == 30
        await _clean(database)


async def test_a_group_grant_shrinks_to_the_room_that_is_left() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, site=setup(limit=6)) as ledger:
        (ticket,) = await ledger.sell("group30")
        first = await _granted(ledger, ticket.ticket, max_pax=4)
        second = await _granted(ledger, ticket.ticket, max_pax=4, lane="lane2")
        assert (first.pax, second.pax, second.remaining) == (4, 2, 24)
        third = await ledger.scan(ticket.ticket, lane="lane3")
        assert isinstance(third, Denied)
        assert third.code == "capacity_hold"
        await _clean(database)


async def test_the_ledger_holds_the_limit_even_if_the_rule_does_not() -> None:
    def careless(rights: list[RightFacts], zone: ZoneFacts, scan: ScanFacts) -> Permit | Refusal:
        return plain_decide(rights, ZoneFacts(zone=zone.zone, inside=0, held=0, limit=None), scan)

    site = setup(limit=3)
    async with fresh_database() as database, ledger_running(database.dsn, site=site, decide=careless) as ledger:
        (ticket,) = await ledger.sell("group30")
        granted = await _granted(ledger, ticket.ticket)
        assert (granted.pax, granted.remaining) == (3, 27)
        full = await ledger.scan(ticket.ticket, lane="lane2")
        assert isinstance(full, Denied)
        assert full.code == "capacity_hold"
        await _clean(database)


async def test_a_rule_that_permits_too_much_or_fails_is_refused_and_harms_nobody() -> None:
    def broken(rights: list[RightFacts], zone: ZoneFacts, scan: ScanFacts) -> Permit | Refusal:
        if scan.lane == "crash":
            raise ZeroDivisionError
        verdict = plain_decide(rights, zone, scan)
        assert isinstance(verdict, Permit)
        if scan.lane == "greedy":
            return Permit(
                entitlement=verdict.entitlement, ticket=verdict.ticket, pax=9, remaining=0, product_class="full"
            )
        return verdict

    async with fresh_database() as database, ledger_running(database.dsn, decide=broken) as ledger:
        tickets = await ledger.sell("adult", 3)
        replies = Probe("replies")
        for ticket, lane in zip(tickets, ("crash", "greedy", "lane1"), strict=True):
            ledger.address.tell(grant_op(ticket.ticket, lane=lane), reply_to=replies)
        for _ in range(2):
            assert isinstance((await replies.expect(Failed, within_s=20)).error, LedgerRefused)
        assert (await replies.expect(Granted)).pax == 1
        assert await database.fetchval("select sum(held) from entitlements") == 1
        await _clean(database)


# -- the same scan again ---------------------------------------------------------------------------------------------


async def test_the_same_nonce_is_the_same_grant_whatever_has_changed_since() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("group30")
        op = grant_op(ticket.ticket, max_pax=3, ttl_s=60.0)
        first: Granted = await ledger.ask(op)
        await ledger.passes(first)
        await run_sql(database.dsn, "update tickets set state = 'void'")
        again: Granted = await ledger.ask(op)
        assert (again.grant, again.state, again.fresh, again.passed) == (first.grant, GrantState.OPEN, False, 1)
        assert 50.0 < again.ttl_s < first.ttl_s
        await ledger.ends(first, 1)
        over: Granted = await ledger.ask(op)
        assert (over.grant, over.state, over.passed) == (first.grant, GrantState.PARTLY, 1)
        assert await database.fetchval("select count(*) from grants") == 1


async def test_the_same_nonce_twice_in_one_batch_is_one_grant() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        op, replies = grant_op(ticket.ticket), Probe("replies")
        ledger.address.tell(op, reply_to=replies)
        ledger.address.tell(op, reply_to=replies)
        first, second = await replies.expect(Granted), await replies.expect(Granted)
        assert (first.grant, first.fresh, second.fresh) == (second.grant, True, False)
        await _clean(database)


async def test_a_nonce_of_another_lane_opens_nothing() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket, device="reader")
        with pytest.raises(LedgerRefused):
            await ledger.scan(ticket.ticket, lane="lane2", device="reader", nonce=granted.nonce)


async def test_a_scan_that_its_lane_gave_up_on_opens_nothing_when_it_arrives() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        op = grant_op(ticket.ticket, device="lane1-reader")
        given_up = end(_no_grant(op.nonce), 0, grant=None, device="lane1-board", why=EndReason.NEVER_OPENED)
        assert await ledger.ask(given_up) == Settled(grant=None, nonce=op.nonce, passed=0, repeated=False)
        assert (await ledger.ask(given_up)).repeated
        late: Granted = await ledger.ask(op)
        assert (late.state, late.fresh, late.pax, late.grant) == (GrantState.CANCELLED, False, 0, 0)
        assert await database.fetchval("select count(*) from grants") == 0
        assert await database.fetchval("select held from entitlements") == 0
        await _granted(ledger, ticket.ticket)  # another scan of the same ticket is another scan
        await _clean(database)


async def test_giving_up_and_the_scan_in_one_batch_open_nothing_in_either_order() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        tickets = await ledger.sell("adult", 2)
        replies = Probe("replies")
        first, second = grant_op(tickets[0].ticket), grant_op(tickets[1].ticket)
        before, after = (end(_no_grant(op.nonce), 0, grant=None) for op in (first, second))
        for op in (before, first, second, after):
            ledger.address.tell(op, reply_to=replies)
        await replies.expect(Settled)
        assert (await replies.expect(Granted)).state is GrantState.CANCELLED
        opened = await replies.expect(Granted)
        assert (await replies.expect(Settled)).grant == opened.grant
        assert await database.fetchval("select count(*) from holds") == 0
        assert await database.fetchval("select sum(held) from entitlements") == 0
        await _clean(database)


def _no_grant(nonce: str) -> Granted:
    return Granted(
        nonce=nonce, grant=0, ticket=0, pax=0, passed=0, ttl_s=0.0, state=GrantState.CANCELLED, fresh=False,
        product_class="", remaining=0,
    )  # fmt: skip


# -- passages --------------------------------------------------------------------------------------------------------


async def test_a_passage_sent_again_is_the_same_person() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        op = passage(await _granted(ledger, ticket.ticket))
        first, second = await ledger.ask(op), await ledger.ask(op)
        assert (first.repeated, second.repeated) == (False, True)
        assert first.kind is second.kind is PassageKind.GRANTED
        replies = Probe("replies")
        tail = passage(None)
        for _ in range(3):
            ledger.address.tell(tail, reply_to=replies)
        assert [(await replies.expect(type(first))).repeated for _ in range(3)] == [False, True, True]
        assert await database.fetchval("select inside from zones where zone = 'park'") == 2


async def test_more_people_than_granted_are_tailgaters_and_a_case_each() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket)
        kinds = [(await ledger.passes(granted)).kind for _ in range(3)]
        assert kinds == [PassageKind.GRANTED, PassageKind.TAILGATE, PassageKind.TAILGATE]
        assert await _cases(database) == [("tailgate", "open"), ("tailgate", "open")]
        assert await database.fetchval("select redeemed from entitlements") == 1
        assert await database.fetchval("select inside from zones where zone = 'park'") == 3
        await _clean(database)


async def test_a_late_passage_uses_the_right_while_it_has_room() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket)
        await ledger.ends(granted, 0)
        assert (await ledger.passes(granted)).kind is PassageKind.LATE
        assert await database.fetchval("select redeemed from entitlements") == 1
        assert await _cases(database) == []
        assert (await ledger.passes(granted)).kind is PassageKind.TAILGATE  # the grant was for one
        await _clean(database)


async def test_a_late_passage_on_a_right_used_elsewhere_is_counted_and_a_case() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        first = await _granted(ledger, ticket.ticket)
        await ledger.ends(first, 0)
        second = await _granted(ledger, ticket.ticket, lane="lane2")
        assert (await ledger.passes(first)).kind is PassageKind.LATE  # held by the second grant
        await ledger.passes(second, lane="lane2")
        assert await _cases(database) == [("late_pass", "open")]
        assert await database.fetchval("select redeemed from entitlements") == 1
        assert await database.fetchval("select inside from zones where zone = 'park'") == 2
        await _clean(database)


async def test_people_on_grants_that_are_not_the_lanes_are_counted_without_a_right() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket)
        assert (await ledger.passes(granted, lane="lane2")).kind is PassageKind.TAILGATE
        assert (await ledger.passes(granted, grant=12345)).kind is PassageKind.TAILGATE
        assert (await ledger.passes(granted, grant=None)).kind is PassageKind.TAILGATE
        assert await database.fetchval("select redeemed from entitlements") == 0
        details = await database.fetch("select detail from cases order by case_id")
        unknown = "is not known"
        assert [row["detail"].split(" ", 2)[2] for row in details] == ["belongs to lane lane1", unknown, unknown]
        await _clean(database)


async def test_exits_and_other_passages_move_people_and_use_nothing() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        for kind in (PassageKind.EXIT, PassageKind.FREE, PassageKind.EMERGENCY, PassageKind.STAFF):
            assert (await ledger.passes(None, kind=kind)).kind is kind
        for number in range(5):
            await ledger.passes(None, kind=PassageKind.UNATTENDED, seq=9000 + number)
        assert await _cases(database) == [("unattended", "open")]  # not one for each
        assert await database.fetchval("select inside from zones where zone = 'park'") == 9
        with pytest.raises(LedgerRefused, match="unknown zone"):
            await ledger.passes(None, kind=PassageKind.EXIT, to_zone="moon")
        await _clean(database)


# -- ends ------------------------------------------------------------------------------------------------------------


async def test_an_end_said_twice_ends_once_and_the_books_count() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("group30")
        granted = await _granted(ledger, ticket.ticket, max_pax=5)
        await ledger.passes(granted)
        await ledger.passes(granted)
        settled = await ledger.ends(granted, 4)
        assert (settled.passed, settled.repeated) == (2, False)
        again = await ledger.ends(granted, 5)
        assert (again.passed, again.repeated) == (2, True)
        assert await _cases(database) == [("count_mismatch", "open")]
        assert await database.fetch("select redeemed, held from entitlements") == [{"redeemed": 2, "held": 0}]
        await _clean(database)


async def test_a_lane_that_knows_only_its_nonce_ends_its_grant() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket, device="lane1-reader")
        settled = await ledger.ends(granted, 0, grant=None, device="lane1-board")
        assert (settled.grant, settled.repeated) == (granted.grant, False)
        assert await database.fetchval("select count(*) from holds") == 0


async def test_only_the_lane_itself_ends_its_grant() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket)
        with pytest.raises(LedgerRefused, match="lane2 cannot end"):
            await ledger.ends(granted, 0, lane="lane2")
        with pytest.raises(LedgerRefused, match="not known"):
            await ledger.ends(granted, 0, grant=999, nonce="")
        assert await database.fetchval("select count(*) from holds") == 1


async def test_a_passage_with_the_end_of_its_grant_is_booked_with_it_once() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("group30")
        granted = await _granted(ledger, ticket.ticket, max_pax=3)
        first = await ledger.passes(granted)
        assert not first.ended
        last = await ledger.passes(granted, seq=77, ended=2)
        assert (last.ended, last.end_refused, last.repeated) == (True, "", False)
        again = await ledger.passes(granted, seq=77, ended=2)
        assert (again.ended, again.end_refused, again.repeated) == (True, "", True)
        assert await database.fetch("select redeemed, held from entitlements") == [{"redeemed": 2, "held": 0}]
        assert await database.fetch("select passed, said, why from grant_ends") == [
            {"passed": 2, "said": 2, "why": "complete"}
        ]
        assert await database.fetchval("select count(*) from holds") == 0
        assert await _cases(database) == []
        other = await _granted(ledger, ticket.ticket, max_pax=3)
        await ledger.passes(other, ended=3)  # it counts otherwise than we do
        assert await _cases(database) == [("count_mismatch", "open")]
        assert (await ledger.ends(other, 1)).repeated
        await _clean(database)


async def test_a_passage_is_counted_whatever_is_wrong_with_the_end_said_with_it() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket)
        unknown = await ledger.passes(granted, grant=999, ended=1)
        assert (unknown.kind, unknown.ended) == (PassageKind.TAILGATE, False)
        assert unknown.end_refused == "grant 999 is not known"
        foreign = await ledger.passes(granted, lane="lane2", device="lane2-board", ended=1)
        assert (foreign.kind, foreign.ended) == (PassageKind.TAILGATE, False)
        assert "lane2 cannot end" in foreign.end_refused
        nobodys = await ledger.passes(None, kind=PassageKind.EXIT, ended=1)
        assert (nobodys.ended, nobodys.end_refused) == (False, "")
        assert await database.fetchval("select count(*) from holds") == 1
        assert await database.fetchval("select inside from zones where zone = 'park'") == 3
        await _clean(database)


async def test_states_of_a_grant_that_is_over() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("group30")
        seen = []
        whys = (EndReason.COMPLETE, EndReason.PAUSED, EndReason.TIMEOUT, EndReason.FAULT)
        for passed, why in zip((2, 1, 0, 0), whys, strict=True):
            op = grant_op(ticket.ticket, max_pax=2)
            granted: Granted = await ledger.ask(op)
            for _ in range(passed):
                await ledger.passes(granted)
            await ledger.ends(granted, passed, why=why)
            seen.append((await ledger.ask(op)).state)
        assert seen == [GrantState.COMMITTED, GrantState.PARTLY, GrantState.EXPIRED, GrantState.CANCELLED]


async def test_past_its_ttl_a_grant_is_unresolved_and_a_case_until_the_lane_speaks() -> None:
    offset_s = 0.0
    async with (
        fresh_database() as database,
        ledger_running(database.dsn, clock=lambda: time.time() + offset_s) as ledger,
    ):
        (ticket,) = await ledger.sell("adult")
        op = grant_op(ticket.ticket)
        granted: Granted = await ledger.ask(op)
        offset_s = 60.0
        again: Granted = await ledger.ask(op)
        assert (again.state, again.ttl_s) == (GrantState.UNRESOLVED, 0.0)
        with trio.fail_after(30):
            while await _cases(database) != [("unresolved", "open")]:
                await trio.sleep(0.1)
        denied = await ledger.scan(ticket.ticket, lane="lane2")
        assert isinstance(denied, Denied)
        assert denied.code == "in_progress"
        await trio.sleep(1.2)  # another sweep
        assert await _cases(database) == [("unresolved", "open")]
        await _clean(database)
        await ledger.ends(granted, 0)
        assert await _cases(database) == [("unresolved", "resolved")]
        await _granted(ledger, ticket.ticket, lane="lane2")


# -- counts ----------------------------------------------------------------------------------------------------------


async def test_a_calibration_is_a_pair() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        counted = await ledger.ask(Calibrate(zone="park", delta=12, reason="counted", user="chen", at=time.time()))
        assert (counted.zone, counted.inside, counted.held, counted.limit) == ("park", 12, 0, None)
        assert await database.fetchval("select inside from zones where zone = 'outside'") == -12
        for zone, reason in (("outside", "counted"), ("park", ""), ("moon", "counted")):
            with pytest.raises(LedgerRefused):
                await ledger.ask(Calibrate(zone=zone, delta=1, reason=reason, user="chen", at=time.time()))
        await _clean(database)


async def test_zones_are_told_after_each_commit_that_moves_somebody() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, site=setup(limit=9)) as ledger:
        at_start = await ledger.zones.expect(ZonesChanged)
        assert [zone.zone for zone in at_start.zones] == ["outside", "park", "tower"]
        (ticket,) = await ledger.sell("adult")
        granted = await _granted(ledger, ticket.ticket)
        held = await ledger.zones.expect(ZonesChanged)
        assert (held.zones[1].zone, held.zones[1].inside, held.zones[1].held, held.zones[1].limit) == ("park", 0, 1, 9)
        await ledger.passes(granted)
        moved = await ledger.zones.expect(ZonesChanged)
        assert [(zone.zone, zone.inside, zone.held) for zone in moved.zones[:2]] == [("outside", -1, 0), ("park", 1, 0)]
        await ledger.scan(424242)
        await ledger.zones.expect_nothing(0.2)


async def test_what_a_lane_asks_after_a_restart() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        ask = LaneLedger(lane="lane1", device="lane1-board", epoch="e1")
        assert await ledger.ask(ask) == LaneBooks(
            lane="lane1", open_grants=[], epoch="e1", entries=None, exits=None, entries_today=0, exits_today=0
        )
        board = {"lane": "lane1", "device": "lane1-board", "epoch": "e1"}
        baseline = CounterBaseline(**board, entries=100, exits=50, at=time.time())
        assert await ledger.ask(baseline) == Ok()
        (ticket,) = await ledger.sell("group30")
        granted = await _granted(
            ledger, ticket.ticket, max_pax=3, counter_epoch="e1", counter_entries=100, counter_exits=50
        )
        await ledger.passes(granted, boot="e1", seq=101)
        books: LaneBooks = await ledger.ask(ask)
        assert (books.entries, books.exits, books.entries_today, books.exits_today) == (101, 50, 1, 0)
        (opened,) = books.open_grants
        assert (opened.grant, opened.nonce, opened.pax, opened.passed) == (granted.grant, granted.nonce, 3, 1)
        assert (opened.counter_epoch, opened.counter_entries, opened.counter_exits) == ("e1", 100, 50)
        lower = CounterBaseline(**board, entries=7, exits=7, at=time.time())
        assert await ledger.ask(lower) == Ok()  # the first one counts
        assert (await ledger.ask(ask)).entries == 101
        other: LaneBooks = await ledger.ask(LaneLedger(lane="lane2", device="lane2-board", epoch=None))
        assert (other.open_grants, other.entries) == ([], None)


def _refused(code: str) -> RefusedScan:
    return RefusedScan(
        lane="lane1",
        device="d",
        nonce="n",
        kind=CredentialKind.CODE,
        credential_hash=bytes(16),
        code=code,
        at=time.time(),
    )


async def test_scans_are_logged_with_what_came_of_them() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        ledger.address.tell(_refused("bad_signature"))
        await ledger.scan(ticket.ticket, to_zone="tower")
        await ledger.scan(99)
        await ledger.scan(ticket.ticket)
        codes = [row["code"] for row in await database.fetch("select code from scans order by scan")]
        assert codes == ["bad_signature", "wrong_zone", "unknown_code", "ok"]
        stored = await database.fetchval("select credential_hash from scans order by scan desc limit 1")
        assert stored == hash_id("code", str(ticket.ticket))


# -- bad operations --------------------------------------------------------------------------------------------------


async def test_one_poison_row_in_a_batch_of_64_harms_nobody() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        tickets = await ledger.sell("adult", 64)
        poison = {10: {"nonce": "nul \0 byte"}, 20: {"counter_entries": 2**70}, 30: {"ttl_s": -1.0}}
        outcomes: dict[int, object] = {}

        async def scan(number: int) -> None:
            changes = {"lane": f"lane{number}", **poison.get(number, {})}
            try:
                outcomes[number] = await ledger.scan(tickets[number].ticket, **changes)
            except LedgerRefused as exc:
                outcomes[number] = exc

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(scan, number)
        refused = {number for number, outcome in outcomes.items() if isinstance(outcome, LedgerRefused)}
        assert refused == set(poison)
        assert sum(isinstance(outcome, Granted) for outcome in outcomes.values()) == 61
        assert ledger.ledger.statistics().one_by_one >= 1
        assert await database.fetchval("select count(*) from holds") == 61
        await _clean(database)


async def test_what_the_ledger_does_not_know_is_refused() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        with pytest.raises(LedgerRefused, match="does not know Ok"):
            await ledger.ask(Ok())


async def test_a_refused_operation_that_nobody_waits_for_becomes_a_case() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        ledger.address.tell(_refused(""))
        await ledger.ask(LaneLedger(lane="lane1", device="d", epoch=None))
        assert await _cases(database) == [("refused", "open")]


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_the_state_is_told_with_the_settings_that_durability_rests_on() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        assert await ledger.states.expect(LedgerState) == LedgerState(available=True, detail="", durable=True)
    async with fresh_database(own=True) as database:
        name = database.dsn.database
        await run_sql(database.dsn, f"alter database {name} set synchronous_commit = off")
        async with ledger_running(database.dsn) as ledger:
            assert await ledger.states.expect(LedgerState) == LedgerState(available=True, detail="", durable=False)


async def test_two_servers_do_not_write_one_sites_books() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as first:
        async with ledger_running(database.dsn, wait=False) as second:
            state = await second.states.expect(LedgerState, within_s=30)
            assert not state.available
            assert "another server" in state.detail
            await first.sell("adult")
        async with ledger_running(database.dsn, site=setup("other")) as other:
            assert other.ledger.state.available


async def test_what_was_received_before_stop_is_written_before_it_stops() -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn) as ledger:
            tickets = await ledger.sell("adult", 40)
            replies = Probe("replies")
            for ticket in tickets:
                ledger.address.tell(grant_op(ticket.ticket), reply_to=replies)
        for _ in tickets:
            await replies.expect(Granted)
        assert await database.fetchval("select count(*) from holds") == 40


async def test_a_restarted_ledger_goes_on_where_it_was() -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn) as ledger:
            (ticket,) = await ledger.sell("adult")
            granted = await _granted(ledger, ticket.ticket)
        async with ledger_running(database.dsn) as ledger:
            assert (await ledger.passes(granted)).kind is PassageKind.GRANTED
            assert (await ledger.ends(granted, 1)).passed == 1
        await _clean(database)


async def test_an_operation_that_nobody_wants_any_more_is_not_carried_out() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        with trio.move_on_after(0.0):
            await ledger.scan(ticket.ticket)
        await ledger.ask(LaneLedger(lane="lane1", device="d", epoch=None))
        assert await database.fetchval("select count(*) from grants") == 0
