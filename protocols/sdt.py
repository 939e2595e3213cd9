"""The serial language of Chinese ID card readers (SDT, the interface of the security module SAM): frames and status.

    request   AA AA AA 96 69 | length | command  parameter   data | check
    answer    AA AA AA 96 69 | length | 00  00  status       data | check

The length is two bytes, big endian, and counts everything after itself; the check is the XOR of everything from the
length up to itself.  115200 baud 8N1 as delivered.  One document is read by three requests: find, select, read; most
readers answer `find` once for each time a document is laid on.

An answer does not say what it answers, so the asking side has to know which status each question can get
(`ANSWERS`).  The frames were compared with those that makers and authors published; see the golden tests.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from protocols.errors import IdCardError

PREAMBLE = b"\xaa\xaa\xaa\x96\x69"
HEAD_BYTES = len(PREAMBLE) + 2
TEXT_BYTES = 256
PHOTO_BYTES_MAX = 1024
FINGERPRINT_BYTES_MAX = 1024
STATUS_BYTES = 3
# status, three lengths, text, photograph, fingerprints and check: the longest answer there is
LENGTH_MAX = STATUS_BYTES + 6 + TEXT_BYTES + PHOTO_BYTES_MAX + FINGERPRINT_BYTES_MAX + 1
FRAME_BYTES_MAX = HEAD_BYTES + LENGTH_MAX


class Command(IntEnum):
    """Command and parameter of a request as one number, the command high."""

    RESET = 0x10FF
    STATUS = 0x11FF
    MODULE_NUMBER = 0x12FF
    FIND = 0x2001
    SELECT = 0x2002
    READ = 0x3001
    READ_ADDED_ADDRESS = 0x3003
    READ_WITH_FINGERPRINT = 0x3010
    SET_RADIO_BYTES = 0x61FF


class Status(IntEnum):
    """The third byte of an answer."""

    CHECKSUM = 0x10
    LENGTH = 0x11
    UNKNOWN_COMMAND = 0x21
    UNKNOWN_ERROR = 0x24
    MODULE_NOT_TRUSTED = 0x31  # the card does not accept the module
    CARD_NOT_TRUSTED = 0x32  # the module does not accept the card
    VERIFICATION = 0x33
    WRONG_CARD = 0x40
    READ_FAILED = 0x41
    RANDOM_FAILED = 0x47
    SELF_TEST = 0x60
    NOT_AUTHORISED = 0x66
    NO_CARD = 0x80
    SELECT_FAILED = 0x81
    OK = 0x90
    NO_CONTENT = 0x91
    FOUND = 0x9F

    @property
    def words(self) -> str:
        return _WORDS.get(self, self.name.lower().replace("_", " "))


_WORDS = {
    Status.CHECKSUM: "it received a damaged request",
    Status.LENGTH: "it received a request of a wrong length",
    Status.MODULE_NOT_TRUSTED: "the document does not accept the security module",
    Status.CARD_NOT_TRUSTED: "the security module does not accept the document",
    Status.VERIFICATION: "verification failed",
    Status.SELF_TEST: "the security module failed its self test",
    Status.NOT_AUTHORISED: "the security module is not authorised",
}

_GENERAL = frozenset({Status.CHECKSUM, Status.LENGTH, Status.UNKNOWN_COMMAND, Status.UNKNOWN_ERROR,
                      Status.SELF_TEST, Status.NOT_AUTHORISED})  # fmt: skip
_TRUST = frozenset({Status.MODULE_NOT_TRUSTED, Status.CARD_NOT_TRUSTED, Status.VERIFICATION, Status.WRONG_CARD,
                    Status.READ_FAILED, Status.RANDOM_FAILED, Status.NO_CARD, Status.NO_CONTENT})  # fmt: skip

ANSWERS: dict[Command, frozenset[Status]] = {
    Command.RESET: _GENERAL | {Status.OK},
    Command.STATUS: _GENERAL | {Status.OK},
    Command.MODULE_NUMBER: _GENERAL | {Status.OK},
    Command.FIND: _GENERAL | {Status.FOUND, Status.NO_CARD},
    Command.SELECT: _GENERAL | _TRUST | {Status.OK, Status.SELECT_FAILED},
    Command.READ: _GENERAL | _TRUST | {Status.OK},
    Command.READ_ADDED_ADDRESS: _GENERAL | _TRUST | {Status.OK},
    Command.READ_WITH_FINGERPRINT: _GENERAL | _TRUST | {Status.OK},
    Command.SET_RADIO_BYTES: _GENERAL | {Status.OK},
}
"""What each question can be answered with. Anything else on the line answers an earlier question."""

_OK_BYTES = {Command.MODULE_NUMBER: (16, 16), Command.SELECT: (8, 8), Command.FIND: (0, 4)}
_READS = (Command.READ, Command.READ_WITH_FINGERPRINT)


class Request(msgspec.Struct, frozen=True):
    command: int  # a `Command` where it is a known one
    data: bytes = b""


class Answer(msgspec.Struct, frozen=True):
    """`status` is a `Status` where it is a known one."""

    status: int
    data: bytes = b""

    def __repr__(self) -> str:  # the data of a read names a person
        return f"Answer(status=0x{self.status:02x}, {len(self.data)} bytes)"

    @property
    def words(self) -> str:
        return Status(self.status).words if self.status in set(Status) else f"status 0x{self.status:02x}"

    def can_answer(self, command: Command) -> bool:
        """Whether it may be the answer to `command`: by its status and, for a good one, by its size."""
        if self.status not in ANSWERS[command]:
            return False
        if self.status not in (Status.OK, Status.FOUND):
            return True
        if command in _READS:
            return len(self.data) > TEXT_BYTES
        low, high = _OK_BYTES.get(command, (0, TEXT_BYTES))
        return low <= len(self.data) <= high


class DocumentBytes(msgspec.Struct, frozen=True, kw_only=True):
    """What a read answers: the text as `protocols.idcard` decodes it, the photograph as the chip keeps it (WLT)."""

    text: bytes
    photo: bytes
    fingerprint: bytes = b""

    def __repr__(self) -> str:  # all of it is personal
        return f"DocumentBytes({len(self.text)}, {len(self.photo)} and {len(self.fingerprint)} bytes)"


def encode_request(command: Command, data: bytes = b"") -> bytes:
    """The bytes of a request. Raises IdCardError for data that no frame holds."""
    return _frame(command.to_bytes(2, "big") + data)


def encode_answer(status: int, data: bytes = b"") -> bytes:
    """The reader's side. Raises IdCardError for data that no frame holds."""
    return _frame(bytes((0, 0, status)) + data)


