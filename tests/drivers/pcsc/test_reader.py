"""A card reader's driver against a real pcscd with vsmartcard's virtual reader; only the card is our own simulator.

pcscd is one per machine: these tests take turns with those of other runs (`drivers.pcsc.testing`).
"""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from core.testing import patient_time
from drivers.base import Availability, CardRejected, CredentialRead, DeviceDown, DeviceEvent, DeviceUp, Driver
from drivers.pcsc import (
    CardGone,
    CardKeys,
    CardReader,
    CardRefused,
    NoCard,
    ReaderBusy,
    ReaderGone,
    ServiceGone,
    WrongKey,
    _service,
)
from drivers.pcsc._card import Card, issue
from drivers.pcsc._service import choose, open_context
from drivers.pcsc.testing import READER, PcscService, pcsc_service
from drivers.testing import open_descriptors
from protocols.iccard import FACTORY_KEY, KeyKind
from protocols.messages import CredentialKind
from sim.pcsc import CardField, VirtualCard

patient = pytest.fixture(autouse=True)(patient_time)

UID = bytes.fromhex("04A1B2C3D4E5F6")
OTHER_UID = bytes.fromhex("04FFEEDD")
KEYS = CardKeys(b"m" * 32, b"site")
WAIT_S = 30.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]  # they may wait for other runs to leave pcscd


class _Direct:
    """A channel to a virtual card without any reader, to prepare it."""

    def __init__(self, card: VirtualCard) -> None:
        self._card = card

    def transmit(self, command: bytes) -> bytes:
        return self._card.answer(command)

    def reset(self) -> None:
        self._card.wake()


def issued(uid: bytes = UID, issue_index: int = 1, keys: CardKeys = KEYS) -> VirtualCard:
    card = VirtualCard(uid)
    issue(_Direct(card), keys, 7, issue_index)
    return card


class Bench:
    def __init__(self, service: PcscService, nursery: trio.Nursery) -> None:
        self.service = service
        self.field = CardField(service.port)
        self.nursery = nursery
        self.events: list[DeviceEvent] = []
        self.scope = trio.CancelScope()
        nursery.start_soon(self.field.run)

    async def drive(self, reader: CardReader) -> CardReader:
        async def run() -> None:
            with self.scope:
                await reader.run(self.events.append)

        self.nursery.start_soon(run)
        await self.until("up", lambda: bool(self.events))
        assert isinstance(self.events[0], DeviceUp), self.events
        return reader

    async def until(self, what: str, true: Callable[[], bool]) -> None:
        with trio.move_on_after(WAIT_S):
            while not true():
                await trio.sleep(0.01)
            return
        raise AssertionError(f"not {what}; events {self.events}")

    async def until_events(self, count: int) -> list[DeviceEvent]:
        await self.until(f"{count} events", lambda: len(self.events) >= count)
        return self.events

    async def swap(self, card: VirtualCard) -> None:
        """Another card, after a pause that makes it a presentation of its own."""
        self.field.remove()
        await trio.sleep(1.5)
        self.field.lay(card)


