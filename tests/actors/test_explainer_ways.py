"""What people may ask beside a code at an entry: exits, ID numbers, a stamp, a chosen product, typed and live codes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from actors.admission import Explainer, LaneHere
from actors.admission import _explainer as module
from actors.errors import CommandRefused
from actors.testing import alive, heard, settle
from core import Address
from core.testing import Probe
from protocols.console import ExplainScan, Explanation
from protocols.errors import TicketCodeError
from protocols.messages import CredentialKind
from protocols.rotating import rotating_text
from protocols.shortcode import derived_short, grouped
from protocols.ticketcode import TicketCode
from storage.interfaces import Explain, RightFacts, ScanBooks, ZoneFacts
from storage.testing import right_facts

NOW = 1_795_276_800.0
TICKET = 4711
KEY = bytes(range(32))
SHORT = derived_short(b"digest of a ticket")
PARK = ZoneFacts(zone="park", inside=0, held=0, limit=None)
BOUND = {"valid_from": NOW - 43_200, "valid_to": NOW + 43_200}


def right(**changes: object) -> RightFacts:
    return right_facts(**{"ticket": TICKET, "product": "adult", "product_class": "full", **BOUND, **changes})


def verify(text: str) -> TicketCode:
    raise TicketCodeError("bad_signature")


class Rig:
    def __init__(self) -> None:
        self.ledger, self.me = Probe("ledger"), Address("explainer")
        self.entry, self.exit = "", ""
        self.actor = Explainer(
            lanes={
                "g1": LaneHere(
                    to_zone="park",
                    max_pax=5,
                    refuses=lambda: self.entry,
                    from_zone="outside",
                    refuses_exit=lambda: self.exit,
                )
            },
            verify=verify,
            hash_id=lambda kind, value: f"{kind}:{value}".encode(),
            ledger=self.ledger,
            clock=lambda: NOW,
            rotating_key=lambda ticket: KEY,
        )

    async def ask(self, code: str, *rights: RightFacts, **fields: object) -> tuple[Explain | None, Explanation]:
        """The question that the ledger was asked (None: none), and the explanation."""
        outcome: list[Explanation] = []
        asked: Explain | None = None

        async def wait() -> None:
            outcome.append(await self.me.ask(ExplainScan(code=code, lane="g1", **fields), 10.0))  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await settle()
            if not outcome:
                asked = await self.ledger.expect(Explain)
                self.ledger.envelope.reply(ScanBooks(rights=list(rights), zone=PARK))
        return asked, outcome[0]


@asynccontextmanager
async def explainer() -> AsyncIterator[Rig]:
    rig = Rig()
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig


def checks(told: Explanation) -> list[str]:
    return [step.check for step in told.steps]


async def test_a_typed_short_code_is_looked_up_by_its_hash_however_it_is_typed(autojump_clock: object) -> None:
    async with explainer() as rig:
        for typed in (SHORT, grouped(SHORT), grouped(SHORT).lower(), f" {SHORT[:4]} {SHORT[4:]}"):
            asked, told = await rig.ask(typed, right())
            assert asked is not None
            assert (asked.kind, asked.credential_hash) == (CredentialKind.SHORT, f"short:{SHORT}".encode())
            assert told.admitted and told.ticket == TICKET and "signature" not in checks(told)
        asked, told = await rig.ask(SHORT[:-1] + ("0" if SHORT[-1] != "0" else "1"))
        assert asked is None and not told.admitted, "what is mistyped is no short code, as at the gate"


async def test_too_many_typed_codes_are_guesses(autojump_clock: object) -> None:
    async with explainer() as rig:
        for _ in range(module.TYPED_MAX):
            await rig.ask(SHORT, right())
        with pytest.raises(ExceptionGroup) as caught:
            await rig.ask(SHORT, right())
        assert caught.group_contains(CommandRefused, match="Too many codes typed")


async def test_a_live_code_counts_at_its_moment_and_not_two_minutes_later(autojump_clock: object) -> None:
    async with explainer() as rig:
        live = rotating_text(TICKET, KEY, NOW)
        asked, told = await rig.ask(live, right())
        assert asked is not None and (asked.ticket, asked.credential_hash) == (TICKET, b"code:4711")
        assert told.admitted and "live code" in told.steps[1].text_en
        for off_s in (-120.0, 120.0):
            asked, told = await rig.ask(live, right(), at=NOW + off_s)
            assert asked is None and told.code == "bad_signature"
        asked, told = await rig.ask(rotating_text(TICKET, bytes(32), NOW), right())
        assert asked is None and told.code == "bad_signature"


async def test_an_id_number_is_a_credential_and_the_holders_at_once(autojump_clock: object) -> None:
    async with explainer() as rig:
        bound = right(binds="id", redeemed=1, sold=5, holder_hash=b"id_number:11010519491231002X")
        asked, told = await rig.ask(" 11010519491231002x", bound, id_number=True)
        assert asked is not None and asked.kind is CredentialKind.ID_NUMBER
        assert asked.credential_hash == b"id_number:11010519491231002X"
        assert told.admitted and "signature" not in checks(told)
        _, told = await rig.ask("110105194912310038", bound, id_number=True)
        assert told.code == "holder_mismatch"
        _, told = await rig.ask("", bound, id_number=True)
        assert told.code == "unknown_code"


async def test_an_id_beside_the_code_and_a_stamp_are_the_holders_factor(autojump_clock: object) -> None:
    async with explainer() as rig:
        bound = right(binds="id", redeemed=1, sold=5, holder_hash=b"id_number:A1")
        for fields, code in (
            ({}, "id_required"),
            ({"holder": "B2"}, "holder_mismatch"),
            ({"holder": "a1 "}, "ok"),
            ({"stamp": True}, "ok"),
        ):
            _, told = await rig.ask(SHORT, bound, **fields)
            assert told.code == code, fields


async def test_a_face_is_compared_with_cards_and_codes_only_as_at_the_gate(autojump_clock: object) -> None:
    async with explainer() as rig:
        faced = right(needs_face=True)
        _, told = await rig.ask("CARD:1", faced, face_ok=True)
        assert told.admitted
        _, told = await rig.ask(SHORT, faced, face_ok=True)
        assert told.code == "needs_factor"
        _, told = await rig.ask(SHORT, faced, stamp=True)
        assert told.admitted


async def test_of_several_tickets_staff_choose_one(autojump_clock: object) -> None:
    async with explainer() as rig:
        several = (right(), right(ticket=4712, entitlement=2, product="child", product_class="discount"))
        _, told = await rig.ask("A1", *several, id_number=True)
        assert told.code == "ambiguous" and told.steps[-2].check == "choice"
        _, told = await rig.ask("A1", *several, id_number=True, product="child")
        assert (told.code, told.ticket, told.product) == ("ok", 4712, "child")


async def test_whoever_wants_out_is_let_out_on_anything_but_by_a_lane_that_lets_out(autojump_clock: object) -> None:
    async with explainer() as rig:
        rig.entry = "lane_closed"
        for code, rights in ((SHORT, [right(redeemed=1, used_day=1)]), (SHORT, []), ("CARD:1", [])):
            asked, told = await rig.ask(code, *rights, way_out=True)
            assert asked is not None and (asked.from_zone, asked.to_zone) == ("park", "outside")
            assert told.admitted and told.zone == "outside" and checks(told)[-1] == "way_out"
            assert told.ticket == (TICKET if rights else None)
        for forged in ("forged", rotating_text(TICKET, KEY, NOW - 500), ""):
            asked, told = await rig.ask(forged, way_out=True)
            assert asked is None and told.admitted and told.pax == 1, forged
        rig.exit = "lane_closed"
        _, told = await rig.ask(SHORT, right(), way_out=True)
        assert told.code == "lane_closed" and not told.admitted
        assert await heard(rig.ledger) == []


def test_a_question_never_shows_code_or_holder() -> None:
    shown = repr(ExplainScan(code="SECRET", lane="g1", holder="SECRET", stamp=True))
    assert "SECRET" not in shown
