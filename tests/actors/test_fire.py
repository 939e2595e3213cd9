"""Fire contacts: what closes opens everything by itself, at once, and nothing is restored while it is closed."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors.errors import CommandRefused
from actors.evacuation import Evacuation, HoldRestore
from actors.fire import CASE_EVERY_S, REMIND_S, RETRY_S, FireActor, FirePolicy
from actors.gate import FireInput, GateActor, GateRelease
from actors.lane import BoardLane
from actors.testing import Neighbours, alive, heard, lane_config, only, settle
from core import Address, MailboxFull, Stop
from core.testing import Probe
from drivers.base import (
    AlarmKind,
    Availability,
    DeviceDown,
    DeviceUp,
    DriverStatistics,
    GateAlarm,
    InputChanged,
    InputState,
)
from drivers.modbus import Contact, ContactInputs, ContactKind, ModbusBus, RelayGate, RelayWiring
from drivers.modbus.testing import until
from protocols import devicelink as link
from protocols.console import Done, FeedEvent, RestoreRequest, Trigger
from protocols.messages import Release
from sim.modbus import SimModbus, SimRelayGate, SimUnit
from storage.interfaces import IncidentNote, OpenCase

ACTIVE, INACTIVE, BROKEN = InputState.ACTIVE, InputState.INACTIVE, InputState.BROKEN


class Inputs:
    """A driver that says what the test tells it to say."""

    def __init__(self) -> None:
        self.emit = None

    async def run(self, emit) -> None:
        self.emit = emit
        await trio.sleep_forever()

    def statistics(self) -> DriverStatistics:
        return DriverStatistics(
            availability=Availability.AVAILABLE, since_s=1, frames_in=1, frames_out=1, bytes_in=1, bytes_out=1,
            bad_frames=0, reconnects=0, last_heard_s=0.1, last_error="",
        )  # fmt: skip


class Rig:
    """A fire actor whose neighbours are probes; `driver` None: contacts of gates."""

    def __init__(self, policies, driver, evacuation=None) -> None:
        self.driver = driver
        self.evacuation = evacuation or Probe("evacuation", capacity=256)
        self.hub, self.ledger = Probe("consoles", capacity=256), Probe("ledger", capacity=256)
        self.me = Address("fire/panel", capacity=64)
        self.actor = FireActor(
            "panel", policies, evacuation=self.evacuation, hub=self.hub, ledger=self.ledger, driver=driver
        )

    async def says(self, state, name="fire"):
        self.driver.emit(InputChanged(name=name, state=state))
        await settle()

    async def triggers(self):
        return only(await heard(self.evacuation), Trigger)

    async def codes(self):
        return [event.code for event in only(await heard(self.hub), FeedEvent)]


@asynccontextmanager
async def fire(*, on_broken="alarm", driver=True, evacuation=None, names=("fire",), crashes=0):
    policies = {name: FirePolicy(on_broken=on_broken, text="") for name in names}
    rig = Rig(policies, Inputs() if driver else None, evacuation)
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


async def test_a_contact_that_closes_triggers_without_any_time_passing(autojump_clock):
    async with fire() as rig:
        before = trio.current_time()
        await rig.says(ACTIVE)
        (trigger,) = await rig.triggers()
        assert trio.current_time() == before
        assert (trigger.by, trigger.drill) == ("fire/fire", False)


async def test_the_trigger_is_on_the_lane_that_is_read_first(autojump_clock):
    async with fire() as rig:
        await rig.says(ACTIVE)
        assert rig.evacuation.statistics().system_depth >= 1


async def test_a_trigger_is_repeated_until_the_evacuation_says_that_it_is_done(autojump_clock):
    async with fire() as rig:
        await rig.says(ACTIVE)
        assert len(await rig.triggers()) == 1
        await trio.sleep(RETRY_S * 4.5)
        assert len(await rig.triggers()) == 4
        rig.me.tell(Done(detail="incident 1"))
        await trio.sleep(RETRY_S * 8)
        assert await rig.triggers() == []


async def test_a_full_mailbox_only_delays_a_trigger(autojump_clock):
    class Full(Probe):
        room = False

        def tell(self, msg, **options):
            if not self.room:
                raise MailboxFull("no room")
            super().tell(msg, **options)

    full = Full("evacuation")
    async with fire(evacuation=full) as rig:
        await rig.says(ACTIVE)
        await trio.sleep(RETRY_S * 3)
        assert await rig.triggers() == []
        full.room = True
        await trio.sleep(RETRY_S * 1.5)
        assert await rig.triggers() != []


async def test_a_contact_that_opens_again_ends_nothing_and_lets_people_restore(autojump_clock):
    async with fire() as rig:
        await rig.says(ACTIVE)
        rig.me.tell(Done())
        await heard(rig.evacuation)
        await rig.says(INACTIVE)
        assert await heard(rig.evacuation) == [HoldRestore(source="panel", contacts=[])]
        await rig.says(ACTIVE)
        assert len(await rig.triggers()) == 1, "and the next fire is the next trigger"


async def test_inputs_that_are_no_fire_contacts_trigger_nothing(autojump_clock):
    async with fire() as rig:
        await rig.says(ACTIVE, name="door-1")
        assert await heard(rig.evacuation) == []


async def test_the_state_at_the_start_is_no_alarm_unless_it_is_one(autojump_clock):
    async with fire() as rig:
        await rig.says(INACTIVE)
        assert await rig.triggers() == [] and await rig.codes() == []
    async with fire() as rig:
        await rig.says(ACTIVE)
        assert len(await rig.triggers()) == 1


async def test_a_broken_wire_is_an_alarm_and_a_case_and_no_release(autojump_clock):
    async with fire() as rig:
        await rig.says(INACTIVE)
        await rig.says(BROKEN)
        assert await rig.triggers() == []
        assert await rig.codes() == ["fire_contact_broken"]
        (case,) = only(await heard(rig.ledger), OpenCase)
        assert (case.kind, case.severity) == ("fire_contact_broken", "alarm")


async def test_a_broken_wire_releases_where_the_site_file_says_so(autojump_clock):
    async with fire(on_broken="release") as rig:
        await rig.says(BROKEN)
        (trigger,) = await rig.triggers()
        assert "broken wire" in trigger.reason


async def test_a_loose_wire_opens_one_case_not_one_for_each_spark(autojump_clock):
    async with fire() as rig:
        for _ in range(20):
            await rig.says(BROKEN)
            await rig.says(INACTIVE)
        assert len(only(await heard(rig.ledger), OpenCase)) == 1
        await trio.sleep(CASE_EVERY_S)
        await rig.says(BROKEN)
        assert len(only(await heard(rig.ledger), OpenCase)) == 1


async def test_a_board_that_is_lost_is_an_alarm_and_a_case_and_no_release(autojump_clock):
    async with fire(on_broken="release") as rig:
        await rig.says(INACTIVE)
        rig.driver.emit(DeviceDown(reason="unplugged"))
        await settle()
        assert await rig.triggers() == []
        assert await rig.codes() == ["fire_contact_lost"]
        assert [case.kind for case in only(await heard(rig.ledger), OpenCase)] == ["fire_contact_lost"]
        rig.driver.emit(DeviceUp())
        await rig.says(INACTIVE)
        assert await rig.codes() == ["fire_contact_back"]


async def test_a_contact_that_was_lost_while_active_still_holds_the_restore_back(autojump_clock):
    async with fire() as rig:
        await rig.says(ACTIVE)
        rig.driver.emit(DeviceDown(reason="burnt"))
        await heard(rig.evacuation)
        rig.me.tell(Done())
        await trio.sleep(REMIND_S * 1.5)
        assert await heard(rig.evacuation) == [HoldRestore(source="panel", contacts=["fire"])]


async def test_a_contact_that_is_taken_out_of_the_site_file_holds_nothing_back(autojump_clock):
    async with fire() as rig:
        await rig.says(ACTIVE)
        await heard(rig.evacuation)
        rig.me.tell(Stop())
        await settle()
        assert (await heard(rig.evacuation))[-1] == HoldRestore(source="panel", contacts=[])


@pytest.mark.parametrize("level", [True, False])
async def test_a_fire_at_one_board_is_a_fire_on_the_site(level, autojump_clock):
    """A board that says its contact's level, and one that only says that an alarm begins."""
    gate_driver, lane, hub = Inputs(), Probe("lane"), Probe("consoles")
    async with fire(driver=False, names=("g1",)) as rig:
        actor = GateActor("gate/g1", gate_driver, lane, "g1", hub, fire=rig.me)
        address = Address("gate/g1", capacity=64)
        async with alive(actor.run, address):
            await settle()
            if level:
                gate_driver.emit(InputChanged(name="fire", state=ACTIVE))
            gate_driver.emit(GateAlarm(kind=AlarmKind.FIRE))
            await settle()
            messages = await heard(rig.evacuation)
            assert [trigger.by for trigger in only(messages, Trigger)] == ["fire/g1"]
            held = only(messages, HoldRestore)[-1].contacts
            assert held == (["g1"] if level else []), "a board that never says when it ends holds nothing back"
            gate_driver.emit(GateAlarm(kind=AlarmKind.REVERSE))
            await settle()
            assert await rig.triggers() == []


