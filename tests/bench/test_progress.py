"""What a long bench says of itself while it runs: on stderr alone, so that its figures can be read by a program."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from bench._progress import EVERY_ITEMS, EVERY_S, Progress


def test_it_counts_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("x")
    of = 2 * EVERY_ITEMS + 1
    for done in range(1, of + 1):
        progress.count("visitors", done, of)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[-1] for line in err.splitlines()] == [
        f"{EVERY_ITEMS} of {of}", f"{2 * EVERY_ITEMS} of {of}", f"{of} of {of}",
    ]  # fmt: skip


async def test_a_step_that_waits_says_that_it_still_does(
    autojump_clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Progress("x").waiting("a list comes"):
        await trio.sleep(2.5 * EVERY_S)
    await trio.sleep(10 * EVERY_S)
    said = [line.split("  ", 1)[-1].strip() for line in capsys.readouterr().err.splitlines()]
    assert [words.split("s  ")[-1] for words in said] == ["a list comes", "a list comes, still", "a list comes, still"]
