"""The office in Chromium: an order found by its number, held, refunded, collected, undone, its card replaced."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from admin_ws.channel import Route
from admin_ws.screenshots import log_in
from admin_ws.testing import Refusal, StubSite
from core import Address, Child, Stop, Supervisor
from core.testing import running
from paifang.browser import in_browser, on_site
from protocols import console as c

pytestmark = pytest.mark.browser

ORDER, GROUP, CARD = 700_001, 700_002, 700_003
SEES, SELLS = "site.view", "sales.sell"  # permissions of the stub's users: anna sees, chen sells, max may do both
ROUTES: dict[str, tuple[type[Any], str]] = {
    "office.find": (c.FindOrder, SEES),
    "office.hold": (c.HoldPlaces, "lane.set_mode"),
    "office.refund": (c.AskRefund, SELLS),
    "office.decide_refund": (c.SettleRefund, "lane.set_mode"),
    "office.pay_refund": (c.PayRefund, SELLS),
    "office.collect": (c.CollectPlaces, SELLS),
    "office.reverse": (c.UndoAdmission, "lane.set_mode"),
    "office.replace_card": (c.NewCard, SELLS),
}


def ticket(number: int, name: str, pax: int, **changes: Any) -> c.TicketView:
    now = time.time()
    fields = {
        "ticket": number, "line": 1, "product": name, "product_name_zh": "团队票", "product_name_en": "Group of thirty",
        "state": "partly_used", "hold_reason": "", "pax": pax, "collected": 0, "named": 0, "to_pass": 18,
        "to_refund": 18, "to_collect": 18, "valid_from": now, "valid_to": now + 86_400, "slot_from": None,
        "slot_to": None, "credentials": [],
        "rights": [c.RightView(zones=["north"], sold=pax, redeemed=12, held=0, refunded=0, reserved_refund=0)],
    }  # fmt: skip
    return c.TicketView(**(fields | changes))


class StubOffice:
    """Answers `office.*` from one order that it remembers; `sees` is every command, in order."""

    def __init__(self) -> None:
        self.address = Address("office")
        self.sees: list[Any] = []
        self.refuse: Refusal | None = None
        card = c.CredentialView(
            credential=1, kind="card", tail="7890", state="active", issue_index=0, personal=False, redeemed=0
        )
        annual = {"product_name_zh": "年卡", "product_name_en": "Annual card", "state": "active", "credentials": [card]}
        self.order = c.OrderView(
            order=ORDER, channel="window", user="chen", sold_at=time.time(), total_cents=240_000, paid_cents=240_000,
            refunded_cents=0, state="partly_used", pay_by=None, supplement_of=None, refunds=[],
            tickets=[ticket(GROUP, "group", 30), ticket(CARD, "annual", 1, **annual)],
        )  # fmt: skip

    def routes(self) -> list[Route]:
        return [
            Route(method=method, params=params, address=self.address, permission=permission, timeout_s=5.0)
            for method, (params, permission) in ROUTES.items()
        ]

    async def main(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            if isinstance(envelope.msg, Stop):
                return
            self.sees.append(envelope.msg)
            try:
                envelope.reply(self.answer(envelope.msg))
            except Refusal as refusal:
                envelope.fail(refusal)

    def change(self, number: int, **changes: Any) -> None:
        tickets = [msgspec.structs.replace(t, **changes) if t.ticket == number else t for t in self.order.tickets]
        self.order = msgspec.structs.replace(self.order, tickets=tickets)

    def refunds(self, refund: c.RefundView) -> c.RefundView:
        self.order = msgspec.structs.replace(self.order, refunds=[refund])
        return refund

    def answer(self, msg: Any) -> Any:
        if self.refuse is not None and not isinstance(msg, c.FindOrder):
            refusal, self.refuse = self.refuse, None
            raise refusal
        match msg:
            case c.FindOrder():
                known = {ORDER, *(each.ticket for each in self.order.tickets)}
                return self.order if msg.number in known else msgspec.structs.replace(self.order, order=0, tickets=[])
            case c.HoldPlaces():
                state, why = ("on_hold", msg.reason) if msg.held else ("partly_used", "")
                self.change(msg.ticket, state=state, hold_reason=why)
                return c.Done(detail=state)
            case c.AskRefund():
                self.change(msg.ticket, to_pass=18 - msg.places, to_refund=18 - msg.places)
                part = c.RefundPartView(tender="wechat", amount_cents=8_000 * msg.places)
                asked = c.RefundView(
                    refund=9, order=ORDER, ticket=msg.ticket, places=msg.places, amount_cents=8_000 * msg.places,
                    parts=[part], state="requested", requested_by=msg.by,
                )  # fmt: skip
                return self.refunds(asked)
            case c.SettleRefund():
                (known_refund,) = self.order.refunds
                state = "approved" if msg.approved else "rejected"
                return self.refunds(msgspec.structs.replace(known_refund, state=state))
            case c.PayRefund():
                (known_refund,) = self.order.refunds
                return self.refunds(msgspec.structs.replace(known_refund, state="done"))
            case c.CollectPlaces():
                self.change(msg.ticket, collected=msg.places)
                papers = [c.PaperView(paper=n, code=f"PF1:SECRETSECRET{n:06}") for n in range(msg.places)]
                return c.CollectedView(ticket=msg.ticket, papers=papers, collected=msg.places, repeated=False)
            case c.UndoAdmission():
                return c.ReversedView(ticket=msg.ticket, places=msg.places, zones=["north"], repeated=False)
            case c.NewCard():
                return c.CardView(ticket=msg.ticket, credential=2, issue_index=1, superseded=1, repeated=False)
        raise TypeError(f"no answer to {type(msg).__name__}")


@asynccontextmanager
async def open_site() -> AsyncIterator[tuple[StubSite, StubOffice]]:
    office = StubOffice()
    async with (
        running(Supervisor("office", [Child(office.address, office.main)])),
        StubSite(more_routes=office.routes()).open() as site,
    ):
        yield site, office


def enter(page: Any, site: StubSite, user: str, number: int = ORDER, *, tab: str = "Office") -> None:
    """Log in, open the office, find an order."""
    log_in(page, site.url, user, {"anna": "correct horse", "chen": "till one", "max": "everything"}[user])
    page.click(f".rail-page >> text={tab}")
    find(page, number)
    page.wait_for_selector(f"[data-order='{ORDER}']")


def find(page: Any, number: int | str) -> None:
    page.fill("input[name=office-number]", str(number))
    page.keyboard.press("Enter")


def says(page: Any, words: str) -> None:
    page.wait_for_selector(f"[data-testid=office-told] >> text={words}")


def group(page: Any) -> Any:
    return page.locator(f"[data-ticket='{GROUP}']")


def counts(page: Any, name: str, value: str) -> None:
    """The counter of the group's ticket shows this, soon: the order is asked for again after each command."""
    page.wait_for_selector(f"[data-ticket='{GROUP}'] [data-count={name}]:text-is('{value}')")


