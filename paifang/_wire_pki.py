"""The authority at work: TLS for the server's sockets, whom they let in, and what people hear about certificates.

Without an address that begins with `tls+tcp` there is none of it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import structlog
import trio

from actors._common import offer
from core import Address
from drivers.nng import SERVER_NAME, LinkTls, Peer, server_context
from drivers.nng._errors import LinkTlsError
from paifang.pki import WARN_DAYS, Authority, CertificateInfo, PkiError, read_revoked, server_tls
from paifang.site import Link, SiteFile
from protocols.console import FeedEvent
from storage.interfaces import OpenCase

LOOK_EVERY_S = 0.25  # for a revocation, or a renewed server certificate
EXPIRY_EVERY_S = 3600.0
DAY_S = 86400.0
FOLDER = "pki"

log = structlog.get_logger(__name__)


def uses_tls(link: Link) -> bool:
    return link.work.startswith("tls+tcp:")  # `check` sees to it that they are all alike


def own_tls(site: SiteFile, data: Path) -> LinkTls | None:
    """The server's files, for programs on the server's computer. None where the link has no TLS."""
    return server_tls(data / FOLDER) if uses_tls(site.link) else None


def dialled(url: str) -> str:
    """An address to listen on, as this computer may dial it."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def safety_context(site: SiteFile, data: Path) -> ssl.SSLContext | None:
    """For sockets that say releases: any time will do. Raises LinkTlsError."""
    files = own_tls(site, data)
    return None if files is None else server_context(files, any_time=True)


def prepare_pki(site: SiteFile, data: Path, say: Callable[[str], None]) -> None:
    """An authority for a site that needs one and has none. Raises PkiError."""
    folder = data / FOLDER
    if uses_tls(site.link) and not folder.exists():
        Authority.init(folder, site.site.id)
        say(f"certificate authority made in {folder}: back it up; enrol devices with `paifang pki enrol-code DEVICE`")


class LinkGuard:
    """Whom the link lets in. One for the server; the sockets made anew after a failure share it."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._contexts: list[ssl.SSLContext] = []
        self._revoked: frozenset[str] = frozenset()
        self._trouble = "not read yet"
        self._seen: tuple[object, ...] = ()
        self.look()

    def work(self) -> ssl.SSLContext:
        """Raises LinkTlsError."""
        return self._made(any_time=False)

    def safety(self) -> ssl.SSLContext:
        """Raises LinkTlsError."""
        return self._made(any_time=True)

    def accepts_work(self, peer: Peer) -> bool:
        """In force, and not revoked. While nobody can tell what is revoked, nobody is let in."""
        in_force = peer.expires_at is not None and self._clock() < peer.expires_at
        return in_force and not self._trouble and peer.serial not in self._revoked

    def accepts_safety(self, peer: Peer) -> bool:
        """Not revoked, as far as anybody can tell: an old certificate and a lost list keep no release from a lane."""
        return peer.serial not in self._revoked

    def look(self) -> bool:
        """Read what has changed on disk. True when it may let in others than before."""
        seen = (_state(self._folder / "revoked.json"), _state(self._folder / "server.pem"))
        if seen == self._seen:
            return False
        renewed = bool(self._seen) and seen[1] != self._seen[1]
        self._seen = seen
        try:
            self._revoked = frozenset(read_revoked(self._folder))
            self._trouble = ""
        except PkiError as exc:
            self._trouble = str(exc)
            log.error("link.revocations_unknown", error=str(exc))
        if renewed:
            for context in self._contexts:
                try:
                    context.load_cert_chain(self._folder / "server.pem")
                except (OSError, ValueError) as exc:
                    log.error("link.server_certificate", error=str(exc))
        return True

    async def watch(self, changed: Callable[[], None]) -> None:
        """Look until cancelled; `changed` is to check every open connection again. A certificate may also run out."""
        looks = 0
        while True:
            await trio.sleep(LOOK_EVERY_S)
            looks += 1
            if self.look() or looks % 40 == 0:
                changed()

    def _made(self, *, any_time: bool) -> ssl.SSLContext:
        context = server_context(server_tls(self._folder), any_time=any_time)
        self._contexts = [*self._contexts[-3:], context]  # of the sockets that are in use; older ones ended
        return context


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


class CertificateStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of the newest certificate of each device in the site file, and the server's."""

    certificates: int
    expiring: int
    expired: int
    least_days_left: float  # below 0: has run out; 0 while there are none


