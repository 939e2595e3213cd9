"""The physics of one lane: a barrier that takes time to move, people who take time to walk, sensors that see them.

Shared by the simulated board and the simulated smart gate.  The barrier alone decides who gets through: a visitor's
`walk` passes only where it stands open, so what the sensors report is what really happened, whatever anybody granted.
Times are seconds of trio's clock, so tests run in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec
import trio

from drivers.base import AlarmKind
from drivers.base import Barrier as Sensed
from protocols.messages import Direction, PassageKind

MAX_CREDITS = 255  # people a barrier can be told to let through; more are not counted


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the mechanics are, in seconds."""

    opening_s: float = 0.3
    closing_s: float = 0.3
    open_s: float = 6.0  # closes by itself when nobody walked for so long
    alarm_s: float = 1.0  # an alarm is shown for so long


DEFAULT_TIMING = Timing()


class Hold(StrEnum):
    """What keeps a barrier open although nobody has paid."""

    RELEASE = "release"  # the server's command
    FIRE = "fire"  # the fire panel's contact


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One person passed for good, as the sensors saw it."""

    direction: Direction
    kind: PassageKind
    ticket: int | None = None
    visitor: str = ""


class Owner(Protocol):
    """The device around a barrier, told of everything at once and synchronously."""

    def barrier_moved(self, sensed: Sensed, facing: Direction | None) -> None: ...

    def person_passed(self, person: Person) -> None: ...

    def barrier_alarm(self, kind: AlarmKind) -> None: ...

    def turn_over(self, direction: Direction, unused: int) -> None:
        """Nobody else walks on what was opened: it closes, or stands open for everybody now. `unused` did not come."""


class SimBarrier:
    """A barrier with people in front of it. `run` moves it; the other methods are called by its device and by visitors.

    `open` adds people: a board that is told twice lets twice as many through, which is what a driver has to avoid.
    """

    def __init__(self, owner: Owner, *, timing: Timing = DEFAULT_TIMING, free_exit: bool = True) -> None:
        self.timing = timing
        self.free_exit = free_exit
        self.powered = True
        self.sensed = Sensed.CLOSED
        self.facing: Direction | None = None
        self.in_field = 0  # people between the sensors
        self.alarm: AlarmKind | None = None
        self._walking = 0  # people between the sensors for whom it was opened
        self._owner = owner
        self._credits = {Direction.ENTRY: 0, Direction.EXIT: 0}
        self._open_s = timing.open_s
        self._holds: set[Hold] = set()
        self._last_motion = 0.0
        self._alarm_until = 0.0
        self._pushed = False  # somebody walked against a closing barrier
        self._changed = trio.Event()

    # --- what the device commands ---------------------------------------------------------------------------------

    def open(self, direction: Direction, pax: int, open_s: float | None = None) -> None:
        """Let `pax` more people through in `direction`; whoever has not walked after `open_s` may not."""
        if not self.powered:
            return
        self._credits[direction] = min(self._credits[direction] + pax, MAX_CREDITS)
        self._open_s = self.timing.open_s if open_s is None else open_s
        self._last_motion = trio.current_time()
        self._touch()

    def close(self, direction: Direction) -> None:
        """Nobody else may walk in `direction`. Whoever is between the barriers gets out first."""
        self._credits[direction] = 0
        self._touch()

    def hold(self, reason: Hold) -> None:
        """Open and stay open until `unhold`, whatever else is said."""
        self._holds.add(reason)
        self._touch()

    def unhold(self, reason: Hold) -> None:
        self._holds.discard(reason)
        self._touch()

    def power(self, on: bool) -> None:
        """Power loss: what stands open falls open and stays; a closed one can be opened by no command."""
        self.powered = on
        self._touch()

    def holds(self) -> frozenset[Hold]:
        return frozenset(self._holds)

    def credits(self, direction: Direction) -> int:
        """People who may still begin to walk in `direction`."""
        return self._credits[direction]

    def shown_alarm(self) -> AlarmKind | None:
        """The alarm that is still being shown."""
        return self.alarm if trio.current_time() < self._alarm_until else None

    # --- what visitors do -----------------------------------------------------------------------------------------

    def passable(self, direction: Direction) -> bool:
        """Whether somebody who waits for his turn would walk now. Nobody goes in where everybody must get out."""
        if self.sensed is Sensed.RELEASED:
            return direction is Direction.EXIT
        return self.sensed is Sensed.OPEN and self.facing is direction and self._credits[direction] > 0

    async def until(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for something about the barrier; False when it did not come within `timeout_s`."""
        with trio.move_on_after(timeout_s):
            while not predicate():
                await self._changed.wait()
        return predicate()

    async def wait_turn(self, direction: Direction, timeout_s: float) -> bool:
        """Wait until the barrier stands open for one more person in `direction`."""
        return await self.until(lambda: self.passable(direction), timeout_s)

    async def ask_exit(self, timeout_s: float) -> bool:
        """Stand before the lane on the inner side: a lane with free exit opens by itself."""
        if self.free_exit and self._credits[Direction.EXIT] == 0 and not self._holds:
            self.open(Direction.EXIT, 1)
        return await self.wait_turn(Direction.EXIT, timeout_s)

    async def walk(
        self,
        direction: Direction,
        walk_s: float,
        *,
        step_back: bool = False,
        ticket: int | None = None,
        visitor: str = "",
    ) -> PassageKind | None:
        """Walk through, and say as what the sensors saw it; None when the barrier stands in the way.

        With `step_back` the visitor turns round between the sensors: nobody is counted, and the place is free again.
        """
        if self.sensed not in (Sensed.OPEN, Sensed.RELEASED):
            if self.sensed is Sensed.CLOSING:
                self._pushed = True
                self._raise_alarm(AlarmKind.PINCH)
                self._touch()
            elif self.sensed is Sensed.CLOSED:
                self._raise_alarm(AlarmKind.INTRUSION)
            return None
        kind = self._kind_of(direction)
        spent = kind in (PassageKind.GRANTED, PassageKind.EXIT)
        if spent:
            self._credits[direction] -= 1
            self._walking += 1
        self.in_field += 1
        self._touch()
        try:
            if kind is PassageKind.TAILGATE:
                self._raise_alarm(AlarmKind.TAILGATE)
            elif kind is PassageKind.REVERSE:
                self._raise_alarm(AlarmKind.REVERSE)
            await trio.sleep(walk_s)
            if step_back:
                if spent and not self._holds:
                    self._credits[direction] += 1
                return None
            own = ticket if kind is PassageKind.GRANTED else None
            self._owner.person_passed(Person(direction=direction, kind=kind, ticket=own, visitor=visitor))
            return kind
        finally:
            self.in_field -= 1
            self._walking -= spent
            self._last_motion = trio.current_time()
            self._touch()

    async def loiter(self, stay_s: float) -> None:
        """Stand between the sensors and walk nowhere."""
        self.in_field += 1
        try:
            await trio.sleep(stay_s)
            self._raise_alarm(AlarmKind.LOITERING)
        finally:
            self.in_field -= 1
            self._touch()

    # --- the mechanics --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Move the barrier until cancelled."""
        while True:
            await self._until(lambda: bool(self._holds) or (self.powered and self._wanted() is not None))
            await self._serve()

    async def _serve(self) -> None:
        """One turn: from closed over open to closed again."""
        direction = self._wanted()
        while True:
            self.facing = direction
            self._move(Sensed.OPENING)
            await trio.sleep(self.timing.opening_s)
            self._last_motion = trio.current_time()
            self._move(Sensed.RELEASED if self._holds else Sensed.OPEN)
            await self._stay_open()
            self._end_turn()
            self._pushed = False
            self._move(Sensed.CLOSING)
            reopened = await self.until(lambda: self._pushed or bool(self._holds), self.timing.closing_s)
            if not reopened:
                break
            direction = None if self._holds else self.facing  # pushed open again for whoever stands in it
        self.facing = None
        self._move(Sensed.CLOSED)

    async def _stay_open(self) -> None:
        """Until nobody else may walk, or nobody did for too long; held as long as anything holds."""
        while True:
            if self._holds:
                if self.sensed is not Sensed.RELEASED:
                    self._move(Sensed.RELEASED)
                await self._until(lambda: self._walking == 0)
                self._end_turn()
                self._credits = dict.fromkeys(self._credits, 0)  # whoever walks now walks free
                self.facing = None
                await self._until(lambda: not self._holds)
                return
            if not self.powered:
                await self._until(lambda: self.powered or bool(self._holds))
                continue
            left_s = self._last_motion + self._open_s - trio.current_time()
            if self.in_field == 0 and (self.facing is None or self._credits[self.facing] == 0 or left_s <= 0):
                return
            with trio.move_on_after(max(left_s, 0.0) if self.in_field == 0 else self.timing.open_s):
                await self._changed.wait()

    def _end_turn(self) -> None:
        if self.facing is not None:
            unused, self._credits[self.facing] = self._credits[self.facing], 0
            self._owner.turn_over(self.facing, unused)

    def _wanted(self) -> Direction | None:
        """Exits first: nobody is kept in because others want to come in."""
        for direction in (Direction.EXIT, Direction.ENTRY):
            if self._credits[direction]:
                return direction
        return None

    def _kind_of(self, direction: Direction) -> PassageKind:
        if self.sensed is Sensed.RELEASED:
            return PassageKind.EMERGENCY
        if self.facing is not direction:
            return PassageKind.REVERSE
        if self._credits[direction] == 0:
            return PassageKind.TAILGATE
        return PassageKind.GRANTED if direction is Direction.ENTRY else PassageKind.EXIT

    def _move(self, sensed: Sensed) -> None:
        self.sensed = sensed
        self._owner.barrier_moved(sensed, self.facing)
        self._touch()

    def _raise_alarm(self, kind: AlarmKind) -> None:
        self.alarm = kind
        self._alarm_until = trio.current_time() + self.timing.alarm_s
        self._owner.barrier_alarm(kind)

    async def _until(self, predicate: Callable[[], bool]) -> None:
        """Wait for a command or a person, however long that takes: a barrier has nothing else to do."""
        while not predicate():
            await self._changed.wait()

    def _touch(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
