"""A lane on a board in any order of events: whatever happens, nobody is booked twice, forgotten, or shut in.

The world around the lane is a small model: a board that counts by itself, and a ledger that answers late, twice or
never but keeps what it wrote. Each example ends in quiet: the board answers, the evacuation is over, all is settled.
"""

from __future__ import annotations

from collections import Counter as Tally

import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from actors.counter import AskBooks
from actors.gate import GateClose, GateOpen, GateRearm, GateReport, GateResume
from actors.lane import OpenLane, SetLaneMode
from actors.testing import BoardRig, board_lane, books, granted, heard, only, open_grant, scan, settle
from core import Failed
from drivers.base import Barrier, DeviceDown, PassageCounted
from protocols.messages import (
    Decide,
    Denied,
    Direction,
    Ended,
    EndReason,
    GrantState,
    LaneMode,
    PassageKind,
    Passed,
    Rearm,
    Release,
    ReleaseAck,
    Restore,
)
from storage.interfaces import CounterBaseline, LedgerUnavailable

ROUNDS_TO_QUIET = 12
MOVES = (GateClose, GateRearm, GateOpen)

KINDS = ["grant", "grant", "grant", "deny", "fail", "grant, then fail", "lost"]
visits = st.tuples(
    st.just("visit"), st.sampled_from(KINDS), st.integers(1, 3), st.integers(0, 4), st.sampled_from([0, 0, 0, 9.0])
)
troubles = st.one_of(
    st.tuples(st.just("scan"), st.integers(0, 2)),
    st.tuples(st.just("answer"), st.sampled_from(KINDS), st.integers(1, 3)),
    st.tuples(st.just("person"), st.sampled_from(list(Direction)), st.integers(1, 2)),
    st.tuples(st.just("barrier"), st.sampled_from([*Barrier, Barrier.OPEN, Barrier.CLOSED])),
    st.sampled_from([("down",), ("up",), ("reset",), ("crash",), ("open",), ("write",), ("again",)]),
    st.sampled_from([("release",), ("restore",), ("rearm",), ("close lane",), ("open lane",)]),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 2.5, 5.0, 9.0])),
    st.tuples(st.just("away"), st.integers(0, 2), st.integers(0, 2)),
)
mends = st.sampled_from([("mend",), ("barrier", Barrier.CLOSED)])
happening = st.lists(st.tuples(visits, st.lists(troubles, max_size=5), mends), min_size=1, max_size=5).map(
    lambda chapters: [step for visit, middle, mend in chapters for step in (visit, *middle, mend)]
)


