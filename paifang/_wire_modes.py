"""The keeper of modes at a site: longest times and schedules of the site file, the book in the data folder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

from actors._mode_rules import Plan
from actors.modes import ModeKeeper, minutes_table
from core import Address
from paifang._site_modes import DAYS
from paifang.setups import lane_config
from paifang.site import SiteFile

__all__ = ["ModeKeeper", "mode_keeper"]

BOOK = "modes.json"


def mode_keeper(
    site: SiteFile,
    data: Path,
    lanes: Mapping[str, Address],
    *,
    zones: Address,
    desk: Address,
    ledger: Address,
    hub: Address,
) -> ModeKeeper:
    """The actor of all modes."""
    return ModeKeeper(
        path=data / BOOK,
        lanes=lanes,
        bases={lane.id: lane_config(lane).mode for lane in site.lanes},
        zones=[zone.id for zone in site.zones],
        zone_actor=zones,
        desk=desk,
        ledger=ledger,
        hub=hub,
        minutes=minutes_table(site.modes),
        plans=[
            Plan(
                lanes=schedule.lanes,
                mode=schedule.mode,
                begin=time.fromisoformat(schedule.from_),
                end=time.fromisoformat(schedule.to),
                days=frozenset(DAYS.index(day) for day in schedule.days),
            )
            for schedule in site.modes.schedules
        ],
        timezone=ZoneInfo(site.site.timezone),
    )
