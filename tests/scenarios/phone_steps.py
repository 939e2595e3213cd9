"""What an attendant does on the phone page, run in a process of its own: `phone_steps.py NAME URL CAMERA.y4m`.

See test_phone_page.py.  A step that needs the site to do something prints `do …` and waits for a line: the test does it
and answers.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from admin_ws.pages import STATIC_FOLDER
from admin_ws.screenshots import CHROMIUM, CHROMIUM_ARGUMENTS

PHONE = (412, 892)  # pixels of a common phone
PATIENCE_MS = 25_000
SHOTS = os.environ.get("PAIFANG_PHONE_SHOTS", "")  # a folder for pictures, to look at
AXE = Path(__file__).parents[2] / "admin_ws" / "console" / "node_modules" / "axe-core" / "axe.min.js"


def site_does(what: str) -> str:
    print(f"do {what}", flush=True)
    return sys.stdin.readline().strip()


@contextmanager
def phone(camera: str, *arguments: str) -> Iterator[Any]:
    """A page in a Chromium that is as large as a phone and sees a film instead of a camera."""
    from playwright.sync_api import sync_playwright

    film = [f"--use-file-for-fake-video-capture={camera}"] if camera != "-" else []
    with tempfile.TemporaryDirectory(prefix="paifang-chromium-") as folder, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder,
            executable_path=CHROMIUM,
            headless=True,
            args=[
                *CHROMIUM_ARGUMENTS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", *film,
                *arguments,
            ],
            viewport={"width": PHONE[0], "height": PHONE[1]},
            has_touch=True,
            is_mobile=True,
            locale="en-GB",
            timezone_id="Asia/Shanghai",
            ignore_https_errors=False,
            permissions=["camera"],
        )  # fmt: skip
        try:
            page = context.pages[0] if context.pages else context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("console", lambda message: print(f"page: {message.text}", file=sys.stderr))
            page.on("pageerror", lambda error: print(f"page error: {error}", file=sys.stderr))
            yield page
        finally:
            context.close()


def log_in(page: Any, url: str, user: str, password: str) -> None:
    page.goto(f"{url}phone")
    page.fill("input[name=user]", user)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_selector("[data-live=true]")


def english(page: Any) -> None:
    """English from the next load on, and verdicts that stay until they are tapped: a busy machine reads slowly."""
    page.evaluate(
        "() => { localStorage.setItem('paifang-phone-lang', 'en'); localStorage.setItem('paifang-phone-stay', 'on'); }"
    )


def take(page: Any, name: str) -> None:
    if SHOTS:
        page.wait_for_timeout(250)
        page.screenshot(path=f"{SHOTS}/{name}.png")


def type_code(page: Any, code: str, expected: str) -> None:
    """Type a code, see the verdict with this code, and go on."""
    page.fill("input[name=code]", code)
    page.press("input[name=code]", "Enter")
    page.wait_for_selector(f".verdict[data-code={expected}]")


def dismiss(page: Any) -> None:
    page.evaluate("() => document.querySelector('.verdict')?.click()")
    page.wait_for_selector(".verdict", state="detached")


def waiting(page: Any, count: int) -> None:
    if count:
        page.wait_for_selector(f"[data-waiting='{count}']")
    else:
        page.wait_for_selector("[data-waiting]", state="detached")


def listed(page: Any) -> None:
    """Wait until the phone has a list and keeps the page's own files."""
    page.wait_for_function("() => document.documentElement.dataset.offline === 'ready'")
    page.wait_for_function(
        """async () => {
            const open = indexedDB.open('paifang-phone');
            const base = await new Promise((done) => { open.onsuccess = () => done(open.result); });
            try {
                const all = base.transaction('lists').objectStore('lists').getAll();
                return (await new Promise((done) => { all.onsuccess = () => done(all.result); })).length > 0;
            } catch { return false; } finally { base.close(); }
        }"""
    )
    page.wait_for_function(
        """async () => {
            for (const name of await caches.keys()) {
                const kept = await (await caches.open(name)).keys();
                if (kept.filter((each) => each.url.includes('/assets/')).length >= 3) return true;
            }
            return false;
        }"""
    )


