"""A connection to PostgreSQL on Trio: libpq in pipeline mode.

asyncpg speaks asyncio and waits for each answer before it says the next thing.  The ledger says a whole transaction at
once, COMMIT included, and the beginning of the next one behind it: measured on one batch of the gates, four round trips
through trio-asyncio took 1.4 ms and 1.25 ms of our processor, two through this 0.5 and 0.3, one 0.26 and 0.17.

    connection = await open_connection(dsn, {"timezone": "UTC"}, timeout_s=3.0)
    statement = await connection.prepare("insert into t select unnest($1::bigint[])")
    connection.send(statement, [1, 2, 3])      # queued
    written = connection.mark()                # up to here: one piece, that fails or succeeds together
    connection.send(...); loaded = connection.mark()
    await connection.results(written)          # all that is queued goes out; raises what the piece failed of
    (rows,) = await connection.results(loaded)

`fetch`, `fetchrow`, `fetchval`, `execute` and `transaction` are asyncpg's, and so are the errors: what reads and writes
through one can do so through the other.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ClassVar

import asyncpg
import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import make_conninfo

from storage._wire import Decoder, Encoder, decoder, encoder
from storage.connection import Dsn

BINARY = 1
COMMIT, DONE = b"do_commit", b"COMMIT"  # a COMMIT of what has failed succeeds, too, and says ROLLBACK
OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)
FIELDS = {  # of an error, by the letters that asyncpg knows them by
    "S": pq.DiagnosticField.SEVERITY,
    "V": pq.DiagnosticField.SEVERITY_NONLOCALIZED,
    "C": pq.DiagnosticField.SQLSTATE,
    "M": pq.DiagnosticField.MESSAGE_PRIMARY,
    "D": pq.DiagnosticField.MESSAGE_DETAIL,
    "H": pq.DiagnosticField.MESSAGE_HINT,
    "s": pq.DiagnosticField.SCHEMA_NAME,
    "t": pq.DiagnosticField.TABLE_NAME,
    "c": pq.DiagnosticField.COLUMN_NAME,
    "d": pq.DiagnosticField.DATATYPE_NAME,
    "n": pq.DiagnosticField.CONSTRAINT_NAME,
}


class Record(tuple[Any, ...]):
    """A row: by place, or by name."""

    __slots__ = ()
    places: ClassVar[Mapping[str, int]] = {}

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.places[key] if isinstance(key, str) else key)

    def keys(self) -> Iterator[str]:
        return iter(self.places)

    def items(self) -> Iterator[tuple[str, Any]]:
        return zip(self.places, self, strict=True)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.places else default


class Statement:
    """A prepared statement, and how its parameters and columns are on the wire."""

    __slots__ = ("decoders", "encoders", "formats", "name", "record")

    def __init__(self, name: bytes, encoders: list[Encoder], decoders: list[Decoder], columns: list[str]) -> None:
        self.name = name
        self.encoders = encoders
        self.decoders = decoders
        self.formats = [BINARY] * len(encoders)
        names = {column: place for place, column in enumerate(columns)}
        self.record = type("Record", (Record,), {"places": names, "__slots__": ()})

    def encode(self, arguments: Sequence[Any]) -> list[bytes | None]:
        if len(arguments) != len(self.encoders):
            raise asyncpg.DataError(f"the statement takes {len(self.encoders)} arguments, not {len(arguments)}")
        values: list[bytes | None] = []
        try:
            for encode, value in zip(self.encoders, arguments, strict=True):
                values.append(None if value is None else encode(value))
        except (struct.error, TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise asyncpg.DataError(f"invalid input for the argument ${len(values) + 1}: {exc}") from exc
        return values

    def rows(self, result: pq.abc.PGresult) -> list[Record]:
        get, record, decoders = result.get_value, self.record, self.decoders
        found = []
        for row in range(result.ntuples):
            values = [get(row, column) for column in range(len(decoders))]
            decoded = zip(decoders, values, strict=True)
            found.append(record([None if data is None else decode(data) for decode, data in decoded]))
        return found


Encoded = tuple[Statement, list[bytes | None]]


class Piece:
    """Statements that go together: the first that fails takes those behind it along."""

    __slots__ = ("done", "error", "rows", "statements")

    def __init__(self, statements: list[Statement]) -> None:
        self.statements = statements
        self.rows: list[list[Record]] = []
        self.error: Exception | None = None
        self.done = False


class Connection:
    """One session; made by `open_connection`. One task at a time.

    Everything raises `asyncpg.PostgresError` for what the server says and `OSError` when the connection is lost; when a
    wait is cancelled, the connection can only be terminated.
    """

    def __init__(self, raw: pq.abc.PGconn) -> None:
        self._raw = raw
        self._statements: dict[str, Statement] = {}
        self._queued: list[Statement] = []
        self._pieces: deque[Piece] = deque()  # marked, not answered yet
        self._closed = False

    # -- a pipeline -------------------------------------------------------------------------------------------------

    async def prepare(self, sql: str) -> Statement:
        """The statement for this SQL; the first time in a session it is planned, which is a round trip of its own."""
        statement = self._statements.get(sql)
        if statement is not None:
            return statement
        await self.settle()
        name = COMMIT if sql == "commit" else f"s{len(self._statements)}".encode()
        with _translated(self._raw):
            self._raw.send_prepare(name, sql.encode())
            self._raw.send_describe_prepared(name)
            self._raw.pipeline_sync()
        results = await self._read(2)
        described = results[-1]
        encoders = [encoder(described.param_type(place)) for place in range(described.nparams)]
        decoders = [decoder(described.ftype(place)) for place in range(described.nfields)]
        columns = [(described.fname(place) or b"").decode() for place in range(described.nfields)]
        statement = self._statements[sql] = Statement(name, encoders, decoders, columns)
        return statement

    def send(self, statement: Statement, *arguments: Any) -> None:
        """Queue an execution. Raises what the arguments cannot be encoded for; then nothing was queued."""
        self.send_encoded(statement, statement.encode(arguments))

    def send_encoded(self, statement: Statement, values: list[bytes | None]) -> None:
        """As `send`, with what `Statement.encode` has made of the arguments."""
        try:  # as `_translated`, which costs as much as what it is round: a batch comes by here sixty times
            self._raw.send_query_prepared(statement.name, values, statement.formats, BINARY)
        except psycopg.Error as exc:
            raise _lost(self._raw, exc) from exc
        self._queued.append(statement)

    def mark(self) -> Piece:
        """What was queued since the last mark is a piece."""
        with _translated(self._raw):
            self._raw.pipeline_sync()
        piece = Piece(self._queued)
        self._queued = []
        self._pieces.append(piece)
        return piece

    async def flush(self) -> None:
        """Send all that is queued, without waiting for answers: these are short, and the server has room for them."""
        while self._flushed():
            await self._wait(trio.lowlevel.wait_writable)

    async def results(self, piece: Piece) -> list[list[Record]]:
        """The rows of each statement of a piece. Raises what the first of them failed of."""
        while not piece.done:
            first = self._pieces[0]
            first.error = None
            rows: list[list[Record]] = []
            try:
                results = await self._read(len(first.statements))
                pairs = list(zip(first.statements, results, strict=True))
                rows = [statement.rows(result) for statement, result in pairs]
                if any(statement.name == COMMIT and result.command_status != DONE for statement, result in pairs):
                    first.error = asyncpg.InFailedSQLTransactionError("what was to be committed had failed")
            except asyncpg.PostgresError as exc:
                first.error = exc
            first.rows, first.done = rows, True
            self._pieces.popleft()
        if piece.error is not None:
            raise piece.error
        return piece.rows

    async def answered(self) -> None:
        """Wait until the server has said something more. This wait may be cancelled: nothing is read in it."""
        await self.flush()
        with _translated(self._raw):
            busy = self._raw.is_busy()
        if busy and self._pieces:
            await self._wait(trio.lowlevel.wait_readable)

    async def settle(self) -> None:
        """Wait for everything that was queued. Raises what the last piece failed of."""
        if self._queued:
            self.mark()
        if self._pieces:
            await self.results(self._pieces[-1])

    async def drain(self) -> None:
        """As `settle`, when it is known already that something has failed."""
        with suppress(asyncpg.PostgresError):
            await self.settle()

    # -- one thing at a time ----------------------------------------------------------------------------------------

    async def fetch(self, sql: str, *arguments: Any, timeout: float | None = None) -> list[Record]:
        """The rows of a query; what was queued before is carried out before."""
        with self._limited(timeout):
            statement = await self.prepare(sql)
            self.send(statement, *arguments)
            return (await self.results(self.mark()))[-1]
        raise TimeoutError(f"no answer within {timeout:g} s")

    async def fetchrow(self, sql: str, *arguments: Any, timeout: float | None = None) -> Record | None:
        rows = await self.fetch(sql, *arguments, timeout=timeout)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *arguments: Any, timeout: float | None = None) -> Any:
        row = await self.fetchrow(sql, *arguments, timeout=timeout)
        return row[0] if row else None

    async def execute(self, sql: str, *arguments: Any, timeout: float | None = None) -> None:
        """A statement with arguments, or any number without."""
        if arguments:
            await self.fetch(sql, *arguments, timeout=timeout)
            return
        with self._limited(timeout):
            await self.settle()
            with _translated(self._raw):
                self._raw.exit_pipeline_mode()
                self._raw.send_query(sql.encode())
            error: asyncpg.PostgresError | None = None
            while True:
                result = await self._next_result()
                if result is None:
                    break
                if result.status not in OK:
                    error = error or _error(result)
            with _translated(self._raw):
                self._raw.enter_pipeline_mode()
            if error is not None:
                raise error
            return
        raise TimeoutError(f"no answer within {timeout:g} s")

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        statement = await self.prepare(sql)
        for row in rows:
            self.send(statement, *row)
        await self.settle()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self.execute("begin")
        try:
            yield
        except Exception:
            await self.drain()
            await self.execute("rollback")
            raise
        await self.execute("commit")

    def terminate(self) -> None:
        """Cut the connection, whatever is under way."""
        if not self._closed:
            self._closed = True
            with suppress(OSError, psycopg.Error):
                trio.lowlevel.notify_closing(self._raw.socket)
            self._raw.finish()

    async def close(self, timeout: float | None = None) -> None:
        """End the session; libpq says goodbye to the server without waiting."""
        self.terminate()
        await trio.lowlevel.checkpoint()

    # -- parts ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _limited(self, timeout: float | None) -> Iterator[None]:
        """A wait that takes too long cuts the connection: an answer that comes later would be taken for another's."""
        if timeout is None:
            yield
            return
        with trio.move_on_after(timeout) as scope:
            yield
        if scope.cancelled_caught:
            self.terminate()

    async def _read(self, count: int) -> list[pq.abc.PGresult]:
        """The results of `count` statements up to their mark. Raises what the first of them failed of."""
        await self.flush()
        results: list[pq.abc.PGresult] = []
        error: asyncpg.PostgresError | None = None
        while True:
            try:
                result = await self._next_result()
            except ConnectionError:
                if error is not None:  # the server's last words say more
                    raise error from None
                raise
            if result is None:
                continue
            status = result.status
            if status == pq.ExecStatus.PIPELINE_SYNC:
                break
            if status in OK:
                results.append(result)
            elif status != pq.ExecStatus.PIPELINE_ABORTED:
                error = error or _error(result)
        if error is not None:
            raise error
        assert len(results) == count
        return results

    async def _next_result(self) -> pq.abc.PGresult | None:
        raw = self._raw
        try:
            while raw.is_busy():
                while self._flushed():
                    await self._wait(trio.lowlevel.wait_writable)
                await self._wait(trio.lowlevel.wait_readable)
                raw.consume_input()
            result = raw.get_result()
        except psycopg.Error as exc:
            raise _lost(raw, exc) from exc
        if raw.status == pq.ConnStatus.BAD and (result is None or not result.error_field(FIELDS["C"])):
            raise ConnectionError(_words(raw))
        return result

    def _flushed(self) -> bool:
        try:
            return bool(self._raw.flush())
        except psycopg.Error as exc:
            raise _lost(self._raw, exc) from exc

    async def _wait(self, wait: Any) -> None:
        try:
            await wait(self._raw.socket)
        except (trio.ClosedResourceError, psycopg.Error) as exc:
            raise ConnectionError("the connection was closed") from exc


