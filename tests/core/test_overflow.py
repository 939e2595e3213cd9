"""Priority and overflow: who is read first, who is shed, who is refused, and what can never be lost."""

from typing import ClassVar

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from core import Address, Child, Down, Inspect, MailboxFull, Reason, Stop, Supervisor
from core._mailbox import SYSTEM_CAPACITY
from core.testing import Probe, running


class Open(msgspec.Struct, frozen=True):
    n: int = 0


class Heartbeat(msgspec.Struct, frozen=True):
    overflow: ClassVar[str] = "drop_oldest"
    n: int = 0


class Release(msgspec.Struct, frozen=True):
    n: int = 0


class Configure(msgspec.Struct, frozen=True):
    n: int = 0


class Tick(msgspec.Struct, frozen=True):
    pass


async def drain(address):
    out = []
    while (env := await address._next(trio.current_time() + 0.001)) is not None:
        out.append(env.msg)
    return out


async def test_a_full_mailbox_refuses_a_command_at_once(autojump_clock):
    address = Address("a", capacity=2)
    address.tell(Open(1))
    address.tell(Open(2))
    with pytest.raises(MailboxFull, match="a: no room for Open"):
        address.tell(Open(3))
    with pytest.raises(MailboxFull):
        await address.ask(Open(3), 1.0)
    assert address.statistics().refused == 2
    assert address.dead_letters is None  # the sender knows


async def test_telemetry_sheds_the_oldest_telemetry(autojump_clock):
    probe = Probe(capacity=3)
    for n in range(5):
        probe.tell(Heartbeat(n))
    assert probe.dead_letters.counts == {("probe", "Heartbeat", Reason.FULL): 2}
    assert [(await probe.expect(Heartbeat)).n for _ in range(3)] == [2, 3, 4]


async def test_telemetry_never_sheds_a_command(autojump_clock):
    probe = Probe(capacity=3)
    probe.tell(Open(1))
    probe.tell(Heartbeat(1))
    probe.tell(Open(2))
    probe.tell(Heartbeat(2))
    await probe.expect(Open)
    await probe.expect(Open)
    assert (await probe.expect(Heartbeat)).n == 2


async def test_telemetry_is_shed_itself_when_only_commands_wait_and_its_sender_learns_nothing(autojump_clock):
    probe = Probe(capacity=2)
    probe.tell(Open(1))
    probe.tell(Open(2))
    probe.tell(Heartbeat(1))
    assert probe.dead_letters.counts == {("probe", "Heartbeat", Reason.FULL): 1}
    assert probe.statistics().depth == 2


async def test_a_command_does_not_push_telemetry_out(autojump_clock):
    """It could; but then a full mailbox would not look full to those who wait behind it."""
    address = Address("a", capacity=1)
    address.tell(Heartbeat(1))
    with pytest.raises(MailboxFull):
        address.tell(Open(1))


async def test_the_overflow_class_is_that_of_the_type_not_of_a_field(autojump_clock):
    class Odd(msgspec.Struct, frozen=True):
        text: str

    address = Address("a", capacity=1)
    address.tell(Odd("drop_oldest"))
    with pytest.raises(MailboxFull):
        address.tell(Odd("drop_oldest"))


async def test_system_first_while_ten_thousand_user_messages_wait(autojump_clock):
    log = []

    async def main(me):
        while True:
            env = await me.receive()
            log.append(env.msg)
            if env.msg == Open(5):
                for n in range(3):
                    me.tell(Release(n), system=True)
            if isinstance(env.msg, Stop):
                return

    address = Address("lane", capacity=10_000)
    async with running(Supervisor("s", [Child(address, main)])):
        for n in range(10_000):
            address.tell(Open(n))
        address.tell(Release(-1), system=True)
        await trio.testing.wait_all_tasks_blocked()
        assert log[0] == Release(-1)
        assert log[1:10] == [*map(Open, range(6)), *map(Release, range(3))]  # the very next ones it reads
        assert log[10:] == [*map(Open, range(6, 10_000))]


async def test_stop_overtakes_ten_thousand_messages_but_not_a_release(autojump_clock):
    log = []

    async def main(me):
        while True:
            env = await me.receive()
            log.append(env.msg)
            if isinstance(env.msg, Stop):
                return

    address = Address("lane", capacity=10_000)
    async with running(Supervisor("s", [Child(address, main)])) as site:
        for n in range(10_000):
            address.tell(Open(n))
        address.tell(Stop(), system=True)
        address.tell(Release(1), system=True)
        await site.stop_child("lane")
    assert log == [Release(1), Stop()]


