"""What the rules and the languages of turnstile boards say to each other.

A language turns an `Order` into bytes and the board's frames into a `Reading`; which order is due is decided by
`_wishes`, without knowing how it is spelt.  So four languages share one set of rules, one loop and one bus.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

import msgspec

from drivers.base import AlarmKind
from protocols.messages import Direction

BOTH = (Direction.ENTRY, Direction.EXIT)


class Posture(StrEnum):
    """Where the barrier stands, and what for."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"  # for somebody's turn, which ends by itself
    CLOSING = "closing"
    HELD = "held"  # open, and not for somebody's turn: a command, the fire contact, a button on the board
    HIDDEN = "hidden"  # an alarm is said instead
    UNKNOWN = "unknown"


OPEN_POSTURES = frozenset({Posture.OPEN, Posture.HELD})


class Standing(StrEnum):
    """What a lane does until told otherwise."""

    NORMAL = "normal"
    HELD = "held"  # stands open
    FREE = "free"  # anybody passes, either way
    FREE_ENTRY = "free_entry"
    FREE_EXIT = "free_exit"
    LOCKED = "locked"  # nobody passes
    ARM_DROPPED = "arm_dropped"  # a tripod's arm hangs


class Act(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    RELEASE = "release"
    REARM = "rearm"
    STAND = "stand"  # begin a standing
    UNSTAND = "unstand"  # end it


class Order(msgspec.Struct, frozen=True):
    """One command for the board. With a `deadline` (trio's clock) it must be on the wire by then or never.

    Open and close have a `direction`; release, re-arming and standings may take several commands, numbered by `step`.
    """

    act: Act
    direction: Direction | None = None
    pax: int = 1
    deadline: float | None = None
    step: int = 0
    standing: Standing = Standing.NORMAL


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the board after it said something. `word` is the board's own word for it.

    `counts` are cumulative, entries and exits, as read; `passed` is one person of whom the board speaks as he passes.
    A reading that is not `sensed` is what was commanded (and perhaps acknowledged) by a board that senses nothing.
    """

    posture: Posture
    facing: Direction | None = None
    steady: bool = False  # held, by something that does not end by itself
    sensed: bool = True
    word: str = ""
    alarm: AlarmKind | None = None
    counts: tuple[int, int] | None = None
    passed: Direction | None = None
    fire: bool | None = None  # whether the board sees the fire contact; None: it does not say at present
    standing: Standing | None = None  # which standing the board is in, where it says so

    def is_turn(self, direction: Direction) -> bool:
        """Whether the barrier is opening or open for somebody's turn in `direction`."""
        return self.posture in (Posture.OPENING, Posture.OPEN) and self.facing is direction


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules have to know of a language."""

    pax_max: int  # people of one open
    release_steps: int
    rearm_steps: int
    stand_steps: dict[Standing, int]  # the standings that it has, and how many commands each takes
    closes_itself: bool = True  # a turn ends when all have passed; otherwise it has to be closed


class Heard(msgspec.Struct, frozen=True):
    """What one frame was: an answer to what was asked or not, and what it says, if anything."""

    answers: bool
    reading: Reading | None = None


class Owed(msgspec.Struct, frozen=True):
    """A frame that a conversation goes on with; `answered` is whether the board has something to say to it."""

    frame: bytes
    answered: bool


class Framer(Protocol):
    """Cuts a line's bytes into frames."""

    bad_frames: int

    def feed(self, data: bytes, /) -> list[Any]: ...


class Dialect(Protocol):
    """How one board is spoken to. Pure: time comes in as numbers, bytes go out as values.

    One frame is on the way at a time; `asking` is told which, before its answer can come.
    """

    style: Style
    answers: bool  # whether the board says anything at all
    broadcasts: bool  # whether all boards of a line can be released with one command
    firmware: str  # as the board says it; empty when it does not

    def framer(self) -> Framer: ...

    def poll(self) -> bytes | None:
        """A question that changes nothing; None when there is none at present."""

    def command(self, order: Order) -> bytes: ...

    def broadcast(self) -> bytes:
        """Release all boards of the line; nobody answers."""

    def asking(self, order: Order | None, now: float) -> None:
        """`order`, or a poll, goes on the line now."""

    def hear(self, frame: Any, now: float) -> Heard | None:
        """What a frame says; None when it is another board's. Raises BoardError when it is no sense."""

    def follow(self) -> Owed | None:
        """What the conversation owes the board now, at once, taken as sent: an acknowledgement, for instance."""

    def order(self) -> Order | None:
        """An order that the language needs on the way to fulfil another: the next person of a group."""

    def passed(self, direction: Direction, now: float) -> Reading | None:
        """Another device saw somebody pass; None for a board that counts by itself."""

    def missed(self, now: float) -> None:
        """What was asked was not answered."""

    def tick(self, now: float) -> Reading | None:
        """What time alone has changed; for boards that say nothing."""

    def lost(self) -> None:
        """The board is not heard any more, or the line was opened anew."""
