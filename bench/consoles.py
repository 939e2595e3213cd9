"""200 consoles that watch 500 events a second, one more that never reads; beside it the same batches by hand.

The server is the real hub and channel, in this process; the consoles are one other process (`bench._watchers`). A
line's time is from the moment it was told to the hub to its arrival at a console, the 50 ms of a batch included.
The floor, in the same run with the same clients: a bare TCP server that writes ready-made WebSocket frames with the
same events in the same batches to everybody, with nothing behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from admin_ws.channel import Route
from admin_ws.hub import BATCH_S, HUB_MAILBOX_CAPACITY, Hub
from admin_ws.server import Console
from core import Address, Child, Stop, Supervisor
from core.testing import running
from protocols import console as c
from protocols.jsonrpc import Wire, encode_notification, encode_result

CLIENTS, QUICK_CLIENTS = 200, 40
SECONDS, QUICK_SECONDS = 20.0, 5.0
EVENTS_PER_S = 500
TICK_S = 0.01  # events are told in handfuls of so long
WARM_S = 3.0  # before memory is looked at
STUCK_S = 30.0  # patience with the one who never reads
READY_S = 120.0
LANES = 20
PRIORITY = -5  # nice value of `paifang serve`


async def _measure(quick: bool) -> dict[str, Any]:
    clients, seconds = (QUICK_CLIENTS, QUICK_SECONDS) if quick else (CLIENTS, SECONDS)
    figures: dict[str, Any] = {"clients": clients, "events_per_s": EVENTS_PER_S, "seconds": seconds}
    async with _site() as (console, hub):
        before = _cpu_s()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, hub)
            ours = await _watch(console.port, clients, seconds, partial(_stuck, console, figures))
            nursery.cancel_scope.cancel()
        figures["server_cpu_s"] = round(_cpu_s() - before, 2)
        counts = console.channel.statistics().counts
        figures["evicted"] = counts.get("closed.too_slow", 0)
    figures |= {name: _rounded(ours[name]) for name in ("p50_ms", "p99_ms", "max_ms", "lines", "lost")}
    before = _cpu_s()
    bare = await _bare(clients, seconds)
    figures["bare_cpu_s"] = round(_cpu_s() - before, 2)
    figures |= {f"bare_{name}": _rounded(bare[name]) for name in ("p50_ms", "p99_ms", "lines")}
    ratio = ours["p99_ms"] / bare["p99_ms"] if ours["p99_ms"] and bare["p99_ms"] else None
    return {"bench": "consoles", "figures": figures, "ratios": {"vs_bare_frames": _rounded(ratio, 2)}}


def run(*, quick: bool = False) -> dict[str, Any]:
    """The figures: `p99_ms`, `stuck_evicted_s`, `rss_growth_mb`, and the ratio `vs_bare_frames` of the p99."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):  # as the server itself runs; only root may say so
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    try:
        return trio.run(_measure, quick)
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


