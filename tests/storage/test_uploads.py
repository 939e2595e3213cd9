"""Journals of lanes that decided alone: booked once and in order, judged by the scan's time, nothing silent."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from trio_asyncio import aio_as_trio

from actors.admission import decide
from core import ActorError
from protocols.messages import Booked, Denied, Direction, Granted, Settled
from protocols.rights import Reentry
from protocols.uploads import Body, RecAlarm, RecBaseline, RecEnded, RecGrant, Record, RecPassed, RecRefused
from storage.audit import FILES
from storage.interfaces import LedgerRefused, MarkCard, ProductSetup, RequestRefund, UploadBooked, UploadOp
from storage.queries import load
from storage.testing import (
    Database,
    LedgerUser,
    command,
    connected,
    fresh_database,
    hash_id,
    ledger_running,
    product,
    setup,
)

_nonces = count(1)


class LaneAlone:
    """A lane with a journal. Its records are the journal; `upload` sends what is asked for."""

    def __init__(self, ledger: LedgerUser, lane: str = "lane1", *, clock_s: float = 0.0) -> None:
        self.ledger = ledger
        self.lane = lane
        self.device = f"{lane}-host"
        self.journal = f"journal-{lane}"
        self.clock_s = clock_s  # how far its clock is ahead
        self.records: list[Record] = []
        self.upto = 0

    def add(self, body: Body, ago_s: float = 0.0) -> Record:
        record = Record(seq=len(self.records) + 1, at=time.time() + self.clock_s - ago_s, body=body)
        self.records.append(record)
        return record

    def lets_in(self, ticket: int, people: int = 1, *, pax: int = 1, ago_s: float = 60.0, **changes: Any) -> str:
        """A grant, its people, its end."""
        nonce = f"alone-{next(_nonces)}"
        scan: dict[str, Any] = {"kind": "code", "credential": hash_id("code", str(ticket)), "ticket": ticket} | changes
        self.add(RecGrant(nonce=nonce, pax=pax, **scan), ago_s)
        for _ in range(people):
            self.add(RecPassed(nonce=nonce, direction=changes.get("direction", "entry")), ago_s)
        self.add(RecEnded(nonce=nonce, passed=people, why="complete" if people == pax else "timeout"), ago_s)
        return nonce

    def op(self, records: list[Record] | None = None, **changes: Any) -> UploadOp:
        fields: dict[str, Any] = {
            "lane": self.lane,
            "device": self.device,
            "journal": self.journal,
            "oldest": 1,
            "records": self.records[self.upto :] if records is None else records,
            "from_zone": "outside",
            "to_zone": "park",
            "ttl_s": 5.0,
            "offset_s": -self.clock_s,
        }
        return UploadOp(**(fields | changes))

    async def upload(self, records: list[Record] | None = None, **changes: Any) -> UploadBooked:
        answer: UploadBooked = await self.ledger.ask(self.op(records, **changes))
        self.upto = answer.upto
        return answer


@asynccontextmanager
async def _site(*products: ProductSetup) -> AsyncIterator[tuple[Database, LedgerUser]]:
    made = setup(products=list(products) or None)
    async with fresh_database() as database, ledger_running(database.dsn, site=made, decide=decide) as ledger:
        yield database, ledger
        broken = {name: rows for name, rows in (await _checked(database)).items() if rows}
        assert broken == {}


async def _checked(database: Database) -> dict[str, list[str]]:
    """Every check of the audit but the one of the constraints, which nothing here changes and which is slow."""
    found = {}
    async with connected(database.dsn) as connection:
        for file in FILES:
            for name, sql in load(file).items():
                rows = await aio_as_trio(connection.fetch)(sql, *(["demo"] if "$1" in sql else []))
                found[name] = [str(row[0]) for row in rows]
    return found


async def _cases(database: Database) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in await database.fetch("select kind, detail from cases order by case_id"):
        found.setdefault(row["kind"], []).append(row["detail"])
    return found


async def _online(ledger: LedgerUser, ticket: int, lane: str = "lane9") -> Granted | Denied:
    granted = await ledger.scan(ticket, lane=lane)
    if isinstance(granted, Granted):
        for _ in range(granted.pax):
            await ledger.passes(granted, lane=lane)
        await ledger.ends(granted, granted.pax, lane=lane)
    return granted


async def test_what_a_lane_let_in_alone_uses_the_right_once() -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket)
        assert await lane.upload() == UploadBooked(journal="journal-lane1", upto=3)
        assert await database.fetchval("select redeemed from entitlements") == 1
        assert await database.fetchval("select inside from zones where zone = 'park'") == 1
        assert await _cases(database) == {}
        denied = await ledger.scan(ticket.ticket)
        assert isinstance(denied, Denied)
        assert (denied.code, denied.lane_of_use) == ("already_used", "lane1")


async def test_repeated_partial_and_reordered_uploads_book_everything_once() -> None:
    async with _site() as (database, ledger):
        tickets = [each.ticket for each in await ledger.sell("adult", 4)]
        lane = LaneAlone(ledger)
        for ticket in tickets:
            lane.lets_in(ticket)
        journal = lane.records
        assert (await lane.upload(journal[:5])).upto == 5
        assert (await lane.upload(journal[:5])).upto == 5
        assert (await lane.upload(journal[7:9])).upto == 5  # comes before what lies between
        assert (await lane.upload([journal[8], *journal[5:8]])).upto == 5  # a shuffled one: nothing of it is booked
        assert (await lane.upload(journal[3:8])).upto == 8
        for _ in range(2):
            assert (await lane.upload(journal)).upto == 12
        assert await database.fetchval("select count(*)::int from passages") == 4
        assert await database.fetchval("select sum(redeemed)::int from entitlements") == 4
        assert await _cases(database) == {}


async def test_a_ticket_used_at_two_lanes_in_a_partition_lets_both_stand_and_is_one_case() -> None:
    """Scenario 10: both lanes open; one case after the uploads, with the ticket, both lanes and both times."""
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        first, second = LaneAlone(ledger, "lane1"), LaneAlone(ledger, "lane2")
        first.lets_in(ticket.ticket, ago_s=300)
        second.lets_in(ticket.ticket, ago_s=200)
        assert (await second.upload()).conflicts == 0
        assert (await first.upload()).conflicts == 1
        assert (await first.upload(first.records)).conflicts == 0
        assert await database.fetchval("select count(*)::int from passages") == 2
        assert await database.fetchval("select redeemed from entitlements") == 1
        cases = await _cases(database)
        assert list(cases) == ["double_use"]
        (detail,) = cases["double_use"]
        zone = "Asia/Shanghai"
        for lane in (first, second):
            at = await database.fetchval(
                "select to_char(to_timestamp($1) at time zone $2, 'HH24:MI:SS')", lane.records[0].at, zone
            )
            assert f"{lane.lane} at " in detail
            assert at in detail
        assert str(ticket.ticket) in detail


async def test_a_ticket_used_online_meanwhile_is_a_case() -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket)
        assert isinstance(await _online(ledger, ticket.ticket), Granted)
        assert (await lane.upload()).conflicts == 1
        cases = await _cases(database)
        assert list(cases) == ["double_use"]
        assert "lane9" in cases["double_use"][0]
        rows = await database.fetch("select ticket, lane, other_lane, code from offline_conflicts")
        assert rows == [{"ticket": ticket.ticket, "lane": "lane1", "other_lane": "lane9", "code": "already_used"}]


async def test_a_group_that_came_in_at_two_lanes_is_a_case_for_each_who_was_too_many() -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("group30")
        first, second = LaneAlone(ledger, "lane1"), LaneAlone(ledger, "lane2")
        for lane in (first, second):
            lane.lets_in(ticket.ticket, 9, pax=10)
            lane.lets_in(ticket.ticket, 8, pax=10)
        assert (await first.upload()).conflicts == 0
        assert (await second.upload()).conflicts == 4  # 17 and 17 of 30
        assert await database.fetchval("select redeemed from entitlements") == 30
        assert len((await _cases(database))["double_use"]) == 4
        assert await database.fetchval("select inside from zones where zone = 'park'") == 34


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("update tickets set state = 'void'", "void"),
        ("update tickets set state = 'blocked'", "blocked"),
        ("update tickets set valid_to = valid_from + interval '1 second'", "expired"),
        ("update credentials set state = 'void'", "void"),
    ],
)
async def test_who_never_had_a_right_is_a_case_and_uses_none(change: str, code: str) -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket)
        await database.corrupt(change)
        assert (await lane.upload()).conflicts == 1
        cases = await _cases(database)
        assert list(cases) == ["offline_wrong"]
        assert f"({code})" in cases["offline_wrong"][0]
        assert str(ticket.ticket) in cases["offline_wrong"][0]
        assert await database.fetchval("select redeemed from entitlements") == 0
        assert await database.fetchval("select inside from zones where zone = 'park'") == 1


async def test_an_unknown_ticket_is_a_case() -> None:
    async with _site() as (database, ledger):
        lane = LaneAlone(ledger)
        lane.lets_in(4711, 2, pax=2)
        assert (await lane.upload()).conflicts == 2
        assert len((await _cases(database))["offline_wrong"]) == 2


async def test_a_refund_after_the_scan_is_a_case_and_the_refund_stands() -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket)
        await ledger.ask(command(RequestRefund, ticket=ticket.ticket, places=1))
        assert (await lane.upload()).conflicts == 1
        assert sum(map(len, (await _cases(database)).values())) == 1
        assert await database.fetchval("select redeemed from entitlements") == 0


async def test_a_card_that_was_lost_after_the_scan_was_good_at_the_scan() -> None:
    async with _site() as (database, ledger):
        (card,) = await ledger.sell("annual", card_hash=hash_id("card", "c1"), tenders=[("cash", 30_000)])
        lane = LaneAlone(ledger)
        presented: dict[str, Any] = {"kind": "card", "credential": hash_id("card", "c1")}
        lane.lets_in(card.ticket, ago_s=60, **presented)
        await ledger.ask(command(MarkCard, ticket=card.ticket, state="lost"))
        assert (await lane.upload()).conflicts == 0
        lane.lets_in(card.ticket, ago_s=-1, **presented)  # and no longer is
        answer = await lane.upload()
        assert answer.conflicts == 1
        assert list(await _cases(database)) == ["offline_wrong"]


async def test_a_days_uses_are_counted_on_the_scans_day() -> None:
    """Yesterday's use that comes after today's is no conflict; a second one of today is."""
    async with _site(product("daily", uses=0, uses_per_day=1, days=30)) as (database, ledger):
        (ticket,) = await ledger.sell("daily")
        assert isinstance(await _online(ledger, ticket.ticket), Granted)
        lane = LaneAlone(ledger)
        day_s = 86_400.0
        await database.corrupt("update tickets set valid_from = valid_from - interval '5 days'")
        lane.lets_in(ticket.ticket, ago_s=day_s)
        assert (await lane.upload()).conflicts == 0
        lane.lets_in(ticket.ticket, ago_s=day_s)  # the second of yesterday
        lane.lets_in(ticket.ticket, ago_s=0)  # the second of today
        assert (await lane.upload()).conflicts == 2
        assert len((await _cases(database))["double_use"]) == 2


async def test_somebody_comes_back_at_a_lane_alone() -> None:
    async with _site(product("back", reentry=Reentry())) as (database, ledger):
        (ticket,) = await ledger.sell("back")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket, ago_s=300)
        lane.lets_in(ticket.ticket, ago_s=200, direction="exit", use="exit")
        lane.lets_in(ticket.ticket, ago_s=100, use="reentry")
        assert await lane.upload() == UploadBooked(journal="journal-lane1", upto=9)
        rights = await database.fetch("select redeemed, used_day, reentries_day from entitlements")
        assert rights == [{"redeemed": 1, "used_day": 1, "reentries_day": 1}]
        assert await database.fetchval("select inside from zones where zone = 'park'") == 1
        assert await _cases(database) == {}


async def test_a_late_upload_of_a_closed_day_moves_nobody_of_today() -> None:
    """Scenario 21: booked, and corrected in the same breath."""
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket, ago_s=26 * 3600.0)
        await database.corrupt("update tickets set valid_from = valid_from - interval '5 days'")
        assert (await lane.upload()).conflicts == 0
        assert await database.fetchval("select inside from zones where zone = 'park'") == 0
        reasons = await database.fetch("select reason, delta from calibrations")
        assert reasons == [{"reason": "late_upload", "delta": -1}]
        assert await database.fetchval("select redeemed from entitlements") == 1


@pytest.mark.parametrize("clock_s", [20 * 60.0, -20 * 60.0, -1.7e9])
async def test_a_clock_that_is_off_is_put_right_and_told(clock_s: float) -> None:
    """Scenario 16: a lane whose clock is 20 minutes off, or stands in 1970."""
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger, clock_s=clock_s)
        lane.lets_in(ticket.ticket, ago_s=60.0)
        assert (await lane.upload()).conflicts == 0
        assert list(await _cases(database)) == ["clock"]
        ago_s = await database.fetchval("select extract(epoch from now() - seen_at)::float8 from passages")
        assert 55 < ago_s < 120


async def test_a_lost_part_of_a_journal_is_a_case_and_the_rest_is_booked() -> None:
    async with _site() as (database, ledger):
        tickets = [each.ticket for each in await ledger.sell("adult", 2)]
        lane = LaneAlone(ledger)
        for ticket in tickets:
            lane.lets_in(ticket)
        assert (await lane.upload(lane.records[3:])).upto == 0  # the lane still has them
        assert (await lane.upload(lane.records[3:], oldest=4)).upto == 6
        assert list(await _cases(database)) == ["upload_gap"]
        assert await database.fetchval("select sum(redeemed)::int from entitlements") == 1


async def test_what_cannot_be_booked_becomes_a_case_and_holds_nothing_up() -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        lane.add(RecEnded(grant=12345, passed=1))
        lane.add(RecRefused(nonce="r1", kind="code", code="ok"))
        lane.lets_in(ticket.ticket)
        assert (await lane.upload()).upto == 5
        assert len((await _cases(database))["upload_refused"]) == 2
        lane.add(RecPassed(kind="granted", nonce="who knows"))
        answer = await lane.upload(give_up="refused by the database")
        assert answer.upto == 6
        assert len((await _cases(database))["upload_refused"]) == 3


async def test_the_other_records_are_booked_as_what_they_are() -> None:
    async with _site() as (database, ledger):
        lane = LaneAlone(ledger)
        lane.add(RecRefused(nonce="r1", kind="code", code="already_used", credential=hash_id("code", "1")))
        lane.add(RecAlarm(kind="journal", detail="the disk is full", severity="alarm"))
        lane.add(RecBaseline(epoch="e1", entries=5, exits=6))
        lane.add(RecPassed(kind="forced"))
        lane.add(RecPassed(kind="exit", direction="exit"))
        lane.add(RecPassed(kind="no such kind"))
        assert (await lane.upload()).upto == 6
        assert await database.fetchval("select code from scans") == "already_used"
        cases = await _cases(database)
        assert set(cases) == {"journal", "forced", "unattended"}
        kinds = await database.fetch("select kind from passages order by seq")
        assert [row["kind"] for row in kinds] == ["forced", "exit", "unattended"]
        assert await database.fetchval("select entries::int from counter_baselines") == 5


async def test_passages_and_the_end_of_the_servers_grant_come_by_the_journal() -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        granted = await ledger.scan(ticket.ticket, lane="lane1", device=lane.device)
        assert isinstance(granted, Granted)
        lane.add(RecPassed(grant=granted.grant))
        lane.add(RecEnded(grant=granted.grant, nonce=granted.nonce, passed=1))
        assert (await lane.upload()).upto == 2
        assert await database.fetchval("select redeemed from entitlements") == 1
        assert await database.fetchval("select count(*)::int from holds") == 0
        assert await _cases(database) == {}


async def test_a_scan_that_the_lane_gave_up_opens_nothing_and_holds_nothing() -> None:
    """The server answered too late, the lane decided alone: one person, one use."""
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        granted = await ledger.scan(ticket.ticket, lane="lane1", device=lane.device, nonce="asked")
        assert isinstance(granted, Granted)
        lane.add(RecEnded(nonce="asked", passed=0, why="never_opened"))
        lane.lets_in(ticket.ticket, ago_s=0.0)
        assert (await lane.upload()).conflicts == 0
        assert await database.fetchval("select redeemed from entitlements") == 1
        assert await database.fetchval("select held from entitlements") == 0
        assert await _cases(database) == {}


async def test_a_grant_whose_people_come_in_the_next_upload_stays_open_without_a_case() -> None:
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket, ago_s=3000.0)
        await lane.upload(lane.records[:1])
        denied = await ledger.scan(ticket.ticket)
        assert isinstance(denied, Denied)
        assert denied.code == "in_progress"
        assert (await lane.upload()).upto == 3
        assert await _cases(database) == {}


async def test_a_product_that_is_not_to_be_let_in_alone_is_told_of() -> None:
    async with _site(product("careful", offline="refuse")) as (database, ledger):
        (ticket,) = await ledger.sell("careful")
        lane = LaneAlone(ledger)
        lane.lets_in(ticket.ticket)
        assert (await lane.upload()).conflicts == 0
        assert list(await _cases(database)) == ["offline_policy"]


async def test_a_lane_acts_only_for_itself() -> None:
    """Another device's grant is not used by a journal, whatever it says."""
    async with _site() as (database, ledger):
        (ticket,) = await ledger.sell("adult")
        granted = await ledger.scan(ticket.ticket, lane="lane2")
        assert isinstance(granted, Granted)
        lane = LaneAlone(ledger, "lane1")
        lane.add(RecPassed(grant=granted.grant))
        lane.add(RecEnded(grant=granted.grant, passed=1))
        assert (await lane.upload()).upto == 2
        cases = await _cases(database)
        assert set(cases) == {"tailgate", "upload_refused"}
        assert await database.fetchval("select held from entitlements") == 1
        settled = await ledger.ends(granted, 0, lane="lane2")
        assert isinstance(settled, Settled)


