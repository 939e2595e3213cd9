"""The journal of a lane that decided alone, booked: rules as they were at the scan, rights as they are now.

Whoever has passed has passed: nothing here undoes it.  A grant that the lane gave alone is judged by the same pure rule
as all others, at the time of its scan.  If its right is there, it is booked like any grant.  If the right was used
elsewhere meanwhile, the grant is over as it begins: its people pass late, use what is left, and each for whom nothing
is left is a case that says which ticket, which lanes and when.  If there never was a right, each person is a tailgate
with such a case.  A record that cannot be booked at all becomes a case too: no journal ever stands still for it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from protocols.clock import business_day_start, local_time
from protocols.messages import Direction, Ended, EndReason, PassageKind, Passed
from protocols.uploads import RecAlarm, RecBaseline, RecEnded, RecGrant, Record, RecPassed, RecRefused
from storage._admit import presented_by, refused_before
from storage._books import CLOCK_TOLERANCE_S, LATE_MOST_S, Books, Identity
from storage._facts import Grant, Presented, Right
from storage._journals import Offline
from storage._pq import Connection
from storage._upload_ops import UploadBooked, UploadOp
from storage.interfaces import (
    CounterBaseline,
    GrantOp,
    LedgerRefused,
    Permit,
    Refusal,
    RightFacts,
    ScanFacts,
    ZoneFacts,
)
from storage.queries import load

USED = frozenset({"already_used", "no_uses_left", "pax_exhausted", "in_progress", "too_soon"})
"""Refusals of a right that is good and was used: what a partition makes possible."""
BOOKED, CONFLICT, REFUSED = "booked", "conflict", "refused"
WRITES = ("put_marks", "insert_offline", "insert_conflicts")
CASE_SEVERITIES = frozenset({"info", "warning", "alarm"})


# --- what is loaded before --------------------------------------------------------------------------------------------


class Keys(NamedTuple):
    """What an upload names, in the terms of the query `load`."""

    grants: list[int]
    scans: list[tuple[str, str]]  # (device, nonce)
    given_up: list[tuple[str, str]]  # (lane, nonce)
    passages: list[tuple[str, str, str, int]]
    credentials: list[tuple[str, bytes]]
    codes: list[int]


def keys_of_upload(op: UploadOp) -> Keys:
    keys = Keys([], [], [], [], [], [])
    for record in op.records:
        match record.body:
            case RecGrant() as body:
                keys.scans.append((op.device, body.nonce))
                keys.credentials.append((body.kind, body.credential))
                if body.ticket is not None:
                    keys.codes.append(body.ticket)
            case RecPassed() as body:
                keys.passages.append((op.device, op.journal, str(_direction(body.direction)), record.seq))
            case RecEnded(nonce=nonce) if nonce:
                keys.given_up.append((op.lane, nonce))
        if isinstance(record.body, RecPassed | RecEnded):
            if record.body.grant is not None:
                keys.grants.append(record.body.grant)
            if record.body.nonce:
                keys.scans.append((op.device, record.body.nonce))
    return keys


async def load_journals(connection: Connection, site: str, books: Books, ops: list[UploadOp]) -> None:
    """Beside what `load` has found: marks, earlier offline grants, and what the past was like."""
    sql, journals = load("uploads"), books.journals
    scans = sorted({scan for op in ops for scan in keys_of_upload(op).scans})
    row = await connection.fetchrow(
        sql["known"],
        site,
        [op.device for op in ops],
        [op.journal for op in ops],
        [device for device, _ in scans],
        [nonce for _, nonce in scans],
    )
    assert row is not None
    journals.marks.update({(device, journal): upto for device, journal, upto in row["marks"] or ()})
    for device, nonce, *rest in row["grants"] or ():
        journals.offline[device, nonce] = Offline(*rest)
    presented = [each for found in books.credentials.values() for each in found]
    changed = [each.credential for each in presented if each.state in ("lost", "frozen")]
    held = [ticket.ticket for ticket in books.tickets.values() if ticket.state == "on_hold"]
    if changed or held:
        for row in await connection.fetch(sql["since"], site, changed, held):
            journals.since[row["what"], row["number"]] = row["since"]
    for begins, rights in _earlier_days(books, ops).items():
        ends = business_day_start(begins + 36 * 3600.0, books.shop.timezone, books.shop.day_start)
        for row in await connection.fetch(sql["uses_on"], site, rights, begins, ends):
            journals.uses_on[row["entitlement"], begins] = row["uses"]


def _earlier_days(books: Books, ops: list[UploadOp]) -> dict[float, list[int]]:
    """Rights whose counters are of a later day than a scan's, by that day's beginning."""
    found: dict[float, set[int]] = {}
    for op in ops:
        for record in op.records:
            at = _put_right(books, op, record.at)
            day = books.day_of(at)
            assert day is not None
            for right in _rights_meant(books, op, record):
                if right.day is not None and right.day > day:
                    begins = business_day_start(at, books.shop.timezone, books.shop.day_start)
                    found.setdefault(begins, set()).add(right.entitlement)
    return {begins: sorted(rights) for begins, rights in found.items()}


def _rights_meant(books: Books, op: UploadOp, record: Record) -> list[Right]:
    """Rights that a record may use."""
    match record.body:
        case RecGrant(kind=kind, credential=credential):
            presented = books.credentials.get((kind, credential), [])
            return [right for each in presented for right in books.by_ticket.get(each.ticket, [])]
        case RecPassed(nonce=nonce) if nonce:
            grant = books.by_device.get((op.device, nonce))
            if grant is not None and grant.entitlement is not None:
                return [books.rights[grant.entitlement]]
    return []


# --- booking ----------------------------------------------------------------------------------------------------------


def upload(books: Books, op: UploadOp) -> UploadBooked:
    """Book what is new of a journal. Raises LedgerRefused for an upload that is none."""
    journals, mark = books.journals, (op.device, op.journal)
    books.zone(op.from_zone)
    books.zone(op.to_zone)
    upto = before = journals.marks.get(mark, 0)
    if abs(op.offset_s) > CLOCK_TOLERANCE_S:
        books.clock_case(op.device, op.lane, books.now - op.offset_s)
    conflicts = len(journals.rows.pending("insert_conflicts"))
    for record in op.records:
        if record.seq <= upto:
            continue
        if record.seq != upto + 1:
            if upto != before or record.seq != op.oldest:
                break  # something lies between that the lane still has
            key = f"upload_gap:{op.device}:{op.journal}:{record.seq}"
            detail = f"records {upto + 1} to {record.seq - 1} of {op.device} were lost; what they said is not known"
            books.records.case(key, "upload_gap", op.lane, "alarm", detail, books.now)
        try:
            if op.give_up:
                raise LedgerRefused(op.give_up)
            _book(books, op, record)
        except LedgerRefused as exc:
            key = f"upload_refused:{op.device}:{op.journal}:{record.seq}"
            detail = f"{type(record.body).__name__} of {op.device} could not be booked: {exc}"[:200]
            books.records.case(key, "upload_refused", op.lane, "alarm", detail, _put_right(books, op, record.at))
        upto = record.seq
        if op.give_up:
            break
    if upto != before:
        journals.marks[mark] = upto
        journals.rows.add("put_marks", op.device, op.journal, op.lane, upto, books.now)
    added = len(journals.rows.pending("insert_conflicts")) - conflicts
    return UploadBooked(journal=op.journal, upto=upto, conflicts=added)


async def write_journals(connection: Connection, books: Books) -> None:
    """After the gates' own rows, which these point at. A journal's mark is written once a batch, where it ended."""
    rows = books.journals.rows
    marks = {(row[0], row[1]): row for row in rows.pending("put_marks")}
    rows.pending("put_marks")[:] = marks.values()
    await rows.write(connection, *WRITES)


def _book(books: Books, op: UploadOp, record: Record) -> None:
    at = _put_right(books, op, record.at)
    match record.body:
        case RecGrant() as body:
            _grant(books, op, record, body, at)
        case RecPassed() as body:
            _passed(books, op, record, body, at)
        case RecEnded() as body:
            _ended(books, op, body, at)
        case RecRefused() as body:
            row = (op.lane, op.device, body.nonce, body.kind, body.credential, body.code, None, at, books.now)
            if body.code == "ok":
                raise LedgerRefused("a refusal with the code ok")
            books.rows.add("insert_scans", *row)
        case RecAlarm() as body:
            severity = body.severity if body.severity in CASE_SEVERITIES else "warning"
            key = f"{body.kind}:{op.device}:{op.journal}:{record.seq}"
            books.records.case(key, body.kind, op.lane, severity, body.detail, at)
        case RecBaseline() as body:
            books.baseline(
                CounterBaseline(
                    lane=op.lane, device=op.device, epoch=body.epoch, entries=body.entries, exits=body.exits, at=at
                )
            )


def _put_right(books: Books, op: UploadOp, at: float) -> float:
    """When it happened, by the server's clock. What cannot be true happened now, and people are told."""
    moment = at + op.offset_s
    if not books.now - LATE_MOST_S <= moment <= books.now + CLOCK_TOLERANCE_S:
        books.clock_case(op.device, op.lane, at)
        return books.now
    return min(moment, books.now)


