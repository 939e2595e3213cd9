"""What is done with a card, on the virtual card alone (`sim.pcsc`, our own): torn writes, copies, cards that refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import DeviceError
from drivers.pcsc import CardGone, CardRefused, WrongKey
from drivers.pcsc._card import Card, CardContents, issue, read_contents
from protocols import iccard
from protocols.cardrecord import CardKeys
from protocols.errors import CardError
from protocols.iccard import FACTORY_KEY, KeyKind
from sim.pcsc import VirtualCard

UID = bytes.fromhex("04A1B2C3D4E5F6")
KEYS = CardKeys(b"m" * 32, b"site")
ISSUE_COMMANDS_MAX = 80  # more than issuing takes, so that the last case is one without a fault


class Direct:
    """A channel without a reader. `leave_after` commands more, then the card is away."""

    def __init__(self, card: VirtualCard, leave_after: int = 10**9, *, answered: bool = True) -> None:
        self.card = card
        self.left = leave_after
        self.answered = answered  # whether the last command was still carried out
        card.wake()

    def transmit(self, command: bytes) -> bytes:
        if self.left == 0 and self.answered:
            self.card.answer(command)
        if self.left <= 0:
            raise CardGone("away")
        self.left -= 1
        return self.card.answer(command)

    def reset(self) -> None:
        self.card.wake()


def issued(ticket: int = 7, issue_index: int = 1) -> VirtualCard:
    card = VirtualCard(UID)
    issue(Direct(card), KEYS, ticket, issue_index)
    return card


def contents(card: VirtualCard, keys: CardKeys | None = KEYS) -> CardContents:
    return read_contents(Direct(card), keys)


def test_a_new_card_is_issued_and_says_so() -> None:
    card = VirtualCard(UID)
    made = issue(Direct(card), KEYS, 7, 3)
    assert made == contents(card)
    assert made.uid == UID.hex().upper() and made.record is not None
    assert (made.record.ticket, made.record.issue_index, made.record.sequence) == (7, 3, 1)


def test_issuing_again_supersedes_and_keeps_nothing_of_the_old_issue_readable_as_newer() -> None:
    card = issued(7, 1)
    for index in range(2, 6):
        made = issue(Direct(card), KEYS, 8, index)
        assert made.record is not None and (made.record.issue_index, made.record.sequence) == (index, index)


@pytest.mark.parametrize("answered", [True, False], ids=["last command done", "last command lost"])
@pytest.mark.parametrize("new", [True, False], ids=["new card", "issued card"])
def test_a_card_that_leaves_at_any_moment_keeps_a_record_that_counts(new: bool, answered: bool) -> None:
    outcomes = set()
    for commands in range(ISSUE_COMMANDS_MAX):
        card = VirtualCard(UID) if new else issued(7, 1)
        try:
            issue(Direct(card, commands, answered=answered), KEYS, 8, 2)
            interrupted = False
        except CardGone:
            interrupted = True
        left = contents(card)
        index = None if left.record is None else left.record.issue_index
        outcomes.add((interrupted, index))
        assert index in ((None, 2) if new else (1, 2)), commands
        assert interrupted or index == 2
        # and the next attempt makes it right, whatever was left behind
        again = issue(Direct(card), KEYS, 8, 2)
        assert again.record is not None and again.record.issue_index == 2
    assert outcomes == ({(True, None), (True, 2), (False, 2)} if new else {(True, 1), (True, 2), (False, 2)})


def test_a_copied_number_opens_nothing() -> None:
    card = issued()
    twin = card.copy_of()
    assert contents(twin) == CardContents(uid=UID.hex().upper(), reason="wrong_key")


def test_a_copy_with_our_keys_on_another_number_is_not_authentic() -> None:
    """Whoever got the keys of one card and its data has that card, and no other."""
    card = issued()
    other = VirtualCard(bytes.fromhex("04000000000001"))
    for sector in KEYS.sectors:
        first = iccard.first_block(sector)
        other.blocks[first : first + 3] = card.blocks[first : first + 3]
        kinds = [KEYS.sector_key(other.uid, sector, kind) for kind in (KeyKind.A, KeyKind.B)]
        other.blocks[first + 3] = iccard.trailer(kinds[0], kinds[1])
    assert contents(other).reason == "not_authentic"


def test_a_card_of_another_site_is_said_to_be_one() -> None:
    card = issued()
    assert contents(card, CardKeys(b"m" * 32, b"else")).reason == "other_site"
    assert contents(card, CardKeys(b"n" * 32, b"site")).reason == "wrong_key"
    assert contents(card, None) == CardContents(uid=UID.hex().upper())


def test_a_card_that_is_neither_new_nor_ours_is_not_written() -> None:
    card = VirtualCard(UID)
    for sector in KEYS.sectors:
        card.blocks[iccard.trailer_block(sector)] = iccard.trailer(b"theirs", b"theirs")
    before = list(card.blocks)
    with pytest.raises(WrongKey):
        issue(Direct(card), KEYS, 7, 1)
    assert card.blocks == before


def test_a_card_that_keeps_nothing_is_not_issued() -> None:
    card = VirtualCard(UID)
    card.forgets = True
    with pytest.raises(CardRefused, match="does not keep"):
        issue(Direct(card), KEYS, 7, 1)
    old = issued(7, 1)
    old.forgets = True
    with pytest.raises(CardRefused, match="does not keep"):
        issue(Direct(old), KEYS, 8, 2)
    old.forgets = False
    left = contents(old)
    assert left.record is not None and left.record.issue_index == 1


def test_key_a_reads_and_does_not_write() -> None:
    card = Card(Direct(issued()))
    sector = KEYS.sectors[0]
    card.open(sector, KeyKind.A, KEYS.sector_key(UID, sector, KeyKind.A))
    card.read(iccard.first_block(sector))
    with pytest.raises(CardRefused):
        card.write(iccard.first_block(sector), bytes(16))
    with pytest.raises(CardRefused):
        card.write_trailer(sector, FACTORY_KEY, FACTORY_KEY)


def test_a_wrong_key_is_an_outcome_of_its_own_and_the_next_key_opens() -> None:
    card = Card(Direct(VirtualCard(UID)))
    with pytest.raises(WrongKey):
        card.open(1, KeyKind.A, b"wrong!")
    with pytest.raises(CardRefused) as refused:
        card.read(4)
    assert refused.value.status == iccard.NOT_AUTHENTICATED
    card.open(1, KeyKind.A, FACTORY_KEY)
    assert card.read(4) == bytes(16)


def test_one_sector_does_not_open_another() -> None:
    card = Card(Direct(VirtualCard(UID)))
    card.open(1, KeyKind.A, FACTORY_KEY)
    with pytest.raises(CardRefused):
        card.read(8)


def test_answers_that_are_too_short_are_no_data() -> None:
    virtual = issued()
    virtual.short = True
    assert contents(virtual).reason == "unreadable"


@given(st.lists(st.binary(max_size=20), max_size=12))
def test_a_card_that_talks_nonsense_raises_only_what_is_promised(answers: list[bytes]) -> None:
    class Nonsense:
        def __init__(self) -> None:
            self.left = list(answers)

        def transmit(self, command: bytes) -> bytes:
            if not self.left:
                raise CardGone("away")
            return self.left.pop(0)

        def reset(self) -> None:
            pass

    for job in (lambda: read_contents(Nonsense(), KEYS), lambda: issue(Nonsense(), KEYS, 1, 1)):
        with pytest.raises((DeviceError, CardError)):
            job()


def test_nothing_secret_is_in_a_repr() -> None:
    assert repr(contents(issued())) == "CardContents(7 bytes of UID, record)"
