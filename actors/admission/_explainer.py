"""The actor behind `site.explain`: asks the ledger for the facts of a scan that nobody made, and explains them.

It changes nothing and grants nothing.  What was asked about, a usable ticket, is neither logged nor answered back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo

import msgspec
import trio

from actors.admission._identity import HashId, Identify, Tries, Verify
from actors.admission.explain import explain, plain_step, unreadable
from actors.errors import CommandRefused
from actors.reader import credential_of
from core import ActorError, Address, Envelope, Stop
from protocols.console import ExplainScan, ExplainStep, Explanation
from protocols.errors import TicketCodeError
from protocols.messages import CredentialKind
from protocols.rotating import KeyOf
from storage.interfaces import Explain, LedgerError, ScanBooks, ScanFacts

QUESTIONS_MAX = 16  # under way at once: people's curiosity must not fill the ledger's mailbox
LEDGER_ANSWER_S = 3.0
TYPED_MAX = 20  # short codes that people at consoles may try
TYPED_WITHIN_S = 60.0


class LaneHere(msgspec.Struct, frozen=True):
    """What a scan at a lane depends on. `refuses` gives the code with which the lane refuses every scan now, or ""."""

    to_zone: str
    max_pax: int
    refuses: Callable[[], str]
    class_: str = ""
    from_zone: str = "outside"


class Explainer:
    """Answers `ExplainScan` with `Explanation`; fails with CommandRefused (`unknown_lane`, `busy`, `no_ledger`)."""

    def __init__(
        self,
        *,
        lanes: Mapping[str, LaneHere],
        verify: Verify,
        hash_id: HashId,
        ledger: Address,
        timezone: tzinfo = UTC,
        clock: Callable[[], float] = time.time,
        rotating_key: KeyOf | None = None,
    ) -> None:
        self._lanes = lanes
        self._identify = Identify(verify, hash_id, rotating_key, clock)
        self._typed = Tries(TYPED_MAX, TYPED_WITHIN_S)
        self._ledger = ledger
        self._timezone = timezone
        self._clock = clock

    async def run(self, me: Address) -> None:
        slots = trio.Semaphore(QUESTIONS_MAX)
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case ExplainScan():
                        try:
                            slots.acquire_nowait()
                        except trio.WouldBlock:
                            envelope.fail(CommandRefused("busy", "Too many questions at once; try again", "请稍后重试"))
                            continue
                        nursery.start_soon(self._answer, envelope, slots)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _answer(self, envelope: Envelope, slots: trio.Semaphore) -> None:
        try:
            envelope.reply(await self._explain(envelope.msg, envelope.trace))
        except (CommandRefused, ActorError) as exc:
            envelope.fail(exc)
        finally:
            slots.release()

    async def _explain(self, asked: ExplainScan, trace: str) -> Explanation:
        lane = self._lanes.get(asked.lane)
        if lane is None:
            raise CommandRefused("unknown_lane", f"There is no lane {asked.lane}", "没有此通道")
        now = self._clock() if asked.at is None else asked.at
        scan = ScanFacts(
            lane=asked.lane,
            to_zone=lane.to_zone,
            now=now,
            pax=None,
            max_pax=lane.max_pax,
            face_ok=asked.face_ok,
            face_taken=asked.face_ok,
            from_zone=lane.from_zone,
            lane_class=lane.class_,
        )
        steps: list[ExplainStep] = [] if asked.at is not None else [_lane_step(lane)]
        credential = credential_of(asked.code)
        check = "signature" if credential.kind is CredentialKind.CODE else "known"
        if credential.kind is CredentialKind.SHORT and not self._typed.allow("console", self._clock()):
            raise CommandRefused("busy", "Too many codes typed; wait a minute", "输入次数过多，请稍后重试")
        try:
            identity = self._identify(credential, now)
        except TicketCodeError as exc:
            facts = ("不是卡号或短码", "not a card's number or short code")
            if check == "signature":
                facts = ("无法核验此码", "this code cannot be verified")
            return unreadable([*steps, plain_step(check, facts, exc.reason)], scan)
        if check == "signature":
            steps.append(plain_step("signature", ("本景区签发", "signed by this site")))
        try:
            books = await self._ledger.ask(
                Explain(
                    kind=credential.kind,
                    credential_hash=identity.hash,
                    to_zone=lane.to_zone,
                    from_zone=lane.from_zone,
                    lane=asked.lane,
                    ticket=identity.ticket,
                    at=asked.at,
                ),
                LEDGER_ANSWER_S,
                trace=trace,
            )
        except LedgerError as exc:
            raise CommandRefused("no_ledger", f"The ledger cannot be asked: {exc}", "数据库不可用") from exc
        assert isinstance(books, ScanBooks)
        if books.zone is None:
            raise CommandRefused("no_ledger", f"The ledger does not know the zone {lane.to_zone}", "没有此区域")
        scan = msgspec.structs.replace(scan, local=books.local)
        if books.refused:
            steps.append(plain_step("known", ("预制票码", "a pre-printed code"), books.refused))
            if not books.rights:
                return unreadable(steps, scan)
        return explain(books.rights, books.zone, scan, before=steps, timezone=self._timezone)


def _lane_step(lane: LaneHere) -> ExplainStep:
    code = lane.refuses()
    return plain_step("lane", ("现在放人", "lets people in now") if not code else ("现在", "now"), code)
