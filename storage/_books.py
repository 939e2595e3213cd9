"""The books of the gates: a working copy of what one batch touches, and the rules that move it.

Everything here is synchronous and pure: loaded before, written after (`storage._gate`).  Operations are applied in the
order of their arrival, each to what the ones before it left, so two scans of one code in one batch are two scans.
A method that refuses raises before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.messages import (
    Booked,
    Denied,
    Direction,
    Ended,
    Granted,
    GrantState,
    PassageKind,
    Passed,
    Settled,
)
from protocols.rights import STAFF_CLASSES
from storage._facts import Grant, Presented, Right, Ticket, Versions
from storage._records import Records
from storage._rows import Rows
from storage._zones import Zone
from storage.interfaces import (
    CounterBaseline,
    DecideRule,
    GrantOp,
    LedgerRefused,
    Ok,
    Refusal,
    RefusedScan,
    RightFacts,
    ScanFacts,
)

UNRESOLVED_GRACE_S = 2.0  # a healthy lane ends its grant at ttl; its word needs a moment to arrive
OUTSIDE = "outside"
CLOCK = "paifang"  # who corrects by itself
LATE_UPLOAD = "late_upload"
LATE_MOST_S = 7 * 86400.0  # a passage that says to be older than this has a wrong clock, and counts now
SHRUNK_TO_NOTHING = "capacity_hold"
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
        versions: Versions,
    ) -> None:
        self.rows = rows
        self.records = records
        self.now = now
        self._decide = decide
        self.new_id = new_id
        self.next_seq = next_seq
        self._versions = versions
        self.zones: dict[str, Zone] = {}
        self.rights: dict[int, Right] = {}
        self.by_ticket: dict[int, list[Right]] = {}
        self.tickets: dict[int, Ticket] = {}
        self.credentials: dict[tuple[str, bytes], list[Presented]] = {}
        self.grants: dict[int, Grant] = {}
        self.by_device: dict[tuple[str, str], Grant] = {}
        self.by_lane: dict[tuple[str, str], Grant] = {}
        self.passages: dict[Identity, str] = {}
        self.abandoned: set[tuple[str, str]] = set()
        self.unresolved: list[int] = []
        self.calibrated: set[str] = set()  # keys of corrections that are booked
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

    def grant(self, op: GrantOp) -> Granted | Denied:
        """Decide and hold. A scan that was answered before gets the same answer, whatever has changed since."""
        known = self.by_device.get((op.device, op.nonce))
        if known is not None:
            if known.lane != op.lane:
                raise LedgerRefused(f"nonce of lane {known.lane} presented at lane {op.lane}")
            return known.answer(op.nonce, self.now)
        if (op.lane, op.nonce) in self.abandoned:
            return _cancelled(op.nonce)
        zone = self.zone(op.to_zone)
        self.zone(op.from_zone)
        presented = self.credentials.get((op.kind, op.credential_hash), [])
        rights = [right for each in presented for right in self.by_ticket.get(each.ticket, [])]
        states = {each.ticket: each.state for each in presented}
        facts = ScanFacts(
            lane=op.lane,
            to_zone=op.to_zone,
            now=self.now,
            pax=op.pax,
            max_pax=op.max_pax,
            face_ok=op.face_ok,
        )
        zone.begin_day(self.today)
        zone.settle(self.now)
        counts = zone.facts(self.now)
        verdict = self._decide([self._facts(right, states[right.ticket]) for right in rights], counts, facts)
        if isinstance(verdict, Refusal):
            return self._deny(op, verdict)
        right = self.rights[verdict.entitlement]
        available, room = right.available(), zone.room(staff=verdict.product_class in STAFF_CLASSES)
        pax = verdict.pax if room is None else min(verdict.pax, room)
        if pax < 1:
            return self._deny(op, Refusal(code=SHRUNK_TO_NOTHING))
        # The rule has decided this already; the ledger does not take its word for what must never happen.
        if right not in rights or pax > op.max_pax or (available is not None and pax > available):
            raise LedgerRefused(f"the rule permits {pax} people on entitlement {right.entitlement}")
        grant = Grant(
            grant=self.new_id(),
            lane=op.lane,
            device=op.device,
            nonce=op.nonce,
            ticket=right.ticket,
            entitlement=right.entitlement,
            product_class=verdict.product_class,
            to_zone=op.to_zone,
            pax=pax,
            remaining=verdict.remaining + verdict.pax - pax,
            ttl_s=op.ttl_s,
            granted_at=self.now,
            open=True,
            passed=0,
            why=None,
            new=True,
            fresh=True,
            touched=True,
        )
        self.add_grant(grant)
        right.hold(pax)
        zone.hold(pax)
        self.rows.add(
            "insert_grants",
            grant.grant,
            self.next_seq(),
            op.lane,
            op.device,
            op.nonce,
            grant.ticket,
            grant.entitlement,
            grant.product_class,
            op.from_zone,
            op.to_zone,
            pax,
            grant.remaining,
            op.ttl_s,
            zone.limit,
            op.at,
            self.now,
            op.counter_epoch,
            op.counter_entries,
            op.counter_exits,
        )
        self._log_scan(op, "ok", grant.grant)
        answer = grant.answer(op.nonce, self.now)
        grant.fresh = False  # asked again in the same batch, it is no longer news
        return answer

    def passed(self, op: Passed) -> Booked:
        """Book one person: the passage, the move between zones, and the use of a right if there is one."""
        identity: Identity = (op.device, op.boot, op.direction, op.seq)
        booked = self.passages.get(identity)
        if booked is not None:
            return _booked(op, PassageKind(booked), repeated=True)
        from_zone, to_zone = self.zone(op.from_zone), self.zone(op.to_zone)
        kind, grant = self._kind_of(op)
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
        )
        self._move(op, grant, from_zone, to_zone)
        if grant is not None:
            self._use(op, grant, identity)
        elif kind in CASE_KINDS:
            key = ":".join(map(str, (kind, *identity)))
            self.records.case(key, kind, op.lane, CASE_KINDS[kind], self._why_no_grant(op), op.at)
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
        self.rights[grant.entitlement].hold(-free)
        self.zone(grant.to_zone).hold(-free)
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

    def baseline(self, op: CounterBaseline) -> Ok:
        self.rows.add("insert_baselines", op.device, op.epoch, op.lane, op.entries, op.exits, self.now)
        return Ok()

    def expire(self, grant: int, lane: str, ticket: int, expires_at: float) -> None:
        """A grant whose lane has said nothing by its ttl: people must look, and the hold stays."""
        detail = f"grant {grant} on ticket {ticket}: the lane has not said how it ended"
        self.records.case(f"unresolved:{grant}", "unresolved", lane, "warning", detail, expires_at)
        self.unresolved.append(grant)

    # -- parts ----------------------------------------------------------------------------------------------------

    def _facts(self, right: Right, credential_state: str) -> RightFacts:
        ticket = self.tickets[right.ticket]
        product = self._versions[ticket.product, ticket.version]
        return right.facts(ticket, product, credential_state)

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
        elif grant is not None and not staff and op.direction is Direction.ENTRY:
            to_zone.enter()
        from_zone.settle(self.now)
        to_zone.settle(self.now)

    def _take_out(self, op: Passed, from_zone: Zone, to_zone: Zone, staff: int) -> None:
        """A passage of a day that is closed arrives late: it is booked, and moves nobody of today."""
        word = f"{LATE_UPLOAD}:{op.device}:{op.boot}:{op.direction}:{op.seq}"
        for zone, people in ((from_zone, 1), (to_zone, -1)):
            if zone.zone != OUTSIDE:
                self.correct(zone.zone, people, people * staff, LATE_UPLOAD, CLOCK, f"{word}:{zone.zone}")

    def _deny(self, op: GrantOp, refusal: Refusal) -> Denied:
        self._log_scan(op, refusal.code, None)
        return Denied(
            nonce=op.nonce,
            code=refusal.code,
            lane_of_use=refusal.lane_of_use,
            used_at=refusal.used_at,
            valid_from=refusal.valid_from,
        )

    def _log_scan(self, op: GrantOp, code: str, grant: int | None) -> None:
        new = (op.lane, op.device, op.nonce, op.kind, op.credential_hash, code, grant, op.at, self.now)
        self.rows.add("insert_scans", *new)

    def _kind_of(self, op: Passed) -> tuple[PassageKind, Grant | None]:
        """What a passage is booked as. Only `granted` and `late` use a right, and both need the lane's own grant."""
        if op.kind not in RIGHTS_KINDS:
            return op.kind, None
        grant = self.grants.get(op.grant) if op.grant is not None else None
        if grant is None or grant.lane != op.lane or grant.passed >= grant.pax:
            return PassageKind.TAILGATE, None
        return (PassageKind.GRANTED if grant.open else PassageKind.LATE), grant

    def _why_no_grant(self, op: Passed) -> str:
        if op.kind not in RIGHTS_KINDS:
            return ""
        grant = self.grants.get(op.grant) if op.grant is not None else None
        if grant is None:
            return f"grant {op.grant} is not known"
        if grant.lane != op.lane:
            return f"grant {op.grant} belongs to lane {grant.lane}"
        return f"grant {op.grant} is for {grant.pax}"

    def _use(self, op: Passed, grant: Grant, identity: Identity) -> None:
        right = self.rights[grant.entitlement]
        grant.passed += 1
        if grant.open:
            grant.touched = True
            right.hold(-1)
            self.zone(grant.to_zone).hold(-1)
        else:
            available = right.available()
            if available is not None and available < 1:
                key = ":".join(map(str, ("late_pass", *identity)))
                detail = f"grant {grant.grant} had ended and its right is used up"
                self.records.case(key, "late_pass", op.lane, "warning", detail, op.at)
                return
        right.redeem(min(op.at, self.now), op.lane)
        self.rows.add("insert_redemptions", *identity, grant.entitlement, grant.grant, self.now)

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


def _cancelled(nonce: str) -> Granted:
    return Granted(
        nonce=nonce,
        grant=0,
        ticket=0,
        pax=0,
        passed=0,
        ttl_s=0.0,
        state=GrantState.CANCELLED,
        fresh=False,
        product_class="",
        remaining=0,
    )


def _booked(op: Passed, kind: PassageKind, *, repeated: bool) -> Booked:
    return Booked(
        device=op.device, boot=op.boot, seq=op.seq, direction=op.direction, kind=kind, repeated=repeated
    )
