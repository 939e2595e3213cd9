"""The language of the TPW-321ASP control board and its tripod sisters, both ends.

Every frame is `[address] 02 type length content 04`; the content is ASCII.  RS-232 and RS-485 begin it with the board's
address, UDP does not.  There is no checksum, so a framer believes only listed types with a content of their form.

* The host asks for a connection (FF); the board answers FF, the host says FF again, and the board tells its parameters
  one by one, each of them answered by the host with FF.  Both wait 2 s for the other.
* The host sets the working mode (41), the mode of each direction (14), reads a counter (28), resets one (22), drops or
  raises a tripod's arm (24), or shows something on a LED panel (82); the board answers 44 (done) or F4 (failed), a
  counter with 21 or 22 and its digits, which the host answers with 44.

Nothing tells where the doors stand or that somebody did wrong: what is sensed here are the counters, and the modes as
read back.  Source: the maker's manual of TPW-321ASP, appendix C; the connection frame `02 FF 00 04` is printed there,
the others follow from its tables.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum

import msgspec

from protocols._resync import Resync
from protocols.errors import BoardError

START = 0x02
END = 0x04
CONTENT_MAX = 32  # bytes; names of models are the longest
FRAME_BYTES_MAX = 1 + 4 + CONTENT_MAX
REPLY_WAIT_S = 2.0  # how long either side waits for the other, as published
DELAY_MAX_S = 60  # closing delay that can be set
DIGITS_MAX = 12  # of a counter; more were no number of people


class Kind(IntEnum):
    """The type byte. Some mean one thing from the host and another from the board."""

    CONNECT = 0xFF
    DONE = 0x44
    FAILED = 0xF4
    MODEL = 0xF1
    VERSION = 0xF2
    IDENTITY = 0xF8
    PASSAGE = 0x14  # the mode of each direction
    DELAY = 0x18  # closing delay
    ENTRIES = 0x21  # board: entry counter; host: switch counters on and off
    EXITS = 0x22  # board: exit counter; host: reset a counter
    ARM = 0x24  # host: drop or raise a tripod's arm; board: its type
    READ = 0x28  # host: read a counter
    MODE = 0x41  # working mode
    SPEED = 0x42
    SENSITIVITY = 0x81
    LED = 0x82


class Mode(StrEnum):
    """Content of 41. Entry and exit open are called test modes: they stay until another mode is set."""

    NORMALLY_OPEN = "0"
    NORMALLY_CLOSED = "1"
    ENTRY_OPEN = "2"
    EXIT_OPEN = "3"


class Passing(StrEnum):
    """Content of 14, once for entry and once for exit."""

    CONTROLLED = "0"
    FREE = "1"
    FORBIDDEN = "2"
    BARRIER_FREE = "3"  # after a card was read


class Counter(StrEnum):
    """Content of 28 and, from the host, 22."""

    ENTRY = "0"
    EXIT = "1"


class Arm(StrEnum):
    """Content of 24 from the host, for tripods."""

    DROP = "0"
    RAISE = "1"


class Panel(StrEnum):
    """Which LED panel 82 is for."""

    ENTRY = "1"
    EXIT = "2"


class Frame(msgspec.Struct, frozen=True):
    """One frame. `address` is None over UDP."""

    address: int | None
    kind: Kind
    content: str = ""


_KINDS = frozenset(Kind)


def _one_of(values: type[Enum]) -> Callable[[str], bool]:
    listed = frozenset(str(each.value) for each in values)
    return lambda content: content in listed


def _digits(least: int, most: int) -> Callable[[str], bool]:
    return lambda content: least <= len(content) <= most and content.isdigit()


def _empty(content: str) -> bool:
    return not content


def _words(content: str) -> bool:
    return bool(content) and content.isprintable()


def _passing(content: str) -> bool:
    return len(content) == 2 and all(each in "0123" for each in content)


# the form of each type's content, whoever says it: the only check that a frame without a checksum has
_FORMS: dict[Kind, Callable[[str], bool]] = {
    Kind.CONNECT: _empty,
    Kind.DONE: _empty,
    Kind.FAILED: _empty,
    Kind.MODEL: _words,
    Kind.VERSION: _words,
    Kind.IDENTITY: _words,
    Kind.PASSAGE: _passing,
    Kind.DELAY: _digits(3, 3),
    Kind.ENTRIES: _digits(1, DIGITS_MAX),
    Kind.EXITS: _digits(1, DIGITS_MAX),
    Kind.ARM: _words,
    Kind.READ: _one_of(Counter),
    Kind.MODE: _one_of(Mode),
    Kind.SPEED: lambda content: content in tuple("1234567"),
    Kind.SENSITIVITY: lambda content: content in tuple("12345"),
    Kind.LED: lambda content: len(content) == 2 and content[0] in "12" and content[1] in "12345",
}


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises BoardError when address or content are not what its type has."""
    if frame.address is not None and not 0 <= frame.address <= 0xFF:
        raise BoardError(f"address {frame.address}; 0 to 255 are possible")
    if not _fits(frame.kind, frame.content):
        raise BoardError(f"{frame.content!r} is no content of {frame.kind.name}")
    head = b"" if frame.address is None else bytes((frame.address,))
    return head + bytes((START, frame.kind, len(frame.content))) + frame.content.encode("ascii") + bytes((END,))