def decode_request(body: bytes) -> Request:
    """A request from what a framer gave. Raises IdCardError when it is too short."""
    if len(body) < 2:
        raise IdCardError("a request has a command and a parameter")
    number = int.from_bytes(body[:2], "big")
    return Request(Command(number) if number in set(Command) else number, body[2:])


def decode_answer(body: bytes) -> Answer:
    """An answer from what a framer gave. Raises IdCardError when it is none."""
    if len(body) < STATUS_BYTES or body[:2] != b"\0\0":
        raise IdCardError("an answer begins with two zeros and a status")
    return Answer(body[2], body[STATUS_BYTES:])


def decode_document(data: bytes, *, fingerprint: bool = False) -> DocumentBytes:
    """The data of a good answer to a read. Raises IdCardError when its lengths do not fit."""
    count = 3 if fingerprint else 2
    if len(data) < 2 * count:
        raise IdCardError("a document without its lengths")
    lengths = [int.from_bytes(data[at : at + 2], "big") for at in range(0, 2 * count, 2)]
    if lengths[0] != TEXT_BYTES or lengths[1] > PHOTO_BYTES_MAX or sum(lengths) != len(data) - 2 * count:
        raise IdCardError(f"a document of {len(data)} bytes does not have the lengths {lengths}")
    text_end = 2 * count + lengths[0]
    photo_end = text_end + lengths[1]
    return DocumentBytes(text=data[2 * count : text_end], photo=data[text_end:photo_end], fingerprint=data[photo_end:])


def encode_document(document: DocumentBytes, *, fingerprint: bool = False) -> bytes:
    """The reader's side. Raises IdCardError when a part is too long."""
    parts = [document.text, document.photo, *([document.fingerprint] if fingerprint else [])]
    if len(parts[0]) != TEXT_BYTES or any(len(part) > PHOTO_BYTES_MAX for part in parts):
        raise IdCardError("a part of the document has a size that the language does not know")
    return b"".join(len(part).to_bytes(2, "big") for part in parts) + b"".join(parts)


def module_number(data: bytes) -> str:
    """The security module's number as makers print it. Raises IdCardError when it is not one.

    Sixteen bytes, little endian: kind, maker and date, serial, and four bytes of more.
    """
    if len(data) != 16:
        raise IdCardError(f"a module number has 16 bytes, not {len(data)}")
    kind, maker = int.from_bytes(data[0:2], "little"), int.from_bytes(data[2:4], "little")
    made, serial, more = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12))
    return f"{kind:02d}.{maker:02d}-{made:08d}-{serial:010d}-{more:010d}"


class SdtFramer:
    """Cuts a byte stream into the bodies of frames, whatever pieces it arrives in. For both ends of the line.

    After damage it looks for the next preamble inside what it has taken for a frame, so that a good frame behind a bad
    one is found.  Holds at most `FRAME_BYTES_MAX` bytes and one read.  `bad_frames` counts frames that were damaged or
    cut off; bytes between frames are passed over.
    """

    def __init__(self) -> None:
        self.bad_frames = 0
        self._buffer = b""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Bodies (without length and check) completed by `data`. Never raises."""
        buffer = self._buffer + data
        bodies: list[bytes] = []
        at = 0
        while True:
            start = buffer.find(PREAMBLE, at)
            if start < 0:
                at = max(at, len(buffer) - len(PREAMBLE) + 1)
                break
            at = start
            if len(buffer) - at < HEAD_BYTES:
                break
            length = int.from_bytes(buffer[at + len(PREAMBLE) : at + HEAD_BYTES], "big")
            end = at + HEAD_BYTES + length
            if not 2 < length <= LENGTH_MAX:
                self.bad_frames += 1
                at += 1
            elif len(buffer) < end:
                break
            elif _check(buffer[at + len(PREAMBLE) : end - 1]) != buffer[end - 1]:
                self.bad_frames += 1
                at += 1
            else:
                bodies.append(buffer[at + HEAD_BYTES : end - 1])
                at = end
        self._buffer = buffer[at:]
        return bodies

    def reset(self) -> None:
        """Drop a half frame: after a pause on the line, or a reconnect."""
        if self._buffer.startswith(PREAMBLE):
            self.bad_frames += 1
        self._buffer = b""


def _frame(body: bytes) -> bytes:
    length = len(body) + 1
    if length > LENGTH_MAX:
        raise IdCardError(f"{len(body)} bytes; a frame holds {LENGTH_MAX - 1}")
    checked = length.to_bytes(2, "big") + body
    return PREAMBLE + checked + bytes((_check(checked),))


def _check(data: bytes) -> int:
    folded = 0
    for octet in data:
        folded ^= octet
    return folded
