"""Lane controllers whose certificate or clock is of no use, or soon will be: whole processes, mutual TLS."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from paifang.lane_testing import LaneProcess, LaneRig, lane_rig
from paifang.pki import Authority
from paifang.testing import until
from protocols.console import Done, Snapshot, Trigger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DAY_S = 86400.0
YEAR_S = 366 * DAY_S
WAIT_S = 30.0


def clock_of_1970(lane: LaneProcess) -> None:
    """Whatever asks for the time of day hears 1970; how time passes is left alone."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing: install the Debian package faketime"
    lane.environment = {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": "@1970-01-03 00:00:00",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def certificate_until(lane: LaneProcess, rig: LaneRig, end: float) -> str:
    """Puts one of one day, for the key that the lane has made itself, in the place of its own. Returns its serial."""
    identity = lane.data / "identity"
    key = serialization.load_pem_private_key((identity / "device.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority = Authority.load(rig.site.data / "pki")
    device = lane.file.controller.device
    (identity / "device.pem").write_bytes(authority.issue(device, key.public_key(), days=1, now=end - DAY_S))
    return next(each.serial for each in authority.certificates(time.time()) if abs(each.not_after - end) < 2)


async def test_a_clock_of_1970_and_a_certificate_of_a_year_ago_receive_the_release_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Received, latched, told with what the sensors say, and kept over a restart with nobody to ask."""
    async with lane_rig(tmp_path, lanes=2, tls=True, start=False) as rig:
        await rig.site.start()
        await rig.enrol()
        clock_of_1970(rig.lanes["c1"])
        certificate_until(rig.lanes["c2"], rig, time.time() - YEAR_S)
        ticket = await rig.site.sell()
        for lane in rig.lanes.values():
            await lane.start()
            await lane.works(mode="offline_edge")
            assert not await lane.scan(ticket.code, patience_s=1.0), "it has no list, and nobody to ask"
        assert rig.lanes["c1"].status()["at"] < 4 * DAY_S, "its clock does not say 1970"

        await rig.site.ask("security1", "evacuation.trigger", Trigger(reason="test"), Done)

        def told(state: Snapshot) -> bool:
            """The server has heard from the lanes' own sensors that they are open."""
            seen = [(each.lane, each.acknowledged, each.sensed_open) for each in state.evacuation.lanes]
            return seen == [("c1", True, True), ("c2", True, True)]

        await rig.site.shows(told, "both lanes are released, and the server knows", WAIT_S)
        rig.site.kill()
        for lane in rig.lanes.values():
            assert lane.sim.released
            lane.kill()
            await lane.start()
            await lane.shows(lambda status: status["released"], "released again, with nobody to ask")
            assert lane.sim.released
            status = lane.status()
            assert (status["link_up"], status["list_version"], status["mode"]) == (False, 0, "offline_edge")
        assert await rig.site.value("select count(*) from scans") == 0, "a scan was heard"
        assert await rig.site.value("select count(*) from list_versions") == 0, "a list was asked for"


async def test_a_lane_renews_its_certificate_by_itself_and_goes_on_with_the_new_one(tmp_path: Path) -> None:
    async with lane_rig(tmp_path, tls=True, start=False) as rig:
        lane = rig.lanes["c1"]
        await rig.site.start()
        await rig.enrol()
        old = certificate_until(lane, rig, time.time() + 3600)
        await lane.start()
        await lane.works()
        await lane.shows(lambda status: status["certificate_days_left"] > 700, "has a new certificate", WAIT_S)
        assert lane.status()["certificate_trouble"] == ""

        # whoever still shows the old one is sent away: the sockets of releases, until the lane's next start
        revoked = {"version": 1, "revoked": {old: "lane-c1, this one alone"}}
        (rig.site.data / "pki" / "revoked.json").write_text(json.dumps(revoked))
        logs = [tmp_path / "server.err", tmp_path / "server.out"]
        await until(lambda: any(b"link.ended" in log.read_bytes() for log in logs), "the old one is cut off", WAIT_S)
        asked = lane.status()["decided_online"]
        ticket = await rig.site.sell()
        assert await lane.admit(ticket.code, patience_s=15.0)
        await lane.shows(lambda status: status["decided_online"] > asked, "decided with the server")
        await lane.shows(lambda status: status["link_up"] and status["mode"] == "online", "online")
        await rig.site.settled()
        assert (await rig.site.audit()).broken == []
