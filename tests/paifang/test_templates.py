"""Template files: ours and a site's own; every mistake is said with the file and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from paifang.templates import FILE_BYTES_MAX, TemplateError, load_template, parse_template, template_names
from protocols.slip import Language

GOOD = b"""
name = "mine"
width = 384
ticket = [{ type = "qr", text = "{code}" }]
"""


def test_ours_are_found_by_name() -> None:
    assert {load_template(name).name for name in template_names()} == set(template_names())


def test_a_sites_own_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(GOOD)
    template = load_template("mine.toml", tmp_path)
    assert (template.name, template.width, template.language) == ("mine", 384, Language.ESCPOS)
    assert load_template(str(tmp_path / "mine.toml")) == template


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((b"width = 384", b""), "width"),
        ((b"width = 384", b'width = "384"'), "Expected `int`"),
        ((b"width = 384", b"width = 384\ncolour = 1"), "colour"),
        ((b'type = "qr"', b'type = "picture"'), "picture"),
        ((b"{code}", b"{cod}"), "no field {cod}; there are cashier, class_en"),
        ((b"[{", b"["), "Invalid"),
        ((b"mine", b"\xff"), "utf-8"),
    ],
)
def test_a_mistake_is_said_with_the_file_and_what_is_wrong(change: tuple[bytes, bytes], words: str) -> None:
    with pytest.raises(TemplateError) as refused:
        parse_template(GOOD.replace(*change), "mine.toml")
    assert str(refused.value).startswith("mine.toml: ") and words in str(refused.value)


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="there are group-80, label-tspl"):
        load_template("plain")
    with pytest.raises(TemplateError, match="cannot be read: No such file"):
        load_template("plain.toml", tmp_path)
    with pytest.raises(TemplateError, match="cannot be read"):
        load_template(str(tmp_path / "." / ""))
    (tmp_path / "large.toml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(TemplateError, match="bytes"):
        load_template("large.toml", tmp_path)
