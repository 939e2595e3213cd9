"""QR readers on a serial line: lines of text in, reads out; and the few commands that start and stop reading.

A reader sends the code's text and ends it with CR, LF or both; many can put the AIM identifier (`]Q1` for a QR code,
ISO/IEC 15424) in front.  Usual lines: 9600 or 115200 baud, 8N1.  Nothing protects a line against noise, so a line that
looks damaged is dropped whole: half a ticket code is not a ticket code, and a card's number that lost a digit is
somebody else's.
"""

from __future__ import annotations

import binascii
import re

import msgspec

MAX_LINE_BYTES = 512  # a version-40 QR code can hold more, but nothing that opens a gate does
GROUP_SEPARATOR = 0x1D  # the one control character that GS1 codes carry on purpose
REPLY_BYTES_MAX = 300  # of a reader's answer to a command; those to a trigger have a dozen or two

_LINE_END = re.compile(rb"[\r\n]")
_SYMBOLOGY = re.compile(r"\][A-Za-z][0-9A-Za-z]")
_EDGE = bytes(set(range(0x20)) - {GROUP_SEPARATOR}) + b"\x7f"  # NUL of an idle line, STX and ETX around a line
_CONTROL = re.compile(rb"[\x00-\x1c\x1e\x1f\x7f]")


class Read(msgspec.Struct, frozen=True):
    """One code. `symbology` is the AIM identifier (`]Q1`), or empty when the reader does not send it."""

    text: str
    symbology: str = ""

    def __repr__(self) -> str:  # the text opens a gate: keep it out of logs and tracebacks
        return f"Read(symbology={self.symbology!r}, {len(self.text)} characters)"


class Trigger(msgspec.Struct, frozen=True):
    """What makes a reader of one family start and stop reading. Empty: it has no such command."""

    start: bytes
    stop: bytes


# Readers at gates usually watch by themselves; these are for those that were set to read on command. Sources: the
# makers' serial command manuals.
TRIGGERS = {
    "honeywell": Trigger(b"\x16T\r", b"\x16U\r"),
    "datalogic": Trigger(b"\x16T\r", b"\x16U\r"),
    "cipherlab": Trigger(b"E", b"D"),
    "newland": Trigger(b"~\x010000#SCNTRG1;\x03", b"~\x010000#SCNTRG0;\x03"),
    "gm65": Trigger(b"\x7e\x00\x08\x01\x00\x02\x01\xab\xcd", b""),  # stops by itself after its reading time
}


class Reply(msgspec.Struct, frozen=True):
    """A reader's answer to a command."""

    accepted: bool
    words: str = ""  # why not, as far as it says


_DAMAGE = b"\xff"  # in no UTF-8 text: the framer drops the line that holds it
_CRC_HEAD = b"\x02\x00"  # type, length, data, CRC-CCITT (start 0) over the three; from the manuals of EM3095 and GM65
_CRC_REASONS = {1: "damaged on the way", 3: "unknown command"}
_TEXT_HEAD = b"\x02\x01"  # what was sent, with ACK, NAK or ENQ behind each command, then ";" ETX; Newland's manuals
_TEXT_BODY = re.compile(rb"[\x06\x15\x05\x20-\x7e]*")
_TEXT_REASONS = {0x15: "bad value", 0x05: "unknown command"}


class ReplyFilter:
    """Takes a reader's answers to commands out of what it sends, so that none is mistaken for a code.

    An answer comes without a line end, and may arrive in pieces, between codes and within one.  Holds less than
    REPLY_BYTES_MAX bytes between calls: call `reset` when the line was silent for some hundred milliseconds.
    `family` is a key of TRIGGERS; families that never answer pass everything on.
    """

    def __init__(self, family: str) -> None:
        self._head = {"newland": _TEXT_HEAD, "gm65": _CRC_HEAD}.get(family, b"")
        self._held = b""

    @property
    def answers(self) -> bool:
        """Whether readers of this family answer commands."""
        return bool(self._head)

    @property
    def pending_bytes(self) -> int:
        """Bytes that may be the beginning of an answer."""
        return len(self._held)

    def feed(self, data: bytes) -> tuple[bytes, list[Reply]]:
        """What is left of `data`, and the answers that it completed. Never raises."""
        if not self._head:
            return data, []
        data, self._held = self._held + data, b""
        passed = b""
        replies: list[Reply] = []
        while True:
            begin = data.find(self._head[:1])
            if begin < 0:
                return passed + data, replies
            passed, data = passed + data[:begin], data[begin:]
            length, reply = self._reply(data)
            if length < 0:
                self._held = data
                return passed, replies
            if reply is not None:
                replies.append(reply)
                data = data[length:]
            else:
                damaged = data.startswith(self._head)  # what it runs into is no code any more
                passed, data = passed + (_DAMAGE if damaged else data[:1]), data[1:]

    def reset(self) -> bytes:
        """What looked like the beginning of an answer and was none."""
        held, self._held = self._held, b""
        return held

    def _reply(self, data: bytes) -> tuple[int, Reply | None]:
        """Length and meaning of the answer that `data` begins with; -1 for one that is not complete yet."""
        if not data.startswith(self._head[: len(data)]):
            return 0, None
        if len(data) < len(self._head):
            return -1, None
        return _crc_reply(data) if self._head == _CRC_HEAD else _text_reply(data)


