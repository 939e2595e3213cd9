"""Neighbours' sockets: real ones, in both directions, within the promised time, and back by themselves."""

from __future__ import annotations

import statistics

import pytest
import trio

from core.ports import free_port
from core.testing import patient_time
from drivers.nng import NeighbourLink
from drivers.nng.testing import until

patient = pytest.fixture(autouse=True)(patient_time)

PROMISED_S = 0.2  # from one lane's word to the other's ear
WORDS = 20


async def test_each_hears_the_other_within_the_promised_time() -> None:
    first_url, second_url = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    first, second = NeighbourLink(first_url, [second_url]), NeighbourLink(second_url, [first_url])
    heard: dict[str, list[bytes]] = {"first": [], "second": []}
    async with trio.open_nursery() as nursery:
        await nursery.start(first.run, heard["first"].append)
        await nursery.start(second.run, heard["second"].append)
        with trio.fail_after(20):
            while not (heard["first"] and heard["second"]):
                first.publish(b"edge/hello")
                second.publish(b"edge/hello")
                await trio.sleep(0.02)
        times_s = []
        for number in range(WORDS):
            word = b"edge/%d" % number
            start = trio.current_time()
            assert first.publish(word)
            await until(lambda word=word: word in heard["second"], 20)  # type: ignore[misc]
            times_s.append(trio.current_time() - start)
        assert statistics.median(times_s) < PROMISED_S
        nursery.cancel_scope.cancel()


async def test_a_neighbour_that_was_away_is_heard_again() -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    listener = NeighbourLink("tcp://127.0.0.1:0", [url])
    heard: list[bytes] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run, heard.append)
        for number in range(2):
            speaker = NeighbourLink(url, [])
            async with trio.open_nursery() as life:
                await life.start(speaker.run, lambda data: None)
                word = b"edge/%d" % number
                with trio.fail_after(20):
                    while word not in heard:
                        speaker.publish(word)
                        await trio.sleep(0.02)
                life.cancel_scope.cancel()
        assert not speaker.publish(b"edge/late"), "it is closed"
        nursery.cancel_scope.cancel()
