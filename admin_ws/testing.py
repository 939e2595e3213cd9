"""A site for tests of the console: real actors, a real hub and a real port, but no gates and no database behind them.

`StubSite` is a test double of the site, not a small site: its "lanes" do what the test says, its evacuation
acknowledges after a delay of the test's choice, and its sales window sells from a list. What it shares with the real
one is the messages.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from core import Address, Child, Stop, Supervisor
from core.testing import running
from protocols import console as c
from protocols.console_accounts import CheckSession

from .channel import Route
from .hub import HUB_MAILBOX_CAPACITY, Hub
from .server import Console

WITHIN_S = 15.0  # patience of `until`
LOOK_EVERY_S = 0.005
ACKNOWLEDGE_S = 0.3  # from one lane's acknowledgement to the next
PRINTING_S = 1.0

OPERATOR = (
    "evacuation.trigger",
    "evacuation.restore",
    "lane.rearm",
    "lane.set_mode",
    "lane.open",
    "zone.stop",
    "zone.calibrate",
    "site.view",
)
USERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "anna": ("correct horse", "operator", OPERATOR),
    "boris": ("battery staple", "operator", OPERATOR),
    "chen": ("till one", "cashier", ("sales.sell", "evacuation.trigger", "site.view")),
    "dora": ("only looking", "auditor", ("site.view",)),
    "max": ("everything", "duty_manager", (*OPERATOR, "sales.sell")),
}

LANE_NAMES = ("北门 1", "北门 2", "北门 3", "南门 1", "南门 2", "东门 1", "东门 2", "索道 1")


async def until(holds: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Wait for something that no event tells of. Raises trio.TooSlowError."""
    with trio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110  # what is looked at belongs to the code under test and has no event
            await trio.sleep(LOOK_EVERY_S)


class Refusal(Exception):
    """How an actor refuses: a stable code, and a sentence in two languages."""

    def __init__(self, code: str, text_zh: str, text_en: str) -> None:
        super().__init__(code)
        self.code, self.text_zh, self.text_en = code, text_zh, text_en


class _Acknowledge(msgspec.Struct, frozen=True):
    lane: str


