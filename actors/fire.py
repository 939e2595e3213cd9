"""Fire contacts: a contact that closes opens the whole site by itself, and keeps it open while it is closed.

Belongs to the `safety` branch and needs nothing of `business`: between the contact and the release stand a driver that
debounces, this actor, and the evacuation's actor.  The evacuation is latched there; a contact that opens again ends
nothing.  A broken wire is an alarm and a case for people, and a release only where the site file says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import msgspec
import trio

from actors._common import offer
from actors.evacuation import HoldRestore
from actors.gate import STATISTICS_EVERY_S, FireInput, device_view
from core import Address, Failed, MailboxFull, Stop
from drivers.base import DeviceDown, DeviceEvent, DeviceUp, Driver, InputChanged, InputState
from protocols.console import Done, FeedEvent, Trigger
from protocols.messages import Telemetry
from storage.interfaces import OpenCase

RETRY_S = 0.25  # a trigger that the evacuation has not confirmed is told again this often
REMIND_S = 1.0  # what holds a restore back is said again this often: the other actor may have been restarted
CASE_EVERY_S = 600.0  # a loose wire opens one case in this time for each contact, not one for each spark


class FirePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a contact's broken wire does, and where it is in words for people (empty: its name)."""

    on_broken: Literal["alarm", "release"] = "alarm"
    text: str = ""


class _Retry(Telemetry, frozen=True, kw_only=True):
    pass


class _Remind(Telemetry, frozen=True, kw_only=True):
    pass


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class FireActor:
    """Child of the device supervisor. With a `driver` it owns it; gates' own fire inputs arrive as `FireInput`.

    `contacts` by name; inputs of other names are not fire contacts and are left alone.
    """

    def __init__(
        self,
        name: str,
        contacts: Mapping[str, FirePolicy],
        *,
        evacuation: Address,
        hub: Address,
        ledger: Address,
        driver: Driver | None = None,
    ) -> None:
        self._name = name
        self._policies = contacts
        self._evacuation = evacuation
        self._hub = hub
        self._ledger = ledger
        self._driver = driver
        self._states = dict.fromkeys(contacts, InputState.UNKNOWN)
        self._holding: set[str] = set()  # active when last heard: nothing is restored
        self._unconfirmed: dict[str, str] = {}  # contact -> reason, until the evacuation says that it is released
        self._case_at: dict[tuple[str, str], float] = {}  # (contact, kind) -> Trio's clock
        self._reached = True  # the contacts' board answers, as far as is known

    async def run(self, me: Address) -> None:
        self._me = me
        if self._driver is not None:  # it says every level again; an active one is as new as a fire
            self._states = dict.fromkeys(self._policies, InputState.UNKNOWN)
        self._trigger()
        async with trio.open_nursery() as nursery:
            if self._driver is not None:
                nursery.start_soon(self._driver.run, self._on_event)
                me.set_timer("statistics", 0.0, _Tick())
            me.set_timer("remind", REMIND_S, _Remind())
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case FireInput(contact=contact, state=state, momentary=momentary):
                        self._on_input(contact, state, momentary=momentary)
                    case Done():
                        self._unconfirmed.clear()
                    case _Retry():
                        self._trigger()
                    case Failed():
                        pass  # the evacuation's actor died over it; the timer tells the next incarnation
                    case _Remind():
                        me.set_timer("remind", REMIND_S, _Remind())
                        if self._holding:
                            self._hold()
                    case _Tick():
                        me.set_timer("statistics", STATISTICS_EVERY_S, _Tick())
                        self._show()
                    case Stop():
                        nursery.cancel_scope.cancel()
                        self._holding.clear()  # a contact that is taken out of the site file holds nothing back
                        self._hold()
                        return

    # --- what the contacts say ----------------------------------------------------------------------------------

    def _on_event(self, event: DeviceEvent) -> None:
        """From our own driver; handled at once, whatever the mailbox holds."""
        match event:
            case InputChanged(name=name, state=state):
                self._on_input(name, state)
            case DeviceUp():
                if not self._reached:
                    self._reached = True
                    self._feed("notice", "fire_contact_back", "消防触点恢复通讯", "Fire contacts answer again")
                self._show()
            case DeviceDown(reason=reason):
                self._reached = False
                self._states = dict.fromkeys(self._policies, InputState.UNKNOWN)
                self._feed(
                    "alarm", "fire_contact_lost", f"消防触点失联：{reason}", f"Fire contacts are not heard: {reason}"
                )
                self._case(self._name, "fire_contact_lost", reason)
                self._show()

    def _on_input(self, contact: str, state: InputState, *, momentary: bool = False) -> None:
        """Synchronous from the contact to the trigger."""
        policy = self._policies.get(contact)
        if policy is None or (self._states[contact] is state and not momentary):
            return
        before = self._states[contact]
        if not momentary:
            self._states[contact] = state
        where = policy.text or contact
        if state is InputState.ACTIVE:
            self._unconfirmed[contact] = f"fire contact {where}"
            self._trigger()
            if not momentary:
                self._holding.add(contact)
            self._hold()
            self._feed("alarm", "fire_contact", f"消防触点动作：{where}", f"Fire contact: {where}")
        elif state is InputState.BROKEN:
            if policy.on_broken == "release":
                self._unconfirmed[contact] = f"broken wire of fire contact {where}"
                self._trigger()
            self._feed(
                "alarm",
                "fire_contact_broken",
                f"消防触点线路故障：{where}",
                f"The wire of fire contact {where} is broken",
            )
            self._case(contact, "fire_contact_broken", where)
        elif state is InputState.INACTIVE:
            self._holding.discard(contact)
            self._hold()
            if before in (InputState.ACTIVE, InputState.BROKEN):
                self._feed(
                    "notice", "fire_contact_quiet", f"消防触点复位：{where}", f"Fire contact {where} is quiet again"
                )

    # --- what is said -------------------------------------------------------------------------------------------

    def _trigger(self) -> None:
        """Tell the evacuation, on the lane that it reads first, until it says that everything is released."""
        if not self._unconfirmed:
            return
        contact, reason = next(iter(self._unconfirmed.items()))
        self._me.set_timer("retry", RETRY_S, _Retry())
        try:
            self._evacuation.tell(Trigger(by=f"fire/{contact}", reason=reason), system=True, reply_to=self._me)
        except MailboxFull:
            return  # the timer tells it again

    def _hold(self) -> None:
        names = [self._policies[contact].text or contact for contact in sorted(self._holding)]
        offer(self._evacuation, HoldRestore(source=self._name, contacts=names), system=True)

    def _case(self, contact: str, kind: str, detail: str) -> None:
        now = trio.current_time()
        last = self._case_at.get((contact, kind))
        if last is not None and now - last < CASE_EVERY_S:
            return
        self._case_at[contact, kind] = now
        at = time.time()
        key = f"{kind}/{self._name}/{contact}/{at:.1f}"
        offer(self._ledger, OpenCase(key=key, kind=kind, lane="", severity="alarm", detail=detail[:200], at=at))

    def _feed(self, severity: str, code: str, text_zh: str, text_en: str) -> None:
        event = FeedEvent(
            at=time.time(), kind="evacuation", severity=severity, code=code, text_zh=text_zh, text_en=text_en
        )
        offer(self._hub, event)

    def _show(self) -> None:
        if self._driver is not None:
            offer(self._hub, device_view(self._name, "fire", "", self._driver.statistics()))
