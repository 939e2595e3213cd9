"""A lane controller beside a real server: what a visitor waits when nobody answers, and what the lists cost.

Server and controller are processes of their own, PostgreSQL is on disk, board and reader are simulators behind ptys in
this process; all share the same processors.  A scan is timed from the reader's line to the board's order to open.
Tickets and passes are put into the tables at once; what they cost is read by the lane as at any site.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from paifang.lane_testing import LaneProcess, LaneRig, lane_rig
from paifang.testing import until
from protocols.messages import Direction
from storage.connection import Dsn, in_asyncio

TICKETS, PASSES = 500_000, 200_000
QUICK_TICKETS, QUICK_PASSES = 20_000, 8_000
SCANS, QUICK_SCANS = 150, 40  # with SOLD no more than one order takes
SWITCHES, QUICK_SWITCHES = 5, 2
SOLD = 50  # tickets that the delta brings
LIST_WITHIN_S = 240.0
FIRST_ID = 1_000_000_000

_FILL = """
set session_replication_role = replica;
insert into orders (site, order_id, channel, key, user_name, total_cents, change_cents, sold_at)
  select 'test', {first}, 'bench', 'bench', 'cashier', 0, 0, now();
insert into order_lines (site, order_id, line, product, version, quantity, unit_price_cents, visit_date)
  select 'test', {first}, 1, 'adult', 1, {count}, 0, current_date;
insert into tickets (site, ticket, order_id, line, number, product, version, pax, valid_from, valid_to)
  select 'test', {first}::bigint + n, {first}, 1, n, 'adult', 1, 1, now() - interval '1 hour',
         now() + interval '20 hours'
    from generate_series(1, {count}) n;
insert into entitlements (site, entitlement, ticket, zone, sold)
  select 'test', {first}::bigint * 10 + n, {first}::bigint + n, 'park', 1 from generate_series(1, {count}) n;
insert into credentials (site, credential, ticket, kind, value_hash)
  select 'test', {first}::bigint * 20 + n, {first}::bigint + n,
         case when n <= {passes} then 'card' else 'code' end, sha256(convert_to('bench' || n, 'utf8'))
    from generate_series(1, {count}) n;
set session_replication_role = default;
analyze;
"""


def run(*, quick: bool) -> dict[str, Any]:
    """The figures. Takes a minute, or with `quick` half of it, and less exact."""
    return trio.run(_run, quick)


async def _run(quick: bool) -> dict[str, Any]:
    tickets, passes = (QUICK_TICKETS, QUICK_PASSES) if quick else (TICKETS, PASSES)
    with tempfile.TemporaryDirectory(prefix="paifang-bench-") as folder:
        async with lane_rig(Path(folder), start=False) as rig:
            await rig.site.start()
            await until(lambda: True, "started")
            await in_asyncio(_fill, rig.site.dsn, tickets + passes, passes)
            lane = rig.lanes["c1"]
            await lane.start()
            await lane.shows(lambda status: bool(status["list_whole_s"]), "has its list", LIST_WITHIN_S)
            await lane.works()
            first_list_s = float(lane.status()["list_whole_s"])
            scans, decision_ms = await _scans(rig, lane, QUICK_SCANS if quick else SCANS)
            switches = [await _switch(rig, lane) for _ in range(QUICK_SWITCHES if quick else SWITCHES)]
            return {
                "quick": quick,
                "tickets": tickets,
                "passes": passes,
                "first_list_s": round(first_list_s, 2),
                "delta_s": round(float(lane.status()["list_delta_s"] or 0.0), 3),
                "memory_mb": round(_memory_mb(lane.pid), 1),
                "offline_scan_to_open_p50_ms": round(_part(scans, 0.5) * 1000, 1),
                "offline_scan_to_open_p99_ms": round(_part(scans, 0.99) * 1000, 1),
                "offline_decision_p99_ms": round(decision_ms, 1),
                "switch_over_ms": round(max(switches) * 1000, 1),
                "scans": len(scans),
                "journal_mode": "wal",
                "synchronous": "full",
            }


async def _scans(rig: LaneRig, lane: LaneProcess, count: int) -> tuple[list[float], float]:
    """Visitors with the server gone: what each waited, and what the lane itself needed at most (p99, ms)."""
    sold = await rig.site.sell_all("adult", count + SOLD)
    await rig.listed(LIST_WITHIN_S)
    rig.site.kill()
    await lane.works(mode="offline_edge")
    times = [await _visitor(lane, ticket.code) for ticket in sold.tickets[:count]]
    await trio.sleep(1.5)  # the status is written each second
    decision_ms = float(lane.status()["decision_p99_ms"])
    await rig.site.start()
    await lane.works()
    await lane.shows(lambda status: status["waiting_for_upload"] == 0, "has uploaded", 60)
    return times, decision_ms


async def _switch(rig: LaneRig, lane: LaneProcess) -> float:
    """The first visitor after the server began to hang, from the reader to the board."""
    code = (await rig.site.sell()).code
    await rig.listed(LIST_WITHIN_S)
    await lane.works()
    rig.site.suspend()
    try:
        took_s = await _visitor(lane, code)
    finally:
        rig.site.resume()
    await trio.sleep(3.0)
    await lane.shows(lambda status: status["mode"] == "online", "online again", 90)
    return took_s


async def _visitor(lane: LaneProcess, code: str) -> float:
    """One visitor; how long the barrier took to be told to open."""
    sim = lane.sim
    assert sim.board is not None
    assert sim.reader is not None
    await sim.settled()
    told = trio.Event()
    barrier, opened = sim.barrier, sim.barrier.open

    def note(direction: Direction, pax: int, open_s: float | None = None) -> None:
        told.set()
        opened(direction, pax, open_s)

    barrier.open = note  # type: ignore[method-assign]
    try:
        start = time.perf_counter()
        with trio.fail_after(15):
            sim.reader.present(code)
            await told.wait()
        took_s = time.perf_counter() - start
    finally:
        barrier.open = opened  # type: ignore[method-assign]
    await sim.barrier.wait_turn(Direction.ENTRY, 5.0)
    await sim.walk(0.02, ticket=None, visitor=secrets.token_hex(2))
    await lane.shows(lambda status: True, "lives")
    await trio.sleep(0.3)
    return took_s


async def _fill(dsn: Dsn, count: int, passes: int) -> None:
    import asyncpg

    connection = await asyncpg.connect(**dsn.asyncpg(), timeout=10)
    try:
        await connection.execute(_FILL.format(first=FIRST_ID, count=count, passes=passes), timeout=300.0)
    finally:
        await connection.close(timeout=10)


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):  # the most that it ever was
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not say")


def _part(times: list[float], part: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
