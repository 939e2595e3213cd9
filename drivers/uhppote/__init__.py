"""UHPPOTE controllers over UDP: one controller, and its doors, readers and inputs as drivers of their own."""

from drivers.uhppote._controller import UhppoteController
from drivers.uhppote._door import UhppoteDoor
from drivers.uhppote._inputs import UhppoteInputs, UhppoteReader

__all__ = ("UhppoteController", "UhppoteDoor", "UhppoteInputs", "UhppoteReader")
