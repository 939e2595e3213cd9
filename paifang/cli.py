"""The command line. Each command imports what it needs, so that `paifang --help` and `paifang evacuate` start fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from paifang._command import DATA, DEMO_SITE, EXIT_WRONG, JSON, carry_out, load_site, open_database, show
from paifang.addresses import channel_url
from paifang.devices import devices, reload
from paifang.evacuation_report import evacuation
from paifang.lane import lane, lanes
from paifang.modes_cli import modes
from paifang.pki_cli import lane_enrol, pki

_SITE = click.argument("site", type=click.Path(path_type=Path), required=False, default=DEMO_SITE)
_DATA = DATA
_JSON = JSON


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="paifang")
def main() -> None:
    """Gates, tickets and evacuation of a scenic area.  牌坊：景区闸机与票务调度服务器。

    First try: `paifang run` starts a server with a simulated site.  SITE is a site file; without one the commented
    example sites/demo.toml is used.
    """


main.add_command(devices)
main.add_command(evacuation)
lane.add_command(lane_enrol)
main.add_command(lane)
main.add_command(modes)
main.add_command(lanes)
main.add_command(pki)
main.add_command(reload)


# --- running a site -----------------------------------------------------------------------------------------------


@main.command()
@_SITE
@_DATA
@click.option("--demo-users", is_flag=True, help="Make the demo's users, with the password in PAIFANG_DEMO_PASSWORD.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def serve(site: Path, data: Path, demo_users: bool, log_level: str) -> None:
    """Run the site server until Ctrl-C.  运行服务器。

    Prints READY and the console's address once lanes and console are up. Stops in order; a second Ctrl-C stops at once.
    """
    from paifang.serve import configure_logs, say_line
    from paifang.serve import serve as run_server

    configure_logs(log_level)
    sitefile = load_site(site)
    carry_out(run_server, sitefile, data, path=site.resolve(), demo_users=demo_users, say=say_line)


@main.command()
@_DATA
@click.option("--seed", default=7, show_default=True, help="Of the simulated visitors.")
@click.option("--speed", default=60.0, show_default=True, help="Visitors' time: 60 makes an hour of a day a minute.")
@click.option("--seconds", type=float, default=None, help="Stop after this long; otherwise at Ctrl-C.")
def run(data: Path, seed: int, speed: float, seconds: float | None) -> None:
    """Server and simulated site together, on embedded defaults: what `make run` starts.  试运行。"""
    from paifang.run import run_both

    sys.exit(carry_out(run_both, DEMO_SITE, data, seed, speed, seconds))


@main.command()
@_SITE
@_DATA
@click.option("--seed", default=7, show_default=True)
@click.option("--speed", default=60.0, show_default=True, help="Visitors' time; barriers stay as fast as they are.")
@click.option("--seconds", type=float, default=None, help="Stop after this long; otherwise at Ctrl-C.")
@click.option("--script", type=click.Choice(["", "demo"]), default="", help="`demo`: the demo's phases, then stop.")
@click.option(
    "--photos",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder that photographs are fetched into; without it no cards with faces.",
)
def sim(
    site: Path, data: Path, seed: int, speed: float, seconds: float | None, script: str, photos: Path | None
) -> None:
    """A simulated site beside a server with the same SITE and --data: boards, readers, gates, printer, visitors.

    No real device is touched. Writes what the simulated devices saw to DATA/sim/truth.jsonl.
    """
    from paifang.serve import configure_logs
    from sim.run import SimOptions, run_sim

    configure_logs("warning")
    options = SimOptions(seed=seed, speed=speed, seconds=seconds, script=script, photos=photos)
    carry_out(run_sim, load_site(site), data, options)


@main.command()
@click.option("--seconds", default=30.0, show_default=True, help="Length of the run, set-up not counted.")
@click.option("--seed", default=7, show_default=True)
@click.option("--kill-at", type=float, default=None, help="SIGKILL the server this many seconds in, and restart it.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), default=None, help="Keep truth and database.")
@click.option("--check", "check_dir", type=click.Path(path_type=Path, exists=True), default=None, help="Compute again.")
@_JSON
def demo(
    seconds: float, seed: int, kill_at: float | None, keep: Path | None, check_dir: Path | None, as_json: bool
) -> None:
    """Everything once, end to end, in a temporary folder: sell, admit, refuse, fill, evacuate, restore.

    Each figure is recomputed from what the simulated devices wrote down and from the database, not taken from the
    server. Exit code 1 when a promise is broken.
    """
    from paifang.demo import broken
    from paifang.demo import check as recompute
    from paifang.demo import demo as play

    figures = carry_out(recompute, check_dir) if check_dir else carry_out(play, seconds, seed, kill_at, keep)
    show(figures, as_json)
    sys.exit(EXIT_WRONG if broken(figures) else 0)


@main.command()
@_SITE
@_DATA
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Seconds to wait for every lane.")
@click.option("--drill", is_flag=True, help="Mark it as a drill. The lanes open all the same.")
@click.option("--scope", default="", help="entrance:NAME, zone:NAME or lane:NAME, commas between; without, everything.")
@_JSON
def evacuate(site: Path, data: Path, timeout_s: float, drill: bool, scope: str, as_json: bool) -> None:
    """Open every lane now, without the server.  紧急疏散：不依赖服务器，立即打开全部通道。

    Works while the server hangs. Exit code 0 only when every lane is sensed open. A board that cannot say so is shown
    as `commanded, cannot sense`: somebody has to go and look.
    """
    from paifang.evacuate import evacuate as release

    async def go() -> Any:
        return await release(
            sitefile,
            data / "keys",
            data,
            timeout_s=timeout_s,
            drill=drill,
            scope=scope,
            say=lambda line: click.echo(line, err=True),
        )

    sitefile = load_site(site)
    report = carry_out(go)
    show(msgspec.to_builtins(report), as_json)
    sys.exit(report.exit_code)


# --- looking ------------------------------------------------------------------------------------------------------


@main.command()
@_SITE
def check(site: Path) -> None:
    """Validate a site file: every problem with file, line, key and what is allowed.  检查配置。"""
    from paifang.check import check as examine

    report = examine(site)
    for line in report.lines():
        click.echo(line)
    if report.site is None:
        sys.exit(EXIT_WRONG)
    site_file = report.site
    click.echo(
        f"{site}: good; {len(site_file.zones)} zones, {len(site_file.lanes)} lanes, {len(site_file.products)} products"
    )


@main.command()
@_SITE
@_DATA
@_JSON
def audit(site: Path, data: Path, as_json: bool) -> None:
    """Check the invariants on the live database; exit code 1 when one is broken.  核对不变量。"""
    from storage.audit import audit as examine

    sitefile = load_site(site)

    async def go() -> Any:
        async with open_database(sitefile, data, existing=True) as dsn:
            return await examine(dsn, sitefile.site.id)

    report = carry_out(go)
    if as_json:
        show(msgspec.to_builtins(report), True)
    else:
        broken = {name for name, _ in report.broken}
        for name in report.checked:
            click.echo(f"{'BROKEN' if name in broken else 'ok':7}{name}")
        for name, detail in report.broken:
            click.echo(f"{name}: {detail}")
    sys.exit(EXIT_WRONG if report.broken else 0)


@main.command()
@_SITE
@_DATA
@click.option("--url", default="", help="Console channel; default from the site file.")
@click.option("--user", required=True)
@click.option("--watch", is_flag=True, help="Again every second.")
@_JSON
def inspect(site: Path, data: Path, url: str, user: str, watch: bool, as_json: bool) -> None:
    """The live actor tree: state, mailbox, restarts, last error, over the console channel.

    The password is read from PAIFANG_PASSWORD, or asked for.
    """
    from paifang.inspect import inspect_site

    address = url or channel_url(load_site(site))
    password = os.environ.get("PAIFANG_PASSWORD") or click.prompt("Password", hide_input=True)
    carry_out(inspect_site, address, user, password, watch, as_json)


@main.command()
@click.argument("code")
@click.option("--lane", required=True, help="At which lane.")
@click.option("--at", default="", help='Another moment, "2026-11-22 14:00" on the site\'s clock; without it, now.')
@click.option("--face", is_flag=True, help="Suppose that the holder's face was compared and matches.")
@click.option("--exit", "way_out", is_flag=True, help="They want out.")
@click.option("--id", "id_number", is_flag=True, help="CODE is the number of an ID.")
@click.option("--holder", default="", help="The number of the ID that is shown beside CODE; - reads it from stdin.")
@click.option("--stamp", is_flag=True, help="Suppose that staff have looked at the holder.")
@click.option("--product", default="", help="Suppose that staff have chosen this one, of several tickets.")
@click.option("--site", type=click.Path(path_type=Path), default=DEMO_SITE, help="The site file.")
@click.option("--url", default="", help="Console channel; default from the site file.")
@click.option("--user", required=True)
@_JSON
def explain(
    code: str, lane: str, at: str, face: bool, way_out: bool, id_number: bool, holder: str, stamp: bool, product: str,
    site: Path, url: str, user: str, as_json: bool,
) -> None:  # fmt: skip
    """Why CODE would be admitted or refused at a lane, step by step, without any effect.  为何拒绝。

    CODE is what a reader reads: a ticket code, a phone's live code, a typed short code, or CARD: and a card's number;
    - reads it from stdin, which keeps it out of the shell's history. Nothing is booked, logged or held. Exit code 0:
    admitted, 1: refused, or nobody could be asked. The password is read from PAIFANG_PASSWORD, or asked for.
    """
    from paifang.explain import explain_ticket, moment
    from protocols.console import ExplainScan

    sitefile = load_site(site)
    timezone = sitefile.site.timezone
    presented = (sys.stdin.readline() if code == "-" else code).strip()
    asked = ExplainScan(
        code=presented,
        lane=lane,
        at=carry_out(moment, at, timezone),
        face_ok=face,
        id_number=id_number,
        holder=(sys.stdin.readline() if holder == "-" else holder).strip(),
        way_out=way_out,
        stamp=stamp,
        product=product,
    )
    address = url or channel_url(sitefile)
    password = os.environ.get("PAIFANG_PASSWORD") or click.prompt("Password", hide_input=True)
    admitted = carry_out(explain_ticket, address, user, password, asked, timezone, as_json)
    sys.exit(0 if admitted else EXIT_WRONG)


@main.command()
@click.argument("ticket", type=click.IntRange(0, (1 << 53) - 1))
@click.option("--site", type=click.Path(path_type=Path), default=DEMO_SITE, help="The site file.")
@click.option("--url", default="", help="Console channel; default from the site file.")
@click.option("--user", required=True)
@_JSON
def ticket(ticket: int, site: Path, url: str, user: str, as_json: bool) -> None:
    """The link that shows TICKET on its visitor's phone, as text and as a QR code, and the code to type.  电子票。

    Whoever has either can enter: hand them to the ticket's visitor only. The same each time; written into the audit
    log. The password is read from PAIFANG_PASSWORD, or asked for.
    """
    from paifang.ticket import hand_out

    address = url or channel_url(load_site(site))
    password = os.environ.get("PAIFANG_PASSWORD") or click.prompt("Password", hide_input=True)
    carry_out(hand_out, address, user, password, ticket, as_json)


@main.command()
@click.argument("name", type=click.Choice(
    ["runtime", "admission", "face", "bus", "evacuation", "lane", "consoles", "soak"]
))  # fmt: skip
@click.option("--quick", is_flag=True, help="Seconds instead of a minute, and less exact.")
@click.option(
    "--history", type=click.IntRange(0), default=0, is_flag=False, flag_value=5_000_000,
    help="admission: again after so many past passages; 5,000,000 unless you say.",
)  # fmt: skip
@click.option("--lanes", type=click.IntRange(1, 2000), help="evacuation: how many lanes are released.  [default: 500]")
@_JSON
def bench(name: str, quick: bool, history: int, lanes: int | None, as_json: bool) -> None:
    """Measure, beside a floor in the same run: figures in their units, and ratios that travel between machines."""
    from importlib import import_module

    more: dict[str, int] = {}
    for option, value, of in (("history", history, "admission"), ("lanes", lanes, "evacuation")):
        if not value:
            continue
        if name != of:
            raise click.UsageError(f"--{option} belongs to `paifang bench {of}`")
        more[option] = value
    show(import_module(f"bench.{name}").run(quick=quick, **more), as_json)


# --- keeping ------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--site", type=click.Path(path_type=Path), default=DEMO_SITE, help="The site file.")
@_DATA
def backup(file: Path, site: Path, data: Path) -> None:
    """Write the database into FILE while the server runs or not. Keys are not in it: keep DATA/keys apart.  备份。"""
    from storage.backup import backup as write

    sitefile = load_site(site)

    async def go() -> None:
        async with open_database(sitefile, data, existing=True) as dsn:
            await write(dsn, file, progress=click.echo)

    carry_out(go)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--site", type=click.Path(path_type=Path), default=DEMO_SITE, help="The site file.")
@_DATA
def restore(file: Path, site: Path, data: Path) -> None:
    """Read what FILE holds into an empty database, all or nothing.  恢复。

    Nothing is ever replaced: stop the server and move DATA/pg away first, or name a new database in the site file.
    DATA/keys has to be the one that the backup was made with.
    """
    from storage.backup import restore as read

    sitefile = load_site(site)

    async def go() -> None:
        async with open_database(sitefile, data) as dsn:
            await read(file, dsn, progress=click.echo)

    carry_out(go)


@main.group()
def keys() -> None:
    """Secrets of a site: ticket and release signing, hashing of ids, encryption of personal data.  密钥。"""


@keys.command("init")
@_DATA
def keys_init(data: Path) -> None:
    """Make all keys, once. They stand in DATA/keys, readable by you alone: keep a copy in another place."""
    from paifang.keys import KeyRing

    carry_out(lambda: KeyRing.init(data / "keys"))
    click.echo(f"keys made in {data / 'keys'}")


@keys.command("rotate")
@click.argument("kind", type=click.Choice(["ticket", "release", "data"]))
@click.option("--activate", default="", metavar="ID", help="Let a pending release key sign from the next start on.")
@_DATA
def keys_rotate(kind: str, activate: str, data: Path) -> None:
    """Add a new key; old ones go on verifying. A release key waits until its public part is on every lane."""
    from paifang.keys import KeyRing

    def go() -> str:
        ring = KeyRing.load(data / "keys")
        if activate:
            ring.activate(activate)
            return f"{activate} signs from the server's next start on"
        return f"new {kind} key: {ring.rotate(kind)}; a running server uses it after its next start"

    click.echo(carry_out(go))


@keys.command("list")
@_DATA
@_JSON
def keys_list(data: Path, as_json: bool) -> None:
    """Every key with its use, file, age and public fingerprint; never a secret."""
    from paifang.keys import KeyRing

    infos = carry_out(lambda: KeyRing.load(data / "keys").list())
    if as_json:
        show(msgspec.to_builtins(infos), True)
        return
    for info in infos:
        click.echo(f"{info.kind:10}{info.id:12}{info.use:10}{info.fingerprint or '-':18}{info.file}")


@main.group()
def codes() -> None:
    """Codes that are printed before anybody buys them: drawn, exported, received, sold; or void.  预制票。

    Every command speaks to the running server and needs --user; the password is read from PAIFANG_PASSWORD, or asked
    for. A code opens only when it was sold at a window.
    """


def _channel(function: Any) -> Any:
    """What every command of `codes` needs to reach the server."""
    options = (
        click.option("--site", type=click.Path(path_type=Path), default=DEMO_SITE, help="The site file."),
        click.option("--url", default="", help="Console channel; default from the site file."),
        click.option("--user", required=True),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _desk(site: Path, url: str, user: str) -> Any:
    from paifang.codes import CodeDesk

    password = os.environ.get("PAIFANG_PASSWORD") or click.prompt("Password", hide_input=True)
    return CodeDesk(url or channel_url(load_site(site)), user, password)


_REASON = click.option("--reason", required=True, help="Goes into the audit log.")
_KEY = click.option("--key", default="", help="Makes the command once only when it is said again; default: random.")


@codes.command("batch")
@click.argument("product")
@click.argument("quantity", type=int)
@_REASON
@_KEY
@_channel
@_JSON
def codes_batch(
    product: str, quantity: int, reason: str, key: str, site: Path, url: str, user: str, as_json: bool
) -> None:
    """Draw QUANTITY codes for PRODUCT, all blank."""
    batch = carry_out(_desk(site, url, user).create, product, quantity, reason, key)
    _show_batches([batch], as_json)


@codes.command("export")
@click.argument("batch", type=int)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--to", "handed_to", required=True, help="Who prints them; goes into the books with the file's hash.")
@click.option("--plain", is_flag=True, help="CSV that anybody can read, instead of an encrypted file.")
@_REASON
@_KEY
@_channel
@_JSON
def codes_export(
    batch: int, file: Path, handed_to: str, plain: bool, reason: str, key: str, site: Path, url: str, user: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Take the codes of BATCH out into FILE, by another person than the one who drew them.

    Encrypted with the passphrase in PAIFANG_EXPORT_PASSPHRASE, or asked for; `paifang codes decrypt` reads it. FILE is
    new, and readable by you alone.
    """
    passphrase = ""
    if not plain:
        passphrase = os.environ.get("PAIFANG_EXPORT_PASSPHRASE") or click.prompt(
            "Passphrase of the file", hide_input=True, confirmation_prompt=True
        )
    desk = _desk(site, url, user)
    told = carry_out(desk.export, batch, file, handed_to, passphrase, reason, key)
    if as_json:
        show(told, True)
    else:
        click.echo(f"{told['codes']} codes in {file}; SHA-256 of the list {told['sha256']}")


