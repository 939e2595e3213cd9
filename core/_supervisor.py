"""Supervision: who is started, stopped and restarted, in which order, how often.

One task per supervisor decides; every decision is synchronous, and between two of them it sleeps until there is
news (a child ended, a child is ready, Stop) or something falls due (a restart, the end of its patience). So there is
no moment in which a restart and a stop can meet.

Each child runs in its own *shielded* scope: cancelling the nursery alone ran the clean-up of four children in five
different orders in fifty tries. Only the supervisor ends a child: a Stop message, a bounded wait, then cancellation,
in the reverse order of the start. Giving up is raising: the child of the supervisor above has crashed.
"""

from __future__ import annotations

import collections
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import trio

from ._address import Address
from ._dead_letters import DeadLetters
from ._messages import _TRACE, Stop
from .errors import ActorDown, ActorError, TooManyRestarts

__all__ = ["Child", "Notice", "NoticeKind", "Restart", "Strategy", "Supervisor"]

READY_TIMEOUT_S = 10.0  # then the next sibling starts anyway
SHUTDOWN_S = 5.0  # from Stop to cancellation
MAX_DOUBLINGS = 30  # of the backoff: 2**1024 is no float any more, and some devices flap for weeks


class Restart(StrEnum):
    """Which end of a child is followed by a new incarnation."""

    PERMANENT = "permanent"  # any
    TRANSIENT = "transient"  # a crash
    TEMPORARY = "temporary"  # none; one started at run time is forgotten


class Strategy(StrEnum):
    """Who is restarted when one child ends."""

    ONE_FOR_ONE = "one_for_one"  # that child
    REST_FOR_ONE = "rest_for_one"  # that child and those started after it
    ONE_FOR_ALL = "one_for_all"  # all of them


class NoticeKind(StrEnum):
    """What a supervisor has to say."""

    NOT_READY = "not_ready"  # did not receive within ready_timeout_s; its siblings start without it
    CRASHED = "crashed"  # ended with an error
    ENDED = "ended"  # returned without having been told to
    RESTARTING = "restarting"  # in `delay_s`
    KILLED = "killed"  # did not stop within shutdown_s and was cancelled
    GAVE_UP = "gave_up"  # too many restarts; the supervisor above decides


class Notice(msgspec.Struct, frozen=True):
    """Something that belongs in the log; given to the hook of the supervisor."""

    supervisor: str
    child: str
    kind: NoticeKind
    error: Exception | None = None
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Child:
    """One actor to supervise: `main(address)` is run, and run again, under its permanent address.

    `Child(sup.address, sup.run)` makes a supervisor a child. Its `shutdown_s` does not cut short the bounds of the
    children below: cancelling a supervisor is an ordered stop, too.
    """

    address: Address
    main: Callable[[Address], Awaitable[None]]
    restart: Restart = Restart.PERMANENT
    shutdown_s: float = SHUTDOWN_S
    ready_timeout_s: float = READY_TIMEOUT_S


