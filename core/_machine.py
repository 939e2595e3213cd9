"""State machines: a state is a coroutine, and what it returns is the next state.

    async def closed(machine):
        env = await machine.event()          # entering a state is its first lines
        ...
        return opened                        # the transition

    async def opened(machine):
        machine.state_timeout(5.0)           # a state deadline: no event extends it
        while (env := await machine.event()) is not None:
            ...
        return closed                        # time is up

The timer that closes a barrier must be a *state deadline*: an event time-out starts anew with every event, so that
an operator's status poll would hold the barrier open.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from ._address import Address
from ._messages import Envelope

__all__ = ["Machine", "State"]

# A function of the machine, or a method (of a subclass, of anything) that takes no argument.
State: TypeAlias = Callable[..., Awaitable["State | None"]]


class Machine:
    """Runs the states of one actor. `me.state` is the name of the present one, without a leading underscore."""

    def __init__(self, me: Address) -> None:
        self.me = me
        self.me.kind = "machine"
        self._deadline = math.inf

    async def run(self, state: State | None) -> None:
        """Run states until one returns None. Postponed messages are read again after each transition."""
        while state is not None:
            self.me.state = getattr(state, "__name__", type(state).__name__).lstrip("_")
            self._deadline = math.inf  # leaving a state cancels its deadline
            state = await (state(self) if inspect.signature(state).parameters else state())
            self.me._replay()

    async def event(self) -> Envelope | None:
        """The next event of this state; None, once, when its time is up.

        System messages and due timers come before the None, waiting user messages after it.
        """
        self.me._mark_ready()
        env = await self.me._next(self._deadline)
        if env is None:
            self._deadline = math.inf  # only once: a state that goes on by mistake must not spin
        return env

    def state_timeout(self, seconds: float) -> None:
        """Let `event` return None in `seconds` from now, unless the state ends before."""
        self._deadline = trio.current_time() + seconds

    def postpone(self, env: Envelope) -> None:
        """Keep the event just received for the next state.

        Bounded: one too many is a dead letter, and its asker learns `MailboxFull`. A crash fails what is postponed
        with `ActorDown`, and what outlives its deadline is dropped. Raises ValueError for any other envelope.
        """
        self.me._postpone(env)
