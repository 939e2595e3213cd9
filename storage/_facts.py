"""Rights and grants as one batch works on them: loaded, moved, and written back by what moved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from protocols.messages import EndReason, Granted, GrantState
from storage.interfaces import ProductSetup, RightFacts

Versions = dict[tuple[str, int], ProductSetup]
"""Every product as it was ever on sale, by name and version."""

CLOCK_STEP_S = 1.0  # a clock may be set back by so much without anybody doubting what it said before


@dataclass(slots=True)
class Presented:
    """A credential that was presented, and the ticket that it leads to."""

    kind: str
    value_hash: bytes
    credential: int
    ticket: int
    state: str
    issue_index: int
    personal: bool


@dataclass(slots=True)
class Ticket:
    """A ticket, and where the person on it was last seen."""

    ticket: int
    product: str
    version: int
    state: str
    valid_from: float
    valid_to: float
    slot_from: float | None
    slot_to: float | None
    holder_hash: bytes | None
    at_zone: str | None
    at_since: float | None


@dataclass(slots=True)
class Right:
    entitlement: int
    ticket: int
    rule: int
    zone: str | None  # None: shared by all zones of the right
    sold: int | None
    redeemed: int
    held: int
    refunded: int
    reserved_refund: int
    last_used_at: float | None
    last_used_lane: str
    first_used_at: float | None
    last_exit_at: float | None
    day: date | None
    used_day: int
    reentries_day: int
    out_day: int
    reentries_held: int
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

    def facts(self, ticket: Ticket, product: ProductSetup, credential_state: str) -> RightFacts:
        return RightFacts(
            entitlement=self.entitlement,
            ticket=self.ticket,
            ticket_state=ticket.state,
            credential_state=credential_state,
            product=ticket.product,
            product_class=product.product_class,
            rules=product.rules,
            rule=self.rule,
            zone=self.zone or "",
            pax=product.pax,
            sold=self.sold,
            redeemed=self.redeemed,
            held=self.held,
            refunded=self.refunded,
            reserved_refund=self.reserved_refund,
            valid_from=ticket.valid_from,
            valid_to=ticket.valid_to,
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
