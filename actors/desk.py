"""Commands of people to lanes: find the lane, ask it, write down who did what."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import trio

from actors._asked import Slots
from actors._common import offer
from actors.errors import CommandRefused
from actors.lane import OpenLane, PauseLane, RestartLane, SetLaneMode
from core import Address, Envelope, Stop
from protocols.console import Done, GetTree, ManualOpen, PauseBatch, SetMode
from protocols.messages import LaneMode
from storage.interfaces import AuditEntry

COMMANDS_MAX = 64  # under way at once
LANE_ANSWER_S = 2.0
RESTART = "restart"  # in the place of a mode


class Desk:
    """The actor behind `lane.*` and `site.inspect`. `inspect` gives the live tree as a value that encodes."""

    def __init__(self, *, lanes: Mapping[str, Address], ledger: Address, inspect: Callable[[], Any]) -> None:
        self._lanes = lanes
        self._ledger = ledger
        self._inspect = inspect

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, COMMANDS_MAX)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case GetTree():
                        envelope.reply(self._inspect())
                    case SetMode() | ManualOpen() | PauseBatch():
                        slots.attend(envelope, self._command)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _command(self, envelope: Envelope) -> Done:
        order: SetMode | ManualOpen | PauseBatch = envelope.msg
        address = self._lanes.get(order.lane)
        if address is None:
            raise CommandRefused("unknown_lane", f"There is no lane {order.lane}", "没有此通道")
        result = await address.ask(_lane_order(order), LANE_ANSWER_S, trace=envelope.trace)
        action, what = _record(order, result)
        entry = AuditEntry(
            user=order.by, role="", action=action, subject=f"{order.lane}: {what}", reason=order.reason, at=time.time()
        )
        offer(self._ledger, entry)
        return Done(detail=what)


def _record(order: SetMode | ManualOpen | PauseBatch, result: Any) -> tuple[str, str]:
    """What the audit log says of a command: its method, and what it did."""
    match order:
        case SetMode():
            return "lane.set_mode", order.mode
        case ManualOpen():
            return "lane.open", f"open for {order.pax}"
        case PauseBatch():
            return "lane.pause", f"paused after {result}"


def _lane_order(order: SetMode | ManualOpen | PauseBatch) -> SetLaneMode | OpenLane | PauseLane | RestartLane:
    """The lane's own form of a command. Raises CommandRefused for a mode that does not exist.

    `restart` is no mode that a lane stays in: its controller ends, and is started again.
    """
    if isinstance(order, PauseBatch):
        return PauseLane(reason=order.reason, by=order.by)
    if isinstance(order, ManualOpen):
        return OpenLane(pax=order.pax, reason=order.reason, by=order.by)
    if order.mode == RESTART:
        return RestartLane(by=order.by)
    try:
        mode = LaneMode(order.mode)
    except ValueError:
        raise CommandRefused("bad_mode", f"There is no mode {order.mode}", "没有此模式") from None
    return SetLaneMode(mode=mode, reason=order.reason, by=order.by)
