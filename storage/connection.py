"""Where a database is: parsed once, shown without its password, given to asyncpg and to PostgreSQL's own tools."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import trio_asyncio
from trio_asyncio import aio_as_trio

DEFAULT_PORT = 5432
SSL_MODES = ("", "disable", "prefer", "require", "verify-ca", "verify-full")


T = TypeVar("T")


class BadUrl(ValueError):
    """The database URL is not one that we can use."""


class Dsn(msgspec.Struct, frozen=True, kw_only=True):
    """A database. `host` is a name, an address, or the folder of a Unix socket (it then begins with `/`)."""

    host: str
    user: str
    database: str
    port: int = DEFAULT_PORT
    password: str = ""
    sslmode: str = ""

    def __repr__(self) -> str:
        return f"Dsn({self.user}@{self.host}:{self.port}/{self.database})"

    __str__ = __repr__

    def with_database(self, database: str) -> Dsn:
        """The same server, another database."""
        return msgspec.structs.replace(self, database=database)

    def asyncpg(self) -> dict[str, Any]:
        """Arguments of `asyncpg.connect`."""
        arguments: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "database": self.database,
        }
        if self.password:
            arguments["password"] = self.password
        if self.sslmode:
            arguments["ssl"] = self.sslmode
        return arguments

    def environment(self) -> dict[str, str]:
        """Environment of psql, pg_dump and friends. The password stays out of the command line, where all can read."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        env |= {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGCONNECT_TIMEOUT": "10",
            "LC_ALL": "C",
        }
        if self.password:
            env["PGPASSWORD"] = self.password
        if self.sslmode:
            env["PGSSLMODE"] = self.sslmode
        return env


def parse_url(url: str) -> Dsn:
    """`postgresql://user:password@host:port/database?sslmode=verify-full`; `?host=/folder` for a Unix socket.

    Raises BadUrl, which never contains the password.
    """
    try:
        parts = urlsplit(url)
        host = unquote(parts.hostname or "")
    except ValueError as exc:
        raise BadUrl("the database URL is not one") from exc
    if parts.scheme not in ("postgresql", "postgres"):
        raise BadUrl(f"a database URL begins with postgresql://, not {parts.scheme or 'nothing'}://")
    options = dict(parse_qsl(parts.query))
    unknown = sorted(set(options) - {"host", "port", "sslmode"})
    if unknown:
        raise BadUrl(f"unknown options in the database URL: {', '.join(unknown)}; known are host, port, sslmode")
    try:
        port = int(options.get("port") or parts.port or DEFAULT_PORT)
    except ValueError as exc:
        raise BadUrl("the port in the database URL is not a number from 1 to 65535") from exc
    dsn = Dsn(
        host=options.get("host") or host,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")),
        sslmode=options.get("sslmode", ""),
    )
    for name, value in (("user", dsn.user), ("host", dsn.host), ("database", dsn.database)):
        if not value:
            raise BadUrl(f"the database URL names no {name}")
    if dsn.sslmode not in SSL_MODES:
        raise BadUrl(f"sslmode {dsn.sslmode!r} is not one of {', '.join(SSL_MODES[1:])}")
    return dsn


async def in_asyncio(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Await an asyncio coroutine function from Trio, in a loop of its own.

    What it raises comes out bare: an exception that crosses the border of the loop would come out as a group.
    """
    error: Exception | None = None
    async with trio_asyncio.open_loop():
        try:
            result: T = await aio_as_trio(function)(*arguments)
        except Exception as exc:
            error = exc
    if error is not None:
        raise error
    return result
