"""What `paifang evacuate` achieved, lane by lane."""

from __future__ import annotations

import msgspec

from drivers.base import Barrier
from paifang._wire_evacuation import cannot_sense
from paifang.site import Lane

OPEN, NOT_OPEN, BLIND = "open", "not open", "commanded, cannot sense"
IN_WORDS = {
    OPEN: "已确认打开 sensed open",
    NOT_OPEN: "未确认打开 NOT sensed open",
    BLIND: "已下达指令，该闸机无法反馈状态，请到现场查看 commanded, cannot sense: go and look",
}


class LaneOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One lane at the end. `after_s` is when it was first sensed open, seconds since the start.

    `state` is one of `open`, `not open`, and `commanded, cannot sense` for a board that says nothing of its barrier:
    the release was written to its line, and somebody has to go and look.
    """

    lane: str
    name: str
    via: str  # link | serial | network | nothing to open
    barrier: str
    sensed_open: bool
    after_s: float | None
    detail: str  # the last trouble on the way to it
    commanded: bool = True
    state: str = NOT_OPEN


class EvacuationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was achieved. `problems` are troubles that are not one lane's."""

    incident: int
    drill: bool
    lanes: list[LaneOutcome]
    published: int
    server_answers: bool
    latch_written: bool
    problems: list[str]
    scope: str = "site"

    @property
    def complete(self) -> bool:
        """Every lane is sensed open."""
        return all(lane.sensed_open for lane in self.lanes)

    @property
    def exit_code(self) -> int:
        """0 only when every lane is sensed open."""
        return 0 if self.complete else 1


class LaneState:
    """What is known of one lane while the evacuation runs."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.barrier = Barrier.UNKNOWN.value
        self.sensed_open = False
        self.after_s: float | None = None
        self.detail = ""
        self.commands = 0  # releases that were written or published to it
        self.blind = cannot_sense(lane.board)

    @property
    def via(self) -> str:
        if self.lane.board is not None:
            return "serial" if self.lane.board.path else "network"
        return "link" if self.lane.device is not None else "nothing to open"

    @property
    def state(self) -> str:
        if self.sensed_open:
            return OPEN
        return BLIND if self.blind and self.commands else NOT_OPEN

    def outcome(self) -> LaneOutcome:
        return LaneOutcome(
            lane=self.lane.id,
            name=self.lane.name,
            via=self.via,
            barrier=self.barrier,
            sensed_open=self.sensed_open,
            after_s=self.after_s,
            detail=self.detail,
            commanded=self.commands > 0 or self.sensed_open,
            state=self.state,
        )
