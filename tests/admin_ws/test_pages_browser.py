"""Every page of the console in Chromium against a site to look at: drawn, usable by keyboard, accessible, fast.

Needs Debian's `chromium`, the built page, and axe-core among the console's build tools (`python3 tools/bootstrap.py
console`).
"""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import trio

from admin_ws.screenshots import log_in, set_theme
from admin_ws.showcase import TRACE, Showcase
from admin_ws.testing import until
from paifang.browser import in_browser, on_site
from protocols import console as c

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AXE = Path(__file__).parents[2] / "admin_ws" / "console" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")
PAGES = {  # page -> what is on it when it is drawn
    "overview": "[data-lane=lane-1]",
    "lanes": "[data-gate=lane-1]",
    "lanes/lane-2": "[data-testid=lane-panel]",
    "devices": "[data-device='gate/lane-1']",
    "devices/gate%2Flane-15": "[data-testid=device-detail]",
    "cases": "[data-testid=cases]",
    "cases/311": "[data-testid=case]",
    f"find?trace={TRACE}": "[data-testid=trace-steps]",
    "flow": "[data-testid=flow-report]",
    "office": "input[name=office-number]",
    "sales": "[data-product=adult]",
    "system": "[data-actor=answers]",
    "users": "[data-user=anna]",
    "settings": "[data-command=check]",
}
FRAMES = """seconds => new Promise(resolve => {
    const times = [];
    const began = performance.now();
    const step = now => {
        times.push(now);
        if (now - began < seconds * 1000) requestAnimationFrame(step);
        else resolve(times);
    };
    requestAnimationFrame(step);
})"""


def show(page: Any, name: str) -> None:
    page.evaluate("hash => { location.hash = hash; }", f"#/{name}")
    page.locator(PAGES[name]).first.wait_for()


def faults(page: Any) -> list[str]:
    """What axe finds serious on the page as it stands."""
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{fault['id']}: {node['target']} {node.get('failureSummary', '')[:300]}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"][:3]
    ]


@pytest.mark.parametrize(("theme", "language"), [("dark", "en"), ("light", "zh")])
async def test_every_page_is_drawn_and_axe_finds_no_serious_fault(theme: str, language: str) -> None:
    """The other two looks are examined with the real site: see tests/scenarios/test_pages.py."""
    assert AXE.exists(), "axe-core is missing: python3 tools/bootstrap.py console"
    found: dict[str, list[str]] = {}

    def script(page: Any) -> None:
        page.goto(site.url)
        page.locator("input[name=user]").wait_for()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        set_theme(page, theme)
        found["login"] = faults(page)
        page.fill("input[name=user]", "max")
        page.fill("input[name=password]", "everything")
        page.keyboard.press("Enter")
        page.locator(".pill-live").wait_for()
        for name in PAGES:
            show(page, name)
            page.wait_for_timeout(150)  # for transitions: a colour half way is nobody's
            found[name] = faults(page)
        page.keyboard.press("?")
        page.locator(".help").wait_for()
        found["help"] = faults(page)

    async with Showcase().open() as site:
        await in_browser(script, language=language)
    wrong = [f"{name}: {each}" for name, all_of_it in found.items() for each in all_of_it]
    assert wrong == [], "\n".join(wrong)
    assert len(found) == len(PAGES) + 2


async def test_whoever_looks_on_from_elsewhere_reads_the_sites_time() -> None:
    def script(page: Any) -> None:
        log_in(page, site.url, "max", "everything")
        before = datetime.now(ZoneInfo("Asia/Shanghai"))
        shown, date = page.locator(".clock .time").inner_text(), page.locator(".clock .date").inner_text()
        after = datetime.now(ZoneInfo("Asia/Shanghai"))
        assert page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone") == "America/Los_Angeles"
        assert shown[:2] in {f"{each:%H}" for each in (before - timedelta(seconds=30), after)}
        assert any(f"{each.day} {each:%b} {each.year}" in date for each in (before, after))

    async with Showcase().open() as site:
        await in_browser(script, timezone="America/Los_Angeles")


