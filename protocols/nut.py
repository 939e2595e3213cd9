"""Network UPS Tools: what `upsd` answers on its port about one power supply. Source: NUT's network protocol (RFC 9271).

`LIST VAR <ups>` is answered with `BEGIN LIST VAR <ups>`, lines `VAR <ups> <name> "<value>"` and `END LIST VAR <ups>`,
or with `ERR <code>`.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from protocols.errors import WireError

PORT = 3493
ANSWER_MAX_BYTES = 64 * 1024
_VAR = re.compile(r'VAR (\S+) (\S+) "((?:[^"\\]|\\.)*)"')
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class NutError(WireError):
    """Not an answer of upsd, or one that says no; the text is its own word."""


class PowerSource(StrEnum):
    UNKNOWN = "unknown"
    MAINS = "mains"
    BATTERY = "battery"
    LOW = "low"  # on battery, and nearly empty


class PowerState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the supply. `charge` is percent, `runtime_s` how long the battery lasts by its own estimate."""

    source: PowerSource
    charge: float | None = None
    runtime_s: float | None = None
    status: str = ""  # NUT's own words


def ask(ups: str) -> bytes:
    """The question for everything of one UPS. Raises NutError for a name that NUT does not allow."""
    if not _NAME.fullmatch(ups):
        raise NutError(f"{ups!r} is no name of a UPS")
    return f"LIST VAR {ups}\n".encode()


def complete(answer: bytes) -> bool:
    """Whether the answer's last line has come."""
    last = answer.rstrip(b"\r\n").rsplit(b"\n", 1)[-1]
    return answer.endswith(b"\n") and last.startswith((b"END LIST VAR", b"ERR "))


def read(answer: bytes, ups: str) -> PowerState:
    """The state in an answer. Raises NutError."""
    text = answer.decode("utf-8", "replace")
    if text.startswith("ERR "):
        raise NutError(text[4:].split("\n")[0].strip() or "refused")
    values = {match[2]: match[3] for match in _VAR.finditer(text) if match[1] == ups}
    if "ups.status" not in values:
        raise NutError("it does not say its status")
    words = values["ups.status"].split()
    if "OB" in words:
        source = PowerSource.LOW if "LB" in words or "FSD" in words else PowerSource.BATTERY
    elif "FSD" in words:
        source = PowerSource.LOW
    elif "OL" in words:
        source = PowerSource.MAINS
    else:
        source = PowerSource.UNKNOWN
    return PowerState(
        source=source,
        charge=_number(values.get("battery.charge")),
        runtime_s=_number(values.get("battery.runtime")),
        status=" ".join(words)[:64],
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e9 else None
