"""The record of an incident: notes for the ledger, told again until it takes them, and lines for the feed."""

from __future__ import annotations

import collections
import time

from actors._common import offer
from core import Address, MailboxFull
from protocols.console import FeedEvent
from protocols.messages import new_id
from storage.interfaces import IncidentNote

NOTES_MAX = 1000  # lines of the record that wait for the ledger; the oldest go first
DETAIL_MAX = 200  # characters of one line


class Record:
    """Written after sending, never before. `me` is where the ledger returns what it could not write."""

    def __init__(self, ledger: Address, hub: Address) -> None:
        self._ledger = ledger
        self._hub = hub
        self._unsaid: collections.deque[IncidentNote] = collections.deque(maxlen=NOTES_MAX)

    def note(self, me: Address, incident: int | None, kind: str, lane: str, user: str, detail: str) -> None:
        """One line of the incident's record."""
        self._unsaid.append(
            IncidentNote(
                incident=incident or 0,
                seq=new_id(),
                at=time.time(),
                kind=kind,
                lane=lane,
                user=user,
                detail=detail[:DETAIL_MAX].replace("\0", ""),
            )
        )
        self.say(me)

    def came_back(self, note: IncidentNote) -> None:
        """The ledger could not write it now."""
        self._unsaid.append(note)

    def say(self, me: Address) -> None:
        """Tell the ledger what it has not taken yet; what it cannot write now comes back and is told again."""
        while self._unsaid:
            try:
                self._ledger.tell(self._unsaid[0], reply_to=me)
            except MailboxFull:
                return
            self._unsaid.popleft()

    def feed(self, severity: str, text_zh: str, text_en: str, *, lane: str = "", code: str = "") -> None:
        """One line for whoever looks at a console."""
        event = FeedEvent(
            at=time.time(),
            kind="evacuation",
            severity=severity,
            lane=lane,
            code=code,
            text_zh=text_zh,
            text_en=text_en,
        )
        offer(self._hub, event)
