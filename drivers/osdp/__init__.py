"""OSDP readers on RS-485: several on one bus, secure channel, light, buzzer and text, cards, keypad, tamper."""

from drivers.osdp._keys import KeyFileError, read_key
from drivers.osdp.bus import OsdpBus, OsdpReader

__all__ = ["KeyFileError", "OsdpBus", "OsdpReader", "read_key"]
