"""Simulated turnstiles of the languages `machpower`, `digicon` and `tpw`. They are no real boards.

They are written from the same published tables as the drivers, by the same people: they show that the drivers keep
their promises against that description and against faults.  Where the description says nothing, the unkind reading is
taken.  Each stands behind a line of its own or a `Port` of a `sim.bus.SimBus`, and fails on command: the `mischief` of
its line, `power`, `fire`, and `reset` of its counters.  `sim.board.SimBoard` is the fourth of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from drivers.base import AlarmKind
from drivers.base import Barrier as Sensed
from protocols import digicon, machpower, tpw
from protocols._resync import Resync
from protocols.messages import Direction
from sim.barrier import DEFAULT_TIMING, Hold, Person, SimBarrier, Timing
from sim.bus import Port, SimBus
from sim.truth import Truth

EVER_S = 3600.0 * 24  # a mode stays until another is set
CROWD = 255  # people who may walk while a mode stands open
PARAMETER_S = tpw.REPLY_WAIT_S  # a TPW board waits for each answer of the host so long


class SimTurnstile:
    """What the three have in common. `run` serves it until cancelled; `barrier` is what visitors walk through.

    Give it a `port` of a bus, or a `path` for a line of its own.
    """

    def __init__(
        self,
        lane: str,
        truth: Truth,
        *,
        path: Path | None = None,
        port: Port | None = None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        self.lane = lane
        self.device = f"{lane}-board"
        self.barrier = SimBarrier(self, timing=timing)
        self.entries = 0
        self.exits = 0
        self.heard: list[Any] = []  # frames that were for it, newest last; bounded
        self._truth = truth
        self._bus = None
        if port is None:
            assert path is not None
            self._bus = SimBus(path, None)
            port = self._bus.port(0.0)
        self.port = port
        self.mischief = port.mischief

    async def run(self) -> None:
        """Serve the line and move the barrier until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.barrier.run)
            if self._bus is not None:
                nursery.start_soon(self._bus.run)
            nursery.start_soon(self._serve)

    @property
    def line(self) -> Port:
        """Its place on a line."""
        return self.port

    @property
    def bus(self) -> SimBus:
        """Its own line."""
        assert self._bus is not None
        return self._bus

    def fire(self, on: bool) -> None:
        """The contact of the fire panel: opens without any server."""
        if on:
            self.barrier.hold(Hold.FIRE)
        else:
            self.barrier.unhold(Hold.FIRE)

    def power(self, on: bool) -> None:
        """Without power it neither hears nor speaks, and what was wished is forgotten."""
        self.mischief.deaf = self.mischief.silent = not on
        if not on:
            self._forget()
        self.barrier.power(on)

    def reset(self) -> None:
        """Its counters begin again."""
        self.entries = self.exits = 0

    # --- told by the barrier --------------------------------------------------------------------------------------

    def barrier_moved(self, sensed: Sensed, facing: Direction | None) -> None:
        self._truth.barrier(self.lane, self.device, state=sensed, direction=facing or "")

    def person_passed(self, person: Person) -> None:
        if person.direction is Direction.ENTRY:
            self.entries += 1
            counter = self.entries
        else:
            self.exits += 1
            counter = self.exits
        self._truth.sensor(
            self.lane,
            self.device,
            direction=person.direction,
            kind=person.kind,
            boot="",
            seq=counter,
            ticket=person.ticket,
            visitor=person.visitor,
        )
        self._one_passed(person.direction)

    def barrier_alarm(self, kind: AlarmKind) -> None:
        self._truth.alarm(self.lane, self.device, kind=kind)

    def turn_over(self, direction: Direction, unused: int) -> None:
        pass

    # --- the language ---------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        framer = self._framer()
        while True:
            for frame in framer.feed(await self.port.receive()):
                if self._mine(frame):
                    self.heard = [*self.heard[-199:], frame]
                    self._hear(frame)

    def _framer(self) -> Resync[Any]:
        raise NotImplementedError

    def _mine(self, frame: Any) -> bool:
        raise NotImplementedError

    def _hear(self, frame: Any) -> None:
        raise NotImplementedError

    def _one_passed(self, direction: Direction) -> None:
        """A board with something to say of it says it here."""

    def _forget(self) -> None:
        """What does not survive a loss of power."""
        self.barrier.close(Direction.ENTRY)
        self.barrier.close(Direction.EXIT)
        self.barrier.unhold(Hold.RELEASE)


