"""Lane controllers as processes beside a real server: killed, cut off, hung, released, restarted."""

from __future__ import annotations

import os
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from core.testing import patient_time_with_processes
from drivers.base import Barrier
from drivers.ups_testing import upsd
from paifang.lane_testing import LaneProcess, lane_rig
from paifang.testing import PASSWORD, until
from protocols.console import Done, RearmLane, RestoreRequest, Trigger

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NEIGHBOUR_S = 5.0  # a machine may stand still; how long it really takes, test_neighbour_link measures
KILLS = 25  # of each of two lanes


async def test_with_the_server_gone_a_used_code_is_refused_at_the_neighbour(tmp_path: Path) -> None:
    """Also: losing the server opens nothing, everything is uploaded afterwards, and the audit finds nothing."""
    async with lane_rig(tmp_path, lanes=2) as rig:
        first, second = rig.lanes["c1"], rig.lanes["c2"]
        codes = [(await rig.site.sell()).code for _ in range(4)]
        assert await first.admit(codes[0])
        await rig.listed()
        rig.site.kill()
        for lane in rig.lanes.values():
            await lane.works(mode="offline_edge")
        await trio.sleep(1.0)
        assert {lane.sim.barrier.sensed for lane in rig.lanes.values()} == {Barrier.CLOSED}
        assert not await second.scan(codes[0], patience_s=1.0), "used while the server was there"
        assert await first.admit(codes[1])  # at once: the barrier closes by itself after six seconds
        await trio.sleep(NEIGHBOUR_S)
        assert not await second.scan(codes[1], patience_s=1.0)
        assert await second.admit(codes[2])
        await rig.site.start()
        for lane in rig.lanes.values():
            await lane.works()
            await lane.shows(lambda status: status["waiting_for_upload"] == 0, "has uploaded", 30)
        await rig.site.settled()
        assert await rig.site.value("select count(*) from passages where kind = 'granted'") == 3
        assert not await first.scan(codes[2], patience_s=1.0), "the server knows it now"
        assert await first.admit(codes[3])
        await rig.site.settled()
        assert (await rig.site.audit()).broken == []


async def test_a_lane_that_is_killed_at_any_instant_loses_and_doubles_nobody(tmp_path: Path) -> None:
    """Two lanes, 25 kills each, under traffic; the boards' own counters say who passed."""
    chance = random.Random(5)
    async with lane_rig(tmp_path, lanes=2) as rig:
        sold = await rig.site.sell_all("adult", 200)
        await rig.listed()
        codes = [ticket.code for ticket in sold.tickets]
        walked = dict.fromkeys(rig.lanes, 0)

        async def visitors(lane: LaneProcess) -> None:
            while codes:
                code = codes.pop()
                async with lane.sim.queue:
                    scanned = await lane.sim.scan(code, 2.0, cause="test")
                    if scanned.opened:
                        kind = await lane.sim.walk(chance.uniform(0.05, 0.3), ticket=None, visitor="test")
                        walked[lane.name] += kind is not None
                await trio.sleep(0.05)

        async def killer(lane: LaneProcess) -> None:
            for number in range(KILLS):
                early = number % 5 != 0  # now and then it gets as far as a visitor
                await lane.start(ready=not early)
                await trio.sleep(chance.uniform(0.0, 0.8) if early else chance.uniform(0.3, 1.5))
                lane.kill()

        async with trio.open_nursery() as nursery:
            for lane in rig.lanes.values():
                nursery.start_soon(visitors, lane)
            await until(lambda: sum(walked.values()) > 0, "somebody passed", 30)
            for lane in rig.lanes.values():
                lane.kill()
            async with trio.open_nursery() as kills:
                for lane in rig.lanes.values():
                    kills.start_soon(killer, lane)
            nursery.cancel_scope.cancel()
        for lane in rig.lanes.values():
            await lane.start()
        for lane in rig.lanes.values():
            await lane.works()
            await until(partial(_closed, lane), f"{lane.name} is closed", 20)
            await lane.shows(partial(_counted, lane), "has counted whom the board counted", 30)
            await lane.shows(lambda status: status["waiting_for_upload"] == 0, "has uploaded", 30)
        await rig.site.settled(30)
        rows = await rig.site.rows("select lane, count(*) as n from passages where direction = 'entry' group by lane")
        booked = {row["lane"]: row["n"] for row in rows}
        assert booked == {name: _entries(lane) for name, lane in rig.lanes.items() if _entries(lane)}
        assert sum(walked.values()) > 0, "nobody passed at all"
        assert (await rig.site.audit()).broken == []


