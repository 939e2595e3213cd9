"""Where messages go that nobody handled.

A dead letter is normal (a late command, a telemetry value shed under load) until there are many. So they are
counted by (actor, type, reason), the last ones are kept for the operator, and whoever wants a log line hooks in and
writes one per interval with `take()`, not one per letter.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from enum import StrEnum

import msgspec

__all__ = ["DeadLetter", "DeadLetters", "Reason"]

RING_CAPACITY = 256  # letters kept for inspection


class Reason(StrEnum):
    """Why a message was not handled."""

    FULL = "full"  # shed or refused by a full lane
    EXPIRED = "expired"  # its deadline passed before it was read, or its asker gave up
    CRASHED = "crashed"  # the actor died holding or postponing it
    DOWN = "down"  # the actor is stopped for good


class DeadLetter(msgspec.Struct, frozen=True):
    """One message that nobody handled; `at` is in seconds of the Trio clock.

    The message itself is not kept: it may name a person, and this list is shown on screens.
    """

    at: float
    actor: str
    type: str
    reason: Reason
    trace: str


class DeadLetters:
    """Counts by (actor, type, reason) and a ring of the last letters."""

    def __init__(self, *, ring: int = RING_CAPACITY) -> None:
        # Bounded by actors x message types x four reasons, all of which are fixed by the site file and the code.
        self.counts: collections.Counter[tuple[str, str, Reason]] = collections.Counter()
        self.last: collections.deque[DeadLetter] = collections.deque(maxlen=ring)
        self.hook_errors = 0
        self._taken: collections.Counter[tuple[str, str, Reason]] = collections.Counter()
        self._hooks: list[Callable[[DeadLetter], None]] = []

    @property
    def total(self) -> int:
        """All letters since the start."""
        return self.counts.total()

    def hook(self, callback: Callable[[DeadLetter], None]) -> None:
        """Call `callback` synchronously with every letter from now on.

        It must be quick. What it raises is counted in `hook_errors` and goes no further: a log that is full
        must not stop a release.
        """
        self._hooks.append(callback)

    def record(self, letter: DeadLetter) -> None:
        """Count and keep one letter."""
        self.counts[letter.actor, letter.type, letter.reason] += 1
        self.last.append(letter)
        for callback in self._hooks:
            try:
                callback(letter)
            except Exception:
                self.hook_errors += 1

    def take(self) -> dict[tuple[str, str, Reason], int]:
        """What was added since the last call: the content of one log line per interval."""
        fresh = self.counts - self._taken
        self._taken = self.counts.copy()
        return dict(fresh)
