"""The OSDP driver's parts without a line: key files, commands, and who is asked when."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from drivers.errors import DeviceError
from drivers.feedback import Colour, Light, Pattern, Sound
from drivers.osdp import KeyFileError, _commands, read_key
from drivers.osdp._seat import Phase, Seat, SeatChannel
from protocols import osdp
from protocols.osdp import Frame

KEY = bytes(range(1, 17))
CCRYPT, PDCAP, RMAC = 0x76, 0x46, 0x78

# --- keys -------------------------------------------------------------------------------------------------------------


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "reader.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_is_32_digits_in_a_file_of_its_owner(tmp_path: Path) -> None:
    assert read_key(key_file(tmp_path, KEY.hex() + "\n")) == KEY
    assert read_key(key_file(tmp_path, f"  {KEY.hex().upper()}  ")) == KEY
    assert issubclass(KeyFileError, DeviceError)


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (KEY.hex(), 0o640, "others may read it (0640)"),
        (KEY.hex(), 0o604, "others may read it (0604)"),
        (KEY.hex()[:-2], 0o600, "not 32 hexadecimal digits"),
        (KEY.hex() + "00", 0o600, "not 32 hexadecimal digits"),
        ("x" * 32, 0o600, "not 32 hexadecimal digits"),
        ("", 0o600, "not 32 hexadecimal digits"),
        ("中" * 32, 0o600, "not 32 hexadecimal digits"),
        ("303132333435363738393a3b3c3d3e3f", 0o600, "the default key"),
        ("0" * 5000, 0o600, "not 32 hexadecimal digits"),
    ],
)
def test_a_key_file_that_cannot_be_used_says_why_and_shows_nothing(
    tmp_path: Path, text: str, mode: int, words: str
) -> None:
    path = key_file(tmp_path, text, mode)
    with pytest.raises(KeyFileError) as caught:
        read_key(path)
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert KEY.hex() not in str(caught.value) and caught.value.__cause__ is None


def test_what_is_no_file_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path, words in ((tmp_path / "fifo", "not a regular file"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(KeyFileError, match=words):
            read_key(path)
    with pytest.raises(KeyFileError):
        read_key(tmp_path)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_times_are_tenths_of_a_second_and_never_nothing_by_rounding() -> None:
    assert [_commands.ticks(ms) for ms in (0, 1, 99, 100, 149, 260, 25_500, 99_999)] == [0, 1, 1, 1, 1, 3, 255, 255]


def test_a_light_for_a_time_and_one_that_stays() -> None:
    timed = _commands.light(Light(colour=Colour.RED, on_ms=300, off_ms=200, lasts_ms=3000))
    assert (timed["temporary"], timed["control_code"], timed["timer_count"]) == (True, 2, 30)
    assert (timed["on_count"], timed["off_count"], timed["on_color"]) == (3, 2, 1)
    stays = _commands.light(Light(colour=Colour.GREEN, lasts_ms=0))
    assert (stays["temporary"], stays["control_code"]) == (False, 1)
    assert stays["on_count"] > 0 and stays["off_count"] == 0


def test_a_buzzer_never_sounds_for_ever() -> None:
    """OSDP takes a count of 0 for that."""
    assert _commands.sound(Sound(count=3))["rep_count"] == 3
    assert _commands.sound(Sound(count=0))["control_code"] == 1  # off


@pytest.mark.parametrize(
    ("words", "shown"), [("Welcome", "Welcome"), ("x" * 40, "x" * 32), ("请" * 12, "请" * 10), ("", None)]
)
def test_a_text_fits_a_display_and_no_character_is_cut(words: str, shown: str | None) -> None:
    command = _commands.text(Pattern(light=Light(colour=Colour.RED), text_zh=words), "zh")
    assert (command and command["data"]) == shown


# --- the seat: what gets out, what gets in, and why a dialogue ended --------------------------------------------------


def seated(key: bytes | None = KEY) -> Seat:
    seat = Seat(5, key, random.Random(1))
    seat.probe()
    return seat


def question(seat: Seat, code: int, sequence: int = 1) -> int:
    return seat.ask(osdp.encode(Frame(address=5, reply=False, sequence=sequence, code=code), mark=True))


def answer(seat: Seat, code: int, sequence: int = 1, data: bytes = b"") -> bool:
    return seat.hear(Frame(address=5, reply=True, sequence=sequence, code=code, data=data))


def test_a_reader_on_probation_is_asked_once() -> None:
    seat = seated()
    assert question(seat, 0x61) == 9
    assert question(seat, 0x61) == -1
    assert len(seat.question) == 9


def test_a_reader_that_is_left_alone_is_not_asked() -> None:
    seat = Seat(5, None, random.Random(1))
    assert question(seat, 0x61) == -1
    seat.kick()
    assert question(seat, 0x61) == -1
    seat.probe()
    seat.give_up()
    assert question(seat, 0x61) == -1


def test_a_reader_that_is_online_may_miss_one_question() -> None:
    seat = seated(None)
    question(seat, 0x61)
    answer(seat, 0x45)
    seat.online()
    assert [question(seat, osdp.POLL) for _ in range(3)] == [9, 9, -1]
    assert answer(seat, osdp.ACK)
    assert question(seat, osdp.POLL) == 9


def test_a_pause_of_ours_is_no_silence_of_the_reader() -> None:
    seat = seated(None)
    question(seat, 0x61)
    seat.now_s = 1.4
    assert not seat.silent
    seat.now_s = 2.4
    seat.paused(1.0)
    assert not seat.silent and seat.on_trial is False
    seat.now_s = 2.6
    assert seat.silent
    seat.now_s = 1e4
    assert seat.stuck
    seat.paused(1e4)
    assert not seat.stuck


def test_only_the_answer_to_the_question_gets_in() -> None:
    seat = seated()
    assert not answer(seat, osdp.ACK)  # nothing was asked
    question(seat, osdp.POLL, sequence=2)
    assert not answer(seat, osdp.ACK, sequence=1)  # to the question before
    assert seat.take(100) == b""
    assert answer(seat, osdp.ACK, sequence=2)
    assert not answer(seat, osdp.ACK, sequence=2)  # said twice
    assert osdp.decode(seat.take(3) + seat.take(100)) == Frame(address=5, reply=True, sequence=2, code=osdp.ACK)
    question(seat, osdp.POLL, sequence=3)
    assert answer(seat, osdp.NAK, sequence=0, data=b"\x04")  # a reader that lost count says so with any number


def test_pieces_of_a_key_exchange_get_in_only_where_they_belong() -> None:
    """The library calls such a reader rogue, aloud, and nothing silences it."""
    seat = seated()
    question(seat, osdp.POLL)
    assert not answer(seat, CCRYPT)
    assert not answer(seat, RMAC)
    assert answer(seat, osdp.ACK)
    question(seat, osdp.CHALLENGE, sequence=2)
    assert not answer(seat, RMAC, sequence=2)
    assert answer(seat, CCRYPT, sequence=2)
    question(seat, osdp.SERVER_CRYPTOGRAM, sequence=3)
    assert answer(seat, RMAC, sequence=3)


def test_a_new_question_forgets_an_answer_that_was_not_fetched() -> None:
    seat = seated()
    question(seat, osdp.POLL)
    answer(seat, osdp.ACK)
    question(seat, osdp.POLL, sequence=2)
    assert seat.take(100) == b""


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xffjunk", bytes(300)])
def test_what_is_no_frame_is_not_sent(data: bytes) -> None:
    assert seated().ask(data) == -1


@pytest.mark.parametrize(
    ("key", "asked", "said", "data", "words"),
    [
        (KEY, osdp.CAP, PDCAP, b"", "no secure channel"),
        (KEY, osdp.CHALLENGE, CCRYPT, b"", "another key"),
        (KEY, osdp.CHALLENGE, osdp.NAK, b"\x05", "no secure channel here"),
        (KEY, osdp.SERVER_CRYPTOGRAM, osdp.NAK, b"\x06", "does not accept our key"),
        (KEY, osdp.SERVER_CRYPTOGRAM, RMAC, b"", "do not fit"),
        (None, osdp.POLL, osdp.NAK, b"\x06", "wants a key"),
        (None, osdp.CAP, osdp.NAK, b"\x06", "wants a key"),
        (None, osdp.CAP, osdp.NAK, b"\x05", ""),
        (KEY, 0x61, 0x45, b"", ""),
        (KEY, 0x61, osdp.NAK, b"\x03", ""),
        (None, osdp.POLL, osdp.NAK, b"", ""),
        (None, osdp.CAP, PDCAP, b"", ""),
    ],
)
def test_why_a_dialogue_ended(key: bytes | None, asked: int, said: int, data: bytes, words: str) -> None:
    seat = seated(key)
    question(seat, asked)
    answer(seat, said, data=data)
    seat.offline()
    assert seat.phase is Phase.OUT
    assert bool(seat.authentication) is bool(words)
    assert words in seat.authentication
    assert seat.next_try_s >= (3.0 if words else 0.1)


def test_a_session_that_a_power_cut_ended_is_no_matter_of_keys() -> None:
    seat = seated()
    question(seat, osdp.CHALLENGE)
    answer(seat, CCRYPT)
    seat.online()
    question(seat, osdp.POLL, sequence=2)
    answer(seat, osdp.ACK, sequence=2)
    question(seat, osdp.POLL, sequence=3)
    answer(seat, osdp.NAK, sequence=3, data=b"\x06")
    seat.offline()
    assert seat.authentication == ""
    assert seat.next_try_s < 1.0


def test_a_channel_without_its_seat_is_harmless() -> None:
    """The library never lets go of it."""
    channel = SeatChannel(seated())
    channel.seat = None
    assert (channel.read(10), channel.write(b"x"), channel.flush()) == (b"", -1, None)
    assert channel.id == SeatChannel(seated(None)).id != 0  # one bus; 0 is the library's word for a free one
