"""A past: millions of tickets and passages in the tables, as years of business leave them, loaded by COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg

from storage.connection import Dsn, in_asyncio

SITE = "demo"
PRODUCT = "history"  # usable any number of times, so that a ticket has several passages
TICKETS_PER_ORDER = 500
LANES = 64
CHUNK = 50_000  # rows in one COPY
FIRST_ID = 1_000_000_000  # below every id that is made today
DAY = date(2020, 1, 1)
THEN = datetime(2020, 1, 1, 4, tzinfo=UTC)
STEP = timedelta(seconds=20)  # from one passage to the next
PRICE_CENTS = 10_000
COPY_TIMEOUT_S = 600.0
INDEX_TIMEOUT_S = 900.0
LOADING = {"max_wal_size": "16GB", "maintenance_work_mem": "1GB"}  # no checkpoint for every half gigabyte

Row = tuple[Any, ...]
_ENTITLEMENTS, _CREDENTIALS, _GRANTS = (FIRST_ID * factor for factor in (10, 20, 30))


# indexes that no constraint needs: a table is loaded faster without them, and they are made faster afterwards
_INDEXES = """
select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as made_by
  from pg_index i
 where i.indrelid = $1::regclass and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
"""


async def fill(dsn: Dsn, passages: int, tickets: int, say: Callable[[str], None] = lambda words: None) -> None:
    """Load the past into a database that a ledger has set up and that has the product `history` on sale.

    `say` hears how far it is. Afterwards the server has its own settings again, and nothing is left to be written.
    """
    await in_asyncio(_fill, dsn, passages, tickets, say)


async def _fill(dsn: Dsn, passages: int, tickets: int, say: Callable[[str], None]) -> None:
    connection = await asyncpg.connect(**dsn.asyncpg(), timeout=10)
    try:
        for name, value in LOADING.items():
            await connection.execute(f"alter system set {name} = '{value}'")
        await connection.execute("select pg_reload_conf()")
        # what the checks and the triggers would look at is right by construction
        await connection.execute("set session_replication_role = replica")
        for table, (columns, count, row) in _tables(passages, tickets).items():
            await _load(connection, table, columns.split(), count, row, say)
        await connection.execute("update zones set inside = inside + $1::int where zone = 'park'", passages)
        await connection.execute("update zones set inside = inside - $1::int where zone = 'outside'", passages)
        say("vacuum and checkpoint")
        await connection.execute("vacuum analyze", timeout=COPY_TIMEOUT_S)
        for name in LOADING:
            await connection.execute(f"alter system reset {name}")
        await connection.execute("select pg_reload_conf()")
        await connection.execute("checkpoint", timeout=COPY_TIMEOUT_S)
    finally:
        await connection.close(timeout=10)


async def _load(
    connection: asyncpg.Connection[Any],
    table: str,
    columns: list[str],
    count: int,
    row: Callable[[int], Row],
    say: Callable[[str], None],
) -> None:
    indexes = await connection.fetch(_INDEXES, table)
    for index in indexes:
        await connection.execute(f"drop index {index['name']}")
    rows = map(row, range(count))
    for first in range(0, count, CHUNK):
        say(f"loading {table}: {first:,} of {count:,}")
        await connection.copy_records_to_table(
            table, records=_take(rows, CHUNK), columns=columns, timeout=COPY_TIMEOUT_S
        )
    for index in indexes:
        say(f"making {index['name']}")
        await connection.execute(index["made_by"], timeout=INDEX_TIMEOUT_S)


def _take(rows: Iterator[Row], count: int) -> Iterator[Row]:
    for _ in range(count):
        row = next(rows, None)
        if row is None:
            return
        yield row


def _tables(passages: int, tickets: int) -> dict[str, tuple[str, int, Callable[[int], Row]]]:
    """For each table: its columns, how many rows, and the row of a number."""
    orders = -(-tickets // TICKETS_PER_ORDER)
    seq = -3 * passages - 1  # before everything that is in the books already
    later = DAY + timedelta(days=36_500)
    until = datetime(later.year, 1, 1, tzinfo=UTC)

    def quantity(order: int) -> int:
        return min(TICKETS_PER_ORDER, tickets - order * TICKETS_PER_ORDER)

    def order(n: int) -> Row:
        return SITE, FIRST_ID + n, "window", f"history-{n}", "cashier", quantity(n) * PRICE_CENTS, 0, THEN

    def line(n: int) -> Row:
        return SITE, FIRST_ID + n, 1, PRODUCT, 1, quantity(n), PRICE_CENTS, DAY

    def payment(n: int) -> Row:
        return SITE, FIRST_ID + n, 1, "cash", quantity(n) * PRICE_CENTS

    def ticket(n: int) -> Row:
        order_id, number = FIRST_ID + n // TICKETS_PER_ORDER, n % TICKETS_PER_ORDER + 1
        used = n < passages  # the last time by this passage
        seen = ("park", THEN + (n + (passages - 1 - n) // tickets * tickets) * STEP) if used else (None, None)
        return SITE, FIRST_ID + n, order_id, 1, number, PRODUCT, 1, 1, THEN, until, *seen

    def entitlement(n: int) -> Row:
        return SITE, _ENTITLEMENTS + n, FIRST_ID + n, "park", None, len(range(n, passages, tickets))

    def credential(n: int) -> Row:
        return SITE, _CREDENTIALS + n, FIRST_ID + n, "code", _hash(n)

    def device(n: int) -> str:
        return f"old{n % LANES}"

    def grant(n: int) -> Row:
        at, right = THEN + n * STEP, n % tickets
        return (
            SITE, _GRANTS + n, seq + 3 * n + 1, device(n), device(n), f"old-{n}", FIRST_ID + right,
            _ENTITLEMENTS + right, "full", "outside", "park", 1, 0, 5.0, at, at,
        )  # fmt: skip

    def scan(n: int) -> Row:
        at = THEN + n * STEP
        return SITE, device(n), device(n), f"old-{n}", "code", _hash(n % tickets), "ok", _GRANTS + n, at, at

    def passage(n: int) -> Row:
        at = THEN + n * STEP
        key = SITE, device(n), "old", "entry", n
        return *key, seq + 3 * n + 2, device(n), "granted", _GRANTS + n, "outside", "park", at, at

    def redemption(n: int) -> Row:
        return SITE, device(n), "old", "entry", n, _ENTITLEMENTS + n % tickets, _GRANTS + n, THEN + n * STEP

    def end(n: int) -> Row:
        at = THEN + n * STEP
        return SITE, _GRANTS + n, seq + 3 * n + 3, device(n), 1, 1, "complete", at, at

    return {
        "orders": ("site order_id channel key user_name total_cents change_cents sold_at", orders, order),
        "order_lines": ("site order_id line product version quantity unit_price_cents visit_date", orders, line),
        "payments": ("site order_id payment tender tendered_cents", orders, payment),
        "tickets": (
            "site ticket order_id line number product version pax valid_from valid_to at_zone at_since",
            tickets,
            ticket,
        ),
        "entitlements": ("site entitlement ticket zone sold redeemed", tickets, entitlement),
        "credentials": ("site credential ticket kind value_hash", tickets, credential),
        "grants": (
            "site grant_id ledger_seq lane device nonce ticket entitlement product_class from_zone to_zone pax "
            "remaining ttl_s device_at granted_at", passages, grant,
        ),
        "scans": (
            "site lane device nonce kind credential_hash code grant_id device_at booked_at", passages, scan,
        ),
        "passages": (
            "site device boot direction seq ledger_seq lane kind grant_id from_zone to_zone device_at booked_at",
            passages, passage,
        ),
        "redemptions": ("site device boot direction seq entitlement grant_id booked_at", passages, redemption),
        "grant_ends": (
            "site grant_id ledger_seq lane passed said why device_at booked_at", passages, end,
        ),
    }  # fmt: skip


def _hash(number: int) -> bytes:
    return sha256(b"history %d" % number).digest()
