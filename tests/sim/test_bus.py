"""The simulated RS-485 line: the pace of a wire, one frame at a time, and mischief on command."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from sim.bus import Mischief, Port, SimBus

patient = pytest.fixture(autouse=True)(patient_time)

ANSWER_S = 10.0


class Echo:
    """A board that says back what it hears, in capitals, when it begins with its letter."""

    def __init__(self, port: Port, letter: bytes) -> None:
        self.port = port
        self.letter = letter

    async def run(self) -> None:
        while True:
            data = await self.port.receive()
            if data.startswith(self.letter):
                self.port.send(data.upper())


class Host:
    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def send(self, data: bytes) -> None:
        assert os.write(self.file, data) == len(data)

    async def read(self, count: int) -> bytes:
        data = b""
        with trio.fail_after(ANSWER_S):
            while len(data) < count:
                await trio.lowlevel.wait_readable(self.file)
                data += os.read(self.file, 1000)
        return data

    async def silent(self, wait_s: float = 0.3) -> bool:
        with trio.move_on_after(wait_s):
            await trio.lowlevel.wait_readable(self.file)
            return False
        return True


@asynccontextmanager
async def line(folder: Path, baud: int | None) -> AsyncIterator[tuple[SimBus, list[Echo], Host]]:
    bus = SimBus(folder / "bus", baud)
    boards = [Echo(bus.port(), b"a"), Echo(bus.port(), b"b")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.run)
        for board in boards:
            nursery.start_soon(board.run)
        host = Host(bus.line.path)
        yield bus, boards, host
        os.close(host.file)
        nursery.cancel_scope.cancel()


async def test_the_board_that_is_asked_answers(tmp_path: Path) -> None:
    async with line(tmp_path, None) as (bus, _, host):
        host.send(b"abc")
        assert await host.read(3) == b"ABC"
        host.send(b"bcd")
        assert await host.read(3) == b"BCD"
        assert (bus.host_bytes, bus.board_bytes, bus.collisions) == (6, 6, 0)


async def test_bytes_take_their_time_both_ways(tmp_path: Path) -> None:
    async with line(tmp_path, 1200) as (_, _, host):
        host.send(b"a")  # wait until the line has noticed that somebody listens
        await host.read(1)
        began = trio.current_time()
        host.send(b"a" * 12)
        await host.read(12)
        assert trio.current_time() - began >= 24 * 10 / 1200


async def test_a_host_that_talks_into_an_answer_is_counted(tmp_path: Path) -> None:
    async with line(tmp_path, 1200) as (bus, _, host):
        host.send(b"a")
        await host.read(1)
        for _ in range(10):  # on a busy machine the moment may be missed
            host.send(b"a" * 30)
            await trio.sleep(0.4)  # the board has begun
            host.send(b"b")
            await host.read(31)
            if bus.collisions:
                return
        raise AssertionError("no collision was seen")


async def test_mischief_of_one_board_leaves_the_other_alone(tmp_path: Path) -> None:
    async with line(tmp_path, None) as (_, boards, host):
        mischief = boards[0].port.mischief
        for fault in ("silent", "deaf"):
            setattr(mischief, fault, True)
            host.send(b"abc")
            assert await host.silent()
            setattr(mischief, fault, False)
            host.send(b"bcd")
            assert await host.read(3) == b"BCD"
        mischief.slow_s = 0.2
        began = trio.current_time()
        host.send(b"abc")
        assert await host.read(3) == b"ABC" and trio.current_time() - began >= 0.2


def test_each_kind_of_mischief_does_what_it_says() -> None:
    made = Mischief(random.Random(1))
    assert made.said(b"one") == [b"one"]
    made.duplicate = 1
    assert made.said(b"two") == [b"two", b"two"]
    made.lose = 1
    assert made.said(b"three") == []
    made.garbage = 1
    (damaged,) = made.said(b"four")
    assert len(damaged) == 4 and damaged != b"four"
    assert sum((one ^ other).bit_count() for one, other in zip(damaged, b"four", strict=True)) == 1
    made.reorder = 1
    assert made.said(b"five") == []
    assert made.said(b"six") == [b"six", b"five"]
    assert made.said(b"seven") == [b"seven"]
    made.silent = True
    assert made.said(b"eight") == []
