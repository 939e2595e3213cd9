"""An attendant with a phone, on a real server and database: scans, uploads, conflicts, counts, figures."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import msgspec
import pytest

from admin_ws.client import ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.testing import SiteRig, site_rig
from protocols.console import Done, Trigger
from protocols.phone import (
    Figures,
    GetFigures,
    GetPhoneList,
    PhoneCount,
    PhoneList,
    PhoneRecord,
    PhoneScan,
    PhoneUpload,
    PhoneUploaded,
    PhoneVerdict,
    StubCount,
    StubsBooked,
)

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow

LANE = (
    '[[lanes]]\nid = "hand"\nname = "手持"\nkind = "attendant"\nto_zone = "park"\nmode = "bidirectional"\n'
    '[[printers]]'
)
USER = "operator"


def with_attendant(text: str) -> str:
    return text.replace("[[printers]]", LANE, 1)


def nonce(name: str) -> str:
    return f"test-nonce-{name}"


async def scan(rig: SiteRig, code: str, name: str, pax: int | None = None, direction: str = "entry") -> PhoneVerdict:
    params = PhoneScan(lane="hand", nonce=nonce(name), code=code, pax=pax, direction=direction)  # type: ignore[arg-type]
    return await rig.ask(USER, "phone.scan", params, PhoneVerdict)


async def upload(rig: SiteRig, *records: PhoneRecord) -> PhoneUploaded:
    return await rig.ask(USER, "phone.upload", PhoneUpload(lane="hand", records=list(records)), PhoneUploaded)


async def inside(rig: SiteRig) -> int:
    return int(await rig.value("select inside from zones where zone = 'park'"))


async def passages(rig: SiteRig, kind: str) -> int:
    return int(await rig.value("select count(*) from passages where lane = 'hand' and kind = $1", kind))


async def test_a_scan_is_decided_and_booked_in_one_go_and_said_twice_it_counts_once(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        ticket = await rig.sell("adult")
        first = await scan(rig, ticket.code, "a")
        assert (first.admitted, first.code, first.pax, first.remaining) == (True, "ok", 1, 0)
        assert await rig.value("select count(*) from holds") == 0  # the grant has ended before the phone heard of it
        assert await inside(rig) == 1

        again = await scan(rig, ticket.code, "a")  # the answer was lost, and the phone asks again
        assert (again.admitted, again.pax) == (True, 1)
        other = await scan(rig, ticket.code, "b")
        assert (other.admitted, other.code, other.pax) == (False, "already_used", 0)
        assert other.text_zh and other.staff_en
        forged = await scan(rig, ticket.code[:-1] + ("0" if ticket.code[-1] != "0" else "1"), "c")
        assert not forged.admitted
        assert await inside(rig) == 1

        group = await rig.sell("group")
        some = await scan(rig, group.code, "g1", pax=4)
        assert (some.pax, some.remaining) == (4, 6)
        rest = await scan(rig, group.code, "g2")
        assert (rest.pax, rest.remaining) == (6, 0)
        assert await inside(rig) == 11
        view = await rig.view("hand")
        assert (view.entries, view.transport, view.available) == (11, "phone", True)
        out = await scan(rig, ticket.code, "out", direction="exit")
        assert out.admitted
        assert await inside(rig) == 10
        assert (await rig.audit()).broken == []


async def test_what_a_phone_did_alone_is_booked_once_in_order_and_conflicts_are_cases(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        good, used = await rig.sell("adult"), await rig.sell("adult")
        assert (await scan(rig, used.code, "gate")).admitted
        at = time.time() - 1800
        records = [
            PhoneRecord(nonce=nonce("1"), at=at, code=good.code),
            PhoneRecord(nonce=nonce("2"), at=at + 1, code=used.code),
            PhoneRecord(nonce=nonce("3"), at=at + 2, pax=3),
        ]
        for _ in range(3):  # the answer was lost twice
            said = await upload(rig, *records)
            assert [(each.nonce, each.passed) for each in said.booked] == [
                (nonce("1"), 1), (nonce("2"), 1), (nonce("3"), 3),
            ]  # fmt: skip
            assert [each.conflict for each in said.booked] == ["", "already_used", ""]
        assert await inside(rig) == 1 + 1 + 1 + 3
        assert (await passages(rig, "granted"), await passages(rig, "free")) == (2, 4)
        cases = await rig.rows("select lane, severity, detail from cases where kind = 'offline_conflict'")
        assert len(cases) == 1
        assert "already_used" in cases[0]["detail"]
        assert used.code not in cases[0]["detail"]  # nothing that opens a lane
        assert not (await scan(rig, good.code, "late")).admitted
        assert (await rig.audit()).broken == []

        rig.kill()  # and what was said is on disk
        await rig.start()
        await upload(rig, *records)
        assert await inside(rig) == 6


async def test_the_list_names_used_tickets_by_marks_and_what_a_phone_may_decide_alone(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        used, fresh = await rig.sell("adult"), await rig.sell("adult")
        await scan(rig, used.code, "u")
        marks, keys, alone, after = b"", [], [], 0
        while True:
            params = GetPhoneList(lane="hand", after=after)
            page = await rig.ask(USER, "phone.list", params, PhoneList)
            marks, keys, alone = marks + page.marks, page.keys, page.alone
            if page.next is None:
                break
            after = page.next
        found = {marks[place : place + 8] for place in range(0, len(marks), 8)}
        assert found == {hashlib.sha256(f"test:{used.ticket}".encode()).digest()[:8]}
        assert hashlib.sha256(f"test:{fresh.ticket}".encode()).digest()[:8] not in found
        assert len(keys) == 1
        assert len(keys[0].public) == 32
        assert alone == [1, 3]  # full and group; an annual card needs a face
        assert page.zone_bit == 1
        later = await rig.ask(
            USER, "phone.list", GetPhoneList(lane="hand", since=time.time() + 60), PhoneList
        )
        assert later.marks == b""
        with pytest.raises(ConsoleRefused) as refused:
            await rig.ask(USER, "phone.list", GetPhoneList(lane="s1"), PhoneList)
        assert refused.value.code == "unknown_lane"


async def test_people_of_a_direct_check_are_counted_and_their_stubs_correct_the_count(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        for _ in range(2):
            await rig.ask(USER, "phone.count", PhoneCount(lane="hand", nonce=nonce("n"), people=30), Done)
        assert await inside(rig) == 30
        same = StubCount(lane="hand", key="stub-key-1", counted=30, stubs=30)
        assert (await rig.ask(USER, "phone.stubs", same, StubsBooked)).state == "same"
        more = StubCount(lane="hand", key="stub-key-2", counted=30, stubs=33)
        for _ in range(2):
            booked = await rig.ask(USER, "phone.stubs", more, StubsBooked)
            assert (booked.difference, booked.state) == (3, "booked")
        assert await inside(rig) == 33
        far = StubCount(lane="hand", key="stub-key-3", counted=90, stubs=60)  # more than one person may correct
        assert (await rig.ask(USER, "phone.stubs", far, StubsBooked)).state == "waiting"
        assert await inside(rig) == 33
        assert (await rig.ask("manager", "phone.stubs", far, StubsBooked)).state == "booked"
        assert await inside(rig) == 3
        assert (await rig.audit()).broken == []


async def test_while_released_a_scan_uses_nothing_up_and_the_way_is_open(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        ticket = await rig.sell("adult")
        await rig.ask(USER, "evacuation.trigger", Trigger(reason="test"), Done)
        await rig.shows(lambda state: state.lanes[0].state == "released", "the lane is released")
        verdict = await scan(rig, ticket.code, "e")
        assert (verdict.code, verdict.admitted, verdict.pax) == ("emergency_go", False, 0)
        said = await upload(rig, PhoneRecord(nonce=nonce("late"), at=time.time(), code=ticket.code))
        assert said.booked[0].passed == 1
        assert await rig.value("select sum(redeemed)::int from entitlements") == 0
        assert await passages(rig, "emergency") == 1
        snapshot = await rig.snapshot()
        assert all(lane.acknowledged and lane.sensed_open for lane in snapshot.evacuation.lanes)


async def test_a_managers_figures_are_those_of_the_books(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        ticket = await rig.sell("adult")
        await rig.sell_all("adult", 2)
        await scan(rig, ticket.code, "f")
        await scan(rig, ticket.code, "f2")
        figures = await rig.ask("manager", "site.figures", GetFigures(), Figures)
        assert figures.inside == 1
        today = figures.today
        assert (today.entries, today.exits, today.refused, today.orders, today.tickets) == (1, 0, 1, 2, 3)
        assert today.sales_cents == 24000
        assert msgspec.structs.replace(figures.yesterday, day="") == msgspec.structs.replace(
            figures.yesterday_all, day=""
        )
        assert [(lane.lane, lane.entries) for lane in figures.lanes] == [("hand", 1)]
        with pytest.raises(ConsoleRefused) as refused:
            await rig.ask("security1", "site.figures", GetFigures(), Figures)
        assert refused.value.code == "forbidden"
