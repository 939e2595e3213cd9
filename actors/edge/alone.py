"""The decision of a lane that nobody answers: the server's own rules on what the lane has.

Pure: lists, uses and policy in, a permit or a refusal out.  What the lists do not know of is added from the uses of
this lane and its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from actors.admission.rules import decide
from actors.edge._parts import EdgePolicy, ListedRights
from protocols.clock import LocalTime
from protocols.edge import Use
from protocols.messages import Decide, Direction
from protocols.rights import ProductRules, ZoneRight
from protocols.ticketcode import TicketCode
from storage.interfaces import Permit, Refusal, RightFacts, ScanFacts, ZoneFacts

HELD_TRUSTED_S = 60.0  # open grants that the lists tell of are believed for so long
REFUSED = Refusal(code="offline_refused")


@dataclass(frozen=True, kw_only=True, slots=True)
class Alone:
    """What the lane knows at a scan. `code`: what a verified ticket code says; `zones`: the site's, in its order.

    `older`: the card itself says an older issue than the lists.  `list_as_of` and `now` are the server's clock as far
    as it is known; `mine` are this lane's own open grants.
    """

    listed: ListedRights | None
    code: TicketCode | None
    uses: Sequence[Use]
    mine: frozenset[int]
    zone: ZoneFacts | None
    zones: Sequence[str]
    now: float
    local: LocalTime
    list_as_of: float
    holder_hash: bytes | None = None
    older: bool = False


def decide_alone(question: Decide, known: Alone, policy: EdgePolicy) -> Permit | Refusal:
    """May this visitor pass, as far as anybody here can tell?"""
    scan = question.scan
    facts = ScanFacts(
        lane=scan.lane,
        to_zone=question.to_zone,
        now=known.now,
        pax=scan.pax,
        max_pax=question.max_pax,
        face_ok=policy.face == "waive",
        from_zone=question.from_zone,
        direction=scan.direction,
        lane_class=question.lane_class,
        local=known.local,
        face_taken=scan.photo is not None,
        holder_hash=known.holder_hash,
        stamp=bool(scan.stamp),
        product=scan.product,
    )
    zone = known.zone or ZoneFacts(zone=question.to_zone, inside=0, held=0, limit=None)
    if known.listed is not None and known.listed.refused and scan.direction is Direction.ENTRY:
        return Refusal(code=known.listed.refused)
    rights = rights_of(known, policy)
    if scan.direction is Direction.EXIT:
        return decide(rights or [], zone, facts)  # whoever wants out is let out
    if rights is None:
        return REFUSED if known.listed is None and known.code is not None else Refusal(code="unknown_code")
    allowed = [right for right in rights if _allowed(right, known, policy)]
    if rights and not allowed:
        refusal = decide(rights, zone, facts)  # a used ticket is a used ticket, online or not
        return refusal if isinstance(refusal, Refusal) else REFUSED
    return decide(allowed, zone, facts)


def rights_of(known: Alone, policy: EdgePolicy) -> list[RightFacts] | None:
    """What the credential gives here and now; None: nothing is known of it that could be trusted."""
    if known.listed is not None:
        rights = known.listed.rights
    elif known.code is not None and policy.unlisted == "accept":
        rights = [_of_code(known.code, known.zones)]
    else:
        return None
    return [_with_uses(right, known) for right in rights]


def _allowed(right: RightFacts, known: Alone, policy: EdgePolicy) -> bool:
    """Does the product let a lane decide, with lists of this age?"""
    if right.rules.offline == "refuse":
        return False
    age_s = known.now - known.list_as_of
    if known.listed is not None and age_s > policy.list_age_max_s:
        return False
    if right.rules.offline == "accept_limited":
        used = right.used_day or right.held or right.redeemed
        return known.listed is not None and age_s <= policy.limited_age_s and not used
    return True


def _of_code(code: TicketCode, zones: Sequence[str]) -> RightFacts:
    """A ticket that no list knows, by what its code says: one use, where its zones are."""
    named = [zone for bit, zone in enumerate(zones) if code.zones >> bit & 1]
    return RightFacts(
        entitlement=0,
        ticket=code.ticket,
        ticket_state="active",
        credential_state="active",
        product="",
        product_class=code.product_class.word,
        rules=ProductRules(rights=[ZoneRight(zones=named or list(zones))]),
        zone="",
        pax=code.pax,
        sold=code.pax,
        redeemed=0,
        held=0,
        refunded=0,
        reserved_refund=0,
        valid_from=float(code.valid_from),
        valid_to=float(code.valid_to),
        last_used_at=None,
        last_used_lane="",
    )


def _with_uses(right: RightFacts, known: Alone) -> RightFacts:
    """Add what happened since the lists were made. A use that the lists know already is not counted again."""
    if known.older and right.credential_state == "active":
        right = msgspec.structs.replace(right, credential_state="superseded")
    if known.now - known.list_as_of > HELD_TRUSTED_S:  # open grants of back then are over by now
        right = msgspec.structs.replace(right, held=0, reentries_held=0)
    for use in known.uses:
        if use.zone not in right.zones or (right.last_used_at is not None and use.at <= right.last_used_at):
            continue
        if use.grant in known.mine:
            right = msgspec.structs.replace(right, held=right.held + use.pax)
            continue
        right = msgspec.structs.replace(
            right,
            redeemed=right.redeemed + use.pax,
            used_day=right.used_day + use.pax,
            last_used_lane=use.lane,
            first_used_at=use.at if right.first_used_at is None else right.first_used_at,
            first_used_on=known.local.day if right.first_used_on is None else right.first_used_on,
        )
    latest = [use.at for use in known.uses if use.zone in right.zones and use.grant not in known.mine]
    if latest:
        right = msgspec.structs.replace(right, last_used_at=max([*latest, right.last_used_at or 0.0]))
    return right
