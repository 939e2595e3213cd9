"""Questions that take their time: answered side by side, bounded, and whatever fails is the asker's to hear."""

from __future__ import annotations

import pytest
import trio

from actors._asked import Slots
from actors.errors import CommandRefused
from actors.sales import SaleRefused
from actors.testing import alive, settle
from core import ActorDown, Address, Envelope, Stop
from storage.interfaces import LedgerRefused, LedgerUnavailable


class Desk:
    """Answers "go" when the gate opens, and raises any exception that it is sent."""

    def __init__(self, refusal: type[CommandRefused] = CommandRefused) -> None:
        self.refusal = refusal
        self.gate = trio.Event()

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, 2, self.refusal)
            while True:
                envelope = await me.receive()
                if isinstance(envelope.msg, Stop):
                    nursery.cancel_scope.cancel()
                    return
                slots.attend(envelope, self.answer)

    async def answer(self, envelope: Envelope) -> str:
        if isinstance(envelope.msg, Exception):
            raise envelope.msg
        await self.gate.wait()
        return f"{envelope.msg} there"


async def test_one_more_than_there_are_slots_is_refused_and_a_slot_is_free_again_after_each_answer(autojump_clock):
    desk, me, answers = Desk(), Address("desk"), []

    async def ask(word: str) -> None:
        answers.append(await me.ask(word, 5.0))

    async with alive(desk.run, me), trio.open_nursery() as nursery:
        for word in ("a", "b"):
            nursery.start_soon(ask, word)
        await settle()
        with pytest.raises(CommandRefused) as refused:
            await me.ask("c", 5.0)
        assert refused.value.code == "busy"
        desk.gate.set()
        await settle()
        assert sorted(answers) == ["a there", "b there"]
        for _ in range(3):
            with pytest.raises(CommandRefused):
                await me.ask(CommandRefused("no", "no"), 5.0)
        assert await me.ask("d", 5.0) == "d there"


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (LedgerRefused("such a ticket is not sold"), SaleRefused, "refused"),
        (LedgerUnavailable("gone"), SaleRefused, "unavailable"),
        (CommandRefused("unknown_lane", "There is no lane"), CommandRefused, "unknown_lane"),
        (ActorDown("lane"), ActorDown, None),
    ],
)
async def test_a_failure_is_the_askers_to_hear(autojump_clock, raised, kind, code):
    me = Address("desk")
    async with alive(Desk(SaleRefused).run, me):
        with pytest.raises(kind) as heard:
            await me.ask(raised, 5.0)
        assert getattr(heard.value, "code", None) == code
        if code in ("refused", "unavailable"):
            assert heard.value.__cause__ is raised
