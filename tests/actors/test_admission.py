"""From a lane's question to a grant: nothing forged reaches the ledger's decision, and the answer goes to the asker."""

from __future__ import annotations

from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors.admission import Admission
from actors.admission import _actor as module
from actors.passes import FaceRefused, FaceVerdict, VerifyFace
from actors.testing import alive, granted, heard, only, scan, settle
from core import Address, Failed
from core.testing import Probe
from protocols.errors import TicketCodeError
from protocols.messages import Counters, Credential, CredentialKind, Decide, Denied, Direction
from protocols.rotating import rotating_text
from protocols.shortcode import grouped, new_short
from protocols.ticketcode import ProductClass, TicketCode
from storage.interfaces import GrantOp, LedgerUnavailable, RefusedScan

PATIENCE_S = 2.0


def verify(text: str) -> TicketCode:
    if text.startswith("forged"):
        raise TicketCodeError("bad_signature")
    if not text.startswith("code-"):
        raise TicketCodeError("unknown_code")
    return TicketCode(
        key_id=1, site=b"site", ticket=4711, valid_from=0, valid_to=60, pax=1, product_class=ProductClass.FULL
    )


def question(nonce="n1", *, value="code-1", kind=CredentialKind.CODE, photo=None, counters=None) -> Decide:
    presented = msgspec.structs.replace(scan(nonce), credential=Credential(kind, value), photo=photo, pax=3)
    return Decide(scan=presented, from_zone="outside", to_zone="park", max_pax=5, ttl_s=8.0, counters=counters)


class Rig:
    def __init__(self) -> None:
        self.ledger, self.passes, self.lane = Probe("ledger"), Probe("passes"), Probe("lane")
        self.me = Address("admission", capacity=1024)
        self.now = 1_800_000_000.0
        self.actor = Admission(
            verify=verify,
            hash_id=lambda kind, value: f"{kind}:{value}".encode(),
            ledger=self.ledger,
            passes=self.passes,
            rotating_key=lambda ticket: f"key of {ticket}".encode(),
            seal=lambda data, context: context + b"|" + data,
            clock=lambda: self.now,
        )

    def ask(self, message: Decide, **options) -> None:
        self.me.tell(message, reply_to=self.lane, deadline=trio.current_time() + PATIENCE_S, **options)

    def fill(self, probe: Probe) -> None:
        while probe.statistics().depth < probe.capacity:
            probe.tell("something else")


@asynccontextmanager
async def admission(*, crashes=0):
    rig = Rig()
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


def card(nonce: str = "n1", *, photo: bytes | None = b"jpeg", value: str = "12345") -> Decide:
    return question(nonce, value=value, kind=CredentialKind.CARD, photo=photo)


async def test_a_good_code_is_asked_of_the_ledger_by_its_tickets_hash(autojump_clock):
    async with admission() as rig:
        rig.ask(question(counters=Counters("e1", 7, 3)), trace="abc")
        operation = await rig.ledger.expect(GrantOp)
        assert operation.credential_hash == b"code:4711", "never the code itself"
        assert (operation.lane, operation.device, operation.nonce) == ("g1", "reader/g1/1", "n1")
        assert (operation.from_zone, operation.to_zone, operation.max_pax, operation.pax) == ("outside", "park", 5, 3)
        assert (operation.counter_epoch, operation.counter_entries, operation.counter_exits) == ("e1", 7, 3)
        assert operation.face_ok is False and operation.ttl_s == 8.0
        assert (rig.ledger.envelope.trace, rig.ledger.envelope.deadline) == ("abc", trio.current_time() + PATIENCE_S)
        rig.ledger.envelope.reply(granted())
        assert await heard(rig.lane) == [granted()], "to the lane that asked"


@pytest.mark.parametrize(("value", "code"), [("forged", "bad_signature"), ("https://x", "unknown_code")])
async def test_what_is_forged_never_reaches_the_decision(autojump_clock, value, code):
    async with admission() as rig:
        rig.ask(question(value=value))
        assert await heard(rig.lane) == [Denied(nonce="n1", code=code)]
        (refused,) = await heard(rig.ledger)
        assert isinstance(refused, RefusedScan) and (refused.code, refused.credential_hash) == (code, b"")
        assert value not in repr(msgspec.to_builtins(refused))


@pytest.mark.parametrize("value", ["", "9" * 65])
async def test_what_cannot_be_a_card_number_is_refused_unasked(autojump_clock, value):
    async with admission() as rig:
        rig.ask(card(value=value))
        assert [denied.code for denied in await heard(rig.lane)] == ["unknown_code"]
        assert only(await heard(rig.ledger), GrantOp) == [] and await heard(rig.passes) == []


async def test_the_ledgers_failure_reaches_the_lane_as_it_is(autojump_clock):
    async with admission() as rig:
        rig.ask(question())
        await rig.ledger.expect(GrantOp)
        rig.ledger.envelope.fail(LedgerUnavailable("away"))
        (failed,) = await heard(rig.lane)
        assert isinstance(failed, Failed) and isinstance(failed.error, LedgerUnavailable)
        assert failed.msg.scan.nonce == "n1"


