"""From what was bought to tickets: validity, rights, credentials and print jobs, as rows of one batch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from protocols.clock import business_day, business_day_start
from protocols.rights import SlotTimes, zones_of
from storage._rows import INT_LIMIT, Rows
from storage.interfaces import BookedTicket, LedgerRefused, ProductSetup, SaleLineOp, in_force

CART_LIFE_S = 3600.0  # a price that was shown is kept for so long after it has changed

HashId = Callable[[str, str], bytes]
"""(kind, value) -> the keyed hash under which a credential is stored; the value of a `code` is its ticket id."""


class Offer(NamedTuple):
    """A product on sale, and the version that the tables know it by."""

    product: ProductSetup
    version: int


class Shop(NamedTuple):
    """What selling needs to know of the site."""

    offers: dict[str, list[Offer]]  # by product: its dated versions
    versions: dict[tuple[str, int], ProductSetup]  # all that were ever on sale: sold tickets keep theirs
    timezone: ZoneInfo
    day_start: time
    hash_id: HashId
    since: dict[tuple[str, int], float]  # when each version was written down, seconds since the epoch

    def offer(self, product: str, now: float) -> Offer | None:
        """What is sold under this name on the business day of `now`; None if nothing is."""
        offers = self.offers.get(product, [])
        day = business_day(now, self.timezone, self.day_start).isoformat()
        version = in_force((offer.product for offer in offers), day)
        return next((offer for offer in offers if offer.product is version), None)

    def shown(self, product: str, version: int, now: float) -> Offer | None:
        """The offer that a cart was shown: the one on sale, or one that was within `CART_LIFE_S` (invariant 21)."""
        current = self.offer(product, now)
        if not version or current is None or current.version == version:
            return current
        setup = self.versions.get((product, version))
        changes = [at for (name, _), at in self.since.items() if name == product and now - CART_LIFE_S < at <= now]
        midnight = business_day_start(now, self.timezone, self.day_start)
        if now - CART_LIFE_S < midnight <= now:
            changes.append(midnight)
        before = [at - 0.001 for at in changes]
        return Offer(setup, version) if setup and any(self._was_sold(setup, version, at) for at in before) else None

    def priced(self, product: str, cents: int, now: float) -> Offer | None:
        """The newest offer of this price that a cart may have been shown; None if there is none."""
        versions = sorted((version for name, version in self.versions if name == product), reverse=True)
        offers = (self.shown(product, version, now) for version in versions)
        return next((offer for offer in offers if offer and offer.product.price_cents == cents), None)

    def _was_sold(self, setup: ProductSetup, version: int, at: float) -> bool:
        """Was this version the one on sale at a moment of the past?"""
        latest: dict[str, int] = {}  # by effective date, what was written down by then
        for (name, number), since in self.since.items():
            if name == setup.product and since <= at:
                date_of = self.versions[name, number].effective_from
                latest[date_of] = max(number, latest.get(date_of, 0))
        day = business_day(at, self.timezone, self.day_start).isoformat()
        begun = [effective for effective in latest if effective <= day]
        return bool(begun) and latest[max(begun)] == version


def validity(line: SaleLineOp, offer: Offer, timezone: ZoneInfo) -> tuple[float, float]:
    """From 00:00 of the visit date, on the site's clock, for the product's days. Raises LedgerRefused."""
    try:
        first = date.fromisoformat(line.visit_date)
        if first.isoformat() != line.visit_date:
            raise ValueError("another form of ISO 8601")
        start = datetime.combine(first, time(), timezone)
        end = datetime.combine(first + timedelta(days=offer.product.rules.days), time(), timezone)
    except (ValueError, OverflowError) as exc:
        raise LedgerRefused(f"visit date {line.visit_date!r} is not YYYY-MM-DD") from exc
    return start.timestamp(), end.timestamp()


def slot_times(line: SaleLineOp, offer: Offer) -> SlotTimes | None:
    """The booked time of a line; None for a product that is not sold by time. Raises LedgerRefused."""
    slots = offer.product.rules.slots
    if not slots and not line.slot:
        return None
    known = next((times for times in slots if times.opens == line.slot), None)
    if known is None:
        choice = ", ".join(times.opens for times in slots) or "none"
        raise LedgerRefused(f"product {line.product!r} is sold for {choice}, not for {line.slot or 'no time'}")
    return known


def current_times(shop: Shop, product: str, times: SlotTimes, now: float) -> SlotTimes:
    """A booked time as the product on sale now has it: how many places there are is today's word, not the cart's."""
    offer = shop.offer(product, now)
    if offer is None:
        return times
    return next((each for each in offer.product.rules.slots if each.opens == times.opens), times)


def slot_span(line: SaleLineOp, times: SlotTimes, timezone: ZoneInfo) -> tuple[float, float]:
    """When a booked time begins and ends, on the site's clock; it may run over midnight."""
    day = date.fromisoformat(line.visit_date)
    until = day + timedelta(days=1) if times.closes <= times.opens else day
    return _on_clock(day, times.opens, timezone), _on_clock(until, times.closes, timezone)


