"""The floor of `bench.evacuation`: bare NNG sockets that publish one release and answer every request, with nothing
behind them.

Started as `python -m bench._bare`, told by one line of JSON on stdin; publishes when a second line comes, says when it
began by the machine's monotonic clock, and ends with stdin.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import msgspec
import pynng

CONTEXTS = 8  # threads that answer; more gain nothing on two processors


class Bare(msgspec.Struct, kw_only=True):
    """Where to listen, and the bytes to publish and to answer with."""

    release: str
    safety: str
    publication: bytes
    answer: bytes


def _answer(rep: pynng.Rep0, answer: bytes) -> None:
    with rep.new_context() as context:
        while True:
            try:
                context.recv()
                context.send(answer)
            except pynng.NNGException:  # closed, or a lane that has gone
                if not _open:
                    return


_open = True


def main() -> None:
    global _open
    stdin = sys.stdin.buffer
    orders = msgspec.json.decode(stdin.readline(), type=Bare)
    pub, rep = pynng.Pub0(), pynng.Rep0()
    pub.listen(orders.release)
    rep.listen(orders.safety)
    for _ in range(CONTEXTS):
        threading.Thread(target=_answer, args=(rep, orders.answer), daemon=True).start()
    os.write(1, b'{"listening":true}\n')
    if stdin.readline():
        begun = time.monotonic()
        pub.send(orders.publication)
        os.write(1, msgspec.json.encode({"begun": begun}) + b"\n")
        stdin.readline()
    _open = False
    os._exit(0)  # threads of NNG's would be waited for


if __name__ == "__main__":
    main()
