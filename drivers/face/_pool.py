"""The pool of worker processes behind `FaceMatcher`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import numpy as np
import structlog
import trio
import trio_parallel

from drivers.face import _worker
from drivers.face._errors import (
    BadImage,
    FaceError,
    FaceTimeout,
    FaceUnavailable,
    NoFace,
    SeveralFaces,
)
from drivers.face._template import ALGORITHM, Embedding, distance

PHOTO_MAX_BYTES = 8 * 1024 * 1024
WAITING_MAX = 64  # photographs waiting for a worker; beyond that the answer is `unavailable`
JOB_MAX_S = 20.0  # a worker that takes longer is stuck, and killed
WARM_UP_S = 60.0  # starting a worker and loading its models, on a busy machine
ATTEMPTS = 2  # a worker that dies is replaced, and the photograph tried once more
STOP_S = 3.0  # workers have this long to end before they are killed

_ERRORS: dict[str, type[FaceError]] = {each.code: each for each in (NoFace, SeveralFaces, BadImage)}

log = structlog.get_logger(__name__)


class FaceMatcher(Protocol):
    """The seam: what compares faces."""

    @property
    def algorithm(self) -> str: ...

    async def embed(self, photo: bytes, deadline_s: float) -> Embedding:
        """128 float64. Raises FaceError."""

    def same(self, one: Embedding, other: Embedding) -> bool: ...


class FaceStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since start."""

    workers: int
    waiting: int
    embedded: int
    unusable: int  # no face, several, bad image
    timeouts: int  # askers who did not wait
    overloaded: int
    worker_deaths: int


class _Job:
    """One photograph on its way through a worker. The asker may leave before it is done."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.abandoned = False
        self.done = trio.Event()
        self.result: Any = None
        self.error: FaceError | None = None


class FacePool:
    """Workers that turn photographs into embeddings. `run` serves until cancelled; `embed` may be called meanwhile.

    A caller that gives up does not disturb the worker: what it works on is finished and thrown away.
    """

    algorithm = ALGORITHM

    def __init__(self, workers: int, tolerance: float) -> None:
        """`workers` 0 switches face comparison off; `tolerance` is the largest distance that is the same person."""
        self._workers = workers
        self._tolerance = tolerance
        self._send, self._receive = trio.open_memory_channel[_Job](WAITING_MAX)
        self._running = False
        self._embedded = self._unusable = self._timeouts = self._overloaded = self._deaths = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the workers and keep them until cancelled. Ready at once; photographs wait while models are loaded.

        Raises FaceUnavailable, with the cure, when the models are not installed.
        """
        if self._workers:
            try:
                _worker.models_folder()
            except FileNotFoundError as exc:
                raise FaceUnavailable(str(exc)) from exc
        self._running = self._workers > 0
        try:
            # never idle out: loading the models again would cost the next visitor a second
            async with trio_parallel.open_worker_context(
                idle_timeout=math.inf, init=_worker.start, grace_period=STOP_S
            ) as context:
                limiter = trio.CapacityLimiter(max(1, self._workers))
                async with trio.open_nursery() as nursery:
                    for _ in range(self._workers):
                        nursery.start_soon(self._work, context, limiter)
                    task_status.started()
                    await trio.sleep_forever()
        except trio_parallel.BrokenWorkerError as exc:  # at the stop: one had been killed, or would not end
            log.warning("face.stop", error=str(exc)[:200])
            await trio.lowlevel.checkpoint()
        finally:
            self._running = False

    async def embed(self, photo: bytes, deadline_s: float) -> Embedding:
        """The 128 numbers of the face in a JPEG or PNG. Raises FaceError (see the package's docstring)."""
        if len(photo) > PHOTO_MAX_BYTES:
            self._unusable += 1
            raise BadImage(f"{len(photo)} bytes, at most {PHOTO_MAX_BYTES} are allowed")
        code, value = await self._submit(_worker.embed, photo, deadline_s=deadline_s)
        if code != "ok":
            self._unusable += 1
            raise _ERRORS[code](value)
        self._embedded += 1
        return np.frombuffer(value, dtype="<f8").astype(np.float64)

    def distance(self, one: Embedding, other: Embedding) -> float:
        return distance(one, other)

    def same(self, one: Embedding, other: Embedding) -> bool:
        """Whether two embeddings are one person's."""
        return distance(one, other) <= self._tolerance

    def statistics(self) -> FaceStatistics:
        return FaceStatistics(
            workers=self._workers,
            waiting=self._send.statistics().current_buffer_used,
            embedded=self._embedded,
            unusable=self._unusable,
            timeouts=self._timeouts,
            overloaded=self._overloaded,
            worker_deaths=self._deaths,
        )

    async def _submit(self, function: Callable[..., Any], *args: Any, deadline_s: float) -> Any:
        if not self._running:
            raise FaceUnavailable("face comparison is switched off, or not started")
        job = _Job(function, args)
        try:
            self._send.send_nowait(job)
        except trio.WouldBlock as exc:
            self._overloaded += 1
            raise FaceUnavailable(f"{WAITING_MAX} photographs are waiting already") from exc
        try:
            with trio.move_on_after(deadline_s):
                await job.done.wait()
        finally:
            job.abandoned = True
        if not job.done.is_set():
            self._timeouts += 1
            raise FaceTimeout(f"not done within {deadline_s:g} s")
        if job.error is not None:
            raise job.error
        return job.result

    async def _work(self, context: trio_parallel.WorkerContext, limiter: trio.CapacityLimiter) -> None:
        await self._warm_up(context, limiter)
        while True:
            job = await self._receive.receive()
            if job.abandoned:
                continue
            try:
                job.result = await self._run_job(context, limiter, job)
            except FaceError as exc:
                job.error = exc
            job.done.set()

    async def _run_job(self, context: trio_parallel.WorkerContext, limiter: trio.CapacityLimiter, job: _Job) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                with trio.fail_after(JOB_MAX_S):
                    return await context.run_sync(job.function, *job.args, kill_on_cancel=True, limiter=limiter)
            except trio_parallel.BrokenWorkerError as exc:
                self._deaths += 1
                log.warning("face.worker_died", attempt=attempt + 1, error=str(exc)[:200])
            except trio.TooSlowError as exc:
                self._deaths += 1
                raise FaceUnavailable(f"the worker was stuck for {JOB_MAX_S:g} s, and killed") from exc
            except Exception as exc:  # models missing, memory: the worker's trouble, not the photograph's
                log.error("face.worker_failed", error=f"{type(exc).__name__}: {exc}"[:200])
                raise FaceUnavailable(f"{type(exc).__name__}: {exc}"[:200]) from None  # locals may hold the photograph
        raise FaceUnavailable(f"the worker died {ATTEMPTS} times over one photograph")

    async def _warm_up(self, context: trio_parallel.WorkerContext, limiter: trio.CapacityLimiter) -> None:
        try:
            with trio.fail_after(WARM_UP_S):
                await context.run_sync(_worker.loaded_modules, kill_on_cancel=True, limiter=limiter)
        except (trio_parallel.BrokenWorkerError, trio.TooSlowError) as exc:
            self._deaths += 1
            log.error("face.worker_does_not_start", error=str(exc)[:200])
