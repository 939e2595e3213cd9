"""The lanes of `make test`: what counts as a failure, and what is said at the end."""

from __future__ import annotations

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
    return lanes.pytest_lane("a lane", [*options, str(test)], limit_s, env=ENV)


def test_passes_and_failures_are_counted_from_pytests_report(tmp_path: Path) -> None:
    source = "def test_a(): pass\ndef test_b(): pass\ndef test_c(): assert False\n"
    outcome = pytest_lane(tmp_path, source)
    assert not outcome.ok
    assert outcome.counts == lanes.Counts(passed=2, failed=1)
    assert outcome.summary.startswith("1 failed, 2 passed in ")


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
    started = time.monotonic()
    outcome = pytest_lane(tmp_path, source, limit_s=12.0)  # pytest takes seconds to start on a busy machine
    assert not outcome.ok
    assert "ran out of time" in outcome.summary
    assert time.monotonic() - started < 90
    child = Path("/proc") / (tmp_path / "pid").read_text(encoding="utf-8")
    deadline = time.monotonic() + 10
    while child.exists() and "zombie" not in (child / "status").read_text(encoding="utf-8"):
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