def _on_clock(day: date, hours: str, timezone: ZoneInfo) -> float:
    if hours == "24:00":
        return datetime.combine(day + timedelta(days=1), time(), timezone).timestamp()
    return datetime.combine(day, time.fromisoformat(hours), timezone).timestamp()


class Issuer:
    """Writes tickets into a batch's rows."""

    def __init__(self, rows: Rows, shop: Shop, now: float, new_id: Callable[[], int]) -> None:
        self._rows = rows
        self._shop = shop
        self._now = now
        self._new_id = new_id

    def issue(
        self,
        order: int,
        place: int,
        number: int,
        printer: str,
        line: SaleLineOp,
        offer: Offer,
        *,
        ticket: int | None = None,
        state: str = "active",
    ) -> BookedTicket:
        """One ticket: place `number` of line `place` of an order. Its number may have been drawn in advance."""
        product, ticket = offer.product, self._new_id() if ticket is None else ticket
        valid_from, valid_to = validity(line, offer, self._shop.timezone)
        times = slot_times(line, offer)
        slot = (None, None) if times is None else slot_span(line, times, self._shop.timezone)
        issued = (ticket, order, place, number, line.product, offer.version, product.pax, valid_from, valid_to)
        self._rows.add("insert_tickets", *issued, state, *slot)
        for rule, right in enumerate(product.rules.rights):
            sold = min(right.uses * product.pax, INT_LIMIT) if right.uses else None
            for zone in [None] if right.shared else dict.fromkeys(right.zones):
                self._rows.add("insert_entitlements", self._new_id(), ticket, rule, zone, sold)
        job = None
        if line.card_hash is None:
            code_hash = self._shop.hash_id("code", str(ticket))
            self._rows.add("insert_credentials", self._new_id(), ticket, "code", code_hash, "")
            if printer:
                job = self._new_id()
                self._rows.add("insert_print_jobs", job, order, ticket, printer, self._now)
        else:
            self._rows.add("insert_credentials", self._new_id(), ticket, "card", line.card_hash, line.card_tail[-8:])
        if line.holder_enc is not None or line.template_enc is not None:
            enrolled = (ticket, line.holder_enc, line.template_enc, line.template_algorithm, self._now)
            self._rows.add("insert_passes", *enrolled)
        return BookedTicket(
            ticket=ticket,
            product=line.product,
            product_name_zh=product.name_zh,
            product_name_en=product.name_en,
            product_class=product.product_class,
            zones=zones_of(product.rules),
            price_cents=product.price_cents,
            pax=product.pax,
            valid_from=valid_from,
            valid_to=valid_to,
            print_job=job,
            slot_from=slot[0],
            slot_to=slot[1],
            state=state,
        )
