"""Key events of readers that pretend to be keyboards: the US layout, modifiers, lost events, any bytes."""

import string
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import wedge
from protocols.scanner import Read, ScannerFramer
from protocols.wedge import EVENT, KeyReader, WedgeError, keystrokes, press

TYPEABLE = string.ascii_letters + string.digits + string.punctuation + " "


def strokes(*codes):
    return b"".join(press(code, wedge.PRESSED) + press(code, wedge.RELEASED) for code in codes)


def test_an_event_has_the_size_that_the_kernel_gives_it():
    assert EVENT.size == struct.calcsize("@l") * 2 + 8


def test_codes_of_the_kernels_header():
    # KEY_A 30, KEY_1 2, KEY_MINUS 12, KEY_DOT 52, KEY_KP7 71, KEY_KP0 82, KEY_KPDOT 83, KEY_KPPLUS 78, KEY_ENTER 28
    assert KeyReader().feed(strokes(30, 2, 12, 52, 71, 82, 83, 78, 28)) == b"a1-.70.+\r"
    assert KeyReader().feed(strokes(43, 41, 39, 40, 26, 27, 53)) == b"\\`;'[]/"


def test_shift_holds_for_what_it_is_held_for():
    events = press(wedge.KEY_LEFT_SHIFT, 1) + strokes(30, 2) + press(wedge.KEY_LEFT_SHIFT, 0) + strokes(30, 2)
    assert KeyReader().feed(events) == b"A!a1"
    both = press(wedge.KEY_LEFT_SHIFT, 1) + press(wedge.KEY_RIGHT_SHIFT, 1) + press(wedge.KEY_LEFT_SHIFT, 0)
    assert KeyReader().feed(both + strokes(30)) == b"A"


def test_caps_lock_turns_letters_only():
    caps = strokes(wedge.KEY_CAPS_LOCK)
    shifted = press(wedge.KEY_LEFT_SHIFT, 1) + strokes(30) + press(wedge.KEY_LEFT_SHIFT, 0)
    assert KeyReader().feed(caps + strokes(30, 2) + shifted + caps + strokes(30)) == b"A1aa"


def test_a_key_held_down_is_typed_once():
    assert KeyReader().feed(press(30, 1) + press(30, 2) * 5 + press(30, 0)) == b"a"


def test_a_group_separator_is_typed_with_control():
    (read,) = ScannerFramer().feed(KeyReader().feed(keystrokes("]C10123\x1d99\r")))
    assert read == Read("0123\x1d99", "]C1")


@pytest.mark.parametrize(
    "odd",
    [
        strokes(59),  # F1
        strokes(240),  # KEY_UNKNOWN
        press(wedge.KEY_LEFT_CONTROL, 1) + strokes(46) + press(wedge.KEY_LEFT_CONTROL, 0),
        press(wedge.KEY_LEFT_ALT, 1) + strokes(79, 80) + press(wedge.KEY_LEFT_ALT, 0),
        EVENT.pack(0, 0, wedge.EV_SYN, wedge.SYN_DROPPED, 0),
    ],
    ids=["function key", "unknown key", "control", "alt and digits", "lost events"],
)
def test_a_line_with_something_odd_in_it_is_dropped_whole(odd):
    framer = ScannerFramer()
    typed = KeyReader().feed(keystrokes("PF1:A") + odd + keystrokes("BC\rPF1:NEXT\r"))
    assert framer.feed(typed) == [Read("PF1:NEXT")]
    assert framer.damaged_lines == 1


def test_a_shift_that_was_lost_does_not_stay():
    reader = KeyReader()
    reader.feed(press(wedge.KEY_LEFT_SHIFT, 1) + EVENT.pack(0, 0, wedge.EV_SYN, wedge.SYN_DROPPED, 0))
    assert reader.feed(strokes(30)) == b"a"
    assert reader.lost == 1


@given(st.text(TYPEABLE, max_size=40), st.lists(st.integers(0, 4000), max_size=8))
def test_what_is_typed_is_read_in_any_pieces(text, cuts):
    events = keystrokes(text + "\r")
    reader, typed, last = KeyReader(), b"", 0
    for cut in [*sorted(cut for cut in cuts if cut < len(events)), len(events)]:
        typed += reader.feed(events[last:cut])
        last = cut
    assert typed == text.encode() + b"\r"


@given(st.binary(max_size=600), st.integers(0, 600))
def test_any_bytes_are_events_or_nothing(data, cut):
    whole, pieces = KeyReader(), KeyReader()
    assert whole.feed(data) == pieces.feed(data[:cut]) + pieces.feed(data[cut:])


@pytest.mark.parametrize("text", ["中", "é", "\x00", "\x7f"])
def test_what_a_us_keyboard_has_no_key_for_cannot_be_typed(text):
    with pytest.raises(WedgeError):
        keystrokes(text)
