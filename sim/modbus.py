"""Simulated Modbus boards: relays, inputs and counters of several units, on a pty (RTU) or over TCP.

They are no real boards: a relay gate here opens its barrier as long as a real one might.  Each unit can misbehave on
command: silent, slow, garbled, answering twice, answering the question before, its counters reset, its power gone.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import trio

from protocols.messages import Direction
from protocols.modbus import Answer, Function, ModbusError, Received, Request, RequestReader, encode_answer
from sim.line import SimLine

SIZE = 64  # coils, inputs and registers of each kind in a unit
MOVE_S = 0.05  # how long a barrier moves
OPEN_S = 1.0  # a turn nobody uses ends by itself after this
SENSOR_S = 0.25  # how long the passage sensor is covered by one person
TCP_READ_BYTES = 1024

ILLEGAL_ADDRESS = 2
BUSY = 6


class SimUnit:
    """One unit: four tables, and what goes wrong with it."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.coils = [False] * SIZE
        self.inputs = [False] * SIZE
        self.input_registers = [0] * SIZE
        self.holding_registers = [0] * SIZE
        self.heard: list[Request] = []  # newest last, bounded
        self.writes: list[tuple[int, bool]] = []  # (coil, on) as carried out
        self.powered = True
        self.silent = False  # hears and obeys, answers nothing
        self.lose_answers = 0  # so many answers are swallowed
        self.lose_requests = 0  # so many requests are not heard
        self.slow_s = 0.0
        self.garbage = b""  # said before each answer
        self.twice = False  # every answer is said twice
        self.behind = False  # answers each question with the answer to the one before (TCP gateways do)
        self.busy = 0  # so many requests are refused as busy
        self._before: bytes = b""

    def lose_power(self) -> None:
        """All relays fall, and nobody answers until `restore_power`."""
        self.powered = False
        self.coils = [False] * SIZE

    def restore_power(self) -> None:
        self.powered = True

    def set_counter(self, register: int, value: int, *, words: int = 1) -> None:
        """A cumulative counter, high word first."""
        for at in range(words):
            self.input_registers[register + at] = value >> 16 * (words - 1 - at) & 0xFFFF

    def step(self, now: float) -> None:
        """Bring what moves by itself up to `now`. For subclasses."""

    def switched(self, coil: int, on: bool) -> None:
        """A coil was written. For subclasses."""

    def obey(self, request: Request) -> Answer | int:
        """Carry out one request: the answer, or an exception code."""
        self.step(trio.current_time())
        self.heard = [*self.heard[-199:], request]
        if self.busy > 0:
            self.busy -= 1
            return BUSY
        last = request.address + max(request.count, len(request.coils))
        if last > SIZE:
            return ILLEGAL_ADDRESS
        part = slice(request.address, last)
        match request.function:
            case Function.READ_COILS:
                return Answer(self.unit, request.function, bits=tuple(self.coils[part]))
            case Function.READ_DISCRETE_INPUTS:
                return Answer(self.unit, request.function, bits=tuple(self.inputs[part]))
            case Function.READ_HOLDING_REGISTERS:
                return Answer(self.unit, request.function, registers=tuple(self.holding_registers[part]))
            case Function.READ_INPUT_REGISTERS:
                return Answer(self.unit, request.function, registers=tuple(self.input_registers[part]))
        for coil, on in enumerate(request.coils, request.address):
            self.writes = [*self.writes[-199:], (coil, on)]
            self.coils[coil] = on
            self.switched(coil, on)
        return Answer(self.unit, request.function)

    async def answer(self, received: Received, send: Callable[[bytes], Awaitable[None]], *, rtu: bool) -> None:
        """Hear one request and say what this unit says, with its faults."""
        if not self.powered:
            return
        if self.lose_requests > 0:
            self.lose_requests -= 1
            return
        said = 1 if received.request is None else self.obey(received.request)
        frame = encode_answer(received, said, rtu=rtu)
        if self.silent:
            return
        if self.lose_answers > 0:
            self.lose_answers -= 1
            return
        if self.slow_s:
            await trio.sleep(self.slow_s)
        if self.behind:
            frame, self._before = self._before, frame
        await send(self.garbage + frame * (2 if self.twice else 1))


