"""The actors round a board's and a reader's driver: orders in, events out, and the truth for whoever asks again."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors.gate import GateActor, GateClose, GateLook, GateOpen, GateRearm, GateRelease, GateReport, GateResume
from actors.reader import SCAN_PATIENCE_S, ReaderActor, credential_of
from actors.testing import EPOCH, alive, heard, only, settle
from core import Address
from core.testing import Probe
from drivers.base import (
    Availability,
    Barrier,
    BarrierChanged,
    CardRejected,
    CodeRead,
    DeviceDown,
    DeviceUp,
    DriverStatistics,
    InputChanged,
    InputState,
    PassageCounted,
)
from protocols.console import DeviceView, FeedEvent
from protocols.messages import Counters, Credential, CredentialKind, Direction, Scan

UP = DeviceUp(counters=Counters(EPOCH, 5, 2), barrier=Barrier.CLOSED)


class Device:
    """A driver that notes what it is told and says what the test tells it to say."""

    def __init__(self) -> None:
        self.orders = []
        self.emit = None
        self.runs = 0
        self.dies = trio.Event()

    async def run(self, emit) -> None:
        self.emit = emit
        self.runs += 1
        await self.dies.wait()
        self.dies = trio.Event()
        raise RuntimeError("a bug in a driver")

    def statistics(self) -> DriverStatistics:
        return DriverStatistics(
            availability=Availability.AVAILABLE, since_s=1, frames_in=1, frames_out=1, bytes_in=1, bytes_out=1,
            bad_frames=7, reconnects=3, last_heard_s=0.1, last_error="",
        )  # fmt: skip

    def open(self, direction, pax, deadline_s) -> None:
        self.orders.append(("open", direction, pax, round(deadline_s, 3)))

    def close(self) -> None:
        self.orders.append("close")

    def release(self) -> None:
        self.orders.append("release")

    def rearm(self) -> None:
        self.orders.append("rearm")

    def resume(self, epoch, entries, exits) -> None:
        self.orders.append(("resume", epoch, entries, exits))


class Rig:
    def __init__(self, kind) -> None:
        self.device = Device()
        self.lane, self.hub = Probe("lane", capacity=8), Probe("consoles")
        self.me = Address("gate", capacity=64)
        self.actor = kind("gate/g1", self.device, self.lane, "g1", self.hub)


@asynccontextmanager
async def actor(kind=GateActor, *, crashes=0):
    rig = Rig(kind)
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


async def test_every_order_reaches_the_driver(autojump_clock):
    async with actor() as rig:
        rig.me.tell(GateOpen(direction=Direction.ENTRY, pax=3), deadline=trio.current_time() + 6.0)
        for order in (GateClose(), GateRelease(), GateRearm(), GateResume(epoch="e", entries=1, exits=2)):
            rig.me.tell(order)
        await settle()
        assert rig.device.orders == [
            ("open", Direction.ENTRY, 3, 6.0),
            "close",
            "release",
            "rearm",
            ("resume", "e", 1, 2),
        ]


async def test_a_gate_that_can_look_at_once_does_and_another_is_left_alone(autojump_clock):
    async with actor() as rig:
        rig.me.tell(GateLook())
        await settle()
        assert rig.device.orders == []
        rig.device.look = lambda: rig.device.orders.append("look")
        rig.me.tell(GateLook())
        await settle()
        assert rig.device.orders == ["look"]


async def test_a_late_open_is_never_carried_out(autojump_clock):
    async with actor() as rig:
        rig.me.tell(GateOpen(direction=Direction.ENTRY, pax=1), deadline=trio.current_time())
        await settle()
        assert rig.device.orders == []


async def test_a_release_goes_before_everything_that_waits(autojump_clock):
    async with actor() as rig:
        for _ in range(60):
            rig.me.tell(GateClose())
        rig.me.tell(GateRelease(), system=True)
        await settle()
        assert rig.device.orders[0] == "release"


async def test_the_lane_hears_every_event_in_order(autojump_clock):
    async with actor() as rig:
        events = [
            UP,
            BarrierChanged(barrier=Barrier.OPEN, detail="open"),
            PassageCounted(direction=Direction.ENTRY, epoch=EPOCH, counter=6),
            DeviceDown(reason="unplugged"),
        ]
        for event in events:
            rig.device.emit(event)
        assert await heard(rig.lane) == events


async def test_a_lane_that_was_restarted_hears_the_gate_as_it_is_now_not_as_it_was_at_first(autojump_clock):
    async with actor() as rig:
        rig.me.tell(GateReport())
        assert await heard(rig.lane) == [], "nothing is known yet"
        rig.device.emit(UP)
        rig.device.emit(BarrierChanged(barrier=Barrier.OPEN, detail="open"))
        rig.device.emit(PassageCounted(direction=Direction.ENTRY, epoch=EPOCH, counter=6))
        rig.device.emit(BarrierChanged(barrier=Barrier.RELEASED, detail="held", counters=Counters(EPOCH, 6, 9)))
        rig.device.emit(PassageCounted(direction=Direction.EXIT, epoch=EPOCH, counter=10))
        await heard(rig.lane)
        rig.me.tell(GateReport())
        assert await heard(rig.lane) == [DeviceUp(counters=Counters(EPOCH, 6, 10), barrier=Barrier.RELEASED)]
        rig.device.emit(DeviceDown(reason="unplugged"))
        await heard(rig.lane)
        rig.me.tell(GateReport())
        assert await heard(rig.lane) == [DeviceDown(reason="unplugged")]


async def test_a_lane_without_room_costs_an_event_and_not_the_gate(autojump_clock):
    async with actor() as rig:
        rig.device.emit(UP)
        for _ in range(20):
            rig.device.emit(BarrierChanged(barrier=Barrier.OPEN, detail="open"))
        rig.me.tell(GateReport())
        rig.me.tell(GateRelease(), system=True)
        await settle()
        assert rig.me.incarnation == 1 and rig.device.orders == ["release"]
        assert len(await heard(rig.lane)) == 8


async def test_the_console_sees_a_device_at_once_and_then_regularly(autojump_clock):
    async with actor() as rig:
        (view,) = only(await heard(rig.hub), DeviceView)
        assert (view.device, view.kind, view.lane, view.bad_frames) == ("gate/g1", "gate", "g1", 7)
        rig.device.emit(UP)
        assert len(await heard(rig.hub)) == 1
        await trio.sleep(20.5)
        assert len(await heard(rig.hub)) == 4


@pytest.mark.parametrize("kind", [GateActor, ReaderActor])
async def test_a_driver_that_dies_of_a_bug_is_started_again(autojump_clock, kind):
    async with actor(kind, crashes=1) as rig:
        rig.device.dies.set()
        await trio.sleep(0.1)
        assert rig.device.runs == 2
        rig.device.emit(UP)


# --- readers ----------------------------------------------------------------------------------------------------


async def test_every_code_read_is_a_scan_with_a_nonce_and_a_trace_of_its_own(autojump_clock):
    async with actor(ReaderActor) as rig:
        rig.device.emit(CodeRead(text="PF1:ABC"))
        first = await rig.lane.expect(Scan)
        trace = rig.lane.envelope.trace
        assert rig.lane.envelope.deadline == trio.current_time() + SCAN_PATIENCE_S
        rig.device.emit(CodeRead(text="PF1:ABC"))
        second = await rig.lane.expect(Scan)
        assert first.credential == second.credential == Credential(CredentialKind.CODE, "PF1:ABC")
        assert first.nonce != second.nonce and trace != rig.lane.envelope.trace and trace
        assert (first.lane, first.device, first.direction, first.photo) == ("g1", "gate/g1", Direction.ENTRY, None)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("PF1:XYZ", CredentialKind.CODE, "PF1:XYZ"),
        ("CARD:00123", CredentialKind.CARD, "00123"),
        ("card:00123", CredentialKind.CODE, "card:00123"),
        ("CARD:", CredentialKind.CARD, ""),
        ("", CredentialKind.CODE, ""),
    ],
)
def test_a_card_is_told_from_a_code_by_its_prefix(text, kind, value):
    assert credential_of(text) == Credential(kind, value)


async def test_a_reader_on_the_inner_side_reads_people_who_leave(autojump_clock):
    device, lane = Device(), Probe("lane")
    me = Address("reader/g1/2")
    reader = ReaderActor("reader/g1/2", device, lane, "g1", Probe("consoles"), direction=Direction.EXIT)
    async with alive(reader.run, me):
        await settle()
        device.emit(CodeRead(text="PF1:ABC"))
        assert (await lane.expect(Scan)).direction is Direction.EXIT


async def test_a_card_that_is_not_to_be_trusted_is_told_and_never_a_scan(autojump_clock):
    async with actor(ReaderActor) as rig:
        rig.device.emit(CardRejected(reason="wrong_key"))
        (line,) = only(await heard(rig.hub), FeedEvent)
        assert (line.kind, line.code, line.lane) == ("refused", "card_wrong_key", "g1")
        assert await heard(rig.lane) == []


async def test_an_opened_housing_is_an_alarm_until_it_is_shut(autojump_clock):
    async with actor(ReaderActor) as rig:
        for state in (InputState.ACTIVE, InputState.UNKNOWN, InputState.INACTIVE):
            rig.device.emit(InputChanged(name="tamper", state=state))
        lines = only(await heard(rig.hub), FeedEvent)
        assert [(line.kind, line.severity, line.code) for line in lines] == [
            ("alarm", "warning", "tamper"),
            ("device", "info", "tamper"),
        ]


async def test_a_lane_without_room_costs_the_reader_nothing(autojump_clock):
    async with actor(ReaderActor) as rig:
        for number in range(20):
            rig.device.emit(CodeRead(text=str(number)))
        assert len(await heard(rig.lane)) == 8 and rig.me.incarnation == 1


async def test_a_scan_that_no_lane_read_in_time_is_dropped(autojump_clock):
    async with actor(ReaderActor) as rig:
        rig.device.emit(CodeRead(text="PF1:ABC"))
        await trio.sleep(SCAN_PATIENCE_S + 0.1)
        with trio.move_on_after(1.0):
            await rig.lane.receive()
            raise AssertionError("a visitor has scanned again by then")