# --- grants -----------------------------------------------------------------------------------------------------------


def _grant(books: Books, op: UploadOp, record: Record, body: RecGrant, at: float) -> None:
    if (op.device, body.nonce) in books.journals.offline or (op.device, body.nonce) in books.by_device:
        return  # the same grant, from a journal that was begun anew
    scan = _as_scan(op, body, at)
    presented = presented_by(books, scan)
    verdict = _judge(books, scan, presented, at)
    grant: Grant | None = None
    if isinstance(verdict, Permit):
        code = "ok" if verdict.pax == body.pax or verdict.kind == "exit" else "pax_exhausted"
        right = None if verdict.entitlement is None else books.rights[verdict.entitlement]
        outcome = BOOKED if code == "ok" else CONFLICT
        grant = _booked(books, scan, record, right, verdict, presented, at, whole=outcome == BOOKED)
        _say_if_not_allowed(books, op, body, record, right, at)
    else:
        code, right = verdict.code, None
        if code in USED:
            right = _right_meant(books, op, body, presented)
        outcome = REFUSED if right is None else CONFLICT
        if right is not None:
            ticket = books.tickets[right.ticket]
            class_ = books.shop.versions[ticket.product, ticket.version].product_class
            taken = Permit(
                entitlement=right.entitlement, ticket=right.ticket, pax=body.pax, remaining=0, product_class=class_
            )
            grant = _booked(books, scan, record, right, taken, presented, at, whole=False)
    number = None if grant is None else grant.grant
    known = right.ticket if right is not None else presented[0].ticket if presented else None
    said = "ok" if number is not None else code
    books.rows.add(
        "insert_scans", op.lane, op.device, body.nonce, body.kind, body.credential, said, number, at, books.now
    )
    books.journals.offline[op.device, body.nonce] = Offline(outcome, code, known or 0, at)
    identity = (op.device, op.journal, record.seq, op.lane, body.nonce, body.kind, body.credential)
    judged = (_direction(body.direction), body.pax, known, code, outcome, number, body.why, body.version)
    books.journals.rows.add("insert_offline", *identity, *judged, record.at, at, books.now)


