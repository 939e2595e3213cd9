"""A strict paper printer for tests: interprets the ESC/POS subset by itself and draws the ticket.

It shares no code with `protocols.escpos`, so that a mistake there does not cancel itself out here.  A command that it
does not know raises: nothing is skipped silently.  Chinese needs the font of Debian's `fonts-wqy-microhei`; without
it characters are drawn as boxes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import qrcode
from PIL import Image, ImageDraw, ImageFont
from qrcode.constants import ERROR_CORRECT_H, ERROR_CORRECT_L, ERROR_CORRECT_M, ERROR_CORRECT_Q

FONT = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")
CELL_WIDTH = 12
CELL_HEIGHT = 24
LINE_HEIGHT = 30
MARGIN_HEIGHT = 20
HEIGHT_MAX = 4000
CORRECTION = {48: ERROR_CORRECT_L, 49: ERROR_CORRECT_M, 50: ERROR_CORRECT_Q, 51: ERROR_CORRECT_H}


class UnknownCommand(Exception):
    """The printer was sent something that a strict printer does not know."""


class PaperTooNarrow(Exception):
    """A symbol with its quiet zone is wider than the paper."""


class Ticket:
    """The result: the picture, the lines of text, how often the paper was cut, and where each character stands.

    `cells`: character, x and y of its upper left corner, enlargement across and down, bold.
    """

    def __init__(
        self, image: Image.Image, lines: list[str], cuts: int, cells: list[tuple[str, int, int, int, int, bool]]
    ) -> None:
        self.image = image
        self.lines = lines
        self.cuts = cuts
        self.cells = cells


def render(job: bytes, dots: int) -> Ticket:
    """Print `job` on paper that is `dots` wide."""
    head = _Head(dots)
    position = 0
    while position < len(job):
        position = head.step(job, position)
    if head.cells:
        raise UnknownCommand("text was left in the line buffer: it never comes out of a printer")
    if head.chinese:
        raise UnknownCommand("the printer was left in Chinese mode")
    if head.page is not None:
        raise UnknownCommand("the printer was left in page mode: nothing comes out")
    return Ticket(head.image.crop((0, 0, dots, head.y + MARGIN_HEIGHT)), head.lines, head.cuts, head.put_cells)


class _Head:
    def __init__(self, dots: int) -> None:
        self.dots = dots
        self.image = Image.new("L", (dots, HEIGHT_MAX), 255)
        self.draw = ImageDraw.Draw(self.image)
        self.y = MARGIN_HEIGHT
        self.lines: list[str] = []
        self.cuts = 0
        self.put_cells: list[tuple[str, int, int, int, int, bool]] = []
        self.reset()

    def reset(self) -> None:
        self.cells: list[tuple[str, int, int, bool]] = []
        self.align = 0
        self.bold = False
        self.across = self.down = 1
        self.chinese = False
        self.module = 3
        self.correction = 48
        self.stored = b""
        self.page: Image.Image | None = None
        self.place = self.next_place = (0, 0)

    def step(self, job: bytes, at: int) -> int:
        byte = job[at]
        if self.page is not None:
            return self.page_step(job, at)
        if byte == 0x0A:
            self.new_line()
            return at + 1
        if 0x20 <= byte < 0x7F:
            self.cells.append((chr(byte), self.across, self.down, self.bold))
            return at + 1
        if byte >= 0x81 and self.chinese:
            self.cells.append((job[at : at + 2].decode("gb18030"), self.across, self.down, self.bold))
            return at + 2
        command, argument = job[at : at + 2], job[at + 2] if at + 2 < len(job) else None
        if command == b"\x1b@":
            self.reset()
            return at + 2
        if command == b"\x10\x04" and argument in (1, 2, 3, 4):
            return at + 3  # DLE EOT, a question in real time: answered on the line, nothing on the paper
        if command in (b"\x1c&", b"\x1c."):
            self.chinese = command == b"\x1c&"
            return at + 2
        if command == b"\x1ba" and argument in (0, 1, 2):
            if self.cells:
                raise UnknownCommand("alignment changes at the beginning of a line only")
            self.align = argument
            return at + 3
        if command == b"\x1bE" and argument in (0, 1):
            self.bold = argument == 1
            return at + 3
        if command == b"\x1d!" and argument is not None and argument & 0x88 == 0:
            self.across, self.down = (argument >> 4) + 1, (argument & 7) + 1
            return at + 3
        if command == b"\x1bd" and argument is not None:
            if self.cells:
                self.new_line()
            self.y += LINE_HEIGHT * argument
            return at + 3
        if command == b"\x1bL":
            if self.cells:
                raise UnknownCommand("page mode begins at the beginning of a line only")
            self.page = Image.new("L", (self.dots, 0), 255)
            return at + 2
        if command == b"\x1d\x0c":
            if self.cells:
                raise UnknownCommand("to the mark in the middle of a line")
            self.cuts += 1
            return at + 2
        if command == b"\x1dr" and argument == 1:
            return at + 3  # GS r 1, answered on the line
        if job[at : at + 4] == b"\x1dV\x42\x00":
            if self.cells:
                raise UnknownCommand("a cut in the middle of a line")
            self.cuts += 1
            return at + 4
        if job[at : at + 3] == b"\x1d(k":
            length = job[at + 3] + 256 * job[at + 4]
            self.qr(job[at + 5 : at + 5 + length], length)
            return at + 5 + length
        raise UnknownCommand(f"at {at}: {job[at : at + 8].hex(' ')}")

    def page_step(self, job: bytes, at: int) -> int:
        """Page mode: things have places, whose lower edge counts, and come out all at once."""
        assert self.page is not None
        byte, command, argument = job[at], job[at : at + 2], job[at + 2] if at + 2 < len(job) else None
        if 0x20 <= byte < 0x7F:
            self.page_put(chr(byte))
            return at + 1
        if byte >= 0x81 and self.chinese:
            self.page_put(job[at : at + 2].decode("gb18030"))
            return at + 2
        if byte == 0x0C:
            self.image.paste(self.page, (0, self.y))
            self.y += self.page.height
            self.page = None
            return at + 1
        if command == b"\x1bW" and len(job) >= at + 10:
            x, y, width, height = (int.from_bytes(job[at + 2 + 2 * n : at + 4 + 2 * n], "little") for n in range(4))
            if (x, y) != (0, 0) or width > self.dots or self.page.height:
                raise PaperTooNarrow(f"an area of {width} by {height} at {x}, {y}")
            self.page = Image.new("L", (width, height), 255)
            return at + 10
        if command == b"\x1bT" and argument == 0:
            return at + 3
        if command in (b"\x1b$", b"\x1d$"):
            value = int.from_bytes(job[at + 2 : at + 4], "little")
            self.place = (value, self.place[1]) if command == b"\x1b$" else (self.place[0], value)
            return at + 4
        if command in (b"\x1c&", b"\x1c."):
            self.chinese = command == b"\x1c&"
            return at + 2
        if command == b"\x1bE" and argument in (0, 1):
            self.bold = argument == 1
            return at + 3
        if command == b"\x1d!" and argument is not None and argument & 0x88 == 0:
            self.across, self.down = (argument >> 4) + 1, (argument & 7) + 1
            return at + 3
        if job[at : at + 3] == b"\x1d(k":
            length = job[at + 3] + 256 * job[at + 4]
            self.qr(job[at + 5 : at + 5 + length], length)
            return at + 5 + length
        raise UnknownCommand(f"in page mode at {at}: {job[at : at + 8].hex(' ')}")

    def page_put(self, character: str) -> None:
        columns = 1 if character <= "~" else 2
        glyph = _glyph(character, columns, self.bold)
        glyph = glyph.resize((CELL_WIDTH * columns * self.across, CELL_HEIGHT * self.down))
        self.page_paste(glyph)
        top = self.y + self.place[1] - glyph.height  # where the page will come to be
        self.put_cells.append((character, self.place[0], top, self.across, self.down, self.bold))
        if not self.lines or self.lines[-1][:1] != "@" or self.next_place != self.place:
            self.lines.append(f"@{self.place[0]},{self.place[1]} ")
        self.lines[-1] += character
        self.place = self.next_place = (self.place[0] + glyph.width, self.place[1])

    def page_paste(self, picture: Image.Image) -> None:
        assert self.page is not None
        x, y = self.place[0], self.place[1] - picture.height
        if x < 0 or y < 0 or x + picture.width > self.page.width or self.place[1] > self.page.height:
            raise PaperTooNarrow(f"{picture.width} by {picture.height} dots above {self.place} are not on the form")
        if self.page.crop((x, y, x + picture.width, y + picture.height)).getextrema()[0] < 255:
            raise UnknownCommand(f"something is printed over something else at {self.place}")
        self.page.paste(picture, (x, y))

    def qr(self, body: bytes, length: int) -> None:
        if len(body) != length or body[0] != 49:
            raise UnknownCommand(f"GS ( k {body[:4].hex(' ')}")
        function, parameters = body[1], body[2:]
        if function == 65 and parameters == b"2\x00":
            pass
        elif function == 67 and len(parameters) == 1 and 1 <= parameters[0] <= 16:
            self.module = parameters[0]
        elif function == 69 and len(parameters) == 1 and parameters[0] in CORRECTION:
            self.correction = parameters[0]
        elif function == 80 and parameters[:1] == b"0":
            self.stored = parameters[1:]
        elif function == 81 and parameters == b"0":
            border = 4 if self.page is None else 0
            picture = _symbol(self.stored, self.module, border, CORRECTION[self.correction])
            if self.page is not None:
                self.page_paste(picture)
                return
            if picture.width > self.dots:
                raise PaperTooNarrow(f"{picture.width} dots on {self.dots}")
            self.image.paste(picture, (self.left(picture.width), self.y))
            self.y += picture.height
        else:
            raise UnknownCommand(f"QR function {function} {parameters[:4].hex(' ')}")

    def left(self, width: int) -> int:
        return (0, (self.dots - width) // 2, self.dots - width)[self.align]

    def new_line(self) -> None:
        if not self.cells:
            self.y += LINE_HEIGHT
            return
        row: list[tuple[str, int, int, bool]] = []
        width = 0
        for cell in self.cells:
            cell_width = CELL_WIDTH * cell[1] * (1 if cell[0] <= "~" else 2)
            if width + cell_width > self.dots:
                self.put(row, width)
                row, width = [], 0
            row.append(cell)
            width += cell_width
        self.put(row, width)
        self.cells = []

    def put(self, row: list[tuple[str, int, int, bool]], width: int) -> None:
        height = max(down for _, _, down, _ in row)
        x = self.left(width)
        for character, across, down, bold in row:
            columns = 1 if character <= "~" else 2
            glyph = _glyph(character, columns, bold).resize((CELL_WIDTH * columns * across, CELL_HEIGHT * down))
            self.image.paste(glyph, (x, self.y + CELL_HEIGHT * (height - down)))
            self.put_cells.append((character, x, self.y + CELL_HEIGHT * (height - down), across, down, bold))
            x += glyph.width
        self.lines.append("".join(character for character, *_ in row))
        self.y += CELL_HEIGHT * height + LINE_HEIGHT - CELL_HEIGHT


@cache
def _symbol(data: bytes, module: int, border: int, correction: int) -> Image.Image:
    # as a printer that only knows byte mode: the largest symbol that this text can become
    code = qrcode.QRCode(box_size=module, border=border, error_correction=correction)
    code.add_data(qrcode.util.QRData(data, mode=qrcode.util.MODE_8BIT_BYTE))
    code.make(fit=True)
    return code.make_image().get_image().convert("L")


@cache
def _font() -> ImageFont.FreeTypeFont | None:
    return ImageFont.truetype(str(FONT), CELL_HEIGHT - 4) if FONT.exists() else None


@cache
def _glyph(character: str, columns: int, bold: bool) -> Image.Image:
    """One character in its cell; the font's widest letters are squeezed, as a printer's own font is."""
    cell = (CELL_WIDTH * columns, CELL_HEIGHT)
    font = _font()
    advance = int(font.getlength(character) + 1) if font else 0
    glyph = Image.new("L", (max(cell[0], advance), CELL_HEIGHT), 255)
    draw = ImageDraw.Draw(glyph)
    if font:
        draw.text(((glyph.width - advance) / 2, 0), character, font=font, fill=0, stroke_width=1 if bold else 0)
    elif character != " ":
        draw.rectangle((2, 4, glyph.width - 3, CELL_HEIGHT - 4), outline=0, width=2 if bold else 1)
    return glyph.resize(cell)
