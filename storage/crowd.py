"""For tests: visitors at lanes that say again whatever was not acknowledged, and remember what was.

    crowd = Crowd(ask, lanes=16)
    nursery.start_soon(crowd.run)
    ...                                 # whatever may happen to the ledger or to PostgreSQL
    crowd.close()                       # nobody new comes in; who has begun goes on until all is said
    assert await crowd.missing(dsn) == []
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from protocols.messages import Base, Booked, Denied, Granted, Settled
from storage.connection import Dsn
from storage.interfaces import LedgerUnavailable, SaleBooked
from storage.testing import end, fetch, grant_op, passage, sale

AGAIN_S = 0.02  # pause before something is said again
WALK_S = 0.01  # between the answer to a scan and the passage


class Crowd:
    """Lanes that each sell a ticket, scan it, let its holder pass and end the grant, over and over.

    `ask` carries one operation out; what it raises as LedgerUnavailable is said again, the same operation, for ever.
    """

    def __init__(self, ask: Callable[[Base], Awaitable[Any]], *, lanes: int = 16) -> None:
        self._ask = ask
        self._lanes = lanes
        self._boot = secrets.token_hex(4)
        self._closed = False
        self.done = False
        self.again = 0  # operations that were said more than once
        self.tickets: set[int] = set()
        self.grants: set[int] = set()
        self.passages: set[tuple[str, str, int]] = set()
        self.ends: set[int] = set()

    @property
    def acknowledged(self) -> int:
        return len(self.tickets) + len(self.grants) + len(self.passages) + len(self.ends)

    async def run(self) -> None:
        """Until `close`, and then until everything begun has been said."""
        async with trio.open_nursery() as nursery:
            for number in range(self._lanes):
                nursery.start_soon(self._lane, f"lane{number}")
        self.done = True

    def close(self) -> None:
        self._closed = True

    async def missing(self, dsn: Dsn) -> list[str]:
        """What was acknowledged and is not in the tables, or is there more than once, in words."""
        stored: dict[str, list[Any]] = {
            "ticket": [row["ticket"] for row in await fetch(dsn, "select ticket from tickets")],
            "grant": [row["grant_id"] for row in await fetch(dsn, "select grant_id from grants")],
            "passage": [
                (row["device"], row["boot"], row["seq"])
                for row in await fetch(dsn, "select device, boot, seq from passages")
            ],
            "end": [row["grant_id"] for row in await fetch(dsn, "select grant_id from grant_ends")],
        }
        said: dict[str, set[Any]] = {
            "ticket": self.tickets, "grant": self.grants, "passage": self.passages, "end": self.ends,
        }  # fmt: skip
        words = [f"{kind} {one} is missing" for kind, values in said.items() for one in values - set(stored[kind])]
        people = await fetch(
            dsn, "select entitlement, count(*) as people from redemptions group by 1 having count(*) > 1"
        )
        return words + [f"{row['people']} people on the single right {row['entitlement']}" for row in people]

    async def _lane(self, lane: str) -> None:
        while not self._closed:
            sold = await self._until_answered(sale("adult"))
            assert isinstance(sold, SaleBooked), sold
            ticket = sold.tickets[0].ticket
            self.tickets.add(ticket)
            granted = await self._until_answered(grant_op(ticket, lane=lane))
            assert isinstance(granted, Granted), granted if isinstance(granted, Denied) else repr(granted)
            self.grants.add(granted.grant)
            await trio.sleep(WALK_S)
            op = passage(granted, lane=lane, boot=self._boot)
            booked = await self._until_answered(op)
            assert isinstance(booked, Booked), booked
            self.passages.add((op.device, op.boot, op.seq))
            settled = await self._until_answered(end(granted, 1, lane=lane))
            assert isinstance(settled, Settled), settled
            assert settled.passed == 1
            self.ends.add(granted.grant)

    async def _until_answered(self, op: Base) -> Any:
        first = True
        while True:
            try:
                return await self._ask(op)
            except LedgerUnavailable:
                self.again += first
                first = False
                await trio.sleep(AGAIN_S)
