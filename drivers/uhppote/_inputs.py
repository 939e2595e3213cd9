"""A UHPPOTE controller's readers (card numbers) and inputs (fire, buttons, door contacts) as drivers of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.base import CredentialRead, DeviceDown, DeviceUp, DriverStatistics, Emit, InputChanged
from drivers.modbus._contact import Contact, Watched
from drivers.uhppote._exchange import Exchange
from protocols.messages import CredentialKind, Direction
from protocols.uhppote import DOORS, FORCED_LOCK_INPUT, Event, EventType, Reason, Status

if TYPE_CHECKING:
    from drivers.uhppote._controller import UhppoteController

SWIPE_FRESH_S = 3.0  # an older swipe opens nothing: the visitor has gone or swiped again
BUTTON_INPUT, DOOR_INPUT = 10, 20  # our own numbers of a controller's contacts: 11 to 14, 21 to 24
FIRE, LOCK = 1, 0


class _Face:
    """What readers and inputs have in common."""

    released = False
    look_again_s: float | None = None

    def __init__(self, controller: UhppoteController) -> None:
        self._controller = controller
        self._emit: Emit = _to_nobody

    async def run(self, emit: Emit) -> None:
        """Serve the controller until cancelled."""
        self._emit = emit
        try:
            with self._controller.attached(self):
                await self._controller.carry()
        finally:
            self._emit = _to_nobody

    def statistics(self) -> DriverStatistics:
        return self._controller.statistics()

    def up(self, status: Status) -> None:
        self._emit(DeviceUp())

    def down(self, reason: str) -> None:
        self._emit(DeviceDown(reason=reason))

    async def command(self, exchange: Exchange, *, set_up: bool) -> None:
        """Nothing is commanded here."""

    def on_event(self, event: Event, age_s: float) -> None:
        """See `Face`."""

    def on_status(self, status: Status, asked_at: float, heard_at: float) -> None:
        """See `Face`."""


class UhppoteReader(_Face):
    """A card reader at a door: `CredentialRead` with the card's number in decimal.

    Only swipes of the last seconds are reported; one whose packet was lost is still in time, an old one is not.  The
    controller itself must know no cards, or it opens by its own list.
    """

    def __init__(self, controller: UhppoteController, door: int, direction: Direction) -> None:
        super().__init__(controller)
        if door not in DOORS:
            raise ValueError(f"door {door}; a controller has doors 1 to 4")
        self._door = door
        self._outward = direction is Direction.EXIT

    def on_event(self, event: Event, age_s: float) -> None:
        mine = event.door == self._door and event.outward is self._outward
        swipe = event.type == EventType.SWIPE or event.reason == Reason.SWIPE  # granted: a door event
        if swipe and mine and event.card and -SWIPE_FRESH_S <= age_s <= SWIPE_FRESH_S:
            if event.granted:
                self._controller.meter.error(f"door {self._door}: the controller opened by its own card list")
            self._emit(CredentialRead(kind=CredentialKind.CARD, value=str(event.card)))


class UhppoteInputs(_Face):
    """`InputChanged` for `fire`, `lock` (a forced lock), `button-1` to `button-4` and `door-1` to `door-4`.

    Every one is said after each `DeviceUp`, then each change that held.
    """

    def __init__(self, controller: UhppoteController, *, debounce_s: float) -> None:
        super().__init__(controller)
        contacts = [Contact(name="fire", input=FIRE, debounce_s=debounce_s), Contact(name="lock", input=LOCK)]
        contacts += [Contact(name=f"button-{door}", input=BUTTON_INPUT + door) for door in DOORS]
        contacts += [Contact(name=f"door-{door}", input=DOOR_INPUT + door) for door in DOORS]
        self._watched = [Watched(contact) for contact in contacts]

    @property
    def look_again_s(self) -> float | None:  # type: ignore[override]
        looks = [watched.look_again_s for watched in self._watched]
        return min((look for look in looks if look is not None), default=None)

    def up(self, status: Status) -> None:
        for watched in self._watched:
            watched.forget()
        super().up(status)

    def on_status(self, status: Status, asked_at: float, heard_at: float) -> None:
        levels = {FIRE: status.fire, LOCK: bool(status.inputs & FORCED_LOCK_INPUT)}
        levels |= {BUTTON_INPUT + door: status.buttons[door - 1] for door in DOORS}
        levels |= {DOOR_INPUT + door: status.doors_open[door - 1] for door in DOORS}
        for watched in self._watched:
            state = watched.sample(levels, asked_at, heard_at)
            if state is not None:
                self._emit(InputChanged(name=watched.contact.name, state=state))


def _to_nobody(event: object) -> None:
    """Before `run` and after it there is nobody to tell."""
