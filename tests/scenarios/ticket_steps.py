"""What a visitor sees on the ticket page, in a process of its own: `ticket_steps.py URL NAME...` (test_ticket_page.py).

A step that needs the site to do something prints `do …` and waits for a line: the test does it and answers.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zxingcpp
from PIL import Image

from admin_ws.pages import STATIC_FOLDER
from admin_ws.screenshots import CHROMIUM, CHROMIUM_ARGUMENTS, log_in
from protocols.rotating import STEP_S, rotating_text
from protocols.wallet import decode_fragment, key_bytes

PHONE = (412, 892)  # pixels of a common phone
PATIENCE_MS = 25_000
ROOM_S = 3  # a step has this long at least before its code changes; it is good for one step more
TRIES = 5
SHOTS = os.environ.get("PAIFANG_TICKET_SHOTS", "")  # a folder for pictures, to look at
AXE = Path(__file__).parents[2] / "admin_ws" / "console" / "node_modules" / "axe-core" / "axe.min.js"
MOMENTS = (0, 29, 1_795_276_830, 4_102_444_800)


def site_does(what: str) -> str:
    print(f"do {what}", flush=True)
    return sys.stdin.readline().strip()


@contextmanager
def phone() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="paifang-chromium-") as folder, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder,
            executable_path=CHROMIUM,
            headless=True,
            args=list(CHROMIUM_ARGUMENTS),
            viewport={"width": PHONE[0], "height": PHONE[1]},
            device_scale_factor=2,
            is_mobile=True,
            has_touch=True,
            locale="en-GB",
            timezone_id="Asia/Shanghai",
        )
        context.set_default_timeout(PATIENCE_MS)
        try:
            yield context
        finally:
            context.close()


def opened(context: Any, url: str, link: str, ahead_s: float = 0.0, *, alone: bool = False) -> Any:
    """The page on a phone whose clock is `ahead_s` off; `alone`: it cannot ask the server for the time."""
    page = context.new_page()
    page.on("pageerror", lambda error: print(f"page error: {error}", file=sys.stderr))
    if ahead_s:
        page.clock.install(time=time.time() + ahead_s)
    if alone:
        page.route("**/healthz", lambda route: route.abort())
    page.goto(f"{url.rstrip('/')}{link}")
    return page


def code_of(page: Any) -> str:
    """The code that is shown now, read from its picture as a reader reads it, with time left to use it."""
    for _ in range(TRIES):
        page.wait_for_function(
            f"() => Number(document.querySelector('[data-left]')?.dataset.left) > {ROOM_S}"
            " && document.querySelector('[data-code]').dataset.code !== ''"
        )
        picture = Image.open(io.BytesIO(page.locator(".paper").screenshot()))
        for found in zxingcpp.read_barcodes(picture):  # none: it changed while a slow machine took the picture
            return str(found.text)
    raise AssertionError("no code can be read from the page")


def take(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def faults(page: Any, where: str) -> None:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [(each["id"], [node["target"] for node in each["nodes"]]) for each in found]
    assert serious == [], (where, serious)


def gate(context: Any, url: str) -> None:
    """The picture opens a gate; its code of two minutes ago does not; the short code does."""
    live, late, typed = (json.loads(site_does("link")) for _ in range(3))
    page = opened(context, url, live)
    page.wait_for_selector("[data-ticket]")
    code = code_of(page)
    assert code.startswith("PFR1:")
    assert site_does(f"later {code}") == "bad_signature"
    assert site_does(f"scan {code}") == "True"
    old = opened(context, url, late, ahead_s=-120.0, alone=True)
    assert site_does(f"scan {code_of(old)}") == "False"
    assert site_does(f"scan {code_of(opened(context, url, late))}") == "True", "the ticket itself is good"
    short = opened(context, url, typed).locator("[data-short]")
    assert site_does(f"scan {short.inner_text()}") == "True"


def offline(context: Any, url: str) -> None:
    """Opened once with a signal, it opens and works without one. What stands behind the # has never left the phone."""
    link = json.loads(site_does("link"))
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = opened(context, url, link)
    page.wait_for_selector("[data-offline=ready]")
    context.set_offline(True)
    page.reload()
    page.wait_for_selector("[data-notice=offline]")
    code = code_of(page)
    assert site_does(f"scan {code}") == "True"
    fragment = link.partition("#")[2]
    assert asked and not any(fragment in each.partition("#")[0] for each in asked)


