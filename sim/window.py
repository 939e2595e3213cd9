"""People of the simulated site who use the console channel: a cashier at the sales window, and the control room.

Both log in over the real WebSocket, and come back by themselves when the server was away.  A sale is asked for again
with the same key until it is answered: the server makes one order of it, however often it hears it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import trio

from admin_ws.client import ConsoleClient, ConsoleClosed, ConsoleError, ConsoleRefused, ConsoleTimeout
from protocols.console import ListProducts, Products, Sell, SellLine, Sold, Tender
from sim.truth import Truth

T = TypeVar("T")

RETRY_S = 0.25  # pause before the next attempt to connect, or to sell
CALL_S = 5.0  # then the same thing is asked again
CASH_STEP_CENTS = 10_000  # visitors pay with hundreds and get change
SALES_AT_ONCE_MAX = 8
PASSING_CODES = frozenset({"unavailable", "timeout", "busy", "too_many", "internal"})  # worth asking again


class SaleRefused(Exception):
    """The server will not make this sale; `code` says why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Desk:
    """One logged-in person. `run` keeps the connection until cancelled; `call` waits for it."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.user = user
        self._password = password
        self._client: ConsoleClient | None = None
        self._changed = trio.Event()
        self.logins = 0
        self.losses = 0

    async def run(self) -> None:
        """Connect, log in, stay; again after every loss. Ready never means connected."""
        while True:
            try:
                async with ConsoleClient.connect(self.url) as client:
                    await client.login(self.user, self._password)
                    self.logins += 1
                    self._set(client)
                    try:
                        async for _ in client.notifications():
                            pass  # a desk that subscribes to nothing reads only how the connection ends
                    finally:
                        self._set(None)
            except ConsoleError:
                self.losses += 1  # the server is away, restarting, or will not have us: try again
            await trio.sleep(RETRY_S)

    async def connected(self, timeout_s: float) -> bool:
        """Wait until logged in."""
        with trio.move_on_after(timeout_s):
            while self._client is None:
                await self._changed.wait()
        return self._client is not None

    async def call(self, method: str, params: object, result: type[T], timeout_s: float = CALL_S) -> T:
        """Ask once. Raises ConsoleError."""
        if not await self.connected(timeout_s) or (client := self._client) is None:
            raise ConsoleClosed("not logged in")
        return await client.call(method, params, result, timeout_s)

    async def insist(self, method: str, params: object, result: type[T]) -> T:
        """Ask until answered, with the same parameters: only for what may be said twice. Raises ConsoleRefused."""
        while True:
            try:
                return await self.call(method, params, result)
            except ConsoleRefused as exc:
                if exc.code not in PASSING_CODES:
                    raise
            except (ConsoleClosed, ConsoleTimeout):
                pass
            await trio.sleep(RETRY_S)

    def _set(self, client: ConsoleClient | None) -> None:
        self._client = client
        self._changed.set()
        self._changed = trio.Event()


class SalesWindow:
    """A window that sells. `name` is how it calls itself in the truth; `printer` prints what it sells."""

    def __init__(self, desk: Desk, truth: Truth, *, name: str, printer: str, run_id: str) -> None:
        self.desk = desk
        self.name = name
        self._printer = printer
        self._truth = truth
        self._run_id = run_id
        self._sales = 0
        self._prices: dict[str, int] = {}
        self._clerks = trio.CapacityLimiter(SALES_AT_ONCE_MAX)

    async def sell(self, lines: Sequence[SellLine], *, printed: bool = False) -> Sold:
        """Sell, and ask again with the same key until answered, across restarts of the server too.

        Raises SaleRefused.
        """
        async with self._clerks:
            self._sales += 1
            key = f"{self._run_id}-{self._sales}"
            try:
                total = await self._total(lines)
                paid = max(-(-total // CASH_STEP_CENTS), 1) * CASH_STEP_CENTS
                order = Sell(
                    key=key,
                    lines=list(lines),
                    tenders=[Tender(tender="cash", amount_cents=paid)],
                    printer=self._printer if printed else "",
                )
                self._truth.sell(self.name, key=key)
                sold = await self.desk.insist("sales.sell", order, Sold)
            except ConsoleRefused as exc:
                raise SaleRefused(exc.code, exc.text_en) from exc
            self._truth.sold(
                self.name,
                key=key,
                order=sold.order,
                tickets=[ticket.ticket for ticket in sold.tickets],
                repeated=sold.repeated,
            )
            return sold

    async def _total(self, lines: Sequence[SellLine]) -> int:
        if not self._prices:
            offer = await self.desk.insist("sales.products", ListProducts(), Products)
            self._prices = {product.product: product.price_cents for product in offer.products}
        return sum(self._prices.get(line.product, 0) * line.quantity for line in lines)
