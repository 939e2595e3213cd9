"""How far a device's clock is off, whose time counts, and that people are told once."""

from __future__ import annotations

import pytest
import trio

from actors._clocks import SAMPLE_LIFE_S, DeviceClocks
from actors.testing import heard, only
from core.testing import Probe
from protocols import devicelink as link
from protocols.console import DeviceView, FeedEvent
from storage.interfaces import OpenCase

EPOCH = 1_800_000_000.0
TOLERANCE_S = 30.0


class Rig:
    def __init__(self):
        self.hub, self.books = Probe("hub", capacity=4096), Probe("books")
        self.start = trio.current_time()
        self.seq = 0
        self.clocks = DeviceClocks(
            TOLERANCE_S, {"gate-1": "g1", "gate-2": "g2"}, hub=self.hub, books=self.books, clock=self.now
        )

    def now(self):
        return EPOCH + trio.current_time() - self.start

    async def says(self, ahead_s, *, late_s=0.0, device="gate-1", kind=link.Heartbeat, **fields):
        """A message made with a clock that is `ahead_s` ahead, which travels for `late_s`."""
        self.seq += 1
        made = kind(device=device, boot="b", seq=self.seq, at=max(0.0, self.now() + ahead_s), **fields)
        await trio.sleep(late_s)
        return self.clocks.heard(made)

    async def cases(self):
        return only(await heard(self.books), OpenCase)


async def test_a_right_clock_alarms_nobody_whatever_the_network_does(autojump_clock):
    rig = Rig()
    for late_s in (40.0, 0.01, 45.0, 0.02, 50.0):
        await rig.says(0.0, late_s=late_s)
        await trio.sleep(2.0)
    assert rig.clocks.skew_s("gate-1") == pytest.approx(-0.01, abs=0.02)
    assert await rig.cases() == []


@pytest.mark.parametrize("ahead_s", [1200.0, -1200.0, 31.0, -31.0, -EPOCH])
async def test_twenty_minutes_raise_the_alarm_once_and_the_servers_time_counts(autojump_clock, ahead_s):
    rig = Rig()
    for _ in range(10):
        request = await rig.says(ahead_s, late_s=0.005, round_trip_s=0.01)
        await trio.sleep(2.0)
    [case] = await rig.cases()
    assert (case.kind, case.lane) == ("clock_off", "g1")
    assert "gate-1" in case.detail
    assert request.at == pytest.approx(rig.now() - 2.0, abs=0.1)
    assert rig.clocks.skew_s("gate-1") == pytest.approx(ahead_s, abs=3600 if ahead_s == -EPOCH else 0.1)
    views = only(await heard(rig.hub), DeviceView)
    assert views[-1].clock_skew_s == pytest.approx(ahead_s, abs=3600 if ahead_s == -EPOCH else 0.1)
    assert "server's counts" in views[-1].detail


async def test_a_passage_carries_the_servers_time_and_an_upload_its_own(autojump_clock):
    rig = Rig()
    for _ in range(3):
        await rig.says(1200.0)
    passed = await rig.says(1200.0, kind=link.Pass)
    assert passed.at == pytest.approx(rig.now(), abs=0.01)
    old = link.PassEnd(device="gate-1", boot="b", seq=99, at=rig.now() + 1200.0 - 600.0, grant=1)  # ten minutes ago
    assert rig.clocks.heard(old).at == pytest.approx(rig.now() - 600.0, abs=0.01)
    upload = await rig.says(1200.0, kind=link.Upload, journal="j", oldest=1)
    assert upload.at == pytest.approx(rig.now() + 1200.0, abs=0.01)


async def test_within_the_tolerance_the_devices_own_time_stays(autojump_clock):
    rig = Rig()
    for _ in range(5):
        request = await rig.says(20.0)
    assert request.at == rig.now() + 20.0
    assert await rig.cases() == []


async def test_one_wrong_word_alarms_nobody(autojump_clock):
    rig = Rig()
    await rig.says(1200.0)
    await rig.says(1200.0)
    assert await rig.cases() == []


async def test_right_again_and_off_again_are_two_alarms(autojump_clock):
    rig = Rig()
    for ahead_s in (1200.0, 0.0, 1200.0):
        for _ in range(20):
            await rig.says(ahead_s)
            await trio.sleep(SAMPLE_LIFE_S / 10)
    assert [case.kind for case in await rig.cases()] == ["clock_off"] * 2
    assert [event.code for event in only(await heard(rig.hub), FeedEvent)] == ["clock_off", "clock_right", "clock_off"]


async def test_one_devices_clock_is_no_other_ones(autojump_clock):
    rig = Rig()
    for _ in range(5):
        await rig.says(1200.0)
        right = await rig.says(0.0, device="gate-2")
    assert right.at == rig.now()
    assert [case.lane for case in await rig.cases()] == ["g1"]
    assert rig.clocks.skew_s("gate-2") == 0.0


async def test_a_claimed_round_trip_moves_little(autojump_clock):
    rig = Rig()
    for _ in range(5):
        await rig.says(0.0, round_trip_s=1e9)
    assert abs(rig.clocks.skew_s("gate-1")) <= 5.0
    assert await rig.cases() == []


async def test_a_device_that_is_silent_has_no_known_clock(autojump_clock):
    rig = Rig()
    await rig.says(5.0)
    await trio.sleep(SAMPLE_LIFE_S + 1)
    assert rig.clocks.skew_s("gate-1") is None
