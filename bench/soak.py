"""A day of a busy site at 120 times its pace, with 50 consoles that come and go: memory and open files stay flat.

The hub and the channel are the real ones.  A simulated second is 1/120 s; each tells of people at the lanes, each
simulated minute a point of the curve.  Consoles connect, log in, subscribe (half of them from where they left off),
watch for a while and leave; twice all of them vanish at once.  Memory and files are looked at after a quarter of the
day, when what is bounded has mostly filled, and at its end, with nobody connected.
"""

from __future__ import annotations

import gc
import random
import time
from pathlib import Path
from typing import Any

import trio

from admin_ws.client import ConsoleClient, ConsoleError
from bench.consoles import LANES, _lane, _line, _rss_mb, _site
from core import Address
from protocols import console as c
from protocols.jsonrpc import Wire

SPEED = 120.0
DAY_S = 24 * 3600.0  # simulated
QUICK_S = 3600.0  # simulated: half a minute
CONSOLES = 50
PASSAGES_PER_S = 2.0  # simulated
TICK_S = 0.01
STAY_S = (0.5, 4.0)  # of a console
LEAVE_S = 20.0  # until the last one is gone


async def _measure(quick: bool) -> dict[str, Any]:
    simulated_s = QUICK_S if quick else DAY_S
    seconds, visits = simulated_s / SPEED, [0, 0]
    dice = random.Random(1)
    looks: list[tuple[float, int]] = []
    async with _site() as (console, hub):
        channel = console.channel
        url = f"ws://127.0.0.1:{console.port}/channel"
        for end_s in (seconds / 4, seconds):
            start_s = seconds / 4 * len(looks)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell, hub, start_s)
                for _ in range(CONSOLES):
                    nursery.start_soon(_come_and_go, url, dice, visits)
                await trio.sleep(end_s - start_s)
                nursery.cancel_scope.cancel()
            with trio.fail_after(LEAVE_S):
                while channel.statistics().peers:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            gc.collect()
            looks.append((_rss_mb(), _files()))
        counts = channel.statistics().counts
    (rss_before, files_before), (rss_after, files_after) = looks
    figures = {
        "simulated_h": simulated_s / 3600.0,
        "speed": SPEED,
        "consoles": CONSOLES,
        "visits": visits[0],
        "lines_seen": visits[1],
        "evicted": counts.get("closed.too_slow", 0),
        "rss_mb": round(rss_after, 1),
        "rss_growth_mb": round(rss_after - rss_before, 1),
        "open_files": files_after,
        "open_files_growth": files_after - files_before,
    }
    return {"bench": "soak", "figures": figures, "ratios": {"rss_end_vs_quarter": round(rss_after / rss_before, 3)}}


def run(*, quick: bool = False) -> dict[str, Any]:
    """The figures: `rss_growth_mb` and `open_files_growth` over the last three quarters of the day."""
    return trio.run(_measure, quick)


async def _tell(hub: Address, start_s: float) -> None:
    begun, told, minute = trio.current_time(), 0, int(start_s * SPEED / 60)
    while True:
        simulated_s = (trio.current_time() - begun) * SPEED
        for count in range(told, int(simulated_s * PASSAGES_PER_S)):
            hub.tell(_lane(count % LANES, count))
            hub.tell(_line(count))
        told = max(told, int(simulated_s * PASSAGES_PER_S))
        while minute < (start_s * SPEED + simulated_s) / 60:
            minute += 1
            hub.tell(c.FlowPoint(minute=minute * 60.0, entries=60, exits=50, refused=3))
        await trio.sleep(TICK_S)


async def _come_and_go(url: str, dice: random.Random, visits: list[int]) -> None:
    """One place in front of a screen, at which people sit down and get up, until it is cancelled."""
    epoch, revision = "", -1
    while True:
        await trio.sleep(dice.uniform(0.0, 1.0))
        try:
            async with ConsoleClient.connect(url, wire=dice.choice((Wire.JSON, Wire.MSGPACK))) as client:
                await client.login(f"u{dice.randrange(99)}", "x")
                asked = c.Subscription()
                if revision >= 0 and dice.random() < 0.5:
                    asked = c.Subscription(epoch=epoch, revision=revision)
                seen = await client.call("site.subscribe", asked, c.Snapshot)
                epoch, revision = seen.epoch, seen.revision
                visits[0] += 1
                until = time.monotonic() + dice.uniform(*STAY_S)
                async for delta in client.deltas():
                    revision = delta.revision
                    visits[1] += len(delta.feed)
                    if time.monotonic() > until:
                        break
        except ConsoleError:
            continue


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
