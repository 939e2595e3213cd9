"""A lane without a barrier where an attendant stands with a phone: a scan, the decision and the passage in one go.

Whoever is let in has passed: the grant, its passages and its end are on disk before the phone hears the verdict, so
that there is never a passage that only the phone knows of while the network is there.  Without the network the phone
decides alone and says so later; then the people have passed already, and what the ledger would refuse stands as a
passage without a right, with a case that names ticket, lane and times.

Each request is a task of its own, so a release is always the next thing that the lane reads.  Everything carries the
phone's own nonce: said again, after a lost answer or a crash on either side, it goes on where it stands.
"""

from __future__ import annotations

import time

import trio

from actors._asked import Slots
from actors._common import offer
from actors.admission.refusals import OK, RefusalText, say, words
from actors.lane import LaneConfig, LaneParts, OpenLane, PauseLane, SetLaneMode
from actors.lane._shared import (
    Face,
    LaneCommandRefused,
    check_mode,
    check_open,
    no_batch,
    takes,
    zones_of,
)
from core import ActorError, Address, Envelope, Stop
from drivers.base import Barrier
from protocols.messages import (
    Base,
    Booked,
    Credential,
    CredentialKind,
    Decide,
    Denied,
    Direction,
    Ended,
    EndReason,
    Granted,
    GrantState,
    LaneMode,
    PassageKind,
    Passed,
    Release,
    ReleaseAck,
    Restore,
    Scan,
    new_id,
)
from protocols.phone import PhoneRecord
from protocols.shortcode import looks_short
from storage.interfaces import LaneBooks, LaneLedger, LedgerError, OpenCase, RefusedScan

DECIDE_S = 3.0  # for a decision; then the phone is told `unavailable`, and decides by its list
GRANTED_S = 60.0  # a grant that is booked now was given at most so long ago
BOOK_S = 4.0  # for passages and the end of a grant
REQUESTS_MAX = 32  # under way at one lane
CODE_PREFIX = "PF1:"  # of a signed ticket code
CARD_PREFIX = "CARD:"
OFFLINE = "offline_conflict"  # the case of somebody who was let in by a phone alone and had no right


class PhoneAsk(Base, frozen=True, kw_only=True):
    """phones -> lane: decide on one scan, and book who passes. Answered with `PhoneAnswer`."""

    record: PhoneRecord
    pax: int | None
    by: str


class PhoneSaid(Base, frozen=True, kw_only=True):
    """phones -> lane: this happened without us. Answered with `PhoneAnswer` once it is on disk."""

    record: PhoneRecord
    by: str


class PhoneAnswer(Base, frozen=True, kw_only=True):
    """lane -> phones: `code` is `ok` or the refusal's; `passed` people are booked."""

    nonce: str
    code: str
    passed: int
    remaining: int = 0
    product_class: str = ""
    text: RefusalText = words(OK)


class NotBooked(Exception):
    """Not known to be on disk; the phone keeps it and says it again."""


