"""A part of the site, and who is out of it."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors.errors import CommandRefused
from actors.evacuation import Announce, Broadcast, Evacuation, Latch, Place, ZonesNow, read_latch, write_latch
from actors.evacuation.scope import lanes_of, zones_to_leave
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols import devicelink as link
from protocols.console import CountOut, Done, EvacuationView, RearmLane, RestoreRequest, Trigger
from protocols.messages import AdoptRelease, Direction, PassedReleased, Rearm, Release, ReleaseAck, Restore

PLACES = {
    "n1": Place(name="北1", entrance="north", from_zone="outside", to_zone="park"),
    "n2": Place(name="北2", entrance="north", from_zone="outside", to_zone="park"),
    "s1": Place(name="南1", entrance="south", from_zone="outside", to_zone="park"),
    "m1": Place(name="馆1", entrance="museum", from_zone="park", to_zone="museum"),
}
ALL = frozenset(PLACES)


def signed(incident, drill=False, scope="site"):
    return link.Release(site="s", incident=incident, scope=scope, drill=drill, key="k", signature=b"signed")


class Rig:
    def __init__(self, path):
        self.lanes = {name: Probe(name, capacity=256) for name in PLACES}
        self.link, self.hub, self.ledger, self.announcer = (Probe(name, capacity=512) for name in ("l", "h", "b", "a"))
        self.me = Address("evacuation", capacity=1024)
        self.actor = Evacuation(
            lanes=self.lanes, gates={}, link_address=self.link, hub=self.hub, ledger=self.ledger, sign=signed,
            verify=lambda release: release.signature == b"signed", latch=path, places=PLACES,
            unsensing=frozenset({"m1"}), announcer=self.announcer,
        )  # fmt: skip

    async def trigger(self, scope="", *, drill=False):
        await self.me.ask(Trigger(by="ann", scope=scope, drill=drill), 1.0, system=True)
        await settle()

    async def released(self):
        return {name for name, probe in self.lanes.items() if only(await heard(probe), Release)}

    async def view(self):
        await trio.sleep(1.0)
        return only(await heard(self.hub), EvacuationView)[-1]

    async def inside(self, **zones):
        self.me.tell(ZonesNow(zones=zones))
        await settle()

    async def restore(self):
        for person in ("ann", "bob"):
            await self.me.ask(RestoreRequest(by=person), 1.0)
        await settle()

    def walk(self, lane, direction, seq, *, boot="b"):
        place = PLACES[lane]
        ends = (place.from_zone, place.to_zone)
        from_zone, to_zone = ends if direction is Direction.ENTRY else ends[::-1]
        self.me.tell(
            PassedReleased(
                lane=lane, device=lane, boot=boot, direction=direction, seq=seq, from_zone=from_zone, to_zone=to_zone,
                at=0.0,
            )
        )  # fmt: skip


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Threads and virtual time do not mix: writing works at once."""

    async def run_sync(function, *arguments, **_options):
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    return tmp_path / "evacuation.latch"


@asynccontextmanager
async def evacuation(path, *, crashes=0):
    rig = Rig(path)
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


@pytest.mark.parametrize(
    ("scope", "meant"),
    [
        ("", ALL),
        ("site", ALL),
        ("entrance:north", {"n1", "n2"}),
        ("zone:museum", {"m1"}),
        ("zone:park", ALL),
        ("lane:s1", {"s1"}),
        ("lane:s1, entrance:museum", {"s1", "m1"}),
        ("entrance:nroth", ALL),
        ("lane:s1,entrance:nroth", ALL),
        ("zone:outside", ALL),
        ("entrance:", ALL),
        ("south", ALL),
        (",", ALL),
        ("lane:n1," * 100, ALL),
        ("\x00🚒", ALL),
    ],
)
def test_a_scope_means_its_lanes_and_whatever_is_not_understood_means_everything(scope, meant):
    assert lanes_of(scope, PLACES) == meant


def test_who_leaves_a_zone_need_not_leave_the_site():
    assert zones_to_leave({"m1"}, "zone:museum", PLACES) == {"museum"}
    assert zones_to_leave({"n1", "n2"}, "entrance:north", PLACES) == {"park"}
    assert zones_to_leave(ALL, "", PLACES) == {"park", "museum"}