class World:
    """The board and the ledger round one lane, and the promises that hold all the time."""

    def __init__(self, rig: BoardRig) -> None:
        self.rig = rig
        self.up = False
        self.resets = 0
        self.questions: list[Decide] = []
        self.nonces = 0
        self.incident = 0
        self.locked = False  # released, and not yet restored and re-armed
        self.restored = False
        # the ledger's rows
        self.open: dict[int, tuple[str, int, str]] = {}  # grant -> nonce, pax, epoch
        self.passed: Tally[int] = Tally()
        self.abandoned: set[str] = set()
        self.booked: dict[tuple[str, str, int], PassageKind] = {}
        self.base: dict[str, tuple[int, int]] = {}
        self.epochs: list[str] = []
        self.grants = 0
        # what the lane said, written or not
        self.statements: list[Passed | Ended | CounterBaseline | AskBooks] = []
        self.said: set[tuple[str, str, int]] = set()
        self.told: dict[int, int] = {}  # grants that the lane was told, and their pax
        self.over: Tally[int] = Tally()

    # --- what happens -----------------------------------------------------------------------------------------

    async def step(self, name: str, *arguments) -> None:
        rig = self.rig
        match name, *arguments:
            case "scan", ticket:
                self.nonces += 1
                rig.lane.tell(scan(f"n{self.nonces}", code=f"code-{ticket}"))
            case "answer", kind, pax:
                self.answer(kind, pax)
            case "visit", kind, pax, people, seconds:  # somebody scans, is answered, and as many people go through
                await self.step("scan", self.nonces)
                await self.step("answer", kind, pax)
                await self.step("barrier", Barrier.OPEN)
                for _ in range(people):
                    await self.step("person", Direction.ENTRY, 1)
                await self.step("wait", seconds)
            case "away", missed, seen:  # the board is not heard for a while, and people go on walking
                await self.step("down")
                await self.step("person", Direction.ENTRY, missed)
                await self.step("up")
                await self.step("write")
                for _ in range(seen):
                    await self.step("person", Direction.ENTRY, 1)
            case "mend", *_:
                for mending in ("restore", "rearm", "up", "open lane", "write"):
                    await self.step(mending)
                await self.step("barrier", Barrier.CLOSED)
                await self.step("write")
            case "person", direction, count:
                if self.up:
                    await rig.person(direction, count=count)
                elif direction is Direction.ENTRY:
                    rig.entries += count
                else:
                    rig.exits += count
            case "again", *_:
                if self.up:
                    await rig.device(PassageCounted(direction=Direction.ENTRY, epoch=rig.epoch, counter=rig.entries))
            case "barrier", barrier:
                if self.up:
                    await rig.move(barrier)
                else:
                    rig.barrier = barrier
            case "write", *_:
                self.write()
            case "down", *_:
                self.up = False
                await rig.device(DeviceDown(reason="unplugged"))
            case "up", *_:
                self.up = True
                await rig.up()
            case "reset", *_:
                self.resets += 1
                rig.epoch, rig.entries, rig.exits = f"e{self.resets + 1}", 0, 0
                if self.up:
                    await rig.device(DeviceDown(reason="reset"))
                    await rig.up()
            case "release", *_:
                self.incident += 1
                before = trio.current_time()
                rig.lane.tell(Release(incident=self.incident), system=True)
                await settle()
                self.locked, self.restored = True, False
                assert rig.state == "released" and trio.current_time() == before
                assert only(await heard(rig.evacuation), ReleaseAck)[-1].incident == self.incident
            case "restore", *_:
                rig.lane.tell(Restore(incident=self.incident), system=True)
                self.restored = True
            case "rearm", *_:
                if self.restored:
                    self.locked = False
                rig.lane.tell(Rearm(user="ann"))
            case "crash", *_:
                await rig.crash()
            case "open", *_:
                rig.lane.tell(OpenLane(pax=1, reason="guest", by="ann"))
            case "close lane", *_:
                rig.lane.tell(SetLaneMode(mode=LaneMode.CLOSED, reason="lunch", by="ann"))
            case "open lane", *_:
                rig.lane.tell(SetLaneMode(mode=LaneMode.BIDIRECTIONAL, reason="back", by="ann"))
            case "wait", seconds:
                await trio.sleep(seconds)
        await self.look()

    async def look(self) -> None:
        """Read what the lane told everybody, let the board answer, and check what must always hold."""
        rig = self.rig
        while True:
            gate, counter = await heard(rig.gate), await heard(rig.counter)
            self.questions += only(await heard(rig.admission), Decide)
            if self.locked:
                assert only(gate, *MOVES) == [], "closed or re-armed a released lane"
            for statement in counter:
                self.check(statement)
            self.statements += counter
            await heard(rig.hub), await heard(rig.books), await heard(rig.occupancy), await heard(rig.evacuation)
            if not gate and not counter:
                return
            if self.up and only(gate, GateResume, GateReport):
                await rig.up()

    def check(self, statement) -> None:
        match statement:
            case Passed():
                key = (statement.boot, str(statement.direction), statement.seq)
                assert key not in self.said, f"{key} was said twice"
                self.said.add(key)
                if statement.kind is PassageKind.GRANTED:
                    assert self.over[statement.grant] == 0, "somebody was booked on a grant that was over"
            case Ended(grant=int() as grant):
                self.over[grant] += 1
                again = self.over[grant] > 1
                assert not again or statement.why is EndReason.RECOVERED, f"grant {grant} ended again: {statement.why}"

    # --- the ledger -------------------------------------------------------------------------------------------

    def answer(self, kind: str, pax: int) -> None:
        if not self.questions:
            return
        question = self.questions.pop(0)
        nonce, lane = question.scan.nonce, self.rig.lane
        if kind == "deny":
            lane.tell(Denied(nonce=nonce, code="already_used"))
        if kind.startswith("grant") or kind == "lost":
            if nonce in self.abandoned:
                lane.tell(granted(nonce, grant=0, pax=0, state=GrantState.CANCELLED, fresh=False))
                return
            self.grants += 1
            assert question.counters is not None
            self.open[self.grants] = (nonce, pax, question.counters.epoch)
            if kind == "grant":
                self.told[self.grants] = pax
                lane.tell(granted(nonce, grant=self.grants, pax=pax))
        if kind.endswith("fail"):
            lane.tell(Failed(question, LedgerUnavailable()))

    def write(self) -> None:
        """Carry out everything that the lane stated, in order; answer its question about the books."""
        statements, self.statements = self.statements, []
        for statement in statements:
            match statement:
                case Passed():
                    self.booked[statement.boot, str(statement.direction), statement.seq] = statement.kind
                    if statement.kind is PassageKind.GRANTED:
                        self.passed[statement.grant] += 1
                        pax = next((pax for g, (_, pax, _) in self.open.items() if g == statement.grant), None)
                        assert pax is not None, "a passage on a grant that is over in the books"
                        assert self.passed[statement.grant] <= pax, "more people than the grant is for"
                case Ended():
                    self.end(statement)
                case CounterBaseline():
                    self.base[statement.epoch] = (statement.entries, statement.exits)
                    self.epochs.append(statement.epoch)
                case AskBooks():
                    self.rig.lane.tell(self.books())

    def end(self, statement: Ended) -> None:
        by_nonce = [grant for grant, (nonce, _, _) in self.open.items() if nonce == statement.nonce]
        for grant in [statement.grant] if statement.grant is not None else by_nonce:
            self.open.pop(grant, None)
        if statement.grant is None and not by_nonce:
            self.abandoned.add(statement.nonce)

    def books(self):
        epoch = self.epochs[-1] if self.epochs else None
        entries, exits = (self.highest(epoch, direction) for direction in Direction) if epoch else (None, None)
        grants = [
            open_grant(grant, nonce=nonce, pax=pax, passed=self.passed[grant], epoch=of)
            for grant, (nonce, pax, of) in self.open.items()
        ]
        return books(*grants, epoch=epoch, entries=entries, exits=exits)

    def highest(self, epoch: str, direction: Direction) -> int:
        base = self.base[epoch][0 if direction is Direction.ENTRY else 1]
        return max([base, *(seq for boot, way, seq in self.booked if (boot, way) == (epoch, str(direction)))])

    # --- the end ----------------------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Everything works again and everybody answers. Then nothing may be left over."""
        rig = self.rig
        for _ in range(ROUNDS_TO_QUIET):
            while self.questions:
                await self.step("answer", "deny", 1)
            await self.step("restore")
            if rig.state == "needs_rearm":
                await self.step("rearm")
            if not self.up:
                await self.step("up")
            await self.step("barrier", Barrier.CLOSED)
            await self.step("write")
            await self.step("wait", 15.0)
        assert rig.state == "idle", rig.state
        assert self.statements == [] and self.questions == []
        left = {grant for grant, (_, _, epoch) in self.open.items() if epoch == rig.epoch}
        assert left == set(), "grants that nobody ended (those of a board that was reset are for people)"
        for index, direction in enumerate(Direction):
            base, counted = self.base[rig.epoch][index], (rig.entries, rig.exits)[index]
            seen = {seq for boot, way, seq in self.booked if (boot, way) == (rig.epoch, str(direction))}
            assert seen == set(range(base + 1, counted + 1)), "somebody was forgotten"


