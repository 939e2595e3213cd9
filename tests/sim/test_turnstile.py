"""The simulated turnstiles over real ptys: their languages as published, their mechanics, their faults."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from core.testing import patient_time
from drivers.base import Barrier as Sensed
from protocols import digicon, machpower, tpw
from protocols.digicon import Code
from protocols.machpower import Command
from protocols.messages import Direction
from protocols.tpw import Kind, Mode, Passing
from sim import truth
from sim.barrier import Timing
from sim.turnstile import SimDigicon, SimMachPower, SimTpw, SimTurnstile

patient = pytest.fixture(autouse=True)(patient_time)

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
FAST = Timing(opening_s=0.02, closing_s=0.02, open_s=3.0, alarm_s=0.5)
ANSWER_S = 10.0


class Host:
    """The server's side of the line: plain reads and writes on the linked tty."""

    def __init__(self, path: Path, framer: Any) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._framer = framer
        self._frames: list[Any] = []

    def send(self, data: bytes) -> None:
        assert os.write(self.file, data) == len(data)

    async def hear(self) -> Any:
        with trio.fail_after(ANSWER_S):
            while not self._frames:
                await trio.lowlevel.wait_readable(self.file)
                self._frames += self._framer.feed(os.read(self.file, 1000))
        return self._frames.pop(0)

    async def ask(self, data: bytes) -> Any:
        self.send(data)
        return await self.hear()

    async def silent(self, data: bytes, wait_s: float = 0.2) -> bool:
        self.send(data)
        with trio.move_on_after(wait_s):
            await self.hear()
            return False
        return True


@asynccontextmanager
async def served(folder: Path, make: Callable[[truth.Truth], SimTurnstile], framer: Any) -> AsyncIterator[Any]:
    with truth.Truth(folder / "truth.jsonl") as writer:
        board = make(writer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.run)
            host = Host(board.port.path, framer)
            yield board, host
            os.close(host.file)
            nursery.cancel_scope.cancel()


async def until(board: SimTurnstile, sensed: Sensed) -> None:
    assert await board.barrier.until(lambda: board.barrier.sensed is sensed, ANSWER_S)


# --- Mach Power -------------------------------------------------------------------------------------------------------


async def test_machpower_obeys_the_published_frames_and_says_nothing(tmp_path: Path) -> None:
    def make(writer: truth.Truth) -> SimTurnstile:
        return SimMachPower("n1", writer, path=tmp_path / "board", timing=FAST)

    async with served(tmp_path, make, machpower.framer()) as (board, host):
        assert await host.silent(bytes.fromhex("EB 01 41 00 AB"))
        assert await board.barrier.wait_turn(ENTRY, ANSWER_S)
        await board.barrier.walk(ENTRY, 0.01)
        await until(board, Sensed.CLOSED)
        host.send(bytes.fromhex("EB 01 40 00 AA"))
        assert await board.barrier.wait_turn(EXIT, ANSWER_S)
        await board.barrier.walk(EXIT, 0.01)
        assert (board.entries, board.exits) == (1, 1)
        host.send(machpower.encode(1, Command.DROP_ARM))
        await until(board, Sensed.RELEASED)
        host.send(machpower.encode(1, Command.RAISE_ARM))
        await until(board, Sensed.CLOSED)
    kinds = [type(event).__name__ for event in truth.read(tmp_path / "truth.jsonl")]
    assert kinds.count("Sensor") == 2


async def test_machpower_banned_opens_for_nobody_until_recovery(tmp_path: Path) -> None:
    def make(writer: truth.Truth) -> SimTurnstile:
        return SimMachPower("n1", writer, path=tmp_path / "board", timing=FAST)

    async with served(tmp_path, make, machpower.framer()) as (board, host):
        host.send(machpower.encode(1, Command.BAN) + machpower.encode(1, Command.RIGHT_OPEN))
        assert not await board.barrier.wait_turn(ENTRY, 0.2)
        host.send(machpower.encode(9, Command.RECOVER) + machpower.encode(1, Command.RIGHT_OPEN))
        assert not await board.barrier.wait_turn(ENTRY, 0.2)
        host.send(machpower.encode(1, Command.RECOVER) + machpower.encode(1, Command.RIGHT_OPEN))
        assert await board.barrier.wait_turn(ENTRY, ANSWER_S)


# --- Digicon ----------------------------------------------------------------------------------------------------------


