"""The clock on the wall is set, and OSDP readers read on: libosdp measures its pauses with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LIMIT_S = 110
JUMPS_S = ("-3600", "-3600", "-3600", "14400", "-2")  # a jump in the middle of a question does no harm: so several

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that sets the clock for one process."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is needed to set the clock for one process: apt-get install gcc"
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(made), str(HERE / "clock.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return made


def lines(clock: Path, folder: Path, *jumps_s: str) -> list[str]:
    env = {**os.environ, "LD_PRELOAD": str(clock), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(HERE / "clock_scenario.py"), str(folder), *jumps_s]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_cards_are_read_after_the_clock_was_set_by_an_hour_or_a_day(clock: Path, tmp_path: Path) -> None:
    shifted, *waits_s, downs = lines(clock, tmp_path, *JUMPS_S)
    assert shifted == "shifted"
    assert len(waits_s) == len(JUMPS_S)
    assert all(wait != "never" and float(wait) < 10.0 for wait in waits_s), waits_s
    assert downs == "downs 0"
