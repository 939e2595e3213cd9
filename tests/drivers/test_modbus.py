"""Modbus against foreign peers and against our own simulated boards, over ptys and TCP.

Foreign: a small C server on Debian's libmodbus answers our driver, and Debian's `mbpoll` asks our simulator, each over
RTU and over TCP.  Faults (silence, garbage, late answers, power) are played by our own simulator, `sim.modbus`.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers._statistics import Meter
from drivers.base import (
    Availability,
    Barrier,
    BarrierChanged,
    DeviceDown,
    DeviceUp,
    InputChanged,
    InputState,
    PassageCounted,
)
from drivers.errors import DeviceRefused, DeviceUnavailable
from drivers.modbus import Contact, ContactInputs, ContactKind, ModbusBus, RelayGate, RelayWiring, Turn
from drivers.modbus._contact import Watched
from drivers.modbus.testing import Recorder, until
from drivers.testing import open_descriptors, pty_line
from protocols.messages import Direction
from protocols.modbus import Function, read_bits, read_registers, write_coil, write_coils
from sim.modbus import SimModbus, SimRelayGate, SimUnit

patient = pytest.fixture(autouse=True)(patient_time)

HERE = Path(__file__).parent
ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
COMPILE_LIMIT_S = 60
READY_S = 20.0
WIRING = RelayWiring(
    open_coil=0, exit_coil=1, hold_coil=2, open_input=0, closed_input=1, entry_register=0, exit_register=1, pulse_s=0.2
)


# --- foreign peers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def libmodbus_server(tmp_path_factory) -> Path:
    """The C server, compiled once."""
    for needed in ("gcc", "pkg-config"):
        assert shutil.which(needed), f"{needed} is missing: tools/debian.py installs it"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False
    )
    assert flags.returncode == 0, f"libmodbus-dev is missing: tools/debian.py installs it. {flags.stderr}"
    program = tmp_path_factory.mktemp("libmodbus") / "modbus_server"
    subprocess.run(
        ["gcc", "-O1", "-Wall", "-Werror", str(HERE / "modbus_server.c"), "-o", str(program), *flags.stdout.split()],
        check=True,
        timeout=COMPILE_LIMIT_S,
    )
    return program


@asynccontextmanager
async def c_server(program: Path, *words: str) -> AsyncIterator[int]:
    """The foreign server running; yields its port."""
    process = await trio.lowlevel.open_process([str(program), *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = b""
        with trio.fail_after(READY_S):
            while not said.endswith(b"\n"):
                part = await process.stdout.receive_some(64)
                assert part, "the server ended"
                said += part
        yield int(said.split()[1])
    finally:
        process.kill()
        await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


@asynccontextmanager
async def joined_ptys(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Two serial lines, each the other's far end."""
    with pty_line(folder / "ours") as ours, pty_line(folder / "theirs") as theirs:

        async def carry(source, target):
            while True:
                await target.write(await source.read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry, ours, theirs)
            nursery.start_soon(carry, theirs, ours)
            yield ours.path, theirs.path
            nursery.cancel_scope.cancel()


async def drives_a_foreign_server(bus: ModbusBus) -> None:
    """Everything that we ever ask of a board, of libmodbus."""
    meter = Meter()
    async with bus.attached():
        inputs = await bus.call(read_bits(1, Function.READ_DISCRETE_INPUTS, 0, 3), Turn.POLL, meter)
        assert inputs.bits == (False, True, False)
        counters = await bus.call(read_registers(1, Function.READ_INPUT_REGISTERS, 0, 2), Turn.POLL, meter)
        assert counters.registers == (7, 3)
        await bus.call(write_coil(1, 0, True), Turn.COMMAND, meter)
        await bus.call(write_coils(1, 8, (True, False, True)), Turn.COMMAND, meter)
        coils = await bus.call(read_bits(1, Function.READ_COILS, 0, 11), Turn.POLL, meter)
        assert coils.bits == (True, *(False,) * 7, True, False, True)
        holding = await bus.call(read_registers(1, Function.READ_HOLDING_REGISTERS, 0, 2), Turn.POLL, meter)
        assert holding.registers == (0, 0)
        with pytest.raises(DeviceRefused, match="illegal address"):
            await bus.call(read_bits(1, Function.READ_COILS, 5000, 2), Turn.POLL, meter)
    assert meter.bad_frames == 0


async def test_our_client_drives_a_libmodbus_server_over_tcp(libmodbus_server):
    async with c_server(libmodbus_server, "tcp") as port:
        await drives_a_foreign_server(ModbusBus.tcp("127.0.0.1", port, answer_s=5.0))


