"""The site's own certificate authority, in the data folder: who is a device of this site.

    pki/ca.pem, ca.key              the authority; the key never leaves this computer
    pki/server.pem                  the server's certificate and key in one file, made out to `drivers.nng.SERVER_NAME`
    pki/issued/<serial>.pem         every certificate that was ever issued
    pki/revoked.json                serial numbers that count no more; a running server sees a change within a second
    pki/codes.json                  enrolment codes that wait to be used (`paifang.pki_codes`)
    pki/neighbour.key               shared by the lanes of the site, for what they tell each other without the server
    pki/devices/<device>/           of a device whose key was made here: what has to be carried to it

A device's certificate has its id as the common name (CN).  Keys are EC P-256, which NNG's mbedTLS can use, 0600 in a
0700 folder; every file appears whole or not at all.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import secrets
import shutil
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drivers.nng import SERVER_NAME, LinkTls
from paifang import _keyfiles
from paifang._keyfiles import FOLDER_MODE, PUBLIC_MODE, SECRET_MODE, KeysError

__all__ = [
    "Authority",
    "CertificateInfo",
    "PkiError",
    "device_tls",
    "fingerprint",
    "key_of_request",
    "new_key",
    "new_request",
    "private_pem",
    "read_revoked",
    "server_tls",
]

CA_DAYS = 20 * 365
CERTIFICATE_DAYS = 2 * 365
WARN_DAYS = 42  # a certificate that runs out within this is told to people
BACKDATED_DAYS = 1  # so that a device whose clock is a little behind can use its certificate at once
FILE_BYTES_MAX = 64 * 1024
REVOKED_BYTES_MAX = 8 * 1024 * 1024
DEVICE_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")  # as names in a site file


class PkiError(KeysError):
    """What was asked of the authority cannot be done; the text says why, and what to do."""


class CertificateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate. `state` is `valid`, `expiring` (within WARN_DAYS), `expired`, `revoked` or `replaced`."""

    device: str  # SERVER_NAME for the server's own
    serial: str  # hexadecimal
    not_before: float  # seconds since the epoch
    not_after: float
    state: str

    def days_left(self, now: float) -> float:
        return (self.not_after - now) / 86400


