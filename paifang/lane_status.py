"""What a lane controller tells people who stand at it: a log line for each event, and a small file of its state."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import trio

from actors.edge import ModeChanged
from core import Address, Stop
from drivers.base import Feedback, Outcome
from protocols.console import DeviceView, FeedEvent, LaneView
from protocols.messages import Telemetry

STATUS_FILE = "status.json"
WRITE_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class LaneHub:
    """The actor that hears what a site server would show on its console. `facts` is asked for the rest of the file."""

    def __init__(
        self, *, lane: str, path: Path, facts: Callable[[], dict[str, Any]], signal: Callable[[Feedback], None]
    ) -> None:
        self._lane = lane
        self._path = path
        self._facts = facts
        self._signal = signal
        self._devices: dict[str, DeviceView] = {}
        self.view: LaneView | None = None

    @property
    def barrier(self) -> str:
        """As the board last said it."""
        return "unknown" if self.view is None else self.view.barrier

    @property
    def state(self) -> str:
        """Of the lane's machine."""
        return "starting" if self.view is None else self.view.state

    @property
    def counts(self) -> tuple[int, int]:
        """Entries and exits of today."""
        return (0, 0) if self.view is None else (self.view.entries, self.view.exits)

    async def run(self, me: Address) -> None:
        me.set_timer("tick", 0.0, _Tick())
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case LaneView() as view:
                    self.view = view
                case DeviceView() as view:
                    self._devices[view.device] = view
                case FeedEvent() as event:
                    log.info("lane.event", kind=event.kind, code=event.code, text=event.text_en)
                case ModeChanged(mode=mode):
                    self._show_mode(mode)
                case _Tick():
                    me.set_timer("tick", WRITE_EVERY_S, _Tick())
                    await self._write()
                case Stop():
                    await self._write(stopped=True)
                    return

    def _show_mode(self, mode: str) -> None:
        """On every display of the lane: who decides."""
        online = mode == "online"
        zh, en = ("联网验票", "Online") if online else ("离线验票", "Offline: the lane decides")
        self._signal(Feedback(outcome=Outcome.WAIT, text_zh=zh, text_en=en))

    async def _write(self, *, stopped: bool = False) -> None:
        view = self.view
        status = {
            "at": time.time(),
            "pid": None if stopped else os.getpid(),
            "lane": self._lane,
            "state": self.state,
            "barrier": self.barrier,
            "lane_mode": "" if view is None else view.mode,
            "entries_today": self.counts[0],
            "exits_today": self.counts[1],
            "devices": {name: each.availability for name, each in sorted(self._devices.items())},
            **self._facts(),
        }
        with contextlib.suppress(OSError):  # a full disk: people still have the log
            await trio.to_thread.run_sync(_replace, self._path, json.dumps(status, ensure_ascii=False, indent=1))


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, as long as there is room; on a full disk over what is there, which takes none."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except OSError:
        with path.open("r+") as file:
            file.write(text.ljust(path.stat().st_size))
            file.truncate()


def read_status(data: Path) -> dict[str, Any] | None:
    """What the lane wrote last, None when it never has. A file that cannot be read counts as none."""
    try:
        status = json.loads((data / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None
