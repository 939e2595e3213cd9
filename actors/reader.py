"""The actor round a reader's driver: what is read is a `Scan` for the lane, what the lane says a light and a sound."""

from __future__ import annotations

import secrets
import time

import trio

from actors._common import offer
from actors.gate import STATISTICS_EVERY_S, device_view
from core import Address, Stop, new_trace
from drivers.base import (
    CardRejected,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    Driver,
    Feedback,
    InputChanged,
    InputState,
    Outcome,
)
from protocols.console import FeedEvent
from protocols.messages import Credential, CredentialKind, Direction, Scan, Telemetry
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
    """Child of the device supervisor; owns one reader's driver. `direction` is the way that its visitors walk."""

    def __init__(
        self,
        name: str,
        driver: Driver,
        lane: Address,
        lane_name: str,
        hub: Address,
        *,
        direction: Direction = Direction.ENTRY,
    ) -> None:
        self._direction = direction
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
                        self._signal(feedback)
                    case _Tick():
                        me.set_timer("statistics", STATISTICS_EVERY_S, _Tick())
                        self._show()

    def _emit(self, event: DeviceEvent) -> None:
        match event:
            case CodeRead(text=text):
                self._scan(credential_of(text))
            case CredentialRead(kind=kind, value=value, issue_index=issue_index):
                self._scan(Credential(kind, value, issue_index))
            case CardRejected(reason=reason):
                self._reject(reason)
            case InputChanged(name=name, state=state):
                self._input(name, state)
            case DeviceUp() | DeviceDown():
                self._show()

    def _signal(self, feedback: Feedback) -> None:
        if (tell := getattr(self._driver, "signal", None)) is not None:
            tell(feedback)

    def _reject(self, reason: str) -> None:
        """A card that is a copy, foreign or unreadable never becomes a scan; visitor and control room are told."""
        self._signal(Feedback(outcome=Outcome.STOP, text_zh="无法识别此卡", text_en="This card is not a ticket"))
        self._tell("refused", "notice", f"card_{reason}", f"卡片被拒：{reason}", f"Card rejected: {reason}")

    def _input(self, name: str, state: InputState) -> None:
        """Somebody opened the reader's housing, its supply failed, or that is over."""
        if state in (InputState.ACTIVE, InputState.BROKEN):
            self._tell("alarm", "warning", name, f"{self._name}：{name} 报警", f"{self._name}: {name}")
        elif state is InputState.INACTIVE:
            self._tell("device", "info", name, f"{self._name}：{name} 恢复", f"{self._name}: {name} is over")

    def _tell(self, kind: str, severity: str, code: str, text_zh: str, text_en: str) -> None:
        event = FeedEvent(
            at=time.time(),
            kind=kind,
            severity=severity,
            lane=self._lane_name,
            code=code,
            text_zh=text_zh,
            text_en=text_en,
        )
        offer(self._hub, event)

    def _scan(self, credential: Credential) -> None:
        scan = Scan(
            lane=self._lane_name,
            device=self._name,
            nonce=secrets.token_hex(8),
            credential=credential,
            at=time.time(),
            direction=self._direction,
        )
        # with a full mailbox it is refused at once and counted there; the visitor scans again
        offer(self._lane, scan, deadline=trio.current_time() + SCAN_PATIENCE_S, trace=new_trace())

    def _show(self) -> None:
        self._hub.tell(device_view(self._name, "reader", self._lane_name, self._driver.statistics()))
