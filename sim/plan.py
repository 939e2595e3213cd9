"""Who comes: the visitors of a simulated day, decided beforehand and repeatable.

Every visitor has a random stream of its own, named by seed and number, so that the same seed gives the same people,
and one visitor more or less changes nobody else.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, pairwise

import msgspec

VISITORS_MAX = 1_000_000  # in one plan
HOUR_S = 3600.0


class Behaviour(StrEnum):
    """What a visitor does with a ticket."""

    NORMAL = "normal"
    FORGED = "forged"  # the ticket's signature is made up
    REUSED = "reused"  # tries the same ticket again after having been let in
    WRONG_DAY = "wrong_day"  # the ticket is for tomorrow
    SHARED = "shared"  # two people, one ticket, two lanes at once
    STEP_BACK = "step_back"  # turns round between the barriers, and comes again later
    TAILGATE = "tailgate"  # a second person walks through close behind
    REVERSE = "reverse"  # somebody walks out while it is open for coming in
    LOITER = "loiter"  # stands between the barriers for a while before walking on


# Shares of a day's visitors; whatever is left is normal. Much more trouble than a real site has, so that a short run
# meets everything.
DEFAULT_MIX: Mapping[Behaviour, float] = {
    Behaviour.FORGED: 0.04,
    Behaviour.REUSED: 0.05,
    Behaviour.WRONG_DAY: 0.03,
    Behaviour.SHARED: 0.04,
    Behaviour.STEP_BACK: 0.03,
    Behaviour.TAILGATE: 0.03,
    Behaviour.REVERSE: 0.02,
    Behaviour.LOITER: 0.01,
}
QUIET_MIX: Mapping[Behaviour, float] = {}

# Arrivals by hour of the day: a morning peak, and a smaller one after lunch.
DAY_CURVE: Sequence[tuple[float, float]] = (
    (7.5, 0.2), (8.5, 1.0), (9.5, 2.2), (10.5, 2.0), (11.5, 1.1), (12.5, 0.8), (13.5, 1.4), (14.5, 1.2), (15.5, 0.6),
    (16.5, 0.2), (17.5, 0.0),
)  # fmt: skip
FLAT_CURVE: Sequence[tuple[float, float]] = ((0.0, 1.0), (1.0, 1.0))
_CURVE_STEPS = 2_000

PRODUCTS: Sequence[tuple[str, float]] = (("adult", 0.75), ("child", 0.25))

EXCURSIONS: Sequence[tuple[str, float]] = (("museum", 0.15), ("summit", 0.25))


class VisitorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One visitor. `lane`, `other_lane` and `exit_lane` are ranks from 0 to 1 among the lanes there are."""

    name: str
    arrive_s: float  # after the start of the day
    product: str
    behaviour: Behaviour
    lane: float
    other_lane: float
    exit_lane: float
    walk_s: float
    stay_s: float  # in the park, before leaving
    leaves: bool
    excursions: tuple[str, ...]  # zones to visit from the park


def plan(
    seed: int,
    count: int,
    day_s: float,
    *,
    curve: Sequence[tuple[float, float]] = DAY_CURVE,
    mix: Mapping[Behaviour, float] = DEFAULT_MIX,
    stay_s: tuple[float, float] = (2 * HOUR_S, 5 * HOUR_S),
    walk_s: tuple[float, float] = (0.3, 0.8),
    leaving: float = 1.0,
    first: int = 0,
) -> list[VisitorPlan]:
    """`count` visitors of a day of `day_s` seconds, in the order of arrival.

    `curve` lists (hour, weight): arrivals are spread over the curve from its first to its last hour, scaled to
    `day_s`.  `leaving` is the share that leaves after its stay; `first` is the number of the first visitor.

    Raises ValueError for shares that add up to more than 1, or a curve that is none.
    """
    if not 0 <= count <= VISITORS_MAX:
        raise ValueError(f"{count} visitors; 0 to {VISITORS_MAX} are possible")
    if any(share < 0 for share in mix.values()) or sum(mix.values()) > 1:
        raise ValueError("the shares of the mix are not negative and add up to 1 at most")
    spread = _Spread(curve)
    visitors = []
    for number in range(first, first + count):
        rng = random.Random(f"{seed}/{number}")
        visitors.append(
            VisitorPlan(
                name=f"v{number}",
                arrive_s=spread.at(rng.random()) * day_s,
                product=_chosen(rng.random(), PRODUCTS),
                behaviour=_behaviour(rng.random(), mix),
                lane=rng.random(),
                other_lane=rng.random(),
                exit_lane=rng.random(),
                walk_s=rng.uniform(*walk_s),
                stay_s=rng.uniform(*stay_s),
                leaves=rng.random() < leaving,
                excursions=tuple(zone for zone, share in EXCURSIONS if rng.random() < share),
            )
        )
    return sorted(visitors, key=lambda visitor: visitor.arrive_s)


def with_every_behaviour(visitors: Sequence[VisitorPlan]) -> list[VisitorPlan]:
    """The same visitors, with each behaviour among the first of them once, so that a short run meets everything."""
    mischief = [behaviour for behaviour in Behaviour if behaviour is not Behaviour.NORMAL]
    met = [
        msgspec.structs.replace(visitor, behaviour=behaviour)
        for visitor, behaviour in zip(visitors, mischief, strict=False)
    ]
    return [*met, *visitors[len(met) :]]


class _Spread:
    """Turns evenly distributed shares into moments that follow a curve, both from 0 to 1."""

    def __init__(self, curve: Sequence[tuple[float, float]]) -> None:
        hours = [hour for hour, _ in curve]
        if len(curve) < 2 or sorted(hours) != hours or hours[0] == hours[-1] or any(weight < 0 for _, weight in curve):
            raise ValueError("a curve has at least two points, in the order of their hours, with weights from 0")
        if not any(weight for _, weight in curve):
            raise ValueError("a curve needs a weight above 0")
        width = (hours[-1] - hours[0]) / _CURVE_STEPS
        weights = [_interpolate(curve, hours[0] + (step + 0.5) * width) for step in range(_CURVE_STEPS)]
        total = sum(weights)
        self._cumulated = [value / total for value in accumulate(weights)]

    def at(self, share: float) -> float:
        step = min(bisect_left(self._cumulated, share), _CURVE_STEPS - 1)
        before = self._cumulated[step - 1] if step else 0.0
        inside = self._cumulated[step] - before
        return (step + ((share - before) / inside if inside else 0.0)) / _CURVE_STEPS


def _interpolate(curve: Sequence[tuple[float, float]], hour: float) -> float:
    for (left, low), (right, high) in pairwise(curve):
        if left <= hour <= right and right > left:
            return low + (high - low) * (hour - left) / (right - left)
    return 0.0


def _chosen(share: float, options: Sequence[tuple[str, float]]) -> str:
    for name, weight in options:
        if share < weight:
            return name
        share -= weight
    return options[0][0]


def _behaviour(share: float, mix: Mapping[Behaviour, float]) -> Behaviour:
    for behaviour, weight in mix.items():
        if share < weight:
            return behaviour
        share -= weight
    return Behaviour.NORMAL
