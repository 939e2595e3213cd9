"""A simulated turnstile board of the language `protocols.board4`, behind a pty. It is no real board.

It answers every command with its status, counts people in two cumulative 24-bit counters that outlive the server (and,
with `counters_file`, the simulator), shows alarms for a second, and lets people out freely.  Faults for tests: lost
replies, power loss, the fire contact, a pulled cable.
"""

from __future__ import annotations

import random
from pathlib import Path

import trio

from drivers.base import AlarmKind
from drivers.base import Barrier as Sensed
from protocols.board4 import (
    BROADCAST,
    COUNTER_MODULUS,
    Action,
    Board4Framer,
    Command,
    Frame,
    State,
    decode_command,
    decode_lock,
    encode_status,
    status,
)
from protocols.errors import BoardError
from protocols.messages import Direction
from sim.barrier import DEFAULT_TIMING, Hold, Person, SimBarrier, Timing
from sim.bus import Port, SimBus
from sim.truth import Truth

_ALARM_STATES = {
    AlarmKind.TAILGATE: State.TAILGATING,
    AlarmKind.REVERSE: State.REVERSE,
    AlarmKind.INTRUSION: State.INTRUSION,
    AlarmKind.LOITERING: State.LOITERING,
    AlarmKind.EXTERNAL: State.EXTERNAL_ALARM,
    AlarmKind.SELF_TEST: State.SELF_TEST,
}


class SimBoard:
    """The board of one lane. `run` serves it until cancelled; `barrier` is what visitors walk through.

    With a `port` it is one of several on a `sim.bus.SimBus`, and `path` is that of the bus.
    """

    def __init__(
        self,
        lane: str,
        path: Path,
        truth: Truth,
        *,
        address: int = 1,
        timing: Timing = DEFAULT_TIMING,
        rng: random.Random | None = None,
        lost_replies: float = 0.0,
        counters_file: Path | None = None,
        port: Port | None = None,
    ) -> None:
        self.lane = lane
        self.device = f"{lane}-board"
        self.barrier = SimBarrier(self, timing=timing)
        self._bus: SimBus | None = None
        if port is None:
            self._bus = SimBus(path, None)
            port = self._bus.port(0.0)
        self.line = port
        self.mischief = self.line.mischief
        self.lost_replies = lost_replies  # share of statuses that do not arrive
        self.entries = 0
        self.exits = 0
        self.commands: list[Command] = []  # what was executed, newest last; for tests, bounded
        self._truth = truth
        self._address = address
        self._rng = rng or random.Random(0)
        self.locked = False
        self._held: set[Direction] = set()
        self._counters_file = counters_file
        self._load_counters()

    async def run(self) -> None:
        """Serve the line and move the barrier until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.barrier.run)
            if self._bus is not None:
                nursery.start_soon(self._bus.run)
            nursery.start_soon(self._serve)

    def fire(self, on: bool) -> None:
        """The contact of the fire panel: opens without any server."""
        if on:
            self.barrier.hold(Hold.FIRE)
        else:
            self.barrier.unhold(Hold.FIRE)

    def state(self) -> State:
        """What the status says."""
        barrier = self.barrier
        if not barrier.powered:
            return State.CLOSED_POWER_LOSS
        if barrier.sensed is Sensed.RELEASED:
            return State.OPEN_FIRE if Hold.FIRE in barrier.holds() else State.OPEN_MANUAL
        alarm = barrier.shown_alarm()
        if alarm is not None and alarm in _ALARM_STATES and not barrier.holds():
            return _ALARM_STATES[alarm]
        out = barrier.facing is Direction.EXIT
        if barrier.sensed is Sensed.OPENING:
            return State.OPENING_EXIT if out else State.OPENING_ENTRY
        if barrier.sensed is Sensed.OPEN:
            return State.OPEN_EXIT if out else State.OPEN_ENTRY
        if barrier.sensed is Sensed.CLOSING:
            if alarm is AlarmKind.PINCH:
                return State.CLOSING_EXIT_PINCH if out else State.CLOSING_ENTRY_PINCH
            return State.CLOSING_EXIT if out else State.CLOSING_ENTRY
        return State.CLOSED_IDLE

    # --- told by the barrier --------------------------------------------------------------------------------------

    def barrier_moved(self, sensed: Sensed, facing: Direction | None) -> None:
        self._truth.barrier(self.lane, self.device, state=sensed, direction=facing or "")

    def person_passed(self, person: Person) -> None:
        if person.direction is Direction.ENTRY:
            self.entries = (self.entries + 1) % COUNTER_MODULUS
            counter = self.entries
        else:
            self.exits = (self.exits + 1) % COUNTER_MODULUS
            counter = self.exits
        self._save_counters()
        self._truth.sensor(
            self.lane,
            self.device,
            direction=person.direction,
            kind=person.kind,
            boot="",
            seq=counter,
            ticket=person.ticket,
            visitor=person.visitor,
        )

    def barrier_alarm(self, kind: AlarmKind) -> None:
        self._truth.alarm(self.lane, self.device, kind=kind)

    def turn_over(self, direction: Direction, unused: int) -> None:
        pass  # a board says nothing of its own accord

    # --- the line -------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        framer = Board4Framer()
        while True:
            for frame in framer.feed(await self.line.receive()):
                self._hear(frame)

    def _hear(self, frame: Frame) -> None:
        if frame.destination not in (self._address, BROADCAST):
            return
        try:
            command = decode_command(frame)
        except BoardError:
            self._hear_lock(frame)
            return
        if command.action is not None and self.barrier.powered:
            self._obey(command.action, command.pax)
            self.commands = [*self.commands[-99:], command]
        if frame.destination == BROADCAST or self._rng.random() < self.lost_replies:
            return
        self.line.send(encode_status(status(self._address, self.state(), self.entries, self.exits)))

    def _hear_lock(self, frame: Frame) -> None:
        try:
            self.locked = decode_lock(frame)
        except BoardError:
            return  # a real board keeps silent too
        if self.locked:
            self.barrier.close(Direction.ENTRY)
            self.barrier.close(Direction.EXIT)
        if frame.destination != BROADCAST:
            self.line.send(encode_status(status(self._address, self.state(), self.entries, self.exits)))

    def _obey(self, action: Action, pax: int) -> None:
        direction = Direction.ENTRY if action < Action.EXIT_OPEN else Direction.EXIT
        if action in (Action.ENTER_OPEN, Action.EXIT_OPEN):
            if not self.locked:
                self.barrier.open(direction, pax)
        elif action in (Action.ENTER_HOLD, Action.EXIT_HOLD):
            if not self._held:
                self._truth.release(self.lane, self.device, incident=None)
            self._held.add(direction)
            self.barrier.hold(Hold.RELEASE)
        else:
            self.barrier.close(direction)
            if self._held:
                self._held.discard(direction)
                if not self._held:
                    self._truth.rearm(self.lane, self.device)
                    self.barrier.unhold(Hold.RELEASE)

    # --- the counters' memory -------------------------------------------------------------------------------------

    def _load_counters(self) -> None:
        if self._counters_file is None or not self._counters_file.exists():
            return
        try:
            entries, exits = map(int, self._counters_file.read_text().split())
        except ValueError:
            return  # a half-written file: the board begins again, which is what a board with a flat battery does
        self.entries, self.exits = entries % COUNTER_MODULUS, exits % COUNTER_MODULUS

    def _save_counters(self) -> None:
        if self._counters_file is not None:
            self._counters_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._counters_file.write_text(f"{self.entries} {self.exits}\n")
