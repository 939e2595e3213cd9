"""Load what a batch of gate operations touches, and write what moved: a fixed number of set-based statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from protocols.messages import Base, Ended, Passed
from storage._asked import ask_books, small
from storage._books import UNRESOLVED_GRACE_S, Books
from storage._facts import Grant, Person, Presented, Right, Ticket
from storage._pq import Connection, Record
from storage._upload_ops import UploadOp
from storage._uploads import load_journals, write_journals
from storage._zones import Zone
from storage.interfaces import AddShort, Calibrate, CounterBaseline, GrantOp, RefusedScan, StopZone, ZoneCount
from storage.queries import load

GATE_OPS = (GrantOp, AddShort, Passed, Ended, Calibrate, StopZone, CounterBaseline, RefusedScan, UploadOp)
WRITES = ("insert_grants", "insert_holds", "update_holds", "delete_holds", "mark_unresolved", "insert_passages",
          "insert_redemptions", "insert_ends", "update_entitlements", "update_zones", "insert_abandoned",
          "update_tickets", "put_people", "bind_faces", "raise_issue", "insert_short", "insert_scans",
          "insert_calibrations", "insert_baselines", "insert_zone_stops", "insert_day_closes")  # fmt: skip


class Sweep(Base, frozen=True, kw_only=True):
    """The ledger's own operation: look for grants past their ttl that no lane has ended."""


async def load_books(
    connection: Connection, site: str, books: Books, ops: Sequence[Base], *, lock: bool = True
) -> None:
    """Fill the books with what these operations touch; lock rights and zones.

    Without `lock` they are only looked at, and nobody is waited for.
    """
    connection.send_encoded(*await ask_books(connection, site, books.shop, books.day, ops, lock=lock))
    found = (await connection.results(connection.mark()))[-1][0]
    fill_books(books, found)
    await load_rarer(connection, site, books, ops)


def fill_books(books: Books, found: Record) -> None:
    """Fill the books with what was found."""
    get = found.get  # a question leaves out what nobody needs
    for row in get("grants") or ():
        books.add_grant(Grant(*row))
    books.abandoned.update(tuple(row) for row in get("abandoned") or ())
    for device, boot, direction, seq, kind in get("passages") or ():
        books.passages[device, boot, direction, seq] = kind
    for row in get("credentials") or ():
        presented = Presented(*row)
        books.credentials.setdefault((presented.kind, presented.value_hash), []).append(presented)
    for row in get("tickets") or ():
        books.tickets[row[0]] = Ticket(*row)
    for ticket, product in get("mains") or ():
        used = books.tickets[ticket].used_today
        books.tickets[ticket].used_today = [*(used or ()), product]
    for row in sorted(get("rights") or ()):  # by their numbers, which are the first and differ
        books.add_right(Right(*row))
    books.preprinted.update(tuple(row) for row in get("preprinted") or ())
    for row in get("zones") or ():
        books.zones[row[0]] = Zone(*row)


async def load_rarer(connection: Connection, site: str, books: Books, ops: Sequence[Base]) -> None:
    """What only some batches ask for: those of people on a list, a sweep, a correction of a count."""
    sql = load("gate")
    await _load_people(connection, site, books)
    if any(type(op) is Sweep for op in ops):
        before = books.now - UNRESOLVED_GRACE_S
        for row in await connection.fetch(sql["expired_holds"], site, before):
            books.expire(row["grant_id"], row["lane"], row["ticket"], row["expires_at"])
    keys = [op.key for op in ops if isinstance(op, Calibrate) and op.key]
    uploads = [op for op in ops if isinstance(op, UploadOp)]
    if uploads:
        await load_journals(connection, site, books, uploads)
    if keys:
        books.calibrated.update(row["key"] for row in await connection.fetch(sql["calibrated"], site, keys))


