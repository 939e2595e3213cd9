"""Garbage on every wire of a running server at once: counted, in the log once per interval, in the metrics."""

from __future__ import annotations

import json
import secrets
from collections import Counter

import pynng
import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.testing import site_rig, until
from paifang.watch import LOG_EVERY_S

patient = pytest.fixture(autouse=True)(patient_time_with_processes)


async def _throw_at_tcp(port: int, data: bytes) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        with trio.move_on_after(2):
            try:
                await stream.send_all(data)
                while await stream.receive_some(4096):
                    pass
            except trio.BrokenResourceError:
                pass


async def _throw_at_nng(address: str, data: bytes) -> None:
    with pynng.Req0(recv_timeout=300, send_timeout=300, resend_time=-1) as request:
        request.dial(address, block=True)
        try:
            await request.asend(data)
            await request.arecv()
        except pynng.NNGException:
            return


async def _metrics(port: int) -> str:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"GET /metrics HTTP/1.0\r\nHost: here\r\n\r\n")
        answer = b""
        while chunk := await stream.receive_some(65536):
            answer += chunk
    return answer.decode()


@pytest.mark.slow
async def test_garbage_on_every_wire_is_counted_and_logged_once_per_interval(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1, start=False) as rig:
        text = rig.site_path.read_text(encoding="utf-8")
        rig.site_path.write_text(text.replace("[http]\n", "[http]\nmetrics = true\n"), encoding="utf-8")
        await rig.start()
        await rig.lanes_idle()
        place, http = rig.lane("s1"), rig.site.http.port
        upgrade = b"GET /channel HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        upgrade += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        upgrade += b"Sec-WebSocket-Protocol: paifang.json\r\n\r\n"
        before = len((tmp_path / "server.err").read_text().splitlines())
        for _ in range(8):  # well within one interval
            place.board.line.send(secrets.token_bytes(200))
            place.reader.garbage(b"\xff\xfe\x00garbage\r" + b"A" * 5000 + b"\r")
            for address in (rig.site.link.work, rig.site.link.safety):
                await _throw_at_nng(address, b"\xc1\xff")
                await _throw_at_nng(address, bytes(1_000_000))
            await _throw_at_tcp(http, b"\x16\x03\x01garbage\r\n\r\n")
            stream = await trio.open_tcp_stream("127.0.0.1", http)
            async with stream:
                await stream.send_all(upgrade)
                assert b" 101 " in await stream.receive_some(4096)
                await stream.send_all(b"\xff" * 100)
                with trio.move_on_after(2):
                    while await stream.receive_some(4096):
                        pass

        def lines() -> Counter[str]:
            said = [json.loads(line) for line in (tmp_path / "server.err").read_text().splitlines()[before:]]
            return Counter(f"{each['event']} {each.get('device', '')}{each.get('what', '')}".strip() for each in said)

        wanted = {
            "device.bad_frames gate/s1",
            "device.bad_frames reader/s1/1",
            "link.bad_message",
            "link.dropped_connection",
            "safety.bad_message",
            "safety.dropped_connection",
            "console.trouble refused.head",
            "console.trouble refused.damaged",
        }
        await until(lambda: wanted <= set(lines()), "a line for each wire", 2 * LOG_EVERY_S + 2)
        assert {name: count for name, count in lines().items() if name in wanted and count > 2} == {}
        found = await _metrics(http)
        for name in (
            'paifang_device_bad_frames_total{device="gate/s1"}',
            'paifang_device_bad_frames_total{device="reader/s1/1"}',
            'paifang_link{socket="work",what="bad_messages"}',
            'paifang_link{socket="work",what="dropped_connections"}',
            'paifang_link{socket="safety",what="bad_messages"}',
            'paifang_link{socket="safety",what="dropped_connections"}',
            'paifang_console_events_total{event="refused.head"}',
            'paifang_console_events_total{event="refused.damaged"}',
        ):
            assert float(found.split(name, 1)[1].split("\n", 1)[0]) >= 8, name
        ticket = await rig.sell()
        await rig.lanes_idle()
        assert await rig.admit("s1", ticket.code)
