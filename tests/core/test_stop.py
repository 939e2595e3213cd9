"""Stopping: in reverse order, bounded, whatever happens meanwhile; and what is no crash."""

import msgspec
import pytest
import trio

from core import ActorDown, Address, Child, NoticeKind, Restart, Stop, Strategy, Supervisor
from core.testing import running


class Hello(msgspec.Struct, frozen=True):
    pass


class Boom(msgspec.Struct, frozen=True):
    pass


def child(name, log, *, cleanup_s=0.0, deaf=False, shutdown_s=2.0, **options):
    """Logs how it ended: in order, or cancelled. `deaf` ones do not listen to Stop."""

    async def main(me):
        try:
            while True:
                env = await me.receive()
                if isinstance(env.msg, Boom):
                    raise RuntimeError("boom")
                if isinstance(env.msg, Stop) and not deaf:
                    await trio.sleep(cleanup_s)
                    log.append(name)
                    return
        except trio.Cancelled:
            log.append(f"{name}: cancelled")
            raise

    return Child(Address(name), main, shutdown_s=shutdown_s, **options)


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stop_is_in_reverse_order_and_bounded(how, autojump_clock):
    log, notices = [], []
    children = [child("db", log), child("gate", log, cleanup_s=1.0), child("reader", log, deaf=True)]
    tree = Supervisor("s", children, hook=notices.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await tree.address.wait_ready()
        started = trio.current_time()
        if how == "stop":
            tree.address.tell(Stop(), system=True)
        else:
            nursery.cancel_scope.cancel()
    assert log == ["reader: cancelled", "gate", "db"]
    assert trio.current_time() - started == pytest.approx(3.0)
    assert [(notice.child, notice.kind) for notice in notices] == [("reader", NoticeKind.KILLED)]


async def test_every_bound_of_a_nested_tree_holds_although_the_parent_is_less_patient(autojump_clock):
    log = []
    inner = Supervisor("inner", [child("a", log, deaf=True, shutdown_s=3.0), child("b", log, cleanup_s=2.5)])
    inner_child = Child(inner.address, inner.run, shutdown_s=1.0)
    async with running(Supervisor("outer", [child("base", log), inner_child])):
        started = trio.current_time()
    assert log == ["b: cancelled", "a: cancelled", "base"]
    assert trio.current_time() - started <= 2.5 + 3.0 + 0.1


async def test_no_restart_in_the_middle_of_a_stop(autojump_clock):
    log = []
    crashing, slow = child("crashing", log), child("slow", log, cleanup_s=1.5)
    tree = Supervisor("s", [crashing, slow], backoff_s=0.1, intensity=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await tree.address.wait_ready()
        crashing.address.tell(Boom())
        await trio.testing.wait_all_tasks_blocked()
        tree.address.tell(Stop(), system=True)  # before its backoff is over
        await trio.sleep(1)
        assert crashing.address.incarnation == 1
    assert log == ["slow"]
    assert crashing.address.incarnation == 1


async def test_a_crash_in_the_middle_of_a_stop_is_noted_and_not_restarted(autojump_clock):
    log, notices = [], []

    async def crashes_at_stop(me):
        await me.receive()
        raise RuntimeError("in the clean-up")

    bad = Child(Address("bad"), crashes_at_stop)
    async with running(Supervisor("s", [child("base", log), bad], hook=notices.append)):
        pass
    assert bad.address.incarnation == 1
    assert log == ["base"]  # and the stop goes on
    assert [(notice.child, notice.kind) for notice in notices] == [("bad", NoticeKind.CRASHED)]
    assert bad.address.last_error == "RuntimeError('in the clean-up')"


async def test_no_child_is_started_while_the_supervisor_stops(autojump_clock):
    log = []
    tree = Supervisor("s", [child("slow", log, cleanup_s=1.0)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await tree.address.wait_ready()
        tree.address.tell(Stop(), system=True)
        await trio.sleep(0.5)
        with pytest.raises(ActorDown, match="is stopping"):
            await tree.start_child(child("late", log))
    assert log == ["slow"]


async def test_stop_during_the_start_does_not_wait_for_the_rest(autojump_clock):
    log = []

    async def mute(me):
        await trio.sleep_forever()

    late = child("late", log)
    tree = Supervisor("s", [Child(Address("mute"), mute, shutdown_s=1.0, ready_timeout_s=100.0), late])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await trio.sleep(3)
        started = trio.current_time()
        tree.address.tell(Stop(), system=True)
    assert trio.current_time() - started == pytest.approx(1.0)
    assert late.address.incarnation == 0


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("at_s", [0.0, 0.05, 0.15, 1.0, 1.5, 2.1, 2.5, 4.0])
async def test_stop_at_any_moment_of_a_restart_leaves_nobody_behind(strategy, at_s, autojump_clock):
    log = []
    children = [child("a", log, cleanup_s=1.0), child("b", log), child("c", log, deaf=True)]
    tree = Supervisor("s", children, strategy=strategy, backoff_s=0.5, jitter=0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await tree.address.wait_ready()
        children[1].address.tell(Boom())
        await trio.sleep(at_s)
        tree.address.tell(Stop(), system=True)
        with trio.fail_after(10):
            await tree.address.wait_gone()
    assert [c.address.alive for c in children] == [False] * 3


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("at_s", [0.0, 0.05, 0.15, 1.0, 1.5, 2.1, 2.5, 4.0])
async def test_cancel_at_any_moment_of_a_restart_leaves_nobody_behind(strategy, at_s, autojump_clock):
    log = []
    children = [child("a", log, cleanup_s=1.0), child("b", log), child("c", log, deaf=True)]
    tree = Supervisor("s", children, strategy=strategy, backoff_s=0.5, jitter=0.0)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.run)
            await tree.address.wait_ready()
            children[1].address.tell(Boom())
            await trio.sleep(at_s)
            nursery.cancel_scope.cancel()
    assert [c.address.alive for c in children] == [False] * 3
    assert tree.address.state == "stopped"


async def test_cancel_during_startup_does_not_hang(autojump_clock):
    async def never(me):
        await trio.sleep_forever()

    tree = Supervisor("s", [Child(Address("a"), never, shutdown_s=1.0), child("b", [])])
    started = trio.current_time()
    with trio.move_on_after(5):
        await tree.run()
    assert trio.current_time() - started == pytest.approx(6.0)


async def test_a_cancelled_start_child_leaves_the_child_running_and_supervised(autojump_clock):
    async def slow(me):
        await trio.sleep(5)
        while not isinstance((await me.receive()).msg, Stop):
            pass

    address = Address("slow")
    async with running(Supervisor("s")) as tree:
        with trio.move_on_after(1):
            await tree.start_child(Child(address, slow))
        await address.wait_ready()
        assert address.alive
    assert not address.alive


async def test_a_cancelled_stop_child_goes_on(autojump_clock):
    log = []
    deaf = child("deaf", log, deaf=True, shutdown_s=5.0)
    async with running(Supervisor("s", [deaf])) as tree:
        with trio.move_on_after(1):
            await tree.stop_child("deaf")
        assert deaf.address.alive
        await trio.sleep(5)
        assert not deaf.address.alive
        assert tree.children == ()


async def test_actors_stopped_for_good_fail_what_waits(autojump_clock):
    log = []
    deaf = child("deaf", log, deaf=True, shutdown_s=1.0)

    async def ignores(me):
        await me.receive()
        await trio.sleep_forever()

    hung = Child(Address("hung"), ignores, shutdown_s=1.0)
    failures = []

    async def asker():
        try:
            await hung.address.ask(Hello(), 600)
        except ActorDown as error:
            failures.append(str(error))

    async with trio.open_nursery() as nursery:
        async with running(Supervisor("s", [deaf, hung])):
            for _ in range(3):
                nursery.start_soon(asker)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(failures) == ["hung: ended without an answer", *["hung: is stopped"] * 2]


async def test_the_same_tree_can_run_again(autojump_clock):
    log = []
    tree = Supervisor("s", [child("a", log), child("b", log)])
    for _ in range(2):
        async with running(tree):
            assert [c.address.alive for c in tree.children] == [True, True]
    assert log == ["b", "a"] * 2


# -- what is no crash --------------------------------------------------------------------------------------------------


async def test_keyboard_interrupt_is_not_a_crash_and_stops_the_others_in_order(autojump_clock):
    log = []

    async def main(me):
        await me.receive()
        raise KeyboardInterrupt

    tree = Supervisor("s", [child("db", log), Child(Address("a"), main), child("gate", log)])
    with pytest.raises(BaseExceptionGroup) as info:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.run)
            await tree.address.wait_ready()
            tree.children[1].address.tell(Hello())
    assert info.value.subgroup(KeyboardInterrupt)
    assert log == ["gate", "db"]
    assert not tree.children[1].address.alive


async def test_keyboard_interrupt_beside_ordinary_errors_is_not_a_crash(autojump_clock):
    async def main(me):
        await me.receive()
        raise BaseExceptionGroup("both", [ValueError(), KeyboardInterrupt()])

    address = Address("a")
    tree = Supervisor("s", [Child(address, main)])
    with pytest.raises(BaseExceptionGroup) as info:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.run)
            address.tell(Hello())
    assert info.value.subgroup(KeyboardInterrupt)
    assert address.incarnation == 1


async def test_a_group_of_errors_is_one_crash(autojump_clock):
    async def main(me):
        env = await me.receive()
        if isinstance(env.msg, Stop):
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("in a nursery")

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)])):
        address.tell(Hello())
        await trio.sleep(1)
        assert address.incarnation == 2
        assert "ExceptionGroup" in address.last_error


