"""What is told to others: everything, once, in order, whoever is down for however long."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import hashlib
import hmac
import json
import ssl
import threading
from contextlib import asynccontextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from zoneinfo import ZoneInfo

import pytest
import trio
from aiosmtpd.smtp import SMTP, AuthResult

from actors import alarms as module
from actors.alarms import Alarms, NotTaken, pause_s
from actors.alarms_words import Interest, letter, subject, told, wants
from actors.testing import alive, heard, only, settle
from core import Address, Stop
from core.testing import Probe
from paifang._send import SecretMissing, permitted, post, post_letter, signing_key, target
from paifang._site_outgoing import Mail, Webhook
from protocols.console import DeviceView, FeedEvent
from storage.outbox import Delivery, Outbox, OutboxError

KEY = b"0123456789abcdef0123456789abcdef"
HOUR_S = 3600.0
ZONE = ZoneInfo("Asia/Shanghai")


def event(number=0, *, kind="alarm", severity="alarm", text="烟雾"):
    return FeedEvent(
        at=1000.0 + number, kind=kind, severity=severity, lane="n1", code=f"c{number}", text_zh=text, text_en="smoke"
    )


def delivery(body=b"{}", id="d1", receiver="webhook/a"):
    return Delivery(id=id, receiver=receiver, topic="alarm", body=body, made_at=1000.0, seq=1)


class Receiver:
    """Somebody else's server: what it took, in order."""

    def __init__(self):
        self.down = False
        self.took = []
        self.tries = 0

    async def send(self, delivery):
        await trio.sleep(0.01)
        self.tries += 1
        if self.down:
            raise NotTaken("connection refused")
        self.took.append((delivery.id, json.loads(delivery.body)["code"]))

    @property
    def codes(self):
        return [code for _, code in self.took]


