"""The page in Chromium against a stub site of real actors: what an operator sees and does.

Chromium is also the foreign client of the channel: its WebSocket, its origin rules and its idea of the content
security policy are not ours. Needs Debian's `chromium` and the built page (`make console`).
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from admin_ws.channel import Route
from admin_ws.screenshots import log_in
from admin_ws.testing import StubSite
from core import Address, Child, Restart, Stop, Supervisor, inspect_tree
from core.testing import running
from paifang.browser import in_browser, on_site
from protocols import console as c

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOLD_MS = 1_000  # longer than the page asks for
PASSWORDS = {"anna": "correct horse", "boris": "battery staple", "chen": "till one", "max": "everything"}


def enter(page: Any, site: StubSite, user: str = "anna") -> None:
    log_in(page, site.url, user, PASSWORDS[user])


def press(page: Any, hold_ms: int) -> None:
    """Put the mouse on the evacuation button, press, hold, let go."""
    box = page.locator("[data-testid=evacuate]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(hold_ms)
    page.mouse.up()


def triggers(site: StubSite) -> list[c.Trigger]:
    return [message for message in site.sees if isinstance(message, c.Trigger)]


async def test_logging_in_needs_the_right_password() -> None:
    def script(page: Any) -> None:
        page.goto(site.url)
        page.fill("input[name=user]", "anna")
        page.fill("input[name=password]", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Wrong user name or password")
        assert page.locator("[data-lane]").count() == 0
        page.fill("input[name=password]", PASSWORDS["anna"])
        page.keyboard.press("Enter")
        page.wait_for_selector(".pill-live")
        assert page.locator("[data-lane]").count() == 8
        page.reload()  # the session is resumed without asking again
        page.wait_for_selector(".pill-live")
        page.click("text=Sign out")
        page.wait_for_selector("input[name=password]")
        page.reload()
        page.wait_for_selector("input[name=password]")

    async with StubSite().open() as site:
        await in_browser(script)


async def test_a_lane_that_turns_is_seen_at_once_with_its_counts_and_its_line() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        entries = page.locator("[data-lane=lane-3] [data-count=entries]")
        assert entries.inner_text() == "300"
        began = time.monotonic()
        on_site(site.lane_turns, 3)
        page.wait_for_function(
            "() => document.querySelector('[data-lane=lane-3] [data-count=entries]').textContent === '301'"
        )
        assert time.monotonic() - began < 10.0  # nothing was asked for again
        page.wait_for_selector("[data-lane=lane-3].turned-in")
        assert "1 person entered" in page.locator(".line").first.inner_text()
        on_site(site.refuse, 2, "already_used", "票已使用", "Ticket already used")
        page.wait_for_selector("[data-lane=lane-2].tone-refused >> text=Ticket already used")
        page.click("button.chip:has-text('Refused')")
        page.wait_for_function("() => document.querySelectorAll('.line').length === 1")
        assert "already_used" in page.locator(".line").inner_text()

    async with StubSite().open() as site:
        await in_browser(script)


async def test_a_held_press_evacuates_and_every_lane_is_seen_to_acknowledge() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        press(page, HOLD_MS)
        page.wait_for_selector(".banner-evacuation >> text=Triggered by anna")
        assert page.locator("[data-release]").count() == 4
        page.wait_for_function("() => document.querySelectorAll('[data-release][data-open=true]').length === 4")
        assert "4 of 4 lanes sensed open" in page.locator("[data-testid=release-progress]").inner_text()
        assert page.locator("[data-lane].tone-released").count() == 4
        assert page.locator("[data-testid=evacuate]").count() == 0  # done is done

    async with StubSite(lanes=4).open() as site:
        await in_browser(script)
        assert [(trigger.by, trigger.drill) for trigger in triggers(site)] == [("anna", False)]


async def test_a_lane_that_does_not_acknowledge_turns_red_after_two_seconds() -> None:
    site = StubSite(lanes=3)
    site.deaf.add("lane-2")

    def script(page: Any) -> None:
        enter(page, site)
        press(page, HOLD_MS)
        page.wait_for_selector("[data-release=lane-2].is-waiting")
        began = time.monotonic()
        page.wait_for_selector("[data-release=lane-2].is-late >> text=NOT CONFIRMED")
        assert time.monotonic() - began < 10.0
        assert page.locator("[data-release]").first.get_attribute("data-release") == "lane-2"  # the worst on top
        assert "1 not confirmed" in page.locator("[data-testid=release-progress]").inner_text()
        page.wait_for_selector("[data-lane=lane-2].tone-alarm")
        assert page.locator("[data-release].is-late").count() == 1

    async with site.open():
        await in_browser(script)


async def test_a_brief_touch_does_not_evacuate_but_hammering_does() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        press(page, 200)
        page.wait_for_timeout(2_200)
        assert triggers(site) == []
        box = page.locator("[data-testid=evacuate]").bounding_box()
        for _ in range(3):
            page.mouse.click(box["x"] + 50, box["y"] + 50, delay=60)
        page.wait_for_selector(".banner-evacuation")

    async with StubSite(lanes=2).open() as site:
        await in_browser(script)
        assert len(triggers(site)) == 1


async def test_the_keyboard_evacuates_too_and_a_drill_is_marked_as_one() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        page.check("text=Drill")
        page.focus("[data-testid=evacuate]")
        page.keyboard.down("Space")
        page.wait_for_timeout(HOLD_MS)
        page.keyboard.up("Space")
        page.wait_for_selector(".banner-evacuation >> text=drill")
        page.wait_for_selector("[data-testid=evacuate] >> text=Make the drill real")

    async with StubSite(lanes=2).open() as site:
        await in_browser(script)
        assert triggers(site)[0].drill


async def test_two_people_end_an_evacuation_and_lanes_are_rearmed() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        press(page, HOLD_MS)
        page.click("text=End the evacuation")
        page.wait_for_selector("text=anna asked to end it")
        assert page.locator("text=Confirm as the second person").count() == 0  # not by the same one
        page.click("text=Sign out")
        page.fill("input[name=user]", "boris")
        page.fill("input[name=password]", PASSWORDS["boris"])
        page.keyboard.press("Enter")
        page.click("text=Confirm as the second person")
        page.wait_for_selector(".banner-restoring")
        page.locator(".release button").first.click()
        page.wait_for_selector("[data-lane=lane-1].tone-ok")
        page.click("text=Re-arm all")
        page.wait_for_function("() => document.querySelectorAll('.banner').length === 0")
        assert page.locator("[data-lane].tone-ok").count() == 2

    async with StubSite(lanes=2).open() as site:
        await in_browser(script)
        assert {m.by for m in site.sees if isinstance(m, c.RestoreRequest)} == {"anna", "boris"}


async def test_data_that_is_old_says_so_at_once_and_life_returns_by_itself() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        on_site(silence)
        page.wait_for_selector(".pill-stale", timeout=20_000)
        page.wait_for_selector(".banner-stale >> text=Data is")
        assert page.evaluate("getComputedStyle(document.querySelector('.main-overview > *')).filter") == "grayscale(1)"
        on_site(speak)
        page.wait_for_selector(".pill-live")
        on_site(site.console_address.tell, Stop())
        page.wait_for_selector(".pill-offline")
        page.wait_for_selector("text=paifang evacuate")

    original = {}

    def silence() -> None:
        original["broadcast"] = site.hub._broadcast
        site.hub._broadcast = lambda delta: None  # type: ignore[method-assign]

    def speak() -> None:
        site.hub._broadcast = original["broadcast"]  # type: ignore[method-assign]

    async with StubSite().open() as site:
        await in_browser(script, strict=False)  # Chromium reports the refused reconnections


async def test_a_page_comes_back_by_itself_after_a_restart_of_the_server() -> None:
    site = StubSite()
    restart, restarted = trio.Event(), trio.Event()

    def script(page: Any) -> None:
        enter(page, site)
        on_site(restart.set)
        page.wait_for_selector(".pill-offline")
        trio.from_thread.run(restarted.wait)
        page.wait_for_selector(".pill-live")
        on_site(site.lane_turns, 1)
        page.wait_for_function(
            "() => document.querySelector('[data-lane=lane-1] [data-count=entries]').textContent === '101'"
        )

    async with trio.open_nursery() as nursery:
        async with site.open():
            nursery.start_soon(partial(in_browser, script, strict=False))
            await restart.wait()
        async with site.open():
            restarted.set()
            while nursery.child_tasks:  # the browser's task ends when its script does
                await trio.sleep(0.05)


async def test_a_command_is_sent_with_its_reason_and_a_refusal_is_shown_in_words() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        page.click("[data-lane=lane-2]")
        page.click("[data-command=lock]")
        page.wait_for_selector("text=Give a reason")
        page.fill(".lane-panel input[name=reason]", "cleaning")
        page.click("[data-command=lock]")
        page.wait_for_selector("[data-lane=lane-2] >> text=Closed")
        page.fill(".lane-panel input[name=reason]", "school class")
        page.fill(".lane-panel input[name=pax]", "9")
        page.click("[data-command=open]")
        page.wait_for_selector(".lane-panel >> text=Five people at most")
        assert page.locator("[data-testid=evacuate]").is_enabled()  # the panel never covers it
        page.keyboard.press("Escape")
        assert page.locator(".lane-panel").count() == 0

    async with StubSite().open() as site:
        await in_browser(script)
        commands = [m for m in site.sees if isinstance(m, c.SetMode | c.ManualOpen)]
        assert [(m.by, m.reason) for m in commands] == [("anna", "cleaning"), ("anna", "school class")]


async def test_a_running_batch_is_paused_and_nothing_else_can_be() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        page.click("[data-lane=lane-2]")
        page.locator(".lane-panel").wait_for()
        assert page.locator("[data-testid=pause]").is_disabled(), "no batch runs"
        batch = msgspec.structs.replace(site.lanes[1], state="granted", passed=12, pax=20)
        on_site(site.hub_address.tell, batch)
        page.wait_for_selector("[data-testid=pause]:has-text('12/20')")
        page.click("[data-testid=pause]")
        page.wait_for_selector("text=Give a reason")
        page.fill(".lane-panel input[name=reason]", "the guide asked")
        page.click("[data-testid=pause]")
        page.wait_for_selector(".lane-panel >> text=Sent")

    async with StubSite().open() as site:
        await in_browser(script)
        assert [(m.lane, m.by) for m in site.sees if isinstance(m, c.PauseBatch)] == [("lane-2", "anna")]


async def test_a_zone_is_stopped_for_a_time_with_a_reason_and_its_count_is_corrected() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        zone = page.locator("[data-zone=north]")
        zone.locator("summary").click()
        zone.locator("button:has-text('Apply')").click()
        zone.locator("text=Give a reason").wait_for()
        zone.locator("input >> nth=0").fill("storm")
        zone.locator("button:has-text('Apply')").click()
        zone.locator("text=done").wait_for()
        stopped = c.ZoneView(
            zone="north", name="Park", inside=70, held=0, limit=100, state="stopped", staff=3, entered=512,
            sale_stopped=True, stopped_until=time.time() + 1800,
        )  # fmt: skip
        on_site(site.hub_address.tell, stopped)
        zone.locator("text=Entry stopped").wait_for()
        words = zone.inner_text()
        for part in ("512 first entries today", "3 of them staff", "Stopped until", "Sale stopped"):
            assert part in words, (part, words)
        zone.locator("input >> nth=0").fill("counted by hand")
        zone.locator("input[type=number] >> nth=1").fill("-30")
        zone.locator("button:has-text('Correct the count')").click()
        zone.locator("text=waiting for a second person").wait_for()

    async with StubSite().open() as site:
        await in_browser(script)
        (stop,) = (m for m in site.sees if isinstance(m, c.StopZoneFor))
        assert (stop.what, stop.minutes, stop.reason, stop.by) == ("entry", 30, "storm", "anna")
        (correction,) = (m for m in site.sees if isinstance(m, c.CalibrateZone))
        assert (correction.delta, correction.reason, correction.by) == (-30, "counted by hand", "anna")


async def test_a_cashier_sells_from_the_keyboard_and_sees_the_ticket_printed() -> None:
    def script(page: Any) -> None:
        enter(page, site, "chen")
        page.click("text=Sales window")
        page.wait_for_selector("[data-product=adult]")
        for key in ("1", "1", "2"):
            page.keyboard.press(key)
        assert page.locator("[data-testid=total]").inner_text() == "¥475.00"
        page.fill(".cash input", "500")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-testid=receipt]")
        assert page.locator("[data-testid=change]").inner_text() == "¥25.00"
        page.wait_for_selector("[data-testid=receipt] >> text=Printed")
        text = page.locator("[data-testid=receipt]").inner_text()
        assert "…00XK7Q" in text
        assert "PF1:DEMO" not in page.content()  # a whole code opens a gate; the page shows its tail
        assert page.locator("[data-lane]").count() == 0
        assert page.locator("[data-testid=evacuate]").is_visible()

    async with StubSite().open() as site:
        await in_browser(script)
        sell = next(m for m in site.sees if isinstance(m, c.Sell))
        assert (sell.by, sell.printer) == ("chen", "printer-1")
        assert [(line.product, line.quantity) for line in sell.lines] == [("adult", 2), ("child", 1)]
        assert len(sell.key) == 24


async def test_a_sale_whose_answer_was_lost_is_sent_again_under_the_same_key() -> None:
    async with StubSite().open() as site:

        def whole(page: Any) -> None:
            enter(page, site, "chen")
            page.click("text=Sales window")
            page.wait_for_selector("[data-product=adult]")
            page.keyboard.press("1")
            on_site(vanish_on_sale)
            page.click("[data-testid=sell]")
            page.wait_for_selector("text=the order cannot be doubled")
            page.wait_for_selector(".pill-live")
            page.click("[data-testid=sell]")
            page.wait_for_selector("[data-testid=receipt]")

        original = site._sell

        def vanish_on_sale() -> None:
            def sell(message: c.Sell) -> c.Sold:
                site._sell = original  # type: ignore[method-assign]
                site.console.channel.close_all()
                return original(message)

            site._sell = sell  # type: ignore[method-assign]

        await in_browser(whole)
        keys = [m.key for m in site.sees if isinstance(m, c.Sell)]
        assert len(keys) == 2
        assert keys[0] == keys[1]


async def test_the_page_speaks_chinese_and_english() -> None:
    def script(page: Any) -> None:
        page.goto(site.url)
        page.wait_for_selector("text=登录")
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        page.fill("input[name=user]", "anna")
        page.fill("input[name=password]", PASSWORDS["anna"])
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-testid=evacuate] >> text=紧急疏散")
        page.wait_for_selector("[data-lane=lane-1] >> text=就绪")
        page.click("text=English")
        page.wait_for_selector("[data-testid=evacuate] >> text=EVACUATE")
        page.reload()
        page.wait_for_selector("[data-lane=lane-1] >> text=Ready")

    async with StubSite().open() as site:
        await in_browser(script, language="zh")


async def test_names_and_texts_are_text_and_never_markup() -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

    def tell() -> None:
        site.lanes[0] = msgspec.structs.replace(site.lanes[0], name=evil, last_text_en=evil, last_at=1.0)
        site.hub_address.tell(site.lanes[0])
        site.hub_address.tell(
            c.FeedEvent(at=1.0, kind="alarm", severity="alarm", lane="lane-1", code=evil, text_en=evil, trace=evil)
        )

    def script(page: Any) -> None:
        enter(page, site)
        on_site(tell)
        page.wait_for_function("() => document.querySelector('.tile-name').textContent.includes('onerror')")
        page.wait_for_timeout(300)
        assert page.locator("img").count() == 0
        assert "owned" not in page.title()
        assert page.evaluate(  # and were there markup, the policy would stop it
            """() => new Promise(resolve => {
                document.addEventListener('securitypolicyviolation', event => resolve(event.violatedDirective));
                const script = document.createElement('script');
                script.textContent = "document.title = 'owned'";
                document.head.append(script);
            })"""
        ).startswith("script-src")
        assert "owned" not in page.title()

    async with StubSite().open() as site:
        await in_browser(script, strict=False)


OPEN_CHANNEL = """url => new Promise(resolve => {
    const socket = new WebSocket(url, 'paifang.json');
    socket.onopen = () => resolve('opened');
    socket.onclose = event => resolve(event.code);
    setTimeout(() => resolve('nothing'), 5000);
})"""


async def serve_stranger(stream: trio.SocketStream) -> None:
    """A web server of somebody else, which would like to talk to ours through the operator's browser."""
    await stream.receive_some()
    body = b"<!doctype html><title>stranger</title>"
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + body)
    await stream.aclose()


