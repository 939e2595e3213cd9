"""A client that shares no code with the server: `websockets` from PyPI and `docs/console-api.md`.

It subscribes, commands, loses its connection and goes on; and every message in either direction fits the AsyncAPI file.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema
import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from admin_ws._peer import CloseCode
from admin_ws.testing import StubSite, until
from core.testing import patient_time
from protocols.console_accounts import EndSessions

patient = pytest.fixture(autouse=True)(patient_time)

ASYNCAPI = json.loads((Path(__file__).parents[2] / "docs" / "console-api.asyncapi.json").read_text(encoding="utf-8"))
PATIENCE_S = 20.0


class Stranger:
    """Blocking; runs in a thread."""

    def __init__(self, url: str) -> None:
        self._opening = connect(url, subprotocols=["paifang.json"], max_size=16 * 1024 * 1024, open_timeout=PATIENCE_S)
        self._id = 0
        self.deltas: list[dict] = []

    def __enter__(self) -> Stranger:
        self._socket = self._opening.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._opening.__exit__(*problem)

    def call(self, method: str, params: dict) -> dict:
        """The result; raises Refused."""
        self._id += 1
        request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        check(f"{method}.request", request)
        self._socket.send(json.dumps(request))
        while True:
            message = self.read()
            if message.get("id") == self._id:
                if "error" in message:
                    check("Error", message)
                    raise Refused(message["error"]["data"]["code"])
                check(f"{method}.response", message)
                return message["result"]

    def read(self) -> dict:
        message = json.loads(self._socket.recv(timeout=PATIENCE_S))
        if message.get("method") == "site.delta":
            check("site.delta", message)
            self.deltas.append(message["params"])
        return message

    def see(self, holds) -> None:
        """Read until a delta shows it."""
        while not any(holds(delta) for delta in self.deltas):
            self.read()


class Refused(Exception):
    """`args[0]` is the stable code."""


def check(message: str, value: dict) -> None:
    payload = ASYNCAPI["components"]["messages"][message]["payload"]
    jsonschema.Draft202012Validator({**payload, "components": ASYNCAPI["components"]}).validate(value)


async def in_thread(function, *arguments):
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(function, *arguments)


async def test_a_foreign_client_subscribes_and_commands() -> None:
    def work(url: str) -> list[dict]:
        with Stranger(url) as console:
            with pytest.raises(Refused, match="bad_login"):
                console.call("session.login", {"user": "anna", "password": "wrong"})
            session = console.call("session.login", {"user": "anna", "password": "correct horse"})
            assert session["role"] == "operator" and "lane.set_mode" in session["methods"]
            snapshot = console.call("site.subscribe", {})
            assert len(snapshot["lanes"]) == 8 and set(snapshot["replaces"]) == set(snapshot["topics"])
            console.call("lane.set_mode", {"lane": "lane-3", "mode": "exit_only", "reason": "crowd"})
            console.see(lambda d: any(v["lane"] == "lane-3" and v["mode"] == "exit_only" for v in d["lanes"]))
            with pytest.raises(Refused, match="too_many"):
                console.call("lane.open", {"lane": "lane-1", "pax": 9, "reason": "wheelchair"})
            with pytest.raises(Refused, match="forbidden"):
                console.call("sales.products", {})
            console.call("evacuation.trigger", {"reason": "smoke", "drill": True})
            console.see(lambda d: d["evacuation"] is not None and d["evacuation"]["state"] == "released")
            return console.deltas

    async with StubSite().open() as site:
        deltas = await in_thread(work, site.channel_url)
    revisions = [delta["revision"] for delta in deltas]
    assert all(later - earlier in (0, 1) for earlier, later in itertools.pairwise(revisions))


async def test_after_a_break_only_what_changed_is_sent() -> None:

    def first(url: str) -> tuple[str, dict]:
        with Stranger(url) as console:
            token = console.call("session.login", {"user": "anna", "password": "correct horse"})["token"]
            snapshot = console.call("site.subscribe", {})
            return token, snapshot

    def second(url: str, token: str, snapshot: dict, epoch: str) -> dict:
        with Stranger(url) as console:
            console.call("session.resume", {"token": token})
            return console.call("site.subscribe", {"epoch": epoch, "revision": snapshot["revision"]})

    async with StubSite().open() as site:
        token, snapshot = await in_thread(first, site.channel_url)
        revision = site.hub.snapshot().revision
        site.lane_turns(2)
        site.refuse(5, "expired", "已过期", "Expired")
        await until(lambda: site.hub.snapshot().revision > revision)
        again = await in_thread(second, site.channel_url, token, snapshot, snapshot["epoch"])
        assert again["replaces"] == ["evacuation", "modes"] and again["epoch"] == snapshot["epoch"]
        assert [lane["lane"] for lane in again["lanes"]] == ["lane-2", "lane-5"]
        assert [line["code"] for line in again["feed"]] == ["ok", "expired"] and again["zones"] == []
        anew = await in_thread(second, site.channel_url, token, snapshot, "of another server")
        assert set(anew["replaces"]) == set(anew["topics"]) and len(anew["lanes"]) == 8


async def test_some_topics_and_a_revoked_session() -> None:
    def work(url: str) -> int:
        with Stranger(url) as console:
            console.call("session.login", {"user": "anna", "password": "correct horse"})
            snapshot = console.call("site.subscribe", {"topics": ["feed", "zones", "what is this"]})
            assert snapshot["topics"] == ["zones", "feed"] and snapshot["lanes"] == []
            console.see(lambda d: d["feed"])
            assert all(delta["lanes"] == [] for delta in console.deltas)
            try:
                while True:
                    console.read()
            except ConnectionClosed as closed:
                assert closed.rcvd is not None
                return closed.rcvd.code

    async with StubSite().open() as site:
        codes: list[int] = []

        async def run() -> None:
            codes.append(await in_thread(work, site.channel_url))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(lambda: site.hub.statistics().subscribers == 1, 20.0)
            site.lane_turns(1)
            await trio.sleep(0.3)
            site.console_address.tell(EndSessions(sessions=["anna's"]), system=True)
    assert codes == [CloseCode.REVOKED]
