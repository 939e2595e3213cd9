"""Evacuation: the latch that outlives everything (`latch`), and the actor that releases, repeats and restores."""

from actors.evacuation._actor import Broadcast, Evacuation, EvacuationRefused, HoldRestore
from actors.evacuation.latch import Latch, LatchError, read_latch, write_latch

__all__ = (
    "Broadcast",
    "Evacuation",
    "EvacuationRefused",
    "HoldRestore",
    "Latch",
    "LatchError",
    "read_latch",
    "write_latch",
)
