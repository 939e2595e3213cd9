"""Supervision: restarts, strategies, intensity, backoff, readiness, children at run time."""

import itertools
import random

import msgspec
import pytest
import trio

from core import (
    ActorDown,
    Address,
    AskTimeout,
    Child,
    Down,
    NoticeKind,
    Reason,
    Restart,
    Stop,
    Strategy,
    Supervisor,
    TooManyRestarts,
    current_trace,
)
from core.testing import Probe, running


class Hello(msgspec.Struct, frozen=True):
    pass


class Work(msgspec.Struct, frozen=True):
    seconds: float


class Boom(msgspec.Struct, frozen=True):
    pass


class Release(msgspec.Struct, frozen=True):
    pass


class Actor:
    """Answers with its incarnation; works and crashes when told to; `slow_s` before it is ready."""

    def __init__(self, name, *, slow_s=0.0, log=None):
        self.address = Address(name)
        self.slow_s = slow_s
        self.log = [] if log is None else log

    async def main(self, me):
        self.log.append(("start", me.name, trio.current_time()))
        await trio.sleep(self.slow_s)
        while True:
            env = await me.receive()
            match env.msg:
                case Stop():
                    self.log.append(("stop", me.name, trio.current_time()))
                    return
                case Boom():
                    raise RuntimeError("boom")
                case Work(seconds):
                    await trio.sleep(seconds)
            self.log.append((type(env.msg).__name__, me.name, trio.current_time()))
            env.reply(me.incarnation)

    def child(self, **options):
        return Child(self.address, self.main, **options)


def events(log, *kinds):
    return [f"{kind} {name}" for kind, name, _ in log if kind in kinds]


def incarnations(*actors):
    return [actor.address.incarnation for actor in actors]


# -- restart ---------------------------------------------------------------------------------------------------------


async def test_a_crash_fails_the_held_question_at_once_and_queued_ones_survive(autojump_clock):
    gate, got = Actor("gate"), []

    async def asker(msg):
        try:
            answer = await gate.address.ask(msg, 5)
        except ActorDown as error:
            answer = error
        got.append((answer, trio.current_time() - started))

    async with running(Supervisor("s", [gate.child()], jitter=0.0)):
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asker, Boom())
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(asker, Hello())
    assert str(got[0][0]) == "gate: died of RuntimeError('boom')"
    assert got[0][1] == 0.0  # not at its deadline
    assert got[1] == (2, pytest.approx(0.1))  # answered by the next incarnation, after the backoff


async def test_answers_that_the_actor_owed_fail_at_once_too(autojump_clock):
    """A group commit keeps many envelopes before it answers them all."""
    failed = []

    async def writer(me):
        while not isinstance((env := await me.receive()).msg, Stop):
            if isinstance(env.msg, Boom):
                raise RuntimeError

    async def asker(address):
        with pytest.raises(ActorDown):
            await address.ask(Hello(), 60)
        failed.append(trio.current_time())

    address, probe = Address("writer"), Probe()
    async with running(Supervisor("s", [Child(address, writer)])):
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(asker, address)
            await trio.testing.wait_all_tasks_blocked()
            address.tell(Hello(), reply_to=probe)
            address.tell(Boom())
        assert failed == [started] * 5
        assert isinstance((await probe.expect(object)).error, ActorDown)


async def test_an_answered_message_is_no_dead_letter_when_the_actor_dies_afterwards(autojump_clock):
    async def main(me):
        while not isinstance((env := await me.receive()).msg, Stop):
            env.reply("ok")
            raise RuntimeError

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        assert await address.ask(Hello(), 1) == "ok"
        await trio.sleep(1)
        assert address.dead_letters is None or address.dead_letters.total == 0
        assert address.last_error == "RuntimeError()"


