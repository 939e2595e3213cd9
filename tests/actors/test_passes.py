"""Annual cards: a face is compared with the card's own template, doubt is never a match, one bad card harms nobody."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors import passes as module
from actors.passes import EnrolFace, EnrolledFace, FaceRefused, FaceVerdict, Passes, Sealer, VerifyFace
from actors.testing import alive, heard, settle
from core import Address, AskTimeout
from core.testing import Probe
from protocols.messages import CredentialKind
from storage.interfaces import LedgerUnavailable, PassTemplate, Template


class Matcher:
    """An embedding is the photograph's own bytes; `fails` is what the next photographs end with."""

    algorithm = "bytes-1"

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.slow_s = 0.0
        self.busy = self.busy_max = 0

    async def run(self) -> None:
        await trio.sleep_forever()

    async def embed(self, photo: bytes, deadline_s: float) -> bytes:
        self.busy += 1
        self.busy_max = max(self.busy, self.busy_max)
        try:
            await trio.sleep(self.slow_s)
            if self.fails is not None:
                raise self.fails
            return photo
        finally:
            self.busy -= 1

    def same(self, one: bytes, other: bytes) -> bool:
        if one == b"poison":
            raise ValueError("not an embedding")
        return one == other


def seal(data: bytes, context: bytes) -> bytes:
    return context + b"|" + data


def unseal(data: bytes, context: bytes) -> bytes:
    bound, _, plain = data.partition(b"|")
    if bound != context:
        raise RuntimeError("sealed for something else")
    return plain


class Rig:
    def __init__(self) -> None:
        self.matcher = Matcher()
        self.ledger, self.asker = Probe("ledger"), Probe("asker")
        self.me = Address("passes", capacity=128)
        self.actor = Passes(matcher=self.matcher, sealer=Sealer(seal, unseal), ledger=self.ledger)

    async def verify(self, photo=b"ann", *, template=b"face-template|ann", needs_face=True, algorithm="bytes-1"):
        """Ask about a card whose template the ledger has; the verdict's code."""
        self.me.tell(VerifyFace(ref=1, credential_hash=b"h", photo=photo), reply_to=self.asker)
        question = await self.ledger.expect(PassTemplate)
        assert question.credential_hash == b"h"
        self.ledger.envelope.reply(
            Template(needs_face=needs_face, ticket=1, template_enc=template, algorithm=algorithm)
        )
        return (await self.asker.expect(FaceVerdict)).code


@asynccontextmanager
async def passes(*, crashes=0):
    rig = Rig()
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ({}, "ok"),
        ({"photo": b"bob"}, "factor_mismatch"),
        ({"needs_face": False}, "not_needed"),
        ({"template": None}, "factor_mismatch"),
        ({"algorithm": "bytes-0"}, "factor_mismatch"),
    ],
)
async def test_the_face_is_compared_with_the_cards_own_template(autojump_clock, case, code):
    async with passes() as rig:
        assert await rig.verify(**case) == code


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        ("no_face", "needs_factor"),
        ("several_faces", "needs_factor"),
        ("bad_image", "needs_factor"),
        ("timeout", "unavailable"),
        ("unavailable", "unavailable"),
    ],
)
async def test_a_photograph_that_says_nothing_is_never_a_match(autojump_clock, refused, code):
    async with passes() as rig:
        rig.matcher.fails = FaceRefused(refused)
        assert await rig.verify() == code


@pytest.mark.parametrize("trouble", ["away", "silent", "full"])
async def test_without_the_ledger_there_is_no_verdict(autojump_clock, trouble):
    async with passes() as rig:
        while trouble == "full" and rig.ledger.statistics().depth < rig.ledger.capacity:
            rig.ledger.tell("something else")
        rig.me.tell(VerifyFace(ref=7, credential_hash=b"h", photo=b"ann"), reply_to=rig.asker)
        if trouble == "away":
            await rig.ledger.expect(PassTemplate)
            rig.ledger.envelope.fail(LedgerUnavailable("away"))
        verdict = await rig.asker.expect(FaceVerdict, within_s=module.TEMPLATE_S + 0.1)
        assert (verdict.ref, verdict.code) == (7, "unavailable")


@pytest.mark.parametrize("template", [b"another-purpose|ann", b"face-template|poison"])
async def test_a_card_whose_template_cannot_be_read_harms_no_other(autojump_clock, template):
    async with passes() as rig:
        rig.me.tell(VerifyFace(ref=1, credential_hash=b"h", photo=b"ann"), reply_to=rig.asker)
        await rig.ledger.expect(PassTemplate)
        rig.ledger.envelope.reply(Template(needs_face=True, ticket=1, template_enc=template, algorithm="bytes-1"))
        (answer,) = await heard(rig.asker)
        assert not (isinstance(answer, FaceVerdict) and answer.code == "ok")
        assert rig.me.incarnation == 1, "a restart would fail everybody else who is being looked at"
        assert await rig.verify() == "ok"


