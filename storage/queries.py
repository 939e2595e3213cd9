"""Named SQL: `storage/sql/<file>.sql` holds queries headed `-- name: <name>`; `load("<file>")` gives them by name."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_HEAD = re.compile(r"^-- name: (\w+)[ \t]*\n", re.MULTILINE)


class QueryError(Exception):
    """A file of queries is not what it should be."""


def parse(text: str) -> dict[str, str]:
    """The queries of a file's text, in order. Raises QueryError for a name that comes twice or an empty query."""
    parts = _HEAD.split(text)
    queries: dict[str, str] = {}
    for name, sql in zip(parts[1::2], parts[2::2], strict=True):
        if name in queries:
            raise QueryError(f"two queries are named {name}")
        if not sql.strip():
            raise QueryError(f"the query {name} is empty")
        queries[name] = sql.strip()
    return queries


@cache
def load(file: str) -> dict[str, str]:
    """The queries of `storage/sql/<file>.sql`. Raises QueryError."""
    return parse(files("storage").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8"))
