"""How a relay board is wired to a gate: which coil opens, which input senses. Said once, by the site file."""

from __future__ import annotations

from typing import Literal

import msgspec

from protocols.modbus import ADDRESS_MAX

PULSE_MAX_S = 30.0  # a pulse that is longer is a hold


class RelayWiring(msgspec.Struct, frozen=True, kw_only=True):
    """Coils, discrete inputs and registers of one gate; addresses count from 0. Raises ValueError for what cannot be.

    `pulse` "server": we switch the opening coil on and, `pulse_s` later, off.  "board": the board ends the pulse by
    itself (momentary or jog mode), which is better, because a server that hangs in between leaves nothing open.
    `hold_releases` False: the hold coil is on in normal work and goes off to release (a magnet that fails safe).
    `entry_input` and `exit_input` are passage sensors, one rising edge for each person; counters in registers are
    better where the board has them, because an edge between two polls is lost.  Without any, everybody who was let in
    is taken to have passed as soon as the gate is seen open.
    """

    open_coil: int
    hold_coil: int | None = None  # None: the opening coil, kept on
    exit_coil: int | None = None
    pulse_s: float = 0.5
    pulse: Literal["server", "board"] = "server"
    open_input: int | None = None  # on while the barrier is fully open
    closed_input: int | None = None  # on while it is fully closed
    entry_input: int | None = None
    exit_input: int | None = None
    entry_register: int | None = None
    exit_register: int | None = None
    register_table: Literal["input", "holding"] = "input"
    register_words: Literal[1, 2] = 1  # 16 or 32 bits
    low_word_first: bool = False
    hold_releases: bool = True

    def __post_init__(self) -> None:
        for name in ("open_coil", "hold_coil", "exit_coil", "open_input", "closed_input", "entry_input", "exit_input",
                     "entry_register", "exit_register"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value <= ADDRESS_MAX:
                raise ValueError(f"{name} {value}; 0 to {ADDRESS_MAX} are possible")
        if not 0 < self.pulse_s <= PULSE_MAX_S:
            raise ValueError(f"pulse_s {self.pulse_s}; above 0, at most {PULSE_MAX_S:g}")
        if self.exit_coil == self.open_coil:
            raise ValueError("exit_coil and open_coil are the same coil; leave exit_coil out")
        if self.hold_coil is not None and self.hold_coil == self.exit_coil:
            raise ValueError("hold_coil and exit_coil are the same coil")
        if not self.hold_releases and self.hold_coil in (None, self.open_coil):
            raise ValueError("a hold coil that goes off to release must be a coil of its own")
        if self.entry_register is None and self.exit_register is not None:
            raise ValueError("exit_register without entry_register")
        if self.entry_register is not None and (self.entry_input is not None or self.exit_input is not None):
            raise ValueError("passages are counted by registers or by inputs, not by both")
        if self.pulse == "board" and self.hold_coil in (None, self.open_coil):
            raise ValueError("a coil that the board switches off by itself cannot hold: name a hold_coil of its own")

    @property
    def hold(self) -> int:
        return self.open_coil if self.hold_coil is None else self.hold_coil

    def coils(self) -> list[int]:
        return sorted({self.open_coil, self.hold, *([] if self.exit_coil is None else [self.exit_coil])})

    def inputs(self) -> list[int]:
        named = (self.open_input, self.closed_input, self.entry_input, self.exit_input)
        return sorted({value for value in named if value is not None})

    @property
    def counts(self) -> bool:
        return self.entry_register is not None or self.entry_input is not None
