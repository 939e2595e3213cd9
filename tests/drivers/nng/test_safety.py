"""Releases and acknowledgements on the safety sockets, over TCP on loopback."""

import contextlib

import pynng
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.testing import patient_time
from drivers.nng import LinkAddressError, LinkClient, LinkTimeout, SafetyServer, WorkServer, _sockets
from drivers.nng.testing import FakeGate, free_addresses, until
from protocols.devicelink import (
    MAX_WORK_BYTES,
    Ack,
    Heartbeat,
    ReleaseAck,
    SafetyPoll,
    SafetyState,
    Scan,
    decode_safety_state,
    encode,
    publish_release,
    sign_release,
)

patient = pytest.fixture(autouse=True)(patient_time)

KEY = Ed25519PrivateKey.generate()
OTHER = Ed25519PrivateKey.generate()
KEYS = {"r1": KEY.public_key()}


def release(incident=1, **options):
    return sign_release(KEY, "r1", site="demo", incident=incident, **options)


class Desk:
    """The server's side of the conversation: what came in, and what is latched."""

    def __init__(self):
        self.latched = None
        self.polls, self.acks = [], []

    def __call__(self, request):
        (self.acks if isinstance(request, ReleaseAck) else self.polls).append(request)
        return SafetyState(release=self.latched)


def client_for(addresses, gate, **options):
    return LinkClient(
        addresses, "gate-1", KEYS, site="demo", lane="north-1", sensed=gate.sensed, on_release=gate.release, **options
    )


@contextlib.asynccontextmanager
async def site(desk=None, evacuate_desk=None, gate=None):
    """A server's safety sockets (if `desk`), those of the evacuation (if `evacuate_desk`), and one lane."""
    addresses = free_addresses()
    gate = gate or FakeGate()
    servers = []
    async with trio.open_nursery() as nursery:
        if desk is not None:
            servers.append(SafetyServer(addresses.release, addresses.safety, desk))
        if evacuate_desk is not None:
            servers.append(SafetyServer(addresses.evacuate_release, addresses.evacuate_safety, evacuate_desk))
        for server in servers:
            await nursery.start(server.run)
        client = client_for(addresses, gate)
        await nursery.start(client.run)
        for each in (desk, evacuate_desk):
            if each is not None:
                await until(lambda each=each: each.polls)
        await trio.sleep(0.1)  # the subscriptions have no answer to wait for
        yield *servers, client, gate
        nursery.cancel_scope.cancel()


async def test_a_publication_opens_the_lane_at_once_and_comes_back_as_sensed():
    desk = Desk()
    async with site(desk) as (server, client, gate):
        start = trio.current_time()
        assert server.publish(release())
        await until(lambda: desk.acks)
        assert trio.current_time() - start < 0.5
        assert desk.acks[0].sensed_open
        assert desk.acks[0].barrier == "released"
        assert [each.incident for each in gate.releases] == [1]
        assert client.statistics().releases == 1


async def test_a_lost_publication_is_found_by_polling():
    desk = Desk()
    async with site(desk) as (_, _, gate):
        desk.latched = release()
        await until(lambda: gate.releases, 2.5)
        await until(lambda: desk.acks)
        assert desk.acks[0].incident == 1


async def test_repeated_publications_release_once_and_are_acknowledged_again():
    desk = Desk()
    async with site(desk) as (server, _, gate):
        for count in range(1, 5):
            server.publish(release())
            await until(lambda count=count: len(desk.acks) >= count)
        assert len(gate.releases) == 1


async def test_a_barrier_that_is_slow_is_acknowledged_again_when_it_is_open():
    desk, gate = Desk(), FakeGate(opens_as="opening")
    async with site(desk, gate=gate) as (server, _, _):
        server.publish(release())
        await until(lambda: desk.acks and not desk.acks[-1].sensed_open)
        gate.barrier = "released"
        await until(lambda: desk.acks[-1].sensed_open)


