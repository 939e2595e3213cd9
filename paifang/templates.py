"""Ticket templates: TOML files, ours and the site's own, and the one function that turns a slip into bytes.

A site names a template by the name of one of ours (`plain-80`) or by the path of a file.  Every mistake in a file is
said with the file, the item and what is allowed, before anything is printed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from protocols.errors import PrinterError
from protocols.escpos_slip import render_escpos
from protocols.label import render_label
from protocols.slip import Glyphs, Language, Slip, Template, check_template

FOLDER = Path(__file__).parent / "ticket_templates"
FILE_BYTES_MAX = 64 * 1024
SUFFIX = ".toml"


class TemplateError(ValueError):
    """A template cannot be used; the words say which file, what is wrong, and what is allowed."""


def template_names() -> list[str]:
    """Names of the templates that come with Paifang."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def load_template(name_or_path: str, folder: Path | None = None) -> Template:
    """A template of ours by name, or a file by its path (relative to `folder`). Raises TemplateError."""
    if name_or_path.endswith(SUFFIX) or "/" in name_or_path:
        path = (folder or Path()) / name_or_path
    elif name_or_path in template_names():
        path = FOLDER / (name_or_path + SUFFIX)
    else:
        ours = ", ".join(template_names())
        raise TemplateError(f"there is no template {name_or_path!r}; there are {ours}, and files that end in {SUFFIX}")
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise TemplateError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if len(data) > FILE_BYTES_MAX:
        raise TemplateError(f"{path}: has more than {FILE_BYTES_MAX} bytes")
    return parse_template(data, str(path))


def parse_template(data: bytes, name: str) -> Template:
    """A template from the bytes of a file. Raises TemplateError, which begins with `name`."""
    try:
        template = msgspec.convert(tomllib.loads(data.decode("utf-8")), Template)
        check_template(template)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, PrinterError) as exc:
        raise TemplateError(f"{name}: {exc}") from exc
    return template


def render_slip(template: Template, slip: Slip, glyphs: Glyphs | None = None) -> bytes:
    """The bytes for the printer, in the template's language.

    `glyphs` draws Chinese where the language has none (labels); `drivers.printer.FontGlyphs()` is one.  Raises
    PrinterError when this slip cannot be printed with this template.
    """
    if template.language is Language.ESCPOS:
        return render_escpos(template, slip)
    return render_label(template, slip, glyphs)
