"""How often a right may still be used, and who comes back on it without using anything up.

Pure arithmetic on the counters of one right.  People are counted, not scans; what is held by an open grant is taken.
"""

from __future__ import annotations

from protocols.rights import UNLIMITED
from storage.interfaces import GrantKind, Refusal, RightFacts, ScanFacts

MINUTE_S = 60.0


def kind_of(right: RightFacts, scan: ScanFacts) -> GrantKind:
    """Does this scan use the right, or come back on it?

    Somebody whose ticket is for one person and was used today comes back, where the rule lets them; a group's code
    lets those in first who have not been in yet.
    """
    if right.right.reentry is None or right.used_day == 0 or not may_come_back(right, scan):
        return "entry"
    if places_left(right) <= 0:
        return "reentry"
    return "reentry" if right.pax == 1 and right.person is None else "entry"


def may_come_back(right: RightFacts, scan: ScanFacts) -> bool:
    """Is there anybody to come back, and does the rule allow it now?"""
    return places_to_come_back(right) > 0 and reentry_refusal(right, scan) is None


def places_for(right: RightFacts, kind: GrantKind) -> int:
    """People whom a grant of this kind could let in."""
    if kind == "reentry":
        return 1 if right.person is not None else places_to_come_back(right)
    return places_left(right)


def one_use(right: RightFacts) -> int:
    """How many people a scan is for by itself: all of a group's, but one use of a card for ten times."""
    return right.sold if right.right.uses == 1 and right.sold else right.pax


def places_left(right: RightFacts) -> int:
    """How many people may be granted an entry now. Unlimited use is one use at a time."""
    left = rest_of(right)
    per_day = right.right.uses_per_day
    if per_day != UNLIMITED:
        left = min(left, per_day * right.pax - right.used_day - right.held)
    if right.person is not None:
        return 0 if right.person.held else min(left, 1)
    return left


def rest_of(right: RightFacts) -> int:
    """How many people may still be granted an entry in all, on this credential; of unlimited use: now."""
    if right.sold is None:
        left = right.pax - right.held
    else:
        left = right.sold - right.refunded - right.reserved_refund - right.redeemed - right.held
    if right.person is None:
        return left - right.promised
    uses = right.right.uses
    return left if uses == UNLIMITED else min(left, uses - right.person.redeemed - right.person.held)


def places_to_come_back(right: RightFacts) -> int:
    """How many people have used the right today and may come back on it, as far as anybody has seen them leave."""
    rule = right.right.reentry
    if rule is None:
        return 0
    people = (right.out_day if rule.after_exit else right.used_day) - right.reentries_held
    if rule.per_day != UNLIMITED:
        people = min(people, rule.per_day * right.used_day - right.reentries_day - right.reentries_held)
    return people


def reentry_refusal(right: RightFacts, scan: ScanFacts) -> Refusal | None:
    """Why somebody who has been in today cannot come back now; None if nothing is against it, or nobody has been in."""
    rule = right.right.reentry
    if rule is None or right.used_day == 0 or right.last_used_at is None:
        return None
    if right.person is not None and right.person.redeemed == 0:
        return None  # others of the list have been in, not this one
    if right.reentries_held and places_to_come_back(right) <= 0:
        return Refusal(code="in_progress")
    if rule.per_day != UNLIMITED and right.reentries_day >= rule.per_day * right.used_day:
        return _of_use(right, "no_uses_left")
    left_at = right.last_exit_at
    seen_out = left_at is not None and left_at >= right.last_used_at
    if rule.within_minutes:
        since = left_at if seen_out and left_at is not None else _first_entry(right, scan)
        if scan.now >= since + rule.within_minutes * MINUTE_S:
            return _of_use(right, "already_used")
    if rule.after_exit and right.out_day <= 0:
        return _of_use(right, "already_used")
    if scan.now - right.last_used_at < rule.min_gap_s:
        return _of_use(right, "too_soon", passes_at=right.last_used_at + rule.min_gap_s)
    return None


def used_up(right: RightFacts) -> Refusal:
    """The refusal of a right without a place left."""
    if right.person is not None:  # what others of the list did is nobody's business
        if right.person.held:
            return Refusal(code="in_progress")
        uses = right.right.uses
        if uses != UNLIMITED and right.person.redeemed >= uses:
            return Refusal(code="already_used")
    per_day = right.right.uses_per_day
    taken = right.refunded + right.reserved_refund + right.redeemed
    if per_day != UNLIMITED and right.used_day >= per_day * right.pax and (right.sold is None or taken < right.sold):
        rest = per_day * right.pax if right.sold is None else min(per_day * right.pax, right.sold - taken)
        return _of_use(right, "no_uses_left", tomorrow=rest)
    if right.held > 0:
        return Refusal(code="in_progress")
    if right.promised > 0 and right.sold is not None and taken < right.sold:
        return Refusal(code="pax_exhausted")
    if right.sold is not None and right.redeemed == 0:
        return Refusal(code="refunded")
    if right.product_class == "group" or right.pax > 1:
        return _of_use(right, "pax_exhausted")
    return _of_use(right, "no_uses_left" if right.sold is None or right.sold > 1 else "already_used")


def _of_use(right: RightFacts, code: str, *, tomorrow: int = 0, passes_at: float | None = None) -> Refusal:
    """A refusal that tells the last use, unless that may have been another person's of the list."""
    mine = right.person is None
    return Refusal(
        code=code,
        lane_of_use=right.last_used_lane if mine else "",
        used_at=right.last_used_at if mine else None,
        tomorrow=tomorrow,
        passes_at=passes_at,
    )


def _first_entry(right: RightFacts, scan: ScanFacts) -> float:
    """The first entry of the day; of an earlier first day only the latest use is known."""
    assert right.last_used_at is not None
    today = scan.local is None or right.first_used_on == scan.local.day
    return right.first_used_at if today and right.first_used_at is not None else right.last_used_at
