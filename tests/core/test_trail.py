"""The way of a message through the actors, by its trace."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from core import Address, Child, Envelope, Stop, Supervisor, Trail, keep_trail
from core._trail import STEPS_MAX, TRACES_MAX, WORTH_MAX
from core.testing import running


class Ask(msgspec.Struct, frozen=True):
    code: str = "a secret"


class Denied(msgspec.Struct, frozen=True):
    code: str


@pytest.fixture
def trail() -> Iterator[Trail]:
    kept = Trail(answers=frozenset({"Denied"}))
    keep_trail(kept)
    yield kept
    keep_trail(None)


async def test_a_trace_is_followed_from_actor_to_actor_with_the_answers_code_and_no_other(trail: Trail) -> None:
    first, second = Address("first"), Address("second")

    async def pass_on(me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            if isinstance(envelope.msg, Ask):
                second.tell(envelope.msg, reply_to=envelope)

    async def deny(me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            first.tell(Denied(code="already_used"))
            envelope.reply("told")

    async with running(Supervisor("root", [Child(first, pass_on), Child(second, deny)])):
        assert await first.ask(Ask(), 5.0, trace="t1") == "told"
        await first.ask(Ask(), 5.0, trace="t2")
    steps = trail.steps("t1")
    assert [(step.actor, step.message, step.code) for step in steps] == [
        ("first", "Ask", ""),
        ("second", "Ask", ""),
        ("first", "Denied", "already_used"),
    ]
    assert all(step.waited_s >= 0 for step in steps)
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    assert trail.steps("unknown") == []


def note(trail: Trail, trace: str, message: object) -> None:
    trail.note("lane", Envelope(message, 1e9, trace, 0.0))


async def test_what_was_refused_is_kept_longer_and_all_is_bounded() -> None:
    trail = Trail(answers=frozenset({"Denied"}))
    note(trail, "refused", Ask())
    note(trail, "refused", Denied(code="expired"))
    for number in range(TRACES_MAX + 10):
        note(trail, f"t{number}", Ask())
    assert trail.steps("t0") == []
    assert len(trail.steps(f"t{TRACES_MAX}")) == 1
    assert [step.message for step in trail.steps("refused")] == ["Ask", "Denied"]
    note(trail, "refused", Ask())
    assert len(trail.steps("refused")) == 3, "what comes later still belongs to it"
    for number in range(WORTH_MAX):
        note(trail, f"r{number}", Denied(code="expired"))
    assert trail.steps("refused") == []


async def test_a_trace_that_runs_in_circles_fills_no_memory() -> None:
    trail = Trail()
    for _ in range(STEPS_MAX * 3):
        note(trail, "circle", Ask())
    assert len(trail.steps("circle")) == STEPS_MAX
