"""Where programs on this computer reach the server."""

from __future__ import annotations

from paifang.site import SiteFile

ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104 - addresses to compare with, not to listen on


def channel_url(site: SiteFile) -> str:
    """Where a program on this computer reaches the channel."""
    host = "127.0.0.1" if site.http.host in ANY_HOST else site.http.host
    host = f"[{host}]" if ":" in host else host
    return f"{'ws' if site.web.tls is None else 'wss'}://{host}:{site.http.port}/channel"
