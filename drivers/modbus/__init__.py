"""Modbus RTU and TCP: a bus that several units share, relay boards as gates, supervised contacts."""

from drivers.modbus._bus import BusStatistics, ModbusBus, TooLate, Turn
from drivers.modbus._contact import Contact, ContactKind
from drivers.modbus._wiring import RelayWiring
from drivers.modbus.inputs import ContactInputs
from drivers.modbus.relay import RelayGate

__all__ = (
    "BusStatistics",
    "Contact",
    "ContactInputs",
    "ContactKind",
    "ModbusBus",
    "RelayGate",
    "RelayWiring",
    "TooLate",
    "Turn",
)
