"""Modes: what a site does differently for a while, each with an owner, a start, a latest end.

A mode is of a lane, of a zone, or of the whole site.  None outlives its longest time, whoever started it and whether
or not the server ran at that moment.
"""

from __future__ import annotations

import msgspec

from protocols._bounds import Detail, Number, Word
from protocols.console_views import ModeView as ModeView
from protocols.messages import Base

SITE = "site"  # the subject of a mode of the whole site


class ModeKind(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table of modes. `of`: lane | zone | site; `lane_mode` is what its lanes are set to."""

    kind: str
    of: str
    zh: str
    en: str
    lane_mode: str = ""
    stop: str = ""  # of its zones: entry | sale | one_for_one


TABLE: tuple[ModeKind, ...] = (
    ModeKind(kind="direct_check", of="lane", zh="高峰直检", en="Direct check", lane_mode="free_counted"),
    ModeKind(kind="entry_only", of="lane", zh="只进", en="Entry only", lane_mode="normal_entry"),
    ModeKind(kind="exit_only", of="lane", zh="只出", en="Exit only", lane_mode="normal_exit"),
    ModeKind(kind="both_ways", of="lane", zh="双向", en="Both ways", lane_mode="bidirectional"),
    ModeKind(kind="closed", of="lane", zh="关闭", en="Closed", lane_mode="closed"),
    ModeKind(kind="maintenance", of="lane", zh="维护", en="Maintenance", lane_mode="maintenance"),
    ModeKind(kind="one_for_one", of="zone", zh="一出一进", en="One in for one out", stop="one_for_one"),
    ModeKind(kind="stop_sale", of="zone", zh="暂停售票", en="Sale stopped", stop="sale"),
    ModeKind(kind="stop_entry", of="zone", zh="暂停入园", en="Entry stopped", stop="entry"),
    ModeKind(kind="close_day", of="site", zh="闭园清场", en="Close of the day"),
)
KINDS: dict[str, ModeKind] = {row.kind: row for row in TABLE}
OF_STOP = {row.stop: row for row in TABLE if row.stop}
MINUTES_MAX = 1440  # of any mode


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A mode that runs, as it is kept on disk. `schedule` names the opening of a schedule that started it."""

    mode: int
    kind: str
    subject: str
    owner: str
    reason: str
    since: float  # seconds since the epoch
    until: float
    schedule: str = ""


class StartMode(Base, frozen=True, kw_only=True):
    """mode.start: `minutes` 0 is the longest time allowed. A running one of the same kind and subject is replaced.

    A reason is required.  Answered with `ModeView`.
    """

    kind: Word
    subject: Word
    minutes: Number = 0
    reason: Detail = ""
    by: Word = ""


class EndMode(Base, frozen=True, kw_only=True):
    """mode.end: end a running mode before its time. A reason is required."""

    mode: Number
    reason: Detail = ""
    by: Word = ""


class ListModes(Base, frozen=True, kw_only=True):
    """mode.list: the table of modes, and what runs."""


class KindView(Base, frozen=True, kw_only=True):
    """A kind of mode at this site, and what it may be of."""

    kind: str
    of: str
    zh: str
    en: str
    max_minutes: int
    subjects: list[str]


class Modes(Base, frozen=True, kw_only=True):
    """Answer to mode.list; the newest first."""

    modes: list[ModeView]
    kinds: list[KindView]