class Authority:
    """Issues, lists and revokes. One process at a time changes the folder; reading needs no lock."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.folder = folder
        self.certificate = certificate
        self._key = key

    @classmethod
    def init(cls, folder: Path, site: str, *, now: float | None = None) -> Authority:
        """Make a new authority with the server's certificate, all at once or not at all.

        Raises PkiError when there is one already: every device would have to be enrolled again.
        """
        if folder.exists():
            raise PkiError(f"{folder}: there is an authority already; use it, or move it away and enrol every device")
        building = folder.with_name(f".{folder.name}{_keyfiles.TEMPORARY}{secrets.token_hex(8)}")
        try:
            folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            building.mkdir(mode=FOLDER_MODE)
            building.chmod(FOLDER_MODE)
            for inner in ("issued", "devices"):
                (building / inner).mkdir(mode=FOLDER_MODE)
            key = new_key()
            certificate = _authority_certificate(key, site, _moment(now))
            _keyfiles.write(building / "ca.key", private_pem(key), SECRET_MODE)
            _keyfiles.write(building / "ca.pem", _pem(certificate), PUBLIC_MODE)
            neighbours = _keyfiles.symmetric_text([secrets.token_bytes(_keyfiles.KEY_BYTES)])
            _keyfiles.write(building / "neighbour.key", neighbours, SECRET_MODE)
            made = cls(building, certificate, key)
            made._write_revoked({})
            made.renew_server(now=now)
            building.rename(folder)  # refuses when somebody else has made one meanwhile
            _keyfiles.sync_folder(folder.parent)
        except OSError as exc:
            raise PkiError(f"{folder}: cannot be made: {exc.strerror}") from exc
        finally:
            shutil.rmtree(building, ignore_errors=True)  # gone already when all went well
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The authority of an existing folder. Raises PkiError when it is incomplete, damaged or open to others."""
        if not (folder / "ca.pem").exists():
            raise PkiError(f"{folder}: no certificate authority; make one with `paifang pki init`")
        certificate = _certificate(folder / "ca.pem")
        try:
            key = serialization.load_pem_private_key(_keyfiles.read_secret(folder / "ca.key"), password=None)
        except (ValueError, TypeError):
            raise PkiError(f"{folder / 'ca.key'}: not an unencrypted PEM key; restore it from a backup") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or _spki(key.public_key()) != _spki(
            certificate.public_key()
        ):
            raise PkiError(f"{folder / 'ca.key'}: not the key of ca.pem; restore both from one backup")
        return cls(folder, certificate, key)

    @property
    def pem(self) -> bytes:
        return _pem(self.certificate)

    def neighbour_key(self) -> bytes:
        """With which lanes of the site tell each other what is genuine. Raises PkiError."""
        return _keyfiles.symmetric_keys(self.folder / "neighbour.key")[-1]

    # --- issuing ---

    def issue(
        self,
        device: str,
        public_key: ec.EllipticCurvePublicKey,
        *,
        days: int = CERTIFICATE_DAYS,
        now: float | None = None,
    ) -> bytes:
        """A certificate for `device`, PEM. The one that it had before goes on counting until it is revoked.

        `now` is in seconds since the epoch, None for the clock's.  Raises PkiError.
        """
        _check_device(device)
        return self._issue(device, public_key, [ExtendedKeyUsageOID.CLIENT_AUTH], days, now)

    def issue_request(self, device: str, request_pem: bytes, *, days: int = CERTIFICATE_DAYS) -> bytes:
        """As `issue`, for a certificate request (CSR): its signature is checked, and only its key is taken over."""
        return self.issue(device, key_of_request(request_pem), days=days)

    def issue_files(self, device: str, *, days: int = CERTIFICATE_DAYS, now: float | None = None) -> Path:
        """Key, certificate and ca.pem of a device in a folder of their own, to be carried to it. Raises PkiError."""
        _check_device(device)
        out = self.folder / "devices" / device
        key = new_key()
        certificate = self.issue(device, key.public_key(), days=days, now=now)
        try:
            out.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as exc:
            raise PkiError(f"{out}: cannot be made: {exc.strerror}") from exc
        _keyfiles.write(out / "device.key", private_pem(key), SECRET_MODE)
        _keyfiles.write(out / "device.pem", certificate, PUBLIC_MODE)
        _keyfiles.write(out / "ca.pem", self.pem, PUBLIC_MODE)
        return out

    def renew(self, device: str, *, days: int = CERTIFICATE_DAYS) -> bytes:
        """A new certificate for the key that the device has, PEM; into its folder too, if its key was made here.

        Raises PkiError when the device has none that counts: a revoked one is not renewed.
        """
        mine = self.standing(device)
        if not mine:
            raise PkiError(f"{device}: has no certificate to renew; enrol it with `paifang pki enrol-code {device}`")
        newest = max(mine, key=_age)
        public_key = newest.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        certificate = self.issue(device, public_key, days=days)
        out = self.folder / "devices" / device
        carried = out / "device.pem"
        if carried.exists() and _spki(_certificate(carried).public_key()) == _spki(public_key):
            _keyfiles.write(carried, certificate, PUBLIC_MODE)
        return certificate

    def renew_server(self, *, days: int = CERTIFICATE_DAYS, now: float | None = None) -> None:
        """A new key and certificate for the server. A running server takes them up for new connections."""
        key = new_key()
        # client as well: `paifang evacuate` asks the server's safety socket with it
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = self._issue(SERVER_NAME, key.public_key(), usages, days, now)
        # one file, so that nobody ever reads a key beside another key's certificate
        _keyfiles.write(self.folder / "server.pem", certificate + private_pem(key), SECRET_MODE)

    def sign(self, builder: x509.CertificateBuilder) -> bytes:
        """A certificate that somebody else described, signed, PEM. It is no device's and not listed."""
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(identifier, critical=False).sign(self._key, hashes.SHA256())
        return _pem(certificate)

    # --- revoking and listing ---

    def revoke(self, device: str) -> int:
        """No certificate that `device` has counts any more. Returns how many were revoked by this. Raises PkiError."""
        if device == SERVER_NAME:
            raise PkiError("the server's certificate is renewed (`paifang pki renew --server`), not revoked")
        serials = {_serial(each) for each in self._issued() if _common_name(each) == device}
        if not serials:
            raise PkiError(f"{device}: has no certificate of this authority")
        with _keyfiles.alone_in(self.folder):
            revoked = read_revoked(self.folder)
            new = serials - revoked.keys()
            at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            self._write_revoked(revoked | dict.fromkeys(new, f"{device} {at}"))
        return len(new)

    def certificates(self, now: float) -> list[CertificateInfo]:
        """Every certificate ever issued, the server's first, then by device, the newest first."""
        revoked = read_revoked(self.folder)
        seen: set[str] = set()
        found = []
        newest_first = sorted(self._issued(), key=_age, reverse=True)
        for each in sorted(newest_first, key=lambda each: (_common_name(each) != SERVER_NAME, _common_name(each))):
            device, serial, end = _common_name(each), _serial(each), each.not_valid_after_utc.timestamp()
            state = "valid"
            if serial in revoked:
                state = "revoked"
            elif device in seen:
                state = "replaced"
            elif end <= now:
                state = "expired"
            elif end <= now + WARN_DAYS * 86400:
                state = "expiring"
            if state != "revoked":
                seen.add(device)
            found.append(
                CertificateInfo(
                    device=device,
                    serial=serial,
                    not_before=each.not_valid_before_utc.timestamp(),
                    not_after=end,
                    state=state,
                )
            )
        return found

    def standing(self, device: str) -> list[x509.Certificate]:
        """Those of `device` that are not revoked, also when they have run out. Raises PkiError."""
        revoked = read_revoked(self.folder)
        return [each for each in self._issued() if _common_name(each) == device and _serial(each) not in revoked]

    # --- inside ---

    def _issued(self) -> list[x509.Certificate]:
        return [_certificate(file) for file in sorted((self.folder / "issued").glob("*.pem"))]

    def _issue(
        self,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        usages: list[x509.ObjectIdentifier],
        days: int,
        now: float | None,
    ) -> bytes:
        if not 0 < days <= CA_DAYS:
            raise PkiError(f"{days} days: 1 to {CA_DAYS}")
        moment = _moment(now)
        end = min(moment + datetime.timedelta(days=days), self.certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment - datetime.timedelta(days=BACKDATED_DAYS))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace("_", "-"))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        _keyfiles.write(self.folder / "issued" / f"{_serial(certificate)}.pem", _pem(certificate), PUBLIC_MODE)
        return _pem(certificate)

    def _write_revoked(self, revoked: dict[str, str]) -> None:
        text = json.dumps({"version": 1, "revoked": revoked}, indent=1, sort_keys=True)
        _keyfiles.write(self.folder / "revoked.json", text.encode() + b"\n", PUBLIC_MODE)


