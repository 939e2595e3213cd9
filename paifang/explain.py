"""`paifang explain`: why a ticket would be admitted or refused at a lane, over the console channel of the server."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from admin_ws.client import ConsoleClient
from protocols.console import ExplainScan, Explanation

AT_FORMATS = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
VERDICTS = {"ok": "ok", "refused": "REFUSED", "also_refused": "also refused"}


class ExplainError(Exception):
    """What was asked for cannot be understood; the text says what would be."""


def moment(text: str, timezone: str) -> float | None:
    """Seconds since the epoch of a date and time on the site's clock; None for no text. Raises ExplainError."""
    if not text:
        return None
    for form in AT_FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=ZoneInfo(timezone)).timestamp()
        except ValueError:
            continue
    raise ExplainError(f'--at {text!r} is not a time; write "2026-11-22 14:00", as on the site\'s clock')


async def explain_ticket(url: str, user: str, password: str, asked: ExplainScan, timezone: str, as_json: bool) -> bool:
    """Ask, print, and say whether it would be admitted. Raises ConsoleError."""
    async with ConsoleClient.connect(url) as client:
        await client.login(user, password)
        explained = await client.call("site.explain", asked, Explanation)
    if as_json:
        print(json.dumps(msgspec.to_builtins(explained), ensure_ascii=False))
    else:
        show(explained, ZoneInfo(timezone))
    return explained.admitted


def show(explained: Explanation, timezone: ZoneInfo) -> None:
    """The verdict in a line, and the steps as a table; what decides is marked with a word, not only with a colour."""
    console = Console(highlight=False)
    at = datetime.fromtimestamp(explained.at, timezone).strftime("%Y-%m-%d %H:%M:%S")
    verdict = f"ADMITTED 放行, {explained.pax} pax" if explained.admitted else f"REFUSED 拒绝: {explained.code}"
    console.print(Text(f"{verdict}  at {explained.lane} into {explained.zone}, {at}"))
    console.print(Text(f"{explained.text_zh} / {explained.text_en}"))
    steps = Table(box=None, pad_edge=False)
    for column in ("check", "verdict", "what was looked at", "what would help"):
        steps.add_column(column)
    for step in explained.steps:
        steps.add_row(
            Text(f"{step.name_en} {step.name_zh}"),
            Text(VERDICTS.get(step.verdict, step.verdict), style="bold" if step.verdict == "refused" else ""),
            Text(f"{step.text_en}\n{step.text_zh}" if step.code else step.text_en),
            Text(f"{step.cure_en}\n{step.cure_zh}" if step.code else ""),
        )
    console.print(steps)
