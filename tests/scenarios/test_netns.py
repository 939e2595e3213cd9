"""Three lane controllers, each a host of its own, and a server: whatever happens to the network, nothing is silent.

Each lane lives in a network namespace with one wire.  It enrols over that wire by a one-time code, and the link has
mutual TLS.  Packets are dropped by nftables, delays are our relay's; server, lanes, PostgreSQL and boards' serial lines
are real.  The relays stand at both ends of each wire and carry what they cannot read.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors.edge.decider import HOLD_MAX_S
from paifang.lane_testing import LaneProcess, LaneRig, lane_rig
from paifang.netns_testing import Host, Namespace, Relay, needed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(360)]

LANES = 3
SHARED, OWN = 1, 1  # tickets that all lanes are shown in each trouble, and that only one of them is
HEALED_S = HOLD_MAX_S + 40.0  # until every lane trusts the server again, and its journal is empty
PORT = re.compile(r"127\.0\.0\.1:(\d+)")


class Site:
    """The rig with a wire to each lane, and what visitors did."""

    def __init__(self, rig: LaneRig, hosts: dict[str, Host]) -> None:
        self.rig = rig
        self.hosts = hosts
        self.admitted: dict[str, list[str]] = defaultdict(list)  # ticket's code -> lanes
        self.tries = 0

    async def visit(self, lane: str, codes: list[str]) -> None:
        """Visitors one after the other."""
        for code in codes:
            self.tries += 1
            if await self.rig.lanes[lane].admit(code, patience_s=6.0):
                self.admitted[code].append(lane)

    async def visitors(self, codes: list[str]) -> None:
        """All lanes at once: the first tickets are shown at each of them, the others at one each."""
        async with trio.open_nursery() as nursery:
            for place, lane in enumerate(self.rig.lanes):
                own = codes[SHARED + place * OWN : SHARED + (place + 1) * OWN]
                shared = codes[:SHARED] if place % 2 else codes[:SHARED][::-1]
                nursery.start_soon(self.visit, lane, [*own, *shared])

    async def healed(self) -> None:
        """Every lane is online, knows the lists, and has nothing left to say; every grant is over."""
        for lane in self.rig.lanes.values():
            await lane.shows(
                lambda status: status["mode"] == "online" and status["waiting_for_upload"] == 0, "healed", HEALED_S
            )
        await self.rig.site.settled(HEALED_S)


@asynccontextmanager
async def site_with_wires(folder: Path, lanes: int = LANES, *, tickets: int) -> AsyncIterator[tuple[Site, list[str]]]:
    """Server and lanes as processes, each lane in a namespace of its own, and the codes of tickets in all their lists.

    All of it is ended with the block.
    """
    needed()
    word = f"pf{os.getpid() % 100_000}"
    with ExitStack() as stack:
        switch = Namespace(f"{word}s")
        stack.callback(switch.remove)
        hosts: dict[str, Host] = {}
        for number in range(1, lanes + 1):
            host = Host(f"{word}c{number}", number, switch)
            stack.callback(host.remove)
            hosts[f"c{number}"] = host
        async with trio.open_nursery() as nursery, lane_rig(folder, lanes=lanes, start=False, tls=True) as rig:
            lay_wires(Relay(nursery), rig.lanes, hosts, switch, rig.site.site.link.enrol)
            for name, lane in rig.lanes.items():
                lane.program = ["-m", "paifang.netns_testing", hosts[name].name, "lane", "run"]
            await rig.site.start()
            codes = [sold.code for sold in (await rig.site.sell_all("adult", tickets)).tickets]
            await rig.start_lanes()
            yield Site(rig, hosts), codes
            for host in hosts.values():
                host.drop()
            nursery.cancel_scope.cancel()


def lay_wires(
    relay: Relay, lanes: Mapping[str, LaneProcess], hosts: dict[str, Host], switch: Namespace, enrol: str
) -> None:
    """Every address that a lane file names, and `enrol`, is on its own loopback; behind it, over the wire, is who is
    meant.
    """
    listens = {name: _listens(lane) for name, lane in lanes.items()}
    for name, host in hosts.items():
        named = {int(found) for found in PORT.findall(lanes[name].path.read_text() + enrol)}
        for port in sorted(named - {listens[name]}):
            relay.carry(host, ("127.0.0.1", port), host, (host.there, port), host)
            other = next((each for each, listen in listens.items() if listen == port), None)
            if other is None:
                relay.carry(switch, (host.there, port), None, ("127.0.0.1", port))
            else:
                relay.carry(switch, (host.there, port), switch, (hosts[other].here, port))
        relay.carry(host, (host.here, listens[name]), host, ("127.0.0.1", listens[name]))


def _listens(lane: LaneProcess) -> int:
    found = re.search(r'listen = "tcp://127\.0\.0\.1:(\d+)"', lane.path.read_text())
    assert found
    return int(found[1])


# --- what must hold afterwards ------------------------------------------------------------------------------------


async def judge(site: Site) -> None:
    """Nobody who passed is lost or doubled, and whoever passed without a right is a case that names the ticket."""
    rig = site.rig
    people = sum(map(len, site.admitted.values()))
    assert await rig.site.value("select count(*)::int from passages where kind in ('granted', 'late')") == people
    assert await rig.site.value("select count(*)::int from passages") == people
    rows = await rig.site.rows("select lane, count(*)::int as people from passages group by 1")
    by_lane = {row["lane"]: row["people"] for row in rows}
    assert by_lane == Counter(lane for lanes in site.admitted.values() for lane in lanes)
    for lanes in site.admitted.values():
        assert len(set(lanes)) == len(lanes), f"one lane let a ticket in twice: {lanes}"
    double = sum(len(lanes) - 1 for lanes in site.admitted.values())
    assert await rig.site.value("select count(*)::int from redemptions") == len(site.admitted)
    conflicts = await rig.site.rows("select ticket, lane, other_lane, code from offline_conflicts")
    assert len(conflicts) == double, (conflicts, dict(site.admitted))
    cases = await rig.site.rows("select detail from cases where kind = 'double_use'")
    assert len(cases) == double
    for conflict in conflicts:
        details = [case["detail"] for case in cases if str(conflict["ticket"]) in case["detail"]]
        assert any(conflict["lane"] in detail for detail in details), (conflict, details)
    assert not await rig.site.rows("select detail from cases where kind in ('offline_wrong', 'tailgate', 'late_pass')")
    report = await rig.site.audit()
    assert report.clean, report.broken


async def test_cut_lossy_slow_and_one_way_networks_and_a_server_killed_and_stopped(tmp_path: Path) -> None:
    each = SHARED + LANES * OWN
    troubles = ("none", "cut", "loss", "one_way", "slow", "stopped", "killed")
    async with site_with_wires(tmp_path, tickets=each * len(troubles)) as (site, codes):
        server, wires = site.rig.site, site.hosts
        batches = {trouble: codes[place * each : (place + 1) * each] for place, trouble in enumerate(troubles)}
        await site.visitors(batches["none"])
        assert all(len(site.admitted[code]) == 1 for code in batches["none"])  # together, nobody gets in twice
        wires["c1"].drop(100, 100)
        await site.visitors(batches["cut"])
        wires["c1"].drop()
        wires["c2"].drop(30, 30)
        await site.visitors(batches["loss"])
        wires["c2"].drop()
        wires["c3"].drop(incoming=100)
        await site.visitors(batches["one_way"])
        wires["c3"].drop()
        for wire in wires.values():
            wire.delay_s = 2.0
        await site.visitors(batches["slow"])
        for wire in wires.values():
            wire.delay_s = 0.0
        server.suspend()
        await site.visitors(batches["stopped"])
        server.resume()
        server.kill()
        await site.visitors(batches["killed"])
        await server.start()
        await site.healed()
        await judge(site)
        alone = await server.value("select count(*)::int from offline_grants where outcome <> 'refused'")
        assert alone >= OWN * LANES  # they did decide alone
        cut = site.admitted[batches["cut"][0]]  # scenario 10: both lanes open, and there is one case for it
        assert "c1" in cut
        assert len(cut) == 2
        for trouble in troubles[1:]:  # nobody with a ticket of their own was kept out by any of it
            own = batches[trouble][SHARED:]
            assert [code for code in own if code not in site.admitted] == [], trouble
