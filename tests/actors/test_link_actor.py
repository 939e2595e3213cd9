"""The device link's actor: a device reaches its own lane and no other, and safety needs nothing of the work side."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors import link as module
from actors.evacuation import Broadcast
from actors.lane import LinkCall, SafetySeen
from actors.lane._link import Wake
from actors.link import LinkActor
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from drivers.errors import DeviceUnavailable
from protocols import devicelink as link
from protocols.console import DeviceView, FeedEvent

RELEASE = link.Release(site="s", incident=5, scope="site", drill=False, key="k", signature=b"x")


class Sockets:
    """Both servers of the link, without a network. `broken` is what the work side's start ends with."""

    def __init__(self) -> None:
        self.work = self.safety = None
        self.starts = {"work": 0, "safety": 0}
        self.up = {"work": False, "safety": False}
        self.broken: Exception | None = None
        self.cut = trio.Event()
        self.published = []
        self.woken = []

    def make_work(self, handler):
        self.work = handler
        return Server(self, "work")

    def make_safety(self, handler):
        self.safety = handler
        return Server(self, "safety")


class Server:
    def __init__(self, sockets: Sockets, name: str) -> None:
        self.sockets, self.name = sockets, name

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        sockets = self.sockets
        sockets.starts[self.name] += 1
        if self.name == "work" and sockets.broken is not None:
            raise sockets.broken
        sockets.up[self.name] = True
        try:
            task_status.started()
            if self.name == "safety":
                await trio.sleep_forever()
            await sockets.cut.wait()
            sockets.cut = trio.Event()
            raise DeviceUnavailable("the socket broke")
        finally:
            sockets.up[self.name] = False

    def wake(self, device: str) -> None:
        self.sockets.woken.append(device)

    def publish(self, release: link.Release) -> bool:
        self.sockets.published.append(release)
        return True


class Rig:
    def __init__(self) -> None:
        self.sockets = Sockets()
        self.lanes = {"gate-g1": Probe("g1"), "gate-g2": Probe("g2")}
        self.hub = Probe("consoles", capacity=4096)
        self.me = Address("link", capacity=512)
        self.actor = LinkActor(
            site="westlake",
            lanes={device: (probe.name, probe) for device, probe in self.lanes.items()},
            hub=self.hub,
            make_work=self.sockets.make_work,
            make_safety=self.sockets.make_safety,
        )

    def beat(self, device: str = "gate-g1", seq: int = 1) -> link.Heartbeat:
        return link.Heartbeat(device=device, boot="b", seq=seq, at=1.0)

    def poll(self, device: str = "gate-g1", **fields):
        fields = {"released": False, "incident": None, "barrier": "closed", "at": 1.0} | fields
        request = link.SafetyPoll(device=device, **fields)
        return self.sockets.safety(request)


@asynccontextmanager
async def device_link(*, crashes=0, **sockets):
    rig = Rig()
    for name, value in sockets.items():
        setattr(rig.sockets, name, value)
    async with trio.open_nursery() as nursery, alive(rig.actor.run, rig.me, crashes=crashes):

        def ask(request):
            answers: list = []

            async def wait() -> None:
                answers.append(await rig.sockets.work(request))

            nursery.start_soon(wait)
            return answers

        rig.ask = ask
        await settle()
        yield rig
        nursery.cancel_scope.cancel()


# --- work -------------------------------------------------------------------------------------------------------


async def test_a_device_reaches_its_own_lane_and_hears_its_answer(autojump_clock):
    async with device_link() as rig:
        answers = rig.ask(rig.beat("gate-g2", seq=9))
        call = await rig.lanes["gate-g2"].expect(LinkCall)
        assert call.request.seq == 9 and rig.lanes["gate-g2"].envelope.trace
        assert await heard(rig.lanes["gate-g1"]) == []
        rig.lanes["gate-g2"].envelope.reply(link.Ack(seq=9, server_at=1.0))
        await settle()
        assert answers == [link.Ack(seq=9, server_at=1.0)]


async def test_a_welcome_names_the_site(autojump_clock):
    async with device_link() as rig:
        answers = rig.ask(link.Hello(device="gate-g1", boot="b", seq=1, at=1.0, firmware="1"))
        await rig.lanes["gate-g1"].expect(LinkCall)
        welcome = link.Welcome(seq=1, server_at=1.0, site="", lane="g1", mode="closed", released=True, incident=4)
        rig.lanes["gate-g1"].envelope.reply(welcome)
        await settle()
        assert (answers[0].site, answers[0].mode, answers[0].released, answers[0].incident) == (
            "westlake", "closed", True, 4,
        )  # fmt: skip


async def test_a_lane_that_hangs_is_not_now_before_the_device_loses_patience(autojump_clock):
    async with device_link() as rig:
        answers = rig.ask(rig.beat())
        await trio.sleep(module.LANE_ANSWER_S + 0.05)
        assert isinstance(answers[0], link.Refused) and answers[0].code == "unavailable"


