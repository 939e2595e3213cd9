"""The channel on real sockets: who may do what, and that a bad or slow client is alone with its trouble."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio_websocket import ConnectionClosed, wrap_client_stream

from admin_ws import _peer, channel
from admin_ws._peer import OUTBOX_FRAMES, CloseCode, Peer
from admin_ws.channel import Channel, Route
from admin_ws.client import ConsoleClient, ConsoleClosed, ConsoleRefused, ConsoleTimeout
from admin_ws.testing import StubSite, until
from core import Address, Stop
from core.testing import Probe, patient_time
from protocols import console as c
from protocols.jsonrpc import Wire, decode_response, encode_request

patient = pytest.fixture(autouse=True)(patient_time)

BORIS = ("boris", "battery staple")
METHODS = ["session.login", "session.resume", "site.subscribe", "lane.open", "evacuation.trigger", "nothing"]
WIRES = pytest.mark.parametrize("wire", [Wire.JSON, Wire.MSGPACK], ids=str)


@contextlib.asynccontextmanager
async def logged_in(
    site: StubSite, user: str = "anna", password: str = "correct horse", wire: Wire = Wire.MSGPACK
) -> AsyncIterator[ConsoleClient]:
    async with ConsoleClient.connect(site.channel_url, wire=wire) as client:
        await client.login(user, password)
        yield client


@contextlib.asynccontextmanager
async def raw(site: StubSite, wire: Wire = Wire.JSON) -> AsyncIterator[Any]:
    """A WebSocket without a client's good manners."""
    stream = await trio.open_tcp_stream("127.0.0.1", site.console.port)
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(30.0):
                yield await wrap_client_stream(nursery, stream, "here", "/channel", subprotocols=[str(wire)])
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


async def closed_with(socket: Any, within_s: float = 30.0) -> int:
    """Read until the server closes; returns the code."""
    with trio.fail_after(within_s):
        while True:
            try:
                await socket.get_message()
            except ConnectionClosed as error:
                assert error.reason is not None
                return error.reason.code


def counts(site: StubSite) -> dict[str, int]:
    return site.console.statistics().channel.counts


def seen(site: StubSite, kind: type[Any]) -> list[Any]:
    return [message for message in site.sees if isinstance(message, kind)]


async def refused(client: ConsoleClient, method: str, params: object) -> ConsoleRefused:
    with pytest.raises(ConsoleRefused) as caught:
        await client.call(method, params, c.Done)
    return caught.value


# --- log-in ------------------------------------------------------------------------------------------------------


@WIRES
async def test_a_session_says_what_it_may_call(wire: Wire) -> None:
    async with StubSite().open() as site, ConsoleClient.connect(site.channel_url, wire=wire) as client:
        session = await client.login("chen", "till one")
        assert session.user == "chen"
        assert session.methods == [
            "evacuation.trigger", "sales.print_jobs", "sales.products", "sales.sell", "site.subscribe"
        ]  # fmt: skip


async def test_a_wrong_password_is_refused_and_opens_nothing() -> None:
    async with StubSite().open() as site, ConsoleClient.connect(site.channel_url) as client:
        with pytest.raises(ConsoleRefused) as caught:
            await client.login("anna", "wrong")
        assert caught.value.code == "bad_login"
        assert (caught.value.text_zh, caught.value.text_en) == ("用户名或密码错误", "Wrong user name or password")
        assert (await refused(client, "lane.open", c.ManualOpen(lane="lane-1", pax=1, reason="x"))).code == (
            "not_logged_in"
        )
        assert counts(site)["refused.login.bad_login"] == 1


async def test_a_token_resumes_a_session() -> None:
    async with StubSite().open() as site, ConsoleClient.connect(site.channel_url) as client:
        assert (await client.resume("token-boris")).user == "boris"
        assert len((await client.subscribe()).lanes) == 8


async def test_five_failed_log_ins_end_the_connection() -> None:
    async with StubSite().open() as site, raw(site) as socket:
        for number in range(5):
            guess = {"user": "anna", "password": "x"}
            await until(lambda n=number: len(seen(site, c.Login)) == n)
            await trio.testing.wait_all_tasks_blocked(0.005)
            await socket.send_message(encode_request(Wire.JSON, number, "session.login", guess))
        assert await closed_with(socket) == CloseCode.FLOOD
        assert len(seen(site, c.Login)) == 5


