"""The actor round a reader's driver: what is read is a `Scan` for the lane, what the lane says a light and a sound."""

from __future__ import annotations

import secrets
import time

import trio

from actors._common import offer
from actors.gate import STATISTICS_EVERY_S, device_view
from core import Address, Stop, new_trace
from drivers.base import CodeRead, CredentialRead, DeviceDown, DeviceEvent, DeviceUp, Driver, Feedback
from protocols.messages import Credential, CredentialKind, Scan, Telemetry
from protocols.shortcode import looks_short

CARD_PREFIX = "CARD:"  # an annual card's printed number, as our own cards carry it
SCAN_PATIENCE_S = 3.0  # a scan that a lane did not read within this is dropped: the visitor has scanned again by then


class Signal(Telemetry, frozen=True, kw_only=True):
    """lane -> reader: tell the visitor. Dropped by readers that have neither light nor sound."""

    feedback: Feedback


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


def credential_of(text: str) -> Credential:
    """What kind of credential a text read by a scanner is."""
    if text.startswith(CARD_PREFIX):
        return Credential(CredentialKind.CARD, text.removeprefix(CARD_PREFIX))
    if looks_short(text):
        return Credential(CredentialKind.SHORT, text)
    return Credential(CredentialKind.CODE, text)


class ReaderActor:
    """Child of the device supervisor; owns one reader's driver."""

    def __init__(self, name: str, driver: Driver, lane: Address, lane_name: str, hub: Address) -> None:
        self._name = name
        self._driver = driver
        self._lane = lane
        self._lane_name = lane_name
        self._hub = hub

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._driver.run, self._emit)
            me.set_timer("statistics", 0.0, _Tick())
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return
                    case Signal(feedback=feedback):
                        if (tell := getattr(self._driver, "signal", None)) is not None:
                            tell(feedback)
                    case _Tick():
                        me.set_timer("statistics", STATISTICS_EVERY_S, _Tick())
                        self._show()

    def _emit(self, event: DeviceEvent) -> None:
        match event:
            case CodeRead(text=text):
                self._scan(credential_of(text))
            case CredentialRead(kind=kind, value=value, issue_index=issue_index):
                self._scan(Credential(kind, value, issue_index))
            case DeviceUp() | DeviceDown():
                self._show()

    def _scan(self, credential: Credential) -> None:
        scan = Scan(
            lane=self._lane_name,
            device=self._name,
            nonce=secrets.token_hex(8),
            credential=credential,
            at=time.time(),
        )
        # with a full mailbox it is refused at once and counted there; the visitor scans again
        offer(self._lane, scan, deadline=trio.current_time() + SCAN_PATIENCE_S, trace=new_trace())

    def _show(self) -> None:
        self._hub.tell(device_view(self._name, "reader", self._lane_name, self._driver.statistics()))
