"""The pure parts of the turnstile drivers: languages over a line that loses, standings, own counts, models.

Time is a number here.  The properties run rules and language together against a small model of the board, with
commands and answers lost at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Barrier
from drivers.turnstile import (
    LANGUAGES,
    MODELS,
    Buses,
    CommandLacking,
    Listener,
    Standing,
    check_people,
    check_standing,
    model_of,
    release_bytes,
)
from drivers.turnstile._speech import Act, Order, Posture, Reading, Style
from drivers.turnstile._tally import OwnCount, Step, Tally
from drivers.turnstile._wishes import (
    CLOSE_TRY_S,
    FOLLOW_S,
    STAND_TRIES,
    TURN_MAX_S,
    Wishes,
)
from drivers.turnstile.board4 import Board4Dialect
from drivers.turnstile.digicon import DigiconDialect
from drivers.turnstile.machpower import MachPowerDialect
from drivers.turnstile.tpw import TpwDialect
from protocols import board4, digicon, machpower, tpw
from protocols.digicon import Code
from protocols.messages import Counters, Direction
from protocols.tpw import Kind, Mode, Passing

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
TICK_S = 0.05
losses = st.floats(0.0, 0.9)


# --- Digicon over a line that loses -----------------------------------------------------------------------------------


class DigiconModel:
    """Each release lets in one more; a passage is said once."""

    def __init__(self) -> None:
        self.credit = 0
        self.entered = 0
        self.free = False

    def obey(self, data: bytes) -> bytes:
        if data == digicon.encode_probe():
            return digicon.encode(Code.NAK)
        frame = digicon.decode(data)
        if frame.code is Code.LEFT_TO_RIGHT:
            self.credit += 1
        elif frame.code is Code.FREE:
            self.free = True
        elif frame.code is Code.CONTROL:
            self.credit, self.free = 0, False
        return digicon.encode(Code.ACK)

    def walk(self) -> bytes:
        self.credit -= 1
        self.entered += 1
        return digicon.encode(Code.PASSED_LEFT_TO_RIGHT)


class Talk:
    """Rules, language and counts of one board, without a line."""

    def __init__(self, dialect: Any, count: Any) -> None:
        self.dialect = dialect
        self.wishes = Wishes(dialect.style)
        self.count = count

    def say(self, now: float) -> tuple[Order | None, bytes] | None:
        order = self.wishes.due(now)
        if order is None and not self.wishes.released:
            order = self.dialect.order()
        data = self.dialect.poll() if order is None else self.dialect.command(order)
        if data is None:
            return None
        self.dialect.asking(order, now)
        return order, data

    def hear(self, frame: Any, now: float) -> None:
        heard = self.dialect.hear(frame, now)
        if heard is not None and heard.reading is not None:
            self.observe(heard.reading, now)

    def observe(self, reading: Reading, now: float) -> None:
        if reading.counts is not None:
            self.count.read(*reading.counts)
        elif reading.passed is not None:
            self.count.said(reading.passed)
        if self.count.counts is not None:
            self.wishes.observe(reading, self.count.counts, now)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), commands=losses, answers=losses, pax=st.integers(1, 5), eager=st.floats(0.0, 0.5))
def test_digicon_whatever_is_lost_lets_in_at_most_the_people_of_the_grant(
    seed: int, commands: float, answers: float, pax: int, eager: float
) -> None:
    rng = random.Random(seed)
    board, talk = DigiconModel(), Talk(DigiconDialect(), OwnCount(lambda: "own"))
    for tick in range(400):
        now = tick * TICK_S
        if tick == 20:
            talk.wishes.open(ENTRY, pax, now + 3.0, now)
        said = talk.say(now)
        if said is not None and rng.random() >= commands:
            answer = board.obey(said[1])
            if rng.random() >= answers:
                talk.hear(digicon.decode(answer), now)
            else:
                talk.dialect.missed(now)
        elif said is not None:
            talk.dialect.missed(now)
        if board.credit and rng.random() < eager:
            passed = board.walk()
            if rng.random() >= answers:
                talk.hear(digicon.decode(passed), now)
        assert board.entered <= pax
    assert board.entered + board.credit <= pax


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), commands=st.floats(0.0, 0.7), answers=st.floats(0.0, 0.7))
def test_digicon_whatever_is_lost_a_release_frees_and_re_arming_ends_it(
    seed: int, commands: float, answers: float
) -> None:
    rng = random.Random(seed)
    board, talk = DigiconModel(), Talk(DigiconDialect(), OwnCount(lambda: "own"))
    for tick in range(1200):
        now = tick * TICK_S
        if tick == 100:
            talk.wishes.release()
        if tick == 600:
            assert board.free
            talk.wishes.rearm(now)
        said = talk.say(now)
        if said is not None and rng.random() >= commands:
            answer = board.obey(said[1])
            if rng.random() >= answers:
                talk.hear(digicon.decode(answer), now)
                continue
        talk.dialect.missed(now)
        if tick > 900:
            commands = answers = 0.0
    assert not board.free or "re-arm given up" in talk.wishes.refused


def test_digicon_a_refused_command_was_not_carried_out() -> None:
    talk = Talk(DigiconDialect(), OwnCount(lambda: "own"))
    talk.dialect.asking(None, 0.0)
    talk.hear(digicon.Frame(Code.NAK), 0.0)
    talk.wishes.open(ENTRY, 1, 9.0, 0.0)
    assert talk.say(0.1) == (Order(Act.OPEN, ENTRY, 1, 9.0), digicon.encode(Code.LEFT_TO_RIGHT))
    talk.hear(digicon.Frame(Code.NAK), 0.15)
    sent = []
    for tick in range(4, 40):
        said = talk.say(tick * TICK_S)
        assert said is not None
        sent.append(said[0])
        talk.hear(digicon.Frame(Code.NAK if said[0] is None else Code.ACK), tick * TICK_S)
    assert [order for order in sent if order is not None] == [Order(Act.OPEN, ENTRY, 1, 9.0)]


def test_digicon_own_words_that_an_adapter_echoes_are_not_the_board_s() -> None:
    dialect = DigiconDialect()
    for code in (Code.LEFT_TO_RIGHT, Code.CONTROL):
        assert dialect.hear(digicon.Frame(code), 0.0) is None
    assert dialect.hear(digicon.Frame(Code.FREE, Code.BOTH), 0.0) is None


# --- TPW over a line that loses ---------------------------------------------------------------------------------------


class Loss:
    """Says of each frame whether it is lost."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self.share = share
        self._rng = rng

    def __call__(self) -> bool:
        return self._rng.random() < self.share


