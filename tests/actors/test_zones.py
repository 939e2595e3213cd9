"""What people order for zones: stops with an end and an owner, corrections, and the second person for a large one."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors.errors import CommandRefused
from actors.testing import alive, heard, only, settle
from actors.zones import ALONE_MAX, SECOND_PERSON_S, Zones
from core import Address
from core.testing import Probe
from protocols.console import CalibrateZone, FeedEvent, StopZoneFor
from storage.interfaces import AuditEntry, Calibrate, LedgerUnavailable, StopZone, ZoneCount

COUNT = ZoneCount(zone="park", inside=70, held=0, limit=100)


class Rig:
    def __init__(self) -> None:
        self.ledger, self.hub = Probe("ledger"), Probe("consoles")
        self.me = Address("zones", capacity=32)
        self.actor = Zones(zones=["park"], ledger=self.ledger, hub=self.hub)

    async def order(self, message, answer=COUNT):
        """The outcome of a command whose ledger operation, if it comes to one, is answered with `answer`."""
        outcome: list = []

        async def ask() -> None:
            try:
                outcome.append(await self.me.ask(message, 5.0))
            except CommandRefused as exc:
                outcome.append(exc)

        async def serve() -> None:
            while True:
                told = await self.ledger.expect((StopZone, Calibrate, AuditEntry))
                self.told.append(told)
                if not isinstance(told, AuditEntry):
                    envelope = self.ledger.envelope
                    envelope.fail(answer) if isinstance(answer, Exception) else envelope.reply(answer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await ask()
            await settle()
            nursery.cancel_scope.cancel()
        return outcome[0]

    told: list


@asynccontextmanager
async def zones():
    rig = Rig()
    rig.told = []
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig


async def test_a_stop_has_an_owner_a_reason_and_an_end(autojump_clock):
    async with zones() as rig:
        await rig.order(StopZoneFor(zone="park", what="entry", minutes=30, reason="storm", by="ann"))
        stop, entry = rig.told
        assert (stop.zone, stop.what, stop.user, stop.reason) == ("park", "entry", "ann", "storm")
        assert stop.until == pytest.approx(stop.at + 1800)
        assert (entry.user, entry.action, entry.reason) == ("ann", "zone.stop", "storm")
        assert [line.code for line in only(await heard(rig.hub), FeedEvent)] == ["stop_entry"]


async def test_no_minutes_ends_it(autojump_clock):
    async with zones() as rig:
        await rig.order(StopZoneFor(zone="park", what="sale", minutes=0, reason="over", by="ann"))
        assert rig.told[0].until is None
        assert [line.code for line in only(await heard(rig.hub), FeedEvent)] == ["resume_sale"]


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (StopZoneFor(zone="moon", what="entry", minutes=1, reason="x", by="a"), "unknown_zone"),
        (StopZoneFor(zone="outside", what="entry", minutes=1, reason="x", by="a"), "unknown_zone"),
        (StopZoneFor(zone="park", what="fun", minutes=1, reason="x", by="a"), "bad_stop"),
        (StopZoneFor(zone="park", what="entry", minutes=1441, reason="x", by="a"), "bad_minutes"),
        (StopZoneFor(zone="park", what="entry", minutes=1, reason="  ", by="a"), "reason_required"),
        (CalibrateZone(zone="park", delta=0, reason="x", by="a"), "bad_delta"),
        (CalibrateZone(zone="park", delta=10**9, reason="x", by="a"), "bad_delta"),
        (CalibrateZone(zone="park", delta=1, reason="", by="a"), "reason_required"),
    ],
)
async def test_what_cannot_be_meant_reaches_no_ledger(autojump_clock, order, code):
    async with zones() as rig:
        outcome = await rig.order(order)
        assert outcome.code == code and outcome.text_zh
        assert rig.told == []


async def test_a_small_correction_is_one_persons_and_named(autojump_clock):
    async with zones() as rig:
        await rig.order(CalibrateZone(zone="park", delta=-ALONE_MAX, reason="counted by hand", key="k1", by="ann"))
        booked, entry = rig.told
        assert (booked.delta, booked.user, booked.key) == (-ALONE_MAX, "ann", "k1")
        assert (entry.action, entry.subject) == ("zone.calibrate", f"park {-ALONE_MAX:+d}")


async def test_a_large_correction_needs_a_second_person_who_wants_the_same(autojump_clock):
    large = ALONE_MAX + 1
    async with zones() as rig:

        async def ask(by: str, delta: int) -> list[int]:
            rig.told = []
            await rig.order(CalibrateZone(zone="park", delta=delta, reason="x", by=by))
            return [op.delta for op in only(rig.told, Calibrate)]

        assert await ask("ann", large) == []
        assert [entry.action for entry in only(rig.told, AuditEntry)] == ["zone.calibrate.ask"]
        assert await ask("ann", large) == [], "twice the same person is one person"
        assert await ask("bob", -large) == [], "another number is another wish"
        assert await ask("bob", large) == [large]
        assert only(rig.told, Calibrate)[0].user == "ann+bob"
        assert await ask("bob", large) == [], "and it is used up"
        await trio.sleep(SECOND_PERSON_S + 1)
        assert await ask("cem", large) == [], "nobody agrees to what was asked long ago"


async def test_what_is_not_written_down_did_not_happen(autojump_clock):
    async with zones() as rig:
        outcome = await rig.order(
            StopZoneFor(zone="park", what="entry", minutes=5, reason="x", by="ann"), LedgerUnavailable("down")
        )
        assert outcome.code == "unavailable"
        assert only(rig.told, AuditEntry) == [] and await heard(rig.hub) == []
