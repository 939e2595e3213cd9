"""Groups in the office: hold and resume, paper for single people, lists of names, places moved between tickets."""

from __future__ import annotations

from storage._office import Office, Outcome, Ticket, tickets_of
from storage._office_ops import Collect, Collected, HoldTicket, Named, NamePeople, OfficeDone, TransferPlaces
from storage._rows import check_text
from storage.interfaces import LedgerRefused

PEOPLE_LIMIT = 500  # on one list at a time
HASH_BYTES_MIN = 16


async def hold(office: Office, op: HoldTicket, command: str) -> Outcome:
    (ticket,) = await tickets_of(office, op.ticket)
    wanted, state = ("active", "on_hold") if op.held else ("on_hold", "active")
    if ticket.state != wanted:
        what = "put on hold" if op.held else "resumed"
        raise LedgerRefused(f"ticket {op.ticket} is {ticket.state}: it cannot be {what}")
    await office.execute("insert_hold", op.ticket, op.held, command, office.now)
    await office.execute("set_ticket_state", op.ticket, state)
    return Outcome(OfficeDone(detail=state), f"ticket {op.ticket} {state}")


def _counted(ticket: Ticket, what: str) -> None:
    if ticket.state != "active":
        raise LedgerRefused(f"ticket {ticket.ticket} is {ticket.state}: {what}")
    if not ticket.places.counted:
        raise LedgerRefused(f"ticket {ticket.ticket} is for unlimited use: {what}")


async def collect(office: Office, op: Collect, command: str) -> Outcome:
    (ticket,) = await tickets_of(office, op.ticket)
    check_text(workstation=op.workstation)
    if not op.workstation:
        raise LedgerRefused("a collection needs the workstation where it is made")
    if op.places < 1:
        raise LedgerRefused(f"{op.places} places cannot be collected")
    _counted(ticket, "nothing of it can be collected")
    if ticket.product_pax < 2:
        raise LedgerRefused(f"ticket {op.ticket} is for one person and is its own paper")
    if op.places > ticket.places.free:
        raise LedgerRefused(
            f"{ticket.places.free} places of ticket {op.ticket} can be collected, not {op.places}"
        )
    collection = office.new_id()
    await office.execute(
        "insert_collection", collection, op.ticket, op.places, op.workstation, command, office.now
    )
    papers = [office.new_id() for _ in range(op.places)]
    hashes = [office.shop.hash_id("code", str(paper)) for paper in papers]
    await office.execute("insert_personal", op.ticket, papers, "code", hashes, [""] * len(papers), None)
    await office.execute(
        "insert_places", op.ticket, ticket.order, papers, collection, None, None, command
    )
    await _set_aside(office, ticket, op.places)
    if not office.shop.versions[ticket.product, ticket.version].rules.code_and_paper:
        await office.execute("close_shared_code", op.ticket)  # paper it is: the group's own code opens no more
    collected = await office.fetchrow("collected", op.ticket)
    assert collected is not None
    answer = Collected(ticket=op.ticket, papers=papers, collected=collected["places"])
    return Outcome(answer, f"ticket {op.ticket}, {op.places} places at {op.workstation}")


async def _set_aside(office: Office, ticket: Ticket, places: int) -> None:
    await office.execute_many(
        "set_aside", [(right.entitlement, places * right.uses) for right in ticket.places.rights]
    )


async def name_people(office: Office, op: NamePeople, command: str) -> Outcome:
    (ticket,) = await tickets_of(office, op.ticket)
    if not 1 <= len(op.people) <= PEOPLE_LIMIT:
        raise LedgerRefused(f"a list has 1 to {PEOPLE_LIMIT} people, not {len(op.people)}")
    hashes = [person.id_hash for person in op.people]
    if any(len(each) < HASH_BYTES_MIN for each in hashes):
        raise LedgerRefused("an ID number's keyed hash is too short")
    if len(set(hashes)) != len(hashes):
        raise LedgerRefused("somebody is on the list twice")
    _counted(ticket, "nobody can be named on it")
    if len(op.people) > ticket.places.free:
        raise LedgerRefused(f"{ticket.places.free} places of ticket {op.ticket} can be named, not {len(op.people)}")
    if await office.fetch("already_named", ticket.order, hashes):
        raise LedgerRefused(f"somebody of the list is named in order {ticket.order} already")
    credentials = [office.new_id() for _ in op.people]
    tails = [person.tail[-4:] for person in op.people]
    check_text(tail="".join(tails))
    sealed = [person.id_enc for person in op.people]
    await office.execute("insert_personal", op.ticket, credentials, "id_number", hashes, tails, sealed)
    names = [person.name_enc for person in op.people]
    await office.execute("insert_places", op.ticket, ticket.order, credentials, None, hashes, names, command)
    await _set_aside(office, ticket, len(credentials))
    named = await office.fetchrow("named", op.ticket)
    assert named is not None
    answer = Named(ticket=op.ticket, credentials=credentials, named=named["people"])
    return Outcome(answer, f"ticket {op.ticket}, {len(credentials)} people")


async def transfer(office: Office, op: TransferPlaces, command: str) -> Outcome:
    if op.from_ticket == op.to_ticket:
        raise LedgerRefused("a ticket cannot give places to itself")
    giver, taker = await tickets_of(office, op.from_ticket, op.to_ticket)
    if (giver.order, giver.line) != (taker.order, taker.line):
        raise LedgerRefused(f"tickets {op.from_ticket} and {op.to_ticket} are not of one line")
    for ticket in (giver, taker):
        _counted(ticket, "no places can be moved")
    if not 1 <= op.places <= giver.places.free:
        raise LedgerRefused(f"{giver.places.free} places of ticket {op.from_ticket} can be moved, not {op.places}")
    if op.places >= giver.places.pax:
        raise LedgerRefused("one place has to stay; refund the ticket instead, or move the others")
    await office.execute(
        "insert_transfer", office.new_id(), op.from_ticket, op.to_ticket, op.places, command, office.now
    )
    moves = [
        (ticket, right.rule, right.zone, sign * op.places * right.uses)
        for ticket, sign in ((giver, -1), (taker, 1))
        for right in ticket.places.rights
    ]
    await office.execute_many("move_sold", [(each.ticket, rule, zone, uses) for each, rule, zone, uses in moves])
    await office.execute_many("move_pax", [(op.from_ticket, -op.places), (op.to_ticket, op.places)])
    detail = f"{op.places} places from ticket {op.from_ticket} to {op.to_ticket}"
    return Outcome(OfficeDone(detail=detail), detail)
