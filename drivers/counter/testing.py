"""For tests: a real mosquitto broker as a process of its own, which can be stopped, killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from core.ports import free_port

START_S = 20.0
STOP_S = 20.0
LIFE_S = 300  # a broker whose test run was killed ends by itself
TRIES = 5  # a free port may be taken by somebody else before the broker has it
LOOK_S = 0.02
PROGRAM = "/usr/sbin/mosquitto"


class Broker:
    """A mosquitto on a loopback port; what it keeps for its clients outlives `stop` and `start`. Made by `broker`."""

    def __init__(self, folder: Path, password: str) -> None:
        assert shutil.which(PROGRAM), "mosquitto is missing: tools/debian.py installs it"
        self.port = 0
        self._folder = folder
        self._password = password
        self._process: trio.Process | None = None

    async def start(self) -> None:
        """Start, on the same port as before. Raises AssertionError when it does not listen."""
        for _ in range(TRIES):
            if self.port == 0:
                self.port = free_port()
            self._configure()
            self._process = await trio.lowlevel.open_process(
                ["timeout", str(LIFE_S), PROGRAM, "-c", str(self._folder / "mosquitto.conf")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a group of its own: signals reach the broker, not only who watches its time
            )
            if await self._listens():
                return
            await self.kill()
            self.port = 0
        raise AssertionError("mosquitto does not start")

    async def stop(self) -> None:
        """Ask it to end: it saves what it keeps."""
        assert self._process is not None
        self._signal(signal.SIGTERM)
        with trio.move_on_after(STOP_S):
            await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    def freeze(self, frozen: bool) -> None:
        """A broker that hangs: its connections stand, and nothing moves."""
        self._signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(self._process.pid, number)

    def _configure(self) -> None:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self._folder}/",
            "autosave_interval 1",
            "user root",
            f"allow_anonymous {'false' if self._password else 'true'}",
        ]
        if self._password:
            passwords = self._folder / "passwords"
            passwords.write_text(f"gate:{self._password}\n")
            passwords.chmod(0o600)
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, timeout=START_S)
            lines.append(f"password_file {passwords}")
        (self._folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    async def _listens(self) -> bool:
        with trio.move_on_after(START_S):
            while self._process is not None and self._process.poll() is None:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", self.port)).aclose()
                except OSError:
                    await trio.sleep(LOOK_S)
                else:
                    return True
        return False


@asynccontextmanager
async def broker(folder: Path, *, password: str = "") -> AsyncIterator[Broker]:
    """A broker that runs; with `password`, only user `gate` with it may connect."""
    made = Broker(folder, password)
    try:
        await made.start()
        yield made
    finally:
        with trio.CancelScope(shield=True):
            await made.kill()