def server_tls(folder: Path) -> LinkTls:
    """The server's own files of an authority's folder."""
    return LinkTls(ca=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.pem")


def read_revoked(folder: Path) -> dict[str, str]:
    """Serial numbers (hexadecimal) that count no more, and whose and since when. Raises PkiError when it is damaged."""
    file = folder / "revoked.json"
    try:
        with file.open("rb") as opened:
            data = opened.read(REVOKED_BYTES_MAX + 1)
        if len(data) > REVOKED_BYTES_MAX:
            raise PkiError(f"{file}: too long")
        return _RevokedFile.decode(data).revoked
    except OSError as exc:
        raise PkiError(f"{file}: cannot be read: {exc.strerror}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise PkiError(f"{file}: damaged ({exc}); restore it from a backup, or revoke again what was revoked") from exc


class _Revoked(msgspec.Struct, frozen=True):
    version: Literal[1]
    revoked: dict[str, str]


_RevokedFile = msgspec.json.Decoder(_Revoked)


def new_request(device: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (CSR) of `device` for its own key, PEM. Raises PkiError for a bad name."""
    _check_device(device)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    )


def key_of_request(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Whose key a certificate request (CSR, PEM) is for, after checking its signature. Raises PkiError."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
        sound = request.is_signature_valid
        public_key = request.public_key()
    except Exception as exc:  # cryptography raises what it likes for bytes from strangers
        raise PkiError("not a certificate request") from exc
    if not sound or not isinstance(public_key, ec.EllipticCurvePublicKey) or public_key.curve.name != "secp256r1":
        raise PkiError("the certificate request is not well signed with a P-256 key")
    return public_key


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key as every device of the link has one."""
    return ec.generate_private_key(ec.SECP256R1())


def device_tls(folder: Path) -> LinkTls:
    """A device's own files, as `issue_files` and `paifang lane enrol` leave them."""
    return LinkTls(ca=folder / "ca.pem", certificate=folder / "device.pem", key=folder / "device.key")


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 over the certificate's public key: what an enrolment code carries, and what people may compare."""
    return hashlib.sha256(_spki(certificate.public_key())).digest()


def _authority_certificate(key: ec.EllipticCurvePrivateKey, site: str, moment: datetime.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"paifang {site[:40]} authority")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - datetime.timedelta(days=BACKDATED_DAYS))
        .not_valid_after(moment + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})


def _check_device(device: str) -> None:
    if not DEVICE_PATTERN.fullmatch(device) or device == SERVER_NAME:
        raise PkiError(f"{device!r} is not a device's name: small letters, digits, - and _, as in the site file")


def _certificate(file: Path) -> x509.Certificate:
    try:
        with file.open("rb") as opened:
            return x509.load_pem_x509_certificate(opened.read(FILE_BYTES_MAX))
    except OSError as exc:
        raise PkiError(f"{file}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise PkiError(f"{file}: damaged; restore it from a backup") from exc


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _age(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _serial(certificate: x509.Certificate) -> str:
    """As Python's `ssl` shows it: capital hexadecimal, an even number of digits."""
    text = f"{certificate.serial_number:X}"
    return text.rjust(len(text) + len(text) % 2, "0")


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _spki(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _moment(now: float | None) -> datetime.datetime:
    if now is None:
        return datetime.datetime.now(datetime.UTC)
    return datetime.datetime.fromtimestamp(now, datetime.UTC)
