"""The lane controller's end of the work link: greet, beat, fetch commands, and tell everybody who answers."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import trio

from actors._common import offer
from actors.edge._parts import Ask, Disk, LinkUp, ModeChanged
from actors.edge.evacuation import ServerRearm
from actors.edge.lists import Hint
from actors.lane import OpenLane, PauseLane, SetLaneMode
from core import Address, Stop
from drivers.errors import DeviceError
from protocols import devicelink as link
from protocols.messages import LaneMode, Telemetry
from protocols.uploads import RecAlarm
from storage.interfaces import LedgerUnavailable

FIRMWARE = "paifang-lane"
HELLO_S = 3.0
BEAT_S = 1.0  # how often the server is asked whether it is there
FETCH_S = 3.0  # commands are fetched at least this often
ASK_S = 2.0
COMMANDS_MAX = 256  # executed commands that are remembered, so that none is executed twice
TROUBLE_CHARACTERS_MAX = 200
TROUBLE_EVERY_S = 600.0
PROBE_S = 30.0  # a write to see whether the disk takes it
PROBE_AGAIN_S = 2.0  # while it does not
DONE_MAX = 64  # commands acknowledged at once
REASON = "control room"

log = structlog.get_logger(__name__)


class Woken(Telemetry, frozen=True, kw_only=True):
    """The server's wake-up: a hint, and nothing that is relied on."""


class Connected(Telemetry, frozen=True, kw_only=True):
    """The connection came or went."""

    up: bool


class DiskTrouble(Telemetry, frozen=True, kw_only=True):
    """The lane's disk does not take what is written; `trouble` empty: it does again. Told past that very disk."""

    trouble: str


