"""Load what a batch of gate operations touches, and write what moved: a fixed number of set-based statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from protocols.messages import Base, Ended, Passed
from storage._books import UNRESOLVED_GRACE_S, Books
from storage._facts import Grant, Right, Zone
from storage.interfaces import Calibrate, CounterBaseline, GrantOp, RefusedScan, ZoneCount
from storage.queries import load

GATE_OPS = (GrantOp, Passed, Ended, Calibrate, CounterBaseline, RefusedScan)
WRITES = ("insert_grants", "insert_holds", "update_holds", "delete_holds", "mark_unresolved", "insert_passages",
          "insert_redemptions", "insert_ends", "update_entitlements", "update_zones", "insert_abandoned",
          "insert_scans", "insert_calibrations", "insert_baselines")  # fmt: skip


class Sweep(Base, frozen=True, kw_only=True):
    """The ledger's own operation: look for grants past their ttl that no lane has ended."""


async def load_books(connection: asyncpg.Connection, site: str, books: Books, ops: Sequence[Base]) -> str:
    """Fill the books with what these operations touch; lock rights and zones. Returns the transaction's id."""
    sql = load("gate")
    scans = [op for op in ops if isinstance(op, GrantOp)]
    ends = [op for op in ops if isinstance(op, Ended)]
    passages = [op for op in ops if isinstance(op, Passed)]
    if scans or ends or passages:
        await _load_grants(connection, site, books, scans, ends, passages)
    if passages:
        identities = [(op.device, op.boot, str(op.direction), op.seq) for op in passages]
        for row in await connection.fetch(sql["passages"], site, *map(list, zip(*identities, strict=True))):
            books.passages[row["device"], row["boot"], row["direction"], row["seq"]] = row["kind"]
    rights = sorted({grant.entitlement for grant in books.grants.values()})
    if scans or rights:
        kinds, hashes = [str(op.kind) for op in scans], [op.credential_hash for op in scans]
        for row in await connection.fetch(sql["rights"], site, kinds, hashes, rights):
            if row["entitlement"] not in books.rights:
                books.add_right(_right(row))
            if row["kind"] is not None:
                books.credentials[row["kind"], row["value_hash"]] = (row["ticket"], row["credential_state"])
    xid = ""
    for row in await connection.fetch(sql["zones"], site):
        xid = row["xid"]
        books.zones[row["zone"]] = Zone(row["zone"], row["limit_people"], row["inside"], row["held"])
    if any(isinstance(op, Sweep) for op in ops):
        before = books.now - UNRESOLVED_GRACE_S
        for row in await connection.fetch(sql["expired_holds"], site, before):
            books.expire(row["grant_id"], row["lane"], row["ticket"], row["expires_at"])
    return xid


async def _load_grants(
    connection: asyncpg.Connection,
    site: str,
    books: Books,
    scans: list[GrantOp],
    ends: list[Ended],
    passages: list[Passed],
) -> None:
    named: list[Ended | Passed] = [*ends, *passages]
    nonces: list[GrantOp | Ended] = [*scans, *ends]
    ids = sorted({op.grant for op in named if op.grant is not None})
    devices = [(op.device, op.nonce) for op in nonces if op.nonce]
    lanes = [(op.lane, op.nonce) for op in ends if op.nonce]
    given_up = [(op.lane, op.nonce) for op in nonces if op.nonce]
    columns: list[list[Any]] = [ids]
    for pairs in (devices, lanes, given_up):
        columns += [[first for first, _ in pairs], [second for _, second in pairs]]
    for row in await connection.fetch(load("gate")["grants"], site, *columns):
        if row["grant_id"] is None:
            books.abandoned.add((row["lane"], row["nonce"]))
            continue
        books.add_grant(
            Grant(
                grant=row["grant_id"],
                lane=row["lane"],
                device=row["device"],
                nonce=row["nonce"],
                ticket=row["ticket"],
                entitlement=row["entitlement"],
                product_class=row["product_class"],
                to_zone=row["to_zone"],
                pax=row["pax"],
                remaining=row["remaining"],
                ttl_s=row["ttl_s"],
                granted_at=row["granted_at"],
                open=row["open"],
                passed=row["passed"],
                why=row["why"],
            )
        )


def _right(row: asyncpg.Record) -> Right:
    return Right(
        entitlement=row["entitlement"],
        ticket=row["ticket"],
        zone=row["zone"],
        sold=row["sold"],
        redeemed=row["redeemed"],
        held=row["held"],
        refunded=row["refunded"],
        reserved_refund=row["reserved_refund"],
        last_used_at=row["last_used_at"],
        last_used_lane=row["last_used_lane"],
        ticket_state=row["state"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        product=row["product"],
        product_class=row["product_class"],
        needs_face=row["needs_face"],
        min_gap_s=row["min_gap_s"],
    )


async def write_books(connection: asyncpg.Connection, site: str, books: Books) -> list[ZoneCount]:
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
        if right.redeemed_moved or right.held_moved:
            used = (right.last_used_at, right.last_used_lane) if right.used else (None, None)
            rows.add("update_entitlements", right.entitlement, right.redeemed_moved, right.held_moved, *used)
    moved = False
    for zone in books.zones.values():
        if zone.inside_moved or zone.held_moved:
            moved = True
            rows.add("update_zones", zone.zone, zone.inside_moved, zone.held_moved)
    for number in books.unresolved:
        rows.add("mark_unresolved", number)
    await rows.write(connection, *WRITES)
    return [zone.count() for zone in books.zones.values()] if moved else []
