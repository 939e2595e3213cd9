"""`paifang inspect`: the live actor tree over the console channel, as a table or as JSON."""

from __future__ import annotations

import json
from typing import Any

import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from admin_ws.client import ConsoleClient
from protocols.console import GetTree

EVERY_S = 1.0


async def inspect_site(url: str, user: str, password: str, watch: bool, as_json: bool) -> None:
    """Print the tree once, or every second. Raises ConsoleError."""
    async with ConsoleClient.connect(url) as client:
        await client.login(user, password)
        while True:
            tree = await client.call("site.inspect", GetTree(), dict[str, Any])
            if as_json:
                print(json.dumps(tree, ensure_ascii=False))
            else:
                Console().print(table(tree))
            if not watch:
                return
            await trio.sleep(EVERY_S)


def table(tree: dict[str, Any]) -> Table:
    """The tree as people read it; what needs a look is marked with a word, not only with a colour."""
    shown = Table(box=None, pad_edge=False)
    for column in ("actor", "state", "mailbox", "oldest", "held", "restarts", "handled", "last error"):
        shown.add_column(column)

    def add(node: dict[str, Any], depth: int) -> None:
        held = f"{node['held']} {node['held_age_s']:.1f} s" if node["held"] else ""
        name = "  " * depth + node["name"]
        state = node["state"] if node["alive"] else f"DOWN ({node['state']})"
        shown.add_row(
            Text(name),
            Text(state),
            str(node["depth"] + node["system_depth"]),
            f"{node['oldest_age_s']:.1f} s" if node["depth"] else "",
            held,
            str(node["restarts"]) if node["restarts"] else "",
            str(node["handled"]),
            Text(node["last_error"][:60]),
        )
        for child in node["children"]:
            add(child, depth + 1)

    add(tree, 0)
    return shown
