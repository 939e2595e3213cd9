"""Mach Power's boards (`protocols.machpower`): commands only, nothing comes back.

Nobody can tell from this language whether a barrier moved or somebody passed.  So an open is sent once and never
repeated, the barrier is reported as commanded while nothing depends on it, and as *unknown* in a release: somebody has
to look.  Passages come from another device's sensor, if one is wired (`TurnstileGate.passage`).  Without one, each
opening counts as a passage: a ticket that opened would otherwise stay unused, and open again for the next.
"""

from __future__ import annotations

import msgspec

from drivers.turnstile._speech import Act, Heard, Order, Owed, Posture, Reading, Standing, Style
from protocols._resync import Resync
from protocols.machpower import Command, Frame, encode, framer
from protocols.messages import Direction

OPEN_S = 5.0  # the board closes by itself after a time that is set on it and that it does not tell
GROUP_MAX = 255  # people, one by one as the sensor sees them
POLL_S = 0.1  # how often time is looked at
ANSWER_S = 0.0
FRAME_BYTES = 5

_LEFT, _RIGHT = Command.LEFT_OPEN, Command.RIGHT_OPEN


class MachPowerDialect:
    """How one board is spoken to. `entry_is` is the side to which a visitor who enters walks.

    `arm` is whether it is a tripod, whose release drops the arm; a swing or wing barrier is opened again and again.
    `sensor` is whether another device's passage sensor is wired; without, an opening is a passage.
    Raises ValueError for an address that no board has.
    """

    answers = False
    broadcasts = False
    firmware = ""

    def __init__(
        self,
        address: int,
        *,
        arm: bool,
        entry_is: str = "right",
        escape: tuple[Direction, ...] = (Direction.EXIT,),
        open_s: float = OPEN_S,
        sensor: bool = False,
    ) -> None:
        if not 0 <= address <= 0xFF:
            raise ValueError(f"board address {address}; 0 to 255 are possible")
        self._address = address
        self._arm = arm
        self._escape = escape
        self._open_s = open_s
        entry, leave = (_RIGHT, _LEFT) if entry_is == "right" else (_LEFT, _RIGHT)
        self._opens = {Direction.ENTRY: entry, Direction.EXIT: leave}
        self._now = Reading(posture=Posture.CLOSED, sensed=False, word="closed, as commanded")
        self._until = 0.0  # when an opening is over
        self._left = 0  # people of a group who are still to be let in
        self._next = False  # the next of them, now
        self._news = True
        self._sensor = sensor
        self._passed: Direction | None = None  # counted with the opening, for want of a sensor
        steps = {Standing.LOCKED: 1, Standing.ARM_DROPPED: 1} if arm else {Standing.LOCKED: 1}
        self.style = Style(
            pax_max=GROUP_MAX if sensor else 1,
            release_steps=1 if arm else len(escape),
            rearm_steps=1,
            stand_steps=steps,
        )

    def framer(self) -> Resync[Frame]:
        return framer()

    def poll(self) -> bytes | None:
        return None

    def command(self, order: Order) -> bytes:
        return b"".join(encode(self._address, command) for command in self._commands(order))

    def broadcast(self) -> bytes:
        return b""

    def asking(self, order: Order | None, now: float) -> None:
        match None if order is None else order.act:
            case Act.OPEN:
                assert order is not None
                if not self._next:
                    self._left = order.pax
                self._next = False
                self._until = now + self._open_s
                self._passed = None if self._sensor else order.direction
                self._say(Posture.OPEN, order.direction, "opened")
            case Act.CLOSE | Act.REARM | Act.UNSTAND:
                self._left, self._next = 0, False
                self._say(Posture.CLOSED, None, "closed")
            case Act.RELEASE:
                self._left, self._next = 0, False
                self._say(Posture.HELD, None, "released")
            case Act.STAND:
                assert order is not None
                held = order.standing is Standing.ARM_DROPPED
                self._say(Posture.HELD if held else Posture.CLOSED, None, order.standing.value)

    def hear(self, frame: Frame, now: float) -> Heard | None:
        return Heard(False) if frame.address == self._address else None  # an echo proves nothing but the wire

    def follow(self) -> Owed | None:
        return None

    def order(self) -> Order | None:
        if self._next and self._now.posture is Posture.OPEN:
            return Order(Act.OPEN, self._now.facing)
        return None

    def passed(self, direction: Direction, now: float) -> Reading | None:
        if self._now.posture is Posture.OPEN and self._now.facing is direction:
            self._left -= 1
            self._next = self._left > 0
            if not self._next:
                self._say(Posture.CLOSED, None, "closed")
        return msgspec.structs.replace(self._now, passed=direction)

    def missed(self, now: float) -> None:
        pass

    def tick(self, now: float) -> Reading | None:
        if self._now.posture is Posture.OPEN and now >= self._until:
            self._left, self._next = 0, False
            self._say(Posture.CLOSED, None, "closed")
        news, self._news = self._news, False
        if news:
            return self._now
        if self._passed is None:
            return None
        counted, self._passed = self._passed, None
        return msgspec.structs.replace(self._now, passed=counted)

    def lost(self) -> None:
        self._left, self._next, self._passed = 0, False, None
        self._say(Posture.CLOSED, None, "closed")

    def _commands(self, order: Order) -> tuple[Command, ...]:
        """A ban is used to end an opening, so it is lifted before anything is opened: a lost frame leaves no ban."""
        match order.act:
            case Act.OPEN:
                assert order.direction is not None
                return (Command.RECOVER, self._opens[order.direction])
            case Act.CLOSE:
                return (Command.BAN, Command.RECOVER)
            case Act.RELEASE:
                opened = Command.DROP_ARM if self._arm else self._opens[self._escape[order.step]]
                return (Command.RECOVER, opened)
            case Act.REARM:
                return (Command.RAISE_ARM, Command.RECOVER) if self._arm else (Command.BAN, Command.RECOVER)
            case Act.STAND:
                return (Command.BAN if order.standing is Standing.LOCKED else Command.DROP_ARM,)
            case Act.UNSTAND:
                return (Command.RECOVER if order.standing is Standing.LOCKED else Command.RAISE_ARM,)

    def _say(self, posture: Posture, facing: Direction | None, word: str) -> None:
        self._now = Reading(posture=posture, facing=facing, sensed=False, word=f"{word}, as commanded")
        self._news = True
