"""The question for what a batch of gate operations touches: as short as these operations allow.

PostgreSQL makes every node of a plan ready whether a row comes by or not, which for two or three operations is half of
the cost.  So the query `load` of `storage/sql/gate.sql` has parts, and a batch asks with those that it needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import Any, NamedTuple

from protocols.messages import Base, Ended, Passed
from storage._issue import Shop
from storage._pq import Connection, Encoded
from storage._upload_ops import UploadOp
from storage._uploads import keys_of_upload
from storage.interfaces import GrantOp
from storage.queries import QueryError, load

LOCKS = re.compile(r"\bfor update( of \w+)?\b")
PLACES = re.compile(r"\$(\d+)")
PART = re.compile(r"--\[(not )?(\w+)$")


class Question(NamedTuple):
    """A query, and which of all parameters are its own, in its order."""

    sql: str
    places: tuple[int, ...]


@cache
def question(sql: str, words: frozenset[str]) -> Question:
    """The lines of a query that are for these words, its parameters numbered anew. Raises QueryError."""
    lines: list[str] = []
    wanted = [True]
    for line in sql.splitlines():
        part = PART.match(line.strip())
        if part is not None:
            wanted.append(wanted[-1] and (part[2] in words) is (part[1] is None))
        elif line.strip() == "--]":
            wanted.pop()
            if not wanted:
                break
        elif wanted[-1]:
            lines.append(line)
    if len(wanted) != 1:
        raise QueryError("parts of a query are not closed, or closed twice")
    text = "\n".join(lines)
    places = sorted({int(place) for place in PLACES.findall(text)})
    numbers = {place: number for number, place in enumerate(places, 1)}
    return Question(PLACES.sub(lambda found: f"${numbers[int(found[1])]}", text), tuple(places))


async def ask_books(
    connection: Connection,
    site: str,
    shop: Shop,
    day: date,
    ops: Sequence[Base],
    *,
    lock: bool = True,
    zones: bool = True,
) -> Encoded:
    """The question for all that these operations touch, ready to be sent; `storage._gate.fill_books` reads the answer.

    Without `zones` these are not asked for: whoever asks has them from elsewhere.
    """
    parameters = [site, *_keys(ops), *_of_rules(shop, day, ops)]
    wanted = [word for word, places in WANTED if any(parameters[place - 1] for place in places)]
    asked = question(load("gate")["load"], frozenset([*wanted, "zones"] if zones else wanted))
    statement = await connection.prepare(asked.sql if lock else LOCKS.sub("", asked.sql))
    return statement, statement.encode([parameters[place - 1] for place in asked.places])


WANTED = (("scans", (3, 7, 13, 18)), ("nonces", (5,)), ("passages", (9,)), ("mains", (15,)), ("faces", (17,)))
"""The parts of `load`, each with parameters that are empty when nobody needs it."""


def small(shop: Shop) -> set[str]:
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
    return sorted(small(shop)), day, sorted(bound), codes