def _entries(lane: LaneProcess) -> int:
    """As its board counts."""
    assert lane.sim.board is not None
    return lane.sim.board.entries


def _counted(lane: LaneProcess, status: dict[str, Any]) -> bool:
    return bool(status["entries_today"] == _entries(lane))


def _closed(lane: LaneProcess) -> bool:
    return lane.sim.barrier.sensed is Barrier.CLOSED


async def test_a_server_that_hangs_costs_the_first_visitor_a_second_and_nobody_after(tmp_path: Path) -> None:
    async with lane_rig(tmp_path) as rig:
        lane = rig.lanes["c1"]
        codes = [(await rig.site.sell()).code for _ in range(3)]
        await rig.listed()
        rig.site.suspend()
        try:
            assert await lane.scan(codes[0], patience_s=15.0)
            await lane.sim.walk(0.1, ticket=None, visitor="test")
            await lane.works(mode="offline_edge")
            start = trio.current_time()
            assert await lane.scan(codes[1], patience_s=15.0)
            assert trio.current_time() - start < 10.0
            await lane.sim.walk(0.1, ticket=None, visitor="test")
        finally:
            rig.site.resume()
        await lane.works()
        assert await lane.admit(codes[2])
        await lane.shows(lambda status: status["waiting_for_upload"] == 0, "has uploaded", 30)
        await rig.site.settled(20)
        assert await rig.site.value("select count(*) from passages where kind = 'granted'") == 3
        assert (await rig.site.audit()).broken == []


async def test_a_released_lane_stays_released_over_restarts_of_lane_and_server(tmp_path: Path) -> None:
    async with lane_rig(tmp_path) as rig:
        lane = rig.lanes["c1"]
        await rig.site.ask("security1", "evacuation.trigger", Trigger(reason="test"), Done)
        await until(lambda: lane.sim.released, "the lane is released")
        lane.kill()
        assert lane.sim.released
        await lane.start()
        await lane.shows(lambda status: status["released"] and status["state"] == "released", "released again")
        rig.site.kill()
        assert await lane.stop() == 0
        assert lane.sim.released, "an orderly stop closes nothing"
        await lane.start()
        await lane.shows(lambda status: status["released"] and status["state"] == "released", "released, server gone")
        assert lane.sim.released
        await rig.site.start()
        assert lane.sim.released
        for user in ("security1", "security2"):
            await rig.site.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)
        await lane.shows(lambda status: status["link_up"], "linked")
        assert lane.sim.released, "a restore closes nothing by itself"
        await rig.site.ask("security1", "lane.rearm", RearmLane(lane="c1"), Done)
        await lane.works()
        await until(lambda: lane.sim.barrier.sensed is Barrier.CLOSED, "the lane is closed")
        assert not lane.status()["released"]


async def test_the_lanes_own_fire_contact_opens_it_without_a_server_and_for_good(tmp_path: Path) -> None:
    async with lane_rig(tmp_path) as rig:
        lane = rig.lanes["c1"]
        rig.site.kill()
        await lane.works(mode="offline_edge")
        board = lane.sim.board
        assert board is not None
        board.fire(True)  # type: ignore[union-attr]
        await lane.shows(lambda status: status["released"], "latched")
        board.fire(False)  # type: ignore[union-attr]
        lane.kill()
        await lane.start()
        await lane.shows(lambda status: status["released"] and status["state"] == "released", "released again")
        await until(lambda: lane.sim.released, "held open by the lane", 20)
        assert await lane.sim.leave(0.1, "test", 5.0) is not None


