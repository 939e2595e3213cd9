"""Backup and restore: one file out of a running database, one file into an empty one.

The file is pg_dump's custom format: one consistent snapshot, taken beside the running server, compressed, and readable
by newer versions of PostgreSQL.  A line is added at its end with the SHA-256 of what stands before it: pg_restore does
not notice when the last part of a file is missing, and ignores what follows the data.  It holds personal data
(encrypted) and keyed hashes; the keys are not in it, so keep `DIR/keys` as well, in another place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import asyncpg
import trio

from storage._files import sync_folder
from storage.connection import Dsn, in_asyncio
from storage.embedded import EmbeddedError, program

BACKUP_LIMIT_S = 4 * 3600.0
RESTORE_LIMIT_S = 12 * 3600.0
LINE_LIMIT_BYTES = 4096
TOLD_LINES_KEPT = 20  # of what the tool said last, for an error
CONNECT_TIMEOUT_S = 10.0

SETS_TRANSACTION_TIMEOUT = 17  # first version of PostgreSQL that knows this setting, which pg_restore writes at the top
NEW_SETTING = b"SET transaction_timeout = 0;\n"
SCRIPT_HEAD_BYTES = 16 * 1024  # it stands before the first object

TRAILER = b"\npaifang-backup sha256 "  # followed by 64 hexadecimal digits and a line feed
TRAILER_BYTES = len(TRAILER) + 65
CHUNK_BYTES = 1 << 20

_TABLE = re.compile(r"(?:dumping contents of table|processing data for table) \"?(?:\w+\.)?(\w+)\"?")

Progress = Callable[[str], None]


class BackupError(Exception):
    """The backup was not written, or the restore not carried out; nothing half-done is left behind."""


async def backup(dsn: Dsn, file: Path, *, progress: Progress | None = None) -> int:
    """Write the whole database into a new file of mode 0600; returns its size in bytes.

    The file appears under its name only when it is complete, readable and on disk.

    Raises:
        BackupError: the file exists, the disk is full, the database is unreachable; with the tool's own words.
    """
    if await trio.to_thread.run_sync(file.exists):
        raise BackupError(f"{file} exists; a backup never replaces another")
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise BackupError(f"cannot write {unfinished}: {exc.strerror}") from exc
    try:
        os.fchmod(handle, 0o600)
        words = ["--format=custom", "--compress=gzip:6", "--verbose", "--no-owner", "--no-privileges"]
        await _run("pg_dump", words, dsn, BACKUP_LIMIT_S, progress, stdout=handle)
        await _run("pg_restore", ["--list", str(unfinished)], dsn, BACKUP_LIMIT_S, None)  # can it be read?
        digest = await trio.to_thread.run_sync(_digest, unfinished, 0)
        os.lseek(handle, 0, os.SEEK_END)
        os.write(handle, TRAILER + digest.encode() + b"\n")
        await trio.to_thread.run_sync(os.fsync, handle)
        size = os.fstat(handle).st_size
        os.link(unfinished, file)  # unlike a rename, never over a file that appeared meanwhile
        sync_folder(file.parent)
    except OSError as exc:
        raise BackupError(f"cannot write {file}: {exc.strerror}") from exc
    finally:
        os.close(handle)
        unfinished.unlink(missing_ok=True)
    return size


async def restore(file: Path, dsn: Dsn, *, progress: Progress | None = None) -> None:
    """Read a backup into an empty database, all or nothing.

    Raises:
        BackupError: the file is none of ours or damaged, or the database is not empty.
    """
    if not await trio.to_thread.run_sync(file.is_file):
        raise BackupError(f"there is no file {file}")
    try:
        version, tables = await in_asyncio(_look_at, dsn)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        raise BackupError(f"the database cannot be reached: {exc}") from exc
    if tables:
        raise BackupError(f"the database has {tables} tables; a backup is restored into an empty one only")
    await trio.to_thread.run_sync(_verify, file)
    words = ["--exit-on-error", "--verbose", "--no-owner", "--no-privileges"]
    if version >= SETS_TRANSACTION_TIMEOUT:
        words += ["--single-transaction", f"--dbname={dsn.database}"]
        await _run("pg_restore", [*words, str(file)], dsn, RESTORE_LIMIT_S, progress)
    else:
        await _run_through_psql([*words, "--file=-", str(file)], dsn, progress)


def _digest(file: Path, spare_bytes: int) -> str:
    """SHA-256 of a file without its last bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        left = os.fstat(stream.fileno()).st_size - spare_bytes
        while left > 0 and (chunk := stream.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _verify(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TRAILER_BYTES))
            trailer = stream.read()
        whole = trailer == TRAILER + _digest(file, TRAILER_BYTES).encode() + b"\n"
    except OSError as exc:
        raise BackupError(f"cannot read {file}: {exc.strerror}") from exc
    if not whole:
        raise BackupError(f"{file} is damaged, incomplete, or no backup of Paifang")