async def test_a_release_told_while_the_actor_is_down_is_read_by_the_next_incarnation(autojump_clock):
    gate = Actor("gate")
    async with running(Supervisor("s", [gate.child()], backoff_s=5.0)):
        gate.address.tell(Boom())
        await trio.sleep(1)
        assert not gate.address.alive
        gate.address.tell(Hello())
        gate.address.tell(Release(), system=True)
        await trio.sleep(10)
        assert events(gate.log, "Release", "Hello") == ["Release gate", "Hello gate"]


@pytest.mark.parametrize(
    ("restart", "crash", "expected"),
    [
        (Restart.PERMANENT, True, 2),
        (Restart.PERMANENT, False, 2),
        (Restart.TRANSIENT, True, 2),
        (Restart.TRANSIENT, False, 1),
        (Restart.TEMPORARY, True, 1),
        (Restart.TEMPORARY, False, 1),
    ],
)
async def test_restart_types(restart, crash, expected, autojump_clock):
    actor = Actor("a")
    async with running(Supervisor("s", [actor.child(restart=restart)])):
        actor.address.tell(Boom() if crash else Stop())
        await trio.sleep(5)
        assert actor.address.incarnation == expected
        assert actor.address.alive == (expected == 2)


async def test_what_waits_for_an_actor_that_will_not_return_is_a_dead_letter(autojump_clock):
    actor = Actor("a")
    async with running(Supervisor("s", [actor.child(restart=Restart.TEMPORARY)])) as site:
        actor.address.tell(Boom())
        for _ in range(3):
            actor.address.tell(Hello())
        await trio.testing.wait_all_tasks_blocked()
        assert site.address.dead_letters is None
        assert actor.address.dead_letters.counts == {
            ("a", "Boom", Reason.CRASHED): 1,
            ("a", "Hello", Reason.DOWN): 3,
        }


# -- strategies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, [1, 2, 1]),
        (Strategy.REST_FOR_ONE, [1, 2, 2]),
        (Strategy.ONE_FOR_ALL, [2, 2, 2]),
    ],
)
async def test_strategies(strategy, expected, autojump_clock):
    log = []
    actors = [Actor(name, log=log) for name in ("db", "gate", "reader")]
    async with running(Supervisor("s", [actor.child() for actor in actors], strategy=strategy)):
        log.clear()
        actors[1].address.tell(Boom())
        await trio.sleep(5)
        assert incarnations(*actors) == expected
        stopped = {"rest_for_one": ["reader"], "one_for_all": ["reader", "db"]}.get(strategy, [])
        started = {"rest_for_one": ["gate", "reader"], "one_for_all": ["db", "gate", "reader"]}.get(strategy, ["gate"])
        assert events(log, "stop", "start") == [*(f"stop {n}" for n in stopped), *(f"start {n}" for n in started)]


async def test_two_crashes_at_once_in_a_group_are_one_restart(autojump_clock):
    actors = [Actor(name) for name in ("a", "b", "c")]
    async with running(
        Supervisor("s", [actor.child() for actor in actors], strategy=Strategy.ONE_FOR_ALL, intensity=1)
    ):
        for actor in actors:
            actor.address.tell(Boom())
        await trio.sleep(5)
        assert incarnations(*actors) == [2, 2, 2]


async def test_a_crash_of_an_earlier_sibling_during_the_backoff_widens_the_group(autojump_clock):
    log = []
    actors = [Actor(name, log=log) for name in ("a", "b", "c")]
    tree = Supervisor(
        "s", [actor.child() for actor in actors], strategy=Strategy.REST_FOR_ONE, backoff_s=2.0, jitter=0.0
    )
    async with running(tree):
        log.clear()
        started = trio.current_time()
        actors[2].address.tell(Boom())
        await trio.sleep(1)
        actors[0].address.tell(Boom())
        await trio.sleep(10)
        assert events(log, "stop", "start") == ["stop b", "start a", "start b", "start c"]
        assert [at - started for kind, _, at in log if kind == "start"] == pytest.approx([3.0, 3.0, 3.0])


