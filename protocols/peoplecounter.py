"""What people counters say over HTTP and MQTT: a JSON object with cumulative counts somewhere in it.

The default form is the one of Axis' counters (`live-sum`: serial, name, timestamp, in, out); other makers' objects are
described by where the numbers stand in them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from protocols.errors import WireError

BODY_MAX = 64 * 1024  # bytes of one report; real ones have a few hundred
COUNT_MAX = 2**53  # larger numbers are not exact in JSON
PATH_MAX = 8  # steps from the top of an object to a number


class CounterReportError(WireError):
    """A report that is not JSON, or has no counts where they should stand."""


class CounterForm(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a report the counts stand: names joined by dots, positions in lists as numbers (`lines.0.in`).

    Empty `exits` or `serial`: the device does not say them.  Raises ValueError for a path that cannot be.
    """

    entries: str = "in"
    exits: str = "out"
    serial: str = "serial"

    def __post_init__(self) -> None:
        for path in (self.entries, self.exits, self.serial):
            if len(path.split(".")) > PATH_MAX or (path and "" in path.split(".")):
                raise ValueError(f"{path!r} is no path into a report")
        if not self.entries:
            raise ValueError("a report has entries at least")


AXIS = CounterForm()
# Milesight VS125: the first line of `line_total_data`
MILESIGHT = CounterForm(
    entries="line_total_data.0.total.in_counted",
    exits="line_total_data.0.total.out_counted",
    serial="device_info.device_sn",
)


class Report(msgspec.Struct, frozen=True):
    """Cumulative counts as the device says them. `serial` is empty when it does not say it."""

    entries: int
    exits: int
    serial: str


def read_report(body: bytes, form: CounterForm = AXIS) -> Report:
    """The counts in a report. Raises CounterReportError."""
    if len(body) > BODY_MAX:
        raise CounterReportError(f"{len(body)} bytes")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise CounterReportError(f"not JSON: {exc}") from exc
    serial = _find(value, form.serial) if form.serial else ""
    return Report(
        _count(_find(value, form.entries), form.entries),
        _count(_find(value, form.exits), form.exits) if form.exits else 0,
        serial if isinstance(serial, str) else "",
    )


def _find(value: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _count(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < COUNT_MAX:
        raise CounterReportError(f"no count at {path}")
    return value
