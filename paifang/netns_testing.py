"""For tests: network namespaces as hosts with a wire each to a switch, and relays over the wires. Needs root.

As a program it runs `paifang` on such a host: `python -m paifang.netns_testing NAMESPACE lane run lane.toml …`.

What a host says goes over its wire in TCP, where packets can be dropped by nftables; the kernel here delays nothing, so
a delay is the relay's, in each direction.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import trio

CLONE_NEWNET = 0x40000000  # setns(2)
COMMAND_S = 10.0
STALLED_MS = 3000  # a connection whose data nobody acknowledges for so long is given up
CONNECT_S = 4.0
CHUNKS_MAX = 256  # on their way in a relay, for each direction
CHUNK_BYTES = 64 * 1024
NAMESPACES = Path("/run/netns")

T = TypeVar("T")
Address = tuple[str, int]


def enter(namespace: str) -> None:
    """Move this thread into a namespace. Raises OSError."""
    with (NAMESPACES / namespace).open("rb") as handle:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, f"setns {namespace}: {os.strerror(number)}")


def run(*words: str) -> None:
    """A command. Raises AssertionError with what it says."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}"


def needed() -> None:
    """Raises AssertionError that says what is missing here."""
    assert os.geteuid() == 0, "network namespaces are made by root only"
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        assert shutil.which(program), f"{program} is missing: install the Debian package {package}"


class Namespace:
    """A network of its own; sockets are made in it by a thread that lives there."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        self._thread = ThreadPoolExecutor(1, initializer=enter, initargs=(name,))

    def inside(self, make: Callable[[], T]) -> T:
        return self._thread.submit(make).result(COMMAND_S)

    def remove(self) -> None:
        self._thread.shutdown(wait=True)
        run("ip", "netns", "del", self.name)

    def drop(self, incoming: int = 0, outgoing: int = 0) -> None:
        """Drop so many of a hundred packets on the wire; by default none."""
        rules = "".join(
            f"add rule inet wire {chain} {'i' if chain == 'input' else 'o'}ifname != lo "
            + ("drop\n" if percent >= 100 else f"numgen random mod 100 < {percent} drop\n")
            for chain, percent in (("input", incoming), ("output", outgoing))
            if percent
        )
        chains = "".join(
            f"add chain inet wire {chain} {{ type filter hook {chain} priority 0; }}\n" for chain in ("input", "output")
        )
        text = f"add table inet wire\ndelete table inet wire\nadd table inet wire\n{chains}{rules}"
        self.inside(lambda: run("nft", text))


class Host(Namespace):
    """A namespace with a wire to the switch. `delay_s` is what its relay adds in each direction."""

    def __init__(self, name: str, number: int, switch: Namespace) -> None:
        super().__init__(name)
        self.here, self.there = f"198.18.{number}.2", f"198.18.{number}.1"
        self.delay_s = 0.0
        wire, plug = f"w{number}", f"p{number}"
        run("ip", "-n", switch.name, "link", "add", plug, "type", "veth", "peer", "name", wire, "netns", name)
        run("ip", "-n", switch.name, "addr", "add", f"{self.there}/30", "dev", plug)
        run("ip", "-n", switch.name, "link", "set", plug, "up")
        run("ip", "-n", name, "addr", "add", f"{self.here}/30", "dev", wire)
        run("ip", "-n", name, "link", "set", wire, "up")


class Relay:
    """Carries connections from a place to another one; None is where the test itself lives."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def carry(
        self, at: Namespace | None, port_at: Address, to: Namespace | None, port_to: Address, wire: Host | None = None
    ) -> None:
        """Listen at one address, connect to the other for each connection; `wire` is the host whose delay counts."""

        def listening() -> socket.socket:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(port_at)
            made.listen(64)
            made.setblocking(False)
            return made

        made = listening() if at is None else at.inside(listening)
        self._nursery.start_soon(self._listen, trio.socket.from_stdlib_socket(made), to, port_to, wire)

    async def _listen(
        self, listener: trio.socket.SocketType, to: Namespace | None, port_to: Address, wire: Host | None
    ) -> None:
        with listener:
            while True:
                came, _ = await listener.accept()
                self._nursery.start_soon(self._connect, came, to, port_to, wire)

    async def _connect(
        self, came: trio.socket.SocketType, to: Namespace | None, port_to: Address, wire: Host | None
    ) -> None:
        def connecting() -> socket.socket:
            made = socket.socket()
            made.setblocking(False)
            return made

        gone = trio.socket.from_stdlib_socket(connecting() if to is None else to.inside(connecting))
        with came, gone:
            for each in (came, gone):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
            try:
                with trio.fail_after(CONNECT_S):
                    await gone.connect(port_to)
            except (OSError, trio.TooSlowError):
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, came, gone, wire, nursery.cancel_scope)
                nursery.start_soon(self._pump, gone, came, wire, nursery.cancel_scope)

    async def _pump(
        self,
        one: trio.socket.SocketType,
        other: trio.socket.SocketType,
        wire: Host | None,
        over: trio.CancelScope,
    ) -> None:
        """Carry one direction until either end is gone; then both are."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_MAX)

        async def deliver() -> None:
            async for due, data in receive:
                await trio.sleep_until(due)
                rest = memoryview(data)
                while rest:
                    rest = rest[await other.send(rest) :]

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(deliver)
                async with send:
                    while data := await one.recv(CHUNK_BYTES):
                        await send.send((trio.current_time() + (wire.delay_s if wire else 0.0), data))
        except* OSError:
            pass
        over.cancel()


if __name__ == "__main__":
    enter(sys.argv.pop(1))
    from paifang.cli import main

    main()
