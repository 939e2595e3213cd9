"""A lane where an attendant stands, in virtual time: what is asked, booked and said, and what a release changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from actors.attendant import AttendantLane, PhoneAnswer, PhoneAsk, PhoneSaid, credential
from actors.errors import CommandRefused
from actors.lane import LaneParts, OpenLane, SetLaneMode
from actors.testing import alive, granted, heard, lane_config, only, settle
from core import Address, Stop
from core.testing import Probe
from protocols.console import LaneView
from protocols.messages import (
    Base,
    Booked,
    CredentialKind,
    Decide,
    Denied,
    Ended,
    EndReason,
    GrantState,
    LaneMode,
    PassageKind,
    Passed,
    Release,
    ReleaseAck,
    Restore,
    Settled,
)
from protocols.phone import PhoneRecord
from storage.interfaces import LedgerUnavailable, OpenCase, RefusedScan

ASK_S = 30.0
CODE = "PF1:" + "0" * 134


class Books:
    """Admission and ledger in one: answers by a table, remembers what was said."""

    def __init__(self) -> None:
        self.address = Address("books", capacity=512)
        self.decides: Callable[[Decide], Any] = lambda question: granted(question.scan.nonce, grant=5)
        self.said: list[Any] = []
        self.down = False
        self.booked: set[tuple[str, int]] = set()

    async def run(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            message = envelope.msg
            if isinstance(message, Stop):
                return
            if self.down:
                envelope.fail(LedgerUnavailable("down"))
                continue
            self.said.append(message)
            match message:
                case Decide():
                    envelope.reply(self.decides(message))
                case Passed():
                    repeated = (message.boot, message.seq) in self.booked
                    self.booked.add((message.boot, message.seq))
                    envelope.reply(
                        Booked(
                            device=message.device, boot=message.boot, seq=message.seq, direction=message.direction,
                            kind=message.kind, repeated=repeated,
                        )
                    )
                case Ended():
                    envelope.reply(
                        Settled(grant=message.grant, nonce=message.nonce, passed=message.passed, repeated=False)
                    )

    def of(self, *kinds: type[Base]) -> list[Any]:
        return [message for message in self.said if isinstance(message, kinds)]


class Rig:
    def __init__(self) -> None:
        self.books = Books()
        self.hub, self.evacuation = Probe("hub", capacity=512), Probe("evacuation")
        parts = LaneParts(
            admission=self.books.address,
            books=self.books.address,
            evacuation=self.evacuation,
            occupancy=Probe("occupancy", capacity=512),
            hub=self.hub,
        )
        self.lane = Address("lane/hand", capacity=64)
        config = msgspec.structs.replace(lane_config(), kind="attendant", device="phone/g1")
        self.actor = AttendantLane(config, parts)

    async def ask(self, nonce: str = "nonce-1", pax: int | None = None) -> PhoneAnswer:
        record = PhoneRecord(nonce=nonce, at=100.0, code=CODE, pax=pax or 1)
        return await self.lane.ask(PhoneAsk(record=record, pax=pax, by="ann"), ASK_S)

    async def said(self, nonce: str = "nonce-1", *, code: str = CODE, pax: int = 1) -> PhoneAnswer:
        record = PhoneRecord(nonce=nonce, at=100.0, code=code, pax=pax)
        return await self.lane.ask(PhoneSaid(record=record, by="ann"), ASK_S)


@asynccontextmanager
async def attendant() -> AsyncIterator[Rig]:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.books.run, rig.books.address)
        async with alive(rig.actor.run, rig.lane):
            await trio.sleep(0.01)
            rig.books.said.clear()
            yield rig
        nursery.cancel_scope.cancel()


async def test_who_is_let_in_is_booked_before_the_phone_hears_of_it(autojump_clock: object) -> None:
    async with attendant() as rig:
        rig.books.decides = lambda question: granted(question.scan.nonce, grant=5, pax=3)
        answer = await rig.ask(pax=3)
        assert (answer.code, answer.passed) == ("ok", 3)
        assert [type(each).__name__ for each in rig.books.said] == ["Decide", "Passed", "Passed", "Passed", "Ended"]
        assert sorted(each.seq for each in rig.books.of(Passed)) == [1, 2, 3]
        assert {(each.boot, each.grant, each.device) for each in rig.books.of(Passed)} == {("nonce-1", 5, "phone/g1")}
        (ended,) = rig.books.of(Ended)
        assert (ended.passed, ended.why) == (3, EndReason.COMPLETE)


async def test_a_grant_that_was_half_booked_before_a_crash_goes_on_where_it_stands(autojump_clock: object) -> None:
    async with attendant() as rig:
        rig.books.decides = lambda question: granted(question.scan.nonce, grant=5, pax=3, passed=2, fresh=False)
        assert (await rig.ask()).passed == 3
        assert [each.seq for each in rig.books.of(Passed)] == [3]
        rig.books.said.clear()
        rig.books.decides = lambda question: granted(
            question.scan.nonce, grant=5, pax=3, passed=3, state=GrantState.COMMITTED, fresh=False
        )
        assert (await rig.ask()).passed == 3
        assert rig.books.of(Passed, Ended) == []


async def test_without_the_ledger_the_phone_is_told_so_and_nothing_is_shown_as_done(autojump_clock: object) -> None:
    async with attendant() as rig:
        rig.books.down = True
        with pytest.raises(CommandRefused) as refused:
            await rig.ask()
        assert refused.value.code == "unavailable"
        with pytest.raises(CommandRefused):
            await rig.said()


async def test_a_closed_lane_asks_nobody(autojump_clock: object) -> None:
    async with attendant() as rig:
        await rig.lane.ask(SetLaneMode(mode=LaneMode.CLOSED, reason="lunch", by="ann"), ASK_S)
        assert (await rig.ask()).code == "lane_closed"
        await settle()
        assert rig.books.of(Decide) == []
        assert [each.code for each in rig.books.of(RefusedScan)] == ["lane_closed"]


async def test_what_the_ledger_refuses_afterwards_stands_with_a_case_said_twice_as_once(autojump_clock: object) -> None:
    async with attendant() as rig:
        rig.books.decides = lambda question: Denied(
            nonce=question.scan.nonce, code="already_used", lane_of_use="s1", used_at=50.0
        )
        for _ in range(2):
            answer = await rig.said(pax=2)
            assert (answer.code, answer.passed) == ("already_used", 2)
        assert {each.kind for each in rig.books.of(Passed)} == {PassageKind.FREE}
        assert len(rig.books.booked) == 2
        cases = rig.books.of(OpenCase)
        assert {each.key for each in cases} == {"offline_conflict:phone/g1:nonce-1"}
        assert "s1" in cases[0].detail
        assert CODE not in cases[0].detail


async def test_more_than_the_ticket_allows_pass_with_a_case_for_the_rest(autojump_clock: object) -> None:
    async with attendant() as rig:
        rig.books.decides = lambda question: granted(question.scan.nonce, grant=5, pax=1)
        await rig.said(pax=3)
        kinds = sorted((each.seq, each.kind) for each in rig.books.of(Passed))
        assert kinds == [(1, PassageKind.GRANTED), (2, PassageKind.FREE), (3, PassageKind.FREE)]
        assert len(rig.books.of(OpenCase)) == 1


async def test_a_release_is_acknowledged_at_once_and_nothing_is_used_up_until_the_restore(
    autojump_clock: object,
) -> None:
    async with attendant() as rig:
        rig.lane.tell(Release(incident=7), system=True)
        await trio.sleep(0.01)
        (ack,) = only(await heard(rig.evacuation), ReleaseAck)
        assert (ack.incident, ack.sensed_open) == (7, True)
        assert only(await heard(rig.hub), LaneView)[-1].state == "released"
        assert (await rig.ask()).code == "emergency_go"
        for order in (OpenLane(pax=1, reason="x", by="ann"), SetLaneMode(mode=LaneMode.CLOSED, reason="x", by="ann")):
            with pytest.raises(CommandRefused) as refused:
                await rig.lane.ask(order, ASK_S)
            assert refused.value.code == "released"
        assert rig.books.of(Decide, Passed) == []
        rig.lane.tell(Restore(incident=7))
        assert (await rig.ask()).code == "ok"


async def test_a_grant_that_comes_after_the_release_is_given_back(autojump_clock: object) -> None:
    async with attendant() as rig:

        def decide(question: Decide) -> Any:
            rig.lane.tell(Release(incident=7), system=True)
            return granted(question.scan.nonce, grant=5)

        rig.books.decides = decide
        answer = await rig.ask()
        if answer.code == "emergency_go":  # the release was read first
            assert rig.books.of(Passed) == []
            assert [each.why for each in rig.books.of(Ended)] == [EndReason.EMERGENCY]
        else:  # the person had passed first
            assert [each.kind for each in rig.books.of(Passed)] == [PassageKind.GRANTED]


def test_what_was_read_is_a_code_a_card_or_typed() -> None:
    assert credential(CODE).kind is CredentialKind.CODE
    assert credential("CARD:A-1").kind is CredentialKind.CARD
    assert credential("nonsense").kind is CredentialKind.CODE
