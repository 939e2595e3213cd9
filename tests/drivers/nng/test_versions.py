"""A device that knows only version 1 of the link: its bytes, as it has always sent them, against today's server."""

import msgpack
import msgspec
import pytest
import trio

from core.testing import patient_time
from drivers.nng import LinkClient, WorkServer, _sockets
from drivers.nng.testing import FakeGate, free_addresses, until
from protocols import devicelink as link
from protocols.errors import LinkError
from protocols.lists import ListMark

patient = pytest.fixture(autouse=True)(patient_time)

ANY = "tcp://127.0.0.1:0"
HEAD = {"v": 1, "device": "gate-1", "boot": "b1", "at": 1767225600.5}
SESSION = [  # every request of version 1, with every field that it had
    {"type": "hello", "seq": 1, "firmware": "1.0", "barrier": "closed", "released": False, "incident": None,
     "open_grants": [], "entries": 120, "exits": 45},
    {"type": "scan", "seq": 2, "nonce": "b1-1", "kind": "code", "value": "PF1:X", "direction": "entry", "pax": None,
     "photo": None, "issue_index": None, "holder": "", "stamp": "", "product": ""},
    {"type": "pass", "seq": 3, "direction": "entry", "grant": 7, "kind": "granted"},
    {"type": "passend", "seq": 4, "grant": 7, "nonce": "b1-1", "passed": 1, "why": "complete"},
    {"type": "alarm", "seq": 5, "kind": "tailgate", "detail": ""},
    {"type": "fetch", "seq": 6, "done": [], "barrier": "closed"},
    {"type": "heartbeat", "seq": 7, "barrier": "closed", "queue_depth": 0},
]  # fmt: skip
ANSWERS = {  # what version 1 promised to answer with: at least these fields
    "hello": ("welcome", {"site", "lane", "mode", "released", "incident"}),
    "scan": ("grant", {"nonce", "grant", "pax", "passed", "ttl_s", "state", "product_class", "text_zh", "text_en",
                       "remaining"}),
    "pass": ("ack", set()),
    "passend": ("ack", set()),
    "alarm": ("ack", set()),
    "fetch": ("commands", {"commands"}),
    "heartbeat": ("ack", set()),
}  # fmt: skip


async def answer(request):
    head = {"seq": request.seq, "server_at": 1.0}
    match request:
        case link.Hello():
            v = link.common_version(request)
            return link.Welcome(**head, site="valley", lane="g1", mode="bidirectional", v=v)
        case link.Scan():
            texts = {"text_zh": "请进", "text_en": "Welcome", "product_class": "full", "state": "open"}
            return link.Grant(**head, **texts, nonce=request.nonce, grant=7, pax=1, passed=0, ttl_s=5.0, remaining=0)
        case link.Fetch():
            return link.Commands(**head)
        case link.GetList():
            return link.ListPart(**head, kind="same", mark=ListMark(1, "t"))
    return link.Ack(**head)


async def test_a_client_of_version_1_loses_nothing(nursery):
    server = WorkServer(ANY, ANY, answer)
    await nursery.start(server.run)
    for fields in SESSION:
        with _sockets.dialled(req := _sockets.open_req(), server.work_url, 1 << 20):
            data = await _sockets.exchange(req, msgpack.packb(HEAD | fields), 10.0)
        reply = msgpack.unpackb(data)
        kind, promised = ANSWERS[fields["type"]]
        assert reply["type"] == kind
        assert set(reply) >= promised | {"seq", "server_at"}
        assert reply["seq"] == fields["seq"]
        assert reply.get("v", 1) == 1
    assert server.statistics().bad_messages == 0
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("fields", "agreed"),
    [({}, 1), ({"speaks": []}, 1), ({"speaks": [1]}, 1), ({"speaks": [1, 2]}, 2), ({"speaks": [2, 3, 99]}, 2),
     ({"speaks": [99]}, 1), ({"v": 2}, 2)],
)  # fmt: skip
def test_the_highest_common_version_is_agreed(fields, agreed):
    hello = link.decode_request(msgpack.packb(HEAD | SESSION[0] | fields))
    assert link.common_version(hello) == agreed


@pytest.mark.parametrize("v", [0, 3, 99, -1])
def test_a_version_that_nobody_speaks_is_refused_in_words(v):
    with pytest.raises(LinkError, match="speaks 1 and 2"):
        link.decode_request(msgpack.packb(HEAD | SESSION[0] | {"v": v}))


@pytest.mark.parametrize("fields", [{"type": "getlist"}, {"type": "upload", "journal": "j", "oldest": 1}])
def test_version_1_has_no_lists(fields):
    with pytest.raises(LinkError, match="version 1 has no such message"):
        link.decode_request(msgpack.packb(HEAD | {"seq": 1} | fields))
    link.decode_request(msgpack.packb(HEAD | {"seq": 1} | fields | {"v": 2}))


def client_for(addresses, **options):
    gate = FakeGate()
    return LinkClient(addresses, "gate-1", {}, site="demo", sensed=gate.sensed, on_release=gate.release, **options)


async def test_the_client_learns_what_the_server_speaks_and_then_gets_its_lists(nursery):
    addresses = free_addresses()
    server = WorkServer(addresses.work, addresses.wake, answer)
    client = client_for(addresses)
    await nursery.start(server.run)
    await nursery.start(client.run)
    assert client.version == 1
    await client.ask(link.Hello(**client.header(), firmware="x"), 10.0)
    assert client.version == 2
    part = await client.ask(link.GetList(**client.header()), 10.0)
    assert isinstance(part, link.ListPart)
    nursery.cancel_scope.cancel()


async def test_an_older_server_is_served_in_its_version(nursery):
    """It knows nothing of `speaks`, and its welcome has no `v`."""

    class OldWelcome(msgspec.Struct, tag_field="type", tag="welcome"):
        seq: int
        server_at: float
        site: str
        lane: str
        mode: str

    async def old(request):
        return OldWelcome(seq=request.seq, server_at=1.0, site="s", lane="l", mode="fault")

    addresses = free_addresses()
    server = WorkServer(addresses.work, addresses.wake, old)
    client = client_for(addresses)
    await nursery.start(server.run)
    await nursery.start(client.run)
    await client.ask(link.Hello(**client.header(), firmware="x"), 10.0)
    assert client.version == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ahead_s", [-1200.0, 0.0, 1200.0])
async def test_the_client_knows_how_far_its_clock_is_off_and_tells_the_round_trip(nursery, ahead_s):
    heard = []

    async def stamped(request):
        heard.append(request)
        return link.Ack(seq=request.seq, server_at=10_000.0 + trio.current_time())

    addresses = free_addresses()
    server = WorkServer(addresses.work, addresses.wake, stamped)
    client = client_for(addresses, clock=lambda: 10_000.0 + trio.current_time() + ahead_s)
    await nursery.start(server.run)
    await nursery.start(client.run)
    await until(lambda: client.connected, 10.0)
    assert client.statistics().clock_offset_s is None
    for _ in range(3):
        await client.ask(link.Heartbeat(**client.header()), 10.0)
    seen = client.statistics()
    assert seen.clock_offset_s == pytest.approx(-ahead_s, abs=seen.round_trip_s / 2 + 1e-3)
    assert heard[0].round_trip_s is None
    assert heard[2].round_trip_s > 0
    nursery.cancel_scope.cancel()
