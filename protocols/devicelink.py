"""The device link: what a smart gate and the server say to each other over NNG. `docs/device-link.md` is the manual.

Every message is one MessagePack map with a `type`.  Work travels on a `rep` socket (the device asks, the server
answers) and a `pub` socket (wake-ups only); safety has its own `pub` and `rep` sockets and carries releases and their
acknowledgements, nothing else.  A device re-sends what was not answered, with the same `seq`; the server answers the
same thing.  Unknown fields are ignored, so that either side may be newer.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols._bounds import Clock, Detail, Number, Numbers, Pax, Secret, Word
from protocols.errors import LinkError
from protocols.lists import ListMark
from protocols.uploads import Records

T = TypeVar("T")

VERSION = 1  # of a message that says nothing else; older devices know no other
VERSIONS = (1, 2)  # what a server answers: its own and one older. 2 adds what lane controllers ask beside
MAX_WORK_BYTES = 512 * 1024  # a scan may carry a photograph
MAX_SAFETY_BYTES = 4 * 1024
TOPIC_ALL = b"all/"  # topics end in a slash: NNG matches prefixes, and `lane/1` is also `lane/10`
NAME_BYTES_MAX = 64
EVERYBODY = "*"  # addressee of a wake-up that is meant for whoever keeps lists
CERTIFICATE_BYTES_MAX = 8 * 1024

CertificateText = Annotated[bytes, msgspec.Meta(max_length=CERTIFICATE_BYTES_MAX)]

Speaks = Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=1000)]], msgspec.Meta(max_length=16)]


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Header of everything a device says. (device, boot, seq) names the message for good."""

    v: int = VERSION
    device: Word
    boot: Word  # chosen anew at each start of the device
    seq: Number  # counts up from 1 within a boot
    at: Clock  # the device's clock, seconds since the epoch


class Hello(Request, frozen=True, kw_only=True):
    """First message after every (re)connect, sent when no scan is outstanding.

    `open_grants` is the device's own statement: the grants for which it still owes a `pass` or a `passend`.
    Grants that the server holds for this lane and that are not listed never opened here; the server settles them
    with what was reported as passed.
    """

    firmware: Detail
    speaks: Speaks = []  # the versions that the device knows, if more than `v`
    barrier: Word = "unknown"
    released: bool = False
    incident: Number | None = None
    open_grants: Numbers = []
    entries: Number = 0  # cumulative passages seen by the device's sensors, for the record
    exits: Number = 0


class Heartbeat(Request, frozen=True, kw_only=True):
    """`round_trip_s` is how long the quickest of the last answers took; it tells network delay from a wrong clock."""

    barrier: Word = "unknown"
    queue_depth: Number = 0
    round_trip_s: Clock | None = None


class Scan(Request, frozen=True, kw_only=True):
    """A credential was presented. Repeat with the same nonce until answered."""

    nonce: Annotated[Word, msgspec.Meta(min_length=1)]
    kind: Word  # code | card
    value: Secret
    direction: Word = "entry"
    pax: Pax | None = None
    photo: bytes | None = None
    issue_index: Number | None = None  # what a card says of its own issue
    holder: Secret = ""  # number of the ID that was presented beside the credential
    stamp: Word = ""  # who of the staff has looked at the holder
    product: Word = ""  # chosen by staff, where the answer was `ambiguous`

    def __repr__(self) -> str:  # value and photograph are the visitor's: keep them out of logs and tracebacks
        header = f"device={self.device!r}, boot={self.boot!r}, seq={self.seq}"
        return f"Scan({header}, nonce={self.nonce!r}, kind={self.kind!r})"


class Pass(Request, frozen=True, kw_only=True):
    """One person passed the sensors."""

    direction: Word = "entry"
    grant: Number | None = None
    kind: Word = "granted"  # granted | exit | tailgate | forced | reverse | free | emergency
    ended: Number | None = None  # with this person the grant is over, complete, after so many: no PassEnd will come


class PassEnd(Request, frozen=True, kw_only=True):
    """A grant is over. With `grant` null and a `nonce`: the device gave up waiting for the answer to that scan."""

    grant: Number | None = None
    nonce: Word = ""
    passed: Number = 0
    why: Word = "complete"  # complete | timeout | paused | fault | never_opened | emergency


class Alarm(Request, frozen=True, kw_only=True):
    kind: Word
    detail: Detail = ""


class Fetch(Request, frozen=True, kw_only=True):
    """Ask for waiting commands; sent after every wake-up and at least every few seconds. `done` acknowledges."""

    done: Numbers = []
    barrier: Word = "unknown"


