"""What `make setup` does again and what it does not: stamps, groups, mirrors, the console's build."""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bootstrap
import fetch_uv
import pytest


class Recorder:
    """Stands where `bootstrap.run` does: notes the commands, and makes what uv would have made."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.commands: list[list[str]] = []
        self.envs: list[dict[str, str]] = []

    def __call__(self, command: list[str], *, doing: str, env: dict[str, str], cwd: Path = Path()) -> None:
        self.commands.append(command)
        self.envs.append(env)
        if "venv" in command or "sync" in command:
            (self.venv / "bin").mkdir(parents=True, exist_ok=True)
            (self.venv / "bin" / "python").write_text("#!/bin/sh\n", encoding="utf-8")
            (self.venv / "bin" / "python").chmod(0o755)
        for argument in command:
            if argument.startswith("--output-file="):
                Path(argument.split("=", 1)[1]).write_text("", encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with nothing set up; no index is configured, uv is there."""
    for name in ("pyproject.toml", "uv.lock"):
        (tmp_path / name).write_text('source = { registry = "https://index.example/simple" }\n', encoding="utf-8")
    (tmp_path / "pin").write_text("uv==1.2.3", encoding="utf-8")
    (tmp_path / ".tools").mkdir()
    for name, value in {"ROOT": tmp_path, "TOOLS": tmp_path / ".tools", "VENV": tmp_path / ".venv"}.items():
        monkeypatch.setattr(bootstrap, name, value)
    monkeypatch.setattr(bootstrap, "CONSOLE", tmp_path / "admin_ws" / "console")
    monkeypatch.setattr(bootstrap, "STATIC", tmp_path / "admin_ws" / "static")
    monkeypatch.setattr(fetch_uv, "PIN", tmp_path / "pin")
    monkeypatch.setattr(fetch_uv, "ensure_uv", lambda tools, say: tools / "uv")
    monkeypatch.setattr(fetch_uv, "configured_index", lambda env: None)
    return tmp_path


