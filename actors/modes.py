"""Everything that is otherwise for a while: direct check, closed, maintenance, stops of zones, the close of the day.

One table (`protocols.modes`), one book on disk.  Each mode has an owner, a reason, a start and a latest end; at its
end, or at the next start of the server if it did not run then, its lanes go back by themselves, it is written into the
audit log and people are told.  A lane that does not obey now (released, its board away) is told again until it does;
while it is released nothing is changed there.  A zone's stop has its end in the ledger too.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from actors import _mode_book as book_file
from actors._common import offer
from actors._mode_book import DONE_MAX, MODES_MAX, Book, BookError
from actors._mode_rules import CLOSE_DAY, Plan, lane_mode, latest, openings
from actors.errors import CommandRefused
from actors.lane import SetLaneMode
from core import ActorError, Address, Envelope, Stop
from protocols.console import Done, FeedEvent, ModesNow, SetMode, StopZoneFor
from protocols.messages import LaneMode, Telemetry, new_id
from protocols.modes import (
    KINDS,
    OF_STOP,
    SITE,
    TABLE,
    EndMode,
    KindView,
    ListModes,
    ModeKind,
    Modes,
    ModeView,
    Running,
    StartMode,
)
from storage.interfaces import AuditEntry

LOOK_S = 1.0  # how often ends, schedules and disobedient lanes are looked after
LANE_S = 2.0
ZONES_S = 4.0
DESK_S = 2.5
CLOCK = "paifang"  # who ends what is over
SCHEDULE = "schedule"  # who starts what the site file says
LIMITED = {LaneMode.FREE_COUNTED: "direct_check", LaneMode.MAINTENANCE: "maintenance"}  # set by hand, these end too

NEVER = frozenset({"no_barrier", "bad_mode"})  # a lane that says so has no such mode

log = structlog.get_logger(__name__)


class _Look(Telemetry, frozen=True, kw_only=True):
    """The actor's own timer."""


