"""How many places may pass, be refunded or collected, and what they cost: arithmetic that never gives too much."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage._places import Places, RightCount, amount_of, split


def right(sold: int | None, *, uses: int = 1, **counters: Any) -> RightCount:
    fields = {
        "entitlement": 1, "rule": 0, "zone": "park", "uses": uses, "sold": sold, "redeemed": 0, "held": 0,
        "refunded": 0, "reserved_refund": 0, "set_aside": 0, "promised": 0, "by_people": 0,
    }  # fmt: skip
    return RightCount(**(fields | counters))


@pytest.mark.parametrize(
    ("counters", "passing", "refunding", "free"),
    [
        ({}, 30, 30, 30),
        ({"refunded": 5}, 25, 25, 25),
        ({"refunded": 5, "held": 24}, 1, 1, 1),
        ({"refunded": 5, "redeemed": 23}, 2, 2, 2),
        ({"refunded": 7, "redeemed": 23}, 0, 0, 0),
        ({"set_aside": 20, "promised": 20}, 30, 30, 10),
        ({"set_aside": 20, "promised": 15, "redeemed": 5, "by_people": 5}, 25, 25, 10),
        ({"reserved_refund": 30}, 0, 0, 0),
    ],
)
def test_the_formulas_of_the_domain_model(
    counters: dict[str, int], passing: int, refunding: int, free: int
) -> None:
    """Section 6: available to pass, to refund, to collect."""
    given_back = counters.get("refunded", 0) + counters.get("reserved_refund", 0)
    places = Places(30, given_back, [right(30, **counters)])
    assert (places.to_pass, places.to_refund, places.free) == (passing, refunding, free)


def test_a_place_of_which_anything_was_used_is_not_refunded() -> None:
    assert Places(1, 0, [right(10, uses=10, redeemed=1)]).to_refund == 0
    assert Places(3, 0, [right(30, uses=10, redeemed=2)]).to_refund == 1, "two uses may have been two people's"
    both = [right(5, redeemed=1), right(5, redeemed=3)]
    assert Places(5, 0, both).to_refund == 2, "the right that is used most decides"
    assert Places(4, 0, [right(None)]).to_refund == 4
    assert Places(4, 0, [right(None, redeemed=1)]).to_refund == 0
    assert Places(4, 0, [right(None)]).free == 0, "unlimited use is not collected place by place"


_counts = st.integers(0, 12)


@given(
    people=st.integers(1, 12), uses=st.integers(1, 4), redeemed=_counts, held=_counts, given_back=_counts,
    promised=_counts,
)  # fmt: skip
def test_what_may_be_refunded_always_fits_the_constraint(
    people: int, uses: int, redeemed: int, held: int, given_back: int, promised: int
) -> None:
    """Invariant 1, whatever the counters: taking all that may be refunded never exceeds what was sold."""
    sold = people * uses
    one = right(sold, uses=uses, redeemed=redeemed, held=held, refunded=given_back * uses, promised=promised)
    places = Places(people, given_back, [one])
    assert places.to_refund >= 0 and 0 <= places.free <= places.to_refund
    taken = places.to_refund * uses
    if redeemed + held + given_back * uses <= sold:
        assert redeemed + held + given_back * uses + taken <= sold
    else:
        assert taken == 0


@given(price=st.integers(0, 10**9), people=st.integers(1, 60), data=st.data())
def test_refunds_in_any_portions_with_rejections_in_between_never_exceed_the_price(
    price: int, people: int, data: st.DataObject
) -> None:
    accepted: list[tuple[int, int]] = []
    while sum(places for places, _ in accepted) < people:
        back, cents = sum(places for places, _ in accepted), sum(amount for _, amount in accepted)
        places = data.draw(st.integers(1, people - back))
        amount = amount_of(price, people, back, cents, places)
        assert 0 <= amount <= price - cents
        accepted.append((places, amount))
        if len(accepted) > 1 and data.draw(st.integers(0, 5)) == 0:
            del accepted[data.draw(st.integers(0, len(accepted) - 1))]
    assert sum(amount for _, amount in accepted) == price


@given(st.lists(st.integers(0, 1000), max_size=6), st.integers(0, 4000))
def test_money_is_shared_out_last_payment_first_and_exactly(left: list[int], amount: int) -> None:
    payments = list(enumerate(left, 1))
    parts = split(amount, payments)
    if amount > sum(left):
        assert parts is None
        return
    assert parts is not None and sum(cents for _, cents in parts) == amount
    assert all(0 < cents <= left[payment - 1] for payment, cents in parts)
    numbers = [payment for payment, _ in parts]
    assert numbers == sorted(numbers, reverse=True)
    full = [payment for payment, cents in parts[:-1] if cents < left[payment - 1]]
    assert not full, "an earlier payment is touched only when the later ones are used up"
