"""`paifang reload`: ask the running server to read its site file again, and show what came of it."""

from __future__ import annotations

import json

import msgspec

from admin_ws.client import ConsoleClient
from paifang.reload import APPLIED, RESTART, WAITS, WOULD_APPLY
from protocols.console import Reloaded, ReloadSite

PATIENCE_S = 40.0
_WORDS = {
    APPLIED: "done",
    WOULD_APPLY: "would be done",
    WAITS: "NOT YET",
    RESTART: "at the next start of the server",
}


async def reload_site(url: str, user: str, password: str, dry_run: bool, as_json: bool) -> None:
    """Ask and print. Raises ConsoleError; its text has every problem of a file that was refused."""
    async with ConsoleClient.connect(url) as client:
        await client.login(user, password)
        result = await client.call("site.reload", ReloadSite(dry_run=dry_run), Reloaded, PATIENCE_S)
    if as_json:
        print(json.dumps(msgspec.to_builtins(result), ensure_ascii=False))
        return
    for warning in result.warnings:
        print(f"warning: {warning}")
    for change in result.changes:
        detail = f": {change.detail}" if change.detail else ""
        print(f"{change.what:9}{change.subject}{detail}  [{_WORDS.get(change.state, change.state)}]")
    if not result.changes:
        print("nothing has changed")
