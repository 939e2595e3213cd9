"""For tests: one embedded cluster per process, a fresh database per test, a running ledger, sold tickets.

    async def test_something():
        async with fresh_database() as database, ledger_running(database.dsn) as ledger:
            (ticket,) = await ledger.sell("adult")
            granted = await ledger.scan(ticket.ticket, lane="lane1")

Everything here is real PostgreSQL on a real clock; do not use it under a virtual one.
"""

from __future__ import annotations

import atexit
import hashlib
import hmac
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio

from core import Address, Child, Supervisor
from core.testing import Probe, running
from protocols.messages import (
    Booked,
    CredentialKind,
    Denied,
    Direction,
    Ended,
    EndReason,
    Granted,
    PassageKind,
    Passed,
    Settled,
)
from protocols.rights import ProductRules, ZoneRight
from storage._processes import processes_in, send
from storage.audit import AuditReport, check
from storage.connection import Dsn, in_asyncio
from storage.embedded import Embedded
from storage.interfaces import (
    BookedTicket,
    DecideRule,
    GrantOp,
    Permit,
    ProductSetup,
    Refusal,
    RightFacts,
    SaleBooked,
    SaleLineOp,
    SaleOp,
    ScanFacts,
    SiteSetup,
    ZoneFacts,
    ZoneSetup,
)
from storage.ledger import Ledger
from storage.migrate import migrate

ASK_TIMEOUT_S = 10.0
STOP_LIMIT_S = 10.0
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - only the place; the folder in it is private
MEMORY_WANTED_BYTES = 2 << 30
TEMPLATE = "paifang_template"
VISIT_DAYS_BACK = 1  # tickets for tests are valid since yesterday, whatever the time zone

RIGHT_FIELDS = set(ZoneRight.__struct_fields__)
RULES_FIELDS = set(ProductRules.__struct_fields__)

EMPTY_ALL_TABLES = """
do $$ declare name text; begin
    for name in select tablename from pg_tables where schemaname = 'public' and tablename <> 'migrations' loop
        execute format('delete from %I', name);
    end loop;
end $$
"""

_run = secrets.token_hex(4)  # two processes that work on one database do not mean the same scan
_numbers = count(1)
_emptied: list[str] = []
_cluster: Embedded | None = None
_stack = ExitStack()


# -- folders, clusters and databases ---------------------------------------------------------------------------------


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A temporary folder in memory where there is room, so that tests do not queue for the disk.

    What is lost when a process is killed is the same there; what is lost when the power fails is another matter.
    """
    roomy = MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free > MEMORY_WANTED_BYTES
    folder = Path(tempfile.mkdtemp(prefix="paifang-test-", dir=MEMORY_FOLDER if roomy else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def cluster() -> Embedded:
    """The cluster that all tests of this process share; started at first use, removed at exit."""
    global _cluster
    if _cluster is None:
        folder = _stack.enter_context(quick_folder())
        atexit.register(_remove_cluster, folder)
        server = Embedded(folder / "data", settings={"max_connections": "100"})
        await server.start()
        await run_sql(server.dsn, f"create database {TEMPLATE}")
        async with connected(server.dsn.with_database(TEMPLATE)) as connection:
            await aio_as_trio(migrate)(connection)
        _cluster = server
    if _cluster.pid is None:
        raise RuntimeError("a test has killed the cluster that all tests share")
    return _cluster


def _remove_cluster(folder: Path) -> None:
    data = folder / "data" / "pg"
    if _cluster is not None and _cluster.pid is not None:
        send(_cluster.pid, data, signal.SIGQUIT)  # nothing of it is kept
        until = time.monotonic() + STOP_LIMIT_S
        while processes_in(data) and time.monotonic() < until:
            time.sleep(0.02)
        _cluster.kill()
    _stack.close()


class Database:
    """A database to look into."""

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn

    async def fetch(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        return await fetch(self.dsn, sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        rows = await fetch(self.dsn, sql, *arguments)
        return next(iter(rows[0].values())) if rows else None

    async def corrupt(self, sql: str) -> None:
        """Run SQL with triggers and foreign keys switched off, as only somebody with the superuser's hands can."""
        await run_sql(self.dsn, "set session_replication_role = replica", sql)


