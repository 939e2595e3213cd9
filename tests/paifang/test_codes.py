"""The file in which codes go to a printer: nobody reads it without the passphrase, and no file is ever replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paifang import codes as module
from paifang.cli import main
from paifang.codes import CodesError, check_passphrase, read_export, write_export

PASSPHRASE = "a dozen characters"
TEXT = "4,1,PF1:AB C\n4,2,PF1:DEF\n"


@pytest.fixture(autouse=True)
def quick_scrypt(monkeypatch):
    """The real cost is a third of a second each time."""
    monkeypatch.setattr(module, "SCRYPT_N", 1 << 4)


def test_an_encrypted_export_is_read_with_its_passphrase_alone(tmp_path: Path) -> None:
    file = tmp_path / "codes.pfx"
    write_export(file, TEXT.encode(), PASSPHRASE)
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"PF1:" not in file.read_bytes()
    assert read_export(file, PASSPHRASE) == TEXT
    with pytest.raises(CodesError, match="passphrase is wrong"):
        read_export(file, PASSPHRASE + "x")


def test_two_exports_of_the_same_codes_share_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_export(tmp_path / name, TEXT.encode(), PASSPHRASE)
    one, other = (tmp_path / name for name in ("a", "b"))
    assert one.read_bytes()[4:] != other.read_bytes()[4:] and one.read_bytes()[4:20] != other.read_bytes()[4:20]


def test_a_plain_export_is_the_list_and_still_only_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "codes.csv"
    write_export(file, TEXT.encode(), "")
    assert file.read_text() == TEXT and file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CodesError, match="no encrypted export"):
        read_export(file, PASSPHRASE)


def test_no_file_is_replaced_and_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    file = tmp_path / "codes.pfx"
    file.write_text("mine")
    with pytest.raises(CodesError, match="File exists"):
        write_export(file, TEXT.encode(), PASSPHRASE)
    assert file.read_text() == "mine"
    with pytest.raises(CodesError, match="No such file"):
        write_export(tmp_path / "nowhere" / "codes", TEXT.encode(), PASSPHRASE)
    with pytest.raises(CodesError, match="cannot be read"):
        read_export(tmp_path / "nothing", PASSPHRASE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 200), flip=st.integers(1, 255), cut=st.integers(0, 80))
def test_a_damaged_export_is_never_read_as_another_list(tmp_path: Path, at: int, flip: int, cut: int) -> None:
    file = tmp_path / "codes.pfx"
    file.unlink(missing_ok=True)
    write_export(file, TEXT.encode(), PASSPHRASE)
    content = bytearray(file.read_bytes())
    content[at % len(content)] ^= flip
    for damaged in (bytes(content), bytes(content)[: len(content) - cut - 1]):
        file.write_bytes(damaged)
        with pytest.raises(CodesError):
            read_export(file, PASSPHRASE)


def test_a_passphrase_that_protects_nothing_is_refused() -> None:
    check_passphrase("")
    check_passphrase(PASSPHRASE)
    with pytest.raises(CodesError, match="at least 12"):
        check_passphrase("short")


def test_the_command_decrypts_without_a_server_and_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "codes.pfx"
    write_export(file, TEXT.encode(), PASSPHRASE)
    runner = CliRunner()
    env = {**os.environ, "PAIFANG_EXPORT_PASSPHRASE": PASSPHRASE}
    good = runner.invoke(main, ["codes", "decrypt", str(file)], env=env)
    assert (good.exit_code, good.output) == (0, TEXT)
    bad = runner.invoke(main, ["codes", "decrypt", str(file)], env=env | {"PAIFANG_EXPORT_PASSPHRASE": "x" * 12})
    assert bad.exit_code == 1 and "passphrase is wrong" in bad.output and "Traceback" not in bad.output


def test_an_export_that_could_not_be_written_is_not_asked_of_the_server(tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.write_text("mine")
    runner = CliRunner()
    env = {**os.environ, "PAIFANG_PASSWORD": "x", "PAIFANG_EXPORT_PASSPHRASE": PASSPHRASE}
    url = ["--url", "ws://127.0.0.1:1/channel"]  # nobody listens there
    arguments = ["--to", "Wang", "--reason", "r", "--user", "ann", *url]
    for target, words in ((file, "is there already"), (tmp_path / "no" / "x", "no such folder")):
        done = runner.invoke(main, ["codes", "export", "4", str(target), *arguments], env=env)
        assert done.exit_code == 1 and words in done.output, done.output
