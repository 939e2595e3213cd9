"""What a lane controller holds to decide alone: versioned lists, sent in compressed parts over the work socket.

A list is a set of items, each with a kind and a key; a later item of the same kind and key replaces the earlier one.
The server gives it out whole (`whole`) or as what has changed since a mark (`delta`), in parts:

* `GetList(have=None)` is answered with the first part of a whole list; `GetList(part=mark, cursor=...)` with the next
  one, also after a restart of either side; the part with an empty cursor is the last.  Then the list has that mark.
* `GetList(have=mark)` is answered with `same`, with the first part of a `delta`, or, when the server does not know the
  mark (a gap, a restored database), with the first part of a whole list, which replaces everything.

Parts are read while the site goes on, so an item may be newer than its mark says, never older: after a whole list, ask
for the delta.  Versions count up and are never given twice; the token beside one tells two histories apart.

`data` is zlib over one JSON array a line: the kind's letter, the key, then the fields.  Of a credential there are the
first 16 bytes of its keyed hash.  Times are seconds since the epoch; `day` is a business day, YYYY-MM-DD.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from protocols._bounds import Number, Word
from protocols.errors import LinkError

HASH_BYTES = 16  # of a credential's keyed hash
PART_BYTES_MAX = 400 * 1024  # of `data`; a message of the work socket is at most 512 kB
PART_RAW_BYTES_MAX = 16 * 1024 * 1024  # of `data` unpacked: more is a bomb
TICKET, CREDENTIAL, PREPRINTED, PRODUCT, ZONE, KEY = "t", "c", "b", "p", "z", "k"  # an item's kind
WHOLE, DELTA, SAME = "whole", "delta", "same"  # what a part is of

T = TypeVar("T")


class ListMark(msgspec.Struct, frozen=True, array_like=True):
    """Where a list stands. Both belong together; compare for equality only."""

    version: Number
    token: Word


class ListRight(msgspec.Struct, frozen=True, array_like=True):
    """One right of a ticket, as `storage.interfaces.RightFacts` has it; the counters of a day are those of `day`."""

    entitlement: int
    rule: int
    zone: str | None  # None: shared by all zones of its rule
    sold: int | None
    redeemed: int
    held: int
    refunded: int
    reserved_refund: int
    promised: int
    day: str | None
    used_day: int
    reentries_day: int
    reentries_held: int
    out_day: int
    first_used_at: float | None
    last_used_at: float | None
    last_used_lane: str
    last_exit_at: float | None


class ListTicket(msgspec.Struct, frozen=True, array_like=True):
    """A ticket or pass that is valid now or soon; also one that is void or refunded, which says why it is refused.

    `code_state` is the state of its signed code; `holder` the first 16 bytes of the hash of the ID it is bound to.
    """

    kind: str
    ticket: int
    product: str
    version: int
    state: str
    code_state: str
    valid_from: float
    valid_to: float
    slot_from: float | None
    slot_to: float | None
    holder: str | None
    face_bound: bool
    used_today: list[str]  # products that the same order has used today, where this one needs a main ticket
    rights: list[ListRight]


class ListCredential(msgspec.Struct, frozen=True, array_like=True):
    """A card, an ID number or a short code that leads to a ticket.

    `uses`: (entitlement, redeemed, held) of one person of a list.
    """

    kind: str
    key: str  # "<credential kind>/<hash in hex>/<ticket>"
    credential: int
    ticket: int
    state: str
    issue_index: int
    personal: bool
    uses: list[tuple[int, int, int]]


class ListPreprinted(msgspec.Struct, frozen=True, array_like=True):
    """A code that was printed in advance: its signature is right, and it opens nothing until its state is `sold`."""

    kind: str
    ticket: int
    state: str


class ListProduct(msgspec.Struct, frozen=True, array_like=True):
    """A version of a product; `rules` is `protocols.rights.ProductRules` as JSON."""

    kind: str
    key: str  # "<product>/<version>"
    product: str
    version: int
    name_zh: str
    name_en: str
    product_class: str
    pax: int
    rules: str


class ListZone(msgspec.Struct, frozen=True, array_like=True):
    """A zone as last committed; `staff` of those inside take no visitor's place."""

    kind: str
    zone: str
    limit: int | None
    inside: int
    held: int
    staff: int
    stopped: bool
    reentry_when_stopped: bool
    left_today: int | None


