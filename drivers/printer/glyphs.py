"""Chinese for printers whose language has none: text drawn with a font of the system."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from protocols.errors import PrinterError
from protocols.slip import FILLED_MAX, Bitmap

FONTS = (  # where Debian puts fonts that have Chinese
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
)
HEIGHT_MAX = 240  # dots
KEPT_MAX = 64  # pictures that are kept: names of site and products come again and again
BLACK_BELOW = 128  # a dot is black or not; there is no grey on paper


class FontGlyphs:
    """`protocols.slip.Glyphs` with one font. The file is read at the first text that needs it.

    `path` empty: the first of `FONTS` that is there.  `draw` raises PrinterError when there is no such font.
    """

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._fonts: dict[int, ImageFont.FreeTypeFont] = {}
        self._kept: OrderedDict[tuple[str, int, bool], Bitmap] = OrderedDict()

    def draw(self, text: str, height: int, *, bold: bool = False) -> Bitmap:
        """One line, `height` dots high, as wide as it needs. Raises PrinterError."""
        if not 1 <= height <= HEIGHT_MAX or not text or len(text) > FILLED_MAX:
            raise PrinterError(f"a text is 1 to {HEIGHT_MAX} dots high and has 1 to {FILLED_MAX} characters")
        key = (text, height, bold)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        bitmap = self._kept[key] = self._draw("".join(map(_printable, text)), height, bold)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return bitmap

    def _draw(self, text: str, height: int, bold: bool) -> Bitmap:
        font = self._font(height)
        stroke = 1 if bold else 0
        width = int(font.getlength(text)) + 1 + 2 * stroke
        image = Image.new("L", (width, height), 255)
        # the middle of the line, so that a character stands alike in every text
        ImageDraw.Draw(image).text((stroke, height / 2), text, font=font, fill=0, anchor="lm", stroke_width=stroke)
        black = image.point(lambda value: 255 if value < BLACK_BELOW else 0).convert("1")
        return Bitmap(width, height, black.tobytes())

    def _font(self, height: int) -> ImageFont.FreeTypeFont:
        if height not in self._fonts:
            path = self._path or next((path for path in FONTS if Path(path).exists()), "")
            if not path:
                raise PrinterError("no font with Chinese is installed, for one Debian's fonts-wqy-microhei")
            try:
                # a font's line is a little higher than its size
                self._fonts[height] = ImageFont.truetype(path, max(6, height * 5 // 6))
            except OSError as exc:
                raise PrinterError(f"the font {path} cannot be read: {exc}") from exc
        return self._fonts[height]


def _printable(character: str) -> str:
    return character if character.isprintable() and len(character.encode("utf-8", "replace")) < 5 else "?"
