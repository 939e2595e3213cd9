"""Phones at a site: the lanes that attendants stand at, what a phone may decide alone, and the methods."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.phones import PhoneLane, Phones, PhoneSite
from core import Address
from paifang.keys import KeyRing
from paifang.setups import ZONE_BITS
from paifang.site import SiteFile
from protocols.ticketcode import ProductClass


def phones(site: SiteFile, keys: KeyRing, lanes: Mapping[str, Address], ledger: Address, zones: Address) -> Phones:
    """The actor of all phones."""
    bits = {zone.id: 1 << bit for bit, zone in enumerate(site.zones[:ZONE_BITS])}
    return Phones(
        site=PhoneSite(
            site=site.site.id,
            timezone=ZoneInfo(site.site.timezone),
            day_start=time.fromisoformat(site.site.business_day_start),
            keys={
                key_id: key.public_bytes(Encoding.Raw, PublicFormat.Raw)
                for key_id, key in keys.ticket_verifiers.items()
            },
            alone=alone(site),
            lane_names={lane.id: lane.name for lane in site.lanes},
        ),
        lanes={
            lane.id: PhoneLane(
                address=lanes[lane.id],
                to_zone=lane.to_zone,
                zone_bit=bits.get(lane.to_zone, 0),
                max_group=lane.max_group,
            )
            for lane in site.lanes
            if lane.kind == "attendant"
        },
        ledger=ledger,
        zones=zones,
    )


def alone(site: SiteFile) -> list[int]:
    """Product classes that a phone may let in by the code alone: those of which no product needs more than the code.

    A code says its class and not its product, so one product that needs a face, an ID, a main ticket or the server's
    word takes its whole class with it.
    """
    classes = {each.word: int(each) for each in ProductClass}
    sold, needy = set(), set()
    for product in site.products:
        sold.add(product.class_)
        if product.needs_face or product.binds != "none" or product.requires or product.slots:
            needy.add(product.class_)
        if product.offline == "refuse" or product.lane_classes or product.id_policy != "none":
            needy.add(product.class_)
    return sorted(classes[name] for name in sold - needy)
