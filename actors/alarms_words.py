"""What is told to others of an event of the feed, and to whom: pure rules and templates."""

from __future__ import annotations

import datetime as dt
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from protocols.console import FeedEvent

RANK = {"info": 0, "notice": 1, "warning": 2, "alarm": 3}
SEVERITIES = {
    "info": ("信息", "Information"),
    "notice": ("通知", "Notice"),
    "warning": ("警告", "Warning"),
    "alarm": ("报警", "Alarm"),
}
SUBJECT_MAX = 120  # characters

Language = Literal["zh", "en", "both"]


class Interest(msgspec.Struct, frozen=True, kw_only=True):
    """What one receiver wants to hear of: kinds of events (none: all), from a severity on."""

    receiver: str
    topics: frozenset[str] = frozenset()
    severity: str = "warning"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook, as JSON. Ids and codes that open a gate never stand in the feed, so never here."""

    id: str
    site: str
    topic: str
    severity: str
    at: float
    lane: str
    code: str
    text_zh: str
    text_en: str
    trace: str


def wants(interest: Interest, event: FeedEvent) -> bool:
    """Does this event concern this receiver?"""
    serious = RANK.get(event.severity, RANK["alarm"]) >= RANK.get(interest.severity, 0)
    return serious and (not interest.topics or event.kind in interest.topics)


def told(event: FeedEvent, id: str, site: str) -> Told:
    """The event in the words of a webhook."""
    return Told(
        id=id,
        site=site,
        topic=event.kind,
        severity=event.severity,
        at=event.at,
        lane=event.lane,
        code=event.code,
        text_zh=event.text_zh,
        text_en=event.text_en,
        trace=event.trace,
    )


def subject(event: Told, site_name: str, language: Language) -> str:
    """A mail's subject: one line, whatever the texts hold."""
    zh, en = SEVERITIES.get(event.severity, SEVERITIES["alarm"])
    word = {"zh": zh, "en": en, "both": f"{zh} {en}"}[language]
    text = event.text_en if language == "en" else event.text_zh or event.text_en
    lane = f" {event.lane}" if event.lane else ""
    return " ".join(f"[{site_name}] {word}{lane}: {text}".split())[:SUBJECT_MAX]


def letter(event: Told, site_name: str, timezone: ZoneInfo, language: Language) -> str:
    """A mail's text, in one language or both."""
    parts = []
    if language in ("zh", "both"):
        parts.append(_letter_zh(event, site_name, timezone))
    if language in ("en", "both"):
        parts.append(_letter_en(event, site_name, timezone))
    return "\n----\n\n".join(parts)


def _letter_zh(event: Told, site_name: str, timezone: ZoneInfo) -> str:
    lines = [
        f"{site_name}：{SEVERITIES.get(event.severity, SEVERITIES['alarm'])[0]}",
        "",
        event.text_zh or event.text_en,
        "",
        f"时间：{_when(event.at, timezone)}",
        *([f"通道：{event.lane}"] if event.lane else []),
        *([f"代码：{event.code}"] if event.code else []),
        f"类别：{event.topic}",
        *([f"追踪号：{event.trace}"] if event.trace else []),
        f"编号：{event.id}",
    ]
    return "\n".join(lines) + "\n"


def _letter_en(event: Told, site_name: str, timezone: ZoneInfo) -> str:
    lines = [
        f"{site_name}: {SEVERITIES.get(event.severity, SEVERITIES['alarm'])[1]}",
        "",
        event.text_en or event.text_zh,
        "",
        f"Time: {_when(event.at, timezone)}",
        *([f"Lane: {event.lane}"] if event.lane else []),
        *([f"Code: {event.code}"] if event.code else []),
        f"Topic: {event.topic}",
        *([f"Trace: {event.trace}"] if event.trace else []),
        f"Id: {event.id}",
    ]
    return "\n".join(lines) + "\n"


def _when(at: float, timezone: ZoneInfo) -> str:
    try:
        return dt.datetime.fromtimestamp(at, timezone).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (OverflowError, ValueError, OSError):  # a clock that is far off
        return f"{at:.0f}"
