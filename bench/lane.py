"""A lane controller beside a real server: what a visitor waits when nobody answers, and what the lists cost.

Server and controller are processes of their own, PostgreSQL is on disk, boards and readers are simulators behind ptys
in this process; all share the same processors.  A scan is timed from the reader's line to the board's order to open:
the reader's and the board's lines are ptys, which take no time, so the wire's own time is not in it (docs/lane.md has
it); the barrier's 0.3 s of movement come after.  The visitor of `offline_scan_to_open` finds a lane at rest; the
`next_visitor` scans in the instant in which the barrier has closed behind the one before.
Tickets and passes are put into the tables at once; what they cost is read by the lane as at any site.
"""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from bench._progress import Progress
from paifang.lane_testing import LaneProcess, LaneRig, lane_rig
from protocols.messages import Direction
from sim.lane import SimLane
from storage.connection import Dsn, in_asyncio

TICKETS, PASSES = 500_000, 200_000
QUICK_TICKETS, QUICK_PASSES = 20_000, 8_000
SCANS, QUICK_SCANS = 150, 40  # of a lane at rest, without a server; no more than one order takes
OTHERS, QUICK_OTHERS = 40, 15  # of each other kind
SWITCHES, QUICK_SWITCHES = 5, 2
SOLD = 50  # tickets that the delta brings
LIST_WITHIN_S = 240.0
REST_S = 0.25  # from a closed barrier until the lane has seen it and written everything down
SPREAD_S = 0.1  # so that scans do not keep step with the board's polls
OWN_LANE = "s1"  # of the server, on a serial board
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
    """The figures. Takes six minutes, or with `quick` two, and less exact; says on stderr how far it is."""
    return trio.run(_run, quick)


async def _run(quick: bool) -> dict[str, Any]:
    tickets, passes = (QUICK_TICKETS, QUICK_PASSES) if quick else (TICKETS, PASSES)
    scans, others = (QUICK_SCANS, QUICK_OTHERS) if quick else (SCANS, OTHERS)
    switches = QUICK_SWITCHES if quick else SWITCHES
    progress = Progress("lane")
    with tempfile.TemporaryDirectory(prefix="paifang-bench-") as folder:
        progress.say("starts a database and a server")
        async with lane_rig(Path(folder), start=False, configure=_with_own_lane) as rig:
            await rig.site.start()
            async with progress.waiting(f"puts {tickets} tickets and {passes} passes into the tables"):
                await in_asyncio(_fill, rig.site.dsn, tickets + passes, passes)
            lane = rig.lanes["c1"]
            async with progress.waiting("a lane gets its first list"):
                await lane.start()
                await lane.shows(lambda status: bool(status["list_whole_s"]), "has its list", LIST_WITHIN_S)
            await lane.works()
            whole_s = float(lane.status()["list_whole_s"])
            progress.say(f"the list took {whole_s:.1f} s")
            bench = _Bench(rig, progress)
            served = await bench.visitors("the server's own lane", rig.site.lane(OWN_LANE), others)
            online = await bench.visitors("the controller, the server decides", lane.sim, others)
            await bench.without_server(lane, scans, others)
            changes = [await bench.switch(lane, number, switches) for number in range(1, switches + 1)]
            figures = {
                "quick": quick,
                "tickets": tickets,
                "passes": passes,
                "first_list_s": round(whole_s, 2),
                "delta_s": round(float(lane.status()["list_delta_s"] or 0.0), 3),
                "memory_mb": round(_memory_mb(lane.pid), 1),
                **_parts("offline_scan_to_open", bench.at_rest),
                **_parts("offline_next_visitor", bench.at_once),
                "offline_decision_p99_ms": round(bench.decision_ms, 1),
                **_parts("online_scan_to_open", online),
                **_parts("server_scan_to_open", served),
                "switch_over_ms": round(max(changes) * 1000, 1),
                "scans": len(bench.at_rest),
                "board": "board4, polled every 100 ms",
                "wire": "ptys, which take no time",
                "journal": _journal(lane),
            }
            return {"bench": "lane", "figures": figures, "ratios": {}}


