"""The process that writes the books is killed at any instant, fifty times: what it acknowledged is there, once."""

from __future__ import annotations

import random

import pytest
import trio

from core.testing import patient_time_with_processes
from protocols.messages import Base
from storage.audit import audit
from storage.crowd import Crowd
from storage.crowd_process import LedgerProcess
from storage.interfaces import LedgerUnavailable
from storage.testing import fresh_database

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

KILLS = 10  # in each of five runs
LIFE_S = (0.0, 0.4)  # of a process, from its beginning: connecting and setting up are instants, too
PATIENCE_S = 60.0
LANES = 12


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("seed", range(5))
async def test_whenever_the_ledger_is_killed_what_it_acknowledged_is_there_once(seed: int) -> None:
    chance = random.Random(seed)
    current: LedgerProcess | None = None

    async def ask(op: Base) -> object:
        if current is None:
            raise LedgerUnavailable("between two lives")
        return await current.ask(op)

    crowd = Crowd(ask, lanes=LANES)
    async with fresh_database() as database, trio.open_nursery() as nursery:
        nursery.start_soon(crowd.run)
        coming = await LedgerProcess.start(database.dsn)
        for kill in range(KILLS):
            process, coming = coming, await LedgerProcess.start(database.dsn)
            nursery.start_soon(process.listen)
            await process.begin()
            current = process
            before = crowd.acknowledged
            if kill % 2:  # half of them in the midst of things, half from the beginning on
                with trio.fail_after(PATIENCE_S):
                    while crowd.acknowledged < before + LANES:
                        await trio.sleep(0.01)
            await trio.sleep(chance.uniform(*LIFE_S))
            current = None
            await process.kill()
            report = await audit(database.dsn, "demo")
            assert report.broken in ([], [("site_is_known", "there is no site demo")]), (kill, report.broken)
            assert await crowd.missing(database.dsn) == []
        nursery.start_soon(coming.listen)
        await coming.begin()
        current = coming
        crowd.close()
        with trio.fail_after(PATIENCE_S):
            while not crowd.done:
                await trio.sleep(0.01)
        assert await crowd.missing(database.dsn) == []
        assert len(crowd.ends) == len(crowd.passages) == len(crowd.grants) > LANES
        assert crowd.again > 0
        assert (await audit(database.dsn, "demo")).clean
        current = None
        await coming.kill()