class TpwModel:
    """Modes that stay, two counters."""

    def __init__(self) -> None:
        self.mode = Mode.NORMALLY_CLOSED
        self.passing = (Passing.CONTROLLED, Passing.CONTROLLED)
        self.entries = 0

    def parameters(self) -> list[tpw.Frame]:
        """What it tells, one by one."""
        return [
            tpw.Frame(1, Kind.CONNECT),
            tpw.Frame(1, Kind.MODEL, "TPW"),
            tpw.Frame(1, Kind.VERSION, "V9"),
            tpw.Frame(1, Kind.MODE, self.mode),
            tpw.Frame(1, Kind.PASSAGE, "".join(self.passing)),
            tpw.Frame(1, Kind.ENTRIES, f"{self.entries:06d}"),
            tpw.Frame(1, Kind.EXITS, "000000"),
            tpw.Frame(1, Kind.SENSITIVITY, "3"),
        ]

    def obey(self, frame: tpw.Frame) -> tpw.Frame:
        match frame.kind:
            case Kind.MODE:
                self.mode = tpw.mode(frame)
            case Kind.PASSAGE:
                self.passing = tpw.passing(frame)
            case Kind.READ if frame.content == "0":
                return tpw.Frame(1, Kind.ENTRIES, f"{self.entries:06d}")
            case Kind.READ:
                return tpw.Frame(1, Kind.EXITS, "000000")
        return tpw.Frame(1, Kind.DONE)


def exchanged(
    talk: Talk,
    board: TpwModel,
    question: bytes,
    now: float,
    command_is_lost: Callable[[], bool],
    answer_is_lost: Callable[[], bool],
) -> bool:
    """One question and what follows from it; False when it was not answered."""
    first = True
    told = iter(board.parameters())
    data: bytes | None = question
    while data is not None:
        if command_is_lost():
            return not first
        frame = tpw.decode(data, addressed=True)
        answer = next(told, None) if frame.kind is Kind.CONNECT else board.obey(frame)
        if answer is None or answer_is_lost():
            return not first
        talk.hear(answer, now)
        owed = talk.dialect.follow()
        data = owed.frame if owed is not None and owed.answered else None
        first = False
    return True


