"""Coming back: a lost device is tried again for ever, soon at first, then every few seconds."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from drivers.base import RETRY_MAX_S, RETRY_MIN_S
from drivers.errors import DeviceError
from drivers.serial._line import SerialLine

JITTER_LOW = 0.6  # a pause is this much to all of its nominal length, so that fifty gates do not retry in step
STEADY_S = 5.0  # a line that held for this long starts again with the shortest pause


class Backoff:
    """Pauses between tries, in seconds: RETRY_MIN_S doubling to RETRY_MAX_S, with jitter."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._nominal_s = RETRY_MIN_S

    def reset(self) -> None:
        """The device answered: the next pause is the shortest again."""
        self._nominal_s = RETRY_MIN_S

    def next_s(self) -> float:
        nominal_s, self._nominal_s = self._nominal_s, min(self._nominal_s * 2, RETRY_MAX_S)
        return nominal_s * self._rng.uniform(JITTER_LOW, 1.0)


async def reconnecting(
    connect: Callable[[], SerialLine],
    serve: Callable[[SerialLine], Awaitable[None]],
    lost: Callable[[DeviceError], None],
    backoff: Backoff,
) -> NoReturn:
    """Open a line, serve it until it is lost, say so, pause, and again; until cancelled.

    `serve` returns or raises DeviceError when the line is of no more use, and calls `backoff.reset` once the device
    has answered.  `lost` is told every failure, also that of opening; it is for the caller to report only news.
    """
    while True:
        opened_at: float | None = None
        try:
            with connect() as line:
                opened_at = trio.current_time()
                await serve(line)
        except DeviceError as exc:
            lost(exc)
        if opened_at is not None and trio.current_time() - opened_at >= STEADY_S:
            backoff.reset()
        await trio.sleep(backoff.next_s())