class EdgeLink:
    """The actor. `told` hear `LinkUp`; `restart` ends the process in order, for its supervisor to start it again."""

    def __init__(
        self,
        *,
        lane: str,
        ask: Ask,
        header: Callable[[], Any],
        barrier: Callable[[], str],
        released: Callable[[], int | None],
        counts: Callable[[], tuple[int, int]],
        disk: Disk,
        lane_address: Address,
        evacuation: Address,
        lists: Address,
        told: Sequence[Address],
        restart: Callable[[], None],
        beat_limit_s: float,
    ) -> None:
        self._lane_name = lane
        self._ask = ask
        self._header = header
        self._barrier = barrier
        self._released = released
        self._counts = counts
        self._disk = disk
        self._lane = lane_address
        self._evacuation = evacuation
        self._lists = lists
        self._told = told
        self._restart = restart
        self._beat_limit_s = beat_limit_s
        self._up = False
        self._greeted = False
        self._woken = trio.Event()
        self._reconnected = trio.Event()
        self._done: list[int] = []
        self._trouble = ""  # of the disk, and whether the server has been told
        self._trouble_told = True
        self._trouble_said_at = float("-inf")
        self._executed: collections.OrderedDict[int, None] = collections.OrderedDict()
        self.last_answer_at: float | None = None
        self.server_mode = ""

    @property
    def up(self) -> bool:
        """Whether the server has answered lately."""
        return self._up

    async def run(self, me: Address) -> None:
        self._greeted = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            nursery.start_soon(self._fetch)
            nursery.start_soon(self._probe)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Connected(up=up):
                        self._greeted = False
                        if up:
                            self._reconnected.set()
                        else:
                            self._say(up=False)
                    case Woken():
                        self._woken.set()
                        offer(self._lists, Hint())
                    case DiskTrouble(trouble=trouble):
                        self._trouble_told = self._trouble_told and bool(self._trouble) == bool(trouble)
                        self._trouble = trouble
                    case ModeChanged(mode=mode, why=why) if why:  # that it is over, the server sees by itself
                        nursery.start_soon(self._note, mode, why)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _keep(self) -> None:
        """Hello after each connect, then a beat each second; whoever does not answer is not there."""
        while True:
            if not self._greeted:
                answered = await self._hello()
            else:
                request = link.Heartbeat(**self._header(), barrier=self._barrier(), queue_depth=self._disk.book.waiting)
                answered = await self._asked(request, self._beat_limit_s) is not None
            self._say(up=answered and self._greeted)
            if answered and self._greeted and not self._trouble_told:
                await self._tell_trouble()
            if answered and not self._greeted:
                continue
            with trio.move_on_after(BEAT_S):
                await self._reconnected.wait()
                self._reconnected = trio.Event()

    async def _hello(self) -> bool:
        try:
            owed = await self._disk.do(lambda book: book.owed(), reads=True)
        except LedgerUnavailable:
            owed = []
        entries, exits = self._counts()
        incident = self._released()
        request = link.Hello(
            **self._header(),
            firmware=FIRMWARE,
            barrier=self._barrier(),
            released=incident is not None,
            incident=incident,
            open_grants=owed[-256:],
            entries=entries,
            exits=exits,
        )
        reply = await self._asked(request, HELLO_S)
        if not isinstance(reply, link.Welcome):
            return False
        self._greeted = True
        self._set_mode(reply.mode)
        return True

    async def _probe(self) -> None:
        """Nobody passes at night, and a disk that fails should be known before the first visitor comes."""
        while True:
            with contextlib.suppress(LedgerUnavailable):
                await self._disk.do(lambda book: book.probe(time.time()))
            await trio.sleep(PROBE_AGAIN_S if self._disk.trouble else PROBE_S)

    async def _tell_trouble(self) -> None:
        """People hear of a disk that is full or read-only, which cannot hold a record of it."""
        trouble, now = self._trouble, trio.current_time()
        if trouble:
            if now - self._trouble_said_at < TROUBLE_EVERY_S:  # a disk on which a little fits now and then
                return
            detail = "".join(letter if letter.isprintable() else " " for letter in trouble)[:TROUBLE_CHARACTERS_MAX]
            alarm = link.Alarm(**self._header(), kind="disk", detail=detail)
            if not isinstance(await self._asked(alarm, ASK_S), link.Ack):
                return
            self._trouble_said_at = now
        self._trouble_told = self._trouble == trouble

    async def _asked(self, request: link.WorkRequest, limit_s: float) -> link.WorkReply | None:
        try:
            reply: link.WorkReply = await self._ask(request, limit_s)
        except DeviceError:
            return None
        self.last_answer_at = time.time()
        return None if isinstance(reply, link.Refused) else reply

    def _say(self, *, up: bool) -> None:
        if up != self._up:
            log.info("lane.link", up=up)
        self._up = up
        for address in self._told:  # again and again: somebody may have been restarted
            offer(address, LinkUp(up=up))

    # --- commands -----------------------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        while True:
            with trio.move_on_after(FETCH_S):
                await self._woken.wait()
            self._woken = trio.Event()
            if not self._greeted:
                continue
            done = self._done[: DONE_MAX]
            reply = await self._asked(link.Fetch(**self._header(), done=done, barrier=self._barrier()), ASK_S)
            if not isinstance(reply, link.Commands):
                continue
            self._done = self._done[len(done) :]
            for command in reply.commands:
                if command.id not in self._executed:
                    self._executed[command.id] = None
                    while len(self._executed) > COMMANDS_MAX:
                        self._executed.popitem(last=False)
                    self._carry_out(command)
                self._done.append(command.id)
            if reply.commands:
                self._woken.set()  # say at once that they are done

    def _carry_out(self, command: link.Command) -> None:
        """Within its time or not at all."""
        until = trio.current_time() + command.ttl_s
        log.info("lane.command", name=command.name, id=command.id)
        match command.name:
            case "open" if command.pax > 0:
                offer(self._lane, OpenLane(pax=command.pax, reason=REASON, by="server"), deadline=until)
            case "mode":
                self._set_mode(command.mode)
            case "pause":
                offer(self._lane, PauseLane(reason=REASON, by="server"), deadline=until)
            case "rearm":
                offer(self._evacuation, ServerRearm(incident=command.incident), deadline=until)
            case "restart":
                self._restart()
            case _:
                log.warning("lane.unknown_command", name=command.name)

    def _set_mode(self, mode: str) -> None:
        if mode in frozenset(LaneMode) and mode != self.server_mode:
            self.server_mode = mode
            offer(self._lane, SetLaneMode(mode=LaneMode(mode), reason=REASON, by="server"))

    async def _note(self, mode: str, why: str) -> None:
        """The server reads in the journal when the lane decided alone, and why."""
        try:
            await self._disk.do(
                lambda book: book.note(RecAlarm(kind=mode, detail=why, severity="info"), time.time())
            )
        except LedgerUnavailable as exc:
            log.warning("lane.not_written", error=str(exc)[:200])


