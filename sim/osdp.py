"""Simulated OSDP readers on one line behind a pty. They are no real readers: libosdp's own device side speaks for them.

Each can misbehave on command: silent, slow, damaged, garbage, twice, switched off, unplugged, with another key, with
commands that it does not know.  The other end of the line may be the server's driver or a foreign control panel.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import trio

from drivers.osdp._library import BUS_ID, Peripheral, library, peripheral, reader_info
from protocols import osdp
from sim.line import SimLine

TICK_S = 0.01  # how often a reader looks at what it heard
TURNS = 3  # of the library for one question: hear, decide, answer
COMMANDS_KEPT = 100
INBOX_BYTES_MAX = 4096

CAPABILITIES_OF_A_READER = ("led", "buzzer", "text")


class SimOsdpReader:
    """One reader. Its faults are attributes; `commands` is what it carried out, newest last."""

    def __init__(
        self, bus: SimOsdpBus, address: int, key: bytes | None, capabilities: tuple[str, ...], unknown: frozenset[int]
    ) -> None:
        self.id = BUS_ID  # what the library wants of a channel
        self.address = address
        self.commands: list[dict[str, Any]] = []
        self.connected = True  # False: the cable is off, and the reader does not notice
        self.silent = False  # hears, and answers nothing
        self.slow_s = 0.0  # each answer comes so much later
        self.damage = 0  # so many answers have a flipped bit
        self.garbage = 0  # so many answers are noise
        self.twice = 0  # so many answers are said twice
        self.answers = 0
        self._bus = bus
        self._key = key
        self._capabilities = capabilities
        self._unknown = unknown
        self._inbox = bytearray()
        self._outbox: list[bytes] = []
        self._device: Peripheral | None = None
        self._local = [0, 0]  # tamper, power
        self._unsaid = False
        self.power(True)

    # --- what people and things do to it ------------------------------------------------------------------------------

    def power(self, on: bool) -> None:
        """Switch it on or off. It remembers nothing but its key."""
        self._inbox.clear()
        self._outbox.clear()
        self._device = None
        if on:
            found = library()
            codes = {
                "led": (found.CAP_READER_LED_CONTROL, 1, 1),
                "buzzer": (found.CAP_READER_AUDIBLE_OUTPUT, 1, 1),
                "text": (found.CAP_READER_TEXT_OUTPUT, 1, 1),
                "output": (found.CAP_OUTPUT_CONTROL, 1, 2),
                "input": (found.CAP_CONTACT_STATUS_MONITORING, 1, 4),
            }
            offered = [codes[name] for name in self._capabilities]
            offered.append((found.CAP_CARD_DATA_FORMAT, 1, 1))
            self._device = peripheral(reader_info(self.address, self, key=self._key), offered)
            self._device.set_command_callback(self._carry_out)
            if any(self._local):
                self._tell_local()

    def rekey(self, key: bytes | None) -> None:
        """Another key, as after an exchange of the reader."""
        self._key = key
        self.power(True)

    @property
    def online(self) -> bool:
        """Whether a panel has asked it lately."""
        return self._device is not None and self._device.is_online()

    @property
    def keyed(self) -> bool:
        """Whether it has a key of its own. One that has none takes what it is given."""
        return self._key is not None

    @property
    def secure(self) -> bool:
        return self._device is not None and self._device.is_sc_active()

    def card(self, uid: str) -> bool:
        """Hold a card before it; its UID in hexadecimal."""
        data = bytes.fromhex(uid)
        return self._card(data, len(data) * 8)

    def wiegand(self, number: int, bits: int) -> bool:
        """A card as a reader with a Wiegand head tells it, with parity."""
        return self._card(osdp.wiegand(number, bits), bits)

    def bits(self, data: bytes, bits: int) -> bool:
        """Any bits at all."""
        return self._card(data, bits)

    def keys(self, typed: str) -> bool:
        """Type on its keypad: digits, `#` and `*`."""
        data = bytes({"#": 0x0D, "*": 0x7F}.get(key, ord(key)) for key in typed)
        return self._submit(event=library().EVENT_KEYPRESS, reader_no=0, data=data)

    def tamper(self, on: bool) -> bool:
        """Take its cover off, or put it on again."""
        return self._status(0, on)

    def power_fails(self, on: bool) -> bool:
        """Its supply is failing, or good again."""
        return self._status(1, on)

    def inputs(self, states: list[int]) -> bool:
        """Its four contacts, 1 for active."""
        found = library()
        return self._submit(event=found.EVENT_STATUS, type=found.STATUS_REPORT_INPUT, report=bytes(states))

    def _card(self, data: bytes, bits: int) -> bool:
        found = library()
        return self._submit(
            event=found.EVENT_CARDREAD,
            reader_no=0,
            direction=0,
            length=bits,
            format=found.CARD_FMT_RAW_UNSPECIFIED,
            data=data,
        )

    def _status(self, which: int, on: bool) -> bool:
        self._local[which] = int(on)
        return self._tell_local()

    def _tell_local(self) -> bool:
        found = library()
        return self._submit(event=found.EVENT_STATUS, type=found.STATUS_REPORT_LOCAL, report=bytes(self._local))

    def _submit(self, **event: Any) -> bool:
        return self._device is not None and bool(self._device.submit_event(event))

    def _carry_out(self, command: dict[str, Any]) -> tuple[int, None]:
        said = dict(command)
        command.clear()
        if said["command"] == library().CMD_KEYSET:
            self._key = said.pop("data")  # it survives a power cut; it is in nobody's log
        status = -1 if said["command"] in self._unknown else 0
        if said["command"] == library().CMD_STATUS and any(self._local):
            self._unsaid = True  # the library answers that all is well, whatever we say; the truth follows
        if not status:
            self.commands = [*self.commands[-COMMANDS_KEPT + 1 :], said]
        return (status, None)  # made anew, not a constant: the library takes a reference of None that it was not given

    # --- its channel, as the library wants it -------------------------------------------------------------------------

    def read(self, max_bytes: int) -> bytes:
        data = bytes(self._inbox[:max_bytes])
        del self._inbox[:max_bytes]
        return data

    def write(self, data: bytes) -> int:
        self._outbox.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        self._inbox.clear()

    # --- its line -----------------------------------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        if self._device is not None and self.connected and len(self._inbox) + len(data) <= INBOX_BYTES_MAX:
            self._inbox += data

    def turn(self) -> list[bytes]:
        """Look at what was heard; what is to be said."""
        if self._device is None:
            return []
        for _ in range(TURNS):
            self._device.refresh()
        if self._unsaid:
            self._unsaid = False
            self._tell_local()
        said, self._outbox = self._outbox, []
        if not self.connected or self.silent:
            return []
        return [self._faulty(answer) for answer in said]

    def _faulty(self, answer: bytes) -> bytes:
        self.answers += 1
        if self.garbage > 0:
            self.garbage -= 1
            return self._bus.rng.randbytes(len(answer))
        if self.damage > 0:
            self.damage -= 1
            at = self._bus.rng.randrange(len(answer))
            return answer[:at] + bytes((answer[at] ^ 1 << self._bus.rng.randrange(8),)) + answer[at + 1 :]
        if self.twice > 0:
            self.twice -= 1
            return answer + answer
        return answer


class SimOsdpBus:
    """The line and its readers. `run` serves them until cancelled."""

    def __init__(self, path: Path, *, rng: random.Random | None = None) -> None:
        self.line = SimLine(path)
        self.rng = rng or random.Random(0)
        self.echo = False  # the adapter hears itself: every question comes back
        self.heard: list[bytes] = []  # frames of the panel, newest last
        self.keep_heard = 0  # so many of them are kept
        self._readers: list[SimOsdpReader] = []

    def reader(
        self,
        address: int,
        *,
        key: bytes | None = None,
        capabilities: tuple[str, ...] = CAPABILITIES_OF_A_READER,
        unknown: frozenset[int] = frozenset(),
    ) -> SimOsdpReader:
        """Put a reader on the bus. With `key` it speaks nothing but its secure channel.

        `capabilities`: led, buzzer, text, output, input.  `unknown` are commands of the library (`CMD_TEXT`) that it
        says it can do and then refuses.
        """
        made = SimOsdpReader(self, address, key, capabilities, unknown)
        self._readers.append(made)
        return made

    async def run(self) -> None:
        """Serve the line until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    data = b""
                    with trio.move_on_after(TICK_S):
                        data = await self.line.receive()
                    self._hear(data)
                    for reader in self._readers:
                        for answer in reader.turn():
                            if reader.slow_s:
                                nursery.start_soon(self._later, reader.slow_s, answer)
                            else:
                                self.line.send(answer)
        finally:
            self.line.close()

    def _hear(self, data: bytes) -> None:
        if not data:
            return
        if self.echo:
            self.line.send(data)
        if self.keep_heard:
            self.heard = [*self.heard[-self.keep_heard + 1 :], data]
        for reader in self._readers:
            reader.hear(data)

    async def _later(self, delay_s: float, answer: bytes) -> None:
        await trio.sleep(delay_s)
        self.line.send(answer)
