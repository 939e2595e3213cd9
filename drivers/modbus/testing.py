"""For tests of drivers that share a bus, a socket or a broker: record what is reported, and wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from drivers.base import DeviceEvent, PassageCounted
from protocols.messages import Direction

PATIENCE_S = 20.0  # a shared machine may stop everybody for seconds
LOOK_S = 0.01

E = TypeVar("E", bound=DeviceEvent)


class Recorder:
    """Takes a driver's events, with the time of each on Trio's clock."""

    def __init__(self) -> None:
        self.events: list[DeviceEvent] = []
        self.at: list[float] = []

    def __call__(self, event: DeviceEvent) -> None:
        self.events.append(event)
        self.at.append(trio.current_time())

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def people(self, direction: Direction = Direction.ENTRY) -> list[int]:
        """The counters of the people who were counted, in order."""
        return [event.counter for event in self.of(PassageCounted) if event.direction is direction]

    def clear(self) -> None:
        self.events.clear()
        self.at.clear()


async def until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until `true()` holds. Raises trio.TooSlowError when it does not within `patience_s`."""
    with trio.fail_after(patience_s):
        while not true():  # noqa: ASYNC110 - nobody says when
            await trio.sleep(LOOK_S)