@asynccontextmanager
async def benching() -> AsyncIterator[Bench]:
    async with pcsc_service() as service, trio.open_nursery() as nursery:
        yield Bench(service, nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benching() as made:
        yield made


def card_read(uid: bytes = UID, issue_index: int | None = None) -> CredentialRead:
    return CredentialRead(kind=CredentialKind.CARD, value=uid.hex().upper(), issue_index=issue_index)


async def test_number_authenticate_read_write_a_wrong_key_and_removal(bench: Bench) -> None:
    bench.field.lay(VirtualCard(UID))
    context = await open_context()
    name = choose(await context.readers(), READER)
    state = 0
    with trio.fail_after(WAIT_S):
        while not state & _service.STATE_PRESENT:
            state, _ = await context.wait(name, state, 1.0)

    def job(channel: object) -> list[object]:
        card = Card(channel)  # type: ignore[arg-type]
        said: list[object] = [card.uid()]
        card.open(1, KeyKind.A, FACTORY_KEY)
        said.append(card.read(4))
        card.write(4, b"TICKET-000000042")
        said.append(card.read(4))
        try:
            card.open(1, KeyKind.A, b"wrong!")
        except WrongKey as exc:
            said.append(exc)
        try:
            card.read(4)
        except CardRefused as exc:
            said.append(exc.status)
        card.open(1, KeyKind.A, FACTORY_KEY)
        said.append(card.read(4))
        return said

    uid, before, after, wrong, closed, again = await context.use(name, job, WAIT_S)
    bench.field.remove()
    with trio.fail_after(WAIT_S):
        while state & _service.STATE_PRESENT:
            state, _ = await context.wait(name, state, 1.0)
    with pytest.raises(CardGone):
        await context.use(name, job, WAIT_S)
    await context.aclose()
    assert (uid, before, after, again) == (UID, bytes(16), b"TICKET-000000042", b"TICKET-000000042")
    assert isinstance(wrong, WrongKey)
    assert closed == 0x6982


async def test_each_presentation_is_one_credential_and_removal_is_seen(bench: Bench) -> None:
    reader = await bench.drive(CardReader(READER))
    as_seam: Driver = reader
    bench.field.lay(VirtualCard(UID))
    await bench.until_events(2)
    await trio.sleep(1.5)
    await bench.swap(VirtualCard(UID))
    await bench.until_events(3)
    await bench.swap(VirtualCard(OTHER_UID))
    assert await bench.until_events(4) == [DeviceUp(), card_read(), card_read(), card_read(OTHER_UID)]
    statistics = as_seam.statistics()
    assert statistics.availability is Availability.AVAILABLE
    assert statistics.frames_in == 3 and statistics.reconnects == 0
    assert statistics.firmware.startswith(READER)


async def test_a_record_says_which_issue_the_card_is(bench: Bench) -> None:
    reader = await bench.drive(CardReader(READER, keys=KEYS, require_record=True))
    bench.field.lay(issued(issue_index=5))
    assert await bench.until_events(2) == [DeviceUp(), card_read(issue_index=5)]
    assert reader.statistics().bad_frames == 0


async def test_a_copied_number_a_foreign_card_and_a_telephone_open_nothing(bench: Bench) -> None:
    reader = await bench.drive(CardReader(READER, keys=KEYS, require_record=True))
    bench.field.lay(issued().copy_of())
    await bench.until_events(2)
    await bench.swap(issued(OTHER_UID, keys=CardKeys(b"m" * 32, b"else")))
    await bench.until_events(3)
    await bench.swap(VirtualCard(bytes.fromhex("08A1B2C3")))
    assert await bench.until_events(4) == [
        DeviceUp(),
        CardRejected(reason="wrong_key"),
        CardRejected(reason="other_site"),
        CardRejected(reason="random_uid"),
    ]
    assert reader.statistics().bad_frames == 3
    assert UID.hex().upper() not in repr(reader.statistics()) + repr(bench.events)


async def test_without_requiring_it_a_card_without_a_record_is_a_number(bench: Bench) -> None:
    await bench.drive(CardReader(READER, keys=KEYS))
    bench.field.lay(VirtualCard(UID))
    assert await bench.until_events(2) == [DeviceUp(), card_read()]


async def test_a_desk_issues_a_card_that_a_gate_then_accepts(bench: Bench) -> None:
    reader = CardReader(READER, keys=KEYS, require_record=True)
    card = VirtualCard(UID)
    bench.field.lay(card)
    made = await reader.issue_card(ticket=42, issue_index=3, timeout_s=WAIT_S)
    assert made.uid == UID.hex().upper() and made.record is not None
    assert (made.record.ticket, made.record.issue_index) == (42, 3)
    assert await reader.read_card(WAIT_S) == made
    bench.field.remove()
    await trio.sleep(1.5)
    await bench.drive(reader)
    bench.field.lay(card)
    assert await bench.until_events(2) == [DeviceUp(), card_read(issue_index=3)]


async def test_a_desk_waits_for_a_card_and_not_for_ever(bench: Bench) -> None:
    reader = await bench.drive(CardReader(READER, keys=KEYS))
    with pytest.raises(NoCard):
        await reader.read_card(0.5)

    async def later() -> None:
        await trio.sleep(0.5)
        bench.field.lay(VirtualCard(UID))

    bench.nursery.start_soon(later)
    assert (await reader.read_card(WAIT_S)).uid == UID.hex().upper()
    with pytest.raises(ReaderGone, match=READER):
        await CardReader("no such reader").read_card(WAIT_S)


async def test_a_card_that_leaves_while_it_is_issued_is_not_issued_and_can_be_again(bench: Bench) -> None:
    reader = CardReader(READER, keys=KEYS)
    card = issued(issue_index=1)
    card.leave_after = 12  # in the middle of writing
    bench.field.lay(card)
    with pytest.raises(CardGone):
        await reader.issue_card(7, 2, WAIT_S)
    bench.field.lay(card)
    left = await reader.read_card(WAIT_S)
    assert left.record is not None and left.record.issue_index == 1
    assert (await reader.issue_card(7, 2, WAIT_S)).record is not None


async def test_another_program_with_the_card_is_said_and_waited_for(bench: Bench) -> None:
    bench.field.lay(VirtualCard(UID))
    script = (
        "import sys; from smartcard.scard import *; _, c = SCardEstablishContext(0); _, r = SCardListReaders(c, [])\n"
        "print(SCardConnect(c, r[0], SCARD_SHARE_EXCLUSIVE, 3)[0], flush=True); sys.stdin.read()"
    )
    reader = CardReader(READER)
    await reader.read_card(WAIT_S)
    other = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None and other.stdin is not None
        assert await trio.to_thread.run_sync(other.stdout.readline) == b"0\n"
        with pytest.raises(ReaderBusy, match="another program"):
            await reader._work(READER + " 00 00", lambda channel: Card(channel).uid(), 0.3)
        other.stdin.close()
        assert (await reader.read_card(WAIT_S)).uid == UID.hex().upper()
    finally:
        other.kill()
        other.wait()
        for pipe in (other.stdin, other.stdout):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_pcscd_killed_and_restarted_is_survived(bench: Bench, how: signal.Signals) -> None:
    reader = await bench.drive(CardReader(READER, keys=KEYS))
    bench.field.lay(issued())
    await bench.until_events(2)
    await bench.service.kill(how)
    await bench.until_events(3)
    assert isinstance(bench.events[2], DeviceDown)
    assert reader.statistics().availability is Availability.UNAVAILABLE
    with pytest.raises(ServiceGone):
        await reader.read_card(WAIT_S)
    await trio.sleep(1.0)
    await bench.service.start()
    await bench.until_events(4)
    assert [type(event) for event in bench.events] == [DeviceUp, CredentialRead, DeviceDown, DeviceUp]
    await trio.sleep(1.5)
    assert len(bench.events) == 4  # the card that lay there all the time is no second presentation
    assert reader.statistics().reconnects == 1
    await trio.sleep(1.0)
    await bench.swap(VirtualCard(OTHER_UID))
    assert (await bench.until_events(5))[4] == card_read(OTHER_UID)


async def test_pcscd_that_hangs_is_unavailable_and_comes_back(bench: Bench) -> None:
    reader = await bench.drive(CardReader(READER))
    bench.service.hang()
    await bench.until_events(2)
    assert isinstance(bench.events[1], DeviceDown) and "does not answer" in bench.events[1].reason
    with trio.fail_after(WAIT_S):
        with pytest.raises(ServiceGone):
            await reader.read_card(WAIT_S)
    bench.service.go_on()
    await bench.until_events(3)
    bench.field.lay(VirtualCard(UID))
    assert await bench.until_events(4) == [DeviceUp(), bench.events[1], DeviceUp(), card_read()]


async def test_cancelled_at_any_moment_nothing_stays_open(bench: Bench) -> None:
    reader = CardReader(READER, keys=KEYS)
    bench.field.lay(issued())
    await reader.read_card(WAIT_S)
    before = open_descriptors()
    for delay_s in (0.0, 0.001, 0.01, 0.05, 0.3, 0.7):
        with trio.move_on_after(delay_s):
            await reader.run(lambda event: None)
        with trio.move_on_after(delay_s):
            await reader.issue_card(7, 1, WAIT_S)
        await bench.until("closed", lambda: open_descriptors() <= before)
    assert (await reader.issue_card(7, 1, WAIT_S)).record is not None


async def test_no_service_at_start_and_one_later() -> None:
    async with benching() as bench:
        await bench.service.kill()
        reader = CardReader(READER)
        bench.nursery.start_soon(reader.run, bench.events.append)
        await bench.until_events(1)
        assert isinstance(bench.events[0], DeviceDown)
        await bench.service.start()
        await bench.until_events(2)
        assert bench.events[1] == DeviceUp()


async def test_a_reader_that_is_not_plugged_in_is_waited_for(bench: Bench) -> None:
    await bench.service.kill()
    await bench.service.start(reader=False)
    bench.nursery.start_soon(CardReader(READER).run, bench.events.append)
    await bench.until_events(1)
    assert isinstance(bench.events[0], DeviceDown) and "there is none at all" in bench.events[0].reason
    await bench.service.kill()
    await bench.service.start()
    await bench.until_events(2)
    assert bench.events[1:] == [DeviceUp()]


async def test_without_pyscard_the_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    events: list[DeviceEvent] = []
    reader = CardReader()
    with trio.move_on_after(WAIT_S) as scope:
        await reader.run(lambda event: (events.append(event), scope.cancel())[0])
    assert isinstance(events[0], DeviceDown) and "install the extra 'pcsc'" in events[0].reason


def test_a_record_is_required_only_where_it_can_be_read() -> None:
    with pytest.raises(ValueError, match="keys"):
        CardReader(require_record=True)


async def test_issuing_without_keys_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="keys"):
        await CardReader().issue_card(1, 1, 1.0)
