"""For tests: a real pcscd with vsmartcard's virtual reader, started, killed and started again.

pcscd's socket has a fixed place (/run/pcscd), so that there is one on a machine.  Whoever wants it waits for a lock
file; test runs beside each other take turns.  vpcd's ports are free ones, by a configuration of our own.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from core.ports import free_port

PCSCD = "/usr/sbin/pcscd"
DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
SOCKET = Path("/run/pcscd/pcscd.comm")
LOCK = Path(tempfile.gettempdir()) / "paifang-pcscd.lock"
LOCK_S = 400.0  # other runs may be at it
LOCK_POLL_S = 0.2
START_S = 20.0
END_S = 10.0
READER = "Paifang Virtual"  # vpcd adds two numbers


class PcscService:
    """One pcscd. `port` is where the virtual reader's field listens; see `sim.pcsc.CardField`."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_pair()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        device = f"/dev/null:0x{self.port:X}"
        lines = (f'FRIENDLYNAME "{READER}"', f"DEVICENAME {device}", f"LIBPATH {DRIVER}", "CHANNELID 0x1")
        (folder / "reader.conf.d").mkdir()
        (folder / "reader.conf.d" / "vpcd").write_text("\n".join(lines) + "\n")

    async def start(self, *, reader: bool = True) -> None:
        """Start, and wait until it listens on both sides. Raises AssertionError with its last words.

        Without `reader` it knows none, as when a reader is not plugged in.
        """
        folder = self._folder / ("reader.conf.d" if reader else "none")
        folder.mkdir(exist_ok=True)
        # should this process be killed, pcscd goes too, and is not in the way of the next run
        leave = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        log = self._folder / "pcscd.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220  it is to be stopped and killed by hand
                [*leave, PCSCD, "--foreground", "--info", "--config", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        with trio.move_on_after(START_S):
            while self._process.poll() is None:
                with suppress(OSError):
                    with socket.socket(socket.AF_UNIX) as client:
                        client.connect(str(SOCKET))
                    if not reader or _listening(self.port):
                        return
                await trio.sleep(0.02)
        words = log.read_text(errors="replace")[-2000:]
        await self.kill()
        raise AssertionError(f"pcscd does not start:\n{words}")

    async def kill(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        with trio.move_on_after(END_S, shield=True):
            while process.poll() is None:  # noqa: ASYNC110  a child says nothing when it ends
                await trio.sleep(0.01)
        if process.poll() is None:
            process.kill()
        process.wait()

    def hang(self) -> None:
        """Stop it without ending it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def pcsc_service() -> AsyncIterator[PcscService]:
    """A running pcscd with one virtual reader. Raises AssertionError with the cure where there cannot be one."""
    for needed, package in ((Path(PCSCD), "pcscd"), (DRIVER, "vsmartcard-vpcd")):
        assert needed.exists(), f"{needed} is missing: apt-get install --no-install-recommends {package}"
    with tempfile.TemporaryDirectory(prefix="paifang-pcsc-") as folder, LOCK.open("a") as lock:
        with trio.fail_after(LOCK_S):
            while not _taken(lock.fileno()):  # noqa: ASYNC110  nor does a lock
                await trio.sleep(LOCK_POLL_S)
        assert not _connectable(SOCKET), f"another pcscd listens on {SOCKET}: stop it for these tests"
        service = PcscService(Path(folder))
        await service.start()
        try:
            yield service
        finally:
            await service.kill()


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _connectable(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _listening(port: int) -> bool:
    """Whether somebody listens, without connecting: a connection would be a card."""
    wanted = f":{port:04X} "
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for row in Path(table).read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == "0A" and f"{fields[1]} ".endswith(wanted):
                    return True
    return False


def _free_pair() -> int:
    """A port that is free together with the next one: vpcd opens one for each slot."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            port = free_port()
            with suppress(OSError, OverflowError):
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
                return port
    raise AssertionError("no two free ports in a row")

