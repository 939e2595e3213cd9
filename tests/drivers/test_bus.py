"""Several boards on one line: nobody waits for the dead, a release goes before everything, each gate comes and goes.

The boards are our own simulators on a simulated line that keeps the pace of a wire (`sim.bus`).
"""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from core.testing import patient_time
from drivers.base import Availability, Barrier, BarrierChanged, DeviceDown, DeviceEvent, DeviceUp, PassageCounted
from drivers.testing import open_descriptors
from drivers.turnstile import Buses, TurnstileGate
from drivers.turnstile._bus import Bus
from protocols import board4
from protocols.board4 import Action
from protocols.messages import Direction
from sim.barrier import Timing
from sim.board import SimBoard
from sim.bus import SimBus
from sim.truth import Truth
from sim.turnstile import SimTpw

patient = pytest.fixture(autouse=True)(patient_time)

E = TypeVar("E", bound=DeviceEvent)
ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
FAST = Timing(opening_s=0.02, closing_s=0.02, open_s=2.0, alarm_s=0.5)
BAUD = 115200
WAIT_S = 20.0


class Seat:
    """One board of the line, its gate, and everything that the gate reported."""

    def __init__(self, board: Any, gate: TurnstileGate) -> None:
        self.board = board
        self.gate = gate
        self.events: list[DeviceEvent] = []
        self.scope = trio.CancelScope()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def seen(self) -> Barrier:
        for event in reversed(self.events):
            if isinstance(event, BarrierChanged | DeviceUp):
                return event.barrier
        return Barrier.UNKNOWN

    @property
    def down(self) -> bool:
        return self.gate.statistics().availability is Availability.UNAVAILABLE

    def die(self) -> None:
        self.board.mischief.deaf = self.board.mischief.silent = True

    def come_back(self) -> None:
        self.board.mischief.deaf = self.board.mischief.silent = False

    def executed(self, *actions: Action) -> int:
        return sum(command.action in actions for command in self.board.commands)

    async def run(self) -> None:
        with self.scope:
            await self.gate.run(self.events.append)


class Rig:
    """A line with boards 1 … n, and a gate for each."""

    def __init__(self, folder: Path, truth: Truth, units: int, baud: int, unkind: Iterable[int]) -> None:
        self.bus = SimBus(folder / "bus", baud)
        self.buses = Buses(random.Random(3))
        self.baud = baud
        self.seats: dict[int, Seat] = {}
        for address in range(1, units + 1):
            board = SimBoard(f"n{address}", folder, truth, address=address, timing=FAST, port=self.bus.port())
            self.seats[address] = Seat(board, self.gate(address))
        for address in unkind:
            self.seats[address].die()

    def gate(self, address: int) -> TurnstileGate:
        return self.buses.gate("board4", path=str(self.bus.line.path), baud=self.baud, address=address)

    def __getitem__(self, address: int) -> Seat:
        return self.seats[address]

    def live(self) -> list[Seat]:
        return [seat for seat in self.seats.values() if not seat.board.mischief.deaf]

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(WAIT_S):
            while not condition():
                await trio.sleep(0.002)

    async def lets_one_in(self, address: int) -> float:
        """Seconds from the wish until the barrier stands open for him."""
        seat = self[address]
        before = len(seat.of(PassageCounted))
        began = trio.current_time()
        seat.gate.open(ENTRY, 1, 5.0)
        assert await seat.board.barrier.wait_turn(ENTRY, WAIT_S)
        took = trio.current_time() - began
        await seat.board.barrier.walk(ENTRY, 0.01)
        await self.until(lambda: len(seat.of(PassageCounted)) == before + 1)
        return took


@asynccontextmanager
async def rig_of(
    folder: Path, units: int, *, baud: int = BAUD, dead: Iterable[int] = (), ready: bool = True
) -> AsyncIterator[Rig]:
    with Truth(folder / "truth.jsonl") as truth:
        rig = Rig(folder, truth, units, baud, dead)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.bus.run)
            for seat in rig.seats.values():
                nursery.start_soon(seat.board.run)
                nursery.start_soon(seat.run)
            if ready:
                await rig.until(lambda: all(seat.of(DeviceUp) for seat in rig.live()))
            yield rig
            nursery.cancel_scope.cancel()


async def test_two_gates_that_name_one_path_share_its_line(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 3) as rig:
        for address in (2, 3, 1, 2):
            await rig.lets_one_in(address)
        assert [len(rig[address].of(PassageCounted)) for address in (1, 2, 3)] == [1, 2, 1]
        assert [seat.executed(Action.ENTER_OPEN) for seat in rig.seats.values()] == [1, 2, 1]
        assert not any(seat.of(DeviceDown) for seat in rig.seats.values())


