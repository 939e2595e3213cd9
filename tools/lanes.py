"""Run the checks and tests one lane after another, each with its time, and say at the end what came of them.

    .venv/bin/python tools/lanes.py quick   linters, types, import contracts, the page's build, the quick tests
    .venv/bin/python tools/lanes.py all     and then the slow tests, one lane for each folder below tests/

A lane that fails does not stop the next one: one run tells everything. A skipped test counts as a failure, because a
test that cannot run here has to fail and say why.

Of thousands of tests with real processes, one now and then meets a machine that stood still. Up to three failed tests
of a whole run are therefore run again alone, three times each; one that passes each time is *unsteady*: it does not
turn the run red, is named at the end, and is to be mended. A test marked `once` gets no second chance: it looks for
faults that are rare by nature, such as an acknowledged grant that a crash has lost.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree  # reads only what pytest has just written
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
SETUP = ROOT / "tools" / "bootstrap.py"

QUICK_LIMIT_S = 10 * 60.0
ALL_LIMIT_S = 58 * 60.0  # `make test` promises an hour, and setting up takes its part of it
COLLECT_LIMIT_S = 120.0
STOP_GRACE_S = 5.0
UNSTEADY_MAX = 3  # more failures than that have one cause, and it is not the machine
AGAIN_TIMES = 3
AGAIN_LIMIT_S = 300.0
# two at a time: most tests wait for a device, a socket or a disk; a file's tests stay together and share its cluster
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")
ALONE = ("tests/bench",)  # what measures has the machine for itself
PYTEST_FOUND_FAILURES = 1  # pytest's exit codes: tests failed,
PYTEST_FOUND_NOTHING = 5  # or no test was selected

SUMMARY = re.compile(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+ in [\d.]+s.*?)\s*=*$")


class Counts(NamedTuple):
    """How many tests ended how; expected failures count as passed, because that is what they were expected to do."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    unsteady: int = 0  # failed once, and then passed alone


class Outcome(NamedTuple):
    """What came of a lane."""

    name: str
    ok: bool
    seconds: float
    counts: Counts
    summary: str  # pytest's own last line, or why the lane failed
    unsteady: tuple[str, ...] = ()


def stream(command: list[str], *, env: dict[str, str], limit_s: float) -> tuple[int | None, list[str]]:
    """Run a command, pass on what it prints, and return (exit code, or None when it had to be stopped, and lines)."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                return
            time.sleep(STOP_GRACE_S)

    timer = threading.Timer(max(limit_s, 0.0), stop)
    timer.daemon = True
    timer.start()
    lines: list[str] = []
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip("\n"))
            code = process.wait()
        except BaseException:
            stop()
            raise
        finally:
            timer.cancel()
    return (None if stopped.is_set() else code), lines


def heading(name: str) -> None:
    """Say which lane begins."""
    print(f"\n--- {name} ---", flush=True)


def tool_lane(name: str, command: list[str], limit_s: float, *, env: dict[str, str]) -> Outcome:
    """A lane that is one program with an exit code."""
    heading(name)
    started = time.monotonic()
    code, _ = stream(command, env=env, limit_s=limit_s)
    why = "" if code == 0 else "ran out of time" if code is None else f"exit code {code}"
    return Outcome(name, code == 0, time.monotonic() - started, Counts(), why)


def pytest_lane(
    name: str, selection: list[str], limit_s: float, *, env: dict[str, str], chances: int = UNSTEADY_MAX
) -> Outcome:
    """A lane that is a run of pytest; its counts come from pytest's own report. Up to `chances` tests may be unsteady.

    The options of `selection` that say where the tests are found, and not which, stand before a "--".
    """
    heading(name)
    started = time.monotonic()
    options = selection[: selection.index("--")] if "--" in selection else []
    code, lines, counts, failed = run_pytest([each for each in selection if each != "--"], limit_s, env=env)
    summary = next((found[1] for line in reversed(lines) if (found := SUMMARY.match(line))), "")
    if code is None:
        summary = f"ran out of time after {limit_s:.0f} s"
    elif code == PYTEST_FOUND_NOTHING:
        summary = "no test was found"
    elif not summary:
        summary = f"pytest ended without a summary, exit code {code}"
    unsteady: tuple[str, ...] = ()
    if code == PYTEST_FOUND_FAILURES and 0 < counts.failed <= chances:
        left_s = limit_s - (time.monotonic() - started)
        if pass_alone(failed, options, min(left_s, AGAIN_LIMIT_S), env=env):
            code, unsteady = 0, failed
            counts = counts._replace(failed=0, unsteady=counts.failed)
    if counts.skipped:
        summary += ": a test that cannot run here has to fail, not to be skipped"
    return Outcome(name, code == 0 and not counts.skipped, time.monotonic() - started, counts, summary, unsteady)


class Run(NamedTuple):
    """One run of pytest."""

    code: int | None  # None when it had to be stopped
    lines: list[str]
    counts: Counts
    failed: tuple[str, ...]  # what to give pytest to run these again


def run_pytest(selection: list[str], limit_s: float, *, env: dict[str, str]) -> Run:
    """Run pytest, and read its report."""
    with tempfile.TemporaryDirectory(prefix="paifang-lanes-") as folder:
        report = Path(folder) / "report.xml"
        # of the report's two forms, the older one names the file of each test
        options = ["-q", "--color=no", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        code, lines = stream([str(BIN / "pytest"), *options, *selection], env=env, limit_s=limit_s)
        return Run(code, lines, *counted(report))


def pass_alone(tests: tuple[str, ...], options: list[str], limit_s: float, *, env: dict[str, str]) -> bool:
    """Whether all of these tests pass each time that they are run again."""
    ends = time.monotonic() + limit_s
    for attempt in range(1, AGAIN_TIMES + 1):
        print(f"\nagain, alone, {attempt} of {AGAIN_TIMES}: {', '.join(tests)}", flush=True)
        again = run_pytest([*options, "-m", "not once", *tests], ends - time.monotonic(), env=env)
        if again.code != 0 or again.counts != Counts(passed=len(tests)):
            return False
    return True


def counted(report: Path) -> tuple[Counts, tuple[str, ...]]:
    """Read pytest's JUnit report, and name what failed; zeros when pytest did not live to write it."""
    if not report.exists():
        return Counts(), ()
    passed = skipped = 0
    failed: list[str] = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it just now
        if any(case.find(kind) is not None for kind in ("failure", "error")):
            failed.append(f"{case.get('file')}::{case.get('name')}")  # there are no test classes here
        elif (skip := case.find("skipped")) is not None and skip.get("type") != "pytest.xfail":
            skipped += 1
        else:
            passed += 1
    return Counts(passed, len(failed), skipped), tuple(dict.fromkeys(failed))


