"""Digicon's boards (`protocols.digicon`): acknowledged commands, one word for each person, no state.

A turn is one release for each person: the next of a group is let in when the board says that one has passed.  An
acknowledgement that is lost is taken for given, because a second release would let in a second person; a refusal (15)
is certain, and only then an open is sent again.

There is no question for the state.  A command that the language does not list is answered 15 and changes nothing: that
is how the server knows that the board is alive.
"""

from __future__ import annotations

from drivers.turnstile._speech import Act, Heard, Order, Owed, Posture, Reading, Standing, Style
from protocols._resync import Resync
from protocols.digicon import Code, Frame, encode, encode_probe, framer
from protocols.messages import Direction

GROUP_MAX = 255  # people, let in one by one; the bound is ours
POLL_S = 0.3
ANSWER_S = 0.08
FRAME_BYTES = 6

_PASSED = (Code.PASSED_RIGHT_TO_LEFT, Code.PASSED_LEFT_TO_RIGHT)


class DigiconDialect:
    """How the board of one line is spoken to. `entry_is` is the side to which a visitor who enters walks."""

    answers = True
    broadcasts = False
    firmware = ""

    def __init__(self, *, entry_is: str = "right", escape: tuple[Direction, ...] = (Direction.EXIT,)) -> None:
        entry, leave = Code.LEFT_TO_RIGHT, Code.RIGHT_TO_LEFT
        if entry_is == "left":
            entry, leave = leave, entry
        self._ways = {Direction.ENTRY: entry, Direction.EXIT: leave}
        self._said = {
            Code.PASSED_LEFT_TO_RIGHT: Direction.ENTRY if entry is Code.LEFT_TO_RIGHT else Direction.EXIT,
            Code.PASSED_RIGHT_TO_LEFT: Direction.ENTRY if entry is Code.RIGHT_TO_LEFT else Direction.EXIT,
        }
        self._escape = escape
        self._asked: Order | None = None
        self._posture = Posture.CLOSED
        self._facing: Direction | None = None
        self._standing = Standing.NORMAL
        self._left = 0  # people of a group who are still to pass
        self._next = False  # the next of them may be let in
        self.style = Style(
            pax_max=GROUP_MAX,
            release_steps=len(escape),
            rearm_steps=1,
            stand_steps={Standing.FREE: 2, Standing.FREE_ENTRY: 1, Standing.FREE_EXIT: 1},
        )

    def framer(self) -> Resync[Frame]:
        return framer()

    def poll(self) -> bytes:
        return encode_probe()

    def command(self, order: Order) -> bytes:
        match order.act:
            case Act.OPEN:
                assert order.direction is not None
                return encode(self._ways[order.direction])
            case Act.RELEASE:
                return encode(Code.FREE, self._ways[self._escape[order.step]])
            case Act.STAND:
                return encode(Code.FREE, self._ways[_free(order)])
            case Act.CLOSE | Act.REARM | Act.UNSTAND:
                return encode(Code.CONTROL)

    def broadcast(self) -> bytes:
        return b""

    def asking(self, order: Order | None, now: float) -> None:
        self._asked = order
        if order is not None and order.act is Act.OPEN:
            if not self._next:
                self._left = order.pax
            self._next = False

    def hear(self, frame: Frame, now: float) -> Heard | None:
        if not frame.is_reply:
            return None  # an adapter may echo what we said
        if frame.code in _PASSED:
            return Heard(False, self._one_passed(self._said[frame.code]))
        asked, self._asked = self._asked, None
        if frame.code is Code.ACK and asked is not None:
            self._carried_out(asked)
        elif asked is not None and asked.act is Act.OPEN and self._posture is Posture.CLOSED:
            self._left = 0
        return Heard(True, self._reading())

    def follow(self) -> Owed | None:
        return None

    def order(self) -> Order | None:
        return Order(Act.OPEN, self._facing) if self._next and self._posture is Posture.OPEN else None

    def passed(self, direction: Direction, now: float) -> Reading | None:
        return None  # it says so itself

    def missed(self, now: float) -> None:
        if self._asked is not None and self._asked.act is Act.OPEN:
            self._carried_out(self._asked)  # perhaps not; but who knows must not be let in twice
        self._asked = None

    def tick(self, now: float) -> Reading | None:
        return None

    def lost(self) -> None:
        self._asked, self._facing = None, None
        self._posture, self._standing = Posture.CLOSED, Standing.NORMAL
        self._left, self._next = 0, False

    def _carried_out(self, order: Order) -> None:
        match order.act:
            case Act.OPEN:
                self._posture, self._facing = Posture.OPEN, order.direction
            case Act.RELEASE | Act.STAND:
                free = order.standing in (Standing.FREE_ENTRY, Standing.FREE_EXIT)
                self._posture, self._facing = Posture.CLOSED if free else Posture.HELD, None
                self._standing = order.standing
                self._left, self._next = 0, False
            case Act.CLOSE | Act.REARM | Act.UNSTAND:
                self._posture, self._facing, self._standing = Posture.CLOSED, None, Standing.NORMAL
                self._left, self._next = 0, False

    def _one_passed(self, direction: Direction) -> Reading:
        """Said as it happens, asked or not; also of somebody whose release was not acknowledged."""
        asked = self._asked
        if asked is not None and asked.act is Act.OPEN and asked.direction is direction:
            self._carried_out(asked)  # the acknowledgement is on its way, or lost
        if self._posture is Posture.OPEN and self._facing is direction:
            self._left -= 1
            self._next = self._left > 0
            if not self._next:
                self._posture, self._facing = Posture.CLOSED, None
        return self._reading(direction)

    def _reading(self, passed: Direction | None = None) -> Reading:
        return Reading(
            posture=self._posture,
            facing=self._facing,
            sensed=False,
            word=f"{self._posture.value}, as acknowledged",
            passed=passed,
            standing=self._standing,
        )


def _free(order: Order) -> Direction:
    if order.standing is Standing.FREE:
        return (Direction.ENTRY, Direction.EXIT)[order.step]
    return Direction.ENTRY if order.standing is Standing.FREE_ENTRY else Direction.EXIT
