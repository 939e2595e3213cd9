"""Annual cards: the holder's photograph is compared with the card's template, one to one, never face alone.

The comparison runs in a worker process behind `FaceMatcher`; this actor never waits for one in its loop.  A template
is an encrypted embedding; the photograph of a scan is looked at and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
import trio

from core import ActorDown, Address, AskTimeout, Envelope, MailboxFull, Stop
from protocols.messages import Base, CredentialKind
from storage.interfaces import LedgerError, PassTemplate, Template

COMPARISONS_MAX = 32  # under way at once; the pool itself works on as many as it has workers
TEMPLATE_S = 1.0  # the ledger's answer
EMBED_S = 5.0  # a worker's answer, its start included
TEMPLATE_CONTEXT = b"face-template"  # binds a sealed template to its purpose

log = structlog.get_logger(__name__)


class FaceRefused(Exception):
    """A photograph cannot be used. `code` is no_face, several_faces, bad_image, timeout or unavailable."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code


class FaceMatcher(Protocol):
    """The seam to the worker pool (`drivers.face`), wrapped by the composition root."""

    algorithm: str

    async def run(self) -> None:
        """Keep the workers until cancelled."""

    async def embed(self, photo: bytes, deadline_s: float) -> bytes:
        """The photograph's embedding, serialised. Raises FaceRefused."""

    def same(self, one: bytes, other: bytes) -> bool:
        """Whether two serialised embeddings are the same person's."""


class VerifyFace(Base, frozen=True, kw_only=True):
    """admission -> passes. Answered with FaceVerdict."""

    ref: int
    credential_hash: bytes
    photo: bytes
    kind: CredentialKind = CredentialKind.CARD

    def __repr__(self) -> str:
        return f"VerifyFace(ref={self.ref})"


class FaceVerdict(Base, frozen=True, kw_only=True):
    """`code`: ok, factor_mismatch, unavailable, not_needed (no face check), needs_factor (no face seen), or taken.

    `taken`: the ticket is bound to the first face that it is used with, and this is it, sealed in `template_enc`.
    """

    ref: int
    code: str
    template_enc: bytes | None = None
    algorithm: str = ""

    def __repr__(self) -> str:
        return f"FaceVerdict(ref={self.ref}, code={self.code!r})"


class EnrolFace(Base, frozen=True, kw_only=True):
    """sales -> passes: make the template of a new card. Answered with EnrolledFace; fails with FaceRefused."""

    photo: bytes

    def __repr__(self) -> str:
        return "EnrolFace(…)"


class EnrolledFace(Base, frozen=True, kw_only=True):
    template_enc: bytes
    algorithm: str


class Sealer(msgspec.Struct, frozen=True):
    """Encryption of personal data, from the key ring."""

    seal: Callable[[bytes, bytes], bytes]
    open: Callable[[bytes, bytes], bytes]


class Passes:
    """The actor. `matcher` is the pool of face workers, `sealer` keeps templates unreadable on disk."""

    def __init__(self, *, matcher: FaceMatcher, sealer: Sealer, ledger: Address) -> None:
        self._matcher = matcher
        self._sealer = sealer
        self._ledger = ledger

    async def run(self, me: Address) -> None:
        slots = trio.Semaphore(COMPARISONS_MAX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._matcher.run)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return
                    case VerifyFace() | EnrolFace():
                        try:
                            slots.acquire_nowait()
                        except trio.WouldBlock:
                            envelope.fail(FaceRefused("unavailable", "too many photographs at once"))
                            continue
                        nursery.start_soon(self._work, envelope, slots)

    async def _work(self, envelope: Envelope, slots: trio.Semaphore) -> None:
        try:
            match envelope.msg:
                case VerifyFace() as question:
                    envelope.reply(await self._verify(question))
                case EnrolFace(photo=photo):
                    embedding = await self._matcher.embed(photo, EMBED_S)
                    sealed = self._sealer.seal(embedding, TEMPLATE_CONTEXT)
                    envelope.reply(EnrolledFace(template_enc=sealed, algorithm=self._matcher.algorithm))
        except FaceRefused as exc:
            envelope.fail(exc)
        except Exception as exc:
            # Whatever is wrong with one card or photograph: dying of it would fail everybody who is being looked at.
            log.error("face", error=repr(exc))
            envelope.fail(FaceRefused("unavailable", type(exc).__name__))
        finally:
            slots.release()

    async def _verify(self, question: VerifyFace) -> FaceVerdict:
        """The verdict. Doubt is never a match."""
        ref = question.ref
        try:
            template: Template = await self._ledger.ask(
                PassTemplate(credential_hash=question.credential_hash, kind=question.kind), TEMPLATE_S
            )
        except (AskTimeout, ActorDown, MailboxFull, LedgerError):
            return FaceVerdict(ref=ref, code="unavailable")
        if not template.needs_face and not template.binds_face:
            return FaceVerdict(ref=ref, code="not_needed")
        take = template.binds_face and (template.template_enc is None or not template.used)
        if not take and (template.template_enc is None or template.algorithm != self._matcher.algorithm):
            return FaceVerdict(ref=ref, code="factor_mismatch")
        try:
            seen = await self._matcher.embed(question.photo, EMBED_S)
            if take:
                sealed = self._sealer.seal(seen, TEMPLATE_CONTEXT)
                return FaceVerdict(ref=ref, code="taken", template_enc=sealed, algorithm=self._matcher.algorithm)
            assert template.template_enc is not None
            known = self._sealer.open(template.template_enc, TEMPLATE_CONTEXT)
        except FaceRefused as exc:
            gone = exc.code in ("timeout", "unavailable")
            return FaceVerdict(ref=ref, code="unavailable" if gone else "needs_factor")
        return FaceVerdict(ref=ref, code="ok" if self._matcher.same(known, seen) else "factor_mismatch")