async def test_who_does_not_log_in_in_time_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin_ws._requests.LOGIN_DEADLINE_S", 0.2)
    async with StubSite().open() as site, logged_in(site) as client, raw(site) as socket:
        assert await closed_with(socket) == CloseCode.NO_LOGIN
        assert len((await client.subscribe()).lanes) == 8  # logged in, and longer connected


async def test_connections_without_a_log_in_are_few_per_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_ANONYMOUS_PER_HOST", 2)
    async with StubSite().open() as site, logged_in(site), raw(site), raw(site):
        with pytest.raises(ConsoleClosed):
            async with ConsoleClient.connect(site.channel_url):
                pass
        assert counts(site)["refused.full"] == 1
    async with site.open(), logged_in(site), logged_in(site), logged_in(site):  # who has logged in does not count
        assert len(site.console.statistics().channel.peers) == 3


# --- who may do what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lane.open", "evacuation.trigger", "evacuation.restore", "site.subscribe"])
async def test_nothing_is_carried_out_before_a_log_in(method: str) -> None:
    async with StubSite().open() as site, ConsoleClient.connect(site.channel_url) as client:
        assert (await refused(client, method, {"lane": "lane-1", "pax": 1, "reason": "x"})).code == "not_logged_in"
        assert site.sees == []
        assert site.hub.statistics().subscribers == 0
        assert counts(site)["refused.not_logged_in"] == 1


async def test_a_permission_that_is_missing_is_refused_before_the_actor_hears_of_it() -> None:
    async with StubSite().open() as site, logged_in(site, "dora", "only looking") as client:
        for method, params in (
            ("lane.open", c.ManualOpen(lane="lane-1", pax=1, reason="x")),
            ("evacuation.trigger", c.Trigger()),
            ("sales.sell", c.Sell(key="k", lines=[], tenders=[])),
        ):
            assert (await refused(client, method, params)).code == "forbidden"
        assert [type(message) for message in site.sees] == [c.Login]
        assert counts(site)["refused.forbidden"] == 3
        assert len((await client.subscribe()).lanes) == 8


async def test_who_asks_is_what_the_session_says_and_not_the_page() -> None:
    async with StubSite().open() as site, logged_in(site) as client:
        await client.call("lane.set_mode", c.SetMode(lane="lane-1", mode="closed", reason="x", by="boris"), c.Done)
        await client.call("evacuation.trigger", c.Trigger(by="boris"), c.Done)
        await until(lambda: seen(site, c.Trigger))
        assert seen(site, c.SetMode)[0].by == "anna"
        assert seen(site, c.Trigger)[0].by == "anna"


async def test_an_unknown_method_is_refused() -> None:
    async with StubSite().open() as site, logged_in(site) as client:
        refusal = await refused(client, "lane.explode", {})
        assert (refusal.code, refusal.rpc_code) == ("unknown_method", -32601)


async def test_params_of_the_wrong_shape_are_refused_with_the_place() -> None:
    async with StubSite().open() as site, logged_in(site) as client:
        refusal = await refused(client, "lane.open", {"lane": "lane-1", "pax": "many", "reason": "x"})
        assert (refusal.code, refusal.rpc_code) == ("bad_request", -32602)
        assert "$.pax" in refusal.text_en
        assert seen(site, c.ManualOpen) == []


# --- answers and errors ------------------------------------------------------------------------------------------


@WIRES
async def test_a_sale_goes_to_the_actor_and_its_answer_comes_back(wire: Wire) -> None:
    async with StubSite().open() as site, logged_in(site, "chen", "till one", wire) as client:
        sell = c.Sell(
            key="k1",
            lines=[c.SellLine(product="annual", quantity=1, photo=b"\xff\xd8\x00jpeg")],
            tenders=[c.Tender(tender="cash", amount_cents=50_000)],
        )
        sold = await client.call("sales.sell", sell, c.Sold)
        assert (sold.total_cents, sold.change_cents) == (38_000, 12_000)
        assert seen(site, c.Sell)[0].lines[0].photo == b"\xff\xd8\x00jpeg"


