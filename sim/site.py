"""All simulated devices of one site file: made, run, and asked whether they have said everything."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from drivers.base import Barrier as Sensed
from paifang.site import Board, Lane, SiteFile
from sim.barrier import DEFAULT_TIMING, Timing
from sim.board import SimBoard
from sim.bus import SimBus
from sim.gate import SimGate
from sim.identity import Identities, dialled_link, no_identity
from sim.lane import SimLane
from sim.printer import SimPrinter
from sim.reader import Ending, SimReader
from sim.truth import Truth
from sim.turnstile import SimDigicon, SimMachPower, SimTpw, SimTurnstile

SERIAL_QUIET_S = 1.5  # after the last person, until a polled board has surely been read
LOOK_S = 0.05


class SimSite:
    """The devices of a site. `run` serves them all until cancelled.

    Printers with a serial path are not simulated; lanes and TCP printers are.
    """

    def __init__(
        self,
        site: SiteFile,
        data_dir: Path,
        release_keys: Mapping[str, Ed25519PublicKey],
        truth: Truth,
        *,
        seed: int = 0,
        timing: Timing = DEFAULT_TIMING,
        lost_replies: float = 0.0,
        identity: Identities = no_identity,
    ) -> None:
        """`identity` gives the smart gates their certificates. Raises PkiError when one cannot be made."""
        self.site = site
        self._truth = truth
        self._timing = timing
        self._seed = seed
        self._lost_replies = lost_replies
        self._data_dir = data_dir
        self._identity = identity
        self.buses = {path: SimBus(self._path(path), None) for path in _shared(site)}
        self.lanes = {
            lane.id: self._lane(lane, release_keys) for lane in site.lanes if lane.board or lane.device
        }
        self.printers = [
            SimPrinter(printer.id, printer.host, printer.port, data_dir / "sim" / "printed", truth)
            for printer in site.printers
            if printer.host
        ]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve every device until cancelled. Started once all lines exist and printers listen."""
        try:
            async with trio.open_nursery() as nursery:
                for printer in self.printers:
                    await nursery.start(printer.run)
                for bus in self.buses.values():
                    nursery.start_soon(bus.run)
                for lane in self.lanes.values():
                    device = lane.gate or lane.board
                    assert device is not None
                    nursery.start_soon(device.run)
                task_status.started()
        finally:
            for lane in self.lanes.values():
                if lane.reader is not None:
                    lane.reader.close()

    def into(self, zone: str, from_zone: str | None = None) -> list[SimLane]:
        """Lanes whose entry leads into a zone, in the order of the site file."""
        return [lane for lane in self.lanes.values() if lane.to_zone == zone and from_zone in (None, lane.from_zone)]

    async def linked(self, timeout_s: float) -> bool:
        """Wait until every smart gate was welcomed by the server."""
        with trio.move_on_after(timeout_s) as scope:
            for lane in self.lanes.values():
                if lane.gate is not None:
                    await lane.gate.ready(timeout_s)
        return not scope.cancelled_caught and all(
            lane.gate.welcomed for lane in self.lanes.values() if lane.gate is not None
        )

    async def wired(self, timeout_s: float) -> bool:
        """Wait until the server has every serial line open."""
        return await _become(
            lambda: all(
                lane.board.line.listening and lane.reader is not None and lane.reader.line.listening
                for lane in self.lanes.values()
                if lane.board is not None
            ),
            timeout_s,
        )

    async def all_sensed(self, sensed: Sensed, timeout_s: float) -> bool:
        """Wait until every barrier is sensed like this."""
        return await _become(lambda: all(lane.barrier.sensed is sensed for lane in self.lanes.values()), timeout_s)

    async def said(self, timeout_s: float) -> bool:
        """Wait until nobody stands in a barrier and every smart gate's statements are acknowledged."""
        quiet = await _become(
            lambda: all(lane.barrier.in_field == 0 for lane in self.lanes.values()) and self.unsaid == 0, timeout_s
        )
        await trio.sleep(SERIAL_QUIET_S)
        return quiet and self.unsaid == 0

    @property
    def unsaid(self) -> int:
        """Statements of smart gates that the server has not acknowledged."""
        return sum(lane.gate.unsaid for lane in self.lanes.values() if lane.gate is not None)

    def _lane(self, lane: Lane, release_keys: Mapping[str, Ed25519PublicKey]) -> SimLane:
        rng = random.Random(f"{self._seed}/{lane.id}")
        if lane.device is not None:
            gate = SimGate(
                lane.id,
                lane.device,
                dialled_link(self.site.link),
                release_keys,
                self._truth,
                site=self.site.site.id,
                timing=self._timing,
                tls=self._identity(lane.device),
            )
            return SimLane(lane.id, lane.from_zone, lane.to_zone, self._truth, gate=gate)
        assert lane.board is not None
        board = self._board(lane, lane.board, rng)
        readers: Sequence[SimReader] = [
            SimReader(lane.id, self._path(reader.path), ending=rng.choice(list(Ending)), aim_prefix=rng.random() < 0.5)
            for reader in lane.readers[:1]
        ]
        return SimLane(lane.id, lane.from_zone, lane.to_zone, self._truth, board=board, reader=readers[0])

    def _board(self, lane: Lane, board: Board, rng: random.Random) -> SimBoard | SimTurnstile:
        """The simulated board of a lane, on a line of its own or on one that it shares.

        Raises ValueError for a language that is not simulated here.
        """
        bus = self.buses.get(board.path)
        port = None if bus is None else bus.port()
        path = self._path(board.path)
        tripod = lane.kind == "tripod"
        match board.language:
            case "board4":
                return SimBoard(
                    lane.id,
                    path,
                    self._truth,
                    address=board.address,
                    timing=self._timing,
                    rng=rng,
                    lost_replies=self._lost_replies,
                    counters_file=self._data_dir / "sim" / "counters" / lane.id,
                    port=port,
                )
            case "machpower":
                return SimMachPower(
                    lane.id,
                    self._truth,
                    path=path,
                    port=port,
                    timing=self._timing,
                    address=board.address,
                    entry_is=board.entry_is,
                )
            case "digicon":
                return SimDigicon(
                    lane.id, self._truth, path=path, port=port, timing=self._timing, entry_is=board.entry_is
                )
            case "tpw":
                return SimTpw(
                    lane.id,
                    self._truth,
                    path=path,
                    port=port,
                    timing=self._timing,
                    address=board.address,
                    tripod=tripod,
                )
        raise ValueError(f"lane {lane.id}: a board of language {board.language} is not simulated with a site")

    def _path(self, path: str) -> Path:
        """Only lines below the data folder are simulated: no link is ever put in the place of a real device."""
        made = self._data_dir / path
        if not made.parent.resolve().is_relative_to(self._data_dir.resolve()):
            raise ValueError(f"{path} is not below the data folder: the simulator touches no real device")
        return made


def _shared(site: SiteFile) -> set[str]:
    """Lines of which more than one board is named."""
    paths = [lane.board.path for lane in site.lanes if lane.board is not None and lane.board.path]
    return {path for path in paths if paths.count(path) > 1}


async def _become(condition: Callable[[], bool], timeout_s: float) -> bool:
    with trio.move_on_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - it is about many devices at once, none of which should know of it
            await trio.sleep(LOOK_S)
    return condition()
