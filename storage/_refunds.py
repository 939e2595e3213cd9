"""Refunds: places are taken away when they are asked for, money goes back to the tenders it came by, to the cent."""

from __future__ import annotations

import msgspec

from protocols.rights import ProductRules
from storage._office import Office, Outcome, Ticket, tickets_of
from storage._office_ops import (
    CompleteRefund,
    DecideRefund,
    RefundBooked,
    RefundPart,
    RequestRefund,
)
from storage._places import amount_of, split
from storage._stock import release_sold
from storage.interfaces import LedgerRefused

ALONE_LIMIT_CENTS = 50_000  # above this, somebody else than the requester decides (domain model, section 12)
PLACES_LIMIT = 1000
REFUNDABLE_STATES = ("active", "on_hold")


async def request(office: Office, op: RequestRefund, command: str) -> Outcome:
    (ticket,) = await tickets_of(office, op.ticket)
    rules = office.shop.versions[ticket.product, ticket.version].rules
    if not 1 <= op.places <= PLACES_LIMIT:
        raise LedgerRefused(f"a refund is of 1 to {PLACES_LIMIT} places, not {op.places}")
    if ticket.state not in REFUNDABLE_STATES:
        raise LedgerRefused(f"ticket {op.ticket} is {ticket.state}: nothing of it can be refunded")
    places = ticket.places
    if rules.refund == "none":
        raise LedgerRefused(f"product {ticket.product} is not refundable")
    if rules.refund == "until_first_use" and not all(right.untouched for right in places.rights):
        raise LedgerRefused(f"product {ticket.product} is refundable until its first use only")
    if op.places > places.to_refund:
        raise LedgerRefused(f"{places.to_refund} places of ticket {op.ticket} can be refunded, not {op.places}")
    if not places.counted and op.places != places.people:
        raise LedgerRefused(f"ticket {op.ticket} is refunded as a whole, for all {places.people} people")
    if not places.counted and ticket.state != "active":
        raise LedgerRefused(f"ticket {op.ticket} is {ticket.state}: resume it first")
    given_up = await _given_up(office, op)
    if op.places < len(given_up):
        raise LedgerRefused(f"{len(given_up)} credentials were given up for {op.places} places")
    if op.places - len(given_up) > places.free and places.counted:
        missing = op.places - len(given_up) - places.free
        raise LedgerRefused(
            f"{places.free} places are promised to nobody; {missing} more need their paper back, or their person named"
        )
    line = await office.fetchrow("line_so_far", ticket.order, ticket.line)
    assert line is not None
    await _check_group(rules, op, line["people"] - line["given_back"])
    line_cents, line_people = ticket.quantity * ticket.unit_price_cents, ticket.quantity * ticket.product_pax
    amount = amount_of(line_cents, line_people, line["given_back"], line["refunded_cents"], op.places)
    payments = [(row["payment"], row["cents_left"]) for row in await office.fetch("payments_left", ticket.order)]
    parts = split(amount, payments)
    if parts is None:
        raise LedgerRefused(f"order {ticket.order} was not paid with so much money")
    refund = office.new_id()
    await office.execute(
        "insert_refund", refund, ticket.order, op.ticket, "places", op.places, amount, command, office.now
    )
    await office.execute_many("insert_refund_tender", [(refund, ticket.order, *part) for part in parts])
    await _take(office, refund, ticket, op.places, given_up)
    booked = msgspec.structs.replace(await refund_booked(office, refund), requested_by=op.user)
    return Outcome(booked, f"ticket {op.ticket}, {op.places} places, {amount} cents, refund {refund}")


async def _given_up(office: Office, op: RequestRefund) -> list[int]:
    """The credentials that came back with the request; each must be one that nobody has used."""
    if len(set(op.credentials)) != len(op.credentials):
        raise LedgerRefused("a credential is named twice")
    if not op.credentials:
        return []
    known = {row["credential"]: row for row in await office.fetch("personal_credentials", op.ticket)}
    for credential in op.credentials:
        row = known.get(credential)
        if row is None:
            raise LedgerRefused(f"credential {credential} is no paper or named place of ticket {op.ticket}")
        if row["state"] != "active" or row["used"]:
            raise LedgerRefused(f"credential {credential} has been used or is {row['state']}")
    return list(op.credentials)


