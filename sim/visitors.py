"""What a simulated visitor does: buy, walk to a lane, scan, pass or not, stay, leave. With all the usual mischief."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import base45
import msgspec
import structlog
import trio

from protocols.console import SellLine, SoldTicket
from protocols.messages import Direction, PassageKind
from sim.lane import Result, Scanned, SimLane
from sim.plan import Behaviour, VisitorPlan
from sim.site import SimSite
from sim.truth import Truth
from sim.window import SaleRefused, SalesWindow

PATIENCE_S = 4.0  # how long somebody with a good ticket waits at a lane
DOUBT_S = 1.2  # the same, for somebody who knows better
TRIES_MAX = 6  # then a visitor asks the staff, and we lose sight of him
TRY_AGAIN_S = 0.7
PASSING_REFUSALS = frozenset({"in_progress", "unavailable", "lane_closed", "emergency_go"})  # worth another try
EXIT_PATIENCE_S = 3.0
EXIT_TRIES_MAX = 20
FORGED_BYTE = 40  # somewhere in the signature
EXTRA_TICKETS = {"museum": "museum"}  # product by zone
EXCURSION_SHARE = 0.25  # of a visitor's stay
GROUP_WALK_S = 0.12  # from one member of a group to the next
TAILGATE_GAP_S = 0.5  # of the first one's walk
PREFIX_CHARACTERS = 4
VISITORS_AT_ONCE_MAX = 512

log = structlog.get_logger(__name__)


class Tally(msgspec.Struct):
    """What the visitors remember; for progress lines only, figures come from the truth file."""

    came: int = 0
    entered: int = 0
    refused: int = 0
    gave_up: int = 0
    left: int = 0


class Crowd:
    """The visitors of one run. `clock_s` turns moments of the plan into trio's clock."""

    def __init__(
        self,
        site: SimSite,
        window: SalesWindow,
        truth: Truth,
        *,
        tomorrow: Callable[[], str],
        on_entered: Callable[[str, str], None] = lambda visitor, lane: None,
    ) -> None:
        """`tomorrow` is the next day's date in the site's zone; `on_entered` is told of everybody who came in."""
        self.site = site
        self.tally = Tally()
        self._window = window
        self._truth = truth
        self._tomorrow = tomorrow
        self._on_entered = on_entered
        self._places = trio.CapacityLimiter(VISITORS_AT_ONCE_MAX)

    async def run(self, plans: Sequence[VisitorPlan], *, speed: float = 1.0, start: float | None = None) -> None:
        """Everybody in the plan arrives at his moment, `speed` times as fast as it says; returns when all are done."""
        async with trio.open_nursery() as nursery:
            await self.admit(plans, nursery, speed=speed, start=start)

    async def admit(
        self, plans: Sequence[VisitorPlan], nursery: trio.Nursery, *, speed: float = 1.0, start: float | None = None
    ) -> None:
        """The same, with the visitors in `nursery`; returns when the last one has arrived."""
        begin = trio.current_time() if start is None else start
        for visitor in plans:
            await trio.sleep_until(begin + visitor.arrive_s / speed)
            await self._places.acquire_on_behalf_of(visitor)
            nursery.start_soon(self._one, visitor, speed)

    async def _one(self, plan: VisitorPlan, speed: float) -> None:
        try:
            await self.visit(plan, speed)
        except SaleRefused as exc:
            log.warning("sim.sale_refused", visitor=plan.name, code=exc.code)
        finally:
            self._places.release_on_behalf_of(plan)

    async def visit(self, plan: VisitorPlan, speed: float = 1.0) -> None:
        """One visitor's whole visit."""
        self.tally.came += 1
        ticket = await self.buy(plan)
        lanes = self.public_lanes()
        lane = _ranked(lanes, plan.lane)
        other = _ranked([each for each in lanes if each is not lane], plan.other_lane)
        entered = await self._come_in(plan, ticket, lane, other)
        if not entered:
            return
        await trio.sleep(plan.stay_s / speed / 2)
        for zone in plan.excursions:
            await self.excursion(plan, ticket, zone, speed)
        if plan.leaves:
            await trio.sleep(plan.stay_s / speed / 2)
            await self.leave(plan, lanes)

    async def excursion(self, plan: VisitorPlan, ticket: SoldTicket, zone: str, speed: float) -> None:
        """From the park into another zone and back; its ticket is the visitor's own, or bought extra."""
        lanes = self.site.into(zone)
        if not lanes:
            return
        if zone in EXTRA_TICKETS:
            ticket = (await self._window.sell([SellLine(product=EXTRA_TICKETS[zone], quantity=1)])).tickets[0]
        lane = _ranked(lanes, plan.other_lane)
        if await self._enter(plan, lane, ticket, zone):
            await trio.sleep(plan.stay_s / speed * EXCURSION_SHARE)
            await self.leave(plan, lanes)

    async def buy(self, plan: VisitorPlan) -> SoldTicket:
        """A ticket at the window, printed. Raises SaleRefused."""
        visit_date = self._tomorrow() if plan.behaviour is Behaviour.WRONG_DAY else ""
        sold = await self._window.sell(
            [SellLine(product=plan.product, quantity=1, visit_date=visit_date)], printed=True
        )
        return sold.tickets[0]

    def public_lanes(self) -> list[SimLane]:
        """Lanes from outside for everybody: those for annual cards are not among them."""
        return [lane for lane in self.site.into("park", "outside") if "face" not in lane.lane]

    async def leave(self, plan: VisitorPlan, lanes: Sequence[SimLane]) -> bool:
        """Go out through a lane; again and again until it works."""
        lane = _ranked(lanes, plan.exit_lane)
        for _ in range(EXIT_TRIES_MAX):
            if await lane.leave(plan.walk_s, plan.name, EXIT_PATIENCE_S) is not None:
                self.tally.left += 1
                return True
            await trio.sleep(TRY_AGAIN_S)
        return False

    async def enter(
        self,
        lane: SimLane,
        ticket: SoldTicket,
        *,
        cause: str,
        visitor: str,
        walk_s: float,
        code: str | None = None,
        tries: int = TRIES_MAX,
        patience_s: float = PATIENCE_S,
        people: int = 1,
    ) -> int:
        """Try to come in with a ticket, `people` of them; says how many did. Tries again when nothing happened."""
        inside = 0
        for _ in range(tries):
            async with lane.queue:
                scanned = await lane.scan(
                    ticket.code if code is None else code,
                    patience_s,
                    cause=cause,
                    ticket=ticket.ticket,
                    visitor=visitor,
                    pax=people - inside,
                )
                if scanned.opened:
                    inside += await self._walk_in(lane, scanned, ticket, visitor, walk_s, people - inside)
            if inside >= people:
                return inside
            if scanned.result is Result.DENIED and scanned.code not in PASSING_REFUSALS:
                self.tally.refused += 1
                return inside
            await trio.sleep(TRY_AGAIN_S)
        self.tally.gave_up += 1
        return inside

    async def _walk_in(
        self, lane: SimLane, scanned: Scanned, ticket: SoldTicket, visitor: str, walk_s: float, people: int
    ) -> int:
        """Walk as long as the barrier stands open for us."""
        walked = 0
        pace_s = walk_s if people == 1 else GROUP_WALK_S
        while walked < min(people, max(scanned.pax, 1)):
            if not await lane.barrier.wait_turn(Direction.ENTRY, 0.5):
                break
            if await lane.walk(pace_s, ticket=ticket.ticket, visitor=visitor) is not PassageKind.GRANTED:
                break
            walked += 1
        lane.done(scanned, walked)
        self._entered(visitor, lane, walked)
        return walked

    async def _come_in(self, plan: VisitorPlan, ticket: SoldTicket, lane: SimLane, other: SimLane) -> bool:
        """The behaviours."""
        match plan.behaviour:
            case Behaviour.FORGED:
                await self._enter(plan, lane, ticket, "forged", code=forged(ticket.code), hopeful=False)
                return await self._enter(plan, other, ticket, "normal")  # and then with the right one
            case Behaviour.WRONG_DAY:
                return await self._enter(plan, lane, ticket, "wrong_day", hopeful=False)
            case Behaviour.REUSED:
                entered = await self._enter(plan, lane, ticket, "normal")
                if entered:
                    await self._enter(plan, other, ticket, "reused", hopeful=False)
                return entered
            case Behaviour.SHARED:
                return await self._share(plan, ticket, lane, other)
            case Behaviour.STEP_BACK:
                await self._step_back(plan, ticket, lane)
                return await self._enter(plan, other, ticket, "normal")
            case Behaviour.TAILGATE:
                return await self._tailgate(plan, ticket, lane)
            case Behaviour.REVERSE:
                return await self._reverse(plan, ticket, lane)
            case Behaviour.LOITER:
                async with lane.queue:
                    await lane.settled()
                    await lane.barrier.loiter(plan.walk_s)
                return await self._enter(plan, lane, ticket, "normal")
            case _:
                return await self._enter(plan, lane, ticket, "normal")

    async def _enter(
        self,
        plan: VisitorPlan,
        lane: SimLane,
        ticket: SoldTicket,
        cause: str,
        *,
        code: str | None = None,
        hopeful: bool = True,
    ) -> bool:
        entered = await self.enter(
            lane,
            ticket,
            cause=cause,
            visitor=plan.name,
            walk_s=plan.walk_s,
            code=code,
            tries=TRIES_MAX if hopeful else 1,
            patience_s=PATIENCE_S if hopeful else DOUBT_S,
        )
        return entered > 0

    async def _share(self, plan: VisitorPlan, ticket: SoldTicket, lane: SimLane, other: SimLane) -> bool:
        """Two people, one ticket, two lanes at once."""
        entered: list[int] = []

        async def one(where: SimLane, who: str) -> None:
            entered.append(
                await self.enter(
                    where, ticket, cause="shared", visitor=who, walk_s=plan.walk_s, tries=2, patience_s=DOUBT_S
                )
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, lane, plan.name)
            nursery.start_soon(one, other, f"{plan.name}b")
        return sum(entered) > 0

    async def _step_back(self, plan: VisitorPlan, ticket: SoldTicket, lane: SimLane) -> None:
        """Scan, go in, turn round, and wait until the barrier has given up."""
        async with lane.queue:
            scanned = await lane.scan(
                ticket.code, PATIENCE_S, cause="step_back", ticket=ticket.ticket, visitor=plan.name
            )
            if scanned.opened:
                await lane.walk(plan.walk_s, ticket=ticket.ticket, visitor=plan.name, step_back=True)
                await lane.settled()
                lane.done(scanned, 0)

    async def _tailgate(self, plan: VisitorPlan, ticket: SoldTicket, lane: SimLane) -> bool:
        """Walk in, with somebody without a ticket close behind."""
        async with lane.queue:
            scanned = await lane.scan(ticket.code, PATIENCE_S, cause="normal", ticket=ticket.ticket, visitor=plan.name)
            if not scanned.opened:
                return False

            async def second() -> None:
                await trio.sleep(plan.walk_s * TAILGATE_GAP_S)
                await lane.walk(plan.walk_s, ticket=None, visitor=f"{plan.name}t")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(second)
                kind = await lane.walk(plan.walk_s, ticket=ticket.ticket, visitor=plan.name)
            lane.done(scanned, 1 if kind is PassageKind.GRANTED else 0)
        return self._entered(plan.name, lane, 1 if kind is PassageKind.GRANTED else 0)

    async def _reverse(self, plan: VisitorPlan, ticket: SoldTicket, lane: SimLane) -> bool:
        """It is open for this visitor, and somebody comes out instead; then the visitor walks in."""
        async with lane.queue:
            scanned = await lane.scan(ticket.code, PATIENCE_S, cause="normal", ticket=ticket.ticket, visitor=plan.name)
            if not scanned.opened:
                return False
            await lane.barrier.walk(Direction.EXIT, plan.walk_s, visitor=f"{plan.name}r")
            kind = None
            if await lane.barrier.wait_turn(Direction.ENTRY, 1.0):
                kind = await lane.walk(plan.walk_s, ticket=ticket.ticket, visitor=plan.name)
            lane.done(scanned, 1 if kind is PassageKind.GRANTED else 0)
        return self._entered(plan.name, lane, 1 if kind is PassageKind.GRANTED else 0)

    def _entered(self, visitor: str, lane: SimLane, people: int) -> bool:
        self.tally.entered += people
        if people:
            self._on_entered(visitor, lane.lane)
        return people > 0


def forged(code: str) -> str:
    """The same ticket with another signature: right in form, and worth nothing."""
    signed = bytearray(base45.b45decode(code[PREFIX_CHARACTERS:]))
    signed[FORGED_BYTE] ^= 0x01
    return code[:PREFIX_CHARACTERS] + str(base45.b45encode(bytes(signed)).decode("ascii"))


def _ranked(lanes: Sequence[SimLane], rank: float) -> SimLane:
    return lanes[min(int(rank * len(lanes)), len(lanes) - 1)]
