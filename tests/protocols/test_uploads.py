"""Records of a lane's journal: every kind goes over the link unchanged, and what no table holds does not."""

from __future__ import annotations

import msgspec
import pytest

from protocols import devicelink as link
from protocols import uploads
from protocols.errors import LinkError

BODIES: list[uploads.Body] = [
    uploads.RecGrant(
        nonce="n1", kind="card", credential=bytes(32), pax=3, ticket=5, entitlement=6, holder=bytes(16), issue_index=2
    ),
    uploads.RecPassed(nonce="n1"),
    uploads.RecPassed(grant=77, direction="exit", kind="granted"),
    uploads.RecEnded(nonce="n1", passed=2, why="timeout"),
    uploads.RecRefused(nonce="n2", kind="code", code="already_used", credential=bytes(32)),
    uploads.RecAlarm(kind="journal", detail="disk full", severity="alarm"),
    uploads.RecBaseline(epoch="e", entries=5, exits=6),
]


def _upload(records: list[uploads.Record]) -> link.Upload:
    return link.Upload(device="lane1", boot="b", seq=9, at=100.0, journal="j1", oldest=1, records=records)


def test_every_kind_of_record_goes_over_the_link() -> None:
    upload = _upload([uploads.Record(seq=place, at=50.0, body=body) for place, body in enumerate(BODIES, start=1)])
    assert link.decode_request(link.encode(upload)) == upload
    assert {type(body) for body in BODIES} == set(uploads.Body.__args__)
    ack = link.UploadAck(seq=9, server_at=1.0, journal="j1", upto=7)
    assert link.decode_reply(link.encode(ack)) == ack


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": 1 << 53},
        {"at": float("nan")},
        {"at": -1.0},
        {"body": uploads.RecAlarm(kind="")},
        {"body": uploads.RecAlarm(kind="x", detail="\0")},
        {"body": uploads.RecGrant(nonce="n", kind="code", credential=bytes(65), pax=1)},
        {"body": uploads.RecGrant(nonce="n", kind="code", credential=b"", pax=0)},
        {"body": uploads.RecGrant(nonce="", kind="code", credential=b"", pax=1)},
        {"body": uploads.RecEnded(passed=-1)},
    ],
)
def test_a_record_that_no_table_holds_is_refused(change: dict[str, object]) -> None:
    good = uploads.Record(seq=1, at=1.0, body=uploads.RecPassed())
    bad = msgspec.structs.replace(good, **change)
    assert link.decode_request(link.encode(_upload([good])))
    with pytest.raises(LinkError):
        link.decode_request(link.encode(_upload([bad])))


def test_too_many_records_are_refused() -> None:
    one = uploads.Record(seq=1, at=1.0, body=uploads.RecPassed())
    assert link.decode_request(link.encode(_upload([one] * uploads.RECORDS_MAX)))
    with pytest.raises(LinkError):
        link.decode_request(link.encode(_upload([one] * (uploads.RECORDS_MAX + 1))))
