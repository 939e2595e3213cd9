"""Timers of an actor: keyed, absolute, and gone with the incarnation."""

import itertools

import msgspec
import pytest
import trio

from core import Address, Child, Stop, Supervisor
from core.testing import Probe, running


class Tick(msgspec.Struct, frozen=True):
    n: int = 0


class Poll(msgspec.Struct, frozen=True):
    pass


class Boom(msgspec.Struct, frozen=True):
    pass


async def test_a_timer_comes_in_its_time_whatever_else_arrives(autojump_clock):
    probe = Probe()
    started = trio.current_time()
    probe.set_timer("t", 5.0, Tick())

    async def poll():
        while True:
            await trio.sleep(0.3)
            probe.tell(Poll())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await probe.expect(Tick, within_s=10, ignoring=(Poll,))
        assert trio.current_time() - started == pytest.approx(5.0)
        nursery.cancel_scope.cancel()


async def test_timers_come_in_the_order_of_their_time_and_carry_it(autojump_clock):
    probe = Probe()
    started = trio.current_time()
    for n in (3, 1, 2):
        probe.set_timer(str(n), float(n), Tick(n))
    await trio.sleep(10)  # all late
    for n in (1, 2, 3):
        assert await probe.expect(Tick) == Tick(n)
        assert probe.envelope.told_at == pytest.approx(started + n)  # so lateness can be seen


async def test_the_same_key_replaces_and_cancel_forgets_even_a_due_one(autojump_clock):
    probe = Probe()
    probe.set_timer("a", 1.0, Tick(1))
    probe.set_timer("a", 2.0, Tick(2))
    probe.set_timer("b", 1.0, Tick(3))
    await trio.sleep(1.5)
    probe.cancel_timer("b")
    probe.cancel_timer("never set")
    started = trio.current_time()
    assert await probe.expect(Tick) == Tick(2)
    assert trio.current_time() - started == pytest.approx(0.5)
    assert probe.statistics().timers == 0


async def test_a_timer_set_by_a_helper_task_wakes_the_sleeping_actor(autojump_clock):
    probe = Probe()

    async def helper():
        await trio.sleep(1)
        probe.set_timer("t", 1.0, Tick())

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(helper)
        await probe.expect(Tick, within_s=10)
    assert trio.current_time() - started == pytest.approx(2.0)


async def test_a_restarted_actor_never_sees_the_timer_of_its_predecessor(autojump_clock):
    seen = []

    async def main(me):
        me.set_timer("t", 5.0, Tick(me.incarnation))
        while not isinstance((env := await me.receive()).msg, Stop):
            seen.append(env.msg)
            if isinstance(env.msg, Boom):
                raise RuntimeError

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        await trio.sleep(4)
        address.tell(Boom())
        await trio.sleep(20)
    assert seen == [Boom(), Tick(2)]


async def test_messages_are_read_while_a_timer_is_set(autojump_clock):
    probe = Probe()
    probe.set_timer("t", 100.0, Tick())
    for n in range(200):
        probe.tell(Tick(n))
    assert [(await probe.expect(Tick)).n for _ in range(200)] == list(range(200))


async def test_a_busy_actor_does_not_starve_its_neighbours(autojump_clock):
    """The reader yields every 64 messages, so somebody else runs long before 10,000 are done."""
    handled_when_seen = []

    async def busy(me):
        handled = 0
        while not isinstance((await me.receive()).msg, Stop):
            handled += 1
            progress[0] = handled

    async def neighbour():
        while progress[0] < 10_000:
            handled_when_seen.append(progress[0])
            await trio.lowlevel.checkpoint()

    progress = [0]
    address = Address("a", capacity=10_000)
    async with running(Supervisor("s", [Child(address, busy)])):
        for n in range(10_000):
            address.tell(Tick(n))
        await neighbour()
        await trio.testing.wait_all_tasks_blocked()
        assert (address.statistics().handled, address.statistics().told) == (10_000, 10_000)
    steps = [b - a for a, b in itertools.pairwise(handled_when_seen)]
    assert max(steps) <= 2 * 64  # Trio shuffles: one task may have two turns in a row, never three
    assert sorted(steps)[len(steps) // 2] <= 64
    assert len(steps) < 2 * 10_000 / 64  # and not much more often than that, which is what makes it fast


async def test_a_timer_of_the_last_incarnation_is_gone_even_if_the_next_sets_none(autojump_clock):
    async def main(me):
        if me.incarnation == 1:
            me.set_timer("t", 5.0, Tick())
        while not isinstance((env := await me.receive()).msg, Stop):
            if isinstance(env.msg, Boom):
                raise RuntimeError
            assert env.msg == Poll()

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        address.tell(Boom())
        await trio.sleep(1)
        assert address.statistics().timers == 0
        await trio.sleep(10)
        address.tell(Poll())
        await trio.sleep(1)
        assert address.incarnation == 2


@pytest.mark.parametrize("urgent", ["timer", "stop", "system"])
async def test_what_becomes_urgent_in_the_middle_of_a_burst_comes_next(urgent, autojump_clock):
    """The short path of `receive` must notice it."""
    seen = []

    async def main(me):
        while not isinstance((env := await me.receive()).msg, Stop):
            seen.append(env.msg)
            if env.msg == Tick(7):
                match urgent:
                    case "timer":
                        me.set_timer("t", 0.0, Poll())
                    case "system":
                        me.tell(Poll(), system=True)
                    case "stop":
                        me.tell(Stop(), system=True)
        seen.append(env.msg)

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        for n in range(50):
            address.tell(Tick(n))
        await trio.testing.wait_all_tasks_blocked()
        assert seen[:8] == [*map(Tick, range(8))]
        assert seen[8] == (Stop() if urgent == "stop" else Poll())


async def test_a_message_at_its_deadline_is_too_late_on_the_long_path_as_well(autojump_clock):
    probe = Probe()
    probe.tell(Tick(1), deadline=trio.current_time())
    probe.tell(Tick(2), deadline=trio.current_time() + 0.001)
    assert await probe.expect(Tick) == Tick(2)