async def _load_people(connection: Connection, site: str, books: Books) -> None:
    """What people of a list have used, and how many places are still set aside for them."""
    sql = load("gate")
    people = {each.credential for found in books.credentials.values() for each in found if each.personal}
    people.update(grant.credential for grant in books.grants.values() if grant.credential is not None)
    if people:
        for row in await connection.fetch(sql["people"], site, sorted(people)):
            books.people[row[0], row[1]] = Person(*row)
    rights = [right.entitlement for right in books.rights.values() if right.set_aside]
    if rights:
        for entitlement, used in await connection.fetch(sql["set_aside_used"], site, rights):
            books.rights[entitlement].set_aside_used = used


def keys_of(ops: Sequence[Any]) -> set[Any]:
    """What gate operations name, by which they may meet others: scans, grants, passages, credentials."""
    keys: set[Any] = set()
    for op in ops:
        kind = type(op)
        if kind is Passed:
            keys.add((op.device, op.boot, op.direction, op.seq))
        elif kind is GrantOp:
            keys.add((op.kind, op.credential_hash))
        if kind is Passed or kind is Ended:
            keys.add(op.grant)
        if kind is not Passed:
            keys.add((op.device, op.nonce))
            keys.add((op.lane, op.nonce))
    keys.discard(None)
    return keys


def apart(before: Books, books: Books) -> bool:
    """Do two batches touch different tickets, rights and grants, so that one need not know what the other has done?

    All these numbers come from one source and never meet. A ticket that needs a main ticket looks at others than its
    own, so it is apart from nothing.
    """
    beside = small(books.shop)
    if beside and any(ticket.product in beside for ticket in books.tickets.values()):
        return False
    mine = {*books.tickets, *books.rights, *books.grants}
    return mine.isdisjoint(before.tickets) and mine.isdisjoint(before.rights) and mine.isdisjoint(before.grants)


def hand_over(before: Books, books: Books) -> None:
    """What every batch touches, as the batch before has left it."""
    books.zones = {
        name: replace(zone, inside_moved=0, held_moved=0, staff_moved=0, changed=False)
        for name, zone in before.zones.items()
    }


async def write_books(connection: Connection, site: str, books: Books) -> list[ZoneCount]:
    """Write what moved. Returns all zones as they now stand if any of them moved, otherwise nothing."""
    rows = books.rows
    for grant in books.grants.values():
        if not grant.touched:
            continue
        if grant.new and grant.open:
            expires_at = grant.granted_at + grant.ttl_s
            rows.add("insert_holds", grant.grant, grant.lane, grant.pax, grant.passed, expires_at)
        elif grant.open:
            rows.add("update_holds", grant.grant, grant.passed)
        elif not grant.new:
            rows.add("delete_holds", grant.grant)
    for right in books.rights.values():
        if right.touched or right.held_moved or right.reentries_held_moved:
            rows.add(
                "update_entitlements",
                right.entitlement,
                right.redeemed_moved,
                right.held_moved,
                right.reentries_held_moved,
                right.last_used_at,
                right.last_used_lane,
                right.first_used_at,
                right.last_exit_at,
                right.day,
                right.used_day,
                right.reentries_day,
                right.out_day,
            )
    for ticket in books.tickets.values():
        if ticket.touched:
            seen = ticket.at_zone, ticket.at_since
            rows.add("update_tickets", ticket.ticket, ticket.holder_hash, ticket.holder_enc, *seen)
    for person in books.people.values():
        if person.touched:
            rows.add("put_people", person.credential, person.entitlement, person.redeemed, person.held)
    for number, (template, algorithm) in books.faces.items():
        rows.add("bind_faces", number, template, algorithm, books.now)
    moved = False
    for zone in books.zones.values():
        if zone.inside_moved or zone.held_moved or zone.staff_moved or zone.changed:
            moved = True
            rows.add("update_zones", zone.zone, zone.inside_moved, zone.held_moved, zone.staff_moved, *zone.state())
    for number in books.unresolved:
        rows.add("mark_unresolved", number)
    await rows.write(connection, *WRITES)
    await write_journals(connection, books)
    return [zone.count() for zone in books.zones.values()] if moved else []
