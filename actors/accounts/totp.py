"""One-time passwords by the clock as a second factor (RFC 6238 over RFC 4226, SHA-1, 30 s, 6 digits), recovery codes.

These are the parameters that every authenticator speaks.  A code is good for its own step of 30 s and the one on either
side, and for one log-in: a step that was used is not accepted again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import urllib.parse

STEP_S = 30
DIGITS = 6
SECRET_BYTES = 20  # RFC 4226 section 4, R6
STEPS_AROUND = 1  # clocks that differ, people who type slowly
RECOVERY_CODES = 8
RECOVERY_BYTES = 10  # 80 bits each, so that a plain hash keeps them


def new_secret() -> bytes:
    """A secret to share with an authenticator."""
    return secrets.token_bytes(SECRET_BYTES)


def code_at(secret: bytes, step: int) -> str:
    """The digits of a step (seconds since the epoch divided by `STEP_S`); RFC 4226 section 5.3."""
    digest = hmac.new(secret, step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def step_of(secret: bytes, code: str, now: float, used: int = -1) -> int | None:
    """The step that this code belongs to, or None: wrong, too old, too early, or not later than the `used` step."""
    typed = code.strip().replace(" ", "")
    current, found = int(now) // STEP_S, None
    for step in range(current - STEPS_AROUND, current + STEPS_AROUND + 1):
        same = hmac.compare_digest(code_at(secret, max(0, step)).encode(), typed.encode("utf-8", "replace"))
        if same and step > used:
            found = step
    return found


def base32(secret: bytes) -> str:
    """As people type it."""
    return base64.b32encode(secret).decode().rstrip("=")


def uri(secret: bytes, user: str, issuer: str) -> str:
    """The otpauth: address that a QR carries (the Key URI format that authenticators read)."""
    label = urllib.parse.quote(f"{issuer}:{user}", safe="")
    query = urllib.parse.urlencode(
        {"secret": base32(secret), "issuer": issuer, "algorithm": "SHA1", "digits": DIGITS, "period": STEP_S},
        quote_via=urllib.parse.quote,
    )
    return f"otpauth://totp/{label}?{query}"


def new_recovery_codes() -> list[str]:
    """Codes to print and lock away, such as `abcd-efgh-ijkl-mnop`."""
    texts = (base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(text[at : at + 4] for at in range(0, len(text), 4)) for text in texts]


def recovery_hash(code: str) -> str:
    """What is kept of a recovery code; dashes, spaces and capitals do not matter."""
    plain = "".join(letter for letter in code.lower() if letter.isalnum())
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()
