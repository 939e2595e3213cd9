"""Processes that live in a folder: how a PostgreSQL is found again that somebody else left behind.

Every process of a cluster has the data folder as its working folder, whatever its command line says, and a working
folder cannot be confused by a reused process id.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

POLL_S = 0.05


def processes_in(folder: Path) -> list[int]:
    """Ids of the processes whose working folder this is (of those that we may look at), lowest first."""
    try:
        wanted = folder.stat()
    except FileNotFoundError:
        return []
    names = os.listdir("/proc")  # noqa: PTH208 - a path object per process is ten times as slow
    return sorted(int(name) for name in names if name.isdigit() and _lives_in(int(name), wanted))


def _lives_in(pid: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/cwd"), wanted)  # noqa: PTH116 - a magic link, not a path
    except OSError:
        return False  # gone, a zombie, or somebody else's


def send(pid: int, folder: Path, number: signal.Signals) -> None:
    """Signal the process if it still lives in the folder; a reused id is never hit, because we hold the process."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _lives_in(pid, folder.stat()):
            signal.pidfd_send_signal(handle, number)
    except OSError:
        return
    finally:
        os.close(handle)
