"""The 16-byte language of a common Chinese turnstile board ("board 4"), both ends.

Every frame is `AA 00 src cid1 cid2 dst 08 d0 … d7 sum`, where `sum` is the low byte of the sum of bytes 1 to 14.
It travels over RS-485 at 9600 baud, 8N1.  The host is number 1; 0 as `dst` is the broadcast address.

* A command has cid1 = 02.  `d0` = FF asks for the status; otherwise `d1` is the action and `d2` the number of people.
* A status has cid1 = 12.  `d0` is the state, `d2 … d4` the people counted in and `d5 … d7` those counted out, both
  cumulative, big endian, 24 bits.

The board does not acknowledge a command in any other way than by its next status: what was executed is seen from its
state and its counters.  Source: the published code of a scenic-area gate application that drives these boards.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from protocols.errors import BoardError

FRAME_BYTES = 16
START = 0xAA
DATA_BYTES = 8
HOST = 0x01
BROADCAST = 0x00
CID_COMMAND = 0x02
CID_STATUS = 0x12
CID2_LOCK = 0x05
LOCK_LENGTH = 2
QUERY = 0xFF
COUNTER_MODULUS = 1 << 24
PAX_MAX = 255

# A counter that moved on by more than this many people was not counting people: the board was changed or reset.
# A busy lane passes forty a minute, so a million is more than two weeks without anybody listening.
ADVANCE_MAX = 1 << 20
# Across the wrap the same jump could as well be a reset from a high count, so less is believed: two days of people.
WRAP_ADVANCE_MAX = 1 << 16


class Action(IntEnum):
    """`d1` of a command. Open lets counted people through, hold stays open until closed."""

    ENTER_OPEN = 0
    ENTER_HOLD = 1
    ENTER_CLOSE = 2
    EXIT_OPEN = 3
    EXIT_HOLD = 4
    EXIT_CLOSE = 5


class State(IntEnum):
    """`d0` of a status: what the board senses."""

    CLOSED_IDLE = 0x00
    CLOSED_FIRE = 0x01
    CLOSED_POWER_LOSS = 0x02
    OPEN_IDLE = 0x03
    OPEN_FIRE = 0x04
    OPEN_MANUAL = 0x05
    OPEN_ENTRY = 0x06
    OPEN_EXIT = 0x07
    CLOSING_ENTRY = 0x08
    CLOSING_EXIT = 0x09
    CLOSING_ENTRY_PINCH = 0x0A
    CLOSING_EXIT_PINCH = 0x0B
    OPENING_ENTRY = 0x0C
    OPENING_EXIT = 0x0D
    OPENING_ENTRY_PUSHED = 0x0E
    OPENING_EXIT_PUSHED = 0x0F
    LOITERING = 0x5F
    INTRUSION = 0x60
    REVERSE = 0x61
    TAILGATING = 0x62
    EXTERNAL_ALARM = 0x63
    SELF_TEST = 0xFF
    UNLISTED = -1  # a code that the language does not list: firmware newer than this list


CLOSED_STATES = frozenset({State.CLOSED_IDLE, State.CLOSED_FIRE, State.CLOSED_POWER_LOSS})
OPEN_STATES = frozenset({State.OPEN_IDLE, State.OPEN_FIRE, State.OPEN_MANUAL, State.OPEN_ENTRY, State.OPEN_EXIT})
OPENING_STATES = frozenset(
    {State.OPENING_ENTRY, State.OPENING_EXIT, State.OPENING_ENTRY_PUSHED, State.OPENING_EXIT_PUSHED}
)
CLOSING_STATES = frozenset(
    {State.CLOSING_ENTRY, State.CLOSING_EXIT, State.CLOSING_ENTRY_PINCH, State.CLOSING_EXIT_PINCH}
)
ALARM_STATES = frozenset(
    {State.LOITERING, State.INTRUSION, State.REVERSE, State.TAILGATING, State.EXTERNAL_ALARM}
)  # these say nothing about the barrier itself


class Frame(msgspec.Struct, frozen=True):
    """One checked frame, before its meaning."""

    source: int
    cid1: int
    cid2: int
    destination: int
    data: bytes  # 8 bytes
    length: int = DATA_BYTES  # as the frame says; 2 for the lock, which has eight bytes all the same


class Command(msgspec.Struct, frozen=True):
    """What the host says. `action` None asks for the status; `pax` counts for the two open actions only."""

    address: int
    action: Action | None = None
    pax: int = 1


class Status(msgspec.Struct, frozen=True):
    """What the board says. `entries` and `exits` are cumulative and wrap at 2**24; `code` is `d0` as sent."""

    address: int
    state: State
    entries: int
    exits: int
    code: int


def encode_frame(frame: Frame) -> bytes:
    """The 16 bytes of a frame. Raises BoardError when a field does not fit its byte."""
    if len(frame.data) != DATA_BYTES:
        raise BoardError(f"{len(frame.data)} data bytes, a frame has {DATA_BYTES}")
    head = (frame.source, frame.cid1, frame.cid2, frame.destination)
    if not all(0 <= value <= 0xFF for value in head):
        raise BoardError(f"{head} do not fit into bytes")
    if frame.length not in _LENGTHS:
        raise BoardError(f"length {frame.length} is not one of the language")
    body = bytes((0x00, *head, frame.length)) + frame.data
    return bytes((START,)) + body + bytes((sum(body) & 0xFF,))


def decode_frame(data: bytes) -> Frame:
    """Exactly one frame. Raises BoardError for any other bytes."""
    if len(data) != FRAME_BYTES:
        raise BoardError(f"{len(data)} bytes, a frame has {FRAME_BYTES}")
    if data[0] != START or data[1] != 0x00 or data[6] not in _LENGTHS:
        raise BoardError("not the head of a frame")
    if sum(data[1:15]) & 0xFF != data[15]:
        raise BoardError("wrong checksum")
    return Frame(data[2], data[3], data[4], data[5], bytes(data[7:15]), data[6])


def encode_command(command: Command) -> bytes:
    """The bytes of a command. Raises BoardError when address or pax are out of range.

    One person is sent as count 0 as the boards' own host software does; 1 is not sent because what a board makes of it
    is not documented.
    """
    if not 0 <= command.address <= 0xFF:
        raise BoardError(f"address {command.address}; 0 to 255 are possible")
    if command.action is None:
        data = bytes((QUERY, 0, 0, 0, 0, 0, 0, 0))
    else:
        count = 0
        if command.action in (Action.ENTER_OPEN, Action.EXIT_OPEN):
            if not 1 <= command.pax <= PAX_MAX:
                raise BoardError(f"{command.pax} people; 1 to {PAX_MAX} are possible")
            count = command.pax if command.pax > 1 else 0
        data = bytes((0, command.action, count, 0, 0, 0, 0, 0))
    return encode_frame(Frame(HOST, CID_COMMAND, 0, command.address, data))


def encode_lock(address: int, locked: bool) -> bytes:
    """Lock the board for everybody, or unlock it. Idempotent. Raises BoardError for an address that is none.

    From one published host program only. Its length byte is 2 although eight data bytes follow: kept as it is there.
    """
    if not 0 <= address <= 0xFF:
        raise BoardError(f"address {address}; 0 to 255 are possible")
    body = bytes((0x00, HOST, CID_COMMAND, CID2_LOCK, address, LOCK_LENGTH, 0, int(locked), 0, 0, 0, 0, 0, 0))
    return bytes((START,)) + body + bytes((sum(body) & 0xFF,))


def decode_lock(frame: Frame) -> bool:
    """The board's side: whether it is to lock. Raises BoardError for a frame that is neither."""
    if frame.cid1 != CID_COMMAND or frame.cid2 != CID2_LOCK or frame.length != LOCK_LENGTH or frame.data[1] > 1:
        raise BoardError("neither to lock nor to unlock")
    return bool(frame.data[1])


