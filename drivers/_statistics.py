"""Counts that every driver keeps: one small book per device, read as `drivers.base.DriverStatistics`."""

from __future__ import annotations

import trio

from drivers.base import Availability, DriverStatistics
from protocols.messages import Counters

ERROR_TEXT_MAX = 300  # characters of the last error that are kept


class Meter:
    """One device's figures since the process started. Written by its driver, read by whoever looks."""

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.bad_frames = 0
        self.reconnects = 0
        self.last_error = ""
        self.heard_at: float | None = None
        self.firmware = ""
        self.clock_skew_s: float | None = None
        self.counters: Counters | None = None
        self._availability = Availability.UNKNOWN
        self._since: float | None = None

    @property
    def availability(self) -> Availability:
        return self._availability

    def heard(self, octets: int) -> None:
        """Bytes came from the device."""
        self.bytes_in += octets
        self.heard_at = trio.current_time()

    def sent(self, octets: int) -> None:
        """One frame went out."""
        self.frames_out += 1
        self.bytes_out += octets

    def error(self, reason: object) -> None:
        self.last_error = str(reason)[:ERROR_TEXT_MAX]

    def now(self, availability: Availability) -> bool:
        """The device is in `availability` from here on. True when that is news."""
        if availability is self._availability:
            return False
        self._availability = availability
        self._since = trio.current_time()
        return True

    def snapshot(self) -> DriverStatistics:
        now = 0.0 if self._since is None and self.heard_at is None else trio.current_time()
        return DriverStatistics(
            availability=self._availability,
            since_s=0.0 if self._since is None else now - self._since,
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            bad_frames=self.bad_frames,
            reconnects=self.reconnects,
            last_heard_s=None if self.heard_at is None else now - self.heard_at,
            last_error=self.last_error,
            firmware=self.firmware,
            clock_skew_s=self.clock_skew_s,
            counters=self.counters,
        )
