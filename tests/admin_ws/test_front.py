"""The front's decisions on bytes: heads, origins, rates. And, on real sockets, that nobody disturbs anybody else."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from admin_ws import server
from admin_ws.client import ConsoleClient
from admin_ws.front import MAX_HEAD_BYTES, BadHead, Head, ReplayStream, Throttle, parse_head, read_head, same_origin
from admin_ws.pages import load_pages
from admin_ws.testing import StubSite, until
from core.testing import patient_time

patient = pytest.fixture(autouse=True)(patient_time)

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


# --- heads -------------------------------------------------------------------------------------------------------


def test_a_head_is_taken_apart() -> None:
    head = parse_head(b"GET /channel?x=1 HTTP/1.1\r\nHost: Here:80\r\nUpgrade:  WebSocket \r\nVia: a\r\nVia: b\r\n\r\n")
    assert (head.method, head.path, head.upgrade) == ("GET", "/channel", "websocket")
    assert head.headers == {"host": "Here:80", "upgrade": "WebSocket", "via": "a, b"}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"GET http://there/ HTTP/1.1\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nName : spaced\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nOrigin: a\r\nOrigin: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 65 + b"\r\n", 431),
    ],
)
def test_a_damaged_head_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(BadHead) as caught:
        parse_head(data)
    assert caught.value.status == status


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_a_bad_head(data: bytes) -> None:
    try:
        parse_head(data)
    except BadHead as error:
        assert error.status in (400, 431, 505)


@given(st.integers(min_value=1, max_value=len(GET) + 3))
def test_a_head_may_come_in_pieces_and_what_follows_is_kept(size: int) -> None:
    data = GET + b"xyz"

    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(data[:size])

        async def rest() -> None:
            await theirs.send_all(data[size:])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rest)
            head, read = await read_head(ours, 1.0)
        assert head.headers["host"] == "here"
        assert read == data[: len(read)]
        replay = ReplayStream(ours, read)
        await theirs.aclose()
        again = b""
        while chunk := await replay.receive_some():
            again += chunk
        assert again == data

    trio.run(main)


@pytest.mark.parametrize(
    ("data", "close", "status"),
    [
        (b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_BYTES, False, 431),
        (b"GET / HTTP/1.1\r\n", False, 408),
        (b"GET / HT", True, None),
    ],
)
async def test_a_head_is_bounded_in_size_and_time(
    data: bytes, close: bool, status: int | None, autojump_clock: trio.abc.Clock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(data)
    if close:
        await theirs.aclose()
    began = trio.current_time()
    with pytest.raises(BadHead) as caught:
        await read_head(ours, 5.0)
    assert caught.value.status == status
    assert trio.current_time() - began <= 5.0


# --- origins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("gate.example:8460", "http://gate.example:8460", True),
        ("gate.example", "https://gate.example", True),
        ("gate.example:443", "https://gate.example", True),
        ("gate.example", "http://gate.example:80", True),
        ("[::1]:8460", "http://[::1]:8460", True),
        ("Gate.Example:8460", "http://gate.example:8460", True),
        ("gate.example:8460", None, True),  # a program, not a browser
        ("gate.example:8460", "null", False),
        ("gate.example:8460", "", False),
        ("gate.example:8460", "http://evil.example", False),
        ("gate.example:8460", "http://gate.example:9999", False),
        ("gate.example:8460", "http://gate.example", False),
        ("gate.example", "http://gate.example.evil", False),
        ("gate.example", "http://gate.example@evil", False),
        ("gate.example", "http://evil/gate.example", False),
        ("gate.example", "file://gate.example", False),
        ("gate.example", "http://gate.example:notaport", False),
        ("", "http://gate.example", False),
    ],
)
def test_only_a_page_of_the_same_host_may_open_the_channel(host: str, origin: str | None, allowed: bool) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    assert same_origin(Head("GET", "/channel", headers)) is allowed


# --- rates -------------------------------------------------------------------------------------------------------


async def test_who_sends_faster_than_the_rate_is_read_more_slowly(autojump_clock: trio.abc.Clock) -> None:
    throttle = Throttle(rate_bytes_per_s=1_000, burst_bytes=5_000)
    assert throttle.spend(5_000) == 0
    assert throttle.spend(2_000) == pytest.approx(2.0)
    await trio.sleep(2.0)
    assert throttle.spend(0) == 0
    throttle.relax()
    assert throttle.spend(1_000_000) == 0


async def test_a_flood_of_tiny_frames_is_slowed_to_the_rate(autojump_clock: trio.abc.Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    replay = ReplayStream(ours, b"")
    await theirs.send_all(bytes(1_000_000))
    began, received = trio.current_time(), 0
    with trio.move_on_after(10.0):
        while True:
            received += len(await replay.receive_some())
    assert trio.current_time() - began == pytest.approx(10.0)
    assert received < 32 * 1024 + 11 * 8 * 1024


async def test_a_send_to_somebody_who_does_not_read_ends(autojump_clock: trio.abc.Clock) -> None:
    ours, _theirs = trio.testing.lockstep_stream_pair()
    replay = ReplayStream(ours, b"")
    began = trio.current_time()
    with trio.CancelScope(shield=True), pytest.raises(trio.BrokenResourceError):  # as hypercorn sends
        await replay.send_all(b"x")
    assert trio.current_time() - began == pytest.approx(10.0)


# --- on real sockets ---------------------------------------------------------------------------------------------


async def exchange(port: int, data: bytes, *, within_s: float = 30.0) -> bytes:
    """Send bytes to the front and read until it closes."""
    with trio.fail_after(within_s):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(data)
            answer = b""
            try:
                while chunk := await stream.receive_some():
                    answer += chunk
            except trio.BrokenResourceError:
                pass
            return answer


async def works(site: StubSite) -> None:
    """The site still serves: a client logs in and sees every lane."""
    async with ConsoleClient.connect(site.channel_url) as client:
        await client.login("anna", "correct horse")
        assert len((await client.subscribe()).lanes) == len(site.lanes)


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: here", "Connection: close", *lines, "", ""]
    return "\r\n".join(head).encode()


def websocket(*lines: str, path: str = "/channel") -> bytes:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", "Host: here", "Connection: Upgrade", "Upgrade: websocket", key,
         "Sec-WebSocket-Version: 13", *lines, "", ""]
    ).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("data", "status", "count"),
    [
        (request("/channel"), b"426", "refused.head"),
        (request("/", method="POST"), b"405", "refused.head"),
        (request("/", "Content-Length: 5"), b"400", "refused.head"),
        (request("/", "Upgrade: h2c"), b"400", "refused.head"),
        (b"\x16\x03\x01\x00\xa5" + bytes(200) + b"\r\n\r\n", b"400", "refused.head"),
        (websocket("Origin: http://evil.example", "Sec-WebSocket-Protocol: paifang.json"), b"403", "refused.origin"),
        (websocket("Origin: null", "Sec-WebSocket-Protocol: paifang.json"), b"403", "refused.origin"),
        (websocket("Origin: http://here", "Sec-WebSocket-Protocol: chat"), b"400", "refused.subprotocol"),
        (websocket("Origin: http://here"), b"400", "refused.subprotocol"),
    ],
)
async def test_what_is_not_served_is_refused_and_counted_and_disturbs_nobody(
    data: bytes, status: bytes, count: str
) -> None:
    async with StubSite().open() as site:
        answer = await exchange(site.console.port, data)
        assert answer.split(b" ")[1] == status, answer
        assert site.console.statistics().channel.counts[count] == 1
        assert not [message for message in site.sees if type(message).__name__ == "Login"]
        await works(site)


@pytest.mark.parametrize(
    "frames",
    [
        b"\xff" * 200,  # reserved bits, unknown opcode
        b"\x81\x05hello",  # not masked
        b"\x81\xfe",  # half a frame, then nothing
        b"\x81\xff\x7f" + b"\xff" * 7 + b"mask" + b"x" * 500,  # nine million terabytes announced
        b"\x81\x84mask" + bytes(a ^ b for a, b in zip(b"\xff\xfe\xfd\xfc", b"mask", strict=True)),  # not UTF-8
        b"\x80\x80mask",  # a continuation of nothing
        b"\x89\xfe\x01\x00mask" + bytes(256),  # a ping longer than a ping may be
        b"\x88\x81maskx",  # a close code of one byte
    ],
)
async def test_damaged_websocket_frames_end_their_connection_and_disturb_nobody(frames: bytes) -> None:
    async with StubSite().open() as site:
        good = websocket("Origin: http://here", "Sec-WebSocket-Protocol: paifang.json")
        stream = await trio.open_tcp_stream("127.0.0.1", site.console.port)
        async with stream:
            await stream.send_all(good)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
            await stream.send_all(frames)
            await works(site)
            await stream.send_eof()
            with trio.fail_after(30.0):
                try:
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
        await until(lambda: site.console.statistics().connections == 0)
        counts = site.console.statistics().channel.counts
        assert "connection.failed" not in counts
        assert counts.get("refused.damaged", 0) == (frames[:2] not in (b"\x81\xfe", b"\x81\xff"))  # half is not damaged


async def test_a_slow_head_costs_its_sender_the_connection_and_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.3)
    async with StubSite().open() as site:
        async with trio.open_nursery() as nursery:
            answers: list[bytes] = []

            async def dribble() -> None:
                answers.append(await exchange(site.console.port, b"GET / HTTP/1.1\r\nHo"))

            for _ in range(20):
                nursery.start_soon(dribble)
            await works(site)
        assert all(answer.split(b" ")[1] == b"408" for answer in answers)


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    async with StubSite().open() as site, trio.open_nursery() as nursery:
        idle = [await trio.open_tcp_stream("127.0.0.1", site.console.port) for _ in range(3)]
        await until(lambda: site.console.statistics().connections == 3)
        assert (await exchange(site.console.port, request("/"))).split(b" ")[1] == b"503"
        for stream in idle:
            await stream.aclose()
        await until(lambda: site.console.statistics().connections == 0)
        assert (await exchange(site.console.port, request("/healthz"))).split(b" ")[1] == b"200"
        nursery.cancel_scope.cancel()


@pytest.fixture
def pages_folder(tmp_path: Path) -> Path:
    """A small console as Vite would build one, beside a secret that nobody may fetch."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>console</title>", encoding="utf-8")
    (folder / "assets" / "index-abc.js").write_text("let a = 1;\n" * 500, encoding="utf-8")
    (folder / "assets" / "large.bin").write_bytes(bytes(range(256)) * 16_384)
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    return folder


