"""What is known of an evacuation afterwards."""

from __future__ import annotations

import time

import pytest
import trio

from paifang.check import load
from paifang.evacuation_report import page
from paifang.testing import free_ports, site_text
from protocols.messages import CredentialKind, Direction, EndReason, PassageKind
from storage.connection import Dsn
from storage.incidents import Affected, Incident, IncidentError, Note, Passages, Record, incidents, record
from storage.interfaces import IncidentNote, RefusedScan
from storage.testing import fresh_database, hash_id, ledger_running


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(site_text(serial=2, linked=0, limit=10, ports=free_ports(8), database=""))
    return load(path)


def told(**changes):
    at = 1_700_000_000.0
    return Record(
        incident=Incident(incident=7, started_at=at, ended_at=at + 600),
        notes=[
            Note(at=at, kind="triggered", lane="", user_name="<script>ann", detail="<b>smoke</b>"),
            Note(at=at + 1, kind="acknowledged", lane="s1", user_name="", detail="released"),
            Note(at=at + 2, kind="something new", lane="gone", user_name="", detail=""),
        ],
        passages=[
            Passages(lane="s1", direction="exit", from_zone="park", to_zone="outside", minute=at, people=12),
            Passages(lane="s1", direction="exit", from_zone="park", to_zone="outside", minute=at + 60, people=3),
            Passages(lane="s2", direction="entry", from_zone="outside", to_zone="park", minute=at, people=1),
        ],
        tickets=[
            Affected(ticket=5, order_id=3, product="adult", pax=1, why="broken_off", lane="s1", at=at),
            Affected(ticket=6, order_id=3, product="adult", pax=1, why="turned_away", lane="s2", at=at),
        ],
    )  # fmt: skip


def test_the_page_is_whole_and_shows_what_others_wrote_as_text(site):
    text = page(told(), site)
    assert "<script>" not in text and "<b>smoke" not in text
    texts = ("&lt;script&gt;ann", "2023-11-15 06:13:20", "验票后被疏散中断", "turned away", "something new", ">15<")
    for words in texts:
        assert words in text
    assert "http" not in text.replace("http-equiv", "")  # it needs nothing from anywhere


def test_an_evacuation_that_goes_on_and_a_clock_that_is_far_off_make_a_page(site):
    going = Record(incident=Incident(incident=1, started_at=1e18, ended_at=None), notes=[], passages=[], tickets=[])
    assert "尚未恢复" in page(going, site)


async def test_the_record_tells_who_was_concerned_and_how():
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        dsn = database.dsn
        assert await incidents(dsn, "demo") == []
        with pytest.raises(IncidentError, match="no evacuation yet"):
            await record(dsn, "demo")
        before, broken_off, turned_away = await ledger.sell("adult", 3)
        granted = await ledger.scan(before.ticket)
        await ledger.passes(granted)
        await ledger.ends(granted, 1)
        open_grant = await ledger.scan(broken_off.ticket)
        at = time.time()

        def note(seq, kind, **more):
            fields = {"incident": 7, "seq": seq, "at": at, "kind": kind, "lane": "", "user": "ann", "detail": ""} | more
            ledger.address.tell(IncidentNote(**fields))

        note(1, "triggered", detail="smoke")
        await ledger.ends(open_grant, 0, why=EndReason.EMERGENCY, at=at + 0.5)
        ledger.address.tell(
            RefusedScan(
                lane="lane1", device="d", nonce="n", kind=CredentialKind.CODE, code="emergency_go", at=at + 0.5,
                credential_hash=hash_id("code", str(turned_away.ticket)),
            )
        )  # fmt: skip
        await ledger.passes(
            None, kind=PassageKind.EMERGENCY, direction=Direction.EXIT, from_zone="park", to_zone="outside",
            at=at + 0.5,
        )  # fmt: skip
        note(2, "restored", at=at + 60.0)
        with trio.fail_after(20.0):
            while not (known := await incidents(dsn, "demo")) or known[0].ended_at is None:
                await trio.sleep(0.05)
        found = await record(dsn, "demo")
        assert [each.kind for each in found.notes] == ["triggered", "restored"]
        assert {each.ticket: each.why for each in found.tickets} == {
            before.ticket: "entered_before",
            broken_off.ticket: "broken_off",
            turned_away.ticket: "turned_away",
        }
        assert sum(each.people for each in found.passages if each.to_zone == "outside") == 1
        with pytest.raises(IncidentError, match="no incident 8"):
            await record(dsn, "demo", 8)


async def test_a_database_that_is_away_is_said():
    with pytest.raises(IncidentError, match="cannot be read"):
        await incidents(Dsn(host="/nonexistent", port=1, user="x", database="x"), "demo")