async def test_an_error_of_the_cleanup_beside_our_cancel_is_kept_and_does_not_escape(autojump_clock):
    async def main(me):
        async with trio.open_nursery() as nursery:

            async def helper():
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("cleanup failed")

            nursery.start_soon(helper)
            await me.receive()
            await trio.sleep_forever()

    address, notices = Address("a"), []
    async with running(Supervisor("s", [Child(address, main, shutdown_s=0.5)], hook=notices.append)):
        pass
    assert "cleanup failed" in address.last_error
    assert [notice.kind for notice in notices] == [NoticeKind.KILLED, NoticeKind.CRASHED]


async def test_a_bounded_shielded_cleanup_survives_being_cancelled(autojump_clock):
    lowered = []

    async def main(me):
        try:
            await me.receive()
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(2, shield=True):
                await trio.sleep(1)
                lowered.append(trio.current_time())

    async with running(Supervisor("s", [Child(Address("a"), main, shutdown_s=0.5)])):
        started = trio.current_time()
    assert lowered == pytest.approx([started + 1.5])


async def test_a_child_that_swallows_its_cancellation_and_returns_is_stopped(autojump_clock):
    async def main(me):
        with trio.move_on_after(1e9):
            await me.receive()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return  # wrong, and survivable

    address = Address("a")
    async with running(Supervisor("s", [Child(address, main, Restart.PERMANENT, 0.5)])):
        address.tell(Hello())
    assert not address.alive


async def test_a_ctrl_c_in_the_cleanup_of_a_cancelled_child_is_not_lost(autojump_clock):
    async def main(me):
        async with trio.open_nursery() as nursery:

            async def helper():
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyboardInterrupt

            nursery.start_soon(helper)
            nursery.start_soon(trio.sleep_forever)
            await me.receive()
            await trio.sleep_forever()

    tree = Supervisor("s", [Child(Address("a"), main, shutdown_s=0.5)])
    with pytest.raises(BaseException) as info:
        async with running(tree):
            pass
    error = info.value
    assert isinstance(error, KeyboardInterrupt) or error.subgroup(KeyboardInterrupt)
