"""`paifang pki …` at the server, and `paifang lane enrol` at the lane."""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from paifang._command import DATA, EXIT_WRONG, JSON, SITE_OPTION, carry_out, load_site, show

DEFAULT_IDENTITY = Path("lane-var") / "identity"  # where `paifang lane` looks for it


@click.group()
def pki() -> None:
    """Certificates of lane controllers.  闸机控制器的证书。

    The authority lives in DATA/pki. A running server takes every change over by itself.
    """


@pki.command()
@SITE_OPTION
@DATA
def init(site: Path, data: Path) -> None:
    """Make the site's authority, and the server's certificate."""
    carry_out(_init, load_site(site), data)


@pki.command()
@click.argument("device")
@click.option("--days", default=730, show_default=True, help="How long the certificate counts.")
@DATA
def issue(device: str, days: int, data: Path) -> None:
    """Make key and certificate of DEVICE here, to be carried to it. With `enrol-code` the key never travels."""
    click.echo(carry_out(lambda: _authority(data).issue_files(device, days=days)))


@pki.command("enrol-code")
@click.argument("device")
@click.option("--minutes", default=60.0, show_default=True, help="How long the code may be used.")
@SITE_OPTION
@DATA
def enrol_code(device: str, minutes: float, site: Path, data: Path) -> None:
    """Print a code with which DEVICE gets its certificate, once: `paifang lane enrol --server … --code …` there."""
    click.echo(carry_out(_enrol_code, load_site(site), data, device, minutes))


@pki.command()
@click.argument("device")
@DATA
def revoke(device: str, data: Path) -> None:
    """No certificate of DEVICE counts any more. Its connections end within a second."""
    count = carry_out(lambda: _authority(data).revoke(device))
    click.echo(f"{device}: {count} certificate(s) revoked" if count else f"{device}: was revoked already")


@pki.command()
@click.argument("device", required=False)
@click.option("--server", is_flag=True, help="The server's own certificate.")
@click.option("--days", default=730, show_default=True, help="How long the new one counts.")
@DATA
def renew(device: str | None, server: bool, days: int, data: Path) -> None:
    """A new certificate for the key that DEVICE has, on stdout (PEM)."""
    if server == (device is not None):
        raise click.UsageError("name a DEVICE, or --server")
    if device is None:
        carry_out(lambda: _authority(data).renew_server(days=days))
        click.echo("the server's certificate is renewed")
    else:
        click.echo(carry_out(lambda: _authority(data).renew(device, days=days)).decode(), nl=False)


@pki.command("list")
@click.option("--all", "everything", is_flag=True, help="Revoked and replaced ones, too.")
@DATA
@JSON
def list_(everything: bool, data: Path, as_json: bool) -> None:
    """Who has a certificate, and for how long. Exit code 1 when one has run out, or will within six weeks."""
    now = time.time()
    found = carry_out(lambda: _authority(data).certificates(now))
    shown = [each for each in found if everything or each.state not in ("revoked", "replaced")]
    if as_json:
        show([msgspec.to_builtins(each) for each in shown], True)
    else:
        for each in shown:
            until = datetime.datetime.fromtimestamp(each.not_after, datetime.UTC).date().isoformat()
            days = f"{each.days_left(now):.0f} days"
            click.echo(f"{each.device:<24} {each.state:<9} until {until} ({days})  {each.serial}")
    sys.exit(EXIT_WRONG if any(each.state in ("expiring", "expired") for each in shown) else 0)


@click.command("enrol")
@click.option("--server", required=True, help="HOST:PORT, as link.enrol in the server's site file says.")
@click.option("--code", required=True, help="What `paifang pki enrol-code DEVICE` printed there.")
@click.option(
    "--identity",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_IDENTITY,
    show_default=True,
    help="Folder for key, certificate, authority and release keys.",
)
def lane_enrol(server: str, code: str, folder: Path) -> None:
    """Get this lane controller's certificate, by a one-time code.  用一次性代码登记本闸机控制器。"""
    enrolled = carry_out(_enrol, server, code, folder)
    click.echo(f"{enrolled.device}: enrolled at site {enrolled.site}, lane {enrolled.lane}; everything is in {folder}")


def _authority(data: Path) -> Any:
    from paifang.pki import Authority

    return Authority.load(data / "pki")


def _init(site: Any, data: Path) -> None:
    from paifang.pki import Authority, fingerprint

    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority.init(data / "pki", site.site.id)
    click.echo(f"authority of {site.site.id} made in {data / 'pki'}; back it up apart from the database")
    click.echo(f"SHA-256 of its key: {fingerprint(authority.certificate).hex()}")


def _enrol_code(site: Any, data: Path, device: str, minutes: float) -> str:
    from paifang.pki import Authority, PkiError
    from paifang.pki_codes import CODE_LIFE_MAX_S, Codes

    devices = {lane.device for lane in site.lanes if lane.device is not None}
    if device not in devices:
        known = ", ".join(sorted(devices)) or "none"
        raise PkiError(f"{device}: no lane of the site file has this device; it knows {known}")
    if not 0 < minutes * 60 <= CODE_LIFE_MAX_S:
        raise PkiError(f"{minutes:g} minutes: at most {CODE_LIFE_MAX_S / 60:g}")
    folder = data / "pki"
    return Codes(folder, Authority.load(folder).certificate).make(device, minutes * 60)


async def _enrol(server: str, code: str, folder: Path) -> Any:
    from paifang.pki_enrol import enrol

    return await enrol(server, code, folder)
