"""Talking with one device, without the server: is it there, what does it say, does it do what it is told.

Everything here runs the same driver as the server does, so that what works here works there.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from drivers.base import (
    Availability,
    BarrierChanged,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    DriverStatistics,
    Feedback,
    Outcome,
    PassageCounted,
)
from drivers.errors import DeviceError
from drivers.replay import replay as play
from drivers.trace import (
    COMMAND,
    EVENT,
    Recorder,
    TraceEntry,
    TraceHeader,
    TraceWriter,
    read_trace,
    recording,
)
from drivers.words import said
from paifang._decoders import Decoder
from paifang._device_find import DeviceToolError, check_free, described, made, rebuilt
from paifang._device_specs import GATE, PRINTER, READER, DeviceSpec
from paifang._wires import Wires
from protocols.messages import Direction

PROBE_S = 4.0  # a polled device answers within a second; OSDP with a secure channel needs more
GUESS_S = 1.2  # for each language that is tried
OPEN_DEADLINE_S = 2.0  # as a lane gives it
TEST_WAIT_S = 30.0  # for a person to walk through, or to present something
PRINT_TIMEOUT_S = 20.0
CLOSE_S = 0.5  # for the command to be on the wire
LOOK_S = 0.05
HEX_BYTES = 16  # of one line on the screen
GUESSES: tuple[tuple[str, int], ...] = (  # only languages in which asking changes nothing
    ("board4", 9600),
    ("tpw", 9600),
    ("digicon", 115200),
    ("osdp", 9600),
    ("osdp", 115200),
    ("idcard", 115200),
    ("modbus", 9600),
)

Say = Callable[[str], None]
Emit = Callable[[DeviceEvent], None]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What probing a device found."""

    device: str
    language: str
    place: str
    available: bool
    state: str
    detail: str
    firmware: str = ""
    said: str = ""
    frames: int = 0
    damaged: int = 0
    clock_skew_s: float | None = None


# --- probing ------------------------------------------------------------------------------------------------------


async def probe(specs: list[DeviceSpec], data: Path, seconds: float = PROBE_S) -> list[Finding]:
    """Run every device's driver until it is available, `seconds` at most. Devices on one bus share it."""
    wires = Wires(data)
    findings: dict[str, Finding] = {}

    async def one(spec: DeviceSpec) -> None:
        try:
            check_free(spec, data)
            driver = spec.make(wires)
        except (DeviceToolError, ValueError, DeviceError) as exc:
            findings[spec.name] = _finding(spec, "unavailable", str(exc))
            return
        findings[spec.name] = await _probe_one(spec, driver, seconds)

    async with trio.open_nursery() as nursery:
        for spec in specs:
            nursery.start_soon(one, spec)
    return [findings[spec.name] for spec in specs]


async def _probe_one(spec: DeviceSpec, driver: Any, seconds: float) -> Finding:
    if spec.kind == PRINTER:
        return await _probe_printer(spec, driver, seconds)
    events: list[DeviceEvent] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, events.append)
        with trio.move_on_after(seconds):
            while driver.statistics().availability not in (Availability.AVAILABLE, Availability.UNAUTHENTICATED):  # noqa: ASYNC110 - a driver says it in many ways
                await trio.sleep(LOOK_S)
        statistics = driver.statistics()
        nursery.cancel_scope.cancel()
    return _finding(spec, statistics.availability.value, statistics.last_error, statistics, events)


async def _probe_printer(spec: DeviceSpec, driver: Any, seconds: float) -> Finding:
    if (ask := getattr(driver, "status", None)) is None:
        return _finding(spec, "unknown", "this printer is not asked without a job: `paifang devices test` prints one")
    try:
        answer = await ask(seconds)
    except DeviceError as exc:
        return _finding(spec, "unavailable", str(exc), driver.statistics())
    words = ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(answer).items()) if answer else ""
    return _finding(spec, "available", words, driver.statistics())


def _finding(
    spec: DeviceSpec,
    state: str,
    detail: str,
    statistics: DriverStatistics | None = None,
    events: list[DeviceEvent] | None = None,
) -> Finding:
    available = state == Availability.AVAILABLE.value
    if not available and not detail:
        detail = "no answer"
    return Finding(
        device=spec.name,
        language=spec.language,
        place=spec.place,
        available=available,
        state=state,
        detail="" if available and spec.kind != PRINTER else detail,
        firmware=statistics.firmware if statistics else "",
        said=said(events[-1]) if events else "",
        frames=statistics.frames_in if statistics else 0,
        damaged=statistics.bad_frames if statistics else 0,
        clock_skew_s=statistics.clock_skew_s if statistics else None,
    )