def clock(context: Any, url: str) -> None:
    """A phone whose clock is five minutes fast or slow is told so, and its code opens all the same."""
    page = opened(context, url, json.loads(site_does("link")))
    page.wait_for_selector("[data-clock=checked]")
    assert page.locator("[data-notice=clock]").count() == 0, "a clock that is right is not complained of"
    page.close()
    for ahead_s, words in ((300.0, "fast"), (-300.0, "slow")):
        page = opened(context, url, json.loads(site_does("link")), ahead_s=ahead_s)
        page.wait_for_selector(f"[data-notice=clock] >> text={words}")
        assert site_does(f"scan {code_of(page)}") == "True"
        page.close()


def vectors(context: Any, url: str) -> None:
    """The page computes the same code as the server, whatever the time is."""
    link = json.loads(site_does("link"))
    ticket = decode_fragment(link.partition("#")[2])
    for moment in MOMENTS:
        page = context.new_page()
        page.route("**/healthz", lambda route: route.abort())
        page.clock.set_fixed_time(moment)
        page.goto(f"{url.rstrip('/')}{link}")
        expected = rotating_text(ticket.ticket, key_bytes(ticket.key), moment)
        page.wait_for_function("() => (document.querySelector('[data-code]')?.dataset.code ?? '') !== ''")
        assert page.locator("[data-code]").get_attribute("data-code") == expected, moment
        left = page.locator("[data-left]").get_attribute("data-left")
        assert left == str(STEP_S - moment % STEP_S), moment
        page.close()


def looks(context: Any, url: str) -> None:
    """Both themes and languages, the facts of the ticket, links that are damaged, the screen that stays on."""
    link = json.loads(site_does("link"))
    ticket = decode_fragment(link.partition("#")[2])
    page = opened(context, url, link)
    page.wait_for_selector("[data-code^=PFR1]")
    assert page.locator("input").count() == 0, "nobody logs in here"
    page.wait_for_selector("[data-awake=true]", state="attached")
    for theme in ("first", "second"):
        for words in (ticket.product_en, ticket.product_zh):
            assert page.locator("h1").inner_text() == words
            faults(page, f"{theme} {words}")
            take(page, f"ticket-{page.evaluate('() => document.documentElement.dataset.theme')}-{words}")
            assert code_of(page).startswith("PFR1:"), "dark on white in every theme"
            page.click("[data-do=lang]")
        page.click("[data-do=theme]")
    body, dot, head = link.rpartition(".")
    cut, bare, newer = link[:-9], link.partition("#")[0], link.replace("#1.", "#2.")
    for damaged in (cut, bare, newer, f"{body}{dot}", f"{link}!", f"{body}.W10"):
        wrong = opened(context, url, damaged)
        wrong.wait_for_selector("[data-ticket=none]")
        wrong.close()
    assert head


def window(context: Any, url: str) -> None:
    """A cashier sells, shows the code for the phone; what a phone reads from the screen opens the ticket."""
    page = context.new_page()
    page.set_viewport_size({"width": 1440, "height": 900})
    log_in(page, url, "cashier", site_does("password"))
    if page.locator("[data-product=adult]").count() == 0:
        page.click("text=Sales window")
    page.locator("[data-product=adult]").click()
    page.fill(".cash input", "100")
    page.keyboard.press("Enter")
    page.click("[data-to-phone]")
    page.wait_for_selector("[data-testid=phone-ticket]")
    short = page.locator("[data-testid=short]").inner_text()
    take(page, "window")
    (found,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(page.locator(".phone-ticket .qr").screenshot())))
    assert str(found.text).startswith(url.rstrip("/") + "/ticket#1.")
    visitor = opened(context, "", str(found.text))
    assert visitor.locator("[data-short]").inner_text() == short
    assert site_does(f"scan {code_of(visitor)}") == "True"
    page.click(".phone-ticket-buttons >> text=Hide")
    page.wait_for_selector("[data-testid=phone-ticket]", state="detached")


STEPS: dict[str, Callable[[Any, str], None]] = {
    "gate": gate,
    "offline": offline,
    "clock": clock,
    "vectors": vectors,
    "looks": looks,
    "window": window,
}


def main() -> None:
    url, *names = sys.argv[1:]
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    assert (STATIC_FOLDER / "ticket.html").exists(), "the pages are not built: make console"
    for name in names:
        with phone() as context:
            STEPS[name](context, url)


main()
