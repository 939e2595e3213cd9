"""The actor behind `site.explain`: asks the ledger for the facts of a scan that nobody made, and explains them.

It changes nothing and grants nothing.  What was asked about, a usable ticket, is neither logged nor answered back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo

import msgspec
import trio

from actors._asked import Slots
from actors.admission._identity import HashId, Identify, Tries, Verify
from actors.admission.explain import explain, plain_step, unreadable
from actors.errors import CommandRefused
from actors.reader import credential_of
from core import Address, Envelope, Stop
from protocols.console import ExplainScan, ExplainStep, Explanation
from protocols.errors import TicketCodeError
from protocols.messages import Credential, CredentialKind, Direction
from protocols.rotating import KeyOf, is_rotating
from storage.interfaces import Explain, LedgerError, ScanBooks, ScanFacts, ZoneFacts

QUESTIONS_MAX = 16  # under way at once: people's curiosity must not fill the ledger's mailbox
LEDGER_ANSWER_S = 3.0
TYPED_MAX = 20  # short codes that people at consoles may try
TYPED_WITHIN_S = 60.0
FACE_KINDS = (CredentialKind.CARD, CredentialKind.CODE)  # scans that a camera's picture comes with
NOBODY = ZoneFacts(zone="outside", inside=0, held=0, limit=None)  # what is behind a way out is not asked


class LaneHere(msgspec.Struct, frozen=True):
    """What a scan at a lane depends on.

    `refuses` gives the code with which the lane refuses every entry now, or ""; `refuses_exit` the same of exits.
    """

    to_zone: str
    max_pax: int
    refuses: Callable[[], str]
    class_: str = ""
    from_zone: str = "outside"
    refuses_exit: Callable[[], str] | None = None  # None: as entries


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
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, QUESTIONS_MAX)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case ExplainScan():
                        slots.attend(envelope, self._explain)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _explain(self, envelope: Envelope) -> Explanation:
        asked: ExplainScan = envelope.msg
        trace = envelope.trace
        lane = self._lanes.get(asked.lane)
        if lane is None:
            raise CommandRefused("unknown_lane", f"There is no lane {asked.lane}", "没有此通道")
        now = self._clock() if asked.at is None else asked.at
        credential = Credential(CredentialKind.ID_NUMBER, asked.code) if asked.id_number else credential_of(asked.code)
        face = asked.face_ok and credential.kind in FACE_KINDS and not asked.way_out  # no other scan comes with a face
        scan = ScanFacts(
            lane=asked.lane,
            to_zone=lane.from_zone if asked.way_out else lane.to_zone,
            now=now,
            pax=None,
            max_pax=lane.max_pax,
            face_ok=face,
            face_taken=face,
            from_zone=lane.to_zone if asked.way_out else lane.from_zone,
            lane_class=lane.class_,
            direction=Direction.EXIT if asked.way_out else Direction.ENTRY,
            holder_hash=self._holder(credential, asked),
            stamp=asked.stamp,
            product=asked.product,
        )
        steps: list[ExplainStep] = [] if asked.at is not None else [_lane_step(lane, asked.way_out)]
        check = "signature" if credential.kind is CredentialKind.CODE else "known"
        if credential.kind is CredentialKind.SHORT and not self._typed.allow("console", self._clock()):
            raise CommandRefused("busy", "Too many codes typed; wait a minute", "输入次数过多，请稍后重试")
        try:
            identity = self._identify(credential, now)
        except TicketCodeError as exc:
            facts = ("不是卡号、证件号或短码", "not a card's or ID's number or short code")
            if check == "signature":
                facts = ("无法核验此码", "this code cannot be verified")
            if asked.way_out:
                steps.append(plain_step(check, facts))
                return explain([], NOBODY, scan, before=steps, timezone=self._timezone)
            return unreadable([*steps, plain_step(check, facts, exc.reason)], scan)
        if check == "signature":
            facts = ("本景区签发", "signed by this site")
            if is_rotating(credential.value):
                facts = ("手机动态码，时间有效", "a phone's live code, of this moment")
            steps.append(plain_step("signature", facts))
        try:
            books = await self._ledger.ask(
                Explain(
                    kind=credential.kind,
                    credential_hash=identity.hash,
                    to_zone=scan.to_zone,
                    from_zone=scan.from_zone,
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
            raise CommandRefused("no_ledger", f"The ledger does not know the zone {scan.to_zone}", "没有此区域")
        scan = msgspec.structs.replace(scan, local=books.local)
        if books.refused and not asked.way_out:
            steps.append(plain_step("known", ("预制票码", "a pre-printed code"), books.refused))
            if not books.rights:
                return unreadable(steps, scan)
        return explain(books.rights, books.zone, scan, before=steps, timezone=self._timezone)


    def _holder(self, credential: Credential, asked: ExplainScan) -> bytes | None:
        """The hash of the ID that is presented, as the credential or beside it. What is no ID's number is none."""
        shown = credential if asked.id_number else Credential(CredentialKind.ID_NUMBER, asked.holder)
        try:
            return self._identify(shown).hash
        except TicketCodeError:
            return None


def _lane_step(lane: LaneHere, way_out: bool) -> ExplainStep:
    if way_out:
        code = (lane.refuses_exit or lane.refuses)()
        return plain_step("lane", ("现在放人出园", "lets people out now") if not code else ("现在", "now"), code)
    code = lane.refuses()
    return plain_step("lane", ("现在放人", "lets people in now") if not code else ("现在", "now"), code)
