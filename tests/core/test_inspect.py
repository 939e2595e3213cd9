"""Looking at actors: from outside, which works on hung ones, and by message, which the runtime answers."""

import msgspec
import pytest
import trio

from core import (
    Address,
    AddressStatistics,
    Child,
    DeadLetter,
    DeadLetters,
    Inspect,
    Machine,
    Reason,
    Stop,
    Supervisor,
    inspect_tree,
)
from core.testing import Probe, running


class Hello(msgspec.Struct, frozen=True):
    pass


class Work(msgspec.Struct, frozen=True):
    seconds: float


class Boom(msgspec.Struct, frozen=True):
    pass


async def main(me):
    while True:
        env = await me.receive()
        assert not isinstance(env.msg, Inspect)
        match env.msg:
            case Stop():
                return
            case Boom():
                raise RuntimeError("boom")
            case Work(seconds):
                await trio.sleep(seconds)
        env.reply("ok")


async def machine_main(me):
    async def idle(machine):
        while not isinstance((await machine.event()).msg, Stop):
            pass

    await Machine(me).run(idle)


async def test_inspect_is_answered_by_the_runtime_on_the_system_lane(autojump_clock):
    address = Address("gate")
    async with running(Supervisor("s", [Child(address, main)])):
        for _ in range(10):
            address.tell(Work(1))
        await trio.testing.wait_all_tasks_blocked()
        statistics = await address.ask(Inspect(), 1.5, system=True)
        assert isinstance(statistics, AddressStatistics)
        assert (statistics.name, statistics.state, statistics.depth, statistics.handled) == ("gate", "running", 9, 1)
        assert await address.ask(Inspect(), 1.5)  # and first, however it is told


async def test_a_supervisor_answers_inspect(autojump_clock):
    async with running(Supervisor("s")) as tree:
        assert (await tree.address.ask(Inspect(), 1)).kind == "supervisor"


async def test_inspect_tells_reply_to_in_the_middle_of_a_burst(autojump_clock):
    address, probe = Address("gate"), Probe()
    async with running(Supervisor("s", [Child(address, main)])):
        for n in range(100):
            address.tell(Hello())
            if n == 50:
                address.tell(Inspect(), reply_to=probe)
        assert (await probe.expect(AddressStatistics)).name == "gate"


async def test_the_tree_shows_an_actor_that_hangs(autojump_clock):
    reader, lane, gate = Address("reader"), Address("lane"), Address("gate")
    devices = Supervisor("devices", [Child(reader, main, shutdown_s=0.1), Child(lane, machine_main)], escalate=False)
    site = Supervisor("site", [Child(devices.address, devices.run), Child(gate, main)])
    async with running(site):
        gate.tell(Boom())
        await trio.sleep(1)
        reader.tell(Work(1000))
        await trio.sleep(2)
        reader.tell(Hello())
        reader.tell(Hello())
        await trio.sleep(5)
        tree = inspect_tree(site)
        assert [(i.name, i.kind, i.state) for i in tree.walk()] == [
            ("site", "supervisor", "running"),
            ("devices", "supervisor", "running"),
            ("reader", "actor", "running"),
            ("lane", "machine", "idle"),
            ("gate", "actor", "running"),
        ]
        hung = tree.children[0].children[0]
        assert (hung.held, hung.held_age_s, hung.depth, hung.oldest_age_s) == (
            "Work",
            pytest.approx(7),
            2,
            pytest.approx(5),
        )
        assert (hung.told, hung.handled, hung.uptime_s) == (3, 0, pytest.approx(8))
        crashed = tree.children[1]
        assert (crashed.restarts, crashed.last_error, crashed.dead) == (1, "RuntimeError('boom')", 1)
        assert crashed.uptime_s == pytest.approx(7.9, abs=0.02)  # since the restart, a backoff of 0.1 s later
        assert msgspec.json.decode(msgspec.json.encode(tree))["children"][0]["name"] == "devices"
    stopped = inspect_tree(site)
    assert {(i.alive, i.state) for i in stopped.walk()} == {(False, "stopped")}


async def test_the_age_of_a_message_read_in_a_burst_counts_from_the_first_look(autojump_clock):
    address = Address("a")
    async with running(Supervisor("s", [Child(address, main, shutdown_s=0.1)])):
        for _ in range(5):
            address.tell(Hello())
        address.tell(Work(1000))
        await trio.sleep(5)
        assert address.statistics().held_age_s == 0  # nobody has looked before
        await trio.sleep(5)
        assert address.statistics().held_age_s == pytest.approx(5)


async def test_inspecting_any_address(autojump_clock):
    assert inspect_tree(Address("a")).children == ()
    assert inspect_tree(Probe()).state == "probe"


async def test_uptime_and_restarts_count_incarnations(autojump_clock):
    address = Address("a")
    async with running(Supervisor("s", [Child(address, main)], escalate=False)):
        for _ in range(4):
            address.tell(Boom())
            await trio.sleep(20)
        await trio.sleep(100)
        statistics = address.statistics()
        assert statistics.restarts == 4
        assert 100 < statistics.uptime_s < 121


# -- dead letters ------------------------------------------------------------------------------------------------------


def letter(actor="a", reason=Reason.FULL):
    return DeadLetter(0.0, actor, "Hello", reason, "")


def test_letters_are_counted_and_the_last_ones_kept():
    letters = DeadLetters(ring=3)
    for n in range(5):
        letters.record(letter(f"a{n}"))
    letters.record(letter("a4", Reason.EXPIRED))
    assert letters.total == 6
    assert letters.counts["a4", "Hello", Reason.FULL] == 1
    assert [(kept.actor, kept.reason) for kept in letters.last] == [("a3", "full"), ("a4", "full"), ("a4", "expired")]


def test_take_gives_what_is_new():
    letters = DeadLetters()
    letters.record(letter())
    letters.record(letter())
    assert letters.take() == {("a", "Hello", Reason.FULL): 2}
    letters.record(letter())
    assert letters.take() == {("a", "Hello", Reason.FULL): 1}
    assert letters.take() == {}
    assert letters.total == 3


def test_hooks_see_each_letter_and_a_broken_one_harms_nobody():
    letters, seen = DeadLetters(), []

    def broken(letter):
        raise OSError("disk full")

    letters.hook(broken)
    letters.hook(seen.append)
    letters.record(letter())
    assert seen == [letter()]
    assert letters.hook_errors == 1


async def test_children_count_with_their_supervisor_at_any_depth_unless_they_have_their_own(autojump_clock):
    letters, own = DeadLetters(), DeadLetters()
    a, b = Address("a"), Address("b", dead_letters=own)
    inner = Supervisor("inner", [Child(a, main), Child(b, main)])
    async with running(Supervisor("outer", [Child(inner.address, inner.run)], dead_letters=letters)):
        for address in (a, b):
            address.tell(Boom(), trace="t1")
        await trio.testing.wait_all_tasks_blocked()
        assert letters.counts == {("a", "Boom", Reason.CRASHED): 1}
        assert own.counts == {("b", "Boom", Reason.CRASHED): 1}
        assert letters.last[0].trace == "t1"
