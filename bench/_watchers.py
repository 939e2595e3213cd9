"""Consoles that only watch: as many WebSocket clients as wanted in one process, with nothing behind their sockets.

    python -m bench._watchers PORT CLIENTS SECONDS

Each logs in, subscribes and reads; of every feed line the time from its own `at` to its arrival is kept. Written with
plain sockets and `select`, so that the clients cost the machine as little as can be. The figures go to stdout as JSON.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import struct
import sys
import time

import msgspec

CONNECT_S = 20.0
SETTLE_S = 1.0  # after everybody is connected, before anything is counted
RECEIVE_BYTES = 256 * 1024
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class _Line(msgspec.Struct):
    at: float


class _Params(msgspec.Struct):
    feed: list[_Line] = []
    revision: int = 0


class _Note(msgspec.Struct):
    """A notification, of which only this is looked at."""

    method: str = ""
    params: _Params = msgspec.field(default_factory=_Params)


class Watcher:
    """One client. `connect` blocks; then `readable` is called whenever there is something to read."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), CONNECT_S)
        self.closed = False
        self._data = bytearray()

    def connect(self, number: int) -> None:
        """Handshake, log-in and subscription. Raises OSError or ValueError."""
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET /channel HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: paifang.json\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        while b"\r\n\r\n" not in self._data:
            self._receive()
        answer, _, rest = bytes(self._data).partition(b"\r\n\r\n")
        if b" 101 " not in answer.split(b"\r\n")[0]:
            raise ValueError(answer.decode("latin-1").split("\r\n")[0])
        self._data = bytearray(rest)
        self.call(1, "session.login", {"user": f"u{number}", "password": "x"})
        self.wait_for(1)
        self.call(2, "site.subscribe", {})

    def call(self, number: int, method: str, params: dict[str, object]) -> None:
        self._send(TEXT, json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())

    def wait_for(self, number: int) -> None:
        """Read until this call was answered. Raises ValueError for a refusal."""
        while True:
            for payload in self.frames():
                message = json.loads(payload)
                if message.get("id") == number:
                    if "error" in message:
                        raise ValueError(message["error"])
                    return
            self._receive()

    def readable(self, since: float) -> list[float]:
        """Take what has come; returns how late each feed line was, s, of those told after `since` (epoch)."""
        try:
            self._receive()
        except BlockingIOError:
            return []
        except OSError:
            self.closed = True
            return []
        now, late = time.time(), []
        for payload in self.frames():
            note = msgspec.json.decode(payload, type=_Note) if b'"method"' in payload[:40] else _Note()
            if note.method == "site.delta":
                late += [now - line.at for line in note.params.feed if line.at >= since]
        return late

    def frames(self) -> list[bytes]:
        """The text messages that are there whole; pings are answered."""
        found = []
        while len(self._data) >= 2:
            code, size, start = self._data[0] & 15, self._data[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(self._data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(self._data[2:10], "big"), 10
            if len(self._data) < start + size:
                break
            payload = bytes(self._data[start : start + size])
            del self._data[: start + size]
            if code == PING:
                self._send(PONG, payload)
            elif code == CLOSE:
                self.closed = True
            elif code == TEXT:
                found.append(payload)
        return found

    def _receive(self) -> None:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            self.closed = True
            raise ConnectionError("closed")
        self._data += data

    def _send(self, code: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes([0x80 | code, 0x80 | size]) if size < 126 else struct.pack("!BBH", 0x80 | code, 0xFE, size)
        self.socket.sendall(head + bytes(4) + payload)  # masked with zeros: allowed, and nothing to compute


def watch(port: int, clients: int, seconds: float) -> dict[str, object]:
    """Connect everybody, say so on stdout, watch for so long; returns the figures."""
    watchers: list[Watcher] = []
    late: list[float] = []
    with selectors.EpollSelector() as selector:

        def read(timeout_s: float, since: float) -> None:
            for key, _ in selector.select(timeout_s):
                late.extend(key.data.readable(since))
                if key.data.closed:
                    selector.unregister(key.fileobj)

        for number in range(clients):
            watcher = Watcher(port)
            watcher.connect(number)
            watcher.wait_for(2)
            watcher.socket.setblocking(False)
            selector.register(watcher.socket, selectors.EVENT_READ, watcher)
            watchers.append(watcher)
            read(0.0, float("inf"))  # who is connected answers pings meanwhile
        print("ready", flush=True)
        settled = time.monotonic() + SETTLE_S
        while time.monotonic() < settled:
            read(0.05, float("inf"))
        since, until = time.time(), time.monotonic() + seconds
        while time.monotonic() < until:
            read(0.05, since)
    late.sort()
    used = os.times()
    return {
        "lines": len(late),
        "lost": sum(watcher.closed for watcher in watchers),
        "p50_ms": 1000 * late[len(late) // 2] if late else None,
        "p99_ms": 1000 * late[int(len(late) * 0.99)] if late else None,
        "max_ms": 1000 * late[-1] if late else None,
        "cpu_s": used.user + used.system,
    }


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))), flush=True)