@codes.command("decrypt")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def codes_decrypt(file: Path) -> None:
    """Write what an export holds to stdout: batch, serial and code, one a line. Needs no server."""
    from paifang.codes import read_export

    passphrase = os.environ.get("PAIFANG_EXPORT_PASSPHRASE") or click.prompt("Passphrase of the file", hide_input=True)
    click.echo(carry_out(read_export, file, passphrase), nl=False)


@codes.command("receive")
@click.argument("batch", type=int)
@click.argument("first", type=int)
@click.argument("last", type=int)
@click.option("--workstation", required=True, help="Where they are in stock.")
@_REASON
@_KEY
@_channel
@_JSON
def codes_receive(
    batch: int, first: int, last: int, workstation: str, reason: str, key: str, site: Path, url: str, user: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Serials FIRST to LAST of BATCH are back from the printer, or move to another workstation."""
    moved = carry_out(_desk(site, url, user).move, batch, first, last, "in_stock", workstation, reason, key)
    _show_batches([moved], as_json)


@codes.command("void")
@click.argument("batch", type=int)
@click.argument("first", type=int)
@click.argument("last", type=int)
@click.option("--lost", is_flag=True, help="They are lost rather than void; neither ever opens.")
@_REASON
@_KEY
@_channel
@_JSON
def codes_void(
    batch: int, first: int, last: int, lost: bool, reason: str, key: str, site: Path, url: str, user: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Serials FIRST to LAST of BATCH will never open. Sold ones are refunded instead."""
    moved = carry_out(_desk(site, url, user).move, batch, first, last, "lost" if lost else "void", "", reason, key)
    _show_batches([moved], as_json)


@codes.command("status")
@click.argument("batch", type=int, required=False, default=0)
@_channel
@_JSON
def codes_status(batch: int, site: Path, url: str, user: str, as_json: bool) -> None:
    """How many codes of BATCH, or of the latest batches, are where."""
    _show_batches(carry_out(_desk(site, url, user).status, batch), as_json)


def _show_batches(batches: list[Any], as_json: bool) -> None:
    if as_json:
        show(msgspec.to_builtins(batches), True)
        return
    states = ("blank", "at_printer", "in_stock", "sold", "void", "lost")
    for batch in batches:
        counts = ", ".join(f"{getattr(batch, state)} {state}" for state in states if getattr(batch, state))
        click.echo(f"batch {batch.batch}  {batch.product}, {batch.quantity} codes by {batch.created_by}: {counts}")


@main.group()
def users() -> None:
    """People who may log in.  用户。"""


@users.command("add")
@click.argument("name")
@click.option(
    "--role",
    required=True,
    help="cashier, gate_staff, operator, security, supervisor, finance, marketing, duty_manager, system_manager",
)
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin instead of asking.")
@_DATA
def users_add(name: str, role: str, password_stdin: bool, data: Path) -> None:
    """Add a user, or give one a new role and password. A running server knows it at once."""
    from paifang.users import add_user

    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    carry_out(lambda: add_user(data, name, role, password))
    click.echo(f"{name}: {role}")


@users.command("list")
@_DATA
def users_list(data: Path) -> None:
    """Names and roles."""
    from paifang.users import load_users

    for user in carry_out(lambda: load_users(data)).values():
        click.echo(f"{user.name:24}{user.role}")


@users.command("remove")
@click.argument("name")
@_DATA
def users_remove(name: str, data: Path) -> None:
    """Remove a user; open sessions end within a minute."""
    from paifang.users import remove_user

    carry_out(lambda: remove_user(data, name))