class SimMachPower(SimTurnstile):
    """A tripod or swing barrier of Mach Power. Each open is for one more person; it never answers."""

    def __init__(self, lane: str, truth: Truth, *, address: int = 1, entry_is: str = "right", **line: Any) -> None:
        super().__init__(lane, truth, **line)
        self.address = address
        self.banned = False
        self._entry = machpower.Command.RIGHT_OPEN if entry_is == "right" else machpower.Command.LEFT_OPEN

    def _framer(self) -> Resync[machpower.Frame]:
        return machpower.framer()

    def _mine(self, frame: machpower.Frame) -> bool:
        return frame.address == self.address

    def _hear(self, frame: machpower.Frame) -> None:
        match frame.command:
            case machpower.Command.LEFT_OPEN | machpower.Command.RIGHT_OPEN:
                if not self.banned:
                    self.barrier.open(Direction.ENTRY if frame.command is self._entry else Direction.EXIT, 1)
            case machpower.Command.DROP_ARM:
                if not self.banned:
                    self.barrier.hold(Hold.RELEASE)
            case machpower.Command.RAISE_ARM:
                self.barrier.unhold(Hold.RELEASE)
            case machpower.Command.BAN:
                self.banned = True
                self.barrier.close(Direction.ENTRY)
                self.barrier.close(Direction.EXIT)
            case machpower.Command.RECOVER:
                self.banned = False


class SimDigicon(SimTurnstile):
    """A tripod of Digicon. Each release is for one more person; `refuse` makes it answer the next commands with 15."""

    def __init__(self, lane: str, truth: Truth, *, entry_is: str = "right", **line: Any) -> None:
        super().__init__(lane, truth, **line)
        self.refuse = 0
        self.releases = 0  # passages that were ever released
        right, left = digicon.Code.LEFT_TO_RIGHT, digicon.Code.RIGHT_TO_LEFT
        self._ways = {right: Direction.ENTRY, left: Direction.EXIT}
        if entry_is == "left":
            self._ways = {left: Direction.ENTRY, right: Direction.EXIT}

    def _framer(self) -> Resync[digicon.Frame | None]:
        return Resync(_cut_digicon, stretch=digicon.FRAME_BYTES_MIN, longest=digicon.FRAME_BYTES_MAX)

    def _mine(self, frame: digicon.Frame | None) -> bool:
        return frame is None or not frame.is_reply

    def _hear(self, frame: digicon.Frame | None) -> None:
        if frame is None or self.refuse > 0:
            self.refuse -= frame is not None
            self.port.send(digicon.encode(digicon.Code.NAK))
            return
        match frame.code:
            case digicon.Code.RIGHT_TO_LEFT | digicon.Code.LEFT_TO_RIGHT:
                self.releases += 1
                self.barrier.open(self._ways[frame.code], 1)
            case digicon.Code.BOTH:
                for direction in Direction:
                    self.barrier.open(direction, 1)
            case digicon.Code.FREE:
                self.barrier.hold(Hold.RELEASE)
            case digicon.Code.CONTROL:
                self._forget()
        self.port.send(digicon.encode(digicon.Code.ACK))

    def _one_passed(self, direction: Direction) -> None:
        way = next(code for code, each in self._ways.items() if each is direction)
        said = digicon.Code.PASSED_RIGHT_TO_LEFT
        if way is digicon.Code.LEFT_TO_RIGHT:
            said = digicon.Code.PASSED_LEFT_TO_RIGHT
        self.port.send(digicon.encode(said))


