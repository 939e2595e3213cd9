"""Frames go out at once where there is room, whole, in order, whoever else sends; the rest waits its turn."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, TextMessage

from admin_ws._peer import Peer, framed
from admin_ws.front import ReplayStream
from admin_ws.testing import until
from core.testing import patient_time
from protocols.jsonrpc import Wire

patient = pytest.fixture(autouse=True)(patient_time)

FRAMES = ["", "a", "中文" * 20, "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, b"", bytes(70_000)]


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
def test_a_frame_is_what_another_implementation_reads(frame) -> None:
    reader = Connection(ConnectionType.CLIENT)
    reader.receive_data(framed(frame))
    events = list(reader.events())
    kind = TextMessage if isinstance(frame, str) else BytesMessage
    assert all(isinstance(event, kind) for event in events) and events[-1].message_finished
    assert (frame[:0]).join(event.data for event in events) == frame
    assert framed(frame) is framed(frame), "a broadcast is made once"


async def pair() -> tuple[ReplayStream, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    near, far = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (ours, theirs))
    return ReplayStream(near, b""), far


async def read(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    with trio.fail_after(20):
        while len(data) < count:
            data += await stream.receive_some(65536)
    return data


async def test_what_a_socket_took_in_part_goes_out_before_anything_else() -> None:
    near, far = await pair()
    async with far, near:
        pieces = [bytes([number]) * 50_000 for number in range(4)]
        assert near.take(pieces[0]) and near.owes, "more than its buffer holds"
        assert not near.take(pieces[1]), "nothing overtakes the rest"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, pieces[1])
            nursery.start_soon(near.send_all, pieces[2])
            await trio.testing.wait_all_tasks_blocked()
            assert not near.take(pieces[3]), "nor what is being sent"
            data = await read(far, 150_000)
        assert data[:50_000] == pieces[0] and set(data) == {0, 1, 2}
        assert data[50_000:] in (pieces[1] + pieces[2], pieces[2] + pieces[1]), "each in one piece"
        assert not near.owes and near.take(b"small") and await read(far, 5) == b"small"


async def test_a_peer_sends_everything_in_order_at_whatever_pace_it_is_read() -> None:
    near, far = await pair()
    peer = Peer(None, Wire.MSGPACK, near)
    frames = [bytes([number]) * (1 + 997 * number) for number in range(40)]
    async with far, near, trio.open_nursery() as nursery:
        nursery.start_soon(peer.write)
        for frame in frames:
            assert peer.offer(frame)
        expected = b"".join(map(framed, frames))
        assert await read(far, len(expected)) == expected
        assert peer.offer(b"later") and await read(far, 7) == framed(b"later")
        await until(lambda: peer.statistics().sent == 41)
        nursery.cancel_scope.cancel()


async def test_a_peer_whose_line_is_broken_is_not_waited_for() -> None:
    near, far = await pair()
    peer = Peer(None, Wire.MSGPACK, near)
    await far.aclose()
    with trio.fail_after(20):
        assert peer.offer(b"x" * 100_000), "queued; whoever writes finds out"
        await peer.write()
    await near.aclose()
