"""What people do about cases is on disk, in the audit log, and read back with its state."""

from __future__ import annotations

import time

import pytest
import trio

from storage.audit import audit
from storage.cases import CasesUnreadable, find_ticket, read_cases, read_history
from storage.connection import Dsn
from storage.interfaces import CaseWork, LaneLedger, LedgerRefused, OpenCase
from storage.testing import fresh_database, hash_id, ledger_running


async def _open(ledger, *keys: str) -> None:
    for at, key in enumerate(keys):
        ledger.address.tell(
            OpenCase(key=key, kind="forced", lane="lane1", severity="alarm", detail=key, at=1_800_000_000.0 + at)
        )
    await ledger.ask(LaneLedger(lane="lane1", device="d", epoch=None))


def _work(case: int, what: str, detail: str = "") -> CaseWork:
    return CaseWork(case=case, what=what, detail=detail, user="ann", at=time.time())


async def test_a_case_is_worked_from_open_to_closed() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        await _open(ledger, "first", "second")

        async def read(state: str = "all", limit: int = 100):
            return await read_cases(database.dsn, "demo", state=state, limit=limit)

        newest, oldest = await read()
        assert (newest.detail, oldest.detail, oldest.state, oldest.notes) == ("second", "first", "open", [])
        assert [case.detail for case in await read(limit=1)] == ["second"]
        for what, detail, state in (
            ("note", "a look at the camera", "open"),
            ("acknowledged", "", "acknowledged"),
            ("assigned", "bob", "assigned"),
            ("assigned", "", "acknowledged"),
            ("closed", "it was the wind", "closed"),
        ):
            await ledger.ask(_work(oldest.case, what, detail))
            (case,) = await read_cases(database.dsn, "demo", state="all", limit=1, case=oldest.case)
            assert case.state == state and case.notes[-1].what == what and case.notes[-1].user == "ann"
        assert len(case.notes) == 5
        assert [each.detail for each in await read("waiting")] == ["second"]
        assert [each.detail for each in await read("closed")] == ["first"]
        actions = await database.fetch("select action from audit_log order by seq")
        assert [row["action"] for row in actions] == [
            "cases.note", "cases.acknowledged", "cases.assigned", "cases.assigned", "cases.closed"
        ]  # fmt: skip
        assert (await audit(database.dsn, "demo")).clean


async def test_work_on_a_case_that_is_not_there_harms_nobody_elses() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        await _open(ledger, "first")
        (case,) = await read_cases(database.dsn, "demo", state="all", limit=10)
        outcomes = []

        async def work(number: int) -> None:
            try:
                await ledger.ask(_work(number, "acknowledged"))
                outcomes.append("done")
            except LedgerRefused:
                outcomes.append("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, case.case + 1)
            nursery.start_soon(work, case.case)
        assert sorted(outcomes) == ["done", "refused"]
        assert (await audit(database.dsn, "demo")).clean


async def test_a_tickets_history_is_found_by_its_card() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell()
        granted = await ledger.scan(ticket.ticket)
        await ledger.passes(granted)
        await ledger.ends(granted, 1)
        await ledger.scan(ticket.ticket)
        events = await read_history(database.dsn, "demo", [ticket.ticket])
        assert {event.kind for event in events} == {"admitted", "passage", "refused"}
        assert next(event.people for event in events if event.kind == "passage") == 1
        assert await read_history(database.dsn, "demo", []) == []
        assert await find_ticket(database.dsn, "demo", [("card", hash_id("card", "nobody's"))]) is None


async def test_books_that_are_away_say_so() -> None:
    with pytest.raises(CasesUnreadable):
        await read_cases(Dsn(host="/nowhere", port=1, user="u", database="d"), "demo", state="all", limit=1)