async def test_only_the_lanes_of_the_scope_are_told_and_each_by_a_release_of_its_own(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger("entrance:north")
        assert await rig.released() == {"n1", "n2"}
        [broadcast] = only(await heard(rig.link), Broadcast)
        assert broadcast.release is None
        assert {lane: release.scope for lane, release in broadcast.lanes.items()} == {"n1": "n1", "n2": "n2"}
        assert read_latch(path).lanes == ["n1", "n2"]
        view = await rig.view()
        assert view.scope == "n1,n2"
        assert [lane.lane for lane in view.lanes] == ["n1", "n2"]


async def test_a_scope_only_grows_and_a_second_trigger_opens_the_rest_in_the_same_incident(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger("entrance:north")
        incident = read_latch(path).incident
        await rig.trigger("lane:s1")
        assert read_latch(path).lanes == ["n1", "n2", "s1"]
        await rig.released()
        await heard(rig.link)
        await rig.trigger()
        assert await rig.released() == ALL
        [broadcast] = only(await heard(rig.link), Broadcast)
        assert broadcast.release is not None and broadcast.release.scope == "site"
        await rig.trigger("lane:n1")
        assert (read_latch(path).lanes, read_latch(path).incident) == ([], incident)


async def test_a_drill_in_a_part_becomes_real_and_a_real_part_no_drill(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger("entrance:north", drill=True)
        assert read_latch(path).drill
        await rig.trigger("lane:n1")
        assert not read_latch(path).drill
        await rig.trigger("", drill=True)
        assert not read_latch(path).drill


async def test_other_lanes_go_on_working_and_only_those_of_the_scope_are_restored(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger("entrance:north")
        await rig.released()
        await rig.restore()
        told = {name: only(await heard(probe), Restore) for name, probe in rig.lanes.items()}
        assert {name for name, orders in told.items() if orders} == {"n1", "n2"}
        assert read_latch(path).pending == ["n1", "n2"]


async def test_a_second_incident_elsewhere_forgets_no_lane_that_waits_for_re_arming(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger("entrance:north")
        await rig.restore()
        await rig.trigger("lane:s1")
        assert (read_latch(path).lanes, read_latch(path).pending) == (["s1"], ["n1", "n2"])
        for lane in ("s1", "*"):
            if lane == "s1":
                with pytest.raises(CommandRefused, match="Restore first"):
                    await rig.me.ask(RearmLane(lane=lane, by="ann"), 1.0)
            else:
                await rig.me.ask(RearmLane(lane=lane, by="ann"), 1.0)
        await settle()
        assert only(await heard(rig.lanes["n1"]), Rearm) and not only(await heard(rig.lanes["s1"]), Rearm)
        assert read_latch(path).state == "released"


async def test_a_server_that_is_started_again_releases_the_same_lanes(autojump_clock, path):
    write_latch(path, Latch(state="released", incident=7, lanes=["n1", "gone"], by="x", at=1.0))
    async with evacuation(path) as rig:
        assert await rig.released() == {"n1"}


async def test_a_latch_whose_lanes_are_all_gone_from_the_site_file_opens_everything(autojump_clock, path):
    write_latch(path, Latch(state="released", incident=7, lanes=["gone"], by="x", at=1.0))
    async with evacuation(path) as rig:
        assert await rig.released() == ALL


async def test_names_that_do_not_fit_the_latch_stand_for_all_lanes(path):
    names = [f"lane-{number:030}" for number in range(1000)]
    assert write_latch(path, Latch(state="restoring", incident=7, pending=names)) is not None
    assert (read_latch(path).state, read_latch(path).pending) == ("restoring", [])


async def test_restoring_without_names_means_that_every_lane_waits(autojump_clock, path):
    write_latch(path, Latch(state="restoring", incident=7))
    async with evacuation(path) as rig:
        for probe in rig.lanes.values():
            assert [type(message) for message in await heard(probe)] == [Release, Restore]
        assert read_latch(path).pending == sorted(ALL)


async def test_a_lane_that_shows_a_release_of_its_own_opens_no_other_lane(autojump_clock, path):
    async with evacuation(path) as rig:
        proof = link.encode(signed(99, scope="s1"))
        rig.me.tell(AdoptRelease(lane="s1", incident=99, proof=proof))
        await settle()
        assert await rig.released() == {"s1"}
        rig.me.tell(AdoptRelease(lane="n1", incident=99, proof=proof))  # another lane's
        await settle()
        assert await rig.released() == set()


async def test_another_process_that_releases_everything_widens_a_part(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger("lane:s1")
        await trio.sleep(1.0)
        await rig.released()
        latch = read_latch(path)
        write_latch(path, Latch(state="released", incident=latch.incident, by="cli", at=2.0))
        await trio.sleep(1.0)
        assert await rig.released() == ALL


# --- who is out -----------------------------------------------------------------------------------------------------


async def test_who_is_left_is_who_was_inside_less_who_came_out(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.inside(park=40, museum=10)
        await rig.trigger()
        await rig.inside(park=0, museum=0)  # the ledger goes on booking: it is not counted twice
        for seq in range(12):
            rig.walk("n1", Direction.EXIT, seq)
        rig.walk("n1", Direction.EXIT, 3)  # told again
        rig.walk("s1", Direction.ENTRY, 1)  # somebody runs back in
        rig.walk("m1", Direction.EXIT, 1)  # from the museum into the park: still inside
        view = await rig.view()
        assert (view.inside_at_start, view.out, view.back, view.left) == (50, 12, 1, 39)
        lanes = {lane.lane: lane for lane in view.lanes}
        assert (lanes["n1"].out, lanes["n1"].out_last_minute, lanes["s1"].out) == (12, 12, 0)
        assert (lanes["m1"].can_sense, lanes["n1"].can_sense) == (False, True)
        await trio.sleep(1.0)


async def test_in_a_part_whoever_leaves_the_zone_is_out(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.inside(park=40, museum=10)
        await rig.trigger("zone:museum")
        rig.walk("m1", Direction.EXIT, 1)
        view = await rig.view()
        assert (view.inside_at_start, view.out, view.left) == (10, 1, 9)


async def test_where_nothing_counts_people_are_counted_by_hand(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.inside(park=40, museum=0)
        await rig.trigger()
        for people in (20, 10, -5):
            await rig.me.ask(CountOut(place="east fence", people=people, by="ann"), 1.0)
        view = await rig.view()
        assert (view.out, view.out_by_hand, view.left) == (25, 25, 15)
        await rig.me.ask(CountOut(place="east fence", people=-100, by="ann"), 1.0)
        assert (await rig.view()).out == 0


async def test_nobody_counts_out_of_nothing_or_nowhere(autojump_clock, path):
    async with evacuation(path) as rig:
        with pytest.raises(CommandRefused, match="Nothing is released"):
            await rig.me.ask(CountOut(place="x", people=1, by="ann"), 1.0)
        await rig.trigger()
        with pytest.raises(CommandRefused, match="Say where"):
            await rig.me.ask(CountOut(place=" ", people=1, by="ann"), 1.0)


async def test_how_many_are_left_is_unknown_when_nobody_said_how_many_were_inside(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger()
        rig.walk("n1", Direction.EXIT, 1)
        view = await rig.view()
        assert (view.inside_at_start, view.out, view.left) == (None, 1, None)


async def test_a_count_that_comes_after_the_trigger_is_better_than_none(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger()
        rig.walk("n1", Direction.EXIT, 1)
        await rig.inside(park=40, museum=1)
        await rig.inside(park=39, museum=1)
        view = await rig.view()
        assert (view.inside_at_start, view.left) == (41, 40)


async def test_the_count_goes_on_after_a_restart_of_the_server(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.inside(park=40, museum=0)
        await rig.trigger()
        rig.walk("n1", Direction.EXIT, 1)
        await trio.sleep(5.0)
    async with evacuation(path) as rig:
        rig.walk("n1", Direction.EXIT, 1, boot="after")
        view = await rig.view()
        assert (view.inside_at_start, view.out, view.left) == (40, 2, 38)


async def test_damaged_counts_cost_the_counts_and_nothing_else(autojump_clock, path):
    write_latch(path, Latch(state="released", incident=7, by="x", at=1.0))
    path.with_name("evacuation.counts").write_bytes(b"\xff{" * 100)
    async with evacuation(path) as rig:
        assert await rig.released() == ALL


# --- the crowd is told ------------------------------------------------------------------------------------------------


async def test_whoever_speaks_to_the_crowd_is_told_what_happened_and_after_the_lanes(autojump_clock, path):
    async with evacuation(path) as rig:
        await rig.trigger("lane:s1", drill=True)
        await rig.trigger("lane:n1", drill=True)
        await rig.trigger("lane:n1")
        await rig.restore()
        said = only(await heard(rig.announcer), Announce)
        assert [each.what for each in said] == ["triggered", "widened", "became_real", "restored"]
        assert [(each.drill, each.scope) for each in said][:2] == [(True, "s1"), (True, "n1,s1")]


async def test_five_hundred_lanes_that_answer_at_once_cost_few_pictures(autojump_clock, path):
    lanes = {f"l{number}": Probe(f"l{number}") for number in range(500)}
    hub = Probe("hub", capacity=4096)
    me = Address("evacuation", capacity=2048)
    actor = Evacuation(
        lanes=lanes, gates={}, link_address=Probe("link"), hub=hub, ledger=Probe("ledger", capacity=4096),
        sign=signed, verify=lambda release: True, latch=path,
    )  # fmt: skip
    async with alive(actor.run, me):
        await me.ask(Trigger(by="ann"), 1.0, system=True)
        incident = actor._latch.incident
        await heard(hub)
        for lane in lanes:
            me.tell(ReleaseAck(lane=lane, incident=incident, barrier="released", sensed_open=True, at=0.0))
        await trio.sleep(0.5)
        views = only(await heard(hub), EvacuationView)
        assert 1 <= len(views) <= 3
        assert all(lane.sensed_open for lane in views[-1].lanes)
        assert isinstance(await me.ask(Trigger(by="bob"), 1.0, system=True), Done)
