"""For tests: a real filesystem of a few megabytes for one process, which can be filled and made read-only. Needs root.

    with SmallDisk(folder, megabytes=4) as disk:
        disk.fill()
        disk.empty()

It is a tmpfs in a mount namespace of its own, held by a process that ends with the test; nobody else sees it mounted.
`disk.path` leads there from anywhere.  As a program it runs `paifang` in that namespace:
`python -m paifang.smalldisk_testing run PID lane run lane.toml …`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import selectors
import subprocess
import sys
from pathlib import Path
from types import TracebackType

CLONE_NEWNS = 0x00020000  # unshare(2), setns(2)
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 1 << 14, 1 << 18  # mount(2)
ANSWER_S = 20.0
BALLAST = "ballast"
CHUNK_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class SmallDisk:
    """Raises AssertionError with the reason where namespaces or mounting are refused."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            [sys.executable, "-m", "paifang.smalldisk_testing", "hold", str(folder), str(megabytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._expect()
        self.path = Path(f"/proc/{self._holder.pid}/root") / folder.relative_to("/")
        self.program = ["-m", "paifang.smalldisk_testing", "run", str(self._holder.pid)]

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holder.stdin and self._holder.stdout and self._holder.stderr
        self._holder.stdin.close()  # it ends by itself, and the filesystem with it
        self._holder.wait(ANSWER_S)
        self._holder.stdout.close()
        self._holder.stderr.close()

    def fill(self) -> None:
        """Until nothing more fits."""
        with (self.path / BALLAST).open("ab", buffering=0) as file:
            size = CHUNK_BYTES
            while size:
                try:
                    file.write(bytes(size))
                except OSError as exc:
                    assert exc.errno == errno.ENOSPC, exc
                    size //= 2

    def empty(self) -> None:
        """Room again."""
        (self.path / BALLAST).unlink()

    def read_only(self, on: bool) -> None:
        """Nobody may have a file open for writing: the kernel refuses it then (EBUSY)."""
        assert self._holder.stdin
        self._holder.stdin.write("ro\n" if on else "rw\n")
        self._expect()

    def _expect(self) -> None:
        assert self._holder.stdout and self._holder.stderr
        with selectors.DefaultSelector() as selector:
            selector.register(self._holder.stdout, selectors.EVENT_READ)
            assert selector.select(ANSWER_S), "the holder of the small disk does not answer"
        answer = self._holder.stdout.readline()
        if answer != "ok\n":
            raise AssertionError(f"a small disk cannot be had: {answer.strip() or self._holder.stderr.read().strip()}")


def _mount(target: str, flags: int, options: str, source: str = "tmpfs", kind: str = "tmpfs") -> str:
    """Empty when it was done; otherwise why not."""
    words = [word.encode() for word in (source, target, kind)]
    if _libc.mount(*words, flags, options.encode() or None) == 0:
        return ""
    return f"mount {target} {options}: {os.strerror(ctypes.get_errno())}"


def _hold(folder: str, megabytes: str) -> None:
    """Make it, say `ok`, then carry out `ro` and `rw` until standard input ends."""
    if _libc.unshare(CLONE_NEWNS):
        print(f"unshare: {os.strerror(ctypes.get_errno())}", flush=True)
        return
    trouble = _mount("/", MS_REC | MS_PRIVATE, "") or _mount(folder, 0, f"size={megabytes}m,mode=700")
    print(trouble or "ok", flush=True)
    for line in sys.stdin if not trouble else ():
        print(_mount(folder, MS_REMOUNT | (MS_RDONLY if line == "ro\n" else 0), "") or "ok", flush=True)


def _enter(pid: str) -> None:
    folder = Path.cwd()
    with Path(f"/proc/{pid}/ns/mnt").open("rb") as handle:
        if _libc.setns(handle.fileno(), CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "setns")
    os.chdir(folder)


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        _hold(*sys.argv[2:4])
    else:
        _enter(sys.argv[2])
        del sys.argv[1:3]
        from paifang.cli import main

        main()
