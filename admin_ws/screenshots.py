"""Pictures of the console for the documentation, taken with Chromium from a running server.

    paifang run --data var
    python -m admin_ws.screenshots http://127.0.0.1:8460/ --user manager --password-file var/demo-password --out docs

writes `console-PAGE-THEME.png` for every page that the user may see (`console-THEME.png` is the overview), or for those
that `--page` names; a page that another user sees is taken with that one. Works with `admin_ws.showcase` as well. Needs
the test dependencies (playwright, pillow) and Debian's chromium.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZE = (1920, 1080)  # pixels; what hangs in a control room
PICTURE = (1440, 810)  # pixels of those that are kept; scaling one down would blur it and make it larger
COLOURS = 255
OPENED = {"lanes": "[data-gate]", "cases": "[data-case] a", "find": ".refusal:enabled"}  # pressed if there
SETTLE_MS = 1_500  # for the first deltas and the curve
PATIENCE_MS = 15_000


@contextmanager
def browser_page(
    *, size: tuple[int, int] = SIZE, language: str = "en", timezone: str = "Asia/Shanghai"
) -> Iterator[Any]:
    """A page of a fresh Chromium (playwright's synchronous API: not in a thread that runs a loop)."""
    from playwright.sync_api import sync_playwright  # a test dependency; the server never comes here

    with tempfile.TemporaryDirectory(prefix="paifang-chromium-") as folder, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder,
            executable_path=CHROMIUM,
            headless=True,
            args=list(CHROMIUM_ARGUMENTS),
            viewport={"width": size[0], "height": size[1]},
            locale={"en": "en-GB", "zh": "zh-CN"}[language],
            timezone_id=timezone,
        )
        try:
            page = context.pages[0] if context.pages else context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            yield page
        finally:
            context.close()


def log_in(page: Any, url: str, user: str, password: str) -> None:
    """Open the page and log in; returns when the first snapshot is shown."""
    page.goto(url)
    page.fill("input[name=user]", user)
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_selector(".pill-live")


def set_theme(page: Any, theme: str) -> None:
    """Switch the page to `dark` or `light`, as the button does."""
    if page.evaluate("document.documentElement.dataset.theme") != theme:
        page.locator("[data-testid=theme]").first.click()
        page.wait_for_function(f"() => document.documentElement.dataset.theme === '{theme}'")


def take(
    url: str, user: str, password: str, out: Path, *, language: str = "en", only: Sequence[str] = ()
) -> list[Path]:
    """Every page that the user may see (or `only` some of them), in both themes; returns the pictures' paths."""
    taken = []
    with browser_page(size=PICTURE, language=language) as page:
        log_in(page, url, user, password)
        names = page.locator(".rail-page").evaluate_all("all => all.map(one => one.dataset.page)")
        for theme in ("dark", "light"):
            set_theme(page, theme)
            for name in (name for name in names if not only or name in only):
                page.evaluate("hash => { location.hash = hash; }", f"#/{name}")
                page.locator(f".rail-page.is-on[data-page={name}]").wait_for()
                page.wait_for_timeout(SETTLE_MS)
                if name in OPENED and page.locator(OPENED[name]).count():
                    page.locator(OPENED[name]).first.click()
                    page.wait_for_timeout(SETTLE_MS)
                path = out / (f"console-{theme}.png" if name == "overview" else f"console-{name}-{theme}.png")
                page.screenshot(path=str(path))
                taken.append(path)
    return taken


def shrink(path: Path) -> None:
    """Rewrite a picture in few colours: flat areas and text need no more, and a repository keeps it for ever."""
    from PIL import Image  # a test dependency, as playwright is

    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Take pictures of the console.")
    parser.add_argument("url")
    parser.add_argument("--user", required=True)
    parser.add_argument("--password-file", required=True, type=Path, help="first line is the password; - for stdin")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--page", action="append", default=[], help="only this one; may be given again")
    arguments = parser.parse_args()
    source = sys.stdin.read() if str(arguments.password_file) == "-" else arguments.password_file.read_text()
    arguments.out.mkdir(parents=True, exist_ok=True)
    password, language = source.partition("\n")[0], arguments.language
    for path in take(arguments.url, arguments.user, password, arguments.out, language=language, only=arguments.page):
        shrink(path)
        sys.stdout.write(f"{path}  {path.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main()
