"""Lanes of one entrance publish to each other: one `pub` of our own, one `sub` for each neighbour.

What travels carries a MAC (`protocols.edge`), so these sockets may be bound where neighbours reach them; who else
connects is told nothing that is of use, and believed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from drivers.nng import _sockets
from drivers.nng._errors import LinkTimeout
from drivers.nng._sp import Ears, Publisher, bound
from protocols.edge import NOTICE_MAX_BYTES, TOPIC
from protocols.sp import Protocol

GREETING_MAX_BYTES = 1024  # subscribers say nothing


class NeighbourLink:
    """`run` keeps the sockets until cancelled. `url` may end in `:0`: then it is the bound one once started."""

    def __init__(self, url: str, neighbours: Sequence[str]) -> None:
        self.url = url
        self._neighbours = neighbours
        self._publisher: Publisher | None = None

    async def run(
        self, heard: Callable[[bytes], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; `heard` takes every publication's bytes. Raises DeviceUnavailable."""
        ears = Ears("neighbours.listen", self.url, Protocol.PUB, GREETING_MAX_BYTES)
        async with bound(ears) as (listeners,):
            self.url = ears.url
            publisher = self._publisher = Publisher(ears)
            try:
                async with trio.open_nursery() as nursery:
                    for url in self._neighbours:
                        nursery.start_soon(self._listen, url, heard)
                    await nursery.start(publisher.run, listeners)
                    task_status.started()
            finally:
                self._publisher = None

    def publish(self, data: bytes) -> bool:
        """To all neighbours that are connected. Never waits, never raises. False when not running."""
        return self._publisher is not None and self._publisher.publish(data)

    async def _listen(self, url: str, heard: Callable[[bytes], None]) -> None:
        with _sockets.dialled(sub := _sockets.open_sub(TOPIC), url, NOTICE_MAX_BYTES):
            while True:
                try:
                    heard(await _sockets.receive(sub))
                except LinkTimeout:
                    await trio.sleep(0.1)  # the connection broke; it is dialled again
