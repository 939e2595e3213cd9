"""A zone as one batch works on it: who is inside, who is on the way in, and whether more may come.

Two things stop an entry: the limit, which nobody passes, and a stop, which may begin below the limit and end only well
below where it began (hysteresis), or was ordered by people.  Staff are inside, but take no visitor's place unless the
site says so (domain model, section 11).
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.interfaces import ZoneCount, ZoneFacts


@dataclass(slots=True)
class Zone:
    """The row of one zone. Times are seconds since the epoch; `None` bounds do not bind."""

    zone: str
    limit: int | None
    inside: int
    held: int
    stop_at: int | None = None
    resume_at: int | None = None
    sale_stop_at: int | None = None
    sale_resume_at: int | None = None
    day_limit: int | None = None
    reentry_when_stopped: bool = True
    staff_counts: bool = False
    entry_full: bool = False
    sale_full: bool = False
    staff: int = 0
    day: str | None = None
    entered: int = 0
    entry_stopped_until: float | None = None
    sale_stopped_until: float | None = None
    one_for_one_until: float | None = None
    inside_moved: int = 0
    held_moved: int = 0
    staff_moved: int = 0
    changed: bool = False  # something else than the counts

    def move(self, people: int) -> None:
        self.inside += people
        self.inside_moved += people

    def move_staff(self, people: int) -> None:
        self.staff += people
        self.staff_moved += people

    def hold(self, people: int) -> None:
        self.held += people
        self.held_moved += people

    def visitors(self) -> int:
        """Who is inside and counts against the limit. A count below zero is a miscount, not room."""
        return max(0, self.inside - (0 if self.staff_counts else max(0, self.staff)))

    def people(self) -> int:
        """Who counts against the limit: inside, and on the way in."""
        return self.visitors() + self.held

    def room(self, *, staff: bool = False, reentry: bool = False) -> int | None:
        """People of this kind who may still be let in below the limits; None without one. Stops are not looked at."""
        if staff:
            return None
        room = None if self.limit is None else self.limit - self.people()
        if self.day_limit is not None and not reentry:
            today = self.day_limit - self.entered - self.held
            room = today if room is None else min(room, today)
        return room

    def settle(self, now: float) -> None:
        """Let the hysteresis follow the count: after every change, and when an ordered mode has ended.

        Only who is inside turns it: a hold may come to nothing, and would leave a stop behind.
        """
        resume_at = None if _runs(self.one_for_one_until, now) else self.resume_at
        self.entry_full = self._follow(self.entry_full, self._stop_at(), resume_at)
        self.sale_full = self._follow(self.sale_full, self.sale_stop_at, self.sale_resume_at)

    def _stop_at(self) -> int | None:
        return self.limit if self.stop_at is None else self.stop_at

    def _follow(self, stopped: bool, stop_at: int | None, resume_at: int | None) -> bool:
        """Without `resume_at` who leaves makes room for the next one."""
        if stop_at is None:
            after = False
        elif self.visitors() >= stop_at:
            after = True
        else:
            after = stopped and resume_at is not None and self.visitors() > resume_at
        self.changed = self.changed or after != stopped
        return after

    def begin_day(self, day: str) -> None:
        """Count first entries anew when the business day has changed. `day` is its date."""
        if day != self.day:
            self.day, self.entered, self.changed = day, 0, True

    def enter(self) -> None:
        """A visitor's first entry of the day."""
        self.entered += 1
        self.changed = True

    def order(self, what: str, until: float | None) -> None:
        """People stop `entry` or `sale`, or let `one_for_one` in; None: as usual again."""
        setattr(self, {"entry": "entry_stopped_until", "sale": "sale_stopped_until"}.get(what, f"{what}_until"), until)
        self.changed = True

    def entry_stopped(self, now: float) -> bool:
        """May no new visitor enter, whatever room there is below the limit?"""
        reached = self.stop_at is not None and self.people() >= self.stop_at
        waits = self.entry_full and (self.stop_at is not None or self.resume_at is not None)
        return reached or waits or _runs(self.entry_stopped_until, now)

    def sale_stopped(self, now: float) -> bool:
        """May no ticket for today be sold, although holders of one still enter?"""
        return self.sale_full or _runs(self.sale_stopped_until, now)

    def state(self) -> tuple[bool, bool, str | None, int, float | None, float | None, float | None]:
        """What is written back beside the counts."""
        stops = (self.entry_stopped_until, self.sale_stopped_until, self.one_for_one_until)
        return self.entry_full, self.sale_full, self.day, self.entered, *stops

    def facts(self, now: float) -> ZoneFacts:
        return ZoneFacts(
            zone=self.zone,
            inside=self.inside,
            held=self.held,
            limit=self.limit,
            stopped=self.entry_stopped(now),
            reentry_when_stopped=self.reentry_when_stopped,
            staff=0 if self.staff_counts else max(0, self.staff),
            left_today=None if self.day_limit is None else self.day_limit - self.entered - self.held,
        )

    def count(self) -> ZoneCount:
        return ZoneCount(
            zone=self.zone,
            inside=self.inside,
            held=self.held,
            limit=self.limit,
            people=self.people(),
            staff=self.staff,
            entered=self.entered,
            stop_at=self.stop_at,
            resume_at=self.resume_at,
            full=self.entry_full,
            sale_full=self.sale_full,
            entry_stopped_until=self.entry_stopped_until,
            sale_stopped_until=self.sale_stopped_until,
            one_for_one_until=self.one_for_one_until,
        )


def _runs(until: float | None, now: float) -> bool:
    return until is not None and now < until
