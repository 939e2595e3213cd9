"""Connections that are taken and then never say anything: a device dials anew, and does not wait for them for ever.

NNG has no limit of its own for a handshake. The listener that says nothing is ours; behind it is a real server.
"""

from __future__ import annotations

import functools

import msgspec
import pytest
import trio

from core.testing import patient_time
from drivers.nng import LinkClient, SafetyServer, WorkServer, _client, _endpoint
from drivers.nng.testing import FakeGate, free_addresses, until
from protocols.devicelink import Ack, Heartbeat, SafetyState

patient = pytest.fixture(autouse=True)(patient_time)

MUTE = 1  # connections to each address


class Wire:
    """Takes connections at one port: the first ones are held and nothing is said, the others are carried on."""

    def __init__(self, to: str) -> None:
        self._to = int(to.rsplit(":", 1)[1])
        self.taken = 0

    async def take(self, came: trio.SocketStream) -> None:
        self.taken += 1
        if self.taken <= MUTE:
            await trio.sleep_forever()
        there = await trio.open_tcp_stream("127.0.0.1", self._to)
        async with came, there, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, came, there)
            await self._carry(there, came)
            nursery.cancel_scope.cancel()

    @staticmethod
    async def _carry(one: trio.SocketStream, other: trio.SocketStream) -> None:
        try:
            async for data in one:
                await other.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


async def answer(request):
    return Ack(seq=request.seq, server_at=1.0)


async def test_a_device_whose_first_connections_are_taken_and_never_answered_dials_anew(monkeypatch):
    monkeypatch.setattr(_client, "STUCK_S", 1.0)
    monkeypatch.setattr(_client, "STUCK_TRIES", 1)
    monkeypatch.setattr(_client, "HANDOVER_S", 1.0)
    monkeypatch.setattr(_endpoint, "STUCK_POLLS", 1)
    real, polls, gate = free_addresses(), [], FakeGate()

    def desk(request):
        polls.append(request)
        return SafetyState(release=None)

    async with trio.open_nursery() as nursery:
        await nursery.start(WorkServer(real.work, real.wake, answer).run)
        await nursery.start(SafetyServer(real.release, real.safety, desk).run)
        wires, seen = {}, {}
        for name in ("work", "wake", "release", "safety"):
            wires[name] = Wire(getattr(real, name))
            listen = functools.partial(trio.serve_tcp, wires[name].take, 0, host="127.0.0.1")
            listeners = await nursery.start(listen)
            seen[name] = f"tcp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        addresses = msgspec.structs.replace(real, **seen)
        client = LinkClient(addresses, "gate-1", {}, site="demo", sensed=gate.sensed, on_release=gate.release)
        await nursery.start(client.run)
        reply = await client.ask(Heartbeat(**client.header(), barrier="closed", queue_depth=0), 30.0)
        assert isinstance(reply, Ack)
        await until(lambda: polls, 30.0)
        await until(lambda: all(wire.taken > MUTE for wire in wires.values()), 30.0)
        nursery.cancel_scope.cancel()
