"""What people do on the console's pages, run in a process of its own: `pages_steps.py NAME URL` (see test_pages.py).

Apart from the test, because playwright's synchronous API and trio-asyncio cannot share one.  A step that needs the
site to do something prints `do …` and waits for a line: the test does it and answers.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from admin_ws.screenshots import browser_page, log_in, set_theme

HOLD_MS = 1_000  # longer than the page asks for
PATIENCE_MS = 30_000
WRONG_BEFORE_LOCK = 3


AXE = Path(__file__).parents[2] / "admin_ws" / "console" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("PAIFANG_PAGE_SHOTS", "")  # a folder for pictures, to look at
SIZES = ((1280, 800), (1600, 900))  # pixels
DRAWN = {  # page -> what is on it when the site has told all of it
    "overview": "[data-lane=s1]",
    "lanes": "[data-gate=s1]",
    "devices": "[data-device='gate/s1']",
    "cases": "[data-case]",
    "find": "input[name=find]",
    "flow": "[data-testid=flow-report] [data-reason=already_used]",
    "office": "input[name=office-number]",
    "sales": "[data-product=adult]",
    "system": "[data-actor='lane/s1']",
    "users": "[data-user=operator]",
    "settings": "[data-testid=password-form]",
}
RAW = ('{"', "undefined", "NaN", "[object", "null")  # what no operator should read
CLIPPED = """() => {
    const found = [];
    for (const one of document.querySelectorAll('body *')) {
        if (one.closest('svg, .sr-only') || !one.offsetParent || one.clientWidth < 8) continue;
        const style = getComputedStyle(one);
        if (style.overflowX !== 'hidden' && style.overflowX !== 'clip') continue;
        if (one.scrollWidth > one.clientWidth + 1) {
            found.push(`${one.className || one.tagName}: ${one.textContent.slice(0, 40)}`);
        }
    }
    const wide = document.documentElement.scrollWidth - innerWidth;
    return wide > 0 ? [...found, `the page is ${wide} pixels wider than its window`] : found;
}"""


def faults(page: Any) -> list[str]:
    """What axe finds serious on the page as it stands, when nothing moves any more."""
    page.wait_for_function("() => document.getAnimations().every(one => one.playState !== 'running')")
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{fault['id']}: {node['target']} {node.get('failureSummary', '')[:300]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]


def take(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


def log_in_form(page: Any, url: str, user: str, password: str) -> None:
    """Fill in the form; what comes then is for the caller to see."""
    page.goto(url)
    page.fill("input[name=user]", user)
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")


def site_does(what: str) -> str:
    print(f"do {what}", flush=True)
    return sys.stdin.readline().strip()


def go(page: Any, fragment: str) -> None:
    page.evaluate("fragment => { location.hash = fragment; }", f"#/{fragment}")


def hold_evacuate(page: Any) -> None:
    box = page.locator("[data-testid=evacuate]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(HOLD_MS)
    page.mouse.up()


def sign_out(page: Any) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.locator("input[name=password]").wait_for()


def locked_out(page: Any, url: str, password: str) -> None:
    """Wrong passwords lock the user for a while, in words; the right one does not help meanwhile; others may log in."""
    page.goto(url)
    for _ in range(WRONG_BEFORE_LOCK):
        page.fill("input[name=user]", "operator")
        page.fill("input[name=password]", "wrong")
        page.keyboard.press("Enter")
        page.locator("form [role=alert]").wait_for()
        page.locator("button[type=submit]:not([disabled])").wait_for()
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.locator("form [role=alert]:has-text('Too many wrong passwords')").wait_for()
    assert page.locator("[data-lane]").count() == 0
    page.fill("input[name=user]", "manager")
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.locator(".pill-live").wait_for()


def first_login(page: Any, url: str, _password: str) -> None:
    """With the one-time password nothing can be done but to replace it; afterwards it is worth nothing."""
    first, own = site_does("one-time password"), "a sentence of my own"
    log_in_form(page, url, "admin", first)
    form = page.get_by_test_id("password-form")
    form.wait_for()
    assert page.locator("[data-lane], [data-command], .rail-page").count() == 0, "nothing else is offered"
    go(page, "users")
    form.wait_for()
    assert page.locator("[data-user]").count() == 0
    for old, new, again, said in (
        (first, own, "another", "The two do not match"),
        ("not the one-time password", own, own, "Wrong"),
        (first, first, first, "The new password is the old one"),
    ):
        page.fill("input[name=old-password]", old)
        page.fill("input[name=new-password]", new)
        page.fill("input[name=new-password-again]", again)
        form.locator("button[type=submit]").click()
        form.locator(f".error:has-text('{said}')").wait_for()
        assert page.locator("[data-user]").count() == 0
    page.reload()  # the session goes on, and so does the demand
    form.wait_for()
    page.fill("input[name=old-password]", first)
    page.fill("input[name=new-password]", own)
    page.fill("input[name=new-password-again]", own)
    form.locator("button[type=submit]").click()
    page.locator(".pill-live").wait_for()
    go(page, "users")
    page.locator("[data-user=admin]").wait_for()
    sign_out(page)
    log_in_form(page, url, "admin", first)
    page.locator("form [role=alert]:has-text('Wrong user')").wait_for()
    log_in(page, url, "admin", own)
    go(page, "users")
    page.locator("[data-user=admin]").wait_for()


def every_page(page: Any, url: str, password: str) -> None:
    """Each page of the real site in a theme and a language: drawn, nothing clipped, no serious fault for axe."""
    wrong: list[str] = []
    seen: set[str] = set()
    for user in ("manager", "technician", "cashier"):
        page.set_viewport_size({"width": 1600, "height": 900})
        log_in(page, url, user, password)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        names = page.locator(".rail-page").evaluate_all("all => all.map(one => one.dataset.page)")
        new = [name for name in names if name not in seen]
        seen |= set(new)
        for theme, language in (("dark", "zh"), ("light", "en")):
            set_theme(page, theme)
            if not page.evaluate("document.documentElement.lang").startswith(language):
                page.keyboard.press("L")
                page.wait_for_function("l => document.documentElement.lang.startsWith(l)", arg=language)
            for name in new:
                go(page, name)
                page.locator(f".rail-page.is-on[data-page={name}]").wait_for()
                page.locator(DRAWN[name]).first.wait_for()
                where = f"{name} {theme} {language}"
                wrong += [f"{where}: {each}" for each in faults(page)]
                words = page.locator(".main").inner_text()
                wrong += [f"{where}: {each!r} is for machines" for each in RAW if each in words]
                for width, height in SIZES:
                    page.set_viewport_size({"width": width, "height": height})
                    wrong += [f"{where} at {width}: {each}" for each in page.evaluate(CLIPPED)]
                    take(page, f"{name}-{theme}-{language}-{width}")
        sign_out(page)
    assert seen == set(DRAWN), seen ^ set(DRAWN)
    assert wrong == [], "\n".join(wrong)


def every_command(page: Any, url: str, password: str) -> None:
    """Each command to a lane, and what its board then really does."""
    log_in(page, url, "manager", password)
    go(page, "lanes/s1")
    page.locator("[data-gate=s1][data-state=idle]").wait_for()
    page.get_by_test_id("lane-panel").wait_for()
    page.fill("input[name=reason]", "rehearsal")
    page.fill("input[name=pax]", "2")
    page.locator("[data-command=open]").click()
    page.locator("[data-testid=told]:has-text('Sent')").wait_for()
    assert site_does("walk 2") == "2"
    page.locator("[data-gate=s1]:has-text('↑ 2')").wait_for()
    page.locator("[data-gate=s1][data-state=idle]").wait_for()
    for command, mode, admits in (
        ("lock", "closed", "False"),
        ("entry", "normal_entry", "True"),
        ("exit", "normal_exit", "False"),
        ("maintenance", "maintenance", "False"),
        ("both", "bidirectional", "True"),
    ):
        page.locator(f"[data-command={command}]").click()
        page.locator(f"[data-gate=s1][data-mode={mode}]").wait_for()
        assert site_does("admit s1") == admits, command
        page.locator("[data-gate=s1][data-state=idle], [data-gate=s1][data-state=maintenance]").first.wait_for()
    page.locator("[data-gate=s1]:has-text('↑ 4')").wait_for()
    page.locator("[data-command=free]").click()  # a direct check: the gate stands open, and everybody is counted
    page.locator("[data-gate=s1][data-mode=free_counted][data-barrier=open]").wait_for()
    assert site_does("walk 1") == "1"
    page.locator("[data-gate=s1]:has-text('↑ 5')").wait_for()
    page.locator("[data-command=both]").click()
    page.locator("[data-gate=s1][data-mode=bidirectional][data-barrier=closed]").wait_for()


def a_refusal(page: Any, url: str, password: str) -> None:
    """A ticket is refused at its second use; the page shows the way of the scan, and what would help."""
    log_in(page, url, "manager", password)
    go(page, "find")
    page.locator(".refusals").wait_for()
    assert site_does("admit s1") == "True"
    assert site_does("admit g1") == "False"
    refusal = page.locator(".refusal:has-text('already_used')").first
    refusal.click()
    steps = page.locator("[data-testid=trace-steps] tbody tr")
    steps.first.wait_for()
    actors = page.locator("[data-testid=trace-steps] tbody th").all_inner_texts()
    for actor in ("lane/g1", "admission", "ledger", "consoles"):
        assert actor in actors, (actor, actors)
    denied = page.locator("[data-step=Denied]")
    assert "already_used" in denied.inner_text()
    code = site_does("code")
    page.fill("input[name=why-code]", code)
    page.keyboard.press("Enter")
    page.locator("[data-testid=why][data-code=already_used] [data-verdict=refused]").wait_for()
    assert code not in page.content()
    number = site_does("ticket")
    page.fill("input[name=find]", number)
    page.keyboard.press("Enter")
    history = page.get_by_test_id("history")
    history.locator(f"[data-ticket='{number}']").wait_for()
    for kind in ("refused", "passage"):
        history.locator(f".kind-{kind}").first.wait_for()
    # what a gate refuses by itself, without asking anybody, is found by its credential, too
    assert site_does("close g1") == "True"
    assert site_does("admit g1") == "False"
    page.locator(".refusal:has-text('lane_closed')").first.wait_for()
    for _ in range(20):  # it is written behind the answer
        page.fill("input[name=find]", number)
        page.keyboard.press("Enter")
        page.locator(".find-form button:not([disabled])").wait_for()
        page.wait_for_timeout(500)
        if history.locator("code:has-text('lane_closed')").count():
            break
    history.locator("code:has-text('lane_closed')").wait_for()
    go(page, "flow")
    page.locator("[data-reason=already_used]:has-text('1')").wait_for()
    page.locator("[data-throughput=s1] td:nth-child(2):has-text('1')").wait_for()


def a_case(page: Any, url: str, password: str) -> None:
    """Somebody follows through on another's grant: a case, worked to its end."""
    log_in(page, url, "manager", password)
    assert site_does("tailgate") == "True"
    go(page, "cases")
    row = page.locator("[data-case][data-state=open]").first
    row.wait_for()
    number = row.get_attribute("data-case")
    row.locator("a").first.click()
    case = page.get_by_test_id("case")
    case.locator("[data-command=acknowledge]").click()
    case.locator("[data-fact=state]:has-text('Acknowledged')").wait_for()
    case.locator("[data-command=assign]").click()
    case.locator("[data-fact=assigned]:has-text('manager')").wait_for()
    case.locator("textarea").fill("talked to both")
    case.locator("[data-command=note]").click()
    case.locator("li:has-text('talked to both')").wait_for()
    case.locator("textarea").fill("paid at the window")
    case.locator("[data-command=close]").click()
    page.locator(f"[data-case='{number}']").wait_for(state="detached")


