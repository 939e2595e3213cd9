"""QR readers on a serial line: lines of text in, reads out; and the few commands that start and stop reading.

A reader sends the code's text and ends it with CR, LF or both; many can put the AIM identifier (`]Q1` for a QR code,
ISO/IEC 15424) in front.  Usual lines: 9600 or 115200 baud, 8N1.  Nothing protects a line against noise, so a line that
looks damaged is dropped whole: half a ticket code is not a ticket code, and a card's number that lost a digit is
somebody else's.
"""

from __future__ import annotations

import re

import msgspec

MAX_LINE_BYTES = 512  # a version-40 QR code can hold more, but nothing that opens a gate does
GROUP_SEPARATOR = 0x1D  # the one control character that GS1 codes carry on purpose

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