async def _check_group(rules: ProductRules, op: RequestRefund, people: int) -> None:
    """A group may not shrink below the number that its price is for, unless the product says so or all stay away."""
    left = people - op.places
    if rules.below_group_min == "deny" and 0 < left < rules.group_min:
        raise LedgerRefused(f"{left} people would be left, and this price is for {rules.group_min} or more")


async def _take(office: Office, refund: int, ticket: Ticket, places: int, given_up: list[int]) -> None:
    taken = [
        (right.entitlement, places * right.uses, len(given_up) * right.uses)
        for right in ticket.places.rights
        if right.sold is not None
    ]
    await office.execute_many("insert_refund_right", [(refund, entitlement, uses) for entitlement, uses, _ in taken])
    await office.execute_many("reserve_refund", taken)
    if given_up:
        await office.execute_many("insert_refund_credential", [(refund, credential) for credential in given_up])
        await office.execute("set_credentials", given_up, "void")
    if not ticket.places.counted:
        await office.execute("set_ticket_state", ticket.ticket, "refunded")


async def decide(office: Office, op: DecideRefund, command: str) -> Outcome:
    known = await refund_booked(office, op.refund)
    if known.state != "requested":
        raise LedgerRefused(f"refund {op.refund} is {known.state} already")
    if op.approved and known.amount_cents > ALONE_LIMIT_CENTS and op.user == known.requested_by:
        raise LedgerRefused(f"above {ALONE_LIMIT_CENTS} cents somebody else than {op.user} must approve")
    step = "approved" if op.approved else "rejected"
    await office.execute("insert_refund_step", op.refund, step, command, office.now)
    if not op.approved:
        await _give_places_back(office, op.refund, known)
    return Outcome(msgspec.structs.replace(known, state=step), f"refund {op.refund} {step}")


async def _give_places_back(office: Office, refund: int, known: RefundBooked) -> None:
    credentials = [row["credential"] for row in await office.fetch("refund_credentials", refund)]
    await office.execute("release_refund", refund, len(credentials), known.places)
    await office.execute("set_credentials", credentials, "active")
    if known.ticket is not None:
        (ticket,) = await tickets_of(office, known.ticket)
        if not ticket.places.counted:
            await office.execute("set_ticket_state", known.ticket, "active")


async def complete(office: Office, op: CompleteRefund, command: str) -> Outcome:
    known = await refund_booked(office, op.refund)
    if known.state != "approved":
        raise LedgerRefused(f"refund {op.refund} is {known.state}, not approved")
    await office.execute("insert_refund_step", op.refund, "done", command, office.now)
    await office.execute("finish_refund", op.refund)
    if known.ticket is not None:
        (ticket,) = await tickets_of(office, known.ticket)
        if ticket.slot:
            await release_sold(office.connection, office.site, ticket.product, ticket.visit_date, ticket.slot,
                               known.places)  # fmt: skip
    return Outcome(msgspec.structs.replace(known, state="done"), f"refund {op.refund} done")


async def give_payment_back(office: Office, order: int, payment: int, amount: int, command: str) -> int:
    """An automatic refund, approved by rule, of money that paid for nothing. Returns its number."""
    refund = office.new_id()
    await office.execute("insert_refund", refund, order, None, "payment", 0, amount, command, office.now)
    await office.execute_many("insert_refund_tender", [(refund, order, payment, amount)])
    await office.execute("insert_refund_step", refund, "approved", command, office.now)
    return refund


async def refund_booked(office: Office, refund: int) -> RefundBooked:
    """A refund as it stands. Raises LedgerRefused for an unknown one."""
    found = await refunds_of(office, refund=refund)
    if not found:
        raise LedgerRefused(f"refund {refund} is not known")
    return found[0]


async def refunds_of(office: Office, *, order: int | None = None, refund: int | None = None) -> list[RefundBooked]:
    """The refunds of an order, or one of them."""
    rows = await office.fetch("refunds", order, refund)
    parts: dict[int, list[RefundPart]] = {}
    for row in await office.fetch("refund_parts", [row["refund"] for row in rows]):
        parts.setdefault(row["refund"], []).append(RefundPart(tender=row["tender"], amount_cents=row["amount_cents"]))
    return [
        RefundBooked(
            refund=row["refund"],
            order=row["order_id"],
            ticket=row["ticket"],
            places=row["places"],
            amount_cents=row["amount_cents"],
            parts=parts.get(row["refund"], []),
            state=row["state"],
            requested_by=row["requested_by"] or "",
        )
        for row in rows
    ]
