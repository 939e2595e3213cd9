"""A simulated RS-485 line with several simulated boards on it, behind one pty, at the pace of a real wire.

Ours, both ends: it shows what a line of many boards costs in time, not how real ones behave.  Every byte takes its
time, one frame is on the wire at a time, and who speaks while another does garbles both.  A `Port` is one board's place
on the line, and can misbehave on command: silent, deaf, slow, damaged, doubled, or in the wrong order.
"""

from __future__ import annotations

import random
from pathlib import Path

import trio

from sim.line import SimLine

BITS_PER_BYTE = 10  # 8N1
TURNROUND_S = 0.002  # between a question and its answer: a small processor's loop
INBOX_CHUNKS = 256  # what a board that does not read misses
OUTBOX_CHUNKS = 256


class Mischief:
    """Faults of one board's line, switched on and off by tests."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.silent = False  # hears and obeys, says nothing
        self.deaf = False  # does not even hear
        self.slow_s = 0.0  # more turn-round than usual
        self.garbage = 0  # so many answers are damaged
        self.duplicate = 0  # so many answers are said twice
        self.reorder = 0  # so many answers are held back behind the next one
        self.lose = 0  # so many answers are lost
        self._held: bytes | None = None
        self._rng = rng or random.Random(0)

    def said(self, data: bytes) -> list[bytes]:
        """What gets on the wire of what the board says."""
        if self.silent:
            return []
        if self.lose > 0:
            self.lose -= 1
            return []
        if self.garbage > 0:
            self.garbage -= 1
            damaged = bytearray(data)
            damaged[self._rng.randrange(len(damaged))] ^= 1 << self._rng.randrange(8)
            return [bytes(damaged)]
        if self.reorder > 0 and self._held is None:
            self.reorder -= 1
            self._held = data
            return []
        held, self._held = self._held, None
        copies = [data] if held is None else [data, held]
        if self.duplicate > 0:
            self.duplicate -= 1
            copies.append(data)
        return copies


class Port:
    """One board's place on a bus: the part of `SimLine` that a board uses."""

    def __init__(self, bus: SimBus, turnround_s: float) -> None:
        self.mischief = Mischief()
        self._bus = bus
        self._turnround_s = turnround_s
        self._heard_at = 0.0  # when the last bytes were over, on the wire
        self._inbox, self._delivered = trio.open_memory_channel[bytes](INBOX_CHUNKS)

    @property
    def path(self) -> Path:
        return self._bus.line.path

    @property
    def listening(self) -> bool:
        """Whether the server has the line open."""
        return self._bus.line.listening

    def unplug(self) -> None:
        """Pull the cable of the whole bus."""
        self._bus.line.unplug()

    def plug(self) -> None:
        self._bus.line.plug()

    async def receive(self) -> bytes:
        """The next bytes on the line, whoever they are for."""
        return await self._delivered.receive()

    def send(self, data: bytes) -> bool:
        """Say something after the turn-round."""
        since = max(trio.current_time(), self._heard_at)
        for each in self.mischief.said(data):
            self._bus.say(each, since + self._turnround_s + self.mischief.slow_s)
        return True

    def hear(self, data: bytes, over_at: float) -> None:
        """The bus delivers what will be over on the wire at `over_at`: no answer begins before."""
        if not self.mischief.deaf:
            self._heard_at = over_at
            try:
                self._inbox.send_nowait(data)
            except trio.WouldBlock:
                return  # a board that does not read loses what it does not read

    def close(self) -> None:
        """The line belongs to the bus."""


class SimBus:
    """The line at `path`. Make a `port` for each board, and `run` it beside them. `baud` None: no time at all."""

    def __init__(self, path: Path, baud: int | None) -> None:
        self.line = SimLine(path)
        self.collisions = 0
        self.host_bytes = 0
        self.board_bytes = 0
        self._byte_s = 0.0 if baud is None else BITS_PER_BYTE / baud
        self._ports: list[Port] = []
        self._busy_until = 0.0
        self._outbox, self._queued = trio.open_memory_channel[tuple[float, bytes]](OUTBOX_CHUNKS)

    def port(self, turnround_s: float = TURNROUND_S) -> Port:
        port = Port(self, turnround_s)
        self._ports.append(port)
        return port

    def say(self, data: bytes, not_before: float) -> None:
        """A board's bytes, as soon as the wire is free after `not_before`."""
        try:
            self._outbox.send_nowait((not_before, data))
        except trio.WouldBlock:
            return  # more than a wire can carry is lost

    async def run(self) -> None:
        """Carry bytes both ways until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._from_host)
                nursery.start_soon(self._to_host)
        finally:
            self.line.close()

    async def _from_host(self) -> None:
        while True:
            data = await self.line.receive()
            self.host_bytes += len(data)
            now = trio.current_time()
            if now < self._busy_until - self._byte_s:
                self.collisions += 1  # the host speaks while a board does
            over_at = self._occupy(now, len(data))
            for port in self._ports:
                port.hear(data, over_at)

    async def _to_host(self) -> None:
        while True:
            not_before, data = await self._queued.receive()
            # one sleep for everything: each would be late by as much as the system's clock is coarse
            await trio.sleep_until(self._occupy(max(not_before, trio.current_time()), len(data)))
            self.board_bytes += len(data)
            self.line.send(data)

    def _occupy(self, earliest: float, octets: int) -> float:
        """Take the wire for so many bytes; when they are over."""
        self._busy_until = max(earliest, self._busy_until) + octets * self._byte_s
        return self._busy_until
