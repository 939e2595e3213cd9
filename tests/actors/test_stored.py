"""What a lane refuses by itself is written down under its credential: as a keyed hash, and as nothing else."""

from __future__ import annotations

import msgspec
import pytest

from actors.admission import Identify
from actors.lane import LinkCall
from actors.testing import heard, lane_config, link_lane, only
from protocols import devicelink as link
from protocols.errors import TicketCodeError
from protocols.messages import Credential, CredentialKind, LaneMode
from protocols.ticketcode import ProductClass, TicketCode, site_hash
from storage.interfaces import RefusedScan

TICKET = 4711
ANSWER_S = 1.8


def verify(text: str) -> TicketCode:
    if text != "PF1:GOOD":
        raise TicketCodeError("bad_signature")
    return TicketCode(
        key_id=1, site=site_hash("test"), ticket=TICKET, valid_from=0, valid_to=60, pax=1,
        product_class=next(iter(ProductClass)),
    )  # fmt: skip


def hash_id(kind: str, value: str) -> bytes:
    return f"{kind}|{value}".encode()


stored = Identify(verify, hash_id).stored


@pytest.mark.parametrize(
    ("kind", "value", "form"),
    [
        (CredentialKind.CODE, "PF1:GOOD", b"code|4711"),
        (CredentialKind.CODE, "PF1:FORGED", b""),
        (CredentialKind.CODE, "", b""),
        (CredentialKind.CARD, "04A1", b"card|04A1"),
        (CredentialKind.CARD, "", b""),
        (CredentialKind.CARD, "x" * 65, b""),
        (CredentialKind.ID_NUMBER, " 11010519491231002x ", b"id_number|11010519491231002X"),
        (CredentialKind.SHORT, "no short code", b""),
    ],
)
def test_what_is_ours_has_a_stored_form_and_what_cannot_be_has_none(
    kind: CredentialKind, value: str, form: bytes
) -> None:
    assert stored(Credential(kind, value)) == form


@pytest.mark.parametrize(
    ("kind", "value", "form"),
    [("code", "PF1:GOOD", b"code|4711"), ("code", "PF1:FORGED", b""), ("iris", "PF1:GOOD", b"")],
)
async def test_a_gate_that_is_closed_writes_down_whom_it_turned_away(autojump_clock, kind, value, form) -> None:
    async with link_lane(config=lane_config(mode=LaneMode.CLOSED)) as rig:
        rig.actor._parts = msgspec.structs.replace(rig.actor._parts, stored=stored)
        scan = link.Scan(device="gate-g1", boot="b1", seq=1, at=5.0, nonce="n1", kind=kind, value=value)
        answer = await rig.lane.ask(LinkCall(request=scan), ANSWER_S)
        assert isinstance(answer, link.Deny)
        (noted,) = only(await heard(rig.books), RefusedScan)
        assert (noted.credential_hash, noted.code) == (form, answer.code)
        assert value not in repr(noted)
