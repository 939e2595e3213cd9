"""Printers of tickets and labels: ESC/POS over TCP, serial lines and USB; ZPL and TSPL over TCP."""

from drivers.printer.escpos import Confirm, FilePrinter, SerialPrinter, TcpPrinter
from drivers.printer.glyphs import FontGlyphs
from drivers.printer.label import LabelPrinter

__all__ = ["Confirm", "FilePrinter", "FontGlyphs", "LabelPrinter", "SerialPrinter", "TcpPrinter"]