# --- cards with a photograph ------------------------------------------------------------------------------------


async def test_a_card_without_a_photograph_is_for_the_ledger_to_judge(autojump_clock):
    async with admission() as rig:
        rig.ask(card(photo=None))
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.credential_hash, operation.face_ok) == (b"card:12345", False)
        assert await heard(rig.passes) == []


@pytest.mark.parametrize(("verdict", "face_ok"), [("ok", True), ("not_needed", False)])
async def test_a_card_with_a_photograph_is_compared_first(autojump_clock, verdict, face_ok):
    async with admission() as rig:
        rig.ask(card())
        asked = await rig.passes.expect(VerifyFace)
        assert (asked.credential_hash, asked.photo) == (b"card:12345", b"jpeg")
        assert await heard(rig.ledger) == [], "not before the verdict"
        rig.passes.envelope.reply(FaceVerdict(ref=asked.ref, code=verdict))
        operation = await rig.ledger.expect(GrantOp)
        assert operation.face_ok is face_ok
        rig.ledger.envelope.reply(granted())
        assert await heard(rig.lane) == [granted()]


@pytest.mark.parametrize("code", ["factor_mismatch", "needs_factor", "unavailable"])
async def test_no_face_no_grant(autojump_clock, code):
    async with admission() as rig:
        rig.ask(card())
        asked = await rig.passes.expect(VerifyFace)
        rig.passes.envelope.reply(FaceVerdict(ref=asked.ref, code=code))
        # the ledger refuses it, unless this very scan was granted before
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.refused, operation.face_ok) == (code, False)


async def test_a_comparison_that_fails_is_unavailable(autojump_clock):
    async with admission() as rig:
        rig.ask(card())
        await rig.passes.expect(VerifyFace)
        rig.passes.envelope.fail(FaceRefused("unavailable"))
        assert (await rig.ledger.expect(GrantOp)).refused == "unavailable"


async def test_where_the_camera_fails_the_word_of_staff_counts(autojump_clock):
    async with admission() as rig:
        asked = card()
        rig.ask(msgspec.structs.replace(asked, scan=msgspec.structs.replace(asked.scan, stamp="guard1")))
        face = await rig.passes.expect(VerifyFace)
        rig.passes.envelope.reply(FaceVerdict(ref=face.ref, code="needs_factor"))
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.refused, operation.stamp, operation.face_ok) == ("", "guard1", False)


async def test_the_face_of_a_first_use_goes_to_the_ledger_sealed(autojump_clock):
    async with admission() as rig:
        rig.ask(question(photo=b"jpeg"))
        face = await rig.passes.expect(VerifyFace)
        assert (face.kind, face.credential_hash) == (CredentialKind.CODE, b"code:4711")
        rig.passes.envelope.reply(FaceVerdict(ref=face.ref, code="taken", template_enc=b"sealed", algorithm="a1"))
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.template_enc, operation.template_algorithm) == (b"sealed", "a1")
        assert "sealed" not in repr(operation) and "4711" not in repr(operation)


# --- a second factor, typed codes, ways out -----------------------------------------------------------------------


def changed(message: Decide, **changes) -> Decide:
    return msgspec.structs.replace(message, scan=msgspec.structs.replace(message.scan, **changes))


async def test_the_holders_id_is_hashed_and_sealed(autojump_clock):
    async with admission() as rig:
        rig.ask(changed(question(), holder=Credential(CredentialKind.ID_NUMBER, " 11010519491231002x ")))
        operation = await rig.ledger.expect(GrantOp)
        assert operation.holder_hash == b"id_number:11010519491231002X"
        assert operation.holder_enc == b"id-number|11010519491231002X"
        assert operation.ticket == 4711
    async with admission() as rig:  # an ID that is the credential itself is the holder's, too
        rig.ask(question(kind=CredentialKind.ID_NUMBER, value="A1234567"))
        operation = await rig.ledger.expect(GrantOp)
        assert operation.credential_hash == operation.holder_hash == b"id_number:A1234567"


@pytest.mark.parametrize("value", ["forged-1", "rubbish", ""])
async def test_whoever_wants_out_is_let_out_on_anything(autojump_clock, value):
    async with admission() as rig:
        rig.ask(changed(question(value=value), direction=Direction.EXIT))
        operation = await rig.ledger.expect(GrantOp)
        assert operation.direction is Direction.EXIT and operation.refused