async def test_everything_is_reached_from_the_keyboard() -> None:
    def script(page: Any) -> None:
        log_in(page, site.url, "max", "everything")
        page.keyboard.press("?")
        page.get_by_role("dialog", name="Keyboard").wait_for()
        page.keyboard.press("Escape")
        page.locator(".help").wait_for(state="detached")
        links = page.locator(".rail-page")
        letters = links.evaluate_all("all => all.map(one => one.getAttribute('aria-keyshortcuts'))")
        assert len(set(letters)) == len(letters) >= 9
        for keys in letters:
            for key in keys.split(" "):
                page.keyboard.press(key)
            page.locator(f".rail-page[aria-current=page][aria-keyshortcuts='{keys}']").wait_for()
            if page.evaluate("document.activeElement.matches('input, select, textarea')"):
                page.evaluate("document.activeElement.blur()")  # the sales window waits for digits
        page.keyboard.press("g")
        page.keyboard.press("l")
        page.locator("[data-gate=lane-1]").focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.dataset.gate") == "lane-2"
        page.keyboard.press("Enter")
        page.get_by_test_id("lane-panel").wait_for()
        page.keyboard.press("Escape")
        page.get_by_test_id("lane-panel").wait_for(state="detached")
        page.keyboard.press("g")
        page.keyboard.press("d")
        page.locator("[data-testid=devices]").wait_for()
        page.keyboard.press("/")
        page.keyboard.type("lane-15")
        page.locator("[data-device='gate/lane-1']").wait_for(state="detached")
        assert page.locator("[data-device]").count() == 3
        page.evaluate("document.activeElement.blur()")
        theme = page.evaluate("document.documentElement.dataset.theme")
        page.keyboard.press("T")
        page.wait_for_function("before => document.documentElement.dataset.theme !== before", arg=theme)
        page.keyboard.press("!")
        assert page.evaluate("document.activeElement.dataset.testid") == "evacuate"
        page.keyboard.down("Space")
        page.wait_for_timeout(1_000)
        page.keyboard.up("Space")
        page.locator(".banner-evacuation").wait_for()

    async with Showcase(lanes=24).open() as site:
        await in_browser(script)
        assert len([m for m in site.sees if isinstance(m, c.Trigger)]) == 1


async def test_a_lanes_commands_are_one_press_each_and_need_a_reason() -> None:
    modes = {"both": "bidirectional", "entry": "normal_entry", "exit": "normal_exit", "free": "free_counted",
             "lock": "closed", "maintenance": "maintenance"}  # fmt: skip

    def script(page: Any) -> None:
        log_in(page, site.url, "anna", "correct horse")
        page.goto(f"{site.url}#/lanes/lane-3")
        page.locator("[data-command=lock]").click()
        page.locator("[data-testid=told]:has-text('Give a reason')").wait_for()
        page.locator(".chip:has-text('Cleaning')").click()
        for command, mode in modes.items():
            page.locator(f"[data-command={command}]").click()
            page.locator(f"[data-gate=lane-3][data-mode={mode}]").wait_for()
            page.locator(f"[data-command={command}][aria-pressed=true]").wait_for()
        page.fill("input[name=pax]", "4")
        page.locator("[data-command=open]").click()
        page.locator("[data-testid=told]:has-text('Sent')").wait_for()

    async with Showcase(lanes=6).open() as site:
        await in_browser(script)
        orders = [m for m in site.sees if isinstance(m, c.SetMode | c.ManualOpen)]
        assert [m.mode for m in orders if isinstance(m, c.SetMode)] == list(modes.values())
        assert orders[-1].pax == 4
        assert {(m.reason, m.by, m.lane) for m in orders} == {("Cleaning", "anna", "lane-3")}


async def test_a_case_is_acknowledged_assigned_noted_and_closed() -> None:
    def script(page: Any) -> None:
        log_in(page, site.url, "anna", "correct horse")
        page.goto(f"{site.url}#/cases")
        page.locator("[data-case='311'] a").first.click()
        case = page.get_by_test_id("case")
        case.locator("[data-command=acknowledge]").click()
        case.locator("[data-fact=state]:has-text('Acknowledged')").wait_for()
        case.locator("[data-command=close]").click()
        case.locator("text=Write something first").wait_for()
        case.locator("input[name=assign]").fill("boris")
        case.locator("[data-command=assign]").click()
        case.locator("[data-fact=assigned]:has-text('boris')").wait_for()
        case.locator("textarea").fill("Two school classes;\nthe second had no ticket <b>")
        case.locator("[data-command=note]").click()
        case.locator("li:has-text('the second had no ticket <b>')").wait_for()
        case.locator("textarea").fill("paid at the window")
        case.locator("[data-command=close]").click()
        page.locator("[data-case='311']").wait_for(state="detached")
        page.get_by_role("button", name="All").click()
        page.locator("[data-case='311'][data-state=closed]").wait_for()

    async with Showcase().open() as site:
        await in_browser(script)
        kinds = (c.AcknowledgeCase, c.AssignCase, c.NoteCase, c.CloseCase)
        worked = [m for m in site.sees if isinstance(m, kinds)]
        assert [type(m) for m in worked] == list(kinds)
        assert {m.by for m in worked} == {"anna"}


async def test_a_refusals_way_is_a_press_away_and_a_code_does_not_stay_on_the_screen() -> None:
    def script(page: Any) -> None:
        log_in(page, site.url, "anna", "correct horse")
        page.goto(f"{site.url}#/find")
        page.locator(f"[data-trace='{TRACE}']").first.click()
        steps = page.locator("[data-testid=trace-steps] [data-step]")
        steps.first.wait_for()
        assert steps.evaluate_all("all => all.map(one => one.dataset.step)") == [
            "Scan", "Decide", "GrantOp", "Denied", "FeedEvent",
        ]  # fmt: skip
        assert "Ticket already used" in page.locator("[data-step=Denied]").inner_text()
        page.fill("input[name=find]", "PF1:SECRET")
        page.keyboard.press("Enter")
        page.get_by_test_id("history").locator("text=Sold at the window").wait_for()
        assert page.locator("input[name=find]").input_value() == "" and "PF1:SECRET" not in page.content()
        page.goto(f"{site.url}#/find?trace=forgotten")
        page.locator("text=keeps the way of this scan no longer").wait_for()

    async with Showcase().open() as site:
        await in_browser(script)
        assert [m.text for m in site.sees if isinstance(m, c.FindHistory)] == ["PF1:SECRET"]