async def test_a_server_that_is_hung_does_not_hide_the_other():
    """The server's sockets accept and never answer; the release comes from `paifang evacuate`'s."""
    desk = Desk()

    def hang(request):
        raise RuntimeError("no answer")

    addresses, gate = free_addresses(), FakeGate()
    async with trio.open_nursery() as nursery:
        hung = SafetyServer(addresses.release, addresses.safety, hang)
        evacuation = SafetyServer(addresses.evacuate_release, addresses.evacuate_safety, desk)
        await nursery.start(hung.run)
        await nursery.start(evacuation.run)
        await nursery.start(client_for(addresses, gate).run)
        await until(lambda: desk.polls and hung.statistics().failures)
        desk.latched = release()
        await until(lambda: desk.acks, 2.0)
        assert desk.acks[0].sensed_open
        nursery.cancel_scope.cancel()


async def test_an_evacuation_process_that_starts_late_is_heard():
    addresses, gate, desk = free_addresses(), FakeGate(), Desk()
    async with trio.open_nursery() as nursery:
        await nursery.start(client_for(addresses, gate).run)
        await trio.sleep(1.0)
        evacuation = SafetyServer(addresses.evacuate_release, addresses.evacuate_safety, desk)
        await nursery.start(evacuation.run)
        start = trio.current_time()
        with trio.fail_after(3):
            while not desk.acks:
                evacuation.publish(release())
                await trio.sleep(0.1)
        assert trio.current_time() - start < 1.5
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "wrong",
    [
        sign_release(OTHER, "r1", site="demo", incident=7),
        sign_release(KEY, "r2", site="demo", incident=7),
        sign_release(KEY, "r1", site="elsewhere", incident=7),
    ],
    ids=["wrong-key", "unknown-key", "other-site"],
)
async def test_a_release_that_is_not_genuine_opens_nothing(wrong):
    desk = Desk()
    async with site(desk) as (server, client, gate):
        server.publish(wrong)
        await until(lambda: client.statistics().bad_releases)
        assert gate.releases == []
        server.publish(release(incident=8))
        await until(lambda: gate.releases)
        assert [each.incident for each in gate.releases] == [8]


async def test_a_release_of_one_lane_opens_that_lane_alone():
    desk = Desk()
    async with site(desk) as (server, _, gate):
        server.publish(release(incident=1, scope="south-1"))
        server.publish(release(incident=2, scope="north-1"))
        await until(lambda: gate.releases)
        await trio.sleep(0.1)
        assert [each.incident for each in gate.releases] == [2]


async def test_garbage_on_the_release_socket_is_dropped():
    addresses, gate = free_addresses(), FakeGate()
    async with trio.open_nursery() as nursery:
        with pynng.Pub0(listen=addresses.release, async_backend="trio", send_buffer_size=16) as pub:
            client = client_for(addresses, gate)
            await nursery.start(client.run)
            with trio.fail_after(5):
                while not gate.releases:
                    pub.send(b"all/" + b"x" * 10_000, block=False)  # too large: costs the connection
                    await trio.sleep(0.3)
                    for data in (b"all/", b"all/\xff", b"all/" + b"x" * 1000, publish_release(release())[:-3]):
                        pub.send(data, block=False)
                    pub.send(publish_release(release()), block=False)
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert len(gate.releases) == 1


async def raw(url, data, deadline_s=0.4):
    with _sockets.dialled(req := _sockets.open_req(), url, 1 << 16):
        return await _sockets.exchange(req, data, deadline_s)


async def test_garbage_on_the_safety_socket_gets_no_answer_and_the_next_poll_does():
    desk = Desk()
    poll = SafetyPoll(device="gate-1", released=False, incident=None, barrier="closed", at=0.0)
    async with trio.open_nursery() as nursery:
        server = SafetyServer("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", desk)
        await nursery.start(server.run)
        for data in (b"", b"\xff", b"x" * 100_000):
            with pytest.raises(LinkTimeout):
                await raw(server.safety_url, data)
        assert decode_safety_state(await raw(server.safety_url, encode(poll), 2)) == SafetyState(release=None)
        assert server.statistics().bad_messages == 2
        assert server.statistics().dropped_connections >= 1  # the third cost its connection
        nursery.cancel_scope.cancel()


async def test_a_failing_request_handler_never_says_that_nothing_is_latched():
    def broken(request):
        raise RuntimeError("boom")

    poll = SafetyPoll(device="gate-1", released=False, incident=None, barrier="closed", at=0.0)
    async with trio.open_nursery() as nursery:
        server = SafetyServer("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", broken)
        await nursery.start(server.run)
        with pytest.raises(LinkTimeout):
            await raw(server.safety_url, encode(poll))
        assert server.statistics().failures == 1
        nursery.cancel_scope.cancel()


