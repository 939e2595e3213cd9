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

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.evacuation.latch import Latch, LatchError, read_latch, write_latch
from actors.evacuation.scope import lanes_of
from drivers.base import Barrier
from drivers.errors import DeviceError
from drivers.nng import SafetyServer, ask_safety
from paifang._evacuate_boards import RETRY_S, BoardLanes
from paifang._evacuate_report import BLIND, NOT_OPEN, EvacuationReport, LaneState
from paifang._wire_evacuation import places
from paifang._wire_pki import dialled, own_tls, safety_context
from paifang.keys import KeysError, load_release_signer
from paifang.site import SiteFile
from protocols.devicelink import Release, ReleaseAck, SafetyPoll, SafetyRequest, SafetyState, sign_release
from protocols.messages import new_id

PUBLISH_S = 0.5  # the release is published again this often
PREPARE_S = 2.0  # keys and latch must be read within this (a dead disk must not keep the serial lanes shut)
FIRST_PUBLICATION_S = 0.1  # the latch waits for the first publication: it is a record, and its disk may be slow
LATCH_S = 2.0  # and the latch written within this, after sending
SERVER_POLL_S = 0.5  # how often the server is asked whether it answers
SERVER_DEADLINE_S = 0.4
BLIND_COMMANDS = 5  # releases that a board must be sent before one that cannot say anything is left
SAY_S = 5.0  # lanes that are still missing are named this often
SELF = "paifang-evacuate"  # the name under which the server is polled; it is no lane

Say = Callable[[str], None]

_ZH = {
    Barrier.CLOSED: "关闭",
    Barrier.OPENING: "正在打开",
    Barrier.OPEN: "已打开",
    Barrier.CLOSING: "正在关闭",
    Barrier.RELEASED: "已释放",
    Barrier.UNKNOWN: "未知",
}


async def evacuate(
    sitefile: SiteFile,
    keys_dir: Path,
    data_dir: Path,
    *,
    timeout_s: float,
    drill: bool = False,
    scope: str = "",
    say: Say = lambda line: None,
) -> EvacuationReport:
    """Release every lane and wait until all are sensed open, `timeout_s` at most.

    `scope` is that of `actors.evacuation.scope`: empty for the whole site.

    Raises nothing on account of keys, files, sockets or lanes: they stand in the report.  `say` gets lines of progress.
    """
    return await _Evacuation(sitefile, keys_dir, data_dir, drill, scope, say).run(timeout_s)


class _Files(NamedTuple):
    """What the disk says."""

    latch: Latch
    signer: tuple[str, Ed25519PrivateKey] | None
    problems: list[str]


