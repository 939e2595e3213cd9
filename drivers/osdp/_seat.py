"""One reader's seat at the bus: who may be asked now, which answers reach the library, and why a dialogue ended.

Nothing here waits and nothing does I/O.  The library writes commands into the seat and reads answers out of it; in
between stands a sieve.  An answer gets through only if it is whole, from this reader and to the question just asked,
because everything else would cost the library its dialogue.  And a question gets out only while it is this reader's
turn to be tried: one that does not answer holds the bus for 200 ms each time, and the others have to live with that.
"""

from __future__ import annotations

import random
from enum import Enum, auto

from drivers.base import SILENT_AFTER_S
from drivers.osdp._library import BUS_ID
from protocols.errors import WireError
from protocols.osdp import (
    BUSY,
    CAP,
    CHALLENGE,
    COMMANDS,
    MARK,
    NAK,
    SERVER_CRYPTOGRAM,
    Frame,
    decode,
    encode,
    nak_reason,
)

UNANSWERED_MAX = 2  # questions in a row, the second after a second, before a reader counts as gone
PROBE_S = 0.25  # a reader answers within 200 ms or not at all
PROBE_GAP_S = 0.3  # between two silent readers: the others have the bus
STUCK_S = 5.0  # the library's longest pause of its own is 0.8 s, and a bus full of silent readers takes its time
RETRY_MIN_S = 0.25
RETRY_MAX_S = 3.0  # so that a reader is back within five seconds of answering, while a dead one costs a tenth
AUTHENTICATION_RETRY_MIN_S = 5.0  # a wrong key does not become right by asking again
AUTHENTICATION_RETRY_MAX_S = 80.0
JITTER_LOW = 0.6
NAK_KEY_NEEDED = 0x06
NAK_SECURITY = frozenset({0x05, NAK_KEY_NEEDED})
_HANDSHAKE = {0x76: CHALLENGE, 0x78: SERVER_CRYPTOGRAM}  # the answers that belong to one question alone
OF_OURS = range(0x64, 0x6C)  # commands that we ask the library to send: status, output, light, buzzer, text


class Phase(Enum):
    OUT = auto()  # left alone until `next_try_s`
    KICKED = auto()  # being taken out of the library's own long pause
    PROBED = auto()  # asked once, has not answered yet
    FAILED = auto()  # did not answer; the library has not noticed yet
    SETTLING = auto()  # answers; identification and keys are under way
    ONLINE = auto()


class Tries:
    """Pauses in seconds, doubling between two bounds, with jitter."""

    def __init__(self, low_s: float, high_s: float, rng: random.Random) -> None:
        self._low_s, self._high_s, self._rng = low_s, high_s, rng
        self._nominal_s = low_s

    def reset(self) -> None:
        self._nominal_s = self._low_s

    def next_s(self) -> float:
        nominal_s, self._nominal_s = self._nominal_s, min(self._nominal_s * 2, self._high_s)
        return nominal_s * self._rng.uniform(JITTER_LOW, 1.0)


class SeatChannel:
    """What the library holds. It is never freed there, so it holds nothing but its seat, and that only for a while."""

    def __init__(self, seat: Seat) -> None:
        self.id = BUS_ID
        self.seat: Seat | None = seat

    def read(self, max_bytes: int) -> bytes:
        return self.seat.take(max_bytes) if self.seat is not None else b""

    def write(self, data: bytes) -> int:
        return self.seat.ask(data) if self.seat is not None else -1

    def flush(self) -> None:
        if self.seat is not None:
            self.seat.answer = b""


