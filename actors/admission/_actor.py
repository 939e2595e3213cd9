"""The actor that turns a lane's question into a grant on disk.

It checks what needs no look-up (the code's signature), has the holder's face compared or taken where a photograph came
with the scan, and hands the question to the ledger, which decides inside its transaction and answers the lane directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from actors._common import hand_over, offer
from actors.admission._identity import HashId, Identify, Identity, Tries, Verify
from actors.passes import FaceVerdict, VerifyFace
from core import Address, Envelope, Failed, MailboxFull, Stop
from protocols.errors import TicketCodeError
from protocols.messages import CredentialKind, Decide, Denied, Direction, Scan
from protocols.rotating import KeyOf, is_rotating
from storage.interfaces import GrantOp, RefusedScan

FACES_WAITING_MAX = 64  # comparisons under way; more are refused as `unavailable` at once
FACE_KINDS = (CredentialKind.CARD, CredentialKind.CODE)
TYPED_MAX = 10  # short codes that one device may try
TYPED_WITHIN_S = 60.0
HOLDER_CONTEXT = b"id-number"  # binds a sealed ID number to its purpose

Seal = Callable[[bytes, bytes], bytes]
"""(what, context) -> sealed with the site's data key."""


class _Waiting(msgspec.Struct, frozen=True):
    envelope: Envelope
    identity: Identity


class Admission:
    """The only way to a grant. `verify` raises TicketCodeError; `hash_id` and `rotating_key` are the key ring's.

    Without `seal` the ID of a holder is bound by its hash alone.
    """

    def __init__(
        self,
        *,
        verify: Verify,
        hash_id: HashId,
        ledger: Address,
        passes: Address,
        rotating_key: KeyOf | None = None,
        seal: Seal | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._identify = Identify(verify, hash_id, rotating_key, clock)
        self._seal = seal
        self._clock = clock
        self._ledger = ledger
        self._passes = passes
        self._typed = Tries(TYPED_MAX, TYPED_WITHIN_S)
        self._faces: dict[int, _Waiting] = {}
        self._next_face = 0

    async def run(self, me: Address) -> None:
        self._faces.clear()
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case Decide() as question:
                    self._on_question(question, envelope, me)
                case FaceVerdict() as verdict:
                    self._on_verdict(verdict)
                case Failed(msg=VerifyFace(ref=ref)):
                    self._on_verdict(FaceVerdict(ref=ref, code="unavailable"))
                case Stop():
                    return

    def _on_question(self, question: Decide, envelope: Envelope, me: Address) -> None:
        scan = question.scan
        kind = scan.credential.kind
        if kind is CredentialKind.SHORT and not self._typed.allow(scan.device, self._clock()):
            self._refuse(scan, "unavailable", envelope, hint="too many codes typed; wait a minute")
            return
        try:
            identity = self._identify(scan.credential)
        except TicketCodeError as exc:
            # whoever wants out is let out on anything, and a code that was good when it was granted stays known
            if scan.direction is Direction.EXIT or is_rotating(scan.credential.value):
                self._grant(question, Identity(b""), envelope, refused=exc.reason)
            else:
                self._refuse(scan, exc.reason, envelope)
            return
        if scan.photo is None or kind not in FACE_KINDS or scan.direction is Direction.EXIT:
            self._grant(question, identity, envelope)
            return
        if len(self._faces) >= FACES_WAITING_MAX:
            envelope.reply(Denied(nonce=scan.nonce, code="unavailable"))
            return
        self._next_face += 1
        try:
            self._passes.tell(
                VerifyFace(ref=self._next_face, credential_hash=identity.hash, photo=scan.photo, kind=kind),
                reply_to=me,
                deadline=envelope.deadline,
                trace=envelope.trace,
            )
        except MailboxFull:
            envelope.reply(Denied(nonce=scan.nonce, code="unavailable"))
            return
        self._faces[self._next_face] = _Waiting(envelope, identity)

    def _on_verdict(self, verdict: FaceVerdict) -> None:
        waiting = self._faces.pop(verdict.ref, None)
        if waiting is None:
            return
        question: Decide = waiting.envelope.msg
        refused = "" if verdict.code in ("ok", "taken", "not_needed") else verdict.code
        if refused and question.scan.stamp:
            refused = ""  # staff have looked at the holder where the camera could not
        self._grant(question, waiting.identity, waiting.envelope, verdict=verdict, refused=refused)

    def _grant(
        self,
        question: Decide,
        identity: Identity,
        envelope: Envelope,
        *,
        verdict: FaceVerdict | None = None,
        refused: str = "",
    ) -> None:
        scan, counters = question.scan, question.counters
        holder_hash, holder_enc = self._holder(scan)
        operation = GrantOp(
            lane=scan.lane,
            device=scan.device,
            nonce=scan.nonce,
            kind=scan.credential.kind,
            credential_hash=identity.hash,
            from_zone=question.from_zone,
            to_zone=question.to_zone,
            max_pax=question.max_pax,
            pax=scan.pax,
            ttl_s=question.ttl_s,
            at=scan.at,
            counter_epoch=None if counters is None else counters.epoch,
            counter_entries=None if counters is None else counters.entries,
            counter_exits=None if counters is None else counters.exits,
            face_ok=verdict is not None and verdict.code == "ok",
            direction=scan.direction,
            lane_class=question.lane_class,
            ticket=identity.ticket,
            issue_index=scan.credential.issue_index,
            holder_hash=holder_hash,
            holder_enc=holder_enc,
            template_enc=None if verdict is None else verdict.template_enc,
            template_algorithm="" if verdict is None else verdict.algorithm,
            stamp=scan.stamp,
            product=scan.product,
            refused=refused,
        )
        try:
            hand_over(envelope, self._ledger, operation)
        except MailboxFull:
            envelope.reply(Denied(nonce=scan.nonce, code="unavailable"))

    def _holder(self, scan: Scan) -> tuple[bytes | None, bytes | None]:
        """The ID that was presented, beside the credential or as it: its hash, and its number sealed."""
        shown = scan.credential if scan.credential.kind is CredentialKind.ID_NUMBER else scan.holder
        if shown is None or shown.kind is not CredentialKind.ID_NUMBER:
            return None, None
        try:
            known = self._identify(shown)
        except TicketCodeError:
            return None, None
        number = shown.value.strip().upper().encode()
        return known.hash, None if self._seal is None else self._seal(number, HOLDER_CONTEXT)

    def _refuse(self, scan: Scan, code: str, envelope: Envelope, hint: str = "") -> None:
        offer(
            self._ledger,
            RefusedScan(
                lane=scan.lane,
                device=scan.device,
                nonce=scan.nonce,
                kind=scan.credential.kind,
                credential_hash=b"",
                code=code,
                at=scan.at,
            ),
            trace=envelope.trace,
        )
        envelope.reply(Denied(nonce=scan.nonce, code=code, hint=hint))
