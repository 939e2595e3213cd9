"""The key folder: what signs tickets and releases, hashes credentials and seals personal data.

    ticket-<id>.pem            Ed25519, signs ticket codes: the newest signs, all verify
    release-<id>.pem           Ed25519, signs evacuation releases: the newest signs, all verify
    release-<id>.pending.pem   made by `rotate`, signs only after `activate`: lanes must learn its public part first
    release-<id>.pub           the public part, which lanes need; not secret
    id_hash.key                HMAC-SHA256 key for credentials; never changes, or no stored hash matches any more
    data.key                   AES-256-GCM keys for personal data: the newest seals, all open

The folder is 0700 and its secrets 0600 from the moment they exist; a folder that others may read is not loaded.  Files
appear whole or not at all, also when the power fails.  Nothing here prints, logs or shows a secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import shutil
from pathlib import Path
from typing import NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paifang import _keyfiles
from paifang._keyfiles import FOLDER_MODE, KEY_BYTES, OTHERS, PUBLIC_MODE, SECRET_MODE, KeysError

__all__ = [
    "KeyInfo",
    "KeyRing",
    "KeysError",
    "SealError",
    "fingerprint",
    "load_release_signer",
    "public_release_keys",
]

NONCE_BYTES = 12
KEY_ID_MAX = 0xFFFF  # two bytes in ticket codes and in sealed data
KEY_ID_BYTES = 2
SEAL_VERSION = b"\x01"
SEAL_CONTEXT = b"paifang-seal-1\x00"

ROTATABLE = ("ticket", "release", "data")

_PEM_NAME = re.compile(r"(ticket|release)-([1-9][0-9]{0,4})(\.pending)?\.pem")
_PUB_NAME = re.compile(r"release-([1-9][0-9]{0,4})\.pub")


class SealError(KeysError):
    """Sealed bytes were not sealed by us for this context, or were damaged."""


class KeyInfo(msgspec.Struct, frozen=True):
    """One key, as people may see it. `use` is `signs`, `verifies`, `pending`, `seals`, `opens` or `hashes`."""

    kind: str
    id: str
    use: str
    file: str
    made_at: float  # seconds since the epoch
    fingerprint: str  # of the public key: SHA-256, first 16 hexadecimal digits; empty for symmetric keys


class KeyRing:
    """The keys of one site, in memory. Make one with `load` or `init`."""

    def __init__(self, path: Path) -> None:
        """Read the folder; use `load`, which says the same by its name."""
        self.path = path
        self._read()

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """The keys of an existing folder. Raises KeysError when it is incomplete, damaged or open to others."""
        return cls(path)

    @classmethod
    def init(cls, path: Path) -> KeyRing:
        """Make a new folder with one key of each kind, all at once or not at all.

        Raises KeysError when there is one already: a key that is overwritten voids every ticket.
        """
        if path.is_dir() and any(path.iterdir()):
            raise KeysError(f"{path}: there is a key folder already; use it, or rotate single keys")
        building = path.with_name(f".{path.name}{_keyfiles.TEMPORARY}{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            building.mkdir(mode=FOLDER_MODE)
            building.chmod(FOLDER_MODE)  # whatever the umask took away
            tickets, releases = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
            _keyfiles.write(building / "ticket-1.pem", _keyfiles.private_pem(tickets), SECRET_MODE)
            _keyfiles.write(building / "release-1.pem", _keyfiles.private_pem(releases), SECRET_MODE)
            _keyfiles.write(building / "release-1.pub", _keyfiles.public_pem(releases.public_key()), PUBLIC_MODE)
            for name in ("id_hash.key", "data.key"):
                secret = _keyfiles.symmetric_text([secrets.token_bytes(KEY_BYTES)])
                _keyfiles.write(building / name, secret, SECRET_MODE)
            building.rename(path)  # refuses when somebody else has made one meanwhile
            _keyfiles.sync_folder(path.parent)
        except OSError as exc:
            raise KeysError(f"{path}: cannot be made: {exc.strerror}") from exc
        finally:
            shutil.rmtree(building, ignore_errors=True)  # gone already when all went well
        return cls(path)

    # --- using keys ---

    @property
    def ticket_signer(self) -> tuple[int, Ed25519PrivateKey]:
        """(key id, key) for `protocols.ticketcode.sign`."""
        newest = max(self._tickets)
        return newest, self._tickets[newest]

    @property
    def ticket_verifiers(self) -> dict[int, Ed25519PublicKey]:
        """All ticket keys by id, for `protocols.ticketcode.Verifier`."""
        return {key_id: key.public_key() for key_id, key in self._tickets.items()}

    @property
    def release_signer(self) -> tuple[str, Ed25519PrivateKey]:
        """(key id, key) for `protocols.devicelink.sign_release`."""
        newest = max(self._releases)
        return str(newest), self._releases[newest]

    @property
    def release_verifiers(self) -> dict[str, Ed25519PublicKey]:
        """All release keys by id, the pending ones included, for lanes and tests."""
        return {str(key_id): key.public_key() for key_id, key in {**self._releases, **self._pending}.items()}

    def hash_id(self, kind: str, value: str) -> bytes:
        """The keyed hash (32 bytes) under which a credential is stored; `kind` keeps name spaces apart."""
        name = kind.encode()
        message = len(name).to_bytes(2, "big") + name + value.encode("utf-8", "surrogatepass")
        return hmac.digest(self._id_hash, message, "sha256")

    @property
    def hash_key(self) -> bytes:
        """The secret behind `hash_id`. It leaves the server only for a lane controller that decides alone."""
        return self._id_hash

    def rotating_key(self, ticket: int) -> bytes:
        """The key (32 bytes) of a ticket's rotating codes, for the holder's app and for `protocols.rotating`."""
        return self.hash_id("rotating-key", str(ticket))

    def short_digest(self, ticket: int, attempt: int) -> bytes:
        """What a ticket's short code is made of (`protocols.shortcode.derived_short`); `attempt` if one was taken."""
        return self.hash_id("short-code", f"{ticket}:{attempt}")

    def seal(self, plaintext: bytes, context: str) -> bytes:
        """Encrypt personal data. `context` (what and whose it is) must be the same to open it again."""
        key_id = max(self._data)
        nonce = secrets.token_bytes(NONCE_BYTES)
        header = SEAL_VERSION + key_id.to_bytes(KEY_ID_BYTES, "big")
        return header + nonce + AESGCM(self._data[key_id]).encrypt(nonce, plaintext, _associated(header, context))

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed. Raises SealError when it is damaged, foreign, or was sealed for another context."""
        header, nonce = sealed[: 1 + KEY_ID_BYTES], sealed[1 + KEY_ID_BYTES :][:NONCE_BYTES]
        key = self._data.get(int.from_bytes(header[1:], "big"))
        if header[:1] != SEAL_VERSION or len(nonce) != NONCE_BYTES or key is None:
            raise SealError("not sealed by this site")
        try:
            ciphertext = sealed[1 + KEY_ID_BYTES + NONCE_BYTES :]
            return AESGCM(key).decrypt(nonce, ciphertext, _associated(header, context))
        except InvalidTag as exc:
            raise SealError("damaged, or sealed for something else") from exc

    # --- keeping keys ---

    def rotate(self, kind: str) -> str:
        """Add a new key of `kind` (`ticket`, `release` or `data`); its id. Old keys go on verifying and opening.

        A ticket or data key is used at once.  A release key is pending: copy its `release-<id>.pub` to every lane,
        then `activate` it, because a lane that does not know the key does not obey the release.  A server that runs
        uses it after its next start.  Raises KeysError; then nothing has changed.
        """
        with _keyfiles.alone_in(self.path):
            self._read()
            if kind == "ticket":
                new = _next_id(self._tickets)
                key = Ed25519PrivateKey.generate()
                _keyfiles.write(self.path / f"ticket-{new}.pem", _keyfiles.private_pem(key), SECRET_MODE)
            elif kind == "release":
                if self._pending:
                    raise KeysError(f"{self.path}: release key {max(self._pending)} is pending; activate it first")
                new = _next_id(self._releases)
                key = Ed25519PrivateKey.generate()
                _keyfiles.write(self.path / f"release-{new}.pub", _keyfiles.public_pem(key.public_key()), PUBLIC_MODE)
                _keyfiles.write(self.path / f"release-{new}.pending.pem", _keyfiles.private_pem(key), SECRET_MODE)
            elif kind == "data":
                new = _next_id(self._data)
                keys = [*(self._data[key_id] for key_id in sorted(self._data)), secrets.token_bytes(KEY_BYTES)]
                _keyfiles.write(self.path / "data.key", _keyfiles.symmetric_text(keys), SECRET_MODE)
            elif kind == "id_hash":
                raise KeysError("id_hash.key is for good: with another one no stored credential would match any more")
            else:
                raise KeysError(f"there are no keys of kind {kind!r}; possible: {', '.join(ROTATABLE)}")
            self._read()
        return str(new)

    def activate(self, key_id: str) -> None:
        """Let a pending release key sign; every lane must have its public part. Raises KeysError."""
        with _keyfiles.alone_in(self.path):
            self._read()
            if key_id not in map(str, self._pending):
                raise KeysError(f"{self.path}: there is no pending release key {key_id}")
            try:
                (self.path / f"release-{key_id}.pending.pem").rename(self.path / f"release-{key_id}.pem")
                _keyfiles.sync_folder(self.path)
            except OSError as exc:
                raise KeysError(f"{self.path}: release key {key_id} cannot be activated: {exc.strerror}") from exc
            self._read()

    def list(self) -> list[KeyInfo]:
        """Every key, without its secret."""
        found: list[KeyInfo] = []
        for kind, keys, uses in (
            ("ticket", self._tickets, ("signs", "verifies")),
            ("release", self._releases, ("signs", "verifies")),
            ("release", self._pending, ("pending", "pending")),
        ):
            for key_id, key in sorted(keys.items()):
                suffix = ".pending.pem" if keys is self._pending else ".pem"
                use = uses[0] if key_id == max(keys) else uses[1]
                name = f"{kind}-{key_id}{suffix}"
                found.append(KeyInfo(kind, str(key_id), use, name, self._made_at(name), fingerprint(key.public_key())))
        found.append(KeyInfo("id_hash", "1", "hashes", "id_hash.key", self._made_at("id_hash.key"), ""))
        for data_id in sorted(self._data):
            use = "seals" if data_id == max(self._data) else "opens"
            found.append(KeyInfo("data", str(data_id), use, "data.key", self._made_at("data.key"), ""))
        return found

    def export_release_keys(self, folder: Path) -> None:
        """Write every `release-<id>.pub`, for lanes; `public_release_keys` reads them. Raises KeysError."""
        for key_id, key in self.release_verifiers.items():
            _keyfiles.write(folder / f"release-{key_id}.pub", _keyfiles.public_pem(key), PUBLIC_MODE)

    def __repr__(self) -> str:
        return f"KeyRing({str(self.path)!r}, tickets={sorted(self._tickets)}, releases={sorted(self._releases)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys stay in their process")

    def _made_at(self, name: str) -> float:
        return (self.path / name).stat().st_mtime

    def _read(self) -> None:
        try:
            mode = self.path.stat().st_mode
            names = sorted(entry.name for entry in self.path.iterdir())
        except OSError as exc:
            raise KeysError(f"{self.path}: no key folder ({exc.strerror}); make one with `paifang keys init`") from exc
        if mode & OTHERS:
            raise KeysError(f"{self.path}: others may enter it ({mode & 0o777:04o}); cure: chmod 700 '{self.path}'")
        pairs: dict[tuple[str, bool], dict[int, Ed25519PrivateKey]] = {}
        for name in names:
            if match := _PEM_NAME.fullmatch(name):
                keys = pairs.setdefault((match[1], match[3] is not None), {})
                keys[int(match[2])] = _keyfiles.private_key(self.path / name)
        tickets, releases = pairs.get(("ticket", False), {}), pairs.get(("release", False), {})
        for kind, keys in (("ticket", tickets), ("release", releases)):
            if not keys:
                raise KeysError(f"{self.path}: {kind}-<id>.pem is missing; restore it from a backup of this folder")
            if max(keys) > KEY_ID_MAX:
                raise KeysError(f"{self.path}: {kind}-{max(keys)}.pem: ids end at {KEY_ID_MAX}")
        id_hash = _keyfiles.symmetric_keys(self.path / "id_hash.key")
        if len(id_hash) != 1:
            raise KeysError(f"{self.path / 'id_hash.key'}: holds {len(id_hash)} keys instead of one")
        # nothing of the ring changes unless all of it could be read
        data = dict(enumerate(_keyfiles.symmetric_keys(self.path / "data.key"), start=1))
        self._tickets, self._releases, self._pending = tickets, releases, pairs.get(("release", True), {})
        self._id_hash, self._data = id_hash[0], data


def public_release_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """The public parts of the release keys by id, from `release-<id>.pub` files: all that a lane needs.

    Raises KeysError when there is none (a lane that knows no key obeys no release) or when one is damaged.
    """
    try:
        names = [file.name for file in folder.iterdir()]
    except OSError as exc:
        raise KeysError(f"{folder}: cannot be read: {exc.strerror}") from exc
    matches = [match for name in names if (match := _PUB_NAME.fullmatch(name))]
    found = {match[1]: _keyfiles.public_key(folder / match[0]) for match in matches}
    if not found:
        raise KeysError(f"{folder}: no release-<id>.pub; copy them from the site's key folder")
    return found


def load_release_signer(path: Path) -> tuple[str, Ed25519PrivateKey]:
    """(key id, key) of the newest release key, read alone, and whatever the modes of folder and file are.

    For an evacuation only: a wrong mode, or a damaged key of another kind, is no reason to keep people in.
    Raises KeysError when no release key can be read.
    """
    try:
        matches = [_PEM_NAME.fullmatch(file.name) for file in path.iterdir()]
    except OSError as exc:
        raise KeysError(f"{path}: no key folder ({exc.strerror})") from exc
    numbers = [int(match[2]) for match in matches if match and match[1] == "release" and not match[3]]
    for number in sorted(numbers, reverse=True):
        with contextlib.suppress(KeysError):
            return str(number), _keyfiles.private_key(path / f"release-{number}.pem", strict=False)
    raise KeysError(f"{path}: no release-<id>.pem can be read")


def fingerprint(key: Ed25519PublicKey) -> str:
    """How people tell public keys apart: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _associated(header: bytes, context: str) -> bytes:
    return SEAL_CONTEXT + header + context.encode()


def _next_id(keys: dict[int, Ed25519PrivateKey] | dict[int, bytes]) -> int:
    new = max(keys) + 1
    if new > KEY_ID_MAX:
        raise KeysError(f"key ids end at {KEY_ID_MAX}")
    return new
