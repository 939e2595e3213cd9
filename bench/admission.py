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
from typing import Any, TypeVar

import trio

from actors.admission import decide
from core.testing import Probe
from protocols.messages import Booked, EndReason, Granted, Settled
from storage.embedded import Embedded, embedded, program
from storage.testing import (
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
QUICK_ROUNDS, QUICK_ROUND_S = 1, 2.0
TICKETS_PER_S = 6_000  # more than can be admitted in a second
GROUP_PAX = 1000
ASK_S = 30.0
PGBENCH_SCRIPT = """\\set id random(1, 1000000000)
insert into floor (id, payload) values (:id, 'a row of about the size of a grant, with a nonce and two times in it');
"""
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")

T = TypeVar("T")


class NotDurable(Exception):
    """The database does not promise that a commit is on disk; a figure would mean nothing."""


def run(quick: bool = False) -> dict[str, Any]:
    """Figures `grant_p50_ms`, `grant_p99_ms`, `durable_commits_per_s`, `pgbench_per_s`, `database_commits`.

    Ratios `durable_commits_vs_pgbench`, `group_vs_distinct` (64 lanes on one code of 1,000 people).  Raises NotDurable.
    """
    return trio.run(_bench, QUICK_ROUNDS if quick else ROUNDS, QUICK_ROUND_S if quick else ROUND_S)


async def _bench(rounds: int, round_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="paifang-bench-") as folder:
        async with embedded(Path(folder) / "db", settings={"max_connections": "100"}) as server:
            await check_durable(server)
            await run_sql(server.dsn, "create table floor (id bigint, payload text)")
            crowd = product("crowd", product_class="group", pax=GROUP_PAX)
            site = setup(products=[product("adult"), crowd])
            floor: list[float] = []
            rates: list[float] = []
            group_rates: list[float] = []
            waits: list[float] = []
            async with (
                fresh_database(server) as database,
                ledger_running(database.dsn, site=site, decide=decide) as ledger,
            ):
                before = await _commits(server)
                for _ in range(rounds):
                    floor.append(await trio.to_thread.run_sync(_pgbench, server, Path(folder), round_s))
                    tickets = await _sell(ledger, int(TICKETS_PER_S * round_s))
                    rates.append(await _lanes(ledger, tickets, round_s, waits))
                    (group,) = await ledger.sell("crowd")
                    group_rates.append(await _lanes(ledger, [group.ticket] * GROUP_PAX, ASK_S, []))
                commits = await _commits(server) - before
    rate, group_rate, pgbench = (statistics.median(values) for values in (rates, group_rates, floor))
    waits.sort()
    return {
        "bench": "admission",
        "figures": {
            "durable_commits_per_s": round(rate),
            "pgbench_per_s": round(pgbench),
            "grant_p50_ms": round(waits[len(waits) // 2] * 1000, 2),
            "grant_p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 2),
            "database_commits": commits,
        },
        "ratios": {
            "durable_commits_vs_pgbench": round(rate / pgbench, 3),
            "group_vs_distinct": round(group_rate / rate, 3),
        },
    }


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


async def _lanes(ledger: LedgerUser, tickets: list[int], seconds: float, waits: list[float]) -> float:
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
        for number in range(LANES):
            nursery.start_soon(lane, f"lane{number}")
    return commits / (time.perf_counter() - begun)
