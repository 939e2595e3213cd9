"""Readers that pretend to be keyboards ("wedges"): key events of Linux input devices in, the typed bytes out.

An event is the kernel's `struct input_event` (linux/input.h): two words of time, type, code, value, in the machine's
own sizes and byte order.  The layout is the US one, which every such reader has out of the box; one that is set to
another country types other characters.  What comes out goes through `protocols.scanner.ScannerFramer` like the bytes
of a serial reader: Enter is the line end.
"""

from __future__ import annotations

import struct

from protocols.errors import WireError

EVENT = struct.Struct("@llHHi")  # 24 bytes on 64-bit machines
EV_SYN, EV_KEY = 0, 1
SYN_DROPPED = 3
RELEASED, PRESSED, REPEATED = 0, 1, 2
DAMAGED = 0xFF  # in no UTF-8 text: the framer drops the line that holds it

KEY_LEFT_SHIFT, KEY_RIGHT_SHIFT, KEY_CAPS_LOCK = 42, 54, 58
KEY_LEFT_CONTROL, KEY_RIGHT_CONTROL, KEY_LEFT_ALT, KEY_RIGHT_ALT = 29, 97, 56, 100
KEY_ENTER, KEY_KEYPAD_ENTER = 28, 96
KEY_RIGHT_BRACE = 27

# linux/input-event-codes.h: code, without shift, with shift
_ROWS = (
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (15, "\t", "\t"),
    (57, " ", " "),
    (55, "*", "*"),  # from here on the block of digits
    (71, "789-456+1230.", "789-456+1230."),
    (98, "/", "/"),
    (KEY_ENTER, "\r", "\r"),
    (KEY_KEYPAD_ENTER, "\r", "\r"),
)
_KEYS = {first + at: (plain[at], shifted[at]) for first, plain, shifted in _ROWS for at in range(len(plain))}
_SHIFTS = frozenset({KEY_LEFT_SHIFT, KEY_RIGHT_SHIFT})
_CONTROLS = frozenset({KEY_LEFT_CONTROL, KEY_RIGHT_CONTROL})
_ALTS = frozenset({KEY_LEFT_ALT, KEY_RIGHT_ALT})
_CODES = {sign: (code, bool(at)) for code, pair in sorted(_KEYS.items(), reverse=True) for at, sign in enumerate(pair)}
_CODES |= {pair[0]: (code, False) for code, pair in sorted(_KEYS.items(), reverse=True)}


class WedgeError(WireError):
    """A text that a US keyboard cannot type."""


class KeyReader:
    """Turns key events into the bytes that were typed, whatever pieces they arrive in. Holds less than one event."""

    def __init__(self) -> None:
        self.lost = 0  # times that the kernel dropped events because nobody read them
        self._rest = b""
        self._down: set[int] = set()
        self._caps = False

    def feed(self, data: bytes) -> bytes:
        """What was typed. Never raises: a key without a character spoils the line, and so do lost events."""
        data = self._rest + data
        whole = len(data) - len(data) % EVENT.size
        self._rest = data[whole:]
        typed = bytearray()
        for _, _, kind, code, value in EVENT.iter_unpack(data[:whole]):
            if kind == EV_SYN and code == SYN_DROPPED:
                self.lost += 1
                self._down.clear()
                typed.append(DAMAGED)
            elif kind == EV_KEY:
                self._key(code, value, typed)
        return bytes(typed)

    def _key(self, code: int, value: int, typed: bytearray) -> None:
        if value == RELEASED:
            self._down.discard(code)
            return
        if value != PRESSED:  # held down: a reader does not mean it
            return
        if code in _SHIFTS or code in _CONTROLS or code in _ALTS:
            self._down.add(code)
        elif code == KEY_CAPS_LOCK:
            self._caps = not self._caps
        elif self._down & _CONTROLS:
            # readers type the group separator of GS1 codes as Ctrl + ]
            typed.append(0x1D if code == KEY_RIGHT_BRACE and not self._down & _ALTS else DAMAGED)
        elif self._down & _ALTS or code not in _KEYS:
            typed.append(DAMAGED)
        else:
            plain, shifted = _KEYS[code]
            shift = bool(self._down & _SHIFTS) != (self._caps and plain.isalpha())
            typed += (shifted if shift else plain).encode()


def press(code: int, value: int) -> bytes:
    """The kernel's side: one key event and the event that ends it."""
    return EVENT.pack(0, 0, EV_KEY, code, value) + EVENT.pack(0, 0, EV_SYN, 0, 0)


def keystrokes(text: str) -> bytes:
    """The reader's side: the events of typing `text`; a group separator is Ctrl + ]. Raises WedgeError."""
    events = b""
    for sign in text:
        if sign == "\x1d":
            code, hold = KEY_RIGHT_BRACE, KEY_LEFT_CONTROL
        elif sign in _CODES:
            code, shift = _CODES[sign]
            hold = KEY_LEFT_SHIFT if shift else 0
        else:
            raise WedgeError("a character that a US keyboard does not have")
        stroke = press(code, PRESSED) + press(code, RELEASED)
        events += press(hold, PRESSED) + stroke + press(hold, RELEASED) if hold else stroke
    return events
