"""A running site takes over changed devices: by signal and by command, the others untouched, a wrong file refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from admin_ws.client import ConsoleRefused
from core.testing import patient_time_with_processes
from drivers.testing import PtyLine
from paifang.testing import PASSWORD, SiteRig, site_rig, until
from protocols.console import DeviceView, Reloaded, ReloadSite

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = [pytest.mark.slow]
WITHIN_S = 30.0


async def devices(rig: SiteRig) -> dict[str, DeviceView]:
    return {view.device: view for view in (await rig.snapshot()).devices}


def lines(rig: SiteRig, event: str) -> list[dict[str, Any]]:
    """What the server logged of one kind."""
    found = []
    for line in (rig.folder / "server.err").read_text(encoding="utf-8").splitlines():
        if line.startswith("{") and (said := json.loads(line)).get("event") == event:
            found.append(said)
    return found


def change(rig: SiteRig, *pairs: tuple[str, str]) -> None:
    text = rig.site_path.read_text(encoding="utf-8")
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    rig.site_path.write_text(text, encoding="utf-8")


async def reload_command(rig: SiteRig, user: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """`paifang reload`, as a person calls it."""
    program = [sys.executable, "-m", "paifang", "reload", "--site", str(rig.site_path), "--user", user, *options]
    with trio.fail_after(WITHIN_S):
        return await trio.run_process(
            program, capture_stdout=True, capture_stderr=True, check=False,
            env={**os.environ, "PAIFANG_PASSWORD": PASSWORD}, cwd=Path(__file__).parents[2],
        )  # fmt: skip


async def test_a_new_scanner_is_taken_over_while_everybody_else_goes_on(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=2, linked=1) as rig:
        ticket, other = await rig.sell(), await rig.sell()
        assert await rig.admit("s2", other.code)
        before = await devices(rig)
        spare = PtyLine(rig.data / "dev" / "spare")  # the new scanner, in another port
        try:
            change(rig, ('path = "dev/s1-qr"', 'path = "dev/spare", baud = 115200'))
            assert rig.server is not None
            rig.server.send_signal(signal.SIGHUP)
            await until(lambda: bool(lines(rig, "site.reload")), "the reload is logged", WITHIN_S)
            [done] = lines(rig, "site.reload")
            assert (done["by"], done["subject"], done["what"], done["state"]) == (
                "SIGHUP", "reader/s1/1", "changed", "applied",
            )  # fmt: skip

            def ups() -> int:
                return sum(line["device"] == "reader/s1/1" for line in lines(rig, "device.up"))

            await until(lambda: ups() >= 2, "the new reader is up", WITHIN_S)
            await spare.write(ticket.code.encode() + b"\r")
            await rig.shows(
                lambda site: any(lane.lane == "s1" and lane.last_code == "ok" for lane in site.lanes),
                "the new scanner opens its lane",
                WITHIN_S,
            )
            after = await devices(rig)
            for name in ("gate/s1", "gate/s2", "reader/s2/1"):
                assert after[name].reconnects == before[name].reconnects, name
                assert after[name].availability == "available"
                assert after[name].since == pytest.approx(before[name].since, abs=2.0), name
                downs = [line for line in lines(rig, "device.down") if line["device"] == name]
                assert downs == [], name
            assert rig.devices.lanes["s2"].board is not None
        finally:
            spare.hang_up()


async def test_the_command_says_what_it_did_and_only_the_system_manager_may(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:
        change(rig, ('id = "window"', 'id = "window-a"'), ('name = "Park"', 'name = "Garden"'))
        refused = await reload_command(rig, "operator")
        assert refused.returncode == 1
        assert b"not permitted" in refused.stderr
        assert "window" in await devices(rig)
        dry = await reload_command(rig, "technician", "--dry-run")
        assert b"would be done" in dry.stdout
        assert "window" in await devices(rig)
        done = await reload_command(rig, "technician")
        said = done.stdout.decode()
        assert done.returncode == 0, done.stderr.decode()
        assert "added    printer/window-a: 127.0.0.1:" in said
        assert "removed  printer/window: 127.0.0.1:" in said
        assert 'changed  zones park: name: "Park" → "Garden"  [at the next start of the server]' in said
        await rig.shows(
            lambda site: {"window-a"} == {view.device for view in site.devices if view.kind == "printer"},
            "the page shows the new printer and no longer the old one",
            WITHIN_S,
        )
        sold = await rig.sell(printer="window-a")  # and it prints
        assert sold.code
        with pytest.raises(ConsoleRefused) as unknown:
            await rig.sell(printer="window")
        assert "window" in str(unknown.value)
        again = await reload_command(rig, "technician", "--json")
        assert [c["subject"] for c in json.loads(again.stdout)["changes"]] == ["zones park"]


async def test_a_wrong_file_is_refused_whole_with_its_lines(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:
        change(rig, ('path = "dev/s1-qr"', 'path = "dev/other", baud = 9601'), ('id = "window"', 'id = "window-a"'))
        assert rig.server is not None
        rig.server.send_signal(signal.SIGHUP)
        await until(lambda: bool(lines(rig, "site.reload.refused")), "the refusal is logged", WITHIN_S)
        assert "9601 is not a usual line speed" in lines(rig, "site.reload.refused")[0]["reason"]
        with pytest.raises(ConsoleRefused, match="9601"):
            await rig.ask("technician", "site.reload", ReloadSite(), Reloaded)
        views = await devices(rig)
        assert "window" in views
        assert views["reader/s1/1"].availability == "available"
        ticket = await rig.sell()
        assert await rig.admit("s1", ticket.code)


async def test_the_newcomers_path_of_the_guide_leads_to_a_first_scan_in_five_commands_or_fewer(tmp_path: Path) -> None:
    """The commands are read from docs/commissioning.md and typed as they stand there."""
    guide = (Path(__file__).parents[2] / "docs" / "commissioning.md").read_text(encoding="utf-8")
    section = guide.split("## A new scanner, from the box to its first scan", 1)[1].split("\n## ", 1)[0]
    commands = section.split("```sh\n", 1)[1].split("```", 1)[0].strip().splitlines()
    table = section.split("```toml\n", 1)[1].split("```", 1)[0]
    assert 1 <= len(commands) <= 5
    async with site_rig(tmp_path, serial=1) as rig:
        spare = PtyLine(rig.data / "dev" / "spare")
        ticket = await rig.sell()

        async def typed(command: str) -> str:
            words = command.replace("/dev/serial/by-id/usb-scanner", spare.path)
            program, *arguments = words.replace("site.toml", str(rig.site_path)).split()
            assert program == "paifang"
            if arguments[0] == "devices":
                arguments += ["--data", str(rig.data)]
            with trio.fail_after(WITHIN_S):
                done = await trio.run_process(
                    [sys.executable, "-m", "paifang", *arguments],
                    capture_stdout=True, capture_stderr=True, check=False,
                    env={**os.environ, "PAIFANG_PASSWORD": PASSWORD}, cwd=Path(__file__).parents[2],
                )  # fmt: skip
            assert done.returncode == 0, (command, done.stdout.decode(), done.stderr.decode())
            return done.stdout.decode()

        async def scan_until_read(scope: trio.CancelScope) -> None:
            with scope:
                while True:
                    await trio.sleep(0.5)
                    await spare.write(b"HELLO\r")

        try:
            for command in commands:
                if " check " in command:  # after the step in which the site file is written
                    line = next(line.strip() for line in table.splitlines() if line.strip().startswith("readers"))
                    wanted = line.replace("/dev/serial/by-id/usb-scanner", spare.path)
                    change(rig, ('readers = [{ path = "dev/s1-qr" }]', wanted))
                async with trio.open_nursery() as nursery:
                    scanning = trio.CancelScope()
                    nursery.start_soon(scan_until_read, scanning)
                    said = await typed(command)
                    scanning.cancel()
                if " test " in command:
                    assert "good: read a code" in said
            await until(
                lambda: sum(line["device"] == "reader/s1/1" for line in lines(rig, "device.up")) >= 2,
                "the server has the new scanner",
                WITHIN_S,
            )
            await spare.write(ticket.code.encode() + b"\r")
            await rig.shows(
                lambda site: any(lane.lane == "s1" and lane.last_code == "ok" for lane in site.lanes),
                "the first scan opens the lane",
                WITHIN_S,
            )
        finally:
            spare.hang_up()
