"""A pattern as the commands of an OSDP reader: light, buzzer, text, each only where the reader has one.

OSDP counts in tenths of a second, in one byte each, and its texts have at most 32 bytes, of which the standard says
nothing but that they are characters: English fits everywhere, Chinese only on readers that take UTF-8.
"""

from __future__ import annotations

from typing import Any, Literal

from drivers.feedback import Colour, Light, Pattern, Sound
from drivers.osdp._library import library

TEXT_BYTES_MAX = 32
TICK_MS = 100
TICKS_MAX = 255
STEADY_TICKS = 10  # a light without a dark time: any length will do
TEXT_S = 5  # how long a text stays when its light stays until changed

Language = Literal["en", "zh", "none"]

_COLOURS = {
    Colour.OFF: 0, Colour.RED: 1, Colour.GREEN: 2, Colour.AMBER: 3, Colour.BLUE: 4, Colour.MAGENTA: 5, Colour.CYAN: 6,
    Colour.WHITE: 7,
}  # fmt: skip
_PERMANENT_SET, _TEMPORARY_SET, _BUZZER_TONE, _TEXT_TEMPORARY = 1, 2, 2, 3
_BUZZER_OFF = 1


def ticks(ms: int) -> int:
    """Tenths of a second, at least one unless it is zero, at most what a byte holds."""
    return min(TICKS_MAX, max(1, round(ms / TICK_MS))) if ms > 0 else 0


def light(said: Light) -> dict[str, Any]:
    """The LED command. One that stays until changed is the reader's permanent state, others go back to that."""
    lasting = said.lasts_ms == 0
    command: dict[str, Any] = {
        "command": library().CMD_LED,
        "reader": 0,
        "led_number": 0,
        "temporary": not lasting,
        "control_code": _PERMANENT_SET if lasting else _TEMPORARY_SET,
        "on_count": ticks(said.on_ms) if said.off_ms else STEADY_TICKS,
        "off_count": ticks(said.off_ms),
        "on_color": _COLOURS[said.colour],
        "off_color": _COLOURS[Colour.OFF],
    }
    if not lasting:
        command["timer_count"] = ticks(said.lasts_ms)
    return command


def dark() -> dict[str, Any]:
    """Ends a light that stays until changed."""
    return light(Light(colour=Colour.OFF, on_ms=TICK_MS, off_ms=0, lasts_ms=0))


def sound(said: Sound) -> dict[str, Any]:
    """The buzzer command; silence is a command too, it ends what still sounds."""
    return {
        "command": library().CMD_BUZZER,
        "reader": 0,
        "control_code": _BUZZER_TONE if said.count else _BUZZER_OFF,
        "on_count": ticks(said.on_ms) if said.count else 0,
        "off_count": ticks(said.off_ms) if said.count else 0,
        "rep_count": said.count,
    }


def text(pattern: Pattern, language: Language) -> dict[str, Any] | None:
    """The text command; nothing when there is nothing to say."""
    words = {"en": pattern.text_en, "zh": pattern.text_zh, "none": ""}[language]
    words = shortened(words)
    if not words:
        return None
    return {
        "command": library().CMD_TEXT,
        "reader": 0,
        "control_code": _TEXT_TEMPORARY,
        "temp_time": max(1, round(pattern.light.lasts_ms / 1000)) if pattern.light.lasts_ms else TEXT_S,
        "offset_row": 1,
        "offset_col": 1,
        "data": words,
    }


def shortened(words: str) -> str:
    """At most 32 bytes of UTF-8, never half a character."""
    return words.encode()[:TEXT_BYTES_MAX].decode(errors="ignore").strip()