def _as_scan(op: UploadOp, body: RecGrant, at: float) -> GrantOp:
    """What the visitor presented, as the server would have been asked."""
    direction = _direction(body.direction)
    zones = (op.from_zone, op.to_zone) if direction is Direction.ENTRY else (op.to_zone, op.from_zone)
    return GrantOp(
        lane=op.lane,
        device=op.device,
        nonce=body.nonce,
        kind=body.kind,  # type: ignore[arg-type]  # a word from the wire: what is no kind finds no credential
        credential_hash=body.credential,
        from_zone=zones[0],
        to_zone=zones[1],
        max_pax=body.pax,
        pax=body.pax,
        ttl_s=op.ttl_s,
        at=at,
        counter_epoch=None,
        counter_entries=None,
        counter_exits=None,
        face_ok=True,
        direction=direction,
        lane_class=op.lane_class,
        ticket=body.ticket,
        issue_index=body.issue_index,
        holder_hash=body.holder,
    )


def _judge(books: Books, scan: GrantOp, presented: list[Presented], at: float) -> Permit | Refusal:
    """The rule's word at the time of the scan. What the lane could not look at (faces, room) is not asked."""
    refused = refused_before(books, scan)
    if refused and scan.direction is not Direction.EXIT:
        return Refusal(code=refused)
    facts = [
        fact for each in presented for right in books.by_ticket.get(each.ticket, [])
        for fact in (_facts_then(books, scan, each, right, at),)
    ]  # fmt: skip
    zone = ZoneFacts(zone=scan.to_zone, inside=0, held=0, limit=None)
    local = local_time(at, books.shop.timezone, books.shop.day_start)
    asked = ScanFacts(
        lane=scan.lane,
        to_zone=scan.to_zone,
        now=at,
        pax=scan.pax,
        max_pax=scan.max_pax,
        face_ok=True,
        from_zone=scan.from_zone,
        direction=scan.direction,
        lane_class=scan.lane_class,
        local=local,
        holder_hash=scan.holder_hash,
        stamp=True,
    )
    return books.decide(facts, zone, asked)


