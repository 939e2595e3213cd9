"""The books of the gates: a working copy of what one batch touches, and the rules that move it.

Everything here is synchronous and pure: loaded before, written after (`storage._gate`).  Operations are applied in the
order of their arrival, each to what the ones before it left, so two scans of one code in one batch are two scans.
A method that refuses raises before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from msgspec.structs import replace

from protocols.clock import business_day, local_time
from protocols.messages import (
    Booked,
    Ended,
    EndReason,
    PassageKind,
    Passed,
    Settled,
)
from protocols.rights import STAFF_CLASSES
from storage._facts import Grant, Person, Presented, Right, Ticket
from storage._issue import Shop
from storage._journals import Journals
from storage._records import Records
from storage._rows import Rows
from storage._zones import Zone
from storage.interfaces import (
    AddShort,
    CounterBaseline,
    DecideRule,
    LedgerRefused,
    Ok,
    RefusedScan,
)
from storage.queries import load

UNRESOLVED_GRACE_S = 2.0  # a healthy lane ends its grant at ttl; its word needs a moment to arrive
OUTSIDE = "outside"
CLOCK = "paifang"  # who corrects by itself
LATE_UPLOAD = "late_upload"
LATE_MOST_S = 7 * 86400.0  # a passage that says to be older than this has a wrong clock, and counts now
CLOCK_TOLERANCE_S = 120.0  # a device whose clock is further off is told of, and the server's clock counts
CLOCK_CASE_S = 3600.0  # one case a device in this time
RIGHTS_KINDS = (PassageKind.GRANTED, PassageKind.LATE)
CASE_KINDS = {  # passages without a grant that people must look at
    PassageKind.TAILGATE: "warning",
    PassageKind.FORCED: "alarm",
    PassageKind.REVERSE: "warning",
}

Identity = tuple[str, str, str, int]  # device, boot, direction, seq


class Books:
    """One batch's view of the gates. `storage._gate` fills the dictionaries and writes `rows` and what moved."""

    def __init__(
        self,
        rows: Rows,
        records: Records,
        decide: DecideRule,
        now: float,
        new_id: Callable[[], int],
        next_seq: Callable[[], int],
        shop: Shop,
    ) -> None:
        self.rows = rows
        self.records = records
        self.now = now
        self.decide = decide
        self.new_id = new_id
        self.next_seq = next_seq
        self.shop = shop
        self.local = local_time(now, shop.timezone, shop.day_start)
        self.day = self.local.day
        self.zones: dict[str, Zone] = {}
        self.rights: dict[int, Right] = {}
        self.by_ticket: dict[int, list[Right]] = {}
        self.tickets: dict[int, Ticket] = {}
        self.credentials: dict[tuple[str, bytes], list[Presented]] = {}
        self.people: dict[tuple[int, int], Person] = {}
        self.preprinted: dict[int, str] = {}
        self.faces: dict[int, tuple[bytes, str]] = {}  # to compare with, by ticket
        self.grants: dict[int, Grant] = {}
        self.by_device: dict[tuple[str, str], Grant] = {}
        self.by_lane: dict[tuple[str, str], Grant] = {}
        self.passages: dict[Identity, str] = {}
        self.abandoned: set[tuple[str, str]] = set()
        self.unresolved: list[int] = []
        self.calibrated: set[str] = set()  # keys of corrections that are booked
        self.journals = Journals(rows.of(load("uploads")))
        self.without_right: dict[Identity, tuple[str, str]] = {}  # who passes on nothing: kind and words of the case
        self.today = ""  # the business day, YYYY-MM-DD
        self.closed_before = 0.0  # what happened before this belongs to a day that is closed

    def add_grant(self, grant: Grant) -> None:
        self.grants[grant.grant] = grant
        self.by_device[grant.device, grant.nonce] = grant
        # a lane's own device may repeat a reader's nonce: an open grant is the one that a lane means
        known = self.by_lane.get((grant.lane, grant.nonce))
        if known is None or (grant.open, grant.granted_at) > (known.open, known.granted_at):
            self.by_lane[grant.lane, grant.nonce] = grant

    def add_right(self, right: Right) -> None:
        self.rights[right.entitlement] = right
        self.by_ticket.setdefault(right.ticket, []).append(right)

    # -- operations -----------------------------------------------------------------------------------------------

    def passed(self, op: Passed) -> Booked:
        """Book one person, and the end of their grant where that was said with it."""
        booked = self._passage(op)
        if op.ended is None or op.grant is None:
            return booked
        said = Ended(
            lane=op.lane,
            device=op.device,
            grant=op.grant,
            nonce="",
            passed=op.ended,
            why=EndReason.COMPLETE,
            at=op.at,
        )
        try:
            self.ended(said)
        except LedgerRefused as exc:  # somebody has passed, whatever is wrong with the grant
            return replace(booked, end_refused=str(exc))
        return replace(booked, ended=True)

    def _passage(self, op: Passed) -> Booked:
        """The passage, the move between zones, and the use of a right if there is one."""
        identity: Identity = (op.device, op.boot, op.direction, op.seq)
        booked = self.passages.get(identity)
        if booked is not None:
            return _booked(op, PassageKind(booked), repeated=True)
        from_zone, to_zone = self.zone(op.from_zone), self.zone(op.to_zone)
        kind, grant = self._kind_of(op)
        at = self._seen_at(op, grant)
        self.passages[identity] = kind
        self.rows.add(
            "insert_passages",
            *identity,
            self.next_seq(),
            op.lane,
            kind,
            grant.grant if grant else None,
            op.from_zone,
            op.to_zone,
            op.at,
            self.now,
            at,
        )
        self._move(op, grant, from_zone, to_zone)
        if grant is not None:
            self._use(op, grant, at, identity)
        elif kind in CASE_KINDS:
            key = ":".join(map(str, (kind, *identity)))
            what, detail = self.without_right.get(identity, (str(kind), self._why_no_grant(op)))
            self.records.case(key, what, op.lane, CASE_KINDS[kind], detail, op.at)
        elif kind is PassageKind.UNATTENDED:  # one case for what a lane counted alone, not one per person
            key = f"unattended:{op.lane}:{op.boot}:{int(self.now // 86400)}"
            self.records.case(key, kind, op.lane, "warning", "passages while no server was watching", op.at)
        return _booked(op, kind, repeated=False)

    def ended(self, op: Ended) -> Settled:
        """The lane's own word that a grant is over: what did not pass is free again."""
        grant = self.grants.get(op.grant) if op.grant is not None else None
        if grant is None and op.nonce:
            grant = self.by_device.get((op.device, op.nonce)) or self.by_lane.get((op.lane, op.nonce))
        if grant is None:
            return self._abandon(op)
        if grant.lane != op.lane:
            raise LedgerRefused(f"lane {op.lane} cannot end a grant of lane {grant.lane}")
        if not grant.open:
            return Settled(grant=grant.grant, nonce=grant.nonce, passed=grant.passed, repeated=True)
        grant.open, grant.why, grant.touched = False, op.why, True
        free = grant.pax - grant.passed
        self._free(grant, free)
        self.rows.add(
            "insert_ends",
            grant.grant,
            self.next_seq(),
            op.lane,
            grant.passed,
            max(0, op.passed),
            op.why,
            op.at,
            self.now,
        )
        if op.passed != grant.passed:
            detail = f"grant {grant.grant}: the lane says {op.passed} passed, {grant.passed} are booked"
            self.records.case(f"count_mismatch:{grant.grant}", "count_mismatch", op.lane, "warning", detail, op.at)
        if self.now > grant.granted_at + grant.ttl_s:
            self.records.resolve(f"unresolved:{grant.grant}")
        return Settled(grant=grant.grant, nonce=grant.nonce, passed=grant.passed, repeated=False)

    def correct(
        self, name: str, people: int, staff: int, reason: str, user: str, key: str | None = None
    ) -> None:
        """Book a correction of a zone as a pair with `outside`, if there is anything to correct."""
        if not people and not staff:
            return
        if key:
            self.calibrated.add(key)
        for zone, sign in ((self.zone(name), 1), (self.zone(OUTSIDE), -1)):
            zone.move(sign * people)
            zone.move_staff(sign * staff)
            zone.settle(self.now)
        row = (self.new_id(), self.next_seq(), name, people, staff, reason, user, key, self.now)
        self.rows.add("insert_calibrations", *row)

    def refused(self, op: RefusedScan) -> None:
        new = (op.lane, op.device, op.nonce, op.kind, op.credential_hash, op.code, None, op.at, self.now)
        self.rows.add("insert_scans", *new)

    def add_short(self, op: AddShort) -> Ok:
        """A short code for a ticket; the database knows if it is taken, and whether the ticket exists."""
        self.rows.add("insert_short", self.new_id(), op.ticket, op.value_hash)
        return Ok()

    def baseline(self, op: CounterBaseline) -> Ok:
        self.rows.add("insert_baselines", op.device, op.epoch, op.lane, op.entries, op.exits, self.now)
        return Ok()

    def expire(self, grant: int, lane: str, ticket: int, expires_at: float) -> None:
        """A grant whose lane has said nothing by its ttl: people must look, and the hold stays."""
        detail = f"grant {grant} on ticket {ticket}: the lane has not said how it ended"
        self.records.case(f"unresolved:{grant}", "unresolved", lane, "warning", detail, expires_at)
        self.unresolved.append(grant)

    # -- parts ----------------------------------------------------------------------------------------------------

    def person(self, credential: int, entitlement: int) -> Person:
        """What somebody on a list has used of a right."""
        key = (credential, entitlement)
        return self.people.setdefault(key, Person(*key))

    def day_of(self, at: float | None) -> date | None:
        """The business day of a moment."""
        return None if at is None else business_day(at, self.shop.timezone, self.shop.day_start)

    def clock_case(self, device: str, lane: str, at: float) -> None:
        """A device's clock cannot be right: people are told, once a device and hour."""
        key = f"clock:{device}:{int(self.now // CLOCK_CASE_S)}"
        detail = f"the clock of {device} is off by {at - self.now:+.0f} s; the server's time counts"
        self.records.case(key, "clock", lane, "warning", detail, self.now)

    def zone(self, name: str) -> Zone:
        zone = self.zones.get(name)
        if zone is None:
            raise LedgerRefused(f"unknown zone {name!r}")
        return zone

    def _move(self, op: Passed, grant: Grant | None, from_zone: Zone, to_zone: Zone) -> None:
        """One person goes from one zone to another, and among whom they count."""
        staff = int(grant is not None and grant.product_class in STAFF_CLASSES)
        for zone, people in ((from_zone, -1), (to_zone, 1)):
            zone.begin_day(self.today)
            zone.move(people)
            zone.move_staff(people * staff)
        if self.closed_before - LATE_MOST_S < op.at < self.closed_before:
            self._take_out(op, from_zone, to_zone, staff)
        elif grant is not None and not staff and grant.kind == "entry":
            to_zone.enter()
        from_zone.settle(self.now)
        to_zone.settle(self.now)

    def _take_out(self, op: Passed, from_zone: Zone, to_zone: Zone, staff: int) -> None:
        """A passage of a day that is closed arrives late: it is booked, and moves nobody of today."""
        word = f"{LATE_UPLOAD}:{op.device}:{op.boot}:{op.direction}:{op.seq}"
        for zone, people in ((from_zone, 1), (to_zone, -1)):
            if zone.zone != OUTSIDE:
                self.correct(zone.zone, people, people * staff, LATE_UPLOAD, CLOCK, f"{word}:{zone.zone}")

    def _kind_of(self, op: Passed) -> tuple[PassageKind, Grant | None]:
        """What a passage is booked as. Only `granted` and `late` use a right, and both need the lane's own grant."""
        if op.kind not in RIGHTS_KINDS:
            return op.kind, None
        grant = self.grants.get(op.grant) if op.grant is not None else None
        if grant is None or grant.lane != op.lane or grant.passed >= grant.pax:
            return PassageKind.TAILGATE, None
        return (PassageKind.GRANTED if grant.open else PassageKind.LATE), grant

    def _free(self, grant: Grant, people: int) -> None:
        """Nobody holds these places any more."""
        if grant.kind == "exit" or grant.entitlement is None:
            return
        self.zone(grant.to_zone).hold(-people)
        right, person = self.rights[grant.entitlement], self._person_of(grant)
        if grant.kind == "reentry":
            right.hold_reentry(-people)
            return
        right.hold(-people)
        if person is not None:
            person.hold(-people)

    def _why_no_grant(self, op: Passed) -> str:
        if op.kind not in RIGHTS_KINDS:
            return ""
        grant = self.grants.get(op.grant) if op.grant is not None else None
        if grant is None:
            return f"grant {op.grant} is not known"
        if grant.lane != op.lane:
            return f"grant {op.grant} belongs to lane {grant.lane}"
        return f"grant {op.grant} is for {grant.pax}"

    def _use(self, op: Passed, grant: Grant, at: float, identity: Identity) -> None:
        """Somebody passed on a grant: it is used, held no longer, and their ticket is seen where they went."""
        day = business_day(at, self.shop.timezone, self.shop.day_start)
        right = None if grant.entitlement is None else self.rights[grant.entitlement]
        person = self._person_of(grant)
        grant.passed += 1
        if grant.open:
            grant.touched = True
            if grant.kind != "exit":
                self.zone(grant.to_zone).hold(-1)
        if right is not None and grant.kind == "entry":
            available = right.available()
            if grant.open:
                right.hold(-1)
                if person is not None:
                    person.hold(-1)
            elif identity in self.without_right or (available is not None and available < 1):
                key = ":".join(map(str, ("late_pass", *identity)))
                used_up = f"grant {grant.grant} had ended and its right is used up"
                what, detail = self.without_right.get(identity, ("late_pass", used_up))
                self.records.case(key, what, op.lane, "warning", detail, op.at)
                right = None
        if right is not None and grant.kind == "entry":
            right.redeem(at, op.lane, day)
            if person is not None:
                person.redeem()
            self.rows.add("insert_redemptions", *identity, grant.entitlement, grant.grant, self.now)
        elif right is not None and grant.kind == "reentry":
            if grant.open:
                right.hold_reentry(-1)
            right.reenter(at, op.lane, day)
        if grant.ticket is not None:
            self._see(op, grant.ticket, at, day)

    def _see(self, op: Passed, number: int, at: float, day: date) -> None:
        """The ticket's person is in the zone that they entered, and has left the one before.

        The time of the scan counts, not that of the word's arrival: an older one does not move anybody back.
        """
        ticket = self.tickets[number]
        product = self.shop.versions[ticket.product, ticket.version]
        left = {op.from_zone}
        if ticket.at_since is None or at >= ticket.at_since:
            if product.pax == 1 and ticket.at_zone is not None:
                left.add(ticket.at_zone)
            ticket.at_zone, ticket.at_since, ticket.touched = op.to_zone, at, True
        for right in self.by_ticket.get(number, []):
            zones = product.rules.rights[right.rule].zones
            if not right.covers(op.to_zone, zones) and any(right.covers(zone, zones) for zone in left):
                right.leave(at, day)

    def _person_of(self, grant: Grant) -> Person | None:
        if grant.credential is None or grant.entitlement is None:
            return None
        return self.person(grant.credential, grant.entitlement)

    def _seen_at(self, op: Passed, grant: Grant | None) -> float:
        """When somebody passed: the device's time where it can be true, else ours, and people are told."""
        earliest = self.now - LATE_MOST_S if grant is None else grant.granted_at - CLOCK_TOLERANCE_S
        if not earliest <= op.at <= self.now + CLOCK_TOLERANCE_S:
            self.clock_case(op.device, op.lane, op.at)
            return self.now
        return min(op.at, self.now)

    def _abandon(self, op: Ended) -> Settled:
        """The lane gave up before it had an answer. If the scan still comes, it opens nothing."""
        if not op.nonce:
            raise LedgerRefused(f"grant {op.grant} is not known")
        repeated = (op.lane, op.nonce) in self.abandoned
        if not repeated:
            self.abandoned.add((op.lane, op.nonce))
            self.rows.add("insert_abandoned", op.lane, op.nonce, op.device, op.why, self.now)
            if op.passed:
                key = f"count_mismatch:{op.lane}:{op.nonce}"
                detail = f"the lane says {op.passed} passed on a scan that was never granted"
                self.records.case(key, "count_mismatch", op.lane, "warning", detail, op.at)
        return Settled(grant=None, nonce=op.nonce, passed=0, repeated=repeated)


def _booked(op: Passed, kind: PassageKind, *, repeated: bool) -> Booked:
    return Booked(
        device=op.device, boot=op.boot, seq=op.seq, direction=op.direction, kind=kind, repeated=repeated
    )