async def test_an_actors_refusal_keeps_its_code_and_its_words() -> None:
    async with StubSite().open() as site, logged_in(site) as client:
        refusal = await refused(client, "lane.open", c.ManualOpen(lane="lane-1", pax=9, reason="x"))
        assert (refusal.code, refusal.rpc_code) == ("too_many", -32000)
        assert (refusal.text_zh, refusal.text_en) == ("一次最多 5 人", "Five people at most")
        assert refusal.trace
        assert counts(site)["refused.by_actor.too_many"] == 1


async def test_an_actor_that_crashes_gives_a_code_and_no_traceback() -> None:
    async with StubSite().open() as site, logged_in(site, "chen", "till one") as client:
        sell = c.Sell(key="k", lines=[c.SellLine(product="no such", quantity=1)], tenders=[])
        refusal = await refused(client, "sales.sell", sell)
        assert refusal.code == "unavailable"
        assert "KeyError" not in str(refusal) + refusal.text_en + refusal.text_zh + refusal.hint
        products = await client.call("sales.products", c.ListProducts(), c.Products)  # restarted meanwhile
        assert len(products.products) == 4


async def test_an_error_without_a_code_is_ours_and_is_not_told_outside() -> None:
    async def main(me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            envelope.fail(ValueError("password is hunter2"))

    async with with_actor(main) as site, logged_in(site) as client:
        refusal = await refused(client, "test.ask", {})
        assert (refusal.code, refusal.rpc_code) == ("internal", -32603)
        assert "hunter2" not in str(refusal)


@contextlib.asynccontextmanager
async def with_actor(main: Any, timeout_s: float = 5.0) -> AsyncIterator[StubSite]:
    """A stub site with one more actor, which everybody may call as `test.ask`."""
    address = Address("test")
    route = Route(method="test.ask", params=c.GetTree, address=address, permission="", timeout_s=timeout_s)
    site = StubSite(more_routes=[route])
    async with site.open(), trio.open_nursery() as nursery:
        address._begin()
        nursery.start_soon(main, address)
        yield site
        nursery.cancel_scope.cancel()


async def never_answers(me: Address) -> None:
    kept = []
    while True:
        kept.append(await me.receive())


async def test_a_slow_method_does_not_keep_the_others_waiting() -> None:
    async with with_actor(never_answers) as site, logged_in(site) as client, trio.open_nursery() as nursery:
        nursery.start_soon(_ignore, client, "test.ask")
        await until(lambda: site.console.statistics().channel.peers[0].in_flight == 1)
        with trio.fail_after(1.0):
            await client.call("lane.open", c.ManualOpen(lane="lane-1", pax=1, reason="x"), c.Done)
        nursery.cancel_scope.cancel()


async def _ignore(client: ConsoleClient, method: str) -> None:
    with contextlib.suppress(ConsoleRefused, ConsoleTimeout):
        await client.call(method, {}, c.Done)


async def test_no_answer_in_time_says_that_the_outcome_is_unknown() -> None:
    async with with_actor(never_answers, timeout_s=0.1) as site, logged_in(site) as client:
        assert (await refused(client, "test.ask", {})).code == "timeout"


async def test_requests_under_way_are_bounded_but_an_evacuation_still_goes_through() -> None:
    async with with_actor(never_answers) as site, logged_in(site) as client, trio.open_nursery() as nursery:
        for _ in range(_peer.REQUESTS_IN_FLIGHT):
            nursery.start_soon(_ignore, client, "test.ask")
        await until(lambda: site.console.statistics().channel.peers[0].in_flight == _peer.REQUESTS_IN_FLIGHT)
        assert (await refused(client, "test.ask", {})).code == "busy"
        assert (await client.call("evacuation.trigger", c.Trigger(), c.Done)).detail == "told"
        await until(lambda: seen(site, c.Trigger))
        nursery.cancel_scope.cancel()


# --- evacuation --------------------------------------------------------------------------------------------------


def trigger_route(address: Address, permission: str) -> Route:
    return Route(
        method="evacuation.trigger",
        params=c.Trigger,
        address=address,
        permission=permission,
        timeout_s=1.0,
        system=True,
    )


class FakeSocket:
    """A connection that nobody writes to: for looking at what one message does, synchronously."""

    closed = None

    async def send_message(self, frame: Any) -> None:
        await trio.sleep_forever()


async def test_the_trigger_is_told_on_the_system_lane_in_the_same_step_as_it_is_read() -> None:
    evacuation = Probe("evacuation")
    for number in range(200):
        evacuation.tell(c.GetPrintJobs(order=number))  # a busy mailbox
    route = trigger_route(evacuation, "evacuate")
    served = Channel(hub=Probe("hub"), accounts=Probe("accounts"), routes=[route])
    peer = Peer(FakeSocket(), Wire.JSON)
    peer.session = c.Session(token="t", user="anna", role="operator", permissions=["evacuate"])
    while peer.requests.take():  # no rate limit applies
        pass
    frame = encode_request(Wire.JSON, 1, "evacuation.trigger", {"by": "boris", "drill": True})
    async with trio.open_nursery() as nursery:
        served._on_message(peer, frame, nursery, None)  # type: ignore[arg-type]  # no await: nothing else ran
        assert evacuation.statistics().system_depth == 1
        assert not nursery.child_tasks
    told = await evacuation.expect(c.Trigger)
    assert (told.by, told.drill) == ("anna", True)


@pytest.mark.parametrize("params", [{"drill": "perhaps"}, {"reason": 5}, [], None, 7])
async def test_damaged_params_do_not_stop_an_evacuation(params: object) -> None:
    async with StubSite().open() as site, logged_in(site) as client:
        assert (await client.call("evacuation.trigger", params, c.Done)).detail == "told"
        await until(lambda: seen(site, c.Trigger))
        assert seen(site, c.Trigger)[0] == c.Trigger(by="anna")


async def test_a_session_that_is_over_may_still_evacuate_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "REVALIDATE_S", 0.05)
    async with StubSite().open() as site, logged_in(site) as client:
        await client.subscribe()
        site.revoked.add("token-anna")
        with trio.fail_after(30.0):
            async for method, _ in client.notifications():
                if method == "session.over":
                    break
        await until(lambda: site.hub.statistics().subscribers == 0)
        command = c.ManualOpen(lane="lane-1", pax=1, reason="x")
        assert (await refused(client, "lane.open", command)).code == "session_over"
        assert (await refused(client, "site.subscribe", {})).code == "session_over"
        assert (await client.call("evacuation.trigger", c.Trigger(), c.Done)).detail == "told"
        await until(lambda: seen(site, c.Trigger))
        assert seen(site, c.ManualOpen) == []


