"""A device's end of one pair of safety sockets: releases are heard, polled for, and acknowledged.

The server has a pair and `paifang evacuate` has another; either may hang while the other says "open", so that each has
tasks of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import pynng
import trio

from drivers.nng import _sockets
from drivers.nng._errors import LinkTimeout
from protocols.devicelink import (
    MAX_SAFETY_BYTES,
    TOPIC_ALL,
    Release,
    ReleaseAck,
    SafetyPoll,
    SafetyRequest,
    decode_publication,
    decode_safety_state,
    encode,
)
from protocols.errors import LinkError

POLL_S = 1.0  # each safety server is asked this often
POLL_DEADLINE_S = 0.8
TALK_RECONNECT_MAX_MS = 1000  # a redial costs NNG a millisecond, and the evacuation's sockets are nearly always away
STUCK_POLLS = 10  # unanswered one after the other: dialled anew, because a dialler of NNG may hang (see `_client`)
STUCK_POLLS_MAX = 60  # it doubles while nobody answers: mostly nobody is there
ACK_RETRY_S = 0.1  # an acknowledgement that was not answered, or did not yet say "open", is repeated after this


class Sensed(NamedTuple):
    """What the device's own sensors say now."""

    barrier: str  # a drivers.base.Barrier value
    open: bool  # sensed, not commanded
    released: bool
    incident: int | None  # the one it was released for; None once it is re-armed


class Device(Protocol):
    """Whose sockets they are: `LinkClient`."""

    safety_tls: pynng.TLSConfig | None

    @property
    def sensed(self) -> Callable[[], Sensed]: ...
    def release_arrived(self, release: Release) -> bool: ...
    def poll_message(self) -> SafetyPoll: ...
    def ack_message(self, incident: int) -> ReleaseAck: ...
    def poll_unanswered(self) -> None: ...
    def log(self, what: str, **values: object) -> None: ...


class SafetyEndpoint:
    """One pair of safety sockets: the server's, or those of `paifang evacuate`."""

    def __init__(self, client: Device, release_url: str, safety_url: str) -> None:
        self._client = client
        self._release_url = release_url
        self._safety_url = safety_url
        self._owed: int | None = None  # the incident that this endpoint has not yet been told is sensed open
        self._wanted = trio.Event()
        self._released: int | None = None  # the last incident under which we have seen ourselves released
        self._unanswered = 0  # polls, since the last answer or dial
        self._patience = STUCK_POLLS
        self._stuck = trio.Event()

    async def run(self) -> None:
        """Listen and talk until cancelled, over new sockets when nobody has answered for long."""
        while True:
            self._unanswered, self._stuck = 0, trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.listen)
                nursery.start_soon(self.talk)
                await self._stuck.wait()
                nursery.cancel_scope.cancel()

    def owe(self, incident: int) -> None:
        """Acknowledge `incident` here until it was answered with the barrier sensed open, or the lane was re-armed."""
        self._owed = incident
        self._wanted.set()

    async def listen(self) -> None:
        client = self._client
        sub = _sockets.open_sub(TOPIC_ALL)
        with _sockets.dialled(sub, self._release_url, MAX_SAFETY_BYTES, tls=client.safety_tls):
            while True:
                try:
                    publication = decode_publication(await _sockets.receive(sub))
                except LinkError as exc:
                    client.log("bad_publication", error=str(exc)[:200])
                    continue
                if not isinstance(publication, Release) or not client.release_arrived(publication):
                    continue
                if client.sensed().incident == publication.incident:  # it is published again: tell again
                    self.owe(publication.incident)

    async def talk(self) -> None:
        req = _sockets.open_req()
        tls = self._client.safety_tls
        with _sockets.dialled(req, self._safety_url, MAX_SAFETY_BYTES, TALK_RECONNECT_MAX_MS, tls=tls):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._poll, req)
                nursery.start_soon(self._acknowledge, req)

    async def _poll(self, req: pynng.Req0) -> None:
        while True:
            start = trio.current_time()
            if await self._tell(req, self._client.poll_message()):
                self._unanswered, self._patience = 0, STUCK_POLLS
            else:
                self._client.poll_unanswered()
                self._unanswered += 1
                if self._unanswered >= self._patience:
                    self._patience = min(2 * self._patience, STUCK_POLLS_MAX)
                    self._stuck.set()
            await trio.sleep(max(0.0, start + POLL_S - trio.current_time()))

    async def _acknowledge(self, req: pynng.Req0) -> None:
        client = self._client
        while True:
            await self._wanted.wait()
            incident = self._owed
            assert incident is not None
            if client.sensed().incident == incident:
                self._released = incident
            message = client.ack_message(incident)
            done = await self._tell(req, message) and message.sensed_open
            if self._released == incident and client.sensed().incident != incident:
                done = True  # re-armed since, and nobody was there to hear of it
            if done and self._owed == incident:
                self._wanted = trio.Event()
            else:
                await trio.sleep(ACK_RETRY_S)

    async def _tell(self, req: pynng.Req0, message: SafetyRequest) -> bool:
        """Send and take in the answer. False when there was none."""
        try:
            state = decode_safety_state(await _sockets.exchange(req, encode(message), POLL_DEADLINE_S))
        except LinkTimeout:
            return False
        except LinkError as exc:
            self._client.log("bad_reply", error=str(exc)[:200])
            return False
        if state.release is not None:
            self._client.release_arrived(state.release)
        return True
