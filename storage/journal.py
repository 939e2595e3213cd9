"""The journal of a lane controller: everything that happened at the lane, in order, on disk before the barrier moves.

One SQLite file in WAL mode with `synchronous=FULL`: a commit is flushed before it returns, so that a record which was
acknowledged survives a power cut at any instant, and a torn or missing end of the WAL costs the last unacknowledged
commit only.  (boot, seq) names a record for good: `boot` is drawn when the file is made, `seq` is never given twice.
Records are kept until the server says that it has them.  Everything here blocks for the disk; callers that must not
wait call it from a thread, one at a time.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

RECORDS_MAX = 200_000  # not uploaded yet: weeks of a busy lane; beyond that the journal counts as full
WAL_PAGES_MAX = 4000  # of 4 kB, before SQLite writes them into the file, in the middle of whatever is being written
TIDY_COMMITS = 64  # after which `tidy` writes them into the file: some 300 pages
OPEN_RETRY_S = 1.0  # between two tries to open a journal that could not be opened
BUSY_MS = 2000  # `paifang lane status` may be reading
DAMAGED_KEPT_MAX = 5  # damaged files that are set aside for somebody to look at
SCHEMA_VERSION = 1

_SCHEMA = """
create table meta (name text primary key, value text not null) without rowid;
create table records (
    seq integer primary key autoincrement,
    at real not null,
    kind text not null,
    body blob not null
);
create table open_grants (
    grant_id integer primary key,
    nonce text not null,
    ticket integer not null,
    pax integer not null,
    passed integer not null,
    granted_at real not null,
    ttl_s real not null,
    direction text not null,
    counter_epoch text,
    counter_entries integer,
    counter_exits integer,
    from_server integer not null
);
create table counters (
    direction text primary key,
    epoch text not null,
    value integer not null
) without rowid;
create table uses (
    subject blob not null,
    lane text not null,
    grant_id integer not null,
    zone text not null,
    pax integer not null,
    at real not null,
    primary key (subject, lane, grant_id)
) without rowid;
create index uses_at on uses (at);
"""


class JournalError(Exception):
    """The journal cannot be written or read: disk full, read-only, failing. The text says which file and why."""


class JournalFull(JournalError):
    """More is waiting for the server than the journal keeps."""


class Record(msgspec.Struct, frozen=True):
    """One thing that happened at the lane. `body` is MessagePack of a tagged value; `at` is the lane's clock."""

    seq: int
    at: float
    kind: str
    body: bytes


class JournalState(msgspec.Struct, frozen=True, kw_only=True):
    """What `paifang lane status` prints of the journal."""

    path: str
    boot: str
    journal_mode: str
    synchronous: str
    records: int
    first: int | None
    last: int | None
    bytes: int
    damaged: int  # files that were set aside


_SYNCHRONOUS = {0: "off", 1: "normal", 2: "full", 3: "extra"}


