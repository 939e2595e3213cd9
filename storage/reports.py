"""How people moved, read from the books over a connection of its own: the gates' batches never wait for a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import asyncpg
import msgspec
import trio

from storage._pq import open_connection
from storage.connection import Dsn
from storage.queries import load

CONNECT_S = 3.0
STATEMENT_MS = 4_000
REPORT_S = 9.0  # everything together
SCANS_MAX = 500_000  # the newest are looked at: scans have no index by time, and a report must not read for minutes


class ReportFailed(Exception):
    """The books cannot be read now; the text says why."""


class StepFigures(msgspec.Struct, frozen=True):
    at: float
    entries: int
    exits: int
    refused: int


class LaneFigures(msgspec.Struct, frozen=True):
    lane: str
    entries: int
    exits: int
    refused: int
    busiest_minute: int
    median_s: float | None  # from a grant to its first passage


class FlowFigures(msgspec.Struct, frozen=True):
    """`complete` is false when there were more scans than `SCANS_MAX`."""

    steps: list[StepFigures]
    refusals: list[tuple[str, int]]
    lanes: list[LaneFigures]
    complete: bool


async def read_flow(
    dsn: Dsn, site: str, lanes: Sequence[str], *, first: float, last: float, step_s: int
) -> FlowFigures:
    """Passages and refusals from `first` to `last` (seconds since the epoch) in steps, and lane by lane.

    Raises:
        ReportFailed: no connection, or not in time.
    """
    settings = {
        "timezone": "UTC",
        "default_transaction_read_only": "on",
        "statement_timeout": str(STATEMENT_MS),
        "application_name": f"paifang report {site}"[:60],
        "jit": "off",
    }
    try:
        with trio.fail_after(REPORT_S):
            connection = await open_connection(dsn, settings, CONNECT_S)
            try:
                sql = load("reports")
                span = (float(first), float(last))
                count = max(1, round((last - first) / step_s))
                names = list(lanes)
                points = await connection.fetch(sql["points"], site, *span, float(step_s), count, names)
                newest = await connection.fetchval(sql["newest_scan"], site)
                oldest = max(0, newest - SCANS_MAX)
                refused = await connection.fetch(sql["refusals"], site, *span, oldest, count)
                begun = None if oldest == 0 else await connection.fetchval(sql["oldest_looked_at"], site, oldest)
                rows = await connection.fetch(sql["lanes"], site, *span, names)
            finally:
                connection.terminate()
    except (OSError, asyncpg.PostgresError, trio.TooSlowError) as exc:
        raise ReportFailed(str(exc) or type(exc).__name__) from exc
    by_step: Counter[int] = Counter()
    by_code: Counter[str] = Counter()
    by_lane: Counter[str] = Counter()
    for row in refused:
        by_step[row["step"]] += row["count"]
        by_code[row["code"]] += row["count"]
        by_lane[row["lane"]] += row["count"]
    return FlowFigures(
        steps=[
            StepFigures(at=row["at"], entries=row["entries"], exits=row["exits"], refused=by_step[number])
            for number, row in enumerate(points, 1)
        ],
        refusals=by_code.most_common(),
        lanes=[
            LaneFigures(
                lane=row["lane"],
                entries=row["entries"],
                exits=row["exits"],
                refused=by_lane[row["lane"]],
                busiest_minute=row["busiest"],
                median_s=row["median_s"],
            )
            for row in rows
        ],
        complete=begun is None or begun <= first,
    )