class CertificateWatch:
    """Says weeks ahead which certificate runs out: on the console, as a case, in the log, as a metric."""

    def __init__(
        self,
        folder: Path,
        devices: Iterable[str],
        *,
        hub: Address,
        ledger: Address,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._devices = frozenset(devices) | {SERVER_NAME}
        self._hub = hub
        self._ledger = ledger
        self._clock = clock
        self._told: set[tuple[str, str]] = set()
        self.days_left: dict[str, float] = {}  # of the newest certificate of each device in the site file

    def statistics(self) -> CertificateStatistics:
        days = self.days_left.values()
        return CertificateStatistics(
            certificates=len(days),
            expiring=sum(1 for each in days if 0 < each <= WARN_DAYS),
            expired=sum(1 for each in days if each <= 0),
            least_days_left=min(days, default=0.0),
        )

    async def run(self) -> None:
        """Look every hour until cancelled."""
        while True:
            try:
                found = await trio.to_thread.run_sync(self._read)
            except PkiError as exc:
                log.error("certificates.unreadable", error=str(exc))
            else:
                self.tell(found)
            await trio.sleep(EXPIRY_EVERY_S)

    def _read(self) -> list[CertificateInfo]:
        """In a thread. The server's own certificate is renewed by itself: no lane has to be told."""
        authority, now = Authority.load(self._folder), self._clock()
        found = authority.certificates(now)
        if any(each.device == SERVER_NAME and each.state in ("expiring", "expired") for each in found):
            authority.renew_server(now=now)
            log.info("certificate.server_renewed")
            found = authority.certificates(now)
        return found

    def tell(self, found: list[CertificateInfo]) -> None:
        """Note what is left; warn once for each certificate when it is about to run out, and once when it has."""
        now = self._clock()
        current = [each for each in found if each.device in self._devices and each.state not in ("revoked", "replaced")]
        self.days_left = {each.device: each.days_left(now) for each in current}
        for each in current:
            if each.state not in ("expiring", "expired") or (each.serial, each.state) in self._told:
                continue
            self._told.add((each.serial, each.state))
            self._warn(each, max(0, int(each.days_left(now))))

    def _warn(self, each: CertificateInfo, days: int) -> None:
        expired = each.state == "expired"
        cure = "paifang pki renew --server" if each.device == SERVER_NAME else f"paifang pki renew {each.device}"
        zh = f"{each.device} 的证书" + ("已过期" if expired else f"将在 {days} 天后过期")
        en = f"The certificate of {each.device} " + ("has run out" if expired else f"runs out in {days} days")
        severity = "alarm" if expired else "warning"
        log.warning("certificate." + each.state, device=each.device, days=days, serial=each.serial, cure=cure)
        event = FeedEvent(
            at=self._clock(), kind="device", severity=severity, code=f"certificate_{each.state}", text_zh=zh, text_en=en
        )
        offer(self._hub, event)
        case = OpenCase(
            key=f"certificate/{each.serial}/{each.state}",
            kind=f"certificate_{each.state}",
            lane="",
            severity=severity,
            detail=f"{en}; {cure} (within {WARN_DAYS} days of its end this is said)",
            at=self._clock(),
        )
        offer(self._ledger, case)


__all__ = [
    "CertificateWatch",
    "LinkGuard",
    "LinkTlsError",
    "dialled",
    "own_tls",
    "prepare_pki",
    "safety_context",
    "uses_tls",
]