def _facts_then(books: Books, scan: GrantOp, each: Presented, right: Right, at: float) -> RightFacts:
    """A right as it was when somebody scanned; what was used since, by whomever, is used."""
    journals, ticket = books.journals, books.tickets[right.ticket]
    day = books.day_of(at)
    assert day is not None
    product = books.shop.versions[ticket.product, ticket.version]
    person = books.person(each.credential, right.entitlement) if each.personal else None
    older = scan.issue_index is not None and scan.issue_index < each.issue_index
    state = "superseded" if older and each.state == "active" else each.state
    facts = right.facts(ticket, product, state, person, day, books.day_of(right.first_used_at))
    then: dict[str, Any] = {}
    if journals.since.get(("c", each.credential), at) > at and state in ("lost", "frozen"):
        then["credential_state"] = "active"
    if journals.since.get(("t", right.ticket), at) > at and ticket.state == "on_hold":
        then["ticket_state"] = "active"
    if right.day is not None and right.day > day:
        begins = business_day_start(at, books.shop.timezone, books.shop.day_start)
        then |= {"used_day": journals.uses_on.get((right.entitlement, begins), 0), "reentries_day": 0, "out_day": 0}
    gap_s = facts.right.min_gap_s
    if right.last_used_at is not None and right.last_used_at > at + gap_s:
        then |= {"last_used_at": None, "last_used_lane": ""}
    return msgspec.structs.replace(facts, **then)


def _right_meant(books: Books, op: UploadOp, body: RecGrant, presented: list[Presented]) -> Right | None:
    """Which right a grant was on that is used up: the one that the lane names, else the first that leads there."""
    rights = [right for each in presented for right in books.by_ticket.get(each.ticket, [])]
    for right in rights:
        if right.entitlement == body.entitlement and _leads(books, right, op.to_zone):
            return right
    return next((right for right in rights if _leads(books, right, op.to_zone)), None)


def _leads(books: Books, right: Right, zone: str) -> bool:
    ticket = books.tickets[right.ticket]
    return right.covers(zone, books.shop.versions[ticket.product, ticket.version].rules.rights[right.rule].zones)


