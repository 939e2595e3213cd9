"""Enrolment: a new lane controller gets its certificate, by a one-time code and one command at each end.

The wire is NNG's request and reply over TLS, where only the server shows a certificate.  First the lane asks for the
authority (`ca`) and holds it against its code: the pin must be that of the authority's key, and the certificate of this
very connection must be one that the authority has issued to the server.  Only then it says the secret, with a request
for a certificate of a key that it has just made and never gives away.  Times are not looked at: a new board's clock is
often wrong.  MessagePack, at most MESSAGE_BYTES_MAX a message.
"""

from __future__ import annotations

import secrets as random
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog
import trio
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from drivers.errors import DeviceUnavailable
from drivers.nng import SERVER_NAME, Peer
from drivers.nng._errors import LinkTlsError
from drivers.nng._sp import Ears, Replier, bound
from paifang import _keyfiles
from paifang._keyfiles import FOLDER_MODE, PUBLIC_MODE, SECRET_MODE, KeysError
from paifang.keys import public_release_keys
from paifang.pki import Authority, PkiError, fingerprint, new_key, new_request, private_pem
from paifang.pki_codes import CodeError, Codes, Tries, pin, split
from paifang.site import SiteFile
from protocols.errors import LinkError
from protocols.sp import Decoder, Protocol, frame, greeting, split_request

MESSAGE_BYTES_MAX = 16 * 1024
CONNECTION_LIFE_S = 20.0  # of one enrolment, at the server
UNDER_WAY_MAX = 4
DEADLINE_S = 15.0  # of the whole enrolment, at the lane
LOCK_TRIES, LOCK_PAUSE_S = 20, 0.1  # while somebody else is changing the authority's folder

log = structlog.get_logger(__name__)


class AskAuthority(msgspec.Struct, frozen=True, tag_field="type", tag="ca"):
    """Who are you?"""


class AskEnrol(msgspec.Struct, frozen=True, tag_field="type", tag="enrol"):
    secret: str
    request: bytes  # certificate request (CSR), PEM


class TheAuthority(msgspec.Struct, frozen=True, tag_field="type", tag="authority"):
    ca: bytes  # certificate, PEM


class Enrolled(msgspec.Struct, frozen=True, tag_field="type", tag="enrolled"):
    """Everything that a lane needs to take part. Addresses are those of the site file."""

    device: str
    site: str
    lane: str
    certificate: bytes  # PEM
    release_keys: dict[str, str]  # id -> PEM
    neighbour_key: bytes  # lanes of one site tell each other by it what is genuine
    link: dict[str, str]


class NotEnrolled(msgspec.Struct, frozen=True, tag_field="type", tag="refused"):
    text: str


_request = msgspec.msgpack.Decoder(AskAuthority | AskEnrol)
_reply = msgspec.msgpack.Decoder(TheAuthority | Enrolled | NotEnrolled)


class EnrolServer:
    """Answers new lanes at `link.enrol` of the site file. `lanes` are the devices that it may enrol."""

    def __init__(self, site: SiteFile, data: Path, devices: frozenset[str]) -> None:
        self._site = site
        self._data = data
        self._folder = data / "pki"
        self._devices = devices
        self._tries = Tries()
        self.url = site.link.enrol  # with the port really bound, once `run` has started
        self.enrolled = self.wrong = self.limited = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises DeviceUnavailable, LinkTlsError or PkiError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._folder / "server.pem")
        except (OSError, ValueError) as exc:
            raise LinkTlsError(f"{self._folder / 'server.pem'}: not usable: {exc}") from exc
        ears = Ears(
            "link.enrol", self.url, Protocol.REP, MESSAGE_BYTES_MAX, tls=context, life_s=CONNECTION_LIFE_S
        )
        replier = Replier(ears, self._answer, UNDER_WAY_MAX)
        async with bound(ears) as (listeners,):
            self.url = ears.url
            task_status.started()
            await replier.run(listeners)

    async def _answer(self, peer: Peer, body: bytes) -> bytes | None:
        try:
            request = _request.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if isinstance(request, AskAuthority):
            return msgspec.msgpack.encode(TheAuthority((self._folder / "ca.pem").read_bytes()))
        if not self._tries.allowed(peer.address):
            self.limited += 1
            return msgspec.msgpack.encode(NotEnrolled("too many wrong codes; try again in a minute"))
        try:
            enrolled = await self._enrol(request)
        except CodeError as exc:
            self._tries.wrong(peer.address)
            self.wrong += 1
            log.warning("enrol.wrong_code", address=peer.address, total=self.wrong)
            return msgspec.msgpack.encode(NotEnrolled(str(exc)))
        except (KeysError, OSError) as exc:
            log.error("enrol.failed", address=peer.address, error=str(exc))
            return msgspec.msgpack.encode(NotEnrolled("the server cannot enrol now; its log says why"))
        self.enrolled += 1
        log.info("enrol.done", device=enrolled.device, address=peer.address)
        return msgspec.msgpack.encode(enrolled)

    async def _enrol(self, request: AskEnrol) -> Enrolled:
        for _ in range(LOCK_TRIES - 1):
            try:
                return await trio.to_thread.run_sync(self._issue, request)
            except _keyfiles.KeysBusy:
                await trio.sleep(LOCK_PAUSE_S)
        return await trio.to_thread.run_sync(self._issue, request)

    def _issue(self, request: AskEnrol) -> Enrolled:
        authority = Authority.load(self._folder)
        device = Codes(self._folder, authority.certificate).use(request.secret)
        if device not in self._devices:
            raise CodeError(f"{device} is not in the site file that the server runs with")
        certificate = authority.issue_request(device, request.request)
        lane = next((lane.id for lane in self._site.lanes if lane.device == device), "")
        link = self._site.link
        return Enrolled(
            device=device,
            site=self._site.site.id,
            lane=lane,
            certificate=certificate,
            release_keys=_release_keys(self._data / "keys"),
            neighbour_key=authority.neighbour_key(),
            link={
                name: getattr(link, name)
                for name in ("work", "wake", "release", "safety", "evacuate_release", "evacuate_safety")
            },
        )


