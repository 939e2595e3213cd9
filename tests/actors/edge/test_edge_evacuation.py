"""A lane that is released stays released: over restarts, without the server, until people order this lane to work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from actors.edge import EdgeEvacuation, ServerRearm, ServerRelease
from actors.evacuation import HoldRestore
from actors.evacuation.latch import read_latch
from actors.gate import GateRelease
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols.console import Done, Trigger
from protocols.messages import Rearm, Release, ReleaseAck, Restore


class Rig:
    def __init__(self, latch: Path) -> None:
        self.latch = latch
        self.lane, self.gate = Probe("lane"), Probe("gate")
        self.me = Address("evacuation", capacity=64)
        self.troubles: list[str] = []
        self.actor = EdgeEvacuation(
            lanes={"n1": self.lane}, gates={"n1": self.gate}, latch=latch, trouble=self.troubles.append
        )

    async def rearm(self, incident: int | None) -> list[Any]:
        self.me.tell(ServerRearm(incident=incident))
        return await heard(self.lane)

    async def on_disk(self, state: str) -> None:
        with trio.fail_after(20):
            while read_latch(self.latch).state != state:
                await trio.sleep(0.01)


@asynccontextmanager
async def evacuation(latch: Path) -> AsyncIterator[Rig]:
    rig = Rig(latch)
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig


async def test_a_signed_release_opens_lane_and_gate_and_is_latched(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        assert await heard(rig.lane) == [], "a start without a server opens nothing"
        rig.me.tell(ServerRelease(incident=9), system=True)
        assert only(await heard(rig.lane), Release) == [Release(incident=9)]
        assert only(await heard(rig.gate), GateRelease)
        assert (rig.actor.released, rig.actor.incident) == (True, 9)
        await rig.on_disk("released")


async def test_after_a_restart_it_is_released_before_anybody_says_so(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        rig.me.tell(ServerRelease(incident=9), system=True)
        await rig.on_disk("released")
    async with evacuation(tmp_path / "latch") as rig:
        assert only(await heard(rig.lane), Release) == [Release(incident=9)]
        assert only(await heard(rig.gate), GateRelease)


async def test_a_latch_that_cannot_be_read_means_open(tmp_path: Path) -> None:
    (tmp_path / "latch").write_bytes(b"\xff" * 32768)
    async with evacuation(tmp_path / "latch") as rig:
        assert only(await heard(rig.lane), Release)
        assert rig.actor.released


async def test_the_lanes_own_button_opens_it_without_any_server(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        button = Probe("fire")
        rig.me.tell(Trigger(by="fire/button", reason="pressed"), system=True, reply_to=button)
        released = only(await heard(rig.lane), Release)
        assert len(released) == 1
        assert only(await heard(button), Done)
        await rig.on_disk("released")
        incident = rig.actor.incident
        rig.me.tell(Trigger(by="fire/button", reason="again"), system=True)
        await settle()
        assert rig.actor.incident == incident


async def test_only_the_release_that_was_meant_is_ended(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        rig.me.tell(ServerRelease(incident=9), system=True)
        await heard(rig.lane)
        assert await rig.rearm(8) == [], "the re-arming of an earlier one"
        assert rig.actor.released
        assert await rig.rearm(9) == [Restore(incident=9), Rearm(user="server")]
        assert not rig.actor.released
        await rig.on_disk("normal")


async def test_while_its_contact_is_active_nothing_closes_the_lane(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        rig.me.tell(Trigger(by="fire/panel"), system=True)
        rig.me.tell(HoldRestore(source="fire/panel", contacts=["panel"]), system=True)
        await heard(rig.lane)
        assert await rig.rearm(rig.actor.incident) == []
        rig.me.tell(HoldRestore(source="fire/panel", contacts=[]), system=True)
        assert only(await rig.rearm(rig.actor.incident), Rearm)


async def test_a_recording_of_a_release_that_is_over_opens_nothing(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        for incident in (9, 12):
            rig.me.tell(ServerRelease(incident=incident), system=True)
            await settle()
            await rig.rearm(incident)
        await rig.on_disk("normal")
        for incident in (9, 12):
            rig.me.tell(ServerRelease(incident=incident), system=True)
        assert only(await heard(rig.lane), Release) == []
    async with evacuation(tmp_path / "latch") as rig:
        rig.me.tell(ServerRelease(incident=9), system=True)
        assert only(await heard(rig.lane), Release) == [], "also after a restart"
        rig.me.tell(ServerRelease(incident=5), system=True)
        assert only(await heard(rig.lane), Release), "an unknown one counts, whatever its number"


async def test_a_new_release_while_released_takes_its_place(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        rig.me.tell(Trigger(by="button"), system=True)
        await heard(rig.lane)
        rig.me.tell(ServerRelease(incident=9), system=True)
        assert only(await heard(rig.lane), Release) == [Release(incident=9)]
        assert rig.actor.incident == 9


async def test_a_barrier_that_is_not_sensed_open_is_told_again(tmp_path: Path, autojump_clock: Any) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        rig.me.tell(ServerRelease(incident=9), system=True)
        await heard(rig.lane)
        await trio.sleep(3.5)
        assert len(only(await heard(rig.lane), Release)) >= 2
        ack = ReleaseAck(lane="n1", incident=9, barrier="released", sensed_open=True, at=0.0)
        rig.me.tell(ack)
        await settle()
        await heard(rig.lane)
        await trio.sleep(3.5)
        assert only(await heard(rig.lane), Release) == []


async def test_a_latch_that_cannot_be_written_releases_all_the_same(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "no folder" / "latch") as rig:
        rig.me.tell(ServerRelease(incident=9), system=True)
        assert only(await heard(rig.lane), Release)
        with trio.fail_after(20):
            while not rig.troubles:
                await trio.sleep(0.01)


async def test_a_lane_that_its_board_holds_open_is_rearmed_too(tmp_path: Path) -> None:
    async with evacuation(tmp_path / "latch") as rig:
        assert only(await rig.rearm(None), Rearm)