async def test_a_group_restart_starts_in_order_and_waits_for_readiness(autojump_clock):
    log = []
    actors = [Actor(name, slow_s=1.0, log=log) for name in ("a", "b")]
    tree = Supervisor("s", [actor.child() for actor in actors], strategy=Strategy.ONE_FOR_ALL, backoff_s=0.0)
    async with running(tree):
        log.clear()
        started = trio.current_time()
        actors[0].address.tell(Boom())
        await trio.sleep(5)
        assert [(name, at - started) for kind, name, at in log if kind == "start"] == [
            ("a", pytest.approx(0.0)),
            ("b", pytest.approx(1.0)),
        ]


async def test_a_temporary_child_goes_down_with_its_group_and_stays_down(autojump_clock):
    first, passing = Actor("first"), Actor("passing")
    tree = Supervisor("s", [first.child(), passing.child(restart=Restart.TEMPORARY)], strategy=Strategy.REST_FOR_ONE)
    async with running(tree):
        first.address.tell(Boom())
        await trio.sleep(5)
        assert incarnations(first, passing) == [2, 1]
        assert not passing.address.alive
        with pytest.raises(ActorDown):
            await passing.address.ask(Hello(), 1)


async def test_stale_stop_does_not_kill_the_next_incarnation(autojump_clock):
    first, second = Actor("first"), Actor("second")
    tree = Supervisor("s", [first.child(), second.child(shutdown_s=1.0)], strategy=Strategy.REST_FOR_ONE)
    async with running(tree):
        second.address.tell(Work(100))
        await trio.testing.wait_all_tasks_blocked()
        first.address.tell(Boom())
        await trio.sleep(5)
        assert await second.address.ask(Hello(), 1) == 2
        assert second.address.alive


async def test_stale_stop_in_the_user_lane_is_forgotten_too(autojump_clock):
    actor = Actor("a")
    async with running(Supervisor("s", [actor.child()])):
        actor.address.tell(Boom())
        actor.address.tell(Stop())
        actor.address.tell(Hello())
        await trio.sleep(1)
        assert await actor.address.ask(Hello(), 1) == 2
        statistics = actor.address.statistics()
        assert (statistics.told, statistics.handled, statistics.dead, statistics.held) == (4, 3, 1, "")


# -- intensity and backoff -------------------------------------------------------------------------------------------


async def test_intensity_escalates_and_the_parent_tries_the_subtree_again(autojump_clock):
    gate, starts = Actor("gate"), []

    async def lane_main(me):
        starts.append(trio.current_time())
        await lane.run(me)

    lane = Supervisor("lane", [gate.child()], intensity=2, period_s=5, backoff_s=0.1)
    site = Supervisor("site", [Child(lane.address, lane_main)], intensity=1, period_s=60)
    with pytest.raises(TooManyRestarts) as info:
        async with running(site):
            for _ in range(6):
                await trio.testing.wait_all_tasks_blocked()
                gate.address.tell(Boom())
                await trio.sleep(1)
            pytest.fail("the site should have given up")
    assert len(starts) == 2
    assert gate.address.incarnation == 6
    assert str(info.value).startswith("site: gave up on lane")
    assert str(info.value.__cause__).startswith("lane: gave up on gate")
    assert str(info.value.__cause__.__cause__) == "boom"


async def test_queued_messages_survive_an_escalation(autojump_clock):
    gate = Actor("gate")
    lane = Supervisor("lane", [gate.child()], intensity=0)
    async with running(Supervisor("site", [Child(lane.address, lane.run)])):
        gate.address.tell(Boom())
        gate.address.tell(Hello())
        await trio.sleep(5)
        assert events(gate.log, "Hello") == ["Hello gate"]
        assert (lane.address.incarnation, gate.address.incarnation) == (2, 2)


async def test_crashes_far_apart_never_escalate(autojump_clock):
    gate = Actor("gate")
    async with running(Supervisor("s", [gate.child()], intensity=1, period_s=10)):
        for _ in range(10):
            gate.address.tell(Boom())
            await trio.sleep(11)
        assert gate.address.incarnation == 11


