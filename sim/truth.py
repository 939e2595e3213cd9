"""truth.jsonl: what the simulated devices saw, one JSON object a line, written by them and never by the server.

The figures of `paifang demo` are computed from it (`paifang.figures`) and from the database.  A line carries no code
that opens a gate, except the QR payloads of `print`, which a printer sees in the clear.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import msgspec

MAX_TRUTH_BYTES = 256 * 1024 * 1024  # then the file says `truncated` and takes nothing more
MAX_LINE_BYTES = 64 * 1024


class TruthError(ValueError):
    """A truth file cannot be read: not JSON, an unknown event, or a line that is too long."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="ev", tag=str.lower, omit_defaults=True):
    """`t` is CLOCK_MONOTONIC in seconds (comparable between processes of one boot), `wall` seconds since the epoch."""

    t: float
    wall: float
    lane: str = ""
    device: str = ""


class Scan(Event, frozen=True, kw_only=True):
    """A visitor presented a credential. `cause` says why, in the simulation's words; serial readers send no nonce,
    so theirs is the simulation's own name for this scan."""

    nonce: str
    cause: str
    ticket: int | None = None
    visitor: str = ""


class Answer(Event, frozen=True, kw_only=True):
    """What came back: `grant`, `deny`, or `none` when the visitor gave up waiting.

    A serial lane tells its visitor nothing but an opening barrier, so its denials end as `none` here.
    """

    nonce: str
    result: str
    code: str = ""
    grant: int | None = None


class Barrier(Event, frozen=True, kw_only=True):
    """The barrier moved. `state` is a `drivers.base.Barrier` value, `direction` the side it serves."""

    state: str
    direction: str = ""


class Sensor(Event, frozen=True, kw_only=True):
    """One person passed the sensors for good. `seq` is the board's cumulative counter of that direction, or the `seq`
    of the gate's statement within `boot`. `ticket` is whose ticket opened for this person."""

    direction: str
    kind: str
    boot: str = ""
    seq: int = 0
    grant: int | None = None
    ticket: int | None = None
    visitor: str = ""


class Acked(Event, frozen=True, kw_only=True):
    """The server acknowledged a statement of a smart gate: it said that it is on disk."""

    of: str  # pass | passend
    boot: str
    seq: int
    grant: int | None = None


class End(Event, frozen=True, kw_only=True):
    """The visitor's business that began with the scan `nonce` is over at the lane."""

    nonce: str
    passed: int = 0
    why: str = ""


class Alarm(Event, frozen=True, kw_only=True):
    kind: str


class Release(Event, frozen=True, kw_only=True):
    """A command to open for an evacuation reached the device."""

    incident: int | None = None


class Rearm(Event, frozen=True, kw_only=True):
    """The device obeyed a command to end the release."""


class Print(Event, frozen=True, kw_only=True):
    """The printer finished a ticket. `codes` are the QR codes on it."""

    job: str
    codes: list[str]


class Sell(Event, frozen=True, kw_only=True):
    """The window asked for a sale."""

    key: str
    people: int = 0


class Sold(Event, frozen=True, kw_only=True):
    """The sale `key` was answered."""

    key: str
    order: int
    tickets: list[int]
    repeated: bool = False


class Phase(Event, frozen=True, kw_only=True):
    """Something the run did: a part of the script, or `kill`, `restarted`, `evacuation`, `restore`, `done`."""

    name: str
    detail: str = ""


class Database(Event, frozen=True, kw_only=True):
    """The live database's settings and `pg_stat_database.xact_commit`, read by the demo on a connection of its own."""

    fsync: str
    full_page_writes: str
    synchronous_commit: str
    commits: int


class Truncated(Event, frozen=True, kw_only=True):
    """The file reached its bound; nothing after this line was written."""


TruthEvent = (
    Scan
    | Answer
    | Barrier
    | Sensor
    | Acked
    | End
    | Alarm
    | Release
    | Rearm
    | Print
    | Sell
    | Sold
    | Phase
    | Database
    | Truncated
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TruthEvent)


