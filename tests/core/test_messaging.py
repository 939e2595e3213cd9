"""tell, ask, put, reply_to, trace: the ways to talk to an actor."""

from typing import ClassVar

import msgspec
import pytest
import trio

from core import (
    ActorDown,
    Address,
    AskTimeout,
    Child,
    Expired,
    Failed,
    MailboxFull,
    Reason,
    Restart,
    Stop,
    Supervisor,
    current_trace,
    new_trace,
)
from core.testing import Probe, running


class Open(msgspec.Struct, frozen=True):
    n: int = 0


class Work(msgspec.Struct, frozen=True):
    seconds: float


class Boom(msgspec.Struct, frozen=True):
    pass


class Refused(Exception):
    pass


class Refuse(msgspec.Struct, frozen=True):
    pass


class Audit(msgspec.Struct, frozen=True):
    overflow: ClassVar[str] = "wait"
    n: int


class Gate:
    """Counts what it opened; works, refuses and crashes when told to."""

    def __init__(self, *, capacity=64):
        self.address = Address("gate", capacity=capacity)
        self.opened = []
        self.traces = []

    async def main(self, me):
        while True:
            env = await me.receive()
            self.traces.append((me.trace, current_trace()))
            match env.msg:
                case Stop():
                    return
                case Boom():
                    raise RuntimeError("boom")
                case Refuse():
                    env.fail(Refused("no"))
                case Work(seconds):
                    await trio.sleep(seconds)
                    env.reply("done")
                case _:
                    self.opened.append(env.msg.n)
                    env.reply(env.msg.n)

    def tree(self, **options):
        options.setdefault("backoff_s", 0.1)
        return Supervisor("site", [Child(self.address, self.main)], **options)


