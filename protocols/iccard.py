"""What a contactless storage card understands through a PC/SC reader: pseudo-APDUs, and what the answers mean.

PC/SC part 3 (3.2.2.1): a reader translates class FF commands for cards such as MIFARE Classic.  A card of 1 kB has 16
sectors of four blocks of 16 bytes; the last block of a sector (the trailer) holds its two keys and who may do what.
Block 0 is the maker's and cannot be written.  Authentication opens one sector until the next one, or until the card
leaves the field.

The virtual card of `sim.pcsc` speaks the other end.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from protocols.errors import CardError

BLOCK_BYTES = 16
KEY_BYTES = 6
BLOCKS_PER_SECTOR = 4
SECTORS = 16
BLOCKS = SECTORS * BLOCKS_PER_SECTOR
UID_BYTES = (4, 7, 10)
FACTORY_KEY = b"\xff" * KEY_BYTES
KEY_SLOT = 0  # of the reader; every reader has this one
RESPONSE_BYTES_MAX = 258

OK = 0x9000
MORE_EXPECTED = 0x6282  # fewer bytes than were asked for
FAILED = 0x6300
NOT_AUTHENTICATED = 0x6982
NOT_SUPPORTED = frozenset({0x6A81, 0x6D00, 0x6E00, 0x6800})

_WORDS = {
    MORE_EXPECTED: "it has fewer bytes than were asked for",
    FAILED: "the operation failed",
    0x6581: "its memory failed",
    0x6700: "wrong length",
    NOT_AUTHENTICATED: "it is not authenticated for this",
    0x6983: "authentication is blocked",
    0x6986: "not allowed",
    0x6988: "the key is not there or not of this kind",
    0x6A82: "there is no such block",
    **dict.fromkeys(NOT_SUPPORTED, "it does not know the command"),
}


class KeyKind(IntEnum):
    """Which of a sector's two keys."""

    A = 0x60
    B = 0x61


class Response(msgspec.Struct, frozen=True):
    """A card's answer. `status` is SW1 SW2."""

    status: int
    data: bytes = b""

    def __repr__(self) -> str:  # the data may be what makes a card valid
        return f"Response(0x{self.status:04x}, {len(self.data)} bytes)"

    @property
    def ok(self) -> bool:
        return self.status == OK

    @property
    def words(self) -> str:
        return f"{_WORDS.get(self.status, 'it refuses')} (0x{self.status:04x})"


def decode_response(data: bytes) -> Response:
    """The bytes that came back. Raises CardError when they are no answer."""
    if not 2 <= len(data) <= RESPONSE_BYTES_MAX:
        raise CardError(f"an answer of {len(data)} bytes is none")
    return Response(int.from_bytes(data[-2:], "big"), data[:-2])


def get_uid() -> bytes:
    """Ask for the card's unique number."""
    return b"\xff\xca\x00\x00\x00"


def decode_uid(response: Response) -> bytes:
    """The number. Raises CardError when the card has none that could be its own.

    A random number (ISO 14443-3: four bytes, the first 08) is a telephone or a card that hides: the next time it has
    another one.
    """
    if not response.ok:
        raise CardError(f"no number: {response.words}")
    if len(response.data) not in UID_BYTES:
        raise CardError(f"a number of {len(response.data)} bytes")
    if len(response.data) == 4 and response.data[0] == 0x08:
        raise CardError("a random number, as telephones have", "random_uid")
    if not any(response.data):
        raise CardError("a number of zeros")
    return response.data


def load_key(key: bytes, slot: int = KEY_SLOT) -> bytes:
    """Put a key into the reader's volatile memory. Raises CardError."""
    if len(key) != KEY_BYTES:
        raise CardError(f"a key has {KEY_BYTES} bytes")
    return bytes((0xFF, 0x82, 0x00, slot, KEY_BYTES)) + key


def authenticate(block: int, kind: KeyKind, slot: int = KEY_SLOT) -> bytes:
    """Open the sector of a block with the key in the reader. Raises CardError."""
    return bytes((0xFF, 0x86, 0x00, 0x00, 0x05, 0x01, 0x00, _block(block), kind, slot))


def read_block(block: int) -> bytes:
    """Raises CardError for a block that no card has."""
    return bytes((0xFF, 0xB0, 0x00, _block(block), BLOCK_BYTES))


def update_block(block: int, data: bytes) -> bytes:
    """Raises CardError for a block that no card has, and for anything but 16 bytes."""
    if len(data) != BLOCK_BYTES:
        raise CardError(f"a block has {BLOCK_BYTES} bytes")
    return bytes((0xFF, 0xD6, 0x00, _block(block), BLOCK_BYTES)) + data


def first_block(sector: int) -> int:
    """Raises CardError for a sector that a card of 1 kB has not."""
    if not 0 <= sector < SECTORS:
        raise CardError(f"there are sectors 0 to {SECTORS - 1}")
    return sector * BLOCKS_PER_SECTOR


def trailer_block(sector: int) -> int:
    """Where a sector's keys are. Raises CardError."""
    return first_block(sector) + BLOCKS_PER_SECTOR - 1


class Access(msgspec.Struct, frozen=True):
    """Bits C1 C2 C3 of one block, as the makers' data sheets number them."""

    c1: int
    c2: int
    c3: int


READ_BOTH_WRITE_B = Access(1, 0, 0)  # a data block: read with A or B, written with B
KEYS_BY_B = Access(0, 1, 1)  # the trailer: both keys and the bits written with B, the keys never read
TRANSPORT_DATA = Access(0, 0, 0)
TRANSPORT_TRAILER = Access(0, 0, 1)


def trailer(key_a: bytes, key_b: bytes, data: Access = READ_BOTH_WRITE_B, own: Access = KEYS_BY_B) -> bytes:
    """A trailer block. Raises CardError for keys of a wrong length."""
    if len(key_a) != KEY_BYTES or len(key_b) != KEY_BYTES:
        raise CardError(f"a key has {KEY_BYTES} bytes")
    blocks = (data, data, data, own)
    c1, c2, c3 = (
        sum(bit << at for at, bit in enumerate(bits))
        for bits in ([b.c1 for b in blocks], [b.c2 for b in blocks], [b.c3 for b in blocks])
    )
    bits = bytes(((~c2 & 15) << 4 | (~c1 & 15), c1 << 4 | (~c3 & 15), c3 << 4 | c2))
    return key_a + bits + b"\x69" + key_b


def decode_access(block: bytes) -> tuple[Access, Access, Access, Access]:
    """The bits of a trailer for its sector's four blocks. Raises CardError when they contradict each other."""
    if len(block) != BLOCK_BYTES:
        raise CardError(f"a block has {BLOCK_BYTES} bytes")
    low, middle, high = block[6:9]
    c1, c2, c3 = middle >> 4, high & 15, high >> 4
    if (low & 15, low >> 4, middle & 15) != (~c1 & 15, ~c2 & 15, ~c3 & 15):
        raise CardError("the access bits contradict each other")
    found = [Access(c1 >> at & 1, c2 >> at & 1, c3 >> at & 1) for at in range(BLOCKS_PER_SECTOR)]
    return found[0], found[1], found[2], found[3]


def _block(block: int) -> int:
    if not 0 <= block < BLOCKS:
        raise CardError(f"there are blocks 0 to {BLOCKS - 1}")
    return block
