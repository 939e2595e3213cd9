"""Mutual TLS between the real server and NNG's own end, with certificates of a real authority."""

import contextlib
import ssl
import time

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.testing import patient_time
from drivers.nng import (
    LinkAddressError,
    LinkClient,
    LinkTimeout,
    LinkTls,
    LinkTlsError,
    SafetyServer,
    WorkServer,
    client_config,
    server_context,
)
from drivers.nng.testing import FakeGate, free_addresses, until
from paifang.pki import Authority, device_tls, read_revoked, server_tls
from protocols.devicelink import EVERYBODY, Ack, Heartbeat, Refused, SafetyState, sign_release

patient = pytest.fixture(autouse=True)(patient_time)

KEY = Ed25519PrivateKey.generate()
KEYS = {"r1": KEY.public_key()}
YEAR_S = 365 * 86400.0
WAIT_S = 15.0  # for what must come
NEVER_S = 1.5  # for what must not


async def answer(request):
    return Ack(seq=request.seq, server_at=1.0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.init(tmp_path_factory.mktemp("site") / "pki", "demo")


def issued(authority, device, **options):
    return device_tls(authority.issue_files(device, **options))


class Desk:
    def __init__(self):
        self.latched = None
        self.seen = []

    def __call__(self, request):
        self.seen.append(request)
        return SafetyState(release=self.latched)


def client_for(addresses, device, tls, gate=None):
    gate = gate or FakeGate()
    return LinkClient(
        addresses, device, KEYS, site="demo", lane="n", sensed=gate.sensed, on_release=gate.release, tls=tls
    )


@contextlib.asynccontextmanager
async def site(authority, handler=answer, desk=None, accepts=lambda peer: True, server=None):
    """A server with TLS on all its sockets. Yields its addresses, both servers, and a nursery for clients."""
    addresses = free_addresses("tls+tcp")
    files = server or server_tls(authority.folder)
    desk = desk or Desk()
    strict, lenient = server_context(files), server_context(files, any_time=True)
    work = WorkServer(addresses.work, addresses.wake, handler, tls=strict, accepts=accepts)
    safety = SafetyServer(addresses.release, addresses.safety, desk, tls=lenient, accepts=accepts)
    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        await nursery.start(safety.run)
        yield addresses, work, safety, nursery
        nursery.cancel_scope.cancel()


async def test_a_device_with_its_certificate_is_served_on_every_socket(authority):
    gate, desk = FakeGate(), Desk()
    async with site(authority, desk=desk) as (addresses, work, safety, nursery):
        client = client_for(addresses, "gate-1", issued(authority, "gate-1"), gate)
        await nursery.start(client.run)
        reply = await client.ask(Heartbeat(**client.header()), WAIT_S)
        assert isinstance(reply, Ack)
        await until(lambda: desk.seen, WAIT_S)

        def woken():
            work.wake("gate-1")
            return client.statistics().wakes

        await until(woken, WAIT_S)
        release = sign_release(KEY, "r1", site="demo", incident=1)

        def released():
            safety.publish(release)
            return gate.releases

        await until(released, WAIT_S)
        assert work.statistics().refused_connections == 0


async def test_a_certificate_in_another_devices_name_is_refused_with_every_message(authority):
    asked = []

    async def handler(request):
        asked.append(request.device)
        return await answer(request)

    desk = Desk()
    async with site(authority, handler, desk) as (addresses, work, safety, nursery):
        thief = client_for(addresses, "gate-2", issued(authority, "gate-1"))
        await nursery.start(thief.run)
        for _ in range(3):
            reply = await thief.ask(Heartbeat(**thief.header()), WAIT_S)
            assert isinstance(reply, Refused)
            assert reply.code == "unknown_device"
        await until(lambda: safety.statistics().wrong_devices, WAIT_S)
        assert (asked, desk.seen) == ([], [])
        assert work.statistics().wrong_devices == 3


async def nothing_on_work(client, addresses):
    with pytest.raises(LinkTimeout):
        await client.ask(Heartbeat(**client.header()), NEVER_S)
    assert not client.connected


async def test_another_authoritys_certificate_is_refused_everywhere_and_harms_nobody(authority, tmp_path):
    other = Authority.init(tmp_path / "pki", "demo")
    mixed = issued(other, "gate-1")
    mixed = LinkTls(ca=authority.folder / "ca.pem", certificate=mixed.certificate, key=mixed.key)
    desk, gate = Desk(), FakeGate()
    desk.latched = sign_release(KEY, "r1", site="demo", incident=1)
    async with site(authority, desk=desk) as (addresses, work, safety, nursery):
        stranger = client_for(addresses, "gate-1", mixed, gate)
        await nursery.start(stranger.run)
        await nothing_on_work(stranger, addresses)
        await until(lambda: work.statistics().refused_connections and safety.statistics().refused_connections, WAIT_S)
        assert (desk.seen, gate.releases) == ([], [])
        friend = client_for(addresses, "gate-2", issued(authority, "gate-2"))
        await nursery.start(friend.run)
        assert isinstance(await friend.ask(Heartbeat(**friend.header()), WAIT_S), Ack)


@pytest.mark.parametrize("address", ["work", "safety"])
async def test_no_certificate_and_no_tls_are_refused(authority, address):
    async with site(authority) as (addresses, work, safety, _):
        server = work if address == "work" else safety
        host, port = getattr(addresses, address).removeprefix("tls+tcp://").split(":")
        plain = await trio.open_tcp_stream(host, int(port))
        await plain.send_all(bytes.fromhex("0053500000300000"))
        await until(lambda: server.statistics().refused_connections == 1, WAIT_S)
        await plain.aclose()
        context = ssl.create_default_context(cafile=authority.folder / "ca.pem")
        nobody = await trio.open_tcp_stream(host, int(port))
        stream = trio.SSLStream(nobody, context, server_hostname="paifang-server", https_compatible=True)
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(WAIT_S):
            await stream.do_handshake()
            await stream.receive_some(1)
        await until(lambda: server.statistics().refused_connections == 2, WAIT_S)
        await trio.aclose_forcefully(stream)


async def test_a_certificate_that_ran_out_a_year_ago_hears_the_release_and_nothing_else(authority):
    expired = issued(authority, "gate-3", days=30, now=time.time() - YEAR_S - 30 * 86400)
    desk, gate = Desk(), FakeGate()
    async with site(authority, desk=desk) as (addresses, work, _, nursery):
        client = client_for(addresses, "gate-3", expired, gate)
        await nursery.start(client.run)
        await until(lambda: desk.seen, WAIT_S)  # it polls, and is answered
        desk.latched = sign_release(KEY, "r1", site="demo", incident=7)
        await until(lambda: [each.incident for each in gate.releases] == [7], WAIT_S)
        await nothing_on_work(client, addresses)
        await until(lambda: work.statistics().refused_connections, WAIT_S)
        assert work.statistics().requests == 0


async def test_a_lane_whose_clock_is_before_the_servers_certificate_hears_the_release_and_nothing_else(authority):
    """For a lane whose clock says 1970 no certificate of today has begun."""
    later = Authority.load(authority.folder)
    tls = issued(authority, "gate-4")
    later.renew_server(now=time.time() + 3 * 86400)
    desk, gate = Desk(), FakeGate()
    try:
        async with site(authority, desk=desk) as (addresses, work, _, nursery):
            client = client_for(addresses, "gate-4", tls, gate)
            await nursery.start(client.run)
            await until(lambda: desk.seen, WAIT_S)
            desk.latched = sign_release(KEY, "r1", site="demo", incident=8)
            await until(lambda: [each.incident for each in gate.releases] == [8], WAIT_S)
            await nothing_on_work(client, addresses)
            assert work.statistics().requests == 0
    finally:
        later.renew_server()


async def test_a_device_that_is_no_longer_accepted_is_cut_off_at_once_and_stays_out(authority):
    revoked = set()
    async with site(authority, accepts=lambda peer: peer.serial not in revoked) as (addresses, work, safety, nursery):
        bad = client_for(addresses, "gate-5", issued(authority, "gate-5"))
        good = client_for(addresses, "gate-6", issued(authority, "gate-6"))
        for client in (bad, good):
            await nursery.start(client.run)
            assert isinstance(await client.ask(Heartbeat(**client.header()), WAIT_S), Ack)
        assert authority.revoke("gate-5") >= 1
        revoked.update(read_revoked(authority.folder))
        assert work.recheck() >= 1
        safety.recheck()
        await nothing_on_work(bad, addresses)
        assert isinstance(await good.ask(Heartbeat(**good.header()), WAIT_S), Ack)
        assert good.connected


async def test_a_server_of_another_authority_gets_no_requests(authority, tmp_path):
    other = Authority.init(tmp_path / "pki", "demo")
    asked = []

    async def handler(request):
        asked.append(request)
        return await answer(request)

    mixed = server_tls(other.folder)
    async with site(authority, handler, server=mixed) as (addresses, _, _, nursery):
        client = client_for(addresses, "gate-1", issued(authority, "gate-1"))
        await nursery.start(client.run)
        await nothing_on_work(client, addresses)
        assert asked == []


def test_without_tls_only_loopback_is_bound_and_with_it_any_address(authority):
    context = server_context(server_tls(authority.folder))
    WorkServer("tls+tcp://0.0.0.0:8461", "tls+tcp://0.0.0.0:8462", answer, tls=context)
    for work in ("tcp://0.0.0.0:8461", "tls+tcp://0.0.0.0:8461"):
        with pytest.raises(LinkAddressError):
            WorkServer(work, "tcp://127.0.0.1:8462", answer)
    with pytest.raises(LinkAddressError):  # not half of it
        WorkServer("tcp://127.0.0.1:8461", "tls+tcp://127.0.0.1:8462", answer, tls=context)


def test_files_that_cannot_be_used_are_named(authority, tmp_path):
    good = issued(authority, "gate-7")
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    for build in (client_config, server_context):
        for name in ("ca", "certificate", "key"):
            for path in (damaged, tmp_path / "missing.pem"):
                files = {"ca": good.ca, "certificate": good.certificate, "key": good.key} | {name: path}
                with pytest.raises(LinkTlsError, match=path.name):
                    build(LinkTls(**files))


async def test_a_renewed_certificate_is_taken_into_use_without_losing_a_question(authority, tmp_path):
    """Make before break: what is being asked is answered over the old connection, what comes next over the new one."""
    peers, links, asked = [], [], []

    def accepts(peer):
        peers.append(peer.serial)
        return True

    gate = FakeGate()
    async with site(authority, accepts=accepts) as (addresses, work, _, nursery):
        old = issued(authority, "gate-1")
        client = LinkClient(
            addresses,
            "gate-1",
            KEYS,
            site="demo",
            lane="n",
            sensed=gate.sensed,
            on_release=gate.release,
            on_link=links.append,
            tls=old,
        )
        await nursery.start(client.run)
        assert isinstance(await client.ask(Heartbeat(**client.header()), WAIT_S), Ack)
        first = set(peers)

        async def ask_on():
            while True:
                asked.append(await client.ask(Heartbeat(**client.header()), WAIT_S))
                await trio.sleep(0.02)

        nursery.start_soon(ask_on)
        (tmp_path / "damaged.pem").write_text("none")
        with pytest.raises(LinkTlsError):
            client.use(LinkTls(ca=old.ca, certificate=tmp_path / "damaged.pem", key=old.key))
        authority.renew("gate-1")
        for _ in range(3):  # again and again is no trouble
            client.use(device_tls(authority.folder / "devices" / "gate-1"))
        await until(lambda: len(set(peers) - first) == 1, WAIT_S)
        before = len(asked)
        await until(lambda: len(asked) > before + 5, WAIT_S)
        await until(lambda: work.statistics().connections == 1, WAIT_S)  # the old one is given up
        before = len(asked)
        await until(lambda: len(asked) > before + 5, WAIT_S)
        assert all(isinstance(each, Ack) for each in asked)
        assert False not in links
        assert client.connected
        assert client.statistics().resent == 0


async def test_five_hundred_wake_ups_at_once_reach_everybody_and_cut_nobody_off(authority):
    """With TLS every publication waits for its subscriber: what is too much at once would cost the connection."""
    names = ["gate-0", "gate-250", "gate-499"]
    woken, lists = dict.fromkeys(names, 0), dict.fromkeys(names, 0)

    def client(addresses, name):
        def wake():
            woken[name] += 1

        def listed():
            lists[name] += 1

        gate = FakeGate()
        return LinkClient(
            addresses,
            name,
            KEYS,
            site="demo",
            sensed=gate.sensed,
            on_release=gate.release,
            on_wake=wake,
            on_lists=listed,
            tls=issued(authority, name),
        )

    async with site(authority) as (addresses, work, _, nursery):
        for name in names:
            await nursery.start(client(addresses, name).run)

        def everybody_is_there():
            work.wake(EVERYBODY)
            return all(lists.values())

        await until(everybody_is_there, WAIT_S)
        connections = work.statistics().wake_subscribers
        assert connections == len(names)
        for _ in range(2):  # the second is while the first has not all left
            for number in range(500):
                work.wake(f"gate-{number}")
        await until(lambda: all(woken.values()), WAIT_S)
        assert all(count <= 2 for count in woken.values()), woken
        assert work.statistics().slow_subscribers == 0
        assert work.statistics().wake_subscribers == connections
