"""Mutual TLS on the device link: NNG's `tls+tcp://` at the device's end, Python's `ssl` at the server's.

The work sockets take nothing but a certificate of the site's own authority that is in force.  The safety sockets look
at the chain and not at the clock: a lane whose certificate has run out, or whose clock is wrong, must hear a release,
and releases are signed.  For the same reason a device does not check the server on its safety sockets.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pynng

from drivers.nng._errors import LinkTlsError

SERVER_NAME = "paifang-server"  # what every site server's certificate is made out to, wherever it listens
FILE_BYTES_MAX = 64 * 1024
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which `ssl` does not name


class LinkTls(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to trust and who we are: PEM files. `key` belongs to `certificate`, which `ca` has signed."""

    ca: Path
    certificate: Path
    key: Path


def client_config(tls: LinkTls, *, check_server: bool = True) -> pynng.TLSConfig:
    """For a dialling socket's `tls_config`. Raises LinkTlsError naming the file.

    Without `check_server` the server may show any certificate, also one that our clock takes for expired.
    """
    ca, certificate, key = (_text(path) for path in (tls.ca, tls.certificate, tls.key))
    config = pynng.TLSConfig(pynng.TLSConfig.MODE_CLIENT)
    try:
        config.set_server_name(SERVER_NAME)
        config.set_ca_chain(ca)
        config.set_own_cert(certificate, key)
        mode = pynng.TLSConfig.AUTH_MODE_REQUIRED if check_server else pynng.TLSConfig.AUTH_MODE_NONE
        config.set_auth_mode(mode)
    except pynng.NNGException as exc:
        raise LinkTlsError(f"{tls.certificate}: not usable with {tls.key} and {tls.ca}: {exc}") from exc
    return config


def server_context(tls: LinkTls, *, any_time: bool = False) -> ssl.SSLContext:
    """For the server's sockets: clients must show a certificate of `ca`. Raises LinkTlsError naming the file.

    With `any_time` their certificates may have run out, or not begun.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION  # each connection shows its certificate anew
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    if any_time:
        context.verify_flags |= NO_CHECK_TIME
    for path in (tls.ca, tls.certificate, tls.key):
        _text(path)
    try:
        context.load_verify_locations(tls.ca)
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise LinkTlsError(f"{tls.certificate}: not usable with {tls.key} and {tls.ca}: {exc}") from exc
    return context


def expires_at(certificate: Mapping[str, Any] | None) -> float | None:
    """When a peer's certificate runs out, in seconds since the epoch, as `ssl` shows it."""
    text = (certificate or {}).get("notAfter")
    return None if text is None else float(ssl.cert_time_to_seconds(text))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise LinkTlsError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(data) > FILE_BYTES_MAX:
        raise LinkTlsError(f"{path}: too long to be a certificate or a key")
    return data.decode("ascii", "replace")
