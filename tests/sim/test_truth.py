"""The truth file: what is written is read back, bounded, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim import truth


def test_events_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "sim" / "truth.jsonl"
    with truth.Truth(path, clock=lambda: 1.5, wall=lambda: 1_700_000_000.0) as writer:
        writer.phase("admit")
        writer.scan("n1", "n1-qr", nonce="n1-1", cause="normal", ticket=7, visitor="v1")
        writer.answer("n1", "n1-qr", nonce="n1-1", result="grant", grant=9)
        writer.barrier("n1", "n1-board", state="opening", direction="entry")
        writer.sensor("n1", "n1-board", direction="entry", kind="granted", boot="0", seq=1, ticket=7)
        writer.print("window-1", job="1", codes=["PF:X"])
    assert list(truth.read(path)) == [
        truth.Phase(t=1.5, wall=1_700_000_000.0, name="admit"),
        truth.Scan(
            t=1.5, wall=1_700_000_000.0, lane="n1", device="n1-qr", nonce="n1-1", cause="normal", ticket=7, visitor="v1"
        ),
        truth.Answer(t=1.5, wall=1_700_000_000.0, lane="n1", device="n1-qr", nonce="n1-1", result="grant", grant=9),
        truth.Barrier(t=1.5, wall=1_700_000_000.0, lane="n1", device="n1-board", state="opening", direction="entry"),
        truth.Sensor(
            t=1.5,
            wall=1_700_000_000.0,
            lane="n1",
            device="n1-board",
            direction="entry",
            kind="granted",
            boot="0",
            seq=1,
            ticket=7,
        ),
        truth.Print(t=1.5, wall=1_700_000_000.0, device="window-1", job="1", codes=["PF:X"]),
    ]


def test_two_writers_append_whole_lines_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    with truth.Truth(path) as one, truth.Truth(path) as two:
        for number in range(200):
            (one if number % 2 else two).phase(f"p{number}")
    names = [event.name for event in truth.read(path) if isinstance(event, truth.Phase)]
    assert names == [f"p{number}" for number in range(200)]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    with truth.Truth(tmp_path / "sim" / "truth.jsonl"):
        pass
    assert (tmp_path / "sim" / "truth.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_file_is_bounded_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    with truth.Truth(path, max_bytes=2000) as writer:
        for number in range(100):
            writer.phase(f"p{number}")
        assert writer.refused_lines > 50
    events = list(truth.read(path))
    assert isinstance(events[-1], truth.Truncated)
    assert path.stat().st_size < 2200


def test_a_half_line_of_a_killed_writer_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    with truth.Truth(path) as writer:
        writer.phase("whole")
    with path.open("ab") as file:
        file.write(b'{"ev":"pha')
    assert [event.name for event in truth.read(path) if isinstance(event, truth.Phase)] == ["whole"]


@pytest.mark.parametrize("line", [b"not json\n", b'{"ev":"unheard","t":1,"wall":1}\n', b'{"ev":"phase","t":1}\n'])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "truth.jsonl"
    with truth.Truth(path) as writer:
        writer.phase("whole")
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(truth.TruthError, match=f"{path.name}:2"):
        list(truth.read(path))