async def test_digicon_answers_the_published_frames_and_says_who_passed(tmp_path: Path) -> None:
    def make(writer: truth.Truth) -> SimTurnstile:
        return SimDigicon("n1", writer, path=tmp_path / "board", timing=FAST)

    async with served(tmp_path, make, digicon.framer()) as (board, host):
        assert await host.ask(bytes.fromhex("02 02 00 48 48")) == digicon.Frame(Code.ACK)
        assert await board.barrier.wait_turn(EXIT, ANSWER_S)
        await board.barrier.walk(EXIT, 0.01)
        assert await host.hear() == digicon.Frame(Code.PASSED_RIGHT_TO_LEFT)
        assert await host.ask(bytes.fromhex("02 03 00 4C 48 05")) == digicon.Frame(Code.ACK)
        await until(board, Sensed.RELEASED)
        assert await host.ask(digicon.encode(Code.CONTROL)) == digicon.Frame(Code.ACK)
        await until(board, Sensed.CLOSED)


async def test_digicon_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    def make(writer: truth.Truth) -> SimTurnstile:
        return SimDigicon("n1", writer, path=tmp_path / "board", timing=FAST)

    async with served(tmp_path, make, digicon.framer()) as (board, host):
        assert await host.ask(digicon.encode_probe()) == digicon.Frame(Code.NAK)
        board.refuse = 1
        assert await host.ask(digicon.encode(Code.LEFT_TO_RIGHT)) == digicon.Frame(Code.NAK)
        assert board.releases == 0 and not board.barrier.credits(ENTRY)
        assert await host.silent(digicon.encode(Code.ACK))


# --- TPW --------------------------------------------------------------------------------------------------------------


async def test_tpw_tells_its_parameters_one_by_one(tmp_path: Path) -> None:
    def make(writer: truth.Truth) -> SimTurnstile:
        return SimTpw("n1", writer, path=tmp_path / "board", timing=FAST, address=7)

    async with served(tmp_path, make, tpw.framer(addressed=True)) as (board, host):
        board.entries = 12
        kinds = [(await host.ask(tpw.connect(7))).kind for _ in range(11)]
        assert kinds == [
            Kind.CONNECT,
            Kind.MODEL,
            Kind.VERSION,
            Kind.IDENTITY,
            Kind.MODE,
            Kind.PASSAGE,
            Kind.DELAY,
            Kind.SPEED,
            Kind.ENTRIES,
            Kind.EXITS,
            Kind.SENSITIVITY,
        ]
        assert await host.silent(tpw.connect(7))
        assert await host.ask(tpw.read_counter(7, tpw.Counter.ENTRY)) == tpw.Frame(7, Kind.ENTRIES, "000012")
        assert await host.silent(tpw.connect(8))


async def test_tpw_stays_in_its_mode_and_counts(tmp_path: Path) -> None:
    def make(writer: truth.Truth) -> SimTurnstile:
        return SimTpw("n1", writer, path=tmp_path / "board", timing=FAST)

    async with served(tmp_path, make, tpw.framer(addressed=True)) as (board, host):
        done = tpw.Frame(1, Kind.DONE)
        assert await host.ask(tpw.set_mode(1, Mode.ENTRY_OPEN)) == done
        for _ in range(3):
            assert await board.barrier.wait_turn(ENTRY, ANSWER_S)
            await board.barrier.walk(ENTRY, 0.01)
        assert await host.ask(tpw.set_mode(1, Mode.NORMALLY_CLOSED)) == done
        await until(board, Sensed.CLOSED)
        assert (await host.ask(tpw.read_counter(1, tpw.Counter.ENTRY))).content == "000003"
        assert await host.ask(tpw.set_passing(1, Passing.FORBIDDEN, Passing.CONTROLLED)) == done
        assert await host.ask(tpw.set_mode(1, Mode.ENTRY_OPEN)) == done
        assert not await board.barrier.wait_turn(ENTRY, 0.2)
        assert await host.ask(tpw.set_mode(1, Mode.NORMALLY_OPEN)) == done
        await until(board, Sensed.RELEASED)
        board.fail = 1
        assert await host.ask(tpw.set_mode(1, Mode.NORMALLY_CLOSED)) == tpw.Frame(1, Kind.FAILED)
        assert board.barrier.sensed is Sensed.RELEASED


async def test_without_power_nothing_is_heard_and_fire_opens_all_the_same(tmp_path: Path) -> None:
    def make(writer: truth.Truth) -> SimTurnstile:
        return SimTpw("n1", writer, path=tmp_path / "board", timing=FAST)

    async with served(tmp_path, make, tpw.framer(addressed=True)) as (board, host):
        board.power(False)
        assert await host.silent(tpw.set_mode(1, Mode.ENTRY_OPEN))
        board.power(True)
        assert board.mode is Mode.NORMALLY_CLOSED
        board.fire(True)
        await until(board, Sensed.RELEASED)
        board.entries = 5
        board.reset()
        assert (await host.ask(tpw.read_counter(1, tpw.Counter.ENTRY))).content == "000000"