def faults(page: Any, where: str) -> None:
    """No serious fault of accessibility. Raises AssertionError that names them."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == [], (where, serious)


def work(page: Any, url: str, password: str) -> None:
    """Scan by camera, then by keyboard without a signal, and see it uploaded."""
    codes = json.loads(site_does("codes"))
    page.goto(f"{url}phone")
    english(page)
    log_in(page, url, "operator", password)
    page.wait_for_selector(".verdict.ok[data-code=ok][data-offline=false]")  # the film shows a code
    take(page, "verdict-ok")
    assert "Go in" in page.locator(".verdict").inner_text()
    dismiss(page)
    take(page, "scan-dark")
    type_code(page, codes["film"], "already_used")
    take(page, "verdict-no")
    dismiss(page)
    listed(page)

    page.context.set_offline(True)
    page.wait_for_selector("[data-live=false]")
    type_code(page, codes["one"], "ok")
    assert page.locator(".verdict").get_attribute("data-offline") == "true"
    take(page, "verdict-offline")
    dismiss(page)
    waiting(page, 1)
    type_code(page, codes["one"], "already_used")  # this phone knows of it
    dismiss(page)
    type_code(page, codes["film"], "already_used")  # the list knows of it
    dismiss(page)
    type_code(page, codes["forged"], "bad_signature")
    dismiss(page)
    type_code(page, codes["annual"], "need_server")
    dismiss(page)
    page.click("button[aria-label='One more']")
    page.click("button[aria-label='One more']")
    page.click("button[aria-label='One more']")
    type_code(page, codes["group"], "ok")
    assert "3" in page.locator(".verdict .pax").inner_text()
    dismiss(page)
    waiting(page, 2)
    take(page, "scan-offline")
    assert site_does("use two") == "ok"  # a gate lets in what this phone is about to let in too
    type_code(page, codes["two"], "ok")
    dismiss(page)
    waiting(page, 3)

    page.context.set_offline(False)
    page.wait_for_selector("[data-live=true]")
    waiting(page, 0)
    page.wait_for_selector("text=1 conflicts")
    assert site_does("booked") == "ok"


def without_server(page: Any, url: str, password: str) -> None:
    """The server dies; the page is opened anew without it, checks by its list, and uploads when it is back."""
    codes = json.loads(site_does("codes"))
    page.goto(f"{url}phone")
    english(page)
    log_in(page, url, "operator", password)
    listed(page)
    assert site_does("kill") == "ok"
    page.wait_for_selector("[data-live=false]")
    page.reload()
    page.wait_for_selector("[data-live=false]")
    type_code(page, codes["one"], "ok")
    dismiss(page)
    waiting(page, 1)
    page.reload()  # what it let in outlives the page
    waiting(page, 1)
    type_code(page, codes["one"], "already_used")
    dismiss(page)
    assert site_does("start") == "ok"
    # where the session ended with the server, somebody logs in anew; what waited is uploaded in any case
    page.wait_for_selector("[data-live=true], input[name=user]")
    if page.locator("input[name=user]").count():
        page.fill("input[name=user]", "operator")
        page.fill("input[name=password]", password)
        page.click("button[type=submit]")
    page.wait_for_selector("[data-live=true]")
    waiting(page, 0)
    assert site_does("booked") == "ok"


def secure(page: Any, url: str, password: str) -> None:
    """Over HTTPS under another name: camera, list, a scan without a signal, its upload."""
    codes = json.loads(site_does("codes"))
    page.goto(f"{url}phone")
    assert page.evaluate("() => isSecureContext")
    english(page)
    log_in(page, url, "operator", password)
    page.wait_for_selector(".verdict.ok[data-code=ok][data-offline=false]")  # by camera
    dismiss(page)
    listed(page)
    page.context.set_offline(True)
    page.wait_for_selector("[data-live=false]")
    page.reload()
    page.wait_for_selector("[data-live=false]")
    type_code(page, codes["one"], "ok")
    dismiss(page)
    waiting(page, 1)
    page.context.set_offline(False)
    page.wait_for_selector("[data-live=true]")
    waiting(page, 0)
    assert site_does("booked") == "ok"


def count(page: Any, url: str, password: str) -> None:
    """A direct check counted by thumb, its stubs, and the figures."""
    page.goto(f"{url}phone")
    english(page)
    log_in(page, url, "manager", password)
    page.click("text=Count")
    page.click("text=Begin to count")
    for _ in range(3):
        page.click(".tap")
    page.click("text=+10")
    page.wait_for_selector("[data-counted='13']")
    take(page, "count")
    page.click("text=End, and enter the stubs")
    page.fill("input[name=stubs]", "15")
    assert "+2" in page.locator(".difference").inner_text()
    take(page, "stubs")
    for _ in range(40):  # the last taps are on their way
        page.click("button[type=submit]")
        page.wait_for_timeout(500)
        if page.locator("[data-state]").count():
            break
    page.wait_for_selector("[data-state=booked]")
    take(page, "stubs-booked")
    page.click("text=Figures")
    page.wait_for_selector("[data-inside='15']")
    take(page, "figures-dark")


def looks(page: Any, url: str, password: str) -> None:
    """Every page in both themes and in both languages, without a serious fault of accessibility."""
    page.goto(f"{url}phone")
    page.wait_for_selector("input[name=user]")
    faults(page, "log-in")
    take(page, "login-zh")
    log_in(page, url, "manager", password)
    code = json.loads(site_does("codes"))["film"]
    for theme, language in (("dark", "zh"), ("light", "en")):
        page.evaluate(
            "([lang, theme]) => { localStorage.setItem('paifang-phone-lang', lang);"
            " localStorage.setItem('paifang-phone-theme', theme); localStorage.setItem('paifang-phone-stay', 'on'); }",
            [language, theme],
        )
        page.reload()
        page.wait_for_selector("[data-live=true]")
        where = f"{language}-{theme}"
        for number, name in enumerate(("scan", "count", "figures")):
            page.locator("nav button").nth(number).click()
            if name == "figures":
                page.wait_for_selector("[data-inside]")
            faults(page, f"{name} {where}")
            take(page, f"{name}-{where}")
        page.locator("nav button").nth(0).click()
        page.fill("input[name=code]", code)
        page.press("input[name=code]", "Enter")
        page.wait_for_selector(".verdict")
        page.wait_for_timeout(200)  # it moves in
        faults(page, f"verdict {where}")
        take(page, f"verdict-{where}")
        dismiss(page)
        page.locator("header button").click()
        faults(page, f"menu {where}")
        take(page, f"menu-{where}")


STEPS: dict[str, Callable[[Any, str, str], None]] = {
    "work": work,
    "without_server": without_server,
    "count": count,
    "secure": secure,
    "looks": looks,
}


def main() -> None:
    name, url, camera, *arguments = sys.argv[1:]
    password = sys.stdin.readline().strip()
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    assert (STATIC_FOLDER / "phone.html").exists(), "the pages are not built: make console"
    with phone(camera, *arguments) as page:
        try:
            STEPS[name](page, url, password)
        except BaseException:
            take(page, f"failed-{name}")
            raise


main()
