"""Label printers over raw TCP: a slip in ZPL or TSPL, and what the printer says of itself.

ZPL is Zebra's language, TSPL that of TSC and of most printers of its kind.  Neither has Chinese characters on every
printer, so every text that is not plain ASCII goes out as a picture, drawn by `Glyphs` with a font of ours.  Places
are the template's, in dots from the upper left corner of the label.

Status: ZPL `~HS` answers three lines between STX and ETX; TSPL `ESC ! ?` one byte.  Sources: Zebra's ZPL II and TSC's
TSPL2 programming guides.
"""

from __future__ import annotations

import re

import msgspec

from protocols.errors import PrinterError
from protocols.escpos import QR_MODULE_DOTS_MIN, QR_QUIET_MODULES, qr_modules
from protocols.slip import Bitmap, Glyphs, Item, Language, Slip, Template, check_template, papers

JOB_BYTES_MAX = 256 * 1024
MODULE_DOTS_MAX = 10  # of a QR code in both languages
RULE_DOTS = 3
DOTS_PER_MM = 8  # 203 dpi
STATUS_BYTES_MAX = 200  # of the longest answer
ZPL_STATUS_REQUEST = b"~HS"
TSPL_STATUS_REQUEST = b"\x1b!?"
# TSPL's own fonts: name -> (width, height) of a character in dots
TSPL_FONTS = {"1": (8, 12), "2": (12, 20), "3": (16, 24), "4": (24, 32), "5": (32, 48)}


class LabelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a label printer said. `pending` labels have not come out yet, of this job or another."""

    paper_out: bool = False
    ribbon_out: bool = False
    head_open: bool = False
    paused: bool = False
    jammed: bool = False
    error: bool = False
    pending: int = 0

    @property
    def ready(self) -> bool:
        """Nothing stands against printing."""
        return not (
            self.paper_out or self.ribbon_out or self.head_open or self.paused or self.jammed or self.error
        )

    @property
    def done(self) -> bool:
        """Ready, and everything has come out."""
        return self.ready and self.pending == 0


def render_label(template: Template, slip: Slip, glyphs: Glyphs | None = None) -> bytes:
    """The whole job: one label for each ticket. Raises PrinterError, also for Chinese without `glyphs`."""
    if template.language is Language.ESCPOS:
        raise PrinterError(f"{template.name} is a template for {template.language}")
    check_template(template)
    label = _zpl if template.language is Language.ZPL else _tspl
    job = bytearray()
    for paper in papers(template, slip):
        job += label(template, paper.items, glyphs)
        if len(job) > JOB_BYTES_MAX:
            raise PrinterError(f"the job has more than {JOB_BYTES_MAX} bytes")
    return bytes(job)


def _drawn(item: Item, glyphs: Glyphs | None, room: int) -> tuple[Bitmap, int]:
    """A text as a picture that fits, and how far it stands to the right of its place."""
    if glyphs is None:
        raise PrinterError("the label has Chinese, and there is no font to draw it with")
    bitmap = glyphs.draw(item.text, item.height, bold=item.bold)
    if bitmap.width > room:
        bitmap = _cropped(bitmap, room)
    shift = {"left": 0, "centre": (room - bitmap.width) // 2, "right": room - bitmap.width}[item.align]
    return bitmap, shift


def _cropped(bitmap: Bitmap, width: int) -> Bitmap:
    rows = range(bitmap.height)
    size, old = (width + 7) // 8, bitmap.row_bytes
    mask = (0xFF << (-width % 8)) & 0xFF
    data = b"".join(
        bitmap.data[row * old : row * old + size - 1] + bytes((bitmap.data[row * old + size - 1] & mask,))
        for row in rows
    )
    return Bitmap(width, bitmap.height, data)


def _room(item: Item, template: Template) -> int:
    return item.width or template.width - item.x


def _module(item: Item, template: Template) -> int:
    """Dots of a QR module's side, so that symbol and quiet zone fit. Raises PrinterError."""
    modules = qr_modules(item.text) + 2 * QR_QUIET_MODULES
    dots = min(_room(item, template), template.height - item.y) // modules
    dots = min(dots, item.module or MODULE_DOTS_MAX, MODULE_DOTS_MAX)
    if dots < QR_MODULE_DOTS_MIN:
        raise PrinterError(f"there is no room for a readable QR code of {len(item.text)} characters")
    return dots


