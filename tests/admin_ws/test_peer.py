"""Who is called too slow, and who has just left."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio_websocket import CloseReason

from admin_ws._peer import OUTBOX_FRAMES, PONG_TICK_S, PONG_TICKS, CloseCode, Peer
from admin_ws.client import ConsoleClient
from admin_ws.testing import StubSite, until
from protocols.jsonrpc import Wire

PATIENCE_S = 20.0


class SilentSocket:
    """Nothing that is sent gets through. `closed`: what the other end said when it left."""

    def __init__(self, closed: CloseReason | None = None) -> None:
        self.closed = closed

    async def send_message(self, frame: Any) -> None:
        await trio.sleep_forever()

    async def ping(self) -> None:
        await trio.sleep_forever()


async def watched(socket: SilentSocket, leave_s: float | None = None) -> tuple[CloseCode | None, float]:
    """Why the peer was closed, and after how many seconds; it leaves after `leave_s`."""
    peer, begun = Peer(socket, Wire.JSON), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.watch)
        if leave_s is not None:
            await trio.sleep(leave_s)
            socket.closed = CloseReason(1001, None)
    assert peer.slow_at == ("pong" if leave_s is None else "")
    return peer.closed_for, trio.current_time() - begun


async def test_a_peer_that_answers_no_ping_is_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    code, took_s = await watched(SilentSocket())
    assert code is CloseCode.TOO_SLOW
    assert took_s == pytest.approx(PONG_TICK_S * PONG_TICKS)


@pytest.mark.parametrize("leave_s", [0.0, 0.5, 1.0, 2.0])
async def test_a_peer_that_said_goodbye_and_reads_no_more_is_gone_and_not_slow(
    autojump_clock: trio.testing.MockClock, leave_s: float
) -> None:
    code, took_s = await watched(SilentSocket(), leave_s)
    assert code is CloseCode.GOING_AWAY
    assert took_s <= leave_s + PONG_TICK_S + 0.01


@pytest.mark.parametrize(
    ("closed", "code"), [(None, CloseCode.TOO_SLOW), (CloseReason(1000, None), CloseCode.GOING_AWAY)]
)
async def test_an_outbox_that_nobody_empties_is_too_slow_unless_the_peer_has_left(
    closed: CloseReason | None, code: CloseCode
) -> None:
    peer = Peer(SilentSocket(closed), Wire.MSGPACK)
    assert all(peer.offer(b"x") for _ in range(OUTBOX_FRAMES))
    assert not peer.offer(b"x")
    assert peer.closed_for is code
    assert peer.slow_at == ("frames" if closed is None else "")


async def test_clients_that_are_cancelled_are_counted_as_gone() -> None:
    async with StubSite().open() as site:
        counts = site.console.channel.statistics
        async with trio.open_nursery() as nursery:

            async def stay() -> None:
                async with ConsoleClient.connect(site.channel_url) as client:
                    await client.login("anna", "correct horse")
                    await client.subscribe()
                    await trio.sleep_forever()

            for _ in range(5):
                nursery.start_soon(stay)
            await until(lambda: counts().counts.get("subscribed", 0) == 5, PATIENCE_S)
            nursery.cancel_scope.cancel()
        await until(lambda: not counts().peers, PATIENCE_S)
        assert {name: count for name, count in counts().counts.items() if name.startswith("closed.")} == {
            "closed.going_away": 5
        }
