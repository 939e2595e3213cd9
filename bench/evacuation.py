"""From the trigger to the last lane that is open: 500 lanes, visitors scanning, PostgreSQL stopped.

The trigger is a message of a console's; times are taken by the lanes, which are processes of their own, and by the
clock that all processes of a machine share.  A lane was sent the release when it has received it, so `last_sent_ms`
is never too small.  The floor beside it: the same lanes and messages at bare NNG sockets with nothing behind them.
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench._bare import Bare
from bench._evacuees import Heard, Orders
from bench._scanners import Visitors
from paifang.check import load
from paifang.keys import KeyRing, load_release_signer
from paifang.testing import PASSWORD, USERS, SiteRig, free_ports, site_text
from paifang.users import write_users
from protocols.console import Done, RearmLane, RestoreRequest, Sell, SellLine, Snapshot, Sold, Tender, Trigger
from protocols.devicelink import SafetyState, encode, publish_release, sign_release
from sim.truth import Truth
from storage.embedded import embedded

LANES, QUICK_LANES = 500, 50
SCANS_PER_S = 300
ROUNDS, QUICK_ROUNDS = 5, 1
PROCESSES = 2  # that play lanes
CODES = 500
SOLD_AT_ONCE = 100
READY_S, REPORT_S = 90.0, 30.0
WARM_S = 2.0  # of scanning with the database stopped, before the trigger
SOON_S = 3.0  # a lane that is acknowledged by then was not starved
PATIENCE_S = 60.0  # with lanes that get no processor; on a quiet machine nobody waits so long
SHOWN_S = 10.0  # from the last acknowledgement until a console shows it
ZONE_LIMIT = 1_000_000


def run(quick: bool = False, lanes: int = 0) -> dict[str, Any]:
    """Figures `last_sent_ms`, `last_ack_ms` (medians), `acknowledged` (in the end; the fewest of a round),
    `acknowledged_in_3_s`, `lanes`, `scans_per_s`, `granted_after` (scans admitted after the trigger: 0), `cut_off`
    (connections that the server closed), `floor_ack_ms`, `load` (of the machine, at the end); ratio `vs_bare_nng`.
    """
    return trio.run(_bench, lanes or (QUICK_LANES if quick else LANES), QUICK_ROUNDS if quick else ROUNDS)


class Worker:
    """A process that speaks lines of JSON."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._data = b""

    async def tell(self, words: Any) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(msgspec.json.encode(words) + b"\n")

    async def hear(self, within_s: float) -> dict[str, Any]:
        """Its next line. Raises AssertionError when there is none."""
        assert self._process.stdout is not None
        with trio.fail_after(within_s):
            while b"\n" not in self._data:
                more = await self._process.stdout.receive_some()
                assert more, f"{self._process.args!r} has ended"
                self._data += more
        line, _, self._data = self._data.partition(b"\n")
        words: dict[str, Any] = msgspec.json.decode(line)
        return words


