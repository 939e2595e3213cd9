"""Sessions on open channels: log out, a new password, revocation, idleness, and clients that read nothing."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio

from admin_ws import _peer, channel
from admin_ws._peer import CloseCode
from admin_ws.channel import Route
from admin_ws.client import ConsoleClient, ConsoleClosed, ConsoleRefused
from admin_ws.testing import StubSite, until
from core import Address, Child, Stop, Supervisor
from core.testing import patient_time, running
from protocols import console as c
from protocols.console_accounts import CheckSession, EndSessions

patient = pytest.fixture(autouse=True)(patient_time)

PATIENCE_S = 20.0


async def refused(client: ConsoleClient, method: str, params: object) -> str:
    with pytest.raises(ConsoleRefused) as error:
        await client.call(method, params, c.Done, PATIENCE_S)
    return error.value.code


class Own:
    """The methods of one's own session, answered here."""

    def __init__(self) -> None:
        self.address = Address("own")
        self.heard: list[object] = []

    @property
    def routes(self) -> list[Route]:
        kinds = {"session.logout": c.Logout, "session.set_password": c.SetPassword}
        return [
            Route(method=method, params=kind, address=self.address, permission="", timeout_s=5.0)
            for method, kind in kinds.items()
        ]

    def running(self) -> AbstractAsyncContextManager[Supervisor]:
        return running(Supervisor("own", [Child(self.address, self._main)]))

    async def _main(self, me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            self.heard.append(envelope.msg)
            if isinstance(envelope.msg, c.SetPassword):
                envelope.reply(
                    c.Session(token="t", user="chen", role="cashier", permissions=["sales.sell"], session="new")
                )
            else:
                envelope.reply(c.Done())


async def test_after_logging_out_the_connection_may_only_log_in() -> None:
    own = Own()
    async with StubSite(more_routes=own.routes).open() as site, own.running():
        async with ConsoleClient.connect(site.channel_url) as client:
            await client.login("anna", "correct horse")
            await client.subscribe()
            await client.call("session.logout", {}, c.Done)
            assert own.heard == [c.Logout(by="anna", by_session="anna's")]
            assert await refused(client, "lane.open", {"lane": "lane-1", "pax": 1, "reason": "x"}) == "not_logged_in"
            assert await refused(client, "evacuation.trigger", {}) == "not_logged_in"
            await until(lambda: site.hub.statistics().subscribers == 0, PATIENCE_S)
            assert (await client.login("boris", "battery staple")).user == "boris"


async def test_a_new_password_gives_the_connection_its_new_rights() -> None:
    own = Own()
    async with StubSite(more_routes=own.routes).open() as site, own.running():
        async with ConsoleClient.connect(site.channel_url) as client:
            await client.login("anna", "correct horse")
            session = await client.call("session.set_password", {"old": "a", "new": "b"}, c.Session)
            assert session.session == "new" and "sales.sell" in session.methods
            assert (await client.call("sales.products", {}, c.Products)).products
            assert await refused(client, "lane.open", {"lane": "lane-1", "pax": 1, "reason": "x"}) == "forbidden"


async def test_a_revoked_session_is_closed_at_once_and_others_are_not() -> None:
    async with StubSite().open() as site:
        async with ConsoleClient.connect(site.channel_url) as anna, ConsoleClient.connect(site.channel_url) as boris:
            await anna.login("anna", "correct horse")
            await boris.login("boris", "battery staple")
            site.console_address.tell(EndSessions(sessions=["anna's", "nobody's"]), system=True)
            with pytest.raises(ConsoleClosed) as closed, trio.fail_after(PATIENCE_S):
                while True:
                    await anna.call("evacuation.trigger", {}, c.Done)
                    await trio.sleep(0.01)
            assert closed.value.close_code == CloseCode.REVOKED
            assert len((await boris.subscribe()).lanes) == 8
        assert site.console.channel.statistics().counts["closed.revoked"] == 1


async def test_accounts_are_told_how_long_nothing_was_commanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "REVALIDATE_S", 0.1)

    def checks(site: StubSite) -> list[float]:
        return [message.idle_s for message in site.sees if isinstance(message, CheckSession)]

    async with StubSite().open() as site:
        async with ConsoleClient.connect(site.channel_url) as client:
            await client.login("anna", "correct horse")
            await until(lambda: checks(site) and checks(site)[-1] > 0.5, PATIENCE_S)
            await client.subscribe()  # what a page does by itself is no command
            count = len(checks(site))
            await until(lambda: len(checks(site)) > count + 1, PATIENCE_S)
            assert checks(site)[-1] > 0.5
            before = checks(site)[-1]
            await client.call("lane.open", {"lane": "lane-1", "pax": 1, "reason": "x"}, c.Done)
            count = len(checks(site))
            await until(lambda: len(checks(site)) > count, PATIENCE_S)
            assert min(checks(site)[count:]) < before


async def test_a_client_that_answers_no_ping_is_evicted_even_when_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_peer, "PONG_TICK_S", 0.1)
    async with StubSite().open() as site:
        async with ConsoleClient.connect(site.channel_url) as reader:
            await reader.login("anna", "correct horse")
            stream = await trio.open_tcp_stream("127.0.0.1", site.console.port)
            async with stream:
                await stream.send_all(
                    b"GET /channel HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Protocol: paifang.json\r\n\r\n"
                )
                counts = site.console.channel.statistics
                await until(lambda: counts().counts.get("closed.too_slow", 0) == 1, PATIENCE_S)
            assert len((await reader.subscribe()).lanes) == 8
        assert counts().counts["closed.too_slow"] == 1


async def test_what_is_audited_by_the_channel_is_noted_with_who_and_what_came_of_it() -> None:
    notes: list[tuple[object, ...]] = []
    stub = StubSite()
    stub.console.channel._record = lambda *note: notes.append(note)
    routes = stub.console.channel._routes
    for name in ("evacuation.trigger", "lane.open"):
        routes[name] = Route(
            method=name, params=routes[name].params, address=routes[name].address, permission=routes[name].permission,
            timeout_s=5.0, system=routes[name].system, audit=True,
        )  # fmt: skip
    async with stub.open() as site, ConsoleClient.connect(site.channel_url) as client:
        await client.login("anna", "correct horse")
        await client.call("evacuation.trigger", {"reason": "smoke"}, c.Done)
        assert await refused(client, "lane.open", {"lane": "lane-1", "pax": 9, "reason": "x"}) == "too_many"
        await client.call("lane.pause", {"lane": "lane-1", "reason": "x"}, c.Done)
    assert [(user, role, method, refused) for user, role, method, _, refused in notes] == [
        ("anna", "operator", "evacuation.trigger", ""), ("anna", "operator", "lane.open", "too_many")
    ]  # fmt: skip
