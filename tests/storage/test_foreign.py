"""A cluster that is not ours: over TCP, with a password, of the wheel's version and of every one installed here."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import trio

from core.ports import free_port
from storage import backup as backup_module
from storage._account import Account, programs_for, service_account
from storage.backup import BackupError, backup, restore
from storage.connection import Dsn, parse_url
from storage.testing import fetch, ledger_running, quick_folder, run_sql

PASSWORD = "p@ss w/ört:" + secrets.token_hex(8)
START_LIMIT_S = 60
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
SITE = (
    '[site]\nid = "demo"\nname = "D"\n[database]\nurl = "{url}"\n[[zones]]\nid = "park"\nname = "P"\n'
    '[[lanes]]\nid = "a"\nname = "A"\nto_zone = "park"\ndevice = "d"\n'
    '[[products]]\nid = "adult"\nname = "A"\nname_en = "A"\nclass = "full"\nprice_cents = 1\nzones = ["park"]\n'
)


class Foreign(NamedTuple):
    """A running cluster, and a folder for the test's own files."""

    url: str
    folder: Path

    def dsn(self, database: str) -> Dsn:
        return parse_url(f"{self.url}/{database}")

    def site(self, database: str) -> str:
        """The path of a site file for one of its databases."""
        path = self.folder / f"{database}.toml"
        path.write_text(SITE.format(url=f"{self.url}/{database}"), encoding="utf-8")
        return str(path)


@pytest.fixture(scope="module", params=[None, *INSTALLED], ids=lambda path: path.parent.name if path else "wheel")
def foreign(request: pytest.FixtureRequest) -> Iterator[Foreign]:
    with quick_folder() as folder:
        account = service_account(folder / "pg")
        programs = request.param or programs_for(account)
        home = folder / "cluster"
        home.mkdir()
        (home / "password").write_text(PASSWORD + "\n", encoding="utf-8")
        if os.geteuid() == 0:
            folder.chmod(0o711)
            for path in (home, home / "password"):
                os.chown(path, account.uid, account.gid)
        port = free_port()
        data = str(home / "data")
        run = _runner(account)
        run(programs / "initdb", "-D", data, "-A", "scram-sha-256", "-U", "gate", f"--pwfile={home / 'password'}")
        options = f"-p {port} -k '' -c listen_addresses=127.0.0.1"
        run(programs / "pg_ctl", "-D", data, "-o", options, "-l", str(home / "log"), "-w", "start")
        try:
            yield Foreign(f"postgresql://gate:{quote(PASSWORD, safe='')}@127.0.0.1:{port}", folder)
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _runner(account: Account) -> Callable[..., None]:
    """PostgreSQL does not run as root."""
    other = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}

    def run(program: Path, *words: str) -> None:
        subprocess.run(
            [str(program), *words], check=True, stdout=subprocess.DEVNULL, timeout=START_LIMIT_S, cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, **other,
        )  # fmt: skip

    return run


async def _paifang(*words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "paifang", *words]
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


async def test_a_site_lives_in_a_foreign_cluster_and_is_audited_saved_and_restored(foreign: Foreign) -> None:
    await run_sql(foreign.dsn("postgres"), "create database one", "create database two")
    async with ledger_running(foreign.dsn("one")) as ledger:
        ticket = (await ledger.sell("adult", 3))[0]
        granted = await ledger.scan(ticket.ticket)
        await ledger.passes(granted)
        await ledger.ends(granted, 1)
    file = str(foreign.folder / "saved")
    for words in (
        ("audit", foreign.site("one")),
        ("backup", file, "--site", foreign.site("one")),
        ("restore", file, "--site", foreign.site("two")),
        ("audit", foreign.site("two")),
    ):
        done = await _paifang(*words)
        assert done.returncode == 0, (words, done.stderr.decode())
        assert PASSWORD.encode() not in done.stdout + done.stderr
    for table in ("passages", "tickets", "redemptions"):
        rows = [await fetch(foreign.dsn(name), f"select t::text from {table} t order by 1") for name in ("one", "two")]
        assert rows[0] == rows[1] != []
    wrong = foreign.url.replace("gate:", "gate:x")
    path = foreign.folder / "wrong.toml"
    path.write_text(SITE.format(url=f"{wrong}/one"), encoding="utf-8")
    done = await _paifang("audit", str(path))
    assert done.returncode == 1
    assert b"password authentication failed" in done.stderr and b"Traceback" not in done.stderr


async def test_a_restore_through_a_script_is_all_or_nothing(
    foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_sql(foreign.dsn("postgres"), "create database three", "create database four")
    async with ledger_running(foreign.dsn("three")) as ledger:
        await ledger.sell("adult", 20)
    file = foreign.folder / "three.backup"
    await backup(foreign.dsn("three"), file)
    monkeypatch.setattr(backup_module, "SETS_TRANSACTION_TIMEOUT", 99)  # as if the cluster were an old one

    await run_sql(foreign.dsn("four"), "create function refuse_change() returns int language sql as 'select 1'")
    with pytest.raises(BackupError, match="already exists"):
        await restore(file, foreign.dsn("four"))
    assert await fetch(foreign.dsn("four"), "select 1 from pg_tables where schemaname = 'public'") == []

    original = backup_module._pass_on

    async def reader_dies(source: trio.abc.ReceiveStream, target: trio.abc.SendStream) -> None:
        await target.send_all(b"create table half_done (x int);\n")
        await source.aclose()

    monkeypatch.setattr(backup_module, "_pass_on", reader_dies)
    await run_sql(foreign.dsn("four"), "drop function refuse_change")
    with pytest.raises(BackupError):
        await restore(file, foreign.dsn("four"))
    assert await fetch(foreign.dsn("four"), "select 1 from pg_tables where schemaname = 'public'") == []

    monkeypatch.setattr(backup_module, "_pass_on", original)
    await restore(file, foreign.dsn("four"))
    assert len(await fetch(foreign.dsn("four"), "select ticket from tickets")) == 20
