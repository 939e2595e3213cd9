"""The simulated reader over a real pty."""

from __future__ import annotations

import os
from pathlib import Path

from protocols.scanner import ScannerFramer
from sim.reader import Ending, SimReader


def _read(file: int) -> bytes:
    try:
        return os.read(file, 4096)
    except BlockingIOError:
        return b""


def test_a_code_arrives_as_the_framer_of_the_server_reads_it(tmp_path: Path) -> None:
    reader = SimReader("n1", tmp_path / "dev" / "n1-qr", ending=Ending.CRLF, aim_prefix=True)
    file = os.open(reader.line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        assert reader.present("PF:ABC")
        (read,) = ScannerFramer().feed(_read(file))
        assert (read.text, read.symbology) == ("PF:ABC", "]Q1")
    finally:
        os.close(file)
        reader.close()


def test_what_is_read_while_nobody_has_the_port_open_is_lost(tmp_path: Path) -> None:
    reader = SimReader("n1", tmp_path / "dev" / "n1-qr")
    assert not reader.present("PF:EARLY")
    file = os.open(reader.line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        assert _read(file) == b""
        assert reader.present("PF:NOW")
        assert _read(file) == b"PF:NOW\r"
    finally:
        os.close(file)
    assert not reader.present("PF:LATE")
    assert reader.line.lost_bytes == len(b"PF:EARLY\rPF:LATE\r")
    reader.close()


def test_a_line_that_nobody_reads_loses_what_does_not_fit(tmp_path: Path) -> None:
    reader = SimReader("n1", tmp_path / "dev" / "n1-qr")
    file = os.open(reader.line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        for _ in range(2000):
            reader.garbage(b"x" * 99 + b"\r")
        assert reader.line.lost_bytes > 0
    finally:
        os.close(file)
        reader.close()


def test_an_old_link_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "n1-qr"
    path.symlink_to("/nonexistent/tty")
    reader = SimReader("n1", path)
    assert path.resolve().exists()
    reader.close()
