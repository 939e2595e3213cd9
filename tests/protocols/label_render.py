"""Two strict label printers for tests: interpret the subsets of ZPL and TSPL by themselves and draw the labels.

They share no code with `protocols.label`.  What they do not know raises; so does whatever is not on the label.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import qrcode
from PIL import Image, ImageDraw, ImageFont
from qrcode.constants import ERROR_CORRECT_M

FONT = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")
TSPL_FONTS = {"1": (8, 12), "2": (12, 20), "3": (16, 24), "4": (24, 32), "5": (32, 48)}


class UnknownCommand(Exception):
    """The printer was sent something that a strict printer does not know."""


class OffTheLabel(Exception):
    """Something is not wholly on the label, or over something else."""


class Label:
    """A picture, its plain texts, and the pictures that were put on it: (x, y, picture)."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("L", (width, height), 255)
        self.texts: list[str] = []
        self.bitmaps: list[tuple[int, int, Image.Image]] = []

    def put(self, x: int, y: int, picture: Image.Image) -> None:
        box = (x, y, x + picture.width, y + picture.height)
        if x < 0 or y < 0 or box[2] > self.image.width or box[3] > self.image.height:
            raise OffTheLabel(f"{box} on {self.image.size}")
        if self.image.crop(box).getextrema()[0] < 255:
            raise OffTheLabel(f"something is printed over something else at {box}")
        self.image.paste(picture, (x, y))

    def text(self, x: int, y: int, text: str, width: int, height: int) -> None:
        """Plain text, each character in a cell of `width`."""
        font = _font(max(6, height * 3 // 4))
        picture = Image.new("L", (max(1, width * len(text)), height), 255)
        for place, character in enumerate(text):
            ImageDraw.Draw(picture).text((place * width, 0), character, font=font, fill=0)
        self.put(x, y, picture)
        self.texts.append(text)

    def qr(self, x: int, y: int, text: str, module: int) -> None:
        self.put(x, y, _symbol(text, module))

    def bitmap(self, x: int, y: int, row_bytes: int, height: int, data: bytes, *, black: int) -> None:
        if len(data) != row_bytes * height:
            raise UnknownCommand(f"{len(data)} bytes for {row_bytes} by {height}")
        bits = data if black == 0 else bytes(octet ^ 255 for octet in data)
        picture = Image.frombytes("1", (row_bytes * 8, height), bits).convert("L")
        # rows end at whole bytes: what fills the last one may lie beyond the edge, as long as it is white
        inside = min(picture.width, self.image.width - x)
        beyond = picture.crop((inside, 0, picture.width, height))
        if beyond.width and beyond.getextrema()[0] < 255:
            raise OffTheLabel("black dots beyond the edge")
        picture = picture.crop((0, 0, inside, height))
        self.put(x, y, picture)
        self.bitmaps.append((x, y, picture))


@cache
def _symbol(text: str, module: int) -> Image.Image:
    code = qrcode.QRCode(box_size=module, border=0, error_correction=ERROR_CORRECT_M)
    code.add_data(qrcode.util.QRData(text.encode(), mode=qrcode.util.MODE_8BIT_BYTE))
    code.make(fit=True)
    return code.make_image().get_image().convert("L")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT), size)


def render_zpl(job: bytes) -> list[Label]:
    """The labels of a job."""
    text = job.decode("ascii")
    labels: list[Label] = []
    for body in re.findall(r"\^XA(.*?)\^XZ\n", text, re.DOTALL):
        labels.append(_zpl(body))
    if re.sub(r"\^XA.*?\^XZ\n", "", text, flags=re.DOTALL):
        raise UnknownCommand("something between the labels")
    return labels


