"""One OSDP reader as a driver: what it says becomes events, what it is told becomes commands.

It does no I/O of its own: the bus asks it what to send, and tells it what was heard.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from drivers._statistics import Meter
from drivers.base import (
    Availability,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    DriverStatistics,
    Emit,
    Feedback,
    InputChanged,
    InputState,
)
from drivers.feedback import Pattern, Patterns
from drivers.osdp import _commands
from drivers.osdp._commands import Language
from drivers.osdp._library import library
from drivers.osdp._seat import Seat
from protocols import osdp
from protocols.messages import CredentialKind

SIGNAL_PATIENCE_S = 1.0  # a feedback that could not be sent within this is dropped: a late light misleads

_INPUTS = {0: InputState.INACTIVE, 1: InputState.ACTIVE}


class OsdpReader:
    """One reader at a bus: a `drivers.base.Signalling`. Made by `OsdpBus.reader`."""

    def __init__(
        self,
        serve: Callable[[OsdpReader], Awaitable[None]],
        address: int,
        key: bytes | None,
        patterns: Patterns,
        text: Language,
        reverse: bool,
        keypad: str,
        rng: random.Random,
    ) -> None:
        self.address = address
        self.meter = Meter()
        self.seat = Seat(address, key, rng)
        self.wish: tuple[float, Pattern] | None = None  # not yet given to the library, and since when
        self.standing: Pattern | None = None  # a light that stays until something else is said
        self.lost_s: float | None = None  # since when it is not online, while that is not yet reported
        self.online_s: float | None = None
        self.asked_status = False  # since it came online; from then on a reader tells what changes
        self.shines = False  # with a light that stays until something else is said
        self.shone = False  # so, at any time
        self.tidy = False  # that light is to be ended, whether it is there or not
        self.emit: Emit | None = None
        self.left = trio.Event()  # its `run` has ended
        self._serve = serve
        self._key = key
        self._patterns = patterns
        self._text = text
        self._reverse = reverse
        self._keypad = keypad
        self._keys = osdp.Keypad()
        self._inputs: dict[str, InputState] = {}
        self._ups = 0

    @property
    def secure(self) -> bool:
        """Whether a key is set; nothing but the secure channel is spoken then."""
        return self._key is not None

    async def run(self, emit: Emit) -> None:
        """Serve the reader until cancelled; and while it is this reader's turn, the whole bus."""
        if self.emit is not None:
            raise RuntimeError(f"reader {self.address} runs already")
        self.emit, self.left = emit, trio.Event()
        try:
            await self._serve(self)
        finally:
            self.emit = None

    def statistics(self) -> DriverStatistics:
        return self.meter.snapshot()

    def signal(self, feedback: Feedback) -> None:
        """Light, sound and text for it. Dropped when the reader is not there."""
        pattern = self._patterns.of(feedback)
        self.standing = pattern if pattern.light.lasts_ms == 0 else None
        if self.meter.availability is not Availability.AVAILABLE:
            self.meter.error("a signal was dropped: the reader is not there")
            return
        self.wish = (trio.current_time(), pattern)

    # --- told by the bus ----------------------------------------------------------------------------------------------

    def up(self) -> None:
        """The reader answers, and trusts us."""
        self.lost_s = None
        if self.meter.now(Availability.AVAILABLE):
            self._ups += 1
            self.meter.reconnects = self._ups - 1
            self._tell(DeviceUp())

    def down(self, reason: str, availability: Availability = Availability.UNAVAILABLE) -> None:
        self.meter.error(reason)
        self.lost_s = None
        if self.meter.now(availability):
            self.wish = None
            self._inputs.clear()
            self._tell(DeviceDown(reason=reason))

    def heard(self, event: dict[str, Any]) -> None:
        """Something the reader said of its own accord, as the library tells it."""
        found = library()
        if event["event"] == found.EVENT_CARDREAD:
            self._card(event)
        elif event["event"] == found.EVENT_KEYPRESS and self._keypad != "off":
            for number in self._keys.feed(event["data"], trio.current_time()):
                if self._keypad == "card":
                    self._tell(CredentialRead(kind=CredentialKind.CARD, value=number))
                else:
                    self._tell(CodeRead(text=number))
        elif event["event"] == found.EVENT_STATUS:
            report = event["report"]
            if event["type"] == found.STATUS_REPORT_LOCAL:
                for name, said in zip(("tamper", "power"), report, strict=False):
                    self._input(name, said)
            elif event["type"] == found.STATUS_REPORT_INPUT:
                for contact, said in enumerate(report, 1):
                    self._input(f"input-{contact}", said)

    def began(self, said: dict[str, int]) -> None:
        """A dialogue stands, with a reader that says who it is; it may have been off, and have forgotten its light."""
        self.asked_status = False
        self.tidy = self.shone and self.standing is None  # the command that ended the light may have been lost
        if self.standing is not None and self.wish is None:
            self.wish = (trio.current_time(), self.standing)
        firmware = said["firmware_version"]
        version = f"{firmware >> 16 & 0xFF}.{firmware >> 8 & 0xFF}.{firmware & 0xFF}"
        identity = (
            f"vendor {said['vendor_code'] & 0xFFFFFF:06X} model {said['model']}.{said['version']} "
            f"serial {said['serial_number'] & 0xFFFFFFFF} firmware {version}"
        )
        if identity != self.meter.firmware:
            self.meter.firmware = identity
            self.seat.refused.clear()  # another reader, which may know more

    def commands(self, capable: Callable[[int], bool]) -> list[dict[str, Any]]:
        """What is to be sent for the present wish, which is fulfilled with that. Empty for a wish that is too old."""
        if self.wish is None:
            tidy, self.tidy = self.tidy, False
            return [_commands.dark()] if tidy else []
        (since_s, pattern), self.wish = self.wish, None
        if trio.current_time() - since_s > SIGNAL_PATIENCE_S:
            self.meter.error("a signal was dropped: the bus was busy")
            return []
        found = library()
        commands: list[dict[str, Any]] = []
        refused = self.seat.refused
        if capable(found.CAP_READER_LED_CONTROL) and osdp.LED not in refused:
            lasting = pattern.light.lasts_ms == 0
            commands += [_commands.dark()] if (self.shines or self.tidy) and not lasting else []
            commands.append(_commands.light(pattern.light))
            self.shines, self.shone, self.tidy = lasting, self.shone or lasting, False
        if capable(found.CAP_READER_AUDIBLE_OUTPUT) and osdp.BUZZER not in refused and pattern.sound.count:
            commands.append(_commands.sound(pattern.sound))
        if capable(found.CAP_READER_TEXT_OUTPUT) and osdp.TEXT not in refused:
            words = _commands.text(pattern, self._text)
            commands += [words] if words is not None else []
        return commands

    def _card(self, event: dict[str, Any]) -> None:
        try:
            value = osdp.card_value(event["data"], event.get("length", 0), reverse=self._reverse)
        except osdp.OsdpError as exc:
            self.meter.bad_frames += 1
            self.meter.error(f"a card was not understood: {exc}")
            return
        self._tell(CredentialRead(kind=CredentialKind.CARD, value=value))

    def _input(self, name: str, said: int) -> None:
        state = _INPUTS.get(said, InputState.UNKNOWN)
        before = self._inputs.get(name)
        self._inputs[name] = state
        if state is not before and not (before is None and state is InputState.INACTIVE):
            self._tell(InputChanged(name=name, state=state))

    def _tell(self, event: DeviceEvent) -> None:
        if self.emit is not None:
            self.emit(event)