class GetList(Request, frozen=True, kw_only=True):
    """A lane controller asks for its lists (`protocols.lists`): what is new since `have`, or the next of some parts.

    `part` is the mark of the parts that have begun to arrive and `cursor` where they go on; `have` goes with them where
    they are a delta.
    """

    v: int = 2
    have: ListMark | None = None
    part: ListMark | None = None
    cursor: Word = ""


class Upload(Request, frozen=True, kw_only=True):
    """Records of a lane controller's journal (`protocols.uploads`), in order, each seq one above the one before.

    `journal` names the journal for good, also over restarts of the lane; `oldest` is the lowest seq that it still has.
    """

    v: int = 2
    journal: Annotated[Word, msgspec.Meta(min_length=1)]
    oldest: Number
    records: Records = []


class Renew(Request, frozen=True, kw_only=True):
    """The device asks for a certificate that counts for longer. `request` is a CSR (PEM) for the key that it has."""

    v: int = 2
    request: CertificateText


WorkRequest = Hello | Heartbeat | Scan | Pass | PassEnd | Alarm | Fetch | GetList | Upload | Renew


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Header of every answer: the `seq` it answers and the server's clock."""

    seq: int
    server_at: float


class Welcome(Reply, frozen=True, kw_only=True):
    site: str
    lane: str
    mode: str
    released: bool = False
    incident: int | None = None
    v: int = 1  # the highest version that both know: what the device may use from now on


class Ack(Reply, frozen=True, kw_only=True):
    """It is on disk (pass, passend), or noted (heartbeat, alarm)."""


class Grant(Reply, frozen=True, kw_only=True):
    """Open for at most `pax - passed` people within `ttl_s` of receiving this; only if `state` is `open`."""

    nonce: str
    grant: int
    pax: int
    passed: int
    ttl_s: float
    state: str
    product_class: str
    text_zh: str
    text_en: str
    remaining: int


class Deny(Reply, frozen=True, kw_only=True):
    nonce: str
    code: str
    text_zh: str
    text_en: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Something the lane is to do. Dropped by the device when `ttl_s` has passed since it was received."""

    id: int
    name: str  # open | close | mode | rearm | pause (end the running batch: `passend` with `paused`)
    ttl_s: float
    pax: int = 0
    mode: str = ""
    incident: int | None = None  # of a rearm: the release that it ends; a device under a newer one ignores it


class Commands(Reply, frozen=True, kw_only=True):
    commands: list[Command] = []


class Refused(Reply, frozen=True, kw_only=True):
    """The request itself was refused. `code`: bad_message | unknown_device | unavailable | too_many."""

    code: str
    text: str


class ListPart(Reply, frozen=True, kw_only=True):
    """Answer to `GetList`. `kind`: whole | delta | same; of a delta `base` is what it starts from.

    With an empty `cursor` it is the last part, and the list then has `mark`.  A part that the device did not ask for
    (another mark, another kind) begins a new list: what had arrived of the one before is void.
    """

    kind: str
    mark: ListMark
    base: ListMark | None = None
    first: bool = False  # it begins its list
    cursor: str = ""
    items: int = 0
    data: bytes = b""
    crc: int = 0


class UploadAck(Reply, frozen=True, kw_only=True):
    """Everything of the journal up to and including record `upto` is on disk: go on behind it, and forget the rest."""

    journal: str
    upto: int


class Renewed(Reply, frozen=True, kw_only=True):
    """The certificate to use from now on (PEM). It may be the one that the device has: then it was too early."""

    certificate: CertificateText


WorkReply = Welcome | Ack | Grant | Deny | Commands | Refused | ListPart | UploadAck | Renewed


class Wake(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="wake"):
    """Published on the work `pub` socket: the addressee should fetch now. Loss does no harm.

    Addressed to EVERYBODY it says that the lists have changed.
    """

    device: str


# --- safety -------------------------------------------------------------------------------------------------------


class Release(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="release"):
    """Open and stay open. Published after the topic `all/`, repeated until everybody acknowledged; never expires.

    `signature` is Ed25519 over `signed_part()`: a lane checks it instead of trusting the connection.
    """

    site: str
    incident: int
    scope: str  # `site`, or a lane's name
    drill: bool
    key: str  # id of the release key that signed
    signature: bytes

    def signed_part(self) -> bytes:
        return release_signing_bytes(self.site, self.incident, self.scope, self.drill)


class ReleaseAck(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="release_ack"):
    """What the lane's sensors say after a release."""

    device: Word
    incident: Number
    barrier: Word
    sensed_open: bool
    at: Clock