def _zpl(body: str) -> Label:
    head = re.match(r"\^CI28\^PW(\d+)\^LL(\d+)\^LH0,0", body)
    if head is None or not body.endswith("^PQ1,0,1,Y"):
        raise UnknownCommand(body[:40])
    label = Label(int(head[1]), int(head[2]))
    for field in body[head.end() : -len("^PQ1,0,1,Y")].split("^FS")[:-1]:
        at = re.match(r"\^FO(\d+),(\d+)(.*)$", field, re.DOTALL)
        if at is None:
            raise UnknownCommand(field[:40])
        x, y, rest = int(at[1]), int(at[2]), at[3]
        if box := re.fullmatch(r"\^GB(\d+),(\d+),(\d+)", rest):
            label.put(x, y, Image.new("L", (int(box[1]), int(box[2])), 0))
        elif code := re.fullmatch(r"\^BQN,2,(\d+),M\^FH_\^FDMA,(.*)", rest):
            label.qr(x, y, _unescaped(code[2]), int(code[1]))
        elif words := re.fullmatch(r"\^A0N,(\d+),(\d+)\^FB(\d+),1,0,([LCR])\^FH_\^FD(.*)", rest):
            content, room, height = _unescaped(words[5]), int(words[3]), int(words[1])
            cell = min(height // 2, room // max(1, len(content)))
            shift = {"L": 0, "C": (room - cell * len(content)) // 2, "R": room - cell * len(content)}[words[4]]
            label.text(x + shift, y, content, cell, height)
        elif graphic := re.fullmatch(r"\^GFA,(\d+),(\d+),(\d+),([0-9A-F]*)", rest):
            data = bytes.fromhex(graphic[4])
            if not int(graphic[1]) == int(graphic[2]) == len(data):
                raise UnknownCommand("a picture whose size is wrong")
            label.bitmap(x, y, int(graphic[3]), len(data) // int(graphic[3]), data, black=1)
        else:
            raise UnknownCommand(rest[:40])
    return label


def _unescaped(text: str) -> str:
    if re.search(r"[\^~]", text):
        raise UnknownCommand("a command inside of data")
    data = re.sub(rb"_([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())
    return data.decode()


def render_tspl(job: bytes) -> list[Label]:
    """The labels of a job."""
    labels: list[Label] = []
    label: Label | None = None
    position = 0
    while position < len(job):
        if job.startswith(b"BITMAP ", position):
            found = re.compile(rb"BITMAP (\d+),(\d+),(\d+),(\d+),0,").match(job, position)
            if found is None or label is None:
                raise UnknownCommand("BITMAP")
            x, y, row_bytes, height = map(int, found.groups())
            end = found.end() + row_bytes * height
            label.bitmap(x, y, row_bytes, height, job[found.end() : end], black=0)
            if job[end : end + 2] != b"\r\n":
                raise UnknownCommand("a picture that does not end")
            position = end + 2
            continue
        end = job.index(b"\r\n", position)
        line, position = job[position:end].decode("ascii"), end + 2
        if size := re.fullmatch(r"SIZE ([\d.]+) mm,([\d.]+) mm", line):
            label = Label(round(float(size[1]) * 8), round(float(size[2]) * 8))
        elif re.fullmatch(r"(GAP|BLINE) [\d.]+ mm,0|DIRECTION 1|CLS|SET CUTTER 1", line):
            pass
        elif label is None:
            raise UnknownCommand(line)
        elif bar := re.fullmatch(r"BAR (\d+),(\d+),(\d+),(\d+)", line):
            label.put(int(bar[1]), int(bar[2]), Image.new("L", (int(bar[3]), int(bar[4])), 0))
        elif code := re.fullmatch(r'QRCODE (\d+),(\d+),M,(\d+),A,0,"(.*)"', line):
            label.qr(int(code[1]), int(code[2]), _quoted(code[4]), int(code[3]))
        elif words := re.fullmatch(r'TEXT (\d+),(\d+),"([1-5])",0,1,1,"(.*)"', line):
            width, height = TSPL_FONTS[words[3]]
            label.text(int(words[1]), int(words[2]), _quoted(words[4]), width, height)
        elif line == "PRINT 1,1":
            labels.append(label)
            label = None
        else:
            raise UnknownCommand(line)
    if label is not None:
        raise UnknownCommand("a label that is not printed")
    return labels


def _quoted(text: str) -> str:
    if '"' in text.replace('\\["]', ""):
        raise UnknownCommand("a quote inside of data")
    return text.replace('\\["]', '"')
