"""The lane's journal: on disk when it says so, whole after any cut, never a reason to crash."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.journal import Journal, JournalError, JournalFull, late_journal, open_journal, read_state

WRITER = """
import sys
from pathlib import Path
from storage.journal import open_journal
journal = open_journal(Path(sys.argv[1]))
print("boot", journal.boot, flush=True)
while True:
    print(journal.append("scan", b"x" * 200, 1.0), flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lane" / "journal.sqlite"


def filled(path: Path, count: int) -> Journal:
    journal = open_journal(path)
    for number in range(count):
        journal.append("scan", b"%d" % number, float(number))
    return journal


def test_it_is_flushed_at_each_commit_and_says_so(path: Path) -> None:
    journal = filled(path, 3)
    state = journal.state()
    assert (state.journal_mode, state.synchronous) == ("wal", "full")
    assert (state.records, state.first, state.last) == (3, 1, 3)
    assert read_state(path) == state  # also from another process, while the lane uses it
    journal.close()


def test_records_come_back_in_order_after_a_restart_with_the_same_boot(path: Path) -> None:
    first = filled(path, 5)
    first.close()
    again = open_journal(path)
    assert again.boot == first.boot
    assert [record.body for record in again.pending(10)] == [b"0", b"1", b"2", b"3", b"4"]
    assert [record.seq for record in again.pending(2, after=2)] == [3, 4]
    again.close()


def test_what_was_acknowledged_is_gone_and_its_numbers_never_come_back(path: Path) -> None:
    journal = filled(path, 5)
    assert journal.acknowledged("another boot", 5) == 0
    assert journal.acknowledged(journal.boot, 99) == 0, "records that were never written"
    assert journal.acknowledged(journal.boot, 5) == 5
    assert journal.count == 0
    journal.close()
    again = open_journal(path)
    assert again.append("scan", b"", 0.0) == 6
    again.close()


def test_nothing_of_a_transaction_that_fails_is_kept(path: Path) -> None:
    journal = filled(path, 1)
    with pytest.raises(RuntimeError), journal.writing():
        journal.add("scan", b"lost", 0.0)
        raise RuntimeError
    assert (journal.count, len(journal.pending(10))) == (1, 1)
    assert journal.append("scan", b"", 0.0) == 2
    journal.close()


def test_a_hundred_thousand_records_fit_and_the_bound_holds(path: Path) -> None:
    journal = open_journal(path, records_max=100_000)
    with journal.writing(100_000):
        for number in range(100_000):
            journal.add("scan", b"x" * 100, float(number))
    with pytest.raises(JournalFull):
        journal.append("scan", b"", 0.0)
    assert journal.acknowledged(journal.boot, 10) == 10
    assert journal.append("scan", b"", 0.0) == 100_001
    assert journal.count == 99_991
    journal.close()


@pytest.mark.parametrize("instant", range(10))
def test_a_killed_lane_has_every_record_that_was_acknowledged(path: Path, instant: int) -> None:
    """`kill -9` at a random instant, five times on one file: nothing acknowledged is missing, nothing is doubled."""
    chance = random.Random(instant)
    said, boots = 0, set()
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        boots.add(process.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().splitlines(keepends=True)
        process.wait(10)
        process.stdout.close()
        said = max([said, *(int(line) for line in lines if line.endswith("\n"))])
        journal = open_journal(path)
        found = [record.seq for record in journal.pending(1_000_000)]
        journal.close()
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= said
        said = len(found)
    assert len(boots) == 1


@pytest.mark.parametrize("seed", range(8))
def test_a_wal_that_was_cut_off_or_spoilt_costs_its_end_only(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    journal = filled(path, 200)
    snapshot = {each: each.read_bytes() for each in path.parent.iterdir()}  # as a power cut would leave them
    journal.close()
    for each, data in snapshot.items():
        each.write_bytes(data)
    path.with_name(path.name + "-shm").unlink()
    wal = path.with_name(path.name + "-wal")
    where = chance.randrange(32, wal.stat().st_size)
    with wal.open("r+b") as file:
        if seed % 2:
            file.truncate(where)
        else:
            file.seek(where)
            file.write(os.urandom(100))
    again = open_journal(path)
    found = [int(record.body) for record in again.pending(1000)]
    assert found == list(range(len(found)))
    number = again.append("scan", b"%d" % len(found), 0.0)
    assert number == len(found) + 1 or again.set_aside
    again.close()


@pytest.mark.parametrize("spoil", ["garbage", "truncated", "empty", "header", "middle"])
def test_a_damaged_file_is_set_aside_and_a_new_one_has_another_boot(path: Path, spoil: str) -> None:
    journal = filled(path, 500)
    boot = journal.boot
    journal.close()
    data = bytearray(path.read_bytes())
    if spoil == "garbage":
        data = bytearray(os.urandom(len(data)))
    elif spoil == "truncated":
        del data[len(data) // 2 :]
    elif spoil == "empty":
        data.clear()
    elif spoil == "header":
        data[:16] = b"not a database!!"
    else:
        data[4096 : 4096 * 3] = bytes(4096 * 2)
    path.write_bytes(bytes(data))
    again = open_journal(path)
    assert again.boot != boot, "or the server would take new records for old ones"
    assert again.append("scan", b"", 0.0) == 1
    assert bool(again.set_aside) is (spoil != "empty")
    assert again.state().damaged == (spoil != "empty")
    again.close()


def test_damaged_files_do_not_fill_the_disk(path: Path) -> None:
    for _ in range(8):
        open_journal(path).close()
        path.write_bytes(b"garbage" * 1000)
        time.sleep(0.002)
    journal = open_journal(path)
    assert journal.state().damaged == 5
    journal.close()


def test_a_full_disk_is_an_error_with_words_and_is_over_when_there_is_room(path: Path) -> None:
    journal = filled(path, 3)
    pages = journal.read("pragma page_count")[0][0]
    journal.read(f"pragma max_page_count={pages}")  # SQLite's own "database or disk is full"
    with pytest.raises(JournalError, match="full"):
        for _ in range(100):
            journal.append("scan", b"x" * 5000, 0.0)
    count = journal.count
    assert [record.seq for record in journal.pending(1000)] == list(range(1, count + 1))
    journal.read(f"pragma max_page_count={pages + 10000}")
    assert journal.append("scan", b"x" * 5000, 0.0) == count + 1
    journal.close()


def test_a_folder_that_cannot_be_made_is_an_error_with_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="folder"):
        open_journal(tmp_path / "file" / "journal.sqlite")


def test_a_file_that_turns_read_only_is_an_error_and_no_crash(path: Path) -> None:
    journal = filled(path, 1)
    journal.read("pragma query_only=on")  # what SQLite does on a file system that was remounted read-only
    with pytest.raises(JournalError):
        journal.append("scan", b"", 0.0)
    with pytest.raises(JournalError):
        journal.probe(1.0)
    assert journal.count == 1
    assert len(journal.pending(10)) == 1
    journal.read("pragma query_only=off")
    assert journal.append("scan", b"", 0.0) == 2
    journal.close()


def test_a_journal_of_a_newer_version_is_not_touched(path: Path) -> None:
    journal = filled(path, 1)
    journal.read("pragma user_version=99")
    journal.close()
    with pytest.raises(JournalError, match="another version"):
        open_journal(path)
    assert not list(path.parent.glob("*damaged*"))


def test_there_is_no_state_of_a_journal_that_is_not_there(path: Path) -> None:
    with pytest.raises(JournalError, match="no journal"):
        read_state(path)


def test_a_lane_starts_without_a_disk_and_writes_as_soon_as_it_can(tmp_path: Path) -> None:
    blocked = tmp_path / "folder"
    blocked.write_text("in the way")
    journal, trouble = late_journal(blocked / "journal.sqlite")
    assert "folder" in trouble
    with pytest.raises(JournalError):
        journal.append("scan", b"", 0.0)
    blocked.unlink()
    deadline = time.monotonic() + 20
    while True:
        try:
            assert journal.append("scan", b"", 0.0) == 1
            break
        except JournalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert journal.boot
    journal.close()
