"""The link of a site with TLS, as the server wires it: enrolment, certificates, revocation, evacuation, clocks."""

import contextlib
import time

import msgspec
import pytest
import trio
from click.testing import CliRunner

from actors.lane import LinkCall
from actors.testing import heard, only
from core import Address
from core.testing import Probe, patient_time
from drivers.nng import LinkClient, LinkTimeout
from drivers.nng.testing import FakeGate, free_addresses, until
from paifang._wire_link import link_actor
from paifang._wire_pki import prepare_pki
from paifang.cli import main
from paifang.evacuate import evacuate
from paifang.keys import KeyRing, public_release_keys
from paifang.pki import Authority, device_tls
from paifang.pki_codes import Codes
from paifang.pki_enrol import enrol
from paifang.site import Lane, Link, Site, SiteFile, Zone
from paifang.testing import free_ports
from protocols.console import FeedEvent
from protocols.devicelink import Ack, Heartbeat, Hello, Welcome
from storage.interfaces import OpenCase

patient = pytest.fixture(autouse=True)(patient_time)

WAIT_S = 20.0


class Park:
    """Two lanes behind the link, which answer by themselves; the link's actor is the real one."""

    def __init__(self, folder):
        self.data = folder / "var"
        self.ring = KeyRing.init(self.data / "keys")
        enrol_url = f"tls+tcp://127.0.0.1:{free_ports(1)[0]}"
        self.link = Link(**msgspec.structs.asdict(free_addresses("tls+tcp")), enrol=enrol_url)
        self.site = SiteFile(
            site=Site(id="demo", name="牌坊"),
            link=self.link,
            zones=[Zone(id="park", name="景区")],
            lanes=[Lane(id=f"g{n}", name=f"G{n}", to_zone="park", device=f"gate-g{n}") for n in (1, 2)],
            products=[],
        )
        self.hub, self.books = Probe("hub", capacity=4096), Probe("books", capacity=4096)
        self.lanes = {f"gate-g{n}": (f"g{n}", Address(f"lane/g{n}", capacity=512)) for n in (1, 2)}
        self.servers = {}

    async def lane(self, me):
        while True:
            envelope = await me.receive()
            if isinstance(envelope.msg, LinkCall):
                request = envelope.msg.request
                head = {"seq": request.seq, "server_at": time.time()}
                if isinstance(request, Hello):
                    envelope.reply(Welcome(**head, site="demo", lane=me.name, mode="bidirectional"))
                else:
                    envelope.reply(Ack(**head))

    async def run(self, nursery):
        prepare_pki(self.site, self.data, lambda line: None)
        for _, address in self.lanes.values():
            nursery.start_soon(self.lane, address)
        actor = link_actor(
            self.site, self.data, self.lanes, hub=self.hub, ledger=self.books, servers=self.servers
        )
        me = Address("link", capacity=64)
        nursery.start_soon(actor.run, me)
        host, port = self.link.enrol.removeprefix("tls+tcp://").split(":")
        with trio.fail_after(WAIT_S):
            while True:  # the last of the sockets to be opened
                with contextlib.suppress(OSError):
                    await (await trio.open_tcp_stream(host, int(port))).aclose()
                    return
                await trio.sleep(0.02)

    async def client(self, nursery, tls, device="gate-g1", gate=None, **options):
        gate = gate or FakeGate()
        client = LinkClient(
            self.link, device, self.ring.release_verifiers, site="demo", lane=device.removeprefix("gate-"),
            sensed=gate.sensed, on_release=gate.release, tls=tls, **options,
        )  # fmt: skip
        await nursery.start(client.run)
        return client


@contextlib.asynccontextmanager
async def park(folder):
    made = Park(folder)
    async with trio.open_nursery() as nursery:
        await made.run(nursery)
        yield made, nursery
        nursery.cancel_scope.cancel()


async def beats(client, deadline_s=WAIT_S):
    return await client.ask(Heartbeat(**client.header()), deadline_s)


