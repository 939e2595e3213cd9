"""For tests of power supplies: Debian's real `upsd` with NUT's own dummy driver, on a free port of loopback."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from core.ports import free_port
from drivers.errors import DeviceUnavailable
from drivers.ups import read_power
from protocols.nut import PowerSource, PowerState

DRIVER = Path("/lib/nut/dummy-ups")
UPSD = Path("/lib/nut/upsd")  # /sbin/upsd is a wrapper that looks at /etc


def _values(status: str, charge: int, runtime_s: int) -> str:
    return f"ups.status: {status}\nbattery.charge: {charge}\nbattery.runtime: {runtime_s}\n"


def missing() -> str:
    """What has to be installed; empty if nothing."""
    return "" if DRIVER.exists() and UPSD.exists() else "Debian's nut-server is missing: python -m tools.debian"


class Upsd:
    """A dummy supply behind a real upsd; `say` changes what the supply says."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._device = folder / "ups.dev"
        self.environment = {
            **os.environ,
            "NUT_CONFPATH": str(folder),
            "NUT_STATEPATH": str(folder),
            "NUT_ALTPIDPATH": str(folder),
        }
        folder.chmod(0o750)
        (folder / "ups.conf").write_text(f"[ups]\n driver = dummy-ups\n port = {self._device}\n mode = dummy-loop\n")
        (folder / "upsd.conf").write_text(f"LISTEN 127.0.0.1 {self.port}\nSTATEPATH {folder}\n")
        (folder / "upsd.users").write_text("")
        (folder / "nut.conf").write_text("MODE=standalone\n")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.say("OL", 100, 7200)

    def say(self, status: str, charge: int, runtime_s: int) -> None:
        self._device.write_text(_values(status, charge, runtime_s) + "TIMER 1\n")

    def start(self) -> None:
        for command in ([str(DRIVER), "-F", "-a", "ups", "-u", "root"], [str(UPSD), "-F", "-u", "root"]):
            self.processes.append(
                subprocess.Popen(
                    command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    async def until(self, source: PowerSource, within_s: float = 30.0) -> PowerState:
        with trio.fail_after(within_s):
            while True:
                try:
                    state = await read_power("ups", port=self.port)
                    if state.source is source:
                        return state
                except DeviceUnavailable:
                    pass
                await trio.sleep(0.1)


@asynccontextmanager
async def upsd(folder: Path) -> AsyncIterator[Upsd]:
    assert not missing(), missing()
    supply = Upsd(folder)
    supply.start()
    try:
        yield supply
    finally:
        supply.stop()
