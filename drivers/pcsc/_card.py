"""What is done with a card while it lies on the reader. Plain procedures over a channel that carries one command.

They block and belong into the reader's thread.  A channel raises `CardGone` the moment the card is away; whatever that
interrupts, the card keeps a record that counts (see `protocols.cardrecord`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from drivers.errors import DeviceRefused
from drivers.pcsc._errors import CardGone, CardRefused, WrongKey
from protocols import iccard
from protocols.cardrecord import BLOCKS_USED, CardKeys, CardRecord, encode_record, newest
from protocols.errors import CardError
from protocols.iccard import BLOCK_BYTES, FACTORY_KEY, KeyKind, Response

EMPTY = bytes(BLOCKS_USED * BLOCK_BYTES)


class CardChannel(Protocol):
    """A card that is connected. Both raise DeviceError."""

    def transmit(self, command: bytes) -> bytes: ...

    def reset(self) -> None:
        """Wake the card up again after it refused a key: most then answer nothing until they are."""


class CardContents(msgspec.Struct, frozen=True, kw_only=True):
    """What a card is. `uid` is its number in upper-case hex; without a `record` the `reason` says why there is none."""

    uid: str
    record: CardRecord | None = None
    reason: str = ""

    def __repr__(self) -> str:  # the number may open a gate
        return f"CardContents({len(self.uid) // 2} bytes of UID, {'record' if self.record else self.reason})"


class Card:
    """A storage card: number, sectors that keys open, blocks."""

    def __init__(self, channel: CardChannel) -> None:
        self._channel = channel

    def uid(self) -> bytes:
        """Raises CardError (`random_uid` for a telephone), DeviceError."""
        return iccard.decode_uid(self.send(iccard.get_uid()))

    def send(self, command: bytes) -> Response:
        """One command. Raises CardError for what is no answer, DeviceError."""
        return iccard.decode_response(self._channel.transmit(command))

    def open(self, sector: int, kind: KeyKind, key: bytes) -> None:
        """Authenticate for a sector. Raises WrongKey (and the card is ready for another key), CardRefused."""
        self._must(self.send(iccard.load_key(key)), "loading a key")
        answer = self.send(iccard.authenticate(iccard.first_block(sector), kind))
        if answer.status in (iccard.FAILED, iccard.NOT_AUTHENTICATED):
            self._channel.reset()
            raise WrongKey(f"sector {sector} does not open with this key {kind.name}")
        self._must(answer, "authenticating")

    def read(self, block: int) -> bytes:
        """Sixteen bytes. Raises CardRefused, for one when the sector is not open; CardError."""
        answer = self._must(self.send(iccard.read_block(block)), f"reading block {block}")
        if len(answer.data) != BLOCK_BYTES:
            raise CardError(f"block {block} came with {len(answer.data)} bytes")
        return answer.data

    def write(self, block: int, data: bytes) -> None:
        """Write sixteen bytes and read them back. Raises CardRefused, also when it kept something else."""
        self._must(self.send(iccard.update_block(block, data)), f"writing block {block}")
        if self.read(block) != data:
            raise CardRefused(f"block {block} does not keep what was written", iccard.OK)

    def write_trailer(self, sector: int, key_a: bytes, key_b: bytes) -> None:
        """Give a sector its keys: A reads, B writes. Raises CardRefused."""
        command = iccard.update_block(iccard.trailer_block(sector), iccard.trailer(key_a, key_b))
        self._must(self.send(command), f"writing the keys of sector {sector}")

    def _must(self, answer: Response, doing: str) -> Response:
        if not answer.ok:
            raise CardRefused(f"{doing}: {answer.words}", answer.status)
        return answer


def read_contents(channel: CardChannel, keys: CardKeys | None) -> CardContents:
    """Number, and with `keys` the record that counts. Raises DeviceError and CardError only for cards without a number.

    A card that leaves the field raises CardGone wherever that happens.
    """
    card = Card(channel)
    uid = card.uid()
    if keys is None:
        return CardContents(uid=uid.hex().upper())
    copies: list[bytes] = []
    reason = "no_record"
    for sector in keys.sectors:
        try:
            card.open(sector, KeyKind.A, keys.sector_key(uid, sector, KeyKind.A))
            copies.append(_read_copy(card, sector))
        except WrongKey:
            reason = "wrong_key"
        except CardGone:
            raise
        except (DeviceRefused, CardError):
            reason = "unreadable"
    try:
        return CardContents(uid=uid.hex().upper(), record=newest(copies, keys.record_key(uid), keys.site)[1])
    except CardError as exc:
        return CardContents(uid=uid.hex().upper(), reason=exc.reason if copies else reason)


def issue(channel: CardChannel, keys: CardKeys, ticket: int, issue_index: int) -> CardContents:
    """Write a record, on a new card or over an older record of ours, and read it back as a gate would.

    Raises WrongKey (and nothing was written) for a card that is neither new nor ours, CardRefused when it does not
    take or keep what is written, CardGone when it leaves: then the card has the old record, or the new one.
    """
    card = Card(channel)
    uid = card.uid()
    record_key = keys.record_key(uid)
    new, copies = _copies(card, keys, uid)
    try:
        place, old = newest(copies, record_key, keys.site)
        sequence, target = old.sequence + 1, 1 - place
    except CardError:
        sequence, target = 1, 0
    record = CardRecord(site=keys.site, ticket=ticket, issue_index=issue_index, sequence=sequence)
    data = encode_record(record, record_key)
    sector = keys.sectors[target]
    _open_to_write(card, keys, uid, sector, new=new[target])
    first = iccard.first_block(sector)
    for number in range(BLOCKS_USED):
        card.write(first + number, data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
    for number, its_sector in enumerate(keys.sectors):
        if new[number]:  # the record first, the keys after it: a card that leaves between is new to the next attempt
            _open_to_write(card, keys, uid, its_sector, new=True)
            kinds = [keys.sector_key(uid, its_sector, kind) for kind in (KeyKind.A, KeyKind.B)]
            card.write_trailer(its_sector, kinds[0], kinds[1])
    contents = read_contents(channel, keys)
    if contents.record != record:
        raise CardRefused("the card does not keep the record that was written", iccard.OK)
    return contents


def _copies(card: Card, keys: CardKeys, uid: bytes) -> tuple[list[bool], Sequence[bytes]]:
    """Which sectors are as from the factory, and what is in each. Raises WrongKey when one is neither new nor ours."""
    new: list[bool] = []
    copies: list[bytes] = []
    for sector in keys.sectors:
        try:
            card.open(sector, KeyKind.A, keys.sector_key(uid, sector, KeyKind.A))
            new.append(False)
        except WrongKey:
            card.open(sector, KeyKind.A, FACTORY_KEY)
            new.append(True)
        copies.append(_read_copy(card, sector))
    return new, copies


def _read_copy(card: Card, sector: int) -> bytes:
    first = iccard.first_block(sector)
    return b"".join(card.read(first + number) for number in range(BLOCKS_USED))


def _open_to_write(card: Card, keys: CardKeys, uid: bytes, sector: int, *, new: bool) -> None:
    if new:
        card.open(sector, KeyKind.A, FACTORY_KEY)
    else:
        card.open(sector, KeyKind.B, keys.sector_key(uid, sector, KeyKind.B))