class _Evacuation:
    def __init__(self, sitefile: SiteFile, keys_dir: Path, data_dir: Path, drill: bool, scope: str, say: Say) -> None:
        self._site = sitefile
        self._keys_dir = keys_dir
        self._data_dir = data_dir
        self._boards = BoardLanes(sitefile, data_dir, self)
        self._drill = drill
        self._say = say
        everything = places(sitefile)
        meant = lanes_of(scope, everything)
        self._scope = "" if len(meant) == len(everything) else scope
        if scope and not self._scope:
            say(f"{scope}: 范围即全部通道 means the whole site")
        self._lanes = {lane.device or lane.id: LaneState(lane) for lane in sitefile.lanes if lane.id in meant}
        self._incident = new_id()
        self._releases: dict[str, Release] = {}  # device -> its release
        self._whole: Release | None = None  # for whoever asks, when everything opens
        self._server: SafetyServer | None = None
        self.server_answers = False
        self._latch_lanes: list[str] = []  # that the latch names; none: all of the site
        self._latch_written = False
        self._problems: dict[str, None] = {}
        self._all_open = trio.Event()
        self.server_known = trio.Event()
        self._recorded = trio.Event()  # the latch was written, or tried
        self._start = 0.0

    async def run(self, timeout_s: float) -> EvacuationReport:
        self._start = trio.current_time()
        word = "演练 drill" if self._drill else "疏散 evacuation"
        self._say(f"{word}: {len(self._lanes)} 条通道 lanes")
        async with trio.open_nursery() as nursery:
            for state in self._lanes.values():
                if state.lane.board is None and state.lane.device is None:  # no barrier: nobody is kept there
                    self.sensed(state, Barrier.OPEN.value, True)
                elif (board := state.lane.board) is not None:
                    nursery.start_soon(self._boards.hold_open, state, board)
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
        if blind := ", ".join(f"{lane.lane} {lane.name}" for lane in report.lanes if lane.state == BLIND):
            self._say(f"已下达指令但无法反馈，请到现场查看 commanded, cannot sense, go and look: {blind}")
        return report

    def _report(self) -> EvacuationReport:
        return EvacuationReport(
            incident=self._incident,
            drill=self._drill,
            lanes=[state.outcome() for state in self._lanes.values()],
            published=self._server.statistics().published if self._server else 0,
            server_answers=self.server_answers,
            latch_written=self._latch_written,
            problems=list(self._problems),
            scope=self._scope or "site",
        )

    # --- link lanes -----------------------------------------------------------------------------------------------

    async def _link(self) -> None:
        await self._prepare()
        async with trio.open_nursery() as nursery:
            if self._releases and self._open_sockets():
                assert self._server is not None
                nursery.start_soon(self._serve, self._server)
                nursery.start_soon(self._publish, self._server, list(dict.fromkeys(self._releases.values())))
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
                tls=safety_context(self._site, self._data_dir),
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
            before = files.latch.lanes
            self._latch_lanes = sorted({*before, *self._names()}) if before and self._scope else []
        elif self._scope:
            self._latch_lanes = self._names()
        if files.signer is not None:
            key_id, key = files.signer
            self._whole = whole = None if self._scope else self._signed(key, key_id, "site")
            self._releases = {
                device: whole or self._signed(key, key_id, state.lane.id) for device, state in self._lanes.items()
            }

    def _names(self) -> list[str]:
        return sorted(state.lane.id for state in self._lanes.values())

    def _signed(self, key: Ed25519PrivateKey, key_id: str, scope: str) -> Release:
        site = self._site.site.id
        return sign_release(key, key_id, site=site, incident=self._incident, scope=scope, drill=self._drill)

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

    async def _publish(self, server: SafetyServer, releases: list[Release]) -> None:
        while True:
            sent = [server.publish(release) for release in releases].count(False) == 0
            if sent:
                for state in self._lanes.values():
                    state.commands += state.via == "link"
            await trio.sleep(PUBLISH_S if sent else 0.01)

    def _on_request(self, request: SafetyRequest) -> SafetyState:
        state = self._lanes.get(request.device)
        if state is not None and request.incident == self._incident:
            if isinstance(request, ReleaseAck):
                self.sensed(state, request.barrier, request.sensed_open)
            elif not state.sensed_open:
                state.barrier = request.barrier
        return SafetyState(release=self._releases.get(request.device, self._whole))

    # --- the server and the record ---------------------------------------------------------------------------------

    async def _watch_server(self) -> None:
        poll = SafetyPoll(device=SELF, released=False, incident=None, barrier=Barrier.UNKNOWN.value, at=time.time())
        first = True
        while True:
            try:
                tls = own_tls(self._site, self._data_dir)
                url = dialled(self._site.link.safety)
                answers = await ask_safety(url, poll, SERVER_DEADLINE_S, tls=tls) is not None
            except DeviceError:  # no certificates: said already
                answers = False
            if first or answers != self.server_answers:
                self._say("服务器有应答 the server answers" if answers else "服务器无应答 the server does not answer")
            first, self.server_answers = False, answers
            self.server_known.set()
            await trio.sleep(SERVER_POLL_S)

    @property
    def _latch_path(self) -> Path:
        return self._data_dir / "evacuation.latch"

    async def _write_latch(self) -> None:
        latch = Latch(
            state="released",
            incident=self._incident,
            drill=self._drill,
            by=_who(),
            at=time.time(),
            lanes=self._latch_lanes,
        )
        try:
            with trio.fail_after(LATCH_S):
                await trio.to_thread.run_sync(write_latch, self._latch_path, latch, abandon_on_cancel=True)
            self._latch_written = True
        except trio.TooSlowError:
            self._problem(f"{self._latch_path}: not written within {LATCH_S:g} s; the server will not adopt it")
        except LatchError as exc:
            self._problem(f"{exc}; the server will not adopt it")

    # --- what everybody uses ---------------------------------------------------------------------------------------

    def sensed(self, state: LaneState, barrier: str, is_open: bool) -> None:
        """What a lane's own sensors say."""
        if is_open and not state.sensed_open:
            state.after_s = trio.current_time() - self._start
            words = f"{_ZH.get(Barrier(barrier), '')} {barrier}" if barrier in set(Barrier) else barrier
            self._say(f"{state.lane.id} {state.lane.name}: {words} ({state.after_s:.2f} s)")
        state.barrier, state.sensed_open = barrier, is_open
        self._look()

    def commanded(self, state: LaneState) -> None:
        """The release was written to a board's line, or a board answers that is told it."""
        state.commands += 1
        if state.blind:
            self._look()

    def trouble(self, state: LaneState, words: str) -> None:
        """The last one on the way to a lane is part of the report."""
        if words != state.detail:
            self._say(f"{state.lane.id} {state.lane.name}: {words}")
        state.detail = words

    def _look(self) -> None:
        """Nothing is waited for when all that can be known is known."""
        if all(
            each.sensed_open or (each.blind and each.commands >= BLIND_COMMANDS) for each in self._lanes.values()
        ):
            self._all_open.set()

    async def _name_missing(self) -> None:
        while True:
            await trio.sleep(SAY_S)
            missing = [state.lane.id for state in self._lanes.values() if state.state == NOT_OPEN]
            if missing:
                self._say(f"未确认 not yet sensed open: {', '.join(missing)}")

    def _problem(self, text: str) -> None:
        if text not in self._problems:
            self._problems[text] = None
            self._say(text)


def _who() -> str:
    try:
        return f"command line: {getpass.getuser()}"
    except (KeyError, OSError):  # no such user in the system's list
        return f"command line: uid {os.getuid()}"
