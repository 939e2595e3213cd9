"""HTTP digest authentication (RFC 7616), which counters of several makers ask for. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from urllib.request import parse_http_list, parse_keqv_list

HEADER_MAX = 4096  # characters of a challenge

_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),  # the device chooses
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}


def answer(challenge: str, *, user: str, password: str, method: str, target: str, cnonce: str) -> str | None:
    """The `Authorization` for a `WWW-Authenticate`, or None when it is no digest challenge that we can answer."""
    scheme, _, rest = challenge[:HEADER_MAX].partition(" ")
    if scheme.lower() != "digest":
        return None
    try:
        asked = parse_keqv_list(parse_http_list(rest))
    except (ValueError, IndexError):
        return None
    algorithm = asked.get("algorithm", "MD5").upper()
    if algorithm not in _HASHES or "realm" not in asked or "nonce" not in asked:
        return None
    digest = _HASHES[algorithm]
    qops = [word.strip() for word in asked.get("qop", "").split(",")]
    if qops != [""] and "auth" not in qops:
        return None
    secret = digest(f"{user}:{asked['realm']}:{password}".encode())
    place = digest(f"{method}:{target}".encode())
    said = {"username": user, "realm": asked["realm"], "nonce": asked["nonce"], "uri": target}
    if "auth" in qops:
        said["response"] = digest(f"{secret}:{asked['nonce']}:00000001:{cnonce}:auth:{place}".encode())
        said["cnonce"] = cnonce
    else:
        said["response"] = digest(f"{secret}:{asked['nonce']}:{place}".encode())
    if "opaque" in asked:
        said["opaque"] = asked["opaque"]
    words = [f'{name}="{_quoted(value)}"' for name, value in said.items()]
    words.append(f"algorithm={algorithm}")
    if "auth" in qops:
        words += ["qop=auth", "nc=00000001"]
    return "Digest " + ", ".join(words)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
