"""What a lane controller has written into its journal and the server is to book: records, in order.

(device, journal, seq) names a record for good.  The server answers how far it has everything on disk; a lane sends
again whatever lies behind that, and forgets what lies before.  What was decided without the server is a `RecGrant`;
what was granted by the server is not, and its passages and its end name the server's grant.

A record's time is the lane's clock when it happened; the request's own time tells the server how far off that clock is.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocols._bounds import Clock, Detail, Number, Pax, Word

RECORDS_MAX = 256  # of one upload
HASH_BYTES_MAX = 64

Hash = Annotated[bytes, msgspec.Meta(max_length=HASH_BYTES_MAX)]


class _Body(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag=str.lower):
    """What happened."""


class RecGrant(_Body, frozen=True, kw_only=True):
    """The lane let somebody in by itself. `nonce` is the lane's own, never one that the server was asked about.

    `use` is what the decision said: entry | reentry | exit.  `ticket` and `entitlement` are None where nothing in the
    lists told them.  `why`: no_link | slow | unavailable.  `version`: of the list that it was decided on.
    """

    nonce: Annotated[Word, msgspec.Meta(min_length=1)]
    kind: Word  # code | card | id_number | short
    credential: Hash  # the keyed hash
    pax: Pax
    direction: Word = "entry"
    use: Word = "entry"
    ticket: Number | None = None
    entitlement: Number | None = None
    holder: Hash | None = None  # of the ID that was presented beside the credential
    issue_index: Number | None = None
    product_class: Word = ""
    why: Word = "no_link"
    version: Number = 0


class RecPassed(_Body, frozen=True, kw_only=True):
    """One person passed; on the server's `grant`, on the lane's own `nonce`, or on none."""

    direction: Word = "entry"
    kind: Word = "granted"  # a `PassageKind`
    grant: Number | None = None
    nonce: Word = ""


class RecEnded(_Body, frozen=True, kw_only=True):
    """A grant is over, by the server's `grant` or by `nonce`; also a scan that the lane gave up waiting for."""

    grant: Number | None = None
    nonce: Word = ""
    passed: Number = 0
    why: Word = "complete"  # an `EndReason`


class RecRefused(_Body, frozen=True, kw_only=True):
    """The lane refused somebody by itself."""

    nonce: Annotated[Word, msgspec.Meta(min_length=1)]
    kind: Word
    code: Annotated[Word, msgspec.Meta(min_length=1)]
    credential: Hash = b""


class RecAlarm(_Body, frozen=True, kw_only=True):
    """Something that people should look at."""

    kind: Annotated[Word, msgspec.Meta(min_length=1)]
    detail: Detail = ""
    severity: Word = "warning"  # info | warning | alarm


class RecBaseline(_Body, frozen=True, kw_only=True):
    """The first counters that the lane saw in a new epoch of its board: what stood there is nobody's passage."""

    epoch: Annotated[Word, msgspec.Meta(min_length=1)]
    entries: Number
    exits: Number


Body = RecGrant | RecPassed | RecEnded | RecRefused | RecAlarm | RecBaseline


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a journal. `seq` counts up from 1 without gaps."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
    at: Clock
    body: Body


Records = Annotated[list[Record], msgspec.Meta(max_length=RECORDS_MAX)]
