"""Embeddings: 128 numbers per face, compared by their distance, stored with the name of what made them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.face._errors import TemplateError

ALGORITHM = "dlib-resnet-v1/5pt"  # embeddings of different algorithms must never be compared
DIMENSIONS = 128
VALUE_BYTES = 4  # the network computes in 32 bits, so nothing is lost

Embedding: TypeAlias = NDArray[np.float64]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, bytes])


def distance(one: Embedding, other: Embedding) -> float:
    """Euclidean distance; two photographs of one person are usually below 0.6."""
    return float(np.linalg.norm(one - other))


def to_bytes(embedding: Embedding) -> bytes:
    """The embedding as MessagePack: algorithm, then 128 little-endian 32-bit floats in 512 bytes.

    Raises TemplateError for anything but 128 finite numbers.
    """
    if embedding.shape != (DIMENSIONS,) or not np.isfinite(embedding).all():
        raise TemplateError(f"not {DIMENSIONS} finite numbers")
    return _encoder.encode((ALGORITHM, embedding.astype("<f4").tobytes()))


def from_bytes(data: bytes) -> Embedding:
    """What `to_bytes` made. Raises TemplateError for anything else, another algorithm included."""
    try:
        algorithm, values = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise TemplateError(f"not a template: {exc}") from exc
    if algorithm != ALGORITHM:
        raise TemplateError(f"made by {algorithm[:40]!r}, not by {ALGORITHM}: take the photograph again")
    if len(values) != DIMENSIONS * VALUE_BYTES:
        raise TemplateError(f"{len(values)} bytes, not {DIMENSIONS * VALUE_BYTES}")
    embedding = np.frombuffer(values, dtype="<f4").astype(np.float64)
    if not np.isfinite(embedding).all():
        raise TemplateError("not finite numbers")
    return embedding
