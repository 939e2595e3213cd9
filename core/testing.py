"""Test kit: probes that stand in for actors, a tree for the length of a block, messages that really cross a wire.

Use it with virtual time (`autojump_clock` of pytest-trio): every wait of the runtime is a wait of Trio. Where a real
line or socket takes part time cannot jump; `patient_time` then keeps a machine that stands still from deciding a test.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio

from . import _address
from ._address import Address
from ._messages import Envelope, Stop
from ._supervisor import Supervisor

if TYPE_CHECKING:
    import pytest  # benchmarks use this module where no pytest is installed

__all__ = [
    "PATIENT_STEP_S",
    "PatientClock",
    "Probe",
    "patient_time",
    "patient_time_with_processes",
    "running",
    "serialized",
    "struct_codec",
]

WITHIN_S = 1.0  # patience of a probe
STOP_WITHIN_S = 60.0  # of an orderly stop at the end of a block, before it is cancelled
PATIENT_BEGINS_S = 10_000.0  # as after some hours, like Trio's own clock: nobody may take the time for a small number
PATIENT_STEP_S = 0.03  # the most that a patient clock moves between two looks at it
PATIENT_WITH_PROCESSES_STEP_S = 0.25  # longer than a busy machine keeps a process waiting for its turn

T = TypeVar("T")


class Probe(Address):
    """An address without an actor: the test reads its mailbox. Give it to actors as their neighbour, or `reply_to`.

    `envelope` is the last one received, to answer it: `probe.envelope.reply(...)`.
    """

    envelope: Envelope

    def __init__(self, name: str = "probe", **options: Any) -> None:
        super().__init__(name, **options)
        self.alive = True
        self.state = "probe"

    def _follow(self, trace: str) -> None:
        self.trace = trace  # what the test says next is no consequence of what it has just read

    async def expect(self, kind: type[T], *, within_s: float = WITHIN_S, ignoring: tuple[type, ...] = ()) -> T:
        """The next message, which must be a `kind`; messages of the types `ignoring` are passed over.

        Raises AssertionError if another comes, or none within `within_s` seconds.
        """
        deadline = trio.current_time() + within_s
        while True:
            env = await self._next(deadline)
            assert env is not None, f"{self.name}: no {kind.__name__} within {within_s:g} s"
            if not isinstance(env.msg, ignoring):
                break
        assert isinstance(env.msg, kind), f"{self.name}: {env.msg!r} instead of {kind.__name__}"
        self.envelope = env
        return env.msg

    async def expect_nothing(self, within_s: float = WITHIN_S) -> None:
        """Raises AssertionError if any message comes within `within_s` seconds."""
        env = await self._next(trio.current_time() + within_s)
        assert env is None, f"{self.name}: unexpected {env.msg!r}"


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[Supervisor]:
    """Run a tree while the block runs; the block starts when the tree is ready, and the tree then stops in order.

    A single error, of the block or of the tree, comes out bare; several come out as a group.
    """
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run, supervisor.address)
            await supervisor.address.wait_ready()
            await trio.lowlevel.checkpoint()  # if it failed instead, the block must not run
            try:
                yield supervisor
            finally:
                supervisor.address.tell(Stop(), system=True)
                with trio.move_on_after(STOP_WITHIN_S, shield=True):
                    await supervisor.address.wait_gone()
                nursery.cancel_scope.cancel(reason="the block is over")
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__


def struct_codec(msg: Any) -> Any:
    """Round-trip a Struct through MessagePack as its own type. Raises what msgspec raises if it does not survive."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(msg), type=type(msg))


@contextmanager
def serialized(codec: Callable[[Any], Any] = struct_codec) -> Iterator[None]:
    """Send every told and asked message through `codec` while the block runs, as if each actor were on a machine
    of its own. The runtime's own messages (Stop, Down, Failed, Inspect) are exempt: they never travel.
    """
    before, _address._wire = _address._wire, codec
    try:
        yield
    finally:
        _address._wire = before


class PatientClock(trio.abc.Clock):
    """Real time, of which only what this process has lived through is counted.

    Between two looks at it the clock moves by `step_s` at most, and it is looked at three times as often. So when the
    machine does something else for a second, both ends of a wire in this process (a driver and its double, a server and
    a client) see the hundredths of a second that they themselves had, and no deadline between them runs out for it. It
    never runs ahead of real time: a wait of 1 s takes 1 s or longer. What blocks the event loop does not show on it;
    measure that with `time.perf_counter`. `wait_all_tasks_blocked` needs a cushion below a third of the step.
    """

    def __init__(self, step_s: float = PATIENT_STEP_S) -> None:
        self._step_s = step_s

    def start_clock(self) -> None:
        self._now = PATIENT_BEGINS_S
        self._seen = time.perf_counter()

    def current_time(self) -> float:
        seen = time.perf_counter()
        self._now += min(seen - self._seen, self._step_s)
        self._seen = seen
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return min(deadline - self.current_time(), self._step_s / 3)


def patient_time(request: pytest.FixtureRequest) -> None:
    """Run the test of `request` on a `PatientClock`; one that asks for `autojump_clock` keeps that.

    For a whole module: `patient = pytest.fixture(autouse=True)(patient_time)`.
    """
    _patiently(request, PATIENT_STEP_S)


def patient_time_with_processes(request: pytest.FixtureRequest) -> None:
    """The same for a test that talks to processes of its own, whose clocks go on: only whole halts are left out."""
    _patiently(request, PATIENT_WITH_PROCESSES_STEP_S)


def _patiently(request: pytest.FixtureRequest, step_s: float) -> None:
    import pytest

    def run(main: Callable[..., Any], *arguments: Any, clock: trio.abc.Clock | None = None, **more: Any) -> Any:
        return trio.run(main, *arguments, clock=clock or PatientClock(step_s), **more)

    if request.node.get_closest_marker("trio") is not None:  # a test without the event loop has no clock
        request.node.add_marker(pytest.mark.trio(run=run), append=False)