async def test_the_status_command_prints_how_the_journal_is_kept(tmp_path: Path) -> None:
    async with lane_rig(tmp_path) as rig:
        lane = rig.lanes["c1"]
        assert b"synchronous=full journal_mode=wal" in (lane.folder / "lane.out").read_bytes()
        command = [sys.executable, "-m", "paifang", "lane", "status", str(lane.path), "--data", str(lane.data)]
        done = await trio.run_process(command, capture_stdout=True, check=False)
        text = done.stdout.decode()
        assert done.returncode == 0
        assert "journal_mode: wal" in text
        assert "synchronous: full" in text
        assert "mode: online" in text
        assert "running: True" in text
        assert await lane.stop() == 0
        done = await trio.run_process(command, capture_stdout=True, check=False)
        assert b"running: False" in done.stdout




async def test_a_rolling_restart_under_traffic_loses_nobody(tmp_path: Path) -> None:
    """`paifang lanes restart`: one lane after the other, each back before the next goes; its supervisor starts it."""
    async with lane_rig(tmp_path, lanes=2) as rig:
        codes = [ticket.code for ticket in (await rig.site.sell_all("adult", 60)).tickets]
        await rig.listed()
        restarts: list[tuple[str, str]] = []
        passed = 0

        async def supervise(lane: LaneProcess) -> None:
            """What systemd does."""
            while True:
                assert await lane.ended(600) == 0
                restarts.append((lane.name, "ended"))
                await lane.start()
                restarts.append((lane.name, "ready"))

        async def visitors(lane: LaneProcess) -> None:
            nonlocal passed
            while codes:
                passed += await lane.admit(codes.pop(), patience_s=2.0)
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            for lane in rig.lanes.values():
                nursery.start_soon(supervise, lane)
                nursery.start_soon(visitors, lane)
            command = [sys.executable, "-m", "paifang", "lanes", "restart", "--site", str(rig.site.site_path)]
            done = await trio.run_process(
                [*command, "--user", "operator"],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={**os.environ, "PAIFANG_PASSWORD": PASSWORD},
            )
            assert done.returncode == 0, (done.stdout + done.stderr).decode()
            nursery.cancel_scope.cancel()
        assert restarts == [("c1", "ended"), ("c1", "ready"), ("c2", "ended"), ("c2", "ready")]
        for lane in rig.lanes.values():
            await lane.works()
            await lane.shows(lambda status: status["waiting_for_upload"] == 0, "has uploaded", 30)
        await rig.site.settled(30)
        entries = {name: _entries(lane) for name, lane in rig.lanes.items()}
        rows = await rig.site.rows("select lane, count(*) as n from passages where direction = 'entry' group by lane")
        assert {row["lane"]: row["n"] for row in rows} == {name: n for name, n in entries.items() if n}
        assert sum(entries.values()) >= passed > 0
        assert (await rig.site.audit()).broken == []


async def test_a_low_battery_ends_the_lane_in_order_and_closes_nothing(tmp_path: Path) -> None:
    """With NUT's real daemon and its dummy driver."""
    async with upsd(tmp_path) as supply:
        power = f'[power]\nups = "ups"\nport = {supply.port}\npoll_s = 0.5\n'
        async with lane_rig(tmp_path, extra=power) as rig:
            lane = rig.lanes["c1"]
            await lane.shows(lambda status: status["power"] == "mains", "mains", 40)
            supply.say("OB DISCHRG", 60, 1800)
            await lane.shows(lambda status: status["battery_minutes"] == 30.0, "half an hour left", 40)
            lane.sim.board.fire(True)  # type: ignore[union-attr]
            await lane.shows(lambda status: status["released"], "released")
            supply.say("OB LB", 4, 60)
            assert await lane.ended(60) == 3, "for systemd not to start it again"
            assert lane.sim.released
            lane.sim.board.fire(False)  # type: ignore[union-attr]
            await trio.sleep(0.5)
            assert lane.sim.released, "the board is held open by what the lane told it"
            kinds = [row["kind"] for row in await rig.site.rows("select kind from cases")]
            assert "power_battery" in kinds
