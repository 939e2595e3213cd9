"""A simulated smart gate on the device link: reader, camera and barrier in one. It is no real gate.

It follows `docs/device-link.md` as a stranger's gate would: a scan is repeated with its nonce until it is answered or
the visitor gives up, every person is one `Pass`, every grant ends with a `PassEnd`, and both are re-sent until the
server acknowledged them, across its death and restart.  A release is obeyed when its signature is right; losing the
network opens nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from drivers.base import AlarmKind
from drivers.base import Barrier as Sensed
from drivers.nng import LinkAddresses, LinkClient, LinkTimeout, LinkTls
from drivers.nng import Sensed as LinkSensed
from protocols.devicelink import (
    Ack,
    Alarm,
    Command,
    Commands,
    Deny,
    Fetch,
    Grant,
    Heartbeat,
    Hello,
    Pass,
    PassEnd,
    Release,
    Scan,
    Welcome,
    WorkRequest,
)
from protocols.messages import Direction, PassageKind
from sim.barrier import DEFAULT_TIMING, Hold, Person, SimBarrier, Timing
from sim.truth import Truth

FIRMWARE = "paifang-sim"
STATEMENTS_MAX = 10_000  # passages and ends that wait for the server: about two hours of a busy lane
FETCH_S = 3.0  # commands are fetched at least this often
HEARTBEAT_S = 5.0
HELLO_S = 3.0  # how long one try of a hello may take
ASK_S = 2.0  # the same of a fetch or a heartbeat
COMMANDS_MAX = 256  # executed commands that are remembered, so that none is executed twice

log = structlog.get_logger(__name__)


class _Turn(msgspec.Struct):
    """A grant that this gate opened for and has not ended."""

    grant: int
    nonce: str
    pax: int
    passed: int = 0
    paused: bool = False  # the control room ended it early


class SimGate:
    """The gate of one lane. `run` keeps it on the link until cancelled; visitors use `scan` and `barrier`."""

    def __init__(
        self,
        lane: str,
        device: str,
        link: LinkAddresses,
        release_keys: Mapping[str, Ed25519PublicKey],
        truth: Truth,
        *,
        site: str,
        timing: Timing = DEFAULT_TIMING,
        tls: LinkTls | None = None,
    ) -> None:
        """With `tls` the addresses are `tls+tcp://…`. Raises LinkTlsError when its files cannot be used."""
        self.lane = lane
        self.device = device
        self.barrier = SimBarrier(self, timing=timing)
        self.mode = ""  # as the server said it in its welcome
        self.entries = 0
        self.exits = 0
        self.lost_statements = 0  # more than STATEMENTS_MAX waited
        self.refused_statements = 0  # the server will not have them: something is wrong with this gate
        self._truth = truth
        self._client = LinkClient(
            link,
            device,
            release_keys,
            site=site,
            lane=lane,
            sensed=self._sensed,
            on_release=self._released,
            on_wake=self._woken,
            on_link=self._link_changed,
            tls=tls,
        )
        self._incident: int | None = None
        self._turn: _Turn | None = None
        self._owed: dict[int, None] = {}  # grants for which a PassEnd is still owed
        self._statements: deque[WorkRequest] = deque()
        self._stated = trio.Event()
        self._woke = trio.Event()
        self._linked = trio.Event()
        self._welcome = trio.Event()
        self._scanning = trio.Lock()  # one reader, one visitor at a time; a hello waits for it
        self._done: list[int] = []
        self._executed: dict[int, None] = {}
        self._nonces = 0

    async def run(self) -> None:
        """Move the barrier and keep the link up until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.barrier.run)
            await nursery.start(self._client.run)
            nursery.start_soon(self._greet)
            nursery.start_soon(self._state)
            nursery.start_soon(self._fetch)
            nursery.start_soon(self._beat)

    @property
    def boot(self) -> str:
        return self._client.boot

    @property
    def released(self) -> bool:
        return Hold.RELEASE in self.barrier.holds()

    @property
    def unsaid(self) -> int:
        """Statements that the server has not acknowledged."""
        return len(self._statements)

    @property
    def welcomed(self) -> bool:
        """Whether the server knows this gate since the link came up."""
        return self._welcome.is_set()

    async def ready(self, timeout_s: float) -> bool:
        """Wait until the server welcomed this gate."""
        with trio.move_on_after(timeout_s):
            await self._welcome.wait()
        return self._welcome.is_set()

    async def scan(
        self,
        value: str,
        patience_s: float,
        *,
        cause: str,
        kind: str = "code",
        photo: bytes | None = None,
        ticket: int | None = None,
        visitor: str = "",
    ) -> Grant | Deny | None:
        """Present a credential. On a grant the barrier opens; None when no answer came within `patience_s`."""
        async with self._scanning:
            await self.barrier.until(lambda: self._turn is None, patience_s)
            self._nonces += 1
            nonce = f"{self.boot}-{self._nonces}"
            self._truth.scan(self.lane, self.device, nonce=nonce, cause=cause, ticket=ticket, visitor=visitor)
            request = Scan(**self._client.header(), nonce=nonce, kind=kind, value=value, photo=photo)
            try:
                reply = await self._client.ask(request, patience_s)
            except LinkTimeout:
                reply = None
            if isinstance(reply, Deny):
                self._truth.answer(self.lane, self.device, nonce=nonce, result="deny", code=reply.code)
                return reply
            if isinstance(reply, Grant):
                self._truth.answer(self.lane, self.device, nonce=nonce, result="grant", grant=reply.grant)
                self._open_for(reply)
                return reply
            self._truth.answer(self.lane, self.device, nonce=nonce, result="none")
            self._say(PassEnd(**self._client.header(), nonce=nonce, passed=0, why="never_opened"))
            return None

    # --- told by the barrier --------------------------------------------------------------------------------------

    def barrier_moved(self, sensed: Sensed, facing: Direction | None) -> None:
        self._truth.barrier(self.lane, self.device, state=sensed, direction=facing or "")

    def person_passed(self, person: Person) -> None:
        turn = self._turn
        kind, grant = person.kind, None
        if kind is PassageKind.GRANTED:
            if turn is not None and turn.passed < turn.pax:
                turn.passed += 1
                grant = turn.grant
            else:
                kind = PassageKind.FREE  # opened by hand from the control room
        elif kind is PassageKind.EMERGENCY and self._incident is None:
            kind = PassageKind.FREE
        if person.direction is Direction.ENTRY:
            self.entries += 1
        else:
            self.exits += 1
        request = Pass(**self._client.header(), direction=person.direction, grant=grant, kind=kind)
        self._truth.sensor(
            self.lane,
            self.device,
            direction=person.direction,
            kind=kind,
            boot=self.boot,
            seq=request.seq,
            grant=grant,
            ticket=person.ticket if grant is not None else None,
            visitor=person.visitor,
        )
        self._say(request)

    def barrier_alarm(self, kind: AlarmKind) -> None:
        self._truth.alarm(self.lane, self.device, kind=kind)
        self._say(Alarm(**self._client.header(), kind=kind))

    def turn_over(self, direction: Direction, unused: int) -> None:
        if direction is Direction.ENTRY and self._turn is not None:
            if self._turn.passed >= self._turn.pax:
                why = "complete"
            else:
                why = "emergency" if self.barrier.holds() else "paused" if self._turn.paused else "timeout"
            self._end(self._turn, why)

    # --- told by the link -----------------------------------------------------------------------------------------

    def _sensed(self) -> LinkSensed:
        sensed = self.barrier.sensed
        return LinkSensed(sensed, sensed is Sensed.RELEASED, self.released, self._incident)

    def _released(self, release: Release) -> None:
        self._incident = release.incident
        self._truth.release(self.lane, self.device, incident=release.incident)
        self.barrier.hold(Hold.RELEASE)

    def _woken(self) -> None:
        self._woke.set()

    def _link_changed(self, up: bool) -> None:
        if up:
            self._linked.set()
        else:
            self._welcome = trio.Event()

    # --- grants ---------------------------------------------------------------------------------------------------

    def _open_for(self, grant: Grant) -> None:
        pax = grant.pax - grant.passed
        turn = _Turn(grant.grant, grant.nonce, pax)
        self._owed[grant.grant] = None
        if grant.state != "open" or pax < 1 or grant.ttl_s <= 0 or self.released:
            self._end(turn, "never_opened")
            return
        self._turn = turn
        self.barrier.open(Direction.ENTRY, pax, grant.ttl_s)

    def _end(self, turn: _Turn, why: str) -> None:
        self._turn = None
        self._truth.end(self.lane, self.device, nonce=turn.nonce, passed=turn.passed, why=why)
        self._say(PassEnd(**self._client.header(), grant=turn.grant, nonce=turn.nonce, passed=turn.passed, why=why))

    def _say(self, statement: WorkRequest) -> None:
        """Queue what the server must know, in order."""
        if len(self._statements) >= STATEMENTS_MAX:
            self.lost_statements += 1
            return
        self._statements.append(statement)
        self._stated.set()

    # --- the tasks ------------------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        """Say hello after every connect, when no scan is outstanding."""
        while True:
            await self._linked.wait()
            async with self._scanning:
                self._linked = trio.Event()
                hello = Hello(
                    **self._client.header(),
                    firmware=FIRMWARE,
                    barrier=self.barrier.sensed,
                    released=self.released,
                    incident=self._incident,
                    open_grants=list(self._owed),
                    entries=self.entries,
                    exits=self.exits,
                )
                try:
                    reply = await self._client.ask(hello, HELLO_S)
                except LinkTimeout:
                    reply = None
            if isinstance(reply, Welcome):
                self._set_mode(reply.mode)
                self._welcome.set()
            else:
                self._linked.set()  # try again
                await trio.sleep(0.2)

    async def _state(self) -> None:
        """Deliver passages and ends one after the other until the server has them."""
        while True:
            while not self._statements:
                self._stated = trio.Event()
                await self._stated.wait()
            statement = self._statements[0]
            reply = await self._client.deliver(statement)
            self._statements.popleft()
            if not isinstance(reply, Ack):
                self.refused_statements += 1
                log.warning("sim.statement_refused", device=self.device, statement=type(statement).__name__)
            if isinstance(statement, Pass | PassEnd):
                if isinstance(statement, PassEnd) and statement.grant is not None:
                    self._owed.pop(statement.grant, None)
                if isinstance(reply, Ack):
                    self._truth.acked(
                        self.lane,
                        self.device,
                        of=type(statement).__name__.lower(),
                        boot=self.boot,
                        seq=statement.seq,
                        grant=statement.grant,
                    )

    async def _fetch(self) -> None:
        while True:
            with trio.move_on_after(FETCH_S):
                await self._woke.wait()
            self._woke = trio.Event()
            done, self._done = self._done, []
            request = Fetch(**self._client.header(), done=done, barrier=self.barrier.sensed)
            received = trio.current_time()
            try:
                reply = await self._client.ask(request, ASK_S)
            except LinkTimeout:
                self._done = done + self._done
                continue
            if isinstance(reply, Commands):
                for command in reply.commands:
                    self._obey(command, received)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(HEARTBEAT_S)
            beat = Heartbeat(**self._client.header(), barrier=self.barrier.sensed, queue_depth=len(self._statements))
            with trio.move_on_after(ASK_S):
                try:
                    await self._client.ask(beat, ASK_S)
                except LinkTimeout:
                    continue

    def _obey(self, command: Command, received: float) -> None:
        """Carry out a command, once; the next fetch acknowledges it. One that came too late is dropped."""
        self._done.append(command.id)
        self._woke.set()
        if command.id in self._executed or trio.current_time() - received > command.ttl_s:
            return
        self._executed[command.id] = None
        if len(self._executed) > COMMANDS_MAX:
            del self._executed[next(iter(self._executed))]
        if command.name == "open" and not self.released:
            self.barrier.open(Direction.ENTRY, max(command.pax, 1), command.ttl_s)
        elif command.name == "close":
            self.barrier.close(Direction.ENTRY)
        elif command.name == "pause" and self._turn is not None:
            self._turn.paused = True
            self.barrier.close(Direction.ENTRY)
        elif command.name == "mode":
            self._set_mode(command.mode)
        elif command.name == "rearm" and self.released and command.incident in (None, self._incident):
            self._incident = None
            self._truth.rearm(self.lane, self.device)
            self.barrier.unhold(Hold.RELEASE)

    def _set_mode(self, mode: str) -> None:
        self.mode = mode
        self.barrier.free_exit = mode in ("", "bidirectional", "normal_exit")
