"""Evacuation: the latch that outlives everything (`latch`), what it is for (`scope`), who is out (`counting`), and the
actor that releases, repeats and restores."""

from actors.evacuation._actor import Announce, Broadcast, Evacuation, EvacuationRefused, HoldRestore, ZonesNow
from actors.evacuation.latch import Latch, LatchError, read_latch, write_latch
from actors.evacuation.scope import Place

__all__ = (
    "Announce",
    "Broadcast",
    "Evacuation",
    "EvacuationRefused",
    "HoldRestore",
    "Latch",
    "LatchError",
    "Place",
    "ZonesNow",
    "read_latch",
    "write_latch",
)
