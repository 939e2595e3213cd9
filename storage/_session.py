"""A session of the ledger with PostgreSQL: opened, set up, made the only writer, and every use of it bounded.

What takes too long is cut off, never cancelled by asking the server: one that hangs answers nothing.
"""

from __future__ import annotations

import time
from datetime import date, datetime
from typing import NamedTuple

import msgspec
import structlog
import trio

from protocols.messages import Base
from protocols.rights import decode, encode, zones_of
from storage._batch import FAILURES, Site, close_is_due
from storage._flow import Flow
from storage._gate import Sweep
from storage._issue import Offer
from storage._payments import overdue_orders
from storage._pq import Connection, open_connection
from storage._records import EMPTY_CHAIN, AuditHead
from storage._zones import Zone
from storage.connection import Dsn
from storage.interfaces import ProductSetup, SiteSetup, ZoneCount, ZoneSetup
from storage.migrate import migrate
from storage.queries import load

BATCH_TIMEOUT_S = 3.0  # a batch that takes longer is a hung database
STATEMENT_TIMEOUT_MS = 2500  # the same, as the server sees it
LOCK_TIMEOUT_MS = 2000
CONNECT_TIMEOUT_S = 3.0
FIRST_SETUP_TIMEOUT_S = 60.0  # migrations included
SETUP_TIMEOUT_S = 6.0  # of later connections: the migrations are there
LOCK_PATIENCE_S = 2.0  # for an earlier session of ours to end
# Every statement of ours looks a few rows up by their keys, and is planned once for all batches. A planner that has not
# seen the tables grow takes any index for as good as the right one, and one such plan holds every gate up until the
# server's own statistics come round a minute later: so we have them made early, when there is something to see.
PLANNER = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
ANALYZE_AFTER = (30, 300, 3000)  # operations since the connection was made
KNOWN_ROWS = 1000  # of grants in the server's statistics: then it needs no help
ANALYZED = ("products, orders, order_lines, tickets, entitlements, credentials, passes, print_jobs, grants, holds, "
            "grant_ends, abandoned_scans, passages, redemptions, counter_baselines")  # fmt: skip
SYNCHRONOUS = ("on", "local", "remote_write", "remote_apply")

log = structlog.get_logger(__name__)


class TooSlow(Exception):
    """The database did not carry out a batch in time."""


class OtherWriter(Exception):
    """Another session holds the site's writer lock."""


SESSION_FAILURES = (*FAILURES, OtherWriter, TooSlow)


class Backend(NamedTuple):
    """The server's process behind a session; with its start, because process ids are used again."""

    pid: int
    start: datetime


class Session(NamedTuple):
    """A connection that may write, and what was found when it was made."""

    connection: Connection
    backend: Backend
    zones: list[ZoneCount]
    durable: bool
    planner_knows: bool


async def open_session(dsn: Dsn, setup: SiteSetup, site: Site, previous: Backend | None) -> Session:
    """Connect, migrate, become the writer, write the site's setup down, and read where its books stand into `site`.

    `previous` is our own last session, which may linger and is ended. Raises SESSION_FAILURES and MigrationError.
    """
    settings = {
        "application_name": f"paifang ledger {setup.site}"[:60],
        "idle_in_transaction_session_timeout": "30s",
        "timezone": "UTC",
        **PLANNER,
    }
    connection = await open_connection(dsn, settings, CONNECT_TIMEOUT_S)
    limit_s = FIRST_SETUP_TIMEOUT_S if previous is None else SETUP_TIMEOUT_S
    try:
        with trio.move_on_after(limit_s):
            return await _set_up(connection, setup, site, previous)
        raise TooSlow(f"not ready within {limit_s:g} s")
    except BaseException:
        connection.terminate()
        raise


async def _set_up(connection: Connection, setup: SiteSetup, site: Site, previous: Backend | None) -> Session:
    await migrate(connection)
    await connection.execute(f"set statement_timeout = {STATEMENT_TIMEOUT_MS}")
    await connection.execute(f"set lock_timeout = {LOCK_TIMEOUT_MS}")
    await _become_writer(connection, setup.site, previous)
    async with connection.transaction():
        await _write_setup(connection, setup, site)
    sql = load("setup")
    site.ledger_seq = await connection.fetchval(sql["ledger_seq"], setup.site)
    head = await connection.fetchrow(sql["audit_head"], setup.site)
    site.closed = await connection.fetchval(sql["last_close"], setup.site) or date.min
    site.audit = AuditHead(head["seq"], head["hash"]) if head else EMPTY_CHAIN
    zones = [Zone(*row).count() for row in await connection.fetch(load("gate")["zones"], setup.site)]
    me = await connection.fetchrow(sql["me"])
    assert me is not None
    knows = await connection.fetchval(sql["planner_knows"], KNOWN_ROWS)
    return Session(connection, Backend(me["pid"], me["backend_start"]), zones, await is_durable(connection), knows)


