"""The hook that speaks to the crowd: a program of the site's own, started after a release and never waited for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

import structlog
import trio

from actors._common import offer
from actors.evacuation import Announce
from core import Address, Stop
from protocols.console import FeedEvent

AT_ONCE_MAX = 4  # programs that run at the same time; an evacuation has few events
OUTPUT_MAX = 2000  # characters of what a program said that are logged

log = structlog.get_logger(__name__)


class Announcer:
    """The actor. `command` is started for each event, with what happened in its environment; empty: nobody is told.

    A program that fails or hangs is said on the console, ended after `timeout_s`, and costs nothing else.
    """

    def __init__(self, command: Sequence[str], timeout_s: float, hub: Address) -> None:
        self._command = list(command)
        self._timeout_s = timeout_s
        self._hub = hub

    async def run(self, me: Address) -> None:
        running = trio.Semaphore(AT_ONCE_MAX)
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Announce() as event if self._command:
                        try:
                            running.acquire_nowait()
                        except trio.WouldBlock:
                            self._failed(event, f"{AT_ONCE_MAX} announcements are still running")
                            continue
                        nursery.start_soon(self._announce, event, running)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _announce(self, event: Announce, running: trio.Semaphore) -> None:
        try:
            with trio.move_on_after(self._timeout_s) as patience:
                done = await trio.run_process(
                    self._command,
                    env=os.environ | environment(event),
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                    stdin=b"",
                    check=False,
                )
                said = done.stdout.decode(errors="replace")[:OUTPUT_MAX]
                log.info("evacuation.announced", what=event.what, exit=done.returncode, said=said)
                if done.returncode != 0:
                    self._failed(event, f"exit code {done.returncode}")
            if patience.cancelled_caught:
                self._failed(event, f"not finished within {self._timeout_s:g} s")
        except (OSError, ValueError) as exc:  # ValueError: an argument that no program can be given
            self._failed(event, str(exc))
        finally:
            running.release()

    def _failed(self, event: Announce, why: str) -> None:
        log.error("evacuation.announcement_failed", what=event.what, why=why)
        feed = FeedEvent(
            at=event.at,
            kind="evacuation",
            severity="alarm",
            code="announcement_failed",
            text_zh=f"广播联动失败：{why}，请人工广播",
            text_en=f"The announcement failed ({why}); announce by hand",
        )
        offer(self._hub, feed)


def environment(event: Announce) -> dict[str, str]:
    """What the program is told."""
    return {
        "PAIFANG_EVENT": event.what,
        "PAIFANG_INCIDENT": str(event.incident),
        "PAIFANG_DRILL": "1" if event.drill else "0",
        "PAIFANG_SCOPE": event.scope,
        "PAIFANG_BY": event.by.replace("\0", ""),
        "PAIFANG_AT": f"{event.at:.3f}",
    }
