"""Ids of our own rows: they increase, they fit into JSON, and lanes without a clock do not all begin at 1."""

import random

from protocols.messages import ID_EPOCH_S, IdSource


def test_a_clock_before_the_epoch_gives_small_ids_that_increase_and_begin_anywhere():
    starts = set()
    for _ in range(20):
        source = IdSource(lambda: 86400.0 * 2)
        ids = [source() for _ in range(50)]
        assert ids == sorted(set(ids))
        assert 0 < ids[0] < ids[-1] < 1 << 41
        starts.add(ids[0])
    assert len(starts) > 15


def test_a_clock_that_is_put_right_and_back_again_repeats_nothing():
    chance = random.Random(3)
    now = [0.0]
    source = IdSource(lambda: now[0])
    seen = []
    for _ in range(200):
        now[0] = ID_EPOCH_S + chance.uniform(-1e8, 2e9)
        seen.append(source())
    assert seen == sorted(set(seen))
    assert seen[-1] < 1 << 53
