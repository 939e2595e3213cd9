"""Evacuating the boards of one RS-485 line: 32 of them at 115200 baud, four of which are dead.

The boards are our simulators (`sim.board`, `sim.bus`) behind one pty that keeps the pace of the wire, their turn-round
included; the barriers move at once, so what is measured is the line and the server.  A board counts as released when
its driver has *sensed* it so, from the board's own status.

Measured are the four dead known to be dead, which is the usual case, and dying at the very moment of the release.
Beside it, in the same run and on the same kind of line, the series that this replaces: one board after the other, each
waited for, with half a second for an answer, and with the time that the driver itself gives.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from drivers.base import Availability, Barrier, BarrierChanged, DeviceEvent, DeviceUp
from drivers.serial import open_line
from drivers.turnstile import Buses, TurnstileGate
from protocols import board4
from sim.barrier import Timing
from sim.board import SimBoard
from sim.bus import SimBus
from sim.truth import Truth

UNITS, DEAD = 32, 4
BAUD = 115200
ROUNDS, QUICK_ROUNDS = 7, 1
SERIES_WAIT_S = 0.5  # what the host programs of such boards commonly wait for an answer
OWN_WAIT_S = 0.068  # what the driver waits for this board at this rate
READY_S = 60.0  # everybody is heard, and the dead are known, within this
RELEASE_S = 30.0
POLL_S = 0.002
AT_ONCE = Timing(opening_s=0.0, closing_s=0.0)
DEAD_ONES = frozenset({7, 15, 23, 31})  # spread over the line


class _Line:
    """32 boards on one line."""

    def __init__(self, folder: Path, truth: Truth) -> None:
        self.path = folder / "bus"
        self.bus = SimBus(self.path, BAUD)
        self.boards = {
            address: SimBoard(f"lane{address}", self.path, truth, address=address, timing=AT_ONCE, port=self.bus.port())
            for address in range(1, UNITS + 1)
        }

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.bus.run)
            for board in self.boards.values():
                nursery.start_soon(board.run)

    def kill(self) -> None:
        """Four boards fall silent."""
        for address in DEAD_ONES:
            mischief = self.boards[address].mischief
            mischief.deaf = mischief.silent = True


class _Watch:
    """What one gate reports."""

    def __init__(self) -> None:
        self.barrier = Barrier.UNKNOWN

    def __call__(self, event: DeviceEvent) -> None:
        if isinstance(event, DeviceUp | BarrierChanged):
            self.barrier = event.barrier


@asynccontextmanager
async def _line(folder: Path) -> AsyncIterator[_Line]:
    with Truth(folder / "truth.jsonl") as truth:
        line = _Line(folder, truth)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            yield line
            nursery.cancel_scope.cancel()


async def _until(condition: Callable[[], bool], deadline_s: float) -> None:
    with trio.fail_after(deadline_s):
        while not condition():  # noqa: ASYNC110  what is waited for are the states of many
            await trio.sleep(POLL_S)


async def _release(folder: Path, *, known: bool) -> float:
    """Seconds from the release of all until the last live one is sensed released."""
    async with _line(folder) as line:
        buses = Buses()
        gates: dict[int, TurnstileGate] = {}
        watches: dict[int, _Watch] = {}
        for address in line.boards:
            gates[address] = buses.gate("board4", path=str(line.path), baud=BAUD, address=address)
            watches[address] = _Watch()
        live = [address for address in gates if address not in DEAD_ONES]
        if known:
            line.kill()
        async with trio.open_nursery() as nursery:
            for address, gate in gates.items():
                nursery.start_soon(gate.run, watches[address])
            expected = live if known else list(gates)
            await _until(lambda: all(watches[each].barrier is Barrier.CLOSED for each in expected), READY_S)
            if known:
                await _until(lambda: all(_is_down(gates[each]) for each in DEAD_ONES), READY_S)
            else:
                line.kill()
            begun = trio.current_time()
            for gate in gates.values():
                gate.release()
            await _until(lambda: all(watches[each].barrier is Barrier.RELEASED for each in live), RELEASE_S)
            took = trio.current_time() - begun
            nursery.cancel_scope.cancel()
    return took


def _is_down(gate: TurnstileGate) -> bool:
    return gate.statistics().availability is Availability.UNAVAILABLE


async def _series(folder: Path, wait_s: float) -> float:
    """Seconds from the first command until the last live one has answered, one after the other."""
    async with _line(folder) as line:
        line.kill()
        await trio.sleep(0.1)
        framer = board4.Board4Framer()
        took = 0.0
        with open_line(str(line.path), BAUD) as host:
            await trio.sleep(0.1)  # a simulated line looks for a listener now and then
            begun = trio.current_time()
            for address in line.boards:
                await host.send_all(board4.exit_hold(address))
                with trio.move_on_after(wait_s):
                    while not framer.feed(await host.receive_some()):
                        pass
                    took = trio.current_time() - begun
    return took


async def _measure(rounds: int) -> dict[str, Any]:
    known: list[float] = []
    fresh: list[float] = []
    series: list[float] = []
    own: list[float] = []
    with tempfile.TemporaryDirectory(prefix="paifang-bus-") as name:
        for number in range(rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            known.append(await _release(folder, known=True))
            fresh.append(await _release(folder, known=False))
            series.append(await _series(folder, SERIES_WAIT_S))
            own.append(await _series(folder, OWN_WAIT_S))
    released, in_series = statistics.median(known), statistics.median(series)
    return {
        "bench": "bus",
        "figures": {
            "live_released_ms": round(released * 1e3, 1),
            "live_released_max_ms": round(max(known) * 1e3, 1),
            "dying_at_release_ms": round(statistics.median(fresh) * 1e3, 1),
            "series_ms": round(in_series * 1e3, 1),
            "series_short_wait_ms": round(statistics.median(own) * 1e3, 1),
            "units": UNITS,
            "dead": DEAD,
            "baud": BAUD,
        },
        "ratios": {"live_released_vs_series": round(released / in_series, 3)},
    }


def run(quick: bool = False) -> dict[str, Any]:
    """Measure the release of a line of 32 boards: under a minute, `quick` about eight seconds."""
    return trio.run(_measure, QUICK_ROUNDS if quick else ROUNDS)
