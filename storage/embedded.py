"""The embedded PostgreSQL: the programs of a wheel, started, watched and stopped by our own launcher.

    async with embedded(Path("data"), progress=print) as server:
        ledger = Ledger(setup, server.dsn, ...)

What it promises:

* The cluster has data checksums, UTF-8 and the built-in C.UTF-8 locale, so that no change of the system's locales can
  break an index.
* Nobody else gets in: no TCP, a Unix socket in a folder of mode 0700, itself of mode 0700, and `peer` authentication
  that maps only the account of this process. There is no password that could leak.
* Started by root, PostgreSQL runs as an unprivileged account (see `_account`) and gets its two folders as open
  descriptors (`/proc/self/fd/N`), so no parent folder is opened to anybody.
* One server per folder (a lock), no orphan: PostgreSQL gets SIGINT when this process dies in whatever way, and what an
  earlier process left running is shut down before a new one starts.
* Starting waits as long as crash recovery takes, and says how it goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from storage._account import Account, AccountError, installed_programs, programs_for, service_account
from storage._files import USER as USER
from storage._files import configure, environment, open_folder, sync_folder, write_atomically
from storage._processes import POLL_S, processes_in, send
from storage.connection import DEFAULT_PORT, Dsn

DATABASE = "paifang"
SOCKET_PATH_LIMIT = 107  # bytes of a Unix socket's path that the kernel takes
ENDING = (  # what is sent, and how many seconds it is waited for
    (signal.SIGINT, 20.0),  # sessions are cut, a checkpoint is written
    (signal.SIGQUIT, 5.0),  # at once; the next start recovers
    (signal.SIGKILL, 5.0),
)
INITDB_LIMIT_S = 180.0
PROGRESS_EVERY_S = 1.0
LOG_LIMIT_BYTES = 4 << 20  # then the log is turned over to pg.log.1
LOG_TAIL_BYTES = 2000
RESTART_BACKOFF_S = (0.2, 10.0)  # first and longest pause before a dead PostgreSQL is started again
LAUNCHER = Path(__file__).with_name("_exec_as.py")

Progress = Callable[[str], None]


class EmbeddedError(Exception):
    """The embedded PostgreSQL did not do what it should; the text says what to do about it."""


class FolderBusy(EmbeddedError):
    """Another server already uses this data folder."""


class Embedded:
    """One PostgreSQL cluster under `data_dir`: `pg/`, `run/`, `pg.log`, `pg.lock`.

    Args:
        data_dir: made with mode 0700 if absent.
        progress: told in plain words what is being waited for.
        settings: PostgreSQL settings for this start, over the configuration (`{"shared_buffers": "256MB"}`).
    """

    def __init__(
        self, data_dir: Path, *, progress: Progress | None = None, settings: dict[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.cluster = self.data_dir / "pg"
        self.log = self.data_dir / "pg.log"
        self._progress = progress or (lambda _: None)
        self._settings = settings or {}
        self._lock = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_dir = self.data_dir / "run"
        self._short_dir: Path | None = None
        self._wanted = False  # between start and stop

    @property
    def dsn(self) -> Dsn:
        """How to reach it. Valid while it runs."""
        return Dsn(host=str(self._socket_dir), user=USER, database=DATABASE)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the cluster if it is missing, and wait until it accepts connections, however long recovery takes.

        Call it from the main thread: the kernel ties PostgreSQL's life to the thread that starts it.

        Raises:
            FolderBusy: another server uses the folder.
            EmbeddedError: with the end of PostgreSQL's own log.
        """
        if self.pid is not None:
            return
        try:
            await self._start()
        except (AccountError, OSError) as exc:
            await self.stop()
            raise EmbeddedError(str(exc)) from exc
        except BaseException:
            await self.stop()
            raise
        self._wanted = True

    async def _start(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        account = service_account(self.cluster)
        programs = programs_for(account)
        await self._end_orphans()
        if not (self.cluster / "PG_VERSION").exists():
            await self._initialise(account, programs)
        self._check_version(programs)
        self._make_socket_dir(account)
        configure(self.cluster, account)
        self._turn_log()
        with contextlib.ExitStack() as stack:
            cluster, socket_dir = (open_folder(stack, path) for path in (self.cluster, self._socket_dir))
            arguments = ["-D", f"/proc/self/fd/{cluster}", "-k", f"/proc/self/fd/{socket_dir}"]
            for name, value in ({"unix_socket_permissions": "0700"} | self._settings).items():
                arguments += ["-c", f"{name}={value}"]
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, log)
            # Not trio.run_process: that starts the child from a worker thread, and PostgreSQL would be told to stop
            # when the idle worker ends ten seconds later.
            self._process = subprocess.Popen(  # noqa: ASYNC220
                self._as_account(account, signal.SIGINT, programs / "postgres", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(cluster, socket_dir),
                cwd="/",
                env=environment(),
                start_new_session=True,  # Ctrl-C on our terminal is our business
            )
        await self._wait_ready()

    async def stop(self) -> None:
        """Shut down in order: fast, then immediate, then killed. Bounded; safe to call at any time, also twice."""
        self._wanted = False
        with trio.CancelScope(shield=True):
            if self._process is not None:
                await self._end(self._process.pid)
                self._process = None
            if self._short_dir is not None:
                shutil.rmtree(self._short_dir, ignore_errors=True)
                self._short_dir = None
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    async def keep(self) -> None:
        """Start PostgreSQL again whenever it dies, with growing pauses. Runs until cancelled; run it beside `start`."""
        first, longest = RESTART_BACKOFF_S
        pause = first
        while True:
            await trio.sleep(pause)
            if not self._wanted or self.pid is not None:
                pause = first
                continue
            self._progress("PostgreSQL has ended; starting it again")
            self._process = None
            try:
                await self._start()
            except (EmbeddedError, AccountError, OSError) as exc:
                self._progress(f"PostgreSQL does not start: {exc}")
                pause = min(pause * 2, longest)

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would (for tests): its sessions notice and end themselves."""
        if self._process is not None:
            self._process.kill()

    def suspend(self) -> None:
        """SIGSTOP every process of the cluster (for tests): it hangs, and is not down."""
        for pid in processes_in(self.cluster):
            send(pid, self.cluster, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT every process of the cluster."""
        for pid in processes_in(self.cluster):
            send(pid, self.cluster, signal.SIGCONT)

    # -- steps of starting ----------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        if self._lock >= 0:
            return
        path = self.data_dir / "pg.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise FolderBusy(f"another server (process {holder}) uses the data folder {self.data_dir}") from exc
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    async def _end_orphans(self) -> None:
        """End whatever an earlier server left running: we hold the lock, so nobody uses it."""
        left = processes_in(self.cluster)
        if not left:
            return
        self._progress(f"an earlier PostgreSQL (process {left[0]}) still runs here; shutting it down")
        await self._end(self._postmaster() or left[0])
        if processes_in(self.cluster):
            raise EmbeddedError(f"processes {processes_in(self.cluster)} in {self.cluster} do not end; kill them")

    async def _end(self, postmaster: int) -> None:
        for number, limit_s in ENDING:
            if number is not signal.SIGINT:
                self._progress(f"PostgreSQL does not end in time; sending {number.name}")
            for pid in [postmaster] if number is signal.SIGINT else processes_in(self.cluster):
                send(pid, self.cluster, number)
            self.resume()  # a stopped process reads no signals
            if self._process is not None:  # may be so young that it has not found the folder yet
                self._process.send_signal(number)
                self._process.send_signal(signal.SIGCONT)
            with trio.move_on_after(limit_s):
                while self.pid is not None or processes_in(self.cluster):  # noqa: ASYNC110 - no event tells of it
                    await trio.sleep(POLL_S)
                return

    def _postmaster(self) -> int | None:
        try:
            return int((self.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    async def _initialise(self, account: Account, programs: Path) -> None:
        """Make the cluster beside its place and rename it: a half-made one is never taken for a whole one."""
        self._progress("making a new database cluster")
        if self.cluster.exists():
            try:
                self.cluster.rmdir()  # only if empty: we delete no data of which we know nothing
            except OSError as exc:
                raise EmbeddedError(f"{self.cluster} is no database cluster and not empty; move it away") from exc
        fresh = self.data_dir / "pg.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(fresh, account.uid, account.gid)
        with contextlib.ExitStack() as stack:
            folder = open_folder(stack, fresh)
            where = ["-D", f"/proc/self/fd/{folder}"]
            await self._run(
                self._as_account(
                    account,
                    None,
                    programs / "initdb",
                    *where,
                    f"--username={USER}",
                    "--data-checksums",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--locale=C.UTF-8",
                    "--auth=peer",
                    "--no-instructions",
                ),
                folder,
            )
            single = self._as_account(account, None, programs / "postgres", "--single", "-j", *where, "template1")
            await self._run(single, folder, f"CREATE DATABASE {DATABASE};\n\n")
        fresh.rename(self.cluster)
        sync_folder(self.data_dir)

    async def _run(self, command: list[str], folder: int, text: str = "") -> None:
        with trio.move_on_after(INITDB_LIMIT_S):
            result = await trio.run_process(
                command,
                stdin=text.encode(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                pass_fds=(folder,),
                cwd="/",
                env=environment(),
            )
            if result.returncode != 0 or b"ERROR:" in result.stderr:
                raise EmbeddedError(f"{Path(command[8]).name}: {result.stderr.decode(errors='replace').strip()}")
            return
        raise EmbeddedError(f"{Path(command[8]).name} took longer than {INITDB_LIMIT_S:g} s")

    def _check_version(self, programs: Path) -> None:
        made_by = (self.cluster / "PG_VERSION").read_text().strip()
        words = [str(programs / "postgres"), "--version"]
        reply = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10)
        ours = reply.stdout.split()[-1]
        if ours.split(".")[0] != made_by:
            raise EmbeddedError(
                f"{self.cluster} was made by PostgreSQL {made_by}, and this is {ours}: take a backup with the version "
                "of Paifang that made it and restore it into a new data folder"
            )

    def _make_socket_dir(self, account: Account) -> None:
        """`run/`, or a fresh short folder when the path would be longer than a socket's name may be."""
        chosen = self.data_dir / "run"
        name = f".s.PGSQL.{DEFAULT_PORT}"
        if len(os.fsencode(chosen / name)) > SOCKET_PATH_LIMIT:
            if self._short_dir is None:
                self._short_dir = Path(tempfile.mkdtemp(prefix="paifang-", dir="/tmp"))
            chosen = self._short_dir
            self._progress(f"{self.data_dir} is too long a path for a socket; the socket is in {chosen}")
        else:
            chosen.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(chosen, account.uid, account.gid, follow_symlinks=False)
        chosen.chmod(0o700)
        self._socket_dir = chosen
        write_atomically(self.data_dir / "pg.socket", f"{chosen}\n", 0o600, None)

    def _turn_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT_BYTES:
                self.log.replace(self.log.with_name("pg.log.1"))

    def _as_account(
        self, account: Account, parent_death: signal.Signals | None, program: Path, *arguments: str
    ) -> list[str]:
        """The command that runs a program as the account."""
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
        tied = [str(os.getpid()), str(int(parent_death or 0))]
        return [*launcher, str(account.uid), str(account.gid), *tied, str(program), *arguments]

    async def _wait_ready(self) -> None:
        assert self._process is not None
        started = last_told = trio.current_time()
        while True:
            lines = self._pid_file()
            if len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                return
            if self._process.poll() is not None:
                raise EmbeddedError(f"PostgreSQL does not start; the end of {self.log} says:\n{self._log_tail()}")
            now = trio.current_time()
            if now - last_told >= PROGRESS_EVERY_S:
                last_told = now
                said = self._log_tail().rpartition("\n")[2]
                self._progress(f"PostgreSQL is starting ({now - started:.0f} s): {said}")
            await trio.sleep(POLL_S)

    def _pid_file(self) -> list[str]:
        try:
            return (self.cluster / "postmaster.pid").read_text().split("\n")
        except OSError:
            return []

    def _log_tail(self) -> str:
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()


@asynccontextmanager
async def embedded(
    data_dir: Path, *, progress: Progress | None = None, settings: dict[str, str] | None = None
) -> AsyncIterator[Embedded]:
    """The embedded PostgreSQL of a data folder for the length of a block. Raises what `Embedded.start` raises."""
    server = Embedded(data_dir, progress=progress, settings=settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def shared(data_dir: Path, *, progress: Progress | None = None) -> AsyncIterator[Dsn]:
    """The database of a data folder: that of the running server if there is one, otherwise started for this block."""
    server = Embedded(data_dir, progress=progress)
    try:
        await server.start()
    except FolderBusy:
        yield _running(data_dir)
        return
    try:
        yield server.dsn
    finally:
        await server.stop()


def _running(data_dir: Path) -> Dsn:
    try:
        socket_dir = (data_dir.absolute() / "pg.socket").read_text().strip()
    except OSError as exc:
        raise EmbeddedError(f"the server that uses {data_dir} has not started its PostgreSQL yet") from exc
    return Dsn(host=socket_dir, user=USER, database=DATABASE)


def program(name: str) -> Path:
    """A program of the wheel (`pg_dump`, `psql`, `pgbench`), to be run as ourselves. Raises EmbeddedError."""
    try:
        path = installed_programs() / name
    except AccountError as exc:
        raise EmbeddedError(str(exc)) from exc
    if not path.exists():
        raise EmbeddedError(f"the installed PostgreSQL has no program {name}")
    return path
