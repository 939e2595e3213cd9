"""Lanes that get no processor for ten seconds, and then a server that gets none: each is told until it answers.

The lanes are those of `paifang sim` in a process of its own: boards on serial lines, and gates with NNG's own library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.check import load
from paifang.keys import KeyRing
from paifang.testing import PASSWORD, USERS, SiteRig, free_ports, site_text, until
from paifang.users import write_users
from protocols.console import Snapshot
from sim.truth import Truth
from storage.testing import fresh_database

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BOARDS, GATES = 2, 12
STARVED_S = 10.0
SERVER_STARVED_S = 3.0
WITHIN_S = 60.0
SLOWLY = "0.0001"  # visitors come so much slower than by the clock: hardly any during the test


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[SiteRig, subprocess.Popen[bytes]]]:
    """A running server, and the process of its lanes."""
    from actors.accounts import User, hash_password

    data, site_path = folder / "data", folder / "site.toml"
    data.mkdir(mode=0o700)
    KeyRing.init(data / "keys")
    hashed = hash_password(PASSWORD)
    write_users(data, {name: User(name=name, role=role, password_hash=hashed) for name, role in USERS.items()})
    async with fresh_database() as database:
        dsn = database.dsn
        url = f"postgresql://{dsn.user}@/{dsn.database}?host={dsn.host}"
        text = site_text(serial=BOARDS, linked=GATES, limit=1000, ports=free_ports(8), database=url)
        site_path.write_text(text, encoding="utf-8")
        words = [sys.executable, "-m", "paifang", "sim", str(site_path), "--data", str(data), "--speed", SLOWLY]
        with Truth(folder / "unused.jsonl") as unused, (folder / "sim.out").open("wb") as out:
            rig = SiteRig(folder, site_path, load(site_path), dsn, None, unused)
            env = os.environ | {"PAIFANG_DEMO_PASSWORD": PASSWORD}
            sim = subprocess.Popen(words, stdout=out, stderr=out, env=env)  # noqa: ASYNC220 - starting is quick
            try:
                await until(lambda: (data / "dev" / "s1-board").exists(), "the simulated boards are there", WITHIN_S)
                await rig.start()
                await rig.lanes_idle(WITHIN_S)
                yield rig, sim
            finally:
                with trio.CancelScope(shield=True):
                    sim.kill()
                    sim.wait(WITHIN_S)
                    await rig.stop()


def all_sensed(state: Snapshot) -> bool:
    lanes = state.evacuation.lanes
    return len(lanes) == BOARDS + GATES and all(lane.sensed_open for lane in lanes)


def barriers(rig: SiteRig) -> dict[str, str]:
    """Where each barrier is, by the simulated world's own account."""
    found = {}
    written = (rig.data / "sim" / "truth.jsonl").read_bytes()
    for line in written[: written.rfind(b"\n") + 1].splitlines():  # the last one may still be under way
        entry = msgspec.json.decode(line)
        if entry["ev"] == "barrier":
            found[entry["lane"]] = entry["state"]
    return found


async def test_lanes_that_were_starved_and_then_meet_a_starved_server_are_all_released_in_the_end(tmp_path):
    async with site(tmp_path) as (rig, sim):
        assert rig.server is not None
        sim.send_signal(signal.SIGSTOP)
        os.kill(rig.server.pid, signal.SIGUSR2)
        await rig.shows(lambda state: state.evacuation.state == "released", "the server has released", WITHIN_S)
        await trio.sleep(STARVED_S)
        shown = await rig.snapshot()
        assert not any(lane.sensed_open for lane in shown.evacuation.lanes), "nobody can have answered"
        rig.suspend()  # the first lane that comes back finds nobody
        sim.send_signal(signal.SIGCONT)
        await trio.sleep(SERVER_STARVED_S)
        rig.resume()
        await rig.shows(all_sensed, "every lane is sensed open", WITHIN_S)
        await until(lambda: set(barriers(rig).values()) == {"released"}, "every barrier has moved", WITHIN_S)
        assert len(barriers(rig)) == BOARDS + GATES
        await trio.sleep(SERVER_STARVED_S)
        await rig.shows(all_sensed, "and none has closed since", WITHIN_S)
        assert set(barriers(rig).values()) == {"released"}