async def test_a_device_supervisor_never_gives_up(autojump_clock):
    """A reader that crashes at once, for a year; and the jitter of ten thousand failures overflows nothing."""

    async def flapping(me):
        raise OSError("no such device")

    reader, gate = Address("reader"), Actor("gate")
    devices = Supervisor(
        "devices", [Child(reader, flapping), gate.child()], escalate=False, backoff_max_s=3600, rng=random.Random(1)
    )
    async with running(Supervisor("site", [Child(devices.address, devices.run)])):
        await trio.sleep(365 * 86400)
        assert await gate.address.ask(Hello(), 1) == 1
        assert devices.address.incarnation == 1
        assert 8700 < reader.incarnation < 8900  # once an hour


def test_restarting_for_ever_needs_a_backoff():
    with pytest.raises(ValueError, match="needs a backoff"):
        Supervisor("devices", escalate=False, backoff_s=0.0)


async def test_backoff_doubles_per_child_up_to_its_limit_and_stays_there(autojump_clock):
    starts = []

    async def flapping(me):
        starts.append(trio.current_time())
        raise OSError

    tree = Supervisor(
        "s", [Child(Address("a"), flapping)], escalate=False, backoff_s=1.0, backoff_max_s=10.0, jitter=0.0
    )
    async with running(tree):
        await trio.sleep(60)
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert gaps == pytest.approx([1, 2, 4, 8, 10, 10, 10, 10])


async def test_a_long_life_ends_the_row_of_failures(autojump_clock):
    actor = Actor("a")
    tree = Supervisor("s", [actor.child()], escalate=False, backoff_s=1.0, backoff_max_s=10.0, jitter=0.0)
    async with running(tree):
        for _ in range(3):
            actor.address.tell(Boom())
            await trio.sleep(5)
        await trio.sleep(20)
        actor.log.clear()
        crashed = trio.current_time()
        actor.address.tell(Boom())
        await trio.sleep(5)
        assert actor.log[0][2] - crashed == pytest.approx(1.0)


async def test_jitter_spreads_restarts_and_can_be_seeded(autojump_clock):
    delays = []

    async def flapping(me):
        raise OSError

    def note(notice):
        if notice.kind is NoticeKind.RESTARTING:
            delays.append(notice.delay_s)

    for _ in range(2):
        children = [Child(Address(f"reader/{n}"), flapping) for n in range(20)]
        tree = Supervisor("s", children, escalate=False, backoff_s=10.0, jitter=0.1, rng=random.Random(7), hook=note)
        async with running(tree):
            await trio.sleep(5)
    assert delays[:20] == delays[20:]
    assert len(set(delays[:20])) == 20
    assert all(9.0 <= delay <= 11.0 for delay in delays)


async def test_one_flapping_reader_does_not_delay_a_gate(autojump_clock):
    reader, gate = Actor("reader"), Actor("gate")
    tree = Supervisor("s", [reader.child(), gate.child()], intensity=10, backoff_s=1.0, period_s=1.0, jitter=0.0)
    async with running(tree):
        for _ in range(4):
            reader.address.tell(Boom())
        await trio.sleep(3.5)  # the reader waits for its third restart
        gate.address.tell(Boom())
        started = trio.current_time()
        assert await gate.address.ask(Hello(), 60) == 2
        assert trio.current_time() - started == pytest.approx(1.0)


# -- start and readiness ---------------------------------------------------------------------------------------------


async def test_children_start_in_order_and_wait_for_readiness(autojump_clock):
    log = []
    actors = [Actor(name, slow_s=1.0, log=log) for name in ("db", "gate", "reader")]
    started = trio.current_time()
    async with running(Supervisor("s", [actor.child() for actor in actors])):
        assert trio.current_time() - started == pytest.approx(3.0)  # a supervisor is ready when its children are
    assert [(name, at - started) for kind, name, at in log if kind == "start"] == [
        ("db", pytest.approx(0.0)),
        ("gate", pytest.approx(1.0)),
        ("reader", pytest.approx(2.0)),
    ]