def _crc_reply(data: bytes) -> tuple[int, Reply | None]:
    if len(data) < 4:
        return -1, None
    length = 4 + data[3] + 2
    if len(data) < length:
        return -1, None
    if binascii.crc_hqx(data[2 : length - 2], 0) != int.from_bytes(data[length - 2 : length], "big"):
        return 0, None
    if not data[2]:
        return length, Reply(True)
    return length, Reply(False, _CRC_REASONS.get(data[2], f"error {data[2]}"))


def _text_reply(data: bytes) -> tuple[int, Reply | None]:
    body = _TEXT_BODY.match(data, 2)
    assert body is not None  # it matches nothing as well
    end = body.end()
    if end == len(data):
        return (-1, None) if len(data) < REPLY_BYTES_MAX else (0, None)
    if data[end] != 0x03 or data[end - 1 : end] != b";":
        return 0, None
    for sign, words in _TEXT_REASONS.items():
        if sign in body[0]:
            return end + 1, Reply(False, words)
    return end + 1, Reply(True) if 0x06 in body[0] else Reply(False, "no word of acceptance")


class ScannerFramer:
    """Cuts a reader's bytes into reads, whatever pieces they arrive in.

    Holds at most `max_bytes` between calls.  Call `reset` when the line was silent for some hundred milliseconds in
    the middle of a line: what came before the pause does not belong to what comes after it.
    """

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self.oversized_lines = 0
        self.damaged_lines = 0  # not UTF-8, or control characters inside
        self.half_lines = 0  # begun and never ended
        self._max_bytes = max_bytes
        self._line = b""
        self._oversized = False

    @property
    def bad_frames(self) -> int:
        """Lines that were dropped, for whatever reason."""
        return self.oversized_lines + self.damaged_lines + self.half_lines

    @property
    def pending_bytes(self) -> int:
        """Bytes of a line that has not ended yet."""
        return len(self._line)

    def feed(self, data: bytes) -> list[Read]:
        """Reads completed by `data`. Never raises."""
        *ended, rest = _LINE_END.split(data)
        reads: list[Read] = []
        for piece in ended:
            self._append(piece)
            if (read := self._end()) is not None:
                reads.append(read)
        self._append(rest)
        return reads

    def reset(self) -> None:
        """Drop a half line: after a pause on the line, or a reconnect."""
        if self._line and not self._oversized:
            self.half_lines += 1
        self._line = b""
        self._oversized = False

    def _append(self, piece: bytes) -> None:
        if self._oversized:
            return
        if len(self._line) + len(piece) > self._max_bytes:
            self.oversized_lines += 1
            self._oversized = True  # drop the rest of this line as well
            self._line = b""
        else:
            self._line += piece

    def _end(self) -> Read | None:
        line, self._line = self._line.strip(_EDGE), b""
        if self._oversized:
            self._oversized = False
            return None
        if not line:  # the LF of a CRLF, or an idle line
            return None
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            self.damaged_lines += 1
            return None
        if _CONTROL.search(line):
            self.damaged_lines += 1
            return None
        if _SYMBOLOGY.match(text) and len(text) > 3:
            return Read(text[3:], text[:3])
        return Read(text)


def line(text: str, symbology: str = "", *, end: bytes = b"\r\n") -> bytes:
    """The reader's side: what it sends for one code."""
    return (symbology + text).encode() + end