async def test_our_client_drives_a_libmodbus_server_over_rtu(libmodbus_server, tmp_path):
    async with joined_ptys(tmp_path) as (ours, theirs), c_server(libmodbus_server, "rtu", theirs):
        await drives_a_foreign_server(ModbusBus.serial(ours, 9600, answer_s=5.0))


async def test_a_gate_on_a_libmodbus_board_opens_holds_and_rearms(libmodbus_server):
    async with c_server(libmodbus_server, "tcp") as port:
        gate = RelayGate(ModbusBus.tcp("127.0.0.1", port, answer_s=5.0), 1, WIRING, poll_s=0.02)
        heard = Recorder()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.run, heard)
            await until(lambda: heard.of(DeviceUp))
            up = heard.of(DeviceUp)[0]
            assert up.counters is not None and (up.counters.entries, up.counters.exits) == (7, 3)
            assert up.barrier is Barrier.CLOSED
            gate.open(ENTRY, 1, 10.0)
            await until(lambda: moves(heard) == [Barrier.OPEN, Barrier.CLOSED])  # on, and off again by itself
            gate.release()
            await until(lambda: moves(heard)[-1:] == [Barrier.RELEASED])
            gate.rearm()
            await until(lambda: moves(heard)[-1:] == [Barrier.CLOSED])
            nursery.cancel_scope.cancel()


async def mbpoll(*words: str) -> str:
    assert shutil.which("mbpoll"), "mbpoll is missing: tools/debian.py installs it"
    with trio.fail_after(READY_S):
        done = await trio.run_process(["mbpoll", *words], capture_stdout=True, capture_stderr=True, check=False)
    text = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, text
    return text


def values(text: str) -> list[int]:
    """The values that mbpoll printed."""
    return [int(line.split(":")[1].split()[0]) for line in text.splitlines() if line.startswith("[")]


async def asked_by_mbpoll(unit: SimUnit, *where: str) -> None:
    """mbpoll reads all four tables of the simulator and switches a coil."""
    unit.inputs[1] = True
    unit.set_counter(0, 4711)
    unit.holding_registers[2] = 815
    common = ["-0", "-1", "-a", "1", "-o", "5"]
    assert values(await mbpoll(*common, "-t", "1", "-r", "0", "-c", "3", *where)) == [0, 1, 0]
    assert values(await mbpoll(*common, "-t", "3", "-r", "0", "-c", "2", *where)) == [4711, 0]
    assert values(await mbpoll(*common, "-t", "4", "-r", "2", "-c", "1", *where)) == [815]
    await mbpoll(*common, "-t", "0", "-r", "5", *where, "1")
    assert unit.coils[5] is True
    assert values(await mbpoll(*common, "-t", "0", "-r", "4", "-c", "3", *where)) == [0, 1, 0]


async def test_mbpoll_reads_and_switches_our_simulator_over_tcp():
    unit = SimUnit(1)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(SimModbus(unit).serve_tcp)
        await asked_by_mbpoll(unit, "-m", "tcp", "-p", str(port), "127.0.0.1")
        nursery.cancel_scope.cancel()


async def test_mbpoll_reads_and_switches_our_simulator_over_rtu(tmp_path):
    unit = SimUnit(1)
    async with trio.open_nursery() as nursery:
        await nursery.start(SimModbus(unit).serve_line, tmp_path / "line")
        await asked_by_mbpoll(unit, "-m", "rtu", "-b", "9600", "-P", "none", str(tmp_path / "line"))
        nursery.cancel_scope.cancel()


# --- a gate on our simulator --------------------------------------------------------------------------------------


def moves(heard: Recorder) -> list[Barrier]:
    """How the barrier moved; the states in between are not always caught by a poll."""
    kept = (Barrier.OPEN, Barrier.CLOSED, Barrier.RELEASED)
    return [event.barrier for event in heard.of(BarrierChanged) if event.barrier in kept]


class Rig:
    """A simulated relay board on a bus, and the gate that drives it."""

    def __init__(self, sim: SimRelayGate, bus: ModbusBus, wiring: RelayWiring, nursery: trio.Nursery) -> None:
        self.sim = sim
        self.bus = bus
        self.heard = Recorder()
        self.nursery = nursery
        self.gate = RelayGate(bus, sim.unit, wiring, poll_s=0.02, rng=random.Random(1))
        self.scope = trio.CancelScope()

    async def start(self) -> None:
        async def run() -> None:
            with self.scope:
                await self.gate.run(self.heard)

        self.nursery.start_soon(run)
        await until(lambda: self.heard.of(DeviceUp))

    def on(self, coil: int) -> int:
        """How often a coil was written on."""
        return self.sim.writes.count((coil, True))


