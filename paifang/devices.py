"""`paifang devices`: commissioning a device, one at a time, without the server and without a database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from paifang._command import DATA, EXIT_WRONG, JSON, SITE_OPTION, carry_out, load_site, show
from paifang.addresses import channel_url

_AS = click.option("--as", "kind", default="", metavar="LANGUAGE", help="What a device outside the site file speaks.")
_BAUD = click.option("--baud", default=0, help="Bits per second; without it, what that kind usually speaks.")
_ADDRESS = click.option("--address", type=int, default=None, help="Its number on the bus.")
_RECORD = click.option(
    "--record", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write a trace into a new FILE."
)
_PERSONAL = click.option("--personal-data", "personal", is_flag=True, help="Show bytes that hold a person's data.")


@click.group()
def devices() -> None:
    """Find, watch and try single devices.  设备调试：发现、监视、试机。

    DEVICE is a name of the site file (gate/n1, reader/n1/1, printer/window-1; also a lane's or a printer's id), or,
    for one that is not in it yet, a path or HOST:PORT with --as LANGUAGE.

    \b
    A new scanner, from the box to its first scan:
      paifang devices list                                      which adapter is it?
      paifang devices test /dev/serial/by-id/usb-…              scan something
      (write that path into the site file)
      paifang check site.toml
      paifang reload --site site.toml --user anna               the running server takes it over

    While the server runs, the lines in its site file are its own: these commands say so and touch nothing.
    """


@devices.command("list")
@SITE_OPTION
@DATA
@JSON
def list_(site: Path, data: Path, as_json: bool) -> None:
    """Adapters of this computer by the names that stay, and the devices of the site file.  列出设备。

    Opens nothing. An adapter that no device uses is marked `free`: a new device is usually behind one of those.
    """
    from paifang._device_find import adapters
    from paifang._device_specs import device_specs

    specs = device_specs(load_site(site))
    here = adapters()
    used: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for spec in specs.values():
        path = (data / spec.path).absolute() if spec.path else None
        if path is not None:
            used[str(path.resolve())] = spec.name
        rows.append(
            {
                "device": spec.name,
                "language": spec.language,
                "place": spec.place,
                "state": "" if path is None else _state(path),
            }
        )
    found = [
        {
            "path": adapter.path,
            "today": adapter.tty,
            "what": adapter.what,
            "product": adapter.product,
            "device": used.get(adapter.tty, ""),
            "holder": adapter.holder,
        }
        for adapter in here
    ]
    if as_json:
        show({"adapters": found, "devices": rows}, True)
        return
    nothing = "no USB serial adapter, keyboard-like reader or USB printer here"
    click.echo("ports of this computer:" if found else nothing)
    for each in found:
        owner = each["device"] or (f"in use by {each['holder']}" if each["holder"] else "free")
        today = Path(str(each["today"])).name
        click.echo(f"  {each['path']}\n      {each['what']}, {today}, {each['product'] or '-'}: {owner}")
    click.echo(f"devices of {site}:")
    for row in rows:
        click.echo(f"  {row['device']:20}{row['language']:10}{row['place']:44} {row['state']}".rstrip())


def _state(path: Path) -> str:
    """Of a line or device file: not there, not allowed, in use, free."""
    import os

    from drivers.serial import line_holder

    if not path.exists():
        return "not plugged in"
    if holder := line_holder(str(path)):
        return f"in use by {holder}"
    if not os.access(path, os.R_OK | os.W_OK):
        return "not permitted: add yourself to the group of the file (usually dialout), log in again"
    return "free"


@devices.command()
@click.argument("names", nargs=-1, metavar="[DEVICE]...")
@SITE_OPTION
@DATA
@_AS
@_BAUD
@_ADDRESS
@click.option("--seconds", default=4.0, show_default=True, help="How long each may take to answer.")
@JSON
def probe(
    names: tuple[str, ...],
    site: Path,
    data: Path,
    kind: str,
    baud: int,
    address: int | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Ask devices whether they are there; without a name, all of the site file.  探测。

    For a path without --as, every language that can be asked without any effect is tried in turn. Nothing is opened
    and nothing printed. Exit code 1 when one does not answer.
    """
    from paifang._device_find import find
    from paifang._device_specs import device_specs
    from paifang._device_talk import probe as ask

    sitefile = load_site(site)
    if len(names) == 1 and names[0].startswith("/dev/") and not kind:
        _guess(names[0], as_json)
        return
    wanted = [carry_out(find, sitefile, name, kind, baud, address) for name in names]
    findings = carry_out(ask, wanted or list(device_specs(sitefile).values()), data, seconds)
    if as_json:
        import msgspec

        show(msgspec.to_builtins(findings), True)
    else:
        for each in findings:
            words = each.detail or ", ".join(part for part in (each.firmware, each.said) if part)
            click.echo(f"{each.device:20}{each.state:16}{each.place:40} {words}".rstrip())
    sys.exit(0 if all(each.available for each in findings) else EXIT_WRONG)


