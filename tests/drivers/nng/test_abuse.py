"""Who means harm, on real sockets with TLS: refused, counted, and no trouble for a gate that goes on working."""

import contextlib
import resource
import ssl
import statistics
import struct
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.nng import LinkClient, SafetyServer, WorkServer, _sockets, _sp, client_config, server_context
from drivers.nng._sp import CONNECTIONS_MAX, NAMED_MAX
from drivers.nng.testing import FakeGate, free_addresses, until
from paifang.pki import Authority, device_tls, server_tls
from protocols.devicelink import MAX_WORK_BYTES, Ack, Grant, Heartbeat, Pass, SafetyState, Scan, encode
from protocols.sp import Protocol, greeting

patient = pytest.fixture(autouse=True)(patient_time)

WAIT_S = 30.0
HUGE_BYTES = 100 * 1024 * 1024
CONNECTIONS = 10_000
CHUNK = 250  # connections opened at a time


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.init(tmp_path_factory.mktemp("site") / "pki", "demo")


@pytest.fixture
def strangers_max(monkeypatch):
    """A small bound, so that few files of this process are enough to reach it."""
    monkeypatch.setattr(_sp, "STRANGERS_MAX", 64)
    return 64


class Books:
    """What a server does once for each (device, boot, seq), whatever is repeated."""

    def __init__(self):
        self.passages = {}
        self.grants = {}
        self.requests = 0

    async def __call__(self, request):
        self.requests += 1
        head = {"seq": request.seq, "server_at": 1.0}
        if isinstance(request, Pass):
            self.passages[request.device, request.boot, request.seq] = request
        if isinstance(request, Scan):
            grant = self.grants.setdefault((request.device, request.nonce), len(self.grants) + 1)
            words = {"product_class": "full", "text_zh": "", "text_en": "", "remaining": 0, "state": "open"}
            return Grant(**head, **words, nonce=request.nonce, grant=grant, pax=1, passed=0, ttl_s=5.0)
        return Ack(**head)


@contextlib.asynccontextmanager
async def site(authority, handler):
    """Both servers with TLS, and a gate that beats all the time; at the end it must have lost nothing."""
    addresses = free_addresses("tls+tcp")
    files = server_tls(authority.folder)
    work = WorkServer(addresses.work, addresses.wake, handler, tls=server_context(files))
    safety = SafetyServer(
        addresses.release, addresses.safety, lambda request: SafetyState(), tls=server_context(files, any_time=True)
    )
    gate = FakeGate()
    tls = device_tls(authority.issue_files("gate-good"))
    good = LinkClient(
        addresses, "gate-good", {}, site="demo", sensed=gate.sensed, on_release=gate.release, tls=tls
    )
    beaten = []

    async def beat():
        while True:
            start = trio.current_time()
            assert isinstance(await good.ask(Heartbeat(**good.header()), WAIT_S), Ack)
            beaten.append(trio.current_time() - start)
            await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        await nursery.start(safety.run)
        await nursery.start(good.run)
        await until(lambda: good.connected, WAIT_S)
        nursery.start_soon(beat)
        yield addresses, work, safety
        before = len(beaten)
        await until(lambda: len(beaten) >= before + 3, WAIT_S)
        assert good.connected
        assert good.statistics().resent == 0
        assert statistics.median(beaten) < 0.5
        nursery.cancel_scope.cancel()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def address_of(url):
    host, port = url.rsplit("//", 1)[1].split(":")
    return host, int(port)


async def spoken(authority, url, protocol=Protocol.REQ):
    """A connection with a good certificate that has greeted, in our own hands."""
    tls = device_tls(authority.issue_files("gate-bad"))
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.certificate, tls.key)
    raw = await trio.open_tcp_stream(*address_of(url))
    stream = trio.SSLStream(raw, context, server_hostname="paifang-server", https_compatible=True)
    try:
        await stream.send_all(greeting(protocol))
    except trio.BrokenResourceError:
        await trio.aclose_forcefully(raw)
        raise
    return stream


@pytest.mark.parametrize("name", ["work", "safety", "wake", "release"])
async def test_a_message_of_100_mb_ends_its_connection_before_it_is_taken_in(authority, name):
    async with site(authority, Books()) as (addresses, work, safety):
        server = work if name in ("work", "wake") else safety
        publishes = name in ("wake", "release")
        stream = await spoken(authority, getattr(addresses, name), Protocol.SUB if publishes else Protocol.REQ)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sent = 0
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.fail_after(WAIT_S):
            await stream.send_all(struct.pack(">Q", HUGE_BYTES))
            while sent < HUGE_BYTES:
                await stream.send_all(bytes(1 << 16))
                sent += 1 << 16
        await trio.aclose_forcefully(stream)
        await until(lambda: server.statistics().dropped_connections == 1, WAIT_S)
        assert sent < HUGE_BYTES
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # kilobytes


