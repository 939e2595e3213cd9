"""The office's actor: people's commands become the ledger's, with who and why; secrets are kept on the way."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager

import pytest
import trio

from actors import office as module
from actors.errors import CommandRefused
from actors.office import Office, OfficeSeal
from actors.testing import alive, heard, only, settle
from core import Address, AskTimeout
from core.testing import Probe
from protocols import console as c
from storage import interfaces as s

PATIENCE_S = 60.0
WHO = {"by": "ann", "by_role": "duty_manager"}


class Rig:
    def __init__(self) -> None:
        self.ledger, self.hub = Probe("ledger"), Probe("consoles")
        self.me = Address("office", capacity=256)
        self.signed: list[s.BookedTicket] = []
        self.actor = Office(
            ledger=self.ledger,
            hub=self.hub,
            seal=OfficeSeal(
                hash_id_number=lambda number: f"id-hash {number}".encode(),
                hash_card=lambda card: f"card-hash {card}".encode(),
                seal_id_number=lambda number: f"id-seal {number[:2]}".encode(),
                seal_name=lambda name: f"name-seal {len(name)}".encode(),
                sign=self.sign,
            ),
            product_class={"group": "group"},
        )

    def sign(self, ticket: s.BookedTicket) -> str:
        self.signed.append(ticket)
        return f"code {ticket.ticket}"

    async def ask(self, message, outcome: list) -> None:
        try:
            outcome.append(await self.me.ask(message, PATIENCE_S))
        except Exception as exc:
            outcome.append(exc)


@pytest.fixture(autouse=True)
def signed_at_once(monkeypatch):
    """A thread takes real time, and virtual time does not wait for it."""

    async def run_sync(function, *arguments, **_options):
        return function(*arguments)

    monkeypatch.setattr(module.trio.to_thread, "run_sync", run_sync)


@asynccontextmanager
async def office(*, crashes=0):
    rig = Rig()
    async with trio.open_nursery() as nursery, alive(rig.actor.run, rig.me, crashes=crashes):

        def send(message):
            outcome: list = []
            nursery.start_soon(rig.ask, message, outcome)
            return outcome

        rig.send = send
        await settle()
        yield rig
        nursery.cancel_scope.cancel()


async def answered(rig: Rig, message, kind, answer):
    """Send a command, see what the ledger is asked, answer it; the question and what came of it."""
    outcome = rig.send(message)
    asked = await rig.ledger.expect(kind)
    if isinstance(answer, Exception):
        rig.ledger.envelope.fail(answer)
    else:
        rig.ledger.envelope.reply(answer)
    await settle()
    return asked, outcome


def group(ticket: int) -> s.OrderBooks:
    books = s.TicketBooks(
        ticket=ticket, line=1, product="group", product_name_zh="团", product_name_en="G", state="active",
        hold_reason="", pax=30, collected=2, named=0, to_pass=30, to_refund=30, to_collect=28, valid_from=60.0,
        valid_to=120.0, slot_from=None, slot_to=None, credentials=[],
        rights=[s.RightBooks(zones=["park"], sold=30, redeemed=0, held=0, refunded=0, reserved_refund=0)],
    )  # fmt: skip
    return s.OrderBooks(order=5, tickets=[books])


def refund(state: str = "requested", *, repeated: bool = False) -> s.RefundBooked:
    return s.RefundBooked(
        refund=9, order=5, ticket=7, places=2, amount_cents=16_000, parts=[], state=state, requested_by="ann",
        repeated=repeated,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message", "kind", "fields"),
    [
        (c.HoldPlaces(ticket=7, held=True, reason=" lost guide ", key="k", **WHO), s.HoldTicket,
         {"ticket": 7, "held": True, "reason": "lost guide"}),
        (c.MovePlaces(from_ticket=7, to_ticket=8, places=3, reason="r", key="k", **WHO), s.TransferPlaces,
         {"from_ticket": 7, "to_ticket": 8, "places": 3}),
        (c.SetCardState(ticket=7, state="lost", reason="r", key="k", **WHO), s.MarkCard,
         {"ticket": 7, "state": "lost"}),
        (c.CancelUnpaid(order=5, reason="r", key="k", **WHO), s.CancelOrder, {"order": 5}),
    ],
)  # fmt: skip
async def test_a_command_names_the_person_the_role_the_reason_and_its_key(autojump_clock, message, kind, fields):
    """Invariant 24: what the ledger writes down is who asked, as what, and why."""
    async with office() as rig:
        asked, outcome = await answered(rig, message, kind, s.OfficeDone(detail="so"))
        assert (asked.key, asked.user, asked.role) == ("k", "ann", "duty_manager") and asked.at > 0
        assert {name: getattr(asked, name) for name in fields} == fields
        assert outcome == [c.Done(detail="so")]


async def test_a_refund_goes_its_way_and_the_control_room_hears_of_it_once(autojump_clock):
    async with office() as rig:
        ask = c.AskRefund(ticket=7, places=2, credentials=[3], reason="rain", key="k", **WHO)
        asked, (view,) = await answered(rig, ask, s.RequestRefund, refund())
        assert (asked.ticket, asked.places, asked.credentials) == (7, 2, [3])
        assert isinstance(view, c.RefundView) and (view.refund, view.amount_cents) == (9, 16_000)
        await answered(rig, ask, s.RequestRefund, refund(repeated=True))
        settle_it = c.SettleRefund(refund=9, approved=True, reason="rain", key="k2", **WHO)
        asked, _ = await answered(rig, settle_it, s.DecideRefund, refund("approved"))
        assert asked.approved
        await answered(rig, c.PayRefund(refund=9, key="k3", **WHO), s.CompleteRefund, refund("done"))
        lines = only(await heard(rig.hub), c.FeedEvent)
        assert [line.code for line in lines] == ["refund_requested", "refund_approved", "refund_done"]
        assert all("160.00" in line.text_en and line.text_zh for line in lines)


async def test_papers_are_signed_for_one_person_with_the_groups_validity(autojump_clock):
    async with office() as rig:
        outcome = rig.send(c.CollectPlaces(ticket=7, places=2, workstation="w1", key="k", **WHO))
        await rig.ledger.expect(s.Collect)
        rig.ledger.envelope.reply(s.Collected(ticket=7, papers=[71, 72], collected=2))
        await rig.ledger.expect(s.FindBooks)
        rig.ledger.envelope.reply(group(7))
        await settle()
        (view,) = outcome
        assert [(paper.paper, paper.code) for paper in view.papers] == [(71, "code 71"), (72, "code 72")]
        assert {(each.pax, each.product_class, tuple(each.zones), each.valid_to) for each in rig.signed} == {
            (1, "group", ("park",), 120.0)
        }
        assert "code" not in repr(view.papers[0])


async def test_names_and_id_numbers_leave_the_office_hashed_and_sealed_only(autojump_clock):
    async with office() as rig:
        people = [c.NamedPerson(name=" 王小明 ", id_number=" 11010119900307123x ")]
        message = c.NameList(ticket=7, people=people, key="k", **WHO)
        named = s.Named(ticket=7, credentials=[1], named=1)
        asked, (view,) = await answered(rig, message, s.NamePeople, named)
        assert asked.people == [
            s.Person(
                id_hash=b"id-hash 11010119900307123X", id_enc=b"id-seal 11", name_enc=b"name-seal 3", tail="123X"
            )
        ]
        assert view.credentials == [1] and "1101" not in repr(message) + repr(people)
        for name, number in (("", "11010119900307123X"), ("王", "12"), ("王", "1101 0119"), ("王", "x" * 21)):
            bad = c.NameList(ticket=7, people=[c.NamedPerson(name=name, id_number=number)], key="k", **WHO)
            outcome = rig.send(bad)
            await settle()
            assert outcome[0].code == "bad_person"
        assert await heard(rig.ledger) == []


async def test_a_new_card_is_hashed_and_its_tail_is_not_most_of_it(autojump_clock):
    async with office() as rig:
        for card, tail in (("04A1B2C3D4", "C3D4"), ("12345678", "")):
            message = c.NewCard(ticket=7, card=f" {card} ", reason="lost", key="k", **WHO)
            replaced = s.CardReplaced(ticket=7, credential=3, issue_index=1, superseded=1)
            asked, (view,) = await answered(rig, message, s.ReplaceCard, replaced)
            assert (asked.card_hash, asked.tail) == (f"card-hash {card}".encode(), tail)
            assert view.issue_index == 1 and card not in repr(message)
        outcome = rig.send(c.NewCard(ticket=7, card="  ", reason="r", key="k", **WHO))
        await settle()
        assert outcome[0].code == "bad_card"


async def test_codes_come_with_the_money_and_money_that_goes_back_is_told(autojump_clock):
    async with office() as rig:
        word = c.NotePayment(order=5, tender="wechat", key="tx", amount_cents=8_000, **WHO)
        outcome = rig.send(word)
        asked = await rig.ledger.expect(s.PaymentNotice)
        assert (asked.tender, asked.key, asked.amount_cents, asked.user) == ("wechat", "tx", 8_000, "ann")
        rig.ledger.envelope.reply(s.PaymentBooked(order=5, outcome="paid", tickets=[7]))
        await rig.ledger.expect(s.FindBooks)
        rig.ledger.envelope.reply(group(7))
        await settle()
        assert [(ticket.ticket, ticket.code, ticket.pax) for ticket in outcome[0].tickets] == [(7, "code 7", 30)]
        back = s.PaymentBooked(order=5, outcome="given_back", tickets=[], refund=4, detail="cancelled")
        _, (view,) = await answered(rig, word, s.PaymentNotice, back)
        assert (view.outcome, view.refund, view.tickets) == ("given_back", 4, [])
        (line,) = only(await heard(rig.hub), c.FeedEvent)
        assert (line.code, line.severity) == ("payment_given_back", "warning")


# --- codes that are printed in advance ------------------------------------------------------------------------------


def codes(count: int = 3) -> s.Codes:
    return s.Codes(
        batch=4, product="group", created_by="bob", created_at=60.0, pax=1, product_class="group", zones=["park"],
        codes=[(serial, 100 + serial) for serial in range(1, count + 1)],
    )  # fmt: skip


def batch(**states: int) -> s.BatchBooked:
    return s.BatchBooked(batch=4, product="group", quantity=3, created_by="bob", states=states, exported=1)


async def export(rig: Rig, count: int = 3, *, by: str = "ann", **changes):
    fields = {"batch": 4, "handed_to": "Wang", "reason": "r", "key": "k", "by": by} | changes
    outcome = rig.send(c.TakeOutCodes(**fields))
    await rig.ledger.expect(s.ListCodes)
    rig.ledger.envelope.reply(codes(count))
    return outcome


async def test_what_goes_out_is_hashed_and_written_down_before_a_line_is_given(autojump_clock):
    async with office() as rig:
        outcome = await export(rig)
        booked = await rig.ledger.expect(s.ExportCodes, within_s=PATIENCE_S)
        lines = ["4,1,code 101", "4,2,code 102", "4,3,code 103"]
        digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode())
        assert (booked.sha256, booked.handed_to, booked.user) == (digest.digest(), "Wang", "ann")
        early = rig.send(c.GetCodes(batch=4, first=0, by="ann"))
        await settle()
        assert early[0].code == "no_export"
        rig.ledger.envelope.reply(batch(at_printer=3))
        await settle()
        assert outcome == [c.ExportView(batch=4, codes=3, sha256=digest.hexdigest())]
        page = await rig.me.ask(c.GetCodes(batch=4, first=1, by="ann"), 1.0)
        assert page.lines == lines[1:] and "code 102" not in repr(page)
        for other in (c.GetCodes(batch=4, first=0, by="eve"), c.GetCodes(batch=5, first=0, by="ann")):
            with pytest.raises(CommandRefused) as refused:
                await rig.me.ask(other, 1.0)
            assert refused.value.code == "no_export"
        await trio.sleep(module.EXPORT_S + 1)
        with pytest.raises(CommandRefused):
            await rig.me.ask(c.GetCodes(batch=4, first=0, by="ann"), 1.0)


async def test_an_export_comes_in_pages_and_only_a_few_are_kept(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "EXPORTS_MAX", 1)
    async with office() as rig:
        await export(rig, module.PAGE_LINES + 5)
        await rig.ledger.expect(s.ExportCodes, within_s=PATIENCE_S)
        rig.ledger.envelope.reply(batch(at_printer=3))
        await settle()
        sizes = [len((await rig.me.ask(c.GetCodes(batch=4, first=at, by="ann"), 1.0)).lines) for at in (0, 200, 400)]
        assert sizes == [module.PAGE_LINES, 5, 0]
        await export(rig, batch=6)
        await rig.ledger.expect(s.ExportCodes, within_s=PATIENCE_S)
        rig.ledger.envelope.reply(batch(at_printer=3))
        await settle()
        with pytest.raises(CommandRefused):
            await rig.me.ask(c.GetCodes(batch=4, first=0, by="ann"), 1.0)


async def test_whoever_drew_the_codes_does_not_take_them_out(autojump_clock):
    async with office() as rig:
        outcome = await export(rig, by="bob")
        await settle()
        assert outcome[0].code == "four_eyes" and rig.signed == [] and await heard(rig.ledger) == []


async def test_a_batch_is_drawn_moved_and_listed(autojump_clock):
    async with office() as rig:
        draw = c.NewCodes(product="group", quantity=3, reason="r", key="k", **WHO)
        asked, (view,) = await answered(rig, draw, s.CreateCodes, batch(blank=3))
        assert (asked.product, asked.quantity, view.blank, view.sold) == ("group", 3, 3, 0)
        move = c.ShiftCodes(batch=4, first=1, last=2, state="void", reason="r", key="k", **WHO)
        asked, (view,) = await answered(rig, move, s.MoveCodes, batch(void=2, blank=1))
        assert (asked.first, asked.last, asked.state, view.void) == (1, 2, "void", 2)
        _, (listed,) = await answered(rig, c.GetBatches(), s.ListBatches, s.Batches(batches=[batch(sold=3)]))
        assert listed.batches[0].sold == 3


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [(s.LedgerRefused("2 places can be refunded, not 3"), "refused"), (s.LedgerUnavailable("away"), "unavailable")],
)
async def test_what_the_ledger_does_not_take_is_told_in_words_and_nobody_else_hears_of_it(autojump_clock, error, code):
    async with office() as rig:
        ask = c.AskRefund(ticket=7, places=3, reason="r", key="k", **WHO)
        _, outcome = await answered(rig, ask, s.RequestRefund, error)
        assert isinstance(outcome[0], CommandRefused) and outcome[0].code == code and outcome[0].text_zh
        assert only(await heard(rig.hub), c.FeedEvent) == []


async def test_an_unknown_outcome_is_told_as_such_and_the_office_goes_on(autojump_clock):
    async with office() as rig:
        outcome = rig.send(c.HoldPlaces(ticket=7, held=True, reason="r", key="k", **WHO))
        await trio.sleep(module.LEDGER_S + 0.1)
        assert isinstance(outcome[0], AskTimeout)
        await heard(rig.ledger)
        outcome = rig.send(c.FindOrder(number=7))
        await rig.ledger.expect(s.FindBooks)
        rig.ledger.envelope.reply(group(7))
        await settle()
        assert isinstance(outcome[0], c.OrderView) and outcome[0].tickets[0].ticket == 7


async def test_a_slow_ledger_holds_nobody_up_and_too_many_are_told_so(autojump_clock):
    async with office() as rig:
        outcomes = [rig.send(c.FindOrder(number=number)) for number in range(module.COMMANDS_MAX)]
        await settle()
        with pytest.raises(CommandRefused) as refused:
            await rig.me.ask(c.FindOrder(number=1), 1.0)
        assert refused.value.code == "busy"
        for _ in outcomes:
            await rig.ledger.expect(s.FindBooks)
            rig.ledger.envelope.reply(s.OrderBooks(order=0))
        await settle()
        assert all(isinstance(outcome[0], c.OrderView) for outcome in outcomes)


async def test_what_is_no_business_of_the_office_is_refused(autojump_clock):
    async with office() as rig:
        with pytest.raises(CommandRefused) as refused:
            await rig.me.ask(c.GetTree(), 1.0)
        assert refused.value.code == "unknown_command"
