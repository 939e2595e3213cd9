"""The work sockets between the real server and the real client, over TCP on loopback."""

import contextlib

import pynng
import pytest
import structlog.testing
import trio

from core.testing import patient_time
from drivers.errors import DeviceUnavailable
from drivers.nng import LinkAddressError, LinkClient, LinkTimeout, WorkServer, _sockets, check_loopback
from drivers.nng.testing import FakeGate, free_addresses, until
from protocols.devicelink import (
    MAX_WORK_BYTES,
    Ack,
    Grant,
    Heartbeat,
    Hello,
    Pass,
    Refused,
    Scan,
    Welcome,
    decode_reply,
    encode,
)

patient = pytest.fixture(autouse=True)(patient_time)

ANY = "tcp://127.0.0.1:0"
HEAD = {"device": "gate-1", "boot": "b", "seq": 7, "at": 0.0}


async def answer(request):
    if isinstance(request, Hello):
        return Welcome(seq=request.seq, server_at=1.0, site="demo", lane="north-1", mode="normal_entry")
    return Ack(seq=request.seq, server_at=1.0)


def client_for(addresses, gate=None, **options):
    gate = gate or FakeGate()
    return LinkClient(addresses, "gate-1", {}, site="demo", sensed=gate.sensed, on_release=gate.release, **options)


@contextlib.asynccontextmanager
async def serving(handler=answer, **options):
    server = WorkServer(ANY, ANY, handler, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def linked(handler=answer, *, client_options=None, **options):
    addresses = free_addresses()
    server = WorkServer(addresses.work, addresses.wake, handler, **options)
    client = client_for(addresses, **(client_options or {}))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await nursery.start(client.run)
        yield server, client
        nursery.cancel_scope.cancel()


async def raw(url, data, deadline_s=2.0):
    """One request as any program would send it: bytes out, bytes in."""
    with _sockets.dialled(req := _sockets.open_req(), url, 1 << 20):
        return await _sockets.exchange(req, data, deadline_s)


async def test_hello_gets_its_welcome():
    async with linked() as (server, client):
        reply = await client.ask(Hello(**client.header(), firmware="1.0"), 3)
        assert reply == Welcome(seq=1, server_at=1.0, site="demo", lane="north-1", mode="normal_entry")
        await until(lambda: server.statistics().answers == 1)
        statistics = server.statistics()
        assert (statistics.requests, statistics.connections) == (1, 1)


async def test_many_requests_at_once_get_each_its_own_answer():
    async def slow(request):
        await trio.sleep(0.005)
        return await answer(request)

    async with linked(slow, per_device=64) as (server, client):
        replies = []

        async def one():
            request = Heartbeat(**client.header())
            replies.append((request.seq, (await client.ask(request, 10)).seq))

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one)
        assert len(replies) == 200
        assert all(asked == answered for asked, answered in replies)
        assert server.statistics().requests == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xc1" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        encode(Heartbeat(device="d" * 65, boot="b", seq=1, at=0.0)),
    ],
)
async def test_bad_bytes_are_answered_counted_and_harm_nobody(data):
    async with serving() as server:
        reply = decode_reply(await raw(server.work_url, data))
        assert isinstance(reply, Refused)
        assert (reply.seq, reply.code) == (0, "bad_message")
        assert server.statistics().bad_messages == 1
        good = Heartbeat(device="gate-1", boot="b", seq=7, at=0.0)
        assert decode_reply(await raw(server.work_url, encode(good))).seq == 7


async def test_bad_bytes_are_logged_once_per_interval():
    with structlog.testing.capture_logs() as logs:
        async with serving() as server:
            for _ in range(20):
                await raw(server.work_url, b"\xff")
    assert [entry["event"] for entry in logs] == ["link.bad_message"]
    assert server.statistics().bad_messages == 20


async def test_a_message_above_the_limit_is_refused_in_words():
    async with serving() as server:
        big = Scan(
            device="gate-1", boot="b", seq=1, at=0.0, nonce="n", kind="card", value="1", photo=b"x" * MAX_WORK_BYTES
        )
        reply = decode_reply(await raw(server.work_url, encode(big)))
        assert isinstance(reply, Refused)
        assert reply.code == "bad_message"


async def test_an_oversized_message_costs_its_connection_and_is_counted():
    async with serving() as server:
        with pytest.raises(LinkTimeout):
            await raw(server.work_url, b"x" * (MAX_WORK_BYTES * 4), 0.5)
        assert server.statistics().dropped_connections >= 1
        assert server.statistics().requests == 0
        good = Heartbeat(device="gate-1", boot="b", seq=7, at=0.0)
        assert decode_reply(await raw(server.work_url, encode(good))).seq == 7


