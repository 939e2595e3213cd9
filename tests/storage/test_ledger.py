"""Scan to passage on real PostgreSQL: what is granted, booked, ended and counted."""

from __future__ import annotations

import trio

from protocols.messages import Denied, EndReason, Granted, GrantState, PassageKind
from storage.testing import fresh_database, ledger_running, setup


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
