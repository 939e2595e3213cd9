"""Grants and closes on disk: 64 lanes against pgbench with 64 clients, in turns, on the same PostgreSQL.

A lane asks for a grant, and when it has it says that one person passed and that the grant is over; each of the three
is answered when it is on disk.  Lanes speak as the server's own do: they tell, in this order, and the answers are
messages to them.  A durable commit here is a grant or a close (passage and end together), as the floor's is a row.
Nothing is reported unless the live settings say that a commit is one.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import trio

from actors.admission import decide
from bench._history import PRODUCT, fill
from bench._link import GATES, measure
from bench._progress import Progress
from core.testing import Probe
from protocols.messages import Booked, EndReason, Granted, Settled
from storage.embedded import Embedded, embedded, program
from storage.testing import (
    Database,
    LedgerUser,
    end,
    fetch,
    fresh_database,
    grant_op,
    ledger_running,
    passage,
    product,
    run_sql,
    setup,
)

LANES = 64
TICKETS_AT_ONCE = 200  # in one sale
ROUNDS, ROUND_S = 3, 5.0
QUICK_ROUNDS, QUICK_ROUND_S, QUICK_GATES = 1, 1.0, 8
TICKETS_PER_S = 6_000  # more than can be admitted in a second
GROUP_PAX, GROUP_LANES = 1000, 100
ASK_S = 30.0
PGBENCH_SCRIPT = """\\set id random(1, 1000000000)
insert into floor (id, payload) values (:id, 'a row of about the size of a grant, with a nonce and two times in it');
"""
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")

T = TypeVar("T")


class NotDurable(Exception):
    """The database does not promise that a commit is on disk; a figure would mean nothing."""


def run(quick: bool = False, history: int = 0, link: bool = True) -> dict[str, Any]:
    """Figures `grant_p50_ms`, `grant_p99_ms`, `durable_commits_per_s`, `pgbench_per_s`, `database_commits`, and, of
    whole passages over the device link, `link_passages_per_s` and `link_scan_to_grant_ms` {p50, p99} (unless `link` is
    False).

    Ratios `durable_commits_vs_pgbench`, `group_vs_distinct` (100 lanes on one code of 1,000 people). With `history`, so
    many past passages and two fifths as many tickets are loaded and all is measured again: the ratio
    `history_slowdown` is the rate after it by the rate before, each by its own floor.  Raises NotDurable.
    """
    rounds, round_s = (QUICK_ROUNDS, QUICK_ROUND_S) if quick else (ROUNDS, ROUND_S)
    gates = 0 if not link else QUICK_GATES if quick else GATES
    return trio.run(_bench, rounds, round_s, history, gates)


class Rates(NamedTuple):
    """Medians of the rounds; the waits of all."""

    floor: float
    distinct: float
    group: float
    waits: list[float]


async def _bench(rounds: int, round_s: float, history: int = 0, gates: int = 0) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="paifang-bench-") as name:
        folder = Path(name)
        async with embedded(folder / "db", settings={"max_connections": "100"}) as server:
            await check_durable(server)
            await run_sql(server.dsn, "create table floor (id bigint, payload text)")
            async with fresh_database(server) as database:
                before = await _commits(server)
                rates = await _rates(server, database, folder, rounds, round_s)
                commits = await _commits(server) - before
                if history:
                    await fill(database.dsn, history, history * 2 // 5, Progress("admission").say)
                    past = await _rates(server, database, folder, rounds, round_s)
                    ratios["history_slowdown"] = past.distinct / past.floor / (rates.distinct / rates.floor)
                    figures["history_grant_p99_ms"] = _cut(past.waits, 0.99)
            if gates:
                await run_sql(server.dsn, "drop table floor")
                figures |= await measure(server, folder, round_s, gates)
    return {
        "bench": "admission",
        "figures": {
            "durable_commits_per_s": round(rates.distinct),
            "pgbench_per_s": round(rates.floor),
            "grant_p50_ms": _cut(rates.waits, 0.5),
            "grant_p99_ms": _cut(rates.waits, 0.99),
            "database_commits": commits,
            **figures,
        },
        "ratios": {
            "durable_commits_vs_pgbench": round(rates.distinct / rates.floor, 3),
            "group_vs_distinct": round(rates.group / rates.distinct, 3),
            **{name: round(ratio, 3) for name, ratio in ratios.items()},
        },
    }


async def _rates(server: Embedded, database: Database, folder: Path, rounds: int, round_s: float) -> Rates:
    crowd = product("crowd", product_class="group", pax=GROUP_PAX)
    site = setup(products=[product("adult"), crowd, product(PRODUCT, uses=0)])
    floor: list[float] = []
    distinct: list[float] = []
    group: list[float] = []
    waits: list[float] = []
    async with ledger_running(database.dsn, site=site, decide=decide) as ledger:
        for _ in range(rounds):
            floor.append(await trio.to_thread.run_sync(_pgbench, server, folder, round_s))
            tickets = await _sell(ledger, int(TICKETS_PER_S * round_s))
            distinct.append(await _lanes(ledger, tickets, round_s, waits))
            (one,) = await ledger.sell("crowd")
            group.append(await _lanes(ledger, [one.ticket] * GROUP_PAX, ASK_S, [], GROUP_LANES))
            people = await database.fetchval(
                "select sum(redeemed) from entitlements where ticket = $1 and held = 0", one.ticket
            )
            if people != GROUP_PAX:
                raise AssertionError(f"{people} people of a group of {GROUP_PAX}")
    median = statistics.median
    return Rates(median(floor), median(distinct), median(group), sorted(waits))


def _cut(waits: list[float], share: float) -> float:
    """The wait, in milliseconds, that so many do not exceed."""
    return round(waits[int(len(waits) * share)] * 1000, 2)


async def check_durable(server: Embedded) -> None:
    """Raises NotDurable unless the live settings say that a commit is on disk when it is answered."""
    rows = await fetch(server.dsn, "select name, setting from pg_settings where name = any($1)", list(DURABLE))
    off = [row["name"] for row in rows if row["setting"] != "on"]
    if off:
        raise NotDurable(f"{', '.join(off)} is off")


async def _commits(server: Embedded) -> int:
    rows = await fetch(server.dsn, "select sum(xact_commit)::bigint as n from pg_stat_database")
    return int(rows[0]["n"])


def _pgbench(server: Embedded, folder: Path, seconds: float) -> float:
    """Rows per second of single-row commits, prepared, 64 clients."""
    script = folder / "floor.sql"
    script.write_text(PGBENCH_SCRIPT)
    done = subprocess.run(
        [
            program("pgbench"),
            "-n",
            "-M",
            "prepared",
            "-c",
            str(LANES),
            "-j",
            "2",
            "-T",
            str(int(seconds)),
            "-f",
            script,
        ],
        env=server.dsn.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return next(float(line.split("=")[1].split()[0]) for line in done.stdout.splitlines() if line.startswith("tps"))


async def _sell(ledger: LedgerUser, count: int) -> list[int]:
    sold: list[int] = []
    while len(sold) < count:
        sold += [ticket.ticket for ticket in await ledger.sell("adult", TICKETS_AT_ONCE)]
    return sold


async def _lanes(
    ledger: LedgerUser, tickets: list[int], seconds: float, waits: list[float], lanes: int = LANES
) -> float:
    """Durable commits per second: every lane admits one visitor after the other until the tickets are used up."""
    until = time.perf_counter() + seconds
    commits = 0

    async def lane(name: str) -> None:
        nonlocal commits
        me = Probe(name)
        own = {"lane": name, "device": name}

        async def answer(kind: type[T]) -> T:
            value = (await me.receive()).msg
            if not isinstance(value, kind):
                raise AssertionError(f"{value!r} instead of {kind.__name__}")
            return value

        with trio.fail_after(ASK_S):
            while tickets and (begun := time.perf_counter()) < until:
                ledger.address.tell(grant_op(tickets.pop(), pax=1, **own), reply_to=me)
                granted = await answer(Granted)
                waits.append(time.perf_counter() - begun)
                ledger.address.tell(passage(granted, **own), reply_to=me)
                ledger.address.tell(end(granted, 1, why=EndReason.COMPLETE, **own), reply_to=me)
                await answer(Booked)
                settled = await answer(Settled)
                if settled.passed != 1:
                    raise AssertionError(f"{settled.passed} people are booked instead of 1")
                commits += 2

    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(lanes):
            nursery.start_soon(lane, f"lane{number}")
    return commits / (time.perf_counter() - begun)
