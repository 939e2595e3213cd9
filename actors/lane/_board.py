"""A lane on a turnstile board.

The machine: unavailable → recovering → idle → deciding → granted → closing → idle, and from anywhere → released →
needs_rearm → idle.  It never awaits another actor or a device: it tells, and the answer is an event of whatever state
it is in then.  So a release is always the next thing it reads.

Counting: the board's cumulative counters are the truth.  A passage's identity is (board, epoch, direction, counter),
so whatever was missed (a lost frame, a killed server) is booked from the difference, once.
"""

from __future__ import annotations

import math
import time
from enum import Enum

import trio

from actors._common import offer
from actors.admission.refusals import OK, say
from actors.gate import GateClose, GateLook, GateOpen, GateRearm, GateRelease, GateReport, GateResume
from actors.lane._fleeing import Fleeing
from actors.lane._shared import (
    ALARM_SHOWN_S,
    EXIT_MODES,
    AlarmOver,
    Face,
    LaneCommandRefused,
    LaneConfig,
    LaneParts,
    OpenLane,
    PauseLane,
    SetLaneMode,
    check_mode,
    check_open,
    no_batch,
    takes,
    zones_of,
)
from actors.lane._statements import Statements
from core import Address, Envelope, Failed, Machine, MailboxFull, State, Stop
from drivers.base import AlarmKind, Barrier, BarrierChanged, DeviceDown, DeviceUp, GateAlarm, PassageCounted
from protocols.messages import (
    Booked,
    Counters,
    Decide,
    Denied,
    Direction,
    EndReason,
    Granted,
    GrantState,
    LaneMode,
    PassageKind,
    Rearm,
    Release,
    ReleaseAck,
    Restore,
    Scan,
    Telemetry,
)
from storage.interfaces import LaneBooks, OpenCase, RefusedScan

DECIDE_S = 2.0  # a visitor waits no longer for a decision; then the lane says `unavailable`
CLOSING_S = 4.0  # the barrier should be sensed closed this long after a grant's end; then it is told to again
SETTLE_S = 8.0  # after a restart, a barrier that still stands open for an old grant is closed after this long
POSTPONE_SCAN_MAX = 1  # the next visitor may scan while the barrier is still moving; nobody else queues in software

PAUSE_SCAN_S = 3.0  # the group's code, shown again this long after its last reading, pauses the batch
REARM_S = 10.0  # a board that is not sensed closed this long after re-arming still needs it

FREE_RENEW_S = 3.0  # in a direct check a gate that closed, or took no order, is told to open again after this

WORKING_STATES = frozenset({"idle", "free", "deciding", "granted", "closing"})
RELEASED_STATES = frozenset({"released", "needs_rearm", "rearming"})
PASSABLE = frozenset({Barrier.OPEN, Barrier.OPENING, Barrier.CLOSING})
SENSED_OPEN = frozenset({Barrier.OPEN, Barrier.RELEASED})
CASE_ALARMS = frozenset({AlarmKind.TAILGATE, AlarmKind.REVERSE, AlarmKind.INTRUSION, AlarmKind.FORCED})


class BooksLate(Telemetry, frozen=True, kw_only=True):
    """A lane's own timer: the books it asked for in an evacuation have not come."""


class _Stay(Enum):
    STAY = 0


STAY = _Stay.STAY
Next = State | None | _Stay


class _Run:
    """One opening of the lane: a grant, or a manual opening (`grant` None)."""

    def __init__(
        self, grant: int | None, nonce: str, pax: int, passed: int, direction: Direction, *, free: bool = False
    ) -> None:
        self.grant = grant
        self.free = free  # the end of a direct check: who still walks through is counted as in it
        self.nonce = nonce
        self.pax = pax
        self.passed = passed
        self.direction = direction
        self.opened = False  # the barrier was sensed open since
        self.paused = False  # people ended it early
        self.read_at = trio.current_time()  # when its code was last seen