class SimRelayGate(SimUnit):
    """A turnstile behind relays: coil 0 lets one person in, 1 out, 2 holds it open; inputs 0 open, 1 closed, 2 and 3
    the passage sensors; input registers 0 and 1 count entries and exits."""

    ENTRY_COIL, EXIT_COIL, HOLD_COIL = 0, 1, 2
    OPEN_INPUT, CLOSED_INPUT, ENTRY_INPUT, EXIT_INPUT = 0, 1, 2, 3

    def __init__(self, unit: int, *, stuck: bool = False) -> None:
        super().__init__(unit)
        self.stuck = stuck  # the barrier does not move, whatever the relays say
        self.openings = 0  # rising edges of the opening coils
        self._credit = {Direction.ENTRY: -math.inf, Direction.EXIT: -math.inf}  # until when somebody may pass
        self._moved_at = -math.inf
        self._open = False
        self._covered: dict[int, float] = {}
        self.inputs[self.CLOSED_INPUT] = True

    def switched(self, coil: int, on: bool) -> None:
        now = trio.current_time()
        directions = {self.ENTRY_COIL: Direction.ENTRY, self.EXIT_COIL: Direction.EXIT}
        if coil in directions and on:
            self.openings += 1
            self._credit[directions[coil]] = now + OPEN_S
        self.step(now)

    def may_pass(self, direction: Direction) -> bool:
        self.step(trio.current_time())
        return not self.stuck and (self.coils[self.HOLD_COIL] or self._credit[direction] > trio.current_time())

    def person(self, direction: Direction = Direction.ENTRY) -> None:
        """One person goes through. Raises AssertionError when the barrier does not let them."""
        assert self.may_pass(direction), f"closed for {direction}"
        self._credit[direction] = -math.inf
        entry = direction is Direction.ENTRY
        register, sensor = (0, self.ENTRY_INPUT) if entry else (1, self.EXIT_INPUT)
        self.input_registers[register] = (self.input_registers[register] + 1) & 0xFFFF
        self._covered[sensor] = trio.current_time() + SENSOR_S

    def step(self, now: float) -> None:
        should = not self.stuck and (
            self.coils[self.HOLD_COIL]
            or any(until > now for until in self._credit.values())
            or self.coils[self.ENTRY_COIL]
            or self.coils[self.EXIT_COIL]
        )
        if should is not self._open:
            self._open, self._moved_at = should, now
        moving = now - self._moved_at < MOVE_S
        self.inputs[self.OPEN_INPUT] = self._open and not moving
        self.inputs[self.CLOSED_INPUT] = not self._open and not moving
        for sensor in (self.ENTRY_INPUT, self.EXIT_INPUT):
            self.inputs[sensor] = self._covered.get(sensor, -math.inf) > now


class SimModbus:
    """Several units on one bus. Serve it on a line or a port; `connections` counts the masters over TCP."""

    def __init__(self, *units: SimUnit) -> None:
        self.units = {unit.unit: unit for unit in units}
        self.connections = 0

    async def serve_line(self, path: Path, *, task_status: trio.TaskStatus[SimLine] = trio.TASK_STATUS_IGNORED) -> None:
        """RTU on a pty that stands at `path`, until cancelled."""
        with SimLine(path) as line:
            task_status.started(line)
            reader = RequestReader(rtu=True)

            async def send(frame: bytes) -> None:
                line.send(frame)

            while True:
                for received in reader.feed(await line.receive()):
                    await self._dispatch(received, send, rtu=True)

    async def serve_tcp(self, port: int = 0, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Modbus TCP on a loopback port, which is what `nursery.start` returns."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._serve_stream, listeners)

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        reader = RequestReader(rtu=False)
        with suppress(trio.BrokenResourceError, ModbusError):
            while data := await stream.receive_some(TCP_READ_BYTES):
                for received in reader.feed(bytes(data)):
                    await self._dispatch(received, stream.send_all, rtu=False)
        await stream.aclose()

    async def _dispatch(self, received: Received, send: Callable[[bytes], Awaitable[None]], *, rtu: bool) -> None:
        if received.unit == 0:  # to all: obeyed, not answered
            for each in self.units.values():
                if received.request is not None and each.powered:
                    each.obey(received.request)
        elif (unit := self.units.get(received.unit)) is not None:
            await unit.answer(received, send, rtu=rtu)
