"""`paifang evacuate`: open every lane without the server, because the server may hang.

It has a process and sockets of its own, which every lane also dials, and writes the release to serial lines itself.
Nothing it needs can be kept from it by a stopped server: serial lines are locked by advice only, the latch file is
read and written without a lock, and an acknowledgement comes from the lane's own sensors.  What fails on the way
(keys, addresses, the latch) costs only its own part, is said, and is tried again; what remains is carried out.

The running server, if there is one, adopts the latch file that is written *after* the release was sent.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.evacuation.latch import Latch, LatchError, read_latch, write_latch
from drivers.base import Barrier, BarrierChanged, DeviceDown, DeviceEvent, DeviceUp
from drivers.errors import DeviceError
from drivers.nng import SafetyServer, ask_safety
from drivers.serial import SerialLine, beside_the_owner, open_unlocked
from drivers.turnstile import LANGUAGES, release_bytes, release_frames
from paifang._wires import ESCAPES, Wires
from paifang.keys import KeysError, load_release_signer
from paifang.site import Board, Lane, SiteFile
from protocols import board4
from protocols.devicelink import Release, ReleaseAck, SafetyPoll, SafetyRequest, SafetyState, sign_release
from protocols.errors import BoardError
from protocols.messages import new_id

PUBLISH_S = 0.5  # the release is published again this often
FRAME_S = 0.3  # and written to serial lines this often
RETRY_S = 0.5  # pause before an address or a line is tried again
PREPARE_S = 2.0  # keys and latch must be read within this (a dead disk must not keep the serial lanes shut)
FIRST_PUBLICATION_S = 0.1  # the latch waits for the first publication: it is a record, and its disk may be slow
LATCH_S = 2.0  # and the latch written within this, after sending
SERVER_POLL_S = 0.5  # how often the server is asked whether it answers
SERVER_DEADLINE_S = 0.4
SERVER_GRACE_S = 1.5  # a server that answers may report its serial lanes itself before we read their lines
SAY_S = 5.0  # lanes that are still missing are named this often
SELF = "paifang-evacuate"  # the name under which the server is polled; it is no lane

# open and not for somebody's turn, which ends by itself
HELD_STATES = frozenset({board4.State.OPEN_IDLE, board4.State.OPEN_FIRE, board4.State.OPEN_MANUAL})

Say = Callable[[str], None]

_ZH = {
    Barrier.CLOSED: "关闭",
    Barrier.OPENING: "正在打开",
    Barrier.OPEN: "已打开",
    Barrier.CLOSING: "正在关闭",
    Barrier.RELEASED: "已释放",
    Barrier.UNKNOWN: "未知",
}


class LaneOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One lane at the end. `after_s` is when it was first sensed open, seconds since the start."""

    lane: str
    name: str
    via: str  # link | serial | network | nothing to open
    barrier: str
    sensed_open: bool
    after_s: float | None
    detail: str  # the last trouble on the way to it


class EvacuationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was achieved. `problems` are troubles that are not one lane's."""

    incident: int
    drill: bool
    lanes: list[LaneOutcome]
    published: int
    server_answers: bool
    latch_written: bool
    problems: list[str]

    @property
    def complete(self) -> bool:
        """Every lane is sensed open."""
        return all(lane.sensed_open for lane in self.lanes)

    @property
    def exit_code(self) -> int:
        """0 only when every lane is sensed open."""
        return 0 if self.complete else 1


async def evacuate(
    sitefile: SiteFile,
    keys_dir: Path,
    data_dir: Path,
    *,
    timeout_s: float,
    drill: bool = False,
    say: Say = lambda line: None,
) -> EvacuationReport:
    """Release every lane and wait until all are sensed open, `timeout_s` at most.

    Raises nothing on account of keys, files, sockets or lanes: they stand in the report.  `say` gets lines of progress.
    """
    return await _Evacuation(sitefile, keys_dir, data_dir, drill, say).run(timeout_s)


class _Files(NamedTuple):
    """What the disk says."""

    latch: Latch
    signer: tuple[str, Ed25519PrivateKey] | None
    problems: list[str]


