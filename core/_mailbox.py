"""The lanes of a mailbox: who gets in, who is read next, who is buried. All of it synchronous.

Order of reading: system lane, Stop, due timers, (the state deadline of a Machine,) replayed messages, user lane.

*The system lane can lose neither a Stop nor a release.* It is bounded like everything, so this needs an argument:

1. Stop has a place of its own, outside the lane. Of two Stops that wait the newer one says everything.
   It is read after the lane, so a release told together with it, or even after it, is carried out first.
2. What may pile up in front of an actor that hangs is Inspect (a console polls) and Down (a neighbour flaps). Both
   are of class `drop_oldest`: a full lane sheds the oldest of them first.
3. Left are orders (release, restore, configuration). They name a level, not an increment, so of two of the same
   type the newer one says everything: a lane full of orders sheds the oldest that has a newer one of its type.
   With more places than there are types of orders, two of a kind are always found, so *the newest order of each
   type is never shed*. (An order that must not be superseded by another needs a type of its own.)
4. Only a lane full of orders of that many different types refuses: a dead letter, and `MailboxFull` for the sender.

Whatever is shed is a dead letter, and whoever asked learns `MailboxFull`.
"""

from __future__ import annotations

import collections
import math
from typing import Any, TypeAlias

import trio

from ._dead_letters import DeadLetter, DeadLetters, Reason
from ._messages import Envelope, Inspect, Overflow, Stop, overflow_of
from .errors import ActorDown, ActorError, Expired, MailboxFull

MAILBOX_CAPACITY = 256  # messages in the user lane
SYSTEM_CAPACITY = 64  # messages in the system lane; more than there are types of system messages (see 3. above)
ANSWER_ROOM = 64  # further places for answers: an actor has asked for them, so a full lane must not lose them
POSTPONED_CAPACITY = 64  # messages that a state put aside for the next one
KEPT_CAPACITY = 4096  # read messages whose answer the actor still owes

Lane: TypeAlias = "collections.deque[Envelope]"


