"""What stands in the cluster's folder because we say so, and writing files that root can trust."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from storage._account import Account

USER = "paifang"  # the database role

CONFIGURATION = """\
# Written by Paifang at every start. Put your own settings into paifang-local.conf beside this file.
listen_addresses = ''
max_connections = 40
shared_buffers = 64MB
max_wal_size = 512MB
wal_compression = on
# not /dev/shm: containers give it 64 MB, and a killed server leaves its segments there
dynamic_shared_memory_type = mmap
password_encryption = scram-sha-256
log_min_messages = warning
log_checkpoints = off
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
datestyle = 'iso, ymd'
lc_messages = 'C'
client_connection_check_interval = 1s
include_if_exists = 'paifang-local.conf'
"""


def configure(cluster: Path, account: Account) -> None:
    """Write settings, who may connect, and as whom: the account of this process as the role `USER`, nobody else."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    owner = account if os.geteuid() == 0 else None
    for name, text in (
        ("postgresql.conf", CONFIGURATION),
        ("pg_hba.conf", f"local all {USER} peer map=paifang\nlocal replication {USER} peer map=paifang\n"),
        ("pg_ident.conf", f'paifang "{me}" {USER}\n'),
    ):
        write_atomically(cluster / name, text, 0o600, owner)


def open_folder(stack: contextlib.ExitStack, path: Path) -> int:
    """A descriptor of a folder, closed with the stack; a link in its place is refused."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    stack.callback(os.close, folder)
    return folder


def environment() -> dict[str, str]:
    """For PostgreSQL itself: nothing of ours is passed on."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def write_atomically(path: Path, text: str, mode: int, owner: Account | None) -> None:
    """Replace the file; as root, in a folder of another account, without following a link that it may have planted."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        if owner is not None:
            os.fchown(handle, owner.uid, owner.gid)
        os.write(handle, text.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)


def sync_folder(path: Path) -> None:
    """Put names made or changed in a folder on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