async def storm(happenings) -> None:
    async with board_lane(crashes=sum(step[0] == "crash" for step in happenings)) as rig:
        world = World(rig)
        for step in happenings:
            await world.step(*step)
        await world.quiet()


UP = [("up",), ("write",), ("write",)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), happening)
@example(True, [("visit", "grant", 2, 1, 0), ("crash",)])
@example(True, [("visit", "grant", 1, 0, 0), ("away", 0, 1), ("release",), ("person", Direction.ENTRY, 1), ("mend",)])
@example(True, [("scan", 1), ("answer", "lost", 1), ("down",), ("person", Direction.ENTRY, 2), ("up",)])
@example(True, [("scan", 1), ("release",), ("answer", "grant", 1), ("person", Direction.EXIT, 2), ("crash",)])
@example(True, [("scan", 1), ("answer", "grant", 2), ("reset",), ("person", Direction.ENTRY, 1)])
@example(True, [("scan", 1), ("crash",), ("mend",), ("answer", "grant, then fail", 1)])
@example(True, [("scan", 1), ("crash",), ("mend",), ("answer", "lost", 1)])
def test_whatever_happens_everybody_is_booked_once_and_every_grant_ends(warm, happenings):
    prefix = UP if warm else []
    trio.run(storm, [*prefix, *happenings], clock=trio.testing.MockClock(autojump_threshold=0))
