"""How fast a zone fills, and when it will be full: a straight line through its last minutes. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_S = 600.0
SAMPLE_S = 15.0  # between two samples; the number of samples is bounded by both
SPAN_MIN_S = 60.0  # of less nothing is concluded
FORECAST_MAX_S = 6 * 3600.0  # nobody can say what a day brings
PACE_MIN_PER_MIN = 0.2  # slower than this is no direction


class Pace:
    """The counts of one zone, thinned out. Times are any monotonic clock's seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(WINDOW_S / SAMPLE_S) + 1)
        self._per_min: float | None = None

    def add(self, now: float, inside: int) -> None:
        """Take a count, unless the last sample is too fresh. A clock that goes backward begins anew."""
        if self._samples and now < self._samples[-1][0]:
            self._samples.clear()
        if self._samples and now - self._samples[-1][0] < SAMPLE_S:
            return
        while self._samples and now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        self._samples.append((now, inside))
        self._per_min = self._slope()

    @property
    def per_min(self) -> float | None:
        """People more (or, below zero, fewer) a minute, to a tenth; None while too little is known."""
        return self._per_min

    def full_in_s(self, people: int, limit: int | None) -> float | None:
        """Seconds until the limit if it goes on like this, to a whole minute; None if it does not get there soon."""
        if limit is None or self._per_min is None or self._per_min < PACE_MIN_PER_MIN or people >= limit:
            return None
        seconds = (limit - people) / self._per_min * 60.0
        return None if seconds > FORECAST_MAX_S else max(60.0, round(seconds / 60.0) * 60.0)

    def _slope(self) -> float | None:
        """Least squares, in people a minute."""
        if len(self._samples) < 3 or self._samples[-1][0] - self._samples[0][0] < SPAN_MIN_S:
            return None
        count = len(self._samples)
        mean_t = sum(at for at, _ in self._samples) / count
        mean_n = sum(inside for _, inside in self._samples) / count
        spread = sum((at - mean_t) ** 2 for at, _ in self._samples)
        together = sum((at - mean_t) * (inside - mean_n) for at, inside in self._samples)
        return round(together / spread * 60.0, 1) + 0.0  # no minus zero
