"""What people do on the console page, run in a process of its own: `browser_steps.py NAME URL` (see test_console.py).

Apart from the test, because playwright's synchronous API and trio-asyncio cannot share one.  A step that needs the
site to do something prints `do …` and waits for a line: the test does it and answers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from admin_ws.pages import STATIC_FOLDER
from admin_ws.screenshots import CHROMIUM, browser_page, log_in

HOLD_MS = 1_000  # longer than the page asks for


def site_does(what: str) -> str:
    print(f"do {what}", flush=True)
    return sys.stdin.readline().strip()


def evacuate(page: Any, url: str, password: str) -> None:
    """Log in, see a lane turn and another refuse, press evacuation, see every lane acknowledge."""
    log_in(page, url, "operator", password)
    assert page.locator("[data-lane]").count() == 2
    assert page.locator("[data-lane=s1] [data-count=entries]").inner_text() == "0"
    assert site_does("admit s1") == "True"
    page.wait_for_function("() => document.querySelector('[data-lane=s1] [data-count=entries]').textContent === '1'")
    assert site_does("admit g1") == "False"
    page.wait_for_selector("[data-lane=g1] >> text=used already")
    box = page.locator("[data-testid=evacuate]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(HOLD_MS)
    page.mouse.up()
    page.wait_for_function("() => document.querySelectorAll('[data-release][data-open=true]').length === 2")
    assert "2 of 2" in page.locator("[data-testid=release-progress]").inner_text()


def sell(page: Any, url: str, password: str) -> None:
    """Log in as a cashier, sell one ticket for cash, see it printed."""
    log_in(page, url, "cashier", password)
    if page.locator("[data-product=adult]").count() == 0:
        page.click("text=Sales window")
    page.locator("[data-product=adult]").click()
    page.fill(".cash input", "100")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-testid=receipt] >> text=Printed")
    assert page.locator("[data-testid=change]").inner_text() == "¥20.00"


def main() -> None:
    name, url = sys.argv[1:]
    password = sys.stdin.readline().strip()
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    assert (STATIC_FOLDER / "index.html").exists(), "the page is not built: make console"
    with browser_page() as page:
        {"evacuate": evacuate, "sell": sell}[name](page, url, password)
    print("done", flush=True)


if __name__ == "__main__":
    main()
