"""For tests: a disk so small that it can really be filled, in a mount namespace of its own. Needs root.

    with small_disk(folder) as disk:
        fill(disk)                    # from here on a new byte is ENOSPC, for whoever writes there
        free(disk)

The mount is seen by nobody else and has no name in this process's tree: it is reached through the process that holds
the namespace, and it is gone when that one ends, however the test does.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_BYTES = 16 * 1024 * 1024
END_S = 10.0
BALLAST = ".ballast"
PIECES = (1024 * 1024, 4096, 1)  # bytes; the last ones fit exactly

_HOLD = 'mount -t tmpfs -o "size=$2,mode=700" tmpfs "$1" && echo mounted && exec cat'


@contextmanager
def small_disk(mount_point: Path, size_bytes: int = DISK_BYTES) -> Iterator[Path]:
    """A file system of its own of this size. Raises AssertionError that says why when the system refuses it."""
    assert os.geteuid() == 0, "mount namespaces are made by root only"
    mount_point.mkdir(exist_ok=True)
    words = ["unshare", "--mount", "--propagation", "private"]
    words += ["sh", "-c", _HOLD, "sh", str(mount_point), str(size_bytes)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None
        try:
            said = holder.stdout.readline()
            assert said == "mounted\n", f"no small disk could be mounted: {holder.stderr.read().strip() or said!r}"
            yield Path(f"/proc/{holder.pid}/root{mount_point}")
        finally:
            holder.stdin.close()  # it ends by itself then, as it does when this process is killed
            holder.wait(END_S)


def fill(disk: Path) -> None:
    """Until not one byte more can be written."""
    with (disk / BALLAST).open("ab", buffering=0) as ballast:
        for piece in PIECES:
            try:
                while ballast.write(bytes(piece)):
                    pass
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise


def free(disk: Path) -> None:
    """As before `fill`."""
    (disk / BALLAST).unlink()
