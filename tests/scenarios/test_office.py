"""The office over the console channel of a running site: a group's life, codes printed in advance, and who may what."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest
import trio

from actors.accounts import User
from admin_ws.client import ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, SiteRig, site_rig
from paifang.users import load_users, write_users
from protocols import console as c

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

GROUP = 10  # people of the rig's group ticket
PASSPHRASE = "twelve characters"


def staff(rig: SiteRig) -> None:
    """People of the office, beside those that every rig has; the server reads the file at each log-in."""
    users = dict(load_users(rig.data))
    known = users["cashier"].password_hash
    for name in ("supervisor", "finance", "marketing"):
        users[name] = User(name=name, role=name, password_hash=known)
    write_users(rig.data, users)


async def paifang(rig: SiteRig, *arguments: str, user: str) -> subprocess.CompletedProcess[str]:
    done = await trio.run_process(
        [sys.executable, "-m", "paifang", *arguments, "--site", str(rig.site_path), "--user", user],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, "PAIFANG_PASSWORD": PASSWORD, "PAIFANG_EXPORT_PASSPHRASE": PASSPHRASE, "COLUMNS": "200"},
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def refused(rig: SiteRig, user: str, method: str, params: msgspec.Struct, kind: type = c.Done) -> str:
    with pytest.raises(ConsoleRefused) as caught:
        await rig.ask(user, method, params, kind)
    return caught.value.code


async def answer(rig: SiteRig, code: str) -> str:
    """What the display of the linked gate tells a visitor."""
    return (await rig.lane("g1").scan(code, 8.0, cause="test")).code


@pytest.mark.slow
async def test_a_group_is_collected_held_refunded_and_an_admission_undone(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        staff(rig)
        ticket = await rig.sell("group")
        number = ticket.ticket
        found = await rig.ask("cashier", "office.find", c.FindOrder(number=number), c.OrderView)
        (view,) = found.tickets
        assert (view.to_pass, view.to_refund, view.to_collect, view.state) == (GROUP, GROUP, GROUP, "active")
        collect = c.CollectPlaces(ticket=number, places=2, workstation="w1", key="collect")
        collected = await rig.ask("cashier", "office.collect", collect, c.CollectedView)
        again = await rig.ask("cashier", "office.collect", collect, c.CollectedView)
        assert again.repeated and again.papers == collected.papers
        first, second = collected.papers
        assert await rig.admit("s1", first.code), "a paper opens for one person"
        await rig.settled()
        assert await answer(rig, first.code) == "already_used", "and once"

        hold = c.HoldPlaces(ticket=number, held=True, reason="guide missing", key="hold")
        assert await refused(rig, "cashier", "office.hold", hold) == "forbidden"
        await rig.ask("supervisor", "office.hold", hold, c.Done)
        assert await answer(rig, ticket.code) == "held"
        resume = c.HoldPlaces(ticket=number, held=False, reason="found", key="resume")
        await rig.ask("supervisor", "office.hold", resume, c.Done)

        ask = c.AskRefund(ticket=number, places=9, credentials=[second.paper], reason="rain", key="refund")
        asked = await rig.ask("cashier", "office.refund", ask, c.RefundView)
        assert (asked.amount_cents, asked.state) == (9 * 6_000, "requested")
        approve = c.SettleRefund(refund=asked.refund, approved=True, reason="rain", key="approve")
        assert await refused(rig, "cashier", "office.decide_refund", approve) == "forbidden"
        await rig.ask("finance", "office.decide_refund", approve, c.RefundView)
        done = await rig.ask("cashier", "office.pay_refund", c.PayRefund(refund=asked.refund, key="pay"), c.RefundView)
        assert done.state == "done"
        assert await answer(rig, second.code) == "void", "a paper that came back opens nothing"
        undo = c.UndoAdmission(ticket=number, places=1, correct_count=True, reason="did not turn", key="undo")
        assert await refused(rig, "cashier", "office.reverse", undo, c.ReversedView) == "forbidden"
        await rig.ask("supervisor", "office.reverse", undo, c.ReversedView)
        await rig.shows(lambda state: [zone.inside for zone in state.zones] == [0], "nobody is inside")
        assert await rig.admit("s1", first.code), "its person comes after all"
        await rig.settled()
        entries = await rig.rows(
            "select user_name, role, action from audit_log where action like 'office.%' order by seq"
        )
        assert [tuple(row.values()) for row in entries] == [
            ("cashier", "cashier", "office.Collect"),
            ("supervisor", "supervisor", "office.HoldTicket"),
            ("supervisor", "supervisor", "office.HoldTicket"),
            ("cashier", "cashier", "office.RequestRefund"),
            ("finance", "finance", "office.DecideRefund"),
            ("cashier", "cashier", "office.CompleteRefund"),
            ("supervisor", "supervisor", "office.ReverseAdmission"),
        ]
        assert (await rig.audit()).clean


@pytest.mark.slow
async def test_scenario_7_a_refund_waits_for_the_people_who_are_passing_at_a_lane(tmp_path):
    """What a real lane holds is not refundable; what it gives back is, to the person."""
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        staff(rig)
        ticket = await rig.sell("group")
        scanned = await rig.lane("g1").scan(ticket.code, 8.0, cause="test")
        assert scanned.pax == GROUP
        for _ in range(3):
            await rig.lane("g1").walk(0.1, ticket=None, visitor="test")
        ask = c.AskRefund(ticket=ticket.ticket, places=7, reason="rain", key="refund")
        assert await refused(rig, "cashier", "office.refund", ask, c.RefundView) == "refused"
        await rig.settled(30.0)
        asked = await rig.ask("cashier", "office.refund", ask, c.RefundView)
        assert (asked.amount_cents, asked.repeated) == (42_000, False)
        assert await answer(rig, ticket.code) == "pax_exhausted"
        approve = c.SettleRefund(refund=asked.refund, approved=True, reason="rain", key="approve")
        await rig.ask("finance", "office.decide_refund", approve, c.RefundView)
        await rig.ask("cashier", "office.pay_refund", c.PayRefund(refund=asked.refund, key="pay"), c.RefundView)
        found = await rig.ask("cashier", "office.find", c.FindOrder(number=asked.order), c.OrderView)
        (right,) = found.tickets[0].rights
        assert (right.sold, right.redeemed, right.refunded, found.refunded_cents) == (GROUP, 3, 7, 42_000)
        assert (await rig.audit()).clean


@pytest.mark.slow
async def test_an_order_is_paid_by_a_providers_word_and_its_codes_come_with_the_money(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        staff(rig)
        line = c.SellLine(product="adult", quantity=1, shown_cents=8_000)
        order = c.Sell(key="web-1", channel="web", lines=[line], tenders=[], pay_within_s=600.0)
        sold = await rig.ask("cashier", "sales.sell", order, c.Sold)
        assert sold.tickets[0].code == ""
        word = c.NotePayment(order=sold.order, tender="wechat", key="tx-1", amount_cents=8_000)
        assert await refused(rig, "cashier", "sales.paid", word, c.PaymentView) == "forbidden"
        paid = await rig.ask("finance", "sales.paid", word, c.PaymentView)
        assert (paid.outcome, paid.repeated) == ("paid", False)
        twice = await rig.ask("finance", "sales.paid", word, c.PaymentView)
        assert twice.repeated and twice.tickets == paid.tickets
        assert await rig.admit("s1", paid.tickets[0].code)
        wrong = c.Sell(key="web-2", channel="web", lines=[c.SellLine(product="adult", quantity=1, shown_cents=1)],
                       tenders=[], pay_within_s=600.0)  # fmt: skip
        assert await refused(rig, "cashier", "sales.sell", wrong, c.Sold) == "refused"
        other = await rig.ask("cashier", "sales.sell", msgspec.structs.replace(order, key="web-3"), c.Sold)
        cancel = c.CancelUnpaid(order=other.order, reason="changed their mind", key="cancel")
        assert (await rig.ask("cashier", "sales.cancel", cancel, c.Done)).detail == "cancelled"
        await rig.settled()
        assert (await rig.audit()).clean


@pytest.mark.slow
async def test_codes_go_to_a_printer_come_back_and_open_when_they_were_sold(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        staff(rig)
        made = await paifang(rig, "codes", "batch", "adult", "450", "--reason", "summer", "--json", user="marketing")
        assert made.returncode == 0, made.stderr
        batch = msgspec.json.decode(made.stdout)[0]["batch"]
        file = tmp_path / "codes.pfx"
        export = ("codes", "export", str(batch), str(file), "--to", "Wang & Co", "--reason", "summer")
        denied = await paifang(rig, *export, user="marketing")
        assert denied.returncode == 1 and not file.exists() and "Traceback" not in denied.stderr
        taken = await paifang(rig, *export, "--json", user="finance")
        assert taken.returncode == 0, taken.stderr
        told = msgspec.json.decode(taken.stdout)
        assert (told["codes"], file.stat().st_mode & 0o777) == (450, 0o600)
        assert b"PF1:" not in file.read_bytes(), "encrypted"
        again = await paifang(rig, *export, user="finance")
        assert again.returncode == 1 and "is there already" in again.stderr
        read = await trio.run_process(
            [sys.executable, "-m", "paifang", "codes", "decrypt", str(file)],
            capture_stdout=True,
            env={**os.environ, "PAIFANG_EXPORT_PASSPHRASE": PASSPHRASE},
        )  # fmt: skip
        lines = [line.split(",") for line in read.stdout.decode().splitlines()]
        assert [int(serial) for _, serial, _ in lines] == list(range(1, 451))
        texts = [code for _, _, code in lines]
        assert len(set(texts)) == 450 and all(code.startswith("PF1:") for code in texts)

        assert await answer(rig, texts[0]) == "not_yet_active"
        received = ("codes", "receive", str(batch), "1", "400", "--workstation", "w1", "--reason", "came back")
        assert (await paifang(rig, *received, user="marketing")).returncode == 0
        void = ("codes", "void", str(batch), "2", "3", "--lost", "--reason", "van stolen")
        assert (await paifang(rig, *void, user="marketing")).returncode == 0
        line = c.SellLine(product="adult", quantity=1, codes=[texts[0]])
        sale = c.Sell(key="k1", lines=[line], tenders=[c.Tender(tender="cash", amount_cents=8_000)])
        await rig.ask("cashier", "sales.sell", sale, c.Sold)
        assert await rig.admit("s1", texts[0]), "sold"
        assert await answer(rig, texts[1]) == "void", "lost"
        for key, bad in (
            ("k2", {"codes": [texts[1]]}),
            ("k3", {"serials": [f"{batch}-3"]}),
            ("k4", {"codes": ["PF1:x"]}),
            ("k5", {"serials": ["nonsense"]}),
            ("k6", {"codes": [texts[0]]}),
        ):
            wrong = msgspec.structs.replace(sale, key=key, lines=[c.SellLine(product="adult", quantity=1, **bad)])
            assert await refused(rig, "cashier", "sales.sell", wrong, c.Sold) in ("refused", "bad_code", "bad_serial")
        serial = c.SellLine(product="adult", quantity=1, serials=[f"{batch}-4"])
        await rig.ask("cashier", "sales.sell", msgspec.structs.replace(sale, key="k7", lines=[serial]), c.Sold)
        status = await paifang(rig, "codes", "status", user="marketing")
        assert "50 at_printer, 396 in_stock, 2 sold, 2 lost" in status.stdout
        await rig.settled()
        assert (await rig.audit()).clean
        server = b"".join((rig.folder / name).read_bytes() for name in ("server.out", "server.err")).decode()
        assert not any(text[-20:] in server for text in texts[:5]), "codes are in no log"
