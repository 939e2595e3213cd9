"""Lanes that do anything at all, many at once, in any order: the audit must find nothing, whatever the seed."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import trio

from protocols.messages import Denied, Direction, Ended, EndReason, Granted, PassageKind, Passed
from storage.audit import audit
from storage.interfaces import Calibrate, GrantOp, LedgerRefused
from storage.testing import (
    LedgerUser,
    end,
    fresh_database,
    grant_op,
    ledger_running,
    passage,
    product,
    run_sql,
    sale,
    setup,
)

LANES = 6
STEPS = 120  # operations per lane

PRODUCTS = [product("adult"), product("trio", pax=3), product("thrice", uses=3), product("annual", uses=0)]


class Lane:
    """Does what lanes do, and what they should not: repeats, reorders, lies about counts, names others' grants."""

    def __init__(self, number: int, seed: int, ledger: LedgerUser, tickets: list[int], grants: list[Granted]) -> None:
        self.name = f"lane{number}"
        self.ledger = ledger
        self.tickets = tickets
        self.grants = grants  # of all lanes
        self.mine: list[Granted] = []
        self.sent: list[Any] = []
        self.seq = 0
        self.random = random.Random(f"{seed}/{number}")
        self.answers: dict[str, int] = {}

    async def run(self) -> None:
        for _ in range(STEPS):
            op = self._next()
            self.sent.append(op)
            try:
                answer = await self.ledger.ask(op)
            except LedgerRefused:
                answer = None
            name = type(answer).__name__
            self.answers[name] = self.answers.get(name, 0) + 1
            if isinstance(answer, Granted) and answer.grant:
                self.mine.append(answer)
                self.grants.append(answer)

    def _next(self) -> Any:
        choice = self.random.random()
        if choice < 0.35 or not self.mine:
            return self._scan()
        if choice < 0.65:
            return self._pass()
        if choice < 0.80:
            return self._end()
        if choice < 0.92:
            return self.random.choice(self.sent)
        if choice < 0.96:
            delta = self.random.randint(-3, 3)
            return Calibrate(zone="park", delta=delta, reason="counted", user="chen", at=time.time())
        poison = {"nonce": "a\0b"} if choice < 0.97 else {}
        return self._scan(**poison)

    def _scan(self, **changes: Any) -> GrantOp:
        ticket = self.random.choice(self.tickets)
        pax = self.random.choice([None, 1, 2])
        return grant_op(ticket, lane=self.name, max_pax=self.random.randint(1, 4), pax=pax, **changes)

    def _pass(self) -> Passed:
        self.seq += 1
        whose = self.grants if self.random.random() < 0.1 else self.mine[-3:]
        kind = self.random.choice([PassageKind.GRANTED] * 8 + [PassageKind.EXIT] * 6 + list(PassageKind))
        out = kind is PassageKind.EXIT
        return passage(
            self.random.choice(whose),
            lane=self.name,
            seq=self.seq,
            kind=kind,
            direction=Direction.EXIT if out else Direction.ENTRY,
            from_zone="park" if out else "outside",
            to_zone="outside" if out else "park",
        )

    def _end(self) -> Ended:
        whose = self.grants if self.random.random() < 0.1 else self.mine[-3:]
        granted = self.random.choice(whose)
        changes: dict[str, Any] = {"lane": self.name, "why": self.random.choice(list(EndReason))}
        if self.random.random() < 0.2:
            changes["grant"] = None
        if self.random.random() < 0.05:
            changes |= {"grant": None, "nonce": f"never-{self.name}-{self.seq}"}
        return end(granted, self.random.randint(0, granted.pax), **changes)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_lanes_do_the_books_are_right(seed: int) -> None:
    limit = [None, 25, 12, 6][seed % 4]
    site = setup(limit=limit, products=PRODUCTS)
    async with fresh_database() as database, ledger_running(database.dsn, site=site) as ledger:
        tickets: list[int] = []
        for name in ("adult", "trio", "thrice", "annual"):
            booked = await ledger.ask(sale(name, 8))
            tickets += [ticket.ticket for ticket in booked.tickets]
        grants: list[Granted] = []
        lanes = [Lane(number, seed, ledger, tickets, grants) for number in range(LANES)]
        done = trio.Event()

        async def troublemaker() -> None:
            while not done.is_set():
                with trio.move_on_after(0.4):
                    await done.wait()
                    return
                await run_sql(
                    database.dsn,
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where application_name like 'paifang ledger%' and datname = current_database()",
                )

        async with trio.open_nursery() as outer:
            if seed % 2:
                outer.start_soon(troublemaker)
            async with trio.open_nursery() as nursery:
                for lane in lanes:
                    nursery.start_soon(lane.run)
            done.set()
        report = await audit(database.dsn, "demo")
        assert report.clean, report.broken
        told = sum(lane.answers.get("Granted", 0) for lane in lanes)
        assert told >= 6, [lane.answers for lane in lanes]
        assert any(lane.answers.get(Denied.__name__) for lane in lanes)
        assert await database.fetchval("select count(*) from passages") > 100
