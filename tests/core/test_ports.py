"""Ports for trials: free, all different, and never one that an outgoing connection may be given."""

import socket
from pathlib import Path

import pytest

from core import ports


def outgoing_range() -> tuple[int, int]:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(first), int(last)


def test_they_are_free_and_all_different():
    found = ports.free_ports(50)
    assert len(set(found)) == 50
    for port in found:
        with socket.socket() as own:
            own.bind(("127.0.0.1", port))


def test_no_outgoing_connection_is_given_one_of_them():
    first, last = outgoing_range()
    if first > ports.FIRST_PORT + ports.FEWEST_PORTS:  # as everywhere, unless somebody has set it
        assert not [port for port in ports.free_ports(50) if first <= port <= last]


def test_a_port_that_somebody_has_is_passed_over(monkeypatch):
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        taken = own.getsockname()[1]
        monkeypatch.setattr(ports, "_candidates", lambda: [taken, 0])
        assert ports.free_ports(1) != [taken]
        monkeypatch.setattr(ports, "_candidates", lambda: [taken])
        with pytest.raises(OSError, match="fewer than 1 free ports"):
            ports.free_ports(1)


@pytest.mark.parametrize("text", ["12500\t65000\n", "", "all\n"])
def test_where_the_kernel_gives_away_nearly_everything_or_does_not_say_there_are_ports_all_the_same(
    monkeypatch, tmp_path, text
):
    (tmp_path / "range").write_text(text)
    monkeypatch.setattr(ports, "OUTGOING", tmp_path / "range")
    assert len(set(ports.free_ports(20))) == 20
    monkeypatch.setattr(ports, "OUTGOING", tmp_path / "none")
    assert len(set(ports.free_ports(20))) == 20