class BoardLane:
    """The actor of one lane with a board. `gate` and `counter` are its own devices' and statements' actors."""

    def __init__(self, config: LaneConfig, parts: LaneParts, gate: Address, counter: Address) -> None:
        self._config = config
        self._parts = parts
        self._gate = gate
        self._words = Statements(config, counter)
        self._fleeing = Fleeing(config, parts.evacuation)
        self._face = Face(config, "serial", parts)
        self._mode = config.mode
        self._barrier = Barrier.UNKNOWN
        self._up = False
        self._now: Counters | None = None  # what the board counts, as told to the counter so far
        self._books: LaneBooks | None = None
        self._resumed = False
        self._run_: _Run | None = None
        self._nonce = ""
        self._answered = True  # admission has said whether something was written for `_nonce`
        self._scan: Scan | None = None
        self._incident: int | None = None
        self._held_locally = False  # released by somebody at the board, and by no evacuation that is known here
        self._tailgate_at = -math.inf
        self._ttl_s = config.grant_ttl_s
        self._state = "starting"
        self._postponed = 0

    def refuses(self, direction: Direction = Direction.ENTRY) -> str:
        """The code with which the lane refuses everybody this way now, or an empty string. For people to look at."""
        return self._face.refuses(direction)

    async def run(self, me: Address) -> None:
        self._me = me
        self._run_ = None
        if not self._answered:  # the incarnation before died while it waited: nobody passes on that answer
            self._answered = True
            self._words.end(None, self._nonce, 0, EndReason.NEVER_OPENED)
        offer(self._gate, GateReport())
        await Machine(me).run(self._released if self._incident is not None else self._unavailable)

    # --- states -----------------------------------------------------------------------------------------------

    async def _unavailable(self, m: Machine) -> State | None:
        """The board does not answer."""
        self._enter("unavailable", available=False)
        self._run_ = None
        if self._up:
            return self._recovering
        return _transition(await self._loop(m))

    async def _recovering(self, m: Machine) -> State | None:
        """The board answers; find out from the ledger what of its counts is booked, and book the rest."""
        self._enter("recovering", available=False)
        self._run_ = None
        self._books, self._resumed = None, False
        self._words.ask_books()
        m.state_timeout(SETTLE_S)
        while (settled := self._may_settle()) is None:
            envelope = await m.event()
            if envelope is None:
                m.state_timeout(SETTLE_S)
                self._hurry()
                continue
            following = self._any(envelope, m)
            if following is not STAY:
                self._interrupt(following)
                return _transition(following)
        self._words.settle(*settled)
        return self._held_open if self._barrier is Barrier.RELEASED else self._idle

    def _may_settle(self) -> tuple[LaneBooks, Counters] | None:
        """Books and counters, once both are known and nobody can be on the way through on an old grant."""
        if self._books is None or not self._resumed or self._now is None:
            return None
        if self._books.open_grants and self._barrier in PASSABLE:
            return None
        return self._books, self._now

    def _interrupt(self, following: State | None) -> None:
        """Recovering ends early: settle what is known for a release, which goes on counting; otherwise begin anew."""
        if self._resumed and following == self._released:
            assert self._books is not None and self._now is not None
            self._words.settle(self._books, self._now)
        else:
            self._resumed = False

    def _hurry(self) -> None:
        """Recovering takes long: ask the ledger again, or close a barrier that still stands open for an old grant."""
        if self._books is None or not self._resumed:  # the gate's actor may have died holding what it was told
            self._words.ask_books()
        elif self._books.open_grants:
            offer(self._gate, GateClose())  # boards have their own anti-pinch: safe for whoever stands there

    async def _idle(self, m: Machine) -> State | None:
        self._run_ = None
        if self._mode is LaneMode.FREE_COUNTED:
            return self._free
        self._enter("idle", available=True, passed=0, pax=0)
        return _transition(await self._loop(m))

    async def _free(self, m: Machine) -> State | None:
        """Direct check: the gate is held free, and whoever walks through is counted. No release: ordinary openings."""
        self._enter("free", available=True, passed=0, pax=0, mode=LaneMode.FREE_COUNTED.value)
        while True:
            self._ttl_s = self._config.grant_ttl_s
            self._open_gate(self._config.max_group, Direction.ENTRY)
            m.state_timeout(FREE_RENEW_S)
            following = await self._loop(m)
            if following is not STAY:
                return _transition(following)

    async def _deciding(self, m: Machine) -> State | None:
        """Admission was asked. The answer, or the deadline, is the next event."""
        self._enter("deciding")
        m.state_timeout(DECIDE_S)
        following = await self._loop(m)
        if following is STAY:  # the deadline
            self._face.answered("unavailable")
            following = self._idle
        if not self._answered:  # whatever the answer would have been, nobody passes on it
            self._words.end(None, self._nonce, 0, EndReason.NEVER_OPENED)
        return _transition(following)

    async def _granted(self, m: Machine) -> State | None:
        """Open for the people of one grant, until all passed, the barrier closed again, or the time is over."""
        run = self._run_
        assert run is not None
        self._enter("granted", passed=run.passed, pax=run.pax)
        m.state_timeout(self._ttl_s)
        following = await self._loop(m)
        return self._closing if following is STAY else _transition(following)

    async def _closing(self, m: Machine) -> State | None:
        """The grant is over or its time is; who still passes on it counts on it. Ends when the barrier is closed."""
        run = self._run_
        assert run is not None
        self._enter("closing", passed=run.passed, pax=run.pax)
        if run.passed < run.pax:
            offer(self._gate, GateClose())
        m.state_timeout(CLOSING_S)
        while not self._closed():
            envelope = await m.event()
            if envelope is None:
                offer(self._gate, GateClose())
                self._face.show(alarm="not_closed")
                self._me.set_timer("alarm", ALARM_SHOWN_S, AlarmOver())
                m.state_timeout(CLOSING_S)
                continue
            following = self._any(envelope, m)
            if following is not STAY:
                return _transition(following)
        unfinished = EndReason.PAUSED if run.paused else EndReason.TIMEOUT
        self._finish(run, EndReason.COMPLETE if run.passed >= run.pax else unfinished)
        return self._idle

    async def _released(self, m: Machine) -> State | None:
        """Evacuation: open and stay open. Nothing but a restore leads out of here."""
        run, self._run_ = self._run_, None
        if run is not None:
            self._finish(run, EndReason.EMERGENCY)
        self._enter("released", available=self._up, mode=LaneMode.EMERGENCY_RELEASED.value, passed=0, pax=0)
        self._fleeing.begin(self._now)
        self._acknowledge()
        self._count_on()
        return _transition(await self._loop(m))

    async def _held_open(self, m: Machine) -> State | None:
        """Released at the board itself: fire contact, button, or `paifang evacuate`. Nobody's ticket is used up."""
        run, self._run_ = self._run_, None
        if run is not None:
            self._finish(run, EndReason.EMERGENCY)
        self._held_locally = True
        return self._needs_rearm

    async def _needs_rearm(self, m: Machine) -> State | None:
        """After the evacuation, still open: a person has to see that nobody stands in the barrier."""
        self._enter("needs_rearm", available=self._up, mode=LaneMode.NEEDS_REARM.value)
        return _transition(await self._loop(m))

    async def _rearming(self, m: Machine) -> State | None:
        """Told to close; believed when sensed."""
        self._enter("rearming")
        offer(self._gate, GateRearm())  # if it has no room, the lane is not sensed closed, and a person asks again
        m.state_timeout(REARM_S)
        while not self._closed():
            envelope = await m.event()
            if envelope is None:
                self._face.feed("alarm", "warning", "not_rearmed", "恢复后未关闭", "Did not close after re-arming")
                return self._needs_rearm
            following = self._any(envelope, m)
            if following is not STAY:
                return _transition(following)
        return self._recovering

    def _closed(self) -> bool:
        return self._barrier is Barrier.CLOSED

    # --- events -----------------------------------------------------------------------------------------------

    async def _loop(self, m: Machine) -> Next:
        """Read events until one leads elsewhere; STAY when the state's deadline has passed."""
        while (envelope := await m.event()) is not None:
            following = self._any(envelope, m)
            if following is not STAY:
                return following
        return STAY

    def _any(self, envelope: Envelope, m: Machine) -> Next:
        """What any state does with an event; synchronous. Returns the next state, None to stop, or STAY."""
        name = self._state
        match envelope.msg:
            case Release() as release:
                return self._on_release(release)
            case Scan() as scan:
                return self._on_scan(scan, envelope, m)
            case Granted() as granted:
                return self._on_granted(granted)
            case Denied() as denied:
                return self._on_denied(denied)
            case PassageCounted(direction=direction, epoch=epoch, counter=counter):
                if name == "released":
                    self._fleeing.counted(direction, epoch, counter)
                return self._on_counted(direction, epoch, counter)
            case BarrierChanged() as changed:
                return self._on_barrier(changed)
            case DeviceUp() as up:
                return self._on_up(up)
            case DeviceDown():
                self._up, self._barrier = False, Barrier.UNKNOWN
                self._face.show(available=False, barrier=Barrier.UNKNOWN.value)
                if name == "released":
                    self._acknowledge()  # whether it is open, nobody knows any more
                if not self._resumed:
                    self._books = None  # the gate may have died holding what the books say
                return STAY if name in ("released", "needs_rearm", "rearming", "unavailable") else self._unavailable
            case GateAlarm(kind=kind):
                self._on_alarm(kind)
                return STAY
            case AlarmOver():
                self._face.show(alarm="")
                return STAY
            case Booked() as booked:
                if not booked.repeated:
                    self._face.counted(booked.direction)
                return STAY
            case LaneBooks() as books:
                self._on_books(books)
                return STAY
            case BooksLate():
                if name in RELEASED_STATES:
                    self._count_on()
                return STAY
            case Failed(msg=failed):
                return self._on_failed(failed)
            case Restore(incident=incident):
                if self._incident == incident or name == "released":
                    self._incident = None
                    return self._needs_rearm
                return STAY
            case Rearm():
                if name == "needs_rearm":
                    return self._rearming
                return STAY
            case SetLaneMode() as order:
                return self._on_mode(order, envelope)
            case OpenLane() as order:
                return self._on_open(order, envelope)
            case PauseLane() as order:
                return self._on_pause(order, envelope)
            case Stop():
                return None
            case _:
                return STAY

    def _on_release(self, release: Release) -> Next:
        self._gate.tell(GateRelease(), system=True)
        self._incident = release.incident
        self._held_locally = False
        if self._state == "released":
            self._acknowledge()
            return STAY
        return self._released

    def _on_scan(self, scan: Scan, envelope: Envelope, m: Machine) -> Next:
        name = self._state
        self._face.reader = scan.device
        if name in RELEASED_STATES:
            return self._refuse(scan, "emergency_go" if name == "released" else "lane_closed")
        if name == "idle":
            if not takes(self._mode, scan.direction):
                return self._refuse(scan, "lane_closed")
            return self._ask(scan, envelope.trace)
        if name == "free":
            return self._refuse(scan, "lane_closed")
        if name in ("deciding", "granted", "closing"):
            if self._scan is not None and scan.credential == self._scan.credential:
                if self._shown_again():
                    return self._pause("")
                return self._refuse(scan, "in_progress")
            if name == "closing" and self._postponed < POSTPONE_SCAN_MAX:
                self._postponed += 1
                m.postpone(envelope)
                offer(self._gate, GateLook())
                return STAY
            return self._refuse(scan, "in_progress")
        return self._refuse(scan, "unavailable")

    def _shown_again(self) -> bool:
        """The guide pauses the batch by showing its code once more; a code that only stays in view does not."""
        run, now = self._run_, trio.current_time()
        if run is None or self._state != "granted":
            return False
        quiet_s, run.read_at = now - run.read_at, now
        return run.grant is not None and 0 < run.passed < run.pax and quiet_s >= PAUSE_SCAN_S

    def _pause(self, by: str) -> Next:
        """End the batch after the person in the barrier: the board closes behind whoever is in it."""
        run = self._run_
        assert run is not None
        run.paused = True
        self._face.paused(by or "guide", run.passed, run.pax)
        return self._closing

    def _ask(self, scan: Scan, trace: str) -> Next:
        self._scan, self._nonce, self._answered = scan, scan.nonce, False
        from_zone, to_zone = zones_of(self._config, scan.direction)
        question = Decide(
            scan=scan,
            from_zone=from_zone,
            to_zone=to_zone,
            max_pax=self._config.max_group,
            ttl_s=self._config.grant_ttl_s,
            counters=self._now,
            lane_class=self._config.class_,
        )
        try:
            self._parts.admission.tell(
                question, reply_to=self._me, deadline=trio.current_time() + DECIDE_S, trace=trace
            )
        except MailboxFull:
            return self._refuse(scan, "unavailable")
        return self._deciding

    def _refuse(self, scan: Scan, code: str) -> Next:
        """Refuse without asking anybody, and leave a line in the log of scans."""
        self._face.answered(code)
        offer(
            self._parts.books,
            RefusedScan(
                lane=scan.lane,
                device=scan.device,
                nonce=scan.nonce,
                kind=scan.credential.kind,
                credential_hash=self._parts.stored(scan.credential),
                code=code,
                at=scan.at,
            ),
        )
        return STAY

    def _on_granted(self, granted: Granted) -> Next:
        if self._state != "deciding" or granted.nonce != self._nonce or granted.state is not GrantState.OPEN:
            # too late, or not ours any more: the people did not pass, and the lane says so
            if granted.state is GrantState.OPEN:
                self._words.end(granted.grant, granted.nonce, granted.passed, EndReason.NEVER_OPENED)
            if self._state != "deciding" or granted.nonce != self._nonce:
                return STAY
            self._answered = True
            self._face.answered("in_progress", trace=self._me.trace)
            return self._idle
        self._answered = True
        self._ttl_s = granted.ttl_s
        direction = Direction.ENTRY if self._scan is None else self._scan.direction
        if not self._open_gate(granted.pax - granted.passed, direction):
            self._words.end(granted.grant, granted.nonce, granted.passed, EndReason.NEVER_OPENED)
            self._face.answered("unavailable", trace=self._me.trace)
            return self._idle
        self._run_ = _Run(granted.grant, granted.nonce, granted.pax, granted.passed, direction)
        self._face.answered(OK, trace=self._me.trace, product_class=granted.product_class)
        return self._granted

    def _on_denied(self, denied: Denied) -> Next:
        if self._state != "deciding" or denied.nonce != self._nonce:
            return STAY
        self._answered = True
        self._face.answered(denied.code, say(denied, self._parts.gates), trace=self._me.trace)
        return self._idle

    def _on_failed(self, failed: object) -> Next:
        nonce = getattr(failed, "nonce", None) or getattr(getattr(failed, "scan", None), "nonce", None)
        if self._state != "deciding" or nonce != self._nonce:
            if nonce:  # asked before a crash of ours: should it have been granted all the same, nobody passes on it
                self._words.end(None, nonce, 0, EndReason.NEVER_OPENED)
            return STAY
        self._face.answered("unavailable", trace=self._me.trace)
        return self._idle  # nothing is known to be written; if something was, the word of `_deciding` ends it

    def _on_counted(self, direction: Direction, epoch: str, counter: int) -> Next:
        if self._now is None or epoch != self._now.epoch or not self._resumed:
            return STAY  # the ledger's books come first; the counter stands where it stands
        if self._state == "recovering":
            self._count_up(direction, counter)  # booked with the difference, where an open grant comes first
            return STAY
        run = self._run_
        before = self._now.entries if direction is Direction.ENTRY else self._now.exits
        for value in range(before + 1, counter + 1):
            kind, grant = self._classify(direction)
            self._words.passed(direction, epoch, value, kind, grant)
            if run is not None and (grant is not None or kind is PassageKind.STAFF):
                run.passed += 1
        self._count_up(direction, counter)
        if run is not None:
            self._face.show(passed=run.passed)
            if self._state == "granted" and run.passed >= run.pax:
                return self._closing
        return STAY

    def _classify(self, direction: Direction) -> tuple[PassageKind, int | None]:
        """Why this person passed, judged by the state of the lane."""
        if self._state in RELEASED_STATES:
            return PassageKind.EMERGENCY, None
        run = self._run_
        if self._state == "free" or (run is not None and run.free):
            return PassageKind.FREE, None
        if run is not None and run.direction is not direction:
            run = None
        if direction is Direction.EXIT and (run is None or run.passed >= run.pax):
            return (PassageKind.EXIT if self._mode in EXIT_MODES else PassageKind.REVERSE), None
        if run is not None and run.passed < run.pax:
            return (PassageKind.GRANTED, run.grant) if run.grant is not None else (PassageKind.STAFF, None)
        followed = run is not None or trio.current_time() - self._tailgate_at < ALARM_SHOWN_S
        return (PassageKind.TAILGATE if followed else PassageKind.FORCED), None

    def _on_barrier(self, changed: BarrierChanged) -> Next:
        self._barrier = changed.barrier
        self._face.show(barrier=changed.barrier.value)
        following: Next = STAY
        if changed.counters is not None:
            if self._state == "released":
                self._fleeing.stands(changed.counters)
            for direction, value in (
                (Direction.ENTRY, changed.counters.entries),
                (Direction.EXIT, changed.counters.exits),
            ):
                step = self._on_counted(direction, changed.counters.epoch, value)
                following = step if step is not STAY else following
        name, run = self._state, self._run_
        if name in RELEASED_STATES:
            if name == "needs_rearm" and self._held_locally and changed.barrier is Barrier.CLOSED:
                return self._recovering  # and ended at the board itself
            if name == "released":
                self._acknowledge()
                if changed.barrier not in SENSED_OPEN | PASSABLE:
                    self._gate.tell(GateRelease(), system=True)
            return STAY
        if changed.barrier is Barrier.RELEASED and name in WORKING_STATES:
            return self._held_open
        if run is not None and changed.barrier in PASSABLE:
            run.opened = True
        if run is not None and name == "granted" and changed.barrier is Barrier.CLOSED and run.opened:
            return self._closing  # closed again with places left: stepped back
        return following

    def _on_up(self, up: DeviceUp) -> Next:
        self._up = True
        self._barrier = up.barrier
        self._face.show(barrier=up.barrier.value)
        if up.counters is not None:
            if self._state == "released":
                self._fleeing.stands(up.counters)
            if self._state in RELEASED_STATES:
                self._up_while_released(up.counters)
            elif self._state == "recovering" and self._books is not None:
                self._now, self._resumed = up.counters, True
            elif self._now is None or self._state in ("unavailable", "recovering"):
                self._now = up.counters
        match self._state:
            case "released":
                self._gate.tell(GateRelease(), system=True)
                self._face.show(available=True)
                self._acknowledge()
                return STAY
            case "needs_rearm" if self._held_locally and up.barrier is Barrier.CLOSED:
                return self._recovering
            case "needs_rearm" | "rearming":
                self._face.show(available=True)
                return STAY
            case "recovering":
                return STAY
            case _:
                return self._recovering  # the board was away: what happened meanwhile is in its counters

    def _up_while_released(self, counters: Counters) -> None:
        """In an evacuation a board counts on, whoever was away meanwhile: the board, this actor or the server."""
        now = self._now
        if not self._resumed or now is None:
            self._now = counters
            if self._books is None:
                self._count_on()
            else:
                self._settle_released(self._books, counters)
        elif now.epoch == counters.epoch:
            for direction, value in ((Direction.ENTRY, counters.entries), (Direction.EXIT, counters.exits)):
                self._on_counted(direction, counters.epoch, value)
        else:  # it was reset: what it counts from here on is news
            self._words.baseline(counters)
            self._now = counters

    def _count_on(self) -> None:
        """Ask for the books when they are not known yet; people who flee are counted as soon as they are."""
        if not self._resumed and self._now is not None:
            self._books = None
            self._words.ask_books()
            self._me.set_timer("books", SETTLE_S, BooksLate())

    def _settle_released(self, books: LaneBooks, now: Counters) -> None:
        self._resumed = True
        self._words.settle(books, now)

    def _on_alarm(self, kind: AlarmKind) -> None:
        self._face.show(alarm=kind.value)
        self._me.set_timer("alarm", ALARM_SHOWN_S, AlarmOver())
        if kind is AlarmKind.TAILGATE:
            self._tailgate_at = trio.current_time()
        self._face.feed("alarm", "warning", kind.value, _ALARM_ZH.get(kind, kind.value), f"Alarm: {kind.value}")
        if kind in CASE_ALARMS:
            now = time.time()
            case = OpenCase(
                key=f"alarm/{self._config.lane}/{kind.value}/{now:.1f}",
                kind=kind.value,
                lane=self._config.lane,
                severity="warning",
                detail="",
                at=now,
            )
            offer(self._parts.books, case)

    def _on_books(self, books: LaneBooks) -> None:
        released = self._state in RELEASED_STATES and not self._resumed
        if not (self._state == "recovering" or released) or self._now is None:
            return
        self._books = books
        self._face.show(entries=books.entries_today, exits=books.exits_today)
        if books.epoch is None or books.entries is None or books.exits is None:
            # nothing was ever booked here: the first counters are the baseline
            if released:
                self._settle_released(books, self._now)
            self._resumed = True
        else:
            offer(self._gate, GateResume(epoch=books.epoch, entries=books.entries, exits=books.exits))

    def _on_mode(self, order: SetLaneMode, envelope: Envelope) -> Next:
        try:
            check_mode(order)
            if self._state == "released":
                raise LaneCommandRefused("released", "The lane is released", "通道处于疏散状态")
        except LaneCommandRefused as exc:
            envelope.fail(exc)
            return STAY
        self._mode = order.mode
        if self._state not in RELEASED_STATES:
            self._face.show(mode=order.mode.value)
        self._face.mode_set(order.by, order.mode)
        envelope.reply(None)
        if self._state == "idle" and order.mode is LaneMode.FREE_COUNTED:
            return self._free
        if self._state == "free" and order.mode is not LaneMode.FREE_COUNTED:
            self._run_ = _Run(None, "", self._config.max_group, 0, Direction.ENTRY, free=True)
            return self._closing
        return STAY

    def _on_open(self, order: OpenLane, envelope: Envelope) -> Next:
        try:
            check_open(order)
            if self._state != "idle":
                raise LaneCommandRefused("lane_busy", f"The lane is {self._state}, not idle", "通道忙")
            self._ttl_s = self._config.grant_ttl_s
            if not self._open_gate(order.pax, Direction.ENTRY):
                raise LaneCommandRefused("unavailable", "The gate takes no orders", "闸机无应答")
        except LaneCommandRefused as exc:
            envelope.fail(exc)
            return STAY
        self._run_ = _Run(None, "", order.pax, 0, Direction.ENTRY)
        self._scan = None
        self._face.opened_by_hand(order.by, order.pax)
        envelope.reply(None)
        return self._granted

    def _on_pause(self, order: PauseLane, envelope: Envelope) -> Next:
        run = self._run_
        if self._state != "granted" or run is None or run.grant is None:
            envelope.fail(no_batch())
            return STAY
        envelope.reply(run.passed)
        return self._pause(order.by)

    # --- small helpers ---------------------------------------------------------------------------------------

    def _finish(self, run: _Run, why: EndReason) -> None:
        if run.grant is not None:
            self._words.end(run.grant, run.nonce, run.passed, why)

    def _count_up(self, direction: Direction, counter: int) -> None:
        now = self._now
        assert now is not None
        if direction is Direction.ENTRY:
            self._now = Counters(now.epoch, max(now.entries, counter), now.exits)
        else:
            self._now = Counters(now.epoch, now.entries, max(now.exits, counter))

    def _acknowledge(self) -> None:
        if self._incident is None:
            return
        ack = ReleaseAck(
            lane=self._config.lane,
            incident=self._incident,
            barrier=self._barrier.value,
            sensed_open=self._barrier in SENSED_OPEN,
            at=time.time(),
        )
        offer(self._parts.evacuation, ack)

    def _open_gate(self, pax: int, direction: Direction) -> bool:
        """Tell the gate to let people through, unless it is too late by then. False when it has no room for orders."""
        order = GateOpen(direction=direction, pax=pax)
        return offer(self._gate, order, deadline=trio.current_time() + self._ttl_s)

    # --- small helpers ----------------------------------------------------------------------------------------

    def _enter(self, state: str, **changes: object) -> None:
        self._state = state
        self._postponed = 0
        if state in ("idle", "unavailable", "recovering"):
            changes.setdefault("mode", self._mode.value)
            self._scan = None
        self._face.show(state=state, **changes)


def _transition(following: Next) -> State | None:
    """A state without a deadline ends by a transition only."""
    assert following is not STAY
    return following


_ALARM_ZH = {
    AlarmKind.TAILGATE: "尾随报警",
    AlarmKind.REVERSE: "逆行报警",
    AlarmKind.INTRUSION: "闯入报警",
    AlarmKind.LOITERING: "滞留报警",
    AlarmKind.PINCH: "防夹",
    AlarmKind.FORCED: "强行通过",
    AlarmKind.FIRE: "消防输入",
    AlarmKind.POWER_LOSS: "断电",
    AlarmKind.EXTERNAL: "外部报警",
    AlarmKind.SELF_TEST: "自检",
    AlarmKind.FAULT: "故障",
}