async def test_a_new_card_gets_a_sealed_template(autojump_clock):
    async with passes() as rig:
        enrolled = await rig.me.ask(EnrolFace(photo=b"ann"), 1.0)
        assert enrolled == EnrolledFace(template_enc=b"face-template|ann", algorithm="bytes-1")
        rig.matcher.fails = FaceRefused("several_faces")
        with pytest.raises(FaceRefused) as refused:
            await rig.me.ask(EnrolFace(photo=b"two"), 1.0)
        assert refused.value.code == "several_faces"


async def test_a_bug_in_the_matcher_is_heard_by_whoever_asked_and_nobody_else(autojump_clock):
    async with passes() as rig:
        rig.matcher.fails = ZeroDivisionError("a bug")
        with pytest.raises(FaceRefused) as refused:
            await rig.me.ask(EnrolFace(photo=b"ann"), 1.0)
        assert refused.value.code == "unavailable"
        rig.matcher.fails = None
        assert await rig.verify() == "ok"


async def test_photographs_wait_for_nobody_and_only_so_many_are_looked_at(autojump_clock):
    async with passes() as rig:
        rig.matcher.slow_s = 3.0
        for _ in range(module.COMPARISONS_MAX + 4):
            rig.me.tell(EnrolFace(photo=b"x"), reply_to=rig.asker)
        await settle()
        assert rig.matcher.busy == module.COMPARISONS_MAX
        assert len(await heard(rig.asker)) == 4, "told at once that there are too many"
        await trio.sleep(3.1)
        assert len(await heard(rig.asker)) == module.COMPARISONS_MAX
        rig.matcher.slow_s = 0
        assert await rig.verify() == "ok"


async def test_an_asker_that_gave_up_costs_no_slot_for_good(autojump_clock):
    async with passes() as rig:
        rig.matcher.slow_s = 2.0
        for _ in range(module.COMPARISONS_MAX * 2):
            with pytest.raises(AskTimeout):
                await rig.me.ask(EnrolFace(photo=b"x"), 1.0)
            await trio.sleep(1.5)
        rig.matcher.slow_s = 0
        assert await rig.verify() == "ok"


def test_no_photograph_in_any_log():
    for message in (VerifyFace(ref=1, credential_hash=b"", photo=b"SECRET"), EnrolFace(photo=b"SECRET")):
        assert "SECRET" not in repr(message)


# --- tickets that are bound to their first face -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "used", "photo", "code"),
    [
        (None, False, b"ann", "taken"),
        (b"face-template|bob", False, b"ann", "taken"),  # never used: it may have changed hands
        (b"face-template|ann", True, b"ann", "ok"),
        (b"face-template|bob", True, b"ann", "factor_mismatch"),
        (None, True, b"ann", "taken"),  # used on the word of staff before
    ],
)
async def test_the_first_face_is_taken_and_later_ones_are_compared(autojump_clock, known, used, photo, code):
    async with passes() as rig:
        rig.me.tell(
            VerifyFace(ref=1, credential_hash=b"h", photo=photo, kind=CredentialKind.CODE), reply_to=rig.asker
        )
        assert (await rig.ledger.expect(PassTemplate)).kind is CredentialKind.CODE
        rig.ledger.envelope.reply(
            Template(
                needs_face=False, ticket=1, template_enc=known, algorithm="bytes-1", binds_face=True, used=used
            )
        )
        verdict = await rig.asker.expect(FaceVerdict)
        assert verdict.code == code
        taken = (b"face-template|ann", "bytes-1") if code == "taken" else (None, "")
        assert (verdict.template_enc, verdict.algorithm) == taken
        assert "template|" not in repr(verdict)


async def test_a_face_that_cannot_be_taken_is_asked_for_again(autojump_clock):
    async with passes() as rig:
        rig.matcher.fails = FaceRefused("no_face")
        rig.me.tell(VerifyFace(ref=1, credential_hash=b"h", photo=b"dark"), reply_to=rig.asker)
        await rig.ledger.expect(PassTemplate)
        rig.ledger.envelope.reply(
            Template(needs_face=False, ticket=1, template_enc=None, algorithm="", binds_face=True)
        )
        assert (await rig.asker.expect(FaceVerdict)).code == "needs_factor"
