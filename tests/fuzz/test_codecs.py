"""Every codec of `protocols`, on any bytes: a value or its own error, and quickly."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import fuzzing

LONG = 20_000  # bytes: a line that brings garbage all day, or a peer that means it
LONG_S = 5.0  # generous: the machine may be busy; quadratic codecs take minutes
SEEDS = fuzzing.seeds()
NAMES = sorted(fuzzing.CODECS)


def test_every_codec_there_is_takes_part() -> None:
    assert fuzzing.missing() == set(), "add it to protocols/fuzzing.py"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_give_a_value_or_the_codecs_own_error(name: str, data: bytes) -> None:
    fuzzing.decode(name, data)


@settings(max_examples=600, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255), st.sampled_from("xid")), max_size=6),
    twice=st.booleans(),
)
def test_sound_frames_with_a_few_bytes_changed_do_too(
    seed: tuple[str, bytes], edits: list[tuple[int, int, str]], twice: bool
) -> None:
    name, sound = seed
    data = bytearray(sound * (2 if twice else 1))
    for place, octet, kind in edits:
        at = place % (len(data) + 1)
        if kind == "i":
            data.insert(at, octet)
        elif at < len(data):
            if kind == "x":
                data[at] ^= octet
            else:
                del data[at]
    fuzzing.decode(name, bytes(data))


@pytest.mark.parametrize("name", NAMES)
def test_much_garbage_does_not_take_long(name: str) -> None:
    rng = random.Random(name)
    beginnings = [data[:4] for seed, data in SEEDS if seed == name] or [b"\x02"]
    started = time.monotonic()
    fuzzing.decode(name, rng.randbytes(LONG))
    fuzzing.decode(name, b"".join(rng.choice(beginnings) + rng.randbytes(3) for _ in range(LONG // 7)))
    assert time.monotonic() - started < LONG_S