async def test_a_page_of_another_origin_cannot_open_the_channel(tmp_path: Path) -> None:
    """Neither a page of the same machine's other port, nor one from a file, whose origin is `null`."""
    file = tmp_path / "stranger.html"
    file.write_text("<!doctype html><title>stranger</title>", encoding="utf-8")

    async with StubSite().open() as site, trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve_stranger, 0, host="127.0.0.1"))
        stranger = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"

        def script(page: Any) -> None:
            for url in (file.as_uri(), stranger):
                page.goto(url)
                assert page.title() == "stranger"
                assert page.evaluate(OPEN_CHANNEL, site.channel_url) == 1006
            page.goto(site.url)
            assert page.evaluate(OPEN_CHANNEL, site.channel_url) == "opened"

        await in_browser(script, strict=False)
        counts = site.console.statistics().channel.counts
        assert (counts["refused.origin"], counts["connected"]) == (2, 1)
        nursery.cancel_scope.cancel()


async def test_a_session_that_is_over_shows_the_log_in_and_keeps_the_evacuation_button(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("admin_ws.channel.REVALIDATE_S", 0.1)

    def script(page: Any) -> None:
        enter(page, site)
        on_site(site.revoked.add, "token-anna")
        page.wait_for_selector("text=Your session is over")
        assert page.locator("[data-lane]").count() == 0
        press(page, HOLD_MS)
        page.wait_for_selector("[data-testid=evacuate] >> text=The server has it")
        page.fill("input[name=user]", "boris")
        page.fill("input[name=password]", PASSWORDS["boris"])
        page.keyboard.press("Enter")
        page.wait_for_selector(".banner-evacuation >> text=Triggered by anna")

    async with StubSite(lanes=2).open() as site:
        await in_browser(script)
        assert [trigger.by for trigger in triggers(site)] == ["anna"]


class _Tree:
    """An actor that answers `site.inspect` with the live tree of a small supervisor, in which one child has failed."""

    def __init__(self) -> None:
        self.address = Address("desk")
        self.broken = Address("gate/n1")
        self.tree = Supervisor(
            "site",
            [Child(self.address, self.main), Child(self.broken, self.fail, restart=Restart.TEMPORARY)],
        )

    async def main(self, me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            envelope.reply(inspect_tree(self.tree))

    async def fail(self, me: Address) -> None:
        raise RuntimeError("the motor does not turn")


async def test_a_technician_sees_the_live_tree_of_actors_and_a_cashier_does_not() -> None:
    tree = _Tree()
    route = Route(
        method="site.inspect", params=c.GetTree, address=tree.address, permission="lane.set_mode", timeout_s=2.0
    )

    async with running(tree.tree), StubSite(more_routes=[route]).open() as site:

        def technician(page: Any) -> None:
            enter(page, site)
            page.get_by_role("link", name="Actors").click()
            row = page.locator("[data-actor=desk]")
            row.wait_for()
            page.locator("[data-actor=desk] td:nth-child(5)", has_text="0.").wait_for()  # a rate, at the second look
            broken = page.locator("[data-actor='gate/n1']").inner_text()
            assert "DOWN" in broken and "the motor does not turn" in broken
            assert page.locator("[data-actor=site]").count() == 1
            page.get_by_role("link", name="Overview").click()
            page.locator("[data-testid=actors]").wait_for(state="detached")

        def cashier(page: Any) -> None:
            enter(page, site, "chen")
            page.get_by_role("link", name="Sales window").wait_for()
            assert page.get_by_role("link", name="Actors").count() == 0

        await in_browser(technician)
        await in_browser(cashier)


class _Why:
    """An actor that answers `site.explain`: every ticket is for the museum, unless a face matches."""

    def __init__(self) -> None:
        self.address = Address("explainer")
        self.asked: list[c.ExplainScan] = []

    async def main(self, me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            self.asked.append(envelope.msg)
            envelope.reply(self.answer(envelope.msg))

    def answer(self, asked: c.ExplainScan) -> c.Explanation:
        fine = c.ExplainStep(
            check="ticket", name_zh="票状态", name_en="ticket's state", verdict="ok", text_zh="正常", text_en="active"
        )
        wrong = c.ExplainStep(
            check="zone",
            name_zh="区域",
            name_en="zone",
            verdict="refused",
            text_zh="权益 museum",
            text_en="for <b>museum</b>",
            code="wrong_zone",
            cure_zh="走通往 museum 的通道",
            cure_en="at a lane into museum",
        )
        good = asked.face_ok
        return c.Explanation(
            lane=asked.lane,
            zone="park",
            at=time.time(),
            admitted=good,
            code="ok" if good else "wrong_zone",
            text_zh="请通行",
            text_en="Please pass" if good else "This ticket is not for this area",
            pax=3 if good else 0,
            ticket=4711,
            product="adult",
            steps=[fine] if good else [fine, wrong],
        )


async def test_an_operator_asks_why_a_ticket_is_refused_at_a_lane_and_its_code_does_not_stay() -> None:
    why = _Why()
    route = Route(
        method="site.explain", params=c.ExplainScan, address=why.address, permission="lane.set_mode", timeout_s=2.0
    )

    tree = Supervisor("site", [Child(why.address, why.main)])
    async with running(tree), StubSite(more_routes=[route]).open() as site:

        def script(page: Any) -> None:
            enter(page, site)
            page.locator("[data-lane]").first.click()
            field = page.locator("input[name=why-code]")
            field.fill("PF1:SECRET")
            field.press("Enter")  # as a scanner ends a code
            answer = page.locator("[data-testid=why]")
            answer.wait_for()
            told = answer.inner_text()
            assert answer.get_attribute("data-code") == "wrong_zone"
            assert "Would be refused" in told and "This ticket is not for this area" in told
            assert "for <b>museum</b>" in told and "at a lane into museum" in told, "text, and never markup"
            verdicts = answer.locator("li").evaluate_all("all => all.map(each => each.dataset.verdict)")
            assert verdicts == ["ok", "refused"]
            assert field.input_value() == "" and "PF1:SECRET" not in page.content()
            page.get_by_label("Suppose that the holder's face matches").check()
            field.fill("PF1:SECRET")
            page.get_by_role("button", name="Why?").click()
            page.locator("[data-testid=why][data-code=ok]").wait_for()
            assert "Would be let in: 3" in page.locator("[data-testid=why]").inner_text()

        await in_browser(script)
        assert [asked.code for asked in why.asked] == ["PF1:SECRET"] * 2
        assert why.asked[0].lane == why.asked[1].lane != ""


async def test_who_may_not_ask_sees_no_form() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        page.locator("[data-lane]").first.click()
        page.locator(".lane-panel").wait_for()
        assert page.locator("input[name=why-code]").count() == 0

    async with StubSite().open() as site:
        await in_browser(script)


async def test_every_device_shows_its_health_and_one_that_was_removed_is_gone() -> None:
    def script(page: Any) -> None:
        enter(page, site)
        panel = page.locator("section.devices")
        on_site(
            site.hub_address.tell,
            c.DeviceView(
                device="gate/n1", kind="gate", lane="lane-1", availability="available", bad_frames=3, reconnects=2,
                last_said="counted entry 1207", last_said_at=time.time(), since=time.time() - 60.0, frames=97,
                error_rate=0.03, firmware="V2.6", clock_skew_s=-7.25, entries=1207, exits=88,
            ),
        )  # fmt: skip
        on_site(
            site.hub_address.tell,
            c.DeviceView(
                device="reader/n1/1", kind="reader", lane="lane-1", availability="unauthenticated",
                detail="authentication failed: wrong key",
            ),
        )  # fmt: skip
        page.wait_for_selector("section.devices li:has-text('reader/n1/1')")
        assert "Key refused · authentication failed: wrong key" in panel.locator("li").first.inner_text()
        panel.locator("summary").click()
        row = panel.locator(".device-row:has-text('gate/n1')")
        words = row.inner_text()
        counts = ("1,207 in, 88 out", "3 damaged frames (3.0 %)", "2 reconnects")
        for part in ("counted entry 1207", *counts, "-7.3 s", "V2.6"):
            assert part in words, (part, words)
        assert row.locator(".tone-warn").count() == 2  # damaged frames and the clock
        on_site(
            site.hub_address.tell, c.DeviceView(device="reader/n1/1", kind="reader", lane="", availability="removed")
        )
        page.wait_for_function("() => !document.querySelector('section.devices').textContent.includes('reader/n1/1')")

    async with StubSite().open() as site:
        await in_browser(script)