def decode(data: bytes, *, addressed: bool) -> Frame:
    """Exactly one frame, with an address in front or not. Raises BoardError for any other bytes."""
    found = _cut(data, addressed)
    if found is None or found[1] != len(data):
        raise BoardError("not one whole frame")
    return found[0]


def framer(*, addressed: bool) -> Resync[Frame]:
    """Cuts a stream into frames: of RS-232 and RS-485 when `addressed`, otherwise of UDP."""
    shortest = 5 if addressed else 4
    return Resync(lambda data: _cut(data, addressed), stretch=shortest, longest=FRAME_BYTES_MAX)


# --- what the host says ---------------------------------------------------------------------------------------------


def connect(address: int | None) -> bytes:
    """Ask for the parameters; also the answer to each of them."""
    return encode(Frame(address, Kind.CONNECT))


def done(address: int | None) -> bytes:
    """The answer to a counter."""
    return encode(Frame(address, Kind.DONE))


def set_mode(address: int | None, mode: Mode) -> bytes:
    """Set the working mode. Idempotent: it stays until another one is set."""
    return encode(Frame(address, Kind.MODE, mode))


def set_passing(address: int | None, entry: Passing, leave: Passing) -> bytes:
    """Set the mode of both directions. Idempotent."""
    return encode(Frame(address, Kind.PASSAGE, entry + leave))


def read_counter(address: int | None, counter: Counter) -> bytes:
    """Ask for a counter."""
    return encode(Frame(address, Kind.READ, counter))


def reset_counter(address: int | None, counter: Counter) -> bytes:
    """Set a counter to nought. The server never does: its books go on from what the board counts."""
    return encode(Frame(address, Kind.EXITS, counter))


def move_arm(address: int | None, arm: Arm) -> bytes:
    """Drop or raise a tripod's arm. Idempotent."""
    return encode(Frame(address, Kind.ARM, arm))


def set_delay(address: int | None, delay_s: int) -> bytes:
    """Set the closing delay in seconds. Raises BoardError for more than DELAY_MAX_S."""
    if not 0 <= delay_s <= DELAY_MAX_S:
        raise BoardError(f"a closing delay of {delay_s} s; 0 to {DELAY_MAX_S} are possible")
    return encode(Frame(address, Kind.DELAY, f"{delay_s:03d}"))


def show(address: int | None, panel: Panel, image: int) -> bytes:
    """Show one of the images 1 to 5 on a LED panel."""
    return encode(Frame(address, Kind.LED, f"{panel}{image}"))


# --- what both read -------------------------------------------------------------------------------------------------


def count(frame: Frame) -> int:
    """The people of a counter's frame. Raises BoardError for another frame."""
    if frame.kind not in (Kind.ENTRIES, Kind.EXITS):
        raise BoardError(f"{frame.kind.name} is no counter")
    return int(frame.content)


def mode(frame: Frame) -> Mode:
    """The working mode. Raises BoardError for another frame."""
    if frame.kind is not Kind.MODE:
        raise BoardError(f"{frame.kind.name} is no working mode")
    return Mode(frame.content)


def passing(frame: Frame) -> tuple[Passing, Passing]:
    """The modes of entry and exit. Raises BoardError for another frame."""
    if frame.kind is not Kind.PASSAGE:
        raise BoardError(f"{frame.kind.name} is no mode of passing")
    return Passing(frame.content[0]), Passing(frame.content[1])


def _fits(kind: Kind, content: str) -> bool:
    return content.isascii() and len(content) <= CONTENT_MAX and _FORMS[kind](content)


def _cut(data: bytes, addressed: bool) -> tuple[Frame, int] | None:
    begin = 1 if addressed else 0
    body = data[begin:]
    if not body:
        if addressed and data:
            return None  # an address may be any byte
        raise BoardError("nothing")
    if body[0] != START or (len(body) > 1 and body[1] not in _KINDS) or (len(body) > 2 and body[2] > CONTENT_MAX):
        raise BoardError("no frame begins here")
    if len(body) < 3 or len(body) < body[2] + 4:
        return None
    length = body[2]
    try:
        content = body[3 : 3 + length].decode("ascii")
    except UnicodeDecodeError as exc:
        raise BoardError("the content is not ASCII") from exc
    kind = Kind(body[1])
    if body[3 + length] != END or not _fits(kind, content):
        raise BoardError("not a frame of the language")
    return Frame(data[0] if addressed else None, kind, content), begin + length + 4
