"""The systemd unit: systemd itself accepts it, it is hardened, and what it starts exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "paifang.service"
COMMAND_LIMIT_S = 30
EXPOSURE_MAX = 25  # systemd's own score times ten: 0 is a sealed box, 96 what a service without any setting gets


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is not installed (Debian package systemd); tools/debian.py installs it"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)


@pytest.fixture
def unit_here(tmp_path: Path) -> Path:
    """The unit with the folder of this checkout in place of /opt/paifang, because systemd looks for the program."""
    unit = tmp_path / "paifang.service"
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/paifang", str(ROOT)), encoding="utf-8")
    return unit


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Z][A-Za-z]+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_systemd_accepts_every_line(unit_here: Path) -> None:
    result = systemd_analyze("verify", "--man=no", "--recursive-errors=no", str(unit_here))
    assert result.returncode == 0, result.stderr
    assert not [line for line in result.stderr.splitlines() if "paifang.service" in line], result.stderr


def test_systemd_would_notice_a_misspelt_line(unit_here: Path) -> None:
    unit_here.write_text(unit_here.read_text(encoding="utf-8").replace("ProtectHome=", "ProtectHouse="))
    result = systemd_analyze("verify", "--man=no", "--recursive-errors=no", str(unit_here))
    assert "ProtectHouse" in result.stderr


def test_systemd_rates_it_as_well_locked_up(unit_here: Path) -> None:
    result = systemd_analyze("security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE_MAX}", str(unit_here))
    assert result.returncode == 0, result.stdout[-500:] + result.stderr


def test_it_runs_unprivileged_and_is_never_given_up_on() -> None:
    found = settings(UNIT.read_text(encoding="utf-8"))
    for name, value in {
        "User": "paifang",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "StateDirectory": "paifang",
        "StateDirectoryMode": "0700",
        "SupplementaryGroups": "dialout lp input",
        "CapabilityBoundingSet": "",
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "KillMode": "mixed",
        "LimitNOFILE": "65536",
    }.items():
        assert found[name] == [value]


def test_what_it_starts_are_commands_that_exist() -> None:
    """`paifang COMMAND --help` ends well, and knows every option that the unit and the guide use."""
    program = ROOT / ".venv" / "bin" / "paifang"
    guide = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    lines = settings(UNIT.read_text(encoding="utf-8"))
    typed = re.findall(r"\.venv/bin/paifang [a-z].*--data.*", guide)
    for line in [*lines["ExecStart"], *lines["ExecStartPre"], *typed]:
        command = line.split(".venv/bin/paifang ", 1)[1]
        name = command.split()[0]
        result = subprocess.run(
            [program, name, "--help"], capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
        )
        assert result.returncode == 0, result.stderr
        for option in re.findall(r"--[a-z-]+", command):
            assert option in result.stdout, f"paifang {name} knows no {option}"


def test_the_account_is_made_with_access_to_serial_lines() -> None:
    text = (ROOT / "deploy" / "paifang.sysusers").read_text(encoding="utf-8")
    assert re.search(r"^u paifang - ", text, re.MULTILINE)
    assert re.search(r"^m paifang dialout$", text, re.MULTILINE)
