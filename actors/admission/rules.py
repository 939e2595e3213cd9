"""The decision: may this credential pass here, now, and for how many people?

One pure function, used unchanged by the server (inside the ledger's transaction) and by a lane controller on its own.
The order of checks is the domain model's: legality, state, validity, zone, uses, holder's factor, gap, capacity.  Of
several rights of one credential the one that got furthest along this order is the one whose refusal is shown, because
it says best what would make the visitor pass.
"""

from __future__ import annotations

from storage.interfaces import Permit, Refusal, RightFacts, ScanFacts, ZoneFacts

TICKET_STATES = {
    "on_hold": "held",
    "blocked": "blocked",
    "void": "void",
    "refunded": "refunded",
    "unpaid": "unpaid",
    "expired": "expired",
    "reserved": "not_yet_active",
    "blank": "not_yet_active",
}
CREDENTIAL_STATES = {
    "lost": "blocked",
    "frozen": "blocked",
    "superseded": "superseded_card",
    "void": "void",
    "blank": "not_yet_active",
}


def decide(rights: list[RightFacts], zone: ZoneFacts, scan: ScanFacts) -> Permit | Refusal:
    """The permit or the refusal for one scan.

    `rights` are the entitlements that the credential may use, `zone` is the one behind the lane.  Several usable
    rights: the one with the fewest places left, then the one that ends first (domain model, section 4, step 1).
    """
    if not rights:
        return Refusal(code="unknown_code")
    usable: list[tuple[int, float, RightFacts]] = []
    best: tuple[int, Refusal] | None = None
    for right in rights:
        step, refusal = _judge(right, scan)
        if refusal is None:
            usable.append((_places(right), right.valid_to, right))
        elif best is None or step > best[0]:
            best = (step, refusal)
    if not usable:
        assert best is not None
        return best[1]
    usable.sort(key=lambda item: item[:2])
    places, _, right = usable[0]
    pax = min(places, scan.max_pax, scan.pax or places)
    room = _room(zone)
    if room <= 0:
        return Refusal(code="capacity_hold")
    pax = min(pax, room)
    return Permit(
        entitlement=right.entitlement,
        ticket=right.ticket,
        pax=pax,
        remaining=0 if right.sold is None else places - pax,
        product_class=right.product_class,
    )


def _judge(right: RightFacts, scan: ScanFacts) -> tuple[int, Refusal | None]:
    """How far along the checks this right gets, and what stopped it."""
    if right.credential_state != "active":
        return 1, Refusal(code=CREDENTIAL_STATES.get(right.credential_state, "blocked"))
    if right.ticket_state != "active":
        return 2, Refusal(code=TICKET_STATES.get(right.ticket_state, "blocked"))
    if scan.now < right.valid_from:
        return 3, Refusal(code="not_yet_valid", valid_from=right.valid_from)
    if scan.now >= right.valid_to:
        return 3, Refusal(code="expired")
    if right.zone != scan.to_zone:
        return 4, Refusal(code="wrong_zone")
    if _places(right) <= 0:
        if right.held > 0:
            return 5, Refusal(code="in_progress")
        if right.sold is not None and right.redeemed == 0:
            return 5, Refusal(code="refunded")
        code = "pax_exhausted" if right.product_class == "group" else "already_used"
        return 5, Refusal(code=code, lane_of_use=right.last_used_lane, used_at=right.last_used_at)
    if right.needs_face and not scan.face_ok:
        return 6, Refusal(code="needs_factor")
    if right.min_gap_s > 0 and right.last_used_at is not None and scan.now - right.last_used_at < right.min_gap_s:
        return 7, Refusal(code="too_soon", lane_of_use=right.last_used_lane, used_at=right.last_used_at)
    return 8, None


def _places(right: RightFacts) -> int:
    """How many people may still be granted. Unlimited use (an annual card) is one person at a time."""
    if right.sold is None:
        return 0 if right.held > 0 else 1
    return right.sold - right.refunded - right.reserved_refund - right.redeemed - right.held


def _room(zone: ZoneFacts) -> int:
    """How many people the zone still takes; people who hold an open grant count as inside already."""
    if zone.limit is None:
        return 1_000_000_000
    return zone.limit - max(0, zone.inside) - zone.held