@asynccontextmanager
async def rig(wiring: RelayWiring = WIRING, *, path: Path | None = None, start: bool = True) -> AsyncIterator[Rig]:
    """Over TCP, or over RTU when there is a path."""
    sim = SimRelayGate(1)
    async with trio.open_nursery() as nursery:
        server = SimModbus(sim)
        if path is None:
            bus = ModbusBus.tcp("127.0.0.1", await nursery.start(server.serve_tcp), rng=random.Random(1))
        else:
            await nursery.start(server.serve_line, path)
            bus = ModbusBus.serial(str(path), 115200, rng=random.Random(1))
        made = Rig(sim, bus, wiring, nursery)
        if start:
            await made.start()
        yield made
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("rtu", [False, True])
async def test_one_opening_lets_one_person_in_and_counts_them(rtu, tmp_path):
    async with rig(path=tmp_path / "line" if rtu else None) as r:
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: r.sim.may_pass(ENTRY) and Barrier.OPEN in moves(r.heard))
        r.sim.person()
        await until(lambda: r.heard.people() == [1])
        await until(lambda: moves(r.heard)[-1:] == [Barrier.CLOSED])
        assert r.sim.openings == 1 and r.on(0) == 1
        r.gate.open(EXIT, 1, 10.0)
        await until(lambda: r.sim.may_pass(EXIT))
        r.sim.person(EXIT)
        await until(lambda: r.heard.people(EXIT) == [1])
        assert r.sim.openings == 2


async def test_a_group_gets_one_pulse_for_each_of_its_people():
    async with rig() as r:
        r.gate.open(ENTRY, 3, 10.0)
        for number in (1, 2, 3):
            await until(lambda: r.sim.may_pass(ENTRY))
            r.sim.person()
            await until(lambda n=number: r.heard.people() == list(range(1, n + 1)))
        await until(lambda: not any(r.sim.coils[:3]) and moves(r.heard)[-1:] == [Barrier.CLOSED])
        assert r.sim.openings == 3, "the turn is over"
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: r.sim.openings == 4)


async def test_a_group_on_a_slow_bus_gets_its_pulses_too():
    """A pulse that ends while the board is being read is still on in that reading: it is not the next one."""
    async with rig() as r:
        r.sim.slow_s = WIRING.pulse_s / 3
        r.gate.open(ENTRY, 4, 30.0)
        for number in (1, 2, 3, 4):
            await until(lambda: r.sim.may_pass(ENTRY))
            r.sim.person()
            await until(lambda n=number: r.heard.people() == list(range(1, n + 1)))
        await until(lambda: not any(r.sim.coils[:3]) and moves(r.heard)[-1:] == [Barrier.CLOSED])
        assert r.sim.openings == r.on(0) == 4


async def test_asking_again_while_it_is_open_opens_no_second_time():
    async with rig() as r:
        for _ in range(5):
            r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: Barrier.OPEN in moves(r.heard))
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: moves(r.heard)[-1:] == [Barrier.CLOSED])
        assert r.sim.openings == 1


@pytest.mark.parametrize("lost", ["answer", "request"])
async def test_a_lost_frame_is_neither_a_failed_nor_a_second_opening(lost):
    async with rig() as r:
        if lost == "answer":
            r.sim.lose_answers = 1
        else:
            r.sim.lose_requests = 1
        r.gate.open(ENTRY, 1, 15.0)
        await until(lambda: r.sim.may_pass(ENTRY))
        r.sim.person()
        await until(lambda: r.heard.people() == [1])
        await until(lambda: not r.sim.coils[0])
        assert r.sim.openings == 1
        assert r.heard.of(DeviceDown) == []


async def test_a_board_that_ends_its_pulses_itself_is_never_told_twice():
    wiring = RelayWiring(open_coil=0, hold_coil=2, pulse="board", open_input=0, closed_input=1, entry_register=0)
    async with rig(wiring) as r:
        r.sim.lose_answers = 1  # to the write: whether it was heard, nobody knows
        await until(lambda: r.sim.lose_answers == 0)
        r.sim.lose_answers = 0
        r.gate.open(ENTRY, 1, 15.0)
        await until(lambda: r.on(0) == 1)
        await until(lambda: Barrier.OPEN in moves(r.heard))
        heard = len(r.sim.heard)
        await until(lambda: len(r.sim.heard) > heard + 20)
        assert r.on(0) == 1 and (0, False) not in r.sim.writes


async def test_a_late_open_is_never_carried_out():
    async with rig() as r:
        r.sim.powered = False
        await until(lambda: r.heard.of(DeviceDown))
        r.gate.open(ENTRY, 1, 0.3)
        await trio.sleep(0.5)
        r.sim.restore_power()
        await until(lambda: len(r.heard.of(DeviceUp)) == 2)
        polls = len(r.sim.heard)
        await until(lambda: len(r.sim.heard) > polls + 20)
        assert r.sim.openings == 0


