"""Who decides at a lane controller: the server while it answers in time, the lane itself otherwise.

Plays admission's part for the lane's machine.  Whatever is granted is on the lane's own disk before the machine hears
of it, so that the barrier never moves for something that a power cut could forget.
"""

from __future__ import annotations

import collections
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog
import trio

from actors._common import offer
from actors.admission._identity import HashId, Identity, Verify
from actors.edge._parts import Ask, Book, Disk, EdgePolicy, LinkUp, Lists, ModeChanged, Tell, Uploaded, Written
from actors.edge.alone import Alone, decide_alone
from core import Address, Envelope, Stop
from drivers.errors import DeviceError
from protocols import devicelink as link
from protocols.clock import LocalTime
from protocols.edge import NewGrant, Use, subject_of, ticket_name
from protocols.errors import TicketCodeError
from protocols.lists import HASH_BYTES as LIST_HASH_BYTES
from protocols.messages import (
    CredentialKind,
    Decide,
    Denied,
    Direction,
    Ended,
    EndReason,
    Granted,
    GrantState,
    Scan,
    new_id,
)
from protocols.rotating import is_rotating, verify_rotating
from protocols.shortcode import parse_short
from protocols.ticketcode import TicketCode
from protocols.uploads import RecGrant, RecRefused
from storage.interfaces import LedgerUnavailable, Permit, Refusal

ONLINE, EDGE = "online", "offline_edge"
QUESTIONS_MAX = 16  # of one lane under way; more are answered `unavailable`
CARD_CHARACTERS_MAX = 64
TIMES_MAX = 500  # the latest decisions, for figures
HOLD_MIN_S = 2.0  # a server that was too slow is not asked again before
HOLD_MAX_S = 60.0  # nor, when that happens again and again, before this
GIVE_BACK_S = 60.0  # a grant that the lane does not open is told to be over for so long
GIVE_BACK_PAUSE_S = 0.5
NO_ANSWER = frozenset({"unavailable", "too_many"})  # the server is there and cannot decide: the lane does

log = structlog.get_logger(__name__)


class EdgeKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What the lane can read by itself.

    `hash_id` is the site's keyed hash of a credential, which cards need; None until the lists have brought the key.
    """

    verify: Verify
    hash_id: Callable[[], HashId | None]
    neighbours: bytes


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """`now` is the server's clock as far as it is known; `local` is the site's clock at that moment."""

    now: Callable[[], float]
    local: Callable[[float], LocalTime]


class Decider:
    """The actor. `ask` is the device link's; `device` is this controller's name there."""

    def __init__(
        self,
        *,
        lane: str,
        device: str,
        policy: EdgePolicy,
        ask: Ask,
        header: Callable[[], Any],
        disk: Disk,
        lists: Lists,
        keys: EdgeKeys,
        clocks: Clocks,
        zones: Sequence[str],
        neighbours: Address,
        upload: Address,
        told: Sequence[Address],
    ) -> None:
        self._lane = lane
        self._device = device
        self._policy = policy
        self._ask = ask
        self._header = header
        self._disk = disk
        self._lists = lists
        self._keys = keys
        self._clocks = clocks
        self._zones = zones
        self._neighbours = neighbours
        self._upload = upload
        self._told = told
        self._under_way = 0
        self.mode = EDGE  # until the server has answered once
        self._why = "no_link"  # of the upload's words
        self._alone = trio.Lock()
        self._up = False
        self._unproven = False  # it was too slow, and has taken no record since
        self._back_at = -math.inf  # Trio's clock: when we went back to it
        self._slow_at = -math.inf
        self._hold_s = HOLD_MIN_S
        self.decided_alone = self.decided_online = self.switched = 0
        self.times_s: collections.deque[float] = collections.deque(maxlen=TIMES_MAX)  # of decisions while alone

    async def run(self, me: Address) -> None:
        self._under_way = 0
        self._alone = trio.Lock()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Decide() as question if self._under_way >= QUESTIONS_MAX:
                        envelope.reply(Denied(nonce=question.scan.nonce, code="unavailable"))
                    case Decide():
                        self._under_way += 1
                        nursery.start_soon(self._answer, envelope)
                    case LinkUp(up=up):
                        self._up = up
                        if not up:
                            self._switch(EDGE, "no_link")
                        self._come_back()
                    case Uploaded():
                        self._unproven = False
                        self._come_back()
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _answer(self, envelope: Envelope) -> None:
        question: Decide = envelope.msg
        began = time.perf_counter()
        try:
            answer = await self._decide(question)
        except LedgerUnavailable as exc:
            log.warning("lane.not_written", error=str(exc)[:200])
            answer = Denied(nonce=question.scan.nonce, code="unavailable")
        finally:
            self._under_way -= 1
        envelope.reply(answer)
        if self.mode == EDGE:
            self.times_s.append(time.perf_counter() - began)

    async def _decide(self, question: Decide) -> Granted | Denied:
        asked = False
        if self.mode == ONLINE:
            asked = True
            answer = await self._ask_server(question)
            if answer is not None:
                self.decided_online += 1
                return answer
        return await self._decide_alone(question, asked=asked)

    # --- the server ---------------------------------------------------------------------------------------------

    async def _ask_server(self, question: Decide) -> Granted | Denied | None:
        """The server's answer, None when it has none in time."""
        scan = question.scan
        request = link.Scan(
            **self._header(),
            nonce=scan.nonce,
            kind=scan.credential.kind.value,
            value=scan.credential.value,
            direction=scan.direction.value,
            pax=scan.pax,
            photo=scan.photo,
            issue_index=scan.credential.issue_index,
            holder="" if scan.holder is None else scan.holder.value,
            stamp=scan.stamp,
            product=scan.product,
        )
        try:
            reply = await self._ask(request, self._policy.answer_limit_s)
        except DeviceError:
            self._too_slow("slow")
            return None
        if isinstance(reply, link.Grant):
            return await self._granted(question, reply)
        if isinstance(reply, link.Deny) and reply.code not in NO_ANSWER:
            return Denied(nonce=scan.nonce, code=reply.code)
        if isinstance(reply, link.Refused) and reply.code not in NO_ANSWER:
            return Denied(nonce=scan.nonce, code="device_not_authorised")
        self._too_slow("unavailable")
        return None

    async def _granted(self, question: Decide, grant: link.Grant) -> Granted | Denied:
        scan = question.scan
        try:
            identity, _ = self._identity(scan)
        except TicketCodeError:  # the server reads more than a lane without its lists
            identity = Identity(b"")
        new = self._new_grant(
            question,
            grant.grant,
            identity,
            pax=grant.pax,
            ttl_s=grant.ttl_s,
            passed=grant.passed,
            from_server=True,
            to_zone=question.to_zone,
        )
        granted = Granted(
            nonce=scan.nonce,
            grant=grant.grant,
            ticket=new.ticket,
            pax=grant.pax,
            passed=grant.passed,
            ttl_s=grant.ttl_s,
            state=GrantState(grant.state) if grant.state in frozenset(GrantState) else GrantState.CANCELLED,
            fresh=True,
            product_class=grant.product_class,
            remaining=grant.remaining,
        )
        if granted.state is GrantState.OPEN:
            try:
                self._spread(await self._write(new, None))
            except LedgerUnavailable:  # this visitor is refused: the ticket must be good at another lane
                self._nursery.start_soon(self._give_back, scan, grant.grant)
                raise
        return granted

    async def _give_back(self, scan: Scan, grant: int) -> None:
        """Nobody passed on it, which our journal cannot say. What is not heard in time, the next hello settles."""
        request = link.PassEnd(**self._header(), grant=grant, nonce=scan.nonce, passed=0, why=EndReason.NEVER_OPENED)
        with trio.move_on_after(GIVE_BACK_S):
            while True:
                with contextlib.suppress(DeviceError):
                    reply = await self._ask(request, GIVE_BACK_S)
                    if not (isinstance(reply, link.Refused) and reply.code in NO_ANSWER):
                        return
                await trio.sleep(GIVE_BACK_PAUSE_S)

    # --- alone --------------------------------------------------------------------------------------------------

    async def _decide_alone(self, question: Decide, *, asked: bool) -> Granted | Denied:
        scan = question.scan
        self.decided_alone += 1
        try:
            identity, code = self._identity(scan)
        except TicketCodeError as exc:
            if scan.direction is not Direction.EXIT:
                return await self._deny(scan, Refusal(code=exc.reason), b"", asked=asked)
            identity, code = Identity(b""), None
        async with self._alone:  # nobody decides between our looking and our writing
            known = await self._disk.do(lambda book: self._look(question, identity, code, book), reads=True)
            verdict = decide_alone(question, known, self._policy)
            if isinstance(verdict, Refusal):
                return await self._deny(scan, verdict, identity.hash, asked=asked)
            return await self._admit(question, verdict, identity, asked=asked)

    def _look(self, question: Decide, identity: Identity, code: TicketCode | None, book: Book) -> Alone:
        """Everything that is known here of a credential; in the disk's thread."""
        scan, now = question.scan, max(self._clocks.now(), self._lists.as_of)
        holder, index = self._holder(scan), question.scan.credential.issue_index
        return Alone(
            listed=self._lists.rights(scan.credential.kind, identity.hash, identity.ticket, now),
            code=code,
            uses=book.uses(*self._subjects(identity)),
            mine=frozenset(grant.grant for grant in book.open_grants()),
            zone=self._lists.zone(question.to_zone),
            zones=self._zones,
            now=now,
            local=self._clocks.local(now),
            list_as_of=self._lists.as_of,
            holder_hash=None if holder is None else holder[:LIST_HASH_BYTES],
            older=index is not None and index < self._lists.issue_index(scan.credential.kind, identity.hash),
        )

    async def _admit(self, question: Decide, permit: Permit, identity: Identity, *, asked: bool) -> Granted:
        scan = question.scan
        new = self._new_grant(
            question,
            new_id(),
            Identity(identity.hash, permit.ticket or identity.ticket),
            pax=permit.pax,
            ttl_s=question.ttl_s,
            passed=0,
            from_server=False,
            to_zone=question.to_zone,
            nonce=f"{scan.nonce[:56]}-edge" if asked else scan.nonce,
        )
        record = RecGrant(
            nonce=new.nonce,
            kind=scan.credential.kind.value,
            credential=identity.hash,
            pax=permit.pax,
            direction=scan.direction.value,
            use=permit.kind,
            ticket=new.ticket or None,
            entitlement=permit.entitlement or None,
            holder=self._holder(scan),
            issue_index=scan.credential.issue_index,
            product_class=permit.product_class,
            why=self._why,
            version=self._lists.version,
        )
        given_up = self._given_up(scan) if asked else None
        self._spread(await self._write(new, record, given_up))
        offer(self._upload, Written())
        return Granted(
            nonce=scan.nonce,
            grant=new.grant,
            ticket=new.ticket,
            pax=permit.pax,
            passed=0,
            ttl_s=question.ttl_s,
            state=GrantState.OPEN,
            fresh=True,
            product_class=permit.product_class,
            remaining=permit.remaining,
        )

    async def _deny(self, scan: Scan, refusal: Refusal, credential_hash: bytes, *, asked: bool) -> Denied:
        at = self._clocks.now()
        record = RecRefused(
            nonce=scan.nonce, kind=scan.credential.kind.value, code=refusal.code, credential=credential_hash
        )

        def write(book: Book) -> None:
            if asked:
                book.ended(self._given_up(scan))
            book.note(record, at)

        try:
            await self._disk.do(write)
        except LedgerUnavailable as exc:  # the visitor is refused all the same
            log.warning("lane.not_written", error=str(exc)[:200])
        offer(self._upload, Written())
        return Denied(
            nonce=scan.nonce,
            code=refusal.code,
            lane_of_use=refusal.lane_of_use,
            used_at=refusal.used_at,
            valid_from=refusal.valid_from,
            opens=refusal.opens,
            zones=refusal.zones,
            tomorrow=refusal.tomorrow,
        )

    def _given_up(self, scan: Scan) -> Ended:
        """Should the server have granted what we stopped waiting for: nobody passed on it."""
        return Ended(
            lane=self._lane,
            device=self._device,
            grant=None,
            nonce=scan.nonce,
            passed=0,
            why=EndReason.NEVER_OPENED,
            at=self._clocks.now(),
        )

    # --- both ---------------------------------------------------------------------------------------------------

    async def _write(self, new: NewGrant, body: RecGrant | None, given_up: Ended | None = None) -> Use | None:
        """On disk before anybody opens. Raises LedgerUnavailable where the site does not open without."""

        def write(book: Book) -> Use | None:
            if given_up is not None:
                book.ended(given_up)
            return book.grant(new, body)

        try:
            return await self._disk.do(write)
        except LedgerUnavailable:
            if self._policy.journal_failure == "refuse":
                raise
            self._disk.book.keep(new, body)  # in memory, until the disk takes it
            return None

    def _spread(self, use: Use | None) -> None:
        if use is not None:
            offer(self._neighbours, Tell(uses=[use]))

    def _new_grant(
        self,
        question: Decide,
        grant: int,
        identity: Identity,
        *,
        pax: int,
        ttl_s: float,
        passed: int,
        from_server: bool,
        to_zone: str,
        nonce: str = "",
    ) -> NewGrant:
        scan = question.scan
        return NewGrant(
            grant=grant,
            nonce=nonce or scan.nonce,
            ticket=identity.ticket or 0,
            pax=pax,
            passed=passed,
            at=self._clocks.now(),
            ttl_s=ttl_s,
            direction=scan.direction,
            counters=question.counters,
            from_server=from_server,
            subject=next((each for each in self._subjects(identity) if each), b""),
            zone=to_zone,
        )

    def _subjects(self, identity: Identity) -> tuple[bytes, bytes]:
        """Under which digests a use of this is known: by its ticket if that is known, or by its credential."""
        key = self._keys.neighbours
        by_ticket = b"" if identity.ticket is None else subject_of(key, ticket_name(identity.ticket))
        by_hash = subject_of(key, identity.hash) if identity.hash else b""
        return by_ticket, by_hash

    def _identity(self, scan: Scan) -> tuple[Identity, TicketCode | None]:
        """The credential as it is looked up here. Raises TicketCodeError for what cannot be one of ours."""
        kind, value = scan.credential.kind, scan.credential.value
        hash_id = self._keys.hash_id()
        if kind is CredentialKind.CODE:
            if is_rotating(value) and hash_id is not None:
                known = hash_id
                ticket = verify_rotating(
                    value, lambda ticket: known("rotating-key", str(ticket)), self._clocks.now()
                )
                return Identity(hash_id(kind, str(ticket)), ticket), None
            code = self._keys.verify(value)
            return Identity(b"" if hash_id is None else hash_id(kind, str(code.ticket)), code.ticket), code
        if hash_id is None:
            raise TicketCodeError("offline_refused", "the lane has no key for cards yet")
        if kind is CredentialKind.SHORT:
            return Identity(hash_id(kind, parse_short(value))), None
        if not 0 < len(value) <= CARD_CHARACTERS_MAX:
            raise TicketCodeError("unknown_code")
        return Identity(hash_id(kind, value.strip().upper() if kind is CredentialKind.ID_NUMBER else value)), None

    def _holder(self, scan: Scan) -> bytes | None:
        shown = scan.credential if scan.credential.kind is CredentialKind.ID_NUMBER else scan.holder
        hash_id = self._keys.hash_id()
        if shown is None or hash_id is None:
            return None
        return hash_id(CredentialKind.ID_NUMBER, shown.value.strip().upper())

    def _come_back(self) -> None:
        """Ask the server again: it answers, and if it was too slow, it has written something down since."""
        now = trio.current_time()
        if self._up and not self._unproven and self.mode == EDGE and now - self._slow_at >= self._hold_s:
            self._back_at = now
            self._switch(ONLINE, "")

    def _too_slow(self, why: str) -> None:
        """A visitor waited in vain: the next one does not. Again soon after the last time: it is held off longer."""
        now = trio.current_time()
        often = now - self._back_at < HOLD_MAX_S
        self._hold_s = min(2 * self._hold_s, HOLD_MAX_S) if often and self._slow_at > -math.inf else HOLD_MIN_S
        self._slow_at, self._unproven = now, True
        self._switch(EDGE, why)

    def _switch(self, mode: str, why: str) -> None:
        if why:
            self._why = why
        if mode == self.mode:
            return
        self.mode = mode
        self.switched += 1
        log.warning("lane.mode", mode=mode, why=why)
        for address in self._told:
            offer(address, ModeChanged(mode=mode, why=why))
