"""A people counter that reports cumulative counts through an MQTT broker."""

from __future__ import annotations

import random

import trio

from drivers.base import Availability, Emit
from drivers.counter._base import JSON_MODULUS, CounterDriver, to_nobody
from drivers.counter._mqtt import Connection, NotAuthorized
from drivers.errors import DeviceError
from protocols.peoplecounter import AXIS, CounterForm, CounterReportError, read_report

REFUSED_PAUSE_S = 30.0  # a broker that refuses our password is not asked again and again


class MqttCounter(CounterDriver):
    """Reads the reports at `topic` of the broker at `host`, under the session `client_id`. Raises ValueError.

    Counts are cumulative, so neither a lost nor a repeated message matters.  The counter is available with its first
    report after the connection stands (at once, if the broker retains them), and away when the broker is, or when
    nothing came for `silent_after_s`.  A wrong password is `unauthenticated`.
    """

    def __init__(
        self,
        host: str,
        port: int = 1883,
        *,
        topic: str,
        client_id: str,
        user: str = "",
        password: str = "",
        form: CounterForm = AXIS,
        serial: str = "",
        silent_after_s: float = 120.0,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(JSON_MODULUS, rng)
        if not topic or "\0" in topic or len(topic.encode()) > 65535:
            raise ValueError("a counter's topic cannot be empty or longer than 65535 bytes")
        if not client_id or not 1 <= port <= 65535 or silent_after_s <= 0:
            raise ValueError(f"client_id {client_id!r}, port {port} or silent_after_s {silent_after_s} cannot be")
        self._host, self._port, self._topic = host, port, topic
        self._client_id, self._user, self._password = client_id, user, password
        self._form = form
        self._serial = serial
        self._silent_after_s = silent_after_s
        self._reported = trio.Event()
        self._connected = 0

    async def run(self, emit: Emit) -> None:
        """Serve the counter until cancelled."""
        self._emit, self._up = emit, False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._notice_silence)
                while True:
                    pause_s = await self._once()
                    await trio.sleep(pause_s)
        finally:
            self._emit = to_nobody

    async def _once(self) -> float:
        """One connection, until it is lost; how long to wait for the next, s."""
        connection = Connection(
            self._host,
            self._port,
            self._topic,
            client_id=self._client_id,
            user=self._user,
            password=self._password,
            on_message=self._on_payload,
        )
        try:
            await connection.serve(self._on_ready)
        except NotAuthorized as exc:
            self._down(str(exc), Availability.UNAUTHENTICATED)
            return REFUSED_PAUSE_S
        except DeviceError as exc:
            self._down(str(exc))
        return self._backoff.next_s()

    def _on_ready(self) -> None:
        """The subscription stands; the counter itself is known to live with its first report."""
        self._connected += 1
        self._meter.reconnects = self._connected - 1
        self._backoff.reset()

    def _on_payload(self, payload: bytes) -> None:
        self._meter.heard(len(payload))
        try:
            report = read_report(payload, self._form)
        except CounterReportError as exc:
            self._meter.bad_frames += 1
            self._meter.error(exc)
            return
        if self._serial and report.serial != self._serial:
            self._meter.bad_frames += 1
            self._meter.error("a report of another device was refused")
            return
        self._reported.set()
        self._read(report.entries, report.exits)

    async def _notice_silence(self) -> None:
        while True:
            self._reported = trio.Event()
            with trio.move_on_after(self._silent_after_s) as scope:
                await self._reported.wait()
            if scope.cancelled_caught:
                self._down(f"no report for {self._silent_after_s:g} s")
