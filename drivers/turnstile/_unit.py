"""One board on a line: what it is wished to do, what it said last, and what is reported of it. No I/O.

The bus (`_bus`) asks a unit what to send, gives it what was heard, and tells it what was not.  Everything here is
synchronous, so that nothing can come between what was seen and what is said about it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from drivers._statistics import Meter
from drivers.base import (
    SILENT_AFTER_S,
    AlarmKind,
    Availability,
    Barrier,
    BarrierChanged,
    DeviceDown,
    DeviceUp,
    Emit,
    GateAlarm,
    InputChanged,
    InputState,
    PassageCounted,
)
from drivers.turnstile._speech import OPEN_POSTURES, Dialect, Order, Posture, Reading
from drivers.turnstile._tally import NOBODY, OwnCount, Step, Tally
from drivers.turnstile._wishes import Wishes
from protocols.errors import BoardError
from protocols.messages import Direction

NEWS_S = 0.5  # a status that is older says nothing about now
LOOK_S = 0.02  # pause between two looks at a board for which something is wished and of which only old news is known
HURRY_S = 2.0  # somebody waits for the barrier to close: looked at as often for so long, or until it is closed
ALARM_OVER_S = 1.0  # an alarm that was away for this long is a new one when it comes back
FIRE_INPUT = "fire"  # the name of a board's own fire contact in `InputChanged`
FIRE_PROOFS = 2  # readings in a row that must agree: the checksum lets one damaged frame in 256 pass
DEAD_AFTER = 3  # questions in a row without an answer that was believed; then a board is asked last and seldom

_BARRIERS = {
    Posture.CLOSED: Barrier.CLOSED,
    Posture.OPENING: Barrier.OPENING,
    Posture.OPEN: Barrier.OPEN,
    Posture.CLOSING: Barrier.CLOSING,
    Posture.HELD: Barrier.RELEASED,
    Posture.UNKNOWN: Barrier.UNKNOWN,
}


class Talk(msgspec.Struct, frozen=True):
    """A frame that a unit wants to be sent; `order` None is a question."""

    frame: bytes
    order: Order | None = None


class Unit:
    """The state of one board. `where` names it in reports; `place` is its address on the line, 0 where there is none.

    `trusts_acknowledgement`: a board that senses no barrier but acknowledges a release is believed to be released;
    from one that says nothing at all, a release is reported as unknown.
    """

    def __init__(
        self,
        where: str,
        place: int,
        dialect: Dialect,
        count: Tally | OwnCount,
        poll_s: float,
        *,
        trusts_acknowledgement: bool,
        infers_tailgating: bool,
    ) -> None:
        self.where = where
        self.place = place
        self.dialect = dialect
        self.wishes = Wishes(dialect.style)
        self.meter = Meter()
        self.failure: Exception | None = None  # somebody's fault in reporting; raised where this unit runs
        self.scope = trio.CancelScope()  # around that place
        self.asked_at = float("-inf")
        self._hurry_until = float("-inf")
        self.next_poll = 0.0
        self.unheard = 0  # questions since the last believed answer
        self.believed_at = 0.0
        self._poll_s = poll_s
        self._count = count
        self._trusts = trusts_acknowledgement
        self._infers = infers_tailgating
        self._barrier = Barrier.UNKNOWN
        self._last: Reading | None = None  # the last one believed, as long as the board is heard
        self._opened = False  # the line was there before
        self._announce = False  # say DeviceUp again: the counts were put on another footing
        self._fire: bool | None = None  # as last reported; None: not since it is up
        self._fire_seen: tuple[bool, int] = (False, 0)  # the last reading, and how many in a row said so
        self._alarms: dict[AlarmKind, float] = {}  # when each was last seen
        self._emit: Emit = _to_nobody

    # --- its life -----------------------------------------------------------------------------------------------

    def begin(self, emit: Emit, now: float) -> None:
        """Somebody listens from here on."""
        self._emit = emit
        self.failure = None
        self._last = None
        self.wishes.lost()
        self.dialect.lost()
        self.believed_at, self.next_poll, self.unheard = now, now, 0

    def end(self) -> None:
        self._emit = _to_nobody

    def line_opened(self, now: float) -> None:
        """The line is there, perhaps again."""
        if self._opened:
            self.meter.reconnects += 1
        self._opened = True
        self.dialect.lost()
        self.believed_at, self.next_poll, self.unheard = now, now, 0

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """See `Gate.resume`. Older knowledge than the driver's own changes nothing; it is answered all the same."""
        self._count.resume(epoch, entries, exits)
        if (counts := self._count.counts) is not None:
            self.wishes.rebase(counts)
        self._announce = True

    def look(self, now: float) -> None:
        """Somebody waits for the barrier to close: ask at once, then every LOOK_S until it is or HURRY_S is over."""
        self._hurry_until = now + HURRY_S
        self.next_poll = min(self.next_poll, now)

    @property
    def dead(self) -> bool:
        return self.unheard >= DEAD_AFTER

    # --- what to send -------------------------------------------------------------------------------------------

    def release_due(self, now: float) -> Talk | None:
        """The next command of a release. It is sent on old news, too."""
        return self._order(self.wishes.due(now)) if self.wishes.released else None

    def order_due(self, now: float) -> Talk | None:
        """Another command; not on old news.

        A server that was stopped for a while would otherwise open for somebody, or shut the barrier in an evacuation
        that it slept through, before it has looked.
        """
        if self.wishes.released or not self._fresh(now):
            return None
        order = self.wishes.due(now) or self.dialect.order()
        return self._order(order)

    def poll_due(self, now: float) -> bool:
        """Whether it is time to look at this board."""
        if now >= self.next_poll:
            return True
        wanted = self.wishes.pending and not self.wishes.released and not self._fresh(now)
        return wanted and now - self.asked_at >= LOOK_S

    def poll(self, now: float) -> Talk | None:
        """The question; None when there is none to ask at present."""
        self.next_poll = now + (min(LOOK_S, self._poll_s) if now < self._hurry_until else self._poll_s)
        frame = self.dialect.poll()
        return None if frame is None else Talk(frame)

    def _order(self, order: Order | None) -> Talk | None:
        return None if order is None else Talk(self.dialect.command(order), order)

    def _fresh(self, now: float) -> bool:
        if not self.dialect.answers or now - self.believed_at <= NEWS_S:
            return True
        return self._last is not None and self.dialect.poll() is None  # it has nothing to be asked meanwhile

    # --- what became of it ----------------------------------------------------------------------------------------

    def asking(self, talk: Talk, now: float) -> None:
        self.asked_at = now
        if self.dialect.answers:
            self.unheard += 1
        self.dialect.asking(talk.order, now)

    def missed(self, now: float) -> None:
        """No answer came. Asked again soon, for a lost frame is nothing, until it counts as dead."""
        self.dialect.missed(now)
        if not self.dead:
            self.next_poll = min(self.next_poll, now)

    def hear(self, frame: Any, now: float) -> bool | None:
        """One frame of the line: whether it answers what was asked; None when it is not from this board."""
        try:
            heard = self.dialect.hear(frame, now)
        except BoardError:
            self.meter.bad_frames += 1
            return None
        if heard is None:
            return None
        self.meter.frames_in += 1
        if heard.reading is not None:
            self._observe(heard.reading, now)
        return heard.answers

    def tick(self, now: float) -> None:
        """Time passes: silence, and boards that say nothing by nature."""
        if (reading := self.dialect.tick(now)) is not None:
            self._observe(reading, now)
        silent = self.dialect.answers and now - self.believed_at >= SILENT_AFTER_S
        if silent and self.dead and self.meter.availability is not Availability.UNAVAILABLE:
            self.down(f"{self.where}: no answer")
        if self._announce and self._last is not None:
            self._say_up(self._last)

    def down(self, reason: str) -> None:
        """It is not heard any more."""
        self._last = None
        self._fire_seen = (False, 0)
        self.wishes.lost()
        self.dialect.lost()
        self.note_refusal()
        self.meter.error(reason)  # last, because it is the cause
        if self.meter.now(Availability.UNAVAILABLE):
            self._barrier = Barrier.UNKNOWN
            self._emit(DeviceDown(reason=reason))

    def note_refusal(self) -> None:
        if self.wishes.refused:
            self.meter.error(self.wishes.refused)
            self.wishes.refused = ""

    def count_one(self, direction: Direction) -> None:
        """Another device saw somebody pass here."""
        now = trio.current_time()
        if self._last is not None and (reading := self.dialect.passed(direction, now)) is not None:
            self._observe(reading, now)

    # --- what is reported ---------------------------------------------------------------------------------------

    def _observe(self, reading: Reading, now: float) -> None:
        step = self._read(reading)
        counts = self._count.counts
        if step is None or counts is None:
            return
        self.believed_at, self.unheard = now, 0
        self.meter.firmware, self.meter.counters = self.dialect.firmware, counts
        if step.restarted and self._last is not None:
            self.down(f"{self.where}: the board's counters jumped; it was reset or changed")
        self.wishes.observe(reading, counts, now)
        if reading.posture is Posture.CLOSED:
            self._hurry_until = now
        self.note_refusal()
        barrier = self._sense(reading)
        if self._last is None:
            self._barrier = barrier
            self._say_up(reading)
        else:
            self._say_changes(reading, barrier, step)
        self._last = reading
        self._say_fire(reading)
        self._say_alarms(reading, now)

    def _read(self, reading: Reading) -> Step | None:
        if reading.counts is not None:
            return self._count.read(*reading.counts)
        return NOBODY if reading.passed is None else self._count.said(reading.passed)

    def _sense(self, reading: Reading) -> Barrier:
        if reading.posture is Posture.HIDDEN:  # an alarm hides it: as last seen
            return self._barrier if self._last is not None else Barrier.UNKNOWN
        if reading.posture is Posture.HELD and not reading.sensed and not self._trusts:
            return Barrier.UNKNOWN
        if self.wishes.released and self.wishes.hold_sent and reading.posture in OPEN_POSTURES:
            return Barrier.RELEASED  # some boards show a hold as open for entry or exit
        return _BARRIERS[reading.posture]

    def _say_up(self, reading: Reading) -> None:
        self._announce = False
        self.meter.now(Availability.AVAILABLE)
        self._last = reading
        self._fire = None
        self._emit(DeviceUp(counters=self._count.counts, barrier=self._barrier))

    def _say_changes(self, reading: Reading, barrier: Barrier, step: Step) -> None:
        """Whoever was let in is told after the opening and before the closing that show in the same status."""
        opening = barrier in (Barrier.OPENING, Barrier.OPEN, Barrier.RELEASED)
        if opening:
            self._say_barrier(reading, barrier)
        counts = self._count.counts
        assert counts is not None
        for direction, more, count in (
            (Direction.ENTRY, step.entries, counts.entries),
            (Direction.EXIT, step.exits, counts.exits),
        ):
            for counter in range(count - more + 1, count + 1):
                self._emit(PassageCounted(direction=direction, epoch=counts.epoch, counter=counter))
        if not opening:
            self._say_barrier(reading, barrier)

    def _say_barrier(self, reading: Reading, barrier: Barrier) -> None:
        if barrier is not self._barrier:
            self._barrier = barrier
            self._emit(BarrierChanged(barrier=barrier, detail=reading.word, counters=self._count.counts))

    def _say_fire(self, reading: Reading) -> None:
        """The board's fire contact: its level after every DeviceUp, then each change."""
        if reading.fire is None:
            return
        state, agreed = self._fire_seen
        self._fire_seen = (reading.fire, agreed + 1 if state is reading.fire else 1)
        if self._fire_seen[1] >= FIRE_PROOFS and self._fire is not reading.fire:
            self._fire = reading.fire
            state_now = InputState.ACTIVE if reading.fire else InputState.INACTIVE
            self._emit(InputChanged(name=FIRE_INPUT, state=state_now))

    def _say_alarms(self, reading: Reading, now: float) -> None:
        followed, self.wishes.followed = self.wishes.followed, False
        for kind in (reading.alarm, AlarmKind.TAILGATE if followed and self._infers else None):
            if kind is None:
                continue
            seen_at = self._alarms.get(kind)
            self._alarms[kind] = now
            if seen_at is None or now - seen_at > ALARM_OVER_S:
                self._emit(GateAlarm(kind=kind))


def _to_nobody(event: object) -> None:
    """Before it runs and after it there is nobody to tell."""