class Rig:
    def __init__(self, path, receivers, interests, keep_s):
        self.hub = Probe("consoles", capacity=4096)
        self.outbox = Outbox(path)
        self.me = Address("alarms", capacity=20_000)
        self.actor = Alarms(
            site="s",
            interests=interests or [Interest(receiver=name) for name in receivers],
            senders={name: receiver.send for name, receiver in receivers.items()},
            outbox=self.outbox,
            make=lambda id, receiver, topic, body, at: Delivery(
                id=id, receiver=receiver, topic=topic, body=body, made_at=at
            ),
            hub=self.hub,
            outbox_error=OutboxError,
            keep_s=keep_s,
        )


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Threads and virtual time do not mix: the disk works at once."""

    async def run_sync(function, *arguments, **_options):
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    return tmp_path / "outgoing.db"


@asynccontextmanager
async def alarms(path, receivers, *, interests=None, keep_s=1e12):
    rig = Rig(path, receivers, interests, keep_s)
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig
    rig.outbox.close()


# --- everything, once, in order -------------------------------------------------------------------------------------


async def test_a_receiver_that_is_down_for_an_hour_gets_everything_once_and_in_order(autojump_clock, path):
    shop = Receiver()
    shop.down = True
    async with alarms(path, {"webhook/a": shop}) as rig:
        for number in range(100):
            rig.me.tell(event(number))
            await trio.sleep(HOUR_S / 100)
        assert shop.took == [] and shop.tries < 200
        shop.down = False
        await trio.sleep(120.0)
        assert shop.codes == [f"c{number}" for number in range(100)]
        assert len({id for id, _ in shop.took}) == 100


async def test_a_server_that_is_started_again_meanwhile_loses_and_doubles_nothing(autojump_clock, path):
    shop = Receiver()
    shop.down = True
    for start in (0, 10, 20):
        async with alarms(path, {"webhook/a": shop}) as rig:
            for number in range(start, start + 10):
                rig.me.tell(event(number))
            await settle()
            rig.me.tell(Stop(), system=True)
            await trio.sleep(5.0)
    shop.down = False
    async with alarms(path, {"webhook/a": shop}):
        await trio.sleep(10.0)
    assert shop.codes == [f"c{number}" for number in range(30)]


async def test_killed_between_the_receivers_yes_and_our_note_of_it_the_next_try_has_the_same_id(autojump_clock, path):
    shop = Receiver()
    async with alarms(path, {"webhook/a": shop}) as rig:
        rig.outbox.taken = lambda seq: (_ for _ in ()).throw(OutboxError("killed"))
        rig.me.tell(event(1))
        await trio.sleep(1.0)
    async with alarms(path, {"webhook/a": shop}):
        await trio.sleep(5.0)
    assert len(shop.took) >= 2
    assert len(set(shop.took)) == 1


async def test_one_receiver_that_is_down_delays_no_other(autojump_clock, path):
    down, up = Receiver(), Receiver()
    down.down = True
    async with alarms(path, {"webhook/a": down, "mail/1": up}) as rig:
        for number in range(20):
            rig.me.tell(event(number))
        await trio.sleep(5.0)
        assert up.codes == [f"c{number}" for number in range(20)]
        [view] = [each for each in only(await heard(rig.hub), DeviceView) if each.availability == "unavailable"]
        assert (view.device, view.kind, view.detail) == ("alarms/webhook/a", "alarms", "connection refused")


async def test_a_full_disk_is_waited_for_and_nothing_is_lost(autojump_clock, path):
    shop = Receiver()
    async with alarms(path, {"webhook/a": shop}) as rig:
        add, failures = rig.outbox.add, [OutboxError("disk full")] * 5

        def failing(deliveries):
            if failures:
                raise failures.pop()
            return add(deliveries)

        rig.outbox.add = failing
        for number in range(700):
            rig.me.tell(event(number))
        await trio.sleep(60.0)
        assert shop.codes == [f"c{number}" for number in range(700)]


async def test_a_flood_is_bounded_and_counted(autojump_clock, path, monkeypatch):
    monkeypatch.setattr(module, "FRESH_MAX", 50)
    shop = Receiver()
    async with alarms(path, {"webhook/a": shop}) as rig:
        rig.outbox.add = lambda deliveries: (_ for _ in ()).throw(OutboxError("disk full"))
        for number in range(80):
            rig.me.tell(event(number))
        await settle()
        assert rig.actor.lost == 30
        assert len(rig.actor._fresh) == 50


async def test_what_nobody_took_for_days_is_given_up_and_said_to_be(autojump_clock, path):
    shop = Receiver()
    shop.down = True
    async with alarms(path, {"webhook/a": shop}, keep_s=0.0) as rig:
        rig.me.tell(event(1))
        await trio.sleep(HOUR_S)
        assert rig.actor.counts["webhook/a"].given_up == 1
        assert shop.tries == module.TRIES_BEFORE_GIVING_UP  # not by age alone: the clock may have jumped


async def test_everybody_hears_only_what_they_asked_for(autojump_clock, path):
    shop, post_office = Receiver(), Receiver()
    interests = [
        Interest(receiver="webhook/a", topics=frozenset({"device"}), severity="notice"),
        Interest(receiver="mail/1", severity="alarm"),
    ]
    async with alarms(path, {"webhook/a": shop, "mail/1": post_office}, interests=interests) as rig:
        rig.me.tell(event(1, kind="device", severity="notice"))
        rig.me.tell(event(2, kind="device", severity="info"))
        rig.me.tell(event(3, kind="alarm", severity="alarm"))
        await trio.sleep(5.0)
    assert (shop.codes, post_office.codes) == (["c1"], ["c3"])


def test_a_severity_that_nobody_knows_is_taken_for_serious():
    assert wants(Interest(receiver="x", severity="alarm"), event(severity="catastrophe"))


def test_pauses_grow_to_a_bound():
    assert 0.3 < pause_s(1) <= 0.5
    assert all(45.0 <= pause_s(count) <= 60.0 for count in (10, 100, 10_000))


# --- the outbox -----------------------------------------------------------------------------------------------------


def test_the_outbox_keeps_order_and_doubles_nothing(tmp_path):
    box = Outbox(tmp_path / "o.db")
    made = [delivery(id=f"d{number}") for number in range(5)]
    assert box.add(made) == 5
    box.add(made[:2])
    box.close()
    box = Outbox(tmp_path / "o.db")
    ids = []
    while (first := box.first("webhook/a")) is not None:
        ids.append(first.id)
        box.taken(first.seq)
    assert ids == [f"d{number}" for number in range(5)]
    assert (tmp_path / "o.db").stat().st_mode & 0o077 == 0
    box.close()


def test_a_damaged_outbox_is_an_error_and_no_crash(tmp_path):
    (tmp_path / "o.db").write_bytes(b"no database" * 1000)
    box = Outbox(tmp_path / "o.db")
    with pytest.raises(OutboxError):
        box.add([delivery()])
    with pytest.raises(OutboxError):
        Outbox(tmp_path / "nowhere" / "o.db").first("x")
    box.close()


def test_the_outbox_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.outbox.ROWS_MAX", 3)
    box = Outbox(tmp_path / "o.db")
    assert box.add([delivery(id=f"d{number}") for number in range(5)]) == 3
    assert box.waiting(["webhook/b"]) == {"webhook/a": 3, "webhook/b": 0}
    box.close()


# --- webhooks over real sockets -------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A receiver that checks signatures by the published rule, not with our code."""

    def __init__(self):
        self.got, self.answer, self.location = [], 204, ""
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hook?x=1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        good = self.headers["webhook-signature"] == f"v1,{mac}"
        self.server.got.append((self.path, self.headers["webhook-id"], body, good))
        self.send_response(self.server.answer)
        if self.server.location:
            self.send_header("location", self.server.location)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


