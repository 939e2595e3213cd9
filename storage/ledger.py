"""The ledger: an actor with one PostgreSQL connection that commits in groups.

Whatever queued while the last commit ran goes into the next one.  An answer is told only when it is on disk:

* A batch is never cancelled inside its transaction; it is bounded instead, and a connection that is too slow is cut.
* One writer per site: an advisory lock held by the session.  A new session gets it only when the last one has ended,
  so what a lost COMMIT came to is certain by then, and is looked up by its transaction id before anybody is answered.
* A database that is down or hung: everybody waiting is told `LedgerUnavailable`, and the ledger connects again, with
  growing pauses, for ever.

Run it as a child of a supervisor: `Child(address, ledger.run)`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import time as clock_time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import structlog
import trio

from core import ActorError, Address, Envelope, Stop
from protocols.messages import Ended, Passed, new_id
from storage._batch import KNOWN, Attempt, Site
from storage._flow import Flow
from storage._issue import HashId, Shop
from storage._pq import Connection
from storage._session import (
    ANALYZE_AFTER,
    SESSION_FAILURES,
    Backend,
    TooSlow,
    advance,
    analyze,
    close,
    due,
    is_durable,
    open_session,
    was_committed,
)
from storage.connection import Dsn
from storage.interfaces import (
    AuditEntry,
    DecideRule,
    LedgerError,
    LedgerRefused,
    LedgerState,
    LedgerUnavailable,
    RefusedScan,
    SiteSetup,
    ZoneCount,
    ZonesChanged,
)
from storage.migrate import MigrationError

BATCH_LIMIT = 256  # operations in one transaction
SPLIT_OVER = 16  # operations that wait: so many are worth a transaction of their own
PENDING_LIMIT = 1024  # operations waiting for the next ones; beyond it the mailbox fills and refuses
DOUBT_LIMIT_S = 10.0  # how long those wait whose COMMIT got no answer
RETRY_LIMIT_S = 1.5  # how long those wait whose transaction certainly did not happen
BACKOFF_S = (0.05, 5.0)  # first and longest pause between two attempts to connect
# Before its first operation a transaction costs 2 ms of PostgreSQL's processor and 2.6 ms of ours, an operation then
# 0.06 ms of each (64 lanes on two cores). Those who have just been answered often have more to say, and say it within
# a turn: taken along, it needs no transaction of its own. No more turns than that: who waits already must not wait for
# others to think.
COLLECT_TURNS = 3  # of the scheduler: to hear the answer, to speak, to be heard
# Nobody stands before a barrier and waits for these to be on disk. Alone they let the next visitor's scan go with them:
# at 200 visitors a second that halves the transactions, of which each costs either processor 1.5 ms.
UNHURRIED = frozenset((Passed, Ended, RefusedScan, AuditEntry))
GATHER_S = 0.005
SWEEP_EVERY_S = 1.0  # grants past their ttl; also notices a hung database when nothing else happens
SETTINGS_EVERY_S = 30.0

log = structlog.get_logger(__name__)


class LedgerStatistics(msgspec.Struct, frozen=True):
    """Since the start of the process."""

    available: bool
    durable: bool
    batches: int
    operations: int
    one_by_one: int  # batches that were taken apart because of a bad operation
    refused: int
    unavailable: int  # operations answered with LedgerUnavailable
    connects: int
    lost: int  # connections lost inside a batch
    doubtful: int  # of these, while COMMIT was under way
    pending: int


class Ledger:
    """The writer of one site.

    Args:
        setup: what the site is; written down whenever the ledger connects.
        dsn: the database; a function is asked anew at each connection.
        decide: the pure rule that permits or refuses.
        hash_id: (kind, value) -> keyed hash, at least 16 bytes; the value of kind `code` is the ticket id in decimal.
        on_zones: told `ZonesChanged` after each commit that moved somebody, and after each connect.
        on_state: told `LedgerState` at each change.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        setup: SiteSetup,
        dsn: Dsn | Callable[[], Dsn],
        decide: DecideRule,
        *,
        hash_id: HashId,
        on_zones: Address | None = None,
        on_state: Address | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._setup = setup
        self._dsn = dsn if callable(dsn) else lambda: dsn
        self._on_zones = on_zones
        self._on_state = on_state
        zone = ZoneInfo(setup.timezone)
        day_start = clock_time.fromisoformat(setup.business_day_start)
        self._site = Site(
            site=setup.site,
            decide=decide,
            shop=Shop({}, {}, zone, day_start, hash_id, {}),
            timezone=zone,
            day_start=day_start,
            clock=clock,
            new_id=new_id,
            night_close=setup.night_close,
        )
        self._connection: Connection | None = None
        self._session: Backend | None = None  # of the last connection
        self._pending: deque[Envelope] = deque()
        self._flow: Flow | None = None  # through the connection
        self._sweep_at = 0.0
        self._gather_until = 0.0
        self._changed = trio.Event()  # something is pending, or there is room again
        self._stopping = False
        self._state = LedgerState(available=False, detail="starting", durable=False)
        self._failing = False  # the last attempt to connect failed, or the database hangs
        self._batches = self._operations = self._one_by_one = self._refused = 0
        self._unavailable = self._connects = self._lost = self._doubtful = 0
        self._analyze_at: deque[int] = deque()  # counts of operations

    @property
    def state(self) -> LedgerState:
        """As last told to `on_state`."""
        return self._state

    def statistics(self) -> LedgerStatistics:
        return LedgerStatistics(
            available=self._state.available,
            durable=self._state.durable,
            batches=self._batches,
            operations=self._operations,
            one_by_one=self._one_by_one,
            refused=self._refused,
            unavailable=self._unavailable,
            connects=self._connects,
            lost=self._lost,
            doubtful=self._doubtful,
            pending=len(self._pending),
        )

    # -- the actor ------------------------------------------------------------------------------------------------

    async def run(self, me: Address) -> None:
        """The actor's main: ready at once, whether the database is there or not; returns at Stop."""
        self._stopping = self._failing = False
        self._pending.clear()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, me)
                await self._listen(me)
                self._stopping = True
                self._signal()
        finally:
            self._fail_pending(LedgerUnavailable("the ledger has stopped"))

    async def _listen(self, me: Address) -> None:
        while True:
            while len(self._pending) >= PENDING_LIMIT:  # the mailbox behind us fills and refuses
                await self._changed.wait()
            env = await me.receive()
            kind = type(env.msg)
            if kind is Stop:
                return
            if kind not in KNOWN:
                env.fail(LedgerRefused(f"the ledger does not know {kind.__name__}"))
            elif self._failing:
                self._unavailable += 1  # one attempt to connect is waited for, later ones are not
                env.fail(LedgerUnavailable(self._state.detail))
            else:
                if not self._pending:
                    self._gather_until = trio.current_time() + GATHER_S
                self._pending.append(env)
                self._signal()
                if self._flow is not None and not self._gathering(trio.current_time()):
                    self._flow.interrupt()

    def _signal(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _write(self, me: Address) -> None:
        """Connect, commit batches, connect again. Ends when told to stop and nothing is pending."""
        doubt: Doubt | None = None
        pause_s = BACKOFF_S[0]
        swept = checked = trio.current_time()
        try:
            while True:
                me.state = "writing" if self._connection is not None else "connecting"
                if self._connection is None:
                    if self._stopping:
                        return
                    if not await self._connect():
                        self._fail_pending(LedgerUnavailable(self._state.detail))
                        if doubt is not None and trio.current_time() > doubt.until:
                            self._give_up(doubt)
                            doubt = None
                        with trio.move_on_after(pause_s):
                            while not self._stopping:
                                await self._changed.wait()
                        pause_s = min(pause_s * 2, BACKOFF_S[1])
                        continue
                    pause_s = BACKOFF_S[0]
                    swept = checked = trio.current_time()
                    if doubt is not None:
                        doubt = await self._settle(doubt)
                    continue
                now = trio.current_time()
                flow = self._flow
                assert flow is not None
                self._sweep_at = swept + SWEEP_EVERY_S
                if flow.idle and self._statistics_due():
                    await self._make_statistics()
                elif flow.idle and now >= self._sweep_at and not self._stopping:
                    swept = now
                    settings_due = now >= checked + SETTINGS_EVERY_S
                    checked = now if settings_due else checked
                    doubt = await self._sweep(flow, settings_due)
                elif flow.idle and self._gathering(now):
                    with trio.move_on_at(self._gather_until):
                        await self._changed.wait()
                elif self._pending or not flow.idle:
                    doubt = await self._advance(flow)
                    if flow.idle:
                        for _ in range(COLLECT_TURNS):
                            await trio.lowlevel.checkpoint()
                elif self._stopping:
                    return
                else:
                    with trio.move_on_at(self._sweep_at):
                        await self._changed.wait()
        finally:
            if doubt is not None:
                self._give_up(doubt)
            self._call_off(*self._under_way())
            await self._close()

    def _take(self) -> Attempt | None:
        """What goes into the next transaction; whoever gave up meanwhile is left out."""
        now = trio.current_time()
        if self._statistics_due() or (now >= self._sweep_at and not self._stopping):
            return None  # first what is carried out between batches
        if self._gathering(now):
            return None
        waiting: list[Envelope] = []
        alone = self._flow is None or self._flow.committing is None
        wanted = _share(self._pending) if alone else BATCH_LIMIT
        while self._pending and len(waiting) < wanted:
            env = self._pending.popleft()
            if env.deadline > now:
                waiting.append(env)
            else:
                env.fail(LedgerUnavailable("too late"))
        self._signal()
        return self._attempt(waiting) if waiting else None

    def _gathering(self, now: float) -> bool:
        """Is there time for others to come along?"""
        return (
            now < self._gather_until
            and 0 < len(self._pending) <= SPLIT_OVER
            and all(type(env.msg) in UNHURRIED for env in self._pending)
        )

    def _attempt(self, waiting: list[Envelope], *, again: bool = False) -> Attempt:
        return Attempt([env.msg for env in waiting], self._site.new_id(), waiting, again=again)

    # -- batches --------------------------------------------------------------------------------------------------

    async def _advance(self, flow: Flow) -> Doubt | None:
        """A step of the flow. Returns those, if any, whose fate must be settled on another connection."""
        try:
            error = await advance(flow)
        except BaseException:  # a fault of ours: nobody waits for a ledger that is being restarted
            for attempt in self._under_way():
                for env in attempt.waiting:
                    env.fail(LedgerUnavailable("the ledger failed; what became of the operation is not known"))
            raise
        return None if error is None else self._lose(error)

    def _lose(self, error: Exception) -> Doubt | None:
        """The connection is lost. One batch at most was being written; those behind it have certainly not been."""
        first, *others = [*self._under_way(), self._attempt([])]
        self._lost += 1
        self._doubtful += first.committing
        log.warning("connection lost", error=repr(error), committing=first.committing, operations=len(first.ops))
        self._call_off(*others)
        self._drop()
        self._set_state(available=False, detail=_words(error))
        patience_s = DOUBT_LIMIT_S if first.committing else RETRY_LIMIT_S
        doubt = Doubt(first, trio.current_time() + patience_s, _words(error))
        if isinstance(error, TooSlow):  # a hung database has cost everybody enough time already
            self._failing = True
            self._fail_pending(LedgerUnavailable(_words(error)))
            if not first.committing:
                self._give_up(doubt)
                return None
        return doubt if first.ops else None

    def _under_way(self) -> list[Attempt]:
        flow = self._flow
        return [] if flow is None else [a for a in (flow.committing, flow.current, flow.following) if a is not None]

    def _call_off(self, *attempts: Attempt) -> None:
        """Batches of which nothing was written wait again, before everybody else."""
        for attempt in reversed(attempts):
            self._pending.extendleft(reversed(attempt.waiting))

    def _answer(self, attempt: Attempt) -> None:
        if not attempt.waiting:  # a sweep
            return
        self._batches += 1
        self._operations += len(attempt.ops)
        self._one_by_one += attempt.one_by_one
        for env, value in zip(attempt.waiting, attempt.answers, strict=True):
            if isinstance(value, LedgerError):
                self._refused += 1
                env.fail(value)
            else:
                env.reply(value)
        self._tell_zones(attempt.zones)

    async def _settle(self, doubt: Doubt) -> Doubt | None:
        """On a new connection: what became of the batch? Committed, then answer; otherwise carry it out now."""
        attempt, committed = doubt.attempt, False
        if attempt.committing:
            connection = self._connection
            assert connection is not None
            try:
                with trio.CancelScope(shield=True):
                    committed = await was_committed(connection, self._site.site, attempt.number)
            except SESSION_FAILURES as exc:
                self._drop()
                self._set_state(available=False, detail=_words(exc))
                return doubt
            log.info("outcome of a lost COMMIT", batch=attempt.number, committed=committed)
        if committed:
            self._answer(attempt)
            return None
        if attempt.again:  # a batch that loses the connection twice is not tried a third time
            self._give_up(doubt)
            return None
        now = trio.current_time()
        alive = [env for env in attempt.waiting if env.deadline > now]
        if alive:
            assert self._flow is not None
            self._flow.current = self._attempt(alive, again=True)
        return None

    def _give_up(self, doubt: Doubt) -> None:
        self._unavailable += len(doubt.attempt.waiting)
        for env in doubt.attempt.waiting:
            env.fail(LedgerUnavailable(doubt.detail))

    def _fail_pending(self, error: LedgerUnavailable) -> None:
        self._unavailable += len(self._pending)
        while self._pending:
            self._pending.popleft().fail(error)
        self._signal()

    async def _sweep(self, flow: Flow, settings_due: bool) -> Doubt | None:
        """Look for what time has made necessary, and whether the database is still there and still durable."""
        try:
            with trio.CancelScope(shield=True):
                ops = await due(flow.connection, self._site)
                if ops:
                    flow.current = Attempt(ops, self._site.new_id())
                if settings_due:
                    self._set_state(available=True, detail="", durable=await is_durable(flow.connection))
        except SESSION_FAILURES as exc:
            return self._lose(exc)
        return None

    def _statistics_due(self) -> bool:
        return bool(self._analyze_at) and self._operations >= self._analyze_at[0]

    async def _make_statistics(self) -> None:
        assert self._connection is not None
        self._analyze_at.popleft()
        with trio.CancelScope(shield=True):
            await analyze(self._connection)

    # -- connecting -----------------------------------------------------------------------------------------------

    async def _connect(self) -> bool:
        """One attempt. True when connected, set up and the only writer."""
        try:
            session = await open_session(self._dsn(), self._setup, self._site, self._session)
        except (*SESSION_FAILURES, MigrationError) as exc:
            if not self._failing or self._state.detail != _words(exc):
                log.warning("no database", error=repr(exc))
            self._failing = True
            self._set_state(available=False, detail=_words(exc))
            return False
        self._failing = False
        self._connects += 1
        self._connection, self._session = session.connection, session.backend
        self._flow = Flow(session.connection, self._site, self._take, self._answer)
        self._analyze_at = deque(self._operations + count for count in ANALYZE_AFTER if not session.planner_knows)
        self._set_state(available=True, detail="", durable=session.durable)
        self._tell_zones(session.zones)
        return True

    def _drop(self) -> None:
        connection, self._connection, self._flow = self._connection, None, None
        if connection is not None:
            connection.terminate()

    async def _close(self) -> None:
        connection, self._connection, self._flow = self._connection, None, None
        if connection is not None:
            with trio.CancelScope(shield=True):
                await close(connection)

    # -- news -----------------------------------------------------------------------------------------------------

    def _set_state(self, *, available: bool, detail: str, durable: bool | None = None) -> None:
        state = LedgerState(
            available=available, detail=detail, durable=self._state.durable if durable is None else durable
        )
        if state != self._state:
            self._state = state
            _tell(self._on_state, state)

    def _tell_zones(self, zones: list[ZoneCount]) -> None:
        if zones:
            _tell(self._on_zones, ZonesChanged(zones=zones))


class Doubt:
    """A batch whose connection was lost: those who wait, what is known, and until when they wait."""

    def __init__(self, attempt: Attempt, until: float, detail: str) -> None:
        self.attempt = attempt
        self.until = until
        self.detail = detail


def _share(pending: deque[Envelope]) -> int:
    """How many of those who wait go into the next batch.

    All of them would be the fewest transactions.  But then everybody would be answered at once and ask again at once,
    and PostgreSQL and we would work in turns; two halves work side by side.  What a lane says together stays together.
    """
    count = len(pending)
    if count > SPLIT_OVER:
        count = (count + 1) // 2
        while count < len(pending) and _lane(pending[count]) == _lane(pending[count - 1]) is not None:
            count += 1
    return min(count, BATCH_LIMIT)


def _lane(env: Envelope) -> str | None:
    return getattr(env.msg, "lane", None)


def _words(error: BaseException) -> str:
    """An error for people: what happened, without the driver's class names where there is a text."""
    return str(error) or type(error).__name__


def _tell(address: Address | None, msg: Any) -> None:
    if address is not None:
        try:
            address.tell(msg)
        except ActorError as exc:
            log.warning("nobody hears the ledger", actor=address.name, error=repr(exc))
