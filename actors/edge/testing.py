"""For tests of a lane controller's actors: a server that answers as it is told, lists in memory, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio

from drivers.errors import DeviceUnavailable
from protocols import devicelink as link
from protocols.messages import Credential, CredentialKind, Decide, Direction, Scan
from protocols.rights import ProductRules, ZoneRight
from storage.interfaces import RightFacts, ZoneFacts

NOW = 1_790_000_000.0
NEVER_S = 1e9


class Server:
    """Answers requests with `answer(request)`; raises as the link does when it is not `up` or too slow."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer
        self.up = True
        self.delay_s = 0.0
        self.asked: list[Any] = []
        self._seq = 0

    def header(self) -> Any:
        self._seq += 1
        return {"device": "lane-n1", "boot": "b", "seq": self._seq, "at": NOW}

    async def ask(self, request: Any, deadline_s: float) -> Any:
        """`LinkClient.ask`."""
        self.asked.append(request)
        with trio.move_on_after(deadline_s):
            await trio.sleep(self.delay_s if self.up else NEVER_S)
            return self.answer(request)
        raise DeviceUnavailable("no answer")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What lists say of one credential."""

    rights: list[RightFacts] = []
    refused: str = ""


class MemoryLists:
    """The lists' seam, in memory."""

    def __init__(self) -> None:
        self.version = 3
        self.as_of = NOW
        self.by_ticket: dict[int, Listed] = {}
        self.by_hash: dict[bytes, Listed] = {}
        self.issue = 0
        self.zones: dict[str, ZoneFacts] = {}

    def rights(
        self, kind: CredentialKind, credential_hash: bytes, ticket: int | None, now: float
    ) -> Listed | None:
        return self.by_ticket.get(ticket) if ticket is not None else self.by_hash.get(credential_hash)

    def issue_index(self, kind: CredentialKind, credential_hash: bytes) -> int:
        return self.issue

    def zone(self, zone: str) -> ZoneFacts | None:
        return self.zones.get(zone)


def right(ticket: int = 7, *, rules: ProductRules | None = None, **changes: Any) -> RightFacts:
    """One use into the park, valid now."""
    facts = RightFacts(
        entitlement=ticket * 10,
        ticket=ticket,
        ticket_state="active",
        credential_state="active",
        product="adult",
        product_class="full",
        rules=rules or ProductRules(rights=[ZoneRight(zones=["park"])]),
        zone="park",
        sold=1,
        redeemed=0,
        held=0,
        refunded=0,
        reserved_refund=0,
        valid_from=NOW - 1000,
        valid_to=NOW + 100_000,
        last_used_at=None,
        last_used_lane="",
    )
    return msgspec.structs.replace(facts, **changes)


def question(value: str, *, nonce: str = "", kind: CredentialKind = CredentialKind.CODE, **changes: Any) -> Decide:
    """A scan at lane n1 from outside into the park."""
    scan = Scan(
        lane="n1",
        device="reader/n1/1",
        nonce=nonce or f"nonce-{value[-20:]}",
        credential=Credential(kind, value),
        at=NOW,
        **changes,
    )
    ends = ("outside", "park") if scan.direction is Direction.ENTRY else ("park", "outside")
    return Decide(scan=scan, from_zone=ends[0], to_zone=ends[1], max_pax=10, ttl_s=5.0)


def granting(request: Any, *, grant: int = 77) -> Any:
    """What a server answers that lets everybody in."""
    match request:
        case link.Scan():
            return link.Grant(
                seq=request.seq,
                server_at=NOW,
                nonce=request.nonce,
                grant=grant,
                pax=1,
                passed=0,
                ttl_s=5.0,
                state="open",
                product_class="full",
                text_zh="",
                text_en="",
                remaining=0,
            )
        case link.Upload():
            return link.UploadAck(seq=request.seq, server_at=NOW, journal=request.journal, upto=request.records[-1].seq)
        case link.Hello():
            return link.Welcome(seq=request.seq, server_at=NOW, site="s", lane="n1", mode="bidirectional")
        case link.Fetch():
            return link.Commands(seq=request.seq, server_at=NOW)
        case _:
            return link.Ack(seq=request.seq, server_at=NOW)