async def test_an_upload_for_a_zone_that_is_none_is_refused() -> None:
    async with _site() as (_, ledger):
        lane = LaneAlone(ledger)
        lane.add(RecPassed(kind="forced"))
        with pytest.raises(LedgerRefused):
            await lane.upload(to_zone="moon")
        booked = await ledger.passes(None, kind="forced")
        assert isinstance(booked, Booked)


async def test_a_record_that_the_database_refuses_harms_no_other_operation() -> None:
    async with _site() as (_, ledger):
        lane = LaneAlone(ledger)
        lane.add(RecBaseline(epoch="e", entries=2**53 - 1, exits=1))
        lane.add(RecPassed(kind="forced"))
        bad = lane.op([Record(seq=1, at=time.time(), body=RecRefused(nonce="x\0", kind="code", code="void"))])
        with pytest.raises((LedgerRefused, ActorError)):
            await ledger.ask(bad)
        assert (await lane.upload()).upto == 2


async def test_exits_are_let_out_on_anything() -> None:
    async with _site() as (database, ledger):
        lane = LaneAlone(ledger)
        lane.lets_in(99, direction=str(Direction.EXIT), use="exit")
        assert (await lane.upload()).conflicts == 0
        assert await database.fetchval("select inside from zones where zone = 'park'") == -1


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_uploaded_in_whatever_order_everybody_is_counted_once(seed: int) -> None:
    """The model: each person who passed used the right or is a conflict, and no right is used more than it was sold."""
    draw = random.Random(seed)
    async with _site() as (database, ledger):
        sold = {each.ticket: 1 for each in await ledger.sell("adult", 6)}
        sold |= {each.ticket: 30 for each in await ledger.sell("group30", 2)}
        people: Counter[int] = Counter()
        lanes = [LaneAlone(ledger, f"lane{number}") for number in range(1, 4)]
        for _ in range(60):
            ticket, lane = draw.choice(list(sold)), draw.choice(lanes)
            step = draw.random()
            if step < 0.35:  # alone, with fewer people than the lane opened for, or none
                pax = 1 if sold[ticket] == 1 else draw.randint(1, 10)
                came = draw.randint(0, pax)
                lane.lets_in(ticket, came, pax=pax, ago_s=draw.uniform(0, 3000))
                people[ticket] += came
            elif step < 0.5:
                granted = await _online(ledger, ticket, f"online{draw.randint(1, 2)}")
                people[ticket] += granted.pax if isinstance(granted, Granted) else 0
            else:  # some of the journal: behind the mark, before it, with a hole, or out of order
                records = lane.records
                begin = max(0, lane.upto - draw.randint(0, 4) + draw.randint(0, 2))
                some = records[begin : begin + draw.randint(1, 12)]
                if draw.random() < 0.1:
                    draw.shuffle(some)
                before = lane.upto
                assert before <= (await lane.upload(some)).upto <= len(records)
        for lane in lanes:
            assert (await lane.upload()).upto == len(lane.records)
        rows = await database.fetch("select ticket, redeemed, held from entitlements")
        extra = Counter({
            row["ticket"]: row["people"]
            for row in await database.fetch("select ticket, count(*)::int as people from offline_conflicts group by 1")
        })
        for row in rows:
            ticket = row["ticket"]
            assert row["held"] == 0
            assert row["redeemed"] <= sold[ticket]
            assert row["redeemed"] + extra[ticket] == people[ticket], (ticket, row, people, extra)
            assert extra[ticket] >= people[ticket] - sold[ticket]
        assert await database.fetchval("select count(*)::int from passages") == people.total()
        assert len((await _cases(database)).get("double_use", [])) == extra.total()
