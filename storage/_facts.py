"""Zones, rights and grants as one batch works on them: loaded, moved, and written back by what moved."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.messages import EndReason, Granted, GrantState
from storage.interfaces import RightFacts, ZoneCount

CLOCK_STEP_S = 1.0  # a clock may be set back by so much without anybody doubting what it said before


@dataclass(slots=True)
class Zone:
    zone: str
    limit: int | None
    inside: int
    held: int
    inside_moved: int = 0
    held_moved: int = 0

    def move(self, people: int) -> None:
        self.inside += people
        self.inside_moved += people

    def hold(self, people: int) -> None:
        self.held += people
        self.held_moved += people

    def room(self) -> int | None:
        """People who may still be let in; None without a limit. A count below zero is a miscount, not room."""
        return None if self.limit is None else self.limit - max(0, self.inside) - self.held

    def count(self) -> ZoneCount:
        return ZoneCount(zone=self.zone, inside=self.inside, held=self.held, limit=self.limit)


@dataclass(slots=True)
class Right:
    entitlement: int
    ticket: int
    zone: str
    sold: int | None
    redeemed: int
    held: int
    refunded: int
    reserved_refund: int
    last_used_at: float | None
    last_used_lane: str
    ticket_state: str
    valid_from: float
    valid_to: float
    product: str
    product_class: str
    needs_face: bool
    min_gap_s: float
    redeemed_moved: int = 0
    held_moved: int = 0
    used: bool = False

    def available(self) -> int | None:
        if self.sold is None:
            return None
        return self.sold - self.redeemed - self.held - self.refunded - self.reserved_refund

    def hold(self, people: int) -> None:
        self.held += people
        self.held_moved += people

    def redeem(self, at: float, lane: str) -> None:
        self.redeemed += 1
        self.redeemed_moved += 1
        if self.last_used_at is None or at >= self.last_used_at:
            self.last_used_at, self.last_used_lane, self.used = at, lane, True

    def facts(self, credential_state: str) -> RightFacts:
        return RightFacts(
            entitlement=self.entitlement,
            ticket=self.ticket,
            ticket_state=self.ticket_state,
            credential_state=credential_state,
            product=self.product,
            product_class=self.product_class,
            zone=self.zone,
            sold=self.sold,
            redeemed=self.redeemed,
            held=self.held,
            refunded=self.refunded,
            reserved_refund=self.reserved_refund,
            valid_from=self.valid_from,
            valid_to=self.valid_to,
            needs_face=self.needs_face,
            min_gap_s=self.min_gap_s,
            last_used_at=self.last_used_at,
            last_used_lane=self.last_used_lane,
        )


@dataclass(slots=True)
class Grant:
    grant: int
    lane: str
    device: str
    nonce: str
    ticket: int
    entitlement: int
    product_class: str
    to_zone: str
    pax: int
    remaining: int
    ttl_s: float
    granted_at: float
    open: bool
    passed: int  # people booked on it, late ones included
    why: str | None  # how it ended
    new: bool = False  # made in this batch
    fresh: bool = False  # and not answered yet
    touched: bool = False

    def state(self, now: float) -> GrantState:
        if self.open:
            return GrantState.OPEN if self.left_s(now) > 0 else GrantState.UNRESOLVED
        if self.passed >= self.pax:
            return GrantState.COMMITTED
        if self.passed:
            return GrantState.PARTLY
        gone = (EndReason.TIMEOUT, EndReason.RECOVERED, EndReason.COMPLETE)
        return GrantState.EXPIRED if self.why in gone else GrantState.CANCELLED

    def left_s(self, now: float) -> float:
        """How long it may still be opened for; not at all once the clock was set back, for then nobody knows."""
        if now < self.granted_at - CLOCK_STEP_S:
            return 0.0
        return max(0.0, min(self.ttl_s, self.granted_at + self.ttl_s - now))

    def answer(self, nonce: str, now: float) -> Granted:
        return Granted(
            nonce=nonce,
            grant=self.grant,
            ticket=self.ticket,
            pax=self.pax,
            passed=self.passed,
            ttl_s=self.left_s(now),
            state=self.state(now),
            fresh=self.fresh,
            product_class=self.product_class,
            remaining=self.remaining,
        )
