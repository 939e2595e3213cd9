"""The site's clock: business days and times of day in the site's zone, summer time included."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo

import msgspec

DAY_MINUTES = 24 * 60


class LocalTime(msgspec.Struct, frozen=True, kw_only=True):
    """A moment as the site's clock shows it.

    `on` and `minute` (of the day, 0 to 1439) are the calendar's, `day` is the business day, which begins at the
    minute `day_start`: before that, it is still yesterday's.
    """

    on: date
    minute: int
    day: date
    day_start: int


def business_day(at: float, timezone: tzinfo, start: time) -> date:
    """The business day that an instant (seconds since the epoch) belongs to."""
    local = datetime.fromtimestamp(at, timezone)
    return local.date() if local.time() >= start else local.date() - timedelta(days=1)


def business_day_start(at: float, timezone: tzinfo, start: time) -> float:
    """When the business day began that `at` belongs to; all in seconds since the epoch."""
    return datetime.combine(business_day(at, timezone, start), start, timezone).timestamp()


def local_time(at: float, timezone: tzinfo = UTC, start: time = time()) -> LocalTime:
    """What the site's clock shows at an instant."""
    local = datetime.fromtimestamp(at, timezone)
    day = local.date() if local.time() >= start else local.date() - timedelta(days=1)
    return LocalTime(
        on=local.date(),
        minute=local.hour * 60 + local.minute,
        day=day,
        day_start=start.hour * 60 + start.minute,
    )
