"""`paifang evacuate` and boards of every kind: shared lines, other languages, relays on the network. All simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from actors.evacuation import read_latch
from core.testing import patient_time
from drivers.base import Barrier
from drivers.nng.testing import free_addresses
from drivers.serial import LineBusy, open_line
from paifang.evacuate import evacuate
from paifang.keys import KeyRing
from paifang.site import Board, CounterDevice, Lane, Link, Site, SiteFile, Zone
from protocols.messages import Direction
from sim.board import SimBoard
from sim.bus import SimBus
from sim.modbus import SimModbus, SimRelayGate
from sim.truth import Truth
from sim.turnstile import SimDigicon, SimMachPower, SimTpw

patient = pytest.fixture(autouse=True)(patient_time)

WITHIN_S = 20.0


def site(*lanes: Lane) -> SiteFile:
    link = Link(**msgspec.structs.asdict(free_addresses()))
    zones = [Zone(id="park", name="景区")]
    return SiteFile(site=Site(id="demo", name="牌坊"), link=link, zones=zones, lanes=list(lanes), products=[])


def lane(name: str, **board: Any) -> Lane:
    return Lane(id=name, name=name, to_zone="park", board=Board(**board))


async def carried_out(folder: Path, sitefile: SiteFile, timeout_s: float = WITHIN_S) -> Any:
    KeyRing.init(folder / "keys")
    return await evacuate(sitefile, folder / "keys", folder, timeout_s=timeout_s)


def truth(folder: Path) -> Truth:
    return Truth(folder / "truth.jsonl")


async def test_all_boards_of_one_line_are_released_while_the_server_holds_it(tmp_path: Path, nursery: Any) -> None:
    (tmp_path / "dev").mkdir()
    bus = SimBus(tmp_path / "dev" / "bus", 9600)
    path, book = tmp_path / "dev" / "bus", truth(tmp_path)
    boards = [SimBoard(f"n{n}", path, book, address=n, port=bus.port()) for n in (1, 2, 3)]
    nursery.start_soon(bus.run)
    for board in boards:
        nursery.start_soon(board.run)
    await until(lambda: (tmp_path / "dev" / "bus").exists())
    with open_line(str(tmp_path / "dev" / "bus"), 9600):  # a server that hangs
        with pytest.raises(LineBusy):
            open_line(str(tmp_path / "dev" / "bus"), 9600)
        report = await carried_out(tmp_path, site(*(lane(f"n{n}", path="dev/bus", address=n) for n in (1, 2, 3))))
    assert report.complete, report.lanes
    assert all(board.barrier.sensed is Barrier.RELEASED for board in boards)
    with open_line(str(tmp_path / "dev" / "bus"), 9600):
        pass  # and the lock is an owner's again
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("language", ["machpower", "digicon", "tpw"])
async def test_boards_of_other_languages_are_released_beside_a_server_that_hangs(
    tmp_path: Path, nursery: Any, language: str
) -> None:
    """Not all of them say that they are open: then the report says `unknown` and the exit code is not 0."""
    (tmp_path / "dev").mkdir()
    kinds: dict[str, Any] = {"machpower": SimMachPower, "digicon": SimDigicon, "tpw": SimTpw}
    board = kinds[language]("n1", truth(tmp_path), path=tmp_path / "dev" / "b")
    nursery.start_soon(board.run)
    await until(lambda: (tmp_path / "dev" / "b").exists())
    sitefile = site(lane("n1", path="dev/b", language=language))
    assert sitefile.lanes[0].board is not None
    with open_line(str(tmp_path / "dev" / "b"), sitefile.lanes[0].board.rate):
        report = await carried_out(tmp_path, sitefile, 4.0)
    await until(lambda: board.barrier.passable(Direction.EXIT))
    assert report.lanes[0].via == "serial"
    assert report.exit_code == (0 if report.complete else 1)
    nursery.cancel_scope.cancel()


async def test_a_relay_board_on_the_network_is_released_and_seen_open(tmp_path: Path, nursery: Any) -> None:
    gate = SimRelayGate(1)
    port = await nursery.start(SimModbus(gate).serve_tcp)
    relay = {"open_coil": 0, "hold_coil": 2, "exit_coil": 1, "open_input": 0, "closed_input": 1}
    sitefile = site(
        Lane(
            id="n1", name="n1", to_zone="park",
            board=msgspec.convert(
                {"language": "modbus", "host": "127.0.0.1", "port": port, "address": 1, "relay": relay}, Board
            ),
        ),
        Lane(id="w1", name="w1", kind="open", to_zone="park", counter=CounterDevice(kind="mqtt", host="x", topic="t")),
    )  # fmt: skip
    report = await carried_out(tmp_path, sitefile)
    assert report.complete, report.lanes
    assert gate.coils[2]
    assert {each.lane: each.via for each in report.lanes} == {"n1": "network", "w1": "nothing to open"}
    nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(WITHIN_S):
        while not condition():
            await trio.sleep(0.01)


async def test_a_lane_whose_driver_fails_keeps_nobody_else_in(
    tmp_path: Path, nursery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dev").mkdir()
    board = SimBoard("n1", tmp_path / "dev" / "n1", truth(tmp_path))
    nursery.start_soon(board.run)

    def fail(self: object, *rest: object) -> None:
        raise ImportError("no such library")

    monkeypatch.setattr("paifang._wires.Wires.gate", fail)
    lanes = (lane("n1", path="dev/n1"), lane("x", language="tpw", host="h", port=1))
    report = await carried_out(tmp_path, site(*lanes), 3.0)
    assert {each.lane: each.sensed_open for each in report.lanes} == {"n1": True, "x": False}
    assert "no such library" in next(each.detail for each in report.lanes if each.lane == "x")
    nursery.cancel_scope.cancel()


# --- boards that cannot say, and a part of the site ---------------------------------------------------------------


async def test_a_board_that_cannot_say_where_it_stands_is_commanded_and_not_called_unknown(
    tmp_path: Path, nursery: Any
) -> None:
    """And nobody waits for its answer until the time is up."""
    (tmp_path / "dev").mkdir()
    board = SimMachPower("n1", truth(tmp_path), path=tmp_path / "dev" / "b")
    nursery.start_soon(board.run)
    await until(lambda: (tmp_path / "dev" / "b").exists())
    said: list[str] = []
    KeyRing.init(tmp_path / "keys")
    sitefile = site(lane("n1", path="dev/b", language="machpower"))
    with trio.fail_after(WITHIN_S):
        report = await evacuate(sitefile, tmp_path / "keys", tmp_path, timeout_s=600.0, say=said.append)
    [only] = report.lanes
    assert (only.commanded, only.state, only.sensed_open) == (True, "commanded, cannot sense", False)
    assert report.exit_code == 1
    assert any("cannot sense" in line and "n1" in line for line in said)
    assert not any("not yet sensed" in line for line in said)
    await until(lambda: board.barrier.passable(Direction.EXIT))
    nursery.cancel_scope.cancel()


async def test_a_board_that_was_never_reached_is_not_called_commanded(tmp_path: Path, nursery: Any) -> None:
    report = await carried_out(tmp_path, site(lane("n1", path="dev/nothing", language="machpower")), 1.0)
    [only] = report.lanes
    assert (only.commanded, only.state) == (False, "not open")
    nursery.cancel_scope.cancel()


async def test_only_the_lanes_of_the_scope_are_released_and_the_latch_names_them(tmp_path: Path, nursery: Any) -> None:
    (tmp_path / "dev").mkdir()
    boards = [SimBoard(name, tmp_path / "dev" / name, truth(tmp_path)) for name in ("n1", "n2")]
    for board in boards:
        nursery.start_soon(board.run)
    KeyRing.init(tmp_path / "keys")
    lanes = [msgspec.structs.replace(lane(name, path=f"dev/{name}"), entrance=name) for name in ("n1", "n2")]
    report = await evacuate(site(*lanes), tmp_path / "keys", tmp_path, timeout_s=WITHIN_S, scope="entrance:n2")
    assert [each.lane for each in report.lanes] == ["n2"]
    assert report.complete
    assert boards[1].barrier.sensed is Barrier.RELEASED
    assert boards[0].barrier.sensed is Barrier.CLOSED
    assert read_latch(tmp_path / "evacuation.latch").lanes == ["n2"]
    nursery.cancel_scope.cancel()


async def test_a_mistyped_scope_opens_everything(tmp_path: Path, nursery: Any) -> None:
    (tmp_path / "dev").mkdir()
    board = SimBoard("n1", tmp_path / "dev" / "n1", truth(tmp_path))
    nursery.start_soon(board.run)
    KeyRing.init(tmp_path / "keys")
    sitefile = site(lane("n1", path="dev/n1"))
    report = await evacuate(sitefile, tmp_path / "keys", tmp_path, timeout_s=WITHIN_S, scope="entrance:nroth")
    assert report.complete
    assert report.scope == "site"
    assert read_latch(tmp_path / "evacuation.latch").lanes == []
    nursery.cancel_scope.cancel()
