"""Visitors for `bench.evacuation`: scans at a steady pace over the work socket, from a process of its own.

Started as `python -m bench._scanners`, told by one line of JSON on stdin; scans until stdin ends, then says how many
scans were sent, answered and admitted after the moment that a second line names.
"""

from __future__ import annotations

import collections
import os
import time
from urllib.parse import urlsplit

import msgspec
import trio

from bench._link import Gate
from protocols.devicelink import Deny, Grant, Hello, Scan
from protocols.sp import Protocol, greeting

CONNECT_AT_ONCE = 16


class Visitors(msgspec.Struct, kw_only=True):
    """Whom to be, what to show, and how often."""

    work: str
    devices: list[str]
    codes: list[str]
    scans_per_s: float


class _Scanning:
    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors
        self._free: collections.deque[Gate] = collections.deque()
        self.sent = 0
        self.answers: collections.Counter[str] = collections.Counter()
        self.grants_at: list[float] = []

    async def run(self) -> None:
        limit = trio.CapacityLimiter(CONNECT_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for device in self._visitors.devices:
                nursery.start_soon(self._connect, device, limit)
        os.write(1, b'{"ready":true}\n')
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_stdin, nursery.cancel_scope)
            begun = trio.current_time()
            for number in range(10**9):
                await trio.sleep_until(begun + number / self._visitors.scans_per_s)
                code = self._visitors.codes[number % len(self._visitors.codes)]
                if self._free:  # otherwise everybody waits for an answer
                    nursery.start_soon(self._scan, self._free.popleft(), code)

    async def _connect(self, device: str, limit: trio.CapacityLimiter) -> None:
        parts = urlsplit(self._visitors.work)
        async with limit:
            stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)
            await stream.send_all(greeting(Protocol.REQ))
            gate = Gate(device, stream)
            await gate.ask(Hello(**gate.header(), firmware="bench"))
        self._free.append(gate)

    async def _scan(self, gate: Gate, code: str) -> None:
        header = gate.header()
        self.sent += 1
        answer = await gate.ask(Scan(**header, nonce=f"{gate.boot}-{header['seq']}", kind="code", value=code))
        if isinstance(answer, Grant):
            self.grants_at.append(time.monotonic())
        self.answers[answer.code if isinstance(answer, Deny) else type(answer).__name__] += 1
        self._free.append(gate)

    async def _end_with_stdin(self, scope: trio.CancelScope) -> None:
        await trio.lowlevel.wait_readable(0)
        scope.cancel()


_stdin = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - for as long as the process lives


def main() -> None:
    line = _stdin.readline()
    scanning = _Scanning(msgspec.json.decode(line, type=Visitors))
    trio.run(scanning.run)
    since = float(_stdin.readline() or b"inf")
    late = sum(at >= since for at in scanning.grants_at)
    words = {"sent": scanning.sent, "answers": dict(scanning.answers), "granted_after": late}
    os.write(1, msgspec.json.encode(words) + b"\n")


if __name__ == "__main__":
    main()
