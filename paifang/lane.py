"""`paifang lane`: the controller of one lane, on the gate's own computer.

    paifang lane lane.toml             run until SIGTERM; the same as `paifang lane run lane.toml`
    paifang lane enrol …               get this controller's certificate, by a one-time code
    paifang lane status lane.toml      what it does, who decides, and how its journal is kept
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paifang._command import DEMO_SITE, EXIT_USAGE, EXIT_WRONG, JSON, carry_out, load_site
from paifang.pki_cli import lane_enrol

if TYPE_CHECKING:
    from paifang.lane_wiring import BuiltLane
    from paifang.lanefile import LaneFile

DEFAULT_LANE_DATA = Path("lane-var")
EXIT_LOW_BATTERY = 3  # its supervisor does not start it again: see deploy/paifang-lane.service
STOP_WITHIN_S = 20.0
SHUTDOWN_S = 30.0  # for the command that follows a stop on low battery
PRIORITY = -5

_FILE = click.argument("file", type=click.Path(path_type=Path))
_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_LANE_DATA,
    show_default=True,
    help="Folder of identity, journal, lists and latch.",
)


class _LaneGroup(click.Group):
    """`paifang lane FILE` is `paifang lane run FILE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_LaneGroup)
def lane() -> None:
    """The controller of one lane, on the gate's own computer.  通道控制器。

    `paifang lane lane.toml` runs it. It decides with the server while that answers, and alone otherwise.
    """


@lane.command()
@_FILE
@_DATA
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def run(file: Path, data: Path, log_level: str) -> None:
    """Run the lane until SIGTERM.  运行通道。

    Prints READY and how the journal is kept. Ends with 3 when the battery is nearly empty, so that nobody starts it
    again before there is power.
    """
    import trio

    from paifang.serve import configure_logs, say_line

    lanefile = _load(file)
    configure_logs(log_level)
    sys.exit(trio.run(run_lane, lanefile, data, say_line))


@lane.command()
@_FILE
@_DATA
@JSON
def status(file: Path, data: Path, as_json: bool) -> None:
    """What the lane does now, who decides, and how its journal is kept.  通道状态。"""
    from paifang.lane_status import read_status
    from storage.journal import JournalError, read_state

    known = read_status(data) or {}
    known["running"] = _alive(known.get("pid"))
    known["device"] = _load(file).controller.device
    try:
        journal = read_state(data / "journal.sqlite")
    except JournalError as exc:
        known["journal_error"] = str(exc)
    else:
        known |= {
            "journal_mode": journal.journal_mode,
            "synchronous": journal.synchronous,
            "journal_records": journal.records,
            "journal_boot": journal.boot,
            "journal_bytes": journal.bytes,
        }
    if as_json:
        click.echo(json.dumps(known, ensure_ascii=False))
    else:
        for name, value in known.items():
            click.echo(f"{name}: {value}")
    if "journal_error" in known:
        sys.exit(EXIT_WRONG)


lane.add_command(lane_enrol)


@click.group()
def lanes() -> None:
    """The lane controllers of a site, from the server.  各通道控制器。"""


@lanes.command()
@click.argument("names", nargs=-1)
@click.option("--site", type=click.Path(path_type=Path), default=DEMO_SITE, help="The site file.")
@click.option("--entrance", default="", help="Only the lanes of one entrance.")
@click.option("--url", default="", help="Console channel; default from the site file.")
@click.option("--user", required=True)
def restart(names: tuple[str, ...], site: Path, entrance: str, url: str, user: str) -> None:
    """Restart lane controllers, one after the other; without NAMES, all of them.  逐个重启通道控制器。

    Each must be back before the next one goes; the first that is not ends the command. The password is read from
    PAIFANG_PASSWORD, or asked for.
    """
    from paifang.addresses import channel_url
    from paifang.lanes import restart_lanes

    sitefile = load_site(site)
    known = [each.id for each in sitefile.lanes if each.device and entrance in ("", each.entrance)]
    if wrong := [name for name in names if name not in known]:
        raise click.UsageError(f"no lane with a controller: {', '.join(wrong)}; there are {', '.join(known) or 'none'}")
    password = os.environ.get("PAIFANG_PASSWORD") or click.prompt("Password", hide_input=True)
    carry_out(restart_lanes, url or channel_url(sitefile), user, password, list(names) or known)


async def run_lane(file: LaneFile, data: Path, say: Callable[[str], None] = print) -> int:
    """Run until SIGTERM, a restart that the control room ordered, or a battery that is nearly empty; the exit code."""
    import trio

    from actors.evacuation.latch import LatchError, prepare_latch
    from drivers.nng import LinkTlsError
    from paifang.keys import KeysError
    from paifang.lane_wiring import LATCH_FILE, BuiltLane
    from storage.lanelists import ListsError

    with contextlib.suppress(OSError):  # only root may say so
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    try:
        built = BuiltLane(file, data)
    except (KeysError, LinkTlsError, ListsError, OSError) as exc:
        say(f"{exc}")
        return EXIT_USAGE
    try:
        prepare_latch(data / LATCH_FILE)
    except LatchError as exc:  # a full disk must not keep a gate from working
        say(f"WARNING: {exc}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, built, nursery.cancel_scope)
        nursery.start_soon(built.stop_when_told)
        say(f"READY {file.lane.id} {_journal_words(built)}")
        await built.root.run(built.root.address)
        nursery.cancel_scope.cancel()
    built.close()
    say(f"stopped: {built.why_stopped or 'told to'}")
    if built.why_stopped != "low_battery":
        return 0
    if file.power.shutdown:
        await trio.to_thread.run_sync(_shut_down, file.power.shutdown)
    return EXIT_LOW_BATTERY


def _journal_words(built: BuiltLane) -> str:
    from storage.journal import JournalError

    try:
        state = built.journal.state()
    except JournalError as exc:
        return f"journal: {exc}"
    waiting = f"{state.records} records wait for the server"
    return f"journal: PRAGMA synchronous={state.synchronous} journal_mode={state.journal_mode}, {waiting}"


async def _stop_on_signal(built: BuiltLane, scope: Any) -> None:
    """The first signal stops in order; the second one at once."""
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if built.why_stopped:
                scope.cancel()
                return
            built.stop(signal.Signals(number).name)


def _shut_down(command: list[str]) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, timeout=SHUTDOWN_S, check=False)


def _load(path: Path) -> LaneFile:
    from paifang.lanefile import LaneFileError, load_lane_file

    try:
        return load_lane_file(path)
    except LaneFileError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_USAGE)


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
