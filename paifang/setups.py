"""From the site file to the values that actors take: pure, so that nothing of it needs a running site."""

from __future__ import annotations

import math
from collections.abc import Callable

from actors.lane import LaneConfig
from actors.occupancy import Marks
from paifang.keys import KeyRing
from paifang.site import Lane, Product, SiteFile, Zone
from protocols.messages import LaneMode
from protocols.rights import ProductRules, ZoneRight
from protocols.ticketcode import ProductClass, TicketCode, ceil_minute, floor_minute, sign, site_hash
from storage.interfaces import BookedTicket, ProductSetup, SiteSetup, ZoneSetup

ZONE_BITS = 16  # zones that a ticket code can name


def site_setup(site: SiteFile) -> SiteSetup:
    """The site as the ledger writes it down."""
    return SiteSetup(
        site=site.site.id,
        name=site.site.name,
        timezone=site.site.timezone,
        business_day_start=site.site.business_day_start,
        night_close=site.site.night_close,
        zones=[zone_setup(zone) for zone in site.zones],
        products=product_setups(site),
    )


def zone_setup(zone: Zone) -> ZoneSetup:
    """The zone as the ledger writes it down: its thresholds in people."""

    def people(part: float | None) -> int | None:
        return None if part is None or zone.limit is None else math.ceil(part * zone.limit)

    return ZoneSetup(
        zone=zone.id,
        name=zone.name,
        limit=zone.limit,
        stop_at=people(zone.stop_at) if zone.stop_at < 1.0 else None,
        resume_at=people(zone.resume_at) if zone.resume_at < 1.0 else None,
        sale_stop_at=people(zone.sale_stop_at),
        sale_resume_at=people(zone.sale_resume_at),
        day_limit=zone.day_limit,
        reentry_when_stopped=zone.reentry_when_stopped,
        staff_counts=zone.staff_counts,
    )


def zone_marks(site: SiteFile) -> dict[str, Marks]:
    return {zone.id: Marks(announce_at=zone.announce_at, slow_at=zone.slow_at) for zone in site.zones}


def product_setups(site: SiteFile) -> list[ProductSetup]:
    return [
        ProductSetup(
            product=product.id,
            name_zh=product.name,
            name_en=product.name_en or product.name,
            product_class=product.class_,
            price_cents=product.price_cents,
            pax=product.pax,
            rules=rules_of(product),
            effective_from=product.effective_from,
        )
        for product in site.products
    ]


def rules_of(product: Product) -> ProductRules:
    """What the product grants: its `rights`, or the one that its short keys say."""
    shared = [name for name in ProductRules.__struct_fields__ if name != "rights"]
    short = ZoneRight(zones=list(product.zones), uses=product.uses, min_gap_s=product.min_gap_s)
    return ProductRules(rights=list(product.rights) or [short], **{name: getattr(product, name) for name in shared})


def lane_config(lane: Lane) -> LaneConfig:
    return LaneConfig(
        lane=lane.id,
        name=lane.name,
        entrance=lane.entrance,
        kind=lane.kind,
        from_zone=lane.from_zone,
        to_zone=lane.to_zone,
        mode=LaneMode.FREE_COUNTED if lane.counter is not None else LaneMode(lane.mode),
        max_group=lane.max_group,
        grant_ttl_s=lane.grant_ttl_s,
        device=lane.device or f"{_own_device(lane)}/{lane.id}",
        class_=lane.class_,
    )


def _own_device(lane: Lane) -> str:
    """What the device of a lane is called that has none on the link."""
    return "phone" if lane.kind == "attendant" else "gate" if lane.counter is None else "people"


def plain_gates(site: SiteFile) -> dict[str, list[str]]:
    """The names of the lanes that anybody may enter each zone by, to send visitors to."""
    gates: dict[str, list[str]] = {}
    for lane in site.lanes:
        if not lane.class_ and lane.mode in ("normal_entry", "bidirectional"):
            gates.setdefault(lane.to_zone, []).append(lane.name)
    return gates


def ticket_signer(site: SiteFile, keys: KeyRing) -> Callable[[BookedTicket], str]:
    """Turns a booked ticket into the text of its code."""
    bits = {zone.id: 1 << bit for bit, zone in enumerate(site.zones[:ZONE_BITS])}
    classes = {each.word: each for each in ProductClass}
    site_bytes = site_hash(site.site.id)

    def sign_ticket(ticket: BookedTicket) -> str:
        key_id, key = keys.ticket_signer
        code = TicketCode(
            key_id=key_id,
            site=site_bytes,
            ticket=ticket.ticket,
            valid_from=floor_minute(ticket.valid_from),
            valid_to=ceil_minute(ticket.valid_to),
            pax=ticket.pax,
            product_class=classes[ticket.product_class],
            zones=sum(bits.get(zone, 0) for zone in ticket.zones),
        )
        return sign(code, key)

    return sign_ticket
