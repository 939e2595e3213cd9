"""The actor that explains: a bounded, read-only question to the ledger, and what comes of each way it can fail."""

from __future__ import annotations

from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors.admission import Explainer, LaneHere
from actors.admission import _explainer as module
from actors.errors import CommandRefused
from actors.lane import LaneConfig, LaneParts
from actors.lane._shared import Face
from actors.testing import alive, heard, settle
from core import Address, AskTimeout
from core.testing import Probe
from protocols.console import ExplainScan, Explanation
from protocols.errors import TicketCodeError
from protocols.messages import CredentialKind, LaneMode
from protocols.ticketcode import ProductClass, TicketCode
from storage.interfaces import Explain, LedgerUnavailable, ScanBooks, ZoneFacts
from storage.testing import right_facts

NOW = 1_795_276_800.0
RIGHT = right_facts(
    ticket=4711,
    product="group",
    product_class="group",
    sold=30,
    valid_from=NOW - 43_200,
    valid_to=NOW + 43_200,
    needs_face=True,
)
PARK = ZoneFacts(zone="park", inside=0, held=0, limit=None)
ASKED = ExplainScan(code="code-secret", lane="g1", face_ok=True)


def verify(text: str) -> TicketCode:
    if not text.startswith("code-"):
        raise TicketCodeError("bad_signature")
    return TicketCode(
        key_id=1, site=b"site", ticket=4711, valid_from=0, valid_to=60, pax=1, product_class=ProductClass.FULL
    )


class Rig:
    def __init__(self) -> None:
        self.ledger, self.me = Probe("ledger"), Address("explainer")
        self.refuses = ""
        self.actor = Explainer(
            lanes={"g1": LaneHere(to_zone="park", max_pax=5, refuses=lambda: self.refuses)},
            verify=verify,
            hash_id=lambda kind, value: f"{kind}:{value}".encode(),
            ledger=self.ledger,
            clock=lambda: NOW,
        )


@asynccontextmanager
async def explainer():
    rig = Rig()
    async with trio.open_nursery() as nursery, alive(rig.actor.run, rig.me):

        def ask(message=ASKED):
            outcome: list = []

            async def wait() -> None:
                try:
                    outcome.append(await rig.me.ask(message, 10.0))
                except Exception as exc:
                    outcome.append(exc)

            nursery.start_soon(wait)
            return outcome

        rig.ask = ask
        await settle()
        yield rig


async def answered(rig, outcome, books):
    asked = await rig.ledger.expect(Explain)
    rig.ledger.envelope.reply(books)
    await settle()
    assert len(outcome) == 1 and isinstance(outcome[0], Explanation), outcome
    return asked, outcome[0]


async def test_the_facts_of_the_credential_are_explained_for_this_lane_and_now(autojump_clock):
    async with explainer() as rig:
        asked, told = await answered(rig, rig.ask(), ScanBooks(rights=[RIGHT], zone=PARK))
        assert asked == Explain(
            kind=CredentialKind.CODE, credential_hash=b"code:4711", to_zone="park", lane="g1", ticket=4711
        )
        assert (told.admitted, told.pax, told.at, told.lane) == (True, 5, NOW, "g1"), "the lane takes 5 at a time"
        assert [step.check for step in told.steps[:2]] == ["lane", "signature"]


async def test_a_card_is_asked_for_as_a_reader_reads_it(autojump_clock):
    async with explainer() as rig:
        outcome = rig.ask(ExplainScan(code="CARD:12345", lane="g1"))
        asked, told = await answered(rig, outcome, ScanBooks(rights=[RIGHT], zone=PARK))
        assert (asked.kind, asked.credential_hash) == (CredentialKind.CARD, b"card:12345")
        assert told.code == "needs_factor" and "signature" not in {step.check for step in told.steps}


async def test_at_another_moment_the_lanes_mode_of_now_does_not_count(autojump_clock):
    async with explainer() as rig:
        rig.refuses = "lane_closed"
        later = msgspec.structs.replace(ASKED, at=NOW + 3600)
        _, told = await answered(rig, rig.ask(later), ScanBooks(rights=[RIGHT], zone=PARK))
        assert told.admitted and told.at == NOW + 3600 and told.steps[0].check == "signature"
        _, told = await answered(rig, rig.ask(), ScanBooks(rights=[RIGHT], zone=PARK))
        assert (told.code, told.pax) == ("lane_closed", 0)


