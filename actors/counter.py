"""A lane's statements until they are on disk: passages and ends of grants, in order, each exactly once.

The lane says what happened and goes on; this actor keeps it, sends one after the other to the ledger and sends again
what was not answered.  Every statement carries its own identity (a board's cumulative counter), so sending twice is
harmless.  A crash loses the queue, not the facts: the board still counts, and the lane books the difference.
"""

from __future__ import annotations

import collections

from core import Address, Failed, MailboxFull, Stop
from protocols.messages import Base, Booked, Ended, Passed, Settled, Telemetry
from storage.interfaces import CounterBaseline, LaneBooks, LaneLedger, LedgerRefused, Ok

PENDING_MAX = 10_000  # statements kept while the ledger is away: hours at one lane
RETRY_S = 0.5
ANSWER_S = 4.0  # longer than the ledger's own statement deadline

Statement = Passed | Ended | CounterBaseline


class AskBooks(Base, frozen=True, kw_only=True):
    """lane -> counter: what does the ledger know of this lane? Asked once everything pending is on disk."""


class _Retry(Telemetry, frozen=True, kw_only=True):
    pass


class Counter:
    """One lane's outbox. `pending` outlives a crash of the actor, because the object does."""

    def __init__(self, lane: str, device: str, books: Address, lane_address: Address) -> None:
        self._lane = lane
        self._device = device
        self._books = books
        self._lane_address = lane_address
        self._ask_books = False
        self.pending: collections.deque[Statement] = collections.deque()
        self.lost = 0

    async def run(self, me: Address) -> None:
        self._send(me)
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case Passed() | Ended() | CounterBaseline() as statement:
                    self._keep(statement)
                    if len(self.pending) == 1:
                        self._send(me)
                case AskBooks():
                    self._ask_books = True
                    if not self.pending:
                        self._send(me)
                case Booked() | Settled() | Ok() as answer:
                    if self.pending and _answers(answer, self.pending[0]):
                        self.pending.popleft()
                        self._tell_lane(answer)
                        self._send(me)
                case LaneBooks() as books:
                    # with something pending they may be older than a statement: asked again once all is on disk
                    if self._ask_books and not self.pending:
                        self._ask_books = False
                        self._tell_lane(books)
                case Failed(msg=refused, error=LedgerRefused()) if self.pending and refused == self.pending[0]:
                    self.pending.popleft()  # the ledger will never take it; the audit and the dead letter will show it
                    self.lost += 1
                    self._send(me)
                case Failed():
                    me.set_timer("retry", RETRY_S, _Retry())
                case _Retry():
                    self._send(me)
                case Stop():
                    return

    def _keep(self, statement: Statement) -> None:
        if len(self.pending) >= PENDING_MAX:
            self.pending.popleft()  # the counters remember; the lane books the difference at the next reconnect
            self.lost += 1
        self.pending.append(statement)

    def _send(self, me: Address) -> None:
        """Send the head, or the question once nothing is pending; an answer or the timer comes back."""
        message: Statement | LaneLedger
        if self.pending:
            message = self.pending[0]
        elif self._ask_books:
            message = LaneLedger(lane=self._lane, device=self._device, epoch=None)
        else:
            me.cancel_timer("retry")
            return
        me.set_timer("retry", ANSWER_S, _Retry())
        try:
            self._books.tell(message, reply_to=me)
        except MailboxFull:
            me.set_timer("retry", RETRY_S, _Retry())

    def _tell_lane(self, answer: Booked | Settled | Ok | LaneBooks) -> None:
        try:
            self._lane_address.tell(answer)
        except MailboxFull:
            if isinstance(answer, LaneBooks):
                self._ask_books = True  # asked again at the next turn


def _answers(answer: Booked | Settled | Ok, statement: Statement) -> bool:
    """Whether `answer` belongs to the head of the queue; a late answer to an earlier try may not."""
    match answer, statement:
        case Booked(), Passed():
            return (answer.boot, answer.seq, answer.direction) == (statement.boot, statement.seq, statement.direction)
        case Settled(), Ended():
            return answer.grant == statement.grant if statement.grant is not None else answer.nonce == statement.nonce
        case Ok(), CounterBaseline():
            return True
        case _:
            return False