def connected(talk: Talk, board: TpwModel, now: float) -> None:
    """The long conversation at the beginning, without losses."""
    assert talk.say(now) == (None, tpw.connect(1))
    for frame in board.parameters():
        talk.hear(frame, now)
        owed = talk.dialect.follow()
        assert owed is not None and owed.frame == tpw.connect(1)
        assert owed.answered is (frame.kind is not Kind.SENSITIVITY)


def tpw_talk() -> Talk:
    return Talk(TpwDialect(1), Tally("0", lambda: "new", modulus=10**6))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), commands=st.floats(0.0, 0.6), answers=st.floats(0.0, 0.6), pax=st.integers(1, 3))
def test_tpw_whatever_is_lost_a_turn_ends_closed_when_the_line_is_sound_again(
    seed: int, commands: float, answers: float, pax: int
) -> None:
    rng = random.Random(seed)
    command_lost, answer_lost = Loss(rng, commands), Loss(rng, answers)
    board, talk = TpwModel(), tpw_talk()
    connected(talk, board, 0.0)
    for tick in range(1, 450):
        now = tick * TICK_S
        if tick == 20:
            talk.wishes.open(ENTRY, pax, now + 3.0, now)
        if tick == 250:
            talk.wishes.close(now)  # the lane's time is over
        if tick == 300:
            command_lost.share = answer_lost.share = 0.0
        said = talk.say(now)
        assert said is not None
        if not exchanged(talk, board, said[1], now, command_lost, answer_lost):
            talk.dialect.missed(now)
        if board.mode is Mode.ENTRY_OPEN and rng.random() < 0.1:
            board.entries += 1
    assert board.mode is Mode.NORMALLY_CLOSED


def test_tpw_home_is_what_was_set_up_and_not_what_a_release_left() -> None:
    talk, board = tpw_talk(), TpwModel()
    board.passing, board.mode = (Passing.FREE, Passing.FREE), Mode.NORMALLY_OPEN
    connected(talk, board, 0.0)
    talk.wishes.rearm(0.0)
    said = talk.say(0.0)
    assert said is not None and said[1] == tpw.set_passing(1, Passing.CONTROLLED, Passing.CONTROLLED)


def test_tpw_modes_are_read_back_now_and_then_and_a_stray_opening_is_ended() -> None:
    """An acknowledgement that was another's: the server believes it closed, and it is not."""
    talk, board = tpw_talk(), TpwModel()
    connected(talk, board, 0.0)
    board.mode = Mode.ENTRY_OPEN
    for tick in range(1, 600):
        said = talk.say(tick * TICK_S)
        assert said is not None
        exchanged(talk, board, said[1], tick * TICK_S, lambda: False, lambda: False)
        if board.mode is Mode.NORMALLY_CLOSED:
            return
    raise AssertionError("never noticed")


def test_tpw_a_setting_without_an_answer_is_read_back_before_anything_is_believed() -> None:
    talk, board = tpw_talk(), TpwModel()
    connected(talk, board, 0.0)
    talk.hear(tpw.Frame(1, Kind.ENTRIES, "000000"), 0.1)  # counts are believed when a second reading agrees
    talk.wishes.open(ENTRY, 1, 9.0, 0.1)
    said = talk.say(0.1)
    assert said is not None and said[1] == tpw.set_mode(1, Mode.ENTRY_OPEN)
    board.obey(tpw.decode(said[1], addressed=True))
    talk.dialect.missed(0.4)
    assert talk.say(0.5) == (None, tpw.connect(1))


def test_tpw_of_another_address_is_not_heard() -> None:
    assert TpwDialect(1).hear(tpw.Frame(2, Kind.DONE), 0.0) is None
    assert TpwDialect(None).hear(tpw.Frame(None, Kind.DONE), 0.0) is not None


def test_tpw_an_odd_count_is_read_again_before_it_is_believed() -> None:
    talk, board = tpw_talk(), TpwModel()
    connected(talk, board, 0.0)
    talk.hear(tpw.Frame(1, Kind.ENTRIES, "000001"), 0.1)
    talk.hear(tpw.Frame(1, Kind.ENTRIES, "900001"), 0.2)
    assert talk.count.counts == Counters("0", 1, 0)
    talk.hear(tpw.Frame(1, Kind.ENTRIES, "000002"), 0.3)
    assert talk.count.counts == Counters("0", 2, 0)


