"""The decision: may this credential pass here, now, and for how many people?

One pure function, used unchanged by the server (inside the ledger's transaction) and by a lane controller on its own;
`explain` walks the same checks to say why.
The order of checks is the domain model's: legality, state, validity, zone, class of lane, slot and hours, uses, main
ticket, holder's factor, gap, capacity.  Of several rights of one credential the one that got furthest along this order
is the one whose refusal is shown, because it says best what would make the visitor pass.  Whoever wants out is let
out: nothing of this is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.admission.uses import (
    kind_of,
    one_use,
    places_for,
    places_left,
    reentry_refusal,
    rest_of,
    used_up,
)
from actors.admission.windows import is_open, next_opening
from protocols.clock import LocalTime, local_time
from protocols.messages import Direction
from protocols.rights import STAFF_CLASSES
from storage.interfaces import GrantKind, Permit, Refusal, RightFacts, ScanFacts, ZoneFacts

NO_LIMIT = 1_000_000_000  # room of a zone without a limit, people
MINUTE_S = 60.0
TICKET_STATES = {
    "on_hold": "held",
    "blocked": "blocked",
    "void": "void",
    "refunded": "refunded",
    "unpaid": "unpaid",
    "expired": "expired",
    "reserved": "not_yet_active",
    "blank": "not_yet_active",
    "in_stock": "not_yet_active",
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
    rights: one whose slot is now, then the one with the fewest places left, then the one that ends first (domain
    model, section 4, step 1); if that leaves tickets of different classes, staff must choose.  One scan is one use of
    the people that it is sold for, unless the device asks for more.
    """
    if scan.direction is Direction.EXIT:
        return _exit(rights, scan)
    if not rights:
        return Refusal(code="unknown_code")
    right, refusal = choose(rights, scan)
    if refusal is not None:
        if refusal.code == "wrong_zone":
            return msgspec.structs.replace(refusal, zones=zones_that_pass(rights, scan))
        return refusal
    kind = kind_of(right, scan)
    room = room_for(right, kind, zone)
    if room <= 0:
        return Refusal(code="capacity_hold")
    places = places_for(right, kind)
    pax = min(places, scan.max_pax, scan.pax or one_use(right), room)
    left = rest_of(right)
    return Permit(
        entitlement=right.entitlement,
        ticket=right.ticket,
        pax=pax,
        remaining=0 if right.sold is None else left - pax if kind == "entry" else left,
        product_class=right.product_class,
        kind=kind,
    )


def choose(rights: list[RightFacts], scan: ScanFacts) -> tuple[RightFacts, Refusal | None]:
    """The right that is used or, if none can be, the one whose refusal is shown. There must be one at least."""
    rights = [right for right in rights if right.product == scan.product] or rights
    usable: list[RightFacts] = []
    furthest, best = -1, None
    for right in rights:
        stopped = first_refusal(right, scan)
        if stopped is None:
            usable.append(right)
        elif stopped[0] > furthest:
            furthest, best = stopped[0], (right, stopped[1])
    if usable:
        first = min(usable, key=lambda right: _preference(right, scan))
        if len(usable) > 1 and not scan.product:
            equals = [right for right in usable if _preference(right, scan) == _preference(first, scan)]
            if len({right.product_class for right in equals}) > 1:
                return first, Refusal(code="ambiguous")
        return first, None
    assert best is not None
    return best


def _preference(right: RightFacts, scan: ScanFacts) -> tuple[bool, bool, int, float]:
    """The lowest is used. A fresh ticket goes before coming back on another one: two people may share an ID."""
    kind = kind_of(right, scan)
    return kind != "entry", right.slot_from is None, places_for(right, kind), right.valid_to


def first_refusal(right: RightFacts, scan: ScanFacts) -> tuple[int, Refusal] | None:
    """Which of `CHECKS` stops this right first, and how; None if it may be used."""
    for step, (_, check) in enumerate(CHECKS):
        refusal = check(right, scan)
        if refusal is not None:
            return step, refusal
    return None


def zones_that_pass(rights: list[RightFacts], scan: ScanFacts) -> list[str]:
    """Where else one of the rights would pass all its checks."""
    passing = {
        zone
        for right in rights
        for zone in right.zones
        if zone != scan.to_zone and first_refusal(right, msgspec.structs.replace(scan, to_zone=zone)) is None
    }
    return sorted(passing)


def _exit(rights: list[RightFacts], scan: ScanFacts) -> Permit:
    """Out, on whatever ticket it is: the one that led into the zone that is left, else any, else none."""
    inside = [right for right in rights if scan.from_zone in right.zones] or rights
    used = [right for right in inside if right.used_day or right.redeemed] or inside
    if not used:
        pax = min(scan.pax or 1, scan.max_pax)
        return Permit(entitlement=None, ticket=None, pax=pax, remaining=0, product_class="", kind="exit")
    right = max(used, key=lambda right: right.last_used_at or 0.0)
    people = 1 if right.person is not None else right.pax
    return Permit(
        entitlement=right.entitlement,
        ticket=right.ticket,
        pax=max(1, min(people, scan.max_pax, scan.pax or people)),
        remaining=0,
        product_class=right.product_class,
        kind="exit",
    )


