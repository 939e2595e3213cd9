"""The console's pages in Chromium against the real server: what people press, and what the devices then really do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, SiteRig, site_rig
from paifang.users import add_first_user, load_users, users_path
from protocols import console as c
from protocols.messages import Direction

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(200)]

STEPS = Path(__file__).with_name("pages_steps.py")
STEPS_S = 150.0  # of a browser on a machine that does much else
PAGES_S = 240.0  # eleven pages in two looks and two sizes, each examined by axe
LANE_S = 15.0
ORDERS = """select action, subject, reason, user_name from audit_log
             where action in ('lane.open', 'lane.set_mode', 'mode.start')"""


async def in_browser(
    name: str, rig: SiteRig, do: Callable[[str], Awaitable[object]], within_s: float = STEPS_S
) -> None:
    """Run the steps `name` in Chromium; what they ask the site to do is done by `do`."""
    url = f"http://127.0.0.1:{rig.site.http.port}/"
    with trio.fail_after(within_s):
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


async def tailgated(rig: SiteRig) -> None:
    """Two people close behind each other on the right of one."""
    lane = rig.lane("s1")
    scanned = await lane.scan((await rig.sell()).code, LANE_S, cause="test")
    assert scanned.opened
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: lane.walk(0.6, ticket=None, visitor="first"))
        await trio.sleep(0.2)
        nursery.start_soon(lambda: lane.walk(0.6, ticket=None, visitor="second"))
    lane.done(scanned, 1)


async def nothing(what: str) -> None:
    raise AssertionError(what)


async def test_wrong_passwords_lock_a_user_out_for_a_while_and_nobody_else(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:
        await in_browser("locked_out", rig, nothing)


async def test_the_first_log_in_is_for_a_password_of_ones_own_and_nothing_else(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1, start=False) as rig:
        users_path(rig.data).unlink()
        first = add_first_user(rig.data)
        await rig.start()

        async def do(what: str) -> str:
            assert what == "one-time password"
            return first

        await in_browser("first_login", rig, do)
        assert first not in users_path(rig.data).read_text()
        assert not load_users(rig.data)["admin"].must_change


@pytest.mark.timeout(PAGES_S + 40)
async def test_every_page_of_the_real_site_is_drawn_whole_and_axe_finds_no_serious_fault(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=2, linked=1) as rig:
        ticket = await rig.sell()
        assert await rig.admit("s1", ticket.code)
        await rig.settled()
        assert not await rig.admit("g1", ticket.code)
        await tailgated(rig)
        with trio.fail_after(LANE_S * 2):
            while not await rig.value("select count(*) from cases"):
                await trio.sleep(0.1)
        rig.lane("s2").board.line.unplug()
        await in_browser("every_page", rig, nothing, PAGES_S)


async def test_each_command_of_the_page_is_what_the_lanes_board_really_does(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:
        barrier = rig.lane("s1").barrier

        async def do(what: str) -> Any:
            if what.startswith("walk"):
                passed = 0
                for _ in range(int(what.removeprefix("walk "))):
                    assert await barrier.wait_turn(Direction.ENTRY, LANE_S)
                    passed += await barrier.walk(Direction.ENTRY, 0.2, ticket=None, visitor="staff") is not None
                return passed
            return await rig.admit("s1", (await rig.sell()).code, patience_s=3.0)

        await in_browser("every_command", rig, do)
        with trio.move_on_after(LANE_S):  # they are written behind the answer
            while len(log := await rig.rows(ORDERS)) < 8:
                await trio.sleep(0.1)
        assert len(log) == 8, log
        assert {(row["reason"], row["user_name"]) for row in log} == {("rehearsal", "manager")}


async def test_a_refusal_is_explained_by_its_way_its_checks_and_its_tickets_history(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        ticket = await rig.sell()

        async def do(what: str) -> Any:
            if what == "code":
                return ticket.code
            if what == "ticket":
                return ticket.ticket
            if what == "close g1":
                order = c.SetMode(lane="g1", mode="closed", reason="test")
                await rig.ask("manager", "lane.set_mode", order, c.Done)
                return True
            await rig.settled()  # a ticket that is just being used is refused for that
            return await rig.admit(what.removeprefix("admit "), ticket.code)

        await in_browser("a_refusal", rig, do)


async def test_a_case_that_a_lane_opened_is_worked_to_its_end(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:

        async def do(what: str) -> bool:
            await tailgated(rig)
            return True

        await in_browser("a_case", rig, do)
        assert await rig.value("select count(*) from cases where state = 'closed'") == 1


async def test_an_evacuation_with_a_silent_lane_is_ended_by_two_people_lane_by_lane(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=2) as rig:

        async def do(what: str) -> bool:
            if what == "unplug s2":
                rig.lane("s2").board.line.unplug()
                return True
            if what == "plug s2":
                rig.lane("s2").board.line.plug()
                return True
            if what == "released":
                return all(lane.released for lane in rig.devices.lanes.values())
            return all([await lane.settled(LANE_S) for lane in rig.devices.lanes.values()])

        await in_browser("a_silent_lane", rig, do)
        kinds = {row["kind"] for row in await rig.rows("select kind from incident_notes")}
        assert "triggered" in kinds


async def test_a_restart_under_an_open_page_is_shown_at_once_and_over_by_itself(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:

        async def do(what: str) -> Any:
            if what == "kill":
                rig.kill()
            elif what == "start":
                await rig.start()
            else:
                return await rig.admit("s1", (await rig.sell()).code, patience_s=LANE_S)
            return None

        await in_browser("a_restart", rig, do)