async def test_a_due_timer_overtakes_waiting_messages(autojump_clock):
    probe = Probe(capacity=100)
    probe.set_timer("t", 1.0, Tick())
    for n in range(100):
        probe.tell(Open(n))
    await trio.sleep(1)
    await probe.expect(Tick)
    assert (await probe.expect(Open)).n == 0


async def test_stop_has_its_own_place_and_is_merged(autojump_clock):
    address = Address("a", capacity=1)
    for n in range(SYSTEM_CAPACITY):
        address.tell(Release(n), system=True)
    address.tell(Stop(), system=True)
    address.tell(Stop(), system=True)
    assert address.statistics().system_depth == SYSTEM_CAPACITY + 1
    messages = await drain(address)
    assert messages == [*map(Release, range(SYSTEM_CAPACITY)), Stop()]


async def test_stop_told_to_a_full_user_lane_is_not_refused(autojump_clock):
    address = Address("a", capacity=1)
    address.tell(Open(1))
    address.tell(Stop())
    assert await drain(address) == [Stop(), Open(1)]


async def test_notices_and_inspections_are_shed_before_an_order(autojump_clock):
    address, other = Address("a"), Address("reader")
    address.tell(Configure(1), system=True)
    for _ in range(SYSTEM_CAPACITY * 3):
        other.watch(address)  # never running: a Down each time
    assert address.statistics().system_depth == SYSTEM_CAPACITY
    for n in range(5):
        address.tell(Release(n), system=True)
    messages = await drain(address)
    assert messages[0] == Configure(1)
    assert messages[-5:] == [*map(Release, range(5))]
    assert {type(msg) for msg in messages[1:-5]} == {Down}


async def test_a_flood_of_inspections_is_bounded_and_costs_nothing_else(autojump_clock):
    address, probe = Address("a"), Probe(capacity=1000)
    address.tell(Release(1), system=True)
    for _ in range(200):
        address.tell(Inspect(), reply_to=probe)
    assert address.statistics().system_depth == SYSTEM_CAPACITY
    assert await drain(address) == [Release(1)]


async def test_of_two_orders_of_a_type_the_newer_one_stays(autojump_clock):
    probe = Probe()
    address = Address("a")
    address.tell(Release(0), system=True)
    address.tell(Configure(0), system=True, reply_to=probe)
    for n in range(1, SYSTEM_CAPACITY - 1):
        address.tell(Configure(n), system=True)
    address.tell(Configure(99), system=True)  # one too many
    messages = await drain(address)
    assert messages[0] == Release(0)  # the only one of its type: never shed
    assert messages[1] == Configure(1)
    assert messages[-1] == Configure(99)
    assert (await probe.expect(object)).error.actor == "a"  # and who asked knows
    assert address.dead_letters.counts == {("a", "Configure", Reason.FULL): 1}


async def test_a_lane_full_of_different_orders_refuses_and_buries_the_newcomer(autojump_clock):
    kinds = [msgspec.defstruct(f"Order{n}", [], frozen=True) for n in range(SYSTEM_CAPACITY + 1)]
    address = Address("a")
    for kind in kinds[:-1]:
        address.tell(kind(), system=True)
    with pytest.raises(MailboxFull):
        address.tell(kinds[-1](), system=True)
    assert address.dead_letters.total == 1
    assert [type(msg) for msg in await drain(address)] == kinds[:-1]


KINDS = (Release, Configure, Heartbeat, Open, Stop, Down)


@given(st.lists(st.sampled_from(KINDS), max_size=300))
def test_the_newest_order_of_each_type_and_a_stop_always_survive(kinds):
    """The argument at the top of core/_mailbox.py, for any sequence of system messages."""

    async def main():
        address = Address("a")
        told = []
        for n, kind in enumerate(kinds):
            msg = Down("reader", str(n)) if kind is Down else Stop() if kind is Stop else kind(n)
            address.tell(msg, system=True)  # never raises: there are fewer types than places
            told.append(msg)
        statistics = address.statistics()
        assert statistics.told == len(kinds)
        assert statistics.system_depth <= SYSTEM_CAPACITY + 1
        left = await drain(address)
        for kind in (Release, Configure, Open):
            if newest := [msg for msg in told if isinstance(msg, kind)][-1:]:
                assert newest[0] in left
        assert (Stop() in left) == (Stop in kinds)
        orders = [msg for msg in left if not isinstance(msg, Stop)]
        assert orders == [msg for msg in told if msg in orders and not isinstance(msg, Stop)]  # in order

    trio.run(main)
