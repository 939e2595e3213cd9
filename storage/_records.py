"""What people did and what waits for people: cases, notes of an evacuation, the hash-chained audit log."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from storage._pq import Connection
from storage._rows import Rows, check_text
from storage.interfaces import AuditEntry, CaseWork, IncidentNote, LedgerRefused, Ok, OpenCase
from storage.queries import load

FIRST_HASH = bytes(32)  # before the first entry of a site
WRITES = ("insert_cases", "insert_case_notes", "close_cases", "insert_incidents", "insert_notes", "insert_audit")


class AuditHead(NamedTuple):
    """The last entry of the chain, which the next one builds on."""

    seq: int
    hash: bytes


EMPTY_CHAIN = AuditHead(0, FIRST_HASH)


def audit_hash(prev: bytes, seq: int, at_us: int, words: list[str]) -> bytes:
    """SHA-256 of an entry, as the database's own `audit_hash` computes it; `at_us` is microseconds since the epoch."""
    text = "".join(f"{len(word)}:{word}" for word in words)
    return hashlib.sha256(prev + f"{seq}:{at_us}:{text}".encode()).digest()


class Records:
    """One batch's cases, notes and audit entries; `audit` is the chain's head as it will be."""

    def __init__(self, site: str, now: float, audit: AuditHead) -> None:
        self.rows = Rows(site, load("records"))
        self.now = now
        self.audit = audit
        self._site = site
        self._resolved: list[str] = []

    def case(self, key: str, kind: str, lane: str, severity: str, detail: str, at: float) -> None:
        """Open a case unless there is one with this key."""
        self.rows.add("insert_cases", key, kind, lane, severity, detail, at, self.now)

    def resolve(self, key: str) -> None:
        """The case, if there is one, has settled itself."""
        self._resolved.append(key)

    def open_case(self, op: OpenCase) -> None:
        check_text(key=op.key, kind=op.kind, lane=op.lane, detail=op.detail)
        self.case(op.key, op.kind, op.lane, op.severity, op.detail, op.at)

    def case_work(self, op: CaseWork) -> Ok:
        """Write down what somebody did about a case, and in the audit log. Raises LedgerRefused without a user."""
        self.entry(
            AuditEntry(
                user=op.user, role="", action=f"cases.{op.what}", subject=f"case {op.case}", reason=op.detail, at=op.at
            )
        )
        self.rows.add("insert_case_notes", op.case, op.at, op.user, op.what, op.detail)
        if op.what == "closed":
            self.rows.add("close_cases", op.case, op.at)
        return Ok()

    def note(self, op: IncidentNote) -> None:
        check_text(kind=op.kind, lane=op.lane, user=op.user, detail=op.detail)
        self.rows.add("insert_incidents", op.incident, op.at)
        self.rows.add("insert_notes", op.incident, op.seq, op.at, op.kind, op.lane, op.user, op.detail)

    def entry(self, op: AuditEntry) -> None:
        """Append to the chain. Raises LedgerRefused for an entry that says not who or not what."""
        if not op.user or not op.action:
            raise LedgerRefused("an audit entry needs a user and an action")
        words = [op.user, op.role, op.action, op.subject, op.reason]
        check_text(user=op.user, role=op.role, action=op.action, subject=op.subject, reason=op.reason)
        prev, seq, at_us = self.audit.hash, self.audit.seq + 1, round(op.at * 1_000_000)
        self.audit = AuditHead(seq, audit_hash(prev, seq, at_us, words))
        self.rows.add("insert_audit", seq, at_us, *words, prev, self.audit.hash)

    async def write(self, connection: Connection) -> None:
        await self.rows.write(connection, *WRITES)
        if self._resolved:
            statement = await connection.prepare(load("records")["resolve_cases"])
            connection.send(statement, self._site, self._resolved, self.now)
