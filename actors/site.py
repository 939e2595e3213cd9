"""The supervision tree as data.

Two branches: `safety` is started first, stopped last, and needs nothing of `business`; devices back off for ever and
never escalate, so that no device can take anything down with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core import Child, DeadLetters, Notice, Strategy, Supervisor

DEVICE_BACKOFF_S, DEVICE_BACKOFF_MAX_S = 0.2, 2.0  # a gate's actor must be there soon: it hands on the release
SAFETY_BACKOFF_S, SAFETY_BACKOFF_MAX_S = 0.05, 1.0  # a release does not wait for a long pause
BUSINESS_BACKOFF_S, BUSINESS_BACKOFF_MAX_S = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class SiteTree:
    """Who lives where. `devices` are lanes, gates, readers, counters and printers in the order of their start."""

    evacuation: Child
    link: Child | None
    devices: Sequence[Child]
    business: Sequence[Child]


def supervise(
    tree: SiteTree, *, dead_letters: DeadLetters | None = None, hook: Callable[[Notice], None] | None = None
) -> Supervisor:
    """The root supervisor of a site. No branch ever gives up: a gate server that has stopped helps nobody."""
    devices = Supervisor(
        "devices",
        tree.devices,
        strategy=Strategy.ONE_FOR_ONE,
        backoff_s=DEVICE_BACKOFF_S,
        backoff_max_s=DEVICE_BACKOFF_MAX_S,
        escalate=False,
        hook=hook,
    )
    safety = Supervisor(
        "safety",
        [
            tree.evacuation,
            *([tree.link] if tree.link is not None else []),
            Child(devices.address, devices.run),
        ],
        backoff_s=SAFETY_BACKOFF_S,
        backoff_max_s=SAFETY_BACKOFF_MAX_S,
        escalate=False,
        hook=hook,
    )
    business = Supervisor(
        "business",
        tree.business,
        backoff_s=BUSINESS_BACKOFF_S,
        backoff_max_s=BUSINESS_BACKOFF_MAX_S,
        escalate=False,
        hook=hook,
    )
    return Supervisor(
        "site",
        [Child(safety.address, safety.run), Child(business.address, business.run)],
        backoff_s=SAFETY_BACKOFF_S,
        backoff_max_s=SAFETY_BACKOFF_MAX_S,
        escalate=False,
        dead_letters=dead_letters,
        hook=hook,
    )
