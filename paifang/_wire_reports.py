"""The reports of a site: the trail of its messages, and figures read from its books."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from actors.errors import CommandRefused
from actors.reports import ANSWERS, Reports
from core import Trail, keep_trail
from paifang.site import SiteFile
from storage.connection import Dsn
from storage.reports import FlowFigures, ReportFailed, read_flow


def reports(site: SiteFile, dsn: Callable[[], Dsn]) -> Reports:
    """The actor; from now on the way of every message is kept."""
    trail = Trail(answers=ANSWERS)
    keep_trail(trail)
    lanes = [lane.id for lane in site.lanes]

    async def read(first: float, last: float, step_s: int) -> FlowFigures:
        try:
            return await read_flow(dsn(), site.site.id, lanes, first=first, last=last, step_s=step_s)
        except ReportFailed as exc:
            raise CommandRefused("unavailable", f"The books cannot be read: {exc}", "暂时无法读取数据") from exc

    return Reports(trail=trail, read=read, timezone=ZoneInfo(site.site.timezone))