# --- Mach Power -------------------------------------------------------------------------------------------------------


def commands_of(data: bytes) -> list[machpower.Command]:
    return [frame.command for frame in machpower.framer().feed(data)]


def test_machpower_never_leaves_a_ban_behind() -> None:
    """Whatever single frame of an order is lost, the next order that opens lifts a ban first."""
    dialect = MachPowerDialect(1, arm=True)
    for order in (Order(Act.OPEN, ENTRY), Order(Act.RELEASE)):
        assert commands_of(dialect.command(order))[0] is machpower.Command.RECOVER
    assert commands_of(dialect.command(Order(Act.CLOSE, ENTRY)))[-1] is machpower.Command.RECOVER


def test_machpower_open_is_over_when_its_time_is() -> None:
    dialect = MachPowerDialect(1, arm=True, open_s=4.0)
    assert dialect.tick(0.0) is not None and dialect.tick(0.1) is None
    dialect.asking(Order(Act.OPEN, ENTRY), 1.0)
    opened = dialect.tick(1.0)
    assert opened is not None and opened.is_turn(ENTRY) and not opened.sensed and opened.passed is None
    counted = dialect.tick(1.1)
    assert counted is not None and counted.passed is ENTRY
    assert dialect.tick(4.9) is None
    closed = dialect.tick(5.0)
    assert closed is not None and closed.posture is Posture.CLOSED


def test_machpower_an_opening_that_could_not_be_sent_is_no_passage() -> None:
    dialect = MachPowerDialect(1, arm=True)
    dialect.asking(Order(Act.OPEN, ENTRY), 1.0)
    dialect.lost()  # the line broke in the sending
    readings = [dialect.tick(1.0 + tick * 0.1) for tick in range(100)]
    assert not any(reading is not None and reading.passed for reading in readings)


def test_machpower_swing_opens_the_way_out_in_a_release() -> None:
    dialect = MachPowerDialect(1, arm=False)
    assert commands_of(dialect.command(Order(Act.RELEASE))) == [machpower.Command.RECOVER, machpower.Command.LEFT_OPEN]
    assert Standing.ARM_DROPPED not in dialect.style.stand_steps


# --- rules ------------------------------------------------------------------------------------------------------------

STYLE = Style(
    pax_max=9,
    release_steps=1,
    rearm_steps=1,
    stand_steps={Standing.LOCKED: 1, Standing.HELD: 1},
    closes_itself=False,
)
NOBODY = Counters("0", 0, 0)


def seen(posture: Posture, facing: Direction | None = None, standing: Standing | None = None) -> Reading:
    return Reading(posture=posture, facing=facing, standing=standing)


def keeping() -> Wishes:
    """Rules for a board that keeps an opening until it is closed."""
    made = Wishes(STYLE)
    made.observe(seen(Posture.CLOSED), NOBODY, 0.0)
    return made


def test_a_board_that_keeps_open_is_closed_when_all_have_passed() -> None:
    made = keeping()
    made.open(ENTRY, 2, 5.0, 0.0)
    assert made.due(0.0) == Order(Act.OPEN, ENTRY, 2, 5.0)
    made.observe(seen(Posture.OPEN, ENTRY), Counters("0", 1, 0), 0.2)
    assert made.due(0.2) is None
    made.observe(seen(Posture.OPEN, ENTRY), Counters("0", 2, 0), 0.4)
    assert made.due(0.4) == Order(Act.CLOSE, ENTRY)


def test_a_board_that_keeps_open_is_closed_when_nobody_says_so_for_too_long() -> None:
    made = keeping()
    made.open(ENTRY, 2, 5.0, 0.0)
    assert made.due(0.0) is not None
    made.observe(seen(Posture.OPEN, ENTRY), NOBODY, TURN_MAX_S - 0.1)
    assert made.due(TURN_MAX_S - 0.1) is None
    made.observe(seen(Posture.OPEN, ENTRY), NOBODY, TURN_MAX_S)
    assert made.due(TURN_MAX_S) == Order(Act.CLOSE, ENTRY)