async def test_a_child_that_is_never_ready_does_not_block_its_siblings_for_ever(autojump_clock):
    notices = []
    mute, gate = Actor("mute", slow_s=1e9), Actor("gate")
    tree = Supervisor("s", [mute.child(ready_timeout_s=4.0, shutdown_s=0.1), gate.child()], hook=notices.append)
    started = trio.current_time()
    async with running(tree):
        assert trio.current_time() - started == pytest.approx(4.0)
        assert await gate.address.ask(Hello(), 1) == 1
        assert (mute.address.alive, mute.address.state, mute.address.ready) == (True, "starting", False)
    assert [(notice.child, notice.kind) for notice in notices] == [
        ("mute", NoticeKind.NOT_READY),
        ("mute", NoticeKind.KILLED),
    ]


async def test_a_crash_during_the_start_of_later_siblings_is_repaired_at_once(autojump_clock):
    """The first (safety!) must not wait for the last to become ready."""
    first, second = Actor("first"), Actor("second", slow_s=1e9)
    tree = Supervisor("s", [first.child(), second.child(ready_timeout_s=10.0, shutdown_s=0.1)], jitter=0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await first.address.wait_ready()
        started = trio.current_time()
        first.address.tell(Boom())
        assert await first.address.ask(Hello(), 5) == 2
        assert trio.current_time() - started == pytest.approx(0.1)
        nursery.cancel_scope.cancel()


async def test_a_child_that_dies_before_it_is_ready_does_not_block_the_start(autojump_clock):
    async def stillborn(me):
        raise RuntimeError

    gate = Actor("gate")
    tree = Supervisor("s", [Child(Address("a"), stillborn), gate.child()], escalate=False, backoff_s=100.0)
    started = trio.current_time()
    async with running(tree):
        assert trio.current_time() == started
        assert gate.address.ready


async def test_supervisors_nest_and_start_depth_first(autojump_clock):
    log = []
    a, b, c = (Actor(name, slow_s=0.5, log=log) for name in "abc")
    inner = Supervisor("inner", [a.child(), b.child()])
    async with running(Supervisor("outer", [Child(inner.address, inner.run), c.child()])):
        pass
    assert events(log, "start", "stop") == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


# -- children at run time --------------------------------------------------------------------------------------------


async def test_start_child_at_run_time_waits_until_it_is_ready(autojump_clock):
    actor = Actor("peer", slow_s=1.0)
    async with running(Supervisor("s")) as tree:
        started = trio.current_time()
        await tree.start_child(actor.child())
        assert trio.current_time() - started == pytest.approx(1.0)
        assert [child.address.name for child in tree.children] == ["peer"]
        assert await actor.address.ask(Hello(), 1) == 1
        actor.address.tell(Boom())
        assert await actor.address.ask(Hello(), 5) == 2  # supervised like the others


async def test_start_child_does_not_wait_for_ever(autojump_clock):
    notices = []
    mute = Actor("mute", slow_s=1e9)
    async with running(Supervisor("s", hook=notices.append)) as tree:
        started = trio.current_time()
        await tree.start_child(mute.child(ready_timeout_s=2.0, shutdown_s=0.1))
        assert trio.current_time() - started == pytest.approx(2.0)
        assert notices[0].kind is NoticeKind.NOT_READY


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_start_child_does_not_disturb_the_order_of_a_start_under_way(strategy, autojump_clock):
    log = []
    slow, later, extra = Actor("slow", slow_s=5.0, log=log), Actor("later", log=log), Actor("extra", log=log)
    tree = Supervisor("s", [slow.child(), later.child()], strategy=strategy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await trio.sleep(1)
        await tree.start_child(extra.child())
        await later.address.wait_ready()
        assert slow.address.ready
        assert events(log, "start") == ["start slow", "start extra", "start later"]
        nursery.cancel_scope.cancel()


async def test_two_children_of_one_name_are_refused(autojump_clock):
    with pytest.raises(ValueError, match="s has a child a already"):
        Supervisor("s", [Actor("a").child(), Actor("a").child()])
    async with running(Supervisor("s", [Actor("a").child()])) as tree:
        with pytest.raises(ValueError, match="already"):
            await tree.start_child(Actor("a").child())


async def test_a_passing_child_is_forgotten_when_it_ends_and_its_name_is_free(autojump_clock):
    async with running(Supervisor("s")) as tree:
        for _ in range(100):
            peer = Actor("peer")
            await tree.start_child(peer.child(restart=Restart.TEMPORARY))
            peer.address.tell(Stop())
            await peer.address.wait_gone()
            await trio.testing.wait_all_tasks_blocked()
            assert tree.children == ()


async def test_passing_children_do_not_come_back_with_their_supervisor(autojump_clock):
    fixed, peer = Actor("fixed"), Actor("peer")
    inner = Supervisor("inner", [fixed.child()], intensity=0)
    async with running(Supervisor("outer", [Child(inner.address, inner.run)])):
        await inner.start_child(peer.child(restart=Restart.TEMPORARY))
        fixed.address.tell(Boom())
        await trio.sleep(2)
        assert incarnations(fixed, peer) == [2, 1]
        assert [child.address.name for child in inner.children] == ["fixed"]


async def test_stop_child_is_for_good_and_what_waits_becomes_dead_letters(autojump_clock):
    gate = Actor("gate")
    async with running(Supervisor("s", [gate.child(shutdown_s=2.0)])) as tree:
        gate.address.tell(Work(100))
        await trio.testing.wait_all_tasks_blocked()
        gate.address.tell(Hello())
        failed = []

        async def asker():
            with pytest.raises(ActorDown):
                await gate.address.ask(Hello(), 60)
            failed.append(trio.current_time() - started)

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asker)
            await trio.testing.wait_all_tasks_blocked()
            await tree.stop_child("gate")
        assert failed == pytest.approx([2.0])
        assert trio.current_time() - started == pytest.approx(2.0)
        assert tree.children == ()
        gate.address.tell(Hello())  # no error for the teller
        assert gate.address.dead_letters.counts == {
            ("gate", "Work", Reason.CRASHED): 1,
            ("gate", "Hello", Reason.DOWN): 3,
        }
        with pytest.raises(KeyError):
            await tree.stop_child("gate")
        await trio.sleep(60)
        assert gate.address.incarnation == 1


async def test_a_stopped_child_can_be_started_again(autojump_clock):
    gate = Actor("gate")
    async with running(Supervisor("s", [gate.child()])) as tree:
        await tree.stop_child("gate")
        await tree.start_child(gate.child())
        assert await gate.address.ask(Hello(), 1) == 2


async def test_stopping_a_stuck_child_does_not_delay_the_restart_of_another(autojump_clock):
    stuck, gate = Actor("stuck"), Actor("gate")
    tree = Supervisor("s", [stuck.child(shutdown_s=50.0), gate.child()], jitter=0.0)
    async with running(tree):
        stuck.address.tell(Work(1000))
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.stop_child, "stuck")
            await trio.sleep(1)
            started = trio.current_time()
            gate.address.tell(Boom())
            assert await gate.address.ask(Hello(), 60) == 2
            assert trio.current_time() - started == pytest.approx(0.1)


