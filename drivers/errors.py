"""Errors of the driver seam.

    DeviceError
    ├─ DeviceUnavailable   nobody answers: unplugged, switched off, out of reach
    └─ DeviceRefused       it answers, and says no: paper out, cover open, busy
"""


class DeviceError(Exception):
    """A device did not do what it was asked."""


class DeviceUnavailable(DeviceError):
    """Nobody answers at the device's address."""


class DeviceRefused(DeviceError):
    """The device answers and says no."""
