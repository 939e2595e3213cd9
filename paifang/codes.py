"""`paifang codes`: batches of pre-printed codes over the console channel, and the file in which they go to a printer.

An export is a list of lines (batch, serial, code), each ended by a line feed; the server keeps the SHA-256 of the whole
list.  Encrypted, it is `PFX1`, 16 bytes of salt, 12 of nonce, and the list under AES-256-GCM, with a key that scrypt
(N 2^15, r 8, p 1) makes of the passphrase.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from admin_ws.client import ConsoleClient
from protocols.console import (
    BatchList,
    BatchView,
    CodePage,
    ExportView,
    GetBatches,
    GetCodes,
    NewCodes,
    ShiftCodes,
    TakeOutCodes,
)

MAGIC = b"PFX1"
SALT_BYTES = 16
NONCE_BYTES = 12
KEY_BYTES = 32
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1
PASSPHRASE_CHARACTERS_MIN = 12
FILE_MODE = 0o600
CALL_S = 60.0


class CodesError(Exception):
    """An export cannot be written or read; the text says what would help."""


class CodeDesk:
    """Commands of `paifang codes` to a running server, as one user."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._user = user
        self._password = password

    async def _call(self, method: str, params: Any, kind: type[Any]) -> Any:
        async with ConsoleClient.connect(self._url) as client:
            await client.login(self._user, self._password)
            return await client.call(method, params, kind, timeout_s=CALL_S)

    async def create(self, product: str, quantity: int, reason: str, key: str) -> BatchView:
        """Raises ConsoleError."""
        asked = NewCodes(product=product, quantity=max(0, quantity), reason=reason, key=key or new_key())
        batch: BatchView = await self._call("codes.create", asked, BatchView)
        return batch

    async def move(
        self, batch: int, first: int, last: int, state: str, workstation: str, reason: str, key: str
    ) -> BatchView:
        """Raises ConsoleError."""
        asked = ShiftCodes(
            batch=batch,
            first=max(0, first),
            last=max(0, last),
            state=state,
            workstation=workstation,
            reason=reason,
            key=key or new_key(),
        )
        moved: BatchView = await self._call("codes.move", asked, BatchView)
        return moved

    async def status(self, batch: int) -> list[BatchView]:
        """Raises ConsoleError."""
        found: BatchList = await self._call("codes.status", GetBatches(batch=batch), BatchList)
        return found.batches

    async def export(
        self, batch: int, file: Path, handed_to: str, passphrase: str, reason: str, key: str
    ) -> dict[str, Any]:
        """Write the codes into a new file, encrypted if there is a passphrase. Raises CodesError and ConsoleError."""
        check_passphrase(passphrase)
        _check_file(file)
        asked = TakeOutCodes(batch=batch, handed_to=handed_to, reason=reason, key=key or new_key())
        lines: list[str] = []
        async with ConsoleClient.connect(self._url) as client:
            await client.login(self._user, self._password)
            export: ExportView = await client.call("codes.export", asked, ExportView, timeout_s=CALL_S)
            while len(lines) < export.codes:
                page: CodePage = await client.call(
                    "codes.page", GetCodes(batch=batch, first=len(lines)), CodePage, timeout_s=CALL_S
                )
                if not page.lines:
                    raise CodesError(f"the server gave {len(lines)} of {export.codes} codes; export again")
                lines += page.lines
        text = "".join(f"{line}\n" for line in lines).encode()
        if hashlib.sha256(text).hexdigest() != export.sha256:
            raise CodesError("what came is not what the server has written down; export again")
        write_export(file, text, passphrase)
        return {"batch": batch, "codes": export.codes, "sha256": export.sha256, "file": str(file)}


def new_key() -> str:
    """A key for a command that will not be said again."""
    return secrets.token_hex(12)


def check_passphrase(passphrase: str) -> None:
    """Raises CodesError for one that protects nothing; none at all means a plain file."""
    if passphrase and len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise CodesError(f"a passphrase has at least {PASSPHRASE_CHARACTERS_MIN} characters")


def _check_file(file: Path) -> None:
    """Before anything is asked of the server. Raises CodesError."""
    if file.exists():
        raise CodesError(f"{file}: is there already; an export never replaces a file")
    if not file.parent.is_dir():
        raise CodesError(f"{file.parent}: there is no such folder")


def write_export(file: Path, text: bytes, passphrase: str) -> None:
    """A new file that its owner alone can read. Raises CodesError."""
    content = text
    if passphrase:
        salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        content = MAGIC + salt + nonce + AESGCM(_key(passphrase, salt)).encrypt(nonce, text, MAGIC)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as exc:
        raise CodesError(f"{file}: cannot be written: {exc.strerror}") from exc


def read_export(file: Path, passphrase: str) -> str:
    """The lines of an encrypted export. Raises CodesError."""
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise CodesError(f"{file}: cannot be read: {exc.strerror}") from exc
    head = len(MAGIC) + SALT_BYTES + NONCE_BYTES
    if not content.startswith(MAGIC) or len(content) <= head:
        raise CodesError(f"{file}: is no encrypted export")
    salt, nonce = content[len(MAGIC) : len(MAGIC) + SALT_BYTES], content[len(MAGIC) + SALT_BYTES : head]
    try:
        return AESGCM(_key(passphrase, salt)).decrypt(nonce, content[head:], MAGIC).decode()
    except (InvalidTag, UnicodeDecodeError) as exc:
        raise CodesError(f"{file}: the passphrase is wrong, or the file is damaged") from exc


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase.encode())