def _release_keys(folder: Path) -> dict[str, str]:
    return {name: _keyfiles.public_pem(key).decode() for name, key in public_release_keys(folder).items()}


async def enrol(server: str, code: str, folder: Path) -> Enrolled:
    """At the lane: get a certificate from `server` (HOST:PORT) and put everything into `folder`.

    Raises CodeError, PkiError or DeviceUnavailable; then nothing was written, and the code may be tried again unless
    the server has used it.
    """
    expected, secret = split(code)
    if (folder / "device.key").exists():
        raise PkiError(f"{folder}: this lane is enrolled already; move the folder away to enrol it again")
    host, port = _address(server)
    try:
        with trio.fail_after(DEADLINE_S):
            key = new_key()
            enrolled, ca = await _talk(host, port, expected, secret, new_request("lane", key))
    except trio.TooSlowError as exc:
        raise DeviceUnavailable(f"{server}: no answer within {DEADLINE_S:g} s") from exc
    except (OSError, trio.BrokenResourceError, ssl.SSLError, LinkError, msgspec.MsgspecError) as exc:
        raise DeviceUnavailable(f"{server}: not the enrolment of a site server, or it went away ({exc})") from exc
    link = {name: url.replace("//0.0.0.0:", f"//{host}:").replace("//[::]:", f"//{host}:") for name, url in
            enrolled.link.items()}  # fmt: skip
    enrolled = msgspec.structs.replace(enrolled, link=link)
    _store(folder, private_pem(key), ca, enrolled)
    return enrolled


def _address(server: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{server}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise PkiError(f"{server!r} is not HOST:PORT, as link.enrol in the server's site file says")
    return host, port


async def _talk(host: str, port: int, expected: str, secret: str, request: bytes) -> tuple[Enrolled, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whoever it is: see `_check`
    raw = await trio.open_tcp_stream(host, port)
    async with trio.SSLStream(raw, context, server_hostname=SERVER_NAME, https_compatible=True) as stream:
        await stream.do_handshake()
        await stream.send_all(greeting(Protocol.REQ))
        decoder = Decoder(Protocol.REQ, MESSAGE_BYTES_MAX)
        answer = await _ask(stream, decoder, AskAuthority())
        if not isinstance(answer, TheAuthority):
            raise LinkError("it does not say who it is")
        ca = answer.ca
        _check(ca, stream.getpeercert(binary_form=True), expected)
        answer = await _ask(stream, decoder, AskEnrol(secret, request))
        if isinstance(answer, NotEnrolled):
            raise CodeError(answer.text[:300])
        if not isinstance(answer, Enrolled):
            raise LinkError("it answers something else")
        return answer, ca


async def _ask(stream: trio.SSLStream[trio.SocketStream], decoder: Decoder, message: msgspec.Struct) -> object:
    stack = (random.randbits(31) | 1 << 31).to_bytes(4, "big")
    await stream.send_all(frame(stack, msgspec.msgpack.encode(message)))
    while True:
        data = await stream.receive_some()
        if not data:
            raise LinkError("it hung up")
        for reply in decoder.feed(bytes(data)):
            answered, body = split_request(reply)
            if answered == stack:
                return _reply.decode(body)


def _check(ca_pem: bytes, shown: bytes | None, expected: str) -> None:
    """Is this the server that the code is from? Raises CodeError."""
    wrong = CodeError("the code is not this server's: mistyped, or another program answers in the server's place")
    try:
        ca = x509.load_pem_x509_certificate(ca_pem)
        if pin(fingerprint(ca)) != expected:
            raise wrong
        certificate = x509.load_der_x509_certificate(shown or b"")
        certificate.verify_directly_issued_by(ca)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise wrong from exc
    if [name.value for name in names] != [SERVER_NAME]:
        raise wrong


def _store(folder: Path, key: bytes, ca: bytes, enrolled: Enrolled) -> None:
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as exc:
        raise PkiError(f"{folder}: cannot be made: {exc.strerror}") from exc
    _keyfiles.write(folder / "ca.pem", ca, PUBLIC_MODE)
    _keyfiles.write(folder / "device.pem", enrolled.certificate, PUBLIC_MODE)
    for name, pem in enrolled.release_keys.items():
        if not name.isalnum():
            raise PkiError("the server has a release key with an odd name")
        _keyfiles.write(folder / f"release-{name}.pub", pem.encode(), PUBLIC_MODE)
    _keyfiles.write(folder / "neighbour.key", enrolled.neighbour_key.hex().encode() + b"\n", SECRET_MODE)
    told = {"device": enrolled.device, "site": enrolled.site, "lane": enrolled.lane, "link": enrolled.link}
    _keyfiles.write(folder / "enrolled.json", msgspec.json.format(msgspec.json.encode(told)) + b"\n", PUBLIC_MODE)
    _keyfiles.write(folder / "device.key", key, SECRET_MODE)  # last: with it the lane counts as enrolled