async def test_what_is_forged_is_explained_without_a_look_up(autojump_clock):
    async with explainer() as rig:
        outcome = rig.ask(ExplainScan(code="forged", lane="g1"))
        assert await heard(rig.ledger) == []
        assert outcome[0].code == "bad_signature" and not outcome[0].admitted
        cards = rig.ask(ExplainScan(code="CARD:" + "9" * 65, lane="g1"))
        assert await heard(rig.ledger) == []
        assert cards[0].code == "unknown_code"


@pytest.mark.parametrize("books", [LedgerUnavailable("away"), ScanBooks(rights=[], zone=None)])
async def test_a_ledger_that_cannot_say_is_an_error_and_not_a_verdict(autojump_clock, books):
    async with explainer() as rig:
        outcome = rig.ask()
        await rig.ledger.expect(Explain)
        if isinstance(books, Exception):
            rig.ledger.envelope.fail(books)
        else:
            rig.ledger.envelope.reply(books)
        await settle()
        assert isinstance(outcome[0], CommandRefused) and outcome[0].code == "no_ledger"


async def test_a_ledger_that_hangs_is_not_waited_for_longer_than_said(autojump_clock):
    async with explainer() as rig:
        outcome, begun = rig.ask(), trio.current_time()
        await trio.sleep(module.LEDGER_ANSWER_S + 0.5)
        assert isinstance(outcome[0], AskTimeout) and trio.current_time() < begun + 5


async def test_an_unknown_lane_is_refused_by_name(autojump_clock):
    async with explainer() as rig:
        outcome = rig.ask(ExplainScan(code="code-1", lane="g9"))
        await settle()
        assert isinstance(outcome[0], CommandRefused) and outcome[0].code == "unknown_lane"


async def test_only_so_many_questions_are_under_way_and_then_there_is_room_again(autojump_clock):
    async with explainer() as rig:
        outcomes = [rig.ask() for _ in range(module.QUESTIONS_MAX)]
        await settle()
        refused = rig.ask()
        await settle()
        assert refused[0].code == "busy" and not any(outcomes)
        assert len(await heard(rig.ledger)) == module.QUESTIONS_MAX
        await trio.sleep(module.LEDGER_ANSWER_S + 0.5)
        _, told = await answered(rig, rig.ask(), ScanBooks(rights=[RIGHT], zone=PARK))
        assert told.admitted


def test_a_question_never_shows_the_code() -> None:
    assert "secret" not in repr(ASKED) and "secret" not in f"{[ASKED]}"


# --- what a lane says of itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "available", "mode", "code"),
    [
        ("idle", True, "normal_entry", ""),
        ("granted", True, "bidirectional", ""),
        ("idle", True, "normal_exit", "lane_closed"),
        ("idle", True, "closed", "lane_closed"),
        ("idle", True, "maintenance", "lane_closed"),
        ("unavailable", False, "normal_entry", "unavailable"),
        ("starting", False, "normal_entry", "unavailable"),
        ("released", True, "emergency_released", "emergency_go"),
        ("released", False, "emergency_released", "emergency_go"),
        ("needs_rearm", True, "needs_rearm", "lane_closed"),
        ("rearming", True, "needs_rearm", "lane_closed"),
    ],
)
async def test_a_lane_says_with_which_code_it_refuses_everybody(state, available, mode, code) -> None:
    config = LaneConfig(
        lane="g1",
        name="G1",
        entrance="",
        kind="wing",
        from_zone="outside",
        to_zone="park",
        mode=LaneMode.NORMAL_ENTRY,
        max_group=5,
        grant_ttl_s=8.0,
        device="gate-1",
    )
    probe = Probe("anybody")
    parts = LaneParts(admission=probe, books=probe, evacuation=probe, occupancy=probe, hub=probe)
    face = Face(config, "link", parts)
    face.show(state=state, available=available, mode=mode)
    assert face.refuses() == code
