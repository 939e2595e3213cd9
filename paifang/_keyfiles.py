"""Key files on disk: read only when nobody else may, written whole or not at all."""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FOLDER_MODE = 0o700
SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
OTHERS = 0o077
FILE_BYTES_MAX = 64 * 1024
KEY_BYTES = 32
TEMPORARY = ".new-"


class KeysError(Exception):
    """The key folder cannot be used as it is; the text names the file and the cure, never a secret."""


class KeysBusy(KeysError):
    """Somebody else is changing the folder now."""


def private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_key(file: Path, *, strict: bool = True) -> Ed25519PrivateKey:
    """The key of a PEM file; `strict` refuses a file that others may read. Raises KeysError."""
    try:
        key = serialization.load_pem_private_key(read_secret(file, strict=strict), password=None)
    except (ValueError, TypeError):
        # without the cause: its text may quote what it read
        raise KeysError(f"{file}: not an unencrypted PEM key; restore it from a backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysError(f"{file}: not an Ed25519 key; restore it from a backup")
    return key


def public_key(file: Path) -> Ed25519PublicKey:
    """The key of a PEM file. Raises KeysError."""
    try:
        key = serialization.load_pem_public_key(file.read_bytes())
    except OSError as exc:
        raise KeysError(f"{file}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise KeysError(f"{file}: damaged; copy it again from the site's key folder") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise KeysError(f"{file}: not an Ed25519 key")
    return key


def symmetric_text(keys: list[bytes]) -> bytes:
    """A file of symmetric keys: one a line, in base64; the line's number is the key's id."""
    return b"".join(base64.b64encode(key) + b"\n" for key in keys)


def symmetric_keys(file: Path) -> list[bytes]:
    """The keys of such a file, at least one. Raises KeysError."""
    try:
        keys = [base64.b64decode(line, validate=True) for line in read_secret(file).split()]
    except binascii.Error:
        raise KeysError(f"{file}: damaged; restore it from a backup") from None
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise KeysError(f"{file}: damaged; restore it from a backup")
    return keys


def read_secret(file: Path, *, strict: bool = True) -> bytes:
    """A secret file's bytes, after checking on the open file that nobody else may read it. Raises KeysError."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not make us wait
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeysError(f"{file}: not a regular file")
            if strict and status.st_mode & OTHERS:
                mode = f"{status.st_mode & 0o777:04o}"
                raise KeysError(f"{file}: others may read it ({mode}); cure: chmod 600 '{file}', then rotate this key")
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise KeysError(f"{file}: cannot be read: {exc.strerror}") from exc
    if len(data) > FILE_BYTES_MAX:
        raise KeysError(f"{file}: too long to be a key")
    return data


def write(file: Path, data: bytes, mode: int) -> None:
    """Put `data` in `file`'s place: afterwards it holds the old bytes (or is absent) or the new, whatever happens.

    The bytes are on disk, with their mode from the first moment, before the name points to them.  Raises KeysError.
    """
    temporary = file.with_name(f".{file.name}{TEMPORARY}{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                os.fchmod(descriptor, mode)  # the umask can only have taken permissions away
                opened.write(data)
                opened.flush()
                os.fsync(descriptor)
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
    except OSError as exc:
        raise KeysError(f"{file}: cannot be written: {exc.strerror}") from exc


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else changes keys meanwhile; what an interrupted change left behind is removed. Raises KeysError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise KeysError(f"{folder}: no key folder ({exc.strerror}); make one with `paifang keys init`") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise KeysBusy(f"{folder}: somebody else is changing keys; try again") from exc
        for leftover in folder.glob(f".*{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)