class AttendantLane:
    """The actor of one lane of kind `attendant`. Its phones speak to it through `actors.phones`."""

    def __init__(self, config: LaneConfig, parts: LaneParts) -> None:
        self._config = config
        self._parts = parts
        self._mode = config.mode
        self._face = Face(config, "phone", parts)
        self._incident: int | None = None
        self._released_at = 0.0

    def refuses(self, direction: Direction = Direction.ENTRY) -> str:
        """The code with which the lane refuses everybody this way now, or an empty string. For people to look at."""
        return self._face.refuses(direction)

    async def run(self, me: Address) -> None:
        self._show()
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, REQUESTS_MAX, LaneCommandRefused)
            nursery.start_soon(self._ask_today)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Release(incident=incident):
                        if self._incident is None:
                            self._released_at = time.time()
                        self._incident = incident
                        self._show()
                        self._acknowledge()
                    case Restore(incident=incident):
                        if self._incident == incident:
                            self._incident = None
                            self._show()
                    case PhoneAsk() | PhoneSaid() | OpenLane():
                        slots.attend(envelope, self._serve)
                    case SetLaneMode() as order:
                        self._on_mode(order, envelope)
                    case PauseLane():
                        envelope.fail(no_batch())
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _serve(self, envelope: Envelope) -> PhoneAnswer | None:
        message: PhoneAsk | PhoneSaid | OpenLane = envelope.msg
        try:
            if isinstance(message, PhoneAsk):
                return await self._ask(message, envelope.trace)
            if isinstance(message, PhoneSaid):
                return await self._said(message, envelope.trace)
            await self._open(message)
        except NotBooked as exc:
            raise _unavailable() from exc
        return None

    # --- a scan, with the server there --------------------------------------------------------------------------

    async def _ask(self, ask: PhoneAsk, trace: str) -> PhoneAnswer:
        """Decide, and book everybody who is let in. Raises NotBooked when it is not known to be on disk."""
        record, direction = ask.record, Direction(ask.record.direction)
        refused = self._closed_to(direction)
        if refused:
            return self._refuse(record, refused)
        try:
            answer = await self._decide(record, ask.pax, trace)
        except NotBooked:
            self._face.answered("unavailable", trace=trace)
            raise
        if isinstance(answer, Denied):
            text = say(answer, self._parts.gates)
            self._face.answered(answer.code, text, trace)
            return PhoneAnswer(nonce=record.nonce, code=answer.code, passed=0, text=text)
        if self._incident is not None and answer.state is GrantState.OPEN:  # released meanwhile: nothing is used up
            await self._end(answer, record, answer.passed, EndReason.EMERGENCY)
            self._face.answered("emergency_go", trace=trace)
            return PhoneAnswer(
                nonce=record.nonce, code="emergency_go", passed=answer.passed, text=words("emergency_go")
            )
        passed = await self._let_in(answer, record)
        self._face.answered(OK, trace=trace, product_class=answer.product_class)
        return PhoneAnswer(
            nonce=record.nonce,
            code=OK,
            passed=passed,
            remaining=answer.remaining,
            product_class=answer.product_class,
        )

    def _closed_to(self, direction: Direction) -> str:
        if self._incident is not None:
            return "emergency_go"
        return "" if takes(self._mode, direction) else "lane_closed"

    def _refuse(self, record: PhoneRecord, code: str) -> PhoneAnswer:
        """Refuse without asking anybody, and leave a line in the log of scans."""
        self._face.answered(code)
        line = RefusedScan(
            lane=self._config.lane,
            device=self._config.device,
            nonce=record.nonce,
            kind=credential(record.code).kind,
            credential_hash=self._parts.stored(credential(record.code)),
            code=code,
            at=record.at,
        )
        offer(self._parts.books, line)
        return PhoneAnswer(nonce=record.nonce, code=code, passed=0, text=words(code))

    # --- what a phone did alone -----------------------------------------------------------------------------------

    async def _said(self, said: PhoneSaid, trace: str) -> PhoneAnswer:
        """Book what happened. Raises NotBooked when it is not known to be on disk."""
        record = said.record
        emergency = self._incident is not None and record.at >= self._released_at
        if not record.code:
            await self._count(record, PassageKind.EMERGENCY if emergency else PassageKind.FREE, 1, record.pax)
            return PhoneAnswer(nonce=record.nonce, code=OK, passed=record.pax)
        if emergency:  # nothing is used up while the site is released; who came in is counted
            await self._count(record, PassageKind.EMERGENCY, 1, record.pax)
            return PhoneAnswer(nonce=record.nonce, code=OK, passed=record.pax)
        answer = await self._decide(record, record.pax, trace)
        if isinstance(answer, Denied):
            self._conflict(record, said.by, answer)
            await self._count(record, PassageKind.FREE, 1, record.pax)
            return PhoneAnswer(nonce=record.nonce, code=answer.code, passed=record.pax, text=words(answer.code))
        passed = await self._let_in(answer, record)
        if passed < record.pax:  # the ticket was for fewer than the phone let in
            self._conflict(record, said.by, Denied(nonce=record.nonce, code="already_used"))
            await self._count(record, PassageKind.FREE, passed + 1, record.pax)
        return PhoneAnswer(
            nonce=record.nonce,
            code=OK,
            passed=record.pax,
            remaining=answer.remaining,
            product_class=answer.product_class,
        )

    def _conflict(self, record: PhoneRecord, by: str, denied: Denied) -> None:
        """People have to look: somebody passed on a ticket that the ledger would have refused."""
        used = "" if denied.used_at is None else f"; last used at {denied.lane_of_use} {_when(denied.used_at)}"
        detail = f"…{record.code[-6:]} for {record.pax} at {_when(record.at)} by {by}: {denied.code}{used}"
        case = OpenCase(
            key=f"{OFFLINE}:{self._config.device}:{record.nonce}",
            kind=OFFLINE,
            lane=self._config.lane,
            severity="warning",
            detail=detail[:200],
            at=record.at,
        )
        if not offer(self._parts.books, case):
            raise NotBooked  # the phone says it again, and the case with it
        text = words(denied.code)
        zh, en = f"离线放行与账目冲突：{text.staff_zh}", f"Let in offline, but the books say: {text.staff_en}"
        self._face.feed("case", "warning", denied.code, zh, en)

    # --- the ledger -------------------------------------------------------------------------------------------------

    async def _decide(self, record: PhoneRecord, pax: int | None, trace: str) -> Granted | Denied:
        direction = Direction(record.direction)
        from_zone, to_zone = zones_of(self._config, direction)
        scan = Scan(
            lane=self._config.lane,
            device=self._config.device,
            nonce=record.nonce,
            credential=credential(record.code),
            at=record.at,
            direction=direction,
            pax=pax,
        )
        question = Decide(
            scan=scan,
            from_zone=from_zone,
            to_zone=to_zone,
            max_pax=self._config.max_group,
            ttl_s=self._config.grant_ttl_s,
            lane_class=self._config.class_,
        )
        try:
            answer = await self._parts.admission.ask(question, DECIDE_S, trace=trace)
        except (ActorError, LedgerError) as exc:
            raise NotBooked from exc
        if isinstance(answer, Denied) and answer.code == "unavailable":
            raise NotBooked
        assert isinstance(answer, Granted | Denied)
        return answer

    async def _let_in(self, granted: Granted, record: PhoneRecord) -> int:
        """Book those of a grant who are not booked yet, and its end. Returns how many passed on it in all."""
        if granted.state in (GrantState.OPEN, GrantState.UNRESOLVED):
            await self._count(record, PassageKind.GRANTED, granted.passed + 1, granted.pax, granted.grant)
            await self._end(granted, record, granted.pax, EndReason.COMPLETE)
            return granted.pax
        return granted.passed

    async def _count(
        self, record: PhoneRecord, kind: PassageKind, first: int, last: int, grant: int | None = None
    ) -> None:
        """Book the people `first` to `last` of one record, all at once. A person who is booked is not booked again."""
        answers: list[Booked | None] = []
        async with trio.open_nursery() as nursery:
            for number in range(first, last + 1):
                nursery.start_soon(self._book, self._passed(record, kind, number, grant), answers)
        if None in answers:
            raise NotBooked
        for booked in answers:
            if booked is not None and not booked.repeated:
                self._face.counted(booked.direction)

    def _passed(self, record: PhoneRecord, kind: PassageKind, number: int, grant: int | None) -> Passed:
        direction = Direction(record.direction)
        from_zone, to_zone = zones_of(self._config, direction)
        return Passed(
            lane=self._config.lane,
            device=self._config.device,
            boot=record.nonce,
            seq=number,
            direction=direction,
            kind=kind,
            grant=grant,
            from_zone=from_zone,
            to_zone=to_zone,
            # nobody passes on a grant before it is given, and this one is given now, whenever the phone saw them
            at=record.at if grant is None else max(record.at, time.time() - GRANTED_S),
        )

    async def _book(self, passed: Passed, answers: list[Booked | None]) -> None:
        try:
            answers.append(await self._parts.books.ask(passed, BOOK_S))
        except (ActorError, LedgerError):
            answers.append(None)

    async def _end(self, granted: Granted, record: PhoneRecord, passed: int, why: EndReason) -> None:
        ended = Ended(
            lane=self._config.lane,
            device=self._config.device,
            grant=granted.grant,
            nonce=record.nonce,
            passed=passed,
            why=why,
            at=record.at,
        )
        try:
            await self._parts.books.ask(ended, BOOK_S)
        except (ActorError, LedgerError) as exc:
            raise NotBooked from exc

    # --- people's commands ------------------------------------------------------------------------------------------

    async def _open(self, order: OpenLane) -> None:
        """Let people in without a ticket: they are booked as staff's doing."""
        check_open(order)
        if self._incident is not None:
            raise LaneCommandRefused("released", "The lane is released", "通道处于疏散状态")
        record = PhoneRecord(nonce=f"manual-{new_id()}", at=time.time())
        await self._count(record, PassageKind.STAFF, 1, order.pax)
        self._face.opened_by_hand(order.by, order.pax)

    def _on_mode(self, order: SetLaneMode, envelope: Envelope) -> None:
        try:
            check_mode(order)
            if self._incident is not None:
                raise LaneCommandRefused("released", "The lane is released", "通道处于疏散状态")
        except LaneCommandRefused as exc:
            envelope.fail(exc)
            return
        self._mode = order.mode
        self._show()
        self._face.mode_set(order.by, order.mode)
        envelope.reply(None)

    # --- what is shown ------------------------------------------------------------------------------------------

    async def _ask_today(self) -> None:
        """What passed here today, as soon as the ledger can say."""
        question = LaneLedger(lane=self._config.lane, device=self._config.device, epoch=None)
        while True:
            try:
                books: LaneBooks = await self._parts.books.ask(question, BOOK_S)
            except (ActorError, LedgerError):
                await trio.sleep(BOOK_S)
            else:
                self._face.show(entries=books.entries_today, exits=books.exits_today)
                return

    def _acknowledge(self) -> None:
        assert self._incident is not None
        ack = ReleaseAck(
            lane=self._config.lane,
            incident=self._incident,
            barrier=Barrier.RELEASED.value,
            sensed_open=True,  # there is nothing that could be shut
            at=time.time(),
        )
        offer(self._parts.evacuation, ack)

    def _show(self) -> None:
        released = self._incident is not None
        self._face.show(
            state="released" if released else "idle",
            available=True,
            barrier=Barrier.RELEASED.value if released else Barrier.OPEN.value,
            mode=(LaneMode.EMERGENCY_RELEASED if released else self._mode).value,
        )


def credential(text: str) -> Credential:
    """What a phone's camera or keyboard read. A card says so itself; ten characters are a short code."""
    text = text.strip()
    if text.upper().startswith(CARD_PREFIX):
        return Credential(CredentialKind.CARD, text[len(CARD_PREFIX) :])
    if not text.startswith(CODE_PREFIX) and looks_short(text):
        return Credential(CredentialKind.SHORT, text)
    return Credential(CredentialKind.CODE, text)


def _when(at: float) -> str:
    return time.strftime("%m-%d %H:%MZ", time.gmtime(at))


def _unavailable() -> LaneCommandRefused:
    text = words("unavailable")
    return LaneCommandRefused("unavailable", text.visitor_en, text.visitor_zh)
