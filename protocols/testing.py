"""Helpers for tests of codecs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol, TypeVar

T = TypeVar("T")


class Framer(Protocol[T]):
    """Anything that cuts a byte stream."""

    def feed(self, data: bytes, /) -> list[T]: ...


def feed_in_pieces(framer: Framer[T], stream: bytes, cuts: Iterable[int]) -> list[T]:
    """Feed `stream` cut at the given offsets (those beyond its end are ignored); everything that came out."""
    edges = sorted({0, len(stream), *(cut for cut in cuts if 0 < cut < len(stream))})
    return [item for begin, end in pairwise(edges) for item in framer.feed(stream[begin:end])]