async def test_a_peer_that_does_not_speak_the_protocol_is_counted():
    async with serving() as server:
        stream = await trio.open_tcp_stream("127.0.0.1", int(server.work_url.rpartition(":")[2]))
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with trio.fail_after(5):
                while await stream.receive_some(100):
                    pass
        await until(lambda: server.statistics().dropped_connections == 1)


async def test_a_connection_that_ends_in_good_order_is_no_drop_and_drops_are_logged_once_per_interval():
    with structlog.testing.capture_logs() as logs:
        async with serving() as server:
            for _ in range(3):
                await raw(server.work_url, encode(Heartbeat(device="gate-1", boot="b", seq=7, at=0.0)))
            await until(lambda: server.statistics().connections == 0)
            assert server.statistics().dropped_connections == 0
            for _ in range(3):
                with pytest.raises(LinkTimeout):
                    await raw(server.work_url, b"x" * (MAX_WORK_BYTES * 4), 0.3)
            dropped = server.statistics().dropped_connections
    assert dropped >= 3
    assert [(entry["event"], entry["dropped"]) for entry in logs] == [("link.dropped_connection", dropped)]


async def test_a_slow_handler_is_answered_unavailable_and_cancelled():
    cancelled = trio.Event()

    async def stuck(request):
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with linked(stuck, answer_deadline_s=0.1) as (server, client):
        reply = await client.ask(Heartbeat(**client.header()), 3)
        assert isinstance(reply, Refused)
        assert (reply.seq, reply.code) == (1, "unavailable")
        assert cancelled.is_set()
        assert server.statistics().timeouts == 1


async def test_a_failing_handler_is_answered_unavailable_and_the_next_request_is_served():
    async def broken(request):
        if request.seq == 1:
            raise RuntimeError("boom")
        return await answer(request)

    async with linked(broken) as (server, client):
        reply = await client.ask(Heartbeat(**client.header()), 3)
        assert isinstance(reply, Refused)
        assert reply.code == "unavailable"
        assert isinstance(await client.ask(Heartbeat(**client.header()), 3), Ack)
        assert server.statistics().failures == 1


async def test_one_device_that_floods_leaves_room_for_the_others():
    release = trio.Event()

    async def slow_for_one(request):
        if request.device == "gate-1":
            await release.wait()
        return await answer(request)

    async with linked(slow_for_one, contexts=8, per_device=4, answer_deadline_s=30) as (server, client):
        codes = []

        async def one():
            reply = await client.ask(Heartbeat(**client.header()), 10)
            codes.append(reply.code if isinstance(reply, Refused) else "ack")

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(one)
            await until(lambda: codes.count("too_many") == 8)
            other = Heartbeat(device="gate-2", boot="b", seq=3, at=0.0)
            assert decode_reply(await raw(server.work_url, encode(other))).seq == 3
            release.set()
        assert sorted(codes) == ["ack"] * 4 + ["too_many"] * 8


async def test_an_unanswered_request_is_sent_again_with_the_same_seq(monkeypatch):
    monkeypatch.setattr("drivers.nng._client.ATTEMPT_S", 0.2)
    seen = []

    async def deaf_twice(request):
        seen.append((request.boot, request.seq))
        if len(seen) < 3:
            await trio.sleep(1)
        return Grant(
            seq=request.seq, server_at=1.0, nonce=request.nonce, grant=5, pax=1, passed=0, ttl_s=3.0, state="open",
            product_class="full", text_zh="请进", text_en="Welcome", remaining=0,
        )  # fmt: skip

    async with linked(deaf_twice) as (_, client):
        reply = await client.ask(Scan(**client.header(), nonce="n1", kind="code", value="x"), 5)
        assert reply.grant == 5
        assert seen == [(client.boot, 1)] * 3
        assert client.statistics().resent == 2


async def test_ask_gives_up_at_its_deadline():
    client = client_for(free_addresses())
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        start = trio.current_time()
        with pytest.raises(LinkTimeout, match="Heartbeat seq 1"):
            await client.ask(Heartbeat(**client.header()), 0.3)
        assert 0.25 < trio.current_time() - start < 1
        nursery.cancel_scope.cancel()


