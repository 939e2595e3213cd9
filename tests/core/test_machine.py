"""State machines: a gate with a barrier that must come down again."""

import msgspec
import pytest
import trio

from core import ActorDown, Address, Child, Expired, Machine, MailboxFull, Reason, Restart, Stop, Supervisor
from core.testing import Probe, running


class Open(msgspec.Struct, frozen=True):
    pass


class Status(msgspec.Struct, frozen=True):
    pass


class Boom(msgspec.Struct, frozen=True):
    pass


class Release(msgspec.Struct, frozen=True):
    pass


class Tick(msgspec.Struct, frozen=True):
    pass


class Gate(Machine):
    """Opens for five seconds; an Open while it is open waits until it has closed."""

    def __init__(self, me, log):
        super().__init__(me)
        self.log = log

    async def closed(self):
        self.log.append(("closed", trio.current_time()))
        while True:
            env = await self.event()
            match env.msg:
                case Stop():
                    return None
                case Status():
                    env.reply("closed")
                case Boom():
                    raise RuntimeError("boom")
                case Release():
                    return self.released
                case _:
                    env.reply("opening")
                    return self.opened

    async def opened(self):
        self.log.append(("opened", trio.current_time()))
        self.state_timeout(5.0)
        while (env := await self.event()) is not None:
            match env.msg:
                case Stop():
                    return None
                case Status():
                    env.reply("opened")
                case Boom():
                    raise RuntimeError("boom")
                case Release():
                    return self.released
                case _:
                    self.postpone(env)
        return self.closed

    async def released(self):
        self.log.append(("released", trio.current_time()))
        while True:
            env = await self.event()
            match env.msg:
                case Stop():
                    return
                case Status():
                    env.reply("released")
                case _:
                    self.postpone(env)


def make(capacity=64, **child):
    log = []
    address = Address("gate", capacity=capacity)

    async def main(me):
        gate = Gate(me, log)
        await gate.run(gate.closed)

    return log, address, Supervisor("s", [Child(address, main, **child)])


async def test_status_polling_does_not_keep_the_gate_open(autojump_clock):
    _, gate, site = make()
    async with running(site):
        await gate.ask(Open(), 1)
        started = trio.current_time()
        while await gate.ask(Status(), 1) == "opened":
            await trio.sleep(0.1)
        assert trio.current_time() - started == pytest.approx(5, abs=0.2)


async def test_a_flood_does_not_keep_the_gate_open(autojump_clock):
    """The deadline is looked at before each message, not only when the mailbox is empty."""
    log, gate, site = make(capacity=10_000)
    async with running(site):
        await gate.ask(Open(), 1)
        opened = log[-1][1]

        for _ in range(600):
            while gate.statistics().depth < 500:
                gate.tell(Status())
            await trio.sleep(0.01)
        assert log[-1][0] == "closed"
        assert log[-1][1] - opened == pytest.approx(5, abs=0.02)


async def test_postponed_open_is_answered_after_the_gate_closes(autojump_clock):
    log, gate, site = make()
    async with running(site):
        await gate.ask(Open(), 1)
        started = trio.current_time()
        assert await gate.ask(Open(), 20) == "opening"
        assert trio.current_time() - started == pytest.approx(5)
        assert [state for state, _ in log] == ["closed", "opened", "closed", "opened"]


async def test_postponed_open_expires_instead_of_opening_late(autojump_clock):
    log, gate, site = make()
    async with running(site):
        await gate.ask(Open(), 1)
        with pytest.raises(Expired):
            await gate.ask(Open(), 2)
        gate.tell(Open(), deadline=trio.current_time() + 1)
        await trio.sleep(10)
        assert [state for state, _ in log] == ["closed", "opened", "closed"]
        assert gate.dead_letters.counts == {("gate", "Open", Reason.EXPIRED): 2}


async def test_postponed_messages_replay_in_their_order_before_newer_ones(autojump_clock):
    seen = []

    async def first(machine):
        for _ in range(3):
            machine.postpone(await machine.event())
        return second

    async def second(machine):
        while not isinstance((env := await machine.event()).msg, Stop):
            seen.append(env.msg)
            if len(seen) == 1:
                return second  # a transition in the middle keeps the rest in order
        return None

    async def main(me):
        await Machine(me).run(first)

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        for n in range(5):
            address.tell(n)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [0, 1, 2, 3, 4]


async def test_an_emergency_is_the_next_thing_it_reads_even_before_replays(autojump_clock):
    log, gate, site = make()
    async with running(site):
        await gate.ask(Open(), 1)
        for _ in range(10):
            gate.tell(Open())
        await trio.sleep(4.9)
        gate.tell(Release(), system=True)
        await trio.testing.wait_all_tasks_blocked()
        assert gate.state == "released"
        assert [state for state, _ in log] == ["closed", "opened", "released"]


async def test_crash_fails_postponed_asks_at_once(autojump_clock):
    _, gate, site = make()
    async with running(site):
        await gate.ask(Open(), 1)
        started, took = trio.current_time(), []

        async def waiter():
            with pytest.raises(ActorDown):
                await gate.ask(Open(), 60)
            took.append(trio.current_time() - started)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            gate.tell(Boom())
        assert took == [0.0]
        assert gate.dead_letters.counts == {("gate", "Boom", Reason.CRASHED): 1, ("gate", "Open", Reason.CRASHED): 1}


