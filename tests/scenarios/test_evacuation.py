"""Evacuations with real server processes: triggers that need no console, parts of a site, counting out, the hook."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors.evacuation.latch import read_latch
from core.testing import patient_time_with_processes
from drivers.base import Barrier
from paifang.testing import site_rig, until
from protocols.console import CountOut, Done, RearmLane, RestoreRequest, Trigger

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow

WITHIN_S = 20.0
FAULTY = Path(__file__).with_name("faulty_server.py")


async def opened(rig, *lanes):
    names = lanes or tuple(rig.devices.lanes)
    await until(lambda: all(rig.lane(name).released for name in names), f"{names} are open", WITHIN_S)


async def restored(rig):
    for user in ("security1", "security2"):
        await rig.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)


@asynccontextmanager
async def announcing(folder, **options):
    """A site whose hook writes down what it is told, and then hangs."""
    said = folder / "said"
    hook = folder / "announce.sh"
    hook.write_text(f'#!/bin/sh\necho "$PAIFANG_EVENT $PAIFANG_DRILL $PAIFANG_SCOPE" >> {said}\nexec sleep 1000\n')
    hook.chmod(0o755)
    table = f'\n[evacuation]\nannounce = ["{hook}"]\nannounce_timeout_s = 1.0\n'
    async with site_rig(folder, configure=lambda text: text + table, **options) as rig:
        yield rig, said


async def test_a_signal_evacuates_without_any_console_and_the_crowd_is_told_by_a_hook_that_may_hang(tmp_path):
    async with announcing(tmp_path, serial=1, linked=1) as (rig, said):
        os.kill(rig.server.pid, signal.SIGUSR2)
        await opened(rig)
        await until(lambda: said.exists() and said.read_text() == "triggered 0 site\n", "it was announced", WITHIN_S)
        state = await rig.shows(
            lambda state: any(event.code == "announcement_failed" for event in state.feed), "the hook hangs", WITHIN_S
        )
        assert state.evacuation.triggered_by == "signal SIGUSR2"
        await until(lambda: read_latch(rig.data / "evacuation.latch").state == "released", "it is on disk", WITHIN_S)


async def test_a_part_of_the_site_is_released_and_the_other_lanes_go_on_admitting(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=2) as rig:
        code = await rig.sell()
        await rig.ask("security1", "evacuation.trigger", Trigger(reason="test", scope="lane:g1"), Done)
        await opened(rig, "g1")
        assert await rig.admit("g2", code.code)
        assert rig.lane("s1").barrier.sensed is Barrier.CLOSED
        refused = await rig.lane("g1").scan((await rig.sell()).code, 3.0, cause="test")
        assert not refused.opened
        await rig.ask("security1", "evacuation.trigger", Trigger(reason="spread"), Done)
        await opened(rig)
        rig.kill()
        await rig.start()
        await trio.sleep(1.0)
        await opened(rig)
        await restored(rig)
        await rig.ask("security1", "lane.rearm", RearmLane(lane="*"), Done)
        await rig.lanes_idle(30.0)


async def test_who_comes_out_is_counted_by_lanes_and_by_hand_while_the_database_is_stopped(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1, own_database=True) as rig:
        for _ in range(3):
            assert await rig.admit("s1", (await rig.sell()).code)
        await rig.settled()
        await rig.shows(lambda state: state.zones[0].inside == 3, "three are inside")
        await trio.sleep(3.0)  # the evacuation hears of the zones once a second
        rig.cluster.suspend()
        await rig.ask("security1", "evacuation.trigger", Trigger(reason="test"), Done)
        await opened(rig)
        await rig.lane("s1").leave(0.2, "test", 5.0)
        await rig.ask("security1", "evacuation.count", CountOut(place="east fence", people=1), Done)
        state = await rig.shows(
            lambda state: state.evacuation.out == 2, "one by the lane, one by hand", WITHIN_S
        )
        view = state.evacuation
        assert (view.inside_at_start, view.out_by_hand, view.left) == (3, 1, 1)
        rig.cluster.resume()


@pytest.mark.parametrize("clock_s", [-1.7e9, 3.0e9])
async def test_a_clock_that_is_decades_off_keeps_nobody_in(tmp_path, clock_s):
    async with site_rig(tmp_path, serial=1, linked=1, start=False) as rig:
        faults = rig.folder / "faults"
        faults.mkdir()
        rig.program = [str(FAULTY), str(faults)]
        (faults / "clock").write_text(str(clock_s))
        await rig.start()
        os.kill(rig.server.pid, signal.SIGUSR2)
        await opened(rig)
        rig.kill()
        (faults / "clock").write_text("0")
        await rig.start()
        await trio.sleep(1.0)
        await opened(rig)


async def test_the_report_of_an_evacuation_can_be_printed(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        await rig.ask("security1", "evacuation.trigger", Trigger(reason="<smoke>"), Done)
        await opened(rig)
        await restored(rig)
        out = tmp_path / "report.html"
        command = [sys.executable, "-m", "paifang", "evacuation", "report", str(rig.site_path), "--out", str(out)]

        async def reported():
            done = await trio.run_process(
                [*command, "--data", str(rig.data)], capture_stdout=True, capture_stderr=True, check=False
            )
            return done.returncode == 0

        with trio.fail_after(60.0):
            while not (await reported() and "恢复" in out.read_text()):
                await trio.sleep(0.5)
        text = out.read_text()
        assert "&lt;smoke&gt;" in text and "security2" in text and "S1" in text
