"""Batches that overlap: decided while the one before is written, and none the worse for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from core.testing import Probe
from protocols.messages import Denied, EndReason, Granted
from storage.audit import audit
from storage.interfaces import LedgerRefused
from storage.testing import Database, LedgerUser, end, fresh_database, grant_op, ledger_running, passage, setup

CROWD = 200  # told at once: several batches, of which each is asked for before the last is on disk


async def _answers(ledger: LedgerUser, *ops: Any) -> list[Any]:
    """The answers to operations that are told in one breath, in the order of the operations."""
    replies = [Probe(str(number)) for number in range(len(ops))]
    for op, reply in zip(ops, replies, strict=True):
        ledger.address.tell(op, reply_to=reply)
    return [(await reply.receive()).msg for reply in replies]


async def _clean(database: Database) -> None:
    report = await audit(database.dsn, "demo")
    assert report.clean, report.broken


async def _overlapped(ledger: LedgerUser) -> None:
    statistics = ledger.ledger.statistics()
    assert statistics.operations / statistics.batches < CROWD / 2


async def test_a_limit_holds_over_batches_that_overlap() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, site=setup(limit=50)) as ledger:
        tickets = await ledger.sell("adult", CROWD)
        ops = [grant_op(ticket.ticket, lane=f"lane{number}") for number, ticket in enumerate(tickets)]
        answers = await _answers(ledger, *ops)
        assert sum(isinstance(answer, Granted) for answer in answers) == 50
        assert {answer.code for answer in answers if isinstance(answer, Denied)} == {"capacity_hold"}
        await _overlapped(ledger)
        granted = [(op, answer) for op, answer in zip(ops, answers, strict=True) if isinstance(answer, Granted)]
        ends = [end(answer, 0, lane=op.lane, why=EndReason.TIMEOUT) for op, answer in granted]
        await _answers(ledger, *ends)
        again = [grant_op(ticket.ticket, lane=f"lane{number}") for number, ticket in enumerate(tickets)]
        assert sum(isinstance(answer, Granted) for answer in await _answers(ledger, *again)) == 50
        await _clean(database)


async def test_one_scan_said_in_many_batches_is_one_grant() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        tickets = await ledger.sell("adult", 40)
        scans = [grant_op(ticket.ticket, lane=f"lane{number}") for number, ticket in enumerate(tickets)]
        answers = await _answers(ledger, *(scans * 5))
        fresh = [answer for answer in answers if answer.fresh]
        assert len({answer.grant for answer in answers}) == len(fresh) == 40
        for number, first in enumerate(answers[:40]):
            assert {answer.grant for answer in answers[number::40]} == {first.grant}
        passages = [passage(answer, lane=op.lane) for op, answer in zip(scans, answers, strict=False)]
        booked = await _answers(ledger, *(passages * 5))
        assert Counter(answer.repeated for answer in booked) == {False: 40, True: 160}
        await _clean(database)


async def test_a_group_code_at_a_hundred_lanes_admits_each_person_once() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (group,) = await ledger.sell("group30")
        ops = [grant_op(group.ticket, lane=f"lane{number % 100}", max_pax=1) for number in range(CROWD)]
        granted = [answer for answer in await _answers(ledger, *ops) if isinstance(answer, Granted)]
        assert len(granted) == sum(answer.pax for answer in granted) == 30
        await _clean(database)


@pytest.mark.parametrize("place", [0, 70, CROWD - 1])
async def test_a_bad_operation_in_one_of_them_harms_none_of_the_others(place: int) -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        tickets = await ledger.sell("adult", CROWD)
        ops = [grant_op(ticket.ticket, lane=f"lane{number}") for number, ticket in enumerate(tickets)]
        ops[place] = grant_op(tickets[place].ticket, lane="lane\0")
        answers = await _answers(ledger, *ops)
        bad = answers.pop(place)
        assert isinstance(bad.error, LedgerRefused)
        assert all(isinstance(answer, Granted) and answer.fresh for answer in answers)
        assert 1 <= ledger.ledger.statistics().one_by_one <= 2  # its own batch, and the one it was looked up with
        assert await database.fetchval("select count(*) from grants") == CROWD - 1
        await _clean(database)


@pytest.mark.parametrize("column", ["nonce", "lane"])
async def test_what_cannot_even_be_sent_is_refused_alone(column: str) -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        tickets = await ledger.sell("adult", CROWD)
        ops = [grant_op(ticket.ticket, lane=f"lane{number}") for number, ticket in enumerate(tickets)]
        ops[120] = grant_op(tickets[120].ticket, **{column: "\ud800"})
        answers = await _answers(ledger, *ops)
        assert isinstance(answers.pop(120).error, LedgerRefused)
        assert all(isinstance(answer, Granted) for answer in answers)
        await _clean(database)


async def test_the_database_refuses_what_nobody_may_do_to_anybody() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        one, two = await ledger.sell("adult", 2)
        first, second = await ledger.scan(one.ticket), await ledger.scan(two.ticket, lane="lane2")
        assert isinstance(first, Granted)
        assert isinstance(second, Granted)
        insert = (
            "insert into passages (site, device, boot, direction, seq, ledger_seq, lane, kind, grant_id, from_zone, "
            "to_zone, device_at, booked_at) "
            "values ('demo', 'd', 'b', 'entry', 1, 1000000, 'lane9', 'granted', $1, 'outside', 'park', now(), now())"
        )
        with pytest.raises(Exception, match="no grant of its lane"):
            await database.fetch(insert, first.grant)
        booked = await ledger.passes(first)
        use = (
            "insert into redemptions (site, device, boot, direction, seq, entitlement, grant_id, booked_at) "
            "select site, device, boot, direction, seq + $2, (select entitlement from grants where grant_id = $1), "
            "grant_id, now() from passages where seq = $3"
        )
        await database.corrupt("delete from redemptions")
        with pytest.raises(Exception, match="no passage, or its grant is on another right"):
            await database.fetch(use, second.grant, 0, booked.seq)  # another's right
        with pytest.raises(Exception, match="no passage, or its grant is on another right"):
            await database.fetch(use, first.grant, 1, booked.seq)  # without a passage
        await database.fetch(use, first.grant, 0, booked.seq)
        with pytest.raises(Exception, match="append-only"):
            await database.fetch("delete from entitlements")
        with pytest.raises(Exception, match="append-only"):
            await database.fetch("update zones set zone = 'elsewhere' where zone = 'park'")