class Mailbox:
    """State and synchronous decisions of an `Address`; its subclass adds the waiting."""

    # More than 30 attributes do not fit the interpreter's compact instances: slots make a message 150 ns cheaper.
    __slots__ = (
        "_closed",
        "_credit",  # messages that `receive` may take by its short path; 0 when anything else needs attention
        "_dead",
        "_handled",
        "_held",
        "_kept",  # read, not answered, still owed
        "_limit",  # of the user lane; -1 when closed
        "_next_due",
        "_postponed",  # waits for the next state
        "_refused",
        "_replayed",  # the state has changed: read again
        "_room",  # senders that wait in `put`
        "_seen",  # the message that was held when somebody looked at the clock, at `_seen_at`
        "_seen_at",
        "_stop",
        "_system",
        "_timers",  # key -> due, message, trace
        "_user",
        "capacity",
        "dead_letters",
        "name",
    )

    def __init__(self, name: str, capacity: int, dead_letters: DeadLetters | None) -> None:
        self.name = name
        self.capacity = capacity
        self.dead_letters = dead_letters
        self._system: Lane = collections.deque()
        self._stop: Envelope | None = None
        self._user: Lane = collections.deque()
        self._postponed: Lane = collections.deque()
        self._replayed: Lane = collections.deque()
        self._kept: Lane = collections.deque()
        self._timers: dict[str, tuple[float, Any, str]] = {}
        self._next_due = math.inf
        self._held: Envelope | None = None
        self._seen: Envelope | None = None
        self._seen_at = 0.0
        self._room = trio.lowlevel.ParkingLot()
        self._closed = False
        self._limit = capacity
        self._credit = 0
        self._handled = self._dead = self._refused = 0

    @property
    def _waiting(self) -> int:
        return len(self._user) + len(self._replayed) + len(self._postponed)

    # -- in -----------------------------------------------------------------------------------------------------

    def _admit(self, env: Envelope, *, system: bool = False, answer: bool = False) -> None:
        """Queue, shed or refuse: the long path of `tell`. Raises `MailboxFull` for a refused command."""
        if self._closed:
            self._bury(env, Reason.DOWN, ActorDown(self.name, "is stopped"))
        elif isinstance(env.msg, Stop):
            self._credit = 0
            self._handled += self._stop is not None  # merged with the newer one
            self._stop = env
        elif system or isinstance(env.msg, Inspect):
            self._credit = 0
            self._admit_system(env)
        elif len(self._user) < self.capacity + (ANSWER_ROOM if answer else 0):
            self._user.append(env)
        elif overflow_of(env.msg) == Overflow.DROP_OLDEST:  # never at the cost of a command
            self._shed(self._user, env, _oldest_droppable(self._user))
        elif answer:
            self._bury(env, Reason.FULL, self._full(env))
        else:
            self._refused += 1
            raise self._full(env)

    def _admit_system(self, env: Envelope) -> None:
        if len(self._system) < SYSTEM_CAPACITY:
            self._system.append(env)
            return
        droppable = overflow_of(env.msg) == Overflow.DROP_OLDEST
        victim = _oldest_droppable(self._system)
        if victim is None and not droppable:
            victim = _oldest_superseded(self._system, env)
        self._shed(self._system, env, victim)
        if victim is None and not droppable:
            raise self._full(env)

    def _shed(self, lane: Lane, env: Envelope, victim: int | None) -> None:
        """Make room for `env` by burying the victim; without one, bury `env` itself."""
        if victim is None:
            self._bury(env, Reason.FULL, self._full(env))
            return
        old = lane[victim]
        del lane[victim]
        lane.append(env)
        self._bury(old, Reason.FULL, self._full(old))

    def _full(self, env: Envelope) -> MailboxFull:
        return MailboxFull(self.name, f"no room for {type(env.msg).__name__}")

    # -- out ----------------------------------------------------------------------------------------------------

    def _take(self, until: float) -> Envelope | None:
        """The next message that is still worth handling, which is held from now on.

        None when nothing waits, or when `until` (the state deadline) has passed and no system message or timer
        comes first.
        """
        while True:
            now = trio.current_time()
            if self._system:
                env = self._system.popleft()
            elif self._stop is not None:
                env, self._stop = self._stop, None
            elif self._next_due <= now:
                env = self._due()
            elif until <= now:
                return None
            elif self._replayed:
                env = self._replayed.popleft()
            elif self._user:
                env = self._user.popleft()
                if self._room and len(self._user) < self.capacity:
                    self._room.unpark()
            else:
                return None
            if env.deadline <= now:  # a late "open" must never be carried out
                self._bury_late(env)
                continue
            self._held = self._seen = env
            self._seen_at = now
            return env

    def _due(self) -> Envelope:
        key = min(self._timers, key=lambda key: self._timers[key][0])
        due, msg, trace = self._timers.pop(key)
        self._next_due = min((timer[0] for timer in self._timers.values()), default=math.inf)
        return Envelope(msg, math.inf, trace, due)

    def _let_go(self) -> None:
        """The held message is handled. If it still owes an answer, remember it, so that a crash can fail it."""
        env, self._held = self._held, None
        if env is None:
            return
        self._handled += 1
        if env.wanted:
            kept = self._kept
            while kept and not kept[0].wanted:
                kept.popleft()
            if len(kept) >= KEPT_CAPACITY:
                self._kept = kept = collections.deque(old for old in kept if old.wanted)
            if len(kept) >= KEPT_CAPACITY:
                kept.popleft().fail(MailboxFull(self.name, f"owes more than {KEPT_CAPACITY} answers"))
            kept.append(env)

    def _postpone(self, env: Envelope) -> None:
        """Put the held message aside until the state changes; refuse it when too many are put aside already."""
        if env is not self._held:
            raise ValueError("only the message being handled can be postponed")
        self._held = None
        self._credit = 0
        if len(self._postponed) < POSTPONED_CAPACITY:
            self._postponed.append(env)
        else:
            self._bury(env, Reason.FULL, MailboxFull(self.name, f"too busy for {type(env.msg).__name__}"))

    def _replay(self) -> None:
        """The state has changed: what was put aside is read again, in its order, before newer messages."""
        self._replayed.extendleft(reversed(self._postponed))
        self._postponed.clear()
        self._credit = 0

    # -- away ---------------------------------------------------------------------------------------------------

    def _bury(self, env: Envelope, reason: Reason, error: ActorError) -> None:
        """Make a dead letter of a message and tell whoever asked."""
        self._dead += 1
        if self.dead_letters is None:
            self.dead_letters = DeadLetters()
        self.dead_letters.record(
            DeadLetter(trio.current_time(), self.name, type(env.msg).__name__, reason, env.trace),
        )
        env.fail(error)

    def _bury_late(self, env: Envelope) -> None:
        self._bury(env, Reason.EXPIRED, Expired(self.name, f"read {type(env.msg).__name__} too late"))

    def _withdraw(self, env: Envelope) -> bool:
        """Take back a message whose asker gave up; False if the actor has it in hand already."""
        for lane in (self._user, self._system, self._replayed, self._postponed):
            try:
                lane.remove(env)
            except ValueError:
                continue
            self._bury(env, Reason.EXPIRED, Expired(self.name, "its asker gave up"))
            if self._room and len(self._user) < self.capacity:
                self._room.unpark()
            return True
        return False

    def _abandon(self, error: Exception | None, *, clean: bool) -> None:
        """An incarnation is over: fail at once what it held, postponed or owed. What is queued survives."""
        if clean or (self._held is not None and self._held.answered):
            self._let_go()
        lost = [*filter(None, [self._held]), *self._postponed, *self._replayed]
        owed, self._kept = self._kept, collections.deque()
        self._held = None
        self._postponed.clear()
        self._replayed.clear()
        self._timers.clear()
        self._next_due = math.inf
        for env in lost:
            self._bury(env, Reason.CRASHED, self._down(error))
        for env in owed:
            env.fail(self._down(error))

    def _down(self, error: Exception | None) -> ActorDown:
        down = ActorDown(self.name, "ended without an answer" if error is None else f"died of {error!r}")
        down.__cause__ = error
        return down

    def _forget_stop(self) -> None:
        """A Stop meant for the last incarnation must not kill the next one. Nothing else is forgotten."""
        stale = [env for env in self._user if isinstance(env.msg, Stop)]
        for env in stale:
            self._user.remove(env)
        self._handled += len(stale) + (self._stop is not None)
        self._stop = None

    def _close(self) -> None:
        """Nobody will read this mailbox again (unless a supervisor starts the actor anew): fail all who wait."""
        self._closed, self._limit = True, -1
        self._forget_stop()
        waiting = [*self._system, *self._user]
        self._system.clear()
        self._user.clear()
        for env in waiting:
            self._bury(env, Reason.DOWN, ActorDown(self.name, "is stopped"))
        self._room.unpark_all()


def _oldest_droppable(lane: Lane) -> int | None:
    return next((i for i, env in enumerate(lane) if overflow_of(env.msg) == Overflow.DROP_OLDEST), None)


def _oldest_superseded(lane: Lane, new: Envelope) -> int | None:
    """The index of the oldest order with a newer one of the same type, counting the one that arrives."""
    newer = {type(new.msg)}
    victim = None
    for i in range(len(lane) - 1, -1, -1):
        kind = type(lane[i].msg)
        if kind in newer:
            victim = i
        newer.add(kind)
    return victim
