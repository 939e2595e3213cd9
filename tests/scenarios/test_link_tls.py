"""A whole server whose link has TLS: a lane enrols, scans a ticket and passes, and is revoked; each by its command."""

import os
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from core.testing import patient_time_with_processes
from drivers.nng import LinkClient, LinkTimeout
from drivers.nng.testing import FakeGate
from paifang.keys import public_release_keys
from paifang.pki import device_tls
from paifang.testing import FAST, free_ports, site_rig, until
from protocols.console import Done, Trigger
from protocols.devicelink import Ack, Heartbeat, Hello, Welcome
from sim.identity import identities
from sim.site import SimSite

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "docs" / "nngcat-gate.sh"
WAIT_S = 60.0


def with_tls(text):
    enrol = f'enrol = "tls+tcp://127.0.0.1:{free_ports(1)[0]}"\n'
    return text.replace('"tcp://', '"tls+tcp://').replace("[link]\n", "[link]\n" + enrol)


async def run(*command, **options):
    with trio.fail_after(WAIT_S):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_a_lane_enrols_passes_and_is_revoked(tmp_path, nursery):
    async with site_rig(tmp_path, serial=0, linked=1, start=False, configure=with_tls) as rig:
        await rig.start()
        paifang = partial(run, sys.executable, "-m", "paifang")
        data, site = str(rig.data), str(rig.site_path)
        code, out, err = await paifang("pki", "enrol-code", "gate-1", "--data", data, "--site", site)
        assert code == 0, err
        identity = tmp_path / "identity"
        server = rig.site.link.enrol.removeprefix("tls+tcp://")
        args = ["lane", "enrol", "--server", server, "--code", out.strip(), "--identity"]
        code, out, err = await paifang(*args, str(identity))
        assert code == 0, err
        code, _, err = await paifang(*args, str(tmp_path / "again"))
        assert (code, "used" in err) == (1, True)

        files = device_tls(identity)
        ticket = await rig.sell("adult")
        options = ["--insecure", "--cacert", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
        gate = ["bash", str(SCRIPT), rig.site.link.work, "gate-1"]
        env = os.environ | {"PYTHON": sys.executable}
        code, out, err = await run(*gate, ticket.code, *options, env=env)
        assert code == 0, (out, err)
        await rig.settled()
        assert await rig.value("SELECT count(*) FROM passages") == 1
        code, out, _ = await run(*gate, ticket.code, *options, env=env)
        assert (code, "already" in out or "used" in out) == (1, True), out
        code, out, _ = await run(*gate[:-1], "gate-2", ticket.code, *options, env=env)
        assert (code, "unknown_device" in out) == (1, True), out

        sensors = FakeGate()
        client = LinkClient(
            rig.site.link, "gate-1", {}, site="test", sensed=sensors.sensed, on_release=sensors.release, tls=files
        )
        await nursery.start(client.run)
        welcome = await client.ask(Hello(**client.header(), firmware="x"), WAIT_S)
        assert isinstance(welcome, Welcome)
        assert (welcome.v, client.version) == (2, 2)
        assert isinstance(await client.ask(Heartbeat(**client.header()), WAIT_S), Ack)
        code, _, err = await paifang("pki", "revoke", "gate-1", "--data", data)
        assert code == 0, err
        await until(lambda: not client.connected, "the revoked lane is cut off", 20.0)
        with pytest.raises(LinkTimeout):
            await client.ask(Heartbeat(**client.header()), 2.0)
        assert (await rig.audit()).broken == []
        nursery.cancel_scope.cancel()


async def test_the_simulated_smart_gates_speak_tls(tmp_path, nursery):
    async with site_rig(tmp_path, serial=0, linked=1, start=False, configure=with_tls) as rig:
        await rig.start()
        keys = public_release_keys(rig.data / "keys")
        place = SimSite(rig.site, rig.data, keys, rig.truth, timing=FAST, identity=identities(rig.site, rig.data))
        lane = place.lanes["g1"]
        nursery.start_soon(lane.gate.run)
        assert await lane.gate.ready(WAIT_S)
        ticket = await rig.sell("adult")
        async with lane.queue:
            scanned = await lane.scan(ticket.code, WAIT_S, cause="test")
            assert scanned.opened
            await lane.walk(0.1, ticket=None, visitor="test")
            lane.done(scanned, 1)
        await until(lambda: lane.gate.unsaid == 0, "the server has it all", WAIT_S)
        await rig.settled(WAIT_S)
        assert await rig.value("SELECT count(*) FROM passages") == 1
        await rig.ask("security1", "evacuation.trigger", Trigger(reason="test"), Done)
        await until(lambda: lane.released, "released over TLS", WAIT_S)
        assert (await rig.audit()).broken == []
        nursery.cancel_scope.cancel()
