"""The door to libosdp: its low-level module behind types, with its own messages turned off.

Only `osdp_sys` is used.  The package `osdp` that comes with it brings threads and sleeps, and another author's package
of the same name overwrites it.  What had to be found out about libosdp 3.2.9, and is handled by the callers:

* `refresh` never blocks when the channel does not.  An exception in a callback shows up somewhere else, or never.
* Channels with the same `id` share a bus. 0, which is what they have by default, also stands for "nobody has it".
* After any failure a reader is left alone for 300 s.  `disable_pd`, a turn of `refresh`, and `enable_pd` end that.
* A failed `write` fails the reader at once: so a channel decides who may be asked.
* It looks for 200 ms, then repeats after 800 ms, eight times.  A damaged answer, one to somebody else, and a NAK of
  any command all count as failures; so does an answer to the question before.
* It measures time with the clock on the wall: set back by an hour, it asks nothing for an hour.
* The dictionary of an event is never freed, nor is a channel: the one is emptied, the other kept small.
* The status masks have room for 32 readers and do not look.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, cast

READERS_MAX = 32  # on one bus: what the status masks hold, and what RS-485 drives without repeaters
BUS_ID = 1  # the same for all channels of a bus; not 0, see above


class Channel(Protocol):
    """What the library reads from and writes to. Exceptions must not come out of it."""

    id: int

    def read(self, max_bytes: int) -> bytes: ...

    def write(self, data: bytes) -> int: ...

    def flush(self) -> None: ...


class Panel(Protocol):
    """`osdp_sys.ControlPanel`. Readers are numbered from 0 in the order in which they were given."""

    def refresh(self) -> None: ...

    def status(self) -> int: ...

    def sc_status(self) -> int: ...

    def submit_command(self, reader: int, command: dict[str, Any], /) -> bool: ...

    def flush_commands(self, reader: int, /) -> int: ...

    def check_capability(self, reader: int, capability: int, /) -> tuple[int, int]: ...

    def get_pd_id(self, reader: int, /) -> dict[str, int]: ...

    def disable_pd(self, reader: int, /) -> bool: ...

    def enable_pd(self, reader: int, /) -> bool: ...

    def is_pd_enabled(self, reader: int, /) -> bool: ...

    def set_event_callback(self, callback: Callable[[int, dict[str, Any]], int], /) -> None: ...


class Peripheral(Protocol):
    """`osdp_sys.PeripheralDevice`: one simulated reader."""

    def refresh(self) -> None: ...

    def is_online(self) -> bool: ...

    def is_sc_active(self) -> bool: ...

    def submit_event(self, event: dict[str, Any], /) -> bool: ...

    def flush_events(self) -> int: ...

    def set_command_callback(self, callback: Callable[[dict[str, Any]], tuple[int, None]], /) -> None: ...


@lru_cache(maxsize=1)
def library() -> Any:
    """The module `osdp_sys`, told to keep its messages to itself. Raises ImportError when it is not installed."""
    found = importlib.import_module("osdp_sys")
    found.set_loglevel(found.LOG_EMERG)
    return found


def panel(readers: list[dict[str, Any]]) -> Panel:
    """A control panel for readers as `reader_info` describes them."""
    return cast(Panel, library().ControlPanel(readers))


def peripheral(reader: dict[str, Any], capabilities: list[tuple[int, int, int]]) -> Peripheral:
    """A simulated reader. Capabilities are triples of function code, compliance level and number of items."""
    said = [
        {"function_code": code, "compliance_level": level, "num_items": items} for code, level, items in capabilities
    ]
    return cast(Peripheral, library().PeripheralDevice(reader, capabilities=said))


def reader_info(address: int, channel: Channel, *, key: bytes | None, flags: int = 0) -> dict[str, Any]:
    """What the library wants to know of one reader. With a key, nothing but its secure channel is accepted."""
    found = library()
    return {
        "name": f"reader-{address}",
        "address": address,
        "flags": flags | (found.FLAG_ENFORCE_SECURE if key else 0),
        "scbk": key,
        "channel": channel,
        "version": 1,
        "model": 1,
        "vendor_code": 0x5046,
        "serial_number": 1000 + address,
        "firmware_version": 0x010203,
    }
