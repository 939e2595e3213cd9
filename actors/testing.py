"""For tests of actors: one actor under a supervisor with probes for neighbours, in virtual time.

A `Probe` (core.testing) hears everything and does nothing, so an actor that waited for a neighbour would show at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import trio
import trio.testing

from actors.counter import AskBooks
from actors.gate import GateResume
from actors.lane import BoardLane, LaneConfig, LaneParts, LinkLane
from core import Address, Child, Notice, NoticeKind, Supervisor
from core.testing import Probe, running
from drivers.base import (
    AlarmKind,
    Barrier,
    BarrierChanged,
    DeviceEvent,
    DeviceUp,
    Feedback,
    GateAlarm,
    PassageCounted,
)
from protocols.messages import (
    Counters,
    Credential,
    CredentialKind,
    Decide,
    Direction,
    Granted,
    GrantState,
    LaneMode,
    Rearm,
    Release,
    Restore,
    Scan,
)
from storage.interfaces import LaneBooks, OpenGrant

RESTART_S = 0.01  # a crashed actor is back after this
EPOCH = "e1"
LANE, DEVICE = "g1", "gate/g1"

T = TypeVar("T")


async def settle() -> None:
    """Let every actor do all it can without any time passing."""
    await trio.testing.wait_all_tasks_blocked()


async def heard(probe: Address) -> list[Any]:
    """What was told to a probe and not read yet, once everybody has settled; no time passes."""
    await settle()
    messages: list[Any] = []
    while (state := probe.statistics()).depth or state.system_depth:
        messages.append((await probe.receive()).msg)
    return messages


def only(messages: list[Any], *kinds: type[T]) -> list[T]:
    """Those of some types."""
    return [message for message in messages if isinstance(message, kinds)]


class Tripwire(Probe):
    """A neighbour at whom the next `tell` raises, once armed: the actor crashes in the middle of what it does."""

    armed = False

    def tell(self, msg: Any, **options: Any) -> None:
        if self.armed:
            self.armed = False
            raise RuntimeError("tripped")
        super().tell(msg, **options)


@asynccontextmanager
async def alive(
    main: Callable[[Address], Awaitable[None]], address: Address, *, crashes: int = 0
) -> AsyncIterator[list[Notice]]:
    """Run an actor's main under a supervisor that restarts it after `RESTART_S`; yields what crashed so far.

    Raises AssertionError at the end unless it crashed exactly `crashes` times: a crash that the supervisor mends must
    not go unnoticed in a test.
    """
    notices: list[Notice] = []

    def note(notice: Notice) -> None:
        if notice.kind is NoticeKind.CRASHED:
            notices.append(notice)

    tree = Supervisor(
        "test", [Child(address, main)], backoff_s=RESTART_S, backoff_max_s=RESTART_S, escalate=False, hook=note
    )
    async with running(tree):
        yield notices
        assert len(notices) == crashes, [repr(notice.error) for notice in notices]


class Neighbours:
    """Probes for everybody that a lane talks to."""

    def __init__(self) -> None:
        self.visitors: list[tuple[str, str, Feedback]] = []  # lane, reader, what was shown and sounded there
        self.admission = Probe("admission")
        self.books = Probe("ledger", capacity=4096)
        self.evacuation = Probe("evacuation")
        self.occupancy = Probe("occupancy")
        self.hub = Tripwire("consoles")

    def parts(self) -> LaneParts:
        return LaneParts(
            admission=self.admission,
            books=self.books,
            evacuation=self.evacuation,
            occupancy=self.occupancy,
            hub=self.hub,
            signal=lambda *words: self.visitors.append(words),
        )


def lane_config(*, mode: LaneMode = LaneMode.BIDIRECTIONAL, ttl_s: float = 8.0, max_group: int = 10) -> LaneConfig:
    """A lane from outside into the park."""
    return LaneConfig(
        lane=LANE,
        name="一号",
        entrance="north",
        kind="wing",
        from_zone="outside",
        to_zone="park",
        mode=mode,
        max_group=max_group,
        grant_ttl_s=ttl_s,
        device=DEVICE,
    )


def scan(nonce: str = "n1", *, code: str = "", direction: Direction = Direction.ENTRY) -> Scan:
    """A ticket code presented at the lane; by default another code for each nonce."""
    credential = Credential(CredentialKind.CODE, code or f"code-{nonce}")
    return Scan(lane=LANE, device="reader/g1/1", nonce=nonce, credential=credential, at=0.0, direction=direction)


def granted(
    nonce: str = "n1",
    *,
    grant: int = 1,
    pax: int = 1,
    passed: int = 0,
    ttl_s: float = 8.0,
    state: GrantState = GrantState.OPEN,
    fresh: bool = True,
) -> Granted:
    """What the ledger answers to a scan."""
    return Granted(
        nonce=nonce,
        grant=grant,
        ticket=1000 + grant,
        pax=pax,
        passed=passed,
        ttl_s=ttl_s,
        state=state,
        fresh=fresh,
        product_class="full",
        remaining=0,
    )


def books(
    *open_grants: OpenGrant, entries: int | None = 0, exits: int | None = 0, epoch: str | None = EPOCH
) -> LaneBooks:
    """What the ledger knows of the lane."""
    return LaneBooks(
        lane=LANE,
        open_grants=list(open_grants),
        epoch=epoch,
        entries=entries,
        exits=exits,
        entries_today=entries or 0,
        exits_today=exits or 0,
    )


def open_grant(
    grant: int = 1, *, nonce: str = "n1", pax: int = 1, passed: int = 0, epoch: str | None = EPOCH, entries: int = 0
) -> OpenGrant:
    """A grant that the ledger holds for the lane."""
    return OpenGrant(
        grant=grant,
        nonce=nonce,
        ticket=1000 + grant,
        pax=pax,
        passed=passed,
        granted_at=0.0,
        ttl_s=8.0,
        counter_epoch=epoch,
        counter_entries=entries,
        counter_exits=0,
    )


class BoardRig(Neighbours):
    """One `BoardLane` whose gate and counter are probes. Made by `board_lane`."""

    def __init__(self, config: LaneConfig) -> None:
        super().__init__()
        self.gate = Probe("gate", capacity=64)
        self.counter = Probe("counter", capacity=4096)
        self.lane = Address("lane", capacity=512)
        self.actor = BoardLane(config, self.parts(), self.gate, self.counter)
        self.entries = self.exits = 0
        self.epoch = EPOCH
        self.barrier = Barrier.CLOSED
        self.crashed: list[Notice] = []

    @property
    def state(self) -> str:
        """The state of the machine."""
        return self.lane.state.lstrip("_")

    def counters(self) -> Counters:
        return Counters(self.epoch, self.entries, self.exits)

    async def device(self, event: DeviceEvent) -> None:
        """The board's driver reports."""
        self.lane.tell(event)
        await settle()

    async def up(self) -> None:
        await self.device(DeviceUp(counters=self.counters(), barrier=self.barrier))

    async def move(self, *barriers: Barrier) -> None:
        """The barrier moves, and its driver says so each time."""
        for self.barrier in barriers:
            await self.device(BarrierChanged(barrier=self.barrier, detail="", counters=self.counters()))

    async def person(self, direction: Direction = Direction.ENTRY, *, count: int = 1) -> None:
        """`count` people were counted since the last report; the driver says the newest count only."""
        if direction is Direction.ENTRY:
            self.entries += count
            counter = self.entries
        else:
            self.exits += count
            counter = self.exits
        await self.device(PassageCounted(direction=direction, epoch=self.epoch, counter=counter))

    async def recover(self, known: LaneBooks | None = None) -> None:
        """Answer a recovering lane with the ledger's books, and its gate with the counters in that epoch."""
        await settle()
        assert self.state == "recovering", self.state
        known = known or books(entries=self.entries, exits=self.exits, epoch=self.epoch)
        self.lane.tell(known)
        await settle()
        if only(await heard(self.gate), GateResume):
            await self.up()

    async def to_idle(self) -> None:
        """From the start: the board answers, nothing is to be booked."""
        await self.up()
        await self.recover()
        assert self.state == "idle", self.state
        await self.forget()

    async def to_deciding(self, nonce: str = "n1") -> None:
        """A visitor scans; admission was asked."""
        self.lane.tell(scan(nonce))
        await settle()
        assert self.state == "deciding", self.state
        question = (await heard(self.admission))[-1]
        assert isinstance(question, Decide)

    async def to_granted(self, nonce: str = "n1", *, grant: int = 1, pax: int = 1) -> None:
        """A visitor scans and may pass; the barrier has not moved yet."""
        await self.to_deciding(nonce)
        self.lane.tell(granted(nonce, grant=grant, pax=pax))
        await settle()
        assert self.state == "granted", self.state

    async def to(self, state: str) -> None:
        """Bring a fresh lane into a state of its machine: `granted` for one person, open; `closing` with one passed."""
        if state not in ("unavailable", "recovering"):
            await self.to_idle()
        match state:
            case "recovering":
                await self.up()
            case "deciding":
                await self.to_deciding("first")
            case "granted":
                await self.to_granted("first")
                await self.move(Barrier.OPEN)
            case "closing":
                await self.to_granted("first")
                await self.move(Barrier.OPEN)
                await self.person()
            case "released" | "needs_rearm" | "rearming":
                self.lane.tell(Release(incident=1), system=True)
                await self.move(Barrier.RELEASED)
                if state != "released":
                    self.lane.tell(Restore(incident=1), system=True)
                    await settle()
                if state == "rearming":
                    self.lane.tell(Rearm(user="ann"))
        await settle()
        assert self.state == state, self.state
        await self.forget()

    async def said(self) -> list[Any]:
        """The statements told to the counter since the last look, without questions."""
        return [message for message in await heard(self.counter) if not isinstance(message, AskBooks)]

    async def forget(self) -> None:
        """Nothing that was told so far matters."""
        for probe in (self.admission, self.books, self.evacuation, self.occupancy, self.hub, self.gate, self.counter):
            await heard(probe)

    async def crash(self) -> None:
        """The lane's actor dies at the next thing it shows, and is back at once."""
        before = self.lane.incarnation
        self.hub.armed = True
        self.lane.tell(GateAlarm(kind=AlarmKind.LOITERING))
        with trio.fail_after(RESTART_S * 10):
            while self.lane.incarnation == before or not self.lane.ready:  # noqa: ASYNC110 - virtual time
                await trio.sleep(RESTART_S)
        await settle()


@asynccontextmanager
async def board_lane(*, crashes: int = 0, config: LaneConfig | None = None) -> AsyncIterator[BoardRig]:
    """A lane on a board, started and `unavailable`."""
    rig = BoardRig(config or lane_config())
    async with alive(rig.actor.run, rig.lane, crashes=crashes) as rig.crashed:
        await settle()
        yield rig


class LinkRig(Neighbours):
    """One `LinkLane`. Made by `link_lane`; `link` stands for the device link's actor."""

    def __init__(self, config: LaneConfig) -> None:
        super().__init__()
        self.link = Probe("link")
        self.lane = Address("lane", capacity=512)
        self.actor = LinkLane(config, self.parts(), self.link)


@asynccontextmanager
async def link_lane(*, crashes: int = 0, config: LaneConfig | None = None) -> AsyncIterator[LinkRig]:
    """A lane behind the device link, started."""
    rig = LinkRig(msgspec.structs.replace(config or lane_config(), device="gate-g1"))
    async with alive(rig.actor.run, rig.lane, crashes=crashes):
        await settle()
        yield rig
