"""What phones ask: scans and counts for the lanes that attendants stand at, their list, and a manager's figures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from datetime import time as clock_time
from zoneinfo import ZoneInfo

import msgspec
import trio

from actors._asked import Slots
from actors._common import offer
from actors.attendant import PhoneAnswer, PhoneAsk, PhoneSaid
from actors.errors import CommandRefused
from core import ActorError, Address, Envelope, Stop
from protocols.clock import business_day, business_day_start
from protocols.console import CalibrateZone, Done
from protocols.phone import (
    MARK_BYTES,
    DayFigures,
    Figures,
    GetFigures,
    GetPhoneList,
    LaneFigures,
    PhoneBooked,
    PhoneCount,
    PhoneKey,
    PhoneList,
    PhoneRecord,
    PhoneScan,
    PhoneUpload,
    PhoneUploaded,
    PhoneVerdict,
    StubCount,
    StubsBooked,
)
from storage.interfaces import AuditEntry, Blocked, BlockedTickets, SiteFigures, SpanFigures

COMMANDS_MAX = 64  # under way at once, of all phones
LANE_S = 8.0  # a decision and the booking of a group
UPLOAD_S = 8.0  # records that are not done by then are sent again
LEDGER_S = 4.0
ZONES_S = 4.0
DAY_S = 86_400.0
VALID_BACK_S = DAY_S  # tickets that ended so long ago need not be on a list: their code says that they ended
SCAN_MAX_S = 3600.0  # an upload may say that its clock is ahead by this; what is further ahead is refused

Request = PhoneScan | PhoneUpload | PhoneCount | StubCount | GetPhoneList | GetFigures


class PhoneLane(msgspec.Struct, frozen=True, kw_only=True):
    """A lane that phones may stand for."""

    address: Address
    to_zone: str
    zone_bit: int
    max_group: int


class PhoneSite(msgspec.Struct, frozen=True, kw_only=True):
    """What phones are told of the site. `alone`: product classes (numbers of ticket codes) that need no server."""

    site: str
    timezone: ZoneInfo
    day_start: clock_time
    keys: Mapping[int, bytes]
    alone: Sequence[int]
    lane_names: Mapping[str, str]


def mark(site: str, ticket: int) -> bytes:
    """The mark of a ticket on a phone's list."""
    return hashlib.sha256(f"{site}:{ticket}".encode()).digest()[:MARK_BYTES]