async def test_accounts_that_are_away_end_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "REVALIDATE_S", 0.05)
    async with StubSite().open() as site, logged_in(site) as client:
        site.accounts.tell(Stop(), system=True)
        await until(lambda: not site.accounts.alive)
        await trio.sleep(0.3)
        await client.call("lane.open", c.ManualOpen(lane="lane-1", pax=1, reason="x"), c.Done)


async def test_every_page_sees_the_release_and_each_acknowledgement() -> None:
    async with StubSite(lanes=3).open() as site, logged_in(site) as anna, logged_in(site, *BORIS) as boris:
        await boris.subscribe()
        await anna.call("evacuation.trigger", c.Trigger(), c.Done)
        views = []
        with trio.fail_after(30.0):
            async for delta in boris.deltas():
                if delta.evacuation is not None:
                    views.append(delta.evacuation)
                    if all(lane.sensed_open for lane in delta.evacuation.lanes):
                        break
        assert views[0].triggered_by == "anna"
        assert [sum(lane.acknowledged for lane in view.lanes) for view in views] == [0, 1, 2, 3]


# --- bad and slow clients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "rpc_code"),
    [
        ("not json", -32700),
        ("[" * 20_000, -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"x","params":' + '{"a":' * 5_000, -32700),
        ('{"jsonrpc":"1.0","id":1,"method":"x"}', -32600),
        ('[{"jsonrpc":"2.0","id":1,"method":"x"}]', -32600),
        ("{}", -32600),
        ('"text"', -32600),
    ],
)
async def test_a_malformed_message_is_refused_and_the_connection_lives(frame: str, rpc_code: int) -> None:
    async with StubSite().open() as site, logged_in(site) as other, raw(site) as socket:
        await socket.send_message(frame)
        answer = decode_response(Wire.JSON, await socket.get_message())
        assert answer.error is not None
        assert (answer.id, answer.error.code, answer.error.data["code"]) == (None, rpc_code, "bad_request")
        await socket.send_message(encode_request(Wire.JSON, 1, "session.resume", {"token": "token-anna"}))
        assert decode_response(Wire.JSON, await socket.get_message()).error is None
        assert counts(site)["refused.malformed"] == 1
        assert len((await other.subscribe()).lanes) == 8


async def test_text_on_a_binary_channel_ends_it() -> None:
    async with StubSite().open() as site, raw(site, Wire.MSGPACK) as socket:
        await socket.send_message("hello")
        assert await closed_with(socket) == CloseCode.WRONG_FORM


async def test_a_notification_gets_no_answer_and_does_nothing() -> None:
    async with StubSite().open() as site, raw(site) as socket:
        await socket.send_message('{"jsonrpc":"2.0","method":"session.resume","params":{"token":"token-anna"}}')
        await socket.send_message(encode_request(Wire.JSON, 2, "session.resume", {"token": "token-anna"}))
        assert decode_response(Wire.JSON, await socket.get_message()).id == 2
        assert len(seen(site, c.Resume)) == 1


async def test_an_oversized_message_ends_its_connection_and_no_other() -> None:
    async with StubSite().open() as site, logged_in(site) as other, logged_in(site) as client:
        with pytest.raises(ConsoleClosed) as caught:
            await client.call("lane.open", {"lane": "x" * 1_100_000}, c.Done)
        assert caught.value.close_code == CloseCode.TOO_BIG
        await until(lambda: counts(site).get("refused.too_big") == 1)
        assert len((await other.subscribe()).lanes) == 8
        assert seen(site, c.ManualOpen) == []


async def test_a_flood_is_first_refused_then_closed_and_others_do_not_notice() -> None:
    async with StubSite().open() as site, logged_in(site) as other, logged_in(site) as flooder:
        command = encode_request(Wire.MSGPACK, 1, "lane.open", c.ManualOpen(lane="lane-1", pax=1, reason="x"))
        with contextlib.suppress(ConnectionClosed):
            for _ in range(300):
                await flooder._socket.send_message(command)
        await until(lambda: "closed.flood" in counts(site) or "closed.too_slow" in counts(site))
        assert counts(site)["refused.rate_limited"] >= 30
        assert len(seen(site, c.ManualOpen)) <= _peer.REQUEST_BURST + 10
        await other.call("lane.open", c.ManualOpen(lane="lane-2", pax=1, reason="x"), c.Done)


async def test_a_page_that_never_reads_is_evicted_and_the_others_get_every_event() -> None:
    async with StubSite().open() as site, logged_in(site) as reader, logged_in(site, *BORIS) as mute:
        await reader.subscribe()
        await mute.subscribe()
        for raw_stream in site.console._open:  # small buffers, so that the test need not send megabytes
            raw_stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
        stop_reading(mute)
        got: list[str] = []

        async def read() -> None:
            async for delta in reader.deltas():
                got.extend(line.code for line in delta.feed)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            sent = 0
            with trio.fail_after(30.0):
                while "closed.too_slow" not in counts(site):
                    for _ in range(20):
                        site.hub_address.tell(
                            c.FeedEvent(at=0.0, kind="passage", severity="info", code=str(sent), text_zh="长" * 2_000)
                        )
                        sent += 1
                    await trio.sleep(0.06)
            await until(lambda: len(got) == sent)
            assert got == [str(number) for number in range(sent)]
            nursery.cancel_scope.cancel()
        await until(lambda: site.hub.statistics().subscribers == 1)
        assert len(site.console.statistics().channel.peers) == 1


def stop_reading(client: ConsoleClient) -> None:
    """The client's reader takes nothing more from its socket."""

    async def hang(_: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    stream = client._socket._stream
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    stream.receive_some = hang


async def test_an_outbox_is_bounded_in_frames_and_in_bytes() -> None:
    peer = Peer(FakeSocket(), Wire.MSGPACK)
    assert all(peer.offer(b"x") for _ in range(OUTBOX_FRAMES))
    assert not peer.offer(b"x")
    assert peer.closed_for is CloseCode.TOO_SLOW
    assert not peer.offer(b"x")
    heavy = Peer(FakeSocket(), Wire.MSGPACK)
    assert heavy.offer(bytes(_peer.OUTBOX_BYTES))
    assert not heavy.offer(b"x")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)), st.sampled_from([Wire.JSON, Wire.MSGPACK]))