class Seat:
    """One reader at a bus. `now_s` everywhere is the loop's own monotonic time."""

    def __init__(self, address: int, key: bytes | None, rng: random.Random) -> None:
        self.address = address
        self.key = key
        self.phase = Phase.OUT
        self.next_try_s = 0.0
        self.now_s = 0.0  # set before each turn of the library, which does not tell the time
        self.question: bytes = b""  # to be sent now
        self.answer: bytes = b""  # for the library to read
        self.bytes_out = 0
        self.questions = 0
        self.asked: Frame | None = None
        self.unanswered = 0
        self.unanswered_since_s = 0.0
        self.probed_s = 0.0
        self.progress_s = 0.0  # when the library last did anything with it
        self.heard_s: float | None = None
        self.tried = False  # at least once since it was made
        self.confirmed = False  # online, and a question since then was answered with something else than no
        self.authentication = ""  # why the reader and we do not trust each other; empty when we do
        self.refused: set[int] = set()  # commands that this reader does not know
        self.reason = "no answer yet"
        self._said: Frame | None = None  # the answer to `asked`
        self._tries = Tries(RETRY_MIN_S, RETRY_MAX_S, rng)
        self._authentication_tries = Tries(AUTHENTICATION_RETRY_MIN_S, AUTHENTICATION_RETRY_MAX_S, rng)

    # --- the library's side: nothing may be raised -------------------------------------------------------------------

    def ask(self, data: bytes) -> int:
        """A question of the library; its length, or -1 when this reader must not be asked now."""
        self.progress_s = self.now_s
        try:
            frame = decode(data[1:] if data[:1] == bytes((MARK,)) else data)
        except WireError:
            return -1
        limit = {Phase.PROBED: 1, Phase.SETTLING: UNANSWERED_MAX, Phase.ONLINE: UNANSWERED_MAX}.get(self.phase, 0)
        if self.unanswered >= limit:
            return -1
        if not self.unanswered:
            self.unanswered_since_s = self.now_s
        self.unanswered += 1
        self.questions += 1
        self.bytes_out += len(data)
        self.asked, self._said = frame, None
        self.question, self.answer = data, b""
        return len(data)

    def take(self, max_bytes: int) -> bytes:
        data, self.answer = self.answer[:max_bytes], self.answer[max_bytes:]
        return data

    # --- the line's side --------------------------------------------------------------------------------------------

    def hear(self, frame: Frame) -> bool:
        """A sound frame of this reader came. False when it answers nothing that was asked: late, or twice."""
        if self.asked is None or self._said is not None:
            return False
        if frame.sequence != self.asked.sequence and frame.code not in (NAK, BUSY):
            return False
        if _HANDSHAKE.get(frame.code, self.asked.code) != self.asked.code:
            return False  # a piece of the key exchange, and nobody is exchanging keys
        self.heard_s = self.now_s
        self.unanswered = 0
        self._said = frame
        self.answer = encode(frame)
        if frame.code == NAK:
            self.reason = f"the reader refuses {COMMANDS.get(self.asked.code, 'a command')}: {nak_reason(frame)}"
        if self.phase is Phase.PROBED:
            self.phase = Phase.SETTLING
        elif self.phase is Phase.ONLINE and frame.code not in (NAK, BUSY):
            self.confirmed = True
            self.authentication = ""
            self._authentication_tries.reset()
        return True

    # --- the bus's side -----------------------------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Asked, and not heard for longer than is promised."""
        return self.unanswered > 0 and self.now_s - self.unanswered_since_s > SILENT_AFTER_S

    @property
    def stuck(self) -> bool:
        """The library should be doing something with it, and is not."""
        return self.phase is not Phase.OUT and self.now_s - self.progress_s > STUCK_S

    @property
    def on_trial(self) -> bool:
        """Has the bus for its first answer."""
        return self.phase is Phase.PROBED and self.now_s - self.probed_s < PROBE_S

    def paused(self, pause_s: float) -> None:
        """This process stood still for so long: that was no silence of the reader."""
        self.unanswered_since_s += pause_s
        self.probed_s += pause_s
        self.progress_s += pause_s

    def kick(self) -> None:
        """Its turn has come; the library must first forget its own pause."""
        self.phase = Phase.KICKED
        self.progress_s = self.now_s

    def probe(self) -> None:
        """From here on it may be asked once."""
        self.phase, self.tried = Phase.PROBED, True
        self.probed_s = self.progress_s = self.now_s
        self.asked, self._said, self.question, self.answer, self.unanswered = None, None, b"", b"", 0

    def give_up(self) -> None:
        """The probe was not answered; the library notices at its next attempt, which is not sent."""
        self.phase = Phase.FAILED

    def online(self) -> None:
        """The library says that the dialogue stands."""
        self.phase = Phase.ONLINE
        self.confirmed = False

    def steady(self) -> None:
        """It has been online for a while: the next failure is a new story."""
        self._tries.reset()

    def offline(self) -> None:
        """The library says that the dialogue ended. What was asked and answered last says why."""
        if self.phase in (Phase.OUT, Phase.KICKED):
            return
        distrust = self._distrust()
        if distrust:
            self.authentication = self.reason = f"authentication failed: {distrust}"
            self.next_try_s = self.now_s + self._authentication_tries.next_s()
        else:
            self._learn_refusal()
            if self.unanswered:
                self.reason, self.authentication = "no answer", ""
            self.next_try_s = self.now_s + self._tries.next_s()
        self.phase, self.confirmed = Phase.OUT, False

    def line_lost(self) -> None:
        """The line is gone: the dialogue with it, and all pauses."""
        self.phase, self.confirmed, self.next_try_s = Phase.OUT, False, 0.0
        self.asked, self._said, self.question, self.answer, self.unanswered = None, None, b"", b"", 0
        self._tries.reset()

    def _distrust(self) -> str:
        """Why the reader and we do not trust each other; empty when that is not what went wrong."""
        asked, said = self.asked, self._said
        if asked is None or said is None:
            return ""
        no = said.code == NAK
        if self.key is None:
            needs_key = no and said.data[:1] == bytes((NAK_KEY_NEEDED,))
            return "the reader wants a key, and none is set" if needs_key else ""
        if asked.code == CHALLENGE:
            return nak_reason(said) if no else "the reader has another key"
        if asked.code == SERVER_CRYPTOGRAM:
            return f"the reader does not accept our key ({nak_reason(said)})" if no else "the keys do not fit"
        if asked.code == CAP and not no:
            return "the reader has no secure channel, and a key is set"
        if self.phase is Phase.ONLINE and not self.confirmed and no and said.data[:1] and said.data[0] in NAK_SECURITY:
            return "the reader broke the secure channel off"
        return ""

    def _learn_refusal(self) -> None:
        """A command that the reader does not know is not sent again; questions of the dialogue itself are no such."""
        if self.asked is None or self._said is None or self._said.code != NAK:
            return
        if self.asked.code in OF_OURS:
            self.refused.add(self.asked.code)
