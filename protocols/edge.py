"""What lane controllers keep and say by themselves: open grants, who used what, and words between neighbours.

Neighbours publish over NNG, after the topic `edge/`: an HMAC-SHA256 of 32 bytes with the entrance's key, then one
MessagePack `Notice`.  A lane reads only what carries a good MAC, from lanes that its file names, newer than what it
heard before.  What was used is named by a keyed digest, so that who listens on the network learns nothing of use.
"""

from __future__ import annotations

import hmac
from typing import Annotated

import msgspec

from protocols._bounds import Clock, Number, Word
from protocols.errors import WireError
from protocols.messages import Counters, Direction

TOPIC = b"edge/"
MAC_BYTES = 32
KEY_BYTES_MIN = 16
SUBJECT_BYTES = 16
USES_PER_NOTICE = 128
NOTICE_MAX_BYTES = 32 * 1024
_MAC_CONTEXT = b"paifang-edge-1"
_SUBJECT_CONTEXT = b"paifang-edge-subject-1"


class EdgeError(WireError):
    """Bytes that are no notice of a neighbour, or not one of ours."""


class NewGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that is to be written down before the lane opens.

    `subject` names what was used, for this lane and its neighbours; `zone` is where it leads.  `from_server`: the
    server gave it and knows it; otherwise the lane decided by itself.
    """

    grant: int
    nonce: str
    ticket: int
    pax: int
    passed: int
    at: float
    ttl_s: float
    direction: Direction
    counters: Counters | None
    from_server: bool
    subject: bytes
    zone: str


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """That a lane let people in on something, or is about to. One for each grant; `pax` is corrected at its end."""

    subject: Annotated[bytes, msgspec.Meta(max_length=SUBJECT_BYTES)]
    lane: Word
    grant: Number
    zone: Word
    pax: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    at: Clock


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One word of a lane to its neighbours. `hello`: it has just started, and wants to hear what it missed."""

    lane: Word
    boot: Word  # drawn at each start
    seq: Number
    hello: bool = False
    uses: Annotated[list[Use], msgspec.Meta(max_length=USES_PER_NOTICE)] = []


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Notice] = msgspec.msgpack.Decoder(Notice)


def subject_of(key: bytes, name: bytes) -> bytes:
    """The digest under which neighbours know a ticket (its number in 8 bytes) or a credential (its hash)."""
    return hmac.digest(key, _SUBJECT_CONTEXT + name, "sha256")[:SUBJECT_BYTES]


def ticket_name(ticket: int) -> bytes:
    """A ticket's number as bytes."""
    return ticket.to_bytes(8, "big")


def seal_notice(key: bytes, notice: Notice) -> bytes:
    """The bytes of a publication."""
    body = _encoder.encode(notice)
    return TOPIC + _mac(key, body) + body


def open_notice(key: bytes, data: bytes) -> Notice:
    """A neighbour's notice. Raises EdgeError for everything that was not made with `key`."""
    if len(data) > NOTICE_MAX_BYTES or not data.startswith(TOPIC):
        raise EdgeError("not a neighbour's notice")
    mac, body = data[len(TOPIC) : len(TOPIC) + MAC_BYTES], data[len(TOPIC) + MAC_BYTES :]
    if not hmac.compare_digest(mac, _mac(key, body)):
        raise EdgeError("the notice's MAC is wrong")
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise EdgeError(str(exc)) from exc


class Fresh:
    """Tells new notices of neighbours from repeated ones: one boot at a time counts up, and a past one never returns.

    At most `boots_max` past boots are remembered for each lane.
    """

    def __init__(self, lanes: list[str], boots_max: int = 256) -> None:
        self._last: dict[str, tuple[str, int]] = dict.fromkeys(lanes, ("", 0))
        self._past: dict[str, dict[str, None]] = {lane: {} for lane in lanes}
        self._boots_max = boots_max

    def take(self, notice: Notice) -> bool:
        """True once for each notice of a known lane."""
        if notice.lane not in self._last:
            return False
        boot, seq = self._last[notice.lane]
        past = self._past[notice.lane]
        if notice.boot == boot:
            if notice.seq <= seq:
                return False
        elif notice.boot in past:
            return False
        elif boot:
            past[boot] = None
            while len(past) > self._boots_max:
                del past[next(iter(past))]
        self._last[notice.lane] = (notice.boot, notice.seq)
        return True


def _mac(key: bytes, body: bytes) -> bytes:
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"a key of neighbours has at least {KEY_BYTES_MIN} bytes")
    return hmac.digest(key, _MAC_CONTEXT + body, "sha256")
