"""Questions that take their time: each is answered in a task of its own, so many at once, and one more is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors.errors import CommandRefused
from core import ActorError, Envelope
from storage.interfaces import LedgerError, LedgerRefused

Answer = Callable[[Envelope], Awaitable[Any]]


class Slots:
    """Where an actor has its questions answered, while it goes on with its mailbox.

    A failure is the asker's to hear, never the actor's to die of. Whoever asks is failed with `refusal`: `busy` when no
    slot is free, `refused` and `unavailable` when the ledger says no or cannot say anything; what an answer raises of
    CommandRefused and ActorError goes through as it is.
    """

    def __init__(self, nursery: trio.Nursery, at_once: int, refusal: type[CommandRefused] = CommandRefused) -> None:
        self._nursery = nursery
        self._free = trio.Semaphore(at_once)
        self._refusal = refusal

    def attend(self, envelope: Envelope, answer: Answer) -> None:
        """Reply with what `answer` returns for the envelope, or fail."""
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            envelope.fail(self._refusal("busy", "Too many at once; try again", "请求过多，请稍后重试"))
            return
        self._nursery.start_soon(self._attend, envelope, answer)

    async def _attend(self, envelope: Envelope, answer: Answer) -> None:
        try:
            envelope.reply(await answer(envelope))
        except (CommandRefused, ActorError) as exc:
            envelope.fail(exc)
        except LedgerRefused as exc:
            envelope.fail(self._refused(exc, "refused", str(exc), "账本拒绝，未执行"))
        except LedgerError as exc:
            envelope.fail(self._refused(exc, "unavailable", "The ledger is away; try again", "账本不可用，请重试"))
        finally:
            self._free.release()

    def _refused(self, cause: LedgerError, code: str, text_en: str, text_zh: str) -> CommandRefused:
        refused = self._refusal(code, text_en, text_zh)
        refused.__cause__ = cause
        return refused