# --- the real one -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _site() -> AsyncIterator[tuple[Console, Address]]:
    """Hub and channel; log-in is by name alone, because hashing passwords is not what is measured."""
    hub, accounts, web = Address("consoles", capacity=HUB_MAILBOX_CAPACITY), Address("accounts"), Address("web")

    async def log_in(me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            user = getattr(envelope.msg, "user", "") or "somebody"
            envelope.reply(c.Session(token=user, user=user, role="operator", permissions=["view"], session=user))

    routes: list[Route] = []
    console = Console(
        host="127.0.0.1", port=0, hub=hub, accounts=accounts, routes=routes, site_id="bench", site_name="bench",
        view_permission="view",
    )  # fmt: skip
    actor = Hub(site="bench", site_name="bench")
    children = [Child(hub, actor.run), Child(accounts, log_in), Child(web, console.run)]
    async with running(Supervisor("bench", children)):
        while not console.port:  # noqa: ASYNC110 - listening has no event
            await trio.sleep(0.01)
        yield console, hub


def _lane(number: int, count: int) -> c.LaneView:
    return c.LaneView(
        lane=f"lane-{number}", name=f"北门 {number}", entrance="北门", kind="wing", transport="link",
        from_zone="outside", to_zone="north", mode="bidirectional", state="idle", available=True, barrier="closed",
        entries=count, exits=0,
    )  # fmt: skip


def _line(count: int) -> c.FeedEvent:
    return c.FeedEvent(
        at=time.time(), kind="passage", severity="info", lane=f"lane-{count % LANES}", code="ok", text_zh="1 人进入",
        text_en="1 person entered", trace="0123456789abcdef",
    )  # fmt: skip


async def _tell(hub: Address) -> None:
    """Events and the lanes that they change, as a busy site tells them."""
    start, told = trio.current_time(), 0
    while True:
        due = int((trio.current_time() - start) * EVENTS_PER_S)
        for count in range(told, due):
            hub.tell(_lane(count % LANES, count))
            hub.tell(_line(count))
        told = max(told, due)
        await trio.sleep(TICK_S)


async def _stuck(console: Console, figures: dict[str, Any], seconds: float) -> None:
    """Let one subscribe and never read again; note how soon it is gone, and how memory grows meanwhile."""
    await trio.sleep(min(WARM_S, seconds / 3))
    rss = _rss_mb()
    stuck = await trio.to_thread.run_sync(_deaf, console.port)
    since = trio.current_time()
    with trio.move_on_after(min(STUCK_S, seconds)):
        while not console.channel.statistics().counts.get("closed.too_slow"):  # noqa: ASYNC110
            await trio.sleep(0.02)
    evicted = bool(console.channel.statistics().counts.get("closed.too_slow"))
    figures["stuck_evicted_s"] = round(trio.current_time() - since, 2) if evicted else None
    stuck.close()
    await trio.sleep(max(0.0, seconds - (trio.current_time() - since) - WARM_S))
    figures["rss_growth_mb"] = round(_rss_mb() - rss, 1)


def _deaf(port: int) -> socket.socket:
    from bench._watchers import Watcher

    watcher = Watcher(port)
    watcher.connect(-1)
    return watcher.socket


# --- the same by hand ---------------------------------------------------------------------------------------------


async def _bare(clients: int, seconds: float) -> dict[str, Any]:
    """A server that knows nothing but its sockets: each batch is made into one frame and written to all of them."""
    streams: list[trio.SocketStream] = []

    async def accept(stream: trio.SocketStream) -> None:
        await _greet(stream)
        streams.append(stream)
        await trio.sleep_forever()

    async def send(stream: trio.SocketStream, frame: bytes) -> None:
        try:
            await stream.send_all(frame)
        except trio.BrokenResourceError:
            if stream in streams:
                streams.remove(stream)

    async def tell() -> None:
        start, told, revision = trio.current_time(), 0, 0
        lines: list[c.FeedEvent] = []
        flush = start + BATCH_S
        while True:
            await trio.sleep(TICK_S)
            now = trio.current_time()
            due = int((now - start) * EVENTS_PER_S)
            lines += [_line(count) for count in range(told, due)]
            told = max(told, due)
            if now < flush:
                continue
            flush, revision = now + BATCH_S, revision + 1
            lanes = [_lane(number, revision) for number in range(LANES)]
            delta = c.Delta(revision=revision, server_at=time.time(), lanes=lanes, feed=lines)
            lines = []
            frame = _frame(encode_notification(Wire.JSON, "site.delta", delta))
            async with trio.open_nursery() as writing:
                for stream in tuple(streams):
                    writing.start_soon(send, stream, frame)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, accept, 0, host="127.0.0.1"))
        nursery.start_soon(tell)
        found = await _watch(listeners[0].socket.getsockname()[1], clients, seconds, None)
        nursery.cancel_scope.cancel()
    return found


async def _greet(stream: trio.SocketStream) -> None:
    """What a client wants to hear before it watches."""
    await stream.receive_some(4096)
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    for number in (1, 2):
        await stream.receive_some(4096)
        await stream.send_all(_frame(encode_result(Wire.JSON, number, {})))


def _frame(text: str | bytes) -> bytes:
    payload = text.encode() if isinstance(text, str) else text
    size = len(payload)
    if size < 126:
        return bytes([0x81, size]) + payload
    if size < 1 << 16:
        return bytes([0x81, 126]) + size.to_bytes(2, "big") + payload
    return bytes([0x81, 127]) + size.to_bytes(8, "big") + payload


# --- both ---------------------------------------------------------------------------------------------------------


async def _watch(
    port: int, clients: int, seconds: float, meanwhile: Callable[[float], Awaitable[None]] | None
) -> dict[str, Any]:
    """Start the watchers, wait until all of them subscribed, let them watch; returns their figures."""
    command = [sys.executable, "-m", "bench._watchers", str(port), str(clients), str(seconds)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    out = b""
    try:
        with trio.fail_after(READY_S):
            while b"ready\n" not in out:
                data = await process.stdout.receive_some()
                if not data:
                    raise RuntimeError("the watchers ended early")
                out += data
        with trio.fail_after(seconds + READY_S):
            async with trio.open_nursery() as nursery:
                if meanwhile is not None:
                    nursery.start_soon(meanwhile, seconds)
                async for data in process.stdout:
                    out += data
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def _rounded(value: Any, digits: int = 1) -> Any:
    return round(value, digits) if isinstance(value, float) else value


def _rss_mb() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - of this process
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s() -> float:
    return time.process_time()
