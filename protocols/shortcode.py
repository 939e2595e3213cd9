"""Short codes: ten characters that somebody can read out and type where no QR code can be scanned.

Nine random characters (45 bits) and a check character.  The 32 characters leave out I, L, O and U; what is typed may be
in small letters, with spaces and hyphens, and with the left-out letters for the digits that they look like.  The check
character is the sum of the others, each times its odd weight, modulo 32: it notices every single wrong character and
most transpositions, so that typing errors are told apart from guesses.
"""

from __future__ import annotations

import secrets

from protocols.errors import TicketCodeError

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHARACTERS = 10
BITS = 45  # of the nine characters before the check character
DIGEST_BYTES_MIN = 6
TYPED_CHARACTERS_MAX = 32  # with whatever is typed between them
_LOOKS_LIKE = str.maketrans({"O": "0", "I": "1", "L": "1", "U": "V", " ": None, "-": None})
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


def new_short() -> str:
    """A new code, from the system's random numbers."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(CHARACTERS - 1))
    return body + _check(body)


def derived_short(digest: bytes) -> str:
    """The code that a keyed digest of at least 6 bytes stands for: its first 45 bits. Raises ValueError for less.

    So that a ticket's code can be told again although only its hash is kept.
    """
    if len(digest) < DIGEST_BYTES_MIN:
        raise ValueError(f"a short code is made of at least {DIGEST_BYTES_MIN} bytes")
    bits = int.from_bytes(digest[:DIGEST_BYTES_MIN], "big") >> (8 * DIGEST_BYTES_MIN - BITS)
    body = "".join(ALPHABET[bits >> shift & 31] for shift in range(BITS - 5, -1, -5))
    return body + _check(body)


def looks_short(text: str) -> bool:
    """Is this text a short code? One that is mistyped is none."""
    try:
        parse_short(text)
    except TicketCodeError:
        return False
    return True


def parse_short(text: str) -> str:
    """The code as it is stored. Raises TicketCodeError (`unknown_code`) for what is none, or mistyped."""
    if len(text) > TYPED_CHARACTERS_MAX:
        raise TicketCodeError("unknown_code", "too long for a short code")
    code = _plain(text)
    if len(code) != CHARACTERS or not set(code) <= _VALUES.keys():
        raise TicketCodeError("unknown_code", "not a short code")
    if _check(code[:-1]) != code[-1]:
        raise TicketCodeError("unknown_code", "mistyped: the check character does not fit")
    return code


def grouped(code: str) -> str:
    """The code as people read it: two groups of five."""
    return f"{code[:5]}-{code[5:]}"


def _plain(text: str) -> str:
    return text.strip().upper().translate(_LOOKS_LIKE)


def _check(body: str) -> str:
    return ALPHABET[sum((2 * place + 1) * _VALUES[character] for place, character in enumerate(body)) % len(ALPHABET)]