async def test_postponing_is_bounded_and_one_too_many_is_refused(autojump_clock):
    _, gate, site = make(capacity=200)
    async with running(site):
        await gate.ask(Open(), 1)
        for _ in range(64):
            gate.tell(Open())
        started = trio.current_time()
        with pytest.raises(MailboxFull):
            await gate.ask(Open(), 60)
        assert trio.current_time() == started
        assert gate.statistics().depth == 64


async def test_only_the_event_just_received_can_be_postponed(autojump_clock):
    async def state(machine):
        env = await machine.event()
        machine.postpone(env)
        with pytest.raises(ValueError, match="only the message being handled"):
            machine.postpone(env)

    probe = Probe()
    probe.tell(Open())
    await Machine(probe).run(state)


async def test_the_state_deadline_fires_once_and_does_not_spin(autojump_clock):
    times = []

    async def state(machine):
        machine.state_timeout(1.0)
        for _ in range(2):
            with trio.move_on_after(5):
                times.append((await machine.event(), trio.current_time() - started))

    probe = Probe()
    started = trio.current_time()
    await Machine(probe).run(state)
    assert times == [(None, pytest.approx(1.0))]


async def test_leaving_a_state_cancels_its_deadline_and_reentering_starts_it_anew(autojump_clock):
    entered = []

    async def state(machine):
        entered.append(trio.current_time() - started)
        machine.state_timeout(2.0)
        if (env := await machine.event()) is None or isinstance(env.msg, Stop):
            return None
        return state

    probe = Probe()
    started = trio.current_time()

    async def teller():
        for _ in range(3):
            await trio.sleep(1.5)
            probe.tell(Tick())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller)
        await Machine(probe).run(state)
    assert entered == pytest.approx([0.0, 1.5, 3.0, 4.5])
    assert trio.current_time() - started == pytest.approx(6.5)


async def test_timers_come_before_the_end_of_the_state(autojump_clock):
    async def state(machine):
        machine.state_timeout(1.0)
        machine.me.set_timer("t", 1.0, Tick())
        await trio.sleep(2)
        first, second = await machine.event(), await machine.event()
        assert first.msg == Tick() and second is None

    await Machine(Probe()).run(state)


async def test_the_state_is_shown(autojump_clock):
    _, gate, site = make()
    async with running(site):
        assert (gate.kind, gate.state) == ("machine", "closed")
        await gate.ask(Open(), 1)
        assert gate.state == "opened"
        await trio.sleep(6)
        assert gate.state == "closed"
    assert gate.state == "stopped"


async def test_a_crash_starts_again_in_the_first_state(autojump_clock):
    log, gate, site = make()
    async with running(site):
        await gate.ask(Open(), 1)
        gate.tell(Boom())
        await trio.sleep(1)
        assert gate.state == "closed"
        assert [state for state, _ in log] == ["closed", "opened", "closed"]


async def test_a_machine_that_ends_ends_its_actor(autojump_clock):
    _, gate, site = make(restart=Restart.TRANSIENT)
    async with running(site):
        gate.tell(Stop(), system=True)
        await trio.testing.wait_all_tasks_blocked()
        assert not gate.alive
        assert gate.incarnation == 1


async def test_cancelling_an_event_loses_no_message(autojump_clock):
    async def state(machine):
        with trio.move_on_after(1):
            await machine.event()
        machine.me.tell(Tick())
        with trio.CancelScope() as scope:
            scope.cancel()
            env = await machine.event()  # there is one: taken without a checkpoint
        assert env.msg == Tick()

    await Machine(Probe()).run(state)


async def test_a_released_gate_stays_released_when_the_time_of_the_state_before_is_up(autojump_clock):
    _, gate, site = make()
    async with running(site):
        await gate.ask(Open(), 1)
        gate.tell(Release(), system=True)
        await trio.sleep(20)
        assert (gate.state, gate.incarnation) == ("released", 1)


async def test_the_end_of_the_state_comes_before_what_waits(autojump_clock):
    handled = []

    async def state(machine):
        machine.state_timeout(1.0)
        while (env := await machine.event()) is not None:
            handled.append(env.msg)
            await trio.sleep(0.3)

    probe = Probe()
    for n in range(100):
        probe.tell(n)
    await Machine(probe).run(state)
    assert handled == [0, 1, 2, 3]


async def test_what_a_machine_postponed_to_its_end_is_what_plain_receive_reads_next(autojump_clock):
    async def state(machine):
        machine.postpone(await machine.event())
        assert (await machine.event()).msg == 2

    probe = Probe()
    for n in range(4):
        probe.tell(n)
    assert (await probe.receive()).msg == 0
    probe._credit = 9  # as in a burst
    probe.tell(0)
    await Machine(probe).run(state)
    assert [(await probe.receive()).msg for _ in range(2)] == [1, 3]


async def test_the_name_of_a_private_state_is_shown_without_its_underscore(autojump_clock):
    async def _idle(machine):
        await machine.event()

    async def main(me):
        await Machine(me).run(_idle)

    address = Address("lane")
    async with running(Supervisor("site", [Child(address, main)])):
        assert address.state == "idle"
