"""A simulated people counter: cumulative counts that it shows over HTTP, posts, or publishes. It is no real device.

It can misbehave on command: silent, wrong password, garbage, reports twice or in the wrong order, counts reset.
"""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.request import parse_http_list, parse_keqv_list

import h11
import trio

from drivers.counter._http import serve
from drivers.counter._mqtt import Connection
from drivers.errors import DeviceError
from protocols.messages import Direction

READ_BYTES = 4096
POST_S = 10.0
LOOK_S = 0.02  # between two looks whether there is something new to publish
RECONNECT_S = 0.2
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"


class SimCounter:
    """`entries` and `exits` are its counts; `report()` is what it says of itself, in the form of Axis' `live-sum`."""

    def __init__(self, serial: str = "SIM-1", *, user: str = "", password: str = "", digest: str = "") -> None:
        self.serial = serial
        self.user, self.password = user, password
        self.digest = digest  # MD5 or SHA-256; empty: basic authentication
        self.entries = 0
        self.exits = 0
        self.silent = False
        self.garbage = b""  # said instead of a report
        self.asked = 0

    def person(self, direction: Direction = Direction.ENTRY, count: int = 1) -> None:
        if direction is Direction.ENTRY:
            self.entries += count
        else:
            self.exits += count

    def reset(self) -> None:
        """Its counts are gone: midnight, or the power."""
        self.entries = self.exits = 0

    def report(self) -> bytes:
        if self.garbage:
            return self.garbage
        shown = {"serial": self.serial, "name": "sim", "timestamp": 0, "in": self.entries, "out": self.exits}
        return json.dumps(shown).encode()

    # --- asked ----------------------------------------------------------------------------------------------------

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer GET on a loopback port, which is what `nursery.start` returns."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])

        async def one(stream: trio.SocketStream) -> None:
            if self.silent:
                await trio.sleep_forever()
            await serve(stream, self._answer)

        await trio.serve_listeners(one, listeners)

    def _answer(self, method: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.asked += 1
        if self.user and not self._may(headers.get(b"authorization", b"").decode("latin-1")):
            nonce = f'Digest realm="sim", nonce="{NONCE}", qop="auth", algorithm={self.digest}'
            return 401, {"WWW-Authenticate": nonce if self.digest else 'Basic realm="sim"'}, b""
        return 200, {}, self.report()

    def _may(self, authorization: str) -> bool:
        if not self.digest:
            return authorization == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        scheme, _, rest = authorization.partition(" ")
        if scheme != "Digest":
            return False
        said = parse_keqv_list(parse_http_list(rest))

        def hashed(text: str) -> str:
            return hashlib.new(self.digest.replace("-", "").lower(), text.encode(), usedforsecurity=False).hexdigest()

        secret, place = hashed(f"{self.user}:sim:{self.password}"), hashed(f"GET:{said.get('uri')}")
        wanted = hashed(f"{secret}:{NONCE}:{said.get('nc')}:{said.get('cnonce')}:{said.get('qop')}:{place}")
        return said.get("response") == wanted and said.get("username") == self.user

    # --- telling --------------------------------------------------------------------------------------------------

    async def post(self, port: int, *, token: str, body: bytes | None = None) -> int:
        """Post one report to a listener on this machine; the status of its answer."""
        content = self.report() if body is None else body
        headers = [
            ("Host", "127.0.0.1"),
            ("Authorization", f"Bearer {token}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(content))),
        ]
        connection = h11.Connection(h11.CLIENT)
        with trio.fail_after(POST_S):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(
                    connection.send(h11.Request(method="POST", target="/", headers=headers))
                    + connection.send(h11.Data(content))
                    + connection.send(h11.EndOfMessage())
                )
                while not isinstance(event := connection.next_event(), h11.Response):
                    if event is h11.NEED_DATA:
                        connection.receive_data(await stream.receive_some(READ_BYTES))
                return event.status_code

    async def publish(self, port: int, topic: str, *, user: str = "", password: str = "") -> None:
        """Publish a retained report at each change, for ever, through a broker that may come and go."""
        while True:
            connection = Connection(
                "127.0.0.1",
                port,
                topic,
                client_id=f"device-{self.serial}",
                user=user,
                password=password,
                on_message=lambda payload: None,
            )
            async with trio.open_nursery() as nursery:
                ready = trio.Event()
                nursery.start_soon(self._say_changes, connection, ready)
                try:
                    await connection.serve(ready.set)
                except DeviceError:
                    nursery.cancel_scope.cancel()
            await trio.sleep(RECONNECT_S)

    async def _say_changes(self, connection: Connection, ready: trio.Event) -> None:
        await ready.wait()
        said = b""
        while True:
            if not self.silent and (report := self.report()) != said:
                connection.publish(report)
                said = report
            await trio.sleep(LOOK_S)