async def test_without_passage_sensors_who_was_let_in_is_taken_to_have_passed():
    wiring = RelayWiring(open_coil=0, open_input=0, closed_input=1, pulse_s=0.2)
    async with rig(wiring) as r:
        assert not r.gate.capabilities.counts
        r.gate.open(ENTRY, 2, 10.0)
        await until(lambda: r.heard.people() == [1, 2])
        await until(lambda: moves(r.heard)[-1:] == [Barrier.CLOSED])
        assert r.sim.openings == 1


async def test_without_any_input_the_relay_itself_is_what_is_known():
    async with rig(RelayWiring(open_coil=0, pulse_s=0.2)) as r:
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: moves(r.heard) == [Barrier.OPEN, Barrier.CLOSED])
        assert {event.detail for event in r.heard.of(BarrierChanged)} == {"by the relay alone"}
        assert r.heard.people() == [1]
        r.gate.release()
        await until(lambda: r.sim.coils[0] and moves(r.heard)[-1:] == [Barrier.RELEASED])


async def test_passage_sensors_are_counted_edge_by_edge_in_both_directions():
    wiring = RelayWiring(open_coil=0, exit_coil=1, hold_coil=2, open_input=0, entry_input=2, exit_input=3)
    async with rig(wiring) as r:
        r.gate.release()
        await until(lambda: moves(r.heard)[-1:] == [Barrier.RELEASED])
        for number in range(1, 4):
            r.sim.person(ENTRY)
            r.sim.person(EXIT)
            await until(lambda n=number: r.heard.people() == list(range(1, n + 1)) == r.heard.people(EXIT))
            await until(lambda: not (r.sim.inputs[2] or r.sim.inputs[3]))
            polls = len(r.sim.heard)
            await until(lambda p=polls: len(r.sim.heard) > p + 6)


async def test_what_was_booked_is_counted_on_after_a_restart():
    async with rig(start=False) as r:
        r.sim.set_counter(0, 500)
        r.sim.set_counter(1, 40)
        await r.start()
        r.gate.resume("e7", 65536 + 498, 40)
        await until(lambda: len(r.heard.of(DeviceUp)) == 2)
        counters = r.heard.of(DeviceUp)[-1].counters
        assert counters is not None
        assert (counters.epoch, counters.entries, counters.exits) == ("e7", 65536 + 500, 40)


async def test_a_counter_that_wraps_goes_on_and_one_that_was_reset_begins_an_epoch():
    async with rig(start=False) as r:
        r.sim.set_counter(0, 65534)
        await r.start()
        first = r.heard.of(DeviceUp)[0].counters
        assert first is not None and first.entries == 65534
        r.gate.release()
        await until(lambda: r.sim.may_pass(ENTRY))
        for _ in range(4):
            r.sim.person()
        await until(lambda: r.heard.people() == [65535, 65536, 65537, 65538])
        assert r.heard.of(DeviceDown) == []
        r.sim.set_counter(0, 3000)
        await until(lambda: len(r.heard.of(DeviceUp)) == 2)
        after = r.heard.of(DeviceUp)[-1].counters
        assert after is not None and after.epoch != first.epoch and after.entries == 3000
        assert r.heard.people() == [65535, 65536, 65537, 65538]


async def test_a_release_goes_out_first_holds_and_outlives_the_boards_power():
    async with rig() as r:
        r.gate.open(ENTRY, 1, 10.0)
        r.gate.release()
        await until(lambda: moves(r.heard)[-1:] == [Barrier.RELEASED])
        assert r.sim.writes[0] == (2, True) and r.on(0) == 0
        r.gate.open(ENTRY, 1, 10.0)
        r.gate.close()
        r.sim.lose_power()
        await until(lambda: r.heard.of(DeviceDown))
        r.sim.restore_power()
        await until(lambda: r.sim.coils[2])
        await until(
            lambda: r.heard.of(DeviceUp)[-1].barrier is Barrier.RELEASED or moves(r.heard)[-1:] == [Barrier.RELEASED]
        )
        assert r.on(0) == 0
        r.gate.rearm()
        await until(lambda: moves(r.heard)[-1:] == [Barrier.CLOSED] and not r.sim.coils[2])


async def test_a_barrier_that_does_not_move_is_not_reported_released():
    async with rig() as r:
        r.sim.stuck = True
        r.gate.release()
        await until(lambda: r.sim.coils[2])
        polls = len(r.sim.heard)
        await until(lambda: len(r.sim.heard) > polls + 20)
        assert Barrier.RELEASED not in moves(r.heard)