async def open_connection(dsn: Dsn, settings: Mapping[str, str], timeout_s: float) -> Connection:
    """Connect. `settings` are the session's. Raises OSError (TimeoutError among them) and asyncpg.PostgresError."""
    parameters: dict[str, Any] = {
        "host": dsn.host,
        "port": dsn.port,
        "user": dsn.user,
        "dbname": dsn.database,
        "client_encoding": "UTF8",
        "gssencmode": "disable",
        "options": " ".join(f"-c {name}={_quoted(value)}" for name, value in settings.items()),
    }
    if dsn.password:
        parameters["password"] = dsn.password
    if dsn.sslmode:
        parameters["sslmode"] = dsn.sslmode
    with trio.move_on_after(timeout_s):
        if not dsn.host.startswith("/"):  # libpq itself would look the name up while everybody waits
            found = await trio.socket.getaddrinfo(dsn.host, dsn.port, type=socket.SOCK_STREAM)
            parameters["hostaddr"] = found[0][4][0]
        raw = pq.PGconn.connect_start(make_conninfo(**parameters).encode())
        try:
            await _connected(raw)
            raw.nonblocking = 1
            raw.enter_pipeline_mode()
            return Connection(raw)
        except BaseException:
            raw.finish()
            raise
    raise TimeoutError(f"no connection within {timeout_s:g} s")


async def _connected(raw: pq.abc.PGconn) -> None:
    while True:
        state = raw.connect_poll()
        if state == pq.PollingStatus.OK:
            return
        if state == pq.PollingStatus.FAILED:
            raise ConnectionError(_words(raw))
        wait = trio.lowlevel.wait_readable if state == pq.PollingStatus.READING else trio.lowlevel.wait_writable
        await wait(raw.socket)


def _quoted(value: str) -> str:
    """A setting's value among the options of a connection."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _error(result: pq.abc.PGresult) -> asyncpg.PostgresError:
    """What the server said, as the exception that asyncpg has for it."""
    fields = {letter: result.error_field(field) for letter, field in FIELDS.items()}
    words = {letter: value.decode(errors="replace") for letter, value in fields.items() if value is not None}
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(words)
    return error


def _words(raw: pq.abc.PGconn) -> str:
    return raw.get_error_message().strip() or "the connection is lost"


@contextmanager
def _translated(raw: pq.abc.PGconn) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as exc:
        raise _lost(raw, exc) from exc


def _lost(raw: pq.abc.PGconn, exc: psycopg.Error) -> ConnectionError:
    return ConnectionError(str(exc).strip() or _words(raw))

