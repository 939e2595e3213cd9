"""The lanes of `make test`: what counts as a failure, and what is said at the end."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from pathlib import Path

import lanes
import pytest

ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def pytest_lane(tmp_path: Path, source: str, limit_s: float = 60.0) -> lanes.Outcome:
    test = tmp_path / "test_it.py"
    test.write_text(source, encoding="utf-8")
    options = ["-p", "no:cacheprovider", f"--rootdir={tmp_path}", "-c", os.devnull]
    return lanes.pytest_lane("a lane", [*options, "--", str(test)], limit_s, env=ENV)


@pytest.fixture
def rooted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names of tests are given from the root, where pytest is started."""
    monkeypatch.setattr(lanes, "ROOT", tmp_path)
    return tmp_path


def failing(times: int, marks: str = "") -> str:
    """A file with one test that passes and one that fails so many times."""
    return (
        "import pathlib, pytest\n"
        "def test_good(): pass\n"
        f"{marks}\n"
        "@pytest.mark.parametrize('word', ['at - the gate'])\n"
        "def test_it(word):\n"
        "    runs = pathlib.Path(__file__).with_suffix('.runs')\n"
        "    seen = len(runs.read_text()) if runs.exists() else 0\n"
        "    runs.write_text('x' * (seen + 1))\n"
        f"    assert seen >= {times}\n"
    )


def test_passes_and_failures_are_counted_from_pytests_report(tmp_path: Path) -> None:
    source = "def test_a(): pass\ndef test_b(): pass\ndef test_c(): assert False\n"
    outcome = pytest_lane(tmp_path, source)
    assert not outcome.ok
    assert outcome.counts == lanes.Counts(passed=2, failed=1)
    assert outcome.summary.startswith("1 failed, 2 passed in ")


@pytest.mark.slow
def test_a_test_that_failed_once_and_passes_alone_is_unsteady_and_named(
    rooted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = pytest_lane(rooted, failing(1))
    assert outcome.ok
    assert outcome.counts == lanes.Counts(passed=1, unsteady=1)
    name = "test_it.py::test_it[at - the gate]"
    assert outcome.unsteady == (name,)
    capsys.readouterr()
    lanes.show([outcome], 1.0)
    printed = capsys.readouterr().out
    assert f"UNSTEADY, to be mended: {name} failed once" in printed
    assert printed.splitlines()[-1] == "1 passed, 0 failed, 1 unsteady"
    assert (rooted / "test_it.runs").read_text(encoding="utf-8") == "xxxx"


@pytest.mark.slow
def test_a_test_that_fails_again_is_a_failure(rooted: Path) -> None:
    outcome = pytest_lane(rooted, failing(2))
    assert (outcome.ok, outcome.counts, outcome.unsteady) == (False, lanes.Counts(passed=1, failed=1), ())


@pytest.mark.slow
def test_a_test_that_looks_for_a_rare_fault_gets_no_second_chance(rooted: Path) -> None:
    outcome = pytest_lane(rooted, failing(1, "@pytest.mark.once"))
    assert (outcome.ok, outcome.counts, outcome.unsteady) == (False, lanes.Counts(passed=1, failed=1), ())


def test_more_failures_than_chances_are_failures(rooted: Path) -> None:
    source = failing(1) + "".join(f"def test_{n}(): assert False\n" for n in range(lanes.UNSTEADY_MAX))
    outcome = pytest_lane(rooted, source)
    assert (outcome.ok, outcome.unsteady) == (False, ())
    assert outcome.counts.failed == lanes.UNSTEADY_MAX + 1
    assert (rooted / "test_it.runs").read_text(encoding="utf-8") == "x"


def test_a_skipped_test_fails_the_lane(tmp_path: Path) -> None:
    outcome = pytest_lane(tmp_path, "import pytest\ndef test_a(): pytest.skip('no device')\n")
    assert not outcome.ok
    assert outcome.counts.skipped == 1
    assert "has to fail, not to be skipped" in outcome.summary


def test_an_expected_failure_does_not(tmp_path: Path) -> None:
    outcome = pytest_lane(tmp_path, "import pytest\n@pytest.mark.xfail\ndef test_a(): assert False\n")
    assert outcome.ok
    assert outcome.counts == lanes.Counts(passed=1)


def test_a_lane_without_a_test_fails(tmp_path: Path) -> None:
    outcome = pytest_lane(tmp_path, "")
    assert (outcome.ok, outcome.summary) == (False, "no test was found")


def test_a_pytest_that_dies_fails_the_lane(tmp_path: Path) -> None:
    outcome = pytest_lane(tmp_path, "import os\ndef test_a(): os._exit(3)\n")
    assert not outcome.ok
    assert "ended without a summary, exit code 3" in outcome.summary


def test_a_lane_that_does_not_end_is_stopped_with_its_children(tmp_path: Path) -> None:
    source = (
        "import subprocess, time, pathlib\ndef test_a():\n"
        f"    child = subprocess.Popen(['sleep', '600'])\n"
        f"    pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n    time.sleep(600)\n"
    )
    for limit_s in (12.0, 60.0):  # the longer one where pytest itself takes so long to start
        outcome = pytest_lane(tmp_path, source, limit_s=limit_s)
        assert not outcome.ok
        assert "ran out of time" in outcome.summary
        assert outcome.seconds < limit_s + 60
        if (tmp_path / "pid").exists():
            break
    child = Path("/proc") / (tmp_path / "pid").read_text(encoding="utf-8")
    deadline = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # gone between two looks
        while "zombie" not in (child / "status").read_text(encoding="utf-8"):
            assert time.monotonic() < deadline, "the child of the stopped lane is still there"
            time.sleep(0.05)


def test_slow_tests_are_grouped_by_what_lies_below_tests() -> None:
    collected = ["tests/storage/test_a.py::test_x", "tests/storage/nng/test_b.py::test_y[1]", "tests/test_c.py::test_z"]
    assert lanes.slow_folders([*collected, "", "3/900 tests collected"]) == ["tests/storage", "tests/test_c.py"]


def test_the_last_line_is_the_sum_and_the_lanes_stand_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    lanes.show(
        [
            lanes.Outcome("ruff", False, 0.5, lanes.Counts(), "exit code 1"),
            lanes.Outcome("quick tests", True, 61.2, lanes.Counts(passed=40), "40 passed in 61.00s (0:01:01)"),
            lanes.Outcome("slow: storage", False, 9.0, lanes.Counts(5, 2), "2 failed, 5 passed in 9.00s"),
        ],
        70.7,
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "45 passed, 2 failed"
    assert re.search(r"ruff +FAILED +0\.5 +exit code 1", "\n".join(printed))
    assert re.search(r"quick tests +ok +61\.2 +40 passed in 61\.00s", "\n".join(printed))
    assert re.search(r"total +FAILED +70\.7", "\n".join(printed))


def test_a_tools_exit_code_is_the_lanes(tmp_path: Path) -> None:
    good = lanes.tool_lane("good", [sys.executable, "-c", ""], 30.0, env=ENV)
    bad = lanes.tool_lane("bad", [sys.executable, "-c", "raise SystemExit(2)"], 30.0, env=ENV)
    assert (good.ok, bad.ok, bad.summary) == (True, False, "exit code 2")
