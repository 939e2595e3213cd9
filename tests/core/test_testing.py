"""The test kit keeps its own promises."""

import msgspec
import pytest
import trio

from core import Address, Child, Down, Failed, Stop, Supervisor
from core.testing import Probe, running, serialized, struct_codec


class Hello(msgspec.Struct, frozen=True, tag=True):
    n: int


class Other(msgspec.Struct, frozen=True, tag=True):
    pass


class Live(msgspec.Struct, frozen=True):
    thing: object


async def echo(me):
    while not isinstance((env := await me.receive()).msg, Stop):
        env.reply(env.msg)


async def test_expect_returns_the_message_and_keeps_the_envelope(autojump_clock):
    probe, asker = Probe(), Probe("asker")
    probe.tell(Hello(1), reply_to=asker)
    assert await probe.expect(Hello) == Hello(1)
    probe.envelope.reply(Hello(2))
    assert await asker.expect(Hello) == Hello(2)


async def test_expect_fails_on_another_message_or_silence(autojump_clock):
    probe = Probe()
    probe.tell(Other())
    with pytest.raises(AssertionError, match=r"probe: Other\(\) instead of Hello"):
        await probe.expect(Hello)
    started = trio.current_time()
    with pytest.raises(AssertionError, match="no Hello within 3 s"):
        await probe.expect(Hello, within_s=3)
    assert trio.current_time() - started == pytest.approx(3)


async def test_expect_passes_over_what_is_ignored_within_one_deadline(autojump_clock):
    probe = Probe()

    async def noise():
        while True:
            probe.tell(Other())
            await trio.sleep(0.4)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(noise)
        with pytest.raises(AssertionError, match="no Hello"):
            await probe.expect(Hello, ignoring=(Other,))
        probe.tell(Hello(1))
        assert await probe.expect(Hello, ignoring=(Other,)) == Hello(1)
        nursery.cancel_scope.cancel()


async def test_expect_nothing(autojump_clock):
    probe = Probe()
    await probe.expect_nothing(within_s=5)
    probe.tell(Hello(1))
    with pytest.raises(AssertionError, match="unexpected Hello"):
        await probe.expect_nothing()


async def test_running_starts_before_the_block_and_stops_after_it(autojump_clock):
    address = Address("a")
    async with running(Supervisor("s", [Child(address, echo)])) as tree:
        assert tree.address.ready and address.ready
    assert not address.alive


async def test_running_lets_a_single_error_out_bare_and_stops_the_tree(autojump_clock):
    address = Address("a")
    with pytest.raises(ZeroDivisionError):
        async with running(Supervisor("s", [Child(address, echo)])):
            1 / 0  # noqa: B018
    assert not address.alive


async def test_running_stops_the_tree_when_it_is_cancelled(autojump_clock):
    address = Address("a")
    with trio.move_on_after(1) as scope:
        async with running(Supervisor("s", [Child(address, echo)])):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not address.alive


async def test_serialized_really_sends_messages_through_the_codec(autojump_clock):
    address, probe, seen = Address("a"), Probe(), []

    def codec(msg):
        seen.append(msg)
        return struct_codec(msg)

    async with running(Supervisor("s", [Child(address, echo)])):
        original = Hello(1)
        with serialized(codec):
            answer = await address.ask(original, 1)
            assert answer == original and answer is not original
            address.tell(Hello(2), reply_to=probe)
            assert await probe.expect(Hello) == Hello(2)
            assert seen == [Hello(1), Hello(2), Hello(2)]  # asked, told, and told back
            with pytest.raises(TypeError):
                address.tell(Live(object()))  # it would not have survived a wire
            await address.put(Hello(3))
        assert await address.ask(original, 1) is original


async def test_the_runtimes_own_messages_are_exempt(autojump_clock):
    def codec(msg):
        raise AssertionError(f"{msg} went through the codec")

    address, probe = Address("a"), Probe()
    with serialized(codec):
        async with running(Supervisor("s", [Child(address, echo)])):
            address.watch(probe)
        assert await probe.expect(Down) == Down("a", "stopped")
    with serialized():
        address.tell(Hello(1), reply_to=probe)
        await probe.expect(Failed)


def test_serialized_is_undone_after_an_error():
    from core import _address

    with pytest.raises(ZeroDivisionError), serialized():
        1 / 0  # noqa: B018
    assert _address._wire is None
