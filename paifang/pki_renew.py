"""Renewal of a device's certificate, both ends: the authority's answer, and the files that a lane controller keeps.

A lane asks over its work link, where its certificate in force is the proof, with a request that only the holder of its
key can have signed.  The key stays; so the new certificate is one file, which takes the old one's place at once or not
at all.  Asking again is harmless: a certificate that is not due is answered with itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivers.nng import LinkTls
from paifang import _keyfiles
from paifang._keyfiles import PUBLIC_MODE, KeysError
from paifang.pki import FILE_BYTES_MAX, Authority, PkiError, device_tls, key_of_request, new_request

RENEW_S = 60 * 86400.0  # before its end a certificate is renewed; people are told 42 days before it
RENEW_PART = 3  # one that counts for less: when no more than this part of its life is left


def due_at(not_before: float, not_after: float) -> float:
    """From when a certificate is to be renewed, in seconds since the epoch."""
    return not_after - min(RENEW_S, (not_after - not_before) / RENEW_PART)


def renewed(authority: Authority, device: str, request_pem: bytes, *, now: float | None = None) -> bytes:
    """The certificate that `device` is to use, PEM: a new one for its key, or the one it has while that is not due.

    Raises PkiError for a request that is none, for a key that no standing certificate of `device` is for, and when all
    of them have run out.
    """
    moment = time.time() if now is None else now
    key = key_of_request(request_pem)
    mine = [each for each in authority.standing(device) if each.public_key() == key]
    if not mine:
        raise PkiError(f"{device} has no certificate for this key that counts")
    newest = max(mine, key=lambda each: each.not_valid_after_utc)
    begin, end = _life(newest)
    if end <= moment:
        raise PkiError(f"the certificate of {device} has run out")
    if moment < due_at(begin, end):
        return newest.public_bytes(serialization.Encoding.PEM)
    return authority.issue(device, key, now=now)


class LaneCertificate:
    """The certificate in a lane controller's identity folder. Blocks for the disk."""

    def __init__(self, identity: Path, device: str, clock: Callable[[], float] = time.time) -> None:
        """`clock` is the server's, as far as the lane knows it. Raises PkiError when there is no usable certificate."""
        self._identity = identity
        self._device = device
        self._clock = clock
        self._pem = b""
        self.begin = self.end = 0.0  # seconds since the epoch
        self.look()

    @property
    def tls(self) -> LinkTls:
        return device_tls(self._identity)

    @property
    def days_left(self) -> float:
        """Below 0: it has run out."""
        return (self.end - self._clock()) / 86400

    def due_in_s(self) -> float:
        """When it is to be renewed; 0 or less: now."""
        return due_at(self.begin, self.end) - self._clock()

    def look(self) -> bool:
        """Read the file. True when it holds another certificate than before. Raises PkiError."""
        pem = _read(self._identity / "device.pem")
        if pem == self._pem:
            return False
        certificate = _certificate(pem, str(self._identity / "device.pem"))
        self._pem = pem
        self.begin, self.end = _life(certificate)
        return True

    def request(self) -> bytes:
        """A certificate request for the key that we have, PEM. Raises PkiError."""
        return new_request(self._device, self._key())

    def take(self, pem: bytes) -> bool:
        """Put a certificate in the place of ours, after looking at it. False when it is ours. Raises PkiError.

        Only one of our own authority, for our key and our name, that counts for longer.
        """
        if pem == self._pem:
            return False
        certificate = _certificate(pem, "what the server has sent")
        authority = _certificate(_read(self._identity / "ca.pem"), str(self._identity / "ca.pem"))
        names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature) as exc:
            raise PkiError("the new certificate is not of this site's authority") from exc
        if names != [self._device] or certificate.public_key() != self._key().public_key():
            raise PkiError("the new certificate is for another device or another key")
        if _life(certificate)[1] <= self.end:
            raise PkiError("the new certificate counts no longer than the old one")
        try:
            _keyfiles.write(self._identity / "device.pem", pem, PUBLIC_MODE)
        except KeysError as exc:
            raise PkiError(str(exc)) from exc
        return self.look()

    def _key(self) -> ec.EllipticCurvePrivateKey:
        file = self._identity / "device.key"
        try:
            key = serialization.load_pem_private_key(_keyfiles.read_secret(file), password=None)
        except KeysError as exc:
            raise PkiError(str(exc)) from exc
        except (ValueError, TypeError):
            raise PkiError(f"{file}: not an unencrypted PEM key; enrol this lane again") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PkiError(f"{file}: not a P-256 key; enrol this lane again")
        return key


def _life(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(FILE_BYTES_MAX)
    except OSError as exc:
        raise PkiError(f"{file}: cannot be read: {exc.strerror}") from exc


def _certificate(pem: bytes, whose: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise PkiError(f"{whose}: not a certificate") from exc