async def test_from_a_code_to_a_served_lane_to_a_revoked_one(tmp_path):
    async with park(tmp_path) as (made, nursery):
        authority = Authority.load(made.data / "pki")
        code = Codes(authority.folder, authority.certificate).make("gate-g1")
        await enrol(made.link.enrol.removeprefix("tls+tcp://"), code, tmp_path / "identity")
        assert public_release_keys(tmp_path / "identity").keys() == made.ring.release_verifiers.keys()
        lane = await made.client(nursery, device_tls(tmp_path / "identity"))
        other = await made.client(nursery, device_tls(authority.issue_files("gate-g2")), "gate-g2")
        for each in (lane, other):
            assert isinstance(await beats(each), Ack)
        done = CliRunner().invoke(main, ["pki", "revoke", "gate-g1", "--data", str(made.data)])
        assert done.exit_code == 0, done.output
        await until(lambda: not lane.connected, WAIT_S)
        with pytest.raises(LinkTimeout):
            await beats(lane, 1.5)
        assert made.servers["work"].statistics().refused_connections > 0
        assert isinstance(await beats(other), Ack)
        assert other.statistics().resent == 0


async def test_a_renewed_server_certificate_is_taken_up_without_a_restart(tmp_path):
    async with park(tmp_path) as (made, nursery):
        authority = Authority.load(made.data / "pki")
        tls = device_tls(authority.issue_files("gate-g1"))
        first = await made.client(nursery, tls)
        assert isinstance(await beats(first), Ack)
        authority.renew_server(days=1, now=time.time() - 5 * 86400)  # such a one has run out
        second = device_tls(authority.issue_files("gate-g2"))

        async def served():
            async with trio.open_nursery() as inner:
                probe = await made.client(inner, second, "gate-g2")
                try:
                    return isinstance(await beats(probe, 1.5), Ack)
                except LinkTimeout:
                    return False
                finally:
                    inner.cancel_scope.cancel()

        with trio.fail_after(WAIT_S):
            while await served():  # until the guard has looked
                await trio.sleep(0.1)
        assert first.connected  # who is connected stays so
        authority.renew_server()
        with trio.fail_after(WAIT_S):
            while not await served():
                await trio.sleep(0.1)


async def test_evacuation_by_its_own_process_speaks_tls_to_lanes_and_server(tmp_path):
    async with park(tmp_path) as (made, nursery):
        authority = Authority.load(made.data / "pki")
        gates = {n: FakeGate() for n in (1, 2)}
        for n, gate in gates.items():
            tls = device_tls(authority.issue_files(f"gate-g{n}"))
            await beats(await made.client(nursery, tls, f"gate-g{n}", gate))
        said = []
        report = await evacuate(made.site, made.data / "keys", made.data, timeout_s=WAIT_S, say=said.append)
        assert all(gate.releases for gate in gates.values())
        assert any("the server answers" in line for line in said), said
        assert report is not None


async def test_a_clock_twenty_minutes_ahead_raises_one_alarm(tmp_path):
    async with park(tmp_path) as (made, nursery):
        authority = Authority.load(made.data / "pki")
        tls = device_tls(authority.issue_files("gate-g1"))
        client = await made.client(nursery, tls, clock=lambda: time.time() + 1200)
        for _ in range(8):
            await beats(client)
        [case] = only(await heard(made.books), OpenCase)
        assert (case.kind, case.lane) == ("clock_off", "g1")
        assert [each.code for each in only(await heard(made.hub), FeedEvent)] == ["clock_off"]
        assert client.statistics().clock_offset_s == pytest.approx(-1200, abs=5)


async def test_people_hear_of_a_certificate_that_runs_out(tmp_path):
    folder = tmp_path / "var"
    folder.mkdir()
    Authority.init(folder / "pki", "demo").issue_files("gate-g1", days=20)
    async with park(tmp_path) as (made, _):
        found = []

        async def told():
            found.extend(only(await heard(made.books), OpenCase))
            return found

        with trio.fail_after(WAIT_S):
            while not await told():
                await trio.sleep(0.05)
        assert [case.kind for case in found] == ["certificate_expiring"]
        assert "gate-g1" in found[0].detail
