"""`paifang serve`: the site server as a process.

The tree starts at once and without the database, so that lanes can be released from the first second; the embedded
PostgreSQL starts beside it and is started again should it die.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TextIO, cast

import structlog
import trio

from actors.evacuation.latch import LatchError, prepare_latch
from core import MailboxFull, Stop, current_trace
from paifang._wire_evacuation import trigger_on_signal
from paifang._wire_pki import prepare_pki
from paifang.keys import KeyRing
from paifang.lag import measure_lag
from paifang.site import SiteFile
from paifang.users import FIRST_USER, add_first_user, add_user, load_users
from paifang.wiring import BuiltSite, build
from protocols.console import ReloadSite
from storage.connection import Dsn, parse_url
from storage.embedded import Embedded, EmbeddedError

PRIORITY = -5  # nice value of the server and its PostgreSQL; face workers add their own on top
STOP_WITHIN_S = 25.0  # of an orderly stop; then whatever is left is cancelled
CONSOLE_UP_WITHIN_S = 15.0
DEMO_USERS = {
    "cashier": "cashier",
    "operator": "operator",
    "security1": "security",
    "security2": "security",
    "manager": "duty_manager",
}
DEMO_PASSWORD_VARIABLE = "PAIFANG_DEMO_PASSWORD"  # noqa: S105 - the name of a variable, not a password
DATABASE_RETRY_S = 5.0

Say = Callable[[str], None]
log = structlog.get_logger(__name__)


async def serve(
    site: SiteFile, data: Path, *, path: Path | None = None, demo_users: bool = False, say: Say = print
) -> None:
    """Run until SIGTERM or SIGINT. Raises BadUrl, KeysError or UsersError before anything runs.

    `path` is the site file, to be read again at SIGHUP and when the console asks for it.  SIGUSR2 evacuates.
    """
    with trio.open_signal_receiver(signal.SIGUSR2) as alarm:  # first of all: unhandled, it would end the process
        await _serve(site, data, path, demo_users, say, alarm)


async def _serve(
    site: SiteFile, data: Path, path: Path | None, demo_users: bool, say: Say, alarm: AsyncIterator[int]
) -> None:
    started = trio.current_time()
    with contextlib.suppress(OSError):  # gates go before whatever else runs here; only root may say so
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    keys = prepare(data, demo_users=demo_users, say=say)
    prepare_pki(site, data, say)
    database = _Database(site, data, say)
    built = build(site, data, database.dsn, keys, path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trigger_on_signal, alarm, built.evacuation)
        nursery.start_soon(_stop_on_signal, built, nursery.cancel_scope)
        nursery.start_soon(_reload_on_signal, built)
        nursery.start_soon(database.keep)
        nursery.start_soon(_announce, built, site, data, started, say)
        await built.root.run(built.root.address)
        await database.stop()
        nursery.cancel_scope.cancel()


def prepare(data: Path, *, demo_users: bool, say: Say) -> KeyRing:
    """Folder, keys, latch and users, so that a first start needs no other command."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys_folder = data / "keys"
    if keys_folder.exists():
        keys = KeyRing.load(keys_folder)
    else:
        keys = KeyRing.init(keys_folder)
        say(f"keys made in {keys_folder}: back them up apart from the database")
    try:
        prepare_latch(data / "evacuation.latch")
    except LatchError as exc:  # a full disk must not keep a gate server from starting
        say(f"WARNING: {exc}")
    if demo_users:
        password = os.environ.get(DEMO_PASSWORD_VARIABLE, "")
        known = load_users(data)
        for name, role in DEMO_USERS.items():
            if name not in known:
                add_user(data, name, role, password)
    elif password := add_first_user(data):
        say(f"first user {FIRST_USER!r}, one-time password {password} (shown once; to be replaced at the first log-in)")
    return keys


class _Database:
    """The embedded cluster, or somebody else's."""

    def __init__(self, site: SiteFile, data: Path, say: Say) -> None:
        self._say = say
        self._foreign = parse_url(site.database.url) if site.database.url else None
        self._embedded = None if site.database.url else Embedded(data, progress=lambda text: say(f"database: {text}"))

    def dsn(self) -> Dsn:
        """Where the ledger should look now."""
        if self._foreign is not None:
            return self._foreign
        assert self._embedded is not None
        return self._embedded.dsn

    async def keep(self) -> None:
        """Start the embedded cluster and keep it running. Its absence is a state, not an error."""
        if self._embedded is None:
            return
        while True:
            try:
                await self._embedded.start()
                await self._embedded.keep()
            except EmbeddedError as exc:
                self._say(f"database: {exc}; trying again in {DATABASE_RETRY_S:g} s")
                await trio.sleep(DATABASE_RETRY_S)

    async def stop(self) -> None:
        if self._embedded is not None:
            with trio.CancelScope(shield=True):  # bounded by the launcher's own limits
                await self._embedded.stop()


async def _announce(built: BuiltSite, site: SiteFile, data: Path, started: float, say: Say) -> None:
    """Say READY once the console listens (the lanes started before it), then watch how late the loop is."""
    with trio.move_on_after(CONSOLE_UP_WITHIN_S) as patience:
        await built.wait_for_console()
    if patience.cancelled_caught:
        where = f"{site.http.host}:{site.http.port}"
        say(f"WARNING: no console on {where}: {built.console_error()}; check http.host and http.port in the site file")
    gc.freeze()  # what lives as long as the process is not looked at again: a full collection of it took 40 ms
    took_s = trio.current_time() - started
    scheme = "http" if site.web.tls is None else "https"
    say(f"READY {scheme}://{site.http.host}:{built.console.port} after {took_s:.1f} s, {len(built.lanes)} lanes")
    await measure_lag(data / "loop_lag.json")


async def _stop_on_signal(built: BuiltSite, scope: trio.CancelScope) -> None:
    """The first signal stops in order; the second one at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if built.stopping:
                scope.cancel()
                return
            built.stopping = True
            log.info("stopping", signal=signal.Signals(number).name)
            built.root.address.tell(Stop(), system=True)


async def _reload_on_signal(built: BuiltSite) -> None:
    """SIGHUP: read the site file again. What came of it stands in the log and on the console."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if built.reloader is None:
                log.warning("site.reload.refused", reason="the server was not started from a site file")
                continue
            try:
                built.reloader.tell(ReloadSite(by="SIGHUP"))
            except MailboxFull:
                log.warning("site.reload.refused", reason="too many reloads at once")


def with_trace(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A processor of structlog: the trace of the message whose handling wrote the line, as the console shows it."""
    if trace := current_trace():
        event.setdefault("trace", trace)
    return event


def configure_logs(level: str = "info") -> None:
    """One line an event on stderr, JSON unless it is a terminal."""
    import logging

    # plain tracebacks: one that shows local variables would show what people scanned and typed
    plain = structlog.dev.plain_traceback
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, _Harmless(sys.stderr))),
    )


class _Harmless:
    """A text stream that loses what it cannot write: whoever logs must not die of a full disk or a closed pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def say_line(text: str) -> None:
    """To stdout, at once, with the time; a closed pipe and a full disk are not our problem."""
    prefix = "" if text.startswith("READY") else time.strftime("%H:%M:%S ")
    print(prefix + text, file=_Harmless(sys.stdout), flush=True)
