"""A gate behind a Modbus relay board: one coil opens, one holds, inputs say what became of it.

Coils are levels, so commanding is bringing them in line: `_wanted` says what each should be, the board is asked what
each is, and only a difference is written.  A lost answer costs another look, never a second opening; a board that lost
its power in an evacuation is opened again when it is back.
"""

from __future__ import annotations

import math
import random
from enum import Enum

import trio

from drivers._cumulative import Cumulative, OwnCounts, Step
from drivers.base import (
    RETRY_MAX_S,
    Availability,
    Barrier,
    BarrierChanged,
    DeviceUp,
    GateCapabilities,
    PassageCounted,
)
from drivers.errors import DeviceError
from drivers.modbus._bus import ModbusBus, TooLate, Turn
from drivers.modbus._unit import Unit
from drivers.modbus._wiring import RelayWiring
from protocols.messages import Counters, Direction
from protocols.modbus import Answer, Function, read_bits, read_registers, word_of, write_coil

RELEASE_REPEAT_S = 0.25  # a release that is not confirmed is written again this often
RELEASE_RETRY_S = 1.0  # a board that is away in an evacuation is looked for this often
NEWS_S = 0.5  # what was read longer ago says nothing about now
REARM_TRY_S = 30.0  # a board that is away for longer when it is re-armed stays open: somebody may stand there by then
SPAN_MAX = 16  # registers between the two counters that are read along with them
TURN_S = 10.0  # a turn is over this long after its last pulse, whatever was sensed


class _Phase(Enum):
    DUE = 0  # the coil is to be switched on
    ON = 1
    OFF = 2  # the pulse is over


class _Turn:
    """One opening: one pulse for each person where people are counted one by one, otherwise one for all."""

    def __init__(self, direction: Direction, pax: int, deadline: float, base: int) -> None:
        self.direction = direction
        self.pax = pax
        self.deadline = deadline
        self.base = base  # the counter of that direction before
        self.pulses = 0
        self.phase = _Phase.DUE
        self.off_at = math.inf  # when the pulse ends
        self.over_at = math.inf  # when the turn ends by itself
        self.assumed = False  # its people were taken to have passed


