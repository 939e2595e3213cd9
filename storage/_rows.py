"""Rows on their way to the database: collected in Python, written with one set-based statement per table."""

from __future__ import annotations

from typing import Any

from storage._pq import Connection
from storage.interfaces import LedgerRefused

INT_LIMIT = 2**31 - 1
BIGINT_LIMIT = 2**63 - 1


class Rows:
    """New rows for the named queries of one file. `add` in the order of the query's columns, site left out."""

    def __init__(self, site: str, queries: dict[str, str]) -> None:
        self._site = site
        self._queries = queries
        self._rows: dict[str, list[tuple[Any, ...]]] = {}

    def of(self, queries: dict[str, str]) -> Rows:
        """Rows of the same site for the queries of another file."""
        return Rows(self._site, queries)

    def add(self, query: str, *values: Any) -> None:
        self._rows.setdefault(query, []).append(values)

    def pending(self, query: str) -> list[tuple[Any, ...]]:
        return self._rows.get(query, [])

    async def write(self, connection: Connection, *queries: str) -> None:
        """Queue the named statements that have rows, in this order; what they fail of comes out with the batch."""
        for name in queries:
            rows = self._rows.get(name)
            if rows:
                statement = await connection.prepare(self._queries[name])
                connection.send(statement, self._site, *map(list, zip(*rows, strict=True)))


def check_text(**fields: str) -> None:
    """Refuse what no text column takes. Raises LedgerRefused naming the field."""
    for name, value in fields.items():
        if "\0" in value:
            raise LedgerRefused(f"{name} contains a NUL character")
