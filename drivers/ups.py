"""The state of an uninterruptible power supply: one question to NUT's `upsd`, on a connection of its own."""

from __future__ import annotations

import trio

from drivers.errors import DeviceUnavailable
from protocols.nut import ANSWER_MAX_BYTES, PORT, NutError, PowerState, ask, complete, read

ASK_S = 3.0  # upsd answers from memory; one that takes longer is not there
READ_BYTES = 4096


async def read_power(ups: str, host: str = "127.0.0.1", port: int = PORT) -> PowerState:
    """What upsd says of `ups` now. Raises DeviceUnavailable with the reason."""
    try:
        with trio.fail_after(ASK_S):
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(ask(ups))
                answer = b""
                while not complete(answer):
                    data = await stream.receive_some(READ_BYTES)
                    if not data or len(answer) > ANSWER_MAX_BYTES:
                        raise NutError("the answer breaks off")
                    answer += data
        return read(answer, ups)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, NutError) as exc:
        raise DeviceUnavailable(f"upsd at {host}:{port}, {ups}: {exc or type(exc).__name__}") from exc