class SimTpw(SimTurnstile):
    """A swing gate or tripod of TPW. Its mode and counters outlive a loss of power, as settings do."""

    def __init__(
        self, lane: str, truth: Truth, *, address: int | None = 1, tripod: bool = False, digits: int = 6, **line: Any
    ) -> None:
        super().__init__(lane, truth, **line)
        self.address = address
        self.mode = tpw.Mode.NORMALLY_CLOSED
        self.passing = (tpw.Passing.CONTROLLED, tpw.Passing.CONTROLLED)
        self.dropped = False
        self.fail = 0  # so many settings are answered F4 and not carried out
        self._tripod = tripod
        self._digits = digits
        self._told = 0  # parameters told since the host connected
        self._telling = False
        self._told_at = 0.0

    def _framer(self) -> Resync[tpw.Frame]:
        return tpw.framer(addressed=self.address is not None)

    def _mine(self, frame: tpw.Frame) -> bool:
        return frame.address == self.address

    def _hear(self, frame: tpw.Frame) -> None:
        match frame.kind:
            case tpw.Kind.CONNECT:
                self._connected()
            case tpw.Kind.READ:
                self._tell(*self._counter(tpw.Counter(frame.content)))
            case tpw.Kind.MODE | tpw.Kind.PASSAGE | tpw.Kind.ARM | tpw.Kind.DELAY | tpw.Kind.LED:
                if self.fail > 0:
                    self.fail -= 1
                    self._tell(tpw.Kind.FAILED, "")
                    return
                self._set(frame)
                self._tell(tpw.Kind.DONE, "")

    def _connected(self) -> None:
        """The first FF is answered FF; each further one gets the next parameter, so long as neither waits too long."""
        now = trio.current_time()
        if not self._telling or now - self._told_at > PARAMETER_S:
            self._telling, self._told, self._told_at = True, 0, now
            self._tell(tpw.Kind.CONNECT, "")
            return
        parameters = self._parameters()
        if self._told >= len(parameters):
            self._telling = False
            return
        self._tell(*parameters[self._told])
        self._told, self._told_at = self._told + 1, now

    def _parameters(self) -> list[tuple[tpw.Kind, str]]:
        listed = [
            (tpw.Kind.MODEL, "TPW-321ASP"),
            (tpw.Kind.VERSION, "V1.0"),
            (tpw.Kind.IDENTITY, "0001"),
            (tpw.Kind.MODE, str(self.mode)),
            (tpw.Kind.PASSAGE, "".join(self.passing)),
            (tpw.Kind.DELAY, "005"),
            (tpw.Kind.SPEED, "4"),
            self._counter(tpw.Counter.ENTRY),
            self._counter(tpw.Counter.EXIT),
            (tpw.Kind.SENSITIVITY, "3"),
        ]
        swing_only = (tpw.Kind.SPEED, tpw.Kind.SENSITIVITY)
        return [each for each in listed if not (self._tripod and each[0] in swing_only)]

    def _counter(self, counter: tpw.Counter) -> tuple[tpw.Kind, str]:
        if counter is tpw.Counter.ENTRY:
            return tpw.Kind.ENTRIES, f"{self.entries % 10**self._digits:0{self._digits}d}"
        return tpw.Kind.EXITS, f"{self.exits % 10**self._digits:0{self._digits}d}"

    def _set(self, frame: tpw.Frame) -> None:
        if frame.kind is tpw.Kind.MODE:
            self.mode = tpw.mode(frame)
        elif frame.kind is tpw.Kind.PASSAGE:
            self.passing = tpw.passing(frame)
        elif frame.kind is tpw.Kind.ARM:
            self.dropped = frame.content == tpw.Arm.DROP
        self._obey()

    def _obey(self) -> None:
        barrier = self.barrier
        free = self.passing == (tpw.Passing.FREE, tpw.Passing.FREE)
        if self.mode is tpw.Mode.NORMALLY_OPEN or self.dropped or free:
            barrier.hold(Hold.RELEASE)
            return
        barrier.unhold(Hold.RELEASE)
        for mode, passing, direction in (
            (tpw.Mode.ENTRY_OPEN, self.passing[0], Direction.ENTRY),
            (tpw.Mode.EXIT_OPEN, self.passing[1], Direction.EXIT),
        ):
            if self.mode is mode and passing is not tpw.Passing.FORBIDDEN:
                barrier.open(direction, CROWD - barrier.credits(direction), EVER_S)
            else:
                barrier.close(direction)

    def _tell(self, kind: tpw.Kind, content: str) -> None:
        self.port.send(tpw.encode(tpw.Frame(self.address, kind, content)))

    def _forget(self) -> None:
        self._telling = False


def _cut_digicon(data: bytes) -> tuple[digicon.Frame | None, int] | None:
    """As the board cuts: a sound frame with a command that is not listed is a frame, too (None), and gets a refusal."""
    probe = digicon.encode_probe()
    if data[: len(probe)] == probe:
        return None, len(probe)
    if probe.startswith(data):
        return None
    return digicon.cut(data)