class _Slot:
    """A child and what the supervisor knows about it."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.address = child.address
        self.scope = trio.CancelScope(shield=True)
        self.incarnation = 0  # of the address, when we started it last
        self.revive_at = math.inf  # Trio time of the next start
        self.first = False  # of this run of the supervisor: then it starts in order
        self.failures = 0  # in a row
        self.leaving = False  # told to stop by us: its end is no news
        self.over = False  # ended, and not to be restarted in this run of the supervisor
        self.retired: trio.Event | None = None  # stop_child: never to be started again
        self.passing = False  # temporary, started at run time: forgotten when it ends

    @property
    def alive(self) -> bool:
        """Is the incarnation that we started alive?"""
        return self.address.alive and self.address.incarnation == self.incarnation

    @property
    def active(self) -> bool:
        """Does it belong to the group? Also when it has just crashed and its end is news yet to be read."""
        return self.retired is None and not self.over


class Supervisor:
    """Starts its children in order, restarts those that end, stops them in reverse order.

    Args:
        name: of its own address.
        children: in the order of their start; each is waited for until it receives, for `ready_timeout_s` at most.
        intensity, period_s: more than `intensity` restarts within `period_s` and it gives up with
            `TooManyRestarts`. Levels multiply: two supervisors of 3 try 15 times.
        backoff_s, backoff_max_s, jitter: a child's restart waits `backoff_s`, doubled with each failure in a row up
            to `backoff_max_s`, give or take the fraction `jitter`. An incarnation that lived for longer than
            `backoff_max_s` ends the row.
        rng: source of the jitter, seeded in tests.
        escalate: False for devices: never gives up, backs off for ever. With the defaults one flapping reader would
            take the whole site down within two seconds.
        dead_letters, hook: for its own address and for everybody below who has none; `hook` is called with every
            `Notice`, must be quick, and what it raises is ignored.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[Child] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: int = 3,
        period_s: float = 30.0,
        backoff_s: float = 0.1,
        backoff_max_s: float = 10.0,
        jitter: float = 0.1,
        rng: random.Random | None = None,
        escalate: bool = True,
        dead_letters: DeadLetters | None = None,
        hook: Callable[[Notice], None] | None = None,
    ) -> None:
        if not escalate and backoff_s <= 0:
            raise ValueError(f"{name}: restarting for ever needs a backoff")
        self.name = name
        self.address = Address(name, dead_letters=dead_letters)
        self.address.kind = "supervisor"
        self.address._supervisor = self
        self.strategy = strategy
        self.escalate = escalate
        self.period_s = period_s
        self.backoff_s, self.backoff_max_s, self.jitter = backoff_s, backoff_max_s, jitter
        self.hook = hook
        self._rng = rng or random.Random()
        self._crashes: collections.deque[float] = collections.deque(maxlen=intensity + 1)
        self._exits: collections.deque[tuple[_Slot, Exception | None]] = collections.deque()  # one per death
        self._news = trio.Event()
        self._awaited: _Slot | None = None  # started in order and not ready yet
        self._patience_until = math.inf
        self._nursery: trio.Nursery | None = None
        self._closing = False
        self._stop: Stop | None = None
        self._slots: dict[str, _Slot] = {}
        for child in children:
            self._add(child)

    @property
    def children(self) -> tuple[Child, ...]:
        """The children in the order of their start."""
        return tuple(slot.child for slot in self._slots.values())

    def below(self, name: str) -> Supervisor:
        """The supervisor of that name in the tree below, for who starts and stops children there. Raises KeyError."""
        for slot in self._slots.values():
            inner = getattr(slot.child.main, "__self__", None)
            if isinstance(inner, Supervisor):
                if inner.name == name:
                    return inner
                try:
                    return inner.below(name)
                except KeyError:
                    continue
        raise KeyError(name)

    async def run(self, me: Address | None = None) -> None:
        """Supervise until told to Stop, or cancelled: either way the children stop in order.

        Raises:
            TooManyRestarts: from the last crash; everything below has been stopped.
        """
        me = me or self.address
        unsupervised = not me.alive
        if unsupervised:  # the root of the tree
            me._begin()
        gave_up: TooManyRestarts | None = None
        self._reset()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._listen, me)
                try:
                    gave_up = await self._supervise(me)
                finally:
                    self._closing = True
                    me.state = "stopping"
                    again = gave_up is not None or (self._stop is not None and self._stop.restarting)
                    with trio.CancelScope(shield=True):  # bounded: every child has its own shutdown limit
                        await self._halt(tuple(self._slots.values()), restarting=again)
                    for slot in tuple(self._slots.values()):
                        if not again or slot.passing:
                            self._forget(slot)
                    self._nursery = None
                    nursery.cancel_scope.cancel(reason=f"{self.name}: all children have stopped")
        finally:
            if unsupervised:
                me._end(gave_up, reason="stopped" if gave_up is None else repr(gave_up), clean=True)
        if gave_up is not None:
            raise gave_up

    async def start_child(self, child: Child) -> None:
        """Add a child at run time, start it and wait until it is ready (for `ready_timeout_s` at most).

        Cancelling this does not stop the child. Raises ValueError if one of that name is there already, ActorDown if
        the supervisor is stopping.
        """
        if self._closing and self._nursery is not None:
            raise ActorDown(self.name, "is stopping")
        slot = self._add(child)
        if self._nursery is not None:
            slot.passing = child.restart is Restart.TEMPORARY
            self._spawn(slot, in_order=False)
            with trio.move_on_after(child.ready_timeout_s) as patience:
                await child.address.wait_ready()
            if patience.cancelled_caught:
                self._say(slot, NoticeKind.NOT_READY)

    async def stop_child(self, name: str) -> None:
        """Stop a child for good and forget it; what waits in its mailbox becomes dead letters.

        Bounded by the child's `shutdown_s`; goes on if the caller is cancelled. A child must not call it for itself
        (it would wait for its own end): it returns. Raises KeyError if there is no such child.
        """
        slot = self._slots[name]
        if slot.retired is None:
            slot.retired, slot.leaving, slot.revive_at = trio.Event(), True, math.inf
            if self._nursery is not None:
                self._nursery.start_soon(self._retire, slot)
            else:
                await self._retire(slot)
        await slot.retired.wait()

    def _reset(self) -> None:
        self._stop, self._closing, self._awaited = None, False, None
        self._crashes.clear()
        for slot in self._slots.values():
            slot.first, slot.over, slot.failures, slot.revive_at = True, False, 0, trio.current_time()

    # -- deciding -----------------------------------------------------------------------------------------------

    async def _supervise(self, me: Address) -> TooManyRestarts | None:
        while self._stop is None:
            self._news = trio.Event()
            while self._exits:
                if (gave_up := await self._on_exit(*self._exits.popleft())) is not None:
                    return gave_up
            now = trio.current_time()
            if (awaited := self._awaited) is not None:
                if awaited.address.alive and not awaited.address.ready and now >= self._patience_until:
                    self._say(awaited, NoticeKind.NOT_READY)
                if awaited.address.ready or not awaited.address.alive or now >= self._patience_until:
                    self._awaited = None
            for slot in tuple(self._slots.values()):
                if slot.revive_at <= now and not self._must_queue(slot):
                    self._spawn(slot, in_order=self._in_order(slot))
            if self._awaited is None:
                me._mark_ready()
            due = [slot.revive_at for slot in self._slots.values() if not self._must_queue(slot)]
            if self._awaited is not None:
                due.append(self._patience_until)
            with trio.move_on_at(min(due, default=math.inf)):
                await self._news.wait()
        return None

    def _in_order(self, slot: _Slot) -> bool:
        """Does this start wait for those before it? Not a one_for_one restart: nobody else is concerned."""
        return slot.first or self.strategy is not Strategy.ONE_FOR_ONE

    def _must_queue(self, slot: _Slot) -> bool:
        return self._awaited is not None and self._in_order(slot)

    async def _on_exit(self, slot: _Slot, error: Exception | None) -> TooManyRestarts | None:
        """Plan the restart of a child that ended by itself, or give up."""
        if slot.leaving:
            return None  # meanwhile taken down with its group
        self._say(slot, NoticeKind.ENDED if error is None else NoticeKind.CRASHED, error)
        restart = slot.child.restart
        if restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and error is None):
            self._forget(slot)
            return None
        now = trio.current_time()
        self._crashes.append(now)
        if self.escalate and len(self._crashes) == self._crashes.maxlen and now - self._crashes[0] < self.period_s:
            self._say(slot, NoticeKind.GAVE_UP, error)
            gave_up = TooManyRestarts(self.name, f"gave up on {slot.address.name}: {error!r}")
            gave_up.__cause__ = error
            return gave_up
        slot.failures = 1 if now - slot.address.started_at > self.backoff_max_s else slot.failures + 1
        delay_s = self._delay_s(slot.failures)
        self._say(slot, NoticeKind.RESTARTING, error, delay_s)
        group = self._group(slot)
        for member in group:  # decided at once, so that nobody can start or retire in between unnoticed
            member.leaving = True
            member.revive_at = math.inf if member.child.restart is Restart.TEMPORARY else now + delay_s
        await self._halt(group, restarting=True)
        for member in group:
            if member.child.restart is Restart.TEMPORARY:
                self._forget(member)
        return None

    def _group(self, slot: _Slot) -> list[_Slot]:
        """Who goes down with this child, itself included."""
        if self.strategy is Strategy.ONE_FOR_ONE:
            return [slot]
        slots = list(self._slots.values())
        first = slots.index(slot) if self.strategy is Strategy.REST_FOR_ONE else 0
        return [member for member in slots[first:] if member.active]

    def _delay_s(self, failures: int) -> float:
        doubled = self.backoff_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS)
        return min(doubled, self.backoff_max_s) * (1 + self.jitter * self._rng.uniform(-1, 1))

    # -- doing --------------------------------------------------------------------------------------------------

    def _add(self, child: Child) -> _Slot:
        slot = self._slots.get(child.address.name)
        if slot is not None and (slot.active or slot.retired is not None or self._nursery is None):
            raise ValueError(f"{self.name} has a child {child.address.name} already")
        slot = self._slots[child.address.name] = _Slot(child)
        return slot

    def _forget(self, slot: _Slot) -> None:
        """This child will not be started again."""
        slot.over = True
        if not slot.address.alive:  # or another supervisor runs it, which is an error, but not its
            slot.address._close()
        name = slot.address.name
        if self._slots.get(name) is slot and (slot.retired is not None or slot.passing):
            del self._slots[name]

    def _spawn(self, slot: _Slot, *, in_order: bool) -> None:
        assert self._nursery is not None
        if in_order:
            self._awaited, self._patience_until = slot, trio.current_time() + slot.child.ready_timeout_s
        slot.first, slot.leaving, slot.revive_at = False, False, math.inf
        slot.scope = trio.CancelScope(shield=True)
        address = slot.address
        address.dead_letters = address.dead_letters or self.address.dead_letters
        if address._supervisor is not None:
            address._supervisor.hook = address._supervisor.hook or self.hook
        address._begin(self._wake)
        slot.incarnation = address.incarnation
        self._nursery.start_soon(self._live, slot, name=address.name)

    async def _live(self, slot: _Slot) -> None:
        """One incarnation of a child, from its first line to the last thing anybody must learn about its end."""
        address = slot.address
        _TRACE.set("")  # not that of whoever started it
        error: Exception | None = None
        fatal: BaseException | None = None  # KeyboardInterrupt, SystemExit: not a crash; it ends the whole tree
        try:
            with slot.scope:
                try:
                    await slot.child.main(address)
                except Exception as exc:  # a group of nothing but Exceptions is one, too
                    error = exc
                except BaseExceptionGroup as group:  # our Cancelled beside errors of a clean-up, or a Ctrl-C
                    cancelled, rest = group.split(trio.Cancelled)
                    if cancelled is None or not isinstance(rest, Exception | None):
                        raise
                    error = rest
                    raise cancelled from None  # for our own scope
        except BaseException as exc:
            fatal = exc
            raise
        finally:
            cause, stopped = fatal or error, "stopped" if slot.leaving else "finished"
            clean = cause is None and not slot.scope.cancelled_caught
            address._end(cause, reason=stopped if cause is None else repr(cause), clean=clean)
        if not slot.leaving:
            self._exits.append((slot, error))
        elif error is not None:
            self._say(slot, NoticeKind.CRASHED, error)
        self._wake()

    async def _halt(self, slots: Sequence[_Slot], *, restarting: bool) -> None:
        """Stop in reverse order: Stop, wait, cancel. Returns when the last one is gone."""
        for slot in slots:
            slot.leaving = True
        for slot in reversed(slots):
            if not slot.alive:
                continue
            slot.address.tell(Stop(restarting), system=True)
            with trio.move_on_after(slot.child.shutdown_s):
                await slot.address.wait_gone()
            if slot.alive:
                self._say(slot, NoticeKind.KILLED)
                slot.scope.cancel(reason=f"{self.name}: not stopped within {slot.child.shutdown_s:g} s")
                await slot.address.wait_gone()

    async def _retire(self, slot: _Slot) -> None:
        assert slot.retired is not None
        try:
            await self._halt([slot], restarting=False)
        finally:
            self._forget(slot)
            slot.retired.set()

    async def _listen(self, me: Address) -> None:
        """Read our own mailbox: Stop, and nothing else. Being read does not make us ready: our children do."""
        while True:
            env = await me._next(math.inf)
            assert env is not None
            if isinstance(env.msg, Stop):
                self._stop = env.msg
                self._wake()
            else:
                env.fail(ActorError(self.name, f"is a supervisor and does not take {type(env.msg).__name__}"))

    def _wake(self) -> None:
        self._news.set()

    def _say(self, slot: _Slot, kind: NoticeKind, error: Exception | None = None, delay_s: float = 0.0) -> None:
        if self.hook is not None:
            try:
                self.hook(Notice(self.name, slot.address.name, kind, error, delay_s))
            except Exception:
                self.address.last_error = "the hook of this supervisor raises"