def test_a_board_that_keeps_open_for_nobody_known_is_closed() -> None:
    made = keeping()
    made.lost()
    made.observe(seen(Posture.OPEN, EXIT), NOBODY, 1.0)
    assert made.due(1.0) == Order(Act.CLOSE, EXIT)


def test_an_open_that_was_never_confirmed_is_closed_on_a_board_that_would_keep_it() -> None:
    made = keeping()
    made.open(ENTRY, 1, 1.0, 0.0)
    assert made.due(0.0) is not None
    made.observe(seen(Posture.UNKNOWN), NOBODY, 1.1)
    assert made.due(1.1) == Order(Act.CLOSE, ENTRY)


def test_who_follows_soon_after_the_last_is_noticed_and_who_comes_later_is_not() -> None:
    for late_s, followed in ((FOLLOW_S - 0.1, True), (FOLLOW_S + 0.1, False)):
        made = keeping()
        made.open(ENTRY, 1, 5.0, 0.0)
        assert made.due(0.0) is not None
        made.observe(seen(Posture.OPEN, ENTRY), Counters("0", 1, 0), 1.0)
        assert not made.followed
        made.observe(seen(Posture.CLOSED), Counters("0", 2, 0), 1.0 + late_s)
        assert made.followed is followed


def test_two_at_once_on_one_opening_are_noticed() -> None:
    made = keeping()
    made.open(ENTRY, 1, 5.0, 0.0)
    assert made.due(0.0) is not None
    made.observe(seen(Posture.OPEN, ENTRY), Counters("0", 2, 0), 1.0)
    assert made.followed


def test_a_standing_is_sent_until_confirmed() -> None:
    made = keeping()
    made.stand(Standing.LOCKED, 0.0)
    assert made.due(0.0) == Order(Act.STAND, standing=Standing.LOCKED)
    made.observe(seen(Posture.CLOSED, standing=Standing.LOCKED), NOBODY, 0.1)
    assert [made.due(tick * 0.1) for tick in range(1, 40)] == [None] * 39
    assert made.standing is Standing.LOCKED


def test_a_standing_that_nobody_confirms_is_sent_a_few_times() -> None:
    made = keeping()
    made.stand(Standing.LOCKED, 0.0)
    assert sum(made.due(tick * 0.1) is not None for tick in range(100)) == STAND_TRIES


def test_one_standing_after_another_ends_the_first() -> None:
    made = keeping()
    made.stand(Standing.HELD, 0.0)
    made.stand(Standing.LOCKED, 0.0)
    assert [made.due(0.0), made.due(0.0)] == [
        Order(Act.UNSTAND, standing=Standing.HELD),
        Order(Act.STAND, standing=Standing.LOCKED),
    ]


def test_a_standing_is_taken_up_again_by_a_board_that_was_away() -> None:
    made = keeping()
    made.stand(Standing.LOCKED, 0.0)
    made.observe(seen(Posture.CLOSED, standing=Standing.LOCKED), NOBODY, 0.1)
    made.lost()
    made.observe(seen(Posture.CLOSED, standing=Standing.NORMAL), NOBODY, 5.0)
    assert made.due(5.0) == Order(Act.STAND, standing=Standing.LOCKED)


def test_a_release_ends_a_lock_and_re_arming_leaves_the_lane_normal() -> None:
    made = keeping()
    made.stand(Standing.LOCKED, 0.0)
    assert made.due(0.0) is not None
    made.release()
    assert [made.due(0.1), made.due(0.1)] == [Order(Act.UNSTAND, standing=Standing.LOCKED), Order(Act.RELEASE)]
    made.stand(Standing.LOCKED, 0.2)
    assert "released" in made.refused and made.standing is Standing.NORMAL
    made.rearm(1.0)
    assert made.due(1.0) == Order(Act.REARM)
    made.observe(seen(Posture.CLOSED), NOBODY, 1.1)
    made.open(ENTRY, 1, 9.0, 1.2)
    assert made.due(1.2) == Order(Act.OPEN, ENTRY, 1, 9.0)


