"""The running modes on disk: one small file that is replaced whole, so that a restart knows what was promised.

It stands beside the database because a mode must also end when that is away.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from protocols.modes import KINDS, Running

FILE_MAX_BYTES = 1 << 20
MODES_MAX = 500  # running at once
DONE_MAX = 2000  # openings of schedules that need not be started again


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """What runs, and which openings of schedules have had their turn."""

    running: list[Running] = []
    done: list[str] = []


class BookError(Exception):
    """The file cannot be read or written; the text says why."""


def read(path: Path) -> Book:
    """The book; an empty one where there is no file yet. Raises BookError for one that is damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Book()
    except OSError as exc:
        raise BookError(f"{path}: {exc.strerror}") from exc
    if len(data) > FILE_MAX_BYTES:
        raise BookError(f"{path}: too long")
    try:
        book = msgspec.json.decode(data, type=Book)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BookError(f"{path}: damaged: {exc}") from exc
    return msgspec.structs.replace(book, running=[each for each in book.running if each.kind in KINDS][:MODES_MAX])


def write(path: Path, book: Book) -> None:
    """Replace the file, on disk when this returns. Raises BookError; the old one is whole then."""
    fresh = path.with_suffix(".new")
    try:
        with open(fresh, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(book), indent=1))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        raise BookError(f"{path}: {exc.strerror}") from exc