async def test_a_user_is_made_and_the_password_shown_once_and_a_site_file_is_looked_at_before_it_is_taken() -> None:
    def script(page: Any) -> None:
        log_in(page, site.url, "max", "everything")
        page.goto(f"{site.url}#/users")
        page.locator("[data-command=create]").click()
        page.fill("input[name=new-user]", "erika")
        page.select_option("select[name=new-role]", "cashier")
        page.fill("input[name=user-reason]", "starts today")
        page.get_by_role("button", name="Apply").click()
        assert page.get_by_test_id("one-time-password").inner_text() == "lotus-9-granite-41"
        page.get_by_role("dialog", name="One-time password").get_by_role("button", name="Close").click()
        assert "lotus-9-granite-41" not in page.content()
        page.goto(f"{site.url}#/settings")
        assert page.locator("[data-command=reload]").is_disabled(), "what was not looked at is not taken"
        page.locator("[data-command=check]").click()
        page.locator("[data-subject='lane-25'] >> text=At the next start").wait_for()
        page.locator("[data-command=reload]").click()
        page.locator("[data-testid=changes] >> text=Applied").first.wait_for()

    async with Showcase().open() as site:
        await in_browser(script)
        (made,) = (m for m in site.sees if isinstance(m, c.CreateUser))
        assert (made.user, made.role, made.reason) == ("erika", "cashier", "starts today")
        assert [m.dry_run for m in site.sees if isinstance(m, c.ReloadSite)] == [True, False]


async def test_alarms_sound_only_for_who_wants_it() -> None:
    alarm = c.FeedEvent(at=time.time(), kind="alarm", severity="alarm", lane="lane-1", code="forced", text_en="Forced")
    heard = "() => window.tones"

    def script(page: Any) -> None:
        page.add_init_script(
            """window.tones = 0;
            const start = OscillatorNode.prototype.start;
            OscillatorNode.prototype.start = function (...rest) { window.tones++; return start.apply(this, rest); };"""
        )
        log_in(page, site.url, "anna", "correct horse")
        on_site(site.hub_address.tell, alarm)
        page.locator(".line.severity-alarm").first.wait_for()
        page.wait_for_timeout(300)
        assert page.evaluate(heard) == 0
        page.get_by_role("button", name="Alarm sound").click()
        page.wait_for_function("() => window.tones === 2")
        page.wait_for_timeout(4_100)  # two tones are not run together
        on_site(site.hub_address.tell, alarm)
        page.wait_for_function("() => window.tones === 4")

    async with Showcase().open() as site:
        await in_browser(script)


async def test_a_full_feed_and_two_hundred_busy_lanes_leave_the_page_smooth() -> None:
    """Frame times as the page itself sees them; the figures are printed.

    The bound is only that it does not stand still: nine times as many programs as cores leave three frames a second.
    """
    figures: dict[str, float] = {}
    stop = trio.Event()

    async def busy() -> None:
        beat = 0
        while not stop.is_set():
            beat += 1
            for index, lane in enumerate(site.lanes):
                site.lanes[index] = lane = msgspec.structs.replace(lane, entries=lane.entries + 1, last_at=time.time())
                site.hub_address.tell(lane)
            await trio.sleep(0.1)

    async def many() -> None:
        for _ in range(100):
            for _ in range(100):
                site.hub_address.tell(site.line(time.time()))
            await trio.sleep(0.02)

    def script(page: Any) -> None:
        began = time.monotonic()
        page.goto(site.url)
        page.locator("input[name=user]").wait_for()
        figures["usable_s"] = time.monotonic() - began
        log_in(page, site.url, "anna", "correct horse")
        trio.from_thread.run(many)
        page.wait_for_function("() => document.querySelectorAll('.line').length >= 150")
        on_site(nursery.start_soon, busy)
        page.wait_for_timeout(1_000)
        times = page.evaluate(FRAMES, 5)
        gaps = sorted(b - a for a, b in itertools.pairwise(times))
        figures["frames_per_s"] = len(gaps) / (sum(gaps) / 1000)
        figures["p99_gap_ms"] = gaps[int(len(gaps) * 0.99)]
        on_site(stop.set)
        shown = page.locator("[data-lane=lane-200] [data-count=entries]")
        shown.wait_for()
        last = site.lanes[199].entries
        page.wait_for_function(
            "last => document.querySelector('[data-lane=lane-200] [data-count=entries]')"
            ".textContent.replace(',', '') === String(last)",
            arg=last,
        )

    async with Showcase(lanes=200).open() as site, trio.open_nursery() as nursery:
        await in_browser(script)
        await until(stop.is_set)
    print({name: round(value, 2) for name, value in figures.items()})
    assert figures["frames_per_s"] > 0.5, "the page stands still"
    assert figures["usable_s"] < 30