def _booked(
    books: Books,
    scan: GrantOp,
    record: Record,
    right: Right | None,
    permit: Permit,
    presented: list[Presented],
    at: float,
    *,
    whole: bool,
) -> Grant:
    """The grant, granted at the time of the scan: open, with its places held, or over as it begins."""
    used = next((each for each in presented if right is not None and each.ticket == right.ticket), None)
    personal = used.credential if used is not None and used.personal else None
    grant = Grant(
        grant=books.new_id(),
        lane=scan.lane,
        device=scan.device,
        nonce=scan.nonce,
        ticket=permit.ticket,
        entitlement=permit.entitlement,
        product_class=permit.product_class,
        to_zone=scan.to_zone,
        pax=scan.max_pax,
        remaining=permit.remaining,
        ttl_s=books.now - at + scan.ttl_s,  # its passages are on their way, whenever it was
        granted_at=at,
        open=whole,
        passed=0,
        why=None if whole else EndReason.NEVER_OPENED,
        kind=permit.kind,
        credential=personal,
        new=True,
        touched=True,
    )
    if whole and permit.kind != "exit" and right is not None:
        if permit.kind == "entry":
            right.hold(grant.pax)
            if personal is not None:
                books.person(personal, right.entitlement).hold(grant.pax)
        else:
            right.hold_reentry(grant.pax)
        books.zone(scan.to_zone).hold(grant.pax)
        _bind(books, scan, right, used)
    books.add_grant(grant)
    books.rows.add(
        "insert_grants", grant.grant, books.next_seq(), scan.lane, scan.device, scan.nonce, grant.ticket,
        grant.entitlement, grant.product_class, scan.from_zone, scan.to_zone, grant.pax, grant.remaining, grant.ttl_s,
        None, record.at, at, None, None, None, grant.kind, personal,
    )  # fmt: skip
    if not whole:
        ends = (grant.grant, books.next_seq(), scan.lane, 0, 0, EndReason.NEVER_OPENED, record.at, books.now)
        books.rows.add("insert_ends", *ends)
    return grant


def _bind(books: Books, scan: GrantOp, right: Right, used: Presented | None) -> None:
    """What a first use binds, and what a card says of its issue."""
    ticket = books.tickets[right.ticket]
    rules = books.shop.versions[ticket.product, ticket.version].rules
    if rules.binds == "id" and scan.holder_hash is not None and ticket.holder_hash is None:
        ticket.holder_hash, ticket.touched = scan.holder_hash, True
    if used is not None and scan.issue_index is not None and scan.issue_index > used.issue_index:
        used.issue_index = scan.issue_index
        books.rows.add("raise_issue", used.credential, scan.issue_index)


def _say_if_not_allowed(
    books: Books, op: UploadOp, body: RecGrant, record: Record, right: Right | None, at: float
) -> None:
    """The product is not to be let in by a lane alone: the person is in, and people look at the lane."""
    if right is None or body.direction == Direction.EXIT:
        return
    ticket = books.tickets[right.ticket]
    if books.shop.versions[ticket.product, ticket.version].rules.offline == "refuse":
        key = f"offline_policy:{op.device}:{op.journal}:{record.seq}"
        detail = f"ticket {right.ticket} was let in at {op.lane} without the server; its product is not to be"
        books.records.case(key, "offline_policy", op.lane, "warning", detail, at)


# --- passages and ends ------------------------------------------------------------------------------------------------


