"""One-time codes: one command at each end, and nothing for whoever stands in between."""

import contextlib
import json
import ssl
import stat
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import DeviceUnavailable
from drivers.nng import client_config
from paifang import pki_codes
from paifang.check import load
from paifang.cli import main
from paifang.keys import KeyRing, public_release_keys
from paifang.pki import Authority, PkiError, device_tls
from paifang.pki_cli import lane_enrol
from paifang.pki_codes import ALPHABET, CodeError, Codes, Tries, split
from paifang.pki_enrol import EnrolServer, NotEnrolled, enrol
from protocols.sp import Protocol, frame, greeting

DEMO = Path(__file__).parents[2] / "sites" / "demo.toml"
WAIT_S = 20.0


@pytest.fixture
def data(tmp_path):
    KeyRing.init(tmp_path / "var" / "keys")
    Authority.init(tmp_path / "var" / "pki", "valley")
    return tmp_path / "var"


def codes(data, clock=time.time):
    return Codes(data / "pki", Authority.load(data / "pki").certificate, clock)


def site():
    found = load(DEMO)
    return msgspec.structs.replace(found, link=msgspec.structs.replace(found.link, enrol="tls+tcp://127.0.0.1:0"))


DEVICE = next(lane.device for lane in load(DEMO).lanes if lane.device)


@contextlib.asynccontextmanager
async def serving(data, devices=frozenset({DEVICE})):
    server = EnrolServer(site(), data, devices)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        server.address = server.url.removeprefix("tls+tcp://")
        yield server
        nursery.cancel_scope.cancel()


def test_a_code_may_be_typed_as_people_type():
    pin, secret = "0123456789ABCDEF", "GHJKMNPQRSTV"
    for typed in (f"{pin}{secret}", "0123-4567-89ab-cdef-ghjk-mnpq-rstv", " O123 4567 89AB CDEF GHJK MNPQ RSTV "):
        assert split(typed) == (pin, secret)
    for bad in ("", "0123", f"{pin}{secret}0", f"{pin}{secret}"[:-1] + "U", "门" * 28):
        with pytest.raises(CodeError, match="28 letters"):
            split(bad)


@given(st.text(max_size=60) | st.text(ALPHABET + "ILO- ", min_size=20, max_size=40))
def test_no_text_does_more_than_be_refused(text):
    try:
        pin, secret = split(text)
    except CodeError:
        return
    assert (len(pin), len(secret)) == (16, 12)
    assert set(pin + secret) <= set(ALPHABET)


def test_a_code_works_once_and_not_for_long(data):
    now = [time.time()]
    book = codes(data, lambda: now[0])
    code = book.make("gate-1")
    secret = split(code)[1]
    with pytest.raises(CodeError):
        book.use("0" * 12)
    assert book.use(secret) == "gate-1"
    for _ in range(2):
        with pytest.raises(CodeError, match="used"):
            book.use(secret)
    late = split(book.make("gate-1", 60.0))[1]
    now[0] += 61
    with pytest.raises(CodeError):
        book.use(late)


def test_a_new_code_voids_the_one_before(data):
    book = codes(data)
    first, second = (split(book.make("gate-1"))[1] for _ in range(2))
    with pytest.raises(CodeError):
        book.use(first)
    assert book.use(second) == "gate-1"


def test_the_code_itself_is_nowhere_on_disk(data):
    code = codes(data).make("gate-1")
    secret = split(code)[1]
    for file in (data / "pki").rglob("*"):
        if file.is_file():
            assert secret not in file.read_text()
    assert stat.S_IMODE((data / "pki" / "codes.json").stat().st_mode) == 0o600


def test_damaged_codes_are_named(data):
    file = data / "pki" / "codes.json"
    file.write_text("[{]")
    file.chmod(0o600)
    with pytest.raises(PkiError, match=r"codes\.json"):
        codes(data).make("gate-1")


async def test_one_command_at_each_end(data, tmp_path):
    async with serving(data) as server:
        made = CliRunner().invoke(main, ["pki", "enrol-code", DEVICE, "--site", str(DEMO), "--data", str(data)])
        assert made.exit_code == 0, made.output
        code = made.output.strip()
        args = ["--server", server.address, "--code", code, "--identity", str(tmp_path / "identity")]
        done = await trio.to_thread.run_sync(partial(CliRunner().invoke, lane_enrol, args))
        assert done.exit_code == 0, done.output
        identity = tmp_path / "identity"
        assert DEVICE in done.output
        client_config(device_tls(identity))  # NNG takes them
        assert public_release_keys(identity).keys() == public_release_keys(data / "keys").keys()
        assert bytes.fromhex((identity / "neighbour.key").read_text()) == Authority.load(data / "pki").neighbour_key()
        told = json.loads((identity / "enrolled.json").read_text())
        assert told["device"] == DEVICE
        assert set(told["link"]) == {"work", "wake", "release", "safety", "evacuate_release", "evacuate_safety"}
        assert stat.S_IMODE((identity / "device.key").stat().st_mode) == 0o600
        with pytest.raises(CodeError, match="used"):
            await enrol(server.address, code, tmp_path / "again")
        assert not (tmp_path / "again").exists()
        with pytest.raises(PkiError, match="enrolled already"):
            await enrol(server.address, code, identity)
        assert (server.enrolled, server.wrong) == (1, 1)
        assert [each.device for each in Authority.load(data / "pki").certificates(time.time())][1:] == [DEVICE]


