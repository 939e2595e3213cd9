"""Debian packages for the tests: announced with a reason, installed where that is allowed, never silently missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import debian
import pytest


@pytest.fixture
def lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list with one package whose file is missing; returns that file's path."""
    listed = tmp_path / "debian.txt"
    file = tmp_path / "brought"
    listed.write_text(f"# comment\nsome-package | {file} | a reason | with a bar\n", encoding="utf-8")
    monkeypatch.setattr(debian, "LIST", listed)
    monkeypatch.setattr(debian.sysconfig, "get_path", lambda name: str(tmp_path))
    (tmp_path / "Python.h").touch()
    return file


def apt_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put an apt-get of our own first on PATH, and be root; it notes its arguments in the file that is returned."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log"
    (programs / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> {log}\n{script}\n', encoding="utf-8")
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return log


def test_every_package_of_the_list_has_a_file_and_a_reason() -> None:
    listed = debian.needs(debian.LIST.read_text(encoding="utf-8"))
    assert {"chromium", "nng-utils", "libpcsclite-dev"} <= {need.package for need in listed}
    assert all(need.file.startswith("/") and len(need.why) > 10 for need in listed)


def test_what_is_missing_is_announced_and_installed(
    lacking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = apt_that(tmp_path, monkeypatch, f'case "$*" in *install*) touch {lacking};; esac')
    assert debian.main() == 0
    update, install = log.read_text(encoding="utf-8").splitlines()
    assert update.endswith("update")
    assert install.endswith("install -y --no-install-recommends some-package")
    assert "missing: some-package (a reason | with a bar)" in capsys.readouterr().out
    assert debian.main() == 0
    assert capsys.readouterr().out == ""
    assert len(log.read_text(encoding="utf-8").splitlines()) == 2


def test_what_cannot_be_installed_is_named_and_the_tests_go_on(
    lacking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apt_that(tmp_path, monkeypatch, "echo E: no such package; exit 100")
    assert debian.main() == 0
    printed = capsys.readouterr()
    assert "some-package could not be installed: tests that need it will fail" in printed.out
    assert "E: no such package" in printed.err


@pytest.mark.parametrize("sudo", ["missing", "asks for a password"])
def test_without_root_the_command_to_type_is_said(
    sudo: str, lacking: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "sudo" and sudo == "missing" else f"/bin/{name}")
    refused = subprocess.CompletedProcess(["sudo"], 1)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: refused)
    assert debian.main() == 0
    assert "sudo apt-get install --no-install-recommends some-package" in capsys.readouterr().out


def test_without_apt_it_says_so(
    lacking: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert debian.main() == 0
    assert "there is no apt-get here" in capsys.readouterr().out


def test_an_apt_that_hangs_is_stopped(
    lacking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apt_that(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(debian, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(debian, "APT_LIMIT_S", 0.2)
    assert debian.main() == 0
    assert "giving up" in capsys.readouterr().out
