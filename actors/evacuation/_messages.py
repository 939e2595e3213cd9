"""What the evacuation's actor says to the others and to itself."""

from __future__ import annotations

from actors.errors import CommandRefused
from protocols import devicelink as link
from protocols.messages import Base, Telemetry


class EvacuationRefused(CommandRefused):
    """A restore or re-arming does not fit: nothing is released, or the same person asked twice."""


class Broadcast(Base, frozen=True, kw_only=True):
    """evacuation -> link, system lane: publish this and answer polls with it.

    `release` is for the whole site; otherwise `lanes` has one for each lane that is released. Neither: it is over.
    """

    release: link.Release | None
    lanes: dict[str, link.Release] = {}


class HoldRestore(Base, frozen=True, kw_only=True):
    """fire -> evacuation: while `contacts` are active, nothing is restored; with none, `source` holds nothing back.

    Said again and again, so that either side may be restarted.
    """

    source: str
    contacts: list[str]


class ZonesNow(Telemetry, frozen=True, kw_only=True):
    """occupancy -> evacuation: how many people are where. The last word before a trigger is what is counted from."""

    zones: dict[str, int]


class Announce(Telemetry, frozen=True, kw_only=True):
    """evacuation -> announcer, after the release: `what` is triggered, widened, became_real, resumed or restored."""

    what: str
    incident: int
    drill: bool
    scope: str
    by: str
    at: float


# timers of its own


class Tick(Telemetry, frozen=True, kw_only=True):
    """Tell again whoever is silent."""


class Watch(Telemetry, frozen=True, kw_only=True):
    """Look at the latch file."""


class Notes(Telemetry, frozen=True, kw_only=True):
    """Tell the ledger what it has not taken."""


class Show(Telemetry, frozen=True, kw_only=True):
    """Draw the picture anew."""
