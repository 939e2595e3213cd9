"""Commands of people to lanes: the lane decides, and who did what is written down when it was done."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors import desk as module
from actors.desk import Desk
from actors.errors import CommandRefused
from actors.lane import OpenLane, PauseLane, SetLaneMode
from actors.testing import alive, heard, settle
from core import Address, AskTimeout
from core.testing import Probe
from protocols.console import Done, GetTree, ManualOpen, PauseBatch, SetMode
from protocols.messages import LaneMode
from storage.interfaces import AuditEntry

CLOSE = SetMode(lane="g1", mode="closed", reason="lunch", by="ann")
OPEN = ManualOpen(lane="g1", pax=3, reason="guests", by="ann")


class Rig:
    def __init__(self) -> None:
        self.lanes = {"g1": Probe("g1"), "g2": Probe("g2")}
        self.ledger = Probe("ledger")
        self.me = Address("desk")
        self.actor = Desk(lanes=self.lanes, ledger=self.ledger, inspect=lambda: {"site": "running"})


@asynccontextmanager
async def desk():
    rig = Rig()
    async with trio.open_nursery() as nursery, alive(rig.actor.run, rig.me):

        def command(message):
            outcome: list = []

            async def ask() -> None:
                try:
                    outcome.append(await rig.me.ask(message, 3.0))
                except Exception as exc:
                    outcome.append(exc)

            nursery.start_soon(ask)
            return outcome

        rig.command = command
        await settle()
        yield rig


@pytest.mark.parametrize(
    ("command", "order", "action", "subject"),
    [
        (CLOSE, SetLaneMode(mode=LaneMode.CLOSED, reason="lunch", by="ann"), "lane.set_mode", "g1: closed"),
        (OPEN, OpenLane(pax=3, reason="guests", by="ann"), "lane.open", "g1: open for 3"),
    ],
)
async def test_a_command_is_the_lanes_and_then_written_down(autojump_clock, command, order, action, subject):
    async with desk() as rig:
        outcome = rig.command(command)
        assert await rig.lanes["g1"].expect(type(order)) == order
        assert await heard(rig.ledger) == [] and outcome == []
        rig.lanes["g1"].envelope.reply(None)
        (entry,) = await heard(rig.ledger)
        assert isinstance(entry, AuditEntry)
        assert (entry.user, entry.action, entry.subject, entry.reason) == ("ann", action, subject, command.reason)
        assert isinstance(outcome[0], Done)


async def test_a_batch_is_paused_and_the_record_says_how_far_it_was(autojump_clock):
    async with desk() as rig:
        rig.command(PauseBatch(lane="g1", reason="the guide asked", by="ann"))
        order = await rig.lanes["g1"].expect(PauseLane)
        assert (order.by, order.reason) == ("ann", "the guide asked")
        rig.lanes["g1"].envelope.reply(12)
        (entry,) = await heard(rig.ledger)
        assert (entry.user, entry.action, entry.subject) == ("ann", "lane.pause", "g1: paused after 12")


async def test_what_a_lane_refuses_is_told_and_not_written_down(autojump_clock):
    async with desk() as rig:
        outcome = rig.command(OPEN)
        await rig.lanes["g1"].expect(OpenLane)
        rig.lanes["g1"].envelope.fail(CommandRefused("lane_busy", "busy"))
        assert await heard(rig.ledger) == [] and outcome[0].code == "lane_busy"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (SetMode(lane="g9", mode="closed", reason="x", by="ann"), "unknown_lane"),
        (ManualOpen(lane="g9", pax=1, reason="x", by="ann"), "unknown_lane"),
        (SetMode(lane="g1", mode="ajar", reason="x", by="ann"), "bad_mode"),
    ],
)
async def test_what_cannot_be_meant_is_refused_without_asking_anybody(autojump_clock, command, code):
    async with desk() as rig:
        outcome = rig.command(command)
        await settle()
        assert outcome[0].code == code and outcome[0].text_zh
        assert await heard(rig.lanes["g1"]) == [] and await heard(rig.ledger) == []


async def test_a_lane_that_hangs_holds_no_other_command_up(autojump_clock):
    async with desk() as rig:
        hanging = rig.command(CLOSE)
        other = rig.command(SetMode(lane="g2", mode="closed", reason="lunch", by="ann"))
        await rig.lanes["g2"].expect(SetLaneMode)
        rig.lanes["g2"].envelope.reply(None)
        await settle()
        assert isinstance(other[0], Done) and hanging == []
        await trio.sleep(module.LANE_ANSWER_S + 0.1)
        assert isinstance(hanging[0], AskTimeout)


async def test_too_many_commands_at_once_are_told_so(autojump_clock):
    async with desk() as rig:
        for _ in range(module.COMMANDS_MAX):
            rig.command(CLOSE)
        await settle()
        outcome = rig.command(CLOSE)
        await settle()
        assert outcome[0].code == "busy"
        await trio.sleep(module.LANE_ANSWER_S + 0.1)
        await heard(rig.lanes["g1"])
        again = rig.command(CLOSE)
        await rig.lanes["g1"].expect(SetLaneMode)
        rig.lanes["g1"].envelope.reply(None)
        await settle()
        assert isinstance(again[0], Done)


async def test_the_tree_is_shown(autojump_clock):
    async with desk() as rig:
        assert await rig.me.ask(GetTree(), 1.0) == {"site": "running"}
