"""The way of a message through the actors, kept in memory by its trace: who was handed what, when, after what wait.

Off until a program installs one (`keep_trail`): then each message that carries a trace costs a look and a tuple.  Only
the types of messages are kept, and of those that the program names (`answers`) their `code`; never their content.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import trio

if TYPE_CHECKING:
    from ._messages import Envelope

__all__ = ["Trail", "TrailStep", "keep_trail"]

TRACES_MAX = 3_000  # the latest ones; about 1 kB each
WORTH_MAX = 1_000  # and these of the ones in which something was refused, kept apart: people ask for them later
STEPS_MAX = 64  # of one trace; a trace that runs in circles fills no memory
OK_CODES = ("", "ok")

current: Trail | None = None
"""What the runtime writes to; None: nobody wants to know."""


class TrailStep(NamedTuple):
    """One message handed to one actor. `at` is seconds since the epoch, `waited_s` how long it lay in the mailbox."""

    at: float
    actor: str
    message: str
    waited_s: float
    code: str


class Trail:
    """The steps of the latest traces. `answers` names the types of messages whose `code` is kept."""

    def __init__(self, *, answers: frozenset[str] = frozenset()) -> None:
        self._answers = answers
        self._latest: OrderedDict[str, list[TrailStep]] = OrderedDict()
        self._worth: OrderedDict[str, list[TrailStep]] = OrderedDict()

    def note(self, actor: str, envelope: Envelope) -> None:
        """The runtime hands this message to this actor now."""
        trace = envelope.trace
        kind = type(envelope.msg).__name__
        code = ""
        if kind in self._answers:
            found = getattr(envelope.msg, "code", "")
            code = found if isinstance(found, str) else ""
        steps = self._latest.get(trace) or self._worth.get(trace)
        if steps is None:
            self._latest[trace] = steps = []
            if len(self._latest) > TRACES_MAX:
                self._latest.popitem(last=False)
        if len(steps) < STEPS_MAX:
            waited_s = max(0.0, trio.current_time() - envelope.told_at)
            steps.append(TrailStep(time.time(), actor, kind, waited_s, code))
        if code not in OK_CODES and self._latest.pop(trace, None) is not None:
            self._worth[trace] = steps
            if len(self._worth) > WORTH_MAX:
                self._worth.popitem(last=False)

    def steps(self, trace: str) -> list[TrailStep]:
        """What is known of a trace, in the order in which it happened; empty when it is known no longer."""
        return list(self._latest.get(trace) or self._worth.get(trace) or ())


def keep_trail(trail: Trail | None) -> None:
    """Write the way of every message to this from now on; None writes to nothing."""
    global current
    current = trail