async def test_pages_are_served_with_headers_that_keep_strangers_out(pages_folder: Path) -> None:
    async with StubSite(static_folder=pages_folder).open() as site:
        head, _, body = (await exchange(site.console.port, request("/"))).partition(b"\r\n\r\n")
        assert b"<title>console</title>" in body
        for line in (
            b"content-security-policy: default-src 'none'",
            b"frame-ancestors 'none'",
            b"x-content-type-options: nosniff",
            b"cache-control: no-cache",
            b"content-type: text/html",
        ):
            assert line in head.lower(), line
        assert b"server:" not in head.lower()


async def test_a_page_that_did_not_change_is_not_sent_again(pages_folder: Path) -> None:
    async with StubSite(static_folder=pages_folder).open() as site:
        head = await exchange(site.console.port, request("/assets/index-abc.js", "Accept-Encoding: gzip"))
        assert b"content-encoding: gzip" in head.lower()
        assert b"immutable" in head.lower()
        etag = load_pages(pages_folder)["/assets/index-abc.js"].etag
        again = await exchange(site.console.port, request("/assets/index-abc.js", f"If-None-Match: {etag}"))
        assert again.split(b" ")[1] == b"304"


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/assets/../../secret.txt", "/%2e%2e/secret.txt", "//secret.txt", "/nothing", "/assets"]
)
async def test_nothing_but_the_pages_can_be_fetched(pages_folder: Path, path: str) -> None:
    async with StubSite(static_folder=pages_folder).open() as site:
        answer = await exchange(site.console.port, request(path))
        assert answer.split(b" ")[1] == b"404"
        assert b"secret" not in answer.partition(b"\r\n\r\n")[2]


