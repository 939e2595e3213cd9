"""The decision: may this credential pass here, now, and for how many people?

One pure function, used unchanged by the server (inside the ledger's transaction) and by a lane controller on its own;
`explain` walks the same checks to say why.
The order of checks is the domain model's: legality, state, validity, zone, uses, holder's factor, gap, capacity.  Of
several rights of one credential the one that got furthest along this order is the one whose refusal is shown, because
it says best what would make the visitor pass.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.rights import STAFF_CLASSES
from storage.interfaces import Permit, Refusal, RightFacts, ScanFacts, ZoneFacts

NO_LIMIT = 1_000_000_000  # room of a zone without a limit, people
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
    right, refusal = choose(rights, scan)
    if refusal is not None:
        return refusal
    room = room_in(zone, staff=right.product_class in STAFF_CLASSES)
    if room <= 0:
        return Refusal(code="capacity_hold")
    places = places_left(right)
    pax = min(places, scan.max_pax, scan.pax or places, room)
    return Permit(
        entitlement=right.entitlement,
        ticket=right.ticket,
        pax=pax,
        remaining=0 if right.sold is None else places - pax,
        product_class=right.product_class,
    )


def choose(rights: list[RightFacts], scan: ScanFacts) -> tuple[RightFacts, Refusal | None]:
    """The right that is used or, if none can be, the one whose refusal is shown. There must be one at least."""
    usable: list[RightFacts] = []
    furthest, best = -1, None
    for right in rights:
        stopped = first_refusal(right, scan)
        if stopped is None:
            usable.append(right)
        elif stopped[0] > furthest:
            furthest, best = stopped[0], (right, stopped[1])
    if usable:
        return min(usable, key=lambda right: (places_left(right), right.valid_to)), None
    assert best is not None
    return best


def first_refusal(right: RightFacts, scan: ScanFacts) -> tuple[int, Refusal] | None:
    """Which of `CHECKS` stops this right first, and how; None if it may be used."""
    for step, (_, check) in enumerate(CHECKS):
        refusal = check(right, scan)
        if refusal is not None:
            return step, refusal
    return None


def _credential(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if right.credential_state != "active":
        return Refusal(code=CREDENTIAL_STATES.get(right.credential_state, "blocked"))
    return None


def _ticket(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if right.ticket_state != "active":
        return Refusal(code=TICKET_STATES.get(right.ticket_state, "blocked"))
    return None


def _validity(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if scan.now < right.valid_from:
        return Refusal(code="not_yet_valid", valid_from=right.valid_from)
    if scan.now >= right.valid_to:
        return Refusal(code="expired")
    return None


def _zone(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if scan.to_zone not in right.zones:
        return Refusal(code="wrong_zone")
    return None


def _uses(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if places_left(right) > 0:
        return None
    if right.held > 0:
        return Refusal(code="in_progress")
    if right.sold is not None and right.redeemed == 0:
        return Refusal(code="refunded")
    code = "pax_exhausted" if right.product_class == "group" else "already_used"
    return Refusal(code=code, lane_of_use=right.last_used_lane, used_at=right.last_used_at)


def _factor(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if right.rules.needs_face and not scan.face_ok:
        return Refusal(code="needs_factor")
    return None


def _gap(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    gap_s = right.right.min_gap_s
    if gap_s > 0 and right.last_used_at is not None and scan.now - right.last_used_at < gap_s:
        return Refusal(code="too_soon", lane_of_use=right.last_used_lane, used_at=right.last_used_at)
    return None


CHECKS: tuple[tuple[str, Callable[[RightFacts, ScanFacts], Refusal | None]], ...] = (
    ("credential", _credential),
    ("ticket", _ticket),
    ("validity", _validity),
    ("zone", _zone),
    ("uses", _uses),
    ("factor", _factor),
    ("gap", _gap),
)
"""What a right must pass, in order. The zone's capacity comes after them and is no right's own."""


def places_left(right: RightFacts) -> int:
    """How many people may still be granted. Unlimited use (an annual card) is one person at a time."""
    if right.sold is None:
        return 0 if right.held > 0 else 1
    return right.sold - right.refunded - right.reserved_refund - right.redeemed - right.held


def room_in(zone: ZoneFacts, *, staff: bool = False, reentry: bool = False) -> int:
    """How many people of this kind the zone still takes; who holds an open grant counts as inside already.

    A stop and the day's limit bind new visitors; who comes back is bound by the zone's limit, staff by nothing.
    """
    if staff:
        return NO_LIMIT
    if zone.stopped and not (reentry and zone.reentry_when_stopped):
        return 0
    room = NO_LIMIT if zone.limit is None else zone.limit - max(0, zone.inside - zone.staff) - zone.held
    if zone.left_today is not None and not reentry:
        room = min(room, zone.left_today)
    return room
