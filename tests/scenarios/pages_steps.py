"""What people do on the console's pages, run in a process of its own: `pages_steps.py NAME URL` (see test_pages.py).

Apart from the test, because playwright's synchronous API and trio-asyncio cannot share one.  A step that needs the
site to do something prints `do …` and waits for a line: the test does it and answers.
"""

from __future__ import annotations

import sys
from typing import Any

from admin_ws.screenshots import browser_page, log_in

HOLD_MS = 1_000  # longer than the page asks for
PATIENCE_MS = 30_000
WRONG_BEFORE_LOCK = 3


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