async def guess(path: str, say: Say) -> Finding | None:
    """Which language is answered at a serial line: asks politely in each, opens and prints nothing."""
    from paifang._device_find import outside

    for language, baud in GUESSES:
        say(f"  {language} at {baud} baud …")
        spec = outside(path, language, baud)
        driver = made(spec, Path("/"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run, lambda event: None)
            heard = False
            with trio.move_on_after(GUESS_S):
                while not heard:
                    await trio.sleep(LOOK_S)
                    statistics = driver.statistics()
                    heard = statistics.availability is Availability.AVAILABLE and statistics.frames_in > 0
            nursery.cancel_scope.cancel()
        if heard:
            return _finding(spec, "available", "", driver.statistics())
    return None


# --- watching -----------------------------------------------------------------------------------------------------


class Screen:
    """Bytes on the left, what they mean on the right, events below: one line each."""

    def __init__(self, spec: DeviceSpec, say: Say, *, show_bytes: bool) -> None:
        self._say = say
        self._decoder = Decoder(spec.language)
        self._show_bytes = show_bytes
        self._repeated = 0
        self._last: dict[str, str] = {}  # what was shown last in each direction

    def take(self, entry: TraceEntry) -> None:
        if entry.what == EVENT:
            self._put(f"{'':53}=> {entry.words}")
        elif entry.what == COMMAND:
            arguments = ", ".join(f"{name} {value}" for name, value in entry.arguments.items())
            self._put(f"{'':53}<= {entry.words} {arguments}".rstrip())
        else:
            self._bytes(entry)

    def _bytes(self, entry: TraceEntry) -> None:
        words = self._decoder.feed(entry.what, entry.octets)
        if self._last.get(entry.what) == entry.hex:  # a poll and its answer, for the hundredth time
            self._repeated += 1
            return
        self._last[entry.what] = entry.hex
        data = entry.octets
        rows = [data[at : at + HEX_BYTES] for at in range(0, len(data), HEX_BYTES)] if self._show_bytes else [b""]
        for number, row in enumerate(rows):
            text = row.hex(" ") if self._show_bytes else f"{len(data)} bytes"
            self._put(f"{entry.what:3} {text:49}{'; '.join(words) if number == 0 else ''}".rstrip())

    def _put(self, text: str) -> None:
        again, self._repeated = self._repeated, 0
        if again:
            self._say(f"{'':13}    … {again} more, the same as before")
        now = time.time()
        self._say(f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03d} {text}")


@asynccontextmanager
async def session(
    spec: DeviceSpec, data: Path, say: Say, record: Path | None, *, show_bytes: bool
) -> AsyncIterator[tuple[Any, Recorder, list[DeviceEvent]]]:
    """The device's driver, running, watched and perhaps recorded: driver, recorder and the events so far."""
    check_free(spec, data)
    screen = Screen(spec, say, show_bytes=show_bytes)
    header = TraceHeader(device=spec.name, kind=spec.kind, recorded_at=time.time(), table=described(spec))
    writer = TraceWriter(record, header) if record else None

    def take(entry: TraceEntry) -> None:
        if writer is not None:
            writer.take(entry)
        screen.take(entry)

    events: list[DeviceEvent] = []
    recorder = Recorder(take)
    try:
        with recording(recorder):
            driver = made(spec, data)
            async with trio.open_nursery() as nursery:
                if spec.kind != PRINTER:

                    def hear(event: DeviceEvent) -> None:
                        events.append(event)
                        recorder.event(said(event))

                    nursery.start_soon(driver.run, hear)
                yield driver, recorder, events
                nursery.cancel_scope.cancel()
    finally:
        if writer is not None:
            writer.close()


async def watch(
    spec: DeviceSpec, data: Path, say: Say, *, seconds: float, record: Path | None, personal: bool
) -> None:
    """Show what goes over the wires until Ctrl-C, or for `seconds`."""
    if spec.kind == PRINTER:
        raise DeviceToolError(f"{spec.name}: a printer speaks only when it prints; `paifang devices test {spec.name}`")
    async with session(spec, data, say, record, show_bytes=_may_show(spec, record, personal)):
        await trio.sleep(seconds)


def _may_show(spec: DeviceSpec, record: Path | None, personal: bool) -> bool:
    """Whether bytes are shown. Those of an identity document are a person's: only when somebody says so."""
    if spec.language != "idcard" or personal:
        return True
    if record is not None:
        raise DeviceToolError(f"{spec.name}: a recording would hold people's data; say --personal-data if it must")
    return False


# --- testing ------------------------------------------------------------------------------------------------------


async def test(
    spec: DeviceSpec,
    data: Path,
    say: Say,
    *,
    direction: str,
    pax: int,
    seconds: float,
    record: Path | None,
    personal: bool,
) -> bool:
    """Let the device do its work once: open a gate, print a ticket, read what is presented. True when it did."""
    show_bytes = _may_show(spec, record, personal)
    async with session(spec, data, say, record, show_bytes=show_bytes) as (driver, recorder, events):
        if spec.kind == PRINTER:
            return await _print_one(spec, driver, recorder, say)
        if not await _comes_up(events, say):
            return False
        with trio.move_on_after(seconds):
            if spec.kind == GATE:
                return await _open_once(driver, recorder, events, Direction(direction), pax, say)
            if spec.kind == READER:
                return await _read_once(driver, recorder, events, say)
            say(f"{spec.name}: change what it senses; Ctrl-C ends")
            return await _anything_more(events)
        if spec.kind == GATE:  # nobody came: it does not stay open for whoever comes later
            recorder.command("close")
            driver.close()
            await trio.sleep(CLOSE_S)
    say(f"nothing came within {seconds:g} s")
    return False


async def _comes_up(events: list[DeviceEvent], say: Say) -> bool:
    with trio.move_on_after(PROBE_S):
        while not any(isinstance(event, DeviceUp) for event in events):  # noqa: ASYNC110 - the list is filled by the driver
            await trio.sleep(LOOK_S)
        return True
    reason = next((event.reason for event in reversed(events) if isinstance(event, DeviceDown)), "no answer")
    say(f"not available: {reason}")
    return False


async def _open_once(
    gate: Any, recorder: Recorder, events: list[DeviceEvent], direction: Direction, pax: int, say: Say
) -> bool:
    seen = len(events)
    recorder.command("open", direction=direction.value, pax=pax)
    gate.open(direction, pax, OPEN_DEADLINE_S)
    say(f"told to open for {pax} {direction.value}; walk through now")
    while True:
        counted = [event for event in events[seen:] if isinstance(event, PassageCounted)]
        closed = [e for e in events[seen:] if isinstance(e, BarrierChanged) and e.barrier.value == "closed"]
        if len(counted) >= pax or (closed and not gate.capabilities.counts):
            say(f"good: {len(counted)} counted" if gate.capabilities.counts else "good: opened and closed")
            return True
        if closed:
            say(f"it closed again after {len(counted)} of {pax}")
            return False
        await trio.sleep(LOOK_S)


async def _read_once(reader: Any, recorder: Recorder, events: list[DeviceEvent], say: Say) -> bool:
    if (start := getattr(reader, "start_reading", None)) is not None:
        start()
    say("present a ticket, a card or a document now")
    seen = len(events)
    while True:
        for event in events[seen:]:
            if isinstance(event, CodeRead | CredentialRead):
                _signal(reader, recorder, Outcome.GO)
                await trio.sleep(0.3)  # for the light to be on the wire
                say(f"good: {said(event)}")
                return True
        await trio.sleep(LOOK_S)


def _signal(reader: Any, recorder: Recorder, outcome: Outcome) -> None:
    if (tell := getattr(reader, "signal", None)) is not None:
        recorder.command("signal", outcome=outcome.value)
        tell(Feedback(outcome=outcome))


async def _anything_more(events: list[DeviceEvent]) -> bool:
    seen = len(events)
    while len(events) == seen:  # noqa: ASYNC110 - the list is filled by the driver
        await trio.sleep(LOOK_S)
    return True


async def _print_one(spec: DeviceSpec, printer: Any, recorder: Recorder, say: Say) -> bool:
    from paifang._device_samples import sample_ticket

    payload = sample_ticket(spec)
    say(f"printing a test ticket, {len(payload)} bytes")
    recorder.command("print")
    try:
        await printer.print_job(payload, PRINT_TIMEOUT_S)
    except DeviceError as exc:
        say(f"not printed: {exc}")
        return False
    say("good: the printer says that it is done")
    return True


# --- replaying ----------------------------------------------------------------------------------------------------


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording and its replay said."""

    device: str
    recorded: list[str]
    replayed: list[str]

    @property
    def same(self) -> bool:
        return self.recorded == self.replayed


async def replay(path: Path) -> Replayed:
    """Play a trace to the driver as it is now. Raises TraceError, DeviceToolError."""
    trace = read_trace(path)
    events: list[str] = []
    await play(
        trace,
        lambda where: made(rebuilt(trace.header.table, where), Path("/")),
        perform,
        emit=lambda event: events.append(said(event)),
    )
    return Replayed(device=trace.header.device, recorded=trace.events(), replayed=events)


def perform(driver: Any, command: str, arguments: dict[str, Any]) -> None:
    """A recorded command, given again. Raises DeviceToolError for one that is unknown."""
    match command:
        case "open":
            driver.open(Direction(arguments["direction"]), int(arguments["pax"]), OPEN_DEADLINE_S)
        case "close" | "release" | "rearm":
            getattr(driver, command)()
        case "signal":
            driver.signal(Feedback(outcome=Outcome(arguments["outcome"])))
        case _:
            raise DeviceToolError(f"the trace holds a command that cannot be given again: {command}")
