"""Ticket codes: what a QR on a ticket carries, signed, so that a forged one costs no look-up.

A code is `PF1:` and 134 base45 characters (RFC 9285): a fixed payload of 25 bytes and its Ed25519 signature.  One
ticket under one key has exactly one text: the length is fixed, the encoding is checked to be canonical, Ed25519 has
one signature for a message and a key, and nothing is trimmed or folded.  `docs/ticket-code.md` is the manual.

Fields other than the ticket's number are hints: they let a lane say "not today" without asking anybody.  What a ticket
is worth stands in the ledger.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from enum import IntEnum

import base45
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.errors import TicketCodeError

PREFIX = "PF1:"  # the version is its digit
SIGNING_CONTEXT = b"paifang-ticket-1"
EPOCH_S = 1_735_689_600  # 2025-01-01T00:00:00Z
MINUTE_S = 60
SIGNATURE_BYTES = 64
SITE_HASH_BYTES = 4
TICKET_BITS = 53
KEY_ID_MAX = 0xFFFF
PAX_MAX = 0xFF
ZONES_MAX = 0xFFFF

# key id, site, ticket (high 32, low 32 bits), from, until, pax, class, zones; the ticket's highest byte is left out.
# 25 bytes and the signature are an odd number on purpose: such a base45 text ends in a digit, never in a space.
_PAYLOAD = struct.Struct(">H4sQIIBBH")
_TICKET_AT = 6  # where the ticket's always empty highest byte stands in the packed form
PAYLOAD_BYTES = _PAYLOAD.size - 1
TEXT_CHARACTERS = len(PREFIX) + (PAYLOAD_BYTES + SIGNATURE_BYTES) // 2 * 3 + 2
_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"  # RFC 9285
_NO_DIGIT = 0xFF
_DIGITS = bytes(_ALPHABET.find(byte) & 0xFF for byte in range(256))
_SIGNED = struct.Struct(f">{(PAYLOAD_BYTES + SIGNATURE_BYTES) // 2}HB")


class ProductClass(IntEnum):
    """The class of a product as the site file has it."""

    FULL = 1
    DISCOUNT = 2
    GROUP = 3
    FREE = 4
    ANNUAL = 5
    SEASON = 6
    MONTH = 7
    PACKAGE = 8
    TIMES = 9
    VIP = 10
    STAFF = 11
    CONTRACTOR = 12
    RESIDENT = 13
    MERCHANT_SERVICE = 14

    @property
    def word(self) -> str:
        """`full`, `discount` … as in the site file."""
        return self.name.lower()


class TicketCode(msgspec.Struct, frozen=True, kw_only=True):
    """What a code says.

    Times are seconds since the Unix epoch, whole minutes (`floor_minute`, `ceil_minute`).  `zones` has a bit for each
    of the first 16 zones of the site file, in its order, that the ticket is for; 0 says nothing about zones.
    """

    key_id: int
    site: bytes  # site_hash(id of the site)
    ticket: int
    valid_from: int
    valid_to: int
    pax: int
    product_class: ProductClass
    zones: int = 0


def site_hash(site: str) -> bytes:
    """The 4 bytes that stand for a site: the first of the SHA-256 of its id."""
    return hashlib.sha256(site.encode()).digest()[:SITE_HASH_BYTES]


def floor_minute(at: float) -> int:
    """The last whole minute before or at `at`; for `valid_from`."""
    return int(at // MINUTE_S) * MINUTE_S


def ceil_minute(at: float) -> int:
    """The first whole minute at or after `at`; for `valid_to`."""
    return -int(-at // MINUTE_S) * MINUTE_S


def sign(code: TicketCode, key: Ed25519PrivateKey) -> str:
    """The text to print: `TEXT_CHARACTERS` characters of QR's alphanumeric set.

    `key` must be the one that verifiers know as `code.key_id`.  Raises ValueError when a field is out of range.
    """
    payload = _pack(code)
    body: bytes = base45.b45encode(payload + key.sign(SIGNING_CONTEXT + payload))
    return PREFIX + body.decode("ascii")


class Verifier:
    """Tells our codes from everything else. Does no look-up, and at most one signature verification a text.

    `keys` are all public keys by their ids, old ones included: old tickets stay valid after a rotation.  With `site`
    given, codes of other sites are refused, should several share their keys.
    """

    def __init__(self, keys: Mapping[int, Ed25519PublicKey], site: str | None = None) -> None:
        self._keys = dict(keys)
        self._site = None if site is None else site_hash(site)

    def verify(self, text: str) -> TicketCode:
        """What the code says.

        Raises TicketCodeError with `reason` `unknown_code` (not our format, or another site's) or `bad_signature`
        (our format, but forged, damaged, or signed with a key that we do not know).
        """
        signed = _decode(text)
        payload, signature = signed[:PAYLOAD_BYTES], signed[PAYLOAD_BYTES:]
        key_id = int.from_bytes(payload[:2], "big")
        key = self._keys.get(key_id)
        if key is None:
            raise TicketCodeError("bad_signature", f"key {key_id} is not known")
        try:
            key.verify(signature, SIGNING_CONTEXT + payload)
        except InvalidSignature as exc:
            raise TicketCodeError("bad_signature") from exc
        code = _unpack(payload)
        if self._site is not None and code.site != self._site:
            raise TicketCodeError("unknown_code", "the code of another site")
        return code


def _decode(text: str) -> bytes:
    # the length first: whatever a reader sends, the work is bounded
    if len(text) != TEXT_CHARACTERS or not text.startswith(PREFIX):
        raise TicketCodeError("unknown_code", "not a ticket code")
    # Not by the library, which forgives line ends and takes six times as long for each visitor. Three digits of base 45
    # make one number in one way only, so that what is decoded here is canonical.
    digits = text[len(PREFIX) :].encode("ascii", "replace").translate(_DIGITS)
    if _NO_DIGIT in digits:
        raise TicketCodeError("unknown_code", "not base45")
    low, middle, high = digits[0:-2:3], digits[1:-2:3], digits[2::3]
    words = [a + 45 * b + 2025 * c for a, b, c in zip(low, middle, high, strict=True)]
    try:
        return _SIGNED.pack(*words, digits[-2] + 45 * digits[-1])
    except struct.error as exc:  # a number that two bytes, or the last one, cannot hold
        raise TicketCodeError("unknown_code", "not base45") from exc


def _pack(code: TicketCode) -> bytes:
    if not 0 <= code.ticket < 1 << TICKET_BITS:
        raise ValueError(f"a ticket's number has {TICKET_BITS} bits")
    if len(code.site) != SITE_HASH_BYTES:
        raise ValueError(f"a site's hash has {SITE_HASH_BYTES} bytes")
    if not 1 <= code.pax <= PAX_MAX:
        raise ValueError(f"{code.pax} people; 1 to {PAX_MAX} are possible")
    if not 0 <= code.key_id <= KEY_ID_MAX or not 0 <= code.zones <= ZONES_MAX:
        raise ValueError("key id and zones have 16 bits")
    if code.valid_to < code.valid_from:
        raise ValueError("valid_to is before valid_from")
    packed = _PAYLOAD.pack(
        code.key_id,
        code.site,
        code.ticket,
        _minutes(code.valid_from),
        _minutes(code.valid_to),
        code.pax,
        code.product_class,
        code.zones,
    )
    return packed[:_TICKET_AT] + packed[_TICKET_AT + 1 :]


def _unpack(payload: bytes) -> TicketCode:
    """A payload with a good signature. Raises TicketCodeError when it says something that `_pack` never writes."""
    key_id, site, ticket, begins, ends, pax, class_, zones = _PAYLOAD.unpack(
        payload[:_TICKET_AT] + b"\x00" + payload[_TICKET_AT:]
    )
    if ticket >> TICKET_BITS or pax < 1 or ends < begins or class_ not in _CLASSES:
        raise TicketCodeError("unknown_code", "signed, but not a ticket of this version")
    return TicketCode(
        key_id=key_id,
        site=site,
        ticket=ticket,
        valid_from=EPOCH_S + begins * MINUTE_S,
        valid_to=EPOCH_S + ends * MINUTE_S,
        pax=pax,
        product_class=ProductClass(class_),
        zones=zones,
    )


_CLASSES = frozenset(int(class_) for class_ in ProductClass)


def _minutes(at: int) -> int:
    minutes, rest = divmod(at - EPOCH_S, MINUTE_S)
    if rest or not 0 <= minutes < 1 << 32:
        raise ValueError(f"{at} is not a whole minute since 2025")
    return minutes
