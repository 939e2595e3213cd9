"""Certificates of simulated smart gates: the site's own authority, which is on this computer, issues them by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from drivers.nng import LinkTls
from paifang._wire_pki import FOLDER, dialled, uses_tls
from paifang.pki import Authority, device_tls
from paifang.site import Link, SiteFile

Identities = Callable[[str], LinkTls | None]
"""device -> the files that it shows; None where the link has no TLS."""


def no_identity(device: str) -> LinkTls | None:
    """For a link without TLS."""
    return None


def identities(site: SiteFile, data: Path) -> Identities:
    """For the simulated gates of a site whose authority is below `data`. Raises PkiError when it is not usable.

    A gate that is revoked stays so: its files are made once, and again only when they are about to run out.
    """
    if not uses_tls(site.link):
        return no_identity
    authority = Authority.load(data / FOLDER)
    standing = {each.device for each in authority.certificates(time.time()) if each.state in ("valid", "revoked")}

    def files(device: str) -> LinkTls:
        folder = data / FOLDER / "devices" / device
        if device in standing and (folder / "device.key").exists():
            return device_tls(folder)
        return device_tls(authority.issue_files(device))

    return files


def dialled_link(link: Link) -> Link:
    """The addresses of a site file as this computer dials them."""
    names = ("work", "wake", "release", "safety", "evacuate_release", "evacuate_safety")
    return msgspec.structs.replace(link, **{name: dialled(getattr(link, name)) for name in names})
