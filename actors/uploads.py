"""The actor that takes the journals of lane controllers (`protocols.uploads`) and has the ledger book them.

It answers how far a journal is on disk, never more.  A record that the ledger refuses becomes a case by itself, so that
nothing behind it waits for ever; a ledger that is away is `unavailable`, and the lane repeats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec
import structlog
import trio

from actors.lists import LaneCall
from core import ActorError, Address, Envelope, Stop
from protocols import devicelink as link
from storage.interfaces import LedgerError, LedgerRefused, UploadBooked, UploadOp

UNDER_WAY_MAX = 32  # uploads at once; one for each device
LEDGER_S = 1.5  # a little less than the link's own answer deadline

log = structlog.get_logger(__name__)


class LanePlace(msgspec.Struct, frozen=True):
    """Where a lane leads and how long its grants are good for, as the site file says."""

    from_zone: str
    to_zone: str
    ttl_s: float
    lane_class: str = ""


class UploadStatistics(msgspec.Struct, frozen=True):
    """Since the start of the actor."""

    records: int  # acknowledged
    conflicts: int  # people for whom there was no right
    given_up: int  # records that became a case because they could not be booked
    refused: int  # uploads that are none, or came too many at once


class Uploads:
    """Child of `business`. `lanes` are those of the site file; `clock` is seconds since the epoch."""

    def __init__(
        self, *, lanes: Mapping[str, LanePlace], ledger: Address, clock: Callable[[], float] = time.time
    ) -> None:
        self._lanes = lanes
        self._ledger = ledger
        self._clock = clock
        self._under_way: set[str] = set()  # devices
        self._records = self._conflicts = self._given_up = self._refused = 0

    def statistics(self) -> UploadStatistics:
        return UploadStatistics(self._records, self._conflicts, self._given_up, self._refused)

    async def run(self, me: Address) -> None:
        self._under_way.clear()
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case LaneCall(lane=lane, request=link.Upload() as request):
                        self._on_upload(envelope, lane, request, nursery)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    def _on_upload(self, envelope: Envelope, lane: str, request: link.Upload, nursery: trio.Nursery) -> None:
        place = self._lanes.get(lane)
        first = request.records[0].seq if request.records else 1
        in_order = all(record.seq == first + number for number, record in enumerate(request.records))
        if place is None or not in_order:
            self._refuse(envelope, "bad_message", "records count up by one" if place else "there is no such lane")
        elif request.device in self._under_way or len(self._under_way) >= UNDER_WAY_MAX:
            self._refuse(envelope, "too_many", "an upload is being booked; repeat")
        else:
            self._under_way.add(request.device)
            nursery.start_soon(self._book, envelope, lane, place, request)

    async def _book(self, envelope: Envelope, lane: str, place: LanePlace, request: link.Upload) -> None:
        op = UploadOp(
            lane=lane,
            device=request.device,
            journal=request.journal,
            oldest=request.oldest,
            records=request.records,
            from_zone=place.from_zone,
            to_zone=place.to_zone,
            ttl_s=place.ttl_s,
            lane_class=place.lane_class,
            offset_s=self._clock() - request.at,
        )
        try:
            booked = await self._ask(op)
        except (ActorError, LedgerError) as exc:
            self._refuse(envelope, "unavailable", "the upload is not known to be on disk; repeat")
            log.info("upload.unavailable", lane=lane, error=repr(exc)[:200])
        else:
            self._records += len(request.records)
            self._conflicts += booked.conflicts
            if booked.conflicts:
                log.warning("upload.conflicts", lane=lane, people=booked.conflicts)
            reply = link.UploadAck(
                seq=request.seq, server_at=self._clock(), journal=request.journal, upto=booked.upto
            )
            envelope.reply(reply)
        finally:
            self._under_way.discard(request.device)

    async def _ask(self, op: UploadOp) -> UploadBooked:
        """Book it, or the first record of it alone, or, if the ledger will not have that one, the case that says so."""
        try:
            return await self._told(op)
        except LedgerRefused as exc:
            if len(op.records) > 1:
                return await self._ask(msgspec.structs.replace(op, records=op.records[: len(op.records) // 2]))
            if not op.records:
                raise
            self._given_up += 1
            log.warning("upload.given_up", lane=op.lane, record=op.records[0].seq, error=str(exc)[:200])
            return await self._told(msgspec.structs.replace(op, give_up=str(exc)[:120] or "refused"))

    async def _told(self, op: UploadOp) -> UploadBooked:
        booked: UploadBooked = await self._ledger.ask(op, LEDGER_S)
        return booked

    def _refuse(self, envelope: Envelope, code: str, text: str) -> None:
        self._refused += code != "unavailable"
        seq = envelope.msg.request.seq
        envelope.reply(link.Refused(seq=seq, server_at=self._clock(), code=code, text=text))
