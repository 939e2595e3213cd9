"""Giving a new reader its key, over a line that nobody else can listen to.

A reader fresh from the factory, or set back to that, takes a key once: it is sent under the default key of the
specification, which everybody knows.  So this is done on the bench or at a closed gate, by hand, and never by the
server: its driver speaks nothing but the reader's own key.
"""

from __future__ import annotations

import random
from typing import Any

import trio

from drivers.errors import DeviceRefused, DeviceUnavailable
from drivers.osdp._keys import DEFAULT_KEY, KEY_BYTES
from drivers.osdp._library import Panel, library, panel, reader_info
from drivers.osdp._seat import Phase, Seat, SeatChannel
from drivers.serial import SerialLine, open_line
from protocols import osdp

TICK_S = 0.02
TURNS = 4
WRITE_DEADLINE_S = 0.5
INSTALL_LIMIT_S = 15.0  # a reader writes its key into memory, and begins anew


async def install_key(
    path: str, baud: int, address: int, key: bytes, *, timeout_s: float = INSTALL_LIMIT_S
) -> str:
    """Give the reader at `address` its key; who the reader says it is. One that has this key already is left so.

    Raises ValueError for what is no key or address, LineBusy while the server holds the line, DeviceUnavailable when
    nobody answers within `timeout_s`, and DeviceRefused for a reader that has another key or no secure channel.
    """
    if len(key) != KEY_BYTES or key == DEFAULT_KEY:
        raise ValueError(f"a key has {KEY_BYTES} bytes, and is not the default one")
    if not 0 <= address <= osdp.ADDRESS_MAX:
        raise ValueError(f"an OSDP address is 0 to {osdp.ADDRESS_MAX}, not {address}")
    seat = Seat(address, key, random.Random())
    channel = SeatChannel(seat)
    try:
        with open_line(path, baud) as line, trio.move_on_after(timeout_s):
            return await _Installing(seat, channel, line).run()
    finally:
        channel.seat = None
    raise DeviceUnavailable(f"{path}: the reader at address {address} did not take its key in time ({seat.reason})")


class _Installing:
    """A panel for one reader that accepts the default key, for as long as it takes to replace it."""

    def __init__(self, seat: Seat, channel: SeatChannel, line: SerialLine) -> None:
        self._seat = seat
        self._line = line
        self._framer = osdp.OsdpFramer()
        self._notices: list[dict[str, Any]] = []
        info = reader_info(seat.address, channel, key=None, flags=library().FLAG_ENABLE_NOTIFICATION)
        self._panel: Panel = panel([info | {"scbk": seat.key}])
        self._panel.set_event_callback(self._note)

    async def run(self) -> str:
        """Until the reader speaks with its own key."""
        self._seat.now_s = trio.current_time()
        self._seat.probe()
        while True:
            data = b""
            with trio.move_on_after(TICK_S):
                data = await self._line.receive_some()
            self._seat.now_s = trio.current_time()
            for frame in self._framer.feed(data):
                if frame.reply and frame.address == self._seat.address:
                    self._seat.hear(frame)
            for _ in range(TURNS):
                self._panel.refresh()
            if self._seat.question:
                question, self._seat.question = self._seat.question, b""
                self._framer.reset()
                await self._line.send_all(question, WRITE_DEADLINE_S)
            if (identity := self._done()) is not None:
                return identity

    def _note(self, number: int, event: dict[str, Any]) -> int:
        self._notices.append(dict(event))
        event.clear()
        return 0

    def _done(self) -> str | None:
        """Who the reader is, once it has its key. Raises DeviceRefused when it never will."""
        found = library()
        notices, self._notices = self._notices, []
        for event in notices:
            if event.get("event") != found.EVENT_NOTIFICATION or event["type"] != found.EVENT_NOTIFICATION_PD_STATUS:
                continue
            if not event["arg0"]:
                self._again()
                continue
            if self._panel.sc_status() & 1:  # with its own key: the default one does not count
                said = self._panel.get_pd_id(0)
                return f"vendor {said['vendor_code'] & 0xFFFFFF:06X} serial {said['serial_number'] & 0xFFFFFFFF}"
            raise DeviceRefused(
                f"the reader at address {self._seat.address} does not take a key: it has another one, or no secure "
                "channel; set it back to the factory's state and try again"
            )
        if self._seat.phase is Phase.KICKED and not self._panel.is_pd_enabled(0):
            self._panel.enable_pd(0)
            self._seat.probe()
        return None

    def _again(self) -> None:
        """The dialogue ended; begin another one."""
        if self._seat.phase is not Phase.KICKED:
            self._seat.kick()
            self._panel.disable_pd(0)
