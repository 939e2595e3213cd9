"""What is revoked is at a lane at once: server, link, lane and both databases are real; nobody asks by the clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.admission import decide
from actors.edge import Hint, LinkUp, ListActor
from actors.edge import lists as edge_lists
from actors.lists import LaneCall, Lists
from core import Address, Child, Supervisor
from core.testing import patient_time, running
from drivers.nng import LinkClient, WorkServer
from drivers.nng.testing import FakeGate, free_addresses, until
from protocols.devicelink import EVERYBODY
from protocols.messages import CredentialKind
from storage._lists import ListReader
from storage.interfaces import HoldTicket
from storage.lanelists import LaneLists, ListsError
from storage.testing import LedgerUser, command, fresh_database, hash_id, ledger_running, setup, visit_date

patient = pytest.fixture(autouse=True)(patient_time)

WAIT_S = 25.0
BURST = 40  # orders; each revokes a ticket, and the lane hears of it while it asks for the one before


class Rig:
    """A server's lists and a lane's, with a link between them."""

    def __init__(self, ledger: LedgerUser, lists: Lists, work: WorkServer, store: LaneLists, lane: Address) -> None:
        self.ledger = ledger
        self.lists = lists
        self.work = work
        self.store = store
        self.lane = lane

    def state(self, ticket: int) -> str:
        """As the lane's list has it: empty when it is not there."""
        listed = self.store.rights(CredentialKind.CODE, hash_id("code", "x"), ticket, time.time())
        return "" if listed is None else listed.rights[0].ticket_state

    async def revoke(self, *tickets: int, held: bool = True) -> None:
        for ticket in tickets:
            await self.ledger.ask(command(HoldTicket, ticket=ticket, held=held))


@asynccontextmanager
async def rig(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(edge_lists, "POLL_S", 3600.0)  # what comes within the test was woken
    made, addresses, gate = setup(), free_addresses(), FakeGate()
    async with fresh_database() as database, ledger_running(database.dsn, site=made, decide=decide) as ledger:
        served = Address("lists", capacity=64)

        async def answer(request: Any) -> Any:
            return await served.ask(LaneCall(lane="lane1", request=request), 1.8)

        work = WorkServer(addresses.work, addresses.wake, answer)
        lists = Lists(ListReader(made, database.dsn), wake=lambda: work.wake(EVERYBODY))
        me = Address("lane", capacity=64)
        client = LinkClient(
            addresses,
            "lane-1",
            {},
            site="demo",
            sensed=gate.sensed,
            on_release=gate.release,
            on_lists=lambda: me.tell(Hint()),
            on_link=lambda up: me.tell(LinkUp(up=up)),
        )
        store = LaneLists(folder / "lists.sqlite", lambda at: date.fromisoformat(visit_date()))
        lane = ListActor(store=store, failures=(ListsError,), ask=client.ask, header=client.header)
        async with running(Supervisor("site", [Child(served, lists.run), Child(me, lane.run)])):
            async with trio.open_nursery() as nursery:
                await nursery.start(work.run)
                await nursery.start(client.run)
                await until(lambda: store.version > 0, WAIT_S)
                yield Rig(ledger, lists, work, store, me)
                nursery.cancel_scope.cancel()
        store.close()


async def test_a_revocation_wakes_the_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(tmp_path, monkeypatch) as made:
        (sold,) = await made.ledger.sell("adult")
        await until(lambda: made.state(sold.ticket) == "active", WAIT_S)
        await made.revoke(sold.ticket)
        await until(lambda: made.state(sold.ticket) == "on_hold", WAIT_S)
        await made.revoke(sold.ticket, held=False)
        await until(lambda: made.state(sold.ticket) == "active", WAIT_S)
        assert made.lists.statistics().wakes >= 2


async def test_a_burst_of_changes_and_five_hundred_wake_ups_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(tmp_path, monkeypatch) as made:
        tickets = [each.ticket for each in await made.ledger.sell("adult", BURST)]
        await until(lambda: made.state(tickets[-1]) == "active", WAIT_S)

        async def wake() -> None:
            for number in range(500):
                made.work.wake(EVERYBODY if number % 2 else "lane-1")
                if number % 10 == 0:
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wake)
            await made.revoke(*tickets)
        await until(lambda: all(made.state(ticket) == "on_hold" for ticket in tickets), WAIT_S)