@pytest.fixture
def ran(project: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(project / ".venv")
    monkeypatch.setattr(bootstrap, "run", recorder)
    return recorder


def test_the_first_setup_makes_the_environment_with_the_systems_python_only(project: Path, ran: Recorder) -> None:
    bootstrap.set_up_environment(["--group=build"])
    make, sync = ran.commands
    assert make[1] == "venv"
    assert f"--python={bootstrap.base_python()}" in make
    assert sync[1:] == ["sync", "--locked", "--inexact", "--group=build"]
    assert all(env["UV_PYTHON_PREFERENCE"] == "only-system" for env in ran.envs)
    assert all(env["UV_PYTHON_DOWNLOADS"] == "never" for env in ran.envs)


def test_the_second_setup_does_nothing(project: Path, ran: Recorder) -> None:
    bootstrap.set_up_environment(["--group=build"])
    ran.commands.clear()
    bootstrap.set_up_environment(["--group=build"])
    assert ran.commands == []


def test_run_after_test_keeps_what_the_tests_need(project: Path, ran: Recorder) -> None:
    bootstrap.set_up_environment(["--group=build", "--group=test"])
    ran.commands.clear()
    bootstrap.set_up_environment(["--group=build"])
    assert ran.commands == []
    (project / "uv.lock").write_text("changed", encoding="utf-8")
    bootstrap.set_up_environment(["--group=build"])
    assert ran.commands[-1][2:] == ["--locked", "--inexact", "--group=build"]


@pytest.mark.parametrize("change", ["uv.lock", "pyproject.toml", "pin"])
def test_a_changed_input_sets_up_again_and_keeps_the_python(change: str, project: Path, ran: Recorder) -> None:
    bootstrap.set_up_environment(["--group=build"])
    ran.commands.clear()
    (project / change).write_text('source = { registry = "https://index.example/simple" } #', encoding="utf-8")
    bootstrap.set_up_environment(["--group=build"])
    assert [command[1] for command in ran.commands] == ["sync"]


def test_an_environment_whose_python_is_gone_is_made_anew(project: Path, ran: Recorder) -> None:
    bootstrap.set_up_environment(["--group=build"])
    ran.commands.clear()
    (project / ".venv" / "bin" / "python").unlink()
    bootstrap.set_up_environment(["--group=build"])
    assert [command[1] for command in ran.commands] == ["venv", "sync"]


def test_a_setup_that_failed_is_done_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise bootstrap.SetupError("the line was cut")

    monkeypatch.setattr(bootstrap, "run", fail)
    for _ in range(2):
        with pytest.raises(bootstrap.SetupError):
            bootstrap.set_up_environment(["--group=build"])


def test_a_mirror_gets_the_locks_versions_and_hashes(
    project: Path, ran: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch_uv, "configured_index", lambda env: "https://me:hush@mirror.example/simple")
    bootstrap.set_up_environment(["--group=build"])
    _, export, install, itself = ran.commands
    assert {"export", "--frozen", "--group=build"} <= {*export}
    assert "--require-hashes" in install
    assert any(argument.startswith("--editable=") for argument in itself)
    assert ran.envs[2]["UV_DEFAULT_INDEX"] == "https://me:hush@mirror.example/simple"
    assert "hush" not in "".join(str(command) for command in ran.commands) + capsys.readouterr().out
    assert not list((project / ".tools").glob("requirements*"))


def test_the_locks_own_index_with_a_slash_is_no_mirror(
    project: Path, ran: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_uv, "configured_index", lambda env: "https://index.example/simple/")
    bootstrap.set_up_environment(["--group=build"])
    assert ran.commands[-1][1] == "sync"


def test_the_machines_certificates_are_used_unless_it_names_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS"):
        monkeypatch.delenv(name, raising=False)
    assert bootstrap.environment()["UV_SYSTEM_CERTS"] == "true"
    monkeypatch.setenv("SSL_CERT_FILE", "/somewhere.pem")
    assert "UV_SYSTEM_CERTS" not in bootstrap.environment()
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    assert "VIRTUAL_ENV" not in bootstrap.environment()


# --- the console --------------------------------------------------------------------------------------------------


@pytest.fixture
def console(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of a page, and an npm that notes what it is asked for and leaves what the real one leaves."""
    folder = project / "admin_ws" / "console"
    (folder / "src").mkdir(parents=True)
    for name in ("package.json", "package-lock.json", "src/main.ts"):
        (folder / name).write_text("{}", encoding="utf-8")
    npm = project / "npm"
    npm.write_text(
        'echo "$1" >> ../../asked\n'
        '[ "$1" = ci ] && mkdir -p node_modules/x && touch node_modules/x/y\n'
        '[ "$1" = run ] && [ ! -e broken ] && mkdir -p ../static && touch ../static/index.html\n'
        "[ ! -e broken ]\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(bootstrap, "node", lambda: ({**os.environ}, ["sh", str(npm)]))
    return folder


def asked(project: Path) -> list[str]:
    path = project / "asked"
    found = path.read_text(encoding="utf-8").split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_the_page_is_built_once_and_again_when_a_source_changed(project: Path, console: Path) -> None:
    bootstrap.build_console()
    assert asked(project) == ["ci", "run"]
    bootstrap.build_console()
    assert asked(project) == []
    (console / "src" / "main.ts").write_text("changed", encoding="utf-8")
    bootstrap.build_console()
    assert asked(project) == ["run"]
    (console / "package-lock.json").write_text("changed", encoding="utf-8")
    bootstrap.build_console()
    assert asked(project) == ["ci", "run"]


def test_what_npm_puts_into_node_modules_is_no_source(project: Path, console: Path) -> None:
    bootstrap.build_console()
    asked(project)
    (console / "node_modules" / "x" / "z").write_text("cache", encoding="utf-8")
    bootstrap.build_console()
    assert asked(project) == []


def test_a_page_that_does_not_build_is_an_error_each_time(project: Path, console: Path) -> None:
    (console / "broken").touch()
    for _ in range(2):
        with pytest.raises(bootstrap.SetupError, match="exit code 1"):
            bootstrap.build_console()


# --- running commands ---------------------------------------------------------------------------------------------


def test_a_long_step_is_heard_of_and_a_stuck_one_is_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(bootstrap, "STEP_LIMIT_S", 35.0)
    looked_at_s = itertools.count(0, 10)  # ten seconds go by between two looks, however long the machine takes for them
    monkeypatch.setattr(bootstrap, "time", SimpleNamespace(monotonic=looked_at_s.__next__))
    started = time.monotonic()
    with pytest.raises(bootstrap.SetupError, match="sleeping: no end after 40 s"):
        bootstrap.run(["sleep", "600"], doing="sleeping", env=dict(os.environ), cwd=tmp_path)
    assert time.monotonic() - started < 60
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("[setup] sleeping (")] == [
        f"[setup] sleeping ({seconds} s so far)" for seconds in (10, 20, 30)
    ]


def test_the_command_line_says_why_it_failed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(tools: Path, say: fetch_uv.Say) -> Path:
        raise fetch_uv.FetchError("no index answers")

    monkeypatch.setattr(fetch_uv, "ensure_uv", refuse)
    assert bootstrap.main(["run"]) == 1
    assert "[setup] failed: no index answers" in capsys.readouterr().err


def test_an_old_python_is_told_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 12, "final", 0))
    assert bootstrap.main(["run"]) == 1
    assert "Python 3.11 or later is needed" in capsys.readouterr().err