async def _look_at(dsn: Dsn) -> tuple[int, int]:
    """The server's major version, and how many tables there are."""
    connection = await asyncpg.connect(**dsn.asyncpg(), timeout=CONNECT_TIMEOUT_S)
    try:
        tables = await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'")
        return connection.get_server_version().major, int(tables)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _run(
    tool: str, words: list[str], dsn: Dsn, limit_s: float, progress: Progress | None, stdout: int | None = None
) -> None:
    """Run one of PostgreSQL's tools; its verbose lines become progress, its last lines the error."""
    path = _program(tool)
    said: list[str] = []
    with trio.move_on_after(limit_s) as patience:
        async with trio.open_nursery() as nursery:
            process = await nursery.start(
                partial(
                    trio.run_process,
                    [str(path), *words],
                    env=dsn.environment(),
                    stdin=b"",
                    stdout=subprocess.DEVNULL if stdout is None else stdout,
                    stderr=subprocess.PIPE,
                    check=False,
                )
            )
            await _listen(process.stderr, said, progress)
            await process.wait()
    if patience.cancelled_caught:
        raise BackupError(f"{tool} took longer than {limit_s:g} s")
    if process.returncode != 0:
        raise BackupError(f"{tool} failed: " + "\n".join(said[-TOLD_LINES_KEPT:]))


async def _run_through_psql(words: list[str], dsn: Dsn, progress: Progress | None) -> None:
    """pg_restore as a script into psql, without the one line that servers before 17 do not know; all or nothing."""
    reader = [str(_program("pg_restore")), *words]
    writer = [str(_program("psql")), "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    said: list[str] = []
    with trio.move_on_after(RESTORE_LIMIT_S) as patience:
        async with trio.open_nursery() as nursery:
            start = partial(partial, trio.run_process, env=dsn.environment(), stderr=subprocess.PIPE, check=False)
            source = await nursery.start(start(reader, stdin=b"", stdout=subprocess.PIPE))
            target = await nursery.start(start(writer, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))
            nursery.start_soon(_listen, source.stderr, said, progress)
            nursery.start_soon(_listen, target.stderr, said, None)
            with contextlib.suppress(trio.BrokenResourceError):  # psql has ended, and says why
                await _pass_on(source.stdout, target.stdin)
            await source.stdout.aclose()
            if await source.wait() != 0:
                target.kill()  # at the end of its input it would commit what it has
            await target.stdin.aclose()
            await target.wait()
    if patience.cancelled_caught:
        raise BackupError(f"pg_restore took longer than {RESTORE_LIMIT_S:g} s")
    if source.returncode != 0 or target.returncode != 0:
        raise BackupError("pg_restore failed: " + "\n".join(said[-TOLD_LINES_KEPT:]))


async def _pass_on(source: trio.abc.ReceiveStream, target: trio.abc.SendStream) -> None:
    head = b""
    async for chunk in source:
        head += chunk
        if len(head) >= SCRIPT_HEAD_BYTES:
            break
    await target.send_all(head.replace(NEW_SETTING, b"", 1))
    async for chunk in source:
        await target.send_all(chunk)


def _program(tool: str) -> Path:
    try:
        return program(tool)
    except EmbeddedError as exc:
        raise BackupError(str(exc)) from exc


async def _listen(stream: trio.abc.ReceiveStream, said: list[str], progress: Progress | None) -> None:
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-LINE_LIMIT_BYTES:]
        for line in lines:
            text = line.decode("utf-8", "replace")
            said.append(text)
            del said[:-TOLD_LINES_KEPT]
            table = _TABLE.search(text)
            if table and progress is not None:
                progress(table[1])
