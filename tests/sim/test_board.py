"""The simulated board over a real pty: its language, its counters, its faults."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.base import Barrier as Sensed
from protocols import board4
from protocols.board4 import State, Status
from protocols.messages import Direction
from sim import truth
from sim.barrier import Timing
from sim.board import SimBoard

patient = pytest.fixture(autouse=True)(patient_time)

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
FAST = Timing(opening_s=0.03, closing_s=0.03, open_s=5.0, alarm_s=1.0)
ANSWER_S = 5.0


class Host:
    """The server's side of the line: plain reads and writes on the linked tty."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._framer = board4.Board4Framer()

    def close(self) -> None:
        os.close(self._file)

    def send(self, data: bytes) -> None:
        assert os.write(self._file, data) == len(data)

    async def ask(self, data: bytes) -> Status:
        self.send(data)
        with trio.fail_after(ANSWER_S):
            while True:
                await trio.lowlevel.wait_readable(self._file)
                for frame in self._framer.feed(os.read(self._file, 100)):
                    return board4.decode_status(frame)

    async def silent(self, data: bytes, wait_s: float = 0.2) -> bool:
        with trio.move_on_after(wait_s):
            await self.ask(data)
            return False
        return True


@asynccontextmanager
async def board(tmp_path: Path, **options: object) -> AsyncIterator[tuple[SimBoard, Host]]:
    with truth.Truth(tmp_path / "truth.jsonl") as writer:
        made = SimBoard("n1", tmp_path / "dev" / "n1-board", writer, timing=FAST, **options)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            host = Host(made.line.path)
            try:
                yield made, host
            finally:
                host.close()
                nursery.cancel_scope.cancel()


async def test_opens_on_command_counts_the_person_and_writes_the_truth(tmp_path: Path) -> None:
    async with board(tmp_path) as (made, host):
        assert await host.ask(board4.query(1)) == board4.status(1, State.CLOSED_IDLE, 0, 0)
        assert (await host.ask(board4.enter_open(1))).entries == 0
        assert await made.barrier.wait_turn(ENTRY, 5)
        assert (await host.ask(board4.query(1))).state is State.OPEN_ENTRY
        await made.barrier.walk(ENTRY, 0.05, ticket=7, visitor="v1")
        assert await made.barrier.until(lambda: made.barrier.sensed is Sensed.CLOSED, 5)
        assert await host.ask(board4.query(1)) == board4.status(1, State.CLOSED_IDLE, 1, 0)
    events = list(truth.read(tmp_path / "truth.jsonl"))
    assert [event.state for event in events if isinstance(event, truth.Barrier)] == [
        "opening",
        "open",
        "closing",
        "closed",
    ]
    (sensor,) = (event for event in events if isinstance(event, truth.Sensor))
    assert (sensor.lane, sensor.direction, sensor.kind, sensor.seq, sensor.ticket) == ("n1", "entry", "granted", 1, 7)


async def test_exit_is_free_and_counted(tmp_path: Path) -> None:
    async with board(tmp_path) as (made, host):
        assert await made.barrier.ask_exit(5)
        assert (await host.ask(board4.query(1))).state is State.OPEN_EXIT
        await made.barrier.walk(EXIT, 0.05)
        assert (await host.ask(board4.query(1))).exits == 1


async def test_another_address_is_silent_and_broadcast_is_obeyed_without_an_answer(tmp_path: Path) -> None:
    async with board(tmp_path, address=3) as (made, host):
        assert await host.silent(board4.query(1))
        assert await host.silent(board4.enter_hold(board4.BROADCAST))
        assert (await host.ask(board4.query(3))).state is State.OPEN_MANUAL
        assert made.barrier.passable(EXIT)


async def test_hold_opens_for_everybody_until_both_are_closed(tmp_path: Path) -> None:
    async with board(tmp_path) as (_, host):
        await host.ask(board4.exit_hold(1))
        await host.ask(board4.enter_hold(1))
        await trio.sleep(0.1)
        assert (await host.ask(board4.query(1))).state is State.OPEN_MANUAL
        await host.ask(board4.enter_close(1))
        assert (await host.ask(board4.query(1))).state is State.OPEN_MANUAL
        await host.ask(board4.exit_close(1))
        await trio.sleep(0.1)
        assert (await host.ask(board4.query(1))).state is State.CLOSED_IDLE
    events = list(truth.read(tmp_path / "truth.jsonl"))
    assert sum(isinstance(event, truth.Release) for event in events) == 1
    assert sum(isinstance(event, truth.Rearm) for event in events) == 1


