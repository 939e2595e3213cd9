"""The actor of the uploads: acknowledges what is on disk, gives no journal up for one bad record, refuses floods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from actors.lists import LaneCall
from actors.uploads import LanePlace, Uploads
from core import Address, Child, Stop, Supervisor
from core.testing import running
from protocols import devicelink as link
from protocols.uploads import RecAlarm, Record
from storage.interfaces import LedgerRefused, LedgerUnavailable, UploadBooked, UploadOp

NOW = 1_700_000_000.0


class FakeLedger:
    """Books what `judge` lets it."""

    def __init__(self) -> None:
        self.address = Address("ledger", capacity=256)
        self.ops: list[UploadOp] = []
        self.judge: Callable[[UploadOp], Exception | None] = lambda op: None
        self.takes_s = 0.01

    async def run(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            if isinstance(envelope.msg, Stop):
                return
            op = envelope.msg
            await trio.sleep(self.takes_s)
            self.ops.append(op)
            error = self.judge(op)
            if error is not None:
                envelope.fail(error)
            else:
                upto = op.records[0].seq if op.give_up else op.records[-1].seq if op.records else 0
                envelope.reply(UploadBooked(journal=op.journal, upto=upto))


@asynccontextmanager
async def _actor() -> AsyncIterator[tuple[FakeLedger, Uploads, Address]]:
    ledger = FakeLedger()
    lanes = {"lane1": LanePlace("outside", "park", 5.0, "vip"), "lane2": LanePlace("outside", "park", 5.0)}
    actor = Uploads(lanes=lanes, ledger=ledger.address, clock=lambda: NOW)
    address = Address("uploads", capacity=256)
    async with running(Supervisor("test", [Child(ledger.address, ledger.run), Child(address, actor.run)])):
        yield ledger, actor, address


def _call(*seqs: int, device: str = "host1", lane: str = "lane1", at: float = NOW) -> LaneCall:
    records = [Record(seq=seq, at=at, body=RecAlarm(kind="x")) for seq in seqs]
    request = link.Upload(device=device, boot="b", seq=7, at=at, journal="j", oldest=1, records=records)
    return LaneCall(lane=lane, request=request)


async def test_an_upload_is_booked_with_its_lanes_zones_and_its_clocks_offset(autojump_clock: object) -> None:
    async with _actor() as (ledger, actor, address):
        reply = await address.ask(_call(1, 2, 3, at=NOW - 1200.0), 2.0)
        assert reply == link.UploadAck(seq=7, server_at=NOW, journal="j", upto=3)
        (op,) = ledger.ops
        assert (op.lane, op.device, op.from_zone, op.to_zone, op.lane_class) == (
            "lane1", "host1", "outside", "park", "vip",
        )  # fmt: skip
        assert op.offset_s == 1200.0
        assert actor.statistics().records == 3


async def test_a_bad_record_becomes_a_case_and_the_others_are_booked(autojump_clock: object) -> None:
    async with _actor() as (ledger, actor, address):
        bad = 5

        def judge(op: UploadOp) -> Exception | None:
            has_it = any(record.seq == bad for record in op.records)
            return LedgerRefused("a constraint") if has_it and not op.give_up else None

        ledger.judge = judge
        upto = 0
        for _ in range(6):
            reply = await address.ask(_call(*range(upto + 1, 9)), 2.0)
            assert isinstance(reply, link.UploadAck)
            upto = reply.upto
            if upto == 8:
                break
        assert upto == 8
        assert [op.give_up for op in ledger.ops if op.give_up] == ["a constraint"]
        assert actor.statistics().given_up == 1


async def test_a_ledger_that_is_away_acknowledges_nothing(autojump_clock: object) -> None:
    async with _actor() as (ledger, _, address):
        ledger.judge = lambda op: LedgerUnavailable("away")
        reply = await address.ask(_call(1), 2.0)
        assert isinstance(reply, link.Refused)
        assert reply.code == "unavailable"
        ledger.judge = lambda op: None
        assert isinstance(await address.ask(_call(1), 2.0), link.UploadAck)


async def test_a_ledger_that_hangs_acknowledges_nothing(autojump_clock: object) -> None:
    async with _actor() as (ledger, _, address):
        ledger.takes_s = 60.0
        reply = await address.ask(_call(1), 5.0)
        assert isinstance(reply, link.Refused)
        assert reply.code == "unavailable"


async def test_one_upload_of_a_device_at_a_time(autojump_clock: object) -> None:
    async with _actor() as (_, actor, address), trio.open_nursery() as nursery:
        answers: list[Any] = []

        async def ask(device: str) -> None:
            answers.append(await address.ask(_call(1, device=device), 2.0))

        for device in ("host1", "host1", "host1", "host2"):
            nursery.start_soon(ask, device)
        await trio.sleep(1.0)
        codes = sorted(getattr(answer, "code", "ok") for answer in answers)
        assert codes == ["ok", "ok", "too_many", "too_many"]
        assert actor.statistics().refused == 2


async def test_records_that_do_not_count_up_or_of_no_lane_are_refused(autojump_clock: object) -> None:
    async with _actor() as (ledger, _, address):
        for call in (_call(1, 3), _call(2, 1), _call(1, 1), _call(1, lane="lane9")):
            reply = await address.ask(call, 2.0)
            assert isinstance(reply, link.Refused)
            assert reply.code == "bad_message"
        assert ledger.ops == []


async def test_an_empty_upload_asks_how_far_the_journal_is(autojump_clock: object) -> None:
    async with _actor() as (_, _, address):
        reply = await address.ask(_call(), 2.0)
        assert isinstance(reply, link.UploadAck)
        assert reply.upto == 0
