"""Who is out, and who is left: people counted at the released lanes, and by hand where nothing counts.

`left = inside at the trigger - out + back`.  It is an estimate on purpose, and needs nobody: the number inside is the
last one that was shown before the trigger, the passages come from the lanes themselves and not from the database.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

import msgspec

MINUTE_S = 60.0
MINUTES_MAX = 24 * 60  # of the curve that are kept
REPEATS_MAX = 4096  # passages remembered, so that one that is told again counts once


class Tally(msgspec.Struct, kw_only=True):
    """What is kept over a restart, in a small file beside the latch."""

    incident: int = 0
    inside: dict[str, int] = {}  # zone -> people, at the trigger
    out: dict[str, int] = {}  # lane -> people
    back: dict[str, int] = {}
    by_hand: dict[str, int] = {}  # place -> people out
    minutes: dict[str, int] = {}  # minute since the epoch -> people out
    zones: list[str] = []  # that are left


class Counting:
    """The count of one incident at a time."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._recent: dict[str, collections.deque[float]] = {}
        self._heard: collections.OrderedDict[tuple[str, ...], None] = collections.OrderedDict()

    def begin(self, incident: int, inside: Mapping[str, int], zones: Iterable[str]) -> None:
        """A new incident."""
        self.tally = Tally(incident=incident, inside=dict(inside), zones=sorted(zones))
        self._recent.clear()

    def widen(self, inside: Mapping[str, int], zones: Iterable[str]) -> None:
        """More zones are left from now on."""
        tally = self.tally
        for zone in set(zones) - set(tally.zones):
            if zone in inside:
                tally.inside.setdefault(zone, inside[zone])
        tally.zones = sorted({*tally.zones, *zones})

    def late(self, zones: Mapping[str, int]) -> bool:
        """How many are where, told after the trigger: taken for zones of which nothing was known. True when it was."""
        missing = [zone for zone in self.tally.zones if zone in zones and zone not in self.tally.inside]
        self.tally.inside |= {zone: zones[zone] for zone in missing}
        return bool(missing)

    def resume(self, tally: Tally) -> None:
        """After a restart."""
        self.tally = tally
        self._recent.clear()

    def passed(self, lane: str, from_zone: str, to_zone: str, identity: tuple[str, ...], at: float) -> bool:
        """One person passed a released lane. False when that was known, or leads neither out nor back in."""
        if identity in self._heard:
            return False
        self._heard[identity] = None
        if len(self._heard) > REPEATS_MAX:
            self._heard.popitem(last=False)
        zones = set(self.tally.zones)
        if from_zone in zones and to_zone not in zones:
            self.tally.out[lane] = self.tally.out.get(lane, 0) + 1
            self._recent.setdefault(lane, collections.deque(maxlen=1000)).append(at)
            minute = str(int(at // MINUTE_S))
            self.tally.minutes[minute] = self.tally.minutes.get(minute, 0) + 1
            if len(self.tally.minutes) > MINUTES_MAX:
                del self.tally.minutes[next(iter(self.tally.minutes))]
            return True
        if to_zone in zones and from_zone not in zones:
            self.tally.back[lane] = self.tally.back.get(lane, 0) + 1
            return True
        return False

    def by_hand(self, place: str, people: int) -> int:
        """Counted by a person where no sensor counts; a negative number corrects. Returns the place's sum."""
        now = max(0, self.tally.by_hand.get(place, 0) + people)
        self.tally.by_hand[place] = now
        return now

    # --- figures ------------------------------------------------------------------------------------------------

    def last_minute(self, lane: str, now: float) -> int:
        """People who left by this lane within the last minute."""
        recent = self._recent.get(lane)
        if not recent:
            return 0
        while recent and recent[0] <= now - MINUTE_S:
            recent.popleft()
        return len(recent)

    @property
    def out(self) -> int:
        return sum(self.tally.out.values()) + sum(self.tally.by_hand.values())

    @property
    def back(self) -> int:
        return sum(self.tally.back.values())

    @property
    def inside_at_start(self) -> int | None:
        """Unknown when nobody had told how many are in a zone that is left."""
        tally = self.tally
        if not tally.zones or any(zone not in tally.inside for zone in tally.zones):
            return None
        return sum(tally.inside[zone] for zone in tally.zones)

    @property
    def left(self) -> int | None:
        """How many are probably still inside."""
        inside = self.inside_at_start
        return None if inside is None else max(0, inside - self.out + self.back)
