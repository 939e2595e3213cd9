"""Supervised contacts at a Modbus board's discrete inputs: fire panels, buttons, door contacts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio

from drivers.base import Availability, DeviceUp, InputChanged
from drivers.modbus._bus import ModbusBus, Turn
from drivers.modbus._contact import Contact, Watched
from drivers.modbus._unit import Unit
from protocols.modbus import BITS_MAX, Function, read_bits


class ContactInputs(Unit):
    """A `drivers.base.Driver`: `DeviceUp`, then `InputChanged` for every contact, and for each change that held.

    After the board was lost, all that is known is said again.  Raises ValueError for a unit that cannot be, for no
    contacts, two of one name, or inputs too far apart to be read at once.
    """

    def __init__(
        self,
        bus: ModbusBus,
        unit: int,
        contacts: Sequence[Contact],
        *,
        poll_s: float = 0.1,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(bus, unit, poll_s, rng)
        names = [contact.name for contact in contacts]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"contacts need names of their own: {', '.join(names) or 'there are none'}")
        inputs = sorted(address for contact in contacts for address in contact.inputs())
        self._first, self._count = inputs[0], inputs[-1] - inputs[0] + 1
        if self._count > BITS_MAX:
            raise ValueError(f"inputs {inputs[0]} and {inputs[-1]} are too far apart to be read at once")
        self._watched = [Watched(contact) for contact in contacts]

    def _forget(self) -> None:
        for watched in self._watched:
            watched.forget()

    async def _round(self) -> float:
        # before the polls of others: a fire contact must not wait for thirty gates; and in doubt before everything
        unsure = any(watched.look_again_s is not None for watched in self._watched)
        request = read_bits(self._unit, Function.READ_DISCRETE_INPUTS, self._first, self._count)
        asked_at = trio.current_time()
        answer = await self._ask(request, Turn.RELEASE if unsure else Turn.COMMAND)
        levels = dict(enumerate(answer.bits, self._first))
        if self._meter.availability is not Availability.AVAILABLE:
            self._up(DeviceUp())
        heard_at = trio.current_time()
        for watched in self._watched:
            state = watched.sample(levels, asked_at, heard_at)
            if state is not None:
                self._emit(InputChanged(name=watched.contact.name, state=state))
        looks = [watched.look_again_s for watched in self._watched]
        return min([self._poll_s, *(look for look in looks if look is not None)])
