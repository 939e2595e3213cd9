"""Cases that wait for people, and the history of a ticket, an order, a card or a person.

Part of the console channel's vocabulary (`protocols.console`).
"""

from __future__ import annotations

import msgspec

from protocols._bounds import Detail, Number, Secret, Word
from protocols.console_office import OrderView
from protocols.messages import Base


class ListCases(Base, frozen=True, kw_only=True):
    """cases.list: `state` is `waiting` (neither resolved nor closed), `all`, or one state. The newest first."""

    state: Word = "waiting"
    limit: Number = 200


class CaseNote(Base, frozen=True, kw_only=True):
    """What somebody wrote, or did, about a case."""

    at: float
    by: str
    text: str


class CaseView(Base, frozen=True, kw_only=True):
    """A case: open, acknowledged, assigned, resolved (by itself) or closed."""

    case: int
    kind: str
    lane: str
    severity: str
    detail: str
    state: str
    opened_at: float
    assigned_to: str = ""
    notes: list[CaseNote] = msgspec.field(default_factory=list)


class CaseList(Base, frozen=True, kw_only=True):
    cases: list[CaseView]


class AcknowledgeCase(Base, frozen=True, kw_only=True):
    """cases.acknowledge: seen."""

    case: Number
    by: Word = ""


class AssignCase(Base, frozen=True, kw_only=True):
    """cases.assign: somebody's to work on; an empty name is nobody's."""

    case: Number
    to: Word
    by: Word = ""


class NoteCase(Base, frozen=True, kw_only=True):
    """cases.note."""

    case: Number
    text: Detail
    by: Word = ""


class CloseCase(Base, frozen=True, kw_only=True):
    """cases.close. A reason is required."""

    case: Number
    reason: Detail
    by: Word = ""


class FindHistory(Base, frozen=True, kw_only=True):
    """find.history: an order or ticket number, a card, a code as a reader reads it, an ID number."""

    text: Secret
    by: Word = ""

    def __repr__(self) -> str:
        return "FindHistory(…)"


class HistoryLine(Base, frozen=True, kw_only=True):
    """One thing that happened: a scan, a passage, a sale, a refund, an office command."""

    at: float
    kind: str
    lane: str = ""
    code: str = ""
    text_zh: str = ""
    text_en: str = ""
    grant: int | None = None
    trace: str = ""


class FindResult(Base, frozen=True, kw_only=True):
    """Orders that were found, and what happened to their tickets, the newest first."""

    orders: list[OrderView]
    events: list[HistoryLine]
