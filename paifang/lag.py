"""How late the event loop is: sampled while the server runs, kept in a file for whoever measures from outside."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec
import trio

SAMPLE_S = 0.01
WRITE_EVERY_S = 1.0
BUCKET_MS = 0.1
BUCKETS = 20_000  # up to two seconds; later ones share the last
BOOTS_MAX = 100


class Boot(msgspec.Struct, kw_only=True):
    """One run of the server. Lags are in milliseconds."""

    pid: int
    started: float
    samples: int = 0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    max_at: float = 0.0  # seconds since the epoch


class LagFile(msgspec.Struct, kw_only=True):
    """`loop_lag.json`: one entry a run, the newest last."""

    boots: list[Boot] = []


def read_lag(path: Path) -> LagFile:
    """What was measured; an absent or damaged file holds nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LagFile)
    except (OSError, msgspec.MsgspecError):
        return LagFile()


async def measure_lag(path: Path) -> None:
    """Sample until cancelled. The file is replaced whole each second, from a thread: it must not add to the lag."""
    before = read_lag(path).boots[-BOOTS_MAX:]
    boot = Boot(pid=os.getpid(), started=time.time())
    buckets = [0] * BUCKETS
    written = trio.current_time()
    while True:
        due = trio.current_time() + SAMPLE_S
        await trio.sleep_until(due)
        now = trio.current_time()
        lag_ms = (now - due) * 1000
        buckets[min(BUCKETS - 1, int(lag_ms / BUCKET_MS))] += 1
        boot.samples += 1
        if lag_ms > boot.max_ms:
            boot.max_ms, boot.max_at = round(lag_ms, 3), time.time()
        if now - written >= WRITE_EVERY_S:
            written = now
            boot.p99_ms = _percentile(buckets, boot.samples, 0.99)
            data = msgspec.json.encode(LagFile(boots=[*before, boot]))
            with contextlib.suppress(OSError):  # a full disk costs a figure, not the gates
                await trio.to_thread.run_sync(_replace, path, data)


def _percentile(buckets: list[int], samples: int, share: float) -> float:
    """The upper edge of the bucket that holds the percentile."""
    left = samples * share
    for index, count in enumerate(buckets):
        left -= count
        if left <= 0:
            return round((index + 1) * BUCKET_MS, 3)
    return BUCKETS * BUCKET_MS


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
