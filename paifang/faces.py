"""Fits the pool of face workers (`drivers.face`) to what the `passes` actor asks for."""

from __future__ import annotations

import trio

from actors.passes import FaceMatcher, FaceRefused
from paifang.site import Face


class NoFaces:
    """The matcher of a site with `face.workers = 0`: every photograph is refused, no card opens by face."""

    algorithm = "none"

    async def run(self) -> None:
        await trio.sleep_forever()

    async def embed(self, photo: bytes, deadline_s: float) -> bytes:
        raise FaceRefused("unavailable", "face.workers is 0 in the site file")

    def same(self, one: bytes, other: bytes) -> bool:
        return False


class PoolMatcher:
    """Worker processes behind the seam; embeddings travel as bytes."""

    def __init__(self, face: Face) -> None:
        from drivers.face import ALGORITHM, FacePool

        self.algorithm: str = ALGORITHM
        self._pool = FacePool(face.workers, face.tolerance)

    async def run(self) -> None:
        await self._pool.run()

    async def embed(self, photo: bytes, deadline_s: float) -> bytes:
        from drivers.face import FaceError, to_bytes

        try:
            return to_bytes(await self._pool.embed(photo, deadline_s))
        except FaceError as exc:
            raise FaceRefused(exc.code, str(exc)) from exc

    def same(self, one: bytes, other: bytes) -> bool:
        from drivers.face import TemplateError, from_bytes

        try:
            return self._pool.same(from_bytes(one), from_bytes(other))
        except TemplateError:  # a stored template of another algorithm: never a match, whatever it holds
            return False


def matcher(face: Face) -> FaceMatcher:
    return PoolMatcher(face) if face.workers else NoFaces()