def _plain(text: str) -> bool:
    return all(" " <= character <= "~" for character in text)


# --- ZPL ----------------------------------------------------------------------------------------------------------


def _zpl(template: Template, items: list[Item], glyphs: Glyphs | None) -> bytes:
    parts = ["^XA", "^CI28", f"^PW{template.width}", f"^LL{template.height}", "^LH0,0"]
    for item in items:
        room = _room(item, template)
        if item.type == "rule":
            parts.append(f"^FO{item.x},{item.y}^GB{room},{RULE_DOTS},{RULE_DOTS}^FS")
        elif item.type == "qr":
            dots = _module(item, template)
            quiet = QR_QUIET_MODULES * dots
            parts.append(f"^FO{item.x + quiet},{item.y + quiet}^BQN,2,{dots},M^FH_^FDMA,{_zpl_data(item.text)}^FS")
        elif _plain(item.text):
            side = {"left": "L", "centre": "C", "right": "R"}[item.align]
            font = f"^A0N,{item.height},{item.height * item.across // 2 if item.across > 1 else 0}"
            parts.append(f"^FO{item.x},{item.y}{font}^FB{room},1,0,{side}^FH_^FD{_zpl_data(item.text)}^FS")
        else:
            bitmap, shift = _drawn(item, glyphs, room)
            total = len(bitmap.data)
            graphic = f"^GFA,{total},{total},{bitmap.row_bytes},{bitmap.data.hex().upper()}"
            parts.append(f"^FO{item.x + shift},{item.y}{graphic}^FS")
    return "".join([*parts, "^PQ1,0,1,Y", "^XZ\n"]).encode("ascii")


def _zpl_data(text: str) -> str:
    """Text after `^FH_`: everything that is not a plain letter or digit as two hex digits of its UTF-8."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise PrinterError("the text is not text") from exc
    return "".join(chr(octet) if (octet < 128 and chr(octet).isalnum()) or octet in b" .:/-+" else f"_{octet:02X}"
                   for octet in data)  # fmt: skip


# --- TSPL ---------------------------------------------------------------------------------------------------------


def _tspl(template: Template, items: list[Item], glyphs: Glyphs | None) -> bytes:
    size = f"SIZE {template.width / DOTS_PER_MM:.2f} mm,{template.height / DOTS_PER_MM:.2f} mm"
    stock = f"BLINE {template.gap / DOTS_PER_MM:.2f} mm,0" if template.end == "mark" else (
        f"GAP {template.gap / DOTS_PER_MM:.2f} mm,0")  # fmt: skip
    parts: list[bytes] = [line.encode() for line in (size, stock, "DIRECTION 1", "CLS")]
    for item in items:
        room = _room(item, template)
        if item.type == "rule":
            parts.append(f"BAR {item.x},{item.y},{room},{RULE_DOTS}".encode())
        elif item.type == "qr":
            dots = _module(item, template)
            quiet = QR_QUIET_MODULES * dots
            place = f"{item.x + quiet},{item.y + quiet}"
            parts.append(f"QRCODE {place},M,{dots},A,0,{_tspl_text(item.text)}".encode())
        elif _plain(item.text):
            font, width = _tspl_font(item.height)
            text = item.text[: max(room // width, 1)]
            used = len(text) * width
            shift = {"left": 0, "centre": (room - used) // 2, "right": room - used}[item.align]
            parts.append(f'TEXT {item.x + shift},{item.y},"{font}",0,1,1,{_tspl_text(text)}'.encode())
        else:
            bitmap, shift = _drawn(item, glyphs, room)
            head = f"BITMAP {item.x + shift},{item.y},{bitmap.row_bytes},{bitmap.height},0,".encode()
            parts.append(head + bytes(octet ^ 0xFF for octet in bitmap.data))  # here 0 is black
    end = [b"PRINT 1,1"] if template.end != "cut" else [b"SET CUTTER 1", b"PRINT 1,1"]
    return b"\r\n".join([*parts, *end, b""])


def _tspl_font(height: int) -> tuple[str, int]:
    """The printer's font that comes nearest, without being higher unless all are: (name, width)."""
    name = max((name for name in TSPL_FONTS if TSPL_FONTS[name][1] <= height), default="1")
    return name, TSPL_FONTS[name][0]