async def test_a_gate_without_a_fire_actor_opens_its_own_lane_alone(autojump_clock):
    gate_driver, lane, hub = Inputs(), Probe("lane"), Probe("consoles")
    async with alive(GateActor("gate/g1", gate_driver, lane, "g1", hub).run, Address("gate/g1", capacity=64)):
        await settle()
        gate_driver.emit(GateAlarm(kind=AlarmKind.FIRE))
        assert only(await heard(lane), GateAlarm)


# --- with a real evacuation ---------------------------------------------------------------------------------------


def signed(incident, drill=False):
    return link.Release(site="s", incident=incident, scope="site", drill=drill, key="k", signature=b"signed")


class Site:
    """An evacuation whose lanes are probes."""

    def __init__(self, path, lanes=None, gates=None) -> None:
        self.hub, self.ledger, self.link = (Probe(name, capacity=512) for name in ("consoles", "ledger", "link"))
        self.lanes = lanes or {name: Probe(name, capacity=64) for name in ("g1", "g2")}
        self.me = Address("evacuation", capacity=256)
        self.actor = Evacuation(
            lanes=self.lanes,
            gates=gates or {},
            link_address=self.link,
            hub=self.hub,
            ledger=self.ledger,
            sign=signed,
            verify=lambda release: True,
            latch=path / "evacuation.latch",
        )


