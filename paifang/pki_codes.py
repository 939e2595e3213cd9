"""One-time codes with which a new device gets its certificate.

A code is 28 letters and digits in groups of four: the first 16 are the beginning of the SHA-256 of the authority's
public key, by which the device knows the right server before it says anything; the other 12 are the secret.  Whoever
stands in between has no server of that authority, so he never hears the secret; and the server keeps only its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography import x509

from paifang import _keyfiles
from paifang._keyfiles import SECRET_MODE
from paifang.pki import PkiError, fingerprint

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U, which people mistake
_MISTAKEN = str.maketrans({"I": "1", "L": "1", "O": "0", "-": "", " ": ""})
PIN_LETTERS = 16  # 80 bits of the authority's key
SECRET_LETTERS = 12  # 60 bits, guessed at most TRIES_MAX times a minute
CODE_LIFE_S = 3600.0
CODE_LIFE_MAX_S = 86400.0
CODES_MAX = 1000  # that wait at the same time
TRIES_MAX = 20  # wrong codes in TRIES_S from everywhere; 5 of them from one address
TRIES_OF_ONE_MAX = 5
TRIES_S = 60.0
FILE = "codes.json"
FILE_BYTES_MAX = 1024 * 1024


class CodeError(PkiError):
    """A code that is not good; the text tells the installer what to do."""


class _Code(msgspec.Struct, frozen=True):
    hash: str  # SHA-256 of the secret and the authority's fingerprint
    device: str
    expires_at: float  # seconds since the epoch


_decoder = msgspec.json.Decoder(list[_Code])


class Codes:
    """The codes that wait, in the authority's folder."""

    def __init__(self, folder: Path, authority: x509.Certificate, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._fingerprint = fingerprint(authority)
        self._clock = clock

    def make(self, device: str, life_s: float = CODE_LIFE_S) -> str:
        """A new code for `device`, for people to read out; the device's earlier codes are void. Raises PkiError."""
        secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LETTERS))
        with _keyfiles.alone_in(self._folder):
            others = [each for each in self._read() if each.device != device]
            if len(others) >= CODES_MAX:
                raise PkiError(f"{CODES_MAX} codes wait to be used already")
            self._write([*others, _Code(self._hash(secret), device, self._clock() + life_s)])
        letters = pin(self._fingerprint) + secret
        return "-".join(letters[i : i + 4] for i in range(0, len(letters), 4))

    def use(self, secret: str) -> str:
        """The device that a secret is for. It is used up by this, on disk, before anybody gets anything for it.

        Raises CodeError when it is wrong, used or too old.
        """
        hashed = self._hash(secret)
        with _keyfiles.alone_in(self._folder):
            waiting = self._read()
            found = [each for each in waiting if hmac.compare_digest(each.hash, hashed)]
            if not found:
                raise CodeError("this code is wrong, used or too old; ask for a new one")
            self._write([each for each in waiting if each is not found[0]])
        return found[0].device

    def _hash(self, secret: str) -> str:
        return hashlib.sha256(b"paifang-enrol-1" + self._fingerprint + secret.encode()).hexdigest()

    def _read(self) -> list[_Code]:
        file = self._folder / FILE
        if not file.exists():
            return []
        try:
            codes = _decoder.decode(_keyfiles.read_secret(file))
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise PkiError(f"{file}: damaged; remove it, and make new codes") from exc
        now = self._clock()
        # a clock that was set back must not give codes a second life
        return [each for each in codes if now < each.expires_at <= now + CODE_LIFE_MAX_S]

    def _write(self, codes: list[_Code]) -> None:
        text = json.dumps([msgspec.to_builtins(each) for each in codes])
        _keyfiles.write(self._folder / FILE, text.encode(), SECRET_MODE)


def pin(key_fingerprint: bytes) -> str:
    """The first letters of a code."""
    number = int.from_bytes(key_fingerprint[: PIN_LETTERS * 5 // 8], "big")
    return "".join(ALPHABET[number >> shift & 31] for shift in range(PIN_LETTERS * 5 - 5, -1, -5))


def split(code: str) -> tuple[str, str]:
    """A code, however it was typed, as (pin, secret). Raises CodeError."""
    letters = code.upper().translate(_MISTAKEN)
    if len(letters) != PIN_LETTERS + SECRET_LETTERS or any(letter not in ALPHABET for letter in letters):
        raise CodeError(f"a code has {PIN_LETTERS + SECRET_LETTERS} letters and digits, in groups of four")
    return letters[:PIN_LETTERS], letters[PIN_LETTERS:]


def _now() -> float:
    return time.monotonic()


class Tries:
    """How many wrong codes came lately: of one address, and of all."""

    def __init__(self) -> None:
        self._wrong: deque[tuple[float, str]] = deque(maxlen=TRIES_MAX)

    def allowed(self, address: str) -> bool:
        while self._wrong and self._wrong[0][0] <= _now() - TRIES_S:
            self._wrong.popleft()
        mine = sum(1 for _, each in self._wrong if each == address)
        return len(self._wrong) < TRIES_MAX and mine < TRIES_OF_ONE_MAX

    def wrong(self, address: str) -> None:
        self._wrong.append((_now(), address))