async def test_short_codes_are_looked_up_by_their_hash_and_only_so_many_are_tried(autojump_clock):
    async with admission() as rig:
        code = new_short()
        for number in range(module.TYPED_MAX):
            rig.ask(question(f"n{number}", kind=CredentialKind.SHORT, value=grouped(code).lower()))
            assert (await rig.ledger.expect(GrantOp)).credential_hash == f"short:{code}".encode()
        rig.ask(question("one more", kind=CredentialKind.SHORT, value=code))
        (denied,) = await heard(rig.lane)
        assert (denied.code, denied.nonce) == ("unavailable", "one more")
        rig.now += module.TYPED_WITHIN_S
        rig.ask(question("a minute later", kind=CredentialKind.SHORT, value=code))
        assert isinstance((await heard(rig.ledger))[-1], GrantOp)


async def test_a_rotating_code_is_that_of_its_ticket_and_a_picture_of_it_soon_worthless(autojump_clock):
    async with admission() as rig:
        text = rotating_text(4711, b"key of 4711", rig.now)
        rig.ask(question(value=text))
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.ticket, operation.credential_hash, operation.refused) == (4711, b"code:4711", "")
        rig.now += 90
        rig.ask(question(value=text))  # the same scan, sent again: only the ledger knows that it was granted
        assert (await rig.ledger.expect(GrantOp)).refused == "bad_signature"


async def test_each_verdict_goes_to_its_own_visitor(autojump_clock):
    async with admission() as rig:
        rig.ask(card("n1", value="111"))
        first = (await rig.passes.expect(VerifyFace), rig.passes.envelope)
        rig.ask(card("n2", value="222"))
        second = (await rig.passes.expect(VerifyFace), rig.passes.envelope)
        second[1].reply(FaceVerdict(ref=second[0].ref, code="ok"))
        first[1].reply(FaceVerdict(ref=first[0].ref, code="factor_mismatch"))
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.nonce, operation.credential_hash, operation.face_ok) == ("n2", b"card:222", True)
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.nonce, operation.credential_hash, operation.refused) == ("n1", b"card:111", "factor_mismatch")


async def test_a_verdict_said_twice_or_for_nobody_grants_nothing(autojump_clock):
    async with admission() as rig:
        rig.ask(card())
        asked = await rig.passes.expect(VerifyFace)
        rig.me.tell(FaceVerdict(ref=asked.ref + 1, code="ok"))
        rig.me.tell(FaceVerdict(ref=asked.ref, code="ok"))
        rig.me.tell(FaceVerdict(ref=asked.ref, code="ok"))
        assert len(await heard(rig.ledger)) == 1


async def test_a_code_needs_no_face(autojump_clock):
    async with admission() as rig:
        rig.ask(question(photo=b"jpeg"))
        face = await rig.passes.expect(VerifyFace)
        rig.passes.envelope.reply(FaceVerdict(ref=face.ref, code="not_needed"))
        operation = await rig.ledger.expect(GrantOp)
        assert (operation.face_ok, operation.refused) == (False, "")


# --- too much at once -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["ledger", "passes"])
async def test_a_neighbour_without_room_is_unavailable_at_once(autojump_clock, full):
    async with admission() as rig:
        rig.fill(getattr(rig, full))
        rig.ask(card() if full == "passes" else question())
        assert await heard(rig.lane) == [Denied(nonce="n1", code="unavailable")]


async def test_only_so_many_faces_are_compared_at_once(autojump_clock):
    async with admission() as rig:
        for number in range(module.FACES_WAITING_MAX + 1):
            rig.ask(card(f"n{number}"))
        assert len(await heard(rig.passes)) == module.FACES_WAITING_MAX
        assert await heard(rig.lane) == [Denied(nonce=f"n{module.FACES_WAITING_MAX}", code="unavailable")]


async def test_a_question_that_comes_too_late_is_not_carried_out(autojump_clock):
    async with admission() as rig:
        rig.me.tell(question(), reply_to=rig.lane, deadline=trio.current_time())
        await settle()
        assert await heard(rig.ledger) == []
        assert isinstance((await heard(rig.lane))[0], Failed)


async def test_a_verdict_that_comes_too_late_opens_nothing(autojump_clock):
    async with admission() as rig:
        rig.ask(card())
        asked = await rig.passes.expect(VerifyFace)
        envelope = rig.passes.envelope
        await trio.sleep(PATIENCE_S + 0.1)
        envelope.reply(FaceVerdict(ref=asked.ref, code="ok"))
        await settle()
        with trio.move_on_after(1.0):
            await rig.ledger.receive()
            raise AssertionError("the lane has told its visitor no by then")


async def test_when_it_dies_whoever_waits_hears_so_and_an_old_verdict_counts_for_nothing(autojump_clock):
    async with admission(crashes=1) as rig:
        rig.ask(card("n1"))
        asked = await rig.passes.expect(VerifyFace)
        rig.ask(question(value=None))  # what no codec lets through
        await trio.sleep(0.1)
        assert [type(message) for message in await heard(rig.lane)] == [Failed, Failed]
        rig.me.tell(FaceVerdict(ref=asked.ref, code="ok"))
        assert only(await heard(rig.ledger), GrantOp) == []
