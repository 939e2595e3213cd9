"""A supervised contact: from sampled inputs to a state that is believed. Pure: time comes in as numbers."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from drivers.base import InputState
from protocols.modbus import ADDRESS_MAX

DEBOUNCE_MAX_S = 1.0  # a release of all lanes must come within 2 s of the contact
LOOKS_WHILE_UNSURE = 3  # samples within the time for which a new state must hold
LOOK_MIN_S = 0.01


class ContactKind(StrEnum):
    """How a contact is wired, and so what a cut wire looks like.

    `normally_open`: a cut wire is not noticed.  `normally_closed`: a cut wire is the contact.  `antivalent`: the input
    is on and the second one off when active, the other way round at rest; equal inputs are a broken wire.  `loop`: the
    second input is a closed circuit through the same cable; when it opens, and the contact is not active, the cable is
    broken.
    """

    NORMALLY_OPEN = "normally_open"
    NORMALLY_CLOSED = "normally_closed"
    ANTIVALENT = "antivalent"
    LOOP = "loop"


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """One contact at discrete inputs that count from 0. Raises ValueError for what cannot be.

    A new state counts once it has held for `debounce_s`; a broken wire once for `discrepancy_s`, because two contacts
    of one switch do not move at the same instant.
    """

    name: str
    input: int
    kind: ContactKind = ContactKind.NORMALLY_OPEN
    second_input: int | None = None
    debounce_s: float = 0.05
    discrepancy_s: float = 0.5

    def __post_init__(self) -> None:
        paired = self.kind in (ContactKind.ANTIVALENT, ContactKind.LOOP)
        if paired and self.second_input is None:
            raise ValueError(f"contact {self.name}: {self.kind} needs a second_input")
        if not paired and self.second_input is not None:
            raise ValueError(f"contact {self.name}: {self.kind} has no second_input")
        if self.second_input == self.input:
            raise ValueError(f"contact {self.name}: both inputs are {self.input}")
        for address in self.inputs():
            if not 0 <= address <= ADDRESS_MAX:
                raise ValueError(f"contact {self.name}: input {address}; 0 to {ADDRESS_MAX} are possible")
        if not 0.02 <= self.debounce_s <= DEBOUNCE_MAX_S:
            raise ValueError(f"contact {self.name}: debounce_s {self.debounce_s}; 0.02 to {DEBOUNCE_MAX_S:g}")
        if not self.debounce_s <= self.discrepancy_s <= 60:
            raise ValueError(f"contact {self.name}: discrepancy_s {self.discrepancy_s}; debounce_s to 60")

    def inputs(self) -> list[int]:
        return [self.input] if self.second_input is None else [self.input, self.second_input]

    def read(self, levels: dict[int, bool]) -> InputState:
        """What one sample says."""
        first = levels[self.input]
        if self.kind is ContactKind.NORMALLY_OPEN:
            return InputState.ACTIVE if first else InputState.INACTIVE
        if self.kind is ContactKind.NORMALLY_CLOSED:
            return InputState.INACTIVE if first else InputState.ACTIVE
        assert self.second_input is not None
        second = levels[self.second_input]
        if self.kind is ContactKind.LOOP:
            return InputState.ACTIVE if first else InputState.INACTIVE if second else InputState.BROKEN
        if first is second:
            return InputState.BROKEN
        return InputState.ACTIVE if first else InputState.INACTIVE


class Watched:
    """The believed state of one contact."""

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self.state = InputState.UNKNOWN
        self._pending: InputState | None = None
        self._since = 0.0

    def forget(self) -> None:
        """The board was lost: nothing is known."""
        self.state, self._pending = InputState.UNKNOWN, None

    def sample(self, levels: dict[int, bool], asked_at: float, heard_at: float) -> InputState | None:
        """One reading of the inputs, taken some time between `asked_at` and `heard_at`, s; the state if it is news.

        From the end of the first reading to the beginning of the last one: a server that was stopped between the two
        must not take a short contact for a long one.
        """
        seen = self.contact.read(levels)
        if seen is self.state:
            self._pending = None
            return None
        if seen is not self._pending:
            self._pending, self._since = seen, heard_at
        if asked_at - self._since < self._must_hold_s(seen):
            return None
        self.state, self._pending = seen, None
        return seen

    @property
    def look_again_s(self) -> float | None:
        """How soon to sample again to be sure; None: there is no doubt."""
        if self._pending is None:
            return None
        return max(LOOK_MIN_S, self._must_hold_s(self._pending) / LOOKS_WHILE_UNSURE)

    def _must_hold_s(self, state: InputState) -> float:
        return self.contact.discrepancy_s if state is InputState.BROKEN else self.contact.debounce_s
