"""What a visitor sees and hears: a light, a sound and a text for each outcome, and for ticket classes of their own.

The patterns are values; what a device makes of them is its driver's affair.  A site may change every part of them and
add classes: `Patterns.with_changes` takes what the site file says, part by part.

The defaults: go is green with one beep, wait is amber and silent, stop is red with two long beeps, an emergency is
green, blinking, until something else is said.  Reduced tickets get two short beeps, so that whoever stands at the gate
knows that there is an entitlement to look at; season tickets are blue, groups get three beeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from drivers.base import Feedback, Outcome

PERIOD_MS_MAX = 25_500  # devices count tenths of a second in one byte
COUNT_MAX = 20  # beeps in a row: more is a fault, not a signal
TEXT_MAX = 40  # characters
CLASSES_MAX = 200  # patterns of ticket classes


class Colour(StrEnum):
    OFF = "off"
    RED = "red"
    GREEN = "green"
    AMBER = "amber"
    BLUE = "blue"
    MAGENTA = "magenta"
    CYAN = "cyan"
    WHITE = "white"


class Light(msgspec.Struct, frozen=True, kw_only=True):
    """`on_ms` lit, `off_ms` dark, again and again for `lasts_ms`. No dark time: steady. `lasts_ms` 0: until changed."""

    colour: Colour
    on_ms: int = 500
    off_ms: int = 0
    lasts_ms: int = 2000


class Sound(msgspec.Struct, frozen=True, kw_only=True):
    """`count` beeps of `on_ms` with `off_ms` between them. Silent with a count of 0."""

    on_ms: int = 200
    off_ms: int = 100
    count: int = 1


SILENT = Sound(count=0)


class Pattern(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at once. A text that comes with the feedback itself goes before the pattern's own."""

    light: Light
    sound: Sound = SILENT
    text_zh: str = ""
    text_en: str = ""


DEFAULTS: Mapping[tuple[Outcome, str], Pattern] = {
    (Outcome.GO, ""): Pattern(
        light=Light(colour=Colour.GREEN, lasts_ms=3000), sound=Sound(on_ms=200), text_zh="请通行", text_en="Welcome"
    ),
    (Outcome.GO, "discount"): Pattern(
        light=Light(colour=Colour.GREEN, lasts_ms=3000),
        sound=Sound(on_ms=100, off_ms=100, count=2),
        text_zh="优惠票 请通行",
        text_en="Reduced: welcome",
    ),
    (Outcome.GO, "annual"): Pattern(
        light=Light(colour=Colour.BLUE, lasts_ms=3000),
        sound=Sound(on_ms=200),
        text_zh="年卡 请通行",
        text_en="Welcome back",
    ),
    (Outcome.GO, "group"): Pattern(
        light=Light(colour=Colour.GREEN, on_ms=300, off_ms=300, lasts_ms=6000),
        sound=Sound(on_ms=100, off_ms=100, count=3),
        text_zh="团队 请通行",
        text_en="Group: welcome",
    ),
    (Outcome.WAIT, ""): Pattern(
        light=Light(colour=Colour.AMBER, on_ms=300, off_ms=300, lasts_ms=4000), text_zh="请稍候", text_en="Please wait"
    ),
    (Outcome.STOP, ""): Pattern(
        light=Light(colour=Colour.RED, lasts_ms=3000),
        sound=Sound(on_ms=500, off_ms=200, count=2),
        text_zh="请勿通行",
        text_en="Please stop",
    ),
    (Outcome.EMERGENCY, ""): Pattern(
        light=Light(colour=Colour.GREEN, on_ms=500, off_ms=500, lasts_ms=0),
        sound=Sound(on_ms=500, off_ms=500, count=3),
        text_zh="紧急疏散 请通行",
        text_en="EMERGENCY: GO",
    ),
}


