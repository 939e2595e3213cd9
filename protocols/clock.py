"""The site's clock: business days and times of day in the site's zone, summer time included."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def business_day(at: float, timezone: ZoneInfo, start: time) -> date:
    """The business day that an instant (seconds since the epoch) belongs to."""
    local = datetime.fromtimestamp(at, timezone)
    return local.date() if local.time() >= start else local.date() - timedelta(days=1)


def business_day_start(at: float, timezone: ZoneInfo, start: time) -> float:
    """When the business day began that `at` belongs to; all in seconds since the epoch."""
    return datetime.combine(business_day(at, timezone, start), start, timezone).timestamp()