def slow_folders(lines: list[str]) -> list[str]:
    """The folders (or files) directly below tests/ that hold slow tests, from what `--collect-only -q` prints."""
    found = {match[1]: None for line in lines if (match := re.match(r"(tests/[^/:]+)(?:/[^:]*)?::", line))}
    return list(found)


def collected_slow(env: dict[str, str]) -> list[str]:
    """Ask pytest which slow tests there are; a collection error is left for the quick lane to report."""
    command = [str(BIN / "pytest"), "-m", "slow", "--collect-only", "-q", "--color=no"]
    result = subprocess.run(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=COLLECT_LIMIT_S, check=False,
    )  # fmt: skip
    return slow_folders(result.stdout.splitlines())


def run_all(*, slow: bool) -> list[Outcome]:
    """Run the lanes; the time that is left bounds each of them."""
    limit_s = ALL_LIMIT_S if slow else QUICK_LIMIT_S
    ends = time.monotonic() + limit_s
    env = {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])}
    env.pop("VIRTUAL_ENV", None)

    def left_s() -> float:
        return ends - time.monotonic()

    outcomes = [
        tool_lane("ruff", [str(BIN / "ruff"), "check"], left_s(), env=env),
        tool_lane("mypy", [str(BIN / "mypy")], left_s(), env=env),
        tool_lane("import contracts", [str(BIN / "lint-imports")], left_s(), env=env),
        tool_lane("console page", [sys.executable, str(SETUP), "console"], left_s(), env=env),
        pytest_lane("quick tests", ["-m", "not slow", *SIDE_BY_SIDE], left_s(), env=env),
    ]
    for folder in collected_slow(env) if slow else []:
        chances = UNSTEADY_MAX - sum(outcome.counts.unsteady for outcome in outcomes)
        name = f"slow: {Path(folder).stem}"
        selection = ["-m", "slow", folder, *(() if folder in ALONE else SIDE_BY_SIDE)]
        outcomes.append(pytest_lane(name, selection, left_s(), env=env, chances=chances))
    return outcomes


def show(outcomes: list[Outcome], seconds: float) -> None:
    """The table of lanes, then pytest's own summaries, then the sum on a line by itself."""
    width = max(len(outcome.name) for outcome in outcomes)
    print(f"\n{'lane':<{width}}  result  seconds")
    for outcome in outcomes:
        print(f"{outcome.name:<{width}}  {'ok' if outcome.ok else 'FAILED':<6}  {outcome.seconds:7.1f}", end="")
        print(f"  {outcome.summary}" if outcome.summary else "")
    print(f"{'total':<{width}}  {'ok' if all(o.ok for o in outcomes) else 'FAILED':<6}  {seconds:7.1f}\n")
    for name in (name for outcome in outcomes for name in outcome.unsteady):
        print(f"UNSTEADY, to be mended: {name} failed once and passed {AGAIN_TIMES} times alone")
    total = Counts(*(sum(column) for column in zip(*(o.counts for o in outcomes), strict=True)))
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    unsteady = f", {total.unsteady} unsteady" if total.unsteady else ""
    print(f"{total.passed} passed, {total.failed} failed{unsteady}{skipped}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """0 when every lane is ok, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("which", choices=["quick", "all"])
    which = parser.parse_args(arguments).which
    started = time.monotonic()
    try:
        outcomes = run_all(slow=which == "all")
    except KeyboardInterrupt:
        return 130
    show(outcomes, time.monotonic() - started)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
