#!/usr/bin/env python3
"""Install the Debian packages that the tests need (tools/debian.txt), each announced with its reason.

Where packages cannot be installed, it says which ones and how, and ends well all the same: the tests that need them
then fail with that reason, which is the truth, rather than being skipped. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).resolve().parent / "debian.txt"
APT_LIMIT_S = 900.0  # chromium on a slow line
ASK_LIMIT_S = 10.0
HEARTBEAT_S = 10.0


class Need(NamedTuple):
    """A Debian package, a file that shows that it is there, and why the tests want it."""

    package: str
    file: str
    why: str


def needs(text: str) -> list[Need]:
    """The lines of debian.txt. Raises `ValueError` on a line that has not three parts."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            package, file, why = (part.strip() for part in line.split("|", 2))
            found.append(Need(package, file, why))
    return found


def missing(listed: list[Need]) -> list[Need]:
    """Those that are not there, and the headers of a Debian Python when they are not."""
    lacking = [need for need in listed if not Path(need.file).exists()]
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        lacking.append(Need(f"libpython{version}-dev", str(header), "the Python headers, for pyscard"))
    return lacking


def say(text: str) -> None:
    """A line of progress, at once."""
    print(f"[debian] {text}", flush=True)


def becoming_root() -> list[str] | None:
    """What to put before a command so that root runs it; None when we may not."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    try:
        asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, timeout=ASK_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    return ["sudo", "-n"] if asked.returncode == 0 else None


def apt_get(prefix: list[str], *arguments: str) -> bool:
    """Run apt-get with its output held back until it fails, and a line now and then meanwhile."""
    command = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", *arguments]
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while True:
        try:
            output, _ = process.communicate(timeout=HEARTBEAT_S)
            break
        except subprocess.TimeoutExpired:
            elapsed_s = time.monotonic() - started
            if elapsed_s > APT_LIMIT_S:
                process.kill()
                output, _ = process.communicate()
                say(f"apt-get {arguments[0]} has not ended after {elapsed_s:.0f} s; giving up")
                break
            say(f"apt-get {arguments[0]} ({elapsed_s:.0f} s so far)")
    if process.returncode != 0:
        print("\n".join(output.splitlines()[-15:]), file=sys.stderr, flush=True)
    return process.returncode == 0


def main() -> int:
    """Install what is missing where that is possible; 0 in any case, because the tests speak for themselves."""
    lacking = missing(needs(LIST.read_text(encoding="utf-8")))
    if not lacking:
        return 0
    for need in lacking:
        say(f"missing: {need.package} ({need.why})")
    by_hand = "apt-get install --no-install-recommends " + " ".join(need.package for need in lacking)
    if shutil.which("apt-get") is None:
        say("there is no apt-get here; install the like of these by hand, or tests will fail for want of them")
        return 0
    prefix = becoming_root()
    if prefix is None:
        say(f"only root may install them, and sudo asks for a password; by hand: sudo {by_hand}")
        return 0
    say(f"installing: {by_hand}")
    apt_get(prefix, "update")
    install = ("install", "-y", "--no-install-recommends")
    if not apt_get(prefix, *install, *(need.package for need in lacking)) and len(lacking) > 1:
        say("together they cannot be installed; trying one by one")
        for need in lacking:
            apt_get(prefix, *install, need.package)
    for need in lacking:
        if not Path(need.file).exists():
            say(f"{need.package} could not be installed: tests that need it will fail ({need.why})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