async def test_publish_without_sockets_is_said_and_not_raised():
    server = SafetyServer("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", Desk())
    assert server.publish(release()) is False
    assert server.statistics().unpublished == 1


async def test_a_release_published_just_before_the_stop_still_leaves():
    addresses, gate = free_addresses(), FakeGate()
    async with trio.open_nursery() as nursery:
        await nursery.start(client_for(addresses, gate).run)
        desk = Desk()
        async with trio.open_nursery() as inner:
            server = SafetyServer(addresses.release, addresses.safety, desk)
            await inner.start(server.run)
            await until(lambda: desk.polls)
            await trio.sleep(0.3)
            server.publish(release())
            inner.cancel_scope.cancel()
        await until(lambda: gate.releases, 0.5)
        nursery.cancel_scope.cancel()


async def test_an_acknowledgement_ends_when_the_lane_is_rearmed():
    """Nobody listens on the evacuation's sockets: what is owed to them must not be tried for ever."""
    desk = Desk()
    async with site(desk) as (server, client, gate):
        server.publish(release())
        await until(lambda: desk.acks)
        owing = client._endpoints[1]
        assert owing._wanted.is_set()
        gate.incident, gate.barrier = None, "closed"
        await until(lambda: not owing._wanted.is_set())


def test_remote_addresses_are_refused():
    with pytest.raises(LinkAddressError, match=r"link\.release"):
        SafetyServer("tcp://0.0.0.0:8463", "tcp://127.0.0.1:0", Desk())
    with pytest.raises(LinkAddressError, match=r"link\.evacuate_safety"):
        SafetyServer(
            "tcp://127.0.0.1:0", "tcp://10.0.0.1:1", Desk(), keys=("link.evacuate_release", "link.evacuate_safety")
        )


async def test_a_flood_of_work_does_not_delay_a_release():
    """10 000 scans, garbage and oversized messages on the work socket, and a release in their midst."""
    addresses, gate, desk = free_addresses(), FakeGate(), Desk()

    async def handler(request):
        await trio.sleep(0.001)
        return Ack(seq=request.seq, server_at=0.0)

    scan = encode(Scan(device="flood", boot="b", seq=1, at=0.0, nonce="n", kind="code", value="x" * 150))
    sent = 0

    async def flood():
        nonlocal sent
        with _sockets.dialled(req := _sockets.open_req(), addresses.work, 1 << 16):
            while sent < 10_000:
                sent += 1
                data = b"\xff" * 2000 if sent % 10 == 0 else scan
                with contextlib.suppress(LinkTimeout):
                    await _sockets.exchange(req, data, 5)

    async def oversize():
        with _sockets.dialled(req := _sockets.open_req(), addresses.work, 1 << 16):
            while True:
                with contextlib.suppress(LinkTimeout):
                    await _sockets.exchange(req, b"x" * (MAX_WORK_BYTES * 3), 0.2)
                await trio.sleep(0.1)

    delays = []
    async with trio.open_nursery() as nursery:
        work = WorkServer(addresses.work, addresses.wake, handler)
        server = SafetyServer(addresses.release, addresses.safety, desk)
        await nursery.start(work.run)
        await nursery.start(server.run)
        await nursery.start(client_for(addresses, gate).run)
        await until(lambda: desk.polls)
        await trio.sleep(0.2)
        nursery.start_soon(oversize)
        async with trio.open_nursery() as flooding:
            for _ in range(50):
                flooding.start_soon(flood)
            await until(lambda: sent > 500, 10)
            for incident in range(1, 6):
                start = trio.current_time()
                server.publish(release(incident))
                await until(lambda incident=incident: desk.acks and desk.acks[-1].incident == incident)
                delays.append(trio.current_time() - start)
        assert sent == 10_000
        assert work.statistics().requests >= 9_000
        assert work.statistics().bad_messages >= 900
        assert work.statistics().dropped_connections >= 1
        request = Heartbeat(device="gate-1", boot="b", seq=1, at=0.0)
        assert await raw(addresses.work, encode(request), 2)
        nursery.cancel_scope.cancel()
    assert max(delays) < 0.5, delays