class Journal:
    """One lane's journal, used by one thread at a time."""

    def __init__(self, path: Path, *, records_max: int = RECORDS_MAX) -> None:
        """Not open yet: `open_journal` opens it at once, `late_journal` when the disk lets it."""
        self.path = path
        self.boot = ""  # empty until it is open
        self.set_aside = ""  # a damaged journal was found and put here; empty: none was
        self._opened: sqlite3.Connection | None = None
        self._records_max = records_max
        self._count = 0
        self._commits = 0  # since the last `tidy`
        self._tried_at = -math.inf

    def open(self) -> None:
        """Open or make the file; one that is damaged is set aside. Raises JournalError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise JournalError(f"{self.path}: {exc.strerror}; give the lane's account the folder") from exc
        try:
            self._open()
            return
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                raise JournalError(f"{self.path}: {exc}; free space, or fix its permissions") from exc
            self.set_aside = _put_aside(self.path)
        try:
            self._open()
        except sqlite3.Error as exc:
            raise JournalError(f"{self.path}: {exc}; free space, or fix its permissions") from exc

    def _open(self) -> None:
        db = _connect(self.path)
        try:
            self.boot = str(db.execute("select value from meta where name = 'boot'").fetchone()[0])
            self._count = int(db.execute("select count(*) from records").fetchone()[0])
        except BaseException:
            db.close()
            raise
        self._opened = db

    @property
    def _db(self) -> sqlite3.Connection:
        """The open file; one that could not be opened at the start is tried again. Raises JournalError."""
        if self._opened is None:
            now = time.monotonic()
            if now - self._tried_at < OPEN_RETRY_S:
                raise JournalError(f"{self.path}: is not open")
            self._tried_at = now
            self.open()
        assert self._opened is not None
        return self._opened

    @property
    def count(self) -> int:
        """Records that the server has not acknowledged."""
        return self._count

    @contextlib.contextmanager
    def writing(self, records: int = 1) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk when this returns; nothing of it is when it raises. `records` that it will add.

        Raises JournalFull, or JournalError with the disk's own words.
        """
        db = self._db
        if self._count + records > self._records_max:
            raise JournalFull(f"{self.path}: {self._count} records wait for the server, at most {self._records_max}")
        before = self._count
        try:
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
                self._commits += 1
            except BaseException:
                self._count = before
                with contextlib.suppress(sqlite3.Error):
                    db.execute("rollback")
                raise
        except sqlite3.Error as exc:
            raise JournalError(f"{self.path}: {exc}") from exc

    def add(self, kind: str, body: bytes, at: float) -> int:
        """Add a record within `writing`; its seq."""
        cursor = self._db.execute("insert into records (at, kind, body) values (?, ?, ?)", (at, kind, body))
        self._count += 1
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def tidy(self) -> None:
        """Write the WAL into the file, if it has grown. For a moment at which no visitor waits; never raises.

        Otherwise SQLite does it within one commit in so many, and that visitor waits for two more flushes.
        """
        if self._opened is None or self._commits < TIDY_COMMITS:
            return
        self._commits = 0
        with contextlib.suppress(sqlite3.Error):  # it stays in the WAL, and the next commit says what is wrong
            self._opened.execute("pragma wal_checkpoint(passive)").fetchall()

    def probe(self, at: float) -> None:
        """Write something that is no record, to see whether the disk takes it. Raises JournalError."""
        with self.writing(0) as db:
            db.execute("insert or replace into meta values ('probed', ?)", (repr(at),))

    def append(self, kind: str, body: bytes, at: float) -> int:
        """Add one record by itself; its seq. Raises JournalError."""
        with self.writing():
            return self.add(kind, body, at)

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a question. Raises JournalError."""
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            raise JournalError(f"{self.path}: {exc}") from exc

    def pending(self, limit: int, after: int = 0) -> list[Record]:
        """The oldest records that were not acknowledged, in order. Raises JournalError."""
        rows = self.read("select seq, at, kind, body from records where seq > ? order by seq limit ?", (after, limit))
        return [Record(*row) for row in rows]

    def acknowledged(self, boot: str, seq: int) -> int:
        """The server has everything up to `seq` of `boot`: forget it. How many were forgotten. Raises JournalError.

        What was said of another boot, or of records that were never written, changes nothing.
        """
        if boot != self.boot:
            return 0
        with self.writing(0) as db:
            last = db.execute("select max(seq) from records").fetchone()[0]
            if last is None or seq > last:
                return 0
            gone = db.execute("delete from records where seq <= ?", (seq,)).rowcount
            self._count -= gone
        return gone

    def state(self) -> JournalState:
        """For people and tests: what SQLite itself says of the file. Raises JournalError."""
        first, last = self.read("select min(seq), max(seq) from records")[0]
        mode = str(self.read("pragma journal_mode")[0][0])
        level = int(self.read("pragma synchronous")[0][0])
        return JournalState(
            path=str(self.path),
            boot=self.boot,
            journal_mode=mode,
            synchronous=_SYNCHRONOUS.get(level, str(level)),
            records=self._count,
            first=first,
            last=last,
            bytes=sum(each.stat().st_size for each in self.path.parent.glob(self.path.name + "*")),
            damaged=len(_set_aside_files(self.path)),
        )

    def close(self) -> None:
        """Write the WAL into the file and let go of it. Never raises: closing is for going."""
        if self._opened is not None:
            with contextlib.suppress(sqlite3.Error):
                self._opened.close()


def open_journal(path: Path, *, records_max: int = RECORDS_MAX) -> Journal:
    """Open the journal or make it. One that cannot be read is set aside, and a new one with a new boot begins.

    Raises JournalError when the folder cannot be written.
    """
    journal = Journal(path, records_max=records_max)
    journal.open()
    return journal


def late_journal(path: Path) -> tuple[Journal, str]:
    """The same for a lane that must start whatever its disk says: what is wrong, empty if nothing is.

    A journal that is not open raises JournalError from each use, and opens by itself when it can.
    """
    journal = Journal(path)
    try:
        journal.open()
    except JournalError as exc:
        return journal, str(exc)
    return journal, ""


def read_state(path: Path) -> JournalState:
    """The state of a journal that a lane may be using. Raises JournalError when there is none, or it is damaged."""
    if not path.exists():
        raise JournalError(f"{path}: there is no journal yet; start the lane once")
    journal = Journal(path)
    try:
        journal._open()
        return journal.state()
    except sqlite3.Error as exc:
        raise JournalError(f"{path}: {exc}") from exc
    finally:
        journal.close()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    try:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.execute(f"pragma wal_autocheckpoint={WAL_PAGES_MAX}")
        db.execute("pragma cache_size=-2000")
        if db.execute("pragma quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("database disk image is malformed")
        version = db.execute("pragma user_version").fetchone()[0]
        if version == 0:
            _make(db)
        elif version != SCHEMA_VERSION:
            raise sqlite3.OperationalError(f"written by another version ({version}; this one knows {SCHEMA_VERSION})")
        if db.execute("select value from meta where name = 'boot'").fetchone() is None:
            raise sqlite3.DatabaseError("database disk image is malformed")
        return db
    except BaseException:
        db.close()
        raise


def _make(db: sqlite3.Connection) -> None:
    db.execute("begin immediate")
    try:
        for statement in _SCHEMA.split(";"):
            if statement.strip():
                db.execute(statement)
        db.execute("insert into meta (name, value) values ('boot', ?)", (secrets.token_hex(8),))
        db.execute("insert into meta (name, value) values ('made_at', ?)", (str(time.time()),))
        db.execute(f"pragma user_version={SCHEMA_VERSION}")
        db.execute("commit")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("rollback")
        raise


def _is_damage(exc: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is broken, rather than the disk full, read-only or the file busy."""
    words = str(exc)
    return any(word in words for word in ("malformed", "not a database", "disk image", "no such table", "corrupt"))


def _put_aside(path: Path) -> str:
    """Rename a damaged journal and its WAL out of the way, as evidence; only so many are kept. Raises JournalError."""
    target = path.with_name(f"{path.name}.damaged-{int(time.time() * 1000)}")
    try:
        for suffix in ("-wal", "-shm", ""):
            each = path.with_name(path.name + suffix)
            if each.exists():
                each.rename(target.with_name(target.name + suffix))
        for old in _set_aside_files(path)[:-DAMAGED_KEPT_MAX]:
            for suffix in ("", "-wal", "-shm"):
                old.with_name(old.name + suffix).unlink(missing_ok=True)
    except OSError as exc:
        raise JournalError(f"{path}: it is damaged and cannot be set aside ({exc.strerror})") from exc
    return str(target)


def _set_aside_files(path: Path) -> list[Path]:
    return sorted(
        each for each in path.parent.glob(f"{path.name}.damaged-*") if not each.name.endswith(("-wal", "-shm"))
    )