class SafetyPoll(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="safety_poll"):
    """Asked by every lane each second or two: a release whose publication was lost is found here."""

    device: Word
    released: bool
    incident: Number | None
    barrier: Word
    at: Clock
    proof: Release | None = None  # while released: the release that was obeyed


class SafetyState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="safety_state"):
    """Answer to a poll and to an acknowledgement. `release` is set while an evacuation is latched."""

    release: Release | None = None


SafetyRequest = ReleaseAck | SafetyPoll

_encoder = msgspec.msgpack.Encoder()
_work_request: msgspec.msgpack.Decoder[WorkRequest] = msgspec.msgpack.Decoder(WorkRequest)
_work_reply: msgspec.msgpack.Decoder[WorkReply] = msgspec.msgpack.Decoder(WorkReply)
_safety_request: msgspec.msgpack.Decoder[SafetyRequest] = msgspec.msgpack.Decoder(SafetyRequest)
_safety_state: msgspec.msgpack.Decoder[SafetyState] = msgspec.msgpack.Decoder(SafetyState)
_release: msgspec.msgpack.Decoder[Release] = msgspec.msgpack.Decoder(Release)
_wake: msgspec.msgpack.Decoder[Wake] = msgspec.msgpack.Decoder(Wake)


def encode(message: msgspec.Struct) -> bytes:
    """One message as MessagePack."""
    return _encoder.encode(message)


def decode_request(data: bytes) -> WorkRequest:
    """A device's work request. Raises LinkError."""
    if len(data) > MAX_WORK_BYTES:
        raise LinkError(f"{len(data)} bytes, at most {MAX_WORK_BYTES} are allowed")
    request = _decode(_work_request, data)
    if request.v not in VERSIONS:
        raise LinkError(f"version {request.v}; this server speaks {' and '.join(map(str, VERSIONS))}")
    if request.v < 2 and isinstance(request, GetList | Upload | Renew):
        raise LinkError(f"version {request.v} has no such message")
    if not 0 < len(request.device) <= NAME_BYTES_MAX or not 0 < len(request.boot) <= NAME_BYTES_MAX:
        raise LinkError(f"device and boot need 1 to {NAME_BYTES_MAX} characters")
    return request


def common_version(hello: Hello) -> int:
    """The highest version that the device and we know."""
    return max((v for v in hello.speaks if v in VERSIONS), default=hello.v)


def decode_reply(data: bytes) -> WorkReply:
    """The server's answer, for the device's side. Raises LinkError."""
    return _decode(_work_reply, data)


def decode_safety_request(data: bytes) -> SafetyRequest:
    """A lane's poll or acknowledgement. Raises LinkError."""
    if len(data) > MAX_SAFETY_BYTES:
        raise LinkError(f"{len(data)} bytes, at most {MAX_SAFETY_BYTES} are allowed")
    return _decode(_safety_request, data)


def decode_safety_state(data: bytes) -> SafetyState:
    return _decode(_safety_state, data)


def publish_release(release: Release) -> bytes:
    """The bytes of a publication: topic, then the message."""
    return TOPIC_ALL + _encoder.encode(release)


def decode_publication(data: bytes) -> Release | Wake:
    """What a subscriber received, topic included. Raises LinkError."""
    topic, slash, body = data.partition(b"/")
    if not slash:
        raise LinkError("a publication starts with a topic that ends in a slash")
    if topic + slash == TOPIC_ALL:
        return _decode(_release, body)
    return _decode(_wake, body)


def decode_release(data: bytes) -> Release:
    """A release that a device shows. Raises LinkError."""
    return _decode(_release, data)


def publish_wake(device: str) -> bytes:
    """Topic `wake/`; the addressee stands in the body."""
    return b"wake/" + _encoder.encode(Wake(device=device))


def release_signing_bytes(site: str, incident: int, scope: str, drill: bool) -> bytes:
    """What a release's signature covers: `paifang-release-1`, then the four values as MessagePack."""
    return b"paifang-release-1" + _encoder.encode([site, incident, scope, drill])


def sign_release(
    key: Ed25519PrivateKey, key_id: str, *, site: str, incident: int, scope: str = "site", drill: bool = False
) -> Release:
    signature = key.sign(release_signing_bytes(site, incident, scope, drill))
    return Release(site=site, incident=incident, scope=scope, drill=drill, key=key_id, signature=signature)


def verify_release(release: Release, key: Ed25519PublicKey) -> None:
    """Raises LinkError when the signature is not `key`'s."""
    try:
        key.verify(release.signature, release.signed_part())
    except InvalidSignature as exc:
        raise LinkError("the release's signature is wrong") from exc


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise LinkError(str(exc)) from exc