async def test_stop_child_in_the_middle_of_a_group_restart_wins(autojump_clock):
    first, second = Actor("first"), Actor("second")
    tree = Supervisor("s", [first.child(), second.child()], strategy=Strategy.REST_FOR_ONE, backoff_s=1.0, jitter=0.0)
    async with running(tree):
        first.address.tell(Boom())
        await trio.sleep(0.5)  # both are down and due
        await tree.stop_child("second")
        await trio.sleep(5)
        assert incarnations(first, second) == [2, 1]


async def test_two_who_stop_the_same_child_both_see_it_gone(autojump_clock):
    gate = Actor("gate")
    async with running(Supervisor("s", [gate.child()])) as tree, trio.open_nursery() as nursery:
        nursery.start_soon(tree.stop_child, "gate")
        nursery.start_soon(tree.stop_child, "gate")


async def test_children_can_be_added_and_removed_before_the_supervisor_runs(autojump_clock):
    one, two = Actor("one"), Actor("two")
    tree = Supervisor("s", [one.child()])
    await tree.start_child(two.child())
    await tree.stop_child("one")
    async with running(tree):
        assert incarnations(one, two) == [0, 1]


# -- death watch -----------------------------------------------------------------------------------------------------


async def test_a_watcher_learns_of_each_death_before_anything_else(autojump_clock):
    reader, lane = Actor("reader"), Probe("lane", capacity=1000)
    async with running(Supervisor("s", [reader.child()])):
        reader.address.watch(lane)
        for n in range(2):
            for _ in range(100):
                lane.tell(Hello())
            reader.address.tell(Boom())
            await trio.sleep(1)
            assert await lane.expect(Down) == Down("reader", "RuntimeError('boom')")
            for _ in range(100):
                await lane.expect(Hello)
            assert reader.address.incarnation == n + 2


