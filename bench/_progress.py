"""What a long bench is doing, on stderr: which step, how far, after how many seconds. Figures alone go to stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

EVERY_S = 10.0  # a step that waits says so this often
EVERY_ITEMS = 25  # and one that counts, each so many


class Progress:
    """The steps of one bench, by its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = time.monotonic()

    def say(self, words: str) -> None:
        """One line, at once."""
        print(f"bench {self._name}: {time.monotonic() - self._begun:5.0f} s  {words}", file=sys.stderr, flush=True)

    def count(self, words: str, done: int, of: int) -> None:
        """One line now and then, and when all is done."""
        if done == of or done % EVERY_ITEMS == 0:
            self.say(f"{words}: {done} of {of}")

    @asynccontextmanager
    async def waiting(self, words: str) -> AsyncIterator[None]:
        """A step that takes long says that it still goes on."""
        self.say(words)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._again, words)
            yield
            nursery.cancel_scope.cancel()

    async def _again(self, words: str) -> None:
        while True:
            await trio.sleep(EVERY_S)
            self.say(f"{words}, still")
