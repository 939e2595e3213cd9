"""`paifang demo`: a whole site, end to end, in a folder of its own, and what it came to.

Server, embedded database and simulated site are started as processes, exactly as an operator would start them.  When
they have stopped, `check` computes every figure again from two things only: `sim/truth.jsonl`, written by the
simulated devices, and the tables.  So the figures of a run and those of `--check` on its kept folder are the same.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio

from core.ports import free_ports
from paifang import figures, photographs, promises
from paifang.check import load
from paifang.lag import read_lag
from paifang.rows import LiveDatabase, RowsError, read_live, read_rows, running_dsn
from paifang.site import SiteFile
from sim import truth
from storage.embedded import embedded

SITE = Path(__file__).resolve().parent.parent / "sites" / "demo.toml"
HOST = "127.0.0.1"
PASSWORD_ENVIRONMENT = "PAIFANG_DEMO_PASSWORD"  # noqa: S105 - the name of a variable
READY_S = 180.0  # a new database cluster on a slow disk
AFTERWARDS_S = 240.0  # what a run may take beyond its seconds: set-up, a restart, the last visitors
STOP_S = 40.0
READY_WORD = "READY"
BEGIN_LINE = "simulator: admit"
LINE_BYTES_MAX = 16 * 1024

Say = Callable[[str], None]
Report = dict[str, Any]


class DemoError(Exception):
    """The demo could not run; the text says which part and where its log is."""


def say_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def broken(report: Mapping[str, Any]) -> list[str]:
    """The promises that a report breaks, one sentence each; also told on stderr."""
    found = promises.broken(report)
    for sentence in found:
        say_to_stderr(f"BROKEN: {sentence}")
    return found


async def demo(
    seconds: float,
    seed: int,
    kill_at: float | None = None,
    keep: Path | None = None,
    *,
    site: Path = SITE,
    say: Say = say_to_stderr,
) -> Report:
    """Run everything once and compute the figures.

    Args:
        seconds: length of the run, set-up not counted.
        seed: of the visitors.
        kill_at: the server is SIGKILLed this many seconds into the run, and started again.
        keep: a new or empty folder that keeps truth, database and logs; None uses one that is removed.

    Raises DemoError when a part does not start or does not end.
    """
    folder = _prepare(site, keep)
    copy = folder / "site.toml"
    try:
        with trio.move_on_after(seconds + AFTERWARDS_S) as limit:
            try:
                await _run(copy, folder, seconds, seed, kill_at, say)
            except BaseExceptionGroup as group:
                raise _only(group) from None
        if limit.cancelled_caught:
            raise DemoError(f"the run did not end within {seconds + AFTERWARDS_S:g} s; see {folder}/*.log")
        return await check(folder, say=say)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


async def check(folder: Path, *, say: Say = say_to_stderr) -> Report:
    """The figures of a kept folder, from its truth file and its database. Raises DemoError."""
    from storage.audit import audit

    folder, path = _kept(folder)
    site = load(folder / "site.toml")
    say("computing the figures from truth.jsonl and the database")
    async with embedded(folder, progress=lambda line: say(f"database: {line}")) as server:
        rows = await read_rows(server.dsn, site.site.id)
        settings = await read_live(server.dsn)
        audited = await audit(server.dsn, site.site.id)
    inputs = figures.Inputs(events=list(truth.read(path)), rows=rows, lanes=_lanes(site))
    lost, doubled = figures.acknowledged_lost(inputs), figures.acknowledged_doubled(inputs)
    for line in [*lost, *doubled, *figures.wrong_faces(inputs)]:
        say(f"detail: {line}")
    lag = read_lag(folder / "loop_lag.json").boots
    return {
        "sold": figures.sold(inputs),
        "admitted": figures.admitted(inputs),
        "refused": figures.refused(inputs),
        "same_code": figures.same_code(inputs),
        "double_passages": figures.double_passages(inputs),
        "limit_exceeded": figures.limit_exceeded(inputs),
        "occupancy_error": figures.occupancy_error(inputs),
        "scan_to_open_ms": figures.scan_to_open_ms(inputs),
        "printed": figures.printed(inputs),
        "faces": figures.faces(inputs),
        "evacuation": figures.evacuation(inputs),
        "kills": figures.kills(inputs),
        "in_flight_at_kill": figures.in_flight_at_kill(inputs),
        "acknowledged_lost": len(lost),
        "acknowledged_doubled": len(doubled),
        "audit": {"checked": len(audited.checked), "broken": [f"{name}: {detail}" for name, detail in audited.broken]},
        "loop_lag_ms": {
            "p99": max((boot.p99_ms for boot in lag), default=None),
            "max": max((boot.max_ms for boot in lag), default=None),
        },
        "database": _database(inputs, settings),
    }


def with_free_ports(text: str) -> str:
    """A site file with every TCP port replaced by one that is free now."""
    count = len(re.findall(r"tcp://[^\"]*?:\d+|(?m:^port *= *\d+)", text))
    ports = iter(free_ports(count, HOST))
    text = re.sub(r'(tcp://[^"]*?:)\d+', lambda found: f"{found[1]}{next(ports)}", text)
    return re.sub(r"(?m)^(port *= *)\d+", lambda found: f"{found[1]}{next(ports)}", text)


# --- the processes ------------------------------------------------------------------------------------------------


async def _run(site: Path, folder: Path, seconds: float, seed: int, kill_at: float | None, say: Say) -> None:
    environment = {**os.environ, PASSWORD_ENVIRONMENT: secrets.token_urlsafe(12)}
    photos = await _photographs(say)
    serve = ["serve", str(site), "--data", str(folder), "--demo-users", "--log-level", "warning"]
    simulate = ["sim", str(site), "--data", str(folder), "--seed", str(seed), "--seconds", str(seconds)]
    simulate += ["--script", "demo", *photos]
    async with trio.open_nursery() as nursery:
        programs: list[_Program] = []

        async def start(name: str, arguments: list[str]) -> _Program:
            programs.append(await _start(name, arguments, folder, environment, nursery, say))
            return programs[-1]

        try:
            say("starting the server")
            server = await start("server", serve)
            await server.said(READY_WORD, READY_S)
            sim = await start("sim", simulate)
            if kill_at is not None:
                await sim.said(BEGIN_LINE, READY_S)
                await trio.sleep(kill_at)
                with truth.Truth(folder / "sim" / "truth.jsonl") as writer:
                    writer.phase("kill")
                    server.process.kill()
                    await server.process.wait()
                    say(f"killed the server after {kill_at:g} s; starting it again")
                    server = await start("server", serve)
                    await server.said(READY_WORD, READY_S)
                    writer.phase("restarted")
            await _first_to_end(server, sim)
            if server.process.returncode is not None:
                raise DemoError(f"the server ended by itself with status {server.process.returncode}; see server.log")
            if sim.process.returncode != 0:
                raise DemoError(f"the simulated site ended with status {sim.process.returncode}; see sim.log")
            await _note_database(folder, say)
            say("stopping the server")
        finally:
            with trio.CancelScope(shield=True):  # bounded: STOP_S each, then SIGKILL
                for program in reversed(programs):
                    await program.end()
        nursery.cancel_scope.cancel()


async def _first_to_end(one: _Program, other: _Program) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(program: _Program) -> None:
            await program.process.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)


class _Program:
    """One of our own programs, its lines followed."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.process = process
        self._lines: list[str] = []
        self._news = trio.Event()
        self._over = False

    async def follow(self, say: Say) -> None:
        """Read what it says until it ends."""
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk)[-LINE_BYTES_MAX:].split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")
                self._lines.append(text)
                say(text if self.name == "sim" else f"{self.name}: {text}")
            self._tell()
        self._over = True
        self._tell()

    async def said(self, beginning: str, timeout_s: float) -> None:
        """Wait for a line with this beginning. Raises DemoError."""
        with trio.move_on_after(timeout_s):
            while not any(line.startswith(beginning) for line in self._lines):
                if self._over:
                    raise DemoError(f"{self.name} ended before it said {beginning!r}")
                await self._news.wait()
            return
        raise DemoError(f"{self.name} did not say {beginning!r} within {timeout_s:g} s")

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for whoever does not listen."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with trio.move_on_after(STOP_S):
                await self.process.wait()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