def _passed(books: Books, op: UploadOp, record: Record, body: RecPassed, at: float) -> None:
    direction = _direction(body.direction)
    zones = (op.from_zone, op.to_zone) if direction is Direction.ENTRY else (op.to_zone, op.from_zone)
    grant = books.by_device.get((op.device, body.nonce)) if body.nonce else None
    number = body.grant if grant is None else grant.grant
    kind = PassageKind(body.kind) if body.kind in frozenset(PassageKind) else PassageKind.UNATTENDED
    passed = Passed(
        lane=op.lane,
        device=op.device,
        boot=op.journal,
        seq=record.seq,
        direction=direction,
        kind=kind,
        grant=number,
        from_zone=zones[0],
        to_zone=zones[1],
        at=at,
    )
    identity: Identity = (op.device, op.journal, direction, record.seq)
    offline = books.journals.offline.get((op.device, body.nonce)) if body.nonce else None
    judged_on_right = kind in (PassageKind.GRANTED, PassageKind.LATE) and identity not in books.passages
    if offline is not None and offline.outcome != BOOKED and judged_on_right:
        _look_for_room(books, op, body, offline, grant, identity, at)
    right = None if grant is None or grant.entitlement is None else books.rights[grant.entitlement]
    used = 0 if right is None else right.redeemed
    books.passed(passed)
    if right is not None and right.redeemed > used:
        begins = business_day_start(at, books.shop.timezone, books.shop.day_start)
        count = books.journals.uses_on
        count[right.entitlement, begins] = count.get((right.entitlement, begins), 0) + 1


def _look_for_room(
    books: Books, op: UploadOp, body: RecPassed, offline: Offline, grant: Grant | None, identity: Identity, at: float
) -> None:
    """One person on a grant that should not have been given: without a right left, the person is a conflict."""
    right = None if grant is None or grant.entitlement is None else books.rights[grant.entitlement]
    if grant is not None and right is not None and grant.passed < grant.pax and _room(books, right, grant, at):
        return
    other_lane, other_at = ("", None) if right is None else (right.last_used_lane, right.last_used_at)
    when = _clock(books, at)
    what = f"ticket {offline.ticket}" if offline.ticket else "an unknown ticket"
    detail = f"{what}: let in at {op.lane} at {when} without the server ({offline.code})"
    if other_at is not None:
        detail += f"; used at {other_lane} at {_clock(books, other_at)}"
    kind = "double_use" if offline.outcome == CONFLICT else "offline_wrong"
    books.without_right[identity] = (kind, detail)
    told = (op.lane, body.nonce, offline.ticket or None, offline.code, at, other_lane, other_at, books.now)
    books.journals.rows.add("insert_conflicts", *identity, *told)


def _room(books: Books, right: Right, grant: Grant, at: float) -> bool:
    """Is there a use left for one more person, in all, on that day, and of this person of a list?"""
    available = right.available()
    if available is not None and available < 1:
        return False
    ticket = books.tickets[right.ticket]
    product = books.shop.versions[ticket.product, ticket.version]
    rule = product.rules.rights[right.rule]
    day = books.day_of(at)
    if rule.uses_per_day and right.day is not None:
        assert day is not None
        begins = business_day_start(at, books.shop.timezone, books.shop.day_start)
        earlier = books.journals.uses_on.get((right.entitlement, begins), 0)
        used = right.used_day if right.day == day else earlier if right.day > day else 0
        if used + right.held >= rule.uses_per_day * product.pax:
            return False
    if right.sold is None and right.last_used_at is not None and abs(at - right.last_used_at) < rule.min_gap_s:
        return False
    if grant.credential is not None:
        person = books.person(grant.credential, right.entitlement)
        return not rule.uses or person.redeemed + person.held < rule.uses
    return True


def _ended(books: Books, op: UploadOp, body: RecEnded, at: float) -> None:
    offline = books.journals.offline.get((op.device, body.nonce)) if body.nonce else None
    if offline is not None and offline.outcome == REFUSED:
        return  # there is nothing to end
    why = EndReason(body.why) if body.why in frozenset(EndReason) else EndReason.RECOVERED
    ended = Ended(
        lane=op.lane, device=op.device, grant=body.grant, nonce=body.nonce, passed=body.passed, why=why, at=at
    )
    books.ended(ended)


def _direction(word: str) -> Direction:
    return Direction.EXIT if word == Direction.EXIT else Direction.ENTRY


def _clock(books: Books, at: float) -> str:
    """A moment on the site's clock, to the second: two lanes may be only seconds apart."""
    return datetime.fromtimestamp(at, books.shop.timezone).strftime("%Y-%m-%d %H:%M:%S")
