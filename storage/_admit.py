"""Scans: from what was presented to the facts, from the facts to the decision, from the decision to a grant.

Part of the books of the gates (`storage._books`), and like them synchronous: everything is loaded before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from protocols.messages import CredentialKind, Denied, Direction, Granted, GrantState
from protocols.rights import STAFF_CLASSES, ProductRules
from storage._books import CLOCK_TOLERANCE_S, Books
from storage._facts import Grant, Presented, Right
from storage.interfaces import (
    AuditEntry,
    GrantOp,
    LedgerRefused,
    Permit,
    Refusal,
    RightFacts,
    ScanFacts,
)

SHRUNK_TO_NOTHING = "capacity_hold"
PREPRINTED = {"blank": "not_yet_active", "at_printer": "not_yet_active", "in_stock": "not_yet_active", "sold": ""}
"""What a code that was printed in advance is refused with; whatever is not listed here is void."""


def admit(books: Books, op: GrantOp) -> Granted | Denied:
    """Decide and hold. A scan that was answered before gets the same answer, whatever has changed since."""
    known = books.by_device.get((op.device, op.nonce))
    if known is not None:
        if known.lane != op.lane:
            raise LedgerRefused(f"nonce of lane {known.lane} presented at lane {op.lane}")
        return known.answer(op.nonce, books.now)
    if (op.lane, op.nonce) in books.abandoned:
        return _cancelled(op.nonce)
    zone = books.zone(op.to_zone)
    books.zone(op.from_zone)
    _look_at_clock(books, op)
    zone.begin_day(books.today)
    zone.settle(books.now)
    presented = presented_by(books, op)
    rights = [right for each in presented for right in books.by_ticket.get(each.ticket, [])]
    code = op.refused or refused_before(books, op)
    verdict: Permit | Refusal = Refusal(code=code)
    if not code or op.direction is Direction.EXIT:
        verdict = books.decide(facts_of(books, op, presented), zone.facts(books.now), scan_facts(books, op))
    if isinstance(verdict, Refusal):
        return _deny(books, op, verdict)
    if verdict.kind == "exit":
        return _let_out(books, op, verdict)
    right = books.rights[verdict.entitlement or 0]
    pax, available = verdict.pax, right.available()
    if verdict.kind == "entry":
        room = zone.room(staff=verdict.product_class in STAFF_CLASSES)
        pax = pax if room is None else min(pax, room)
        if pax < 1:
            return _deny(books, op, Refusal(code=SHRUNK_TO_NOTHING))
    # The rule has decided this already; the ledger does not take its word for what must never happen.
    if right not in rights or not 1 <= pax <= op.max_pax:
        raise LedgerRefused(f"the rule permits {pax} people on entitlement {right.entitlement}")
    if verdict.kind == "entry" and available is not None and pax > available:
        raise LedgerRefused(f"the rule permits {pax} people on entitlement {right.entitlement}, which has {available}")
    used = next(each for each in presented if each.ticket == right.ticket)
    person = books.person(used.credential, right.entitlement) if used.personal else None
    rules = _rules(books, right)
    _bind(books, op, right, rules)
    if op.issue_index is not None and op.issue_index > used.issue_index:
        used.issue_index = op.issue_index  # from now on, lower ones are superseded
        books.rows.add("raise_issue", used.credential, op.issue_index)
    if verdict.kind == "entry":
        right.hold(pax)
        if person is not None:
            person.hold(pax)
    else:
        right.hold_reentry(pax)
    zone.hold(pax)
    grant = Grant(
        grant=books.new_id(),
        lane=op.lane,
        device=op.device,
        nonce=op.nonce,
        ticket=right.ticket,
        entitlement=right.entitlement,
        product_class=verdict.product_class,
        to_zone=op.to_zone,
        pax=pax,
        remaining=verdict.remaining + verdict.pax - pax,
        ttl_s=rules.grant_ttl_s or op.ttl_s,
        granted_at=books.now,
        open=True,
        passed=0,
        why=None,
        kind=verdict.kind,
        credential=used.credential if used.personal else None,
    )
    return _granted(books, op, grant, zone.limit)


def presented_by(books: Books, op: GrantOp) -> list[Presented]:
    """The credentials of what was presented: one, or for an ID number one for each ticket that it was given for."""
    return books.credentials.get((op.kind, op.credential_hash), [])


def refused_before(books: Books, op: GrantOp) -> str:
    """The code with which something is refused that is no ticket (yet): a pre-printed code that was not sold."""
    if op.kind != CredentialKind.CODE or op.ticket is None:
        return ""
    state = books.preprinted.get(op.ticket, "sold")
    return PREPRINTED.get(state, "void")


def facts_of(books: Books, op: GrantOp, presented: Sequence[Presented]) -> list[RightFacts]:
    """What the decision may know of each right that the credential leads to."""
    facts = []
    for each in presented:
        older = op.issue_index is not None and op.issue_index < each.issue_index
        state = "superseded" if older and each.state == "active" else each.state
        ticket = books.tickets[each.ticket]
        product = books.shop.versions[ticket.product, ticket.version]
        for right in books.by_ticket.get(each.ticket, []):
            person = books.person(each.credential, right.entitlement) if each.personal else None
            facts.append(right.facts(ticket, product, state, person, books.day, books.day_of(right.first_used_at)))
    return facts


def scan_facts(books: Books, op: GrantOp) -> ScanFacts:
    """What was asked, at the server's time."""
    by_id = op.credential_hash if op.kind == CredentialKind.ID_NUMBER else None
    return ScanFacts(
        lane=op.lane,
        to_zone=op.to_zone,
        now=books.now,
        pax=op.pax,
        max_pax=op.max_pax,
        face_ok=op.face_ok,
        from_zone=op.from_zone,
        direction=op.direction,
        lane_class=op.lane_class,
        local=books.local,
        face_taken=op.template_enc is not None,
        holder_hash=op.holder_hash or by_id,
        stamp=bool(op.stamp),
        product=op.product,
    )