async def test_ask_returns_the_answer(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        assert await gate.address.ask(Open(7), 1.0) == 7


async def test_ask_raises_the_error_the_actor_answered_with_and_the_actor_lives_on(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        with pytest.raises(Refused, match="no"):
            await gate.address.ask(Refuse(), 1.0)
        assert gate.address.incarnation == 1


async def test_ask_of_a_busy_actor_times_out_and_says_that_it_was_not_read(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        gate.address.tell(Work(10))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Expired, match="did not read Open within 2 s"):
            await gate.address.ask(Open(), 2.0)
        assert gate.address.statistics().depth == 0  # taken back at once: its place is free again


async def test_ask_that_was_read_times_out_with_outcome_unknown(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        with pytest.raises(AskTimeout) as info:
            await gate.address.ask(Work(10), 2.0)
        assert not isinstance(info.value, Expired)


async def test_expired_open_is_never_executed(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        gate.address.tell(Work(10))
        gate.address.tell(Open(1), deadline=trio.current_time() + 2)
        gate.address.tell(Open(2), deadline=trio.current_time() + 20)
        with pytest.raises(Expired):
            await gate.address.ask(Open(3), 5.0)
        await trio.sleep(30)
        assert gate.opened == [2]
        letters = gate.address.dead_letters.counts
        assert letters == {("gate", "Open", Reason.EXPIRED): 2}


async def test_a_message_due_exactly_at_its_deadline_is_too_late(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        gate.address.tell(Work(5))
        gate.address.tell(Open(1), deadline=trio.current_time() + 5)
        await trio.sleep(6)
        assert gate.opened == []


async def test_expired_in_the_middle_of_a_burst_is_dropped(autojump_clock):
    """The short path of receive, which reads no clock for messages without a deadline, looks at those with one."""
    gate = Gate()
    async with running(gate.tree()):
        gate.address.tell(Work(5))
        for n in range(10):
            gate.address.tell(Open(n), deadline=trio.current_time() + (2 if n % 3 == 0 else 100))
        await trio.sleep(6)
        assert gate.opened == [1, 2, 4, 5, 7, 8]


async def test_the_message_carries_the_tightest_deadline_around_the_caller(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        gate.address.tell(Work(10))
        with trio.move_on_after(2):
            await gate.address.ask(Open(1), 60.0)
        await trio.sleep(20)
        assert gate.opened == []


async def test_a_cancelled_asker_takes_its_unread_question_back(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        gate.address.tell(Work(10))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.address.ask, Open(1), 60.0)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await trio.sleep(20)
        assert gate.opened == []
        assert gate.address.dead_letters.counts == {("gate", "Open", Reason.EXPIRED): 1}


async def test_an_answer_between_the_cancellation_and_the_turn_of_the_asker_harms_nobody(autojump_clock):
    """Both happen before the asker runs again; its task must be woken once."""
    address = Address("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(address.ask, Open(), 1000.0)
        await trio.testing.wait_all_tasks_blocked()
        env = await address.receive()
        nursery.cancel_scope.cancel()
        env.reply("late")
    assert nursery.cancel_scope.cancelled_caught
    assert env.answered


async def test_an_ask_in_a_cancelled_scope_sends_nothing(autojump_clock):
    gate = Gate()
    with trio.CancelScope() as scope:
        scope.cancel()
        await gate.address.ask(Open(1), 1.0)
    assert scope.cancelled_caught
    assert gate.address.statistics().told == 0


async def test_answering_after_the_asker_gave_up_does_nothing(autojump_clock):
    gate = Gate()
    async with running(gate.tree()):
        with pytest.raises(AskTimeout):
            await gate.address.ask(Work(10), 2.0)
        assert await gate.address.ask(Open(1), 20.0) == 1  # the late reply("done") reached nobody


async def test_the_first_answer_wins(autojump_clock):
    async def main(me):
        while not isinstance((env := await me.receive()).msg, Stop):
            assert not env.answered and env.wanted
            env.reply("first")
            assert env.answered and not env.wanted
            env.reply("second")
            env.fail(Refused())

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        assert await address.ask(Open(), 1.0) == "first"


async def test_an_answer_may_come_after_the_next_message_was_read(autojump_clock):
    async def collects_three(me):
        kept = []
        while not isinstance((env := await me.receive()).msg, Stop):
            kept.append(env)
            if len(kept) == 3:
                for i, env in enumerate(kept):
                    env.reply(i)
                kept.clear()

    address, got = Address("writer"), []

    async def asker():
        got.append(await address.ask(Open(), 5.0))

    async with running(Supervisor("s", [Child(address, collects_three)])), trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(asker)
    assert sorted(got) == [0, 1, 2]


# -- an ask whose answer is an event -------------------------------------------------------------------------------


async def test_reply_to_gets_the_answer_with_the_trace(autojump_clock):
    gate, probe = Gate(), Probe()
    async with running(gate.tree()):
        gate.address.tell(Open(3), reply_to=probe, trace="abc")
        assert await probe.expect(int) == 3
        assert probe.envelope.trace == "abc"


async def test_reply_to_gets_failed_when_the_actor_refuses(autojump_clock):
    gate, probe = Gate(), Probe()
    async with running(gate.tree()):
        gate.address.tell(Refuse(), reply_to=probe)
        failed = await probe.expect(Failed)
        assert failed.msg == Refuse()
        assert isinstance(failed.error, Refused)


async def test_reply_to_gets_failed_at_once_when_the_actor_dies(autojump_clock):
    gate, probe = Gate(), Probe()
    async with running(gate.tree()):
        gate.address.tell(Boom(), reply_to=probe)
        failed = await probe.expect(Failed, within_s=0.0001)
        assert isinstance(failed.error, ActorDown)
        assert isinstance(failed.error.__cause__, RuntimeError)


async def test_reply_to_gets_failed_when_the_message_came_too_late(autojump_clock):
    gate, probe = Gate(), Probe()
    async with running(gate.tree()):
        gate.address.tell(Work(5))
        gate.address.tell(Open(1), reply_to=probe, deadline=trio.current_time() + 1)
        failed = await probe.expect(Failed, within_s=10)
        assert isinstance(failed.error, Expired)
        assert gate.opened == []


async def test_reply_to_gets_failed_when_the_actor_is_stopped_for_good(autojump_clock):
    gate, probe = Gate(), Probe()
    async with running(gate.tree()) as site:
        await site.stop_child("gate")
        gate.address.tell(Open(1), reply_to=probe)
        assert isinstance((await probe.expect(Failed)).error, ActorDown)


async def test_an_answer_gets_into_a_full_mailbox_because_it_was_asked_for(autojump_clock):
    gate, lane = Gate(), Probe("lane", capacity=2)
    async with running(gate.tree()):
        lane.tell(Open(1))
        lane.tell(Open(2))
        gate.address.tell(Open(9), reply_to=lane)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(MailboxFull):
            lane.tell(Open(3))
        await lane.expect(Open)
        await lane.expect(Open)
        assert await lane.expect(int) == 9


async def test_answers_are_bounded_too_and_the_answerer_does_not_suffer(autojump_clock):
    gate, lane = Gate(capacity=1000), Probe("lane", capacity=2)
    async with running(gate.tree()):
        for n in range(100):
            gate.address.tell(Open(n), reply_to=lane)
        await trio.testing.wait_all_tasks_blocked()
        assert lane.statistics().depth == 2 + 64
        assert lane.dead_letters.counts == {("lane", "int", Reason.FULL): 34}
        assert gate.address.incarnation == 1


# -- put -------------------------------------------------------------------------------------------------------------


async def test_put_waits_for_room_and_keeps_the_order(autojump_clock):
    async def slow(me):
        while not isinstance((env := await me.receive()).msg, Stop):
            await trio.sleep(1)
            got.append(env.msg.n)

    address, got = Address("audit", capacity=2), []
    async with running(Supervisor("s", [Child(address, slow)])):
        for n in range(8):
            await address.put(Audit(n))
        await trio.sleep(10)
        assert got == list(range(8))
        assert address.statistics().refused == 0


async def test_several_putters_all_get_through(autojump_clock):
    async def slow(me):
        while not isinstance((env := await me.receive()).msg, Stop):
            await trio.sleep(0.1)
            got.append(env.msg.n)

    address, got = Address("audit", capacity=1), []
    async with running(Supervisor("s", [Child(address, slow)])):
        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(address.put, Audit(n))
        await trio.sleep(1)
        assert sorted(got) == list(range(20))


async def test_put_gives_up_at_the_deadline_and_then_nothing_was_queued(autojump_clock):
    address = Address("audit", capacity=1)
    address.tell(Audit(1))
    started = trio.current_time()
    with pytest.raises(MailboxFull):
        await address.put(Audit(2), deadline=started + 3)
    assert trio.current_time() - started == pytest.approx(3)
    assert address.statistics().depth == 1


async def test_put_never_waits_for_ever(autojump_clock):
    address = Address("audit", capacity=1)
    address.tell(Audit(1))
    started = trio.current_time()
    with pytest.raises(MailboxFull):
        await address.put(Audit(2))
    assert trio.current_time() - started == pytest.approx(30)


async def test_a_cancelled_put_queues_nothing(autojump_clock):
    address = Address("audit", capacity=1)
    address.tell(Audit(1))
    with trio.move_on_after(1) as scope:
        await address.put(Audit(2))
    assert scope.cancelled_caught
    assert address.statistics().told == 1


async def test_put_to_an_actor_stopped_meanwhile_is_a_dead_letter_at_once(autojump_clock):
    gate = Gate(capacity=1)
    async with running(gate.tree()) as site:
        gate.address.tell(Work(1000))
        await trio.testing.wait_all_tasks_blocked()
        gate.address.tell(Open(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.address.put, Audit(1))
            await trio.testing.wait_all_tasks_blocked()
            await site.stop_child("gate")
        assert gate.address.dead_letters.counts["gate", "Audit", Reason.DOWN] == 1


async def test_a_wait_message_told_to_a_full_mailbox_is_refused(autojump_clock):
    address = Address("audit", capacity=1)
    address.tell(Audit(1))
    with pytest.raises(MailboxFull):
        address.tell(Audit(2))


# -- trace -----------------------------------------------------------------------------------------------------------


async def test_the_trace_follows_a_message_through_actors_timers_and_answers(autojump_clock):
    second, probe = Gate(), Probe()

    async def first(me):
        while True:
            env = await me.receive()
            match env.msg:
                case Stop():
                    return
                case Open(1):
                    me.set_timer("later", 1.0, Open(2))
                case Open():
                    second.address.tell(env.msg, reply_to=probe)

    address = Address("first")
    trace = new_trace()
    async with running(Supervisor("s", [Child(second.address, second.main), Child(address, first)])):
        address.tell(Open(1), trace=trace)
        assert await probe.expect(int, within_s=5) == 2
        assert probe.envelope.trace == trace
        assert second.traces == [(trace, trace)]
        second.address.tell(Open(5))  # a cause of its own
        await trio.testing.wait_all_tasks_blocked()
        assert second.traces[-1] == ("", "")


async def test_the_trace_of_a_crash_does_not_leak_into_the_next_incarnation(autojump_clock):
    seen = []

    async def main(me):
        seen.append(current_trace())
        while not isinstance((env := await me.receive()).msg, Stop):
            if isinstance(env.msg, Boom):
                raise RuntimeError

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        address.tell(Boom(), trace=new_trace())
        await trio.sleep(1)
    assert seen == ["", ""]


def test_traces_are_short_and_distinct():
    traces = {new_trace() for _ in range(1000)}
    assert len(traces) == 1000
    assert {len(trace) for trace in traces} == {12}


async def test_an_envelope_shows_no_content(autojump_clock):
    probe = Probe()
    probe.tell(Open(12345), trace="t")
    await probe.expect(Open)
    assert repr(probe.envelope) == "<Envelope Open trace=t>"


async def test_temporary_actor_that_ended_fails_asks_at_once(autojump_clock):
    async def once(me):
        env = await me.receive()
        env.reply("bye")

    address = Address("a")
    async with running(Supervisor("s", [Child(address, once, Restart.TEMPORARY)])):
        assert await address.ask(Open(), 1.0) == "bye"
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        with pytest.raises(ActorDown):
            await address.ask(Open(), 10.0)
        assert trio.current_time() == started


async def test_the_actor_sees_the_tightest_deadline_of_its_asker(autojump_clock):
    probe = Probe()
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 2
        nursery.start_soon(probe.ask, Open(), 60.0)
        await probe.expect(Open)
        assert probe.envelope.deadline == nursery.cancel_scope.deadline
        probe.envelope.reply()