class Phones:
    """The actor behind `phone.*` and `site.figures`. `zones` takes corrections of counts, by its own rules."""

    def __init__(
        self,
        *,
        site: PhoneSite,
        lanes: Mapping[str, PhoneLane],
        ledger: Address,
        zones: Address,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._site = site
        self._lanes = lanes
        self._ledger = ledger
        self._zones = zones
        self._clock = clock

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, COMMANDS_MAX)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case (
                        PhoneScan() | PhoneUpload() | PhoneCount() | StubCount() | GetPhoneList() | GetFigures()
                    ):
                        slots.attend(envelope, self._answer)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _answer(self, envelope: Envelope) -> object:
        request: Request = envelope.msg
        trace = envelope.trace
        match request:
            case PhoneScan():
                return await self._scan(request, trace)
            case PhoneUpload():
                return await self._upload(request, trace)
            case PhoneCount():
                return await self._count(request, trace)
            case StubCount():
                return await self._stubs(request, trace)
            case GetPhoneList():
                return await self._list(request)
            case GetFigures():
                return await self._figures()

    def _lane(self, name: str) -> PhoneLane:
        lane = self._lanes.get(name)
        if lane is None:
            raise CommandRefused("unknown_lane", f"No attendant stands at a lane {name}", "没有此手持检票通道")
        return lane

    # --- scans and counts -------------------------------------------------------------------------------------------

    async def _scan(self, scan: PhoneScan, trace: str) -> PhoneVerdict:
        lane = self._lane(scan.lane)
        record = PhoneRecord(
            nonce=scan.nonce, at=self._clock(), pax=scan.pax or 1, code=scan.code, direction=scan.direction
        )
        ask = PhoneAsk(record=record, pax=scan.pax, by=scan.by)
        answer: PhoneAnswer = await lane.address.ask(ask, LANE_S, trace=trace)
        text = answer.text
        return PhoneVerdict(
            nonce=scan.nonce,
            code=answer.code,
            admitted=answer.code == "ok",
            pax=answer.passed,
            remaining=answer.remaining,
            product_class=answer.product_class,
            text_zh=text.visitor_zh,
            text_en=text.visitor_en,
            staff_zh=text.staff_zh,
            staff_en=text.staff_en,
        )

    async def _upload(self, upload: PhoneUpload, trace: str) -> PhoneUploaded:
        """One record after the other; those that were not reached in time, or fail, stay with the phone."""
        lane = self._lane(upload.lane)
        booked: list[PhoneBooked] = []
        conflicts = 0
        with trio.move_on_after(UPLOAD_S):
            for record in upload.records:
                at = min(record.at, self._clock()) if record.at < self._clock() + SCAN_MAX_S else self._clock()
                said = PhoneSaid(record=msgspec.structs.replace(record, at=at), by=upload.by)
                try:
                    answer: PhoneAnswer = await lane.address.ask(said, LANE_S, trace=trace)
                except (CommandRefused, ActorError):
                    break
                conflict = "" if answer.code == "ok" else answer.code
                conflicts += bool(conflict)
                booked.append(PhoneBooked(nonce=record.nonce, passed=answer.passed, conflict=conflict))
        if not booked:
            raise CommandRefused("unavailable", "Nothing could be written down; it stays on the phone", "暂时无法上传")
        detail = f"{upload.lane}: {len(booked)} records, {conflicts} conflicts"
        self._record(upload.by, "phone.upload", detail, "")
        return PhoneUploaded(booked=booked)

    async def _count(self, count: PhoneCount, trace: str) -> Done:
        lane = self._lane(count.lane)
        record = PhoneRecord(nonce=count.nonce, at=self._clock(), pax=count.people, direction=count.direction)
        await lane.address.ask(PhoneSaid(record=record, by=count.by), LANE_S, trace=trace)
        self._record(count.by, "phone.count", f"{count.lane}: {count.people} {count.direction}", "")
        return Done(detail=f"{count.people}")

    async def _stubs(self, stubs: StubCount, trace: str) -> StubsBooked:
        """Stubs that nobody was counted for are people who came in all the same, and the reverse."""
        lane = self._lane(stubs.lane)
        difference = stubs.stubs - stubs.counted
        reason = stubs.reason.strip() or "direct check: stubs counted"
        detail = f"{stubs.lane}: {stubs.stubs} stubs, {stubs.counted} counted"
        if not difference:
            self._record(stubs.by, "phone.stubs", detail, reason)
            return StubsBooked(difference=0, state="same")
        order = CalibrateZone(
            zone=lane.to_zone, delta=difference, reason=reason, key=f"stubs-{stubs.key}"[:64], by=stubs.by
        )
        done: Done = await self._zones.ask(order, ZONES_S, trace=trace)
        self._record(stubs.by, "phone.stubs", detail, reason)
        waiting = "second person" in done.detail
        return StubsBooked(difference=difference, state="waiting" if waiting else "booked", detail=done.detail)

    def _record(self, user: str, action: str, subject: str, reason: str) -> None:
        entry = AuditEntry(
            user=user, role="", action=action, subject=subject, reason=reason, at=self._clock()
        )
        offer(self._ledger, entry)

    # --- the list ---------------------------------------------------------------------------------------------------

    async def _list(self, request: GetPhoneList) -> PhoneList:
        lane, now = self._lane(request.lane), self._clock()
        question = BlockedTickets(
            zone=lane.to_zone, after=request.after, since=request.since, valid_at=now - VALID_BACK_S
        )
        page: Blocked = await self._ledger.ask(question, LEDGER_S)
        site = self._site
        return PhoneList(
            made_at=now,
            site=site.site,
            zone_bit=lane.zone_bit,
            keys=[PhoneKey(key_id=key, public=public) for key, public in site.keys.items()],
            alone=list(site.alone),
            max_group=lane.max_group,
            marks=b"".join(mark(site.site, ticket) for ticket in page.tickets),
            next=page.next,
        )

    # --- figures ----------------------------------------------------------------------------------------------------

    async def _figures(self) -> Figures:
        now = self._clock()
        site = self._site
        today = business_day(now, site.timezone, site.day_start)
        begin = business_day_start(now, site.timezone, site.day_start)
        before = business_day_start(begin - DAY_S / 2, site.timezone, site.day_start)
        spans = [(begin, now), (before, min(begin, before + (now - begin))), (before, begin)]
        found: SpanFigures = await self._ledger.ask(SiteFigures(spans=spans, lanes_since=begin), LEDGER_S)
        days = [today, today - timedelta(days=1), today - timedelta(days=1)]
        rows = [_day(day, row) for day, row in zip(days, found.spans, strict=True)]
        by_lane = {lane: (entries, exits) for lane, entries, exits in found.lanes}
        lanes = [
            LaneFigures(lane=lane, name=name, entries=by_lane.get(lane, (0, 0))[0], exits=by_lane.get(lane, (0, 0))[1])
            for lane, name in site.lane_names.items()
        ]
        return Figures(
            at=now, inside=found.inside, today=rows[0], yesterday=rows[1], yesterday_all=rows[2], lanes=lanes
        )


def _day(day: date, row: msgspec.Struct) -> DayFigures:
    return DayFigures(day=day.isoformat(), **msgspec.structs.asdict(row))
