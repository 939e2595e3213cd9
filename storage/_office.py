"""The office's commands: each carried out once under its key, with its audit entry, in the transaction it came with.

They come by the hand of people, so they are done one after the other behind the gates' and windows' set-based work,
each under its own savepoint: what one of them violates is refused to it alone.  A handler reads, decides, and only then
writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg
import msgspec

from storage._issue import Shop
from storage._office_ops import (
    KEY_CHARACTERS_MAX,
    BatchBooked,
    CardReplaced,
    Collected,
    Named,
    NamePeople,
    OfficeDone,
    OfficeOp,
    PaymentBooked,
    PaymentNotice,
    RefundBooked,
    Reversed,
)
from storage._places import Places, RightCount
from storage._pq import Connection, Record
from storage._records import Records
from storage._rows import check_text
from storage.interfaces import AuditEntry, Calibrate, LedgerRefused
from storage.queries import load

REASON_CHARACTERS_MAX = 500
POISON = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
NO_REASON_NEEDED = ("PaymentNotice", "Collect", "NamePeople", "CompleteRefund", "ExpireOrder")

Answer = OfficeDone | RefundBooked | Collected | Named | CardReplaced | Reversed | PaymentBooked | BatchBooked
_decode = msgspec.msgpack.Decoder(Answer).decode


@dataclass(slots=True)
class Office:
    """What a command works with. `corrections` of zones' counts are booked when all commands are done."""

    connection: Connection
    site: str
    shop: Shop
    now: float
    records: Records
    new_id: Callable[[], int]
    corrections: list[Calibrate] = field(default_factory=list)

    async def fetch(self, query: str, *arguments: Any) -> list[Record]:
        found: list[Record] = await self.connection.fetch(load("office")[query], self.site, *arguments)
        return found

    async def fetchrow(self, query: str, *arguments: Any) -> Record | None:
        return await self.connection.fetchrow(load("office")[query], self.site, *arguments)

    async def execute(self, query: str, *arguments: Any) -> None:
        await self.connection.execute(load("office")[query], self.site, *arguments)

    async def execute_many(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        await self.connection.executemany(load("office")[query], [(self.site, *row) for row in rows])


class Outcome(NamedTuple):
    """What a handler has done: the answer, and the words for the audit log."""

    answer: Answer
    subject: str


Handler = Callable[[Office, Any, str], Awaitable[Outcome]]
"""(office, the command, its key in the tables). Raises LedgerRefused before it writes."""


async def carry_out(office: Office, op: OfficeOp, handler: Handler) -> Answer | LedgerRefused:
    """The answer to one command; a refusal is returned, and then nothing of it was written."""
    refused: LedgerRefused
    await office.connection.execute("savepoint command")
    try:
        answer = await _carry_out(office, op, handler)
        await office.connection.execute("release command")
        return answer
    except LedgerRefused as exc:
        refused = exc
    except POISON as exc:
        constraint = getattr(exc, "constraint_name", None)
        refused = LedgerRefused(f"refused by the constraint {constraint}" if constraint else f"refused: {exc}")
        refused.__cause__ = exc
    await office.connection.execute("rollback to command; release command")
    return refused


async def _carry_out(office: Office, op: OfficeOp, handler: Handler) -> Answer:
    _check(op)
    key, digest = command_key(op), _digest(op)
    known = await office.fetchrow("command", key)
    if known is not None:
        if known["digest"] != digest:
            raise LedgerRefused(f"the key {op.key!r} was used for another command")
        answered: Answer = _decode(known["answer"])
        return msgspec.structs.replace(answered, repeated=True)
    answer, subject = await handler(office, op, key)
    action = type(op).__name__
    encoded = msgspec.msgpack.encode(answer)
    await office.execute("insert_command", key, action, op.user, op.role, op.reason, digest, encoded, office.now)
    office.records.entry(
        AuditEntry(
            user=op.user,
            role=op.role,
            action=f"office.{action}",
            subject=f"{key}: {subject}",
            reason=op.reason,
            at=office.now,
        )
    )
    return answer


def _check(op: OfficeOp) -> None:
    if not op.key or len(op.key) > KEY_CHARACTERS_MAX:
        raise LedgerRefused(f"a command needs a key of 1 to {KEY_CHARACTERS_MAX} characters")
    if not op.user:
        raise LedgerRefused("a command needs a user")
    if not op.reason.strip() and type(op).__name__ not in NO_REASON_NEEDED:
        raise LedgerRefused("a reason is needed")
    if len(op.reason) > REASON_CHARACTERS_MAX:
        raise LedgerRefused(f"a reason has at most {REASON_CHARACTERS_MAX} characters")
    check_text(key=op.key, user=op.user, role=op.role, reason=op.reason)


def command_key(op: OfficeOp) -> str:
    """A command's key in the tables. Nobody's key is another one's, whatever they are made of.

    A payment provider's keys are the tender's; the ledger's own commands begin with a sign that no length does.
    """
    if op.realm:
        return f"{op.realm}{op.key}"
    if isinstance(op, PaymentNotice):
        return f"@{len(op.tender)}:{op.tender}:{op.key}"
    return f"{len(op.user)}:{op.user}:{op.key}"


def _digest(op: OfficeOp) -> bytes:
    """What makes a command the same: everything but its time, and but what is sealed anew each time it is sent."""
    op = msgspec.structs.replace(op, at=0.0)
    if isinstance(op, NamePeople):
        bare = [msgspec.structs.replace(person, id_enc=b"", name_enc=b"") for person in op.people]
        op = msgspec.structs.replace(op, people=bare)
    return hashlib.sha256(msgspec.msgpack.encode(op)).digest()


# --- tickets ------------------------------------------------------------------------------------------------------


class Ticket(NamedTuple):
    """A locked ticket with what it was sold as, and its places."""

    ticket: int
    order: int
    line: int
    state: str
    product: str
    version: int
    quantity: int  # tickets of its line
    product_pax: int
    unit_price_cents: int
    visit_date: Any
    slot: str
    valid_to: float
    places: Places


async def tickets_of(office: Office, *numbers: int) -> list[Ticket]:
    """Tickets with their counters, locked, in the order asked for. Raises LedgerRefused for an unknown one."""
    rows = {row["ticket"]: row for row in await office.fetch("tickets", sorted(set(numbers)))}
    rights: dict[int, list[RightCount]] = {}
    for row in await office.fetch("rights", sorted(set(numbers))):
        ticket = rows.get(row["ticket"])
        assert ticket is not None
        rules = office.shop.versions[ticket["product"], ticket["version"]].rules
        rights.setdefault(row["ticket"], []).append(right_count(row, rules.rights[row["rule"]].uses))
    found = []
    for number in numbers:
        if number not in rows:
            raise LedgerRefused(f"ticket {number} is not known")
        row = rows[number]
        found.append(
            Ticket(
                ticket=number,
                order=row["order_id"],
                line=row["line"],
                state=row["state"],
                product=row["product"],
                version=row["version"],
                quantity=row["quantity"],
                product_pax=row["product_pax"],
                unit_price_cents=row["unit_price_cents"],
                visit_date=row["visit_date"],
                slot=row["slot"],
                valid_to=row["valid_to"],
                places=Places(row["pax"], row["given_back"], rights.get(number, [])),
            )
        )
    return found


def right_count(row: Record, uses: int) -> RightCount:
    return RightCount(
        entitlement=row["entitlement"],
        rule=row["rule"],
        zone=row["zone"],
        uses=uses,
        sold=row["sold"],
        redeemed=row["redeemed"],
        held=row["held"],
        refunded=row["refunded"],
        reserved_refund=row["reserved_refund"],
        set_aside=row["set_aside"],
        promised=row["promised"],
        by_people=row["by_people"],
    )
