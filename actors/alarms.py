"""What concerns people who look at no console: told to their servers and by mail, once, in order, and not forgotten.

Every event is put on disk for each receiver that wants it, and leaves only when that receiver took it.  A receiver that
is down is tried again with growing pauses; the others notice nothing.  Nothing here is asked or waited for by anybody.
"""

from __future__ import annotations

import collections
import functools
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
import trio

from actors._common import offer
from actors.alarms_words import Interest, told, wants
from core import Address, Stop
from protocols.console import DeviceView, FeedEvent

FRESH_MAX = 10_000  # events that wait for the disk; the oldest go first, and are counted
BATCH_MAX = 500  # deliveries in one transaction
DISK_RETRY_S = 1.0
PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 60.0  # between two tries of a receiver; doubled each time
LOOK_S = 30.0  # a receiver's queue is looked at this often even if nobody said that there is something
FLUSH_S = 2.0  # for events of the last moment
TRIES_BEFORE_GIVING_UP = 20  # besides the age, because the clock may have jumped
SHOWN_MAX = 200  # characters of an error

log = structlog.get_logger(__name__)
T = TypeVar("T")


class NotTaken(Exception):
    """The receiver did not take it. The text says why, and holds no secret."""


class Delivery(Protocol):
    """`storage.outbox.Delivery`."""

    @property
    def id(self) -> str: ...
    @property
    def receiver(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def made_at(self) -> float: ...
    @property
    def seq(self) -> int: ...
    @property
    def tries(self) -> int: ...


class Outbox(Protocol):
    """`storage.outbox.Outbox`: synchronous, called from a thread."""

    def add(self, deliveries: Sequence[Any]) -> int: ...
    def first(self, receiver: str) -> Delivery | None: ...
    def taken(self, seq: int) -> None: ...
    def tried(self, seq: int) -> None: ...
    def close(self) -> None: ...


Send = Callable[[Delivery], Awaitable[None]]
"""Deliver to one receiver; raises NotTaken."""
Make = Callable[[str, str, str, bytes, float], Any]
"""(id, receiver, topic, body, made_at) -> a delivery for the outbox."""


class Counts(msgspec.Struct, kw_only=True):
    """What became of the deliveries since the start."""

    taken: int = 0
    failed: int = 0  # tries in vain
    given_up: int = 0
    waiting: int = 0  # added and not taken, as far as this run knows


class Alarms:
    """The actor. `interests` name the receivers, `senders` deliver to them, by name.

    `keep_s`: what a receiver has not taken after so long is given up.  `outbox_error` is what the outbox raises.
    """

    def __init__(
        self,
        *,
        site: str,
        interests: Sequence[Interest],
        senders: Mapping[str, Send],
        outbox: Outbox,
        make: Make,
        hub: Address,
        outbox_error: type[Exception],
        keep_s: float,
    ) -> None:
        self._site = site
        self._interests = interests
        self._senders = senders
        self._outbox = outbox
        self._make = make
        self._hub = hub
        self._outbox_error = outbox_error
        self._keep_s = keep_s
        self._fresh: collections.deque[Any] = collections.deque()
        self._came = trio.Event()
        self._more = {name: trio.Event() for name in senders}
        self._shown: dict[str, str] = {}
        self.lost = 0  # for want of room
        self.counts = {name: Counts() for name in senders}
        self._disk = trio.CapacityLimiter(1)

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            for name in self._senders:
                nursery.start_soon(self._serve, name)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case FeedEvent() as event:
                        self._take(event)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        break
        await self._flush()

    def _take(self, event: FeedEvent) -> None:
        """For whoever wants it; synchronous."""
        for interest in self._interests:
            if not wants(interest, event):
                continue
            if len(self._fresh) >= FRESH_MAX:
                self._fresh.popleft()
                self.lost += 1
            id = secrets.token_hex(16)
            body = msgspec.json.encode(told(event, id, self._site))
            self._fresh.append(self._make(id, interest.receiver, event.kind, body, event.at))
            self._came.set()

    # --- to disk --------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._came.wait()
            self._came = trio.Event()
            while self._fresh:
                if not await self._write_some():
                    await trio.sleep(DISK_RETRY_S)

    async def _write_some(self) -> bool:
        batch = [self._fresh[number] for number in range(min(BATCH_MAX, len(self._fresh)))]
        lost = self.lost
        try:
            found_room = await self._on_disk(functools.partial(self._outbox.add, batch))
        except self._outbox_error as exc:
            self._show("outbox", str(exc))
            return False
        for _ in range(len(batch) - (self.lost - lost)):  # some may have been shed meanwhile
            self._fresh.popleft()
        if found_room < len(batch):
            self.lost += len(batch) - found_room
            self._show("outbox", "full: receivers have been away for too long")
        else:
            self._show("outbox", "")
        for delivery in batch[:found_room]:
            if delivery.receiver in self.counts:
                self.counts[delivery.receiver].waiting += 1
                self._more[delivery.receiver].set()
        return True

    async def _on_disk(self, work: Callable[[], T]) -> T:
        # abandoned when the disk hangs: what is added twice is there once, and what is delivered twice has one id
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._disk)

    async def _flush(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
            while self._fresh and await self._write_some():
                pass
            await self._on_disk(self._outbox.close)  # and opened again by the next incarnation

    # --- to the receivers -----------------------------------------------------------------------------------------

    async def _serve(self, name: str) -> None:
        """Deliver to one receiver, oldest first, for ever."""
        failures = 0
        while True:
            try:
                self._more[name] = trio.Event()
                delivery = await self._on_disk(functools.partial(self._outbox.first, name))
                if delivery is None:
                    self.counts[name].waiting = 0
                    with trio.move_on_after(LOOK_S):
                        await self._more[name].wait()
                    continue
                if await self._try(name, delivery):
                    failures = 0
                    continue
            except self._outbox_error as exc:
                self._show("outbox", str(exc))
            failures += 1
            await trio.sleep(pause_s(failures))

    async def _try(self, name: str, delivery: Delivery) -> bool:
        """One try. True when it left the queue."""
        counts = self.counts[name]
        old = time.time() - delivery.made_at > self._keep_s and delivery.tries >= TRIES_BEFORE_GIVING_UP
        if old:
            counts.given_up += 1
            log.error("alarms.given_up", receiver=name, id=delivery.id, topic=delivery.topic)
        else:
            try:
                await self._senders[name](delivery)
            except NotTaken as exc:
                counts.failed += 1
                self._show(name, str(exc))
                await self._on_disk(functools.partial(self._outbox.tried, delivery.seq))
                return False
            counts.taken += 1
            self._show(name, "")
        await self._on_disk(functools.partial(self._outbox.taken, delivery.seq))
        counts.waiting = max(0, counts.waiting - 1)
        return True

    def _show(self, name: str, trouble: str) -> None:
        """A receiver is shown like a device; said when it changes."""
        trouble = trouble[:SHOWN_MAX]
        if self._shown.get(name) == trouble:
            return
        if trouble or self._shown.get(name):
            log.warning("alarms.receiver", receiver=name, trouble=trouble or "none any more")
        self._shown[name] = trouble
        view = DeviceView(
            device=f"alarms/{name}",
            kind="alarms",
            lane="",
            availability="unavailable" if trouble else "available",
            detail=trouble,
        )
        offer(self._hub, view)


def pause_s(failures: int) -> float:
    """Before the next try: doubled each time, with a quarter of chance so that receivers are not stormed."""
    pause = min(PAUSE_MAX_S, PAUSE_MIN_S * 2.0 ** min(failures - 1, 20))
    return pause * random.uniform(0.75, 1.0)