class StubSite:
    """The actors behind a console under test; `sees` is everything that they were told, in order.

    Args:
        lanes: how many lanes there are.
        static_folder: the built pages, if the test needs others than the committed console's.
        port: 0 takes a free one.
        more_routes: of the test's own actors.
    """

    def __init__(
        self,
        *,
        lanes: int = 8,
        static_folder: Path | None = None,
        port: int = 0,
        more_routes: Sequence[Route] = (),
    ) -> None:
        self.sees: list[Any] = []
        self.revoked: set[str] = set()  # tokens that are no longer good
        self.deaf: set[str] = set()  # lanes that never acknowledge a release
        self.hub = Hub(site="stub", site_name="黄山风景区（演示）", timezone="Asia/Shanghai")
        self.hub_address = Address("consoles", capacity=HUB_MAILBOX_CAPACITY)
        self.accounts = Address("accounts")
        self.site = Address("stub-site")
        self.evacuation = Address("evacuation")
        self.lanes = [_lane(number) for number in range(1, lanes + 1)]
        self.view = c.EvacuationView(state="normal")
        self._order, self._tickets, self._printed_at = 0, 0, 0.0
        options: dict[str, Any] = {} if static_folder is None else {"static_folder": static_folder}
        self.console = Console(
            host="127.0.0.1",
            port=port,
            hub=self.hub_address,
            accounts=self.accounts,
            routes=[*self.routes(), *more_routes],
            site_id="stub",
            site_name="黄山风景区（演示）",
            view_permission="site.view",
            **options,
        )
        self.console_address = Address("console")

    def routes(self) -> Sequence[Route]:
        """The methods of the real site, answered here."""

        def route(method: str, params: type[Any], permission: str, **more: Any) -> Route:
            address = more.pop("address", self.site)
            return Route(method=method, params=params, address=address, permission=permission, timeout_s=2.0, **more)

        return (
            route("evacuation.trigger", c.Trigger, "evacuation.trigger", address=self.evacuation, system=True),
            route("evacuation.restore", c.RestoreRequest, "evacuation.restore", address=self.evacuation),
            route("lane.rearm", c.RearmLane, "lane.rearm", address=self.evacuation),
            route("lane.set_mode", c.SetMode, "lane.set_mode"),
            route("lane.open", c.ManualOpen, "lane.open"),
            route("lane.pause", c.PauseBatch, "lane.open"),
            route("zone.stop", c.StopZoneFor, "zone.stop"),
            route("zone.calibrate", c.CalibrateZone, "zone.calibrate"),
            route("sales.products", c.ListProducts, "sales.sell"),
            route("sales.sell", c.Sell, "sales.sell"),
            route("sales.print_jobs", c.GetPrintJobs, "sales.sell"),
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[StubSite]:
        """Run the site; the block starts when the port is being listened on."""
        tree = Supervisor(
            "stub",
            [
                Child(self.hub_address, self.hub.run),
                Child(self.accounts, self._accounts_main),
                Child(self.site, self._site_main),
                Child(self.evacuation, self._evacuation_main),
                Child(self.console_address, self.console.run),
            ],
        )
        async with running(tree):
            self.tell_everything()
            await until(lambda: len(self.hub.snapshot().lanes) == len(self.lanes))  # it gathers what was told together
            yield self

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.console.port}/"

    @property
    def channel_url(self) -> str:
        """Of the channel."""
        return f"ws://127.0.0.1:{self.console.port}/channel"

    # -- what the test may do ---------------------------------------------------------------------------------------

    def tell_everything(self) -> None:
        """Lanes, zones, devices and an hour of flow, as if the site had just started."""
        for lane in self.lanes:
            self.hub_address.tell(lane)
        for zone, name, inside, limit, state in (
            ("north", "北景区", 3120, 4000, "normal"),
            ("summit", "光明顶", 870, 900, "slow"),
            ("ropeway", "索道站", 300, 300, "full"),
            ("park", "花园", 214, None, "normal"),
        ):
            self.hub_address.tell(
                c.ZoneView(zone=zone, name=name, inside=inside, held=2, limit=limit, state=state)
            )
        for device, kind in (("printer-1", "printer"), ("database", "database"), ("link", "link")):
            self.hub_address.tell(c.DeviceView(device=device, kind=kind, lane="", availability="available"))

    def lane_turns(self, number: int, *, entries: int = 1) -> None:
        """Somebody passes lane `number` (from 1) inwards: the counts change and the feed says so."""
        lane = self.lanes[number - 1]
        now = time.time()
        lane = msgspec.structs.replace(
            lane, entries=lane.entries + entries, last_code="ok", last_text_zh="请通行", last_text_en="Please pass",
            last_at=now,
        )
        self.lanes[number - 1] = lane
        self.hub_address.tell(lane)
        self.hub_address.tell(
            c.FeedEvent(at=now, kind="passage", severity="info", lane=lane.lane, code="ok",
                        text_zh="1 人进入", text_en="1 person entered")
        )

    def refuse(self, number: int, code: str, text_zh: str, text_en: str) -> None:
        """Somebody is refused at lane `number`."""
        now = time.time()
        lane = msgspec.structs.replace(
            self.lanes[number - 1], last_code=code, last_text_zh=text_zh, last_text_en=text_en, last_at=now
        )
        self.lanes[number - 1] = lane
        self.hub_address.tell(lane)
        self.hub_address.tell(
            c.FeedEvent(at=now, kind="refused", severity="notice", lane=lane.lane, code=code,
                        text_zh=text_zh, text_en=text_en)
        )

    # -- actors ------------------------------------------------------------------------------------------------------

    async def _accounts_main(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            message = envelope.msg
            self.sees.append(message)
            if isinstance(message, Stop):
                return
            user = message.user if isinstance(message, c.Login) else message.token.removeprefix("token-")
            password, role, permissions = USERS.get(user, ("", "", ()))
            token = f"token-{user}"
            known = isinstance(message, c.Resume | CheckSession) or (password and message.password == password)
            if not role or not known or token in self.revoked:
                envelope.fail(Refusal("bad_login", "用户名或密码错误", "Wrong user name or password"))
            else:
                name = f"{user}'s"
                envelope.reply(
                    c.Session(token=token, user=user, role=role, permissions=list(permissions), session=name)
                )

    async def _site_main(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            message = envelope.msg
            self.sees.append(message)
            if isinstance(message, Stop):
                return
            try:
                envelope.reply(self._answer(message))
            except Refusal as refusal:
                envelope.fail(refusal)

    def _answer(self, message: Any) -> Any:
        if isinstance(message, c.ListProducts):
            return c.Products(products=list(PRODUCTS))
        if isinstance(message, c.Sell):
            return self._sell(message)
        if isinstance(message, c.GetPrintJobs):
            state = "done" if time.monotonic() - self._printed_at > PRINTING_S else "printing"
            return c.PrintJobs(
                jobs=[c.PrintJobView(job=n, ticket=n, state=state) for n in range(1, self._tickets + 1)]
            )
        if isinstance(message, c.SetMode):
            for index, lane in enumerate(self.lanes):
                if lane.lane == message.lane:
                    self.lanes[index] = msgspec.structs.replace(lane, mode=message.mode)
                    self.hub_address.tell(self.lanes[index])
            return c.Done()
        if isinstance(message, c.PauseBatch | c.StopZoneFor):
            return c.Done(detail="done")
        if isinstance(message, c.CalibrateZone):
            return c.Done(detail="waiting for a second person")
        if isinstance(message, c.ManualOpen):
            if message.pax > 5:
                raise Refusal("too_many", "一次最多 5 人", "Five people at most")
            return c.Done()
        raise TypeError(f"no answer to {type(message).__name__}")

    def _sell(self, message: c.Sell) -> c.Sold:
        prices = {product.product: product for product in PRODUCTS}
        total = sum(prices[line.product].price_cents * line.quantity for line in message.lines)
        paid = sum(tender.amount_cents for tender in message.tenders)
        if paid < total:
            raise Refusal("underpaid", "付款不足", "Not enough paid")
        self._order += 1
        self._printed_at = time.monotonic()
        now = time.time()
        tickets = [
            c.SoldTicket(ticket=index + 1, product=line.product, code=f"PF1:DEMO{self._order:04}{index:04}XK7Q",
                         pax=prices[line.product].pax, valid_from=now, valid_to=now + 36_000)
            for index, line in enumerate(line for line in message.lines for _ in range(line.quantity))
        ]
        self._tickets = len(tickets)
        return c.Sold(order=self._order, total_cents=total, change_cents=paid - total, tickets=tickets,
                      print_jobs=[1] if message.printer else [], repeated=False)

    async def _evacuation_main(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            message = envelope.msg
            self.sees.append(message)
            if isinstance(message, Stop):
                return
            if isinstance(message, c.Trigger):
                self._release(me, message)
            elif isinstance(message, _Acknowledge) and self.view.state == "released":
                self._acknowledged(message.lane)
            elif isinstance(message, c.RestoreRequest):
                self._restore(message)
                envelope.reply(c.Done())
            elif isinstance(message, c.RearmLane):
                self._rearm(message)
                envelope.reply(c.Done())

    def _show(self, view: c.EvacuationView) -> None:
        self.view = view
        self.hub_address.tell(view)

    def _release(self, me: Address, message: c.Trigger) -> None:
        if self.view.state != "normal":
            return
        now = time.time()
        releases = [
            c.LaneRelease(lane=lane.lane, commanded=True, acknowledged=False, sensed_open=False, barrier=lane.barrier,
                          acknowledged_after_ms=None)
            for lane in self.lanes
        ]
        self._show(c.EvacuationView(state="released", incident=1, drill=message.drill, triggered_by=message.by,
                                    triggered_at=now, lanes=releases))
        self.hub_address.tell(
            c.FeedEvent(at=now, kind="evacuation", severity="alarm", code="triggered",
                        text_zh="紧急疏散：全部通道开启", text_en="Evacuation: every lane released")
        )
        for index, lane in enumerate(self.lanes):
            if lane.lane not in self.deaf:
                me.set_timer(lane.lane, ACKNOWLEDGE_S * (index + 1), _Acknowledge(lane.lane))

    def _acknowledged(self, name: str) -> None:
        after_ms = (time.time() - (self.view.triggered_at or 0.0)) * 1000
        self._show(msgspec.structs.replace(self.view, lanes=[
            msgspec.structs.replace(lane, acknowledged=True, sensed_open=True, barrier="open",
                                    acknowledged_after_ms=after_ms) if lane.lane == name else lane
            for lane in self.view.lanes
        ]))
        self._change_lanes({name}, mode="emergency_released", state="released", barrier="open")

    def _restore(self, message: c.RestoreRequest) -> None:
        if self.view.state == "normal":
            return
        if not self.view.restore_requested_by:
            self._show(msgspec.structs.replace(self.view, restore_requested_by=message.by))
        elif self.view.restore_requested_by != message.by:
            self._show(c.EvacuationView(state="restoring", incident=self.view.incident, lanes=self.view.lanes))
            self._change_lanes({lane.lane for lane in self.lanes}, mode="needs_rearm", state="needs_rearm")

    def _rearm(self, message: c.RearmLane) -> None:
        names = {lane.lane for lane in self.lanes if message.lane in ("*", lane.lane)}
        self._change_lanes(names, mode="bidirectional", state="idle", barrier="closed")
        if all(lane.mode != "needs_rearm" for lane in self.lanes):
            self._show(c.EvacuationView(state="normal"))

    def _change_lanes(self, names: set[str], **changes: Any) -> None:
        for index, lane in enumerate(self.lanes):
            if lane.lane in names:
                self.lanes[index] = msgspec.structs.replace(lane, **changes)
                self.hub_address.tell(self.lanes[index])


def _lane(number: int) -> c.LaneView:
    name = LANE_NAMES[(number - 1) % len(LANE_NAMES)]
    return c.LaneView(
        lane=f"lane-{number}", name=name, entrance=name.split(" ")[0], kind="wing", transport="serial",
        from_zone="outside", to_zone="north", mode="bidirectional", state="idle", available=True, barrier="closed",
        entries=100 * number, exits=40 * number,
    )


PRODUCTS = (
    c.ProductView(product="adult", name_zh="成人票", name_en="Adult", product_class="full", price_cents=19_000, pax=1,
                  needs_photo=False),
    c.ProductView(product="child", name_zh="儿童票", name_en="Child", product_class="discount", price_cents=9_500,
                  pax=1, needs_photo=False),
    c.ProductView(product="group", name_zh="团队票", name_en="Group of ten", product_class="group",
                  price_cents=150_000, pax=10, needs_photo=False),
    c.ProductView(product="annual", name_zh="年卡", name_en="Annual card", product_class="annual",
                  price_cents=38_000, pax=1, needs_photo=True),
)