def test_no_message_can_make_the_channel_raise(message: bytes | str, wire: Wire) -> None:
    async def main() -> None:
        served = Channel(hub=Probe("hub"), accounts=Probe("accounts"), routes=[])
        peer = Peer(FakeSocket(), wire)
        async with trio.open_nursery() as nursery:
            served._on_message(peer, message, nursery, None)  # type: ignore[arg-type]
            nursery.cancel_scope.cancel()

    trio.run(main)


@given(
    st.sampled_from(METHODS),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
)
def test_no_params_can_make_the_channel_raise(method: str, params: object) -> None:
    async def main() -> None:
        address = Probe("actor")
        routes = [
            Route(method="lane.open", params=c.ManualOpen, address=address, permission="", timeout_s=1.0),
            trigger_route(address, ""),
        ]
        served = Channel(hub=Probe("hub"), accounts=Probe("accounts"), routes=routes)
        peer = Peer(FakeSocket(), Wire.JSON)
        peer.session = c.Session(token="t", user="anna", role="operator", permissions=[])
        async with trio.open_nursery() as nursery:
            frame = encode_request(Wire.JSON, 1, method, params)
            served._on_message(peer, frame, nursery, None)  # type: ignore[arg-type]
            nursery.cancel_scope.cancel()

    trio.run(main)


