"""Ticket printers: a ticket's bytes in ESC/POS, a printer's status, and what a printed job contains.

Chinese goes out as GB18030 between `FS &` and `FS .`, spelled out around every run: a printer that was not told so
prints its default code page.  The QR code is drawn by the printer (`GS ( k`), in error correction level M, with
modules as large as the paper allows and at most one millimetre.  A print head has 8 dots a millimetre.

A printer that was switched off in the middle of a job loses it silently: ask for its status after the cut
(`status_request`), and only its answer says that the job is done.  Source: Epson's ESC/POS command reference; the
subset used here is the one that the common Chinese 58 mm and 80 mm printers have.
"""

from __future__ import annotations

import re
import unicodedata
from enum import IntEnum

import msgspec

from protocols.errors import PrinterError

CHARACTER_DOTS = 12  # a column: Latin letters are one wide, Chinese characters two
QR_MODULE_DOTS_MIN = 4  # 0.5 mm: below that gate readers begin to miss codes on thermal paper
QR_MODULE_DOTS_MAX = 8  # 1 mm: larger only wastes paper
QR_QUIET_MODULES = 4  # ISO/IEC 18004: white around the symbol, on each side
# Bytes that fit into versions 1, 2, … at error correction M in byte mode (ISO/IEC 18004, table 7). Printers differ in
# whether they pack base45 more tightly, so room is planned for those that do not.
QR_BYTES_AT_M = (14, 26, 42, 62, 84, 106, 122, 152, 180, 213, 251, 287, 331)
JOB_COMMAND_BYTES_MAX = 8 * 1024  # the longest command that a job may contain

INIT = b"\x1b@"
CHINESE_ON = b"\x1c&"
CHINESE_OFF = b"\x1c."
CUT = b"\x1dV\x42\x00"  # feed to the cutter, cut all but one point
LINE = b"\n"

_RUNS = re.compile(r"[\x20-\x7e]+|[^\x20-\x7e]+")


class Paper(msgspec.Struct, frozen=True):
    """A roll: how many dots the head prints across it."""

    dots: int

    @property
    def columns(self) -> int:
        return self.dots // CHARACTER_DOTS


PAPER_58MM = Paper(384)
PAPER_80MM = Paper(576)


class Align(IntEnum):
    LEFT = 0
    CENTRE = 1
    RIGHT = 2