class Patterns:
    """The patterns of one site, found by outcome and ticket class."""

    def __init__(self, table: Mapping[tuple[Outcome, str], Pattern] = DEFAULTS) -> None:
        """Raises ValueError when an outcome has no pattern of its own, or a pattern cannot be shown."""
        for outcome in Outcome:
            if (outcome, "") not in table:
                raise ValueError(f"no pattern for the outcome {outcome.value!r}")
        if len(table) > CLASSES_MAX:
            raise ValueError(f"more than {CLASSES_MAX} patterns")
        for (outcome, product_class), pattern in table.items():
            _check(pattern, _name(outcome, product_class))
        self._table = dict(table)

    def __len__(self) -> int:
        return len(self._table)

    def of(self, feedback: Feedback) -> Pattern:
        """The pattern for it, with its own texts put in."""
        general = self._table[feedback.outcome, ""]
        pattern = self._table.get((feedback.outcome, feedback.product_class), general)
        return msgspec.structs.replace(
            pattern,
            text_zh=(feedback.text_zh or pattern.text_zh)[:TEXT_MAX],
            text_en=(feedback.text_en or pattern.text_en)[:TEXT_MAX],
        )

    def with_changes(self, changes: Mapping[str, Mapping[str, object]]) -> Patterns:
        """The same patterns with a site's own changes: `{"stop": {"light": {"colour": "amber"}}}`.

        A key is an outcome, or an outcome and a ticket class with a point between them (`go.child`).  What is not
        named stays: as it is in that pattern, or, for a class that is new, as it is in the outcome's own.
        `sound = "off"` and `light = "off"` are short for nothing at all.  Raises ValueError with the key in its text.
        """
        table = dict(self._table)
        for key in sorted(changes, key=lambda key: key.count(".")):  # outcomes first: new classes begin from them
            outcome, product_class = _parse_name(key)
            begin = table.get((outcome, product_class), table[outcome, ""])
            table[outcome, product_class] = _changed(begin, changes[key], key)
        return Patterns(table)


def _name(outcome: Outcome, product_class: str) -> str:
    return f"{outcome.value}.{product_class}" if product_class else outcome.value


def _parse_name(key: str) -> tuple[Outcome, str]:
    outcome, point, product_class = key.partition(".")
    try:
        found = Outcome(outcome)
    except ValueError:
        known = ", ".join(each.value for each in Outcome)
        raise ValueError(f"feedback.{key}: {outcome!r} is no outcome; there are {known}") from None
    if point and not product_class:
        raise ValueError(f"feedback.{key}: no ticket class after the point")
    return found, product_class


def _changed(pattern: Pattern, change: Mapping[str, object], key: str) -> Pattern:
    fields: dict[str, object] = {}
    for part in ("light", "sound"):
        if change.get(part) == "off":
            fields[part] = {"colour": "off", "lasts_ms": 100} if part == "light" else {"count": 0}
        elif isinstance(said := change.get(part), Mapping):
            old = msgspec.to_builtins(getattr(pattern, part))
            unknown = set(said) - set(old)
            if unknown:
                raise ValueError(f"feedback.{key}.{part}: unknown {', '.join(sorted(map(str, unknown)))}")
            fields[part] = {**old, **said}
        elif part in change:
            raise ValueError(f"feedback.{key}.{part}: a table, or \"off\"")
        else:
            fields[part] = msgspec.to_builtins(getattr(pattern, part))
    unknown = set(change) - {"light", "sound", "text_zh", "text_en"}
    if unknown:
        raise ValueError(f"feedback.{key}: unknown {', '.join(sorted(map(str, unknown)))}")
    for text in ("text_zh", "text_en"):
        fields[text] = change.get(text, getattr(pattern, text))
    try:
        return msgspec.convert(fields, Pattern)
    except msgspec.ValidationError as exc:
        raise ValueError(f"feedback.{key}: {exc}") from exc


def _check(pattern: Pattern, key: str) -> None:
    light, sound = pattern.light, pattern.sound
    times = {
        "light.on_ms": light.on_ms, "light.off_ms": light.off_ms, "light.lasts_ms": light.lasts_ms,
        "sound.on_ms": sound.on_ms, "sound.off_ms": sound.off_ms,
    }  # fmt: skip
    for name, ms in times.items():
        if not 0 <= ms <= PERIOD_MS_MAX:
            raise ValueError(f"feedback.{key}.{name}: 0 to {PERIOD_MS_MAX} ms, not {ms}")
    if light.colour is not Colour.OFF and not light.on_ms:
        raise ValueError(f"feedback.{key}.light.on_ms: a light that is never on; say light = \"off\"")
    if not 0 <= sound.count <= COUNT_MAX:
        raise ValueError(f"feedback.{key}.sound.count: 0 to {COUNT_MAX}, not {sound.count}")
    if sound.count and not sound.on_ms:
        raise ValueError(f"feedback.{key}.sound.on_ms: a beep without a length; say sound = \"off\"")
    for text in (pattern.text_zh, pattern.text_en):
        if len(text) > TEXT_MAX or not all(sign.isprintable() for sign in text):
            raise ValueError(f"feedback.{key}: a text has at most {TEXT_MAX} characters, all of them printable")
