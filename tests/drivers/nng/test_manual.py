"""`docs/device-link.md` says what is true: its bytes are decoded, its commands and its gate are run as they stand."""

import base64
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgpack
import msgspec
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.testing import patient_time
from drivers.nng import SafetyServer, WorkServer
from drivers.nng.testing import until
from protocols import devicelink as link

patient = pytest.fixture(autouse=True)(patient_time)

MANUAL = (Path(__file__).parents[3] / "docs" / "device-link.md").read_text()
ANY = "tcp://127.0.0.1:0"
WORK, RELEASE = "tcp://127.0.0.1:8461", "tcp://127.0.0.1:8463"  # as they stand in the manual
EVERY_MESSAGE = {
    each.__struct_config__.tag: each
    for group in (link.WorkRequest, link.WorkReply, link.SafetyRequest)
    for each in group.__args__
} | {"wake": link.Wake, "safety_state": link.SafetyState}

MESSAGES = {
    name: (json.loads(text), bytes.fromhex(data))
    for name, text, data in re.findall(
        r"<!-- message: (\w+) -->\n```json\n(.*?)\n```\n```hex\n(.*?)\n```", MANUAL, re.DOTALL
    )
}


def block(name):
    [found] = re.findall(rf"<!-- run: {name} -->\n```\w+\n(.*?)\n```", MANUAL, re.DOTALL)
    return found


def vector():
    [found] = re.findall(r"<!-- vector: release -->\n```\n(.*?)\n```", MANUAL, re.DOTALL)
    parts = re.findall(r"^([a-z ]+):\n((?:  .*\n?)+)", found, re.MULTILINE)
    return {name: bytes.fromhex(data.replace("\n", " ")) for name, data in parts}


def decode(name, data):
    if name in {each.__struct_config__.tag for each in link.WorkRequest.__args__}:
        return link.decode_request(data)
    if name in {each.__struct_config__.tag for each in link.WorkReply.__args__}:
        return link.decode_reply(data)
    if name == "wake":
        return link.decode_publication(data)
    return link.decode_safety_state(data) if name == "safety_state" else link.decode_safety_request(data)


def in_text(fields):
    """As JSON shows it: binary in base64."""
    return {key: base64.b64encode(each).decode() if isinstance(each, bytes) else each for key, each in fields.items()}


def test_every_message_stands_in_the_manual():
    assert set(MESSAGES) == set(EVERY_MESSAGE)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_the_bytes_are_the_message(name):
    shown, data = MESSAGES[name]
    body = data.removeprefix(b"wake/") if name == "wake" else data
    assert in_text(msgpack.unpackb(body)) == shown
    message = decode(name, data)
    assert type(message) is EVERY_MESSAGE[name]
    assert msgspec.to_builtins(message) == shown
    assert link.encode(message) == msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_field_is_shown_and_none_is_invented(name):
    shown, _ = MESSAGES[name]
    assert set(shown) == {field.encode_name for field in msgspec.structs.fields(EVERY_MESSAGE[name])} | {"type"}


def test_the_vector_of_a_release():
    parts = vector()
    key = Ed25519PrivateKey.from_private_bytes(parts["private key"])
    assert key.public_key().public_bytes_raw() == parts["public key"]
    release = link.decode_publication(parts["publication"])
    assert release.signed_part() == parts["signed bytes"]
    assert release.signature == parts["signature"]
    link.verify_release(release, Ed25519PublicKey.from_public_bytes(parts["public key"]))
    assert link.publish_release(release) == parts["publication"]


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(link.Release)])
def test_every_field_of_a_release_is_described(field):
    assert re.search(rf"^\| `{field}`", MANUAL, re.MULTILINE)


class Server:
    """Handlers that answer as the manual says."""

    def __init__(self):
        self.requests = []
        self.acks = []
        self.latched = None
        parts = vector()
        self.release = link.decode_publication(parts["publication"])
        self.public_key = parts["public key"].hex()

    async def work(self, request):
        self.requests.append(request)
        head = {"seq": request.seq, "server_at": 1.0}
        match request:
            case link.Hello():
                return link.Welcome(**head, site="valley", lane="g1", mode="bidirectional")
            case link.Scan():
                texts = {"text_zh": "请进", "text_en": "Welcome"}
                grant = {"grant": 7, "pax": 1, "passed": 0, "ttl_s": 5.0, "state": "open"}
                return link.Grant(**head, **texts, **grant, nonce=request.nonce, product_class="full", remaining=0)
            case link.Pass() if [type(each) for each in self.requests].count(link.Pass) == 1:
                return link.Refused(**head, code="unavailable", text="again, please")
        return link.Ack(**head)

    def safety(self, request):
        if isinstance(request, link.ReleaseAck):
            self.acks.append(request)
        return link.SafetyState(release=self.latched)


@pytest.fixture
async def server(nursery):
    server = Server()
    server.work_server = WorkServer(ANY, ANY, server.work)
    server.safety_server = SafetyServer(ANY, ANY, server.safety)
    await nursery.start(server.work_server.run)
    await nursery.start(server.safety_server.run)
    yield server
    nursery.cancel_scope.cancel()


@pytest.fixture
def nngcat():
    if shutil.which("nngcat") is None:
        pytest.fail("nngcat is missing: apt-get install nng-utils (make test does it)")


