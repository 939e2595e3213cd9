"""Rows on their way to the database: collected in Python, written with one set-based statement per table."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import asyncpg

from storage.interfaces import LedgerRefused

INT_LIMIT = 2**31 - 1
BIGINT_LIMIT = 2**63 - 1
_PARAMETER = re.compile(r"\$(\d+)")


class Rows:
    """New rows for the named queries of one file. `add` in the order of the query's columns, site left out."""

    def __init__(self, site: str, queries: dict[str, str]) -> None:
        self._site = site
        self._queries = queries
        self._rows: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, query: str, *values: Any) -> None:
        self._rows.setdefault(query, []).append(values)

    def pending(self, query: str) -> list[tuple[Any, ...]]:
        return self._rows.get(query, [])

    async def write(self, connection: asyncpg.Connection, *queries: str) -> None:
        """Run the named statements that have rows, as one.

        A round trip costs more than most of the statements. They see the database as it was before all of them, so
        none may build on what another one writes; foreign keys between them are checked when all are done.
        """
        names = tuple(name for name in queries if self._rows.get(name))
        if names:
            columns = [list(column) for name in names for column in zip(*self._rows[name], strict=True)]
            await connection.execute(_joined(tuple(self._queries[name] for name in names)), self._site, *columns)


@cache
def _joined(statements: tuple[str, ...]) -> str:
    """One statement that does them all: each a common table expression, its parameters after $1 numbered on."""
    if len(statements) == 1:
        return statements[0]
    parts, offset = [], 0
    for place, statement in enumerate(statements):
        numbers = [int(number) for number in _PARAMETER.findall(statement)]

        def shifted(match: re.Match[str], by: int = offset) -> str:
            number = int(match[1])
            return f"${number + by}" if number > 1 else "$1"

        parts.append(f"w{place} as (\n{_PARAMETER.sub(shifted, statement)}\n)")
        offset += max(numbers) - 1
    return "with " + ", ".join(parts) + " select"


def check_text(**fields: str) -> None:
    """Refuse what no text column takes. Raises LedgerRefused naming the field."""
    for name, value in fields.items():
        if "\0" in value:
            raise LedgerRefused(f"{name} contains a NUL character")
