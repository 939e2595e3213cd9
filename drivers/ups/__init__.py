"""The state of an uninterruptible power supply, from Network UPS Tools' `upsd`."""

from drivers.ups._nut import read_power

__all__ = ["read_power"]