def quoted(output):
    """What `nngcat --quoted` printed, as bytes."""
    text = output.strip()
    assert text.startswith(b'"')
    assert text.endswith(b'"')
    return text[1:-1].decode("ascii").encode().decode("unicode_escape").encode("latin-1")


async def shell(code, folder):
    return await trio.run_process(["bash", "-ec", code], capture_stdout=True, capture_stderr=True, cwd=folder)


async def test_nngcat_says_hello_as_in_the_manual_and_is_welcomed(nngcat, server, tmp_path):
    code = block("hello")
    assert WORK in code
    with trio.fail_after(20):
        result = await shell(code.replace(WORK, server.work_server.work_url), tmp_path)
    welcome = link.decode_reply(quoted(result.stdout))
    assert welcome == link.Welcome(seq=1, server_at=1.0, site="valley", lane="g1", mode="bidirectional")
    [hello] = server.requests
    assert (hello.device, hello.firmware, hello.barrier) == ("gate-g1", "1.0", "unknown")


async def test_nngcat_sees_the_release_as_in_the_manual(nngcat, server, tmp_path):
    code = block("release")
    assert RELEASE in code
    outputs = []

    async def listen():
        outputs.append(await shell(code.replace(RELEASE, server.safety_server.release_url), tmp_path))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            while not outputs:
                server.safety_server.publish(server.release)
                await trio.sleep(0.05)
    publication = quoted(outputs[0].stdout)
    assert publication == vector()["publication"]


async def gate_process(server, folder, run):
    """The manual's gate as a process; `run(process)` while it lives."""
    script = folder / "gate.py"
    script.write_text(block("gate"))
    urls = [server.work_server.work_url, server.safety_server.release_url, server.safety_server.safety_url]
    async with trio.open_nursery() as nursery:
        command = [sys.executable, str(script), *urls, server.public_key]
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "check": False}
        process = await nursery.start(partial(trio.run_process, command, **options))
        try:
            with trio.fail_after(30):
                await run(process)
        finally:
            nursery.cancel_scope.cancel()


async def read_until(process, word, seen):
    while word not in bytes(seen):
        data = await process.stdout.receive_some()
        assert data, bytes(seen)
        seen.extend(data)


async def test_the_gate_of_the_manual_works(server, tmp_path):
    seen = bytearray()

    async def run(process):
        await read_until(process, b"lane g1 bidirectional\n", seen)
        await process.stdin.send_all(b"PF1:SOMETHING\n")
        await read_until(process, b"passed\n", seen)
        server.safety_server.publish(server.release)
        server.latched = server.release
        await read_until(process, b"released\n", seen)
        assert await process.wait() == 0

    await gate_process(server, tmp_path, run)
    assert "grant 请进 Welcome" in seen.decode()
    hello, scan, first, again, end = server.requests
    assert [each.seq for each in server.requests] == [1, 2, 3, 3, 4]
    assert isinstance(hello, link.Hello)
    assert scan.value == "PF1:SOMETHING"
    assert first == again
    assert (end.grant, end.passed, end.why) == (7, 1, "complete")
    await until(lambda: server.acks)
    assert server.acks[0].sensed_open
    assert server.acks[0].incident == server.release.incident


async def test_the_gate_of_the_manual_obeys_no_forged_release(server, tmp_path):
    seen = bytearray()
    forged = link.sign_release(Ed25519PrivateKey.generate(), "1", site="valley", incident=1)

    async def run(process):
        await read_until(process, b"lane g1 bidirectional\n", seen)
        server.latched = forged
        with trio.move_on_after(3) as scope:
            while True:
                server.safety_server.publish(forged)
                await trio.sleep(0.1)
        assert scope.cancelled_caught
        server.latched = server.release
        await process.stdin.send_all(b"PF1:SOMETHING\n")
        await read_until(process, b"released\n", seen)

    await gate_process(server, tmp_path, run)
    assert {each.incident for each in server.acks} == {server.release.incident}


def session():
    """The bytes on the line as they stand in the manual, by who says them."""
    [found] = re.findall(r"<!-- session: heartbeat -->\n```\n(.*?)\n```", MANUAL, re.DOTALL)
    said = {">": [], "<": []}
    for line in found.splitlines():
        if line[0] in said:
            who = line[0]
            said[who].append(b"")
        said[who][-1] += bytes.fromhex(line[1:])
    return said


async def test_the_session_in_bytes_is_what_travels(server):
    said = session()
    host, port = server.work_server.work_url.removeprefix("tcp://").split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    heard = b""
    wanted = b"".join(said["<"])
    with trio.fail_after(20):
        for data in said[">"]:
            await stream.send_all(data)
        while len(heard) < len(wanted):
            heard += await stream.receive_some()
    await stream.aclose()
    [heartbeat] = server.requests
    assert isinstance(heartbeat, link.Heartbeat)
    greeting, reply = heard[:8], heard[8:]
    assert greeting == said["<"][0]
    assert reply[:12] == said["<"][1][:12]  # the length and what the device has chosen
    shown = link.decode_reply(said["<"][1][12:])
    assert link.decode_reply(reply[12:]) == msgspec.structs.replace(shown, server_at=1.0)