# --- starting and stopping ---------------------------------------------------------------------------------------


async def test_stopping_says_goodbye_to_every_page() -> None:
    codes: list[int] = []

    async def stay(site: StubSite, started: trio.Event) -> None:
        async with raw(site) as socket:
            started.set()
            codes.append(await closed_with(socket))

    async with trio.open_nursery() as nursery:
        async with StubSite().open() as site:
            for _ in range(3):
                started = trio.Event()
                nursery.start_soon(stay, site, started)
                await started.wait()
            began = trio.current_time()
    assert codes == [CloseCode.GOING_AWAY] * 3
    assert trio.current_time() - began < 3.0


async def test_a_restarted_server_listens_on_the_same_port() -> None:
    site = StubSite()
    async with site.open(), logged_in(site):
        port = site.console.port
    async with site.open(), logged_in(site):
        assert site.console.port == port


def test_two_routes_for_a_method_are_a_mistake_of_the_composition_root() -> None:
    route = Route(method="site.subscribe", params=c.GetTree, address=Probe("p"), permission="", timeout_s=1.0)
    with pytest.raises(ValueError, match=r"site\.subscribe"):
        Channel(hub=Probe("hub"), accounts=Probe("accounts"), routes=[route])


# --- the client --------------------------------------------------------------------------------------------------


async def test_a_client_learns_that_nobody_listens() -> None:
    with pytest.raises(ConsoleClosed):
        async with ConsoleClient.connect("ws://127.0.0.1:1/channel"):
            pass


async def test_a_client_gives_up_at_its_deadline_and_stays_usable() -> None:
    async with with_actor(never_answers) as site, logged_in(site) as client:
        with pytest.raises(ConsoleTimeout):
            await client.call("test.ask", {}, c.Done, timeout_s=0.1)
        await client.call("lane.open", c.ManualOpen(lane="lane-1", pax=1, reason="x"), c.Done)


async def test_a_client_learns_that_the_server_went_away() -> None:
    async with StubSite().open() as site, logged_in(site) as client:
        site.console_address.tell(Stop(), system=True)
        await site.console_address.wait_gone()
        with pytest.raises(ConsoleClosed):
            await client.call("lane.open", c.ManualOpen(lane="lane-1", pax=1, reason="x"), c.Done)


async def test_an_error_in_the_clients_own_block_comes_out_as_it_is() -> None:
    async with StubSite().open() as site:
        with pytest.raises(LookupError, match="mine"):
            async with logged_in(site):
                raise LookupError("mine")


async def test_statistics_name_who_is_connected() -> None:
    async with StubSite().open() as site, logged_in(site) as client:
        await client.subscribe()
        peer = site.console.statistics().channel.peers[0]
        assert (peer.user, peer.wire) == ("anna", "paifang.msgpack")
        assert msgspec.json.encode(site.console.statistics())