async def test_a_line_of_eight_where_all_let_somebody_in_at_once(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 8) as rig:
        async with trio.open_nursery() as nursery:
            for address in rig.seats:
                nursery.start_soon(rig.lets_one_in, address)
        assert all(seat.executed(Action.ENTER_OPEN) == 1 for seat in rig.seats.values())


async def test_the_dead_hold_nobody(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 8, dead=(2, 4, 6)) as rig:
        await rig.until(lambda: all(rig[each].down for each in (2, 4, 6)))
        took = [await rig.lets_one_in(address) for address in (1, 3, 5, 7, 8) for _ in range(2)]
        assert sorted(took)[len(took) // 2] < 0.25  # half a second each would be 1.5 s for the three
        assert not any(seat.of(DeviceDown) for seat in rig.live())


async def test_the_dead_are_asked_seldom_and_all_together_so(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 6, dead=(2, 3, 4, 5)) as rig:
        await rig.until(lambda: all(rig[each].down for each in (2, 3, 4, 5)))
        before = {address: rig[address].gate.statistics().frames_out for address in rig.seats}
        began = trio.current_time()
        await rig.until(lambda: rig[1].gate.statistics().frames_out - before[1] >= 15)
        asked = {address: rig[address].gate.statistics().frames_out - before[address] for address in rig.seats}
        assert sum(asked[each] for each in (2, 3, 4, 5)) <= 2 * (trio.current_time() - began) + 2
        assert asked[6] >= 5


async def test_a_unit_that_dies_and_returns_in_the_middle_of_traffic(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 4) as rig:
        served = 0

        async def traffic() -> None:
            nonlocal served
            while True:
                for address in (1, 3, 4):
                    await rig.lets_one_in(address)
                    served += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(traffic)
            await rig.until(lambda: served >= 3)
            rig[2].die()
            await rig.until(lambda: rig[2].of(DeviceDown))
            there = served
            await rig.until(lambda: served >= there + 6)
            rig[2].come_back()
            returned = trio.current_time()
            await rig.until(lambda: len(rig[2].of(DeviceUp)) == 2)
            assert trio.current_time() - returned < 10.0
            await rig.lets_one_in(2)
            nursery.cancel_scope.cancel()
        assert len(rig[2].of(DeviceDown)) == 1
        assert not any(rig[each].of(DeviceDown) for each in (1, 3, 4))


# --- release ----------------------------------------------------------------------------------------------------------


async def test_a_release_of_all_is_broadcast_and_sensed_one_by_one(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 12, dead=(3, 9)) as rig:
        await rig.until(lambda: rig[3].down and rig[9].down)
        for seat in rig.seats.values():
            seat.gate.release()
        await rig.until(lambda: all(seat.seen() is Barrier.RELEASED for seat in rig.live()))
        assert all(seat.executed(Action.EXIT_HOLD) >= 2 for seat in rig.live())  # by the broadcast, and by its own


async def test_a_board_that_hears_and_does_not_answer_is_released_by_the_broadcast(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 4) as rig:
        rig[2].board.mischief.silent = True
        await rig.until(lambda: rig[2].down)
        for seat in rig.seats.values():
            seat.gate.release()
        await rig.until(lambda: rig[2].executed(Action.EXIT_HOLD))


async def test_a_release_of_one_lane_opens_no_other(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 4) as rig:
        rig[2].gate.release()
        await rig.until(lambda: rig[2].seen() is Barrier.RELEASED)
        await trio.sleep(0.3)
        assert [seat.executed(Action.EXIT_HOLD, Action.ENTER_HOLD) > 0 for seat in rig.seats.values()] == [
            False,
            True,
            False,
            False,
        ]
        await rig.lets_one_in(1)


async def test_a_release_while_a_dead_board_is_being_waited_for(tmp_path: Path) -> None:
    """At 9600 baud a wait takes a tenth of a second: the release does not wait for its end."""
    async with rig_of(tmp_path, 3, baud=9600, dead=(2,)) as rig:
        await rig.until(lambda: rig[2].down)
        bus: Bus = rig[1].gate._bus
        heard_before = 0

        async def waiting() -> None:
            with trio.fail_after(WAIT_S):
                while bus._asked is None or bus._asked.place != 2:
                    await trio.sleep(0.001)

        for round_ in range(3):
            await waiting()
            heard_before = rig.bus.host_bytes
            rig[3].gate.release()
            assert bus._nap is not None and bus._nap.cancel_called, f"still waits, round {round_}"
            await rig.until(lambda: rig[3].seen() is Barrier.RELEASED)
            # the next frame on the line is the release
            assert rig[3].board.commands[-1].action is Action.EXIT_HOLD and rig.bus.host_bytes > heard_before
            rig[3].gate.rearm()
            await rig.until(lambda: rig[3].seen() is Barrier.CLOSED)


async def test_an_answer_of_a_living_board_is_not_talked_into(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 2, baud=9600) as rig:
        bus: Bus = rig[1].gate._bus
        for _ in range(5):
            with trio.fail_after(WAIT_S):
                while bus._asked is None or bus._asked.place != 1 or bus._asked.unheard > 1:
                    await trio.sleep(0.001)
            rig[2].gate.release()
            assert bus._nap is not None and not bus._nap.cancel_called
            rig[2].gate.rearm()
            await rig.until(lambda: rig[2].seen() is Barrier.CLOSED)


async def test_a_release_goes_before_openings_that_wait(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 8, baud=9600) as rig:
        for address in range(1, 8):
            rig[address].gate.open(ENTRY, 1, 5.0)
        rig[8].gate.release()
        await rig.until(lambda: rig[8].executed(Action.EXIT_HOLD))
        assert sum(rig[each].executed(Action.ENTER_OPEN) for each in range(1, 8)) <= 1  # the one on the wire
        await rig.until(lambda: all(rig[each].executed(Action.ENTER_OPEN) for each in range(1, 8)))


async def test_released_boards_are_kept_open_while_others_work(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 3) as rig:
        rig[2].gate.release()
        await rig.until(lambda: rig[2].seen() is Barrier.RELEASED)
        rig[2].board.mischief.lose = 3
        for _ in range(3):
            await rig.lets_one_in(1)
            await rig.lets_one_in(3)
        assert rig[2].seen() is Barrier.RELEASED


async def test_after_an_evacuation_each_lane_is_rearmed_on_its_own(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 3) as rig:
        for seat in rig.seats.values():
            seat.gate.release()
        await rig.until(lambda: all(seat.seen() is Barrier.RELEASED for seat in rig.seats.values()))
        rig[2].gate.rearm()
        await rig.until(lambda: rig[2].seen() is Barrier.CLOSED)
        await trio.sleep(0.3)
        assert rig[1].seen() is rig[3].seen() is Barrier.RELEASED
        await rig.lets_one_in(2)


# --- gates come and go ------------------------------------------------------------------------------------------------


async def test_a_gate_that_ends_leaves_the_others_untouched(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 3) as rig:
        for address in (1, 2):  # one of them held the line for all
            rig[address].scope.cancel()
            await rig.lets_one_in(3)
        assert rig[3].gate.statistics().reconnects == 0
        assert not rig[3].of(DeviceDown) and len(rig[3].of(DeviceUp)) == 1


async def test_a_gate_made_anew_waits_for_its_place_and_takes_it(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 2) as rig:
        fresh = Seat(rig[1].board, rig.gate(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fresh.run)
            await trio.sleep(0.2)
            assert not fresh.events  # the old one serves it
            rig[1].scope.cancel()
            await rig.until(lambda: fresh.of(DeviceUp))
            rig.seats[1] = fresh
            await rig.lets_one_in(1)
            await rig.lets_one_in(2)
            nursery.cancel_scope.cancel()
        assert rig[2].gate.statistics().reconnects == 0 and not rig[2].of(DeviceDown)


async def test_two_gates_for_one_address_are_said_so(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 1) as rig:
        second = Seat(rig[1].board, rig.gate(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.run)
            await rig.until(lambda: second.of(DeviceDown))
            assert "another gate" in second.of(DeviceDown)[0].reason
            await rig.lets_one_in(1)
            nursery.cancel_scope.cancel()


async def test_a_fault_in_reporting_one_board_ends_that_gate_only(tmp_path: Path) -> None:
    class Fault(Exception):
        pass

    def raising(event: DeviceEvent) -> None:
        if isinstance(event, BarrierChanged):
            raise Fault

    async with rig_of(tmp_path, 3) as rig:
        rig[2].scope.cancel()
        await rig.until(lambda: len(rig[1].gate._bus._units) == 2)
        faulty = rig.gate(2)
        with pytest.RaisesGroup(Fault):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(faulty.run, raising)
                await rig.until(lambda: faulty.statistics().availability is Availability.AVAILABLE)
                faulty.open(ENTRY, 1, 3.0)
                await trio.sleep(WAIT_S)
        await rig.lets_one_in(1)
        await rig.lets_one_in(3)
        assert rig[1].gate.statistics().reconnects == 0


async def test_the_last_gate_closes_the_line(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 2) as rig:
        before = open_descriptors()
        rig[1].scope.cancel()
        rig[2].scope.cancel()
        await rig.until(lambda: not rig.bus.line.listening)
        assert open_descriptors() == before - 1


async def test_a_pulled_cable_is_told_to_all_and_all_come_back(tmp_path: Path) -> None:
    async with rig_of(tmp_path, 3) as rig:
        rig.bus.line.unplug()
        await rig.until(lambda: all(seat.of(DeviceDown) for seat in rig.seats.values()))
        rig.bus.line.plug()
        await rig.until(lambda: all(len(seat.of(DeviceUp)) == 2 for seat in rig.seats.values()))
        assert all(len(seat.of(DeviceDown)) == 1 for seat in rig.seats.values())
        assert all(seat.gate.statistics().reconnects == 1 for seat in rig.seats.values())


async def test_a_line_that_is_never_there_is_said_once_to_each(tmp_path: Path) -> None:
    buses, told = Buses(), {1: [], 2: []}
    with trio.move_on_after(0.8):
        async with trio.open_nursery() as nursery:
            for address, events in told.items():
                gate = buses.gate("board4", path=str(tmp_path / "none"), address=address)
                nursery.start_soon(gate.run, events.append)
    assert [[type(event) for event in events] for events in told.values()] == [[DeviceDown], [DeviceDown]]


# --- other ways -------------------------------------------------------------------------------------------------------


async def test_several_tpw_boards_on_one_line(tmp_path: Path) -> None:
    with Truth(tmp_path / "truth.jsonl") as truth:
        bus = SimBus(tmp_path / "bus", 38400)
        buses = Buses(random.Random(5))
        seats = []
        for address in (1, 2, 7):
            board = SimTpw(f"n{address}", truth, address=address, port=bus.port(), timing=FAST)
            gate = buses.gate("tpw", path=str(bus.line.path), baud=38400, address=address)
            seats.append(Seat(board, gate))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bus.run)
            for seat in seats:
                nursery.start_soon(seat.board.run)
                nursery.start_soon(seat.run)
            with trio.fail_after(WAIT_S):
                while not all(seat.of(DeviceUp) for seat in seats):
                    await trio.sleep(0.01)
                for seat in seats:
                    seat.gate.open(ENTRY, 1, 5.0)
                for seat in seats:
                    assert await seat.board.barrier.wait_turn(ENTRY, WAIT_S)
                    await seat.board.barrier.walk(ENTRY, 0.01)
                while not all(len(seat.of(PassageCounted)) == 1 for seat in seats):
                    await trio.sleep(0.01)
            assert seats[0].gate.statistics().firmware == "V1.0"
            nursery.cancel_scope.cancel()


class UdpBoard:
    """A board 4 that is reached by datagrams, as in the published host program: it answers whoever asked."""

    def __init__(self) -> None:
        self.socket = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.entries = 0
        self.state = board4.State.CLOSED_IDLE
        self.commands: list[board4.Command] = []
        self.lose = 0

    async def run(self) -> None:
        while True:
            data, asker = await self.socket.recvfrom(100)
            command = board4.decode_command(board4.decode_frame(data))
            if command.action is Action.ENTER_OPEN:
                self.state = board4.State.OPEN_ENTRY
            elif command.action is Action.EXIT_HOLD:
                self.state = board4.State.OPEN_IDLE
            if command.action is not None:
                self.commands.append(command)
            if self.lose > 0:
                self.lose -= 1
                continue
            await self.socket.sendto(board4.encode_status(board4.status(1, self.state, self.entries, 0)), asker)


async def test_board_4_by_datagrams_with_lost_ones(tmp_path: Path) -> None:
    board = UdpBoard()
    await board.socket.bind(("127.0.0.1", 0))
    gate = Buses().gate("board4", host="127.0.0.1", port=board.socket.getsockname()[1], poll_s=0.02)
    seat = Seat(board, gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.run)
        nursery.start_soon(seat.run)
        with trio.fail_after(WAIT_S):
            while not seat.of(DeviceUp):
                await trio.sleep(0.01)
            board.lose = 2
            gate.open(ENTRY, 1, 5.0)
            while seat.seen() is not Barrier.OPEN:
                await trio.sleep(0.01)
            board.entries, board.state = 1, board4.State.CLOSED_IDLE
            while not seat.of(PassageCounted):
                await trio.sleep(0.01)
            gate.release()
            while seat.seen() is not Barrier.RELEASED:
                await trio.sleep(0.01)
        assert [command.action for command in board.commands].count(Action.ENTER_OPEN) == 1
        nursery.cancel_scope.cancel()
    board.socket.close()


async def test_a_stranger_s_datagram_is_not_heard(tmp_path: Path) -> None:
    board = UdpBoard()
    await board.socket.bind(("127.0.0.1", 0))
    gate = Buses().gate("board4", host="127.0.0.1", port=board.socket.getsockname()[1], poll_s=0.02)
    seat = Seat(board, gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.run)
        nursery.start_soon(seat.run)
        with trio.fail_after(WAIT_S):
            while not seat.of(DeviceUp):
                await trio.sleep(0.01)
        line = gate._bus._line
        port = line._socket.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(3):
                said = board4.encode_status(board4.status(1, board4.State.OPEN_IDLE, 9, 9))
                stranger.sendto(said, ("127.0.0.1", port))
        await trio.sleep(0.2)
        assert seat.seen() is Barrier.CLOSED and not seat.of(PassageCounted)
        nursery.cancel_scope.cancel()
    board.socket.close()


# --- a long day -------------------------------------------------------------------------------------------------------

SOAK_S = 25.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_day_of_faults_on_a_line_of_eight_loses_and_doubles_nobody(tmp_path: Path, seed: int) -> None:
    """Visitors at every gate, boards that fall silent, garble, double, hold back and lose what they say, gates that are
    made anew. In the end every passage was reported once, and nobody passed without a grant."""
    rng = random.Random(seed)
    async with rig_of(tmp_path, 8) as rig:
        granted = dict.fromkeys(rig.seats, 0)
        stop = trio.Event()

        async def visitors(address: int) -> None:
            seat = rig[address]
            while not stop.is_set():
                pax = rng.randint(1, 3)
                seat.gate.open(ENTRY, pax, 1.0)
                for _ in range(rng.randint(0, pax)):
                    if not await seat.board.barrier.wait_turn(ENTRY, 1.5):
                        break
                    await seat.board.barrier.walk(ENTRY, 0.02)
                    granted[address] += 1
                seat.gate.close()
                await seat.board.barrier.until(lambda seat=seat: seat.board.barrier.sensed is Barrier.CLOSED, 3.0)
                await trio.sleep(rng.uniform(0.05, 0.3))

        async def mischief() -> None:
            while not stop.is_set():
                seat = rig[rng.randint(1, 8)]
                made = seat.board.mischief
                match rng.randrange(6):
                    case 0:
                        made.silent = True
                        await trio.sleep(rng.uniform(0.1, 2.5))
                        made.silent = False
                    case 1:
                        made.garbage = rng.randint(1, 3)
                    case 2:
                        made.duplicate = rng.randint(1, 3)
                    case 3:
                        made.reorder = 1
                    case 4:
                        made.lose = rng.randint(1, 4)
                    case 5:
                        made.slow_s = rng.choice([0.0, 0.01, 0.04])
                await trio.sleep(rng.uniform(0.05, 0.3))

        async with trio.open_nursery() as nursery:
            for address in rig.seats:
                nursery.start_soon(visitors, address)
            nursery.start_soon(mischief)
            await trio.sleep(SOAK_S)
            stop.set()
        for seat in rig.seats.values():
            seat.board.mischief.slow_s = 0.0
            seat.board.mischief.silent = False

        def reported(seat: Seat) -> int:
            ups = [event.counters for event in seat.of(DeviceUp) if event.counters is not None]
            counted = [event.counter for event in seat.of(PassageCounted) if event.direction is ENTRY]
            return max([*(each.entries for each in ups), *counted, 0])

        await rig.until(lambda: all(reported(seat) == seat.board.entries for seat in rig.seats.values()))
        for address, seat in rig.seats.items():
            counted = [event.counter for event in seat.of(PassageCounted)]
            assert counted == sorted(set(counted)), "a passage was said twice"
            assert seat.board.entries == granted[address]
            assert {event.epoch for event in seat.of(PassageCounted)} <= {"0"}
        assert sum(granted.values()) > 30
