"""Refusal codes: words for everybody, and a page that says the same as the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.admission.document import render
from actors.admission.refusals import OK, OK_WORDS, REFUSALS, words

PAGE = Path(__file__).parents[2] / "docs" / "refusals.md"
CHINESE = re.compile(r"[一-鿿]")


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m actors.admission.document > docs/refusals.md"


@pytest.mark.parametrize("code", REFUSALS)
def test_every_code_has_words_for_visitors_and_staff_in_both_languages(code: str) -> None:
    text = REFUSALS[code]
    assert re.fullmatch(r"[a-z_]+", code)
    assert CHINESE.search(text.visitor_zh) and CHINESE.search(text.staff_zh)
    for english in (text.visitor_en, text.staff_en):
        assert english and not CHINESE.search(english)
    assert "|" not in "".join((text.visitor_zh, text.visitor_en, text.staff_zh, text.staff_en)), "breaks the page"


def test_no_two_codes_say_the_same_to_staff() -> None:
    hints = [text.staff_en for text in REFUSALS.values()]
    assert len(set(hints)) == len(hints)


def test_a_code_from_a_newer_peer_reads_as_unavailable_and_ok_is_no_refusal() -> None:
    assert words("out_of_confetti") == REFUSALS["unavailable"]
    assert words(OK) is OK_WORDS and OK not in REFUSALS