class RelayGate(Unit):
    """A `drivers.base.Gate` on `unit` of a bus. Raises ValueError for a unit or a wiring that cannot be."""

    def __init__(
        self, bus: ModbusBus, unit: int, wiring: RelayWiring, *, poll_s: float = 0.1, rng: random.Random | None = None
    ) -> None:
        super().__init__(bus, unit, poll_s, rng)
        self.capabilities = GateCapabilities(
            counts=wiring.counts,
            direction=wiring.exit_coil is not None,
            drop_arm=False,
            hold_open=True,
            anti_pinch=False,
            fire_input=False,
        )
        self._wiring = wiring
        registers = wiring.entry_register is not None
        self._device_counts = Cumulative(1 << 16 * wiring.register_words, self._new_epoch) if registers else None
        self._own_counts = OwnCounts(self._new_epoch)
        self._released = False
        self._released_at = -math.inf  # when the hold was written last
        self._rearm_until = -math.inf
        self._held = False  # somebody else holds it open: only a re-arm ends that
        self._turn_now: _Turn | None = None
        self._coils: dict[int, bool] = {}  # as last read or written; what is uncertain is not in it
        self._inputs: dict[int, bool] = {}
        self._barrier = Barrier.UNKNOWN
        self._announce = True  # say DeviceUp with the next reading
        self._next_poll = 0.0

    # --- commands -----------------------------------------------------------------------------------------------

    def open(self, direction: Direction, pax: int, deadline_s: float) -> None:
        """See `Gate.open`. Asked again before that turn is over, it changes nothing."""
        now, turn, counts = trio.current_time(), self._turn_now, self._counts()
        if self._released or self._held:
            self._meter.error("open refused: the gate is held open")
        elif counts is None:
            self._meter.error("open refused: the board was not heard yet")
        elif turn is None or turn.direction is not direction or now >= turn.over_at:
            self._turn_now = _Turn(direction, max(1, pax), now + deadline_s, _of(counts, direction))
            self._wake()

    def close(self) -> None:
        """See `Gate.close`. A board that ends its pulses by itself closes when it closes."""
        self._turn_now = None
        self._wake()

    def release(self) -> None:
        if not self._released:
            self._released, self._released_at = True, -math.inf
        self._turn_now, self._rearm_until = None, -math.inf
        self._retry_max_s = RELEASE_RETRY_S
        self._wake()

    def rearm(self) -> None:
        self._released = self._held = False
        self._rearm_until = trio.current_time() + REARM_TRY_S
        self._retry_max_s = RETRY_MAX_S
        self._wake()

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """See `Gate.resume`."""
        before = self._counts()
        (self._device_counts or self._own_counts).resume(epoch, entries, exits)
        after, turn = self._counts(), self._turn_now
        if turn is not None and before is not None and after is not None:
            turn.base += _of(after, turn.direction) - _of(before, turn.direction)  # nobody passed by that
        self._announce = True
        self._wake()

    # --- one round ----------------------------------------------------------------------------------------------

    async def _round(self) -> float:
        await self._command()
        if trio.current_time() >= self._next_poll or self._announce or not self._coils:
            self._next_poll = trio.current_time() + self._poll_s
            await self._poll()
            await self._command()
        due = self._next_poll
        if self._turn_now is not None and self._turn_now.phase is _Phase.ON:
            due = min(due, self._turn_now.off_at)
        return due - trio.current_time()

    async def _leave(self) -> None:
        """Never leave a gate open because we were stopped in the middle of a pulse."""
        coil = self._coil_of(self._turn_now) if self._turn_now is not None else None
        if coil is None or self._released or self._wiring.pulse == "board" or self._coils.get(coil) is False:
            return
        try:
            await self._ask(write_coil(self._unit, coil, False), Turn.COMMAND)
        except DeviceError as exc:
            self._meter.error(exc)

    def _forget(self) -> None:
        self._coils, self._inputs = {}, {}
        self._barrier = Barrier.UNKNOWN
        self._turn_now = None
        self._announce = True

    # --- commanding ---------------------------------------------------------------------------------------------

    async def _command(self) -> None:
        """Write what is not as it should be. Only a release is written on old news."""
        now = trio.current_time()
        if self._released:
            await self._hold(now)
            return
        if not self._coils or now - self._heard_at > NEWS_S:
            return  # learn first: a server that slept must not open for somebody, or shut, before it has looked
        self._move_turn(now)
        for coil, on in self._wanted().items():
            if self._coils.get(coil) is not on:
                await self._write(coil, on)
        self._move_turn(trio.current_time())

    async def _hold(self, now: float) -> None:
        wiring = self._wiring
        confirmed = self._released_at > -math.inf and self._coils.get(wiring.hold) is wiring.hold_releases
        if confirmed or now - self._released_at < RELEASE_REPEAT_S:
            return
        self._released_at = now
        available = self._meter.availability is Availability.AVAILABLE
        self._coils.pop(wiring.hold, None)
        turn = Turn.RELEASE if available else Turn.RELEASE_DEAD
        await self._ask(write_coil(self._unit, wiring.hold, wiring.hold_releases), turn)
        self._coils[wiring.hold] = wiring.hold_releases
        self._next_poll = 0.0  # look at once whether it opened

    async def _write(self, coil: int, on: bool) -> None:
        """Switch a coil. After an answer that did not come, nobody knows what it is until it is read again."""
        turn = self._turn_now if on and self._turn_now is not None and coil == self._coil_of(self._turn_now) else None
        deadline = math.inf if turn is None else turn.deadline
        if turn is not None and self._wiring.pulse == "board":
            self._pulsed(turn)  # counted before it is known to have been heard: never a second one by mistake
            turn.phase = _Phase.OFF
        self._coils.pop(coil, None)
        self._next_poll = 0.0
        try:
            await self._ask(write_coil(self._unit, coil, on), Turn.COMMAND, deadline=deadline)
        except TooLate as exc:
            self._meter.error(exc)
            self._turn_now = None
            return
        self._coils[coil] = on
        self._next_poll = 0.0

    def _pulsed(self, turn: _Turn) -> None:
        now = trio.current_time()
        turn.pulses += 1
        turn.phase, turn.off_at, turn.over_at = _Phase.ON, now + self._wiring.pulse_s, now + TURN_S

    def _move_turn(self, now: float) -> None:
        """Where the turn stands now: its coil was seen on, its pulse is over, somebody passed, or nobody will."""
        turn, counts = self._turn_now, self._counts()
        if turn is None or counts is None:
            return
        passed = _of(counts, turn.direction) - turn.base
        ended = self._wiring.pulse == "board" or self._coils.get(self._coil_of(turn)) is False  # on: still the last one
        if turn.phase is _Phase.DUE and now >= turn.deadline and turn.pulses == 0:
            self._meter.error("open dropped: its time was over before it was confirmed")
            self._turn_now = None
        elif turn.phase is _Phase.DUE and self._wiring.pulse == "server" and self._coils.get(self._coil_of(turn)):
            self._pulsed(turn)
        elif turn.phase is _Phase.ON and now >= turn.off_at:
            turn.phase = _Phase.OFF
        elif turn.phase is _Phase.OFF and (passed >= turn.pax or now >= turn.over_at):
            self._turn_now = None
        elif turn.phase is _Phase.OFF and self._wiring.counts and ended and passed >= turn.pulses:
            turn.phase, turn.deadline = _Phase.DUE, turn.over_at  # the next of the group

    def _wanted(self) -> dict[int, bool]:
        """What the coils should be; those that are none of our business now are not in it."""
        wiring, turn = self._wiring, self._turn_now
        wanted: dict[int, bool] = {}
        if wiring.pulse == "server":
            wanted = {coil: False for coil in (wiring.open_coil, wiring.exit_coil) if coil is not None}
        if turn is not None and turn.phase in (_Phase.DUE, _Phase.ON) and not self._held:
            wanted[self._coil_of(turn)] = True
        if self._held:
            wanted.pop(wiring.hold, None)
        elif trio.current_time() < self._rearm_until and wiring.hold != wiring.open_coil:
            wanted[wiring.hold] = not wiring.hold_releases
        return wanted

    def _coil_of(self, turn: _Turn) -> int:
        exit_coil = self._wiring.exit_coil
        return exit_coil if turn.direction is Direction.EXIT and exit_coil is not None else self._wiring.open_coil

    # --- reading ------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        wiring = self._wiring
        coils = await self._bits(Function.READ_COILS, wiring.coils())
        inputs = await self._bits(Function.READ_DISCRETE_INPUTS, wiring.inputs())
        registers = await self._registers()
        self._observe(coils, inputs, registers)

    def _urgency(self) -> Turn:
        """On a full bus, a gate at which something happens is read before those at which nothing does."""
        if self._meter.availability is not Availability.AVAILABLE:
            return Turn.POLL
        if self._released:
            return Turn.POLL if self._barrier is Barrier.RELEASED else Turn.RELEASE
        busy = self._turn_now is not None or trio.current_time() < self._rearm_until
        return Turn.COMMAND if busy else Turn.POLL

    async def _bits(self, function: Function, addresses: list[int]) -> dict[int, bool]:
        if not addresses:
            return {}
        first = addresses[0]
        request = read_bits(self._unit, function, first, addresses[-1] - first + 1)
        answer: Answer = await self._ask(request, self._urgency())
        return {address: answer.bits[address - first] for address in addresses}

    async def _registers(self) -> tuple[int, int] | None:
        """Both counters, in one reading where they stand close together."""
        wiring = self._wiring
        if wiring.entry_register is None:
            return None
        exit_register = wiring.entry_register if wiring.exit_register is None else wiring.exit_register
        first, last = sorted((wiring.entry_register, exit_register))
        if last - first > SPAN_MAX:
            return await self._register(wiring.entry_register, 0), await self._register(exit_register, 0)
        words = await self._words(first, last - first + wiring.register_words)
        entries = self._number(words, wiring.entry_register - first)
        return entries, 0 if wiring.exit_register is None else self._number(words, wiring.exit_register - first)

    async def _register(self, address: int, at: int) -> int:
        return self._number(await self._words(address, self._wiring.register_words), at)

    async def _words(self, address: int, count: int) -> tuple[int, ...]:
        read = self._wiring.register_table == "input"
        table = Function.READ_INPUT_REGISTERS if read else Function.READ_HOLDING_REGISTERS
        answer = await self._ask(read_registers(self._unit, table, address, count), self._urgency())
        return answer.registers

    def _number(self, words: tuple[int, ...], at: int) -> int:
        return word_of(words[at : at + self._wiring.register_words], low_first=self._wiring.low_word_first)

    def _observe(self, coils: dict[int, bool], inputs: dict[int, bool], registers: tuple[int, int] | None) -> None:
        """One reading. Synchronous, so that nothing can come between what was seen and what is said about it."""
        wiring, now, first = self._wiring, trio.current_time(), not self._inputs and not self._coils
        before, was_on = self._inputs, self._coils.get(wiring.hold)
        self._coils, self._inputs = coils, inputs
        apart = wiring.hold != wiring.open_coil
        if coils[wiring.hold] is not wiring.hold_releases:
            self._rearm_until = -math.inf
        if apart and not self._released and now >= self._rearm_until:
            self._held = coils[wiring.hold] is wiring.hold_releases
        elif not apart and not self._released:  # found on at the start it was left by a crash; later somebody did it
            mine = self._turn_now is not None or now < self._rearm_until
            self._held = coils[wiring.hold] and (self._held or (was_on is False and not mine))
        if self._device_counts is not None and registers is not None:
            read = self._device_counts.read(*registers, now)
            step = Step() if read is None else read
        else:
            step = Step(_rose(before, inputs, wiring.entry_input), _rose(before, inputs, wiring.exit_input))
            self._own_counts.add(step.entries, step.exits)
        if step.restarted and not first and not self._announce:
            self._down(f"{self._bus.name}: unit {self._unit}: the counters jumped; it was reset or changed")
            self._coils, self._inputs = coils, inputs
        self._move_turn(now)
        barrier = self._sense()
        if self._announce:
            self._announce, self._barrier = False, barrier
            self._up(DeviceUp(counters=self._counts(), barrier=barrier))
        else:
            self._say(barrier, step)

    def _say(self, barrier: Barrier, step: Step) -> None:
        """Whoever was let in is told after the opening and before the closing that show in the same reading."""
        opening = barrier in (Barrier.OPENING, Barrier.OPEN, Barrier.RELEASED)
        if opening:
            self._say_barrier(barrier)
        turn, assumed = self._turn_now, Step()
        blind = self._wiring.open_input is None and self._wiring.closed_input is None
        let_in = turn is not None and turn.pulses > 0 and (opening or blind)
        if turn is not None and let_in and not turn.assumed and not self._wiring.counts:
            turn.assumed = True
            entry = turn.direction is Direction.ENTRY
            assumed = Step(turn.pax, 0) if entry else Step(0, turn.pax)
            self._own_counts.add(assumed.entries, assumed.exits)
        self._say_people(step.entries + assumed.entries, step.exits + assumed.exits)
        if not opening:
            self._say_barrier(barrier)

    def _say_people(self, entries: int, exits: int) -> None:
        counts = self._counts()
        assert counts is not None
        for direction, more, count in (
            (Direction.ENTRY, entries, counts.entries),
            (Direction.EXIT, exits, counts.exits),
        ):
            for counter in range(count - more + 1, count + 1):
                self._emit(PassageCounted(direction=direction, epoch=counts.epoch, counter=counter))

    def _say_barrier(self, barrier: Barrier) -> None:
        if barrier is not self._barrier:
            self._barrier = barrier
            sensed = self._wiring.open_input is not None or self._wiring.closed_input is not None
            detail = "sensed" if sensed else "by the relay alone"
            self._emit(BarrierChanged(barrier=barrier, detail=detail, counters=self._counts()))

    def _sense(self) -> Barrier:
        """The barrier: by its own contacts where there are any, otherwise by the relays that were read back."""
        wiring, inputs = self._wiring, self._inputs
        opened = None if wiring.open_input is None else inputs[wiring.open_input]
        closed = None if wiring.closed_input is None else inputs[wiring.closed_input]
        if opened is None and closed is None:
            opened = self._coils.get(wiring.hold) is wiring.hold_releases if self._released or self._held else (
                any(self._coils.get(coil) for coil in (wiring.open_coil, wiring.exit_coil) if coil is not None)
            )  # fmt: skip
            closed = not opened
        elif opened is None or closed is None:
            opened = not closed if opened is None else opened
            closed = not opened
        if opened and closed:
            return Barrier.UNKNOWN  # the contacts contradict each other
        if opened:
            return Barrier.RELEASED if self._released or self._held else Barrier.OPEN
        if closed:
            return Barrier.CLOSED
        going = self._released or self._held or (self._turn_now is not None and self._turn_now.pulses > 0)
        return Barrier.OPENING if going and self._barrier is not Barrier.OPEN else Barrier.CLOSING

    def _counts(self) -> Counters | None:
        return self._own_counts.counts if self._device_counts is None else self._device_counts.counts


def _of(counts: Counters, direction: Direction) -> int:
    return counts.entries if direction is Direction.ENTRY else counts.exits


def _rose(before: dict[int, bool], now: dict[int, bool], address: int | None) -> int:
    """1 when an input went on between two readings; the first reading after a loss has no before."""
    return int(address is not None and before.get(address) is False and now[address])