async def test_a_console_that_was_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    async with StubSite(static_folder=tmp_path / "none").open() as site:
        answer = await exchange(site.console.port, request("/"))
        assert answer.split(b" ")[1] == b"503"
        assert b"npm run build" in answer
        await works(site)


async def test_healthz_says_whether_the_hub_runs() -> None:
    async with StubSite().open() as site:
        answer = await exchange(site.console.port, request("/healthz"))
        assert b'"status":"ok"' in answer
        assert (await exchange(site.console.port, request("/metrics"))).split(b" ")[1] == b"404"


async def test_metrics_are_served_when_there_are_some() -> None:
    site = StubSite()
    site.console._metrics = lambda: b"paifang_things 3\n"
    async with site.open():
        assert (await exchange(site.console.port, request("/metrics"))).endswith(b"paifang_things 3\n")


async def test_stopping_does_not_wait_for_a_client_that_does_not_read(pages_folder: Path) -> None:
    site = StubSite(static_folder=pages_folder)
    async with site.open():
        stream = await trio.open_tcp_stream("127.0.0.1", site.console.port)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await stream.send_all(request("/assets/large.bin"))
        await stream.receive_some(100)  # the answer is under way, and stuck
        await trio.sleep(0.2)
        began = trio.current_time()
    assert trio.current_time() - began < 3.0
    await stream.aclose()


@pytest.fixture
def tls_contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's, with a certificate of their own for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "both.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(file)
    return ours, ssl.create_default_context(cafile=str(file))


async def test_with_tls_pages_and_channel_are_encrypted_and_plain_text_is_refused(
    tls_contexts: tuple[ssl.SSLContext, ssl.SSLContext], pages_folder: Path
) -> None:
    ours, theirs = tls_contexts
    site = StubSite(static_folder=pages_folder)
    site.console._tls = ours
    async with site.open():
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", site.console.port, ssl_context=theirs)
        async with stream:
            await stream.send_all(request("/"))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        url = site.channel_url.replace("ws:", "wss:")
        async with ConsoleClient.connect(url, tls=theirs) as client:
            await client.login("anna", "correct horse")
        assert b"200 OK" not in await exchange(site.console.port, request("/"))