async def test_an_order_is_found_by_its_number_or_a_tickets() -> None:
    def script(page: Any) -> None:
        enter(page, site, "anna", GROUP)
        counts(page, "passed", "12 / 30")
        counts(page, "to_pass", "18")
        assert page.locator(".office-ticket").count() == 2
        assert "…7890" in page.locator(f"[data-ticket='{CARD}']").inner_text()
        find(page, 5)
        says(page, "Nothing found")
        page.wait_for_selector("[data-order]", state="detached")
        find(page, "PF1:x")
        says(page, "Enter a number")
        assert page.locator("[data-testid=evacuate]").is_visible()

    async with open_site() as (site, _):
        await in_browser(script)


async def test_a_supervisor_holds_resumes_and_undoes_with_a_reason() -> None:
    def script(page: Any) -> None:
        enter(page, site, "anna")
        buttons = group(page).locator("button").all_inner_texts()
        assert buttons == ["Put on hold", "Undo admission"], "no button that would only refuse"
        group(page).locator("text=Put on hold").click()
        says(page, "Give a reason")
        group(page).locator("input[name=reason]").fill("guide missing")
        group(page).locator("text=Put on hold").click()
        page.wait_for_selector(f"[data-ticket='{GROUP}'][data-state=on_hold] >> text=guide missing")
        group(page).locator("input[name=reason]").fill("found")
        group(page).locator("text=Resume").click()
        page.wait_for_selector(f"[data-ticket='{GROUP}'][data-state=partly_used]")
        group(page).locator("input[name=places]").fill("2")
        group(page).locator("input[name=reason]").fill("did not turn")
        group(page).locator("text=Nobody went in").click()
        group(page).locator("text=Undo admission").click()
        says(page, "Undone for 2")
        group(page).locator("input[name=places]").fill("0")
        group(page).locator("text=Undo admission").click()
        says(page, "Enter 1 to 1000 places")

    async with open_site() as (site, office):
        await in_browser(script)
        commands = [each for each in office.sees if not isinstance(each, c.FindOrder)]
        assert [(each.by, each.by_role, each.reason) for each in commands] == [
            ("anna", "operator", "guide missing"),
            ("anna", "operator", "found"),
            ("anna", "operator", "did not turn"),
        ]
        assert (commands[-1].places, commands[-1].correct_count) == (2, True)
        assert len({each.key for each in commands}) == 3


