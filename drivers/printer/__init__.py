"""Ticket printers that speak ESC/POS, over TCP and on serial lines."""

from drivers.printer.escpos import SerialPrinter, TcpPrinter

__all__ = ["SerialPrinter", "TcpPrinter"]