class TicketText(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on a ticket. `valid_from` and `valid_to` are texts in the site's own time zone."""

    site_zh: str
    site_en: str
    product_zh: str
    product_en: str
    price_cents: int
    pax: int
    valid_from: str
    valid_to: str
    order: str
    code: str  # what the QR carries

    def __repr__(self) -> str:  # the code opens a gate
        return f"TicketText(order={self.order!r}, product={self.product_en!r})"


def ticket(text: TicketText, paper: Paper = PAPER_80MM) -> bytes:
    """A whole ticket, from initialising to the cut. Raises PrinterError when the code is empty or too long."""
    rule = text_bytes("-" * paper.columns) + LINE
    parts = [INIT, align(Align.CENTRE), _title(text.site_zh, paper)]
    if text.site_en:
        parts += [text_bytes(text.site_en), LINE]
    parts += [rule, bold(True), _title(text.product_zh, paper), bold(False)]
    if text.product_en:
        parts += [text_bytes(text.product_en), LINE]
    parts += [
        align(Align.LEFT),
        _row("人数 Persons", str(text.pax), paper),
        _row("票价 Price", f"￥{text.price_cents // 100}.{text.price_cents % 100:02d}", paper),
        _row("有效期自 From", text.valid_from, paper),
        _row("有效期至 Until", text.valid_to, paper),
        _row("订单 Order", text.order, paper),
        align(Align.CENTRE),
        LINE,
        qr(text.code, paper),
        text_bytes("请在闸机扫码入园"),
        LINE,
        text_bytes("Scan this code at the gate"),
        LINE,
        feed(1),
        CUT,
    ]
    return b"".join(parts)


def text_bytes(text: str) -> bytes:
    """Text in one line: ASCII as it is, everything else as GB18030 in Chinese mode.

    Control characters become spaces, so that no text can smuggle a command in; characters outside the two-byte part
    of GB18030 (emoji, rare ones), which common printers lack, become question marks.
    """
    runs: list[str] = _RUNS.findall("".join(map(_printable, text)))
    return b"".join(
        run.encode("ascii") if run[0] <= "~" else CHINESE_ON + run.encode("gb18030") + CHINESE_OFF for run in runs
    )


def width(text: str) -> int:
    """Columns that a text takes at normal size."""
    return sum(1 if _printable(character) <= "~" else 2 for character in text)


def align(side: Align) -> bytes:
    return b"\x1ba" + bytes((side,))


def bold(on: bool) -> bytes:
    return b"\x1bE" + bytes((on,))


def size(across: int, down: int) -> bytes:
    """Enlarge characters 1 to 8 times in each direction. Raises PrinterError."""
    if not (1 <= across <= 8 and 1 <= down <= 8):
        raise PrinterError(f"size {across} by {down}; 1 to 8 are possible")
    return b"\x1d!" + bytes((across - 1 << 4 | down - 1,))


def feed(lines: int) -> bytes:
    """Print what is in the line buffer and move the paper on. Raises PrinterError."""
    if not 0 <= lines <= 255:
        raise PrinterError(f"{lines} lines; 0 to 255 are possible")
    return b"\x1bd" + bytes((lines,))


def qr(code: str, paper: Paper = PAPER_80MM) -> bytes:
    """A QR code drawn by the printer. Raises PrinterError when the code is empty or too long for the paper."""
    return qr_symbol(code, qr_module_dots(len(_qr_data(code)), paper)) + LINE


def qr_symbol(code: str, module_dots: int) -> bytes:
    """A QR code drawn by the printer, with modules of this size, in the line or at the place. Raises PrinterError."""
    data = _qr_data(code)
    if not data or len(data) > QR_BYTES_AT_M[-1] or not 1 <= module_dots <= 16:
        raise PrinterError(f"a code of {len(data)} bytes cannot be printed with modules of {module_dots} dots")
    return b"".join(
        (
            _qr_command(0x41, b"2\x00"),  # model 2
            _qr_command(0x43, bytes((module_dots,))),
            _qr_command(0x45, b"1"),  # error correction M
            _qr_command(0x50, b"0" + data),
            _qr_command(0x51, b"0"),
        )
    )


def qr_modules(code: str) -> int:
    """Modules on a side of the largest symbol that the code can become, without its quiet zone. Raises PrinterError."""
    length = len(_qr_data(code))
    for version, capacity in enumerate(QR_BYTES_AT_M, start=1):
        if 1 <= length <= capacity:
            return 17 + 4 * version
    raise PrinterError(f"a code of {length} bytes cannot be printed")


def _qr_data(code: str) -> bytes:
    try:
        return code.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise PrinterError("the code is not text") from exc


def qr_module_dots(code_bytes: int, paper: Paper) -> int:
    """Dots of a module's side, so that the symbol and its quiet zone fit the paper. Raises PrinterError."""
    if code_bytes < 1:
        raise PrinterError("there is no code to print")
    for version, capacity in enumerate(QR_BYTES_AT_M, start=1):
        if code_bytes <= capacity:
            modules = 17 + 4 * version + 2 * QR_QUIET_MODULES
            dots = min(paper.dots // modules, QR_MODULE_DOTS_MAX)
            if dots >= QR_MODULE_DOTS_MIN:
                return dots
            break
    raise PrinterError(f"a code of {code_bytes} bytes cannot be printed readably on {paper.dots} dots")


def _qr_command(function: int, parameters: bytes) -> bytes:
    body = bytes((0x31, function)) + parameters
    return b"\x1d(k" + len(body).to_bytes(2, "little") + body


def _title(text: str, paper: Paper) -> bytes:
    """A line twice as high, and twice as wide where that fits."""
    across = 2 if 2 * width(text) <= paper.columns else 1
    return size(across, 2) + text_bytes(text) + LINE + size(1, 1)


def _row(label: str, value: str, paper: Paper) -> bytes:
    """Label at the left, value at the right, in one line where they fit."""
    gap = paper.columns - width(label) - width(value)
    if gap < 1:
        return text_bytes(label) + LINE + text_bytes("  " + value) + LINE
    return text_bytes(label + " " * gap + value) + LINE


def _printable(character: str) -> str:
    if character == "¥":  # the half-width yen sign is not in the two-byte part, the full-width one is
        return "￥"
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
        return " "
    if character <= "~":
        return character
    return character if len(character.encode("gb18030", "replace")) == 2 else "?"


# --- status -------------------------------------------------------------------------------------------------------


class StatusKind(IntEnum):
    """The n of `DLE EOT n`: what is asked. Each is answered by one byte."""

    PRINTER = 1
    OFFLINE_CAUSE = 2
    ERROR_CAUSE = 3
    PAPER = 4


class PrinterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a printer said; None is what it was not asked yet."""

    online: bool | None = None
    cover_open: bool | None = None
    paper_near_end: bool | None = None
    paper_end: bool | None = None
    error: bool | None = None

    @property
    def ready(self) -> bool:
        """It said that it is online, and nothing against printing."""
        return self.online is True and not (self.cover_open or self.paper_end or self.error)

    def combined(self, other: PrinterStatus) -> PrinterStatus:
        """Both answers of one round of questions: what either reports as bad is bad."""
        return PrinterStatus(
            online=_both(self.online, other.online),
            cover_open=_either(self.cover_open, other.cover_open),
            paper_near_end=_either(self.paper_near_end, other.paper_near_end),
            paper_end=_either(self.paper_end, other.paper_end),
            error=_either(self.error, other.error),
        )


def _both(one: bool | None, other: bool | None) -> bool | None:
    known = [value for value in (one, other) if value is not None]
    return all(known) if known else None


def _either(one: bool | None, other: bool | None) -> bool | None:
    known = [value for value in (one, other) if value is not None]
    return any(known) if known else None


def status_request(kind: StatusKind) -> bytes:
    """Ask; the printer answers at once, also in the middle of a job and also when it is offline."""
    return b"\x10\x04" + bytes((kind,))


def decode_status(kind: StatusKind, answer: int) -> PrinterStatus:
    """The byte that answers `status_request(kind)`. Raises PrinterError for a byte that answers nothing."""
    if answer & 0x93 != 0x12:  # bits 1 and 4 are set, 0 and 7 are clear in every answer
        raise PrinterError(f"{answer:#04x} is not the answer to a status request")
    if kind is StatusKind.PRINTER:
        return PrinterStatus(online=not answer & 0x08)
    if kind is StatusKind.OFFLINE_CAUSE:
        return PrinterStatus(cover_open=bool(answer & 0x04), paper_end=bool(answer & 0x20), error=bool(answer & 0x40))
    if kind is StatusKind.ERROR_CAUSE:
        return PrinterStatus(error=bool(answer & 0x6C))
    return PrinterStatus(paper_near_end=bool(answer & 0x0C), paper_end=bool(answer & 0x60))


def sequence_request() -> bytes:
    """`GS r 1`: ask for the paper, in the order of the job: it is answered when everything before it is printed.

    Printers that do not know it say nothing, and may print an `r`.
    """
    return b"\x1dr\x01"


def decode_sequence(answer: int) -> PrinterStatus:
    """The byte that answers `sequence_request`. Raises PrinterError for a byte that does not."""
    if answer & 0x90:  # bits 4 and 7 are clear, unlike in every answer to `status_request`
        raise PrinterError(f"{answer:#04x} is not the answer to a request in sequence")
    return PrinterStatus(paper_near_end=bool(answer & 0x03), paper_end=bool(answer & 0x0C))


def encode_sequence(status: PrinterStatus) -> bytes:
    """The printer's side: one byte."""
    near = status.paper_near_end or status.paper_end
    return bytes(((0x03 if near else 0) | (0x0C if status.paper_end else 0),))


def encode_status(kind: StatusKind, status: PrinterStatus) -> bytes:
    """The printer's side: one byte."""
    answer = 0x12
    if kind is StatusKind.PRINTER:
        answer |= 0 if status.online else 0x08
    elif kind is StatusKind.OFFLINE_CAUSE:
        answer |= (0x04 if status.cover_open else 0) | (0x20 if status.paper_end else 0) | (0x40 if status.error else 0)
    elif kind is StatusKind.ERROR_CAUSE:
        answer |= 0x08 if status.error else 0
    else:
        answer |= (0x0C if status.paper_near_end or status.paper_end else 0) | (0x60 if status.paper_end else 0)
    return bytes((answer,))


# --- a printer's view of a job ------------------------------------------------------------------------------------


class QrPrinted(msgspec.Struct, frozen=True):
    """A QR code was drawn."""

    text: str

    def __repr__(self) -> str:
        return f"QrPrinted({len(self.text)} characters)"


class StatusAsked(msgspec.Struct, frozen=True):
    kind: StatusKind


class SequenceAsked(msgspec.Struct, frozen=True):
    """`GS r`: what stands before it has been printed."""


class PaperCut(msgspec.Struct, frozen=True):
    """A ticket is out: cut off, or fed to the next mark of its stock."""


JobEvent = QrPrinted | StatusAsked | SequenceAsked | PaperCut

# How many bytes of parameters follow a command, for the commands that have a fixed number of them.
_PARAMETERS = {
    b"\x1b@": 0,
    b"\x1b2": 0,
    **{b"\x1b" + bytes((letter,)): 1 for letter in b"adEJtMG3-!R{ "},
    b"\x1c&": 0,
    b"\x1c.": 0,
    b"\x1d!": 1,
    b"\x1dB": 1,
    b"\x10\x04": 1,
    b"\x1dr": 1,
    b"\x1bL": 0,  # page mode, its area, its direction, places in it
    b"\x1bW": 8,
    b"\x1bT": 1,
    b"\x1b$": 2,
    b"\x1d$": 2,
    b"\x1d\x0c": 0,  # to the next mark
}


class JobParser:
    """What the simulated printer understands: codes, cuts and status requests, from a stream in any pieces.

    Strict: a command that is not in its list raises PrinterError, because after it nothing can be trusted to be text;
    `reset` starts anew.  Holds at most one unfinished command.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._stored = b""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a command that has not ended yet."""
        return len(self._buffer)

    def reset(self) -> None:
        self._buffer = self._stored = b""

    def feed(self, data: bytes) -> list[JobEvent]:
        """What happened. Raises PrinterError."""
        buffer, self._buffer = self._buffer + data, b""
        events: list[JobEvent] = []
        position = 0
        while position < len(buffer):
            length = _command_length(buffer, position)
            if length is None:
                break
            if (event := self._execute(buffer[position : position + length])) is not None:
                events.append(event)
            position += length
        self._buffer = buffer[position:]
        return events

    def _execute(self, command: bytes) -> JobEvent | None:
        if command.startswith((b"\x1dV", b"\x1d\x0c")):
            return PaperCut()
        if command.startswith(b"\x1dr"):
            return SequenceAsked()
        if command.startswith(b"\x10\x04"):
            try:
                return StatusAsked(StatusKind(command[2]))
            except ValueError as exc:
                raise PrinterError(f"status {command[2]} cannot be asked") from exc
        if command.startswith(b"\x1b@"):
            self._stored = b""
        if command.startswith(b"\x1d(k"):
            function, parameters = command[6], command[7:]
            if function == 0x50:
                self._stored = parameters[1:]
            elif function == 0x51:
                try:
                    return QrPrinted(self._stored.decode("utf-8"))
                except UnicodeDecodeError as exc:
                    raise PrinterError("the code is not text") from exc
            elif function not in (0x41, 0x43, 0x45):
                raise PrinterError(f"QR function {function} is not known")
        return None


def _command_length(buffer: bytes, position: int) -> int | None:
    """Bytes of the command or the character at `position`; None while it is not complete. Raises PrinterError."""
    first = buffer[position]
    if first not in (0x10, 0x1B, 0x1C, 0x1D):
        if first >= 0x20 or first in (0x0A, 0x0C, 0x0D):
            return 1
        raise PrinterError(f"control character {first:#04x} is not known")
    if len(buffer) - position < 2:
        return None
    name = buffer[position : position + 2]
    left = len(buffer) - position
    if name in _PARAMETERS:
        length = 2 + _PARAMETERS[name]
    elif name == b"\x1dV":
        if left < 3:
            return None
        length = 4 if buffer[position + 2] in (0x41, 0x42) else 3
    elif name == b"\x1d(":
        if left < 6:
            return None
        body = int.from_bytes(buffer[position + 3 : position + 5], "little")
        if buffer[position + 2] != ord("k") or buffer[position + 5] != 0x31 or not 3 <= body <= JOB_COMMAND_BYTES_MAX:
            raise PrinterError("not a QR command")
        length = 5 + body
    else:
        raise PrinterError(f"command {name.hex()} is not known")
    return length if left >= length else None


def qr_payloads(job: bytes) -> list[str]:
    """The texts of all QR codes of a job, in order. Raises PrinterError for a job that we would not print."""
    return [event.text for event in JobParser().feed(job) if isinstance(event, QrPrinted)]
