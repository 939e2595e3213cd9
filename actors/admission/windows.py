"""When a right may be used: its windows of dates, weekdays and hours, on the site's clock.

A window's dates and weekdays are business days.  One that closes before it opens runs over midnight and belongs to
the day on which it opens, also where its end reaches into the next business day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from protocols.clock import DAY_MINUTES, LocalTime
from protocols.rights import Window

LOOK_AHEAD_DAYS = 400  # for the next opening: a season that comes every year is found


def is_open(windows: Sequence[Window], local: LocalTime) -> bool:
    """May it be used now? Without any window: at all times."""
    return not windows or any(_covers(window, local) for window in windows)


def next_opening(windows: Sequence[Window], local: LocalTime) -> tuple[str, int] | None:
    """When the next window opens, on the site's clock (`YYYY-MM-DD HH:MM`; the date alone if it opens with the day).

    With it the minutes until then as the clock counts them.  None if nothing opens within a year and a month.
    """
    now = (local.on, local.minute)
    for ahead in range(LOOK_AHEAD_DAYS):
        day = local.day + timedelta(days=ahead)
        openings = []
        for window in windows:
            if not _on(window, day):
                continue
            opens, whole = minute_of(window.opens), _whole_day(window)
            minute = local.day_start if whole else opens
            on = day if minute >= local.day_start else day + timedelta(days=1)
            if (on, minute) > now:
                openings.append((on, minute, whole))
            if opens < local.day_start < minute_of(window.closes) and (day, local.day_start) > now:
                openings.append((day, local.day_start, whole))  # open already when the day begins
        if openings:
            on, minute, whole = min(openings)
            text = on.isoformat() if whole else f"{on.isoformat()} {minute // 60:02}:{minute % 60:02}"
            return text, (on - local.on).days * DAY_MINUTES + minute - local.minute
    return None


def minute_of(clock: str) -> int:
    """Minutes since midnight of `HH:MM`; 1440 for `24:00`."""
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _covers(window: Window, local: LocalTime) -> bool:
    opens, closes = minute_of(window.opens), minute_of(window.closes)
    if opens < closes:
        return opens <= local.minute < closes and _on(window, local.day)
    if local.minute >= opens:
        return _on(window, local.day)
    if local.minute >= closes:
        return False
    tail_of_yesterday = local.minute >= local.day_start
    return _on(window, local.day - timedelta(days=1) if tail_of_yesterday else local.day)


def _on(window: Window, day: date) -> bool:
    text = day.isoformat()
    return (
        (not window.first or window.first <= text)
        and (not window.last or text <= window.last)
        and (not window.weekdays or day.isoweekday() in window.weekdays)
    )


def _whole_day(window: Window) -> bool:
    return window.opens == "00:00" and window.closes == "24:00"