async def test_a_sleeping_watcher_is_woken(autojump_clock):
    reader, lane, woken = Actor("reader"), Probe("lane"), []

    async def wait():
        await lane.expect(Down, within_s=100)
        woken.append(trio.current_time())

    async with running(Supervisor("s", [reader.child()])), trio.open_nursery() as nursery:
        reader.address.watch(lane)
        nursery.start_soon(wait)
        await trio.sleep(7)
        crashed = trio.current_time()
        reader.address.tell(Boom())
        await trio.sleep(1)
        assert woken == [crashed]


async def test_watching_the_dead_is_answered_at_once(autojump_clock):
    lane = Probe("lane")
    Address("reader").watch(lane)
    assert await lane.expect(Down) == Down("reader", "not running")


async def test_reasons_of_a_death(autojump_clock):
    lane, ended, stopped = Probe("lane"), Actor("ended"), Actor("stopped")
    async with running(Supervisor("s", [ended.child(restart=Restart.TRANSIENT), stopped.child()])) as tree:
        ended.address.watch(lane)
        stopped.address.watch(lane)
        ended.address.tell(Stop())
        assert await lane.expect(Down) == Down("ended", "finished")
        await tree.stop_child("stopped")
        assert await lane.expect(Down) == Down("stopped", "stopped")


async def test_unwatch_and_double_watch(autojump_clock):
    reader, lane, other = Actor("reader"), Probe("lane"), Probe("other")
    async with running(Supervisor("s", [reader.child()])):
        reader.address.watch(lane)
        reader.address.watch(lane)
        reader.address.watch(other)
        reader.address.unwatch(other)
        reader.address.unwatch(other)
        reader.address.tell(Boom())
        await lane.expect(Down)
        await lane.expect_nothing()
        await other.expect_nothing()


async def test_a_dead_or_full_watcher_hurts_nobody(autojump_clock):
    reader, hung = Actor("reader"), Address("hung")
    async with running(Supervisor("s", [reader.child()], intensity=1000)):
        reader.address.watch(hung)
        for _ in range(200):
            reader.address.tell(Boom())
            await trio.sleep(20)
        assert reader.address.incarnation == 201
        assert hung.statistics().system_depth == 64


# -- pitfalls ----------------------------------------------------------------------------------------------------------


async def test_mutual_ask_is_broken_by_the_deadline(autojump_clock):
    a, b = Address("a"), Address("b")

    def asks(peer):
        async def main(me):
            while not isinstance((env := await me.receive()).msg, Stop):
                try:
                    env.reply(await peer.ask(Hello(), 1))
                except AskTimeout as error:
                    env.fail(error)

        return main

    async with running(Supervisor("s", [Child(a, asks(b)), Child(b, asks(a))])):
        started = trio.current_time()
        with pytest.raises(AskTimeout):
            await a.ask(Hello(), 1)
        assert trio.current_time() - started == pytest.approx(1)
        assert (a.incarnation, b.incarnation) == (1, 1)