async def test_a_passage_survives_a_server_that_is_away_restarted_and_not_ready():
    addresses = free_addresses()
    links, seen, ready = [], [], []

    async def not_yet(request):
        seen.append(request.seq)
        if not ready:
            ready.append(True)
            return Refused(seq=request.seq, server_at=0.0, code="unavailable", text="starting")
        return await answer(request)

    client = client_for(addresses, on_link=links.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        done = []

        async def deliver():
            done.append(await client.deliver(Pass(**client.header(), grant=9)))

        nursery.start_soon(deliver)
        await trio.sleep(0.3)
        assert done == []
        server = WorkServer(addresses.work, addresses.wake, not_yet)
        with trio.CancelScope() as first:
            async with trio.open_nursery() as inner:
                await inner.start(server.run)
                await until(lambda: seen)
                first.cancel()
        server = WorkServer(addresses.work, addresses.wake, not_yet)
        await nursery.start(server.run)
        await until(lambda: done, 5)
        assert isinstance(done[0], Ack)
        assert set(seen) == {1}
        assert links[:2] == [True, False]
        nursery.cancel_scope.cancel()


async def test_wake_reaches_its_device_alone():
    woken = []
    async with linked(client_options={"on_wake": lambda: woken.append(1)}) as (server, client):
        with trio.fail_after(3):
            while not woken:
                server.wake("gate-10")
                server.wake("gate-1")
                await trio.sleep(0.02)
        assert client.statistics().wakes == len(woken)
        count = len(woken)
        server.wake("gate-10")
        await trio.sleep(0.1)
        assert len(woken) <= count + 1  # at most one that was still under way


async def test_wake_before_and_after_the_sockets_are_open_does_nothing():
    async with serving() as server:
        pass
    server.wake("gate-1")
    assert server.statistics().wakes == 0


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("tcp://0.0.0.0:8461", "mutual TLS"),
        ("tcp://*:8461", "mutual TLS"),
        ("tcp://:8461", "mutual TLS"),
        ("tcp://192.168.1.5:8461", "mutual TLS"),
        ("tcp://gate.example:8461", "mutual TLS"),
        ("tcp://127.0.0.1.example:8461", "mutual TLS"),
        ("tcp://127.0.0.1", "port is missing"),
        ("tcp://127.0.0.1:99999", "range"),
        ("ws://127.0.0.1:8461", "only tcp"),
        ("ipc:///tmp/x", "only tcp"),
    ],
)
def test_only_loopback_is_bound_and_the_complaint_names_key_and_cure(url, what):
    with pytest.raises(LinkAddressError, match=what) as caught:
        WorkServer(url, ANY, answer)
    assert "link.work" in str(caught.value)
    assert "tcp://127.0.0.1:8461" in str(caught.value)
    with pytest.raises(LinkAddressError, match=r"link\.wake"):
        WorkServer(ANY, url, answer)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:1", "tcp://127.8.9.1:0", "tcp://localhost:5", "tcp://[::1]:5"])
def test_loopback_is_accepted(url):
    check_loopback("link.work", url)


async def test_an_address_in_use_is_said_with_its_key():
    async with serving() as server:
        other = WorkServer(server.work_url, ANY, answer)
        with pytest.raises(DeviceUnavailable, match=r"link\.work.*another program"):
            await other.run()


def test_asking_as_many_times_as_wanted_leaks_no_message():
    """pynng leaves the message of a cancelled send behind: 300 of 100 kB would be 30 MB."""
    import os
    from pathlib import Path

    def resident_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def main():
        with _sockets.dialled(req := _sockets.open_req(), free_addresses().work, 1000):
            payload = b"x" * 100_000

            async def fail(times):
                for _ in range(times):
                    with pytest.raises(LinkTimeout):
                        await _sockets.exchange(req, payload, 0.001)

            await fail(50)
            before = resident_mb()
            await fail(300)
            return resident_mb() - before

    assert trio.run(main) < 10


async def test_cancelled_at_each_await_nothing_is_left_open():
    async def slow(request):
        await trio.sleep(0.02)
        return await answer(request)

    async with linked(slow) as (server, client):
        await client.ask(Heartbeat(**client.header()), 3)
        for step in range(15):
            with trio.move_on_after(0.002 * step):
                await client.ask(Heartbeat(**client.header()), 3)
        assert isinstance(await client.ask(Heartbeat(**client.header()), 3), Ack)
        await until(lambda: server.statistics().busy == 0)


def test_the_whole_link_can_be_started_and_stopped_many_times():
    """Close order: tasks, contexts, sockets. A wrong one hangs or crashes the interpreter."""

    async def main():
        for _ in range(30):
            async with linked() as (_, client):
                with trio.move_on_after(0.01):
                    await client.ask(Heartbeat(**client.header()), 1)

    with contextlib.suppress(pynng.NNGException):
        trio.run(main)
