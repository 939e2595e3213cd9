"""Ports for trials: servers that are given their port in a file before they run.

Whoever can listen on port 0 should. Where the port has to be written down first, it must not come from the range that
the kernel gives to outgoing connections: another program may be given it in between, and a client that keeps dialling a
server which is just being restarted can even be connected to itself, and then holds the port for good.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

FIRST_PORT = 12_000  # above what is well known
LAST_PORT = 32_767  # below Linux's default for outgoing connections
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
FEWEST_PORTS = 1_000  # with fewer to choose from, two who choose at once would often meet


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different TCP ports on which nobody listens now. Raises OSError when there are not so many."""
    with ExitStack() as stack:
        found: list[int] = []
        for port in _candidates() if count else []:
            held = stack.enter_context(socket.socket())
            try:
                held.bind((host, port))
            except OSError:
                held.close()
                continue
            found.append(held.getsockname()[1])
            if len(found) == count:
                break
        if len(found) < count:
            raise OSError(f"fewer than {count} free ports on {host}")
        return found


def free_port(host: str = "127.0.0.1") -> int:
    """One of them."""
    return free_ports(1, host)[0]


def _candidates() -> list[int]:
    """In an order of our own each time: others choose at the same moment."""
    try:
        first_outgoing = int(OUTGOING.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first_outgoing = LAST_PORT + 1
    ports = list(range(FIRST_PORT, min(LAST_PORT + 1, first_outgoing)))
    if len(ports) < FEWEST_PORTS:
        return [0] * FEWEST_PORTS  # the kernel's own choice
    random.SystemRandom().shuffle(ports)
    return ports
