"""TLS for the console's page and channel: a certificate of your own, or one of the site's own authority.

    [web.tls]
    certificate = "/etc/paifang/web.pem"     the chain, the server's own first
    key = "/etc/paifang/web.key"

    [web.tls]
    authority = true                          made here, renewed by itself; browsers trust it once they have pki/ca.pem

Files that are exchanged while the server runs are taken up for new connections.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import structlog
import trio
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core import Address, Stop
from paifang import _keyfiles
from paifang.addresses import ANY_HOST
from paifang.pki import Authority, PkiError, new_key, private_pem
from paifang.site import SiteFile

PKI_FOLDER = "pki"
WEB_FILE = "web.pem"  # certificate and key in one file, so that nobody reads a key beside another key's certificate
DAYS = 397  # browsers take no longer ones
RENEW_DAYS = 60  # before the end
BACKDATED_DAYS = 1
LOOK_EVERY_S = 60.0
NAMES_MAX = 32
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_PATTERN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")

log = structlog.get_logger(__name__)


class WebTlsError(_keyfiles.KeysError):
    """Certificate or key cannot be used; the text names the file and the cure."""


class WebTls:
    """The server's side. `context` stays the same object; `refresh` gives it newer files.

    Raises:
        WebTlsError: certificate or key is missing, damaged or does not fit; or the authority cannot issue.
    """

    def __init__(self, site: SiteFile, data: Path) -> None:
        assert site.web.tls is not None
        self._site, self._tls, self._data = site, site.web.tls, data
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen: tuple[int, ...] = ()
        self.refresh()

    def refresh(self) -> bool:
        """Renew what is due and load what has changed; true when something was loaded. Raises WebTlsError."""
        certificate, key = self._own() if self._tls.authority else (Path(self._tls.certificate), Path(self._tls.key))
        try:
            seen = certificate.stat().st_mtime_ns, key.stat().st_mtime_ns
            if seen == self._seen:
                return False
            fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # half-written files must not spoil the one in use
            fresh.load_cert_chain(certificate, key)
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as exc:
            raise WebTlsError(f"web.tls: {certificate} and {key} cannot be used: {exc.strerror or exc}") from exc
        self._seen = seen
        return True

    async def run(self, me: Address) -> None:
        """The actor `web_tls`: looks at the files from time to time. When they are wrong the old ones stay in use."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            while not isinstance((await me.receive()).msg, Stop):
                pass
            nursery.cancel_scope.cancel()

    async def _keep(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY_S)
            try:
                if self.refresh():
                    log.info("web.tls.loaded")
            except (WebTlsError, PkiError) as exc:
                log.warning("web.tls.refused", error=str(exc))

    def _own(self) -> tuple[Path, Path]:
        file, names = self._data / PKI_FOLDER / WEB_FILE, host_names(self._site)
        if not _good(file, names):
            issue(self._data / PKI_FOLDER, self._site.site.id, names)
        return file, file


def web_tls(site: SiteFile, data: Path) -> WebTls | None:
    """None for a site without TLS. Raises WebTlsError or PkiError."""
    return None if site.web.tls is None else WebTls(site, data)


def host_names(site: SiteFile) -> list[str]:
    """What people may type for this server: names and addresses, without doubles."""
    own = socket.gethostname()
    names = [*site.web.names, "localhost", "127.0.0.1", "::1"]
    if site.http.host not in ANY_HOST:
        names.insert(0, site.http.host)
    if HOST_PATTERN.match(own):
        names += [own] if "." in own else [own, f"{own}.local"]
    return list(dict.fromkeys(names))[:NAMES_MAX]


def issue(folder: Path, site: str, names: Sequence[str]) -> None:
    """A new key and certificate for the page, by the site's authority; makes one if need be. Raises PkiError."""
    authority = Authority.load(folder) if folder.exists() else Authority.init(folder, site)
    key = new_key()
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(authority.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=BACKDATED_DAYS))
        .not_valid_after(min(now + datetime.timedelta(days=DAYS), authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)  # opens no device link
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    certificate = authority.sign(builder)
    _keyfiles.write(folder / WEB_FILE, certificate + private_pem(key), _keyfiles.SECRET_MODE)


def _good(file: Path, names: Sequence[str]) -> bool:
    """Is it there, ours to use for a while, and made out to all these names?"""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left > datetime.timedelta(days=RENEW_DAYS) and {_general(name) for name in names} <= set(found)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
