"""The console page in Chromium against the real server with real wires: log in, see a lane turn, evacuate, sell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, SiteRig, site_rig, until

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.browser

STEPS = Path(__file__).with_name("browser_steps.py")
STEPS_S = 90.0


async def in_browser(name: str, rig: SiteRig, do: Callable[[str], Awaitable[object]]) -> None:
    """Run the steps `name` in Chromium; what they ask the site to do is done by `do`."""
    url = f"http://127.0.0.1:{rig.site.http.port}/"
    with trio.fail_after(STEPS_S):
        process = await trio.lowlevel.open_process(
            [sys.executable, str(STEPS), name, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        async with process.stdin, process.stdout:
            await process.stdin.send_all(f"{PASSWORD}\n".encode())
            said = ""
            async for chunk in process.stdout:
                said += chunk.decode()
                while "\n" in said:
                    line, _, said = said.partition("\n")
                    if line.startswith("do "):
                        await process.stdin.send_all(f"{await do(line[3:])}\n".encode())
        assert await process.wait() == 0, "the steps failed; see what they printed above"


async def test_log_in_see_a_lane_turn_press_evacuation_see_every_lane_acknowledge(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        ticket = await rig.sell()

        async def do(what: str) -> bool:
            return await rig.admit(what.removeprefix("admit "), ticket.code)

        await in_browser("evacuate", rig, do)
        assert all(lane.released for lane in rig.devices.lanes.values())
        notes = await rig.rows("select kind, user_name from incident_notes order by noted_at limit 1")
        assert [(row["kind"], row["user_name"]) for row in notes] == [("triggered", "operator")]


async def test_a_cashier_sells_and_prints_on_the_page(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:

        async def nothing(what: str) -> None:
            raise AssertionError(what)

        await in_browser("sell", rig, nothing)
        printed = rig.data / "sim" / "printed"
        await until(lambda: printed.exists() and any(printed.iterdir()), "a job came out of the printer")
        assert await rig.value("select count(*) from tickets") == 1
