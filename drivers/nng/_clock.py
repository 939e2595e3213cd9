"""How far the server's clock is from ours, from the times of requests and answers, as NTP does it (RFC 5905, 8)."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

SAMPLES = 16  # the quickest of so many last answers counts: what delays an answer on one way only falsifies it


class _Sample(NamedTuple):
    round_trip_s: float
    offset_s: float


class ServerClock:
    """Fed with every answer; `offset_s` and `round_trip_s` are None before the first."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES)

    def answered(self, start_at: float, round_trip_s: float, server_at: float) -> None:
        """A request left at `start_at` on our clock; `round_trip_s` is measured monotonically."""
        self._samples.append(_Sample(round_trip_s, server_at - (start_at + round_trip_s / 2)))

    @property
    def offset_s(self) -> float | None:
        """The server's clock minus ours, in seconds; wrong by half of `round_trip_s` at most."""
        return min(self._samples).offset_s if self._samples else None

    @property
    def round_trip_s(self) -> float | None:
        return min(self._samples).round_trip_s if self._samples else None