def _let_out(books: Books, op: GrantOp, verdict: Permit) -> Granted:
    """Nothing is used and nothing is held; that somebody left is booked when they have passed."""
    grant = Grant(
        grant=books.new_id(),
        lane=op.lane,
        device=op.device,
        nonce=op.nonce,
        ticket=verdict.ticket,
        entitlement=verdict.entitlement,
        product_class=verdict.product_class,
        to_zone=op.to_zone,
        pax=max(1, min(verdict.pax, op.max_pax)),
        remaining=0,
        ttl_s=op.ttl_s,
        granted_at=books.now,
        open=True,
        passed=0,
        why=None,
        kind="exit",
        credential=None,
    )
    return _granted(books, op, grant, None)


def _granted(books: Books, op: GrantOp, grant: Grant, zone_limit: int | None) -> Granted:
    grant.new = grant.fresh = grant.touched = True
    books.add_grant(grant)
    books.rows.add(
        "insert_grants",
        grant.grant,
        books.next_seq(),
        op.lane,
        op.device,
        op.nonce,
        grant.ticket,
        grant.entitlement,
        grant.product_class,
        op.from_zone,
        op.to_zone,
        grant.pax,
        grant.remaining,
        grant.ttl_s,
        zone_limit,
        op.at,
        books.now,
        op.counter_epoch,
        op.counter_entries,
        op.counter_exits,
        grant.kind,
        grant.credential,
    )
    _log_scan(books, op, "ok", grant.grant)
    answer = grant.answer(op.nonce, books.now)
    grant.fresh = False  # asked again in the same batch, it is no longer news
    return answer


def _bind(books: Books, op: GrantOp, right: Right, rules: ProductRules) -> None:
    """Remember the person of a first use. Whoever staff have vouched for is written to the audit log."""
    if rules.binds == "none" and not rules.needs_face:
        return
    if op.stamp:
        subject = f"ticket {right.ticket} at {op.lane}"
        books.records.entry(
            AuditEntry(user=op.stamp, role="", action="holder.confirm", subject=subject, reason="", at=books.now)
        )
    if right.redeemed + right.held > 0:
        return
    if rules.binds == "id" and (holder := scan_facts(books, op).holder_hash) is not None:
        ticket = books.tickets[right.ticket]
        ticket.holder_hash, ticket.holder_enc, ticket.touched = holder, op.holder_enc, True
    if rules.binds == "face" and op.template_enc is not None:
        books.tickets[right.ticket].face_bound = True
        books.faces[right.ticket] = (op.template_enc, op.template_algorithm)


def _look_at_clock(books: Books, op: GrantOp) -> None:
    if not abs(op.at - books.now) <= CLOCK_TOLERANCE_S:
        books.clock_case(op.device, op.lane, op.at)


def _deny(books: Books, op: GrantOp, refusal: Refusal) -> Denied:
    _log_scan(books, op, refusal.code, None)
    moment = refusal.valid_from if refusal.passes_at is None else refusal.passes_at
    return Denied(
        nonce=op.nonce,
        code=refusal.code,
        lane_of_use=refusal.lane_of_use,
        used_at=refusal.used_at,
        valid_from=refusal.valid_from,
        opens=refusal.opens or ("" if moment is None else _on_the_clock(books, moment)),
        used_on_clock="" if refusal.used_at is None else _on_the_clock(books, refusal.used_at // 60 * 60),
        today=books.today,
        zones=refusal.zones,
        tomorrow=refusal.tomorrow,
    )


def _on_the_clock(books: Books, at: float) -> str:
    """`YYYY-MM-DD HH:MM` on the site's clock, a begun minute counted up: what is promised for then must hold."""
    return datetime.fromtimestamp(-(-at // 60) * 60, books.shop.timezone).strftime("%Y-%m-%d %H:%M")


def _log_scan(books: Books, op: GrantOp, code: str, grant: int | None) -> None:
    new = (op.lane, op.device, op.nonce, op.kind, op.credential_hash, code, grant, op.at, books.now)
    books.rows.add("insert_scans", *new)


def _rules(books: Books, right: Right) -> ProductRules:
    ticket = books.tickets[right.ticket]
    return books.shop.versions[ticket.product, ticket.version].rules


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

