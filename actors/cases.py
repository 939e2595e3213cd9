"""Cases that wait for people, and the history of a ticket, an order, a card or a person.

Reading goes over a connection of its own; what people do about a case goes through the ledger, into the same batch as
its entry in the audit log.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import trio

from actors._common import offer
from actors.admission import words
from actors.errors import CommandRefused
from core import ActorError, Address, Envelope, Stop
from protocols import console as c
from storage.interfaces import CaseWork, LedgerError, LedgerRefused

UNDER_WAY_MAX = 8  # more are refused as busy
LEDGER_S = 4.0
OFFICE_S = 4.0
LIST_MAX = 500

STATES = ("waiting", "all", "open", "acknowledged", "assigned", "resolved", "closed")
WORDS: dict[str, tuple[str, str]] = {
    "acknowledged": ("已确认", "Acknowledged"),
    "assigned": ("指派给 {}", "Assigned to {}"),
    "note": ("{}", "{}"),
    "closed": ("关闭：{}", "Closed: {}"),
}
Work = c.AcknowledgeCase | c.AssignCase | c.NoteCase | c.CloseCase


class Books(Protocol):
    """What is read (`storage.cases`); each raises CommandRefused when the books are away."""

    async def cases(self, state: str, limit: int, case: int | None) -> Sequence[Any]: ...

    async def ticket_of(self, text: str) -> int | None: ...

    async def history(self, tickets: Sequence[int]) -> Sequence[Any]: ...


class Cases:
    """The actor behind `cases.*` and `find.history`."""

    def __init__(
        self,
        *,
        books: Books,
        ledger: Address,
        office: Address,
        hub: Address,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._books, self._ledger, self._office, self._hub, self._clock = books, ledger, office, hub, clock

    async def run(self, me: Address) -> None:
        slots = trio.Semaphore(UNDER_WAY_MAX)
        handlers: dict[type, Callable[[Any, str], Awaitable[Any]]] = {
            c.ListCases: self._list,
            c.FindHistory: self._find,
            **dict.fromkeys((c.AcknowledgeCase, c.AssignCase, c.NoteCase, c.CloseCase), self._work),
        }
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                if isinstance(envelope.msg, Stop):
                    nursery.cancel_scope.cancel()
                    return
                handler = handlers.get(type(envelope.msg))
                if handler is None:
                    continue
                try:
                    slots.acquire_nowait()
                except trio.WouldBlock:
                    envelope.fail(CommandRefused("busy", "Too many questions at once; try again", "请稍后重试"))
                    continue
                nursery.start_soon(self._answer, envelope, handler, slots)

    async def _answer(
        self, envelope: Envelope, handler: Callable[[Any, str], Awaitable[Any]], slots: trio.Semaphore
    ) -> None:
        try:
            envelope.reply(await handler(envelope.msg, envelope.trace))
        except (CommandRefused, ActorError) as exc:
            envelope.fail(exc)
        except LedgerRefused as exc:
            envelope.fail(CommandRefused("refused", str(exc), "未执行"))
        except LedgerError:
            envelope.fail(CommandRefused("no_ledger", "The books cannot be written now", "暂时无法记账"))
        finally:
            slots.release()

    async def _list(self, asked: c.ListCases, _trace: str) -> c.CaseList:
        if asked.state not in STATES:
            raise CommandRefused("bad_state", f"A state is one of {', '.join(STATES)}", "没有此状态")
        cases = await self._books.cases(asked.state, min(asked.limit, LIST_MAX), None)
        return c.CaseList(cases=[_view(case) for case in cases])

    async def _work(self, order: Work, trace: str) -> c.Done:
        what, detail = _what(order)
        found = await self._books.cases("all", 1, order.case)
        if not found:
            raise CommandRefused("unknown_case", f"There is no case {order.case}", "没有此事件")
        case = found[0]
        if case.state == "closed":
            raise CommandRefused("case_closed", "This case is closed", "此事件已关闭")
        work = CaseWork(case=order.case, what=what, detail=detail, user=order.by, at=self._clock())
        await self._ledger.ask(work, LEDGER_S, trace=trace)
        text_zh, text_en = (text.format(detail) for text in WORDS[what])
        event = c.FeedEvent(
            at=self._clock(),
            kind="case",
            severity="info",
            lane=case.lane,
            code=what,
            text_zh=f"事件 {order.case}（{order.by}）{text_zh}",
            text_en=f"Case {order.case} ({order.by}): {text_en}",
            trace=trace,
        )
        offer(self._hub, event)
        return c.Done(detail=what)

    async def _find(self, asked: c.FindHistory, trace: str) -> c.FindResult:
        text = asked.text.strip()
        orders = []
        if text.isascii() and text.isdigit() and len(text) <= 15:
            orders = await self._order(int(text), trace)
        if not orders:
            ticket = await self._books.ticket_of(text) if text else None
            orders = [] if ticket is None else await self._order(ticket, trace)
        tickets = [ticket.ticket for order in orders for ticket in order.tickets]
        events = await self._books.history(tickets) if tickets else []
        return c.FindResult(orders=orders, events=[_line(event) for event in events])

    async def _order(self, number: int, trace: str) -> list[c.OrderView]:
        found = await self._office.ask(c.FindOrder(number=number), OFFICE_S, trace=trace)
        return [found] if found.order else []


def _what(order: Work) -> tuple[str, str]:
    """What is written down. Raises CommandRefused for a close or a note without words."""
    match order:
        case c.AcknowledgeCase():
            return "acknowledged", ""
        case c.AssignCase(to=to):
            return "assigned", to.strip()
        case c.NoteCase(text=text):
            what, detail = "note", text.strip()
        case c.CloseCase(reason=reason):
            what, detail = "closed", reason.strip()
    if not detail:
        raise CommandRefused("no_reason", "Say why", "请填写原因")
    return what, detail


def _view(case: Any) -> c.CaseView:
    return c.CaseView(
        case=case.case,
        kind=case.kind,
        lane=case.lane,
        severity=case.severity,
        detail=case.detail,
        state=case.state,
        opened_at=case.opened_at,
        assigned_to=case.assigned_to,
        notes=[c.CaseNote(at=note.at, by=note.user, text=_note(note)) for note in case.notes],
    )


def _note(note: Any) -> str:
    return str(note.detail) if note.what == "note" else WORDS[note.what][1].format(note.detail)


def _line(event: Any) -> c.HistoryLine:
    if event.kind == "passage":
        zh, en = ("进", "in") if event.code == "entry" else ("出", "out")
        return c.HistoryLine(
            at=event.at,
            kind="passage",
            lane=event.lane,
            code=event.code,
            text_zh=f"{event.people} 人通过（{zh}）",
            text_en=f"{event.people} passed ({en})",
            grant=event.grant,
        )
    said = words(event.code)
    return c.HistoryLine(
        at=event.at,
        kind=event.kind,
        lane=event.lane,
        code=event.code,
        text_zh=said.visitor_zh,
        text_en=said.visitor_en,
        grant=event.grant,
    )
