"""A lane: the state machine between a reader's scan, the decision, the barrier and the people who pass.

`BoardLane` drives a turnstile board; `LinkLane` stands for a smart gate that runs its own machine behind the device
link.  Both decide nothing: they ask admission, and say what happened.
"""

from actors.lane._board import BoardLane
from actors.lane._link import LinkCall, LinkLane, RestartLane, SafetySeen
from actors.lane._shared import LaneConfig, LaneParts, OpenLane, PauseLane, SetLaneMode

__all__ = (
    "BoardLane",
    "LaneConfig",
    "LaneParts",
    "LinkCall",
    "LinkLane",
    "OpenLane",
    "PauseLane",
    "RestartLane",
    "SafetySeen",
    "SetLaneMode",
)
