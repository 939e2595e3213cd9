"""Consoles that come, look for a while and go: as many as wanted in one process, with the real client of the channel.

    python -m bench._comers PORT CONSOLES SEED

Each place in front of a screen connects, logs in, subscribes (half of the time from where it left off), reads what
comes and leaves.  Twice a second a line of JSON on stdout says how many visits and feed lines there have been; the
process ends when it is killed, or when nobody reads that any more.
"""

from __future__ import annotations

import os
import random
import sys
import time

import msgspec
import trio

from admin_ws.client import ConsoleClient, ConsoleClosed, ConsoleError
from protocols import console as c
from protocols.jsonrpc import Wire

STAY_S = (0.5, 4.0)  # of a console
AWAY_S = (0.0, 1.0)
SAY_S = 0.5
RESUMES = 0.5  # the share of visits that go on from where they left off
TOO_SLOW = 4002  # close code


class Comers(msgspec.Struct):
    """What this process has seen so far. `refused`: a visit that did not come about, or was ended by the server."""

    visits: int = 0
    lines: int = 0
    refused: int = 0
    too_slow: int = 0


async def _come_and_go(url: str, dice: random.Random, seen: Comers) -> None:
    epoch, revision = "", -1
    while True:
        await trio.sleep(dice.uniform(*AWAY_S))
        try:
            async with ConsoleClient.connect(url, wire=dice.choice((Wire.JSON, Wire.MSGPACK))) as client:
                await client.login(f"u{dice.randrange(99)}", "x")
                asked = c.Subscription()
                if revision >= 0 and dice.random() < RESUMES:
                    asked = c.Subscription(epoch=epoch, revision=revision)
                shown = await client.call("site.subscribe", asked, c.Snapshot)
                epoch, revision = shown.epoch, shown.revision
                seen.visits += 1
                until = time.monotonic() + dice.uniform(*STAY_S)
                async for delta in client.deltas():
                    revision = delta.revision
                    seen.lines += len(delta.feed)
                    if time.monotonic() > until:
                        break
        except ConsoleError as error:
            seen.refused += 1
            seen.too_slow += isinstance(error, ConsoleClosed) and error.close_code == TOO_SLOW


async def _main(port: int, consoles: int, seed: int) -> None:
    dice, seen = random.Random(seed), Comers()
    url = f"ws://127.0.0.1:{port}/channel"
    async with trio.open_nursery() as nursery:
        for _ in range(consoles):
            nursery.start_soon(_come_and_go, url, dice, seen)
        while True:
            try:
                os.write(1, msgspec.json.encode(seen) + b"\n")
            except BrokenPipeError:
                nursery.cancel_scope.cancel()
                return
            await trio.sleep(SAY_S)


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
