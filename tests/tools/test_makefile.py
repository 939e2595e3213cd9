"""The Makefile finds a Python that is new enough, says so when there is none, and CI runs what a person runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND_LIMIT_S = 30


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is the whole PATH; it holds nothing but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def put(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (programs / name).chmod(0o755)


def make(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program
    env = {**os.environ, "PATH": str(programs)}
    for name in ("PYTHON", "MAKEFLAGS", "MAKELEVEL"):
        env.pop(name, None)
    return subprocess.run(
        [program, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )


def test_an_old_python3_is_passed_over_for_a_newer_one(programs: Path) -> None:
    put(programs, "python3", "exit 1  # what the question for 3.11 answers on Python 3.9")
    put(programs, "python3.12", f'exec {sys.executable} "$@"')
    result = make(programs, "--dry-run", "setup")
    assert "python3.12 tools/bootstrap.py run" in result.stdout, result.stderr


def test_without_any_python_it_says_what_is_needed(programs: Path) -> None:
    result = make(programs, "setup")
    assert result.returncode != 0
    assert "Python 3.11 or later is needed and none was found" in result.stderr


def test_ones_own_choice_is_taken(programs: Path) -> None:
    result = make(programs, "--dry-run", "setup", "PYTHON=/opt/python3.14")
    assert "/opt/python3.14 tools/bootstrap.py run" in result.stdout


def test_a_setup_that_fails_starts_nothing(programs: Path) -> None:
    put(programs, "python3", '[ "$1" = -c ]')
    result = make(programs, "run", "ARGS=--help")
    assert result.returncode != 0
    assert "Usage" not in result.stdout


def test_the_continuous_check_is_make_test(programs: Path) -> None:
    put(programs, "make", 'echo "asked for: $*"; exit 7')
    script = ROOT / ".ci" / "run"
    bash = shutil.which("bash")
    assert bash
    result = subprocess.run(
        [bash, str(script)], cwd="/", env={"PATH": f"{programs}{os.pathsep}{os.defpath}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False,
    )  # fmt: skip
    assert result.stdout == "asked for: test\n"
    assert result.returncode == 7, "the exit code is passed on"
    assert os.access(script, os.X_OK)
