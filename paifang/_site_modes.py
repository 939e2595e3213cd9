"""Modes in the site file: their longest times, and lanes' modes by time of day and weekday."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from paifang._site_types import Name
from paifang._site_types import Table as _Table
from protocols.modes import MINUTES_MAX, TABLE

SCHEDULES_MAX = 200
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Minutes = Annotated[int, msgspec.Meta(ge=1, le=MINUTES_MAX)]
Clock = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Schedule(_Table, frozen=True, kw_only=True):
    """Lanes that have a mode at certain times. `to` at or before `from` is the next day's."""

    lanes: list[Name]
    mode: Literal["direct_check", "entry_only", "exit_only", "both_ways", "closed"]
    from_: Clock = msgspec.field(name="from")
    to: Clock
    days: list[Day] = msgspec.field(default_factory=lambda: list(DAYS))


class ModesTable(_Table, frozen=True, kw_only=True):
    """The longest time of each mode, in minutes, and `[[modes.schedules]]`."""

    direct_check: Minutes = 120
    entry_only: Minutes = 720
    exit_only: Minutes = 720
    both_ways: Minutes = 720
    closed: Minutes = 1440
    maintenance: Minutes = 480
    one_for_one: Minutes = 1440
    stop_sale: Minutes = 1440
    stop_entry: Minutes = 1440
    close_day: Minutes = 720
    schedules: list[Schedule] = []


def problems(table: ModesTable, lanes: list[str]) -> Iterator[tuple[str, str, str]]:
    """Key, what is wrong and what is allowed, of each mistake."""
    if len(table.schedules) > SCHEDULES_MAX:
        yield "modes.schedules", f"{len(table.schedules)} entries", f"at most {SCHEDULES_MAX}"
    for position, schedule in enumerate(table.schedules):
        key = f"modes.schedules[{position}]"
        if not schedule.lanes:
            yield f"{key}.lanes", "no lane", "one lane or more"
        if not schedule.days:
            yield f"{key}.days", "no day", ", ".join(DAYS)
        for place, lane in enumerate(schedule.lanes):
            if lane not in lanes:
                yield f"{key}.lanes[{place}]", f'unknown lane "{lane}"', ", ".join(f'"{each}"' for each in lanes)
        minutes, most = minutes_of(schedule), getattr(table, schedule.mode)
        if minutes > most:
            yield f"{key}.to", f"{minutes} minutes of {schedule.mode}", f"at most {most} (modes.{schedule.mode})"


def minutes_of(schedule: Schedule) -> int:
    """How long a schedule's mode runs by the clock on the wall."""
    begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in (schedule.from_, schedule.to))
    return (end - begin) % (24 * 60) or 24 * 60


assert {row.kind for row in TABLE} | {"schedules"} == set(ModesTable.__struct_fields__), "each mode has its time"
