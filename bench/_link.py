"""Whole passages over the device link: 64 gates of other people's make, a server process, PostgreSQL on disk.

A gate scans, hears that it is granted, says that one person passed and that the grant is over, and hears of both that
they are on disk.  The gates run in this process and the server in one of its own; all share the same processors.
A gate here is one connection that asks one thing after the other, as light as can be: what is measured is the server.
"""

from __future__ import annotations

import secrets
import statistics
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from paifang.check import load
from paifang.keys import KeyRing
from paifang.testing import PASSWORD, USERS, SiteRig, free_ports, site_text
from paifang.users import write_users
from protocols.console import Sell, SellLine, Sold, Tender
from protocols.devicelink import (
    Ack,
    Grant,
    Hello,
    Pass,
    Refused,
    Scan,
    Welcome,
    WorkReply,
    WorkRequest,
    decode_reply,
    encode,
)
from protocols.sp import Decoder, Protocol, frame, greeting
from sim.truth import Truth
from storage.embedded import Embedded

GATES = 64
SOLD_AT_ONCE = 100  # tickets in an order
ZONE_LIMIT = 1_000_000
OFFERED_PER_S = 200
ANSWER_S, SETTLE_S, AGAIN_S = 30.0, 1.0, 0.05
FIRST_ID = 0x80000000  # of requests, with the highest bit set
REPLY_MAX_BYTES = 65536
WELCOME_S = 30.0
ROOM_PER_S = 30  # tickets for a second and gate: more than it can admit


async def measure(server: Embedded, folder: Path, seconds: float, gates: int = GATES) -> dict[str, Any]:
    """`link_passages_per_s`, and `link_scan_to_grant_ms` {p50, p99} at 200 visitors a second."""
    from actors.accounts import User, hash_password

    dsn = server.dsn
    url = f"postgresql://{dsn.user}@/{dsn.database}?host={dsn.host}"
    data, site_path = folder / "data", folder / "site.toml"
    data.mkdir(mode=0o700)
    site_path.write_text(site_text(serial=0, linked=gates, limit=ZONE_LIMIT, ports=free_ports(8), database=url))
    KeyRing.init(data / "keys")
    hashed = hash_password(PASSWORD)
    write_users(data, {name: User(name=name, role=role, password_hash=hashed) for name, role in USERS.items()})
    with Truth(data / "truth.jsonl") as truth:
        rig = SiteRig(folder, site_path, load(site_path), dsn, None, truth)
        await rig.start()
        try:
            linked = [await _gate(rig, number) for number in range(1, gates + 1)]
            rate = await _flat_out(linked, await _codes(rig, int(ROOM_PER_S * gates * seconds)), seconds)
            waits = await _offered(linked, await _codes(rig, int(OFFERED_PER_S * seconds)), seconds)
            for gate in linked:
                await gate.close()
        finally:
            with trio.CancelScope(shield=True):
                await rig.stop()
    cuts = statistics.quantiles(waits, n=100)
    return {
        "link_passages_per_s": round(rate),
        "link_scan_to_grant_ms": {"p50": round(cuts[49] * 1000, 2), "p99": round(cuts[98] * 1000, 2)},
    }


class Gate:
    """One connection to the work socket, with one request under way at a time."""

    def __init__(self, device: str, stream: trio.SocketStream) -> None:
        self.device = device
        self.boot = secrets.token_hex(8)
        self._stream = stream
        self._decoder = Decoder(Protocol.REQ, REPLY_MAX_BYTES)
        self._seq = 0

    def header(self) -> dict[str, Any]:
        self._seq += 1
        return {"device": self.device, "boot": self.boot, "seq": self._seq, "at": time.time()}

    async def ask(self, request: WorkRequest) -> WorkReply:
        """The answer. Raises trio.TooSlowError."""
        stack = (FIRST_ID + request.seq).to_bytes(4, "big")
        with trio.fail_after(ANSWER_S):
            await self._stream.send_all(frame(stack, encode(request)))
            while True:
                for message in self._decoder.feed(bytes(await self._stream.receive_some(REPLY_MAX_BYTES))):
                    if message[:4] == stack:
                        return decode_reply(message[4:])

    async def close(self) -> None:
        await self._stream.aclose()

    async def deliver(self, request: WorkRequest) -> None:
        """Until the server says that it has it."""
        while True:
            answer = await self.ask(request)
            if isinstance(answer, Ack):
                return
            if not (isinstance(answer, Refused) and answer.code in ("unavailable", "too_many")):
                raise AssertionError(f"{answer!r} instead of an acknowledgement")
            await trio.sleep(AGAIN_S)


async def _gate(rig: SiteRig, number: int) -> Gate:
    parts = urlsplit(rig.site.link.work)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)
    await stream.send_all(greeting(Protocol.REQ))
    gate = Gate(f"gate-{number}", stream)
    with trio.fail_after(WELCOME_S):
        while not isinstance(await gate.ask(Hello(**gate.header(), firmware="bench")), Welcome):  # noqa: ASYNC110
            await trio.sleep(SETTLE_S)
    return gate


async def _codes(rig: SiteRig, count: int) -> list[str]:
    codes: list[str] = []
    price = next(product.price_cents for product in rig.site.products if product.id == "adult")
    async with rig.console("cashier") as console:
        while len(codes) < count:
            quantity = min(SOLD_AT_ONCE, count - len(codes))
            order = Sell(
                key=f"bench-{secrets.token_hex(8)}",
                lines=[SellLine(product="adult", quantity=quantity)],
                tenders=[Tender(tender="cash", amount_cents=price * quantity)],
            )
            sold = await console.call("sales.sell", order, Sold)
            codes += [ticket.code for ticket in sold.tickets if ticket.code]
    return codes


async def _passage(gate: Gate, code: str) -> float:
    """One visitor, from the scan until all is on disk. Returns how long the answer to the scan took, in seconds."""
    header = gate.header()
    nonce = f"{gate.boot}-{header['seq']}"
    begun = time.perf_counter()
    granted = await gate.ask(Scan(**header, nonce=nonce, kind="code", value=code))
    took = time.perf_counter() - begun
    if not isinstance(granted, Grant):
        raise AssertionError(f"{granted!r} instead of a grant")
    await gate.deliver(Pass(**gate.header(), grant=granted.grant, ended=1))
    return took


async def _flat_out(gates: list[Gate], codes: list[str], seconds: float) -> float:
    """Passages per second when every gate lets one visitor in after the other."""
    until = time.perf_counter() + seconds
    passages = 0

    async def work(gate: Gate) -> None:
        nonlocal passages
        while codes and time.perf_counter() < until:
            await _passage(gate, codes.pop())
            passages += 1

    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for gate in gates:
            nursery.start_soon(work, gate)
    return passages / (time.perf_counter() - begun)


async def _offered(gates: list[Gate], codes: list[str], seconds: float) -> list[float]:
    """Seconds from scan to grant, for visitors who come at equal distances, each to the next gate.

    Who finds somebody still in the gate waits, and that counts.
    """
    waits: list[float] = []
    queues = {gate.device: trio.Lock() for gate in gates}

    async def visit(gate: Gate) -> None:
        came = time.perf_counter()
        async with queues[gate.device]:
            before = time.perf_counter() - came
            waits.append(before + await _passage(gate, codes.pop()))

    async with trio.open_nursery() as nursery:
        begun = trio.current_time()
        for number in range(int(OFFERED_PER_S * seconds)):
            await trio.sleep_until(begun + number / OFFERED_PER_S)
            nursery.start_soon(visit, gates[number % len(gates)])
    return waits
