"""The evacuation: everybody is told at once whatever else is broken, and it ends only when two people say so."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager

import pytest
import trio

from actors.errors import CommandRefused
from actors.evacuation import Broadcast, Evacuation, Latch, LatchError, read_latch, write_latch
from actors.evacuation import _latchfile as module
from actors.evacuation._actor import NOTE_RETRY_S, REPEAT_S, WATCH_S
from actors.gate import GateRelease
from actors.testing import Tripwire, alive, heard, only, settle
from core import Address, MailboxFull, Stop
from core.testing import Probe
from protocols import devicelink as link
from protocols.console import Done, EvacuationView, FeedEvent, RearmLane, RestoreRequest, Trigger
from protocols.messages import AdoptRelease, Rearm, Release, ReleaseAck, Restore
from storage.interfaces import IncidentNote, LedgerUnavailable

LANES = ("g1", "g2", "g3")
SHORT_S = 0.05


def signed(incident, drill=False, signature=b"signed"):
    return link.Release(site="s", incident=incident, scope="site", drill=drill, key="k", signature=signature)


def adopt(lane, incident, proof=None):
    """A lane says to be released, and shows the release itself if nothing else is said."""
    return AdoptRelease(lane=lane, incident=incident, proof=link.encode(proof or signed(incident)))


class Rig:
    def __init__(self, path):
        self.path = path
        self.order = []  # of whom something was told, over all neighbours
        self.lanes = {name: self.probe(name) for name in LANES}
        self.link = self.probe("link")
        self.hub = self.probe("consoles", Tripwire)
        self.ledger = self.probe("ledger")
        self.gates = {"g1": self.probe("gate/g1")}
        self.me = Address("evacuation", capacity=1024)
        self.actor = Evacuation(
            lanes=self.lanes,
            gates=self.gates,
            link_address=self.link,
            hub=self.hub,
            ledger=self.ledger,
            sign=signed,
            verify=lambda release: release.signature == b"signed",
            latch=path,
        )

    def probe(self, name, kind=Probe):
        order = self.order

        class Watched(kind):
            def tell(self, msg, **options):
                order.append((name, type(msg).__name__))
                super().tell(msg, **options)

        return Watched(name, capacity=256)

    @property
    def latch(self):
        return self.actor._latch

    async def trigger(self, *, drill=False, by="ann"):
        await self.me.ask(Trigger(by=by, drill=drill, reason="smoke"), 1.0, system=True)
        await settle()
        return self.latch.incident

    async def acknowledge(self, *lanes, incident=None, barrier="released", open=True):
        for lane in lanes:
            of = incident or self.latch.incident
            self.me.tell(ReleaseAck(lane=lane, incident=of, barrier=barrier, sensed_open=open, at=0.0))
        await settle()

    async def restore(self, *people):
        for person in people:
            await self.me.ask(RestoreRequest(by=person, reason="all out"), 1.0)
        await settle()

    async def told(self, name):
        return await heard(self.lanes[name])

    async def view(self):
        return only(await heard(self.hub), EvacuationView)[-1]

    async def forget(self):
        for probe in (*self.lanes.values(), self.link, self.hub, self.ledger):
            await heard(probe)
        self.order.clear()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "evacuation.latch"


@pytest.fixture
def disk(monkeypatch):
    """Threads and virtual time do not mix: this one works at once, unless it `hangs`, and fails as often as `fails`."""

    class Disk:
        hangs = False
        fails = 0
        writes = 0

    async def run_sync(function, *arguments, **_options):
        await trio.lowlevel.checkpoint()
        while Disk.hangs:
            await trio.sleep(0.1)
        return function(*arguments)

    def write(path, latch):
        Disk.writes += 1
        if Disk.fails:
            Disk.fails -= 1
            raise LatchError("no space left")
        return write_latch(path, latch)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(module, "write_latch", write)
    return Disk


@asynccontextmanager
async def evacuation(path, *, crashes=0):
    rig = Rig(path)
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


def silent(view):
    return [lane.lane for lane in view.lanes if not lane.sensed_open]


# --- the trigger ------------------------------------------------------------------------------------------------


async def test_a_trigger_tells_every_lane_and_the_broadcast_before_anything_else(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.forget()
        before = trio.current_time()
        incident = await rig.trigger()
        assert rig.order[:4] == [("g1", "Release"), ("g2", "Release"), ("g3", "Release"), ("link", "Broadcast")]
        assert trio.current_time() == before
        for name in LANES:
            assert await rig.told(name) == [Release(incident=incident, drill=False)]
        (broadcast,) = await heard(rig.link)
        assert (broadcast.release.incident, broadcast.release.signature) == (incident, b"signed")


async def test_a_release_goes_out_when_everything_else_is_broken(autojump_clock, path, disk):
    """Hanging disk, ledger and console with full mailboxes: the lanes are told in the same instant all the same."""
    async with evacuation(path) as rig:
        await rig.forget()
        disk.hangs = True
        for probe in (rig.hub, rig.ledger):
            while True:
                try:
                    Probe.tell(probe, Stop is None)  # anything that is not shed
                except MailboxFull:
                    break
        for lane in rig.lanes.values():  # and the lanes' own mailboxes are full of scans
            while lane.statistics().depth < lane.capacity:
                Probe.tell(lane, "scan")
        before = trio.current_time()
        answer = await rig.me.ask(Trigger(by="ann"), 1.0, system=True)
        assert isinstance(answer, Done) and trio.current_time() == before
        for lane in rig.lanes.values():
            assert isinstance((await lane.receive()).msg, Release), "read before 256 others"
        assert isinstance((await rig.link.receive()).msg, Broadcast)
        await trio.sleep(10 * REPEAT_S)
        assert rig.latch.state == "released"


async def test_a_trigger_needs_no_name_and_any_reason_will_do(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.me.ask(Trigger(reason="\0" * 10_000), 1.0)
        (note,) = only(await heard(rig.ledger), IncidentNote)
        assert note.kind == "triggered" and len(note.detail) <= 200 and "\0" not in note.detail
        assert rig.latch.by == "unknown" and rig.latch.state == "released"


async def test_the_latch_is_on_disk_afterwards_and_the_record_in_the_ledger(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        latch = read_latch(path)
        assert (latch.state, latch.incident, latch.by, latch.drill) == ("released", incident, "ann", False)
        (note,) = only(await heard(rig.ledger), IncidentNote)
        assert (note.kind, note.incident, note.user, note.detail) == ("triggered", incident, "ann", "smoke")


async def test_a_disk_that_fails_is_tried_until_it_works_and_people_are_told(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.forget()
        disk.fails = 3
        await rig.trigger()
        assert read_latch(path).state == "normal"
        await trio.sleep(5.0)
        assert read_latch(path).state == "released"
        lines = [line for line in only(await heard(rig.hub), FeedEvent) if "latch" in line.text_en]
        assert lines and lines[0].severity == "alarm"


async def test_a_trigger_that_is_the_last_thing_before_the_server_stops_is_on_disk(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        rig.me.tell(Trigger(by="ann"), system=True)
        rig.me.tell(Stop())
        await rig.me.wait_gone()
        assert read_latch(path).state == "released", "the next server would begin with closed gates"


async def test_a_stop_does_not_wait_for_a_disk_that_hangs(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        disk.hangs = True
        await rig.trigger()
        before = trio.current_time()
        rig.me.tell(Stop())
        await rig.me.wait_gone()
        assert trio.current_time() - before <= 4.0
        disk.hangs = False


async def test_a_slow_disk_in_a_thread_delays_no_release(path, monkeypatch):
    """In real time: the write blocks for as long as it likes."""
    free = threading.Event()

    def slow(path, latch):
        free.wait(10.0)
        return write_latch(path, latch)

    monkeypatch.setattr(module, "write_latch", slow)
    async with evacuation(path) as rig:
        try:
            with trio.fail_after(1.0):
                await rig.trigger()
                for lane in rig.lanes.values():
                    await lane.expect(Release)
                await rig.trigger()
                for lane in rig.lanes.values():
                    await lane.expect(Release)
        finally:
            free.set()
        with trio.fail_after(5.0):
            while read_latch(path).state != "released":
                await trio.sleep(0.01)


# --- until everybody is open ------------------------------------------------------------------------------------


async def test_who_is_not_sensed_open_is_told_again_until_it_is(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        await rig.acknowledge("g1")
        await rig.acknowledge("g2", barrier="closed", open=False)
        await rig.forget()
        await trio.sleep(REPEAT_S + SHORT_S)
        assert await rig.told("g1") == []
        for name in ("g2", "g3"):
            assert await rig.told(name) == [Release(incident=incident, drill=False)]
        assert len(await heard(rig.link)) == 1
        assert silent(await rig.view()) == ["g2", "g3"]
        await trio.sleep(60.0)
        assert 59 <= len(await rig.told("g3")) <= 61, "for as long as it takes"
        await rig.acknowledge("g2", "g3")
        await rig.forget()
        await trio.sleep(60.0)
        for name in LANES:
            assert await rig.told(name) == []
        await rig.acknowledge("g1", barrier="closing", open=False)
        await trio.sleep(REPEAT_S + SHORT_S)
        assert await rig.told("g1") == [Release(incident=incident, drill=False)], "it fell shut again"


async def test_the_console_sees_when_each_lane_was_open(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.trigger()
        assert silent(await rig.view()) == list(LANES)
        await trio.sleep(0.3)
        await rig.acknowledge("g2")
        view = await rig.view()
        (second,) = (lane for lane in view.lanes if lane.lane == "g2")
        assert (second.acknowledged, second.sensed_open, second.barrier) == (True, True, "released")
        assert second.acknowledged_after_ms == pytest.approx(300.0, abs=1.0)
        assert [note.lane for note in only(await heard(rig.ledger), IncidentNote)] == ["", "g2"]


async def test_triggered_again_no_lane_was_open_before_the_evacuation_began(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.trigger()
        await trio.sleep(0.2)
        await rig.acknowledge("g1")
        await trio.sleep(30.0)
        await rig.trigger(by="bob")
        (first, *_) = (await rig.view()).lanes
        assert first.acknowledged_after_ms == pytest.approx(200.0, abs=1.0)
        assert rig.latch.by == "ann", "who began it"


@pytest.mark.parametrize("stray", ["old incident", "unknown lane"])
async def test_an_acknowledgement_that_does_not_belong_here_counts_for_nothing(autojump_clock, path, disk, stray):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        if stray == "old incident":
            await rig.acknowledge("g1", incident=incident - 1)
        else:
            await rig.acknowledge("g9")
        assert silent(await rig.view()) == list(LANES)


# --- drills -----------------------------------------------------------------------------------------------------


async def test_a_drill_becomes_real_by_one_action_and_stays_the_same_incident(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger(drill=True)
        assert read_latch(path).drill
        await rig.forget()
        await rig.trigger(by="bob")
        assert await rig.told("g1") == [Release(incident=incident, drill=False)]
        assert (rig.latch.drill, read_latch(path).drill) == (False, False)
        assert [note.kind for note in only(await heard(rig.ledger), IncidentNote)] == ["became_real"]


async def test_a_real_evacuation_never_becomes_a_drill(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        await rig.trigger(drill=True)
        assert (rig.latch.drill, rig.latch.incident) == (False, incident)
        assert await rig.told("g1") == [Release(incident=incident, drill=False)] * 2


# --- the end ----------------------------------------------------------------------------------------------------


async def test_it_takes_two_people_to_end_it(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        await rig.forget()
        await rig.restore("ann")
        assert rig.latch.state == "released" and await rig.told("g1") == []
        assert (await rig.view()).restore_requested_by == "ann"
        with pytest.raises(CommandRefused) as refused:
            await rig.restore("ann")
        assert refused.value.code == "second_person" and rig.latch.state == "released"
        await rig.restore("bob")
        assert rig.latch.state == "restoring" and read_latch(path).state == "restoring"
        assert await rig.told("g1") == [Restore(incident=incident)]
        assert await heard(rig.link) == [Broadcast(release=None)]
        notes = only(await heard(rig.ledger), IncidentNote)
        assert [(note.kind, note.user) for note in notes] == [("restore_requested", "ann"), ("restored", "bob")]
        assert "ann" in notes[1].detail


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (RestoreRequest(by="ann"), "not_released"),
        (RearmLane(lane="g9", by="ann"), "unknown_lane"),
    ],
)
async def test_what_does_not_fit_is_refused_and_changes_nothing(autojump_clock, path, disk, request_, code):
    async with evacuation(path) as rig:
        await rig.forget()
        with pytest.raises(CommandRefused) as refused:
            await rig.me.ask(request_, 1.0)
        assert refused.value.code == code and refused.value.text_zh
        assert rig.order == [] and rig.latch.state == "normal"


async def test_nobody_cannot_restore_and_nothing_is_re_armed_while_released(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.trigger()
        await rig.forget()
        rearm = RearmLane(lane="*", by="ann")
        for request, code in ((RestoreRequest(by=""), "person_required"), (rearm, "restore_first")):
            with pytest.raises(CommandRefused) as refused:
                await rig.me.ask(request, 1.0)
            assert refused.value.code == code
        assert [name for name, kind in rig.order if kind in ("Rearm", "Restore")] == []
        assert rig.latch.state == "released"


async def test_lanes_are_re_armed_one_by_one_and_the_last_one_ends_the_incident(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.trigger()
        await rig.restore("ann", "bob")
        await rig.forget()
        await rig.me.ask(RearmLane(lane="g2", by="bob"), 1.0)
        await settle()
        assert await rig.told("g2") == [Rearm(user="bob")] and await rig.told("g1") == []
        assert (read_latch(path).state, read_latch(path).pending) == ("restoring", ["g1", "g3"])
        await rig.me.ask(RearmLane(lane="*", by="bob"), 1.0)
        await settle()
        assert await rig.told("g1") == [Rearm(user="bob")]
        assert read_latch(path).state == "normal"
        assert (await rig.view()).lanes == []


async def test_a_lane_without_room_is_not_called_re_armed(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.trigger()
        await rig.restore("ann", "bob")
        await rig.forget()
        full = rig.lanes["g2"]
        while full.statistics().depth < full.capacity:
            Probe.tell(full, "scan")
        with pytest.raises(CommandRefused) as refused:
            await rig.me.ask(RearmLane(lane="*", by="bob"), 1.0)
        assert refused.value.code == "busy" and "g2" in refused.value.text_en
        assert rig.latch.pending == ["g2"] and rig.latch.state == "restoring"


async def test_a_new_evacuation_while_the_last_one_is_being_ended_begins_anew(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        first = await rig.trigger()
        await rig.acknowledge(*LANES)
        await rig.restore("ann", "bob")
        await rig.forget()
        second = await rig.trigger()
        assert second != first
        assert await rig.told("g1") == [Release(incident=second, drill=False)]
        assert silent(await rig.view()) == list(LANES), "what was acknowledged then counts no longer"
        await rig.restore("bob")
        assert rig.latch.state == "released", "one person alone cannot end it"


async def test_an_adopted_evacuation_takes_two_people_as_well(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.trigger()
        await rig.restore("ann", "bob")
        other = rig.latch.incident + 1
        rig.me.tell(adopt("g1", other), system=True)
        await settle()
        assert (rig.latch.state, rig.latch.incident) == ("released", other)
        await rig.restore("bob")
        assert rig.latch.state == "released", "ann asked for the end of another one"
        await rig.restore("ann")
        assert rig.latch.state == "restoring"


# --- lanes and files that are released already ------------------------------------------------------------------


async def test_a_lane_that_reports_a_release_nobody_knows_releases_the_site(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.forget()
        rig.me.tell(adopt("g2", 77), system=True)
        await settle()
        for name in LANES:
            assert await rig.told(name) == [Release(incident=77, drill=False)]
        assert read_latch(path).incident == 77 and "g2" in read_latch(path).by
        assert [note.kind for note in only(await heard(rig.ledger), IncidentNote)] == ["adopted"]
        await trio.sleep(REPEAT_S + SHORT_S)
        assert await rig.told("g1") == [Release(incident=77, drill=False)]


@pytest.mark.parametrize(
    "proof",
    [b"", b"rubbish", link.encode(signed(2**52, signature=b"forged")), link.encode(signed(2**51))],
    ids=["nothing", "rubbish", "forged", "of another incident"],
)
async def test_a_lane_that_cannot_show_the_release_opens_no_other_lane(autojump_clock, path, disk, proof):
    async with evacuation(path) as rig:
        await rig.forget()
        for _ in range(3):
            rig.me.tell(AdoptRelease(lane="g2", incident=2**52, proof=proof), system=True)
            await settle()
        assert rig.latch.state == "normal" and await rig.told("g1") == [] and await heard(rig.link) == []
        assert await rig.told("g2") == [Restore(incident=2**52)] * 3, "somebody has to look at that one"
        assert [line.code for line in only(await heard(rig.hub), FeedEvent)] == ["unknown_release"], "told once"


async def test_an_old_release_that_is_shown_again_opens_no_other_lane(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        first = await rig.trigger()
        await rig.restore("ann", "bob")
        await rig.trigger()
        await rig.restore("ann", "bob")
        await rig.forget()
        rig.me.tell(adopt("g2", first), system=True)
        assert await rig.told("g2") == [Restore(incident=first)]
        assert rig.latch.state == "restoring" and await rig.told("g1") == []


async def test_a_board_is_told_beside_its_lane_which_may_be_down(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.trigger()
        assert await heard(rig.gates["g1"]) == [GateRelease()]
        await trio.sleep(REPEAT_S + SHORT_S)
        assert await heard(rig.gates["g1"]) == [GateRelease()], "it is not sensed open"
        await rig.acknowledge("g1")
        await trio.sleep(REPEAT_S + SHORT_S)
        assert await heard(rig.gates["g1"]) == []


async def test_a_line_of_the_record_that_the_ledger_could_not_take_is_told_again(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        while rig.ledger.statistics().depth < rig.ledger.capacity:
            rig.ledger.tell(Release(incident=0))
        await rig.trigger()
        await heard(rig.ledger)
        await trio.sleep(NOTE_RETRY_S + SHORT_S)
        envelope = await rig.ledger.receive()
        assert envelope.msg.kind == "triggered"
        envelope.fail(LedgerUnavailable("down"))
        await trio.sleep(NOTE_RETRY_S + SHORT_S)
        envelope = await rig.ledger.receive()
        assert envelope.msg.kind == "triggered"
        envelope.reply(None)
        await trio.sleep(10 * NOTE_RETRY_S)
        assert only(await heard(rig.ledger), IncidentNote) == [], "it is on disk"


async def test_a_drill_becomes_real_when_another_process_says_so(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger(drill=True)
        await rig.forget()
        write_latch(path, Latch(state="released", incident=incident, drill=False, by="command line", at=1.0))
        await trio.sleep(WATCH_S + SHORT_S)
        assert not rig.latch.drill and await rig.told("g2") == [Release(incident=incident, drill=False)]
        await rig.trigger(drill=True)
        assert not read_latch(path).drill


async def test_a_lane_that_missed_the_end_only_needs_re_arming(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        await rig.restore("ann", "bob")
        await rig.me.ask(RearmLane(lane="*", by="ann"), 1.0)
        await rig.forget()
        rig.me.tell(adopt("g2", incident), system=True)
        assert await rig.told("g2") == [Restore(incident=incident)]
        assert await rig.told("g1") == [] and rig.latch.state == "normal"


async def test_a_lane_that_reports_a_release_during_one_changes_nothing(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        await rig.forget()
        rig.me.tell(adopt("g2", incident - 5), system=True)
        await settle()
        assert rig.latch.incident == incident and await rig.told("g1") == []


async def test_a_release_written_by_another_process_is_taken_over(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        await rig.forget()
        write_latch(path, Latch(state="released", incident=55, by="paifang evacuate", at=1.0))
        await trio.sleep(WATCH_S + SHORT_S)
        for name in LANES:
            assert await rig.told(name) == [Release(incident=55, drill=False)]
        assert (await rig.view()).triggered_by == "paifang evacuate"
        await trio.sleep(REPEAT_S + SHORT_S)
        assert await rig.told("g1") == [Release(incident=55, drill=False)]


async def test_a_release_written_in_the_moment_of_our_own_write_is_not_missed(autojump_clock, path, disk, monkeypatch):
    async with evacuation(path) as rig:
        await rig.trigger()
        await rig.restore("ann", "bob")
        ours = module.write_latch

        def both(path, latch):
            written = ours(path, latch)
            write_latch(path, Latch(state="released", incident=55, by="paifang evacuate", at=1.0))
            monkeypatch.setattr(module, "write_latch", ours)
            return written

        monkeypatch.setattr(module, "write_latch", both)
        await rig.me.ask(RearmLane(lane="*", by="ann"), 1.0)
        await trio.sleep(WATCH_S + SHORT_S)
        assert (rig.latch.state, rig.latch.incident) == ("released", 55)


async def test_our_own_latch_is_not_taken_for_somebody_elses(autojump_clock, path, disk):
    async with evacuation(path) as rig:
        incident = await rig.trigger()
        await rig.restore("ann", "bob")
        await trio.sleep(10 * WATCH_S)
        assert (rig.latch.state, rig.latch.incident) == ("restoring", incident)
        await rig.me.ask(RearmLane(lane="*", by="ann"), 1.0)
        await trio.sleep(10 * WATCH_S)
        assert rig.latch.state == "normal" and read_latch(path).state == "normal"


# --- restarts ---------------------------------------------------------------------------------------------------


async def test_a_site_that_was_released_starts_released_and_goes_on_repeating(autojump_clock, path, disk):
    write_latch(path, Latch(state="released", incident=42, drill=True, by="ann", at=1.0))
    async with evacuation(path) as rig:
        for name in LANES:
            assert await rig.told(name) == [Release(incident=42, drill=True)]
        assert isinstance((await heard(rig.link))[0], Broadcast)
        await rig.acknowledge("g1")
        await trio.sleep(REPEAT_S + SHORT_S)
        assert (await rig.told("g1"), await rig.told("g2")) == ([], [Release(incident=42, drill=True)])
        view = await rig.view()
        assert (view.state, view.drill, view.triggered_by) == ("released", True, "ann")
        assert silent(view) == ["g2", "g3"]


async def test_a_latch_that_cannot_be_read_starts_released(autojump_clock, path, disk):
    path.mkdir()
    async with evacuation(path) as rig:
        assert rig.latch.state == "released" and rig.latch.incident
        assert len(await rig.told("g1")) == 1


async def test_a_damaged_latch_starts_released_and_is_repaired(autojump_clock, path, disk):
    path.write_bytes(b"garbage")
    async with evacuation(path) as rig:
        (release,) = await rig.told("g1")
        await settle()
        assert (read_latch(path).state, read_latch(path).incident) == ("released", release.incident)


async def test_lanes_that_waited_for_re_arming_still_do_after_a_restart(autojump_clock, path, disk):
    write_latch(path, Latch(state="restoring", incident=42, by="bob", at=1.0, pending=["g2", "gone"]))
    async with evacuation(path) as rig:
        assert await rig.told("g2") == [Release(incident=42), Restore(incident=42)], "open, and waiting"
        assert await rig.told("g1") == []
        await rig.me.ask(RearmLane(lane="g2", by="ann"), 1.0)
        await settle()
        assert read_latch(path).state == "normal", "a lane that is no longer there holds nobody up"


async def test_an_actor_that_dies_in_the_middle_is_released_at_once_and_goes_on(autojump_clock, path, disk):
    async with evacuation(path, crashes=1) as rig:
        incident = await rig.trigger()
        await rig.acknowledge("g1")
        await rig.forget()
        rig.hub.armed = True
        await rig.acknowledge("g2")
        await trio.sleep(0.1)
        assert rig.me.incarnation == 2
        for name in LANES:
            assert await rig.told(name) == [Release(incident=incident, drill=False)]
        await trio.sleep(REPEAT_S + SHORT_S)
        assert await rig.told("g3") == [Release(incident=incident, drill=False)]
        assert await rig.told("g1") == [], "it is open, and that is known still"


async def test_an_actor_that_dies_before_the_disk_has_the_latch_is_released_all_the_same(autojump_clock, path, disk):
    async with evacuation(path, crashes=1) as rig:
        disk.hangs = True
        incident = await rig.trigger()
        rig.hub.armed = True
        rig.me.tell(RestoreRequest(by="ann"))
        disk.hangs = False
        await trio.sleep(1.0)
        assert (rig.latch.state, rig.latch.incident) == ("released", incident)
        assert read_latch(path).incident == incident
