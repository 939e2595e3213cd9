"""What the commands share: loading a site, its database, and errors as lines instead of tracebacks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

if TYPE_CHECKING:
    from paifang.site import SiteFile

DEFAULT_DATA = Path("var")
DEMO_SITE = Path(__file__).resolve().parent.parent / "sites" / "demo.toml"

SITE_OPTION = click.option(
    "--site", type=click.Path(path_type=Path), default=DEMO_SITE, help="The site file; without it, the demo's."
)
DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA,
    show_default=True,
    help="Folder of keys, users, latch, embedded database.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")

EXIT_WRONG = 1  # what was asked for does not hold
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell says it


def load_site(path: Path) -> SiteFile:
    """A site file that is good; otherwise its problems on stderr, and the end."""
    from paifang.check import SiteFileError, load

    try:
        return load(path)
    except SiteFileError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_USAGE)


def open_database(site: SiteFile, data: Path, *, existing: bool = False) -> Any:
    """The site's database: somebody else's, the running server's embedded one, or the embedded one for this command.

    With `existing`, a data folder without one is an error: a new, empty database would pass every check.
    """
    import contextlib

    from storage.connection import parse_url
    from storage.embedded import EmbeddedError, shared

    if site.database.url:
        return contextlib.nullcontext(parse_url(site.database.url))
    if existing and not (data / "pg").exists():
        raise EmbeddedError(f"{data}: no database in this data folder; name the server's with --data")
    return shared(data, progress=lambda text: click.echo(f"database: {text}", err=True))


def carry_out(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a coroutine function or a plain one; what people can cure is one line on stderr, not a traceback."""
    import inspect as signatures

    try:
        if signatures.iscoroutinefunction(function):
            return trio.run(lambda: function(*args, **kwargs))
        return function(*args, **kwargs)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as exc:
        group = exc if isinstance(exc, ExceptionGroup) else ExceptionGroup("", [exc])
        known, rest = group.split(_cures())
        if known is None or rest is not None:
            raise
        for line in sorted({str(each) for each in _leaves(known)}):
            click.echo(f"paifang: {line}", err=True)
        sys.exit(EXIT_WRONG)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            sys.exit(EXIT_INTERRUPTED)
        raise


def _cures() -> tuple[type[Exception], ...]:
    """Errors whose text says what to do. Of imported modules only: no command pays for what another one needs."""
    names = {
        "admin_ws.client": "ConsoleError",
        "drivers.errors": "DeviceError",
        "drivers.trace": "TraceError",
        "paifang._device_find": "DeviceToolError",
        "paifang.check": "SiteFileError",
        "paifang.codes": "CodesError",
        "paifang.explain": "ExplainError",
        "paifang.demo": "DemoError",
        "paifang._keyfiles": "KeysError",
        "paifang.lanes": "RestartError",
        "paifang.rows": "RowsError",
        "paifang.users": "UsersError",
        "sim.run": "SimError",
        "storage.audit": "AuditError",
        "storage.backup": "BackupError",
        "storage.connection": "BadUrl",
        "storage.embedded": "EmbeddedError",
        "storage.incidents": "IncidentError",
    }
    return tuple(getattr(sys.modules[module], name) for module, name in names.items() if module in sys.modules)


def _leaves(group: BaseException) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for each in group.exceptions for leaf in _leaves(each)]
    return [group]


def show(value: Any, as_json: bool) -> None:
    """One JSON object, or something for people."""
    if as_json:
        click.echo(json.dumps(value, ensure_ascii=False))
        return
    from rich.pretty import pprint

    pprint(value, expand_all=True)