async def test_a_replayed_message_does_nothing_twice(authority):
    """Somebody with a good certificate repeats what he sent; somebody with another one what he has overheard."""
    books = Books()
    async with site(authority, books) as (addresses, work, _):
        mine = client_config(device_tls(authority.issue_files("gate-1")))
        other = client_config(device_tls(authority.issue_files("gate-2")))
        head = {"device": "gate-1", "boot": "b", "at": 1.0}
        passed = encode(Pass(**head, seq=2, grant=1))
        scan = encode(Scan(**head, seq=1, nonce="n", kind="code", value="x"))
        for _ in range(20):
            for message in (scan, passed):
                with _sockets.dialled(req := _sockets.open_req(), addresses.work, 1 << 20, tls=mine):
                    await _sockets.exchange(req, message, WAIT_S)
        assert (len(books.passages), len(books.grants)) == (1, 1)
        before = work.statistics().wrong_devices
        with _sockets.dialled(req := _sockets.open_req(), addresses.work, 1 << 20, tls=other):
            answer = await _sockets.exchange(req, passed, WAIT_S)
        assert b"unknown_device" in answer
        assert work.statistics().wrong_devices == before + 1


async def test_one_certificate_has_a_bounded_number_of_connections(authority):
    async with site(authority, Books()) as (addresses, work, _):
        streams = [await spoken(authority, addresses.work) for _ in range(NAMED_MAX + 5)]
        await until(lambda: work.statistics().refused_connections == 5, WAIT_S)
        await until(lambda: work.statistics().connections == NAMED_MAX + 1, WAIT_S)  # and the good gate's
        for stream in streams:
            await trio.aclose_forcefully(stream)


async def test_who_never_greets_is_sent_away_and_keeps_nobody_out_for_long(authority, strangers_max, monkeypatch):
    monkeypatch.setattr(_sp, "GREETING_S", 1.5)
    async with site(authority, Books()) as (addresses, work, _):
        idle = [await trio.open_tcp_stream(*address_of(addresses.work)) for _ in range(strangers_max)]
        await trio.sleep(0.2)
        one_more = await trio.open_tcp_stream(*address_of(addresses.work))
        with trio.fail_after(WAIT_S), contextlib.suppress(trio.BrokenResourceError):
            assert await one_more.receive_some(1) == b""
        assert work.statistics().refused_connections >= 1
        with trio.fail_after(WAIT_S):  # GREETING_S later there is room again
            while True:
                try:
                    stream = await spoken(authority, addresses.work)
                    break
                except trio.BrokenResourceError:
                    await trio.sleep(0.2)
        await until(lambda: work.statistics().connections == 2, WAIT_S)
        await trio.aclose_forcefully(stream)
        for each in [*idle, one_more]:
            await trio.aclose_forcefully(each)


@pytest.mark.slow
async def test_ten_thousand_connections_from_one_address(authority, strangers_max):
    async with site(authority, Books()) as (addresses, work, safety):
        refused = 0
        most = 0
        host, port = address_of(addresses.work)
        for _ in range(CONNECTIONS // CHUNK):
            streams = []
            for _ in range(CHUNK):
                streams.append(await trio.open_tcp_stream(host, port))
            await until(
                lambda seen=refused: work.statistics().refused_connections - seen >= CHUNK - strangers_max, WAIT_S
            )
            most = max(most, open_files())
            for stream in streams:
                await trio.aclose_forcefully(stream)
            refused = work.statistics().refused_connections
        assert refused >= CONNECTIONS - CONNECTIONS // CHUNK * strangers_max
        assert most < 2 * CHUNK + strangers_max + 200  # ours, and those of the server that were let in
        assert safety.statistics().refused_connections == 0


def test_the_bounds_leave_room_for_files(monkeypatch):
    from drivers.nng._sp import connections_max

    for files, most in ((256, 32), (1024, 128), (20000, 2500), (1 << 20, CONNECTIONS_MAX)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert connections_max() == most
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert connections_max() == CONNECTIONS_MAX
    assert MAX_WORK_BYTES < HUGE_BYTES
