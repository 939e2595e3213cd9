"""Lists for lane controllers, read beside the ledger: over a connection of their own, in small pieces.

A version is told only when it is on disk, so that no crash gives it out twice; what a version holds is what was
committed when it was made (`storage/sql/lists.sql`).  A part is read when it is asked for: nothing of a list is kept
here, and a cursor means the same after a restart.  The lines are made by PostgreSQL and packed by a thread: the event
loop, on which the gates are served, only passes them on.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import time as clock_time
from functools import partial
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
import structlog
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio

from protocols.clock import business_day
from protocols.lists import DELTA, PART_BYTES_MAX, SAME, WHOLE, KeyLines, ListMark, ListZone, Part, encode_line, pack
from protocols.messages import id_at
from protocols.rights import decode
from storage._batch import FAILURES
from storage._zones import Zone
from storage.connection import Dsn
from storage.interfaces import LedgerUnavailable, SiteSetup
from storage.queries import load

HORIZON_S = 48 * 3600.0  # tickets that begin within this time are in the list
KEPT_S = 7 * 86400.0  # a lane that was away for longer gets a whole list
FORGET_EVERY_S = 3600.0
RENEW_AFTER_S = 600.0  # a version gets old by itself: what begins within the horizon becomes more
PART_TICKETS = 1500  # tickets in one part of a list; fewer where they carry many credentials
PART_CODES = 20_000  # codes printed in advance in one part
QUERY_LIMIT_S = 5.0
CONNECT_LIMIT_S = 3.0
TOKEN_BYTES = 6
JUST_SOLD_S = 2.0  # what changes a ticket later than this is not its sale: somebody waits for the lanes to know

T = TypeVar("T")

log = structlog.get_logger(__name__)


class _Version(msgspec.Struct, frozen=True):
    """What is in a version, and where it ends."""

    mark: ListMark
    ledger_seq: int
    change: int
    made_at: float
    keys: str


class ListReader:
    """The lists of one site. Use `part` within `running`; one part is read at a time.

    Args:
        keys: the keys that lanes need, asked anew whenever a list begins.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        setup: SiteSetup,
        dsn: Dsn | Callable[[], Dsn],
        *,
        keys: KeyLines = list,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._site = setup.site
        self._timezone = ZoneInfo(setup.timezone)
        self._day_start = clock_time.fromisoformat(setup.business_day_start)
        self._dsn = dsn if callable(dsn) else lambda: dsn
        self._keys = keys
        self._clock = clock
        self._connection: asyncpg.Connection | None = None
        self._loop: Any = None
        self._one = trio.Lock()
        self._forgot_at = float("-inf")
        self._sql = load("lists")
        self._products: list[str] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as parts may be asked for. The database need not be there."""
        async with trio_asyncio.open_loop() as loop:
            self._loop = loop
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await self._close()
                self._loop = None

    async def part(self, have: ListMark | None, part: ListMark | None, cursor: str) -> Part:
        """The answer to `protocols.devicelink.GetList`. Raises LedgerUnavailable."""
        return await self._alone(partial(self._part, have, part, cursor))

    async def moved(self, since: int | None) -> tuple[int, bool]:
        """How far the changes are, and whether one behind `since` is of something that was not just sold.

        Raises LedgerUnavailable.
        """
        return await self._alone(partial(self._moved, since))

    async def _moved(self, since: int | None) -> tuple[int, bool]:
        if since is None:
            row = await self._row("newest")
            assert row is not None
            return row["change"], False
        row = await self._row("moved", since, id_at(self._clock() - JUST_SOLD_S))
        assert row is not None
        return row["change"], row["older"]

    async def _alone(self, read: Callable[[], Awaitable[T]]) -> T:
        """One at a time, within its time. Raises LedgerUnavailable."""
        async with self._one:
            try:
                with trio.fail_after(QUERY_LIMIT_S + CONNECT_LIMIT_S):
                    return await read()
            except (*FAILURES, TimeoutError, trio.TooSlowError) as exc:
                await self._close()
                raise LedgerUnavailable(f"no list can be read: {exc or type(exc).__name__}") from exc
            except BaseException:  # given up in the middle of a query: its connection is of no use
                with trio.CancelScope(shield=True):
                    await self._close()
                raise

    async def _part(self, have: ListMark | None, part: ListMark | None, cursor: str) -> Part:
        begun = await self._known(part) if cursor else None
        base = await self._known(have)
        place = _place_of(cursor)
        if begun is not None and place is not None and (place[0] != DELTA or base is not None):
            return await self._next(begun, base if place[0] == DELTA else None, place, first=False)
        now = await self._now()
        if base is not None and base.mark == now.mark:
            return Part(SAME, now.mark, base.mark)
        if base is None:
            return await self._next(now, None, (WHOLE, 0, 0), first=True)
        return await self._next(now, base, (DELTA, 0, 0), first=True)

    # -- versions -------------------------------------------------------------------------------------------------

    async def _known(self, mark: ListMark | None) -> _Version | None:
        """What is in the version of a mark that a lane shows; None if it is none of ours."""
        if mark is None:
            return None
        row = await self._row("known", mark.version, mark.token)
        return None if row is None else _Version(mark, row["ledger_seq"], row["change"], row["made_at"], row["keys"])

    async def _now(self) -> _Version:
        """The newest version: a new one, on disk, if anything has changed since the last."""
        now = self._clock()
        await self._forget(now)
        digest = hashlib.sha256(self._key_lines()).hexdigest()[:16]
        head = await self._row("head")
        assert head is not None
        told = (head["told_seq"], head["told_change"], head["keys"])
        if told == (head["ledger_seq"], head["change"], digest) and 0 <= now - head["made_at"] < RENEW_AFTER_S:
            mark = ListMark(head["version"], head["token"])
            return _Version(mark, head["ledger_seq"], head["change"], head["made_at"], digest)
        mark = ListMark((head["version"] or 0) + 1, secrets.token_hex(TOKEN_BYTES))
        await self._execute("tell", mark.version, mark.token, head["ledger_seq"], head["change"], digest, now)
        return _Version(mark, head["ledger_seq"], head["change"], now, digest)

    async def _forget(self, now: float) -> None:
        if time.monotonic() - self._forgot_at >= FORGET_EVERY_S:
            self._forgot_at = time.monotonic()
            await self._execute("forget", now - KEPT_S)

    # -- parts ----------------------------------------------------------------------------------------------------

    async def _next(self, to: _Version, base: _Version | None, place: tuple[str, int, int], *, first: bool) -> Part:
        """The part at a place: tickets, then codes that are not sold, or what has changed. The first has the rest."""
        heads = await self._heads() if first else b""
        kind, major, minor = place
        if kind == "codes":
            row = await self._row("unsold", minor, PART_CODES)
            assert row is not None
            more = f"codes:0:{row['last']}" if row["items"] == PART_CODES else ""
            return await _packed(to, base, first, more, [heads, (row["lines"] or "").encode()])
        wanted = PART_TICKETS
        while True:
            if base is not None:
                tickets, more = await self._changed(to, base, minor, wanted)
            else:
                tickets, more = await self._page(to, major, minor, wanted)
            made = await _packed(to, base, first, more, [heads, await self._lines(to, tickets)])
            if len(made.data) <= PART_BYTES_MAX or wanted == 1:
                return made
            wanted = max(1, wanted // 4)

    async def _changed(self, to: _Version, base: _Version, behind: int, wanted: int) -> tuple[list[int], str]:
        span = (base.ledger_seq, base.change, to.ledger_seq, to.change)
        reach = (base.made_at + HORIZON_S, to.made_at + HORIZON_S)
        rows = await self._rows("changed", *span, *reach, behind, wanted, await self._beside_others())
        tickets = [row["ticket"] for row in rows]
        return tickets, f"{DELTA}:0:{tickets[-1]}" if len(tickets) == wanted else ""

    async def _page(self, to: _Version, end_us: int, behind: int, wanted: int) -> tuple[list[int], str]:
        rows = await self._rows("page", self._clock(), to.made_at + HORIZON_S, end_us, behind, wanted)
        last = f"{WHOLE}:{rows[-1]['end_us']}:{rows[-1]['ticket']}" if len(rows) == wanted else "codes:0:0"
        return [row["ticket"] for row in rows], last

    async def _lines(self, to: _Version, tickets: Sequence[int]) -> bytes:
        if not tickets:
            return b""
        now = self._clock()
        day = business_day(now, self._timezone, self._day_start)
        reach = to.made_at + HORIZON_S
        row = await self._row("lines", list(tickets), now, reach, day, await self._beside_others())
        assert row is not None
        return (row["lines"] or "").encode()

    async def _heads(self) -> bytes:
        """What the first part of everything carries: products, zones, keys."""
        self._products = None
        now = self._clock()
        today = business_day(now, self._timezone, self._day_start).isoformat()
        zones = []
        for row in await self._rows_of(load("gate")["zones"]):
            zone = Zone(*row)
            zone.begin_day(today)
            zone.settle(now)
            facts = zone.facts(now)
            people = facts.limit, facts.inside, facts.held, facts.staff
            listed = ListZone("z", facts.zone, *people, facts.stopped, facts.reentry_when_stopped, facts.left_today)
            zones.append(encode_line(listed))
        products = await self._row("products")
        assert products is not None
        return b"\n".join([self._key_lines(), (products["lines"] or "").encode(), *zones])

    def _key_lines(self) -> bytes:
        return b"\n".join(map(encode_line, self._keys()))

    async def _beside_others(self) -> list[str]:
        """Products that are good only beside another one."""
        if self._products is None:
            rows = await self._rows_of("select distinct on (product) product, rules from products where site = $1")
            self._products = sorted(row["product"] for row in rows if decode(row["rules"]).requires)
        return self._products

    # -- the connection -------------------------------------------------------------------------------------------

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            settings = {"application_name": f"paifang lists {self._site}"[:60], "timezone": "UTC", "jit": "off"}
            connect = aio_as_trio(asyncpg.connect, loop=self._loop)
            self._connection = await connect(
                **self._dsn().asyncpg(),
                timeout=CONNECT_LIMIT_S,
                command_timeout=QUERY_LIMIT_S,
                server_settings=settings,
            )
        return self._connection

    async def _rows_of(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        connection = await self._connected()
        rows: list[asyncpg.Record] = await aio_as_trio(connection.fetch, loop=self._loop)(sql, self._site, *arguments)
        return rows

    async def _rows(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        return await self._rows_of(self._sql[name], *arguments)

    async def _row(self, name: str, *arguments: Any) -> asyncpg.Record | None:
        rows = await self._rows(name, *arguments)
        return rows[0] if rows else None

    async def _execute(self, name: str, *arguments: Any) -> None:
        await self._rows(name, *arguments)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            await trio.lowlevel.checkpoint()


async def _packed(to: _Version, base: _Version | None, first: bool, cursor: str, lines: Sequence[bytes]) -> Part:
    text = b"\n".join(line for line in lines if line)
    data, crc = await trio.to_thread.run_sync(pack, text)
    items = text.count(b"\n") + 1 if text else 0
    kind = WHOLE if base is None else DELTA
    return Part(kind, to.mark, None if base is None else base.mark, first, cursor, items, data, crc)


def _place_of(cursor: str) -> tuple[str, int, int] | None:
    """What a cursor says; None for one that is none of ours."""
    kind, *numbers = cursor.split(":")
    if kind not in (WHOLE, DELTA, "codes") or len(numbers) != 2:
        return None
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        return None
    return kind, int(numbers[0]), int(numbers[1])
