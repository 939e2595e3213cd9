"""A PC/SC reader: at a gate it reports every card that is laid on it, at a desk it reads and issues them.

Watching and working with cards have a context each, so that a desk's command does not wait for the watch.  A restart
of pcscd makes every context worthless: a new one is made, with backoff, for ever.  A card that lay on the reader when
the service went, and still does when it is back, is no second presentation.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import trio

from drivers._statistics import Meter
from drivers.base import Availability, CardRejected, CredentialRead, DeviceDown, DeviceUp, DriverStatistics, Emit
from drivers.errors import DeviceError, DeviceRefused, DeviceUnavailable
from drivers.pcsc._card import CardChannel, CardContents, issue, read_contents
from drivers.pcsc._errors import CardGone, CardRefused, NoCard, ReaderBusy
from drivers.pcsc._service import STATE_MUTE, STATE_PRESENT, STATE_UNAWARE, Context, choose, open_context
from drivers.serial import Backoff
from protocols.cardrecord import CardKeys
from protocols.errors import CardError
from protocols.messages import CredentialKind

T = TypeVar("T")

WATCH_S = 1.0  # the longest that the service is asked to wait for a change
CARD_S = 3.0  # for everything that is done with one card at a gate
CARD_TRIES = 3  # a card at the edge of the field comes and goes
TRY_PAUSE_S = 0.1  # pcscd needs a moment to see that a card is away
BOUNCE_S = 0.5  # a card that was away for less was at the edge of the field: no second presentation
RETURN_S = 2.0  # and so long after the service came back for the one that lay there when it went
BUSY_PAUSE_S = 0.1  # while another program, or our own last job, holds the card


class CardReader:
    """A `drivers.base.Driver` for the PC/SC reader whose name is or contains `reader` (empty: the first one).

    With `keys` a card's record is read and authenticated: `CredentialRead.issue_index` says what it says.  With
    `require_record` a card without an authentic one is not reported as a credential, but as `CardRejected`: a copied
    number alone then opens nothing.  Without it, such a card is a number without an issue index.

    `frames_in` of its statistics counts cards that were read, `bad_frames` those that could not be.  Raises ValueError
    for `require_record` without keys.
    """

    def __init__(
        self,
        reader: str = "",
        *,
        keys: CardKeys | None = None,
        require_record: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        if require_record and keys is None:
            raise ValueError("a record can only be required where there are keys to read it")
        self._reader = reader
        self._keys = keys
        self._require_record = require_record
        self._meter = Meter()
        self._backoff = Backoff(rng or random.Random())
        self._turn = trio.Lock()  # one job with a card at a time
        self._last_uid = ""  # of the card that lies there, or lay there last
        self._lies_there = False
        self._same_until = 0.0  # before this the same number is the same presentation
        self._opened = 0

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot()

    # --- at a gate ------------------------------------------------------------------------------------------------

    async def run(self, emit: Emit) -> None:
        """Report cards until cancelled."""
        while True:
            try:
                await self._serve(emit)
            except DeviceError as exc:
                self._meter.error(exc)
                if self._meter.now(Availability.UNAVAILABLE):
                    emit(DeviceDown(reason=str(exc)))
            await trio.sleep(self._backoff.next_s())

    async def _serve(self, emit: Emit) -> None:
        context = await open_context()
        try:
            reader = choose(await context.readers(), self._reader)
            state, _ = await context.wait(reader, STATE_UNAWARE, WATCH_S)
            self._opened += 1
            self._meter.reconnects = self._opened - 1
            self._meter.firmware = reader
            self._backoff.reset()
            if self._meter.now(Availability.AVAILABLE):
                emit(DeviceUp())
            if self._lies_there:
                self._same_until = trio.current_time() + RETURN_S
            while True:
                self._lies_there = state & STATE_PRESENT != 0
                if self._lies_there and not state & STATE_MUTE:
                    returning = self._last_uid if trio.current_time() < self._same_until else ""
                    await self._present(context, reader, returning, emit)
                handled = _card_of(state)
                while _card_of(state) == handled:
                    state, _ = await context.wait(reader, state, WATCH_S)
                self._meter.heard(0)
                if self._lies_there:
                    self._same_until = trio.current_time() + BOUNCE_S
        finally:
            await context.aclose()

    async def _present(self, context: Context, reader: str, returning: str, emit: Emit) -> None:
        """A card is there: read it and say so. One that is still there from before the service went says nothing."""
        contents: CardContents | None = None
        reason = "unreadable"
        for _ in range(CARD_TRIES):
            try:
                contents = await self._work(reader, lambda channel: read_contents(channel, self._keys), CARD_S)
                break
            except CardError as exc:
                reason = exc.reason
                self._meter.error(f"{reader}: {exc}")
                if reason == "random_uid":
                    break
            except (CardGone, DeviceRefused) as exc:
                self._meter.error(exc)
                await trio.sleep(TRY_PAUSE_S)
                if not await self._still_there(context, reader):
                    break
        if contents is None:
            self._meter.bad_frames += 1
            emit(CardRejected(reason=reason))
            return
        self._last_uid = contents.uid
        if contents.uid == returning:
            return
        if contents.record is None and self._require_record:
            self._meter.bad_frames += 1
            self._meter.error(f"{reader}: a card was rejected: {contents.reason}")
            emit(CardRejected(reason=contents.reason))
            return
        self._meter.frames_in += 1
        emit(
            CredentialRead(
                kind=CredentialKind.CARD,
                value=contents.uid,
                issue_index=None if contents.record is None else contents.record.issue_index,
            )
        )

    async def _still_there(self, context: Context, reader: str) -> bool:
        state, _ = await context.wait(reader, STATE_UNAWARE, WATCH_S)
        return bool(state & STATE_PRESENT)

    # --- at a desk ------------------------------------------------------------------------------------------------

    async def read_card(self, timeout_s: float) -> CardContents:
        """The card on the reader, or the next one within `timeout_s`. Works with and without `run`.

        One that leaves while it is read is waited for.  Raises NoCard, CardGone, ReaderGone, ServiceGone, CardRefused
        (a card that has no number of its own).
        """
        give_up_at = trio.current_time() + timeout_s
        while True:
            left_s = give_up_at - trio.current_time()
            try:
                return await self._at_desk(lambda channel: read_contents(channel, self._keys), left_s)
            except CardGone:
                if left_s < TRY_PAUSE_S:
                    raise
            await trio.sleep(TRY_PAUSE_S)

    async def issue_card(self, ticket: int, issue_index: int, timeout_s: float) -> CardContents:
        """Write the record on the card on the reader, or the next one within `timeout_s`, and read it back.

        Only what returns is issued.  After any error the card has its old record or the new one, so issuing it again
        (with the same or a higher index) is always right.  Raises ValueError without keys, WrongKey (nothing was
        written: not new, and not ours), CardGone, NoCard, CardRefused, ReaderGone, ServiceGone.
        """
        keys = self._keys
        if keys is None:
            raise ValueError("cards are issued with keys")
        return await self._at_desk(lambda channel: issue(channel, keys, ticket, issue_index), timeout_s)

    async def _at_desk(self, job: Callable[[CardChannel], T], timeout_s: float) -> T:
        outcome: list[T] = []
        began = False
        with trio.move_on_after(timeout_s):
            context = await open_context()
            try:
                reader = choose(await context.readers(), self._reader)
                state, _ = await context.wait(reader, STATE_UNAWARE, WATCH_S)
                while not state & STATE_PRESENT:
                    state, _ = await context.wait(reader, state, WATCH_S)
            finally:
                await context.aclose()
            began = True
            try:
                outcome.append(await self._work(reader, job, timeout_s))
            except CardError as exc:
                raise CardRefused(f"{reader}: {exc}", 0) from exc
        if outcome:
            return outcome[0]
        if not began:
            raise NoCard(f"no card within {timeout_s:.1f} s")
        raise DeviceUnavailable(f"not done in {timeout_s:.1f} s: look at the card before it is used")

    async def _work(self, reader: str, job: Callable[[CardChannel], T], timeout_s: float) -> T:
        """One job with the card, on a context of its own. Waits for its turn. Raises DeviceError, CardError."""
        give_up_at = trio.current_time() + timeout_s
        async with self._turn:
            while True:
                context = await open_context()
                self._meter.frames_out += 1
                try:
                    return await context.use(reader, job, timeout_s)
                except ReaderBusy:
                    if trio.current_time() > give_up_at:
                        raise
                finally:
                    await context.aclose()
                await trio.sleep(BUSY_PAUSE_S)


def _card_of(state: int) -> tuple[int, int, int]:
    """What of a reader's state is about its card: there, dumb, and how often one came or went; not who uses it."""
    return state & STATE_PRESENT, state & STATE_MUTE, state >> 16
