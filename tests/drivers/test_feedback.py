"""Patterns of light, sound and text: the defaults, a site's own, and what cannot be shown."""

from __future__ import annotations

import pytest

from drivers.base import Feedback, Outcome
from drivers.feedback import (
    DEFAULTS,
    SILENT,
    TEXT_MAX,
    Colour,
    Light,
    Pattern,
    Patterns,
    Sound,
)


def test_every_outcome_has_a_light_and_words_in_both_languages() -> None:
    patterns = Patterns()
    shown = {outcome: patterns.of(Feedback(outcome=outcome)) for outcome in Outcome}
    assert all(each.text_zh and each.text_en and each.light.colour is not Colour.OFF for each in shown.values())
    looks = {(each.light.colour, each.light.off_ms, each.sound) for each in shown.values()}
    assert len(looks) == len(Outcome)  # nobody has to read to tell them apart
    assert shown[Outcome.EMERGENCY].light.lasts_ms == 0  # until something else is said
    assert shown[Outcome.WAIT].sound == SILENT


def test_go_and_stop_differ_in_more_than_colour() -> None:
    """Some people do not tell red from green."""
    go, stop = Patterns().of(Feedback(outcome=Outcome.GO)), Patterns().of(Feedback(outcome=Outcome.STOP))
    assert go.sound != stop.sound and stop.sound.on_ms > 2 * go.sound.on_ms


@pytest.mark.parametrize("product_class", ["discount", "annual", "group"])
def test_ticket_classes_have_patterns_of_their_own(product_class: str) -> None:
    patterns = Patterns()
    own = patterns.of(Feedback(outcome=Outcome.GO, product_class=product_class))
    assert own == DEFAULTS[Outcome.GO, product_class]
    assert own != patterns.of(Feedback(outcome=Outcome.GO, product_class="full"))
    stop = patterns.of(Feedback(outcome=Outcome.STOP, product_class=product_class))
    assert stop == DEFAULTS[Outcome.STOP, ""]  # an outcome without one for the class has its own


def test_a_text_of_the_moment_goes_before_the_patterns() -> None:
    shown = Patterns().of(Feedback(outcome=Outcome.STOP, text_zh="已检票", text_en="x" * 100))
    assert (shown.text_zh, shown.text_en) == ("已检票", "x" * TEXT_MAX)


def test_a_site_changes_what_it_names_and_nothing_else() -> None:
    patterns = Patterns().with_changes({
        "stop": {"light": {"colour": "amber"}, "text_en": "Halt"},
        "go.child": {"sound": {"count": 4}},
        "wait": {"light": "off", "sound": {"count": 1}},
        "go.annual": {"sound": "off"},
    })  # fmt: skip
    stop = patterns.of(Feedback(outcome=Outcome.STOP))
    assert stop.light == Light(colour=Colour.AMBER, lasts_ms=3000)
    assert (stop.text_zh, stop.text_en, stop.sound) == ("请勿通行", "Halt", DEFAULTS[Outcome.STOP, ""].sound)
    child = patterns.of(Feedback(outcome=Outcome.GO, product_class="child"))
    assert child.light == DEFAULTS[Outcome.GO, ""].light
    assert child.sound == Sound(on_ms=200, off_ms=100, count=4)
    assert patterns.of(Feedback(outcome=Outcome.WAIT)).light.colour is Colour.OFF
    assert patterns.of(Feedback(outcome=Outcome.GO, product_class="annual")).sound == SILENT
    assert Patterns().of(Feedback(outcome=Outcome.STOP)) == DEFAULTS[Outcome.STOP, ""]  # the defaults stay


def test_a_new_class_begins_from_the_sites_own_outcome() -> None:
    patterns = Patterns().with_changes({"go.child": {"text_en": "Hello"}, "go": {"light": {"colour": "white"}}})
    assert patterns.of(Feedback(outcome=Outcome.GO, product_class="child")).light.colour is Colour.WHITE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"maybe": {}}, "feedback.maybe: 'maybe' is no outcome; there are go, wait, stop, emergency"),
        ({"go.": {}}, "no ticket class"),
        ({"go": {"colour": "red"}}, "feedback.go: unknown colour"),
        ({"go": {"light": {"color": "red"}}}, "feedback.go.light: unknown color"),
        ({"go": {"light": {"colour": "pink"}}}, "feedback.go: Invalid enum value 'pink'"),
        ({"go": {"light": {"on_ms": "long"}}}, "feedback.go: Expected `int`"),
        ({"go": {"light": True}}, "feedback.go.light: a table"),
        ({"go": {"light": {"on_ms": 0}}}, "feedback.go.light.on_ms: a light that is never on"),
        ({"go": {"light": {"lasts_ms": 26_000}}}, "feedback.go.light.lasts_ms: 0 to 25500 ms"),
        ({"stop.child": {"sound": {"count": 21}}}, "feedback.stop.child.sound.count: 0 to 20"),
        ({"go": {"sound": {"on_ms": 0}}}, "feedback.go.sound.on_ms: a beep without a length"),
        ({"go": {"sound": {"count": -1}}}, "feedback.go.sound.count"),
        ({"go": {"text_en": "x" * 41}}, "feedback.go: a text has at most 40"),
        ({"go": {"text_en": "two\nlines"}}, "printable"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_its_place(changes: dict[str, dict[str, object]], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Patterns().with_changes(changes)
    assert words in str(caught.value)


def test_a_table_without_an_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="no pattern for the outcome 'go'"):
        Patterns({(Outcome.STOP, ""): Pattern(light=Light(colour=Colour.RED))})


def test_the_table_has_a_bound() -> None:
    with pytest.raises(ValueError, match="more than 200"):
        Patterns().with_changes({f"go.class-{number}": {} for number in range(300)})
