"""Modes on a real server with a real board: a direct check holds the gate free, and each ends in its time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import trio

from actors._mode_book import read, write
from admin_ws.client import ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, SiteRig, site_rig
from protocols.console import Done, SetMode, StopZoneFor
from protocols.modes import EndMode, ListModes, Modes, ModeView, StartMode

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0


async def running(rig: SiteRig) -> list[ModeView]:
    return (await rig.ask("operator", "mode.list", ListModes(), Modes)).modes


async def begin(rig: SiteRig, kind: str, subject: str) -> ModeView:
    order = StartMode(kind=kind, subject=subject, reason="crowd")
    return await rig.ask("operator", "mode.start", order, ModeView)


async def test_a_direct_check_holds_the_gate_free_counts_everybody_and_ends(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:
        view = await begin(rig, "direct_check", "s1")
        assert view.in_force
        await rig.shows(lambda state: state.lanes[0].barrier == "open", "the gate is open", PATIENCE_S)
        for _ in range(3):
            await rig.lane("s1").walk(0.2, ticket=None, visitor="test")
        await rig.shows(lambda state: state.lanes[0].entries == 3, "three are counted", PATIENCE_S)
        rows = await rig.rows("select distinct kind from passages")
        assert [row["kind"] for row in rows] == ["free"]
        await rig.ask("operator", "mode.end", EndMode(mode=view.mode, reason="quiet"), Done)
        await rig.shows(
            lambda state: state.lanes[0].barrier == "closed" and state.lanes[0].state == "idle", "closed", PATIENCE_S
        )
        ticket = await rig.sell()
        assert await rig.admit("s1", ticket.code)
        await rig.settled()
        assert (await rig.audit()).broken == []


async def test_modes_end_in_their_time_with_a_server_and_without_one(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:
        await begin(rig, "closed", "s1")
        await rig.ask("operator", "lane.set_mode", SetMode(lane="s1", mode="maintenance", reason="oil"), Done)
        await rig.ask("operator", "zone.stop", StopZoneFor(zone="park", what="sale", minutes=5, reason="storm"), Done)
        await rig.shows(lambda state: state.lanes[0].mode == "maintenance", "maintenance")
        assert {each.kind for each in await running(rig)} == {"closed", "maintenance", "stop_sale"}
        rig.kill()
        book = rig.data / "modes.json"
        now = time.time()
        ends = {"closed": now + 6.0, "maintenance": now - 1.0}  # one is over while nothing runs, one soon after
        kept = read(book)
        write(
            book,
            msgspec.structs.replace(
                kept,
                running=[msgspec.structs.replace(each, until=ends.get(each.kind, each.until)) for each in kept.running],
            ),
        )
        await rig.start()
        await rig.shows(lambda state: state.lanes[0].mode == "bidirectional", "its own mode again", PATIENCE_S)
        with trio.fail_after(PATIENCE_S):
            while [each.kind for each in await running(rig)] != ["stop_sale"]:
                await trio.sleep(0.1)
        with trio.fail_after(PATIENCE_S):
            while await rig.value("select count(*) from audit_log where action = 'mode.end'") != 2:
                await trio.sleep(0.1)


async def test_the_command_line_begins_shows_and_ends_a_mode_and_says_what_cannot_be(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:

        program = [
            sys.executable, "-m", "paifang", "modes", "--site", str(rig.site_path), "--user", "operator",
        ]  # fmt: skip

        async def command(*arguments: str) -> tuple[int, str]:
            done = await trio.run_process(
                [*program, *arguments],
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
                env={**os.environ, "PAIFANG_PASSWORD": PASSWORD},
            )
            return done.returncode, done.stdout.decode()

        code, text = await command()
        assert code == 0
        assert "nothing runs" in text
        assert "direct_check" in text
        code, text = await command("--start", "closed", "--of", "s1", "--minutes", "5", "--reason", "repair")
        assert code == 0, text
        assert "closed of s1 until" in text
        (mode,) = await running(rig)
        code, text = await command("--start", "closed", "--of", "s9", "--reason", "x")
        assert code != 0
        assert "unknown_subject" in text
        code, text = await command("--end", str(mode.mode), "--reason", "done")
        assert code == 0, text
        assert await running(rig) == []
        with pytest.raises(ConsoleRefused) as refused:
            await rig.ask("cashier", "mode.start", StartMode(kind="closed", subject="s1", reason="x"), ModeView)
        assert refused.value.code == "forbidden"
