"""The command line against a running site: audit, inspect, users, keys, check; and what a wrong start says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, site_rig
from storage.testing import run_sql

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow  # real devices and processes: too long for every day

SECRET_MARKS = ("PRIVATE", "argon2")


async def paifang(
    *arguments: str, env: dict[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = await trio.run_process(
        [sys.executable, "-m", "paifang", *arguments],
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def test_audit_says_ok_and_exits_0_and_names_what_is_broken_and_exits_1(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        ticket = await rig.sell()
        assert await rig.admit("s1", ticket.code)
        await rig.settled()
        where = (str(rig.site_path), "--data", str(rig.data))
        good = await paifang("audit", *where, "--json")
        assert good.returncode == 0, good.stdout + good.stderr
        report = json.loads(good.stdout)
        assert len(report["checked"]) >= 20 and report["broken"] == []
        as_only_an_intruder_could = "set session_replication_role = replica"
        await run_sql(rig.dsn, as_only_an_intruder_could, "update zones set inside = inside + 1")
        bad = await paifang("audit", *where)
        assert bad.returncode == 1
        assert "BROKEN" in bad.stdout


async def test_inspect_shows_the_live_tree_with_both_branches_and_every_lane(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        done = await paifang(
            "inspect",
            str(rig.site_path),
            "--data",
            str(rig.data),
            "--user",
            "operator",
            "--json",
            env={"PAIFANG_PASSWORD": PASSWORD},
        )
        assert done.returncode == 0, done.stderr
        tree = json.loads(done.stdout)
        safety, business = tree["children"]
        assert (safety["name"], business["name"]) == ("safety", "business")
        assert [child["name"] for child in safety["children"]] == ["evacuation", "link", "devices"]
        lanes = {child["name"]: child for child in safety["children"][2]["children"]}
        assert lanes["lane/s1"]["state"].endswith("idle")
        assert {"lane/g1", "gate/s1", "reader/s1/1", "counter/s1", "printer/window"} <= set(lanes)
        for key in ("depth", "oldest_age_s", "restarts", "last_error", "held", "handled"):
            assert key in lanes["lane/s1"]
        shown = await paifang(
            "inspect", str(rig.site_path), "--user", "operator", env={"PAIFANG_PASSWORD": PASSWORD, "COLUMNS": "160"}
        )
        assert "lane/s1" in shown.stdout


async def test_inspect_with_a_wrong_password_or_without_permission_says_so_in_one_line(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        where = ("inspect", str(rig.site_path), "--user")
        wrong = await paifang(*where, "operator", env={"PAIFANG_PASSWORD": "wrong password"})
        assert wrong.returncode == 1 and "Wrong user or password" in wrong.stderr and "Traceback" not in wrong.stderr
        cashier = await paifang(*where, "cashier", env={"PAIFANG_PASSWORD": PASSWORD})
        assert cashier.returncode == 1 and "permi" in cashier.stderr and "Traceback" not in cashier.stderr


async def test_users_and_keys_are_managed_and_no_secret_is_printed(tmp_path):
    data = ("--data", str(tmp_path / "data"))
    assert (await paifang("keys", "init", *data)).returncode == 0
    again = await paifang("keys", "init", *data)
    assert again.returncode == 1 and "already" in again.stderr
    rotated = await paifang("keys", "rotate", "ticket", *data)
    assert rotated.returncode == 0
    listed = await paifang("keys", "list", *data)
    assert listed.stdout.count("ticket") >= 2
    added = await paifang(
        "users", "add", "anna", "--role", "operator", "--password-stdin", *data, stdin=b"a long password\n"
    )
    assert added.returncode == 0, added.stderr
    users = await paifang("users", "list", *data)
    assert "anna" in users.stdout
    assert (await paifang("users", "remove", "anna", *data)).returncode == 0
    assert (await paifang("users", "remove", "anna", *data)).returncode == 1
    for output in (rotated, listed, users):
        assert not any(mark in output.stdout + output.stderr for mark in SECRET_MARKS)
    assert (tmp_path / "data" / "users.toml").stat().st_mode & 0o777 == 0o600


async def test_check_names_file_key_and_what_is_allowed(tmp_path):
    site = tmp_path / "site.toml"
    site.write_text(
        '[site]\nid = "x"\nname = "X"\n[[zones]]\nid = "park"\nname = "P"\n'
        '[[lanes]]\nid = "a"\nname = "A"\nto_zone = "prak"\ndevice = "d"\n',
        encoding="utf-8",
    )
    done = await paifang("check", str(site))
    assert done.returncode == 1
    assert "site.toml" in done.stdout and "lanes[0].to_zone" in done.stdout and "park" in done.stdout


@pytest.mark.slow
async def test_a_taken_console_port_is_said_with_its_key_and_the_lanes_run_all_the_same(tmp_path):
    async with site_rig(tmp_path, serial=0, linked=1, start=False) as rig:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", rig.site.http.port))
            taken.listen()
            await rig.start()
            said = (tmp_path / "server.out").read_text()
            assert "WARNING: no console" in said and "http.port" in said
            assert await rig.lane("g1").gate.ready(5.0)
        await rig.lanes_idle(30.0)


@pytest.mark.parametrize("command", [("audit",), ("backup", "copy")])
async def test_a_data_folder_without_a_database_is_an_error_and_stays_empty(tmp_path, command):
    name, *rest = command
    file = [str(tmp_path / each) for each in rest]
    done = await paifang(name, *file, "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "no database in this data folder" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_no_demo_kept_is_told_in_one_line(tmp_path):
    done = await paifang("demo", "--check", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "truth.jsonl is missing" in done.stderr
