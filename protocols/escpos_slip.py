"""A slip in ESC/POS: line by line on a roll, or by places on a form in page mode.

On a form (stock that was printed in colour before) everything is collected in page mode (`ESC L`, area `ESC W`, places
`ESC $` and `GS $`) and printed at once (`FF`); then the stock is fed to its next mark (`GS FF`) or cut.  Epson's
reference counts a place from the lower edge of characters and symbols (`page_reference`).
"""

from __future__ import annotations

from protocols import escpos
from protocols.errors import PrinterError
from protocols.escpos import (
    CHARACTER_DOTS,
    CUT,
    INIT,
    LINE,
    QR_MODULE_DOTS_MAX,
    QR_MODULE_DOTS_MIN,
    QR_QUIET_MODULES,
    Align,
    bold,
    feed,
    size,
    text_bytes,
    width,
)
from protocols.slip import Item, Language, Slip, Template, check_template, papers

CHARACTER_HEIGHT_DOTS = 24
JOB_BYTES_MAX = 256 * 1024
PAGE = b"\x1bL"
PAGE_PRINT = b"\x0c"  # print what page mode has collected, and leave it
TO_MARK = b"\x1d\x0c"
UPRIGHT = b"\x1bT\x00"
ELLIPSIS = "…"

_ALIGN = {"left": Align.LEFT, "centre": Align.CENTRE, "right": Align.RIGHT}


def render_escpos(template: Template, slip: Slip) -> bytes:
    """The whole job. Raises PrinterError when a template or a slip cannot be printed as it is."""
    if template.language is not Language.ESCPOS:
        raise PrinterError(f"{template.name} is a template for {template.language}")
    check_template(template)
    job = bytearray()
    for paper in papers(template, slip):
        job += _form(template, paper.items) if template.placed else _flow(template, paper.items)
        if len(job) > JOB_BYTES_MAX:
            raise PrinterError(f"the job has more than {JOB_BYTES_MAX} bytes")
    return bytes(job)


def wrapped(text: str, columns: int) -> list[str]:
    """The text in lines that fit, broken at spaces where there are any, otherwise between characters."""
    lines: list[str] = []
    rest = text
    while width(rest) > columns:
        taken, used = 0, 0
        while taken < len(rest) and used + width(rest[taken]) <= columns:
            used += width(rest[taken])
            taken += 1
        space = rest.rfind(" ", 1, taken + 1)
        at = space if space > 0 and rest[taken : taken + 1].isascii() else max(taken, 1)
        lines.append(rest[:at].rstrip(" "))
        rest = rest[at:].lstrip(" ")
    return [*lines, rest]


def cut_off(text: str, columns: int) -> str:
    """The text as far as it fits, with an ellipsis where it does not."""
    if width(text) <= columns:
        return text
    kept = ""
    for character in text:
        if width(kept + character) > columns - width(ELLIPSIS):
            break
        kept += character
    return kept + ELLIPSIS if columns >= width(ELLIPSIS) else kept


# --- on a roll ----------------------------------------------------------------------------------------------------


def _flow(template: Template, items: list[Item]) -> bytes:
    parts = [INIT, *(_flowing(item, template.width) for item in items)]
    if template.end == "cut":
        parts += [feed(1), CUT]
    elif template.end == "mark":
        parts.append(TO_MARK)
    return b"".join(parts)


def _flowing(item: Item, dots: int) -> bytes:
    columns = dots // CHARACTER_DOTS
    if item.type == "feed":
        return feed(item.lines)
    if item.type == "rule":
        return escpos.align(Align.LEFT) + text_bytes("-" * columns) + LINE
    if item.type == "qr":
        modules = escpos.qr_modules(item.text) + 2 * QR_QUIET_MODULES
        return escpos.align(_ALIGN[item.align]) + escpos.qr_symbol(item.text, _module(item, dots // modules)) + LINE
    across = item.across if item.type == "row" or item.across * width(item.text) <= columns else 1
    across = min(across, columns // 2)  # a Chinese character has to fit
    room = columns // across
    before = [size(across, item.down)] if (across, item.down) != (1, 1) else []
    after = [size(1, 1)] if before else []
    if item.bold:
        before, after = [bold(True), *before], [*after, bold(False)]
    if item.type == "row":
        gap = room - width(item.label) - width(item.text)
        if gap > 0:
            line = text_bytes(item.label + " " * gap + item.text)
            return b"".join([escpos.align(Align.LEFT), *before, line, *after, LINE])
        lines = [(Align.LEFT, line) for line in wrapped(item.label, room)]
        lines += [(Align.RIGHT, line) for line in wrapped(item.text, room)]
    else:
        lines = [(_ALIGN[item.align], line) for line in wrapped(item.text, room)]
    return b"".join(
        b"".join([escpos.align(side), *before, text_bytes(line), *after, LINE]) for side, line in lines if line
    )


def _module(item: Item, most: int) -> int:
    """Dots of a QR module's side. Raises PrinterError where a reader would miss the code."""
    dots = min(most, item.module or QR_MODULE_DOTS_MAX)
    if dots < QR_MODULE_DOTS_MIN:
        raise PrinterError(f"there is no room for a readable QR code of {len(item.text)} characters")
    return dots


# --- on a form ----------------------------------------------------------------------------------------------------


def _form(template: Template, items: list[Item]) -> bytes:
    area = b"".join(value.to_bytes(2, "little") for value in (0, 0, template.width, template.height))
    parts = [INIT, PAGE, b"\x1bW" + area, UPRIGHT]
    parts += [*(_placed(item, template) for item in items), PAGE_PRINT]
    if template.end == "cut":
        parts.append(CUT)
    elif template.end == "mark":
        parts.append(TO_MARK)
    return b"".join(parts)


def _placed(item: Item, template: Template) -> bytes:
    room = item.width or template.width - item.x
    if item.type == "qr":
        modules = escpos.qr_modules(item.text)
        dots = _module(item, min(room, template.height - item.y) // (modules + 2 * QR_QUIET_MODULES))
        quiet, side = QR_QUIET_MODULES * dots, modules * dots
        at = _at(template, item.x + quiet, item.y + quiet, side)
        return at + escpos.qr_symbol(item.text, dots)
    columns = room // CHARACTER_DOTS
    if item.type == "rule":
        return _at(template, item.x, item.y, CHARACTER_HEIGHT_DOTS) + text_bytes("-" * columns)
    columns //= item.across
    line = cut_off(item.text, columns)
    used = width(line) * CHARACTER_DOTS * item.across
    shift = {"left": 0, "centre": (room - used) // 2, "right": room - used}[item.align]
    parts = [_at(template, item.x + shift, item.y, CHARACTER_HEIGHT_DOTS * item.down)]
    if item.bold:
        parts.append(bold(True))
    parts += [size(item.across, item.down), text_bytes(line), size(1, 1)]
    if item.bold:
        parts.append(bold(False))
    return b"".join(parts)


def _at(template: Template, x: int, y: int, height: int) -> bytes:
    """Go to where something `height` dots high has its upper left corner at x, y. Raises PrinterError."""
    if y + height > template.height:
        raise PrinterError(f"{template.name}: something at {x}, {y} goes over the lower edge of the form")
    down = y + height if template.page_reference == "bottom" else y
    return b"\x1d$" + down.to_bytes(2, "little") + b"\x1b$" + x.to_bytes(2, "little")