async def test_a_magnet_that_fails_safe_is_switched_off_to_release():
    wiring = RelayWiring(open_coil=0, hold_coil=4, hold_releases=False)
    async with rig(wiring, start=False) as r:
        r.sim.coils[4] = True
        await r.start()
        assert r.heard.of(DeviceUp)[0].barrier is Barrier.CLOSED
        r.gate.release()
        await until(lambda: moves(r.heard)[-1:] == [Barrier.RELEASED])
        assert r.sim.coils[4] is False
        r.gate.rearm()
        await until(lambda: moves(r.heard)[-1:] == [Barrier.CLOSED])
        assert r.sim.coils[4] is True


async def test_a_gate_that_somebody_else_holds_open_is_left_open_until_rearmed():
    async with rig(start=False) as r:
        r.sim.coils[2] = True
        r.sim.step(trio.current_time())
        await r.start()
        await until(lambda: r.heard.of(DeviceUp)[0].barrier is Barrier.RELEASED or Barrier.RELEASED in moves(r.heard))
        r.gate.close()
        r.gate.open(ENTRY, 1, 10.0)
        polls = len(r.sim.heard)
        await until(lambda: len(r.sim.heard) > polls + 20)
        assert r.sim.coils[2] and r.on(0) == 0
        r.gate.rearm()
        await until(lambda: not r.sim.coils[2] and moves(r.heard)[-1:] == [Barrier.CLOSED])


async def test_a_coil_that_a_crash_left_on_is_switched_off_at_the_start():
    async with rig(start=False) as r:
        r.sim.coils[0] = True
        await r.start()
        await until(lambda: not r.sim.coils[0])


async def test_a_driver_stopped_in_the_middle_of_a_pulse_leaves_nothing_open():
    wiring = RelayWiring(open_coil=0, hold_coil=2, open_input=0, pulse_s=20.0)
    async with rig(wiring) as r:
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: r.sim.coils[0])
        r.scope.cancel()
        await until(lambda: not r.sim.coils[0])


async def test_unplugged_and_plugged_in_again_is_said_once_each_way(tmp_path):
    before = open_descriptors()
    async with trio.open_nursery() as nursery:
        sim = SimRelayGate(1)
        line = await nursery.start(SimModbus(sim).serve_line, tmp_path / "line")
        gate, heard = RelayGate(ModbusBus.serial(str(tmp_path / "line")), 1, WIRING, poll_s=0.02), Recorder()
        nursery.start_soon(gate.run, heard)
        await until(lambda: heard.of(DeviceUp))
        line.unplug()
        pulled = trio.current_time()
        await until(lambda: heard.of(DeviceDown))
        assert heard.at[-1] - pulled < 2.0 + 5.0, "within 2 s, and what the machine adds"
        await trio.sleep(0.5)
        assert len(heard.of(DeviceDown)) == 1
        line.plug()
        await until(lambda: len(heard.of(DeviceUp)) == 2)
        assert gate.statistics().availability is Availability.AVAILABLE
        assert gate.statistics().reconnects == 1
        nursery.cancel_scope.cancel()
    assert open_descriptors() == before


# --- the bus ------------------------------------------------------------------------------------------------------


async def test_a_dead_unit_holds_none_of_the_others_up(tmp_path):
    """Eight units on a line, two of them dead: the living ones are released while the dead are waited for."""
    sims = [SimRelayGate(unit) for unit in range(1, 9)]
    for dead in (sims[0], sims[4]):
        dead.powered = False
    async with trio.open_nursery() as nursery:
        await nursery.start(SimModbus(*sims).serve_line, tmp_path / "line")
        bus = ModbusBus.serial(str(tmp_path / "line"), 115200, answer_s=0.3)
        gates = [RelayGate(bus, sim.unit, WIRING) for sim in sims]
        logs = [Recorder() for _ in sims]
        for gate, log in zip(gates, logs, strict=True):
            nursery.start_soon(gate.run, log)
        alive = [at for at in range(8) if sims[at].powered]
        await until(lambda: all(logs[at].of(DeviceUp) for at in alive))
        await until(lambda: logs[0].of(DeviceDown) and logs[4].of(DeviceDown))
        heard = [len(sims[at].heard) for at in alive]
        for gate in gates:  # the dead first
            gate.release()
        await until(lambda: all(sims[at].coils[2] for at in alive))
        await until(lambda: all(moves(logs[at])[-1:] == [Barrier.RELEASED] for at in alive))
        assert all(logs[at].of(DeviceDown) == [] for at in alive)
        assert heard != [len(sims[at].heard) for at in alive]
        sims[0].restore_power()
        await until(lambda: sims[0].coils[2])
        assert bus.opened == 1, "no unit's death or return reopens the line of the others"
        nursery.cancel_scope.cancel()


