"""One MQTT connection under Trio: paho-mqtt's client moved by its socket hooks, without its threads or its loop.

paho makes its socket itself and blocks while it does; that one step is replaced, so that Trio connects and everything
after it happens when Trio's poller says so.  A client lives for one connection: what the broker keeps for us (the
session, messages of quality 1) it keeps by our client id.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import paho.mqtt.client as mqtt
import trio
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from drivers.errors import DeviceRefused, DeviceUnavailable
from protocols.peoplecounter import BODY_MAX

CONNECT_S = 5.0  # to the broker, and until it has accepted us and our subscription
KEEPALIVE_S = 15  # a broker that hangs is noticed within twice this
MISC_EVERY_S = 1.0
BAD_LOGIN = frozenset({"Bad user name or password", "Not authorized", "Banned"})


class NotAuthorized(DeviceRefused):
    """The broker refuses our name and password."""


class _Client(mqtt.Client):
    """A client whose socket is made for it."""

    ready: socket.socket

    def _create_socket(self) -> Any:  # called by `reconnect`; paho-mqtt is pinned because of this line
        return self.ready


class Connection:
    """Subscribe to `topic` with quality 1 and call `on_message` with each payload. `serve` ends by an error only."""

    def __init__(
        self,
        host: str,
        port: int,
        topic: str,
        *,
        client_id: str,
        user: str,
        password: str,
        on_message: Callable[[bytes], None],
    ) -> None:
        self._host, self._port = host, port
        self._topic = topic
        self._on_payload = on_message
        self._failure = ""
        self._unauthorized = False
        self._accepted = trio.Event()  # connected and subscribed
        self._may_write = trio.Event()
        self._client = _Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, protocol=mqtt.MQTTv311
        )
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._client.on_socket_close = lambda client, userdata, sock: trio.lowlevel.notify_closing(sock)
        self._client.on_socket_register_write = lambda client, userdata, sock: self._may_write.set()

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Connect, say when the subscription stands, and carry messages until the connection is lost.

        Raises DeviceUnavailable, DeviceRefused and NotAuthorized.
        """
        sock = await self._connect()
        try:
            async with trio.open_nursery() as nursery:
                self._client.ready = sock
                self._client.connect_async(self._host, self._port, KEEPALIVE_S)
                self._client.reconnect()
                nursery.start_soon(self._move_reads, sock, nursery.cancel_scope)
                nursery.start_soon(self._move_writes, sock, nursery.cancel_scope)
                nursery.start_soon(self._move_time, nursery.cancel_scope)
                with trio.move_on_after(CONNECT_S):
                    await self._accepted.wait()
                if self._accepted.is_set():
                    on_ready()
                    await trio.sleep_forever()
                self._failure = self._failure or f"does not accept us within {CONNECT_S:g} s"
                nursery.cancel_scope.cancel()
        finally:
            self._client.on_socket_close = None  # paho closes once more when it is collected, outside of Trio
            if sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
                sock.close()
        failure = f"{self._host}:{self._port}: {self._failure or 'the connection was lost'}"
        raise NotAuthorized(failure) if self._unauthorized else DeviceUnavailable(failure)

    def publish(self, payload: bytes) -> None:
        """Say something at the topic, with quality 1 and retained; for simulated devices."""
        self._client.publish(self._topic, payload, qos=1, retain=True)

    async def _connect(self) -> socket.socket:
        try:
            with trio.fail_after(CONNECT_S):
                stream = await trio.open_tcp_stream(self._host, self._port)
        except trio.TooSlowError as exc:
            raise DeviceUnavailable(f"{self._host}:{self._port}: does not accept a connection") from exc
        except OSError as exc:
            raise DeviceUnavailable(f"{self._host}:{self._port}: {exc.strerror or exc}") from exc
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        return sock

    async def _move_reads(self, sock: socket.socket, lost: trio.CancelScope) -> None:
        while sock.fileno() >= 0:
            with suppress(trio.ClosedResourceError):  # paho closed it: the next look at it says so
                await trio.lowlevel.wait_readable(sock)
            if self._client.loop_read() != mqtt.MQTT_ERR_SUCCESS:
                break
        lost.cancel()

    async def _move_writes(self, sock: socket.socket, lost: trio.CancelScope) -> None:
        while True:
            await self._may_write.wait()
            self._may_write = trio.Event()
            while self._client.want_write() and sock.fileno() >= 0:
                with suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(sock)
                if self._client.loop_write() != mqtt.MQTT_ERR_SUCCESS:
                    lost.cancel()
                    return

    async def _move_time(self, lost: trio.CancelScope) -> None:
        while True:
            await trio.sleep(MISC_EVERY_S)
            if self._client.loop_misc() != mqtt.MQTT_ERR_SUCCESS:
                self._failure = self._failure or "the broker is silent"
                lost.cancel()

    # --- called by paho, in our own task ------------------------------------------------------------------------

    def _on_connect(self, client: mqtt.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._failure = f"refused: {reason.getName()}"
            self._unauthorized = reason.getName() in BAD_LOGIN
        else:
            client.subscribe(self._topic, qos=1)

    def _on_subscribe(
        self, client: mqtt.Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._failure, self._unauthorized = f"may not subscribe to {self._topic}", True
            client.disconnect()
        else:
            self._accepted.set()

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        self._on_payload(bytes(message.payload[: BODY_MAX + 1]))

    def _on_disconnect(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self._failure = self._failure or f"disconnected: {reason.getName()}"