def a_silent_lane(page: Any, url: str, password: str) -> None:
    """Evacuate with one lane that does not answer; then two people end it, lane by lane."""
    log_in(page, url, "manager", password)
    go(page, "flow")
    assert site_does("unplug s2") == "True"
    hold_evacuate(page)
    page.locator("[data-release=s1][data-open=true]").wait_for()
    page.locator("[data-release=s2].is-late").wait_for()
    assert page.locator("[data-release]").first.get_attribute("data-release") == "s2", "the worst on top"
    page.locator("[data-testid=release-progress]:has-text('1 not confirmed')").wait_for()
    assert site_does("plug s2") == "True"
    page.locator("[data-release=s2][data-open=true]").wait_for()
    page.get_by_role("button", name="End the evacuation").click()
    page.locator("text=manager asked to end it").wait_for()
    assert site_does("released") == "True", "one person ends nothing"
    sign_out(page)
    page.fill("input[name=user]", "security1")
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Confirm as the second person").click()
    page.locator(".banner-restoring").wait_for()
    page.locator(".release button").first.click()
    page.get_by_role("button", name="Re-arm all").click()
    page.locator(".banner-restoring").wait_for(state="detached")
    assert site_does("closed") == "True"


def a_restart(page: Any, url: str, password: str) -> None:
    """The server is killed and started under an open page: stale at once, and back by itself, on the same page."""
    log_in(page, url, "manager", password)
    go(page, "lanes/s1")
    page.locator("[data-gate=s1][data-state=idle]").wait_for()
    site_does("kill")
    page.locator(".pill-offline").wait_for()
    page.locator(".banner-stale").wait_for()
    assert page.locator("[data-command=lock]").is_disabled(), "nothing is commanded on what may not be"
    site_does("start")
    page.locator(".pill-live").wait_for()
    page.locator(".banner-stale").wait_for(state="detached")
    page.locator("[data-gate=s1][data-state=idle]").wait_for()
    assert page.evaluate("location.hash") == "#/lanes/s1"
    assert site_does("admit s1") == "True"
    page.locator("[data-gate=s1]:has-text('↑ 1')").wait_for()


STEPS = {
    "locked_out": locked_out,
    "first_login": first_login,
    "every_page": every_page,
    "every_command": every_command,
    "a_refusal": a_refusal,
    "a_case": a_case,
    "a_silent_lane": a_silent_lane,
    "a_restart": a_restart,
}


def main() -> None:
    name, url = sys.argv[1:]
    password = sys.stdin.readline().strip()
    with browser_page() as page:
        page.set_default_timeout(PATIENCE_MS)
        STEPS[name](page, url, password)
    print("done", flush=True)


if __name__ == "__main__":
    main()
