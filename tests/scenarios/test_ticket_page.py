"""A ticket on a visitor's phone: link and short code from the window, the page in Chromium, a real server and lane."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from admin_ws.client import ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, SiteRig, site_rig
from protocols.console import ExplainScan, Explanation, GetWallet, Wallet
from protocols.shortcode import grouped, parse_short

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

STEPS = Path(__file__).with_name("ticket_steps.py")
STEPS_S = 240.0
LATER_S = 120.0
LINKS = 5  # made at once


async def wallet(rig: SiteRig, ticket: int, user: str = "cashier") -> Wallet:
    return await rig.ask(user, "ticket.wallet", GetWallet(ticket=ticket), Wallet)


async def sold_links(rig: SiteRig) -> list[str]:
    """Links to some tickets that were just sold."""
    tickets = (await rig.sell_all("adult", LINKS)).tickets
    async with rig.console("cashier") as client:
        return [(await client.call("ticket.wallet", GetWallet(ticket=each.ticket), Wallet)).link for each in tickets]


async def steps(rig: SiteRig, *names: str) -> None:
    """Run steps in Chromium, one browser each, a fresh one; they ask for links, scans and what would be later."""

    links: list[str] = []

    async def do(what: str) -> str:
        command, _, text = what.partition(" ")
        if command == "link":
            if not links:
                links.extend(await sold_links(rig))
            return json.dumps(links.pop())
        if command == "password":
            return PASSWORD
        if command == "later":
            asked = ExplainScan(code=text, lane="s1", at=time.time() + LATER_S)
            return (await rig.ask("operator", "site.explain", asked, Explanation)).code
        assert command == "scan", what
        return str(await rig.admit("s1", text))

    with trio.fail_after(STEPS_S):
        process = await trio.lowlevel.open_process(
            [sys.executable, str(STEPS), f"http://127.0.0.1:{rig.site.http.port}/", *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        async with process.stdin, process.stdout:
            said = ""
            async for chunk in process.stdout:
                said += chunk.decode()
                while "\n" in said:
                    line, _, said = said.partition("\n")
                    if line.startswith("do "):
                        await process.stdin.send_all(f"{await do(line[3:])}\n".encode())
        assert await process.wait() == 0, "a step failed; see what it printed above"


async def test_the_live_code_opens_the_gate_an_old_one_does_not_and_the_short_one_does(tmp_path: Path) -> None:
    """And a cashier shows it at the window, where a phone reads it."""
    async with site_rig(tmp_path, serial=1) as rig:
        await steps(rig, "gate", "window")
        await rig.settled()
        assert (await rig.audit()).broken == []


async def test_it_works_without_a_signal_with_a_wrong_clock_and_as_the_server_does(tmp_path: Path) -> None:
    """Offline; a phone that is five minutes off; the same codes as Python's at any time; every look is accessible."""
    async with site_rig(tmp_path, serial=1) as rig:
        await steps(rig, "offline", "clock", "vectors", "looks")


async def test_the_command_line_hands_out_what_the_window_does_booked_once_and_written_down(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=1) as rig:
        ticket = (await rig.sell()).ticket
        told = await wallet(rig, ticket)
        assert parse_short(told.short) == told.short and told.link.startswith("/ticket#1.")
        done = await trio.run_process(
            [sys.executable, "-m", "paifang", "ticket", str(ticket), "--site", str(rig.site_path), "--user", "manager"],
            capture_stdout=True,
            check=True,
            env={**os.environ, "PAIFANG_PASSWORD": PASSWORD},
        )
        said = done.stdout.decode()
        assert f"http://127.0.0.1:{rig.site.http.port}{told.link}" in said and grouped(told.short) in said
        booked = await rig.rows("select ticket from credentials where kind = 'short'")
        assert [row["ticket"] for row in booked] == [ticket]
        written = await rig.rows("select user_name, subject from audit_log where action = 'ticket.wallet' order by seq")
        assert [(row["user_name"], row["subject"]) for row in written] == [
            ("cashier", f"ticket={ticket}"), ("manager", f"ticket={ticket}"),
        ]  # fmt: skip
        dump = b"".join((rig.folder / name).read_bytes() for name in ("server.out", "server.err")).decode()
        assert told.short not in dump and told.link.partition("#")[2] not in dump
        for user, number in (("operator", ticket), ("cashier", ticket + 99_999)):
            with pytest.raises(ConsoleRefused):
                await wallet(rig, number, user)
        assert (await rig.audit()).broken == []
