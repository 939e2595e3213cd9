"""Become another account, tie our life to our parent's, then become the given program.

Run as a script (`python -I -S _exec_as.py UID GID PARENT SIGNAL program argument...`), never imported: between fork and
exec of a process that has threads nothing but exec is safe, so this is done by a fresh interpreter instead.

The order matters: changing the user id clears the parent-death signal, so that comes second; and a parent that died
before the signal was asked for is found by comparing pids.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    uid, gid, parent, signal_number = (int(word) for word in sys.argv[1:5])
    if os.geteuid() == 0 and uid != 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if signal_number:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:
            sys.exit("the parent is gone")
    os.umask(0o077)
    os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606 - that is the point
