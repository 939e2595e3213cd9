"""A fresh clone with an empty home folder: `make run` gets to the first admitted visitor with nothing prepared.

What is cloned is the last commit. Caches are empty, so the packages are fetched; the machine's own settings for
its package index and its certificates stay, because a stranger's machine has them too.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.ports import free_port

ROOT = Path(__file__).parents[1]
FIRST_VISITOR_S = 240.0  # from nothing at all
READY_AGAIN_S = 5.0  # when everything is set up
ENDS_S = 60.0
ADMITTED = re.compile(r"was admitted at lane")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone; its example site listens on free ports, because another server may run on this machine."""
    folder = tmp_path_factory.mktemp("fresh") / "paifang"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    site = folder / "sites" / "demo.toml"
    text = site.read_text(encoding="utf-8")
    for port in sorted(set(re.findall(r'(?:127\.0\.0\.1:|port = )(\d+)', text))):
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    site.write_text(text, encoding="utf-8")
    (folder.parent / "home").mkdir()
    return folder


def _strangers_environment(clone: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "XDG_", "PYTEST"))}
    own = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join(part for part in env.get("PATH", os.defpath).split(os.pathsep) if part != own)
    return {**env, "HOME": str(clone.parent / "home")}


class MakeRun:
    """`make run` with its lines and when each came."""

    def __init__(self, clone: Path, arguments: str) -> None:
        self.clone = clone
        self.started = time.monotonic()
        self.lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            ["make", "run", f"ARGS={arguments}"], cwd=clone, env=_strangers_environment(clone),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self.started, line.rstrip()))

    def wait_for(self, pattern: str | re.Pattern[str], limit_s: float) -> float:
        """Seconds after the start at which a line matched."""
        while time.monotonic() - self.started < limit_s:
            over = self.process.poll() is not None and not self.reader.is_alive()
            for at_s, line in list(self.lines):
                if re.search(pattern, line):
                    return at_s
            assert not over, f"make run ended with exit code {self.process.returncode}\n{self.tail()}"
            time.sleep(0.05)
        raise AssertionError(f"no line with {pattern!r} within {limit_s} s\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(f"{at_s:7.1f}  {line}" for at_s, line in self.lines[-30:])

    def end(self) -> int:
        """Ctrl-C for the whole group, as a terminal does it; the exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            return self.process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"make run did not end within {ENDS_S} s of Ctrl-C\n{self.tail()}") from None

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for process in _processes_of(self.clone):
            os.kill(process, signal.SIGKILL)
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def _processes_of(clone: Path) -> list[int]:
    """Processes that were started out of the clone, by their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(clone) in command:
                found.append(int(entry.name))
    return found


@pytest.fixture
def make_run(clone: Path) -> Iterator[Callable[[str], MakeRun]]:
    runs: list[MakeRun] = []

    def start(arguments: str) -> MakeRun:
        runs.append(MakeRun(clone, arguments))
        return runs[-1]

    yield start
    for run in runs:
        run.close()


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_fresh_clone_admits_its_first_visitor_within_four_minutes_and_later_starts_at_once(
    clone: Path, make_run: Callable[[str], MakeRun]
) -> None:
    first = make_run("--seconds 120")
    admitted_s = first.wait_for(ADMITTED, FIRST_VISITOR_S)
    assert any(re.search(r"console +http://127\.0\.0\.1:\d+", line) for _, line in first.lines), first.tail()
    first.end()
    assert _processes_of(clone) == [], "processes are left behind"

    again = make_run("--seconds 60")
    ready_s = again.wait_for(r"^READY ", ENDS_S)
    again.end()
    assert _processes_of(clone) == [], "processes are left behind"
    assert ready_s < READY_AGAIN_S, again.tail()
    assert admitted_s < FIRST_VISITOR_S
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True, timeout=30
    )
    assert status.stdout.splitlines() == [" M sites/demo.toml"], "running it changes nothing that git sees"
