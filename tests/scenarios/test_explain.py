"""`paifang explain` against a running site: the verdict that the gate then gives, and nothing done by asking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import trio

from admin_ws.client import ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, SiteRig, site_rig
from protocols.console import Done, ExplainScan, Explanation, GetWallet, SetMode, Wallet
from protocols.rotating import rotating_text
from protocols.wallet import decode_fragment, key_bytes

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow  # real devices and processes: too long for every day

ENTITLED = {"admitted": True, "code": "ok", "pax": 1}


async def explain(
    rig: SiteRig, code: str, *arguments: str, lane: str = "s1", user: str = "operator", stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = await trio.run_process(
        [sys.executable, "-m", "paifang", "explain", code, "--lane", lane, "--site", str(rig.site_path),
         "--user", user, *arguments],
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, "PAIFANG_PASSWORD": PASSWORD, "COLUMNS": "200"},
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def why(rig: SiteRig, code: str, lane: str = "s1", **fields: object) -> Explanation:
    asked = ExplainScan(code=code, lane=lane, **fields)  # type: ignore[arg-type]
    return await rig.ask("operator", "site.explain", asked, Explanation)


async def counts(rig: SiteRig) -> dict[str, int]:
    """Rows of every table; of the audit log those that are not about logging in, which everybody who asks must."""
    tables = await rig.rows("select tablename from pg_tables where schemaname = 'public'")
    found = {row["tablename"]: await rig.value(f'select count(*) from "{row["tablename"]}"') for row in tables}
    logins = await rig.value("select count(*) from audit_log where action like 'session.%' or action like 'login%'")
    return found | {"audit_log": found["audit_log"] - logins}


async def test_it_says_what_the_gate_then_does_and_changes_nothing(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        ticket = await rig.sell()
        tail = ticket.code[-12:]
        before = await counts(rig)
        zones = await rig.rows("select * from zones order by zone")
        fresh = await explain(rig, ticket.code)
        assert fresh.returncode == 0, fresh.stdout + fresh.stderr
        assert fresh.stdout.startswith("ADMITTED") and "capacity" in fresh.stdout
        piped = await explain(rig, "-", "--json", lane="g1", stdin=ticket.code.encode() + b"\n")
        told = json.loads(piped.stdout)
        assert piped.returncode == 0 and ENTITLED.items() <= told.items()
        assert [step["check"] for step in told["steps"]][:3] == ["lane", "signature", "known"]
        assert await counts(rig) == before, "asked twice, and not a row more anywhere"
        assert await rig.rows("select * from zones order by zone") == zones
        assert await rig.admit("s1", ticket.code), "nothing was used up or held by asking"
        await rig.settled()
        after = await counts(rig)
        used = await explain(rig, ticket.code)
        assert used.returncode == 1 and used.stdout.startswith("REFUSED")
        assert "already_used" in used.stdout and "at s1" in used.stdout and "此票不能再用" in used.stdout
        assert await counts(rig) == after
        server = b"".join((rig.folder / name).read_bytes() for name in ("server.out", "server.err"))
        said = "".join(each.stdout + each.stderr for each in (fresh, piped, used)) + server.decode()
        assert tail not in said, "the code is a usable ticket: nobody repeats it"
        assert (await rig.audit()).clean


async def test_another_moment_on_the_sites_clock(tmp_path):
    async with site_rig(tmp_path) as rig:
        zone = ZoneInfo(rig.site.site.timezone)
        day = datetime.now(zone).date() + timedelta(days=2)
        ticket = await rig.sell(visit_date=day.isoformat())
        early = await explain(rig, ticket.code)
        assert early.returncode == 1 and "not_yet_valid" in early.stdout and f"from {day}" in early.stdout
        then = await explain(rig, ticket.code, "--at", f"{day} 14:00")
        assert then.returncode == 0, then.stdout + then.stderr
        assert f"{day} 14:00:00" in then.stdout
        late = await explain(rig, ticket.code, "--at", f"{day + timedelta(days=9)} 14:00")
        assert late.returncode == 1 and "expired" in late.stdout
        wrong = await explain(rig, ticket.code, "--at", "noon")
        assert wrong.returncode == 1 and "is not a time" in wrong.stderr and "Traceback" not in wrong.stderr
        (promise,) = [step for step in (await why(rig, ticket.code)).steps if step.code]
        assert promise.passes_at is not None and promise.passes_at > time.time()
        assert (await why(rig, ticket.code, at=promise.passes_at)).admitted
        assert not (await why(rig, ticket.code, at=promise.passes_at - 1)).admitted


async def test_what_is_forged_or_nobodys_is_refused_at_its_step(tmp_path):
    async with site_rig(tmp_path) as rig:
        ticket = await rig.sell()
        middle = len(ticket.code) // 2
        other = "0" if ticket.code[middle] != "0" else "1"
        forged = await why(rig, ticket.code[:middle] + other + ticket.code[middle + 1 :])
        assert not forged.admitted and forged.code in ("bad_signature", "unknown_code") and forged.ticket is None
        assert [step.check for step in forged.steps] == ["lane", "signature"]
        assert (await why(rig, "https://example.org")).code == "unknown_code"
        assert (await why(rig, "CARD:")).code == "unknown_code"
        card = await why(rig, "CARD:12345678")
        assert (card.code, [step.check for step in card.steps]) == ("unknown_code", ["lane", "known"])


async def test_a_closed_lane_and_a_full_zone_are_among_the_reasons(tmp_path):
    async with site_rig(tmp_path, serial=2, limit=1) as rig:
        first, second = await rig.sell(), await rig.sell()
        assert await rig.admit("s1", first.code)
        await rig.settled()
        full = await why(rig, second.code)
        assert (full.code, full.steps[-1].leave) == ("capacity_hold", 1)
        order = SetMode(lane="s2", mode="closed", reason="test")
        await rig.ask("operator", "lane.set_mode", order, Done)
        await rig.shows(lambda state: any(lane.mode == "closed" for lane in state.lanes), "s2 is closed")
        shut = await why(rig, second.code, lane="s2")
        assert (shut.code, shut.steps[0].verdict, shut.steps[-1].verdict) == ("lane_closed", "refused", "also_refused")
        assert (await why(rig, second.code, lane="s2", at=time.time())).code == "capacity_hold", "of that moment only"


async def test_who_may_ask_and_about_which_lane(tmp_path):
    async with site_rig(tmp_path) as rig:
        ticket = await rig.sell()
        denied = await explain(rig, ticket.code, user="cashier")
        assert denied.returncode == 1 and denied.stdout == "" and len(denied.stderr.splitlines()) == 1
        assert ticket.code[-12:] not in denied.stderr
        nowhere = await explain(rig, ticket.code, lane="s9")
        assert nowhere.returncode == 1 and "no lane s9" in nowhere.stderr
        with pytest.raises(ConsoleRefused) as caught:
            await rig.ask("security1", "site.explain", ExplainScan(code=ticket.code, lane="s1"), Explanation)
        assert ticket.code not in str(caught.value)


async def test_typed_and_live_codes_ids_and_ways_out_as_the_gate_sees_them(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        ticket = await rig.sell()
        wallet = await rig.ask("cashier", "ticket.wallet", GetWallet(ticket=ticket.ticket), Wallet)
        shown = decode_fragment(wallet.link.partition("#")[2])
        live = rotating_text(shown.ticket, key_bytes(shown.key), time.time())
        before = await counts(rig)
        typed = await explain(rig, wallet.short)
        assert typed.returncode == 0, typed.stdout + typed.stderr
        assert (await why(rig, live)).ticket == ticket.ticket
        nobody = await explain(rig, "110105194912310021", "--id", "--stamp", "--product", "adult", "--json")
        assert nobody.returncode == 1 and json.loads(nobody.stdout)["code"] == "unknown_code"
        out = await explain(rig, "anything", "--exit")
        assert out.returncode == 0 and "into outside" in out.stdout
        assert await counts(rig) == before
        order = SetMode(lane="s1", mode="normal_entry", reason="test")
        await rig.ask("operator", "lane.set_mode", order, Done)
        await rig.shows(lambda state: any(lane.mode == "normal_entry" for lane in state.lanes), "s1 lets nobody out")
        closed = await why(rig, wallet.short, way_out=True)
        assert (closed.code, [step.check for step in closed.steps]) == ("lane_closed", ["lane", "known", "way_out"])
        assert await rig.admit("s1", wallet.short), "nothing was used up by asking"
        await rig.settled()
        assert (await why(rig, wallet.short)).code == "already_used"