async def _become_writer(connection: Connection, site: str, previous: Backend | None) -> None:
    sql = load("setup")
    until = time.monotonic() + LOCK_PATIENCE_S
    while not await connection.fetchval(sql["lock"], site):
        if time.monotonic() > until:
            raise OtherWriter(f"another server writes the books of site {site}")
        if previous is not None:  # only our own earlier session is ended, never another server's
            await connection.execute(sql["terminate"], *previous)
        await trio.sleep(0.05)


async def _write_setup(connection: Connection, setup: SiteSetup, site: Site) -> None:
    """Bring the tables in line with the site file."""
    sql = load("setup")
    await connection.execute(sql["upsert_site"], setup.site, setup.name, setup.timezone, site.day_start)
    await connection.execute(sql["begin_marks"], setup.site)
    outside = ZoneSetup(zone="outside", name="outside", limit=None)
    zones = [outside, *(zone for zone in setup.zones if zone.zone != outside.zone)]
    columns = zip(*(msgspec.structs.astuple(zone) for zone in zones), strict=True)
    await connection.execute(sql["upsert_zones"], setup.site, *map(list, columns))
    await _write_products(connection, setup, site)


async def _write_products(connection: Connection, setup: SiteSetup, site: Site) -> None:
    """A product that differs from its newest version of the same date becomes a new version of it."""
    sql = load("setup")
    shop = site.shop
    shop.offers.clear()
    shop.versions.clear()
    shop.since.clear()
    latest: dict[tuple[str, str], int] = {}  # by product and effective date
    newest: dict[str, int] = {}
    for row in await connection.fetch(sql["products"], setup.site):
        fields = dict(row)
        version = fields.pop("version")
        since = fields.pop("since")
        known = ProductSetup(**(fields | {"rules": decode(fields["rules"])}))
        shop.versions[known.product, version] = known
        shop.since[known.product, version] = since
        latest[known.product, known.effective_from] = newest[known.product] = version
    for product in setup.products:
        version = latest.get((product.product, product.effective_from), 0)
        if not version or shop.versions[product.product, version] != product:
            version = newest[product.product] = newest.get(product.product, 0) + 1
            latest[product.product, product.effective_from] = version
            fields = msgspec.structs.asdict(product) | {"rules": encode(product.rules)}
            values = [value for name, value in fields.items() if name != "product"]
            zones = zones_of(product.rules)
            await connection.execute(sql["insert_product"], setup.site, product.product, version, *values, zones)
        shop.versions[product.product, version] = product
        shop.since.setdefault((product.product, version), site.clock())
        shop.offers.setdefault(product.product, []).append(Offer(product, version))


async def advance(flow: Flow) -> Exception | None:
    """One step, never cancelled inside. Returns what went wrong with the database, if anything did; `TooSlow` if we
    cut it off."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + BATCH_TIMEOUT_S):
        try:
            await flow.advance()
        except FAILURES as exc:
            return exc
        return None
    flow.connection.terminate()
    return TooSlow(f"no answer within {BATCH_TIMEOUT_S:g} s")


async def due(connection: Connection, site: Site) -> list[Base]:
    """What time has made necessary: grants past their ttl to be told, orders to end, a day to close. Mostly nothing."""
    sql = load("gate")["expired_holds"]
    expired = await connection.fetchrow(sql, site.site, site.clock(), timeout=BATCH_TIMEOUT_S)
    overdue = await overdue_orders(connection, site.site, site.clock())
    return [Sweep(), *overdue] if expired is not None or overdue or close_is_due(site) else []


async def was_committed(connection: Connection, site: str, number: int) -> bool:
    """Is this batch on disk? To be asked before the next one is written.

    Should another server have been the writer in between, the answer is no whatever the truth, and the batch is carried
    out again: its operations find what they have written.
    """
    committed: bool = await connection.fetchval(load("setup")["outcome"], site, number, timeout=BATCH_TIMEOUT_S)
    return committed


async def is_durable(connection: Connection) -> bool:
    """Do the live settings keep the promise that what is acknowledged is on disk?"""
    row = await connection.fetchrow(load("setup")["durability"], timeout=BATCH_TIMEOUT_S)
    assert row is not None
    return row["fsync"] == "on" and row["full_page_writes"] == "on" and row["synchronous_commit"] in SYNCHRONOUS


async def analyze(connection: Connection) -> None:
    """Have statistics made. Nothing is lost when it fails: if the connection is to blame, the next batch finds out."""
    try:
        await connection.execute(f"analyze {ANALYZED}", timeout=BATCH_TIMEOUT_S)
    except FAILURES as exc:
        log.info("no statistics", error=repr(exc))


async def close(connection: Connection) -> None:
    """End the session politely, or else at once."""
    try:
        await connection.close(timeout=1.0)
    except FAILURES:
        connection.terminate()