@pytest.mark.parametrize(
    ("standing", "direction", "allowed"),
    [
        (Standing.LOCKED, ENTRY, False),
        (Standing.HELD, EXIT, False),
        (Standing.FREE_EXIT, ENTRY, True),
        (Standing.FREE_EXIT, EXIT, False),
        (Standing.FREE_ENTRY, EXIT, True),
        (Standing.NORMAL, ENTRY, True),
    ],
)
def test_an_opening_makes_sense_in_some_standings_only(
    standing: Standing, direction: Direction, allowed: bool
) -> None:
    made = Wishes(Style(pax_max=1, release_steps=1, rearm_steps=1, stand_steps=dict.fromkeys(Standing, 1)))
    made.observe(seen(Posture.CLOSED), NOBODY, 0.0)
    made.stand(standing, 0.0)
    made.open(direction, 1, 9.0, 0.0)
    assert (not made.refused) is allowed


def test_a_closing_of_a_kept_opening_is_given_up_after_a_while_and_said() -> None:
    made = keeping()
    made.open(ENTRY, 1, 5.0, 0.0)
    made.due(0.0)
    made.close(0.1)
    sent = 0
    for tick in range(100):
        made.observe(seen(Posture.UNKNOWN), NOBODY, tick * 0.1)
        sent += made.due(tick * 0.1) is not None
    assert sent >= CLOSE_TRY_S / 0.5 and "does not close" in made.refused


# --- own counts -------------------------------------------------------------------------------------------------------


def test_own_counts_begin_in_an_epoch_of_their_own() -> None:
    made = OwnCount(lambda: "fresh")
    assert made.counts == Counters("fresh", 0, 0)
    assert made.said(ENTRY) == Step(entries=1) and made.said(EXIT) == Step(exits=1)
    assert made.counts == Counters("fresh", 1, 1)
    assert made.read(5, 5) == Step()


def test_own_counts_go_on_above_the_books_with_those_who_passed_meanwhile() -> None:
    made = OwnCount(lambda: "fresh")
    made.said(ENTRY)
    made.resume("booked", 10, 20)
    assert made.counts == Counters("booked", 11, 20)
    made.resume("booked", 10, 20)  # the lane asks again, before it has booked that one
    assert made.counts == Counters("booked", 11, 20)
    made.said(EXIT)
    made.resume("booked", 11, 20)
    assert made.counts == Counters("booked", 11, 21)


def test_own_counts_take_no_second_epoch() -> None:
    made = OwnCount(lambda: "fresh")
    made.resume("booked", 1, 1)
    made.resume("other", 50, 50)
    assert made.counts == Counters("booked", 1, 1)


@given(st.lists(st.sampled_from(["entry", "exit", "resume", "lane"]), max_size=40), st.integers(0, 9))
def test_own_counts_never_go_back_and_lose_nobody(steps: list[str], booked: int) -> None:
    made = OwnCount(lambda: "fresh")
    entries = exits = 0
    base: tuple[int, int] | None = None
    for step in steps:
        before = made.counts
        if step == "entry":
            made.said(ENTRY)
            entries += 1
        elif step == "exit":
            made.said(EXIT)
            exits += 1
        elif step == "resume" and base is None:
            made.resume("booked", booked, booked)
            base = (booked, booked)
        else:
            made.resume(before.epoch, 0, 0)  # older knowledge
            base = base or (0, 0)
        after = made.counts
        assert after.epoch != before.epoch or (after.entries >= before.entries and after.exits >= before.exits)
    began = base or (0, 0)
    assert (made.counts.entries, made.counts.exits) == (began[0] + entries, began[1] + exits)


# --- models and lines -------------------------------------------------------------------------------------------------


def test_every_language_has_a_usual_model_and_every_model_a_language() -> None:
    assert {model.language for model in MODELS.values()} == set(LANGUAGES)
    for language in LANGUAGES:
        assert model_of(language).language == language
    for name, model in MODELS.items():
        assert model_of(model.language, name) is model


@pytest.mark.parametrize("name", MODELS)
def test_the_table_of_models_says_what_the_languages_do(name: str) -> None:
    model = MODELS[name]
    dialect = Buses().gate(model.language, model=name, path="/dev/null").dialect
    assert set(dialect.style.stand_steps) | {Standing.NORMAL} == set(model.standings)
    assert model.capabilities.drop_arm is (Standing.ARM_DROPPED in model.standings)
    assert model.broadcast is dialect.broadcasts
    for standing in model.standings - {Standing.NORMAL}:
        for act in (Act.STAND, Act.UNSTAND):
            for step in range(dialect.style.stand_steps[standing]):
                assert dialect.command(Order(act, step=step, standing=standing))


