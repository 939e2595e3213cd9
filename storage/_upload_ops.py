"""What a lane's journal tells the ledger: part of the seam, given out by `storage.interfaces`."""

from __future__ import annotations

from protocols.messages import Base
from protocols.uploads import Record


class UploadOp(Base, frozen=True, kw_only=True):
    """Book records of a lane's journal, in their order, each once. Answered with `UploadBooked`.

    `from_zone` and `to_zone` are those of an entry; an exit goes the other way.  `offset_s` is what the lane's clock
    must be put right by.  `give_up` says why the first record could not be booked: it becomes a case, and the journal
    goes on behind it.
    """

    lane: str
    device: str
    journal: str
    oldest: int  # the lowest seq that the lane still has
    records: list[Record]
    from_zone: str
    to_zone: str
    ttl_s: float
    lane_class: str = ""
    offset_s: float = 0.0
    give_up: str = ""

    def __repr__(self) -> str:  # hashes are not for logs
        return f"UploadOp(lane={self.lane!r}, journal={self.journal!r}, records={len(self.records)})"


class UploadBooked(Base, frozen=True, kw_only=True):
    """Everything up to and including record `upto` of the journal is on disk."""

    journal: str
    upto: int
    conflicts: int = 0  # people of these records for whom there was no right
