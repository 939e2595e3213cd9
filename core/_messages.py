"""The envelope that every message travels in, the runtime's own messages, and the trace that follows a scan."""

from __future__ import annotations

import contextvars
import secrets
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import trio

if TYPE_CHECKING:
    from ._address import Address

__all__ = ["Down", "Envelope", "Failed", "Inspect", "Overflow", "Stop", "current_trace", "new_trace"]

TRACE_BYTES = 6  # 12 characters; among a million traces of a day a double is a 0.2 % chance

_TRACE: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="")


def new_trace() -> str:
    """A short id for one cause (a scan, an operator's click) that all its messages carry."""
    return secrets.token_hex(TRACE_BYTES)


def current_trace() -> str:
    """The trace of the message that the running task handles; messages told without a trace inherit it."""
    return _TRACE.get()


class Overflow(StrEnum):
    """What a full mailbox does with a message of this class.

    A message type names its class by the plain string, so that it needs no import from here:
    `overflow: ClassVar[str] = "drop_oldest"`. A type that says nothing is a command: REFUSE.
    """

    REFUSE = "refuse"  # commands: the sender learns at once
    DROP_OLDEST = "drop_oldest"  # telemetry: the newest value wins
    WAIT = "wait"  # audit: the sender waits for room with `put`; `tell` refuses


def overflow_of(msg: object) -> str:
    """The overflow class of a message; of its type, so that a field of that name means nothing."""
    return getattr(type(msg), "overflow", Overflow.REFUSE)


class Stop(msgspec.Struct, frozen=True):
    """Finish what you hold, bring the hardware into its safe state, then return.

    `restarting`: a supervisor will start you again, so whatever is queued is kept.
    """

    restarting: bool = False


class Down(msgspec.Struct, frozen=True):
    """The actor `name`, which you watch, is gone; `reason` is `stopped`, `finished`, `not running` or the error."""

    overflow: ClassVar[str] = Overflow.DROP_OLDEST

    name: str
    reason: str


class Failed(msgspec.Struct, frozen=True):
    """What came of `msg`, which you sent with `reply_to`: no answer, but `error`."""

    msg: Any
    error: Exception


class Inspect(msgspec.Struct, frozen=True):
    """Ask any actor for its `AddressStatistics`; the runtime answers while the actor receives."""

    overflow: ClassVar[str] = Overflow.DROP_OLDEST


class Envelope(msgspec.Struct, eq=False):
    """A message under way. Answers at most once: the first answer wins, a later one does nothing.

    `deadline` and `told_at` are seconds of the Trio clock. Made by the runtime, never by hand.
    """

    # A Struct because its constructor is C: 75 ns, where `__slots__` and `__init__` take 250.
    msg: Any
    deadline: float
    trace: str
    told_at: float
    _to: Address | Envelope | trio.lowlevel.Task | None = None  # an actor, an envelope given on, or a task in `ask`
    answered: bool = False
    _value: Any = None
    _error: Exception | None = None

    def __repr__(self) -> str:  # without the content, which may name a person
        return f"<Envelope {type(self.msg).__name__} trace={self.trace or '-'}>"

    @property
    def wanted(self) -> bool:
        """Does somebody wait for an answer?"""
        return not self.answered and self._to is not None

    def reply(self, value: Any = None) -> None:
        """Answer: `ask` returns `value`, or `reply_to` is told it. Nothing happens if nobody asked."""
        self._settle(value, None)

    def fail(self, error: Exception) -> None:
        """Answer with an error: `ask` raises it, or `reply_to` is told `Failed(msg, error)`."""
        self._settle(None, error)

    def _answer(self, value: Any, trace: str) -> None:
        """Somebody to whom this envelope was given as `reply_to` answers in our place."""
        if isinstance(value, Failed):
            self.fail(value.error)
        else:
            self.reply(value)

    def _settle(self, value: Any, error: Exception | None) -> None:
        if self.answered:
            return
        self.answered, self._value, self._error = True, value, error
        if isinstance(self._to, trio.lowlevel.Task):
            trio.lowlevel.reschedule(self._to)
        elif self._to is not None:
            self._to._answer(value if error is None else Failed(self.msg, error), self.trace)