async def audit_after(dsn: Dsn, *statements: str) -> AuditReport:
    """What the audit finds after these statements, run with triggers and foreign keys switched off and rolled back."""
    async with connected(dsn) as connection:
        await aio_as_trio(connection.execute)("begin; set local session_replication_role = replica")
        for statement in statements:
            await aio_as_trio(connection.execute)(statement)
        report: AuditReport = await aio_as_trio(check)(connection, "demo")
        await aio_as_trio(connection.execute)("rollback")
    return report


@asynccontextmanager
async def fresh_database(server: Embedded | None = None, *, own: bool = False) -> AsyncIterator[Database]:
    """A migrated, empty database for the length of a block, in the shared cluster or the given one.

    Databases of the shared cluster are emptied and used again, which takes a tenth of the time of making one; ask for
    your `own` if you change its schema or its settings.
    """
    if server is None and not own and _emptied:
        name = _emptied.pop()
        server = await cluster()
    else:
        template = f" template {TEMPLATE}" if server is None else ""
        reusable = server is None and not own
        server = server or await cluster()
        name = f"{'test' if reusable else 'own'}_{next(_numbers)}"
        await run_sql(server.dsn, f"create database {name}{template}")
    database = Database(server.dsn.with_database(name))
    try:
        yield database
    finally:
        with trio.CancelScope(shield=True):
            if name.startswith("test_"):
                await database.corrupt(EMPTY_ALL_TABLES)
                _emptied.append(name)
            elif server.pid is not None:
                await run_sql(server.dsn, f"drop database if exists {name} with (force)")


@asynccontextmanager
async def connected(dsn: Dsn) -> AsyncIterator[asyncpg.Connection]:
    """An asyncpg connection; call its coroutines with `aio_as_trio`."""
    async with trio_asyncio.open_loop():
        connection = await aio_as_trio(asyncpg.connect)(**dsn.asyncpg(), timeout=10)
        try:
            yield connection
        finally:
            with trio.CancelScope(shield=True):
                await aio_as_trio(connection.close)(timeout=2)