# --- the checks ---------------------------------------------------------------------------------------------------


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
    rule = right.right
    if right.first_used_at is not None:
        minutes = rule.minutes_after_first_use
        if minutes and scan.now >= right.first_used_at + minutes * MINUTE_S:
            return Refusal(code="expired")
    if right.first_used_on is not None and rule.days_after_first_use:
        days = (clock_of(scan).day - right.first_used_on).days
        if days >= rule.days_after_first_use:
            return Refusal(code="expired")
    return None


def _zone(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if scan.to_zone not in right.zones:
        return Refusal(code="wrong_zone")
    return None


def _lane_class(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if scan.lane_class and scan.lane_class not in right.rules.lane_classes:
        return Refusal(code="wrong_lane_class", zones=[scan.to_zone])
    return None


def _slot(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    """The slot that was booked is for coming in; hours and dates are for coming back as well."""
    if right.slot_from is not None and right.slot_to is not None and kind_of(right, scan) == "entry":
        begins = right.slot_from - right.rules.slot_early_minutes * MINUTE_S
        if scan.now < begins:
            return Refusal(code="wrong_slot", passes_at=begins if begins < right.valid_to else None)
        if scan.now >= right.slot_to + right.rules.slot_late_minutes * MINUTE_S:
            return Refusal(code="wrong_slot")
    windows = right.right.windows
    if windows and not is_open(windows, clock_of(scan)):
        found = next_opening(windows, clock_of(scan))
        if found is None or scan.now + found[1] * MINUTE_S >= right.valid_to:
            return Refusal(code="wrong_slot")
        return Refusal(code="wrong_slot", opens=found[0])
    return None


def _uses(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    if kind_of(right, scan) == "reentry" or places_left(right) > 0:
        return None
    return reentry_refusal(right, scan) or used_up(right)


def _main(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    """A small ticket needs its main ticket, used today by the same order or holder."""
    requires = right.rules.requires
    if requires and not any(product in requires for product in right.used_today):
        return Refusal(code="needs_main_ticket")
    return None


def _factor(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    """Capture first, compare later: until the first use is made, a new holder replaces the one before."""
    rules = right.rules
    if scan.stamp:
        return None
    if rules.needs_face and not scan.face_ok:
        return Refusal(code="needs_factor")
    begun = right.redeemed + right.held > 0
    if rules.binds == "face" and not (scan.face_ok if begun and right.face_bound else scan.face_taken):
        return Refusal(code="needs_factor")
    if rules.binds == "id":
        if scan.holder_hash is None:
            return Refusal(code="id_required")
        if begun and right.holder_hash is not None and right.holder_hash != scan.holder_hash:
            return Refusal(code="holder_mismatch")
    return None


def _gap(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    """Anti-passback between two uses; coming back has its own gap, which was looked at with the uses."""
    rule = right.right
    if rule.min_gap_s <= 0 or right.last_used_at is None or kind_of(right, scan) == "reentry":
        return None
    if rule.exit_ends_gap and right.last_exit_at is not None and right.last_exit_at >= right.last_used_at:
        return None
    if scan.now - right.last_used_at >= rule.min_gap_s:
        return None
    mine = right.person is None
    return Refusal(
        code="too_soon",
        lane_of_use=right.last_used_lane if mine else "",
        used_at=right.last_used_at if mine else None,
        passes_at=right.last_used_at + rule.min_gap_s,
    )


CHECKS: tuple[tuple[str, Callable[[RightFacts, ScanFacts], Refusal | None]], ...] = (
    ("credential", _credential),
    ("ticket", _ticket),
    ("validity", _validity),
    ("zone", _zone),
    ("lane_class", _lane_class),
    ("slot", _slot),
    ("uses", _uses),
    ("main", _main),
    ("factor", _factor),
    ("gap", _gap),
)
"""What a right must pass, in order. The zone's capacity comes after them and is no right's own."""


def room_for(right: RightFacts, kind: GrantKind, zone: ZoneFacts) -> int:
    """How many people the zone takes on this right: staff always, those who come back unless the site says no."""
    if right.product_class in STAFF_CLASSES or (kind == "reentry" and zone.reentry_when_stopped):
        return NO_LIMIT
    return room_in(zone, first_entry=kind == "entry")


def room_in(zone: ZoneFacts, *, first_entry: bool = True) -> int:
    """How many visitors the zone still takes; people who hold an open grant count as inside already."""
    if zone.stopped:
        return 0
    room = NO_LIMIT if zone.limit is None else zone.limit - max(0, zone.inside - zone.staff) - zone.held
    return min(room, zone.left_today) if first_entry and zone.left_today is not None else room


def clock_of(scan: ScanFacts) -> LocalTime:
    """What the site's clock shows at the scan."""
    return local_time(scan.now) if scan.local is None else scan.local
