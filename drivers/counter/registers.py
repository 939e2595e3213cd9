"""A people counter with cumulative counts in Modbus registers."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from drivers.base import Emit
from drivers.counter._base import CounterDriver
from drivers.modbus._bus import ModbusBus
from drivers.modbus._unit import Unit
from protocols.modbus import ADDRESS_MAX, Function, read_registers, word_of


class CounterRegisters(msgspec.Struct, frozen=True, kw_only=True):
    """Where the counts stand; addresses count from 0, `words` 1 is 16 bits and 2 is 32. Raises ValueError."""

    entries: int
    exits: int | None = None
    table: Literal["input", "holding"] = "input"
    words: Literal[1, 2] = 2
    low_word_first: bool = False

    def __post_init__(self) -> None:
        for address in (self.entries, self.exits):
            if address is not None and not 0 <= address <= ADDRESS_MAX + 1 - self.words:
                raise ValueError(f"register {address} with {self.words} words")


class ModbusCounter(CounterDriver):
    """A `drivers.base.Driver` with `resume`: reads `registers` of `unit` every `poll_s`. Raises ValueError."""

    def __init__(
        self,
        bus: ModbusBus,
        unit: int,
        registers: CounterRegisters,
        *,
        poll_s: float = 1.0,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(1 << 16 * registers.words, rng)
        self._poller = _Poller(self, bus, unit, registers, poll_s, rng)
        self._meter = self._poller.meter

    async def run(self, emit: Emit) -> None:
        """Serve the counter until cancelled."""
        self._emit = emit
        self._up = False
        await self._poller.run(to_poller)

    def take(self, entries: int, exits: int) -> None:
        self._read(entries, exits)

    def lost(self, reason: str) -> None:
        self._down(reason)


class _Poller(Unit):
    """Reads the registers in turn with the other units of the bus."""

    def __init__(
        self,
        counter: ModbusCounter,
        bus: ModbusBus,
        unit: int,
        registers: CounterRegisters,
        poll_s: float,
        rng: random.Random | None,
    ) -> None:
        super().__init__(bus, unit, poll_s, rng)
        self.meter = self._meter
        self._counter = counter
        self._registers = registers

    async def _round(self) -> float:
        registers = self._registers
        entries = await self._register(registers.entries)
        exits = 0 if registers.exits is None else await self._register(registers.exits)
        self._meter.frames_in -= 1  # the counter counts the reading itself
        self._counter.take(entries, exits)
        return self._poll_s

    async def _register(self, address: int) -> int:
        registers = self._registers
        table = Function.READ_INPUT_REGISTERS if registers.table == "input" else Function.READ_HOLDING_REGISTERS
        answer = await self._ask(read_registers(self._unit, table, address, registers.words))
        return word_of(answer.registers, low_first=registers.low_word_first)

    def _down(self, reason: str) -> None:
        self._counter.lost(reason)


def to_poller(event: object) -> None:
    """The poller says nothing by itself: its counter does."""
