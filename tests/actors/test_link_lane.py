"""A lane behind the device link: what a smart gate asks, states and fetches, answered once it is true."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors.errors import CommandRefused
from actors.lane import LinkCall, OpenLane, SafetySeen, SetLaneMode
from actors.lane import _link as module
from actors.lane._link import UNSENSED_AFTER_S, Wake
from actors.testing import LinkRig, books, granted, heard, lane_config, link_lane, only, open_grant, settle
from core import ActorDown, Failed
from protocols import devicelink as link
from protocols.console import DeviceView, FeedEvent, LaneView
from protocols.messages import (
    AdoptRelease,
    Booked,
    CredentialKind,
    Decide,
    Denied,
    Direction,
    Ended,
    EndReason,
    GrantState,
    LaneMode,
    PassageKind,
    Passed,
    Rearm,
    Release,
    ReleaseAck,
    Restore,
    Settled,
    new_id,
)
from storage.interfaces import LaneLedger, LedgerRefused, LedgerUnavailable, OpenCase, RefusedScan

DEVICE, BOOT = "gate-g1", "b1"
ANSWER_S = 1.8  # the link's own patience
SHORT_S = 0.05


class Call:
    """One request of the device under way; `answer` is what it heard, None until then."""

    answer = None
    error = None


class Gate:
    """The device's end: asks like the link's actor does, each request in a task of its own."""

    def __init__(self, rig: LinkRig, nursery: trio.Nursery) -> None:
        self.rig = rig
        self.nursery = nursery
        self.seq = 0

    def header(self) -> dict:
        self.seq += 1
        return {"device": DEVICE, "boot": BOOT, "seq": self.seq, "at": 5.0}

    async def ask(self, request) -> Call:
        """Send, and let everybody do what they can; the answer may come later."""
        call = Call()

        async def wait() -> None:
            try:
                call.answer = await self.rig.lane.ask(LinkCall(request=request), ANSWER_S)
            except Exception as exc:
                call.error = exc

        self.nursery.start_soon(wait)
        await settle()
        return call

    async def scan(self, nonce: str = "n1", **fields) -> Call:
        fields = {"kind": "code", "value": f"code-{nonce}"} | fields
        return await self.ask(link.Scan(**self.header(), nonce=nonce, **fields))

    async def passes(self, **fields) -> Call:
        return await self.ask(link.Pass(**self.header(), **fields))

    async def ends(self, **fields) -> Call:
        return await self.ask(link.PassEnd(**self.header(), **fields))

    async def hello(self, **fields) -> Call:
        return await self.ask(link.Hello(**self.header(), firmware="1", **fields))

    async def fetch(self, *done: int) -> list[link.Command]:
        return (await self.ask(link.Fetch(**self.header(), done=list(done)))).answer.commands

    async def seen(self, barrier: str = "closed", *, released: bool = False, incident: int | None = None) -> None:
        self.rig.lane.tell(SafetySeen(barrier=barrier, released=released, incident=incident))
        await settle()


@asynccontextmanager
async def smart_gate(*, crashes: int = 0, **config):
    async with trio.open_nursery() as nursery, link_lane(crashes=crashes, config=lane_config(**config)) as rig:
        yield rig, Gate(rig, nursery)
        nursery.cancel_scope.cancel()


async def view(rig: LinkRig) -> LaneView:
    await heard(rig.hub)
    return rig.actor._face.view


def booked(passed: Passed, *, repeated: bool = False, **more: Any) -> Booked:
    return Booked(
        device=passed.device, boot=passed.boot, seq=passed.seq, direction=passed.direction, kind=passed.kind,
        repeated=repeated, **more,
    )  # fmt: skip


# --- scans ------------------------------------------------------------------------------------------------------


async def test_a_scan_is_asked_and_the_gate_hears_the_grant(autojump_clock):
    async with smart_gate() as (rig, gate):
        call = await gate.scan("n1", pax=3, kind="card", value="123", photo=b"jpeg")
        (question,) = await heard(rig.admission)
        assert isinstance(question, Decide) and question.counters is None
        assert question.scan.credential.kind is CredentialKind.CARD
        assert (question.scan.pax, question.scan.photo) == (3, b"jpeg")
        assert (question.scan.device, question.from_zone, question.to_zone) == (DEVICE, "outside", "park")
        assert call.answer is None, "not before it is on disk"
        rig.lane.tell(granted("n1", grant=7, pax=3))
        await settle()
        answer = call.answer
        assert isinstance(answer, link.Grant)
        assert (answer.seq, answer.nonce, answer.grant, answer.pax, answer.state) == (1, "n1", 7, 3, "open")
        assert answer.text_zh == "请通行"
        assert (await view(rig)).state == "granted"


async def test_a_refusal_reaches_the_gate_with_words_and_no_hint_about_others(autojump_clock):
    async with smart_gate() as (rig, gate):
        call = await gate.scan()
        rig.lane.tell(Denied(nonce="n1", code="already_used", lane_of_use="g9", used_at=0.0))
        await settle()
        assert isinstance(call.answer, link.Deny)
        assert (call.answer.code, call.answer.text_en) == ("already_used", "This ticket was used already")
        assert "g9" not in call.answer.text_zh + call.answer.text_en
        assert any("g9" in line.text_en for line in only(await heard(rig.hub), FeedEvent)), "staff are told"


async def test_a_nonce_repeated_before_the_answer_is_asked_once_and_answered_twice(autojump_clock):
    async with smart_gate() as (rig, gate):
        first, second = await gate.scan("n1"), await gate.scan("n1")
        assert len(await heard(rig.admission)) == 1
        rig.lane.tell(granted("n1", grant=7))
        await settle()
        assert (first.answer.grant, second.answer.grant) == (7, 7)
        assert (first.answer.seq, second.answer.seq) == (1, 2)


async def test_a_nonce_repeated_after_the_answer_gets_the_same_grant_with_its_state(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.scan("n1")
        rig.lane.tell(granted("n1", grant=7))
        again = await gate.scan("n1")
        assert len(await heard(rig.admission)) == 2, "the ledger knows its state and what is left of its time"
        rig.lane.tell(granted("n1", grant=7, passed=1, ttl_s=2.5, state=GrantState.COMMITTED, fresh=False))
        await settle()
        assert (again.answer.grant, again.answer.state, again.answer.ttl_s) == (7, "committed", 2.5)
        admitted = [line for line in only(await heard(rig.hub), FeedEvent) if line.kind == "admitted"]
        assert len(admitted) == 1, "one visitor"


@pytest.mark.parametrize("event", [SetLaneMode(mode=LaneMode.CLOSED, reason="x", by="ann"), Release(incident=4)])
async def test_a_known_nonce_is_answered_before_any_other_check(autojump_clock, event):
    """The answer got lost: were it refused now, nobody would ever end the grant."""
    async with smart_gate() as (rig, gate):
        pending = await gate.scan("n1")
        await gate.scan("n2")
        rig.lane.tell(granted("n2", grant=8))
        rig.lane.tell(event)
        await heard(rig.admission)
        repeated, answered, new = await gate.scan("n1"), await gate.scan("n2"), await gate.scan("n3")
        assert [question.scan.nonce for question in await heard(rig.admission)] == ["n2"]
        assert isinstance(new.answer, link.Deny)
        rig.lane.tell(granted("n1", grant=7))
        rig.lane.tell(granted("n2", grant=8, fresh=False))
        await settle()
        assert (pending.answer.grant, repeated.answer.grant, answered.answer.grant) == (7, 7, 8)
        assert (await gate.scan("n2", kind="iris")).answer.code == "unknown_code"


@pytest.mark.parametrize(
    ("config", "fields", "code"),
    [
        ({"mode": LaneMode.CLOSED}, {}, "lane_closed"),
        ({"mode": LaneMode.NORMAL_EXIT}, {}, "lane_closed"),
        ({}, {"kind": "iris"}, "unknown_code"),
        ({}, {"direction": "up"}, "unknown_code"),
        ({}, {"nonce": ""}, "unknown_code"),
        ({}, {"nonce": "n" * 65}, "unknown_code"),
    ],
)
async def test_what_needs_nobodys_decision_is_refused_at_once_and_logged(autojump_clock, config, fields, code):
    async with smart_gate(**config) as (rig, gate):
        call = await gate.scan(**fields)
        assert isinstance(call.answer, link.Deny) and call.answer.code == code
        assert [refused.code for refused in only(await heard(rig.books), RefusedScan)] == [code]
        assert await heard(rig.admission) == []


async def test_while_released_and_until_re_armed_no_ticket_is_used(autojump_clock):
    async with smart_gate() as (rig, gate):
        rig.lane.tell(Release(incident=1), system=True)
        assert (await gate.scan("n1")).answer.code == "emergency_go"
        rig.lane.tell(Restore(incident=1), system=True)
        assert (await gate.scan("n2")).answer.code == "lane_closed"
        assert await heard(rig.admission) == []


async def test_without_a_decision_in_time_the_gate_hears_so_while_it_still_listens(autojump_clock):
    async with smart_gate() as (rig, gate):
        call = await gate.scan("n5")
        await trio.sleep(module.DECIDE_S + SHORT_S)
        assert isinstance(call.answer, link.Deny) and call.answer.code == "unavailable"
        (ended,) = only(await heard(rig.books), Ended)
        assert (ended.grant, ended.nonce, ended.why) == (None, "n5", EndReason.NEVER_OPENED)
        await heard(rig.hub)
        rig.lane.tell(granted("n5", grant=9))
        assert only(await heard(rig.hub), FeedEvent) == [], "nobody was admitted"
        assert (await view(rig)).state == "idle"


@pytest.mark.parametrize("error", [LedgerUnavailable("down"), ActorDown("admission", "died")])
async def test_when_a_grant_may_or_may_not_be_written_the_gate_hears_no_and_it_is_given_up(autojump_clock, error):
    async with smart_gate() as (rig, gate):
        call = await gate.scan("n5")
        rig.lane.tell(Failed((await heard(rig.admission))[0], error))
        await settle()
        assert isinstance(call.answer, link.Deny) and call.answer.code == "unavailable"
        (ended,) = only(await heard(rig.books), Ended)
        assert (ended.nonce, ended.passed, ended.why) == ("n5", 0, EndReason.NEVER_OPENED)


async def test_an_admission_without_room_is_not_now(autojump_clock):
    async with smart_gate() as (rig, gate):
        while rig.admission.statistics().depth < rig.admission.capacity:
            rig.admission.tell(Release(incident=0))
        call = await gate.scan()
        assert isinstance(call.answer, link.Refused) and call.answer.code == "unavailable"


async def test_a_gate_with_too_many_scans_under_way_is_told_so(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    async with smart_gate() as (rig, gate):
        for number in range(3):
            await gate.scan(f"n{number}")
        fourth = await gate.scan("n9")
        assert isinstance(fourth.answer, link.Refused) and fourth.answer.code == "too_many"
        assert len(await heard(rig.admission)) == 3
        repeated = await gate.scan("n1")
        assert repeated.answer is None, "one that waits already is welcome to repeat"


# --- statements -------------------------------------------------------------------------------------------------


async def test_a_passage_is_acknowledged_only_once_it_is_on_disk(autojump_clock):
    async with smart_gate() as (rig, gate):
        call = await gate.passes(grant=7)
        (passed,) = await heard(rig.books)
        assert (passed.device, passed.boot, passed.seq, passed.grant) == (DEVICE, BOOT, 1, 7)
        assert (passed.kind, passed.direction, passed.at) == (PassageKind.GRANTED, Direction.ENTRY, 5.0)
        assert call.answer is None
        rig.lane.tell(booked(passed))
        await settle()
        assert call.answer.seq == 1 and isinstance(call.answer, link.Ack)
        assert (await view(rig)).entries == 1


async def test_a_passage_that_ends_its_grant_is_booked_with_the_end_in_one_word(autojump_clock):
    async with smart_gate() as (rig, gate):
        request = link.Pass(**gate.header(), grant=7, ended=1)
        call, repeated = await gate.ask(request), await gate.ask(request)
        (passed,) = await heard(rig.books)
        assert (passed.grant, passed.ended) == (7, 1)
        assert call.answer is repeated.answer is None
        rig.lane.tell(booked(passed, ended=True))
        await settle()
        assert isinstance(call.answer, link.Ack) and isinstance(repeated.answer, link.Ack)
        assert await heard(rig.books) == [], "nothing more to be said"
        seen = await view(rig)
        assert (seen.state, seen.entries) == ("idle", 1)


async def test_a_passage_whose_end_is_refused_is_counted_and_the_gate_hears_why(autojump_clock):
    async with smart_gate() as (rig, gate):
        call = await gate.ask(link.Pass(**gate.header(), grant=7, ended=1))
        (passed,) = await heard(rig.books)
        rig.lane.tell(booked(passed, end_refused="grant 7 is not known"))
        await settle()
        assert (call.answer.code, call.answer.text) == ("bad_message", "grant 7 is not known")
        assert (await view(rig)).entries == 1


async def test_what_is_no_grants_passage_ends_none_with_it(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.ask(link.Pass(**gate.header(), kind="tailgate", grant=7, ended=1))
        (passed,) = await heard(rig.books)
        assert (passed.grant, passed.ended) == (None, None)
        rig.lane.tell(booked(passed))
        (ended,) = await heard(rig.books)
        assert (ended.grant, ended.passed) == (7, 1)


async def test_books_that_book_a_passage_alone_are_told_the_end_afterwards(autojump_clock):
    async with smart_gate() as (rig, gate):
        request = link.Pass(**gate.header(), grant=7, ended=1)
        call, repeated = await gate.ask(request), await gate.ask(request)
        (passed,) = await heard(rig.books)
        rig.lane.tell(booked(passed))
        (ended,) = await heard(rig.books)
        assert (ended.grant, ended.passed, ended.why) == (7, 1, EndReason.COMPLETE)
        assert call.answer is repeated.answer is None
        rig.lane.tell(Settled(grant=7, nonce="n1", passed=1, repeated=False))
        await settle()
        assert isinstance(call.answer, link.Ack) and isinstance(repeated.answer, link.Ack)
        without = await gate.ask(link.Pass(**gate.header(), ended=1))
        assert without.answer.code == "bad_message"


async def test_a_repeated_passage_is_acknowledged_and_counted_once(autojump_clock):
    async with smart_gate() as (rig, gate):
        request = link.Pass(**gate.header(), grant=7)
        first, second = await gate.ask(request), await gate.ask(request)
        (passed,) = await heard(rig.books)
        rig.lane.tell(booked(passed))
        await settle()
        assert isinstance(first.answer, link.Ack) and isinstance(second.answer, link.Ack)
        third = await gate.ask(request)
        (again,) = await heard(rig.books)
        assert (again.boot, again.seq) == (passed.boot, passed.seq)
        rig.lane.tell(booked(again, repeated=True))
        await settle()
        assert isinstance(third.answer, link.Ack) and (await view(rig)).entries == 1


@pytest.mark.parametrize(
    ("fields", "kind", "grant", "way"),
    [
        ({"kind": "granted", "grant": 7}, PassageKind.GRANTED, 7, ("outside", "park")),
        ({"kind": "late", "grant": 7}, PassageKind.LATE, 7, ("outside", "park")),
        ({"kind": "granted"}, PassageKind.FORCED, None, ("outside", "park")),
        ({"kind": "tailgate", "grant": 7}, PassageKind.TAILGATE, None, ("outside", "park")),
        ({"kind": "exit", "direction": "exit"}, PassageKind.EXIT, None, ("park", "outside")),
        ({"kind": "reverse", "direction": "exit"}, PassageKind.REVERSE, None, ("park", "outside")),
    ],
)
async def test_a_passage_without_a_grant_never_counts_as_one_with(autojump_clock, fields, kind, grant, way):
    async with smart_gate() as (rig, gate):
        await gate.passes(**fields)
        (passed,) = await heard(rig.books)
        assert (passed.kind, passed.grant, (passed.from_zone, passed.to_zone)) == (kind, grant, way)


async def test_who_flees_is_an_emergency_and_who_passed_before_is_not(autojump_clock):
    async with smart_gate() as (rig, gate):
        rig.lane.tell(Release(incident=1), system=True)
        await gate.passes(kind="exit", direction="exit")
        await gate.passes(kind="granted", grant=7)
        assert [(passed.kind, passed.grant) for passed in await heard(rig.books)] == [
            (PassageKind.EMERGENCY, None),
            (PassageKind.GRANTED, 7),
        ]


async def test_an_end_is_acknowledged_only_once_it_is_on_disk(autojump_clock):
    async with smart_gate() as (rig, gate):
        call = await gate.ends(grant=7, nonce="n1", passed=2, why="timeout")
        (ended,) = await heard(rig.books)
        assert (ended.grant, ended.passed, ended.why, ended.device) == (7, 2, EndReason.TIMEOUT, DEVICE)
        assert call.answer is None
        rig.lane.tell(Settled(grant=7, nonce="n1", passed=2, repeated=False))
        await settle()
        assert isinstance(call.answer, link.Ack)


async def test_a_scan_that_the_gate_gave_up_is_ended_by_its_nonce(autojump_clock):
    async with smart_gate() as (rig, gate):
        call = await gate.ends(nonce="n1", why="never_opened")
        (ended,) = await heard(rig.books)
        assert (ended.grant, ended.nonce) == (None, "n1")
        rig.lane.tell(Settled(grant=None, nonce="other", passed=0, repeated=False))
        await settle()
        assert call.answer is None, "that was somebody else's"
        rig.lane.tell(Settled(grant=12, nonce="n1", passed=0, repeated=False))
        await settle()
        assert isinstance(call.answer, link.Ack)


@pytest.mark.parametrize("ask", ["passes", "ends"])
@pytest.mark.parametrize(
    ("error", "code"), [(LedgerUnavailable("away"), "unavailable"), (LedgerRefused("unknown zone"), "bad_message")]
)
async def test_what_the_ledger_does_not_take_is_not_acknowledged(autojump_clock, ask, error, code):
    async with smart_gate() as (rig, gate):
        call = await getattr(gate, ask)(grant=7)
        rig.lane.tell(Failed((await heard(rig.books))[0], error))
        await settle()
        assert isinstance(call.answer, link.Refused) and call.answer.code == code
        again = await getattr(gate, ask)(grant=7)
        assert len(await heard(rig.books)) == 1 and again.answer is None, "a repetition is a fresh try"


@pytest.mark.parametrize(
    ("ask", "fields"),
    [
        ("passes", {"kind": "teleported"}),
        ("passes", {"direction": "up"}),
        ("ends", {"grant": 7, "why": "bored"}),
        ("ends", {"why": "timeout"}),
    ],
)
async def test_a_statement_with_an_unknown_word_is_refused_and_nothing_is_written(autojump_clock, ask, fields):
    async with smart_gate() as (rig, gate):
        call = await getattr(gate, ask)(**fields)
        assert isinstance(call.answer, link.Refused) and call.answer.code == "bad_message"
        assert await heard(rig.books) == []


async def test_a_gate_that_floods_with_statements_is_told_so(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    async with smart_gate() as (rig, gate):
        await gate.passes()
        await gate.ends(grant=1)
        third = await gate.passes()
        assert isinstance(third.answer, link.Refused) and third.answer.code == "too_many"
        assert len(await heard(rig.books)) == 2


async def test_an_alarm_and_a_heartbeat_are_noted(autojump_clock):
    async with smart_gate() as (rig, gate):
        beat = await gate.ask(link.Heartbeat(**gate.header(), barrier="closed"))
        alarm = await gate.ask(link.Alarm(**gate.header(), kind="tailgate", detail="two at once"))
        odd = await gate.ask(link.Alarm(**gate.header(), kind="confetti"))
        assert all(isinstance(call.answer, link.Ack) for call in (beat, alarm, odd))
        (case,) = only(await heard(rig.books), OpenCase)
        assert (case.kind, case.detail) == ("tailgate", "two at once")
        assert case.key == f"alarm/{DEVICE}/{BOOT}/2", "repeated, it is the same case"
        assert (await view(rig)).alarm == "confetti"


# --- hello ------------------------------------------------------------------------------------------------------


async def test_a_hello_is_welcomed_at_once_whatever_the_ledger_does(autojump_clock):
    async with smart_gate(mode=LaneMode.NORMAL_ENTRY) as (rig, gate):
        call = await gate.hello(barrier="closed")
        assert isinstance(call.answer, link.Welcome)
        assert (call.answer.lane, call.answer.mode, call.answer.released) == ("g1", "normal_entry", False)
        rig.lane.tell(Release(incident=6), system=True)
        again = await gate.hello()
        assert (again.answer.released, again.answer.incident) == (True, 6)


async def test_a_grant_that_the_gate_does_not_know_of_is_ended_with_what_was_reported(autojump_clock):
    async with smart_gate() as (rig, gate):
        old, owed = new_id(), new_id()
        await gate.hello(open_grants=[owed])
        newer = new_id()
        (question,) = await heard(rig.books)
        assert isinstance(question, LaneLedger)
        unknown = open_grant(old, nonce="n1", pax=3, passed=1)
        rig.lane.tell(books(unknown, open_grant(owed), open_grant(newer), entries=40, exits=2))
        (ended,) = only(await heard(rig.books), Ended)
        assert (ended.grant, ended.nonce, ended.passed, ended.why) == (old, "n1", 1, EndReason.RECOVERED)
        assert ((await view(rig)).entries, (await view(rig)).exits) == (40, 2)


async def test_books_that_nobody_asked_for_end_nothing(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.hello()
        rig.lane.tell(books())
        await heard(rig.books)
        rig.lane.tell(books(open_grant(1)))
        assert only(await heard(rig.books), Ended) == []


async def test_the_ledger_is_asked_until_it_answers(autojump_clock):
    async with smart_gate(crashes=1) as (rig, gate):
        await gate.hello()
        await heard(rig.books)
        rig.lane.tell(Failed(LaneLedger(lane="g1", device=DEVICE, epoch=None), LedgerUnavailable()))
        await trio.sleep(module.BOOKS_RETRY_S + SHORT_S)
        assert len(only(await heard(rig.books), LaneLedger)) == 1
        rig.hub.armed = True
        rig.lane.tell(Release(incident=1))  # it dies, and its timer with it
        await trio.sleep(module.BOOKS_RETRY_S + SHORT_S)
        assert len(only(await heard(rig.books), LaneLedger)) >= 1
        rig.lane.tell(books(open_grant(1)))
        assert len(only(await heard(rig.books), Ended)) == 1
        await trio.sleep(10.0)
        assert await heard(rig.books) == []


# --- commands ---------------------------------------------------------------------------------------------------


async def test_a_command_wakes_the_gate_and_comes_with_every_answer_until_it_is_done(autojump_clock):
    async with smart_gate() as (rig, gate):
        assert await gate.fetch() == []
        assert await rig.lane.ask(OpenLane(pax=2, reason="guests", by="ann"), 1.0) is None
        assert await heard(rig.link) == [Wake(device=DEVICE)]
        (command,) = await gate.fetch()
        assert (command.name, command.pax) == ("open", 2)
        (again,) = await gate.fetch()
        assert again.id == command.id
        assert await gate.fetch(command.id, 999) == []


async def test_a_command_that_waited_is_worth_only_what_is_left_of_its_time(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.fetch()
        await rig.lane.ask(OpenLane(pax=1, reason="guests", by="ann"), 1.0)
        await trio.sleep(3.0)
        (command,) = await gate.fetch()
        assert command.ttl_s == pytest.approx(module.COMMAND_TTL_S - 3.0)
        await trio.sleep(module.COMMAND_TTL_S - 3.0)
        assert await gate.fetch() == [], "a late open must never be carried out"


async def test_commands_are_bounded(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.fetch()
        for number in range(module.COMMANDS_MAX + 5):
            await rig.lane.ask(OpenLane(pax=number + 1, reason="guests", by="ann"), 1.0)
        commands = await gate.fetch()
        assert [command.pax for command in commands] == list(range(6, module.COMMANDS_MAX + 6))


async def test_a_mode_is_set_here_and_sent_to_the_gate(autojump_clock):
    async with smart_gate() as (rig, gate):
        await rig.lane.ask(SetLaneMode(mode=LaneMode.CLOSED, reason="lunch", by="ann"), 1.0)
        (command,) = await gate.fetch()
        assert (command.name, command.mode) == ("mode", "closed")
        assert (await view(rig)).mode == "closed"


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (SetLaneMode(mode=LaneMode.EMERGENCY_RELEASED, reason="fire", by="ann"), "bad_mode"),
        (SetLaneMode(mode=LaneMode.CLOSED, reason="", by="ann"), "reason_required"),
        (OpenLane(pax=0, reason="x", by="ann"), "bad_pax"),
        (OpenLane(pax=1, reason=" ", by="ann"), "reason_required"),
        (OpenLane(pax=1, reason="guests", by="ann"), "unavailable"),
    ],
)
async def test_a_command_that_does_not_fit_is_refused_and_not_sent(autojump_clock, order, code):
    async with smart_gate() as (rig, gate):
        with pytest.raises(CommandRefused) as refused:
            await rig.lane.ask(order, 1.0)
        assert refused.value.code == code
        assert await gate.fetch() == [] and await heard(rig.link) == []


@pytest.mark.parametrize(
    "order", [SetLaneMode(mode=LaneMode.CLOSED, reason="close!", by="ann"), OpenLane(pax=1, reason="guests", by="ann")]
)
async def test_while_released_no_command_but_re_arming_reaches_the_gate(autojump_clock, order):
    async with smart_gate() as (rig, gate):
        await gate.fetch()
        rig.lane.tell(Release(incident=1), system=True)
        with pytest.raises(CommandRefused) as refused:
            await rig.lane.ask(order, 1.0)
        assert refused.value.code == "released"
        rig.lane.tell(Rearm(user="ann"))
        assert await gate.fetch() == [], "not before the restore"


# --- evacuation -------------------------------------------------------------------------------------------------


async def test_re_arming_takes_a_restore_and_is_a_command_to_fetch(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.fetch()
        rig.lane.tell(Release(incident=1), system=True)
        assert ((await view(rig)).mode, (await view(rig)).state) == ("emergency_released", "released")
        rig.lane.tell(Restore(incident=1), system=True)
        await settle()
        assert (await view(rig)).mode == "needs_rearm"
        rig.lane.tell(Rearm(user="ann"))
        await settle()
        (command,) = await gate.fetch()
        assert command.name == "rearm"
        await gate.seen("released", released=True, incident=1)
        assert only(await heard(rig.evacuation), AdoptRelease) == [], "it is about to close"
        await gate.seen("closed")
        assert (await view(rig)).mode == "bidirectional"


async def test_a_new_evacuation_takes_back_the_re_arming_of_the_last_one(autojump_clock):
    """The gate was slow to fetch it: carried out now, it would shut the gate in the middle of an evacuation."""
    async with smart_gate() as (rig, gate):
        await gate.fetch()
        await rig.lane.ask(OpenLane(pax=1, reason="guests", by="ann"), 1.0)
        rig.lane.tell(Release(incident=1), system=True)
        rig.lane.tell(Restore(incident=1), system=True)
        await settle()
        rig.lane.tell(Rearm(user="ann"))
        await settle()
        rig.lane.tell(Release(incident=2), system=True)
        await settle()
        assert await gate.fetch() == []


async def test_a_gate_re_armed_by_hand_needs_it_no_more(autojump_clock):
    async with smart_gate() as (rig, gate):
        rig.lane.tell(Release(incident=1), system=True)
        rig.lane.tell(Restore(incident=1), system=True)
        await gate.seen("released", released=True, incident=1)
        assert (await view(rig)).mode == "needs_rearm"
        await gate.seen("closed")
        assert (await view(rig)).mode == "bidirectional"


async def test_what_the_gate_senses_is_acknowledged(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.seen("closed")
        assert await heard(rig.evacuation) == []
        rig.lane.tell(Release(incident=5), system=True)
        await settle()
        assert only(await heard(rig.evacuation), ReleaseAck) == [], "nothing is sensed yet; no echo"
        await gate.seen("opening", released=True, incident=5)
        await gate.seen("released", released=True, incident=5)
        assert [(ack.incident, ack.barrier, ack.sensed_open) for ack in await heard(rig.evacuation)] == [
            (5, "opening", False),
            (5, "released", True),
        ]


async def test_a_gate_that_somebody_else_released_as_well_is_open_all_the_same(autojump_clock):
    """`paifang evacuate` and the console were used at once: the gate obeyed the other one last."""
    async with smart_gate() as (rig, gate):
        rig.lane.tell(Release(incident=5), system=True)
        await gate.seen("released", released=True, incident=77)
        assert [(ack.incident, ack.sensed_open) for ack in only(await heard(rig.evacuation), ReleaseAck)] == [(5, True)]
        await gate.seen("closed", released=False, incident=None)
        assert only(await heard(rig.evacuation), ReleaseAck) == [], "it has not heard of any release yet"


async def test_what_a_released_gate_shows_is_handed_to_the_evacuation_which_judges_it(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.hello(barrier="released", released=True, incident=77)
        assert await heard(rig.evacuation) == [], "its poll will show why"
        rig.lane.tell(SafetySeen(barrier="released", released=True, incident=77, proof=None))
        assert await heard(rig.evacuation) == [], "an acknowledgement claims nothing"
        rig.lane.tell(SafetySeen(barrier="released", released=True, incident=77, proof=b"signed"))
        assert await heard(rig.evacuation) == [AdoptRelease(lane="g1", incident=77, proof=b"signed")]


async def test_a_release_after_the_restore_is_another_one_also_before_re_arming(autojump_clock):
    async with smart_gate() as (rig, gate):
        rig.lane.tell(Release(incident=1), system=True)
        await gate.seen("released", released=True, incident=2)  # `paifang evacuate` was used as well
        rig.lane.tell(Restore(incident=1), system=True)
        await heard(rig.evacuation)
        for over in (1, 2):
            await gate.seen("released", released=True, incident=over)
            assert await heard(rig.evacuation) == []
        await gate.seen("released", released=True, incident=3)
        assert [claim.incident for claim in only(await heard(rig.evacuation), AdoptRelease)] == [3]


async def test_a_re_arming_names_the_release_that_it_ends(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.fetch()
        rig.lane.tell(Release(incident=1), system=True)
        await gate.seen("released", released=True, incident=2)
        rig.lane.tell(Restore(incident=1), system=True)
        rig.lane.tell(Rearm(user="ann"))
        await settle()
        (command,) = await gate.fetch()
        assert (command.name, command.incident) == ("rearm", 2)


async def test_a_released_gate_that_is_not_heard_any_more_is_not_called_open(autojump_clock):
    async with smart_gate() as (rig, gate):
        rig.lane.tell(Release(incident=1), system=True)
        await gate.seen("released", released=True, incident=1)
        await heard(rig.evacuation)
        await trio.sleep(UNSENSED_AFTER_S + 0.1)
        assert [(ack.barrier, ack.sensed_open) for ack in await heard(rig.evacuation)] == [("unknown", False)]


async def test_a_gate_opened_by_its_own_fire_contact_is_no_evacuation_of_the_site(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.seen("released", released=True, incident=None)
        await gate.hello(barrier="released", released=True)
        assert await heard(rig.evacuation) == []


async def test_a_released_lane_is_shown_as_released_whatever_its_gate_says(autojump_clock):
    async with smart_gate() as (rig, gate):
        await gate.scan("n1")
        rig.lane.tell(Release(incident=5), system=True)
        rig.lane.tell(granted("n1", grant=7))
        await settle()
        assert (await view(rig)).state == "released"
        await gate.ends(grant=7, why="emergency")
        assert (await view(rig)).state == "released"
        assert (await view(rig)).mode == "emergency_released"


# --- silence and crashes ----------------------------------------------------------------------------------------


async def test_a_gate_without_a_word_is_shown_as_unavailable_until_it_speaks(autojump_clock):
    async with smart_gate() as (rig, gate):
        assert (await view(rig)).available is False
        await gate.hello()
        assert ((await view(rig)).available, (await view(rig)).state) == (True, "idle")
        await trio.sleep(module.SILENT_AFTER_S + SHORT_S)
        assert ((await view(rig)).available, (await view(rig)).barrier) == (False, "unknown")
        await gate.ask(link.Heartbeat(**gate.header(), barrier="closed"))
        assert ((await view(rig)).available, (await view(rig)).barrier) == (True, "closed")


async def test_a_gate_that_falls_silent_while_its_actor_restarts_is_noticed(autojump_clock):
    async with smart_gate(crashes=1) as (rig, gate):
        await gate.hello()
        rig.hub.armed = True
        rig.lane.tell(SafetySeen(barrier="opening", released=False, incident=None))
        await trio.sleep(module.SILENT_AFTER_S * 2)
        views = only(await heard(rig.hub), DeviceView)
        assert views[-1].availability == "unavailable"


async def test_who_waited_for_an_actor_that_died_hears_not_now_and_may_repeat(autojump_clock):
    async with smart_gate(crashes=1) as (rig, gate):
        scan, passage = await gate.scan("n1"), await gate.passes(grant=3)
        rig.hub.armed = True
        rig.lane.tell(SafetySeen(barrier="opening", released=False, incident=None))
        await trio.sleep(0.1)
        assert isinstance(scan.error, ActorDown) and isinstance(passage.error, ActorDown)
        await heard(rig.admission)
        again = await gate.scan("n1")
        rig.lane.tell(granted("n1", grant=7))
        await settle()
        assert again.answer.grant == 7


async def test_a_release_is_the_next_thing_read_whatever_waits(autojump_clock):
    async with smart_gate() as (rig, gate):
        for number in range(500):
            request = link.Scan(**gate.header(), nonce=f"n{number}", kind="code", value="x")
            rig.lane.tell(LinkCall(request=request))
        rig.lane.tell(Release(incident=1), system=True)
        await settle()
        assert await heard(rig.admission) == []