@asynccontextmanager
async def worker(module: str) -> AsyncIterator[Worker]:
    """A module of this folder as a process, killed with the block."""
    command = [sys.executable, "-m", f"bench.{module}"]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Worker(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def lanes_at(orders: Orders) -> AsyncIterator[list[Worker]]:
    """All lanes, connected and answered."""
    async with worker("_evacuees") as first, worker("_evacuees") as second:
        both = [first, second]
        for number, each in enumerate(both):
            await each.tell(msgspec.structs.replace(orders, devices=orders.devices[number::PROCESSES]))
        for each in both:
            await each.hear(READY_S)
        yield both


async def _reported(workers: list[Worker]) -> list[Heard]:
    """Once every lane's acknowledgement was answered, or patience is over."""
    with trio.move_on_after(PATIENCE_S):
        for each in workers:
            assert "done" in await each.hear(PATIENCE_S + 1)
    found: list[Heard] = []
    for each in workers:
        await each.tell("report")
        words = await each.hear(REPORT_S)
        if "lanes" not in words:  # it was done just then
            words = await each.hear(REPORT_S)
        found += msgspec.convert(words["lanes"], list[Heard])
    return found


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One evacuation. Times in milliseconds from the trigger."""

    last_sent_ms: float
    last_ack_ms: float
    acknowledged: int
    in_3_s: int
    sensed: int  # lanes that a console shows as sensed open, afterwards
    cut_off: int
    granted: int = 0  # scans admitted after the trigger


def _round(heard: list[Heard], begun: float) -> Round:
    done = [lane.acknowledged_at for lane in heard if lane.acknowledged_at is not None]
    sent = [lane.heard_at for lane in heard if lane.heard_at is not None]
    return Round(
        last_sent_ms=(max(sent) - begun) * 1000 if len(sent) == len(heard) else math.inf,
        last_ack_ms=(max(done) - begun) * 1000 if len(done) == len(heard) else math.inf,
        acknowledged=len(done),
        in_3_s=sum(at - begun <= SOON_S for at in done),
        sensed=0,
        cut_off=sum(lane.cut_off for lane in heard),
    )


async def _bench(lanes: int, rounds: int) -> dict[str, Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection is a file, and each lane has three
    try:
        with tempfile.TemporaryDirectory(prefix="paifang-bench-") as name:
            async with embedded(Path(name) / "db") as cluster:
                return await _measure(Path(name), cluster, lanes, rounds)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _measure(folder: Path, cluster: Any, lanes: int, rounds: int) -> dict[str, Any]:
    from actors.accounts import User, hash_password

    dsn = cluster.dsn
    url = f"postgresql://{dsn.user}@/{dsn.database}?host={dsn.host}"
    data, site_path = folder / "data", folder / "site.toml"
    data.mkdir(mode=0o700)
    site_path.write_text(site_text(serial=0, linked=lanes, limit=ZONE_LIMIT, ports=free_ports(8), database=url))
    KeyRing.init(data / "keys")
    hashed = hash_password(PASSWORD)
    write_users(data, {name: User(name=name, role=role, password_hash=hashed) for name, role in USERS.items()})
    with Truth(data / "truth.jsonl") as truth:
        rig = SiteRig(folder, site_path, load(site_path), dsn, cluster, truth)
        orders = _orders(rig)
        floors: list[float] = []
        seen: list[Round] = []
        await rig.start()
        try:
            codes = await _codes(rig)
            for _ in range(rounds):
                floors.append(await _floor(rig, orders))
                seen.append(await _evacuated(rig, orders, codes))
        finally:
            with trio.CancelScope(shield=True):
                cluster.resume()
                await rig.stop()
    acks = [each.last_ack_ms for each in seen]
    figures = {
        "lanes": lanes,
        "scans_per_s": SCANS_PER_S,
        "rounds": rounds,
        "last_sent_ms": round(statistics.median(each.last_sent_ms for each in seen), 1),
        "last_ack_ms": round(statistics.median(acks), 1),
        "worst_ack_ms": round(max(acks), 1),
        "acknowledged": min(min(each.acknowledged, each.sensed) for each in seen),
        "acknowledged_in_3_s": min(each.in_3_s for each in seen),
        "granted_after": sum(each.granted for each in seen),
        "cut_off": sum(each.cut_off for each in seen),
        "load": round(os.getloadavg()[0], 1),
        "floor_ack_ms": round(statistics.median(floors), 1),
    }
    ratio = round(statistics.median(acks) / statistics.median(floors), 2)
    return {"bench": "evacuation", "figures": figures, "ratios": {"vs_bare_nng": ratio}}


def _orders(rig: SiteRig) -> Orders:
    link = rig.site.link
    _, key = load_release_signer(rig.data / "keys")
    return Orders(
        release=link.release,
        safety=link.safety,
        devices=[lane.device for lane in rig.site.lanes if lane.device is not None],
        site=rig.site.site.id,
        key=key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
    )


async def _codes(rig: SiteRig) -> list[str]:
    codes: list[str] = []
    price = next(product.price_cents for product in rig.site.products if product.id == "adult")
    async with rig.console("cashier") as console:
        while len(codes) < CODES:
            order = Sell(
                key=f"bench-{len(codes)}",
                lines=[SellLine(product="adult", quantity=SOLD_AT_ONCE)],
                tenders=[Tender(tender="cash", amount_cents=price * SOLD_AT_ONCE)],
            )
            sold = await console.call("sales.sell", order, Sold)
            codes += [ticket.code for ticket in sold.tickets if ticket.code]
    return codes


async def _floor(rig: SiteRig, orders: Orders) -> float:
    """Milliseconds to the last acknowledgement at bare sockets, on addresses of their own."""
    ports = free_ports(2)
    release, safety = (f"tcp://127.0.0.1:{port}" for port in ports)
    key_id, key = load_release_signer(rig.data / "keys")
    signed = sign_release(key, key_id, site=orders.site, incident=1)
    bare = Bare(
        release=release, safety=safety, publication=publish_release(signed), answer=encode(SafetyState(release=signed))
    )
    async with worker("_bare") as server:
        await server.tell(bare)
        await server.hear(READY_S)
        async with lanes_at(msgspec.structs.replace(orders, release=release, safety=safety, heeds=False)) as lanes:
            await trio.sleep(WARM_S)
            await server.tell("publish")
            begun = float((await server.hear(READY_S))["begun"])
            found = _round(await _reported(lanes), begun)
    if found.acknowledged != len(orders.devices):
        raise AssertionError(f"{found.acknowledged} of {len(orders.devices)} lanes were acknowledged at bare sockets")
    return found.last_ack_ms


async def _evacuated(rig: SiteRig, orders: Orders, codes: list[str]) -> Round:
    """One evacuation under load."""
    assert rig.cluster is not None
    visitors = Visitors(work=rig.site.link.work, devices=orders.devices, codes=codes, scans_per_s=SCANS_PER_S)
    async with lanes_at(orders) as lanes, worker("_scanners") as scanners, rig.console("security1") as console:
        await scanners.tell(visitors)
        await scanners.hear(READY_S)
        rig.cluster.suspend()
        await trio.sleep(WARM_S)
        begun = time.monotonic()
        await console.call("evacuation.trigger", Trigger(reason="bench"), Done)
        await trio.sleep(SOON_S)  # for those who are admitted all the same, too
        heard = await _reported(lanes)
        await scanners.tell(begun)
        granted = int((await scanners.hear(REPORT_S))["granted_after"])
        sensed = await _sensed(rig, len(orders.devices))
        rig.cluster.resume()
        for user in ("security1", "security2"):
            await rig.ask(user, "evacuation.restore", RestoreRequest(reason="bench"), Done)
        await rig.ask("security1", "lane.rearm", RearmLane(lane="*"), Done)
    return msgspec.structs.replace(_round(heard, begun), sensed=sensed, granted=granted)


async def _sensed(rig: SiteRig, lanes: int) -> int:
    """How many lanes a console shows as sensed open; asked again until it is all of them, or patience is over."""
    count = 0
    with trio.move_on_after(SHOWN_S):
        while count < lanes:
            shown: Snapshot = await rig.snapshot()
            count = sum(lane.sensed_open for lane in shown.evacuation.lanes)
    return count