@asynccontextmanager
async def site_with_fire(path):
    site = Site(path)
    async with alive(site.actor.run, site.me), fire(evacuation=site.me) as rig:
        await settle()
        yield site, rig


async def test_every_lane_is_released_by_the_contact_alone_and_the_record_says_why(tmp_path):
    async with site_with_fire(tmp_path) as (site, rig):
        rig.driver.emit(InputChanged(name="fire", state=ACTIVE))
        await until(lambda: all(lane.statistics().system_depth for lane in site.lanes.values()))
        for lane in site.lanes.values():
            (envelope,) = [await lane.receive()]
            assert isinstance(envelope.msg, Release) and not envelope.msg.drill
        await until(lambda: site.actor._latch.state == "released" and site.actor._file._written.state == "released")
        notes = only(await heard(site.ledger), IncidentNote)
        assert [(note.kind, note.user) for note in notes][:1] == [("triggered", "fire/fire")]
        await until(lambda: not rig.actor._unconfirmed)


async def test_while_the_contact_is_active_nobody_restores_and_is_told_why(tmp_path):
    async with site_with_fire(tmp_path) as (site, rig):
        rig.driver.emit(InputChanged(name="fire", state=ACTIVE))
        await until(lambda: site.actor._latch.state == "released")
        for person in ("ann", "bob", "ann"):
            with pytest.raises(CommandRefused, match="fire contact is still active: fire") as refused:
                await site.me.ask(RestoreRequest(by=person), 10.0)
            assert refused.value.code == "fire_active" and "消防" in refused.value.text_zh
        assert site.actor._latch.state == "released"
        rig.driver.emit(InputChanged(name="fire", state=INACTIVE))
        await until(lambda: site.actor._holding == {"panel": []})
        await site.me.ask(RestoreRequest(by="ann"), 10.0)
        rig.driver.emit(InputChanged(name="fire", state=ACTIVE))  # again, before the second person agrees
        await until(lambda: site.actor._holding == {"panel": ["fire"]})
        with pytest.raises(CommandRefused):
            await site.me.ask(RestoreRequest(by="bob"), 10.0)
        rig.driver.emit(InputChanged(name="fire", state=INACTIVE))
        await until(lambda: site.actor._holding == {"panel": []})
        await site.me.ask(RestoreRequest(by="bob"), 10.0)
        assert site.actor._latch.state == "released", "the new alarm made both people's word necessary again"
        await site.me.ask(RestoreRequest(by="ann"), 10.0)
        assert site.actor._latch.state == "restoring"


async def test_a_contact_makes_a_drill_real(tmp_path):
    async with site_with_fire(tmp_path) as (site, rig):
        await site.me.ask(Trigger(by="ann", drill=True), 10.0, system=True)
        rig.driver.emit(InputChanged(name="fire", state=ACTIVE))
        await until(lambda: not site.actor._latch.drill)


