"""A lane's outbox: every statement reaches the ledger, in order, and nothing is forgotten while it is away."""

from __future__ import annotations

from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors import counter as module
from actors.counter import ANSWER_S, RETRY_S, AskBooks, Counter
from actors.testing import DEVICE, EPOCH, LANE, alive, books, heard, only, settle
from core import Address, Failed
from core.testing import Probe
from protocols.messages import Booked, Direction, Ended, EndReason, PassageKind, Passed, Settled
from storage.interfaces import CounterBaseline, LaneLedger, LedgerRefused, LedgerUnavailable, Ok

SHORT_S = 0.05


def passed(seq: int, *, direction: Direction = Direction.ENTRY, boot: str = EPOCH) -> Passed:
    return Passed(
        lane=LANE, device=DEVICE, boot=boot, seq=seq, direction=direction, kind=PassageKind.FORCED, grant=None,
        from_zone="outside", to_zone="park", at=1.0,
    )  # fmt: skip


def ended(grant: int | None, nonce: str = "n1") -> Ended:
    return Ended(lane=LANE, device=DEVICE, grant=grant, nonce=nonce, passed=0, why=EndReason.TIMEOUT, at=1.0)


def answer(statement):
    """What the ledger says when it has a statement on disk."""
    match statement:
        case Passed(device=device, boot=boot, seq=seq, direction=direction, kind=kind):
            return Booked(device=device, boot=boot, seq=seq, direction=direction, kind=kind, repeated=False)
        case Ended(grant=grant, nonce=nonce):
            return Settled(grant=grant, nonce=nonce, passed=0, repeated=False)
        case CounterBaseline():
            return Ok()
        case LaneLedger():
            return books()


BASELINE = CounterBaseline(lane=LANE, device=DEVICE, epoch=EPOCH, entries=5, exits=6, at=1.0)


class Rig:
    def __init__(self) -> None:
        self.books = Probe("ledger", capacity=4)
        self.lane = Probe("lane")
        self.me = Address("counter", capacity=1024)
        self.actor = Counter(LANE, DEVICE, self.books, self.lane)

    async def asked(self):
        """What the ledger was told since the last look."""
        return await heard(self.books)

    async def work(self):
        """The ledger carries out everything, in order, until the outbox is empty."""
        done = []
        await settle()
        while self.books.statistics().depth:
            envelope = await self.books.receive()
            done.append(envelope.msg)
            envelope.reply(answer(envelope.msg))
            await settle()
        return done


@asynccontextmanager
async def outbox(*, crashes=0):
    rig = Rig()
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


async def test_statements_reach_the_ledger_one_after_the_other_in_order(autojump_clock):
    async with outbox() as rig:
        statements = [passed(1), BASELINE, passed(2), ended(7), passed(1, direction=Direction.EXIT), ended(None)]
        for statement in statements:
            rig.me.tell(statement)
        assert await rig.work() == statements
        assert len(await heard(rig.lane)) == len(statements), "the lane hears what is on disk"
        await trio.sleep(60.0)
        assert await rig.asked() == [], "what was answered is not sent again"