async def test_a_lane_without_room_is_not_now(autojump_clock):
    async with device_link() as rig:
        lane = rig.lanes["gate-g1"]
        while lane.statistics().depth < lane.capacity:
            lane.tell("something else")
        answers = rig.ask(rig.beat())
        await settle()
        assert isinstance(answers[0], link.Refused) and answers[0].code == "unavailable"


async def test_an_unknown_device_gets_nothing_and_is_shown(autojump_clock):
    async with device_link() as rig:
        answers = rig.ask(rig.beat("gate-g9"))
        await settle()
        assert isinstance(answers[0], link.Refused) and answers[0].code == "unknown_device"
        for lane in rig.lanes.values():
            assert await heard(lane) == []
        messages = await heard(rig.hub)
        assert [view.availability for view in only(messages, DeviceView) if view.device == "gate-g9"] == ["unavailable"]
        assert [line.code for line in only(messages, FeedEvent)] == ["device_not_authorised"]


async def test_whoever_tries_many_names_fills_no_console(autojump_clock):
    async with device_link() as rig:
        await heard(rig.hub)
        for number in range(1000):
            rig.ask(rig.beat(f"intruder-{number}"))
            await settle()
        messages = await heard(rig.hub)
        assert len({view.device for view in only(messages, DeviceView)}) <= module.UNKNOWN_SHOWN_MAX
        assert len(only(messages, FeedEvent)) == 1
        await trio.sleep(module.UNKNOWN_EVERY_S)
        rig.ask(rig.beat("intruder-5000"))
        assert len(only(await heard(rig.hub), FeedEvent)) == 1, "people see that it goes on"


async def test_a_lane_wakes_its_device(autojump_clock):
    async with device_link() as rig:
        rig.me.tell(Wake(device="gate-g2"))
        await settle()
        assert rig.sockets.woken == ["gate-g2"]


# --- safety -----------------------------------------------------------------------------------------------------


async def test_a_release_is_published_at_once_and_answers_every_poll_until_it_is_over(autojump_clock):
    async with device_link() as rig:
        assert rig.poll().release is None
        for _ in range(200):
            rig.me.tell(Wake(device="gate-g1"))
        rig.me.tell(Broadcast(release=RELEASE), system=True)
        await settle()
        assert rig.sockets.published == [RELEASE]
        assert rig.poll().release == RELEASE
        assert rig.poll("gate-g9").release == RELEASE, "an open gate is never the wrong answer to a poll"
        rig.me.tell(Broadcast(release=None), system=True)
        await settle()
        assert rig.poll().release is None and len(rig.sockets.published) == 1


async def test_what_a_gate_senses_reaches_its_lane(autojump_clock):
    async with device_link() as rig:
        rig.poll(barrier="opening")
        rig.poll("gate-g2", released=True, incident=5, barrier="released")
        rig.poll("gate-g9", released=True, incident=5, barrier="released")
        acknowledgement = link.ReleaseAck(device="gate-g1", incident=5, barrier="released", sensed_open=True, at=1.0)
        assert rig.sockets.safety(acknowledgement).release is None
        first, second = await heard(rig.lanes["gate-g1"])
        assert (first.barrier, first.released, first.incident) == ("opening", False, None)
        assert (second.barrier, second.released, second.incident) == ("released", True, 5)
        (other,) = await heard(rig.lanes["gate-g2"])
        assert isinstance(other, SafetySeen) and (other.barrier, other.incident) == ("released", 5)


async def test_a_lane_full_of_requests_delays_no_poll(autojump_clock):
    async with device_link() as rig:
        lane = rig.lanes["gate-g1"]
        while lane.statistics().depth < lane.capacity:
            lane.tell("something else")
        rig.me.tell(Broadcast(release=RELEASE), system=True)
        await settle()
        assert rig.poll().release == RELEASE


async def test_an_actor_that_is_restarted_in_an_evacuation_publishes_again(autojump_clock):
    async with device_link(crashes=1) as rig:
        rig.me.tell(Broadcast(release=RELEASE), system=True)
        await settle()
        rig.me.tell(Wake(device=None))
        rig.sockets.woken = None  # the next wake-up raises
        await trio.sleep(0.1)
        assert rig.sockets.published == [RELEASE, RELEASE]
        assert rig.poll().release == RELEASE
        rig.sockets.woken = []


@pytest.mark.parametrize("trouble", ["its port is taken", "it breaks later"])
async def test_whatever_becomes_of_the_work_sockets_safety_stays_up(autojump_clock, trouble):
    broken = DeviceUnavailable("link.work: the address is in use") if trouble == "its port is taken" else None
    async with device_link(broken=broken) as rig:
        rig.sockets.cut.set()
        await settle()
        rig.me.tell(Broadcast(release=RELEASE), system=True)
        await settle()
        assert rig.sockets.published == [RELEASE] and rig.poll().release == RELEASE
        await trio.sleep(60.0)
        assert rig.sockets.starts["safety"] == 1 and rig.sockets.up["safety"]
        assert rig.sockets.starts["work"] > 1
        view = [view for view in only(await heard(rig.hub), DeviceView) if view.device == "link"]
        assert view[0].availability == "unavailable" and view[0].detail
        rig.sockets.broken = None
        await trio.sleep(60.0)
        assert rig.sockets.up["work"], "it is tried until it works"