@pytest.mark.slow
async def test_a_refund_is_asked_for_approved_and_paid_out() -> None:
    def script(page: Any) -> None:
        enter(page, site, "max")
        group(page).locator("input[name=places]").fill("3")
        group(page).locator("input[name=reason]").fill("rain")
        group(page).get_by_role("button", name="Refund", exact=True).click()
        says(page, "Refund 9 of ¥240.00 was asked for")
        counts(page, "to_refund", "15")
        page.wait_for_selector("[data-refund='9'][data-state=requested] >> text=WeChat ¥240.00")
        page.fill("input[name=refund-reason]", "rain")
        page.click("text=Approve")
        page.click("[data-refund='9'][data-state=approved] >> text=Money handed over")
        page.wait_for_selector("[data-refund='9'][data-state=done]")

    async with open_site() as (site, office):
        await in_browser(script)
        kinds = [type(each) for each in office.sees if not isinstance(each, c.FindOrder)]
        assert kinds == [c.AskRefund, c.SettleRefund, c.PayRefund]


@pytest.mark.slow
async def test_a_group_collects_paper_and_a_card_is_replaced_and_no_whole_code_is_shown() -> None:
    def script(page: Any) -> None:
        enter(page, site, "chen")
        group(page).locator("input[name=places]").fill("2")
        group(page).locator("input[name=reason]").fill("two buses")
        group(page).locator("text=Collect as paper").click()
        says(page, "Collected; codes end in …000000 …000001")
        assert "SECRET" not in page.content()
        counts(page, "collected", "2")
        card = page.locator(f"[data-ticket='{CARD}']")
        assert card.locator("text=Replace card").is_disabled()
        card.locator("input[name=card]").fill("04A1B2C3D4")
        card.locator("input[name=reason]").fill("lost in the lake")
        card.locator("text=Replace card").click()
        says(page, "Replaced; issue 1")
        assert "04A1B2C3D4" not in page.content()

    async with open_site() as (site, office):
        await in_browser(script)
        (new_card,) = [each for each in office.sees if isinstance(each, c.NewCard)]
        assert (new_card.card, new_card.by) == ("04A1B2C3D4", "chen")


@pytest.mark.slow
async def test_a_refusal_is_shown_in_words_and_a_lost_answer_is_sent_again_under_its_key() -> None:
    def script(page: Any) -> None:
        enter(page, site, "anna")
        on_site(refuse_once)
        group(page).locator("input[name=reason]").fill("why not")
        group(page).locator("text=Put on hold").click()
        page.wait_for_selector("[data-testid=office-problem][data-code=refused] >> text=It is used up")
        on_site(vanish_once)
        group(page).locator("text=Put on hold").click()
        page.wait_for_selector("text=it cannot be done twice")
        page.wait_for_selector(".pill-live")
        group(page).locator("text=Put on hold").click()
        page.wait_for_selector(f"[data-ticket='{GROUP}'][data-state=on_hold]")

    def refuse_once() -> None:
        office.refuse = Refusal("refused", "已用完", "It is used up")

    def vanish_once() -> None:
        answer = office.answer

        def vanish(message: Any) -> Any:
            office.answer = answer  # type: ignore[method-assign]
            site.console.channel.close_all()
            raise Refusal("gone", "", "nobody hears this")

        office.answer = vanish  # type: ignore[method-assign]

    async with open_site() as (site, office):
        await in_browser(script)
        keys = [each.key for each in office.sees if isinstance(each, c.HoldPlaces)]
        assert len(keys) == 3 and keys[0] != keys[1] == keys[2]


@pytest.mark.slow
async def test_the_office_speaks_chinese() -> None:
    def script(page: Any) -> None:
        enter(page, site, "max", tab="票务办公室")
        texts = group(page).inner_text()
        assert "团队票" in texts and "12 / 30" in texts and "部分使用" in texts
        assert group(page).locator("button").all_inner_texts() == ["暂停使用", "退票", "取纸票", "撤销检票"]

    async with open_site() as (site, _):
        await in_browser(script, language="zh")
