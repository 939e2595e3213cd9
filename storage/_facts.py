"""Rights and grants as one batch works on them: loaded, moved, and written back by what moved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from protocols.messages import EndReason, Granted, GrantState
from storage.interfaces import GrantKind, PersonFacts, ProductSetup, RightFacts

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
    face_bound: bool = False
    used_today: list[str] | None = None  # products that the same order or holder has used today
    holder_enc: bytes | None = None  # of a holder who was bound in this batch
    touched: bool = False


@dataclass(slots=True)
class Person:
    """What one person of a list has used of a right."""

    credential: int
    entitlement: int
    redeemed: int = 0
    held: int = 0
    touched: bool = False

    def hold(self, people: int) -> None:
        self.held += people
        self.touched = True

    def redeem(self) -> None:
        self.redeemed += 1
        self.touched = True


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
    set_aside: int  # places promised to single people, and
    set_aside_used: int = 0  # how many of them have come or hold a grant
    redeemed_moved: int = 0
    held_moved: int = 0
    reentries_held_moved: int = 0
    touched: bool = False

    def available(self) -> int | None:
        if self.sold is None:
            return None
        return self.sold - self.redeemed - self.held - self.refunded - self.reserved_refund

    def hold(self, people: int) -> None:
        self.held += people
        self.held_moved += people

    def hold_reentry(self, people: int) -> None:
        self.reentries_held += people
        self.reentries_held_moved += people

    def redeem(self, at: float, lane: str, day: date) -> None:
        """One person used the right, at `at` of the business day `day`. Word of it may come late and out of order."""
        self.redeemed += 1
        self.redeemed_moved += 1
        if self.first_used_at is None or at < self.first_used_at:
            self.first_used_at = at
        if self._turn(day):
            self.used_day += 1
        self._used(at, lane)

    def reenter(self, at: float, lane: str, day: date) -> None:
        """One person came back on the right."""
        if self._turn(day):
            self.reentries_day += 1
            self.out_day = max(0, self.out_day - 1)
        self._used(at, lane)

    def leave(self, at: float, day: date) -> None:
        """One person was seen to leave where the right led to."""
        if self._turn(day):
            self.out_day = min(self.used_day, self.out_day + 1)
        self.last_exit_at = at if self.last_exit_at is None else max(at, self.last_exit_at)

    def covers(self, zone: str, zones: list[str]) -> bool:
        """Does the right lead into the zone? `zones` are those that its rule names."""
        return zone in zones if self.zone is None else zone == self.zone

    def _used(self, at: float, lane: str) -> None:
        if self.last_used_at is None or at >= self.last_used_at:
            self.last_used_at, self.last_used_lane = at, lane

    def _turn(self, day: date) -> bool:
        """Begin the counters of a new day. Does `day` count in them?"""
        self.touched = True
        if self.day is None or day > self.day:
            self.day, self.used_day, self.reentries_day, self.out_day = day, 0, 0, 0
        return day == self.day

    def facts(
        self,
        ticket: Ticket,
        product: ProductSetup,
        credential_state: str,
        person: Person | None,
        today: date,
        first_used_on: date | None,
    ) -> RightFacts:
        """What the decision may know. A clock that was set back does not give a day's uses back."""
        counts = self.day is not None and self.day >= today
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
            first_used_at=self.first_used_at,
            first_used_on=first_used_on,
            last_exit_at=self.last_exit_at,
            used_day=self.used_day if counts else 0,
            reentries_day=self.reentries_day if counts else 0,
            reentries_held=self.reentries_held,
            out_day=self.out_day if counts else 0,
            slot_from=ticket.slot_from,
            slot_to=ticket.slot_to,
            holder_hash=ticket.holder_hash,
            face_bound=ticket.face_bound,
            used_today=ticket.used_today or [],
            promised=max(0, self.set_aside - self.set_aside_used),
            person=None if person is None else PersonFacts(held=person.held, redeemed=person.redeemed),
        )


@dataclass(slots=True)
class Grant:
    grant: int
    lane: str
    device: str
    nonce: str
    ticket: int | None  # None, as `entitlement`: an exit on nothing that is known
    entitlement: int | None
    product_class: str
    to_zone: str
    pax: int
    remaining: int
    ttl_s: float
    granted_at: float
    open: bool
    passed: int  # people booked on it, late ones included
    why: str | None  # how it ended
    kind: GrantKind
    credential: int | None  # of one person on a list
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
            ticket=self.ticket or 0,
            pax=self.pax,
            passed=self.passed,
            ttl_s=self.left_s(now),
            state=self.state(now),
            fresh=self.fresh,
            product_class=self.product_class,
            remaining=self.remaining,
        )
