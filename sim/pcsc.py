"""A virtual IC card, and the field of vsmartcard's virtual reader (vpcd) that it is laid into. It is no real card.

The card keeps 16 sectors with keys and access bits, as a MIFARE Classic of 1 kB does, and like one it sleeps after a
refused key until it is woken.  Faults on command: it leaves in the middle, keeps nothing of a write, is slow, answers
with too few bytes.

vpcd listens on a TCP port; the card connects, which is laying it on the reader.  Messages have two bytes of length, big
endian; one byte from vpcd switches power (0 off, 1 on, 2 reset) or asks for the ATR (4), everything else is a command.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NoReturn

import trio

from protocols import iccard
from protocols.errors import CardError
from protocols.iccard import BLOCK_BYTES, BLOCKS, BLOCKS_PER_SECTOR, Access, KeyKind

ATR = bytes.fromhex("3b8f8001804f0ca000000306030001000000006a")  # PC/SC part 3: a storage card of 1 kB, type A
RETRY_S = 0.05  # between tries to reach vpcd
MESSAGE_BYTES_MAX = 4096
COMMANDS_MAX = 500  # that are remembered
POWER_OFF, POWER_ON, RESET, ATR_PLEASE = 0, 1, 2, 4

_FACTORY_TRAILER = iccard.trailer(
    iccard.FACTORY_KEY, iccard.FACTORY_KEY, iccard.TRANSPORT_DATA, iccard.TRANSPORT_TRAILER
)
# Who may read and write a data block, and a trailer's parts, by the bits C1 C2 C3 (data sheets of the makers).
_DATA = {
    Access(0, 0, 0): ("AB", "AB"), Access(0, 1, 0): ("AB", ""), Access(1, 0, 0): ("AB", "B"),
    Access(1, 1, 0): ("AB", "B"), Access(0, 0, 1): ("AB", "AB"), Access(0, 1, 1): ("B", "B"),
    Access(1, 0, 1): ("B", ""), Access(1, 1, 1): ("", ""),
}  # fmt: skip
_TRAILER_WRITE = {Access(0, 0, 1): "A", Access(0, 1, 1): "B"}
_KEY_B_READABLE = frozenset({Access(0, 0, 0), Access(0, 1, 0), Access(0, 0, 1)})


class VirtualCard:
    """The card's memory and manners. `answer` is one command; the field calls it."""

    def __init__(self, uid: bytes) -> None:
        self.uid = uid
        self.blocks = [bytes(BLOCK_BYTES) for _ in range(BLOCKS)]
        self.blocks[0] = uid.ljust(BLOCK_BYTES, b"\0")[:BLOCK_BYTES]
        for block in range(BLOCKS_PER_SECTOR - 1, BLOCKS, BLOCKS_PER_SECTOR):
            self.blocks[block] = _FACTORY_TRAILER
        self.commands: list[bytes] = []  # newest last, without keys
        self.forgets = False  # a write is confirmed and not kept
        self.short = False  # a read comes with too few bytes
        self.delay_s = 0.0  # before each answer
        self.leave_after: int | None = None  # so many commands more, then the card is away before it answers
        self._loaded: dict[int, bytes] = {}  # keys; these are the reader's, which is virtual too
        self._open: tuple[int, str] | None = None
        self._asleep = False

    def copy_of(self) -> VirtualCard:
        """A card with the same number and the same data, but with factory keys: what a thief can make."""
        twin = VirtualCard(self.uid)
        twin.blocks = [
            _FACTORY_TRAILER if at % BLOCKS_PER_SECTOR == BLOCKS_PER_SECTOR - 1 else block
            for at, block in enumerate(self.blocks)
        ]
        return twin

    def wake(self) -> None:
        """Power on, or reset."""
        self._open = None
        self._asleep = False

    def answer(self, command: bytes) -> bytes:
        """What it says to one command."""
        if len(command) < 4:
            return b"\x67\x00"
        self.commands = [*self.commands[1 - COMMANDS_MAX :], command[:2] if command[1] == 0x82 else command]
        if command[0] != 0xFF:
            return b"\x6e\x00"
        if command[1] == 0xCA:
            return self.uid + b"\x90\x00" if command[2:4] == b"\x00\x00" else b"\x6a\x81"
        if command[1] == 0x82 and len(command) == 11:
            self._loaded[command[3]] = command[5:11]
            return b"\x90\x00"
        if command[1] == 0x86 and len(command) == 10:
            return self._authenticate(command[7], command[8], command[9])
        if command[1] == 0xB0:
            return self._read(command[3])
        if command[1] == 0xD6 and len(command) == 5 + BLOCK_BYTES:
            return self._write(command[3], command[5:])
        return b"\x6d\x00"

    def _authenticate(self, block: int, kind: int, slot: int) -> bytes:
        if slot not in self._loaded or block >= BLOCKS or kind not in set(KeyKind):
            return b"\x69\x88"
        if self._asleep:
            return b"\x63\x00"
        trailer = self._trailer(block)
        key, letter = (trailer[:6], "A") if kind == KeyKind.A else (trailer[10:], "B")
        if self._loaded[slot] != key or (letter == "B" and self._access(block)[3] in _KEY_B_READABLE):
            self._open, self._asleep = None, True
            return b"\x63\x00"
        self._open = (block // BLOCKS_PER_SECTOR, letter)
        return b"\x90\x00"

    def _read(self, block: int) -> bytes:
        letter = self._letter(block)
        if letter is None:
            return b"\x69\x82"
        place = block % BLOCKS_PER_SECTOR
        if place == BLOCKS_PER_SECTOR - 1:  # the keys are never read
            return bytes(6) + self.blocks[block][6:10] + bytes(6) + b"\x90\x00"
        if letter not in _DATA[self._access(block)[place]][0]:
            return b"\x69\x82"
        return self.blocks[block][: 7 if self.short else BLOCK_BYTES] + b"\x90\x00"

    def _write(self, block: int, data: bytes) -> bytes:
        letter = self._letter(block)
        place = block % BLOCKS_PER_SECTOR
        access = self._access(block)[place] if letter else Access(1, 1, 1)
        if place == BLOCKS_PER_SECTOR - 1:
            allowed = _TRAILER_WRITE.get(access, "")
            try:
                iccard.decode_access(data)
            except CardError:
                return b"\x65\x81"  # a real card would lock the sector for ever
        else:
            allowed = _DATA[access][1] if block else ""
        if letter is None or letter not in allowed:
            return b"\x69\x82"
        if not self.forgets:
            self.blocks[block] = data
        return b"\x90\x00"

    def _letter(self, block: int) -> str | None:
        """With which key the block's sector is open."""
        if block >= BLOCKS or self._open is None or self._open[0] != block // BLOCKS_PER_SECTOR:
            return None
        return self._open[1]

    def _trailer(self, block: int) -> bytes:
        return self.blocks[block - block % BLOCKS_PER_SECTOR + BLOCKS_PER_SECTOR - 1]

    def _access(self, block: int) -> tuple[Access, Access, Access, Access]:
        return iccard.decode_access(self._trailer(block))


class CardField:
    """The field of one virtual reader: what lies in it is connected to vpcd at `port`, also after pcscd came back."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.card: VirtualCard | None = None
        self._host = host
        self._port = port
        self._moved = trio.Event()
        self._laid = trio.Event()

    def lay(self, card: VirtualCard) -> None:
        """Put a card on the reader, instead of what lay there."""
        self.remove()
        self.card = card
        self._laid.set()

    def remove(self) -> None:
        """Take the card away."""
        self._gone()
        self._moved.set()
        self._moved = trio.Event()

    def _gone(self) -> None:
        self.card = None
        if self._laid.is_set():
            self._laid = trio.Event()

    async def run(self) -> NoReturn:
        """Hold the field until cancelled."""
        while True:
            if self.card is None:
                await self._laid.wait()
                continue
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                stream = await trio.open_tcp_stream(self._host, self._port)
                async with stream:
                    await self._hold(stream, self.card)
            await trio.sleep(RETRY_S)

    async def _hold(self, stream: trio.SocketStream, card: VirtualCard) -> None:
        """Until the card is taken away or vpcd goes."""
        moved = self._moved
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await moved.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            with suppress(trio.BrokenResourceError):
                await self._serve(stream, card)
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream, card: VirtualCard) -> None:
        card.wake()
        buffer = b""
        while True:
            while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
                length = int.from_bytes(buffer[:2], "big")
                message, buffer = buffer[2 : 2 + length], buffer[2 + length :]
                if message == bytes((ATR_PLEASE,)):
                    await self._send(stream, ATR)
                elif message in (bytes((POWER_ON,)), bytes((RESET,)), bytes((POWER_OFF,))):
                    card.wake()
                elif len(message) > 1:
                    if card.leave_after is not None:
                        if card.leave_after <= 0:
                            card.leave_after = None
                            self._gone()
                            return
                        card.leave_after -= 1
                    await trio.sleep(card.delay_s)
                    await self._send(stream, card.answer(message))
            data = await stream.receive_some(MESSAGE_BYTES_MAX)
            if not data:
                return
            buffer += data

    async def _send(self, stream: trio.SocketStream, data: bytes) -> None:
        await stream.send_all(len(data).to_bytes(2, "big") + data)