def _tspl_text(text: str) -> str:
    """Between quotes. Raises PrinterError for what would end the command."""
    if not _plain(text):
        raise PrinterError("a code on a label is plain ASCII")
    return '"' + text.replace('"', '\\["]') + '"'


# --- status -------------------------------------------------------------------------------------------------------

_ZPL_LINE = re.compile(rb"\x02([^\x02\x03]{0,120})\x03\r?\n?")
_TSPL_BITS = ((0x01, "head_open"), (0x02, "jammed"), (0x04, "paper_out"), (0x08, "ribbon_out"), (0x10, "paused"))


def decode_zpl_status(data: bytes) -> LabelStatus | None:
    """The answer to `~HS`; None while it is not complete. Raises PrinterError for what is no such answer."""
    lines = [line.split(b",") for line in _ZPL_LINE.findall(data)]
    if len(lines) < 2:
        if len(data) > STATUS_BYTES_MAX:
            raise PrinterError("not the status of a ZPL printer")
        return None
    first, second = lines[0], lines[1]
    if len(first) != 12 or len(second) != 11:
        raise PrinterError("not the status of a ZPL printer")
    flags = [first[1], first[2], first[10], first[11], second[2], second[3]]
    if any(flag not in (b"0", b"1") for flag in flags):
        raise PrinterError("a flag of the status is neither 0 nor 1")
    paper_out, paused, cold, hot, head_open, ribbon_out = (flag == b"1" for flag in flags)
    pending = _number(first[4]) + _number(second[8])
    return LabelStatus(
        paper_out=paper_out,
        paused=paused and not (paper_out or head_open or ribbon_out),  # a printer in trouble pauses too
        head_open=head_open,
        ribbon_out=ribbon_out,
        error=cold or hot,
        pending=pending,
    )


def encode_zpl_status(status: LabelStatus) -> bytes:
    """The printer's side."""
    paused = int(status.paused or not status.ready)
    first = f"030,{int(status.paper_out)},{paused},0400,000,0,0,0,000,0,{int(status.error)},0"
    second = f"000,0,{int(status.head_open)},{int(status.ribbon_out)},0,2,4,0,{status.pending:08d},1,000"
    return b"".join(b"\x02" + line.encode() + b"\x03\r\n" for line in (first, second, "0000,0"))


def decode_tspl_status(data: bytes) -> LabelStatus | None:
    """The byte that answers `ESC ! ?`; None while there is none. Raises PrinterError for one that is no answer."""
    if not data:
        return None
    answer = data[-1]
    if answer == 0x80:
        return LabelStatus(error=True)
    if answer & 0xC0:
        raise PrinterError(f"{answer:#04x} is not the status of a TSPL printer")
    fields = {name: True for bit, name in _TSPL_BITS if answer & bit}
    return msgspec.convert({**fields, "pending": 1 if answer & 0x20 else 0}, LabelStatus)


def encode_tspl_status(status: LabelStatus) -> bytes:
    """The printer's side: one byte."""
    if status.error:
        return b"\x80"
    answer = sum(bit for bit, name in _TSPL_BITS if getattr(status, name))
    return bytes((answer | (0x20 if status.pending else 0),))


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 8:
        raise PrinterError("a count of the status is no number")
    return int(digits)
