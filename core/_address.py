"""An address: the permanent name of an actor, its mailbox, and the ways to talk to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from . import _trail
from ._dead_letters import DeadLetters
from ._mailbox import MAILBOX_CAPACITY, Mailbox
from ._messages import _TRACE, Down, Envelope, Failed, Inspect, Stop
from .errors import ActorDown, AskTimeout, Expired, MailboxFull

if TYPE_CHECKING:
    from ._supervisor import Supervisor

__all__ = ["MAILBOX_CAPACITY", "Address", "AddressStatistics"]

# A message costs less than a microsecond, a scheduler turn four: yielding on every message makes the mailbox five
# times slower, never yielding starves timers and neighbours, who wait for this many handlers at most.
CHECKPOINT_EVERY = 64  # messages
NEVER = math.inf
PUT_TIMEOUT_S = 30.0  # longest wait for room, when the message has no earlier deadline

# Set by core.testing.serialized(): sends every told message through a codec, as a wire would.
_wire: Callable[[Any], Any] | None = None
_NEVER_ON_A_WIRE = (Stop, Down, Failed, Inspect)


class AddressStatistics(msgspec.Struct, frozen=True):
    """One look at an actor. Ages and times are in seconds; `held` is the type of the message being handled.

    The age of a message that was read in a burst counts from the first look at it, so it is never too high: in a
    burst the actor does not read the clock, which would be a tenth of the cost of a message.
    """

    name: str
    kind: str  # "actor", "machine" or "supervisor"
    state: str
    alive: bool
    depth: int  # messages waiting in the user lane, postponed ones included
    system_depth: int
    oldest_age_s: float  # of the waiting messages
    held: str  # "" when idle
    held_age_s: float
    told: int
    handled: int
    dead: int
    refused: int
    timers: int
    restarts: int
    last_error: str
    uptime_s: float  # of this incarnation


class Address(Mailbox):
    """A name that outlives every incarnation of the actor behind it.

    Tell and ask from any task of the Trio thread; from another thread use `trio.from_thread.run_sync(address.tell,
    msg)`. `receive` and the timers belong to the actor alone. Watching an address twice is watching it once.

    Args:
        name: path in the tree, such as `lane/1`; used in logs and metrics.
        capacity: messages in the user lane.
        dead_letters: where unhandled messages are counted; without it, those of the supervisor.
    """

    __slots__ = (
        "_clock",
        "_gone",
        "_on_ready",
        "_patience",  # messages until the next checkpoint
        "_ready",
        "_supervisor",  # set when the actor is itself a supervisor
        "_waiter",  # the actor's task while it sleeps in `receive`
        "_watchers",
        "alive",
        "incarnation",
        "kind",
        "last_error",
        "started_at",
        "state",
        "trace",  # of the message being handled
    )

    def __init__(
        self, name: str, *, capacity: int = MAILBOX_CAPACITY, dead_letters: DeadLetters | None = None
    ) -> None:
        super().__init__(name, capacity, dead_letters)
        self.kind = "actor"
        self.state = "idle"
        self.incarnation = 0
        self.alive = False
        self.trace = ""
        self.last_error = ""
        self.started_at = -math.inf
        self._supervisor: Supervisor | None = None
        self._watchers: dict[Address, None] = {}
        self._waiter: trio.lowlevel.Task | None = None
        self._patience = CHECKPOINT_EVERY
        self._clock: Callable[[], float] = trio.current_time
        self._ready, self._gone = trio.Event(), trio.Event()
        self._gone.set()
        self._on_ready: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Address {self.name} {self.state}>"

    # -- for everybody ------------------------------------------------------------------------------------------

    def tell(
        self,
        msg: Any,
        *,
        system: bool = False,
        deadline: float = math.inf,
        trace: str = "",
        reply_to: Address | Envelope | None = None,
    ) -> None:
        """Queue a message and return at once.

        A stopped actor makes a dead letter of it. With `reply_to`, the answer is told to that address: the value,
        or `Failed(msg, error)` when the actor failed it, died holding it, read it too late or is stopped. So an
        actor can ask without waiting, and the answer is an event like any other.

        Args:
            msg: a frozen Struct; its `overflow` class says what happens when the mailbox is full.
            system: read before all user messages. For Stop, releases and the like (see core/_mailbox.py).
            deadline: Trio time after which the message is dropped unread.
            trace: inherited from the message being handled if empty.
            reply_to: where the answer goes. An envelope that is being handled: the answer becomes its answer, so
                that the receiver does what we were asked for.

        Raises:
            MailboxFull: for a command (or a `wait` message: use `put`) when there is no room. Nothing was queued,
                and `reply_to` is told nothing.
        """
        if _wire is not None and not isinstance(msg, _NEVER_ON_A_WIRE):
            msg = _wire(msg)
        env = Envelope(msg, deadline, trace or _TRACE.get(), self._clock(), reply_to)
        user = self._user
        if system or reply_to is not None or len(user) >= self._limit:
            self._admit(env, system=system)
        else:
            user.append(env)
        if self._waiter is not None:
            self._wake()

    async def put(
        self,
        msg: Any,
        *,
        system: bool = False,
        deadline: float = math.inf,
        trace: str = "",
        reply_to: Address | Envelope | None = None,
    ) -> None:
        """Tell, but wait for room first: for audit messages, which must be neither lost nor refused lightly.

        When it raises or is cancelled, the message was not queued.

        Raises:
            MailboxFull: no room until `deadline`, at the latest after `PUT_TIMEOUT_S`.
        """
        await trio.lowlevel.checkpoint()
        with trio.move_on_at(min(deadline, trio.current_time() + PUT_TIMEOUT_S)) as patience:
            while not system and not self._closed and len(self._user) >= self.capacity:
                self._credit = 0
                await self._room.park()
        if patience.cancelled_caught:
            self._refused += 1
            raise MailboxFull(self.name, f"no room for {type(msg).__name__} in time")
        self.tell(msg, system=system, deadline=deadline, trace=trace, reply_to=reply_to)

    async def ask(self, msg: Any, timeout_s: float, *, trace: str = "", system: bool = False) -> Any:
        """Tell, and wait for the answer. The message carries the tightest deadline around the caller.

        An asker that gives up, or is cancelled, takes back a message that is still unread. Ask down the tree only:
        two actors that ask each other wait for each other. An actor that must stay responsive does not ask; it
        tells with `reply_to`.

        Raises:
            MailboxFull: refused, or shed for a newer message; not carried out.
            Expired: time ran out before the message was read; not carried out.
            AskTimeout: time ran out afterwards; outcome unknown.
            ActorDown: the actor died holding the message, or is stopped.
            Exception: whatever the actor gave to `fail`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise ActorDown(self.name, "is stopped")
        if _wire is not None and not isinstance(msg, _NEVER_ON_A_WIRE):
            msg = _wire(msg)
        now = trio.current_time()
        deadline = now + timeout_s
        env = Envelope(msg, min(deadline, trio.current_effective_deadline()), trace or _TRACE.get(), now)
        self._admit(env, system=system)
        if self._waiter is not None:
            self._wake()

        def abort(_: object) -> trio.lowlevel.Abort:
            env._to = None  # between the cancellation and our next turn an answer must not wake us twice
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            if not env.answered:  # shed at once, otherwise
                with trio.move_on_at(deadline):
                    env._to = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            in_time, env.answered = env.answered, True  # a late answer does nothing,
            unread = not in_time and self._withdraw(env)  # and an unread question is not carried out
        if unread:
            raise Expired(self.name, f"did not read {type(msg).__name__} within {timeout_s:g} s")
        if not in_time:
            raise AskTimeout(self.name, f"no answer to {type(msg).__name__} within {timeout_s:g} s")
        if env._error is not None:
            raise env._error
        return env._value

    def watch(self, watcher: Address) -> None:
        """Tell `watcher` `Down` (system lane) at each death of this actor; at once, if it is not running now."""
        self._watchers[watcher] = None
        if not self.alive:
            watcher._notify(Down(self.name, "not running"))

    def unwatch(self, watcher: Address) -> None:
        """No more `Down` for this watcher; no error if it never watched."""
        self._watchers.pop(watcher, None)

    @property
    def ready(self) -> bool:
        """Has this incarnation received for the first time? It does not mean that its device is connected."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        """Wait until the actor, which may not have been started yet, first receives; or dies before it does."""
        await self._ready.wait()

    async def wait_gone(self) -> None:
        """Wait until the present incarnation, if any, is over."""
        await self._gone.wait()

    def statistics(self) -> AddressStatistics:
        """A look from outside, which works on an actor that hangs, too."""
        now = trio.current_time()
        heads = [lane[0].told_at for lane in (self._system, self._replayed, self._postponed, self._user) if lane]
        if self._held is not self._seen:
            self._seen, self._seen_at = self._held, now
        urgent = len(self._system) + (self._stop is not None)
        return AddressStatistics(
            name=self.name,
            kind=self.kind,
            state=self.state,
            alive=self.alive,
            depth=self._waiting,
            system_depth=urgent,
            oldest_age_s=now - min(heads, default=now),
            held="" if self._held is None else type(self._held.msg).__name__,
            held_age_s=0.0 if self._held is None else now - self._seen_at,
            told=self._handled + self._dead + self._waiting + urgent + (self._held is not None),
            handled=self._handled,
            dead=self._dead,
            refused=self._refused,
            timers=len(self._timers),
            restarts=max(0, self.incarnation - 1),
            last_error=self.last_error,
            uptime_s=now - self.started_at if self.alive else 0.0,
        )

    # -- for the actor ------------------------------------------------------------------------------------------

    async def receive(self) -> Envelope:
        """The next message: system messages first, then due timers, then the rest in order.

        The first call says "ready". Each call says that the message before is done. `Inspect` is answered here and
        late messages are dropped here; the actor sees neither. Cancelling a receive loses no message.
        """
        if self._credit and self._user:  # the short path: what `_next` does, without the detours
            self._credit -= 1
            held = self._held
            if held is None or held._to is not None:
                self._let_go()
            else:
                self._handled += 1
            self._held = env = self._user.popleft()
            if env.trace != self.trace:
                self._follow(env.trace)
            if env.deadline == NEVER or env.deadline > trio.current_time():
                if _trail.current is not None and env.trace:
                    _trail.current.note(self.name, env)
                return env
            self._held = None
            self._bury_late(env)
        self._mark_ready()
        waiting = await self._next(math.inf)
        assert waiting is not None  # only a state deadline yields None
        return waiting

    def set_timer(self, key: str, delay_s: float, msg: Any) -> None:
        """Receive `msg` in `delay_s` seconds, whatever else arrives; replaces the timer of the same key.

        A timer belongs to this incarnation: a restarted actor never sees its predecessor's.
        """
        self._timers[key] = (trio.current_time() + delay_s, msg, _TRACE.get())
        self._credit = 0
        self._reset_timers()

    def cancel_timer(self, key: str) -> None:
        """Forget a timer; no error if there is none. One that is due but unread is forgotten, too."""
        self._timers.pop(key, None)
        self._reset_timers()

    def _reset_timers(self) -> None:
        self._next_due = min((due for due, _, _ in self._timers.values()), default=math.inf)
        if self._waiter is not None:  # set by a helper task of the actor
            self._wake()

    # -- for the runtime ----------------------------------------------------------------------------------------

    async def _next(self, until: float) -> Envelope | None:
        """`receive` for a Machine (None when `until` has passed) and for a supervisor (not ready by it)."""
        if self._waiter is not None:
            raise RuntimeError(f"{self.name}: two tasks receive; an actor is one")
        self._let_go()
        self._patience += self._credit
        self._credit = 0
        if self._patience <= 0:
            self._patience = CHECKPOINT_EVERY
            await trio.lowlevel.checkpoint()  # before taking a message, never after: cancelling must lose none
        while True:
            env = self._take(until)
            if env is None:
                if until <= trio.current_time():
                    return None
                self._patience = CHECKPOINT_EVERY
                await self._sleep(min(until, self._next_due))
            elif type(env.msg) is Inspect:
                env.reply(self.statistics())
                self._let_go()
            else:
                if env.trace != self.trace:
                    self._follow(env.trace)
                if _trail.current is not None and env.trace:
                    _trail.current.note(self.name, env)
                self._patience -= 1
                if not (self._system or self._stop or self._timers or self._replayed or self._room):
                    self._credit, self._patience = self._patience, 0
                return env

    def _follow(self, trace: str) -> None:
        self.trace = trace
        _TRACE.set(trace)

    async def _sleep(self, deadline: float) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiter = trio.lowlevel.current_task()
        if deadline == math.inf:  # a cancel scope costs as much as the rest of a wake-up
            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            with trio.move_on_at(deadline):
                await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        task, self._waiter = self._waiter, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _answer(self, value: Any, trace: str) -> None:
        """Receive the answer to a message told with `reply_to` from here. Never raises: the answerer is innocent."""
        if _wire is not None and not isinstance(value, _NEVER_ON_A_WIRE):
            value = _wire(value)
        self._admit(Envelope(value, math.inf, trace, trio.current_time()), answer=True)
        self._wake()

    def _notify(self, notice: Down) -> None:
        """A notice of class `drop_oldest` on the system lane, which is why this never raises."""
        self._admit(Envelope(notice, math.inf, _TRACE.get(), trio.current_time()), system=True)
        self._wake()

    def _mark_ready(self) -> None:
        if not self._ready.is_set():
            if self.state == "starting":
                self.state = "running"
            self._ready.set()
            if self._on_ready is not None:
                self._on_ready()

    def _begin(self, on_ready: Callable[[], None] | None = None) -> None:
        """A new incarnation starts. Queued messages are its inheritance; an old Stop is not."""
        if self.alive:
            raise RuntimeError(f"{self.name} runs already")
        self._forget_stop()
        self._clock = trio.lowlevel.current_clock().current_time  # half the price of trio.current_time()
        self.incarnation += 1
        self.alive, self._closed, self._limit, self._credit = True, False, self.capacity, 0
        self.state, self.trace = "starting", ""
        self.started_at = trio.current_time()
        self._gone, self._on_ready = trio.Event(), on_ready
        self._patience = CHECKPOINT_EVERY

    def _end(self, error: BaseException | None, *, reason: str, clean: bool) -> None:
        """This incarnation is over; `clean` means that the message it held last counts as handled."""
        self.alive = False
        self.state = "down" if error is not None else "stopped"
        if error is not None:
            self.last_error = repr(error)
        self._clock = trio.current_time
        self._abandon(error if isinstance(error, Exception) else None, clean=clean)
        self._ready.set()
        self._ready = trio.Event()  # of the next incarnation, which may be waited for already
        self._gone.set()
        for watcher in tuple(self._watchers):
            watcher._notify(Down(self.name, reason))
