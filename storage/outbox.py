"""What has to be told to others and was not yet taken: a small SQLite file, apart from the database.

It is apart because "the database is gone" is among the things to be told.  Every row is on disk before anybody tries
to deliver it, and leaves only when its receiver took it, so neither a receiver that is down nor a crash of the server
loses one.  A crash between the receiver's yes and the removal delivers a row again, under the same id.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

ROWS_MAX = 100_000  # that wait; more are refused and counted
BUSY_S = 2.0  # somebody else looks into the file

_SCHEMA = """
create table if not exists deliveries (
    seq integer primary key autoincrement,  -- never used again, so that order is the order of adding
    id text not null,
    receiver text not null,
    topic text not null,
    body blob not null,
    made_at real not null,
    tries integer not null default 0,
    unique (receiver, id)
);
create index if not exists deliveries_of on deliveries (receiver, seq);
"""


class OutboxError(Exception):
    """The file cannot be read or written: disk full, damaged, no permission. The text says which."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One thing for one receiver. `id` is the same at every try; `seq` grows with the order of adding."""

    id: str
    receiver: str
    topic: str
    body: bytes
    made_at: float
    seq: int = 0
    tries: int = 0


class Outbox:
    """Synchronous: call it from a thread. Raises OutboxError only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def add(self, deliveries: Sequence[Delivery]) -> int:
        """Put them on disk, in this order; returns how many found room. Those that are there are not doubled."""
        with self._lock, _Translated(self._path):
            db = self._open()
            with db:
                waiting = int(db.execute("select count(*) from deliveries").fetchone()[0])
                taken = deliveries[: max(0, ROWS_MAX - waiting)]
                db.executemany(
                    "insert into deliveries (id, receiver, topic, body, made_at) values (?, ?, ?, ?, ?) "
                    "on conflict do nothing",
                    [(each.id, each.receiver, each.topic, each.body, each.made_at) for each in taken],
                )
            return len(taken)

    def first(self, receiver: str) -> Delivery | None:
        """The oldest that this receiver has not taken."""
        with self._lock, _Translated(self._path):
            row = self._open().execute(
                "select id, receiver, topic, body, made_at, seq, tries from deliveries where receiver = ? "
                "order by seq limit 1",
                (receiver,),
            ).fetchone()
        if row is None:
            return None
        return Delivery(
            id=row[0], receiver=row[1], topic=row[2], body=row[3], made_at=row[4], seq=row[5], tries=row[6]
        )

    def taken(self, seq: int) -> None:
        """Its receiver took it, or it was given up."""
        with self._lock, _Translated(self._path):
            db = self._open()
            with db:
                db.execute("delete from deliveries where seq = ?", (seq,))

    def tried(self, seq: int) -> None:
        """Once more in vain."""
        with self._lock, _Translated(self._path):
            db = self._open()
            with db:
                db.execute("update deliveries set tries = tries + 1 where seq = ?", (seq,))

    def waiting(self, receivers: Iterable[str]) -> dict[str, int]:
        """How many wait for each receiver."""
        with self._lock, _Translated(self._path):
            rows = self._open().execute("select receiver, count(*) from deliveries group by receiver").fetchall()
        return dict.fromkeys(receivers, 0) | dict(rows)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
            try:
                self._path.chmod(0o600)
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = full")
                connection.executescript(_SCHEMA)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


class _Translated:
    """Errors of SQLite and of the file system become ours."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, sqlite3.Error | OSError):
            raise OutboxError(f"{self._path}: {exc}") from exc