def query(address: int) -> bytes:
    """Ask the board for its status."""
    return encode_command(Command(address))


def enter_open(address: int, pax: int = 1) -> bytes:
    """Let `pax` people in. Not idempotent on the wire: ask for the status before sending it again."""
    return encode_command(Command(address, Action.ENTER_OPEN, pax))


def exit_open(address: int, pax: int = 1) -> bytes:
    """Let `pax` people out. Not idempotent on the wire: ask for the status before sending it again."""
    return encode_command(Command(address, Action.EXIT_OPEN, pax))


def enter_hold(address: int) -> bytes:
    """Open in the direction of entry and stay open. Idempotent."""
    return encode_command(Command(address, Action.ENTER_HOLD))


def exit_hold(address: int) -> bytes:
    """Open in the direction of exit and stay open. Idempotent."""
    return encode_command(Command(address, Action.EXIT_HOLD))


def enter_close(address: int) -> bytes:
    """End `enter_open` or `enter_hold`. Idempotent."""
    return encode_command(Command(address, Action.ENTER_CLOSE))


def exit_close(address: int) -> bytes:
    """End `exit_open` or `exit_hold`. Idempotent."""
    return encode_command(Command(address, Action.EXIT_CLOSE))


def decode_command(frame: Frame) -> Command:
    """The board's side: what the host wants. Raises BoardError for a frame that is no command of the language."""
    if frame.cid1 != CID_COMMAND or frame.length != DATA_BYTES:
        raise BoardError(f"cid1 {frame.cid1:#04x} is no command")
    if frame.data[0] == QUERY:
        return Command(frame.destination)
    if frame.data[0] != 0:
        raise BoardError(f"d0 {frame.data[0]:#04x} is no command")
    try:
        action = Action(frame.data[1])
    except ValueError as exc:
        raise BoardError(f"action {frame.data[1]:#04x} is not listed") from exc
    if action in (Action.ENTER_OPEN, Action.EXIT_OPEN):
        return Command(frame.destination, action, max(frame.data[2], 1))
    return Command(frame.destination, action)


