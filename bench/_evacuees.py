"""Lanes for `bench.evacuation`: many in one process, each with a subscription and an asking connection of its own.

Started as `python -m bench._evacuees`, told what to do by one line of JSON on stdin, and answering with lines of JSON
on stdout: `ready` once every lane is connected and was answered, `done` once each has heard of a release and had its
acknowledgement answered, and at the end when that was, by the monotonic clock that all processes of a machine share.  A
lane does what a real one must: it takes a release from the publication or from the answer to a poll, checks its
signature, acknowledges it as sensed open, polls every second, comes again when it is cut off, and says nothing else.

One thread and one loop over readiness, without a library in between: what is measured is the other end.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocols.devicelink import (
    Release,
    ReleaseAck,
    SafetyPoll,
    decode_publication,
    decode_safety_state,
    encode,
    verify_release,
)
from protocols.errors import LinkError
from protocols.sp import Decoder, Protocol, frame, greeting

POLL_S = 1.0
READ_BYTES = 65536
MESSAGE_MAX_BYTES = 4096
FIRST_ID = 0x80000000  # of requests, with the highest bit set
CONNECT_S = 30.0


class Orders(msgspec.Struct, kw_only=True):
    """What the bench says. `polls` false: nobody answers them. `heeds` false: every answer says that it is released."""

    release: str
    safety: str
    devices: list[str]
    site: str
    key: bytes
    polls: bool = True
    heeds: bool = True


class Heard(msgspec.Struct, kw_only=True):
    """One lane, in seconds of the monotonic clock; None: never."""

    device: str
    heard_at: float | None = None
    acknowledged_at: float | None = None
    cut_off: int = 0  # times that the other end closed one of its connections


class _Lane:
    def __init__(self, device: str, orders: Orders) -> None:
        self.device = device
        self._orders = orders
        self.heard = Heard(device=device)
        self.connect_sub()
        self.connect_req()
        self.release: Release | None = None
        self.request = 0
        self.ack = b""  # the stack of the acknowledgement that is out
        self.answered = False  # a poll was

    def connect_sub(self) -> None:
        self.sub = _connected(self._orders.release, Protocol.SUB)
        self.published = Decoder(Protocol.SUB, MESSAGE_MAX_BYTES)

    def connect_req(self) -> None:
        self.req = _connected(self._orders.safety, Protocol.REQ)
        self.answers = Decoder(Protocol.REQ, MESSAGE_MAX_BYTES)

    @property
    def connected(self) -> bool:
        return self.published.greeted and self.answers.greeted

    def ask(self, message: msgspec.Struct) -> bytes:
        self.request += 1
        stack = (FIRST_ID + self.request).to_bytes(4, "big")
        self.req.sendall(frame(stack, encode(message)))
        return stack

    def poll(self) -> None:
        released = self.release is not None
        self.ask(
            SafetyPoll(
                device=self.device,
                released=released,
                incident=self.release.incident if self.release is not None else None,
                barrier="released" if released else "closed",
                at=time.time(),
            )
        )


class _Lanes:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._key = Ed25519PublicKey.from_public_bytes(orders.key)
        self._selector = selectors.DefaultSelector()
        self.lanes = [_Lane(device, orders) for device in orders.devices]
        for lane in self.lanes:
            self._selector.register(lane.sub, selectors.EVENT_READ, (lane, True))
            self._selector.register(lane.req, selectors.EVENT_READ, (lane, False))
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        now = time.monotonic()
        step = POLL_S / len(self.lanes)
        self._due = [now + number * step for number in range(len(self.lanes))]

    def run(self) -> None:
        """Until stdin says something."""
        said_ready = said_done = ended = False
        turn = 0
        while not ended:
            wait_s = max(0.0, self._due[turn] - time.monotonic()) if self._orders.polls else POLL_S
            ready = self._selector.select(wait_s)
            now = time.monotonic()
            fresh: list[_Lane] = []
            for key, _ in ready:
                if key.data is None:
                    ended = True  # once what has come with it was read
                    continue
                lane, published = key.data
                self._read(lane, published, now, fresh)
            for lane in fresh:
                self._obey(lane)
            if self._orders.polls and now >= self._due[turn]:
                self.lanes[turn].poll()
                self._due[turn] = now + POLL_S
                turn = (turn + 1) % len(self.lanes)
            if not said_ready:
                said_ready = all(lane.connected and (lane.answered or not self._orders.polls) for lane in self.lanes)
                if said_ready:
                    _say({"ready": len(self.lanes)})
            elif not said_done:
                said_done = all(lane.heard.acknowledged_at is not None for lane in self.lanes)
                if said_done:
                    _say({"done": len(self.lanes)})

    def _read(self, lane: _Lane, published: bool, now: float, fresh: list[_Lane]) -> None:
        try:
            data = (lane.sub if published else lane.req).recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._again(lane, published, fresh)
            return
        if published:
            for message in lane.published.feed(data):
                release = decode_publication(message)
                if isinstance(release, Release):
                    self._hear(lane, release, now, fresh)
            return
        for message in lane.answers.feed(data):
            state = decode_safety_state(message[4:])
            if message[:4] == lane.ack:
                lane.heard.acknowledged_at = lane.heard.acknowledged_at or now
                continue
            lane.answered = True
            if state.release is not None and self._orders.heeds:
                self._hear(lane, state.release, now, fresh)

    def _hear(self, lane: _Lane, release: Release, now: float, fresh: list[_Lane]) -> None:
        if lane.heard.heard_at is None:
            lane.heard.heard_at = now
            lane.release = release
            fresh.append(lane)

    def _again(self, lane: _Lane, published: bool, fresh: list[_Lane]) -> None:
        """The other end has closed a connection: make it anew, and say again what may not have arrived."""
        lane.heard.cut_off += 1
        old = lane.sub if published else lane.req
        self._selector.unregister(old)
        old.close()
        if published:
            lane.connect_sub()
        else:
            lane.connect_req()
            if lane.release is not None and lane.heard.acknowledged_at is None:
                fresh.append(lane)
        self._selector.register(lane.sub if published else lane.req, selectors.EVENT_READ, (lane, published))

    def _obey(self, lane: _Lane) -> None:
        release = lane.release
        assert release is not None
        try:
            verify_release(release, self._key)
        except LinkError:
            return
        ack = ReleaseAck(
            device=lane.device, incident=release.incident, barrier="released", sensed_open=True, at=time.time()
        )
        lane.ack = lane.ask(ack)

    def report(self) -> None:
        _say({"lanes": [msgspec.to_builtins(lane.heard) for lane in self.lanes]})


def _connected(url: str, protocol: Protocol) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(greeting(protocol))
    connection.setblocking(False)
    return connection


def _say(words: dict[str, Any]) -> None:
    os.write(sys.stdout.fileno(), msgspec.json.encode(words) + b"\n")


_stdin = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - for as long as the process lives


def main() -> None:
    line = _stdin.readline()
    lanes = _Lanes(msgspec.json.decode(line, type=Orders))
    lanes.run()
    lanes.report()


if __name__ == "__main__":
    main()
