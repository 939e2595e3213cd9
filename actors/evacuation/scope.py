"""Which lanes an evacuation is for: the whole site, an entrance, a zone or single lanes.

A scope is a word: empty or `site` for everything, else `entrance:NAME`, `zone:NAME` or `lane:NAME`, several of them
separated by commas.  Whatever is not understood means the whole site: a typing mistake keeps nobody in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

OUTSIDE = "outside"  # the zone that nobody has to leave
WORDS_MAX = 64  # parts of one scope that are looked at; a longer one means the whole site


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lane is, and what people call it."""

    name: str = ""
    entrance: str = ""
    from_zone: str = OUTSIDE
    to_zone: str = ""


def lanes_of(scope: str, places: Mapping[str, Place]) -> frozenset[str]:
    """The lanes that `scope` means; all of them when a part of it means none."""
    everything = frozenset(places)
    words = [word.strip() for word in scope.split(",")] if scope.strip() else []
    if not words or len(words) > WORDS_MAX:
        return everything
    found: set[str] = set()
    for word in words:
        kind, _, name = word.partition(":")
        meant = {lane for lane, place in places.items() if _is_meant(kind, name, lane, place)}
        if not meant:
            return everything
        found |= meant
    return frozenset(found)


def _is_meant(kind: str, name: str, lane: str, place: Place) -> bool:
    match kind:
        case "entrance":
            return name != "" and place.entrance == name
        case "zone":
            return name not in ("", OUTSIDE) and name in (place.from_zone, place.to_zone)
        case "lane":
            return lane == name
        case _:
            return False


def zones_to_leave(lanes: Iterable[str], scope: str, places: Mapping[str, Place]) -> frozenset[str]:
    """The zones that people leave: those that the scope names, else all that its lanes lead from or to."""
    named = {word.strip().partition(":")[2] for word in scope.split(",") if word.strip().startswith("zone:")}
    at_lanes = {zone for lane in lanes for zone in (places[lane].from_zone, places[lane].to_zone)} - {OUTSIDE, ""}
    return frozenset(named & at_lanes) or frozenset(at_lanes)