async def test_an_urgent_call_goes_before_those_that_wait_already():
    async with trio.open_nursery() as nursery:
        unit = SimUnit(1)
        unit.slow_s = 0.05
        bus = ModbusBus.tcp("127.0.0.1", await nursery.start(SimModbus(unit).serve_tcp), answer_s=5.0)
        order: list[str] = []

        async def ask(name: str, turn: Turn) -> None:
            await bus.call(read_bits(1, Function.READ_COILS, 0, 1), turn, Meter())
            order.append(name)

        async with bus.attached(), trio.open_nursery() as asking:
            asking.start_soon(ask, "first", Turn.POLL)
            await until(lambda: bus.opened == 1)
            for at in range(3):
                asking.start_soon(ask, f"poll {at}", Turn.POLL)
            await trio.testing.wait_all_tasks_blocked(0.005)
            asking.start_soon(ask, "dead", Turn.RELEASE_DEAD)
            asking.start_soon(ask, "order", Turn.COMMAND)
            asking.start_soon(ask, "release", Turn.RELEASE)
        assert order.index("release") < order.index("dead") < order.index("order") < order.index("poll 2")
        nursery.cancel_scope.cancel()


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_ones():
    """A gateway that is one answer behind: nothing of it is believed, and nothing raises."""
    async with trio.open_nursery() as nursery:
        unit = SimUnit(1)
        bus = ModbusBus.tcp("127.0.0.1", await nursery.start(SimModbus(unit).serve_tcp), answer_s=0.2)
        unit.coils[0] = True
        meter = Meter()
        async with bus.attached():
            await bus.call(read_bits(1, Function.READ_COILS, 0, 1), Turn.POLL, meter)
            unit.behind = True
            for _ in range(3):
                with pytest.raises(DeviceUnavailable):
                    await bus.call(read_bits(1, Function.READ_DISCRETE_INPUTS, 0, 1), Turn.POLL, meter)
            unit.behind = False
            unit._before = b""
            answer = await bus.call(read_bits(1, Function.READ_COILS, 0, 1), Turn.POLL, meter)
            assert answer.bits == (True,)
        nursery.cancel_scope.cancel()


async def test_noise_and_echoes_on_the_line_are_stepped_over(tmp_path):
    async with rig(path=tmp_path / "line") as r:
        r.sim.garbage = b"\x00\xff\x01\x01\x01\x7e\x01\x81"
        r.sim.twice = True
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: r.sim.may_pass(ENTRY))
        r.sim.person()
        await until(lambda: r.heard.people() == [1])
        assert r.gate.statistics().bad_frames > 0
        assert r.heard.of(DeviceDown) == []


async def test_a_cancelled_call_hands_the_bus_on():
    async with trio.open_nursery() as nursery:
        unit = SimUnit(1)
        bus = ModbusBus.tcp("127.0.0.1", await nursery.start(SimModbus(unit).serve_tcp), answer_s=5.0)
        question = read_bits(1, Function.READ_COILS, 0, 1)
        async with bus.attached():
            await bus.call(question, Turn.POLL, Meter())
            unit.silent = True
            async with trio.open_nursery() as asking:
                asking.start_soon(bus.call, question, Turn.POLL, Meter())
                asking.start_soon(bus.call, question, Turn.POLL, Meter())
                await trio.testing.wait_all_tasks_blocked(0.005)
                asking.cancel_scope.cancel()
            unit.silent = False
            with trio.fail_after(10):
                await bus.call(question, Turn.POLL, Meter())
        nursery.cancel_scope.cancel()


async def test_the_last_unit_to_leave_closes_the_line():
    before = open_descriptors()
    async with rig() as r:
        other, heard = RelayGate(r.bus, 1, WIRING, poll_s=0.02), Recorder()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.run, heard)
            await until(lambda: heard.of(DeviceUp))
            nursery.cancel_scope.cancel()
        polls = len(r.sim.heard)
        await until(lambda: len(r.sim.heard) > polls + 3)
        assert r.bus.opened == 1 and r.heard.of(DeviceDown) == []
    assert open_descriptors() == before


# --- contacts -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def contacts(*watched: Contact, poll_s: float = 0.02) -> AsyncIterator[tuple[SimUnit, Recorder]]:
    async with trio.open_nursery() as nursery:
        unit = SimUnit(3)
        bus = ModbusBus.tcp("127.0.0.1", await nursery.start(SimModbus(unit).serve_tcp))
        heard = Recorder()
        nursery.start_soon(ContactInputs(bus, 3, watched, poll_s=poll_s).run, heard)
        yield unit, heard
        nursery.cancel_scope.cancel()


def states(heard: Recorder, name: str = "fire") -> list[InputState]:
    return [event.state for event in heard.of(InputChanged) if event.name == name]