def hook(url, **options):
    return Webhook(id="a", url=url, secret_file="key", **{"private": True, **options})


def to(address):
    return lambda host, port: [address]


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "key").write_text("whsec_" + base64.b64encode(KEY).decode() + "\n")
    return tmp_path


def test_a_webhook_is_signed_so_that_a_stranger_can_check_it(server, keys):
    post(hook(server.url), keys, delivery(b'{"a":1}'), to("127.0.0.1"))
    assert server.got == [("/hook?x=1", "d1", b'{"a":1}', True)]


@pytest.mark.parametrize("answer", [301, 302, 307, 400, 404, 500, 503])
def test_only_a_yes_is_a_yes_and_no_redirect_is_followed(server, keys, answer):
    server.answer, server.location = answer, server.url
    with pytest.raises(NotTaken, match=str(answer)):
        post(hook(server.url), keys, delivery(), to("127.0.0.1"))
    assert len(server.got) == 1


def test_a_receiver_that_is_not_there_is_no_crash(keys):
    with pytest.raises(NotTaken, match="refused"):
        post(hook("http://127.0.0.1:1/x"), keys, delivery(), to("127.0.0.1"))


INNER = ["10.0.0.1", "192.168.1.1", "127.0.0.1", "::1", "fc00::1", "::ffff:10.0.0.1", "100.64.0.1"]
NOBODY = ["169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "255.255.255.255", "::ffff:169.254.169.254"]


@pytest.mark.parametrize("address", [*INNER, *NOBODY])
def test_inner_addresses_are_reached_by_no_webhook_unless_the_site_file_says_so(address):
    with pytest.raises(NotTaken):
        permitted(["93.184.216.34", address], private=False)


@pytest.mark.parametrize("address", NOBODY)
def test_addresses_of_nobody_are_never_reached(address):
    with pytest.raises(NotTaken):
        permitted([address], private=True)


def test_an_address_that_was_judged_is_the_one_that_is_connected_to(server, keys):
    """A name that leads elsewhere the second time it is asked gains nothing."""
    asked = []

    def resolve(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    url = server.url.replace("127.0.0.1", "receiver.example")
    post(hook(url), keys, delivery(), resolve)
    assert asked == ["receiver.example"]
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://example.org/", False),
        ("ftp://example.org/", True),
        ("file:///etc/passwd", True),
        ("https://user:word@example.org/", True),
        ("https://", True),
        ("https://[::1", True),
        ("https://example.org:99999/", True),
        ("", True),
    ],
)
def test_urls_that_are_never_spoken_to(url, private):
    with pytest.raises(NotTaken):
        target(Webhook(id="a", url=url, private=private))


def test_no_secret_stands_in_an_error(tmp_path, monkeypatch, server):
    monkeypatch.setenv("HOOK_KEY", "short-secret")
    with pytest.raises(SecretMissing) as short:
        post(Webhook(id="a", url=server.url, secret_env="HOOK_KEY", private=True), tmp_path, delivery(), to("1.1.1.1"))
    with pytest.raises(SecretMissing) as missing:
        post(hook(server.url), tmp_path / "nowhere", delivery(), to("127.0.0.1"))
    with pytest.raises(SecretMissing) as bad:
        signing_key("whsec_%%%%%%%%%%%%%%%%%%%%%%%%")
    assert "short-secret" not in str(short.value) + str(missing.value) + str(bad.value)
    assert server.got == []


def test_a_certificate_of_nobody_is_not_accepted(keys, certificate):
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    try:
        url = f"https://localhost:{server.server_address[1]}/"
        with pytest.raises(NotTaken, match="CERTIFICATE_VERIFY_FAILED"):
            post(hook(url), keys, delivery(), to("127.0.0.1"))
        post(hook(url), keys, delivery(), to("127.0.0.1"), str(certificate[0]))
        wrong = url.replace("localhost", "another.example")
        with pytest.raises(NotTaken, match="CERTIFICATE_VERIFY_FAILED"):
            post(hook(wrong), keys, delivery(), to("127.0.0.1"), str(certificate[0]))
    finally:
        server.shutdown()
        server.server_close()
    assert len(server.got) == 1


# --- mail -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed one for `localhost`."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