async def test_notices_tell_the_story_of_a_crash_and_a_broken_hook_harms_nobody(autojump_clock):
    gate, notices = Actor("gate"), []

    def hook(notice):
        notices.append(notice)
        raise OSError("disk full")

    inner = Supervisor("inner", [gate.child()], intensity=1, jitter=0.0)
    with pytest.raises(TooManyRestarts):
        async with running(Supervisor("outer", [Child(inner.address, inner.run)], intensity=0, hook=hook)):
            for _ in range(2):
                gate.address.tell(Boom())
                await trio.sleep(1)
    assert [(notice.supervisor, notice.child, notice.kind.value) for notice in notices] == [
        ("inner", "gate", "crashed"),
        ("inner", "gate", "restarting"),
        ("inner", "gate", "crashed"),
        ("inner", "gate", "gave_up"),
        ("outer", "inner", "crashed"),
        ("outer", "inner", "gave_up"),
    ]
    assert notices[1].delay_s == pytest.approx(0.1)
    assert isinstance(notices[0].error, RuntimeError)


async def test_a_question_to_a_supervisor_fails_instead_of_waiting(autojump_clock):
    async with running(Supervisor("s")) as tree:
        with pytest.raises(Exception, match="is a supervisor and does not take Hello"):
            await tree.address.ask(Hello(), 5)


async def test_an_address_runs_once_at_a_time(autojump_clock):
    gate = Actor("gate")
    async with running(Supervisor("one", [gate.child()])):
        with pytest.raises(RuntimeError, match="gate runs already"):
            async with running(Supervisor("two", [gate.child()])):
                pytest.fail("two supervisors of one address")
        assert await gate.address.ask(Hello(), 1) == 1


async def test_a_child_started_while_handling_a_message_does_not_inherit_its_trace(autojump_clock):
    peer, traces = Address("peer"), []

    async def peer_main(me):
        traces.append(current_trace())
        await me.receive()

    async def door(me):
        while not isinstance((env := await me.receive()).msg, Stop):
            await tree.start_child(Child(peer, peer_main))
            traces.append(env.trace)

    address = Address("door")
    tree = Supervisor("s", [Child(address, door)])
    async with running(tree):
        address.tell(Hello(), trace="abc")
        await trio.testing.wait_all_tasks_blocked()
    assert traces == ["", "abc"]


async def test_stopping_a_whole_subtree_for_good_buries_what_waits_below(autojump_clock):
    for how in ("stop_child", "stop"):
        hung = Address("hung")

        async def hangs(me):
            await me.receive()
            await trio.sleep_forever()

        inner = Supervisor("inner", [Child(hung, hangs, shutdown_s=0.1)])
        async with running(Supervisor("outer", [Child(inner.address, inner.run)])) as outer:
            hung.tell(Hello())
            await trio.testing.wait_all_tasks_blocked()
            hung.tell(Hello())
            if how == "stop_child":
                await outer.stop_child("inner")
        assert hung.dead_letters.counts == {("hung", "Hello", Reason.CRASHED): 1, ("hung", "Hello", Reason.DOWN): 1}


async def test_a_subtree_that_is_restarted_with_its_group_keeps_what_waits_below(autojump_clock):
    first, gate = Actor("first"), Actor("gate")
    inner = Supervisor("inner", [gate.child()])
    tree = Supervisor("s", [first.child(), Child(inner.address, inner.run)], strategy=Strategy.REST_FOR_ONE)
    async with running(tree):
        gate.address.tell(Work(1.0))
        await trio.testing.wait_all_tasks_blocked()
        gate.address.tell(Hello())
        first.address.tell(Boom())
        await trio.sleep(10)
        assert events(gate.log, "Hello", "stop", "start") == ["start gate", "stop gate", "start gate", "Hello gate"]
