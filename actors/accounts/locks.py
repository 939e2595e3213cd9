"""Against guessing: after a few wrong passwords in a row a user is locked, for longer and longer."""

from __future__ import annotations

import trio

FAILURES_FREE = 3  # wrong passwords before a user is locked
LOCK_MIN_S, LOCK_MAX_S = 5.0, 300.0  # doubles with each further failure
LOCKS_MAX = 1000


class Locks:
    """Wrong passwords in a row by user name, known or not. Trio time."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}  # user -> (wrong passwords in a row, locked until)

    def __len__(self) -> int:
        return len(self._failures)

    def left_s(self, name: str) -> float:
        """Seconds until this user may try again; 0 is now."""
        return max(0.0, self._failures.get(name, (0, 0.0))[1] - trio.current_time())

    def failed(self, name: str) -> tuple[int, float]:
        """One more wrong password; returns how many in a row, and the seconds that the user is locked for it."""
        failures = self._failures.get(name, (0, 0.0))[0] + 1
        lock_s = (
            0.0 if failures < FAILURES_FREE else min(LOCK_MAX_S, LOCK_MIN_S * 2.0 ** min(failures - FAILURES_FREE, 16))
        )
        if name not in self._failures and len(self._failures) >= LOCKS_MAX:  # whose lock ends first, if it has any
            del self._failures[min(self._failures, key=lambda other: self._failures[other][1])]
        self._failures[name] = (failures, trio.current_time() + lock_s)
        return failures, lock_s

    def forget(self, name: str) -> None:
        """The right password, or a manager's word, ends the count."""
        self._failures.pop(name, None)
