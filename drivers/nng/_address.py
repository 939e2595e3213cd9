"""Which addresses the device link may bind: loopback over TCP, until the link has mutual TLS."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit

from drivers.nng._errors import LinkAddressError


def check_address(key: str, url: str, tls: ssl.SSLContext | None) -> None:
    """With TLS any `tls+tcp://` address with a port may be bound, without it loopback alone.

    Raises LinkAddressError.
    """
    if tls is None:
        check_loopback(key, url)
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise LinkAddressError(_complaint(key, url, str(exc))) from exc
    if parts.scheme != "tls+tcp" or port is None or not host:
        raise LinkAddressError(f'{key} = "{url}": with TLS it is tls+tcp://HOST:PORT, for instance tls+tcp://0.0.0.0:8461')


def check_loopback(key: str, url: str) -> None:
    """Raises LinkAddressError unless `url` is `tcp://` plus a loopback address and a port.

    `key` is the site file's name for it, so that the complaint can say where to look.  A host name other than
    `localhost` is refused as well: what it resolves to may change after the check.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise LinkAddressError(_complaint(key, url, str(exc))) from exc
    if parts.scheme != "tcp":
        raise LinkAddressError(_complaint(key, url, "only tcp:// is allowed"))
    if port is None:
        raise LinkAddressError(_complaint(key, url, "the port is missing"))
    if not _is_loopback(host or ""):
        raise LinkAddressError(
            _complaint(
                key, url, "the device link has no mutual TLS yet, so whoever reaches this address could play a gate"
            )
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _complaint(key: str, url: str, what: str) -> str:
    return f'{key} = "{url}": {what}; use a loopback address such as tcp://127.0.0.1:8461'
