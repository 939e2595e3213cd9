"""Serial lines under Trio: our own non-blocking descriptor, cancellable everywhere, back by itself after a re-plug."""

from drivers.serial._line import (
    LineBusy,
    SerialLine,
    beside_the_owner,
    check_baud,
    line_holder,
    open_line,
    open_unlocked,
    write_unlocked,
)
from drivers.serial._reconnect import Backoff, reconnecting

__all__ = [
    "Backoff",
    "LineBusy",
    "SerialLine",
    "beside_the_owner",
    "check_baud",
    "line_holder",
    "open_line",
    "open_unlocked",
    "reconnecting",
    "write_unlocked",
]
