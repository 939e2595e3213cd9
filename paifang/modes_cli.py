"""`paifang modes`: what a site does differently for a while; begin and end it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paifang._command import JSON, SITE_OPTION, carry_out, load_site

if TYPE_CHECKING:
    from protocols.modes import Modes


@click.command()
@SITE_OPTION
@click.option("--url", default="", help="Console channel; default from the site file.")
@click.option("--user", required=True, help="To begin and end, one who may set lanes' modes.")
@click.option("--start", default="", metavar="KIND", help="Begin a mode, e.g. direct_check; needs --of and --reason.")
@click.option("--of", "subject", default="", help="The lane, the zone, or `site`.")
@click.option("--minutes", type=click.IntRange(0, 1440), default=0, help="0: the longest time allowed.")
@click.option("--end", "mode", type=click.IntRange(1), default=None, metavar="NUMBER", help="End a mode early.")
@click.option("--reason", default="", help="Why; it goes into the audit log.")
@JSON
def modes(
    site: Path,
    url: str,
    user: str,
    start: str,
    subject: str,
    minutes: int,
    mode: int | None,
    reason: str,
    as_json: bool,
) -> None:
    """Modes that run: who began them, why, until when.  运行模式。

    Each ends by itself at its longest time, also if the server does not run then.
    """
    import os

    from paifang.addresses import channel_url
    from protocols.modes import EndMode, StartMode

    if start and mode is not None:
        raise click.UsageError("--start and --end are two orders")
    order: StartMode | EndMode | None = None
    if start:
        order = StartMode(kind=start, subject=subject, minutes=minutes, reason=reason)
    elif mode is not None:
        order = EndMode(mode=mode, reason=reason)
    address = url or channel_url(load_site(site))
    password = os.environ.get("PAIFANG_PASSWORD") or click.prompt("Password", hide_input=True)
    carry_out(_talk, address, user, password, order, as_json)


async def _talk(url: str, user: str, password: str, order: object, as_json: bool) -> None:
    """Carry the order out, if there is one, and show what runs. Raises ConsoleError."""
    import msgspec

    from admin_ws.client import ConsoleClient
    from protocols.console import Done
    from protocols.modes import EndMode, ListModes, Modes, ModeView

    async with ConsoleClient.connect(url) as client:
        await client.login(user, password)
        if isinstance(order, EndMode):
            await client.call("mode.end", order, Done)
        elif order is not None:
            await client.call("mode.start", order, ModeView)
        found = await client.call("mode.list", ListModes(), Modes)
    if as_json:
        print(json.dumps(msgspec.to_builtins(found), ensure_ascii=False))
    else:
        print(shown(found))


def shown(found: Modes) -> str:
    """What runs, one mode a line; the longest times where nothing runs."""
    if not found.modes:
        kinds = "\n".join(f"  {row.kind:14}{row.of:6}{row.max_minutes:5} min  {row.zh} {row.en}" for row in found.kinds)
        return f"nothing runs; what could, and how long at most:\n{kinds}"
    lines = []
    for row in found.modes:
        until = time.strftime("%m-%d %H:%M", time.localtime(row.until))
        state = "" if row.in_force else "  [NOT YET: its lane does not obey]"
        lines.append(f"{row.mode}  {row.kind} of {row.subject} until {until}, by {row.owner}: {row.reason}{state}")
    return "\n".join(lines)