async def test_tailgating_is_shown_for_a_while_and_counted(tmp_path: Path) -> None:
    async with board(tmp_path) as (made, host):
        await host.ask(board4.enter_open(1))
        await made.barrier.wait_turn(ENTRY, 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.barrier.walk, ENTRY, 0.3)
            await trio.sleep(0.05)
            nursery.start_soon(made.barrier.walk, ENTRY, 0.3)
            await trio.sleep(0.05)
            assert (await host.ask(board4.query(1))).state is State.TAILGATING
        answer = await host.ask(board4.query(1))
        assert answer.entries == 2
        await trio.sleep(1.2)
        assert (await host.ask(board4.query(1))).state is State.CLOSED_IDLE


async def test_the_fire_contact_opens_without_a_command(tmp_path: Path) -> None:
    async with board(tmp_path) as (made, host):
        made.fire(True)
        await trio.sleep(0.1)
        assert (await host.ask(board4.query(1))).state is State.OPEN_FIRE
        await host.ask(board4.enter_close(1))
        assert (await host.ask(board4.query(1))).state is State.OPEN_FIRE


async def test_power_loss_is_reported_and_commands_do_nothing(tmp_path: Path) -> None:
    async with board(tmp_path) as (made, host):
        made.barrier.power(False)
        assert (await host.ask(board4.enter_open(1))).state is State.CLOSED_POWER_LOSS
        made.barrier.power(True)
        assert made.barrier.credits(ENTRY) == 0


async def test_a_lost_reply_is_not_a_failed_open(tmp_path: Path) -> None:
    async with board(tmp_path, lost_replies=1.0, rng=random.Random(1)) as (made, host):
        assert await host.silent(board4.enter_open(1))
        assert await made.barrier.wait_turn(ENTRY, 5)


async def test_garbage_and_unknown_commands_disturb_nothing(tmp_path: Path) -> None:
    async with board(tmp_path) as (_, host):
        host.send(bytes(range(256)))
        host.send(board4.encode_frame(board4.Frame(1, 2, 0, 1, bytes((0, 99, 0, 0, 0, 0, 0, 0)))))
        host.send(board4.query(1)[:9])
        assert (await host.ask(board4.query(1))).state is State.CLOSED_IDLE


async def test_counters_outlive_the_host_and_the_simulator(tmp_path: Path) -> None:
    kept = tmp_path / "counters"
    async with board(tmp_path, counters_file=kept) as (made, host):
        await host.ask(board4.enter_open(1))
        await made.barrier.wait_turn(ENTRY, 5)
        await made.barrier.walk(ENTRY, 0.01)
    async with board(tmp_path, counters_file=kept) as (_, host):
        assert (await host.ask(board4.query(1))).entries == 1


async def test_the_host_may_go_and_come_back_and_misses_only_what_was_said_meanwhile(tmp_path: Path) -> None:
    async with board(tmp_path) as (made, host):
        host.close()
        await made.barrier.ask_exit(5)
        await made.barrier.walk(EXIT, 0.01)
        again = Host(made.line.path)
        try:
            assert (await again.ask(board4.query(1))).exits == 1
        finally:
            again.close()
        host._file = os.open(os.devnull, os.O_RDONLY)  # closed again by the fixture


async def test_a_pulled_cable_hangs_up_and_comes_back(tmp_path: Path) -> None:
    async with board(tmp_path) as (made, host):
        assert (await host.ask(board4.query(1))).state is State.CLOSED_IDLE
        made.line.unplug()
        assert not made.line.path.exists()
        with pytest.raises(OSError, match=r"Input/output|Errno 5"):
            host.send(board4.query(1))
        made.line.plug()
        again = Host(made.line.path)
        try:
            assert (await again.ask(board4.query(1))).state is State.CLOSED_IDLE
        finally:
            again.close()
