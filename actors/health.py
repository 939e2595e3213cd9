"""What people should know of the server itself: whether the ledger can write, and whether that is durable."""

from __future__ import annotations

import time

from actors._common import offer
from core import Address, Stop
from protocols.console import DeviceView, FeedEvent
from storage.interfaces import LedgerState


class Health:
    """The actor. Says each change once, down and up."""

    def __init__(self, *, hub: Address) -> None:
        self._hub = hub
        self._available: bool | None = None
        self._durable = True
        self.ledger: LedgerState | None = None  # the last word, for `serve` to print

    async def run(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case LedgerState() as state:
                    self._on_ledger(state)
                case Stop():
                    return

    def _on_ledger(self, state: LedgerState) -> None:
        self.ledger = state
        self._hub.tell(
            DeviceView(
                device="database",
                kind="database",
                lane="",
                availability="available" if state.available else "unavailable",
                detail=state.detail if not state.available or state.durable else f"NOT DURABLE: {state.detail}",
            )
        )
        if state.available != self._available:
            self._available = state.available
            if state.available:
                self._say("info", "ledger_up", "账本可用", "The ledger is available")
            else:
                self._say("alarm", "ledger_down", "账本不可用：通道拒绝入园", "The ledger is away: lanes refuse")
        if state.available and state.durable != self._durable:
            self._durable = state.durable
            if not state.durable:
                self._say("alarm", "not_durable", "数据库未保证落盘", "The database does not guarantee durability")

    def _say(self, severity: str, code: str, text_zh: str, text_en: str) -> None:
        event = FeedEvent(at=time.time(), kind="device", severity=severity, code=code, text_zh=text_zh, text_en=text_en)
        offer(self._hub, event)
