"""A lane controller whose disk is full, and read-only: a real small filesystem, and whole processes."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from drivers.base import Barrier
from paifang.lane_testing import LaneProcess, lane_rig
from paifang.smalldisk_testing import SmallDisk
from paifang.testing import until
from protocols.console import Done, RearmLane, RestoreRequest, Trigger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DISK_MB = 4
WAIT_S = 30.0


@contextmanager
def small_disks(lanes: dict[str, LaneProcess]) -> Iterator[dict[str, SmallDisk]]:
    """Each lane's data folder on a filesystem of its own, before the lane is started."""
    with ExitStack() as stack:
        disks = {}
        for name, lane in lanes.items():
            disk = disks[name] = stack.enter_context(SmallDisk(lane.folder / "small", megabytes=DISK_MB))
            shutil.copytree(lane.data / "identity", disk.path / "identity")
            (disk.path / "dev").symlink_to(lane.data / "dev")  # the simulated board and reader
            lane.data, lane.program = disk.path, [*disk.program, "lane", "run"]
        yield disks


async def _soon(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    with trio.move_on_after(WAIT_S):
        while not await condition():
            await trio.sleep(0.1)
        return
    raise AssertionError(f"not within {WAIT_S:g} s: {what}")


def policy(lane: LaneProcess, journal_failure: str) -> None:
    lane.path.write_text(f'{lane.path.read_text()}\n[policy]\njournal_failure = "{journal_failure}"\n')


async def test_a_full_disk_is_an_alarm_follows_the_policy_and_is_over_by_itself(tmp_path: Path) -> None:
    """Lane c1 refuses what it cannot write down, c2 lets in and writes later; a release opens both and stays."""
    async with lane_rig(tmp_path, lanes=2, start=False) as rig:
        with small_disks(dict(rig.lanes)) as disks:
            refuses, accepts = rig.lanes["c1"], rig.lanes["c2"]
            policy(accepts, "accept")
            await rig.site.start()
            codes = [ticket.code for ticket in (await rig.site.sell_all("adult", 6)).tickets]
            await rig.start_lanes()
            pids = [lane.pid for lane in rig.lanes.values()]
            assert await refuses.admit(codes[0])
            assert await accepts.admit(codes[1])
            await rig.site.settled()
            for disk in disks.values():
                disk.fill()
            for lane in rig.lanes.values():  # what fits into files that are there already is no trouble yet
                await lane.shows(lambda status: "full" in status["journal_trouble"], "says so itself", 60.0)

            assert not await refuses.scan(codes[2], patience_s=3.0)
            assert await accepts.admit(codes[3], patience_s=10.0)

            async def alarmed() -> bool:
                rows = await rig.site.rows("select distinct lane from cases where kind = 'disk' order by lane")
                return [row["lane"] for row in rows] == ["c1", "c2"]

            await _soon(alarmed, "people are told of both disks")

            await rig.site.ask("security1", "evacuation.trigger", Trigger(reason="test"), Done)
            for lane in rig.lanes.values():
                await until(lambda lane=lane: lane.sim.released, f"{lane.name} is released", WAIT_S)  # type: ignore[misc]
            for user in ("security1", "security2"):
                await rig.site.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)
            assert all(lane.sim.released for lane in rig.lanes.values()), "a restore closes nothing by itself"
            assert [lane.pid for lane in rig.lanes.values()] == pids
            assert all(lane.process and lane.process.poll() is None for lane in rig.lanes.values()), "no crash"

            for name, disk in disks.items():
                disk.empty()
                await rig.site.ask("security1", "lane.rearm", RearmLane(lane=name), Done)
            for lane in rig.lanes.values():
                await lane.works()
                await until(lambda lane=lane: lane.sim.barrier.sensed is Barrier.CLOSED, "closed", WAIT_S)  # type: ignore[misc]
            assert await refuses.admit(codes[2], patience_s=15.0)
            assert await accepts.admit(codes[4], patience_s=15.0)
            for lane in rig.lanes.values():
                await lane.shows(lambda status: (status["journal_trouble"], status["unwritten"]) == ("", 0), "well")
                await lane.shows(lambda status: status["waiting_for_upload"] == 0, "and uploaded", WAIT_S)
            await rig.site.settled(WAIT_S)
            assert await rig.site.value("select count(*)::int from passages where direction = 'entry'") == 5
            assert (await rig.site.audit()).broken == []


async def test_a_read_only_disk_keeps_no_lane_from_starting_nor_a_released_one_from_being_open(tmp_path: Path) -> None:
    """The kernel turns a filesystem read-only when it fails; here between two runs of the lane."""
    async with lane_rig(tmp_path, start=False) as rig:
        with small_disks(dict(rig.lanes)) as disks:
            lane, disk = rig.lanes["c1"], disks["c1"]
            await rig.site.start()
            codes = [ticket.code for ticket in (await rig.site.sell_all("adult", 2)).tickets]
            await rig.start_lanes()
            assert await lane.admit(codes[0])
            await rig.site.settled()
            await rig.site.ask("security1", "evacuation.trigger", Trigger(reason="test"), Done)
            await until(lambda: lane.sim.released, "released", WAIT_S)
            await lane.shows(lambda status: status["released"], "latched")
            lane.kill()
            disk.read_only(True)
            await lane.start()
            assert lane.sim.released

            async def alarmed() -> bool:
                return bool(await rig.site.value("select count(*) from cases where kind = 'disk' and lane = 'c1'"))

            await _soon(alarmed, "people are told")
            assert lane.sim.released
            assert lane.process is not None
            assert lane.process.poll() is None, "it runs"
            assert await lane.stop() == 0
            assert lane.sim.released, "an orderly end closes nothing"
            disk.read_only(False)
            await lane.start()
            await lane.shows(lambda status: status["released"] and not status["journal_trouble"], "released, and well")
            for user in ("security1", "security2"):
                await rig.site.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)
            await rig.site.ask("security1", "lane.rearm", RearmLane(lane="c1"), Done)
            await lane.works()
            assert await lane.admit(codes[1], patience_s=15.0)
            await rig.site.settled(WAIT_S)
            assert (await rig.site.audit()).broken == []