async def _start(
    name: str, arguments: list[str], folder: Path, environment: Mapping[str, str], nursery: trio.Nursery, say: Say
) -> _Program:
    with (folder / f"{name}.log").open("ab") as log:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "paifang", *arguments],
            env=dict(environment),
            stdout=PIPE,
            stderr=log,
            start_new_session=True,
        )
    program = _Program(name, process)
    nursery.start_soon(program.follow, say)
    return program


async def _photographs(say: Say) -> list[str]:
    """Options for the simulated site's photographs. A machine that cannot have them runs the rest."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paifang" / "photographs"
    try:
        await trio.to_thread.run_sync(photographs.ensure, cache, say)
    except photographs.PhotographsError as exc:
        say(f"no photographs, so no cards with faces: {exc}")
        return []
    return ["--photos", str(cache)]


async def _note_database(folder: Path, say: Say) -> None:
    """Ask the running database itself, while the server still runs on it, and write the answer into the truth file."""
    try:
        live = await read_live(running_dsn(folder))
    except RowsError as exc:
        say(f"the running database did not answer: {exc}")
        return
    with truth.Truth(folder / "sim" / "truth.jsonl") as writer:
        writer.database(
            fsync=live.fsync,
            full_page_writes=live.full_page_writes,
            synchronous_commit=live.synchronous_commit,
            commits=live.commits,
        )


# --- small helpers ------------------------------------------------------------------------------------------------


def _prepare(site: Path, keep: Path | None) -> Path:
    """The folder of a run, with a copy of the site file on free ports. Raises DemoError."""
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise DemoError(f"{keep} is not empty: name a new folder, or look at it with --check")
    folder = Path(tempfile.mkdtemp(prefix="paifang-demo-")) if keep is None else keep.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "site.toml").write_text(with_free_ports(site.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def _kept(folder: Path) -> tuple[Path, Path]:
    """A kept folder, absolute, and its truth file. Raises DemoError."""
    folder = folder.absolute()
    path = folder / "sim" / "truth.jsonl"
    if not path.exists():
        raise DemoError(f"{path} is missing: {folder} was not kept by paifang demo")
    return folder, path


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A group of one as the one: nurseries are our own business."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _database(inputs: figures.Inputs, now: LiveDatabase) -> dict[str, str | int]:
    """Settings as the running database had them and as they are now: `on` only when both are. Commits of the run."""
    seen: list[truth.Database] = list(inputs.of(truth.Database))
    report: dict[str, str | int] = {}
    for name in promises.ALWAYS_ON:
        values = [getattr(now, name), *(getattr(event, name) for event in seen)]
        report[name] = next((value for value in values if value != "on"), "on")
    report["commits"] = seen[-1].commits if seen else 0
    return report


def _lanes(site: SiteFile) -> dict[str, figures.LaneZones]:
    return {
        lane.id: figures.LaneZones(from_zone=lane.from_zone, to_zone=lane.to_zone, serial=lane.board is not None)
        for lane in site.lanes
    }
