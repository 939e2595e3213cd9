"""The place beside the list in force where a whole list is put together, part by part (`storage.lanelists`).

Tickets arrive nearly in the order of their keys and are put where they belong.  Credentials' keys are hashes: each
would touch a page of its own, and every part would write most of the table again.  So they are laid down as they come,
and sorted into their place once, at the end.  All within the caller's transactions, so that a list that was begun is
gone on with after a restart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from protocols.lists import CREDENTIAL, Item

ITEMS = "(kind text not null, key blob not null, line blob not null, primary key (kind, key)) without rowid"

_LOOSE = "(number integer primary key, kind text not null, key blob not null, line blob not null)"


def begin(db: sqlite3.Connection) -> None:
    """An empty place; what an earlier list left there is gone. Raises sqlite3.Error."""
    clear(db)
    db.execute(f"create table staging {ITEMS}")


def clear(db: sqlite3.Connection) -> None:
    """Nothing is put together any more. Raises sqlite3.Error."""
    db.execute("drop table if exists staging")
    db.execute("drop table if exists loose")


def add(db: sqlite3.Connection, items: Iterable[Item]) -> None:
    """One part's items; a later one of the same kind and key replaces the earlier. Raises sqlite3.Error."""
    placed: list[tuple[str, bytes, bytes]] = []
    loose: list[tuple[str, bytes, bytes]] = []
    for item in items:
        (loose if item.kind == CREDENTIAL else placed).append((item.kind, item.key, item.line))
    if placed:
        db.executemany("insert or replace into staging values (?, ?, ?)", placed)
    if loose:
        db.execute(f"create table if not exists loose {_LOOSE}")
        db.executemany("insert into loose (kind, key, line) values (?, ?, ?)", loose)


def finish(db: sqlite3.Connection) -> None:
    """The list is whole: it takes the place of the one in force. Raises sqlite3.Error."""
    db.execute(f"create table if not exists loose {_LOOSE}")
    db.execute("insert or replace into staging select kind, key, line from loose order by kind, key, number")
    db.execute("drop table loose")
    db.execute("drop table items")
    db.execute("alter table staging rename to items")
