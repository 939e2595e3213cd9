"""The actor that turns a lane's question into a grant on disk.

It checks what needs no look-up (the code's signature), has the holder's face compared where a photograph came with
the scan, and hands the question to the ledger, which decides inside its transaction and answers the lane directly.
"""

from __future__ import annotations

from actors._common import hand_over, offer
from actors.admission._identity import HashId, Verify, identify
from actors.passes import FaceVerdict, VerifyFace
from core import Address, Envelope, Failed, MailboxFull, Stop
from protocols.errors import TicketCodeError
from protocols.messages import CredentialKind, Decide, Denied, Scan
from storage.interfaces import GrantOp, RefusedScan

FACES_WAITING_MAX = 64  # comparisons under way; more are refused as `unavailable` at once


class Admission:
    """The only way to a grant. `verify` raises TicketCodeError; `hash_id` is the key ring's."""

    def __init__(self, *, verify: Verify, hash_id: HashId, ledger: Address, passes: Address) -> None:
        self._verify = verify
        self._hash_id = hash_id
        self._ledger = ledger
        self._passes = passes
        self._faces: dict[int, tuple[Envelope, bytes]] = {}
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
        try:
            credential_hash = identify(scan.credential, self._verify, self._hash_id)
        except TicketCodeError as exc:
            self._refuse(scan, exc.reason, envelope)
            return
        if scan.photo is None or scan.credential.kind is not CredentialKind.CARD:
            self._grant(question, credential_hash, envelope, face_ok=False)
            return
        if len(self._faces) >= FACES_WAITING_MAX:
            envelope.reply(Denied(nonce=scan.nonce, code="unavailable"))
            return
        self._next_face += 1
        try:
            self._passes.tell(
                VerifyFace(ref=self._next_face, credential_hash=credential_hash, photo=scan.photo),
                reply_to=me,
                deadline=envelope.deadline,
                trace=envelope.trace,
            )
        except MailboxFull:
            envelope.reply(Denied(nonce=scan.nonce, code="unavailable"))
            return
        self._faces[self._next_face] = (envelope, credential_hash)

    def _on_verdict(self, verdict: FaceVerdict) -> None:
        waiting = self._faces.pop(verdict.ref, None)
        if waiting is None:
            return
        envelope, credential_hash = waiting
        question: Decide = envelope.msg
        if verdict.code in ("ok", "not_needed"):
            self._grant(question, credential_hash, envelope, face_ok=verdict.code == "ok")
        else:
            self._refuse(question.scan, verdict.code, envelope, credential_hash)

    def _grant(self, question: Decide, credential_hash: bytes, envelope: Envelope, *, face_ok: bool) -> None:
        scan, counters = question.scan, question.counters
        operation = GrantOp(
            lane=scan.lane,
            device=scan.device,
            nonce=scan.nonce,
            kind=scan.credential.kind,
            credential_hash=credential_hash,
            from_zone=question.from_zone,
            to_zone=question.to_zone,
            max_pax=question.max_pax,
            pax=scan.pax,
            ttl_s=question.ttl_s,
            at=scan.at,
            counter_epoch=None if counters is None else counters.epoch,
            counter_entries=None if counters is None else counters.entries,
            counter_exits=None if counters is None else counters.exits,
            face_ok=face_ok,
        )
        try:
            hand_over(envelope, self._ledger, operation)
        except MailboxFull:
            envelope.reply(Denied(nonce=scan.nonce, code="unavailable"))

    def _refuse(self, scan: Scan, code: str, envelope: Envelope, credential_hash: bytes = b"") -> None:
        offer(
            self._ledger,
            RefusedScan(
                lane=scan.lane,
                device=scan.device,
                nonce=scan.nonce,
                kind=scan.credential.kind,
                credential_hash=credential_hash,
                code=code,
                at=scan.at,
            ),
            trace=envelope.trace,
        )
        envelope.reply(Denied(nonce=scan.nonce, code=code))
