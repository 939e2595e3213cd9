"""A coverage-guided fuzzer (atheris) looks for what nobody thought of, for a minute."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HARNESS = Path(__file__).parent / "harness.py"
ROOT = Path(__file__).parents[2]
SECONDS = 60  # for all codecs together
SPARE_S = 120  # to start, and for a busy machine
RUNS_MIN = 2_000  # fewer would mean that something hangs; an idle machine makes a hundred thousand


def fuzz(corpus: Path, seconds: int, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HARNESS), str(corpus), str(seconds), *options],
        capture_output=True, text=True, errors="replace", timeout=seconds + SPARE_S, check=False, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_a_minute_of_coverage_guided_fuzzing_finds_nothing(tmp_path: Path) -> None:
    done = fuzz(tmp_path, SECONDS)
    faults = [line for line in done.stderr.splitlines() if line.startswith("FAULT")]
    assert done.returncode == 0, "\n".join([*faults, done.stderr[-3000:]])
    assert not list(tmp_path.glob("fault-*"))
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    found = re.search(r"stat::new_units_added:\s*(\d+)", done.stderr)
    assert runs is not None
    assert found is not None
    assert int(runs[1]) >= RUNS_MIN
    assert int(found[1]) >= 100  # it did learn its way into the codecs
    assert re.search(r"\d+ seeds, \d+ codecs", done.stdout)


def test_the_fuzzer_finds_a_fault_that_was_planted(tmp_path: Path) -> None:
    done = fuzz(tmp_path, SECONDS, "planted")
    assert done.returncode != 0
    assert "FAULT in planted: aa55" in done.stderr
    assert "KeyError" in done.stdout + done.stderr
