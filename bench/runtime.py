"""What a message costs: the actor runtime against a bare Trio memory channel, in the same run.

Rounds are interleaved and medians taken, so that a noisy neighbour on the machine hits both sides alike; the ratio
is what travels between machines. Throughput is per second of processor time of this thread: neither side ever waits,
so on an idle machine that is the time on the wall, and on a busy one it leaves out the neighbours. Latencies are times
on the wall.

What profiling taught (in the order of the gain):

* The memory channel pays a scheduler turn for every message. The mailbox pays one for 32 (`CHECKPOINT_EVERY`); with
  one for each it would be hardly faster than the channel.
* No `trio.Event` in an envelope: an asker parks its own task, and only the deadline of an ask opens a cancel scope.
* The envelope is a msgspec Struct: built in C, in a third of the time that a slotted class takes.
* With more than 30 attributes an instance loses the interpreter's compact form: `__slots__` gave 150 ns a message.
* A burst takes a short path through `receive` that looks at nothing but the user lane; whatever else becomes urgent
  (a system message, a timer, a sender waiting for room) clears one flag and so sends it the long way.
* Reading the clock is the largest single cost left: once in `tell`, for the age of the oldest message, which is how
  an operator finds the actor that hangs. `receive` reads it only outside bursts.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import msgspec
import trio

from core import ActorDown, Address, Child, Stop, Supervisor

ROUNDS = 41  # short ones, of about 15 ms for each of tell and channel: most of them fall between two disturbances
TELLS, SENDS, ASKS, CRASHES = 16_000, 2_000, 400, 40  # per round
QUICK_ROUNDS = 7
CHANNEL_CAPACITY = 64  # messages
BATCH = 500  # tells between two waits for the actor
ASK_TIMEOUT_S = 5.0


class Note(msgspec.Struct, frozen=True):
    """A message of the size of a telemetry value."""

    number: int


class Question(msgspec.Struct, frozen=True):
    """Answered with itself."""

    number: int


class Crash(msgspec.Struct, frozen=True):
    """The actor raises when it reads this."""


class Deliberate(Exception):
    """The crash that Crash asks for."""


async def echo(me: Address) -> None:
    """Pass over notes, answer questions, crash when told to."""
    while True:
        env = await me.receive()
        kind = type(env.msg)
        if kind is Note:
            continue  # the consumer of the channel does nothing with it, either
        if kind is Question:
            env.reply(env.msg)
        elif kind is Stop:
            return
        elif kind is Crash:
            raise Deliberate


async def _tell_round(address: Address, count: int) -> float:
    """Messages per second from tell until handled."""
    note = Note(1)
    started = time.thread_time()
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            address.tell(note)
        await address.ask(Question(1), ASK_TIMEOUT_S)  # queued behind them: answered when they are handled
    return count / (time.thread_time() - started)


async def _channel_round(count: int) -> float:
    """The same through a memory channel, the usual mailbox of a Trio program."""
    send, receive = trio.open_memory_channel[Note](CHANNEL_CAPACITY)

    async def consume() -> None:
        async for _ in receive:
            pass

    note = Note(1)
    started = time.thread_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with send:
            for _ in range(count):
                await send.send(note)
    return count / (time.thread_time() - started)


async def _ask_round(address: Address, count: int) -> list[float]:
    """Seconds per ask, one at a time."""
    took = []
    for _ in range(count):
        started = time.perf_counter()
        await address.ask(Question(1), ASK_TIMEOUT_S)
        took.append(time.perf_counter() - started)
    return took


async def _crash_round(address: Address, count: int) -> list[float]:
    """Seconds from sending the message that kills the actor to the first answer of its successor."""
    took = []
    for _ in range(count):
        started = time.perf_counter()
        try:
            await address.ask(Crash(), ASK_TIMEOUT_S)
        except ActorDown:
            await address.ask(Question(1), ASK_TIMEOUT_S)
        took.append(time.perf_counter() - started)
    return took


def _percentile_us(samples: list[float], percent: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, math.floor(len(ordered) * percent / 100))] * 1e6


async def _measure(rounds: int) -> dict[str, Any]:
    address = Address("echo", capacity=2 * BATCH)
    supervisor = Supervisor("bench", [Child(address, echo)], intensity=10**9, backoff_s=0.0)
    tells: list[float] = []
    channels: list[float] = []
    p50s: list[float] = []
    p99s: list[float] = []
    crashes: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await address.wait_ready()
        await address.ask(Question(0), ASK_TIMEOUT_S)
        for _ in range(rounds):
            tells.append(await _tell_round(address, TELLS))
            channels.append(await _channel_round(SENDS))
            asks = await _ask_round(address, ASKS)
            p50s.append(_percentile_us(asks, 50))
            p99s.append(_percentile_us(asks, 99))
            crashes.append(_percentile_us(await _crash_round(address, CRASHES), 50))
        supervisor.address.tell(Stop(), system=True)
    return {
        "bench": "runtime",
        "figures": {
            "ask_p50_us": round(statistics.median(p50s), 1),
            "ask_p99_us": round(statistics.median(p99s), 1),
            "crash_to_reply_p50_us": round(statistics.median(crashes), 1),
            "tell_per_s": round(statistics.median(tells)),
            "channel_per_s": round(statistics.median(channels)),
        },
        "ratios": {
            # of neighbouring rounds, so that both saw the same machine
            "tell_vs_channel": round(statistics.median(t / c for t, c in zip(tells, channels, strict=True)), 2),
        },
    }


def run(quick: bool = False) -> dict[str, Any]:
    """Measure tell, ask and crash-to-reply: about three seconds, `quick` half a second, more on a busy machine."""
    return trio.run(_measure, QUICK_ROUNDS if quick else ROUNDS)
