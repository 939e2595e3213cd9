"""Refusal codes: words for everybody, and a page that says the same as the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.admission.document import render
from actors.admission.refusals import CURES, OK, OK_WORDS, REFUSALS, RefusalText, cure, say, words
from protocols.messages import Denied

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


# --- what would make it pass ----------------------------------------------------------------------------------------

GATES = {"park": ["东门", "南门", "西门", "北门"], "museum": ["博物馆口"]}


@pytest.mark.parametrize("code", REFUSALS)
def test_every_code_says_to_staff_what_would_make_it_pass(code: str) -> None:
    assert CHINESE.search(CURES[code][0]) and CURES[code][1] and not CHINESE.search(CURES[code][1])
    text = say(Denied(nonce="n", code=code), GATES)
    assert (text.visitor_zh, text.visitor_en) == (REFUSALS[code].visitor_zh, REFUSALS[code].visitor_en)
    assert text.staff_en == f"{REFUSALS[code].staff_en}; {CURES[code][1]}"


@pytest.mark.parametrize(
    ("facts", "zh", "en"),
    [
        ({"code": "wrong_slot", "opens": "2026-11-22 14:00", "today": "2026-11-22"}, "14:00 起可用", "from 14:00"),
        (
            {"code": "not_yet_valid", "opens": "2026-11-23 00:00", "today": "2026-11-22"},
            "2026-11-23 00:00 起可用",
            "from 2026-11-23 00:00",
        ),
        ({"code": "wrong_slot", "opens": "2026-12-01", "today": "2026-11-22"}, "2026-12-01 起可用", "from 2026-12-01"),
        ({"code": "wrong_zone", "zones": ["museum"]}, "请走 博物馆口", "at 博物馆口"),
        ({"code": "wrong_zone", "zones": ["park"]}, "请走 东门、南门、西门", "at 东门 or 南门 or 西门"),
        ({"code": "wrong_zone", "zones": ["tower"]}, "走通往 tower 的通道", "at a lane into tower"),
        ({"code": "no_uses_left", "tomorrow": 2}, "明日可用 2 次", "2 times tomorrow"),
        ({"code": "no_uses_left", "tomorrow": 1}, "明日可用 1 次", "once tomorrow"),
        ({"code": "already_used"}, "", ""),
    ],
)
def test_a_visitor_is_told_when_and_where_it_would_pass(facts: dict, zh: str, en: str) -> None:
    denied = Denied(nonce="n", **facts)
    assert cure(denied, GATES) == (zh, en)
    plain, text = words(denied.code), say(denied, GATES)
    assert text.visitor_zh == ("，".join((plain.visitor_zh, zh)) if zh else plain.visitor_zh)
    assert text.visitor_en == ("; ".join((plain.visitor_en, en)) if en else plain.visitor_en)


def test_the_last_use_is_for_staff_and_not_for_the_visitors_display() -> None:
    denied = Denied(
        nonce="n", code="already_used", lane_of_use="g2", used_on_clock="2026-11-22 11:40", today="2026-11-22"
    )
    text = say(denied)
    assert text == RefusalText(
        "此票已使用",
        "This ticket was used already",
        "查看上次使用的通道和时间；上次 g2 11:40；此票不能再用，需购新票",
        "See lane and time of the last use; last g2 11:40; never again: a new ticket",
    )
    assert "g2" not in text.visitor_zh + text.visitor_en


def test_a_hint_is_told_to_staff_as_it_is() -> None:
    assert say(Denied(nonce="n", code="unavailable", hint="wait a minute")).staff_en.startswith(
        "Ledger or lane unavailable; wait a minute; "
    )
