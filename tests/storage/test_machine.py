"""Anything that may happen to a group's ticket, in any order, against a model that fits on a page.

The ledger, PostgreSQL and the decision are the real ones.  The model knows nothing of grants, batches or tables: it
counts places.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.admission import decide
from protocols.messages import Denied, EndReason, Granted, PassageKind
from storage.audit import audit
from storage.connection import Dsn
from storage.interfaces import (
    CompleteRefund,
    DecideRefund,
    FindBooks,
    HoldTicket,
    LedgerRefused,
    OrderBooks,
    RefundBooked,
    RequestRefund,
    ReverseAdmission,
)
from storage.testing import (
    TEMPLATE,
    cluster,
    end,
    grant_op,
    ledger_running,
    passage,
    product,
    run_sql,
    setup,
)

PAX = 8
LANES = ("lane1", "lane2", "lane3")
TTL_S = 5.0
AUDIT_EVERY = 10  # stories

which = st.integers(0, 2)  # of the lanes that the step fits
some = st.integers(1, 4)
scans = st.tuples(st.just("scan"), which, some)
passes = st.tuples(st.just("passes"), which)
ends = st.tuples(
    st.just("ends"), which, st.sampled_from([EndReason.TIMEOUT, EndReason.PAUSED, EndReason.COMPLETE])
)
office = st.one_of(
    st.tuples(st.just("refund"), some),
    st.tuples(st.just("refund decided"), st.booleans()),
    st.tuples(st.just("refund paid")),
    st.tuples(st.just("on hold"), st.booleans()),
    st.tuples(st.just("reversed"), some),
)
other = st.one_of(
    st.tuples(st.just("said again"), which), st.tuples(st.just("time goes by")), st.tuples(st.just("restart"))
)
steps = st.sampled_from([scans] * 3 + [passes] * 4 + [ends] * 2 + [office] * 2 + [other]).flatmap(lambda kind: kind)
stories = st.lists(steps, min_size=20, max_size=50)


class Model:
    """The places of one ticket: all there is to know about it."""

    def __init__(self) -> None:
        self.redeemed = self.reserved = self.refunded = 0
        self.running: dict[str, int] = {}  # lane -> places that it holds
        self.on_hold = False

    @property
    def free(self) -> int:
        return PAX - self.redeemed - self.reserved - self.refunded - sum(self.running.values())


class Story:
    """One ticket's life: each step is told to the ledger and to the model, which must agree."""

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn
        self.offset_s = 0.0
        self.model = Model()
        self.last: dict[str, Granted] = {}  # lane -> its latest grant
        self.passed: dict[str, int] = {}  # on it
        self.said: dict[str, tuple[Any, Any]] = {}  # lane -> what it said last, and the answer
        self.requested: list[RefundBooked] = []
        self.approved: list[RefundBooked] = []
        self.keys = 0

    def clock(self) -> float:
        return time.time() + self.offset_s

    def office(self) -> dict[str, Any]:
        self.keys += 1
        word = f"{id(self)}-{time.time_ns()}-{self.keys}"
        return {"key": word, "user": "ann", "role": "duty_manager", "reason": "story", "at": self.clock()}

    async def tell(self, happenings: Iterable[tuple[Any, ...]]) -> None:
        rest = list(happenings)
        self.ticket = 0
        while rest or not self.ticket:
            async with ledger_running(self.dsn, site=site(), decide=decide, clock=self.clock) as self.ledger:
                if not self.ticket:
                    (sold,) = await self.ledger.sell("group")
                    self.ticket = sold.ticket
                while rest and (step := rest.pop(0))[0] != "restart":
                    await getattr(self, step[0].replace(" ", "_"))(*step[1:])
                    await self.compare(step)

    async def compare(self, step: object) -> None:
        books: OrderBooks = await self.ledger.ask(FindBooks(number=self.ticket))
        (ticket,) = books.tickets
        (right,) = ticket.rights
        found = (right.redeemed, right.held, right.reserved_refund, right.refunded)
        model = self.model
        assert found == (model.redeemed, sum(model.running.values()), model.reserved, model.refunded), step

    # --- steps --------------------------------------------------------------------------------------------------

    async def scan(self, which: int, most: int) -> None:
        idle = [lane for lane in LANES if lane not in self.model.running]  # a lane has one visitor at a time
        if not idle:
            return
        lane = idle[which % len(idle)]
        op = grant_op(self.ticket, lane=lane, max_pax=most, ttl_s=TTL_S, at=self.clock())
        answer = await self.ledger.ask(op)
        self.said[lane] = (op, answer)
        if self.model.on_hold:
            assert isinstance(answer, Denied) and answer.code == "held"
        elif self.model.free == 0:
            assert isinstance(answer, Denied), answer
            assert answer.code in ("pax_exhausted", "in_progress", "refunded")
        else:
            assert isinstance(answer, Granted) and answer.pax == min(most, self.model.free)
            self.model.running[lane] = answer.pax
            self.last[lane], self.passed[lane] = answer, 0

    async def passes(self, which: int) -> None:
        if not self.last:
            return
        lane = (sorted(self.model.running) or sorted(self.last))[which % len(self.model.running or self.last)]
        if which == 2:
            lane = sorted(self.last)[-1]  # also after its grant is over
        grant = self.last[lane]
        op = passage(grant, lane=lane, at=self.clock())
        booked = await self.ledger.ask(op)
        self.said[lane] = (op, booked)
        if self.passed[lane] == grant.pax:
            assert booked.kind is PassageKind.TAILGATE
            return
        self.passed[lane] += 1
        if lane in self.model.running:
            assert booked.kind is PassageKind.GRANTED
            self.model.running[lane] -= 1
            self.model.redeemed += 1
        else:
            assert booked.kind is PassageKind.LATE
            self.model.redeemed += self.model.free > 0  # otherwise it is a case, and nobody's place

    async def ends(self, which: int, why: EndReason) -> None:
        if self.model.running:
            lane = sorted(self.model.running)[which % len(self.model.running)]
            op = end(self.last[lane], self.passed[lane], lane=lane, why=why, at=self.clock())
            settled = await self.ledger.ask(op)
            assert (settled.passed, settled.repeated) == (self.passed[lane], False)
            self.said[lane] = (op, settled)
            del self.model.running[lane]

    async def said_again(self, which: int) -> None:
        """Whatever a lane said last, it says again: the same answer, and nothing happens."""
        if not self.said:
            return
        lane = sorted(self.said)[which % len(self.said)]
        op, before = self.said[lane]
        after = await self.ledger.ask(op)
        if isinstance(before, Granted):
            assert (after.grant, after.pax, after.fresh) == (before.grant, before.pax, False)
            assert after.ttl_s <= before.ttl_s
        elif not isinstance(before, Denied):
            assert after == msgspec.structs.replace(before, repeated=True)
        elif isinstance(after, Granted):  # a refused scan is decided anew; what it gets now is given back
            await self.ledger.ask(end(after, 0, lane=lane, why=EndReason.NEVER_OPENED, at=self.clock()))
            del self.said[lane]

    async def refund(self, places: int) -> None:
        order = RequestRefund(ticket=self.ticket, places=places, **self.office())
        if places > self.model.free:
            with pytest.raises(LedgerRefused):
                await self.ledger.ask(order)
            return
        self.requested.append(await self.ledger.ask(order))
        self.model.reserved += places

    async def refund_decided(self, approved: bool) -> None:
        if self.requested:
            refund = self.requested.pop(0)
            who = self.office() | {"user": "bob"}
            await self.ledger.ask(DecideRefund(refund=refund.refund, approved=approved, **who))
            if approved:
                self.approved.append(refund)
            else:
                self.model.reserved -= refund.places

    async def refund_paid(self) -> None:
        if self.approved:
            refund = self.approved.pop(0)
            await self.ledger.ask(CompleteRefund(refund=refund.refund, **self.office()))
            self.model.reserved -= refund.places
            self.model.refunded += refund.places

    async def on_hold(self, held: bool) -> None:
        if held is not self.model.on_hold and self.model.free + self.model.redeemed + sum(self.model.running.values()):
            await self.ledger.ask(HoldTicket(ticket=self.ticket, held=held, **self.office()))
            self.model.on_hold = held

    async def reversed(self, places: int) -> None:
        order = ReverseAdmission(ticket=self.ticket, places=places, correct_count=bool(places % 2), **self.office())
        if places > self.model.redeemed:
            with pytest.raises(LedgerRefused):
                await self.ledger.ask(order)
            return
        await self.ledger.ask(order)
        self.model.redeemed -= places

    async def time_goes_by(self) -> None:
        """Longer than any grant lives: its lane has not said how it ended, so its places stay held."""
        self.offset_s += TTL_S + 5.0


def site() -> Any:
    return setup(products=[product("group", product_class="group", pax=PAX, price_cents=80_000)])


_made: list[Dsn] = []


async def _database() -> Dsn:
    if not _made:
        server = await cluster()
        await run_sql(server.dsn, f"create database machine template {TEMPLATE}")
        _made.append(server.dsn.with_database("machine"))
    return _made[0]


async def _tell(happenings: list[tuple[Any, ...]], told: list[int]) -> None:
    dsn = await _database()
    await Story(dsn).tell(happenings)
    told.append(len(happenings))
    if len(told) % AUDIT_EVERY == 0:
        report = await audit(dsn, "demo")
        assert report.clean, report.broken


def _stories(examples: int) -> int:
    """Tell so many stories; how many steps they had."""
    told: list[int] = []

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(stories)
    def tell(happenings: list[tuple[Any, ...]]) -> None:
        trio.run(_tell, happenings, told)

    tell()
    return sum(told)


def test_a_tickets_places_are_those_of_the_model() -> None:
    assert _stories(25) > 100


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_thousands_of_steps_and_no_divergence() -> None:
    assert _stories(120) > 2000
