"""OSDP readers on RS-485: several on one bus, secure channel, light, buzzer and text, cards, keypad, tamper."""

from drivers.osdp._install import install_key
from drivers.osdp._keys import KeyFileError, read_key
from drivers.osdp.bus import OsdpBus
from drivers.osdp.reader import OsdpReader

__all__ = ["KeyFileError", "OsdpBus", "OsdpReader", "install_key", "read_key"]