@pytest.mark.parametrize(
    ("language", "model", "words"),
    [("board5", "", "not one of"), ("board4", "Tx1500", "not one of"), ("tpw", "TPW-999", "TPW-321ASP")],
)
def test_an_unknown_language_or_model_is_refused_with_the_list(language: str, model: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model_of(language, model)


def test_a_group_that_a_model_cannot_let_in_is_refused_at_check_time() -> None:
    blind = model_of("machpower")
    check_people(blind, 1)
    with pytest.raises(CommandLacking, match="lets in 1"):
        check_people(blind, 2)
    check_people(blind, 2, sensor=True)
    check_people(model_of("board4"), 255)
    with pytest.raises(CommandLacking):
        check_people(model_of("tpw"), 256)


def test_a_standing_that_is_lacking_is_refused_at_check_time() -> None:
    check_standing(model_of("digicon"), Standing.FREE)
    with pytest.raises(CommandLacking, match="cannot stand locked"):
        check_standing(model_of("digicon"), Standing.LOCKED)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either a path or a host"),
        ({"path": "/dev/x", "host": "h"}, "either a path or a host"),
        ({"path": "/dev/x", "baud": 1234}, "baud 1234"),
        ({"path": "/dev/x", "address": 0}, "address 0"),
        ({"path": "/dev/x", "address": 256}, "address 256"),
        ({"path": "/dev/x", "entry_is": "up"}, "left or right"),
        ({"path": "/dev/x", "escape": ()}, "escape direction"),
        ({"host": "h", "language": "digicon"}, "not reached by udp"),
        ({"host": "h", "language": "machpower"}, "not reached by udp"),
        ({"host": "h", "language": "tpw"}, "name the port"),
        ({"host": "h", "port": 70000}, "name the port"),
        ({"path": "/dev/x", "language": "machpower", "address": -1}, "address -1"),
        ({"path": "/dev/x", "language": "tpw", "address": 256}, "address 256"),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    arguments = dict(arguments)
    language = arguments.pop("language", "board4")
    with pytest.raises(ValueError, match=words):
        Buses().gate(language, **arguments)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"address": 1}, "board 1 already"),
        ({"address": 2, "baud": 19200}, "19200 and 9600 baud"),
        ({"language": "tpw", "address": 2}, "cannot share a line"),
    ],
)
def test_checking_refuses_what_a_line_cannot_carry_and_serving_waits(second: dict[str, Any], words: str) -> None:
    second = dict(second)
    language = second.pop("language", "board4")
    checking, serving = Buses(strict=True), Buses()
    for buses in (checking, serving):
        buses.gate("board4", path="/dev/x", address=1)
    with pytest.raises(ValueError, match=words):
        checking.gate(language, path="/dev/x", **second)
    serving.gate(language, path="/dev/x", **second)
    checking.gate("board4", path="/dev/y", address=1)


def test_two_digicon_boards_cannot_share_a_line() -> None:
    buses = Buses(strict=True)
    buses.gate("digicon", path="/dev/x", address=1)
    with pytest.raises(ValueError, match="already"):
        buses.gate("digicon", path="/dev/x", address=2)


# --- any story at all -------------------------------------------------------------------------------------------------

STEPS = ("order", "poll", "noise", "frame", "missed", "lost", "tick", "passed", "follow")
FRAMES: dict[str, Any] = {
    "board4": st.builds(
        lambda code, *counts: board4.encode_status(board4.Status(1, board4.State.UNLISTED, *counts, code)),
        st.integers(0, 255),
        st.integers(0, 2**24 - 1),
        st.integers(0, 2**24 - 1),
    ),
    "machpower": st.sampled_from([machpower.encode(1, command) for command in machpower.Command]),
    "digicon": st.sampled_from(
        [digicon.encode(code) for code in Code if code not in (Code.FREE, Code.PROGRAM)]
        + [digicon.encode(Code.FREE, Code.BOTH)]
    ),
    "tpw": st.one_of(
        st.sampled_from([tpw.connect(1), tpw.done(1), *(tpw.set_mode(1, mode) for mode in Mode)]),
        st.builds(
            lambda kind, value: tpw.encode(tpw.Frame(1, kind, str(value))),
            st.sampled_from([Kind.ENTRIES, Kind.EXITS]),
            st.integers(0, 10**12 - 1),
        ),
        st.builds(lambda pair: tpw.encode(tpw.Frame(1, Kind.PASSAGE, pair)), st.text("0123", min_size=2, max_size=2)),
    ),
}


