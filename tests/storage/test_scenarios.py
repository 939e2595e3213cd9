"""Scenarios of the domain model (section 14) at the ledger, with messages that repeat, wait and overtake each other."""

from __future__ import annotations

import random

import pytest
import trio

from actors.admission import decide
from protocols.messages import Booked, Granted, PassageKind, Settled
from storage.audit import audit
from storage.testing import end, fresh_database, ledger_running, passage, product, setup

PAX = 6


@pytest.mark.parametrize("seed", range(4))
async def test_scenario_5_passages_in_any_order_and_three_times_each_are_counted_once(seed: int) -> None:
    order = random.Random(seed)
    group = setup(products=[product("group", product_class="group", pax=PAX)])
    async with fresh_database() as database:
        async with ledger_running(database.dsn, site=group, decide=decide) as ledger:
            (ticket,) = await ledger.sell("group")
            granted = await ledger.scan(ticket.ticket, max_pax=PAX)
            assert isinstance(granted, Granted) and granted.pax == PAX
            passages = [passage(granted, seq=1000 + number) for number in range(PAX - 1)]
            messages = [*passages * 3, *[end(granted, PAX - 1)] * 3]
            order.shuffle(messages)
            answers: list[Booked | Settled] = []

            async def tell(message: object) -> None:
                answers.append(await ledger.ask(message))

            async with trio.open_nursery() as nursery:
                for message in messages:
                    nursery.start_soon(tell, message)
                    if order.random() < 0.3:
                        await trio.sleep(order.random() * 0.01)
            booked = [answer for answer in answers if isinstance(answer, Booked)]
            assert sorted(answer.seq for answer in booked if not answer.repeated) == [op.seq for op in passages]
            assert {answer.kind for answer in booked} <= {PassageKind.GRANTED, PassageKind.LATE}
            assert [answer.repeated for answer in answers if isinstance(answer, Settled)].count(False) == 1
        (row,) = await database.fetch("select redeemed, held from entitlements")
        assert (row["redeemed"], row["held"]) == (PAX - 1, 0)
        assert await database.fetchval("select inside from zones where zone = 'park'") == PAX - 1
        report = await audit(database.dsn, "demo")
        assert report.clean, report.broken