async def test_every_contact_is_said_at_first_and_then_each_change():
    fire = Contact(name="fire", input=4, kind=ContactKind.ANTIVALENT, second_input=5)
    button = Contact(name="button", input=0)
    async with contacts(fire, button) as (unit, heard):
        unit.inputs[5] = True
        await until(lambda: states(heard) == [InputState.INACTIVE] and states(heard, "button") == [InputState.INACTIVE])
        unit.inputs[4], unit.inputs[5] = True, False
        await until(lambda: states(heard)[-1:] == [InputState.ACTIVE])
        unit.inputs[4] = False
        await until(lambda: states(heard)[-1:] == [InputState.BROKEN])
        unit.powered = False
        await until(lambda: heard.of(DeviceDown))
        unit.powered = True
        unit.inputs[5] = True
        await until(lambda: states(heard)[-1:] == [InputState.INACTIVE])
        assert states(heard, "button") == [InputState.INACTIVE, InputState.INACTIVE], "said again after the loss"


@pytest.mark.parametrize(
    ("kind", "levels", "state"),
    [
        (ContactKind.NORMALLY_OPEN, (1, 0), InputState.ACTIVE),
        (ContactKind.NORMALLY_OPEN, (0, 1), InputState.INACTIVE),
        (ContactKind.NORMALLY_CLOSED, (1, 0), InputState.INACTIVE),
        (ContactKind.NORMALLY_CLOSED, (0, 0), InputState.ACTIVE),
        (ContactKind.ANTIVALENT, (1, 0), InputState.ACTIVE),
        (ContactKind.ANTIVALENT, (0, 1), InputState.INACTIVE),
        (ContactKind.ANTIVALENT, (0, 0), InputState.BROKEN),
        (ContactKind.ANTIVALENT, (1, 1), InputState.BROKEN),
        (ContactKind.LOOP, (0, 1), InputState.INACTIVE),
        (ContactKind.LOOP, (1, 1), InputState.ACTIVE),
        (ContactKind.LOOP, (1, 0), InputState.ACTIVE),
        (ContactKind.LOOP, (0, 0), InputState.BROKEN),
    ],
)
def test_what_each_wiring_makes_of_its_inputs(kind, levels, state):
    second = 1 if kind in (ContactKind.ANTIVALENT, ContactKind.LOOP) else None
    contact = Contact(name="fire", input=0, kind=kind, second_input=second)
    assert contact.read({0: bool(levels[0]), 1: bool(levels[1])}) is state


def test_chatter_is_ignored_and_what_holds_is_believed():
    watched = Watched(Contact(name="fire", input=0, debounce_s=0.05))
    assert watched.sample({0: False}, 0.0, 0.01) is None
    assert watched.sample({0: False}, 0.07, 0.08) is InputState.INACTIVE
    for start in (1.0, 1.1, 1.2):  # 20 ms, seen once or twice, then gone
        assert watched.sample({0: True}, start, start + 0.001) is None
        assert watched.look_again_s is not None and watched.look_again_s < 0.02
        assert watched.sample({0: True}, start + 0.015, start + 0.016) is None
        assert watched.sample({0: False}, start + 0.03, start + 0.031) is None
        assert watched.look_again_s is None
    assert watched.sample({0: True}, 2.0, 2.001) is None
    assert watched.sample({0: True}, 2.016, 2.5) is None, "an answer that lay about is no longer contact"
    assert watched.sample({0: True}, 2.51, 2.52) is InputState.ACTIVE


def test_two_contacts_of_a_switch_may_move_one_after_the_other():
    watched = Watched(Contact(name="fire", input=0, kind=ContactKind.ANTIVALENT, second_input=1))
    watched.sample({0: False, 1: True}, 0.0, 0.0)
    assert watched.sample({0: False, 1: True}, 0.1, 0.1) is InputState.INACTIVE
    assert watched.sample({0: False, 1: False}, 1.0, 1.0) is None
    assert watched.sample({0: False, 1: False}, 1.2, 1.2) is None
    assert watched.sample({0: True, 1: False}, 1.3, 1.3) is None
    assert watched.sample({0: True, 1: False}, 1.35, 1.35) is InputState.ACTIVE
    assert watched.sample({0: False, 1: False}, 2.0, 2.0) is None
    assert watched.sample({0: False, 1: False}, 2.6, 2.6) is InputState.BROKEN


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": ContactKind.ANTIVALENT},
        {"second_input": 2},
        {"kind": ContactKind.LOOP, "second_input": 1},
        {"debounce_s": 5.0},
        {"debounce_s": 0.0},
        {"input": -1},
        {"discrepancy_s": 0.01},
    ],
)
def test_a_contact_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="contact fire"):
        Contact(**{"name": "fire", "input": 1, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"open_coil": -1},
        {"exit_coil": 0},
        {"pulse_s": 0.0},
        {"hold_releases": False},
        {"exit_register": 3},
        {"entry_register": 1, "entry_input": 2},
        {"pulse": "board"},
        {"exit_coil": 3, "hold_coil": 3},
    ],
)
def test_a_wiring_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"\w"):
        RelayWiring(**{"open_coil": 0, **wrong})