def _guess(path: str, as_json: bool) -> None:
    import msgspec

    from paifang._device_find import check_free, outside
    from paifang._device_talk import guess

    carry_out(check_free, outside(path, "qr"), Path("/"))
    finding = carry_out(guess, path, lambda line: click.echo(line, err=True))
    if finding is None:
        click.echo(
            f"{path}: nobody answers in a language that can be asked. A scanner answers nothing until somebody scans: "
            f"try `paifang devices test {path}`",
            err=True,
        )
        sys.exit(EXIT_WRONG)
    show(msgspec.to_builtins(finding), True) if as_json else click.echo(
        f"{path}: {finding.language}, {finding.frames} frames understood"
    )


@devices.command()
@click.argument("device")
@SITE_OPTION
@DATA
@_AS
@_BAUD
@_ADDRESS
@_RECORD
@_PERSONAL
@click.option("--seconds", type=float, default=None, help="Stop after this long; otherwise at Ctrl-C.")
def watch(
    device: str,
    site: Path,
    data: Path,
    kind: str,
    baud: int,
    address: int | None,
    record: Path | None,
    personal: bool,
    seconds: float | None,
) -> None:
    """Show the bytes on a device's wires, what they mean, and what its driver makes of them.  监视。

    `out` is to the device, `in` from it; `=>` is an event as the server would hear it. Equal chunks are counted, not
    repeated. With --record, all of it goes into FILE (0600: it holds the codes that were scanned), for `replay`.
    """
    from paifang._device_find import find
    from paifang._device_talk import watch as look

    spec = carry_out(find, load_site(site), device, kind, baud, address)
    until = float("inf") if seconds is None else seconds
    carry_out(look, spec, data, click.echo, seconds=until, record=record, personal=personal)


@devices.command()
@click.argument("device")
@SITE_OPTION
@DATA
@_AS
@_BAUD
@_ADDRESS
@_RECORD
@_PERSONAL
@click.option("--direction", type=click.Choice(["entry", "exit"]), default="entry", show_default=True)
@click.option("--pax", type=click.IntRange(1, 50), default=1, show_default=True, help="People to let through.")
@click.option("--yes", is_flag=True, help="Do not ask before a barrier moves.")
@click.option("--seconds", default=30.0, show_default=True, help="How long to wait for a person.")
def test(
    device: str,
    site: Path,
    data: Path,
    kind: str,
    baud: int,
    address: int | None,
    record: Path | None,
    personal: bool,
    direction: str,
    pax: int,
    yes: bool,
    seconds: float,
) -> None:
    """Let a device do its work once: open a gate, read a ticket or card, print a test ticket.  试机。

    A gate opens for real and counts whoever walks through; nothing is booked. Exit code 0 when it did what it is for.
    """
    from paifang._device_find import find
    from paifang._device_specs import GATE
    from paifang._device_talk import test as work

    spec = carry_out(find, load_site(site), device, kind, baud, address)
    if spec.kind == GATE and not yes:
        click.confirm(f"{spec.name} will open for {pax}. Is nobody in the barrier?", abort=True)
    done = carry_out(
        work, spec, data, click.echo,
        direction=direction, pax=pax, seconds=seconds, record=record, personal=personal,
    )  # fmt: skip
    sys.exit(0 if done else EXIT_WRONG)


@devices.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@JSON
def replay(file: Path, as_json: bool) -> None:
    """Play a trace to the driver and compare what it says with what it said then.  重放。

    Needs no device. Exit code 1 when the events differ: then the driver has changed, or the trace holds a race.
    """
    import msgspec

    from paifang._device_talk import replay as play

    result = carry_out(play, file)
    if as_json:
        show({**msgspec.to_builtins(result), "same": result.same}, True)
    else:
        for now, then in _side_by_side(result.replayed, result.recorded):
            click.echo(f"{'  ' if now == then else '! '}{now:58}{'' if now == then else then}".rstrip())
        click.echo(f"{result.device}: {len(result.replayed)} events, {'as recorded' if result.same else 'DIFFERENT'}")
    sys.exit(0 if result.same else EXIT_WRONG)


def _side_by_side(left: list[str], right: list[str]) -> list[tuple[str, str]]:
    from itertools import zip_longest

    return list(zip_longest(left, right, fillvalue="(nothing)"))


@click.command()
@SITE_OPTION
@click.option("--url", default="", help="Console channel; default from the site file.")
@click.option("--user", required=True, help="In the role system_manager.")
@click.option("--check", "--dry-run", "dry_run", is_flag=True, help="Say what would change, and change nothing.")
@JSON
def reload(site: Path, url: str, user: str, dry_run: bool, as_json: bool) -> None:
    """Let the running server read its site file again.  重新加载配置。

    Devices that are described differently are exchanged; all others keep their connections. What needs a restart is
    named. A file with a mistake is refused whole. `kill -HUP` of the server does the same without a password.
    """
    import os

    from paifang.reloading import reload_site

    address = url or channel_url(load_site(site))
    password = os.environ.get("PAIFANG_PASSWORD") or click.prompt("Password", hide_input=True)
    carry_out(reload_site, address, user, password, dry_run, as_json)
