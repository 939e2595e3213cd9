"""How people moved, read from real books in PostgreSQL, beside the ledger."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from protocols.messages import Direction, PassageKind
from storage.connection import Dsn
from storage.reports import ReportFailed, read_flow
from storage.testing import end, fresh_database, grant_op, ledger_running, passage

HOUR_S = 3600


async def test_a_report_is_what_was_booked_by_step_by_reason_and_by_lane() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        granted = await ledger.ask(grant_op(ticket.ticket))
        await ledger.ask(passage(granted))
        await ledger.ask(end(granted, 1))
        denied = await ledger.ask(grant_op(ticket.ticket))
        leaving = {"direction": Direction.EXIT, "from_zone": "park", "to_zone": "outside", "kind": PassageKind.EXIT}
        await ledger.ask(passage(None, **leaving))
        first = time.time() // HOUR_S * HOUR_S - 22 * HOUR_S
        told = await read_flow(
            database.dsn, "demo", ["lane1", "lane2"], first=first, last=first + 24 * HOUR_S, step_s=HOUR_S
        )
        assert len(told.steps) == 24
        assert [step.at for step in told.steps] == [first + n * HOUR_S for n in range(24)]
        assert sum(step.entries for step in told.steps) == 1
        assert sum(step.exits for step in told.steps) == 1
        assert sum(step.refused for step in told.steps) == 1
        assert told.steps[0].entries == 0
        assert told.refusals == [(denied.code, 1)]
        lanes = {lane.lane: lane for lane in told.lanes}
        assert (lanes["lane1"].entries, lanes["lane1"].exits, lanes["lane1"].refused) == (1, 1, 1)
        assert lanes["lane1"].busiest_minute >= 1
        assert lanes["lane1"].median_s is not None and 0 <= lanes["lane1"].median_s < 60
        assert (lanes["lane2"].entries, lanes["lane2"].median_s) == (0, None)
        assert told.complete
        other = await read_flow(database.dsn, "elsewhere", ["lane1"], first=first, last=first + HOUR_S, step_s=60)
        assert (sum(step.entries for step in other.steps), other.refusals) == (0, [])


async def test_books_that_are_away_are_said_to_be(tmp_path: Path) -> None:
    nowhere = Dsn(host=str(tmp_path), user="nobody", database="nothing")
    with pytest.raises(ReportFailed):
        await read_flow(nowhere, "demo", ["lane1"], first=0.0, last=3600.0, step_s=60)
