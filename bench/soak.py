"""A day of a busy site at 120 times its pace, with 50 consoles that come and go: memory and open files stay flat.

The hub and the channel are the real ones, alone in this process; the consoles are another (`bench._comers`).  A
simulated second is 1/120 s; each tells of people at the lanes, each simulated minute a point of the curve.  The day has
eight parts.  At the end of each all consoles vanish at once, as when a switch fails; once the server has noticed,
memory and files are looked at with nobody connected.  What is bounded fills during the first quarter (but for the flow
curve, whose 1,440 points take the whole day), so growth is what came after it.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import trio

from admin_ws.channel import Channel
from bench._comers import Comers
from bench.consoles import LANES, _lane, _line, _rss_mb, _site
from core import Address
from protocols import console as c

SPEED = 120.0
DAY_S = 24 * 3600.0  # simulated
QUICK_S = 3600.0  # simulated: half a minute
CONSOLES = 50
PARTS = 8
PASSAGES_PER_S = 2.0  # simulated
TICK_S = 0.01
READY_S = 60.0  # for the consoles' process to begin
LEAVE_S = 20.0  # until the server has noticed that everybody is gone
LOOK_S, SETTLE_S = 0.02, 0.5
LINE_BYTES = 4096
MALLINFO2 = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
)  # fmt: skip


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The server's process when nobody is connected. `in_use_mb` is what its allocator has handed out of `rss_mb`."""

    hour: float
    rss_mb: float
    in_use_mb: float
    open_files: int


async def _measure(quick: bool) -> dict[str, Any]:
    simulated_s = QUICK_S if quick else DAY_S
    part_s = simulated_s / SPEED / PARTS
    looks: list[Look] = []
    seen, peers_max = Comers(), 0
    async with _site() as (console, hub):
        channel = console.channel
        begun = trio.current_time()
        async with trio.open_nursery() as telling:
            telling.start_soon(_tell, hub)
            for part in range(1, PARTS + 1):
                peers_max = max(peers_max, await _part(console.port, part, part_s, channel, seen))
                gc.collect()
                hour = (trio.current_time() - begun) * SPEED / 3600
                looks.append(Look(hour=hour, rss_mb=_rss_mb(), in_use_mb=_in_use_mb(), open_files=_files()))
            telling.cancel_scope.cancel()
        counts = channel.statistics().counts
    before, after = looks[PARTS // 4 - 1], looks[-1]
    figures = {
        "simulated_h": round(after.hour, 2),
        "speed": SPEED,
        "consoles": CONSOLES,
        "consoles_at_once": peers_max,
        "visits": seen.visits,
        "lines_seen": seen.lines,
        "refused": seen.refused,
        "evicted": counts.get("closed.too_slow", 0),
        "rss_mb": round(after.rss_mb, 1),
        "rss_growth_mb": round(after.rss_mb - before.rss_mb, 1),
        "in_use_growth_mb": round(after.in_use_mb - before.in_use_mb, 1),
        "open_files": after.open_files,
        "open_files_growth": after.open_files - before.open_files,
        "curve": [
            {"hour": round(look.hour, 1), "rss_mb": round(look.rss_mb, 1), "in_use_mb": round(look.in_use_mb, 1),
             "open_files": look.open_files}
            for look in looks
        ],
        "counts": {name: count for name, count in counts.items() if name.startswith(("refused.", "too_slow."))},
    }  # fmt: skip
    ratio = round(after.rss_mb / before.rss_mb, 3)
    return {"bench": "soak", "figures": figures, "ratios": {"rss_end_vs_quarter": ratio}}


def run(*, quick: bool = False) -> dict[str, Any]:
    """The figures: `rss_growth_mb` and `open_files_growth` over the last three quarters of the day, and the curve."""
    return trio.run(_measure, quick)


async def _part(port: int, number: int, seconds: float, channel: Channel, seen: Comers) -> int:
    """One part of the day; adds to `seen`, and returns the most consoles that were there at once."""
    command = [sys.executable, "-m", "bench._comers", str(port), str(CONSOLES), str(number)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said, most = b"", 0
    try:
        with trio.fail_after(READY_S):
            said += await process.stdout.receive_some()
        with trio.move_on_after(seconds):
            async for data in process.stdout:
                said = (said + data)[-LINE_BYTES:]
                most = max(most, len(channel.statistics().peers))
            raise RuntimeError("the consoles' process ended early")
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
    with trio.fail_after(LEAVE_S):
        while channel.statistics().peers:  # noqa: ASYNC110 - leaving has no event
            await trio.sleep(LOOK_S)
        before = _files() + 1
        while before != (before := _files()):  # noqa: ASYNC110 - their sockets are closed just after
            await trio.sleep(SETTLE_S)
    last = msgspec.json.decode(said.split(b"\n")[-2], type=Comers)
    seen.visits += last.visits
    seen.lines += last.lines
    seen.refused += last.refused
    seen.too_slow += last.too_slow
    return most


async def _tell(hub: Address) -> None:
    begun, told, minute = trio.current_time(), 0, 0
    while True:
        simulated_s = (trio.current_time() - begun) * SPEED
        for count in range(told, int(simulated_s * PASSAGES_PER_S)):
            hub.tell(_lane(count % LANES, count))
            hub.tell(_line(count))
        told = max(told, int(simulated_s * PASSAGES_PER_S))
        while minute < simulated_s / 60:
            minute += 1
            hub.tell(c.FlowPoint(minute=minute * 60.0, entries=60, exits=50, refused=3))
        await trio.sleep(TICK_S)


class _MallInfo2(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO2]


def _in_use_mb() -> float:
    """What the C allocator has handed out; 0.0 where the C library cannot say."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0.0
    mallinfo2.restype = _MallInfo2
    info = mallinfo2()
    return float(info.uordblks + info.hblkhd) / 1e6


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