class Truth:
    """Appends events, each with one `write` of one line, so that two processes may append to the same file.

    Use it as a context manager.  `clock` and `wall` are replaced in tests.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = MAX_TRUTH_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._written = os.fstat(self._file).st_size
        self._max_bytes = max_bytes
        self._clock = clock
        self._wall = wall
        self.refused_lines = 0

    def __enter__(self) -> Truth:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def now(self) -> tuple[float, float]:
        """`t` and `wall` of this moment, for events that are noted later than they happened."""
        return self._clock(), self._wall()

    def scan(
        self, lane: str, device: str, *, nonce: str, cause: str, ticket: int | None = None, visitor: str = ""
    ) -> None:
        t, wall = self.now()
        self._append(
            Scan(t=t, wall=wall, lane=lane, device=device, nonce=nonce, cause=cause, ticket=ticket, visitor=visitor)
        )

    def answer(
        self, lane: str, device: str, *, nonce: str, result: str, code: str = "", grant: int | None = None
    ) -> None:
        t, wall = self.now()
        self._append(
            Answer(t=t, wall=wall, lane=lane, device=device, nonce=nonce, result=result, code=code, grant=grant)
        )

    def barrier(self, lane: str, device: str, *, state: str, direction: str = "") -> None:
        t, wall = self.now()
        self._append(Barrier(t=t, wall=wall, lane=lane, device=device, state=state, direction=direction))

    def sensor(
        self,
        lane: str,
        device: str,
        *,
        direction: str,
        kind: str,
        boot: str,
        seq: int,
        grant: int | None = None,
        ticket: int | None = None,
        visitor: str = "",
    ) -> None:
        t, wall = self.now()
        self._append(
            Sensor(
                t=t,
                wall=wall,
                lane=lane,
                device=device,
                direction=direction,
                kind=kind,
                boot=boot,
                seq=seq,
                grant=grant,
                ticket=ticket,
                visitor=visitor,
            )
        )

    def acked(self, lane: str, device: str, *, of: str, boot: str, seq: int, grant: int | None) -> None:
        t, wall = self.now()
        self._append(Acked(t=t, wall=wall, lane=lane, device=device, of=of, boot=boot, seq=seq, grant=grant))

    def end(self, lane: str, device: str, *, nonce: str, passed: int, why: str) -> None:
        t, wall = self.now()
        self._append(End(t=t, wall=wall, lane=lane, device=device, nonce=nonce, passed=passed, why=why))

    def alarm(self, lane: str, device: str, *, kind: str) -> None:
        t, wall = self.now()
        self._append(Alarm(t=t, wall=wall, lane=lane, device=device, kind=kind))

    def release(self, lane: str, device: str, *, incident: int | None) -> None:
        t, wall = self.now()
        self._append(Release(t=t, wall=wall, lane=lane, device=device, incident=incident))

    def rearm(self, lane: str, device: str) -> None:
        t, wall = self.now()
        self._append(Rearm(t=t, wall=wall, lane=lane, device=device))

    def print(self, device: str, *, job: str, codes: list[str]) -> None:
        t, wall = self.now()
        self._append(Print(t=t, wall=wall, device=device, job=job, codes=codes))

    def sell(self, device: str, *, key: str, people: int = 0) -> None:
        t, wall = self.now()
        self._append(Sell(t=t, wall=wall, device=device, key=key, people=people))

    def sold(self, device: str, *, key: str, order: int, tickets: list[int], repeated: bool) -> None:
        t, wall = self.now()
        self._append(Sold(t=t, wall=wall, device=device, key=key, order=order, tickets=tickets, repeated=repeated))

    def phase(self, name: str, detail: str = "") -> None:
        t, wall = self.now()
        self._append(Phase(t=t, wall=wall, name=name, detail=detail))

    def database(self, *, fsync: str, full_page_writes: str, synchronous_commit: str, commits: int) -> None:
        t, wall = self.now()
        self._append(
            Database(
                t=t,
                wall=wall,
                fsync=fsync,
                full_page_writes=full_page_writes,
                synchronous_commit=synchronous_commit,
                commits=commits,
            )
        )

    def _append(self, event: Event) -> None:
        line = _encoder.encode(event) + b"\n"
        if self.refused_lines or len(line) > MAX_LINE_BYTES:
            self.refused_lines += 1
            return
        if self._written + len(line) > self._max_bytes:
            self.refused_lines += 1
            line = _encoder.encode(Truncated(t=event.t, wall=event.wall)) + b"\n"
        os.write(self._file, line)
        self._written += len(line)


def read(path: Path) -> Iterator[TruthEvent]:
    """The events of a truth file, in the order in which they were written.

    A last line without its end is left out: its writer was killed.  Raises TruthError, which names the line.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) > MAX_LINE_BYTES:
                    raise TruthError(f"{path}:{number}: a line of more than {MAX_LINE_BYTES} bytes")
                return
            try:
                yield _decoder.decode(line)
            except msgspec.MsgspecError as exc:
                raise TruthError(f"{path}:{number}: {exc}") from exc
