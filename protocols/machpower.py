"""The 5-byte language of Mach Power's electric tripods and swing barriers, as far as it is published.

Every frame is `EB address command 00 check`, where `check` is the exclusive or of the four bytes before it.  It travels
over RS-485 at 9600 baud, 8N1; the address is 0 to 255, 1 as delivered.

The manuals print the host's frames only.  Nothing says that a board answers, what it senses or whom it counted; a board
that echoes what it heard is understood all the same, because an echo is a frame of the same form.

Source: the manuals of AC-ATRI-018 (tripod, attachment II) and AC-ASDSC-017 (swing and wing barrier).  They print the
frames for left-open and right-open with the checksum of their own rule, and those for dropping and raising the arm
with 0xAB, which is the checksum of right-open: a slip of the pen, so the rule is kept here.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from protocols._resync import Resync, xor
from protocols.errors import BoardError

FRAME_BYTES = 5
START = 0xEB
DATA = 0x00  # no command has data


class Command(IntEnum):
    """What the host can say. 44 and 45 are listed as spare."""

    LEFT_OPEN = 0x40
    RIGHT_OPEN = 0x41
    DROP_ARM = 0x42
    RAISE_ARM = 0x43
    BAN = 0x4A  # nobody passes
    RECOVER = 0x4B  # end of a ban


_COMMANDS = frozenset(Command)


class Frame(msgspec.Struct, frozen=True):
    """One checked frame."""

    address: int
    command: Command


def encode(address: int, command: Command) -> bytes:
    """The five bytes. Raises BoardError when the address does not fit its byte."""
    if not 0 <= address <= 0xFF:
        raise BoardError(f"address {address}; 0 to 255 are possible")
    head = bytes((START, address, command, DATA))
    return head + bytes((xor(head),))


def decode(data: bytes) -> Frame:
    """Exactly one frame. Raises BoardError for any other bytes."""
    if len(data) != FRAME_BYTES:
        raise BoardError(f"{len(data)} bytes, a frame has {FRAME_BYTES}")
    if data[0] != START or data[2] not in _COMMANDS or data[3] != DATA:
        raise BoardError("not a frame of the language")
    if xor(data[:4]) != data[4]:
        raise BoardError("wrong checksum")
    return Frame(data[1], Command(data[2]))


def framer() -> Resync[Frame]:
    """Cuts a stream into frames."""
    return Resync(_cut, stretch=FRAME_BYTES, longest=FRAME_BYTES)


def _cut(data: bytes) -> tuple[Frame, int] | None:
    if data[0] != START or (len(data) > 2 and data[2] not in _COMMANDS) or (len(data) > 3 and data[3] != DATA):
        raise BoardError("no frame begins here")
    return None if len(data) < FRAME_BYTES else (decode(data), FRAME_BYTES)