@pytest.mark.parametrize("name", ["board4-wing", "AC-ATRI-018", "Tx1500", "TPW-tripod"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_story_of_a_line_breaks_a_language_and_a_release_always_has_its_commands(
    name: str, data: st.DataObject
) -> None:
    model = MODELS[name]
    dialect = Buses().gate(model.language, model=name, path="/dev/null").dialect
    framer = dialect.framer()
    orders = [
        *(Order(act, direction) for act in (Act.OPEN, Act.CLOSE) for direction in Direction),
        *(Order(Act.RELEASE, step=step) for step in range(dialect.style.release_steps)),
        *(Order(Act.REARM, step=step) for step in range(dialect.style.rearm_steps)),
        *(Order(act, standing=each) for act in (Act.STAND, Act.UNSTAND) for each in dialect.style.stand_steps),
    ]
    now = 0.0
    for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=25)):
        now += 0.1
        match step:
            case "order":
                order = dialect.order() or data.draw(st.sampled_from(orders))
                assert dialect.command(order)
                dialect.asking(order, now)
            case "poll":
                if dialect.poll() is not None:
                    dialect.asking(None, now)
            case "noise" | "frame":
                said = data.draw(st.binary(max_size=30) if step == "noise" else FRAMES[model.language])
                for frame in framer.feed(said):
                    heard = dialect.hear(frame, now)
                    assert heard is None or heard.reading is None or heard.reading.word
            case "missed":
                dialect.missed(now)
            case "lost":
                dialect.lost()
            case "tick":
                dialect.tick(now)
            case "passed":
                dialect.passed(data.draw(st.sampled_from(Direction)), now)
            case "follow":
                dialect.follow()
    for each in range(dialect.style.release_steps):
        assert dialect.command(Order(Act.RELEASE, step=each))


# --- releasing beside a server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_released_without_a_driver(name: str) -> None:
    model = MODELS[name]
    data = release_bytes(model.language, 3, model=name)
    assert data
    match model.language:
        case "board4":
            first = board4.decode_command(board4.decode_frame(data[:16]))
            assert first == board4.Command(3, board4.Action.EXIT_HOLD)
            assert board4.decode_lock(board4.decode_frame(data[16:])) is False
        case "machpower":
            assert commands_of(data)[-1] in (machpower.Command.DROP_ARM, machpower.Command.LEFT_OPEN)
        case "digicon":
            assert digicon.decode(data) == digicon.Frame(Code.FREE, Code.RIGHT_TO_LEFT)
        case _:
            frames = tpw.framer(addressed=True).feed(data)
            assert frames[:2] == [
                tpw.Frame(3, Kind.MODE, Mode.NORMALLY_OPEN),
                tpw.Frame(3, Kind.PASSAGE, "11"),
            ]


def test_a_listener_hears_what_its_board_senses_and_nothing_of_others() -> None:
    listener = Listener("board4", 3)
    assert listener.senses and listener.query == board4.query(3)
    for address, state, barriers in (
        (3, board4.State.OPEN_IDLE, [Barrier.RELEASED]),
        (3, board4.State.CLOSED_IDLE, [Barrier.CLOSED]),
        (3, board4.State.TAILGATING, []),
        (4, board4.State.OPEN_IDLE, []),
    ):
        assert listener.feed(board4.encode_status(board4.status(address, state, 0, 0))) == barriers
    assert listener.feed(b"noise" + board4.exit_hold(3)) == []


@pytest.mark.parametrize("language", ["machpower", "digicon", "tpw"])
def test_a_listener_believes_no_board_that_senses_nothing(language: str) -> None:
    listener = Listener(language, 1)
    assert not listener.senses and listener.query == b""
    said = {
        "machpower": machpower.encode(1, machpower.Command.DROP_ARM),
        "digicon": digicon.encode(Code.ACK),
        "tpw": tpw.done(1),
    }[language]
    assert listener.feed(said) == []


def test_board_4_hears_its_own_words_from_no_adapter() -> None:
    dialect = Board4Dialect(1)
    for echo in (board4.query(1), board4.exit_hold(1)):
        assert dialect.hear(board4.decode_frame(echo), 0.0) is None
