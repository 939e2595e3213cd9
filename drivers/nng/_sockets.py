"""Guard rails around pynng 0.9 under Trio: the only module that touches it.

A device's end is NNG's own; the server speaks the same wire by itself (`_sp`).

What pynng does by itself, and what is done about it here (each was seen by running it):

* a failed or cancelled `asend` never frees its message (100 kB a piece): `send` takes it back from the aio;
* a context used by two tasks raises TypeError from inside: a context belongs to one task, made and closed by it;
* without a peer `asend` waits for ever, and a stopped server holds `arecv` for ever: every exchange has a deadline;
* a request is re-sent by NNG itself, also to a server that is only slow, and carried out again: `resend_time` is -1,
  and re-sending is ours, with the same `seq`;
* `recv_max_size` is unlimited by default: always set;
* the default `dial` blocks, then logs a traceback: always dialled in the background;
* pipe callbacks run in NNG's threads: they only hand over to Trio;
* a socket closed under a waiting task is an error in that task: tasks end first, then contexts, then sockets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pynng
import trio
from pynng import ffi, lib
from pynng._aio import AIOHelper

from drivers.errors import DeviceUnavailable
from drivers.nng._errors import LinkTimeout

RECONNECT_MIN_MS = 50  # first redial after a lost connection
RECONNECT_MAX_MS = 500  # the release is heard within half a second of `paifang evacuate` starting
SUB_BUFFER_MESSAGES = 64  # publications waiting in a subscriber
PUB_BUFFER_MESSAGES = 16  # publications waiting per subscriber; more are dropped, and found again by polling

Endpoint: TypeAlias = pynng.Context | pynng.Socket


async def send(endpoint: Endpoint, data: bytes, deadline_s: float) -> None:
    """Send one message. Raises LinkTimeout when that was not possible in time; it may have been sent nevertheless."""
    with trio.move_on_after(deadline_s) as scope, AIOHelper(endpoint, "trio") as aio:
        message = pynng.Message(data)
        lib.nng_aio_set_msg(aio.aio, message._nng_msg)
        message._mem_freed = True  # the aio owns it from here on
        aio._lib_asend(aio._nng_obj, aio.aio)
        try:
            await aio.awaitable
        except BaseException as exc:
            unsent = lib.nng_aio_get_msg(aio.aio)
            if unsent != ffi.NULL:
                lib.nng_aio_set_msg(aio.aio, ffi.NULL)
                lib.nng_msg_free(unsent)
            if isinstance(exc, pynng.NNGException):
                raise LinkTimeout(f"not sent: {exc}") from exc
            raise
    if scope.cancelled_caught:
        raise LinkTimeout(f"not sent within {deadline_s:g} s")


async def receive(endpoint: Endpoint, deadline_s: float = float("inf")) -> bytes:
    """Wait for one message. Raises LinkTimeout when none came in time, or the connection broke.

    Without a deadline only for the idle loops of servers and subscribers, for whom silence is no fault.
    """
    with trio.move_on_after(deadline_s) as scope, AIOHelper(endpoint, "trio") as aio:
        try:
            data: bytes = await aio.arecv()
        except pynng.NNGException as exc:
            raise LinkTimeout(f"nothing received: {exc}") from exc
        return data
    assert scope.cancelled_caught
    raise LinkTimeout(f"no answer within {deadline_s:g} s")


async def exchange(socket: pynng.Req0, data: bytes, deadline_s: float) -> bytes:
    """One request and its answer on a context of its own. Raises LinkTimeout."""
    start = trio.current_time()
    with context(socket) as ctx:
        await send(ctx, data, deadline_s)
        return await receive(ctx, max(0.0, deadline_s - (trio.current_time() - start)))


@contextlib.contextmanager
def context(socket: pynng.Socket) -> Iterator[pynng.Context]:
    """A context for the calling task alone. Raises LinkTimeout when the socket is closed."""
    try:
        ctx = socket.new_context()
    except pynng.NNGException as exc:
        raise LinkTimeout(f"the socket is closed: {exc}") from exc
    try:
        yield ctx
    finally:
        with contextlib.suppress(pynng.Closed):  # its socket was closed first, which took the context with it
            ctx.close()


@contextlib.contextmanager
def dialled(
    socket: pynng.Socket,
    url: str,
    max_bytes: int,
    reconnect_max_ms: int = RECONNECT_MAX_MS,
    *,
    tls: pynng.TLSConfig | None = None,
) -> Iterator[None]:
    """Keep `socket` dialled to `url` in the background, whether or not anybody listens yet; closes it at the end."""
    try:
        socket.recv_max_size = max_bytes
        socket.reconnect_time_min = RECONNECT_MIN_MS
        socket.reconnect_time_max = reconnect_max_ms
        if tls is not None:
            socket.tls_config = tls
        try:
            socket.dial(url, block=False)
        except pynng.NNGException as exc:
            raise DeviceUnavailable(f"cannot dial {url}: {exc}") from exc
        yield
    finally:
        socket.close()


def open_req() -> pynng.Req0:
    return pynng.Req0(async_backend="trio", resend_time=-1)


def open_sub(*topics: bytes) -> pynng.Sub0:
    return pynng.Sub0(async_backend="trio", topics=list(topics), recv_buffer_size=SUB_BUFFER_MESSAGES)


def watch_pipes(socket: pynng.Socket, changed: Callable[[bool], None]) -> None:
    """Call `changed(up)` in the Trio thread whenever a connection comes or goes. Call before binding or dialling."""
    token = trio.lowlevel.current_trio_token()

    def tell(up: bool) -> None:  # in one of NNG's threads
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(changed, up)

    socket.add_post_pipe_connect_cb(lambda pipe: tell(True))
    socket.add_post_pipe_remove_cb(lambda pipe: tell(False))
