"""Readers of printed and displayed codes on serial lines."""

from drivers.scanner.qr import QrScanner, TriggerMode

__all__ = ["QrScanner", "TriggerMode"]