@pytest.mark.parametrize("unit", [0, 248, -1])
def test_a_unit_that_no_device_has_is_refused(unit):
    with pytest.raises(ValueError, match="unit"):
        RelayGate(ModbusBus.tcp("127.0.0.1"), unit, WIRING)


async def test_passages_are_never_told_before_the_opening_nor_after_the_closing_that_shows_with_them():
    async with rig() as r:
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: r.sim.may_pass(ENTRY))
        r.sim.person()
        await until(lambda: r.heard.people() and moves(r.heard)[-1:] == [Barrier.CLOSED])
        kinds = [event for event in r.heard.events if isinstance(event, PassageCounted | BarrierChanged)]
        at = next(i for i, event in enumerate(kinds) if isinstance(event, PassageCounted))
        assert any(isinstance(e, BarrierChanged) and e.barrier is not Barrier.CLOSED for e in kinds[:at])


async def test_a_busy_unit_is_asked_again_and_not_given_up():
    async with rig() as r:
        r.sim.busy = 3
        r.gate.open(ENTRY, 1, 10.0)
        await until(lambda: r.sim.may_pass(ENTRY))
        r.sim.person()
        await until(lambda: r.heard.people() == [1])
        assert r.heard.of(DeviceDown) == [] and r.sim.openings == 1


async def test_a_wiring_that_the_board_does_not_have_is_said_and_raises_nothing():
    wiring = RelayWiring(open_coil=0, open_input=500)
    async with rig(wiring, start=False) as r:
        heard = Recorder()
        r.nursery.start_soon(r.gate.run, heard)
        await until(lambda: heard.of(DeviceDown))
        assert "illegal address" in heard.of(DeviceDown)[0].reason and heard.of(DeviceUp) == []


async def test_a_shared_coil_that_somebody_switches_on_is_left_on_until_rearmed():
    """`paifang evacuate` writes it beside a server that lives; the server must not shut the gate again."""
    wiring = RelayWiring(open_coil=0, open_input=0, closed_input=1)
    async with rig(wiring) as r:
        r.sim.coils[0] = True
        await until(lambda: moves(r.heard)[-1:] == [Barrier.RELEASED])
        polls = len(r.sim.heard)
        await until(lambda: len(r.sim.heard) > polls + 20)
        assert r.sim.coils[0] is True
        r.gate.release()
        polls = len(r.sim.heard)
        await until(lambda: len(r.sim.heard) > polls + 6)
        r.gate.rearm()
        await until(lambda: not r.sim.coils[0] and moves(r.heard)[-1:] == [Barrier.CLOSED])


async def test_on_a_full_bus_a_turn_does_not_wait_for_everybodys_polls(monkeypatch):
    """Twelve slow units that are polled as fast as the bus goes, three exchanges each: an opening waits for what is in
    the queue already, and not for a whole round of everybody."""
    sims = [SimRelayGate(unit) for unit in range(1, 13)]
    opened_after: list[int] = []

    def exchanges() -> int:
        return sum(len(sim.heard) for sim in sims)

    monkeypatch.setattr(sims[7], "switched", lambda coil, on: opened_after.append(exchanges() - before))
    for sim in sims:
        sim.slow_s = 0.02
    async with trio.open_nursery() as nursery:
        bus = ModbusBus.tcp("127.0.0.1", await nursery.start(SimModbus(*sims).serve_tcp))
        gates = [RelayGate(bus, sim.unit, WIRING, poll_s=0.01) for sim in sims]
        logs = [Recorder() for _ in sims]
        for gate, log in zip(gates, logs, strict=True):
            nursery.start_soon(gate.run, log)
        await until(lambda: all(log.of(DeviceUp) for log in logs))
        before = exchanges()
        gates[7].open(ENTRY, 1, 10.0)
        await until(lambda: opened_after)
        assert opened_after[0] <= 20
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("entry", "exit_", "words"), [(4, 5, 1), (10, 8, 2), (0, 40, 1), (7, None, 2)])
async def test_counters_are_found_wherever_they_stand(entry, exit_, words):
    wiring = RelayWiring(
        open_coil=0, entry_register=entry, exit_register=exit_, register_words=words, open_input=0, closed_input=1
    )
    async with rig(wiring, start=False) as r:
        r.sim.set_counter(entry, 300, words=words)
        if exit_ is not None:
            r.sim.set_counter(exit_, 200, words=words)
        await r.start()
        counters = r.heard.of(DeviceUp)[0].counters
        assert counters is not None and (counters.entries, counters.exits) == (300, 0 if exit_ is None else 200)
