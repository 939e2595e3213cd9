"""Wiring of the evacuation: where the lanes are, which gates cannot sense, and what triggers it from outside."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import structlog
import trio

from actors.evacuation import Place
from core import Address, MailboxFull
from drivers.turnstile.models import model_of
from paifang.site import Board, SiteFile
from protocols.console import Trigger

TELL_AGAIN_S = 0.05  # should the mailbox have no room

log = structlog.get_logger(__name__)


def places(site: SiteFile) -> dict[str, Place]:
    """Every lane's name, entrance and zones."""
    return {
        lane.id: Place(name=lane.name, entrance=lane.entrance, from_zone=lane.from_zone, to_zone=lane.to_zone)
        for lane in site.lanes
    }


def cannot_sense(board: Board | None) -> bool:
    """A board that neither says where its barrier stands nor acknowledges a release: it can only be commanded."""
    if board is None:
        return False
    try:
        model = model_of(board.language, board.model)
    except ValueError:  # relays and door controllers, which read their outputs back
        return False
    return not model.senses_barrier and not model.acknowledges


def unsensing(site: SiteFile) -> frozenset[str]:
    """The lanes of which nobody knows whether they are open."""
    return frozenset(lane.id for lane in site.lanes if cannot_sense(lane.board))


async def trigger_on_signal(signals: AsyncIterator[int], evacuation: Address) -> None:
    """SIGUSR2: release everything, without a console, a session or a port."""
    async for number in signals:
        name = signal.Signals(number).name
        log.error("evacuation.signal", signal=name)
        while True:
            try:
                evacuation.tell(Trigger(by=f"signal {name}", reason="signal to the process"), system=True)
                break
            except MailboxFull:
                await trio.sleep(TELL_AGAIN_S)

