"""What comparing faces costs the gates: the server's loop lag while faces are encoded without a pause.

A ticker asks to be woken every millisecond and notes how late it was, first with idle workers, then with workers that
encode one real photograph after the other.  In a thread of the server the same work cost 138 ms at the worst, because
dlib holds the interpreter; in niced processes what is left is the scheduler's.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import trio

from drivers.face import FacePool
from paifang.photographs import ensure

TICK_S = 0.001
ENCODE_S, ENCODE_QUICK_S = 20.0, 4.0
IDLE_S = 2.0
EMBED_S = 60.0  # deadline of one photograph, the start of a worker included
FOLDER = Path("var/photographs")


class Lag:
    """How late a 1 ms ticker was woken, in milliseconds."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []

    async def run(self) -> None:
        while True:
            due = trio.current_time() + TICK_S
            await trio.sleep_until(due)
            self.late_ms.append((trio.current_time() - due) * 1e3)

    @property
    def max_ms(self) -> float:
        return max(self.late_ms)

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.late_ms, n=100)[98]


def run(quick: bool = False, *, folder: Path = FOLDER, workers: int = 1) -> dict[str, Any]:
    """Measure lag and encoding time; about 30 seconds, `quick` about 10. `folder` caches the photographs."""
    photographs = [path.read_bytes() for paths in ensure(folder).values() for path in paths]
    return trio.run(_measure, photographs, workers, ENCODE_QUICK_S if quick else ENCODE_S)


async def _measure(photographs: list[bytes], workers: int, seconds: float) -> dict[str, Any]:
    embed_ms: list[float] = []

    async def encode(pool: FacePool) -> None:
        while True:
            for photograph in photographs:
                start = trio.current_time()
                await pool.embed(photograph, EMBED_S)
                embed_ms.append((trio.current_time() - start) * 1e3)

    async with trio.open_nursery() as nursery:
        pool = FacePool(workers, 0.55)
        await nursery.start(pool.run)
        for _ in range(workers):
            await pool.embed(photographs[0], EMBED_S)  # workers are started, models loaded
        idle, busy = Lag(), Lag()
        with trio.move_on_after(IDLE_S):
            await idle.run()
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as encoders:
                for _ in range(workers):
                    encoders.start_soon(encode, pool)
                encoders.start_soon(busy.run)
        nursery.cancel_scope.cancel()
    return {
        "bench": "face",
        "figures": {
            "loop_lag_max_ms": round(busy.max_ms, 2),
            "loop_lag_p99_ms": round(busy.p99_ms, 2),
            "idle_lag_max_ms": round(idle.max_ms, 2),
            "embed_p50_ms": round(statistics.median(embed_ms), 1),
            "embedded": len(embed_ms),
        },
        "ratios": {},
    }
