"""The evacuation in any order of events: it never ends without two people; memory, lanes and disk agree in the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from actors.errors import CommandRefused
from actors.evacuation import Evacuation, Latch, LatchError, read_latch, write_latch
from actors.evacuation import _latchfile as module
from actors.evacuation._actor import REPEAT_S
from actors.testing import Tripwire, alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols import devicelink as link
from protocols.console import RearmLane, RestoreRequest, Trigger
from protocols.messages import AdoptRelease, Rearm, Release, ReleaseAck, Restore, new_id

LANES = ("g1", "g2", "g3")
people = st.sampled_from(["ann", "bob", "cem"])
lanes = st.sampled_from(LANES)
steps = st.one_of(
    st.tuples(st.just("trigger"), people, st.booleans()),
    st.tuples(st.just("restore"), people),
    st.tuples(st.just("restore"), people),
    st.tuples(st.just("rearm"), lanes | st.just("*")),
    st.tuples(st.just("ack"), lanes, st.booleans()),
    st.tuples(st.just("adopt"), lanes, st.sampled_from(["signed", "forged", "this one"])),
    st.tuples(st.just("disk"), st.sampled_from(["fails", "hangs", "works"])),
    st.sampled_from([("another process",), ("crash",), ("stop and start",), ("wait",), ("rearm", "*")]),
)


class Disk:
    """Instead of a thread, which virtual time would not wait for."""

    def __init__(self) -> None:
        self.fails = self.hangs = False

    async def run_sync(self, function, *arguments, **_options):
        await trio.lowlevel.checkpoint()
        while self.hangs:
            await trio.sleep(0.1)
        return function(*arguments)

    def write(self, path, latch):
        if self.fails:
            raise LatchError("no space left")
        return write_latch(path, latch)


def signed(incident: int, drill: bool = False, by: bytes = b"signed") -> link.Release:
    return link.Release(site="s", incident=incident, scope="site", drill=drill, key="k", signature=by)


class Site:
    def __init__(self, path: Path, disk: Disk) -> None:
        self.path, self.disk = path, disk
        self.lanes = {name: Probe(name, capacity=4096) for name in LANES}
        self.others = [Probe(name, capacity=4096) for name in ("link", "ledger", "gate/g1")]
        self.hub = Tripwire("consoles", capacity=4096)
        self.elsewhere = 0  # the incident that another process began last
        self.asked: set[str] = set()  # who asked to end the present evacuation
        self.begin()

    def begin(self) -> None:
        """A server starts: a new actor with nothing in memory."""
        self.me = Address("evacuation", capacity=1024)
        self.actor = Evacuation(
            lanes=self.lanes,
            gates={"g1": self.others[2]},
            link_address=self.others[0],
            hub=self.hub,
            ledger=self.others[1],
            sign=signed,
            verify=lambda release: release.signature == b"signed",
            latch=self.path,
        )

    @property
    def state(self) -> str:
        return self.actor._latch.state

    async def step(self, name: str, *arguments) -> None:
        before = self.state
        ended = False  # may this step end the evacuation?
        match name, *arguments:
            case "trigger", by, drill:
                now = trio.current_time()
                await self.me.ask(Trigger(by=by, drill=drill), 1.0, system=True)
                await settle()
                assert self.state == "released" and trio.current_time() == now
                self.asked = set()
                for lane, messages in (await self.told()).items():
                    assert only(messages, Release)[-1].incident == self.actor._latch.incident, lane
            case "restore", by:
                ended = before == "released" and bool(self.asked - {by})
                if await self.ask(RestoreRequest(by=by)) and before == "released":
                    self.asked = set() if ended else {by}
            case "rearm", lane:
                await self.ask(RearmLane(lane=lane, by="ann"))
            case "ack", lane, is_open:
                incident = self.actor._latch.incident or 0
                self.me.tell(ReleaseAck(lane=lane, incident=incident, barrier="open", sensed_open=is_open, at=0.0))
            case "adopt", lane, how:
                incident = (self.actor._latch.incident or 1) if how == "this one" else new_id()
                proof = signed(incident) if how == "signed" else signed(incident, by=b"?")
                self.me.tell(AdoptRelease(lane=lane, incident=incident, proof=link.encode(proof)), system=True)
            case "disk", how:
                self.disk.fails, self.disk.hangs = how == "fails", how == "hangs"
            case "another process", *_:
                drill = self.actor._latch.drill
                self.elsewhere = new_id()
                write_latch(self.path, Latch(state="released", incident=self.elsewhere, by="paifang evacuate", at=1.0))
                await trio.sleep(1.0)
                assert self.state == "released", "what `paifang evacuate` wrote is noticed"
                if drill and not self.actor._latch.drill:  # the drill became real: who asked to end it asks anew
                    self.asked = set()
            case "crash", *_:
                incarnation = self.me.incarnation
                self.hub.armed = True
                stranger = AdoptRelease(lane="g1", incident=1)
                self.me.tell(Trigger(by="x") if before == "released" else stranger, system=True)
                self.me.tell(RestoreRequest(by=""))
                await trio.sleep(0.1)
                if self.me.incarnation == incarnation:
                    self.hub.armed = False
                if before == "released":
                    self.asked = set()
            case "wait", *_:
                await trio.sleep(2.5)
        await settle()
        if self.state == "released" and before != "released":
            self.asked = set()
        assert self.state == "released" or before != "released" or ended, f"{name} ended an evacuation"
        messages = await self.told()
        for lane, told in messages.items():
            if self.state == "released" and before == "released":
                assert only(told, Restore, Rearm) == [], f"{lane} was told to close in an evacuation"
        for probe in (*self.others, self.hub):
            await heard(probe)

    async def told(self):
        return {lane: await heard(probe) for lane, probe in self.lanes.items()}

    async def ask(self, message) -> bool:
        try:
            await self.me.ask(message, 1.0)
        except CommandRefused:
            return False
        return True

    async def quiet(self) -> None:
        self.disk.fails = self.disk.hangs = False
        await trio.sleep(3.0)
        latch, memory = read_latch(self.path), self.actor._latch
        assert (latch.state, latch.drill, latch.pending) == (memory.state, memory.drill, memory.pending)
        # two processes may have begun at once: then either incident is the one that a restart goes on with
        assert memory.state != "released" or latch.incident in {memory.incident, self.elsewhere}
        await self.told()
        await trio.sleep(REPEAT_S + 0.1)
        silent = {lane for lane, seen in self.actor._seen.items() if not seen.sensed_open}
        repeated = {lane for lane, told in (await self.told()).items() if only(told, Release)}
        assert repeated == (silent if memory.state == "released" else set())


async def storm(path: Path, disk: Disk, happenings) -> None:
    site = Site(path, disk)
    rest = list(happenings)
    while rest:  # one life of the server after the other
        async with alive(site.actor.run, site.me) as notices:
            await settle()
            while rest and (step := rest.pop(0))[0] != "stop and start":
                await site.step(*step)
            if not rest:
                await site.quiet()
            assert all("tripped" in repr(notice.error) for notice in notices), notices
            notices.clear()
        memory = site.actor._latch
        disk_worked = not (disk.fails or disk.hangs)
        site.begin()
        if disk_worked:
            assert read_latch(path).state == memory.state, "the last word of a server that stops is on disk"
        site.asked = set()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=1, max_size=20))
@example([("trigger", "ann", True), ("restore", "ann"), ("crash",), ("restore", "bob"), ("rearm", "*")])
@example([("trigger", "ann", False), ("stop and start",), ("restore", "ann"), ("restore", "bob"), ("wait",)])
@example([("trigger", "ann", False), ("restore", "ann"), ("restore", "bob"), ("adopt", "g1", "signed"), ("wait",)])
@example([("trigger", "ann", True), ("restore", "bob"), ("another process",), ("restore", "ann"), ("restore", "bob")])
@example(
    [
        ("trigger", "ann", False),
        ("restore", "ann"),
        ("disk", "hangs"),
        ("restore", "bob"),
        ("disk", "works"),
        ("another process",),  # its release is written before our own write, which was on its way
    ]
)
@example(
    [
        ("disk", "hangs"),
        ("trigger", "ann", False),
        ("restore", "ann"),
        ("restore", "bob"),
        ("disk", "works"),
        ("another process",),  # two writes of ours follow at once and cover its release
    ]
)
def test_whatever_happens_no_evacuation_ends_without_two_people(happenings):
    disk = Disk()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(trio.to_thread, "run_sync", disk.run_sync)
        patch.setattr(module, "write_latch", disk.write)
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(storm, Path(folder) / "evacuation.latch", disk, happenings, clock=clock)
