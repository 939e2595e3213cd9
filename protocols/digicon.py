"""The language of Digicon's tripod boards (Tx1500 Duo, CATRAX Master), both ends.

Every frame is `02 size(2, little endian) commands check`: one or two command bytes, `size` counts them and the check
byte, `check` is the exclusive or of everything before it.  115200 baud, 8N1, one board on a line: there is no address.

* The host releases one passage in a direction, sets a direction free, or goes back to controlling.
* The board answers 06 (understood) or 15 (not a command), and says 1A or 1B when somebody passed.

It has no counters, no question for its state and no alarms: a passage is said once and, if lost, lost.
Source: the makers' manuals (Tx1500, 7.5; CATRAX Master, 6.7.5), with the three example frames printed there.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from protocols._resync import Resync, xor
from protocols.errors import BoardError

START = 0x02
COMMANDS_MAX = 2
FRAME_BYTES_MIN = 5
FRAME_BYTES_MAX = 4 + COMMANDS_MAX
PROBE = 0x3F  # listed nowhere


class Code(IntEnum):
    """The command bytes. Left and right are as seen from the maker's drawing: which is entry, the installer says."""

    RIGHT_TO_LEFT = 0x48  # H
    LEFT_TO_RIGHT = 0x41  # A
    BOTH = 0x44  # D
    CONTROL = 0x43  # C: back to controlling, ends a free direction
    FREE = 0x4C  # L, with the direction behind it
    PROGRAM = 0x53  # S, with the direction behind it
    ACK = 0x06
    NAK = 0x15
    PASSED_RIGHT_TO_LEFT = 0x1A
    PASSED_LEFT_TO_RIGHT = 0x1B


DIRECTIONS = frozenset({Code.RIGHT_TO_LEFT, Code.LEFT_TO_RIGHT, Code.BOTH})
REPLIES = frozenset({Code.ACK, Code.NAK, Code.PASSED_RIGHT_TO_LEFT, Code.PASSED_LEFT_TO_RIGHT})
_LISTED = frozenset(Code)


class Frame(msgspec.Struct, frozen=True):
    """One checked frame: a code and, for `FREE` and `PROGRAM`, the direction that it is about."""

    code: Code
    direction: Code | None = None

    @property
    def is_reply(self) -> bool:
        """Whether it is the board that says this."""
        return self.code in REPLIES


def encode(code: Code, direction: Code | None = None) -> bytes:
    """The bytes of a frame. Raises BoardError when a direction is missing, too much, or none."""
    if (code in (Code.FREE, Code.PROGRAM)) != (direction is not None):
        raise BoardError(f"{code.name} and a direction do not go together")
    if direction is not None and direction not in DIRECTIONS:
        raise BoardError(f"{direction.name} is no direction")
    commands = bytes((code,)) if direction is None else bytes((code, direction))
    head = bytes((START,)) + (len(commands) + 1).to_bytes(2, "little") + commands
    return head + bytes((xor(head),))


def encode_probe() -> bytes:
    """A well-formed frame with a command that the language does not list: a board that lives answers `NAK`."""
    head = bytes((START, 2, 0, PROBE))
    return head + bytes((xor(head),))


def decode(data: bytes) -> Frame:
    """Exactly one frame. Raises BoardError for any other bytes."""
    if not FRAME_BYTES_MIN <= len(data) <= FRAME_BYTES_MAX or data[0] != START:
        raise BoardError("not a frame")
    if int.from_bytes(data[1:3], "little") != len(data) - 3:
        raise BoardError("wrong size")
    if xor(data[:-1]) != data[-1]:
        raise BoardError("wrong checksum")
    codes = data[3:-1]
    if not all(code in _LISTED for code in codes):
        raise BoardError(f"{codes.hex()} is not listed")
    frame = Frame(Code(codes[0]), Code(codes[1]) if len(codes) > 1 else None)
    if encode(frame.code, frame.direction) != data:  # a pair that means nothing
        raise BoardError(f"{codes.hex()} means nothing")
    return frame


def framer() -> Resync[Frame]:
    """Cuts a stream into frames."""
    return Resync(cut, stretch=FRAME_BYTES_MIN, longest=FRAME_BYTES_MAX)


def cut(data: bytes) -> tuple[Frame, int] | None:
    """The frame that begins here; see `Resync`."""
    size = data[1] if len(data) > 1 else 2
    if data[0] != START or not 2 <= size <= COMMANDS_MAX + 1 or (len(data) > 2 and data[2] != 0):
        raise BoardError("no frame begins here")
    if len(data) > 3 and data[3] not in _LISTED:
        raise BoardError("no code begins here")
    length = size + 3
    return None if len(data) < length else (decode(data[:length]), length)
