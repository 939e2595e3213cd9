"""For tests: a script with a page in Chromium, in a thread of its own, while a site's actors run on in Trio's.

    async with StubSite().open() as site:
        await in_browser(lambda page: page.goto(site.url))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from admin_ws.pages import STATIC_FOLDER
from admin_ws.screenshots import CHROMIUM, browser_page


@contextmanager
def plain_event_loop() -> Iterator[None]:
    """Let playwright make an asyncio loop of its own: where another test imported trio-asyncio, it would get Trio's."""
    before = asyncio.new_event_loop
    asyncio.new_event_loop = asyncio.SelectorEventLoop
    try:
        yield
    finally:
        asyncio.new_event_loop = before


async def in_browser(
    script: Callable[[Any], None], *, language: str = "en", strict: bool = True, timezone: str = "Asia/Shanghai"
) -> None:
    """Run a script with a page in a thread of its own; the site's actors run on meanwhile.

    With `strict`, an error on the page (a broken script, a policy violated) fails the test.
    """

    def run() -> None:
        assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
        assert (STATIC_FOLDER / "index.html").exists(), "the page is not built: make console"
        complaints: list[str] = []
        with plain_event_loop(), browser_page(language=language, timezone=timezone) as page:
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
            script(page)
        if strict:
            assert complaints == []

    await trio.to_thread.run_sync(run)


def on_site(call: Callable[..., Any], *arguments: Any) -> Any:
    """From the browser's thread: call something of the site in Trio's thread."""
    return trio.from_thread.run_sync(call, *arguments)