async def test_two_at_once_with_one_code_get_one_certificate(data, tmp_path):
    code = codes(data).make(DEVICE)
    got = []
    async with serving(data) as server:

        async def one(name):
            try:
                got.append(await enrol(server.address, code, tmp_path / name))
            except CodeError:
                got.append(None)

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(one, name)
    assert sorted(each is not None for each in got) == [False, False, True]


class Recorder(EnrolServer):
    """A server of another authority, which would like to hear the secret."""

    heard: list[bytes]

    async def _answer(self, peer, body):
        self.heard.append(body)
        return await super()._answer(peer, body)


@pytest.mark.parametrize("shows", ["its own authority", "the real authority"])
async def test_who_stands_in_between_never_hears_the_secret(data, tmp_path, shows):
    code = codes(data).make(DEVICE)
    other = tmp_path / "other"
    KeyRing.init(other / "keys")
    Authority.init(other / "pki", "valley")
    if shows == "the real authority":
        (other / "pki" / "ca.pem").write_bytes((data / "pki" / "ca.pem").read_bytes())
    server = Recorder(site(), other, frozenset({DEVICE}))
    server.heard = []
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with pytest.raises(CodeError, match="not this server's"):
            await enrol(server.url.removeprefix("tls+tcp://"), code, tmp_path / "identity")
        nursery.cancel_scope.cancel()
    assert len(server.heard) == 1
    assert not any(split(code)[1].encode() in each for each in server.heard)
    assert not (tmp_path / "identity").exists()


async def test_a_devices_certificate_does_not_make_a_server(data, tmp_path):
    """A device of the site cannot play the site's enrolment for another one."""
    code = codes(data).make(DEVICE)
    thief = tmp_path / "thief"
    KeyRing.init(thief / "keys")
    (thief / "pki").mkdir()
    files = device_tls(Authority.load(data / "pki").issue_files("gate-thief"))
    (thief / "pki" / "ca.pem").write_bytes(files.ca.read_bytes())
    (thief / "pki" / "server.pem").write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    async with serving(thief) as server:
        with pytest.raises(CodeError, match="not this server's"):
            await enrol(server.address, code, tmp_path / "identity")


async def test_guessing_is_slow_and_harms_a_good_code_for_a_minute_only(data, tmp_path, monkeypatch):
    code = codes(data).make(DEVICE)
    pin, _ = split(code)
    now = [1000.0]
    monkeypatch.setattr(pki_codes, "_now", lambda: now[0])
    async with serving(data) as server:
        for guess in range(5):
            with pytest.raises(CodeError, match="wrong"):
                await enrol(server.address, pin + ALPHABET[guess] * 12, tmp_path / "x")
        with pytest.raises(CodeError, match="too many"):
            await enrol(server.address, code, tmp_path / "x")
        now[0] += 61
        await enrol(server.address, code, tmp_path / "x")
        assert (server.wrong, server.limited, server.enrolled) == (5, 1, 1)


def test_tries_are_bounded_for_one_and_for_all(monkeypatch):
    monkeypatch.setattr(pki_codes, "_now", lambda: 0.0)
    tries = Tries()
    for address in range(4):
        for _ in range(5):
            assert tries.allowed(str(address))
            tries.wrong(str(address))
        assert not tries.allowed(str(address))
    assert not tries.allowed("somebody else")


async def test_a_code_for_a_device_that_the_running_site_does_not_know(data, tmp_path):
    code = codes(data).make("gate-new")
    async with serving(data) as server:
        with pytest.raises(CodeError, match="site file"):
            await enrol(server.address, code, tmp_path / "x")


@pytest.mark.parametrize("server", ["", "host", "host:", "host:x", ":8467", "host:99999"])
async def test_bad_addresses_are_said(server, tmp_path):
    with pytest.raises(PkiError, match="HOST:PORT"):
        await enrol(server, "0" * 28, tmp_path / "x")


async def test_nobody_there_is_said(tmp_path):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(DeviceUnavailable, match="not the enrolment"):
        await enrol(f"127.0.0.1:{port}", "0" * 28, tmp_path / "x")


@pytest.mark.parametrize(
    "body", [b"", b"\x80", b"\xc1", b"\x81\xa4type\xa2ca\x00", msgspec.msgpack.encode(NotEnrolled("x")), b"\x91" * 5000]
)
async def test_garbage_gets_no_answer_and_harms_nobody(data, tmp_path, body):
    code = codes(data).make(DEVICE)
    async with serving(data) as server:
        host, port = server.address.split(":")
        context = ssl.create_default_context(cafile=data / "pki" / "ca.pem")
        raw = await trio.open_tcp_stream(host, int(port))
        stream = trio.SSLStream(raw, context, server_hostname="paifang-server", https_compatible=True)
        await stream.send_all(greeting(Protocol.REQ) + frame(b"\x80\0\0\1", body))
        await enrol(server.address, code, tmp_path / "x")
        await trio.aclose_forcefully(stream)
        assert server.enrolled == 1
