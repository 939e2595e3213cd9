"""What we write on an IC card, and the keys that only this card has.

Nothing on a card is secret by itself: the number (UID) can be copied onto another card.  So every card has keys of its
own, made from the site's master key and its number, and carries a record that is authenticated with another one:

    sector key  = HMAC-SHA256(master, "paifang-card-1" | "sector" | kind | sector | length of UID | UID), first 6 bytes
    record key  = HMAC-SHA256(master, "paifang-card-1" | "record" | length of UID | UID)

Kind is the byte `A` or `B`, sector and length are one byte each.  Key A reads, key B writes.

The record stands twice, in two sectors in a row (1 and 2 unless the site says otherwise), in their first three blocks:

    block 0   "PFC1"  site hash 4  issue index 4  sequence 4
    block 1   ticket 8  zeros 8
    block 2   the first 16 bytes of HMAC-SHA256(record key, block 0 | block 1)

Numbers are big endian.  The copy that is authentic and has the higher sequence counts.  A new record is written over
the other one, so a card that leaves the field in the middle of it keeps what it had.  The issue index grows with every
card that is issued for the same ticket: a higher one supersedes the lower ones.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from protocols.errors import CardError
from protocols.iccard import BLOCK_BYTES, KEY_BYTES, SECTORS, KeyKind

CONTEXT = b"paifang-card-1"
MAGIC = b"PFC1"
SITE_BYTES = 4
MASTER_BYTES_MIN = 16
NUMBER_MAX = 0xFFFFFFFF  # of issue index and sequence
TICKET_MAX = 2**53 - 1
BLOCKS_USED = 3
RECORD_BYTES = BLOCKS_USED * BLOCK_BYTES
_RECORD = struct.Struct(f">4s{SITE_BYTES}sIIQ8x")


class CardRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a card says of itself."""

    site: bytes  # protocols.ticketcode.site_hash
    ticket: int
    issue_index: int
    sequence: int = 0  # grows with every writing of this card


class CardKeys:
    """The master key of a site, for whoever may make the keys of single cards from it. Its repr says nothing.

    Raises CardError for a master key of fewer than 16 bytes and a site hash of another size than 4.
    """

    def __init__(self, master: bytes, site: bytes, *, sector: int = 1) -> None:
        if len(master) < MASTER_BYTES_MIN:
            raise CardError(f"a master key has at least {MASTER_BYTES_MIN} bytes")
        if len(site) != SITE_BYTES:
            raise CardError(f"a site hash has {SITE_BYTES} bytes")
        if not 1 <= sector < SECTORS - 1:
            raise CardError(f"the record's first sector is one of 1 to {SECTORS - 2}")
        self._master = master
        self.site = site
        self.sectors = (sector, sector + 1)

    def __repr__(self) -> str:
        return f"CardKeys(sectors={self.sectors})"

    def sector_key(self, uid: bytes, sector: int, kind: KeyKind) -> bytes:
        """The six bytes that open `sector` of the card `uid`."""
        return self._derive(b"sector" + kind.name.encode() + bytes((sector, len(uid))) + uid)[:KEY_BYTES]

    def record_key(self, uid: bytes) -> bytes:
        """What the records of the card `uid` are authenticated with."""
        return self._derive(b"record" + bytes((len(uid),)) + uid)

    def _derive(self, what: bytes) -> bytes:
        return hmac.digest(self._master, CONTEXT + what, sha256)


def encode_record(record: CardRecord, key: bytes) -> bytes:
    """Three blocks. `key` is the card's record key. Raises CardError for numbers that do not fit."""
    if not (0 < record.ticket <= TICKET_MAX and 0 < record.issue_index <= NUMBER_MAX):
        raise CardError("a record has a ticket and an issue index")
    if not 0 <= record.sequence <= NUMBER_MAX or len(record.site) != SITE_BYTES:
        raise CardError("the sequence or the site does not fit")
    body = _RECORD.pack(MAGIC, record.site, record.issue_index, record.sequence, record.ticket)
    return body + _mac(body, key)


def decode_record(data: bytes, key: bytes, site: bytes) -> CardRecord:
    """A copy of the record. Raises CardError when it is none, of another site, or not authentic."""
    if len(data) != RECORD_BYTES:
        raise CardError(f"a record has {RECORD_BYTES} bytes")
    body = data[: _RECORD.size]
    magic, of_site, issue_index, sequence, ticket = _RECORD.unpack(body)
    if magic != MAGIC:
        raise CardError("there is no record", "no_record")
    if not hmac.compare_digest(_mac(body, key), data[_RECORD.size :]):
        raise CardError("the record is not authentic", "not_authentic")
    record = CardRecord(site=of_site, ticket=ticket, issue_index=issue_index, sequence=sequence)
    if of_site != site or encode_record(record, key) != data:
        raise CardError("the record is that of another site", "other_site")
    return record


def newest(copies: Iterable[bytes], key: bytes, site: bytes) -> tuple[int, CardRecord]:
    """(which, record) of the copy that counts.

    Raises CardError when none is authentic: `no_record` only when every copy is empty.
    """
    found: list[tuple[int, CardRecord]] = []
    reason: CardError | None = None
    for place, copy in enumerate(copies):
        try:
            found.append((place, decode_record(copy, key, site)))
        except CardError as exc:
            if reason is None or reason.reason == "no_record":
                reason = exc
    if not found:
        raise reason or CardError("there is no record", "no_record")
    return max(found, key=lambda copy: copy[1].sequence)


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, sha256)[:BLOCK_BYTES]
