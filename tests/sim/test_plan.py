"""The plan of visitors: repeatable, one visitor at a time, along the day's curve."""

from __future__ import annotations

import pytest

from sim.plan import DAY_CURVE, FLAT_CURVE, HOUR_S, Behaviour, plan, with_every_behaviour

DAY_S = (DAY_CURVE[-1][0] - DAY_CURVE[0][0]) * HOUR_S


def test_the_same_seed_gives_the_same_visitors_and_another_one_others() -> None:
    assert plan(7, 200, DAY_S) == plan(7, 200, DAY_S)
    assert plan(7, 200, DAY_S) != plan(8, 200, DAY_S)


def test_one_visitor_more_changes_nobody_else() -> None:
    few = {visitor.name: visitor for visitor in plan(7, 100, DAY_S)}
    many = {visitor.name: visitor for visitor in plan(7, 150, DAY_S)}
    assert len(many) == 150
    assert all(many[name] == visitor for name, visitor in few.items())
    later = {visitor.name: visitor for visitor in plan(7, 50, DAY_S, first=100)}
    assert all(many[name] == visitor for name, visitor in later.items())


def test_arrivals_are_in_order_and_follow_the_curve() -> None:
    visitors = plan(3, 5000, DAY_S)
    arrivals = [visitor.arrive_s for visitor in visitors]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 0 and arrivals[-1] <= DAY_S

    def between(start: float, end: float) -> int:
        return sum(start <= 7.5 + arrive / HOUR_S < end for arrive in arrivals)

    assert between(9, 11) > 3 * between(15.5, 17.5)
    assert between(9, 11) > 1.4 * between(11.5, 13.5)


def test_a_flat_curve_spreads_evenly() -> None:
    arrivals = [visitor.arrive_s for visitor in plan(3, 4000, 100.0, curve=FLAT_CURVE)]
    assert all(800 < sum(start <= arrive < start + 25 for arrive in arrivals) < 1200 for start in (0, 25, 50, 75))


def test_shares_of_the_mix_are_met() -> None:
    visitors = plan(3, 5000, DAY_S, mix={Behaviour.FORGED: 0.2, Behaviour.SHARED: 0.1})
    shares = {kind: sum(visitor.behaviour is kind for visitor in visitors) / 5000 for kind in Behaviour}
    assert shares[Behaviour.FORGED] == pytest.approx(0.2, abs=0.03)
    assert shares[Behaviour.SHARED] == pytest.approx(0.1, abs=0.03)
    assert shares[Behaviour.NORMAL] == pytest.approx(0.7, abs=0.03)
    assert shares[Behaviour.TAILGATE] == 0


def test_leaving_and_walking_stay_in_their_bounds() -> None:
    visitors = plan(3, 1000, DAY_S, walk_s=(0.2, 0.4), stay_s=(1, 2), leaving=0.25)
    assert all(0.2 <= visitor.walk_s <= 0.4 and 1 <= visitor.stay_s <= 2 for visitor in visitors)
    assert sum(visitor.leaves for visitor in visitors) / 1000 == pytest.approx(0.25, abs=0.05)


def test_a_short_run_meets_every_behaviour() -> None:
    visitors = with_every_behaviour(plan(7, 12, 10.0, mix={}))
    assert {visitor.behaviour for visitor in visitors} == set(Behaviour)
    assert [visitor.name for visitor in visitors] == [visitor.name for visitor in plan(7, 12, 10.0, mix={})]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mix": {Behaviour.FORGED: 0.7, Behaviour.SHARED: 0.4}},
        {"mix": {Behaviour.FORGED: -0.1}},
        {"curve": ((1.0, 1.0),)},
        {"curve": ((2.0, 1.0), (1.0, 1.0))},
        {"curve": ((1.0, 0.0), (2.0, 0.0))},
        {"count": -1},
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"shares|curve|visitors"):
        plan(**{"seed": 1, "count": 5, "day_s": 10.0, **wrong})  # type: ignore[arg-type]
