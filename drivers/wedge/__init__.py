"""Readers that pretend to be keyboards, read as Linux input devices, for ourselves alone."""

from drivers.wedge._device import WedgeBusy, list_wedges
from drivers.wedge.reader import WedgeReader

__all__ = ["WedgeBusy", "WedgeReader", "list_wedges"]