class _State:
    """What is known of one lane."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.barrier = Barrier.UNKNOWN.value
        self.sensed_open = False
        self.after_s: float | None = None
        self.detail = ""

    @property
    def via(self) -> str:
        if self.lane.board is not None:
            return "serial" if self.lane.board.path else "network"
        return "link" if self.lane.device is not None else "nothing to open"

    def outcome(self) -> LaneOutcome:
        return LaneOutcome(
            lane=self.lane.id,
            name=self.lane.name,
            via=self.via,
            barrier=self.barrier,
            sensed_open=self.sensed_open,
            after_s=self.after_s,
            detail=self.detail,
        )


class _Evacuation:
    def __init__(self, sitefile: SiteFile, keys_dir: Path, data_dir: Path, drill: bool, say: Say) -> None:
        self._site = sitefile
        self._keys_dir = keys_dir
        self._data_dir = data_dir
        self._wires = Wires(data_dir)
        self._drill = drill
        self._say = say
        self._lanes = {lane.device or lane.id: _State(lane) for lane in sitefile.lanes}
        self._incident = new_id()
        self._release: Release | None = None
        self._server: SafetyServer | None = None
        self._server_answers = False
        self._latch_written = False
        self._problems: dict[str, None] = {}
        self._all_open = trio.Event()
        self._server_known = trio.Event()
        self._recorded = trio.Event()  # the latch was written, or tried
        self._start = 0.0

    async def run(self, timeout_s: float) -> EvacuationReport:
        self._start = trio.current_time()
        word = "演练 drill" if self._drill else "疏散 evacuation"
        self._say(f"{word}: {len(self._lanes)} 条通道 lanes")
        paths = [lane.board.path for lane in self._site.lanes if lane.board is not None]
        async with trio.open_nursery() as nursery:
            for state in self._lanes.values():
                if state.lane.board is None and state.lane.device is None:  # no barrier: nobody is kept there
                    self._sensed(state, Barrier.OPEN.value, True)
                elif (board := state.lane.board) is not None:
                    alone = board.language == "board4" and board.path and paths.count(board.path) == 1
                    nursery.start_soon(self._serial_lane if alone else self._driven_lane, state, board)
            nursery.start_soon(self._link)
            nursery.start_soon(self._watch_server)
            nursery.start_soon(self._name_missing)
            with trio.move_on_after(timeout_s):
                await self._all_open.wait()
            with trio.move_on_after(PREPARE_S + LATCH_S):  # when the lanes were quicker than the disk
                await self._recorded.wait()
            nursery.cancel_scope.cancel()
        report = self._report()
        done = sum(lane.sensed_open for lane in report.lanes)
        self._say(f"{done}/{len(report.lanes)} 条通道已确认打开 lanes sensed open")
        return report

    def _report(self) -> EvacuationReport:
        return EvacuationReport(
            incident=self._incident,
            drill=self._drill,
            lanes=[state.outcome() for state in self._lanes.values()],
            published=self._server.statistics().published if self._server else 0,
            server_answers=self._server_answers,
            latch_written=self._latch_written,
            problems=list(self._problems),
        )

    # --- link lanes -----------------------------------------------------------------------------------------------

    async def _link(self) -> None:
        await self._prepare()
        async with trio.open_nursery() as nursery:
            if self._release is not None and self._open_sockets():
                assert self._server is not None
                nursery.start_soon(self._serve, self._server)
                nursery.start_soon(self._publish, self._server, self._release)
                await trio.sleep(FIRST_PUBLICATION_S)
            await self._write_latch()
            self._recorded.set()

    def _open_sockets(self) -> bool:
        link = self._site.link
        try:
            self._server = SafetyServer(
                link.evacuate_release,
                link.evacuate_safety,
                self._on_request,
                keys=("link.evacuate_release", "link.evacuate_safety"),
            )
        except DeviceError as exc:
            self._problem(str(exc))
            return False
        return True

    async def _prepare(self) -> None:
        """Read keys and latch, and sign the release; without a key there is none, and link lanes stay as they are."""
        try:
            with trio.fail_after(PREPARE_S):
                files = await trio.to_thread.run_sync(self._read_files, abandon_on_cancel=True)
        except trio.TooSlowError:
            self._problem(f"{self._keys_dir}: 无法签名 not readable within {PREPARE_S:g} s, so nothing can be signed")
            return
        for problem in files.problems:
            self._problem(problem)
        if files.latch.state == "released" and files.latch.incident is not None:
            self._incident = files.latch.incident  # it is going on already: the same incident, so that lanes know it
            self._drill = self._drill and files.latch.drill  # a drill may become real, never the other way round
        if files.signer is not None:
            key_id, key = files.signer
            self._release = sign_release(
                key, key_id, site=self._site.site.id, incident=self._incident, drill=self._drill
            )

    def _read_files(self) -> _Files:
        """In a thread, because the disk may be slow or dead."""
        problems: list[str] = []
        latch, signer = Latch(), None
        try:
            latch = read_latch(self._latch_path)
        except LatchError as exc:
            problems.append(str(exc))
        try:
            signer = load_release_signer(self._keys_dir)
        except (KeysError, OSError) as exc:
            problems.append(
                f"{exc} (无签名密钥：只能释放串口通道 without a release key only serial lanes can be opened)"
            )
        return _Files(latch, signer, problems)

    async def _serve(self, server: SafetyServer) -> None:
        while True:
            try:
                await server.run()
            except DeviceError as exc:  # perhaps another `paifang evacuate`, about to end
                self._problem(str(exc))
                await trio.sleep(RETRY_S)

    async def _publish(self, server: SafetyServer, release: Release) -> None:
        while True:
            sent = server.publish(release)
            await trio.sleep(PUBLISH_S if sent else 0.01)

    def _on_request(self, request: SafetyRequest) -> SafetyState:
        state = self._lanes.get(request.device)
        if state is not None and request.incident == self._incident:
            if isinstance(request, ReleaseAck):
                self._sensed(state, request.barrier, request.sensed_open)
            elif not state.sensed_open:
                state.barrier = request.barrier
        return SafetyState(release=self._release)

    # --- serial lanes ---------------------------------------------------------------------------------------------

    async def _serial_lane(self, state: _State, board: Board) -> None:
        path = str(self._data_dir / board.path)
        while True:
            try:
                with open_unlocked(path, board.rate) as line:
                    await self._hold_open(state, board, line)
            except* (DeviceError, ValueError) as group:  # ValueError: a rate that no line has, an address of no board
                self._trouble(state, "; ".join(str(each) for each in group.exceptions))
            await trio.sleep(RETRY_S)

    async def _hold_open(self, state: _State, board: Board, line: SerialLine) -> None:
        """Write the hold command again and again, and read what the board senses when the server cannot tell us."""
        frames = release_frames(board.address) + board4.query(board.address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_board, state, board, line)
            while True:
                await line.send_all(frames, drain=True)
                await trio.sleep(FRAME_S)

    async def _read_board(self, state: _State, board: Board, line: SerialLine) -> None:
        """Reading takes bytes away from a server that lives, so it is left alone for a while if it answers."""
        await self._server_known.wait()
        if self._server_answers:
            await trio.sleep(SERVER_GRACE_S)
            if state.sensed_open:
                return
        framer = board4.Board4Framer()
        while True:
            for frame in framer.feed(await line.receive_some()):
                try:
                    status = board4.decode_status(frame)
                except BoardError:
                    continue
                if status.address == board.address and status.state not in board4.ALARM_STATES:
                    barrier = _barrier(status.state)
                    self._sensed(state, barrier.value, barrier is Barrier.RELEASED)

    # --- boards of other languages, on shared lines and on the network ------------------------------------------------

    async def _driven_lane(self, state: _State, board: Board) -> None:
        """Release it with its own driver. On a line that a living server owns, only after that had its time."""
        if board.path:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_blindly, state, board)
                await self._server_known.wait()
                if self._server_answers:
                    await trio.sleep(SERVER_GRACE_S)
                nursery.cancel_scope.cancel()
        controllers = {controller.id: controller for controller in self._site.controllers}

        def hear(event: DeviceEvent) -> None:
            if isinstance(event, DeviceUp | BarrierChanged):
                self._sensed(state, event.barrier.value, event.barrier is Barrier.RELEASED)
            elif isinstance(event, DeviceDown):
                self._trouble(state, event.reason)

        while True:
            try:
                gate = self._wires.gate(board, controllers.get(board.controller or ""))
                gate.release()
                with beside_the_owner():
                    await gate.run(hear)
            except Exception as exc:  # whatever is wrong with one lane's driver, the others are released
                self._trouble(state, repr(exc))
            await trio.sleep(RETRY_S)

    async def _write_blindly(self, state: _State, board: Board) -> None:
        """The language's own release, again and again, before anybody listens to what the board says of it."""
        if board.language not in LANGUAGES:
            return
        path = str(self._data_dir / board.path)
        while True:
            try:
                frames = release_bytes(
                    board.language, board.address, model=board.model, escape=ESCAPES[board.escape],
                    entry_is=board.entry_is,
                )  # fmt: skip
                with open_unlocked(path, board.rate) as line:
                    while True:
                        await line.send_all(frames, drain=True)
                        await trio.sleep(FRAME_S)
            except (DeviceError, ValueError) as exc:
                self._trouble(state, str(exc))
            await trio.sleep(RETRY_S)

    def _trouble(self, state: _State, words: str) -> None:
        if words != state.detail:
            self._say(f"{state.lane.id} {state.lane.name}: {words}")
        state.detail = words

    # --- the server and the record ---------------------------------------------------------------------------------

    async def _watch_server(self) -> None:
        poll = SafetyPoll(device=SELF, released=False, incident=None, barrier=Barrier.UNKNOWN.value, at=time.time())
        first = True
        while True:
            answer = await ask_safety(self._site.link.safety, poll, SERVER_DEADLINE_S)
            answers = answer is not None
            if first or answers != self._server_answers:
                self._say("服务器有应答 the server answers" if answers else "服务器无应答 the server does not answer")
            first, self._server_answers = False, answers
            self._server_known.set()
            await trio.sleep(SERVER_POLL_S)

    @property
    def _latch_path(self) -> Path:
        return self._data_dir / "evacuation.latch"

    async def _write_latch(self) -> None:
        latch = Latch(state="released", incident=self._incident, drill=self._drill, by=_who(), at=time.time())
        try:
            with trio.fail_after(LATCH_S):
                await trio.to_thread.run_sync(write_latch, self._latch_path, latch, abandon_on_cancel=True)
            self._latch_written = True
        except trio.TooSlowError:
            self._problem(f"{self._latch_path}: not written within {LATCH_S:g} s; the server will not adopt it")
        except LatchError as exc:
            self._problem(f"{exc}; the server will not adopt it")

    # --- what everybody uses ---------------------------------------------------------------------------------------

    def _sensed(self, state: _State, barrier: str, is_open: bool) -> None:
        if is_open and not state.sensed_open:
            state.after_s = trio.current_time() - self._start
            words = f"{_ZH.get(Barrier(barrier), '')} {barrier}" if barrier in set(Barrier) else barrier
            self._say(f"{state.lane.id} {state.lane.name}: {words} ({state.after_s:.2f} s)")
        state.barrier, state.sensed_open = barrier, is_open
        if all(each.sensed_open for each in self._lanes.values()):
            self._all_open.set()

    async def _name_missing(self) -> None:
        while True:
            await trio.sleep(SAY_S)
            missing = [state.lane.id for state in self._lanes.values() if not state.sensed_open]
            if missing:
                self._say(f"未确认 not yet sensed open: {', '.join(missing)}")

    def _problem(self, text: str) -> None:
        if text not in self._problems:
            self._problems[text] = None
            self._say(text)


def _barrier(state: board4.State) -> Barrier:
    if state in HELD_STATES:
        return Barrier.RELEASED
    if state in board4.OPEN_STATES:
        return Barrier.OPEN
    if state in board4.OPENING_STATES:
        return Barrier.OPENING
    if state in board4.CLOSING_STATES:
        return Barrier.CLOSING
    if state in board4.CLOSED_STATES:
        return Barrier.CLOSED
    return Barrier.UNKNOWN


def _who() -> str:
    try:
        return f"command line: {getpass.getuser()}"
    except (KeyError, OSError):  # no such user in the system's list
        return f"command line: uid {os.getuid()}"
