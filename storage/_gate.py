"""Load what a batch of gate operations touches, and write what moved: a fixed number of set-based statements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from protocols.messages import Base, Ended, Passed
from storage._books import UNRESOLVED_GRACE_S, Books
from storage._facts import Grant, Person, Presented, Right, Ticket
from storage._issue import Shop
from storage._pq import Connection, Encoded, Record
from storage._upload_ops import UploadOp
from storage._uploads import keys_of_upload, load_journals, write_journals
from storage._zones import Zone
from storage.interfaces import AddShort, Calibrate, CounterBaseline, GrantOp, RefusedScan, StopZone, ZoneCount
from storage.queries import load

GATE_OPS = (GrantOp, AddShort, Passed, Ended, Calibrate, StopZone, CounterBaseline, RefusedScan, UploadOp)
WRITES = ("insert_grants", "insert_holds", "update_holds", "delete_holds", "mark_unresolved", "insert_passages",
          "insert_redemptions", "insert_ends", "update_entitlements", "update_zones", "insert_abandoned",
          "update_tickets", "put_people", "bind_faces", "raise_issue", "insert_short", "insert_scans",
          "insert_calibrations", "insert_baselines", "insert_zone_stops", "insert_day_closes")  # fmt: skip


LOCKS = re.compile(r"\bfor update( of \w+)?\b")


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


async def ask_books(
    connection: Connection, site: str, shop: Shop, day: date, ops: Sequence[Base], *, lock: bool = True
) -> Encoded:
    """The question for all that these operations touch, ready to be sent; `fill_books` reads the answer.

    One statement, whatever the batch is made of: an empty array costs next to nothing.
    """
    sql = load("gate")["load"]
    statement = await connection.prepare(sql if lock else LOCKS.sub("", sql))
    return statement, statement.encode([site, *_keys(ops), *_of_rules(shop, day, ops)])


def fill_books(books: Books, found: Record) -> None:
    """Fill the books with what was found."""
    for row in found["grants"] or ():
        books.add_grant(Grant(*row))
    books.abandoned.update(tuple(row) for row in found["abandoned"] or ())
    for device, boot, direction, seq, kind in found["passages"] or ():
        books.passages[device, boot, direction, seq] = kind
    for row in found["credentials"] or ():
        presented = Presented(*row)
        books.credentials.setdefault((presented.kind, presented.value_hash), []).append(presented)
    for row in found["tickets"] or ():
        books.tickets[row[0]] = Ticket(*row)
    for ticket, product in found["mains"] or ():
        used = books.tickets[ticket].used_today
        books.tickets[ticket].used_today = [*(used or ()), product]
    for row in found["rights"] or ():
        books.add_right(Right(*row))
    for row in found["people"] or ():
        books.people[row[0], row[1]] = Person(*row)
    books.preprinted.update(tuple(row) for row in found["preprinted"] or ())
    for row in found["zones"] or ():
        books.zones[row[0]] = Zone(*row)


async def load_rarer(connection: Connection, site: str, books: Books, ops: Sequence[Base]) -> None:
    """What only a sweep and a correction of a count ask for."""
    sql = load("gate")
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
    if any(ticket.used_today is not None or ticket.product in _small(books.shop) for ticket in books.tickets.values()):
        return False
    mine = {*books.tickets, *books.rights, *books.grants}
    return mine.isdisjoint(before.tickets) and mine.isdisjoint(before.rights) and mine.isdisjoint(before.grants)


def hand_over(before: Books, books: Books) -> None:
    """What every batch touches, as the batch before has left it."""
    books.zones = {
        name: replace(zone, inside_moved=0, held_moved=0, staff_moved=0, changed=False)
        for name, zone in before.zones.items()
    }


def _small(shop: Shop) -> set[str]:
    """Products that are good only beside a main ticket."""
    return {product.product for product in shop.versions.values() if product.rules.requires}


def _keys(ops: Sequence[Any]) -> list[list[Any]]:
    """The parameters of the query `load`, after the site: what to look up."""
    grants: set[int] = set()
    devices: list[tuple[str, str]] = []
    lanes: list[tuple[str, str]] = []
    given_up: list[tuple[str, str]] = []
    passages: list[tuple[str, str, str, int]] = []
    credentials: set[tuple[str, bytes]] = set()
    for op in ops:
        kind = type(op)  # `isinstance` costs a microsecond for each class that it is not
        if kind is Passed:
            passages.append((op.device, op.boot, str(op.direction), op.seq))
            if op.grant is not None:
                grants.add(op.grant)
        elif kind is GrantOp:
            credentials.add((str(op.kind), op.credential_hash))
            devices.append((op.device, op.nonce))
            given_up.append((op.lane, op.nonce))
        elif kind is Ended:
            if op.grant is not None:
                grants.add(op.grant)
            if op.nonce:
                devices.append((op.device, op.nonce))
                given_up.append((op.lane, op.nonce))
                lanes.append((op.lane, op.nonce))
        elif kind is UploadOp:
            named = keys_of_upload(op)
            grants.update(named.grants)
            credentials.update(named.credentials)
            devices += named.scans
            given_up += named.given_up
            passages += named.passages
    columns: list[list[Any]] = [sorted(grants)]
    for width, rows in ((2, devices), (2, lanes), (2, given_up), (4, passages), (2, list(credentials))):
        columns += map(list, zip(*rows, strict=True)) if rows else [[] for _ in range(width)]
    return columns


def _of_rules(shop: Shop, day: date, ops: Sequence[Base]) -> tuple[list[str], date, list[str], list[int]]:
    """The rest of the parameters: what only some products ask for costs the others nothing."""
    versions = shop.versions.values()
    bound = {product.product for product in versions if product.rules.binds == "face"}
    codes = [op.ticket for op in ops if isinstance(op, GrantOp) and op.ticket is not None]
    codes += [ticket for op in ops if isinstance(op, UploadOp) for ticket in keys_of_upload(op).codes]
    return sorted(_small(shop)), day, sorted(bound), codes


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
