"""The demo: everything a small site lives through in a day, in a few seconds, phase by phase.

Phases take shares of the given time; where the server was away they wait until it is back, so a run with a kill takes
longer by as much.  Every phase is noted in the truth file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog
import trio

from admin_ws.client import ConsoleError
from drivers.base import Barrier as Sensed
from protocols.console import Done, RearmLane, RestoreRequest, SellLine, Snapshot, SoldTicket, Trigger
from protocols.messages import Direction
from sim.lane import SimLane
from sim.plan import FLAT_CURVE, plan, with_every_behaviour
from sim.site import SimSite
from sim.truth import Truth
from sim.visitors import Crowd
from sim.window import Desk, SaleRefused, SalesWindow

ADMIT_SHARE = 0.42  # of the whole time: traffic, with all kinds of mischief
FILL_AT = 0.60
EVACUATE_AT = 0.82
VISITORS_PER_S = 3.0
STAY_S = (2.0, 6.0)
LEAVING = 0.5
SAME_CODE_SCANS = 200
SAME_CODE_LANES = 10
SAME_CODE_GAP_S = 0.12
LOOK_S = 0.2
READY_S = 60.0  # the server may be restarting, and its database recovering
GROUPS = 2
MUSEUM_SINGLES = 10
SERIAL_SINGLES = 4  # at the lane that cannot tell its visitors that it is full: they wait in vain
LEAVE_MUSEUM = 3
OWN_PHOTO = 1  # the card is made with the first photograph of its holder, and used with another one if there is one
FACE_PATIENCE_S = 8.0
FACE_TRIES = 4
FACE_GAP_S = 1.2  # more than the product's `min_gap_s`
RELEASE_S = 5.0
ESCAPE_LANES = 6
ESCAPE_PEOPLE = 2  # through each of them
ESCAPE_WALK_S = 0.3
DWELL_S = 1.5
CLOSE_S = 12.0
CROWD_S = 30.0  # for the last visitors to finish
SAID_S = 30.0
AFTER_VISITORS = 3  # let in after the lanes were re-armed: they work again

log = structlog.get_logger(__name__)


class Faces(msgspec.Struct, frozen=True):
    """Photographs by person, for the cards that are checked by face."""

    people: Mapping[str, Sequence[Path]]


class DemoScript:
    """One run. `say` gets a line for people at each phase."""

    def __init__(
        self,
        site: SimSite,
        crowd: Crowd,
        window: SalesWindow,
        security: tuple[Desk, Desk],
        truth: Truth,
        *,
        seconds: float,
        seed: int,
        faces: Faces | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._site = site
        self._crowd = crowd
        self._window = window
        self._security = security
        self._truth = truth
        self._seconds = seconds
        self._seed = seed
        self._faces = faces
        self._say = say
        self._after: list[SoldTicket] = []  # for those who come in after the evacuation

    async def run(self) -> None:
        """All phases, in order."""
        await self._ready()
        tickets = await self._sell_groups()
        start = trio.current_time()
        async with trio.open_nursery() as traffic:
            self._phase("admit", "tickets are sold and used, rightly and wrongly")
            admit_s = self._seconds * ADMIT_SHARE
            plans = plan(
                self._seed,
                max(round(admit_s * VISITORS_PER_S), 10),
                admit_s,
                curve=FLAT_CURVE,
                stay_s=STAY_S,
                leaving=LEAVING,
            )
            traffic.start_soon(self._crowd.run, with_every_behaviour(plans))
            async with trio.open_nursery() as groups:
                wide = [lane for lane in self._crowd.public_lanes() if lane.lane in ("n4", "g4")]
                for ticket, lane in zip(tickets["group-20"], wide, strict=False):
                    groups.start_soon(self._group, lane, ticket)
            await trio.sleep_until(start + admit_s)
            await self._ready()
            await self._same_code()
            await trio.sleep_until(start + self._seconds * FILL_AT)
            await self._ready()
            async with trio.open_nursery() as both:
                both.start_soon(self._fill, tickets)
                both.start_soon(self._cards)
            await trio.sleep_until(start + self._seconds * EVACUATE_AT)
            await self._ready()
            await self._evacuate()
            await self._afterwards()
            traffic.cancel_scope.deadline = trio.current_time() + CROWD_S
        self._phase("drain", "waiting until every device has said everything")
        if not await self._site.said(SAID_S):
            log.error("sim.unsaid", statements=self._site.unsaid)
        self._phase("done", "")

    async def _ready(self) -> None:
        """Until the server is there: logged in, lines open, gates welcomed, a ticket can be sold, every lane works."""
        await self._window.desk.connected(READY_S)
        for desk in self._security:
            await desk.connected(READY_S)
        await self._site.wired(READY_S)
        await self._site.linked(READY_S)
        sold = await self._window.sell([SellLine(product="adult", quantity=1)])
        self._after += sold.tickets
        with trio.move_on_after(READY_S):
            while not await self._lanes_available():  # noqa: ASYNC110 - it is the server that is asked
                await trio.sleep(LOOK_S)

    async def _lanes_available(self) -> bool:
        """Whether the console shows every lane as available: a lane that is settling its books lets nobody in yet."""
        try:
            snapshot = await self._security[0].call("site.subscribe", {}, Snapshot)
        except ConsoleError:
            return False
        return all(lane.available for lane in snapshot.lanes)

    async def _sell_groups(self) -> dict[str, list[SoldTicket]]:
        """Everything that the later phases need, in a few orders."""
        lines = [
            SellLine(product="group-20", quantity=GROUPS),
            SellLine(product="museum-group", quantity=GROUPS),
            SellLine(product="museum", quantity=MUSEUM_SINGLES),
            SellLine(product="adult", quantity=1),
        ]
        sold = await self._window.sell(lines, printed=True)
        tickets: dict[str, list[SoldTicket]] = {}
        for ticket in sold.tickets:
            tickets.setdefault(ticket.product, []).append(ticket)
        (self._same,) = tickets["adult"]
        return tickets

    async def _group(self, lane: SimLane, ticket: SoldTicket) -> None:
        await self._crowd.enter(
            lane, ticket, cause="group", visitor=f"group-{lane.lane}", walk_s=0.2, people=ticket.pax, tries=8
        )

    async def _same_code(self) -> None:
        """One code at ten lanes at once, two hundred scans; nobody else is at these lanes meanwhile."""
        lanes = self._site.into("park", "outside")[:SAME_CODE_LANES]
        each, held, go, done = SAME_CODE_SCANS // len(lanes), 0, trio.Event(), trio.Event()
        left = len(lanes)

        async def one(lane: SimLane) -> None:
            nonlocal held, left
            async with lane.queue:
                await lane.settled()
                held += 1
                if held == len(lanes):
                    self._phase("same_code", f"one code at {len(lanes)} lanes at once, {SAME_CODE_SCANS} scans")
                    go.set()
                await go.wait()
                await lane.hammer(
                    self._same.code,
                    each,
                    SAME_CODE_GAP_S,
                    cause="same_code",
                    ticket=self._same.ticket,
                    visitor=f"same-{lane.lane}",
                )
                left -= 1
                if left == 0:
                    self._phase("same_code_done", "")
                    done.set()
                await done.wait()

        async with trio.open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(one, lane)

    async def _fill(self, tickets: Mapping[str, Sequence[SoldTicket]]) -> None:
        """More people want into the museum than it may hold, at all its lanes at once."""
        self._phase("fill", "more people want into the museum than it may hold")
        lanes = self._site.into("museum")
        linked = [lane for lane in lanes if lane.gate is not None]
        singles = [lane for lane in lanes if lane.board is not None] or lanes

        async def one_by_one(lane: SimLane, mine: Sequence[SoldTicket]) -> None:
            for number, ticket in enumerate(mine):
                await self._crowd.enter(
                    lane, ticket, cause="fill", visitor=f"{lane.lane}-{number}", walk_s=0.3, tries=1, patience_s=0.8
                )

        tickets_left = list(tickets["museum"])
        async with trio.open_nursery() as nursery:
            for lane, ticket in zip(linked, tickets["museum-group"], strict=False):
                nursery.start_soon(self._group, lane, ticket)
            nursery.start_soon(one_by_one, singles[0], tickets_left[:SERIAL_SINGLES])
        async with trio.open_nursery() as nursery:  # it is full now, and they are told so
            for number, lane in enumerate(linked):
                nursery.start_soon(one_by_one, lane, tickets_left[SERIAL_SINGLES + number :: len(linked)])
        async with trio.open_nursery() as nursery:
            for number, lane in enumerate(lanes[:LEAVE_MUSEUM]):
                nursery.start_soon(lane.leave, 0.3, f"museum-out-{number}", 3.0)
        self._phase("fill_done", "")

    async def _cards(self) -> None:
        """Annual cards: each with its holder's face, and with somebody else's."""
        lanes = [lane for lane in self._site.into("park", "outside") if "face" in lane.lane]
        people = {} if self._faces is None else self._faces.people
        if not lanes or len(people) < 2:
            self._phase("faces", "left out: no face lane, or no photographs of two people")
            return
        self._phase("faces", "annual cards with the right face and with the wrong one")
        names = sorted(people, key=lambda name: (-len(people[name]), name))[:2]
        for holder, other in (names, names[::-1]):
            card = f"A{self._seed:04d}-{holder}"
            photo = await trio.Path(people[holder][0]).read_bytes()
            line = SellLine(product="annual", quantity=1, card=card, holder=holder, photo=photo)
            try:
                sold = await self._window.sell([line])
            except SaleRefused as exc:  # the rest of the run still counts; the figures show that no face was compared
                self._say(f"faces: no card was made: {exc}")
                log.error("sim.card_refused", code=exc.code)
                return
            own = await trio.Path(people[holder][OWN_PHOTO % len(people[holder])]).read_bytes()
            foreign = await trio.Path(people[other][0]).read_bytes()
            ticket = sold.tickets[0].ticket
            await self._card(lanes[0], card, foreign, ticket, "face_other")
            await self._card(lanes[0], card, own, ticket, "face_own")
            await trio.sleep(FACE_GAP_S)

    async def _card(self, lane: SimLane, card: str, photo: bytes, ticket: int, cause: str) -> None:
        """Show a card and a face; again when the gate says that it could not compare them just now."""
        for _ in range(FACE_TRIES):
            async with lane.queue:
                scanned = await lane.scan(
                    card, FACE_PATIENCE_S, cause=cause, kind="card", photo=photo, ticket=ticket, visitor=cause
                )
                if scanned.opened:
                    await lane.walk(0.3, ticket=ticket, visitor=cause)
                    lane.done(scanned, 1)
            if scanned.opened or scanned.code not in ("", "unavailable", "too_soon"):
                return
            await trio.sleep(FACE_GAP_S)

    async def _evacuate(self) -> None:
        """Open everything; people run out; two people restore; every lane is re-armed."""
        first, second = self._security
        self._phase("evacuation", "everything opens")
        await first.call("evacuation.trigger", Trigger(reason="demo"), Done)
        if not await self._site.all_sensed(Sensed.RELEASED, RELEASE_S):
            log.error("sim.not_released", lanes=[lane.lane for lane in self._site.lanes.values() if not lane.released])
        async with trio.open_nursery() as nursery:
            for lane in self._site.into("park", "outside")[:ESCAPE_LANES]:
                nursery.start_soon(self._escape, lane)
        await trio.sleep(DWELL_S)
        self._phase("restore", "two people end the evacuation")
        await first.call("evacuation.restore", RestoreRequest(reason="demo"), Done)
        await second.call("evacuation.restore", RestoreRequest(reason="demo"), Done)
        self._phase("rearm", "every lane is re-armed")
        await first.call("lane.rearm", RearmLane(lane="*"), Done)
        if not await self._site.all_sensed(Sensed.CLOSED, CLOSE_S):
            log.error("sim.not_closed", lanes=[lane.lane for lane in self._site.lanes.values() if lane.released])
        self._phase("rearmed", "")

    async def _escape(self, lane: SimLane) -> None:
        for number in range(ESCAPE_PEOPLE):
            await lane.barrier.walk(Direction.EXIT, ESCAPE_WALK_S, visitor=f"escape-{lane.lane}-{number}")

    async def _afterwards(self) -> None:
        """The lanes work again."""
        self._phase("after", "the lanes work again")
        lanes = self._crowd.public_lanes()
        async with trio.open_nursery() as nursery:
            for number, ticket in enumerate(self._after[:AFTER_VISITORS]):
                lane = lanes[number * 3 % len(lanes)]

                async def come(lane: SimLane = lane, ticket: SoldTicket = ticket, number: int = number) -> None:
                    await self._crowd.enter(lane, ticket, cause="after", visitor=f"after-{number}", walk_s=0.3)

                nursery.start_soon(come)

    def _phase(self, name: str, text: str) -> None:
        self._truth.phase(name, text)
        if text:
            self._say(f"{name}: {text}")