async def run_sql(dsn: Dsn, *statements: str) -> None:
    """Run statements one after the other on a connection of their own."""

    async def run() -> None:
        connection = await asyncpg.connect(**dsn.asyncpg(), timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close(timeout=2)

    await in_asyncio(run)


async def fetch(dsn: Dsn, sql: str, *arguments: Any) -> list[dict[str, Any]]:
    """All rows of a query as dictionaries."""

    async def run() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(**dsn.asyncpg(), timeout=10)
        try:
            return [dict(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close(timeout=2)

    return await in_asyncio(run)


# -- a site ----------------------------------------------------------------------------------------------------------


def hash_id(kind: str, value: str) -> bytes:
    """A keyed hash with a key that is no secret."""
    return hmac.digest(b"for tests", f"{kind}:{value}".encode(), hashlib.sha256)


def product(name: str, **changes: Any) -> ProductSetup:
    """A product for one person, one use, 100.00, into `park`, for three days; `changes` replace fields.

    Fields of a `ZoneRight` are those of its one right, fields of `ProductRules` those of its rules.
    """
    right = {"zones": ["park"], **{key: changes.pop(key) for key in RIGHT_FIELDS & changes.keys()}}
    rules = {
        "rights": [ZoneRight(**right)],
        "days": 3,
        **{key: changes.pop(key) for key in RULES_FIELDS & changes.keys()},
    }
    fields: dict[str, Any] = {
        "product": name,
        "name_zh": "票",
        "name_en": name,
        "product_class": "full",
        "price_cents": 10_000,
        "pax": 1,
        "rules": ProductRules(**rules),
    }
    return ProductSetup(**(fields | changes))


def right_facts(**changes: Any) -> RightFacts:
    """An unused right of one person to the park, valid all the time there is; `changes` replace fields.

    Fields of a `ZoneRight` or of `ProductRules` are those of its rules.
    """
    zone = changes.pop("zone", "park")
    right = {"zones": [zone], **{key: changes.pop(key) for key in RIGHT_FIELDS & changes.keys()}}
    rules = {
        "rights": [ZoneRight(**right)],
        **{key: changes.pop(key) for key in RULES_FIELDS & changes.keys()},
    }
    if right.get("shared"):
        zone = ""
    fields: dict[str, Any] = {
        "entitlement": 1,
        "ticket": 1,
        "ticket_state": "active",
        "credential_state": "active",
        "product": "day",
        "product_class": "full",
        "rules": ProductRules(**rules),
        "zone": zone,
        "sold": 1,
        "redeemed": 0,
        "held": 0,
        "refunded": 0,
        "reserved_refund": 0,
        "valid_from": 0.0,
        "valid_to": 1e11,
        "last_used_at": None,
        "last_used_lane": "",
    }
    return RightFacts(**(fields | changes))


def setup(site: str = "demo", *, limit: int | None = None, products: list[ProductSetup] | None = None) -> SiteSetup:
    """A site with the zones `park` (with the given limit) and `tower`, and one product of each class."""
    return SiteSetup(
        site=site,
        name="测试景区",
        timezone="Asia/Shanghai",
        business_day_start="04:00",
        zones=[
            ZoneSetup(zone="park", name="Park", limit=limit),
            ZoneSetup(zone="tower", name="Tower", limit=None),
        ],
        products=products
        or [
            product("adult"),
            product("group30", product_class="group", pax=30, price_cents=240_000),
            product("annual", product_class="annual", uses=0, days=365, needs_face=True, price_cents=30_000),
            product("both", zones=["park", "tower"], price_cents=15_000),
        ],
    )


def plain_decide(rights: list[RightFacts], zone: ZoneFacts, scan: ScanFacts) -> Permit | Refusal:
    """A rule for tests of storage alone: counters and zone limit, nothing else."""
    here = [right for right in rights if scan.to_zone in right.zones]
    if not rights:
        return Refusal(code="unknown_code")
    if not here:
        return Refusal(code="wrong_zone")
    right = here[0]
    wanted = min(scan.max_pax, scan.pax or scan.max_pax)
    if right.sold is None:
        pax, left = 1, 1
    else:
        left = right.sold - right.redeemed - right.held - right.refunded - right.reserved_refund
        if left < 1:
            return Refusal(
                code="in_progress" if right.held else "already_used",
                used_at=right.last_used_at,
                lane_of_use=right.last_used_lane,
            )
        pax = min(left, wanted)
    if zone.limit is not None:
        pax = min(pax, zone.limit - max(0, zone.inside) - zone.held)
        if pax < 1:
            return Refusal(code="capacity_hold")
    return Permit(
        entitlement=right.entitlement,
        ticket=right.ticket,
        pax=pax,
        remaining=left - pax,
        product_class=right.product_class,
    )


class LedgerUser:
    """A ledger that runs, and short ways to tell it what lanes and windows tell it."""

    def __init__(self, ledger: Ledger, address: Address, zones: Probe, states: Probe) -> None:
        self.ledger = ledger
        self.address = address
        self.zones = zones
        self.states = states

    async def ask(self, op: Any, timeout_s: float = ASK_TIMEOUT_S) -> Any:
        return await self.address.ask(op, timeout_s)

    async def sell(self, name: str = "adult", quantity: int = 1, **changes: Any) -> list[BookedTicket]:
        """Sell tickets for yesterday and the days after, paid in cash to the cent or above."""
        booked: SaleBooked = await self.ask(sale(name, quantity, **changes))
        return booked.tickets

    async def scan(self, ticket: int, timeout_s: float = ASK_TIMEOUT_S, **changes: Any) -> Granted | Denied:
        answer: Granted | Denied = await self.ask(grant_op(ticket, **changes), timeout_s)
        return answer

    async def passes(self, granted: Granted | None, timeout_s: float = ASK_TIMEOUT_S, **changes: Any) -> Booked:
        booked: Booked = await self.ask(passage(granted, **changes), timeout_s)
        return booked

    async def ends(self, granted: Granted, passed: int, timeout_s: float = ASK_TIMEOUT_S, **changes: Any) -> Settled:
        settled: Settled = await self.ask(end(granted, passed, **changes), timeout_s)
        return settled


@asynccontextmanager
async def ledger_running(
    dsn: Dsn,
    *,
    site: SiteSetup | None = None,
    decide: DecideRule = plain_decide,
    clock: Callable[[], float] = time.time,
    wait: bool = True,
) -> AsyncIterator[LedgerUser]:
    """A supervised ledger for the length of a block; with `wait`, the block begins when it is connected."""
    zones, states = Probe("zones"), Probe("states")
    ledger = Ledger(
        site or setup(), dsn, decide, hash_id=hash_id, on_zones=zones, on_state=states, clock=clock
    )
    address = Address("ledger", capacity=4096)
    async with running(Supervisor("test", [Child(address, ledger.run)])):
        if wait:
            with trio.fail_after(ASK_TIMEOUT_S):
                while not ledger.state.available:  # noqa: ASYNC110
                    await trio.sleep(0.005)
        yield LedgerUser(ledger, address, zones, states)


# -- operations ------------------------------------------------------------------------------------------------------


def visit_date() -> str:
    """Yesterday by UTC: valid now in every time zone, for products of three days or more."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - VISIT_DAYS_BACK * 86_400))


def sale(name: str = "adult", quantity: int = 1, **changes: Any) -> SaleOp:
    """An order of one line. `changes` replace fields of the order, or of its line if the line has them."""
    line: dict[str, Any] = {"product": name, "quantity": quantity, "visit_date": visit_date()}
    line |= {field: changes.pop(field) for field in tuple(changes) if field in SaleLineOp.__struct_fields__}
    order: dict[str, Any] = {
        "channel": "window",
        "key": f"order-{_run}-{next(_numbers)}",
        "user": "cashier",
        "lines": [SaleLineOp(**line)],
        "tenders": [("cash", 100_000_000)],
        "printer": "",
        "at": time.time(),
    }
    return SaleOp(**(order | changes))


def grant_op(ticket: int, /, **changes: Any) -> GrantOp:
    """The scan of a ticket's code at lane1, up to ten people, five seconds."""
    fields: dict[str, Any] = {
        "lane": "lane1",
        "device": changes.get("lane", "lane1") + "-board",
        "nonce": f"nonce-{_run}-{next(_numbers)}",
        "kind": CredentialKind.CODE,
        "credential_hash": hash_id("code", str(ticket)),
        "from_zone": "outside",
        "to_zone": "park",
        "max_pax": 10,
        "pax": None,
        "ttl_s": 5.0,
        "at": time.time(),
        "counter_epoch": None,
        "counter_entries": None,
        "counter_exits": None,
        "face_ok": False,
    }
    return GrantOp(**(fields | changes))


def passage(granted: Granted | None, **changes: Any) -> Passed:
    """One person in at lane1, on the grant if there is one, otherwise `kind` says why."""
    fields: dict[str, Any] = {
        "lane": "lane1",
        "device": changes.get("lane", "lane1") + "-board",
        "boot": "b1",
        "seq": next(_numbers),
        "direction": Direction.ENTRY,
        "kind": PassageKind.GRANTED,
        "grant": None if granted is None else granted.grant,
        "from_zone": "outside",
        "to_zone": "park",
        "at": time.time(),
    }
    return Passed(**(fields | changes))


def end(granted: Granted, passed: int, **changes: Any) -> Ended:
    """The lane's word that a grant is over."""
    fields: dict[str, Any] = {
        "lane": "lane1",
        "device": changes.get("lane", "lane1") + "-board",
        "grant": granted.grant,
        "nonce": granted.nonce,
        "passed": passed,
        "why": EndReason.COMPLETE if passed >= granted.pax else EndReason.TIMEOUT,
        "at": time.time(),
    }
    return Ended(**(fields | changes))


def command(kind: type[Any], **fields: Any) -> Any:
    """A command of the office with a key of its own, by the chief, for a reason; `fields` are the rest of it."""
    common: dict[str, Any] = {
        "key": f"command-{_run}-{next(_numbers)}",
        "user": "chief",
        "role": "duty_manager",
        "reason": "asked for at the window",
        "at": time.time(),
    }
    return kind(**(common | fields))
