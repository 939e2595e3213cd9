"""The latch file: whatever happens to the disk, it says the last thing that was written whole; in doubt, released."""

from __future__ import annotations

import os
import resource
import zlib
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.evacuation import Latch, LatchError, read_latch, write_latch
from actors.evacuation.latch import SLOT_BYTES, prepare_latch

FIRST = Latch(state="normal", incident=1)
SECOND = Latch(state="released", incident=2, by="ann", at=5.0)
THIRD = Latch(state="restoring", incident=2, by="bob", at=9.0, pending=["g1", "g2"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "evacuation.latch"


@contextmanager
def files_end_at(size):
    """The disk has room for this many bytes of a file, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_is_read(path):
    for number, latch in enumerate((FIRST, SECOND, THIRD), 1):
        written = write_latch(path, latch)
        assert written.sequence == number
        assert read_latch(path) == written
    assert read_latch(path).pending == ["g1", "g2"]
    assert path.stat().st_size == 2 * SLOT_BYTES and path.stat().st_mode & 0o077 == 0


def test_a_site_that_was_never_released_is_normal(path):
    assert read_latch(path) == Latch()
    path.write_bytes(b"")
    assert read_latch(path).state == "normal"
    path.write_bytes(bytes(2 * SLOT_BYTES))
    assert read_latch(path).state == "normal"


def test_a_prepared_file_has_its_blocks_and_is_left_alone_later(path):
    prepare_latch(path)
    assert path.stat().st_size == 2 * SLOT_BYTES and path.stat().st_blocks * 512 >= 2 * SLOT_BYTES
    write_latch(path, SECOND)
    prepare_latch(path)
    assert read_latch(path).state == "released"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(torn=st.integers(0, SLOT_BYTES), writes=st.integers(1, 4), garbage=st.binary(max_size=64))
def test_a_power_cut_at_any_byte_of_a_write_leaves_the_state_before_or_after(path, torn, writes, garbage):
    path.unlink(missing_ok=True)
    latches = [FIRST, SECOND, THIRD, SECOND]
    for latch in latches[:writes]:
        before = write_latch(path, latch)
    old = path.read_bytes()
    after = write_latch(path, THIRD if writes % 2 else SECOND)
    new = path.read_bytes()
    where = next(start for start in (0, SLOT_BYTES) if old[start:][:SLOT_BYTES] != new[start:][:SLOT_BYTES])
    slot = new[where : where + torn] + garbage + old[where + torn + len(garbage) : where + SLOT_BYTES]
    path.write_bytes(old[:where] + slot[:SLOT_BYTES].ljust(SLOT_BYTES, b"\0") + old[where + SLOT_BYTES :])
    assert read_latch(path) in (before, after)
    again = write_latch(path, SECOND)
    assert read_latch(path) == again and again.sequence > before.sequence, "and it can be written as before"


def test_one_damaged_slot_loses_at_most_the_last_write(path):
    first = write_latch(path, FIRST)
    second = write_latch(path, SECOND)
    data = bytearray(path.read_bytes())
    for slot, expected in ((0, second), (SLOT_BYTES, first)):
        damaged = data.copy()
        damaged[slot + 9] ^= 1
        path.write_bytes(damaged)
        assert read_latch(path) == expected


@pytest.mark.parametrize("damage", [b"\xff" * 2 * SLOT_BYTES, b"PF", os.urandom(3 * SLOT_BYTES), b"\x00\x00\x00\x01"])
def test_a_file_that_makes_no_sense_means_released(path, damage):
    path.write_bytes(damage)
    assert read_latch(path).state == "released"
    written = write_latch(path, Latch(state="normal", incident=3))
    assert read_latch(path) == written


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 2 * SLOT_BYTES))
def test_any_bytes_are_read_without_an_error(path, data, padding):
    path.write_bytes(data + bytes(padding))
    assert read_latch(path).state in ("normal", "released", "restoring")


def test_a_slot_with_a_good_checksum_and_nonsense_in_it_is_damaged(path):
    nonsense = (b"\x81\xa2by\xa2\xff\xfe", b"\x81\xa5state\xa4open", b"\x93\x01\x02\x03", b"\xc0")
    for body in nonsense:
        slot = len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body
        path.write_bytes(slot.ljust(SLOT_BYTES, b"\0") * 2)
        assert read_latch(path).state == "released"


def test_a_full_disk_does_not_stop_a_prepared_latch(path):
    prepare_latch(path)
    with files_end_at(2 * SLOT_BYTES):
        written = write_latch(path, SECOND)
    assert read_latch(path) == written


@pytest.mark.parametrize("room", [0, 1, 100, SLOT_BYTES - 1, SLOT_BYTES + 10, 2 * SLOT_BYTES - 1])
def test_what_did_not_fit_on_the_disk_is_never_taken_for_written(path, room):
    path.write_bytes(b"")
    said: list[Latch] = []
    with files_end_at(room):
        for latch in (FIRST, SECOND, THIRD):
            try:
                said.append(write_latch(path, latch))
            except LatchError as exc:
                assert str(path) in str(exc)
            if said:
                assert read_latch(path) == said[-1], "it said that this is on disk"


def test_a_latch_that_cannot_be_read_or_written_says_which_file_and_what_to_do(tmp_path):
    with pytest.raises(LatchError, match=r"read access"):
        read_latch(tmp_path)  # a folder
    with pytest.raises(LatchError, match=r"nowhere/evacuation.latch: cannot be written"):
        write_latch(tmp_path / "nowhere" / "evacuation.latch", SECOND)


def test_a_latch_too_long_for_its_slot_keeps_what_counts(path):
    lanes = [f"lane-with-a-very-long-name-{number:04}-{'x' * 60}" for number in range(400)]
    written = write_latch(path, Latch(state="released", incident=7, by="x" * 20_000, pending=lanes))
    latch = read_latch(path)
    assert (latch.state, latch.incident, latch.sequence) == ("released", 7, written.sequence)