def encode_status(status: Status) -> bytes:
    """The board's side: the bytes of a status; `code` is what is sent. Raises BoardError."""
    if not 0 <= status.code <= 0xFF:
        raise BoardError(f"code {status.code} does not fit into a byte")
    if not (0 <= status.entries < COUNTER_MODULUS and 0 <= status.exits < COUNTER_MODULUS):
        raise BoardError("counters have 24 bits")
    data = bytes((status.code, 0)) + status.entries.to_bytes(3, "big") + status.exits.to_bytes(3, "big")
    return encode_frame(Frame(status.address, CID_STATUS, 0, HOST, data))


def status(address: int, state: State, entries: int, exits: int) -> Status:
    """A status in a listed state, for a board that is simulated."""
    return Status(address, state, entries, exits, int(state))


def decode_status(frame: Frame) -> Status:
    """The host's side: what the board senses. Raises BoardError for a frame that is no status.

    A state that the language does not list is `State.UNLISTED`; counters and `code` are still right.
    """
    if frame.cid1 != CID_STATUS or frame.length != DATA_BYTES:
        raise BoardError(f"cid1 {frame.cid1:#04x} is no status")
    code = frame.data[0]
    state = State(code) if code in _LISTED else State.UNLISTED
    return Status(
        frame.source, state, int.from_bytes(frame.data[2:5], "big"), int.from_bytes(frame.data[5:8], "big"), code
    )


_LENGTHS = frozenset({DATA_BYTES, LOCK_LENGTH})
_LISTED = frozenset(int(state) for state in State if state is not State.UNLISTED)


def advance(old: int, new: int) -> int | None:
    """How many people a cumulative 24-bit counter moved on by, or None when it was reset (or the board changed).

    A wrap is told from a reset by size: shortly after the wrap the counter can only have moved a little.
    """
    if new >= old:
        return new - old if new - old <= ADVANCE_MAX else None
    wrapped = (new - old) % COUNTER_MODULUS
    return wrapped if wrapped <= WRAP_ADVANCE_MAX else None


class Board4Framer:
    """Cuts a byte stream into frames, whatever pieces it arrives in, and finds its feet again after garbage.

    Holds at most `FRAME_BYTES - 1` bytes between calls.  `bad_frames` counts damaged or foreign stretches, one for
    each frame's length begun; `skipped_bytes` counts their bytes.
    """

    def __init__(self) -> None:
        self.bad_frames = 0
        self.skipped_bytes = 0
        self._buffer = b""
        self._run = 0  # bytes skipped since the last good frame

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Frames completed by `data`. Never raises."""
        frames: list[Frame] = []
        buffer = self._buffer + data
        position = 0
        while position < len(buffer):
            if not _may_begin(buffer, position):
                following = buffer.find(START, position + 1)
                skipped = (len(buffer) if following < 0 else following) - position
                position += skipped
                self._skip(skipped)
                continue
            if len(buffer) - position < FRAME_BYTES:
                break
            try:
                frames.append(decode_frame(buffer[position : position + FRAME_BYTES]))
            except BoardError:
                position += 1  # a real frame may begin inside the damaged one
                self._skip(1)
            else:
                position += FRAME_BYTES
                self._run = 0
        self._buffer = buffer[position:]
        return frames

    def reset(self) -> None:
        """Drop a half frame: after a pause on the line, or a reconnect."""
        if self._buffer:
            self._skip(len(self._buffer))
        self._buffer = b""
        self._run = 0

    def _skip(self, count: int) -> None:
        begun = -(-self._run // FRAME_BYTES)  # stretches of a frame's length, rounded up
        self._run += count
        self.bad_frames += -(-self._run // FRAME_BYTES) - begun
        self.skipped_bytes += count


def _may_begin(buffer: bytes, position: int) -> bool:
    """Whether the bytes from `position`, as far as they have come, are the head of a frame."""
    if buffer[position] != START:
        return False
    left = len(buffer) - position
    return (left < 2 or buffer[position + 1] == 0x00) and (left < 7 or buffer[position + 6] in _LENGTHS)
