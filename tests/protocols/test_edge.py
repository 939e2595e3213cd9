"""Words between neighbouring lanes: only ours, only new ones, and never an error of another kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.edge import EdgeError, Fresh, Notice, Use, open_notice, seal_notice, subject_of, ticket_name

KEY = b"k" * 32
USE = Use(subject=subject_of(KEY, ticket_name(7)), lane="n1", grant=5, zone="park", pax=2, at=1.5)


def test_a_notice_comes_through_whole() -> None:
    notice = Notice(lane="n1", boot="b", seq=3, uses=[USE])
    assert open_notice(KEY, seal_notice(KEY, notice)) == notice


def test_another_key_and_every_changed_byte_are_refused() -> None:
    data = seal_notice(KEY, Notice(lane="n1", boot="b", seq=3, uses=[USE]))
    with pytest.raises(EdgeError):
        open_notice(b"x" * 32, data)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(EdgeError):
            open_notice(KEY, bytes(changed))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_notice_or_its_own_error(data: bytes) -> None:
    for each in (data, b"edge/" + data):
        with pytest.raises(EdgeError):
            open_notice(KEY, each)


def test_what_is_used_is_not_said_in_clear() -> None:
    data = seal_notice(KEY, Notice(lane="n1", boot="b", seq=3, uses=[USE]))
    assert ticket_name(7) not in data
    assert subject_of(KEY, b"a") != subject_of(b"x" * 32, b"a")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        seal_notice(b"short", Notice(lane="n1", boot="b", seq=1))


def test_a_repeated_notice_is_old_and_a_past_boot_never_returns() -> None:
    fresh = Fresh(["n1"])

    def take(boot: str, seq: int, lane: str = "n1") -> bool:
        return fresh.take(Notice(lane=lane, boot=boot, seq=seq))

    assert take("a", 1)
    assert take("a", 3)
    assert not take("a", 3)
    assert not take("a", 2)
    assert take("b", 1)
    assert not take("a", 4), "a recording of the boot before"
    assert take("b", 2)
    assert not take("c", 1, lane="stranger")
