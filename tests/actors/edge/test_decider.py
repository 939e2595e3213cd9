"""Who decides: the server while it answers in time, the lane otherwise; and nothing opens that is not on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.edge import EDGE, ONLINE, Clocks, Decider, Disk, EdgeKeys, EdgePolicy, LinkUp, ModeChanged, Tell, Uploaded
from actors.edge.testing import NOW, Listed, MemoryLists, Server, granting, question, right
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols import devicelink as link
from protocols.clock import local_time
from protocols.edge import Use, subject_of, ticket_name
from protocols.messages import (
    Credential,
    CredentialKind,
    Decide,
    Denied,
    Direction,
    Ended,
    EndReason,
    Granted,
    GrantState,
)
from protocols.rights import ProductRules, ZoneRight
from protocols.ticketcode import ProductClass, TicketCode, Verifier, sign, site_hash
from protocols.uploads import RecEnded, RecGrant, RecRefused
from storage.interfaces import ZoneFacts
from storage.journal import JournalError, open_journal
from storage.lanebook import LaneBook

KEY = Ed25519PrivateKey.generate()
SITE_KEY = b"k" * 32
EPOCH = int(NOW) // 60 * 60


def code(ticket: int = 7, *, valid_to: int = EPOCH + 86400, zones: int = 1, key: Ed25519PrivateKey = KEY) -> str:
    return sign(
        TicketCode(
            key_id=1,
            site=site_hash("s"),
            ticket=ticket,
            valid_from=EPOCH - 3600,
            valid_to=valid_to,
            pax=1,
            product_class=ProductClass.FULL,
            zones=zones,
        ),
        key,
    )


class Rig:
    def __init__(self, folder: Path, policy: EdgePolicy) -> None:
        self.server = Server(granting)
        self.journal = open_journal(folder / "journal.sqlite")
        self.book = LaneBook(self.journal, "n1", lambda at: "day")
        self.lists = MemoryLists()
        self.now = NOW
        self.hash_key = True
        self.neighbours, self.upload, self.told = Probe("neighbours"), Probe("upload"), Probe("told")
        self.me = Address("admission", capacity=64)
        self.lane = Probe("lane")
        self.disk = Disk(self.book, (JournalError,), inline=True)
        self.decider = Decider(
            lane="n1",
            device="lane-n1",
            policy=policy,
            ask=self.server.ask,
            header=self.server.header,
            disk=self.disk,
            lists=self.lists,
            keys=EdgeKeys(
                verify=Verifier({1: KEY.public_key()}, "s").verify,
                hash_id=lambda: (lambda kind, value: f"{kind}/{value}".encode()) if self.hash_key else None,
                neighbours=SITE_KEY,
            ),
            clocks=Clocks(now=lambda: self.now, local=local_time),
            zones=["park", "museum"],
            neighbours=self.neighbours,
            upload=self.upload,
            told=[self.told],
        )

    async def decide(self, value: str, **changes: Any) -> Granted | Denied:
        self.me.tell(question(value, **changes), reply_to=self.lane)
        with trio.fail_after(30):
            answer: Granted | Denied = (await self.lane.receive()).msg
        return answer

    async def online(self) -> None:
        self.me.tell(LinkUp(up=True))
        await settle()
        assert self.decider.mode == ONLINE

    def records(self) -> list[Any]:
        return [self.book.body(record) for record in self.book.pending(100)]

    def spoil(self) -> None:
        self.journal.read("pragma query_only=on")

    def mend(self) -> None:
        self.journal.read("pragma query_only=off")


@asynccontextmanager
async def decider(folder: Path, **policy: Any) -> AsyncIterator[Rig]:
    rig = Rig(folder, EdgePolicy(**policy))
    async with alive(rig.decider.run, rig.me):
        await settle()
        yield rig
    rig.journal.close()


async def test_the_server_decides_and_its_grant_is_on_disk_first(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        answer = await rig.decide(code())
        assert isinstance(answer, Granted)
        assert (answer.grant, answer.ticket, answer.state) == (77, 7, GrantState.OPEN)
        assert [grant.grant for grant in rig.book.open_grants()] == [77]
        assert rig.book.owed() == [77]
        assert rig.records() == [], "the server knows its grant"
        assert [use.pax for tell in only(await heard(rig.neighbours), Tell) for use in tell.uses] == [1]


async def test_a_grant_that_cannot_be_written_down_is_given_back_past_the_disk(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with decider(tmp_path, journal_failure="refuse") as rig:
        await rig.online()
        told: list[link.PassEnd] = []

        def answer(request: Any) -> Any:
            if not isinstance(request, link.PassEnd):
                return granting(request)
            told.append(request)
            if len(told) < 3:  # not now; and again
                return link.Refused(seq=request.seq, server_at=NOW, code="unavailable", text="")
            return link.Ack(seq=request.seq, server_at=NOW)

        rig.server.answer = answer
        rig.spoil()
        refused = await rig.decide(code())
        assert isinstance(refused, Denied)
        assert refused.code == "unavailable"
        await trio.sleep(100.0)
        assert len(told) == 3
        assert len({each.seq for each in told}) == 1, "the same words each time"
        assert (told[0].grant, told[0].passed, told[0].why) == (77, 0, "never_opened")
        rig.mend()
        assert isinstance(await rig.decide(code()), Granted)
        await trio.sleep(100.0)
        assert len(told) == 3


async def test_a_refusal_of_the_server_stands(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        rig.server.answer = lambda request: link.Deny(
            seq=request.seq, server_at=NOW, nonce=request.nonce, code="blocked", text_zh="", text_en=""
        )
        answer = await rig.decide(code())
        assert isinstance(answer, Denied)
        assert answer.code == "blocked"
        assert rig.decider.mode == ONLINE


async def test_a_device_that_the_server_does_not_know_opens_nothing(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        rig.server.answer = lambda request: link.Refused(seq=request.seq, server_at=NOW, code="unknown_device", text="")
        answer = await rig.decide(code())
        assert isinstance(answer, Denied)
        assert answer.code == "device_not_authorised"


async def test_a_slow_server_costs_one_visitor_its_limit_and_the_next_nothing(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        rig.lists.by_ticket = {7: Listed(rights=[right(7)]), 8: Listed(rights=[right(8)])}
        rig.server.up = False
        start = trio.current_time()
        first = await rig.decide(code(7), nonce="first")
        assert trio.current_time() - start == pytest.approx(1.0, abs=0.01)
        assert isinstance(first, Granted)
        start = trio.current_time()
        assert isinstance(await rig.decide(code(8), nonce="second"), Granted)
        assert trio.current_time() - start == 0.0
        assert only(await heard(rig.told), ModeChanged)[-1].mode == EDGE
        ended, granted, second = rig.records()
        assert isinstance(ended, RecEnded)
        assert (ended.nonce, ended.why) == ("first", "never_opened"), "should the server grant it after all"
        assert isinstance(granted, RecGrant)
        assert (granted.nonce, granted.why, granted.ticket, granted.entitlement) == ("first-edge", "slow", 7, 70)
        assert second.nonce == "second"


@pytest.mark.parametrize("code_", ["unavailable", "too_many"])
async def test_a_server_without_its_database_is_no_server(tmp_path: Path, code_: str, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        rig.server.answer = lambda request: link.Refused(seq=request.seq, server_at=NOW, code=code_, text="")
        assert isinstance(await rig.decide(code()), Granted)
        assert rig.decider.mode == EDGE


async def test_it_comes_back_when_the_server_writes_again_and_not_before(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        rig.server.up = False
        await rig.decide(code())
        rig.server.up = True
        await trio.sleep(5.0)
        rig.me.tell(LinkUp(up=True))
        await settle()
        assert rig.decider.mode == EDGE, "it beats, and nobody knows whether it can decide"
        rig.me.tell(Uploaded())
        await settle()
        assert rig.decider.mode == ONLINE


async def test_a_server_that_is_slow_again_and_again_is_held_off_longer(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        waited = []
        for number in range(4):
            rig.server.up = False
            await rig.decide(code(number), nonce=f"n{number}")
            rig.server.up = True
            start = trio.current_time()
            while rig.decider.mode == EDGE:
                rig.me.tell(Uploaded())
                rig.me.tell(LinkUp(up=True))
                await trio.sleep(0.5)
            waited.append(trio.current_time() - start)
        assert waited == sorted(waited)
        assert waited[-1] > 3 * waited[0]


async def test_a_lost_link_is_no_wait_at_all(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        rig.me.tell(LinkUp(up=False))
        await settle()
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        start = trio.current_time()
        assert isinstance(await rig.decide(code()), Granted)
        assert trio.current_time() == start
        assert rig.server.asked == []


async def test_alone_a_ticket_is_used_once(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        first = await rig.decide(code(), nonce="a")
        assert isinstance(first, Granted)
        again = await rig.decide(code(), nonce="b")
        assert isinstance(again, Denied)
        assert again.code == "in_progress"
        rig.book.ended(
            Ended(lane="n1", device="d", grant=first.grant, nonce="a", passed=0, why=EndReason.TIMEOUT, at=NOW)
        )
        assert isinstance(await rig.decide(code(), nonce="c"), Granted), "nobody had passed"


async def test_what_a_neighbour_let_in_is_used(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        subject = subject_of(SITE_KEY, ticket_name(7))
        rig.book.neighbour([Use(subject=subject, lane="n2", grant=5, zone="park", pax=1, at=NOW - 1)])
        answer = await rig.decide(code())
        assert isinstance(answer, Denied)
        assert (answer.code, answer.lane_of_use, answer.used_at) == ("already_used", "n2", NOW - 1)
        assert isinstance(rig.records()[-1], RecRefused)


async def test_a_use_that_the_lists_know_is_not_counted_twice(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rules = ProductRules(rights=[ZoneRight(zones=["park"], uses=10)])
        rig.lists.by_ticket[7] = Listed(rights=[right(rules=rules, sold=2, redeemed=1, last_used_at=NOW - 10)])
        subject = subject_of(SITE_KEY, ticket_name(7))
        rig.book.neighbour([Use(subject=subject, lane="n2", grant=5, zone="park", pax=1, at=NOW - 10)])
        assert isinstance(await rig.decide(code()), Granted)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"ticket_state": "refunded"}, "refunded"),
        ({"ticket_state": "void"}, "void"),
        ({"credential_state": "lost"}, "blocked"),
        ({"valid_to": NOW - 1}, "expired"),
        ({"zone": "museum"}, "wrong_zone"),
        ({"redeemed": 1, "last_used_at": NOW - 5, "used_day": 1}, "already_used"),
        ({"rules": ProductRules(rights=[ZoneRight(zones=["park"])], offline="refuse")}, "offline_refused"),
        ({"rules": ProductRules(rights=[ZoneRight(zones=["park"])], needs_face=True)}, "needs_factor"),
    ],
)
async def test_alone_it_refuses_what_the_server_would(
    tmp_path: Path, change: dict[str, Any], refusal: str, autojump_clock: Any
) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right(**change)])
        answer = await rig.decide(code())
        assert isinstance(answer, Denied)
        assert answer.code == refusal
        assert rig.book.open_grants() == []


async def test_a_forged_code_is_refused_without_lists(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        answer = await rig.decide(code(key=Ed25519PrivateKey.generate()))
        assert isinstance(answer, Denied)
        assert answer.code == "bad_signature"


async def test_a_ticket_that_was_sold_since_the_list_is_taken_by_its_signature_once(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with decider(tmp_path) as rig:
        assert isinstance(await rig.decide(code(9), nonce="a"), Granted)
        again = await rig.decide(code(9), nonce="b")
        assert isinstance(again, Denied)
        wrong = await rig.decide(code(10, zones=2), nonce="c")
        assert isinstance(wrong, Denied)
        assert wrong.code == "wrong_zone"
        late = await rig.decide(code(11, valid_to=EPOCH - 60), nonce="d")
        assert isinstance(late, Denied)
        assert late.code == "expired"


async def test_a_site_may_refuse_what_no_list_knows(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path, unlisted="refuse") as rig:
        answer = await rig.decide(code(9))
        assert isinstance(answer, Denied)
        assert answer.code == "offline_refused"


async def test_limited_products_need_a_young_list_and_are_used_once(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rules = ProductRules(rights=[ZoneRight(zones=["park"], uses=0)], offline="accept_limited")
        rig.lists.by_ticket[7] = Listed(rights=[right(rules=rules, sold=None)])
        rig.now = NOW + 3601
        assert isinstance(await rig.decide(code(), nonce="old"), Denied)
        rig.now = NOW + 3599
        first = await rig.decide(code(), nonce="a")
        assert isinstance(first, Granted)
        assert isinstance(await rig.decide(code(), nonce="b"), Denied)


async def test_with_lists_of_last_week_nothing_listed_is_taken(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right(valid_to=NOW + 1e7)])
        rig.now = NOW + 4 * 24 * 3600
        answer = await rig.decide(code())
        assert isinstance(answer, Denied)
        assert answer.code == "offline_refused"


async def test_an_older_issue_of_a_card_is_refused(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_hash[b"card/A1"] = Listed(rights=[right()])
        assert isinstance(await rig.decide("A1", kind=CredentialKind.CARD, nonce="a"), Granted)
        rig.lists.issue = 2
        asked = question("A1", kind=CredentialKind.CARD, nonce="b")
        scan = msgspec.structs.replace(asked.scan, credential=Credential(CredentialKind.CARD, "A1", 1))
        rig.me.tell(Decide(**{**msgspec.structs.asdict(asked), "scan": scan}), reply_to=rig.lane)
        answer = (await rig.lane.receive()).msg
        assert isinstance(answer, Denied)
        assert answer.code == "superseded_card"


async def test_without_the_key_of_cards_they_wait(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.hash_key = False
        answer = await rig.decide("A1", kind=CredentialKind.CARD)
        assert isinstance(answer, Denied)
        assert answer.code == "offline_refused"


async def test_whoever_wants_out_is_let_out(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        for number, value in enumerate((code(), "rubbish")):
            answer = await rig.decide(value, direction=Direction.EXIT, nonce=f"out-{number}")
            assert isinstance(answer, Granted), value


async def test_a_zone_that_was_stopped_stays_stopped(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        rig.lists.zones["park"] = ZoneFacts(zone="park", inside=5, held=0, limit=5)
        answer = await rig.decide(code())
        assert isinstance(answer, Denied)
        assert answer.code == "capacity_hold"


async def test_what_cannot_be_written_does_not_open(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        rig.spoil()
        answer = await rig.decide(code(), nonce="a")
        assert isinstance(answer, Denied)
        assert answer.code == "unavailable"
        assert rig.disk.trouble
        rig.mend()
        assert isinstance(await rig.decide(code(), nonce="b"), Granted)
        assert not rig.disk.trouble


async def test_a_site_may_open_all_the_same_and_write_it_later(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path, journal_failure="accept") as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        rig.spoil()
        answer = await rig.decide(code())
        assert isinstance(answer, Granted)
        rig.mend()
        rig.book.ended(
            Ended(
                lane="n1", device="d", grant=answer.grant, nonce=answer.nonce, passed=0, why=EndReason.TIMEOUT, at=NOW
            )
        )
        assert [type(body) for body in rig.records()] == [RecGrant, RecEnded]


async def test_a_flood_of_questions_is_answered(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        await rig.online()
        rig.server.up = False
        for number in range(40):
            rig.me.tell(question(code(number), nonce=f"n{number}"), reply_to=rig.lane)
        answers = [(await rig.lane.receive()).msg for _ in range(40)]
        assert {type(answer) for answer in answers} == {Granted, Denied}
        assert sum(isinstance(answer, Denied) and answer.code == "unavailable" for answer in answers) == 24


async def test_one_ticket_in_several_questions_at_once_is_used_once(tmp_path: Path, autojump_clock: Any) -> None:
    async with decider(tmp_path) as rig:
        rig.lists.by_ticket[7] = Listed(rights=[right()])
        for number in range(8):
            rig.me.tell(question(code(7), nonce=f"n{number}"), reply_to=rig.lane)
        answers = [(await rig.lane.receive()).msg for _ in range(8)]
        assert sum(isinstance(answer, Granted) for answer in answers) == 1