async def test_the_next_waits_for_the_answer_to_the_first(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(passed(1))
        rig.me.tell(passed(2))
        assert await rig.asked() == [passed(1)]


@pytest.mark.parametrize("statement", [passed(1), ended(7), ended(None), BASELINE])
async def test_without_an_answer_it_is_sent_again(autojump_clock, statement):
    async with outbox() as rig:
        rig.me.tell(statement)
        await rig.asked()
        await trio.sleep(3 * ANSWER_S + SHORT_S)
        assert await rig.asked() == [statement] * 3


async def test_a_ledger_that_is_away_is_tried_until_it_is_back(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(passed(1))
        for _ in range(20):
            (statement,) = await rig.asked()
            rig.books.envelope = None
            rig.me.tell(Failed(statement, LedgerUnavailable("away")))
            await trio.sleep(RETRY_S + SHORT_S)
        rig.me.tell(passed(2))
        assert await rig.work() == [passed(1), passed(2)]
        assert len(await heard(rig.lane)) == 2


async def test_a_ledger_without_room_is_tried_again(autojump_clock):
    async with outbox() as rig:
        while rig.books.statistics().depth < rig.books.capacity:
            rig.books.tell("something else")
        rig.me.tell(passed(1))
        await settle()
        await heard(rig.books)
        await trio.sleep(RETRY_S + SHORT_S)
        assert await rig.asked() == [passed(1)]


async def test_an_answer_to_an_earlier_try_is_not_taken_for_the_next_statement(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(passed(1))
        await trio.sleep(ANSWER_S + SHORT_S)
        rig.me.tell(passed(2))
        rig.me.tell(ended(7))
        rig.me.tell(answer(passed(1)))
        await rig.asked()
        for late in (answer(passed(1)), answer(passed(2, boot="e0")), answer(passed(2, direction=Direction.EXIT))):
            rig.me.tell(late)
        await settle()
        assert list(rig.actor.pending) == [passed(2), ended(7)]
        rig.me.tell(answer(passed(2)))
        rig.me.tell(Settled(grant=6, nonce="n1", passed=0, repeated=True))
        await settle()
        assert list(rig.actor.pending) == [ended(7)]


async def test_a_statement_that_the_ledger_refuses_holds_nobody_up(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(passed(1))
        rig.me.tell(passed(2))
        rig.me.tell(Failed((await rig.asked())[0], LedgerRefused("unknown zone")))
        assert await rig.work() == [passed(2)]
        assert rig.actor.lost == 1


async def test_a_refusal_that_comes_twice_drops_one_statement(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(passed(1))
        await trio.sleep(ANSWER_S + SHORT_S)  # sent twice by now
        rig.me.tell(passed(2))
        rig.me.tell(Failed(passed(1), LedgerRefused("unknown zone")))
        rig.me.tell(Failed(passed(1), LedgerRefused("unknown zone")))
        await rig.asked()
        assert list(rig.actor.pending) == [passed(2)] and rig.actor.lost == 1


async def test_the_books_are_asked_for_once_everything_is_on_disk(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(passed(1))
        rig.me.tell(AskBooks())
        rig.me.tell(passed(2))
        done = await rig.work()
        assert [type(message) for message in done] == [Passed, Passed, LaneLedger]
        (known,) = [message for message in await heard(rig.lane) if message == books()]
        assert known == books()


async def test_books_read_before_a_statement_was_written_are_not_told(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(AskBooks())
        assert [type(message) for message in await rig.asked()] == [LaneLedger]
        rig.me.tell(passed(1))
        rig.me.tell(books())
        await settle()
        assert await heard(rig.lane) == [], "the lane would book that person again"
        assert [type(message) for message in await rig.work()] == [Passed, LaneLedger]
        assert books() in await heard(rig.lane)


async def test_books_that_do_not_come_are_asked_for_again_and_told_once(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(AskBooks())
        await trio.sleep(ANSWER_S + SHORT_S)
        assert len(await rig.asked()) == 2
        rig.me.tell(books())
        rig.me.tell(books())
        assert await heard(rig.lane) == [books()]


async def test_a_question_that_the_ledger_refuses_is_asked_again_in_peace(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(AskBooks())
        tries = 0
        with trio.move_on_after(10.0):
            while True:
                envelope = await rig.books.receive()
                tries += 1
                envelope.fail(LedgerRefused("unknown lane"))
                assert tries <= 10.0 / RETRY_S + 1, "a hot loop between two actors"
        assert tries > 5


async def test_a_refused_question_drops_no_statement(autojump_clock):
    async with outbox() as rig:
        rig.me.tell(AskBooks())
        (question,) = await rig.asked()
        rig.me.tell(passed(1))
        rig.me.tell(Failed(question, LedgerRefused("unknown lane")))
        await settle()
        assert list(rig.actor.pending) == [passed(1)] and rig.actor.lost == 0


async def test_a_lane_without_room_for_the_books_gets_them_later(autojump_clock):
    async with outbox() as rig:
        while rig.lane.statistics().depth < rig.lane.capacity:
            rig.lane.tell("a scan")
        rig.me.tell(AskBooks())
        await rig.work()
        await heard(rig.lane)
        await trio.sleep(ANSWER_S + SHORT_S)
        await rig.work()
        assert await heard(rig.lane) == [books()]


async def test_the_outbox_is_bounded_and_says_what_it_lost(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "PENDING_MAX", 3)
    async with outbox() as rig:
        for seq in range(1, 6):
            rig.me.tell(passed(seq))
        await settle()
        assert [statement.seq for statement in rig.actor.pending] == [3, 4, 5] and rig.actor.lost == 2
        await trio.sleep(ANSWER_S + SHORT_S)
        await rig.work()
        assert len(rig.actor.pending) == 0


async def test_what_waits_survives_the_death_of_the_actor(autojump_clock):
    async with outbox(crashes=1) as rig:
        for seq in (1, 2, 3):
            rig.me.tell(passed(seq))
        rig.me.tell(AskBooks())
        await rig.asked()
        rig.actor._keep = _explode
        rig.me.tell(passed(4))
        await trio.sleep(0.1)
        del rig.actor._keep
        done = await rig.work()
        assert only(done, Passed) == [passed(1), passed(2), passed(3)] and only(done, LaneLedger)
        assert books() in await heard(rig.lane)


def _explode(_statement) -> None:
    raise RuntimeError("tripped")


async def test_every_statement_survives_a_wire():
    for statement in (passed(1), ended(7), ended(None), BASELINE, AskBooks()):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(statement), type=type(statement)) == statement
