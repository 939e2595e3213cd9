"""The clocks of the devices on the link: how far each is off, and whose time counts.

A message that is made when it is sent carries the device's time, and cannot arrive before that: of the latest ones the
least late shows the clock, as a filter on delay does it in NTP (RFC 5905, section 10).  Half of the round trip that the
device reports is taken off as well.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
import structlog
import trio

from actors._common import offer
from core import Address
from protocols import devicelink as link
from protocols.console import DeviceView, FeedEvent
from storage.interfaces import OpenCase

SAMPLES = 16  # of one device; the least late counts
SAMPLES_MIN = 3  # before anybody is alarmed
SAMPLE_LIFE_S = 60.0
SHOWN_EVERY_S = 10.0  # on the console, for each device
ROUND_TRIP_MAX_S = 10.0  # a device that claims more is not believed
BACK_AT = 0.5  # of the tolerance: here an alarm is over

log = structlog.get_logger(__name__)


class _Clock:
    """One device's. A sample is (when, on Trio's clock; the device's time minus ours as the message came)."""

    def __init__(self) -> None:
        self.samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self.round_trip_s = 0.0
        self.off = False
        self.shown_at = -SHOWN_EVERY_S

    @property
    def skew_s(self) -> float | None:
        fresh = trio.current_time() - SAMPLE_LIFE_S
        values = [value for at, value in self.samples if at >= fresh]
        return max(values) + self.round_trip_s / 2 if values else None


class DeviceClocks:
    """Of all devices of the site; `lanes` maps them to their lanes' names.

    Beyond `tolerance_s` the server's time counts, and people are told, once.
    """

    def __init__(
        self,
        tolerance_s: float,
        lanes: Mapping[str, str],
        *,
        hub: Address,
        books: Address | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tolerance_s = tolerance_s
        self._lanes = lanes
        self._hub = hub
        self._books = books
        self._wall = clock
        self._clocks = {device: _Clock() for device in lanes}

    def skew_s(self, device: str) -> float | None:
        """The device's clock minus ours; None while it has said nothing lately."""
        return self._clocks[device].skew_s

    def heard(self, request: link.WorkRequest) -> link.WorkRequest:
        """Note a known device's request, and give it back with the time that counts.

        The time of an upload is left as it is: it tells how far off the clock was for the records in it.
        """
        device = request.device
        mine = self._clocks[device]
        if isinstance(request, link.Hello | link.Heartbeat | link.Fetch):  # made when they are sent
            mine.samples.append((trio.current_time(), request.at - self._wall()))
            if isinstance(request, link.Heartbeat) and request.round_trip_s is not None:
                mine.round_trip_s = min(request.round_trip_s, ROUND_TRIP_MAX_S)
            self._judge(device, mine)
        skew_s = mine.skew_s
        if not mine.off or skew_s is None or isinstance(request, link.Upload | link.GetList):
            return request
        return msgspec.structs.replace(request, at=min(max(0.0, request.at - skew_s), self._wall()))

    def _judge(self, device: str, mine: _Clock) -> None:
        skew_s = mine.skew_s
        if skew_s is None:
            return
        was_off = mine.off
        if len(mine.samples) >= SAMPLES_MIN:
            mine.off = abs(skew_s) > self._tolerance_s * (BACK_AT if was_off else 1.0)
        if mine.off and not was_off:
            self._alarm(device, skew_s)
        elif was_off and not mine.off:
            log.info("link.clock_right", device=device, skew_s=round(skew_s, 3))
            self._feed("info", "clock_right", f"{device} 的时钟已恢复", f"The clock of {device} is right again")
        now = trio.current_time()
        if mine.off != was_off or now - mine.shown_at >= SHOWN_EVERY_S:
            mine.shown_at = now
            self._show(device, mine, skew_s)

    def _show(self, device: str, mine: _Clock, skew_s: float) -> None:
        view = DeviceView(
            device=device,
            kind="link",
            lane=self._lanes[device],
            availability="available",  # it has just said something
            detail=f"its clock is off by {skew_s:+.1f} s; the server's counts" if mine.off else "",
            clock_skew_s=round(skew_s, 3),
        )
        offer(self._hub, view)

    def _alarm(self, device: str, skew_s: float) -> None:
        text_en = f"The clock of {device} is off by {skew_s:+.0f} s; the server's time counts"
        log.warning("link.clock_off", device=device, skew_s=round(skew_s, 3), tolerance_s=self._tolerance_s)
        self._feed("alarm", "clock_off", f"{device} 的时钟偏差 {skew_s:+.0f} 秒，以服务器时间为准", text_en)
        if self._books is not None:
            at = self._wall()
            key = f"clock_off/{device}/{at:.0f}"
            lane = self._lanes[device]
            case = OpenCase(key=key, kind="clock_off", lane=lane, severity="alarm", detail=text_en, at=at)
            offer(self._books, case)

    def _feed(self, severity: str, code: str, text_zh: str, text_en: str) -> None:
        event = FeedEvent(
            at=self._wall(), kind="device", severity=severity, code=code, text_zh=text_zh, text_en=text_en
        )
        offer(self._hub, event)