class _Bench:
    """The steps that visitors take part in."""

    def __init__(self, rig: LaneRig, progress: Progress) -> None:
        self._rig = rig
        self._progress = progress
        self.at_rest: list[float] = []  # what visitors waited, in seconds
        self.at_once: list[float] = []
        self.decision_ms = 0.0  # p99 of what the lane itself needed for its decisions

    async def visitors(self, words: str, sim: SimLane, count: int) -> list[float]:
        """What each of them waited, while the server decides."""
        sold = await self._rig.site.sell_all("adult", count)
        return await self._pass(words, sim, [ticket.code for ticket in sold.tickets])

    async def without_server(self, lane: LaneProcess, scans: int, others: int) -> None:
        """Visitors with the server gone; then it is back, and has everything."""
        sold = [await self._rig.site.sell_all("adult", count) for count in (scans, others, SOLD)]
        await self._rig.listed(LIST_WITHIN_S)
        self._rig.site.kill()
        await lane.works(mode="offline_edge")
        codes = [[ticket.code for ticket in each.tickets] for each in sold]
        self.at_rest = await self._pass("the server is gone", lane.sim, codes[0])
        self.at_once = await self._pass("one visitor close behind the other", lane.sim, codes[1], rest=False)
        await trio.sleep(1.5)  # the status is written each second
        self.decision_ms = float(lane.status()["decision_p99_ms"])
        async with self._progress.waiting("the server is back, and hears what happened"):
            await self._rig.site.start()
            await lane.works()
            await lane.shows(lambda status: status["waiting_for_upload"] == 0, "has uploaded", 60)

    async def switch(self, lane: LaneProcess, number: int, of: int) -> float:
        """The first visitor after the server began to hang, from the reader to the board."""
        code = (await self._rig.site.sell()).code
        await self._rig.listed(LIST_WITHIN_S)
        await lane.works()
        self._rig.site.suspend()
        try:
            took_s = await _visitor(lane.sim, code, rest=True)
        finally:
            self._rig.site.resume()
        self._progress.say(f"the server hangs, {number} of {of}: a visitor waited {took_s:.2f} s")
        await trio.sleep(3.0)
        await lane.shows(lambda status: status["mode"] == "online", "online again", 90)
        return took_s

    async def _pass(self, words: str, sim: SimLane, codes: list[str], *, rest: bool = True) -> list[float]:
        times = []
        for number, code in enumerate(codes, 1):
            times.append(await _visitor(sim, code, rest=rest))
            self._progress.count(words, number, len(codes))
        return times


async def _visitor(sim: SimLane, code: str, *, rest: bool) -> float:
    """One visitor; how long the barrier took to be told to open. `rest`: not close behind the one before."""
    assert sim.board is not None
    assert sim.reader is not None
    await sim.settled()
    if rest:
        await trio.sleep(REST_S + random.random() * SPREAD_S)
    told = trio.Event()
    barrier, opened = sim.barrier, sim.barrier.open
    took_s = 0.0

    def note(direction: Direction, pax: int, open_s: float | None = None) -> None:
        nonlocal took_s
        took_s = took_s or time.perf_counter() - start
        told.set()
        opened(direction, pax, open_s)

    barrier.open = note  # type: ignore[method-assign]
    try:
        start = time.perf_counter()
        with trio.fail_after(15):
            sim.reader.present(code)
            await told.wait()
    finally:
        barrier.open = opened  # type: ignore[method-assign]
    await barrier.wait_turn(Direction.ENTRY, 5.0)
    await sim.walk(0.02, ticket=None, visitor=secrets.token_hex(2))
    return took_s


def _with_own_lane(text: str) -> str:
    lane = f'id = "{OWN_LANE}"\nname = "{OWN_LANE}"\nto_zone = "park"\n'
    return f'{text}[[lanes]]\n{lane}board = {{ path = "dev/s1-board" }}\nreaders = [{{ path = "dev/s1-qr" }}]\n'


async def _fill(dsn: Dsn, count: int, passes: int) -> None:
    import asyncpg

    connection = await asyncpg.connect(**dsn.asyncpg(), timeout=10)
    try:
        await connection.execute(_FILL.format(first=FIRST_ID, count=count, passes=passes), timeout=300.0)
    finally:
        await connection.close(timeout=10)


def _journal(lane: LaneProcess) -> str:
    """What the lane itself says of its journal: `PRAGMA synchronous=... journal_mode=...`."""
    said = (lane.folder / "lane.out").read_text(encoding="utf-8")
    return said.split("journal: ", 1)[1].split(",", 1)[0]


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):  # the most that it ever was
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not say")


def _parts(name: str, times: list[float]) -> dict[str, float]:
    """Median and p99 of seconds, in milliseconds."""
    ordered = sorted(times)
    return {
        f"{name}_p{part}_ms": round(ordered[min(len(ordered) - 1, part * len(ordered) // 100)] * 1000, 1)
        for part in (50, 99)
    }