async def test_an_evacuation_actor_that_dies_over_the_trigger_hears_it_again(tmp_path, monkeypatch):
    site = Site(tmp_path)
    release, deaths = site.actor._release, []

    def dies_once(*order):
        if not deaths:
            deaths.append(order)
            raise RuntimeError("a bug")
        release(*order)

    monkeypatch.setattr(site.actor, "_release", dies_once)
    async with alive(site.actor.run, site.me, crashes=1), fire(evacuation=site.me) as rig:
        await until(lambda: rig.driver.emit is not None)
        rig.driver.emit(InputChanged(name="fire", state=ACTIVE))
        await until(lambda: site.actor._latch.state == "released")


# --- from the wire to the barriers --------------------------------------------------------------------------------

LIMIT_S = 2.0  # from the contact to the last barrier
STALLED_S = 8.0  # what a machine that everybody shares may add


async def test_from_the_contact_on_the_wire_every_lane_is_sensed_open(tmp_path):
    """Two gates, the fire panel's contact and a dead unit on one RTU line at 9600 baud; the contact alone opens all."""
    sims = [SimRelayGate(1), SimRelayGate(2)]
    panel, dead = SimUnit(3), SimUnit(4)
    panel.inputs[1] = True
    dead.powered = False
    wiring = RelayWiring(open_coil=0, hold_coil=2, open_input=0, closed_input=1, entry_register=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(SimModbus(*sims, panel, dead).serve_line, tmp_path / "line")
        bus = ModbusBus.serial(str(tmp_path / "line"), 9600)
        inputs = ContactInputs(bus, 3, [Contact(name="fire", input=0, kind=ContactKind.ANTIVALENT, second_input=1)])
        lanes = {name: Address(name, capacity=64) for name in ("g1", "g2")}
        gates = {name: Address(f"gate/{name}", capacity=64) for name in lanes}
        site = Site(tmp_path, lanes, gates)
        parts = Neighbours().parts()
        for name, sim in zip(lanes, sims, strict=True):
            counter = Probe("counter", capacity=4096)
            lane = BoardLane(lane_config(), parts, gates[name], counter)
            gate = GateActor(gates[name].name, RelayGate(bus, sim.unit, wiring), lanes[name], name, Probe("hub"))
            nursery.start_soon(run_actor, lane.run, lanes[name])
            nursery.start_soon(run_actor, gate.run, gates[name])
        nursery.start_soon(RelayGate(bus, 4, wiring).run, lambda event: None)
        rig = Rig({"fire": FirePolicy()}, inputs, site.me)
        nursery.start_soon(run_actor, site.actor.run, site.me)
        nursery.start_soon(run_actor, rig.actor.run, rig.me)
        await until(lambda: rig.actor._states["fire"] is INACTIVE)
        await until(lambda: all(sim.heard for sim in sims))

        for _ in range(5):  # 20 ms of chatter, between two looks and across them
            panel.inputs[0], panel.inputs[1] = True, False
            await trio.sleep(0.02)
            panel.inputs[0], panel.inputs[1] = False, True
            await trio.sleep(0.11)
        assert site.actor._latch.state == "normal" and not any(sim.coils[2] for sim in sims)

        panel.inputs[0], panel.inputs[1] = True, False
        closed_at = trio.current_time()
        await until(lambda: all(sim.inputs[0] for sim in sims if sim.step(trio.current_time()) is None))
        assert trio.current_time() - closed_at < LIMIT_S + STALLED_S
        assert all(sim.openings == 0 for sim in sims), "held open, not opened for somebody"
        await until(lambda: site.actor._latch.state == "released")
        nursery.cancel_scope.cancel()


async def run_actor(main, address):
    """An actor for as long as the test runs; what it raises fails the test."""
    async with alive(main, address):
        await trio.sleep_forever()


async def test_a_release_reaches_a_gate_whose_lane_is_busy(autojump_clock):
    """GateRelease stands on the system lane of the gate's actor: the evacuation tells it beside the lane."""
    driver, lane = Inputs(), Probe("lane")
    driver.released = 0

    def release():
        driver.released += 1

    driver.release = release
    address = Address("gate/g1", capacity=2)
    async with alive(GateActor("gate/g1", driver, lane, "g1", Probe("hub")).run, address):
        await settle()
        address.tell(GateRelease(), system=True)
        await settle()
        assert driver.released == 1


async def test_a_message_from_a_gate_that_has_no_policy_is_left_alone(autojump_clock):
    async with fire(driver=False, names=("g1",)) as rig:
        rig.me.tell(FireInput(contact="g9", state=ACTIVE), system=True)
        await settle()
        assert await heard(rig.evacuation) == []