class ModeKeeper:
    """The actor behind `mode.*`, and in front of `zone.stop` and `lane.set_mode`.

    Args:
        path: the book on disk.
        lanes: every lane's address, and `bases` its mode in the site file.
        zones: names of the zones; `zone_actor` carries out stops, `desk` people's orders to lanes.
        minutes: the longest time of each kind.
        plans: the site file's schedules, by `timezone`'s clock.
        apart: calls a function that waits for the disk, where nobody else has to wait for it.
    """

    def __init__(
        self,
        *,
        path: Path,
        lanes: Mapping[str, Address],
        bases: Mapping[str, LaneMode],
        zones: Sequence[str],
        zone_actor: Address,
        desk: Address,
        ledger: Address,
        hub: Address,
        minutes: Mapping[str, int],
        plans: Sequence[Plan] = (),
        timezone: tzinfo,
        clock: Callable[[], float] = time.time,
        apart: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync,
    ) -> None:
        self._path = path
        self._lanes = lanes
        self._bases = dict(bases)
        self._zones = list(zones)
        self._zone_actor = zone_actor
        self._desk = desk
        self._ledger = ledger
        self._hub = hub
        self._minutes = minutes
        self._plans = plans
        self._timezone = timezone
        self._clock = clock
        self._apart = apart
        self._running: dict[int, Running] = {}
        self._ends: dict[int, float] = {}  # Trio's clock: when each is over whatever the clock on the wall says
        self._done: list[str] = []
        self._obeyed = dict(self._bases)  # what each lane was set to last, as far as is known
        self._loaded = False
        self._trouble = ""
        self._shown: list[ModeView] | None = None  # None: nobody was told yet

    async def run(self, me: Address) -> None:
        await self._load()
        lock = trio.Lock()  # one change at a time: the book is one file
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look, lock)
            me.set_timer("look", LOOK_S, _Look())
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case StartMode() | EndMode() | StopZoneFor() | SetMode():
                        nursery.start_soon(self._serve, envelope, lock)
                    case ListModes():
                        envelope.reply(self.modes())
                    case _Look():
                        me.set_timer("look", LOOK_S, _Look())
                        if not lock.locked():
                            nursery.start_soon(self._look, lock)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    def modes(self) -> Modes:
        """What runs, and what could."""
        rows = sorted(self._running.values(), key=lambda each: (-each.since, -each.mode))
        subjects = {"lane": list(self._lanes), "zone": self._zones, "site": [SITE]}
        return Modes(
            modes=[self._view(each) for each in rows],
            kinds=[
                KindView(
                    kind=row.kind, of=row.of, zh=row.zh, en=row.en, max_minutes=self._minutes[row.kind],
                    subjects=subjects[row.of],
                )
                for row in TABLE
            ],
        )  # fmt: skip

    # --- commands ---------------------------------------------------------------------------------------------------

    async def _serve(self, envelope: Envelope, lock: trio.Lock) -> None:
        order = envelope.msg
        try:
            async with lock:
                if isinstance(order, StartMode):
                    envelope.reply(await self._start(order, envelope.trace))
                elif isinstance(order, EndMode):
                    envelope.reply(await self._end_one(order))
                elif isinstance(order, StopZoneFor):
                    envelope.reply(await self._stop_zone(order, envelope.trace))
                else:
                    envelope.reply(await self._set_lane(order, envelope.trace))
                self._show()
        except (CommandRefused, ActorError) as exc:
            envelope.fail(exc)

    async def _start(self, order: StartMode, trace: str) -> ModeView:
        row = self._check(order)
        running = await self._begin(row, order.subject, order.minutes, order.reason, order.by)
        try:
            for zone, what in self._stops(row, order.subject):
                minutes = max(1, round((running.until - running.since) / 60))
                stop = StopZoneFor(zone=zone, what=what, minutes=minutes, reason=order.reason, by=order.by)
                await self._zone_actor.ask(stop, ZONES_S, trace=trace)
            if row.of == "lane":
                await self._try(order.subject, LaneMode(row.lane_mode))
        except (CommandRefused, ActorError):
            await self._take_back(running, row)
            raise
        await self._obey()
        return self._view(running)

    def _check(self, order: StartMode) -> ModeKind:
        row = KINDS.get(order.kind)
        if row is None:
            raise CommandRefused("unknown_mode", f"There is no mode {order.kind}", "没有此模式", ", ".join(KINDS))
        known = {"lane": self._lanes, "zone": self._zones, "site": [SITE]}[row.of]
        if order.subject not in known:
            raise CommandRefused("unknown_subject", f"No {row.of} {order.subject}", "没有此对象", ", ".join(known))
        most = self._minutes[row.kind]
        if order.minutes > most:
            raise CommandRefused("bad_minutes", f"{row.en} lasts {most} minutes at most", f"最长 {most} 分钟")
        if not order.reason.strip():
            raise CommandRefused("reason_required", "A reason is required", "请填写原因")
        if len(self._running) >= MODES_MAX:
            raise CommandRefused("too_many", "Too many modes run already", "模式过多")
        return row

    async def _begin(
        self, row: ModeKind, subject: str, minutes: int, reason: str, by: str, *, until: float = 0.0, schedule: str = ""
    ) -> Running:
        """Write a mode down; one of the same kind and subject gives way. Raises CommandRefused."""
        now = self._clock()
        most = now + self._minutes[row.kind] * 60
        until = min(until or (now + minutes * 60 if minutes else most), most)
        running = Running(
            mode=new_id(), kind=row.kind, subject=subject, owner=by, reason=reason, since=now, until=until,
            schedule=schedule,
        )  # fmt: skip
        before = dict(self._running)
        for each in before.values():
            if (each.kind, each.subject) == (row.kind, subject):
                del self._running[each.mode]
        self._running[running.mode] = running
        if schedule:
            self._done = [*self._done, schedule][-DONE_MAX:]
        try:
            await self._write()
        except BookError as exc:
            self._running = before
            raise CommandRefused("not_kept", f"Not written down: {exc}", "无法保存，未执行") from exc
        self._ends[running.mode] = trio.current_time() + (until - now)
        self._note(by, "mode.start", running, f"{(until - now) / 60:.0f} min", reason)
        return running

    async def _take_back(self, running: Running, row: ModeKind) -> None:
        """It could not be carried out: as if it had not been ordered."""
        del self._running[running.mode]
        for zone, what in self._stops(row, running.subject):
            await self._resume(zone, what, running.owner)
        await self._keep()
        self._note(CLOCK, "mode.failed", running, "taken back", "")

    async def _end_one(self, order: EndMode) -> Done:
        running = self._running.get(order.mode)
        if running is None:
            raise CommandRefused("unknown_mode", "This mode does not run", "该模式未在运行")
        if not order.reason.strip():
            raise CommandRefused("reason_required", "A reason is required", "请填写原因")
        row = KINDS[running.kind]
        for zone, what in self._stops(row, running.subject):
            stop = StopZoneFor(zone=zone, what=what, minutes=0, reason=order.reason, by=order.by)
            await self._zone_actor.ask(stop, ZONES_S)
        await self._end(running, order.by, order.reason)
        await self._obey()
        return Done(detail=f"{running.kind} of {running.subject}")

    async def _stop_zone(self, order: StopZoneFor, trace: str) -> Done:
        """`zone.stop`: carried out as it was, and kept among the modes."""
        row = OF_STOP.get(order.what)
        if row is not None and order.minutes > (most := self._minutes[row.kind]):
            raise CommandRefused("bad_minutes", f"{row.en} lasts {most} minutes at most", f"最长 {most} 分钟")
        done: Done = await self._zone_actor.ask(order, ZONES_S, trace=trace)
        assert row is not None  # an unknown one was refused
        if order.minutes:
            await self._begin(row, order.zone, order.minutes, order.reason, order.by)
        else:
            for each in list(self._running.values()):
                if (each.kind, each.subject) == (row.kind, order.zone):
                    await self._end(each, order.by, order.reason)
        return done

    async def _set_lane(self, order: SetMode, trace: str) -> Done:
        """`lane.set_mode`: a direct check and maintenance end by themselves; any other is the lane's own."""
        kind = LIMITED.get(order.mode)  # type: ignore[call-overload]  # a word of the enumeration is equal to its member
        if kind is not None and order.lane in self._lanes:
            await self._start(
                StartMode(kind=kind, subject=order.lane, reason=order.reason, by=order.by), trace
            )
            return Done(detail=order.mode)
        done: Done = await self._desk.ask(order, DESK_S, trace=trace)
        if order.mode not in frozenset(LaneMode):  # `restart`: its controller's, and no mode
            return done
        self._bases[order.lane] = self._obeyed[order.lane] = LaneMode(order.mode)
        for each in list(self._running.values()):
            if each.subject == order.lane and KINDS[each.kind].of == "lane":
                await self._end(each, order.by, order.reason)
        return done

    # --- time -------------------------------------------------------------------------------------------------------

    async def _look(self, lock: trio.Lock) -> None:
        """End what is over, begin what a schedule says, tell disobedient lanes again."""
        async with lock:
            now = self._clock()
            for running in list(self._running.values()):
                over = trio.current_time() >= self._ends.get(running.mode, 0.0)
                if over or now >= latest(self._minutes, running, now):
                    await self._end(running, CLOCK, "its time is over")
            for opening in openings(self._plans, now, self._timezone):
                if opening.key not in self._done and opening.lane in self._lanes:
                    row = KINDS[opening.mode]
                    try:
                        await self._begin(
                            row, opening.lane, 0, "schedule", SCHEDULE, until=opening.until, schedule=opening.key
                        )
                    except CommandRefused as exc:
                        self._say_trouble(exc.text_en)
            await self._obey()
            self._show()

    async def _end(self, running: Running, by: str, reason: str) -> None:
        """It is over, whether or not that can be written down now."""
        del self._running[running.mode]
        self._ends.pop(running.mode, None)
        await self._keep()
        self._note(by, "mode.end", running, "ended", reason)

    async def _obey(self) -> None:
        """Set each lane to what it has to be, where it is not. A lane that cannot now is told again later."""
        async with trio.open_nursery() as nursery:
            for lane in self._lanes:
                wanted = lane_mode(lane, self._bases[lane], self._running.values())
                if wanted is not self._obeyed[lane]:
                    nursery.start_soon(self._set, lane, wanted)

    async def _try(self, lane: str, wanted: LaneMode) -> None:
        """Raises CommandRefused where the lane never will; one that only cannot now is told again later."""
        try:
            await self._lanes[lane].ask(SetLaneMode(mode=wanted, reason="mode", by=CLOCK), LANE_S)
        except CommandRefused as exc:
            if exc.code in NEVER:
                raise
        except ActorError:
            return
        else:
            self._obeyed[lane] = wanted

    async def _set(self, lane: str, wanted: LaneMode) -> None:
        order = SetLaneMode(mode=wanted, reason="mode", by=CLOCK)
        try:
            await self._lanes[lane].ask(order, LANE_S)
        except (CommandRefused, ActorError):
            return
        self._obeyed[lane] = wanted

    async def _resume(self, zone: str, what: str, by: str) -> None:
        try:
            stop = StopZoneFor(zone=zone, what=what, minutes=0, reason="taken back", by=by)
            await self._zone_actor.ask(stop, ZONES_S)
        except (CommandRefused, ActorError) as exc:
            self._say_trouble(repr(exc))

    def _stops(self, row: ModeKind, subject: str) -> list[tuple[str, str]]:
        """Which stops of zones a mode consists of."""
        if row.kind == CLOSE_DAY:
            return [(zone, what) for zone in self._zones for what in ("entry", "sale")]
        return [(subject, row.stop)] if row.stop else []

    # --- the book -----------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """Take up what was promised before the start, once; what is over ends at the first look."""
        if self._loaded:
            return
        try:
            kept: Book = await self._apart(book_file.read, self._path)
        except BookError as exc:
            self._say_trouble(str(exc))
            kept = Book()
        self._loaded = True
        now = self._clock()
        self._done = list(kept.done)
        for running in kept.running:
            self._running[running.mode] = running
            self._ends[running.mode] = trio.current_time() + latest(self._minutes, running, now) - now

    async def _keep(self) -> None:
        try:
            await self._write()
        except BookError as exc:
            self._say_trouble(str(exc))

    def _show(self) -> None:
        """The console's topic `modes`, when something has changed."""
        now = self.modes().modes
        if now != self._shown:
            self._shown = now
            self._hub.tell(ModesNow(modes=now))

    async def _write(self) -> None:
        book = Book(running=list(self._running.values()), done=self._done)
        await self._apart(book_file.write, self._path, book)

    def _say_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            log.warning("modes", trouble=text)

    # --- what is shown ------------------------------------------------------------------------------------------------

    def _view(self, running: Running) -> ModeView:
        row = KINDS[running.kind]
        in_force = row.of != "lane" or self._obeyed.get(running.subject) == row.lane_mode
        return ModeView(
            mode=running.mode,
            kind=running.kind,
            subject=running.subject,
            zh=row.zh,
            en=row.en,
            owner=running.owner,
            reason=running.reason,
            since=running.since,
            until=running.until,
            in_force=in_force,
        )

    def _note(self, user: str, action: str, running: Running, what: str, reason: str) -> None:
        """Into the audit log and the feed."""
        subject = f"{running.kind} of {running.subject}: {what}"
        now = self._clock()
        offer(self._ledger, AuditEntry(user=user, role="", action=action, subject=subject, reason=reason, at=now))
        row = KINDS[running.kind]
        zh = {"mode.start": "开始", "mode.end": "结束", "mode.failed": "未能执行"}[action]
        en = {"mode.start": "begins", "mode.end": "ends", "mode.failed": "was not carried out"}[action]
        event = FeedEvent(
            at=now,
            kind="mode",
            severity="warning" if action == "mode.failed" else "notice",
            lane=running.subject if row.of == "lane" else "",
            code=running.kind,
            text_zh=f"{row.zh}{zh}：{running.subject}（{user}）",
            text_en=f"{row.en} {en}: {running.subject} ({user})",
        )
        offer(self._hub, event)



def minutes_table(times: msgspec.Struct) -> dict[str, int]:
    """The longest time of each kind, from a struct with a field for each."""
    return {row.kind: int(getattr(times, row.kind)) for row in TABLE}
