"""Visitors at lanes whose answers the test decides: what they do, and what the truth file says about it.

The lane's host is a double: it reads the reader's line and the board's, and opens for the codes that it is told.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.testing import patient_time
from paifang.check import load
from paifang.site import SiteFile
from protocols import board4
from protocols.console import SoldTicket
from protocols.errors import TicketCodeError
from protocols.messages import Direction
from protocols.scanner import ScannerFramer
from protocols.ticketcode import ProductClass, TicketCode, Verifier, sign, site_hash
from sim import truth
from sim.barrier import Timing
from sim.lane import Result, SimLane
from sim.plan import Behaviour, VisitorPlan
from sim.site import SimSite
from sim.visitors import Crowd, forged

patient = pytest.fixture(autouse=True)(patient_time)

SITE = Path(__file__).resolve().parents[2] / "sites" / "demo.toml"
FAST = Timing(opening_s=0.03, closing_s=0.03, open_s=1.0, alarm_s=0.1)


class Window:
    """Sells from a list: no server is asked in these tests."""

    def __init__(self) -> None:
        self.sold: list[str] = []
        self.dates: list[str] = []

    async def sell(self, lines: list[object], *, printed: bool = False) -> object:
        self.dates.append(lines[0].visit_date)  # type: ignore[attr-defined]
        self.sold.append(code(len(self.sold) + 1))
        number = len(self.sold)

        class Sold:
            tickets = [ticket(number)]

        return Sold()


KEY = Ed25519PrivateKey.generate()


def code(number: int) -> str:
    return sign(
        TicketCode(
            key_id=1, site=site_hash("valley"), ticket=number, valid_from=1_760_000_040, valid_to=1_760_086_440, pax=1,
            product_class=ProductClass.FULL,
        ),
        KEY,
    )  # fmt: skip


def ticket(number: int, pax: int = 1) -> SoldTicket:
    return SoldTicket(ticket=number, product="adult", code=code(number), pax=pax, valid_from=0, valid_to=1)


class Host:
    """The server's place at one serial lane: opens for whom `allows` says, `pax` at a time, and never twice."""

    def __init__(self, lane: SimLane, allows: Callable[[str], int]) -> None:
        assert lane.reader is not None
        assert lane.board is not None
        self.codes: list[str] = []
        self._allows = allows
        self._reader = os.open(lane.reader.line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._board = os.open(lane.board.line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    async def run(self) -> None:
        framer = ScannerFramer()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._reader)
                for read in framer.feed(os.read(self._reader, 4096)):
                    self.codes.append(read.text)
                    pax = self._allows(read.text)
                    if pax:
                        os.write(self._board, board4.enter_open(1, pax))
        finally:
            os.close(self._reader)
            os.close(self._board)


def serial_only() -> SiteFile:
    """Two serial lanes of the example site."""
    import msgspec

    site = load(SITE)
    lanes = [lane for lane in site.lanes if lane.id in ("n1", "n2", "t1")]
    return msgspec.structs.replace(site, lanes=lanes, printers=[])


class Rig:
    def __init__(self, site: SimSite, crowd: Crowd, window: Window, hosts: dict[str, Host], path: Path) -> None:
        self.site, self.crowd, self.window, self.hosts, self._path = site, crowd, window, hosts, path

    def events(self, kind: type) -> list[object]:
        return [event for event in truth.read(self._path) if isinstance(event, kind)]

    def passages(self) -> list[tuple[str, str]]:
        return [(event.direction, event.kind) for event in self.events(truth.Sensor)]  # type: ignore[attr-defined]

    def causes(self) -> list[str]:
        return [event.cause for event in self.events(truth.Scan)]  # type: ignore[attr-defined]


@asynccontextmanager
async def rig(tmp_path: Path, allows: Callable[[str], int]) -> AsyncIterator[Rig]:
    path = tmp_path / "sim" / "truth.jsonl"
    with truth.Truth(path) as writer:
        devices = SimSite(serial_only(), tmp_path, {}, writer, timing=FAST)
        window = Window()
        crowd = Crowd(devices, window, writer, tomorrow=lambda: "2099-01-02")  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(devices.run)
            hosts = {name: Host(lane, allows) for name, lane in devices.lanes.items()}
            for host in hosts.values():
                nursery.start_soon(host.run)
            yield Rig(devices, crowd, window, hosts, path)
            nursery.cancel_scope.cancel()


def once() -> Callable[[str], int]:
    """Every code opens once, as the server would have it; forged ones never."""
    used: set[str] = set()
    verifier = Verifier({1: KEY.public_key()}, "valley")

    def allows(text: str) -> int:
        try:
            verifier.verify(text)
        except TicketCodeError:
            return 0
        if text in used:
            return 0
        used.add(text)
        return 1

    return allows


def visitor(behaviour: Behaviour, *, leaves: bool = False, excursions: tuple[str, ...] = ()) -> VisitorPlan:
    return VisitorPlan(
        name="v1", arrive_s=0, product="adult", behaviour=behaviour, lane=0.0, other_lane=0.9, exit_lane=0.9,
        walk_s=0.05, stay_s=0.1, leaves=leaves, excursions=excursions,
    )  # fmt: skip


async def test_a_visitor_buys_enters_stays_and_leaves(tmp_path: Path) -> None:
    async with rig(tmp_path, once()) as site:
        with trio.fail_after(20):
            await site.crowd.visit(visitor(Behaviour.NORMAL, leaves=True))
    assert site.passages() == [("entry", "granted"), ("exit", "exit")]
    assert (site.crowd.tally.entered, site.crowd.tally.left) == (1, 1)
    (end,) = site.events(truth.End)
    assert end.passed == 1  # type: ignore[attr-defined]


async def test_an_excursion_leads_into_another_zone_and_back(tmp_path: Path) -> None:
    async with rig(tmp_path, lambda text: 1) as site:
        with trio.fail_after(20):
            await site.crowd.visit(visitor(Behaviour.NORMAL, excursions=("summit", "museum")))
    seen = [(event.lane, event.direction) for event in site.events(truth.Sensor)]  # type: ignore[attr-defined]
    assert seen == [("n1", "entry"), ("t1", "entry"), ("t1", "exit")]  # this site has no museum lane
    assert site.crowd.tally.left == 1


async def test_who_is_not_let_in_does_not_pass(tmp_path: Path) -> None:
    async with rig(tmp_path, lambda text: 0) as site:
        async with site.site.lanes["n1"].queue:
            scanned = await site.site.lanes["n1"].scan("PF1:X", 0.3, cause="normal")
        assert scanned.result is Result.NOTHING
    assert site.passages() == []
    assert [event.result for event in site.events(truth.Answer)] == ["none"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("behaviour", "causes", "passages"),
    [
        (Behaviour.FORGED, ["forged", "normal"], [("entry", "granted")]),
        (Behaviour.REUSED, ["normal", "reused"], [("entry", "granted")]),
        (Behaviour.TAILGATE, ["normal"], [("entry", "granted"), ("entry", "tailgate")]),
        (Behaviour.REVERSE, ["normal"], [("exit", "reverse"), ("entry", "granted")]),
        (Behaviour.LOITER, ["normal"], [("entry", "granted")]),
    ],
)
async def test_each_behaviour_is_what_the_sensors_see(
    tmp_path: Path, behaviour: Behaviour, causes: list[str], passages: list[tuple[str, str]]
) -> None:
    async with rig(tmp_path, once()) as site:
        with trio.fail_after(30):
            await site.crowd.visit(visitor(behaviour))
    assert site.causes() == causes
    assert site.passages() == passages


async def test_a_ticket_for_tomorrow_is_bought_for_tomorrow(tmp_path: Path) -> None:
    async with rig(tmp_path, lambda text: 0) as site:
        with trio.fail_after(30):
            await site.crowd.visit(visitor(Behaviour.WRONG_DAY))
    assert site.window.dates == ["2099-01-02"]
    assert site.causes() == ["wrong_day"]


async def test_one_shared_ticket_is_shown_at_two_lanes_at_once_and_lets_one_in(tmp_path: Path) -> None:
    async with rig(tmp_path, once()) as site:
        with trio.fail_after(30):
            await site.crowd.visit(visitor(Behaviour.SHARED))
    first, second = site.events(truth.Scan)[:2]
    assert first.lane != second.lane  # type: ignore[attr-defined]
    assert abs(first.t - second.t) < 0.2  # type: ignore[attr-defined]
    assert site.passages() == [("entry", "granted")]


async def test_who_steps_back_is_not_counted_and_gets_in_later_when_let(tmp_path: Path) -> None:
    async with rig(tmp_path, lambda text: 1) as site:
        with trio.fail_after(30):
            await site.crowd.visit(visitor(Behaviour.STEP_BACK))
    assert site.causes() == ["step_back", "normal"]
    assert site.passages() == [("entry", "granted")]


async def test_a_group_walks_in_on_one_scan(tmp_path: Path) -> None:
    async with rig(tmp_path, lambda text: 4) as site:
        with trio.fail_after(30):
            entered = await site.crowd.enter(
                site.site.lanes["n1"], ticket(1, 4), cause="group", visitor="g", walk_s=0.05, people=4
            )
    assert entered == 4
    assert site.causes() == ["group"]
    assert site.passages() == [("entry", "granted")] * 4


async def test_one_code_again_and_again_lets_in_whom_it_opens_for(tmp_path: Path) -> None:
    async with rig(tmp_path, once()) as site:
        lane = site.site.lanes["n1"]
        async with lane.queue:
            with trio.fail_after(30):
                passed = await lane.hammer(code(1), 10, 0.05, cause="same_code", ticket=1, visitor="v")
        assert passed == 1
        assert len(site.hosts["n1"].codes) == 10
    assert site.causes() == ["same_code"] * 10


async def test_nobody_goes_in_while_everybody_must_get_out(tmp_path: Path) -> None:
    async with rig(tmp_path, once()) as site:
        lane = site.site.lanes["n1"]
        assert lane.board is not None
        lane.board.fire(True)
        await trio.sleep(0.2)
        async with lane.queue:
            assert (await lane.scan(code(1), 0.3, cause="normal")).result is Result.NOTHING
        assert await lane.leave(0.05, "v", 1) is not None
    assert site.passages() == [("exit", "emergency")]
    assert site.causes() == []


async def test_a_line_that_nobody_reads_is_tried_again_until_patience_ends(tmp_path: Path) -> None:
    path = tmp_path / "sim" / "truth.jsonl"
    with truth.Truth(path) as writer:
        devices = SimSite(serial_only(), tmp_path, {}, writer, timing=FAST)
        async with trio.open_nursery() as nursery:
            await nursery.start(devices.run)
            scanned = await devices.lanes["n1"].scan("PF1:X", 1.2, cause="normal")
            nursery.cancel_scope.cancel()
    assert scanned.result is Result.NOTHING
    assert sum(isinstance(event, truth.Scan) for event in truth.read(path)) == 3


def test_a_forged_code_is_right_in_form_and_wrong_in_signature() -> None:
    verifier = Verifier({1: KEY.public_key()}, "valley")
    assert verifier.verify(code(5)).ticket == 5
    with pytest.raises(TicketCodeError) as refused:
        verifier.verify(forged(code(5)))
    assert refused.value.reason == "bad_signature"


def test_a_device_outside_the_data_folder_is_never_simulated(tmp_path: Path) -> None:
    import msgspec

    site = serial_only()
    lane = msgspec.structs.replace(site.lanes[0], board=msgspec.structs.replace(site.lanes[0].board, path="/dev/ttyS0"))
    with truth.Truth(tmp_path / "truth.jsonl") as writer, pytest.raises(ValueError, match="no real device"):
        SimSite(msgspec.structs.replace(site, lanes=[lane]), tmp_path, {}, writer)


async def test_exits_are_walked_in_their_direction(tmp_path: Path) -> None:
    async with rig(tmp_path, once()) as site:
        lane = site.site.lanes["n2"]
        assert await lane.barrier.ask_exit(2)
        assert await lane.barrier.walk(Direction.EXIT, 0.05) is not None
    assert site.passages() == [("exit", "exit")]