class PostOffice:
    def __init__(self):
        self.letters = []

    async def handle_DATA(self, server, session, envelope):
        self.letters.append((envelope.mail_from, envelope.rcpt_tos, envelope.content, session.ssl is not None))
        return "250 taken"


@pytest.fixture
def post_office(certificate):
    """A mail server that was written by others, in a thread and a loop of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    office, ready = PostOffice(), threading.Event()
    loop = asyncio.SelectorEventLoop()  # not what the policy makes: trio-asyncio has one of its own

    def log_in(server, session, envelope, mechanism, data):
        return AuthResult(success=(data.login, data.password) == (b"park", b"s3cret-word"), handled=False)

    def protocol():
        return SMTP(
            office, tls_context=context, require_starttls=True, authenticator=log_in, auth_required=True,
            hostname="localhost", loop=loop,
        )  # fmt: skip

    def serve():
        server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", 0))
        office.port = server.sockets[0].getsockname()[1]
        ready.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(server.wait_closed())
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30.0)
    yield office
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30.0)
    assert not thread.is_alive()


def mail(post_office, certificate, **options):
    return Mail(
        host="localhost", port=post_office.port, user="park", password_file="word", ca_file=str(certificate[0]),
        sender="gates@park.example", to=["duty@park.example", "boss@park.example"], **options,
    )  # fmt: skip


def test_a_letter_goes_by_tls_with_both_languages_and_its_id(post_office, certificate, tmp_path):
    (tmp_path / "word").write_text("s3cret-word\n")
    body = json.dumps(
        {"id": "d1", "site": "s", "topic": "alarm", "severity": "alarm", "at": 1700000000.0, "lane": "n1",
         "code": "smoke", "text_zh": "一号通道 烟雾", "text_en": "Smoke", "trace": "t"}
    ).encode()  # fmt: skip
    post_letter(mail(post_office, certificate), tmp_path, delivery(body), "s", "牌坊景区", ZONE)
    [(sender, to, content, encrypted)] = post_office.letters
    assert (sender, to, encrypted) == ("gates@park.example", ["duty@park.example", "boss@park.example"], True)
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message["Message-ID"] == "<d1@s.paifang>"
    assert message["Subject"] == "[牌坊景区] 报警 Alarm n1: 一号通道 烟雾"
    text = message.get_content()
    assert "2023-11-15 06:13:20 CST" in text and "一号通道 烟雾" in text and "Smoke" in text


def test_a_wrong_password_is_said_and_the_right_one_is_not_shown(post_office, certificate, tmp_path):
    (tmp_path / "word").write_text("wrong-word\n")
    with pytest.raises(NotTaken, match="user or the password") as refused:
        post_letter(mail(post_office, certificate), tmp_path, delivery(_body()), "s", "S", ZONE)
    assert "wrong-word" not in str(refused.value)
    assert post_office.letters == []


def test_a_mail_server_of_nobody_gets_no_password(post_office, tmp_path):
    (tmp_path / "word").write_text("s3cret-word\n")
    port = post_office.port
    stranger = Mail(host="localhost", port=port, user="park", password_file="word", sender="a@b", to=["c@d"])
    with pytest.raises(NotTaken, match="CERTIFICATE_VERIFY_FAILED"):
        post_letter(stranger, tmp_path, delivery(_body()), "s", "S", ZONE)


def test_mail_without_tls_leaves_this_machine_never(tmp_path):
    open_mail = Mail(host="192.0.2.1", tls="none", sender="a@b", to=["c@d"])
    with pytest.raises(NotTaken, match="without TLS"):
        post_letter(open_mail, tmp_path, delivery(_body()), "s", "S", ZONE)


def _body(**changes):
    return json.dumps(
        {"id": "d1", "site": "s", "topic": "alarm", "severity": "alarm", "at": 1.0, "lane": "", "code": "",
         "text_zh": "中", "text_en": "en", "trace": ""} | changes
    ).encode()  # fmt: skip


@pytest.mark.parametrize("text", ["a\r\nBcc: thief@example.org", "\n\n", "x" * 10_000, "🚒" * 100])
def test_no_text_of_an_event_becomes_a_header(text):
    written = told(event(1, text=text), "d1", "s")
    line = subject(written, "S\r\nX: y", "both")
    assert "\n" not in line and "\r" not in line and len(line) <= 120


@pytest.mark.parametrize("at", [0.0, -1e18, 1e18, 253402300800.0])
@pytest.mark.parametrize("language", ["zh", "en", "both"])
def test_a_clock_that_is_far_off_still_makes_a_letter(at, language):
    written = told(FeedEvent(at=at, kind="alarm", severity="alarm", text_zh="中", text_en="en"), "d1", "s")
    assert "d1" in letter(written, "S", ZONE, language)
