"""From one lane's word to the other lane's journal: real sockets, real files; and what an eavesdropper cannot do."""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pynng
import pytest
import trio

from actors.edge import Disk, NeighbourActor, Tell
from actors.testing import alive
from core import Address
from core.testing import patient_time
from drivers.nng import NeighbourLink
from drivers.nng.testing import until
from paifang.testing import free_ports
from protocols.edge import TOPIC, Notice, Use, seal_notice, subject_of
from storage.journal import JournalError, open_journal
from storage.lanebook import LaneBook

patient = pytest.fixture(autouse=True)(patient_time)

KEY, OTHER_KEY = b"k" * 32, b"x" * 32
PROMISED_S = 0.2
WORDS = 15
WAIT_S = 20.0


def subject(number: int) -> bytes:
    return subject_of(KEY, b"ticket %d" % number)


def _use(lane: str) -> Use:
    return Use(subject=b"s" * 16, lane=lane, grant=1, zone="park", pax=1, at=1e9)


class Lane:
    """A neighbour as the lane controller has it: actor, sockets, journal."""

    def __init__(self, name: str, folder: Path, url: str, others: dict[str, str]) -> None:
        self.name = name
        folder.mkdir(exist_ok=True)
        self.journal = open_journal(folder / f"{name}.sqlite")
        self._eye = sqlite3.connect(folder / f"{name}.sqlite")  # the actor's own is its thread's
        self.me = Address(f"neighbours/{name}", capacity=256)
        self.actor = NeighbourActor(
            lane=name,
            lanes=list(others),
            key=KEY,
            outlet=NeighbourLink(url, list(others.values())),
            disk=Disk(LaneBook(self.journal, name, lambda at: "day"), (JournalError,)),
        )

    def let_in(self, number: int) -> None:
        use = Use(subject=subject(number), lane=self.name, grant=number, zone="park", pax=1, at=1e9 + number)
        self.me.tell(Tell(uses=[use]))

    def knows(self, number: int) -> bool:
        """In the journal, from which the next decision reads."""
        return self.uses(subject(number)) > 0

    def uses(self, name: bytes) -> int:
        return int(self._eye.execute("select count(*) from uses where subject = ?", (name,)).fetchone()[0])

    def close(self) -> None:
        self._eye.close()
        self.journal.close()


@asynccontextmanager
async def two_lanes(folder: Path, *, attacker: str = "") -> AsyncIterator[tuple[Lane, Lane, str]]:
    """n1 publishes, n2 listens to it and, with `attacker`, to whoever is at that address and says that it is n1."""
    urls = [f"tcp://127.0.0.1:{port}" for port in free_ports(2)]
    first = Lane("n1", folder, urls[0], {"n2": urls[1]})
    second = Lane("n2", folder, urls[1], {"n1": attacker or urls[0]})
    try:
        async with alive(first.actor.run, first.me), alive(second.actor.run, second.me):
            yield first, second, urls[0]
    finally:
        first.close()
        second.close()


async def test_what_one_lane_lets_in_is_in_the_others_journal_within_the_promised_time(tmp_path: Path) -> None:
    async with two_lanes(tmp_path) as (first, second, _):
        first.let_in(0)
        await until(lambda: second.knows(0), WAIT_S)  # connected
        times_s = []
        for number in range(1, WORDS + 1):
            start = trio.current_time()
            first.let_in(number)
            await until(lambda number=number: second.knows(number), WAIT_S)  # type: ignore[misc]
            times_s.append(trio.current_time() - start)
        assert statistics.median(times_s) < PROMISED_S, times_s


async def test_recorded_words_and_words_of_another_key_change_nothing(tmp_path: Path) -> None:
    """Somebody on the network records n1, takes its address, and says it all again, and other things besides."""
    [port] = free_ports(1)
    attacker = f"tcp://127.0.0.1:{port}"
    recorded: list[bytes] = []
    async with two_lanes(tmp_path) as (first, second, url):
        with pynng.Sub0(topics=[TOPIC], recv_timeout=int(WAIT_S * 1000)) as ear:
            ear.dial(url, block=False)

            async def record() -> None:
                while len(recorded) < 3:
                    recorded.append(await ear.arecv())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(record)
                number = 0
                while len(recorded) < 3:  # what is said before the ear is connected is not for it
                    number += 1
                    first.let_in(number)
                    await until(lambda number=number: second.knows(number), WAIT_S)  # type: ignore[misc]
                    await trio.sleep(0.02)
        taken = second.actor.statistics().taken
        second.actor._arrived(recorded[0])  # as the socket hands it over
        assert second.actor.statistics().refused == 1
        assert second.actor.statistics().taken == taken
    for data in recorded:
        assert b"ticket" not in data
    async with two_lanes(tmp_path / "later", attacker=attacker) as (_, second, _):
        forged = Notice(lane="n1", boot="b", seq=9, uses=[_use("n1")])
        own = Notice(lane="n2", boot="b", seq=9, uses=[_use("n2")])
        words = [seal_notice(OTHER_KEY, forged), seal_notice(KEY, own), TOPIC, TOPIC + b"\x00" * 40, recorded[0][:-1]]
        with pynng.Pub0(listen=attacker) as mouth:

            def said() -> bool:
                for word in words:
                    mouth.send(word)
                return second.actor.statistics().refused >= len(words)

            await until(said, WAIT_S)
        assert second.actor.statistics().taken == 0
        assert second.uses(b"s" * 16) == 0
