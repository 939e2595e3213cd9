"""Say it once per interval: a peer that sends garbage all day must not fill the log."""

from __future__ import annotations

import trio

LOG_INTERVAL_S = 10.0  # the same complaint is logged at most this often


class Throttle:
    """Counts occurrences per key and tells when one is due to be logged. At most `KEYS_MAX` keys are remembered."""

    KEYS_MAX = 64

    def __init__(self, interval_s: float = LOG_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._last: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def due(self, key: str) -> int:
        """How many times `key` happened since it was last logged, this one included; 0 when it is too early."""
        now = trio.current_time()
        self._since[key] = self._since.get(key, 0) + 1
        last = self._last.get(key)
        if last is not None and now - last < self._interval_s:
            return 0
        if len(self._last) >= self.KEYS_MAX:
            self._last.clear()
        self._last[key] = now
        return self._since.pop(key)