class ListKey(msgspec.Struct, frozen=True, array_like=True):
    """A key: `ticket` and `release` are public (Ed25519, raw), `hash` is the secret of the credentials' hashes.

    `id` is the key's id in decimal or in words; `value` is hex.
    """

    kind: str
    key: str  # "<purpose>/<id>"
    purpose: str
    id: str
    value: str


class Part(msgspec.Struct, frozen=True):
    """One part of a list, as `protocols.devicelink.ListPart` carries it."""

    kind: str
    mark: ListMark
    base: ListMark | None = None
    first: bool = False
    cursor: str = ""
    items: int = 0
    data: bytes = b""
    crc: int = 0


ListValue = ListTicket | ListCredential | ListPreprinted | ListProduct | ListZone | ListKey

TYPES: dict[str, type[Any]] = {
    TICKET: ListTicket, CREDENTIAL: ListCredential, PREPRINTED: ListPreprinted, PRODUCT: ListProduct,
    ZONE: ListZone, KEY: ListKey,
}  # fmt: skip


class Item(msgspec.Struct, frozen=True):
    """One line: its kind, its key as bytes, and the line itself, which `value` reads. A ticket's key is 8 bytes."""

    kind: str
    key: bytes
    line: bytes


def value(line: bytes) -> ListValue:
    """The value on one line. Raises LinkError."""
    decoder = _decoders.get(line[2:3].decode("latin-1"))
    if decoder is None or line[:2] != b'["':
        raise LinkError("a list's line of an unknown kind")
    read: ListValue = _decode(decoder, line)
    return read


def ticket_key(ticket: int) -> bytes:
    """The key of a ticket's and of a pre-printed code's item."""
    return ticket.to_bytes(8, "big")


def credential_key(kind: str, value_hash: bytes) -> bytes:
    """What the keys of a credential's items begin with: several tickets may hang on one ID number."""
    return f"{kind}/{value_hash[:HASH_BYTES].hex()}/".encode()


def encode_line(item: ListValue) -> bytes:
    """An item as its line, without the line's end."""
    return _encoder.encode(item)


def pack(lines: bytes) -> tuple[bytes, int]:
    """Lines as a part's `data`, and their CRC-32."""
    return zlib.compress(lines, 1), zlib.crc32(lines)


def unpack(data: bytes, crc: int) -> list[Item]:
    """The items of a part, in order; kinds that this version does not know are left out. Raises LinkError."""
    inflater = zlib.decompressobj()
    try:
        lines = inflater.decompress(data, PART_RAW_BYTES_MAX)
    except zlib.error as exc:
        raise LinkError(f"a list's part cannot be unpacked: {exc}") from exc
    if not inflater.eof or inflater.unused_data:
        raise LinkError("a list's part is cut off, too large, or followed by something")
    if zlib.crc32(lines) != crc:
        raise LinkError("a list's part is damaged")
    return [item for line in lines.split(b"\n") if line and (item := _item(line)) is not None]


def _item(line: bytes) -> Item | None:
    head = _decode(_heads, line)
    kind, key = head.kind, head.key
    if kind not in TYPES:
        return None
    if kind in (TICKET, PREPRINTED):
        if not isinstance(key, int) or not 0 <= key < 1 << 63:
            raise LinkError("a list's line without a ticket")
        return Item(kind, ticket_key(key), line)
    if not isinstance(key, str):
        raise LinkError("a list's line without a key")
    return Item(kind, key.encode("utf-8", "replace"), line)


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """The beginning of every line."""

    kind: str
    key: int | str


def _decode(decoder: msgspec.json.Decoder[T], line: bytes) -> T:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise LinkError(f"a list's line cannot be read: {exc}") from exc


_encoder = msgspec.json.Encoder()
_heads: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)
_decoders: dict[str, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(made) for kind, made in TYPES.items()}

KeyLines = Callable[[], list[ListKey]]
"""The keys that a lane needs, asked anew at each part that begins a list."""
