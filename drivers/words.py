"""A driver's event in words for people: logs, the console, a terminal, a trace. Never a code, a card or a number."""

from __future__ import annotations

from drivers.base import (
    BarrierChanged,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    GateAlarm,
    InputChanged,
    PassageCounted,
)
from protocols.messages import Counters

WORDS_MAX = 200  # characters of one event


def said(event: DeviceEvent) -> str:
    """What the device just said, on one line. Epochs are left out: they are names without a meaning of their own."""
    text = _said(event)
    return text if len(text) <= WORDS_MAX else text[: WORDS_MAX - 1] + "…"


def _said(event: DeviceEvent) -> str:
    match event:
        case DeviceUp(counters=counters, barrier=barrier):
            parts = ["up", *([f"barrier {barrier}"] if counters is not None else []), counted(counters)]
            return ", ".join(part for part in parts if part)
        case DeviceDown(reason=reason):
            return f"down: {reason}"
        case BarrierChanged(barrier=barrier, detail=detail):
            return f"barrier {barrier} ({detail})" if detail else f"barrier {barrier}"
        case PassageCounted(direction=direction, counter=counter):
            return f"counted {direction} {counter}"
        case GateAlarm(kind=kind):
            return f"alarm {kind}"
        case CodeRead(text=code, symbology=symbology):
            return f"read a code of {len(code)} characters{f' {symbology}' if symbology else ''}"
        case CredentialRead(kind=kind, value=value):
            return f"read a {kind.replace('_', ' ')} of {len(value)} characters"
        case InputChanged(name=name, state=state):
            return f"input {name} {state}"
    return type(event).__name__  # a family's own event: its fields may be anybody's secret


def counted(counters: Counters | None) -> str:
    """Cumulative counts in words; empty when there are none."""
    return "" if counters is None else f"entries {counters.entries}, exits {counters.exits}"
