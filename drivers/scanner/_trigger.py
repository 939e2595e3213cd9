"""When a reader that reads on command is told to start and to stop. Nothing here waits or does I/O."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.scanner import Reply, Trigger

RESTART_S = 0.2  # after a code: readers end their reading with it, and need a moment
ANSWER_S = 0.5  # readers that answer do so within some milliseconds
TRIES_MAX = 3  # of one command that is not answered


class Triggering:
    """One reader's light, on or off. `now_s` everywhere is the caller's monotonic time.

    Continuous: it is kept on, and told again after each code and every `reading_s`, because readers end by
    themselves.  Otherwise it is on from `start` to the first code, `stop`, or the time that was given.
    """

    def __init__(self, trigger: Trigger, *, continuous: bool, reading_s: float, answers: bool) -> None:
        self.last_error = ""
        self._trigger = trigger
        self._continuous = continuous
        self._reading_s = reading_s
        self._answers = answers
        self._until_s = float("inf") if continuous else 0.0  # reading is wanted so long
        self._start_s = 0.0  # when the next start is due
        self._on = False
        self._asked: bytes = b""  # not answered yet
        self._answer_s = 0.0
        self._tries = 0

    @property
    def reading(self) -> bool:
        """Whether the reader was told to read, and not yet to stop."""
        return self._on

    def start(self, now_s: float, seconds: float) -> None:
        self._until_s, self._start_s = now_s + seconds, now_s

    def stop(self) -> None:
        if not self._continuous:
            self._until_s = 0.0

    def code_read(self, now_s: float) -> None:
        self._start_s = now_s + RESTART_S
        self.stop()

    def heard(self, reply: Reply) -> None:
        """An answer came."""
        self._asked = b""
        self.last_error = "" if reply.accepted else f"the reader refuses its trigger: {reply.words}"

    def opened(self, now_s: float) -> None:
        """The line is new: nobody knows what the reader does."""
        self._on, self._asked, self._start_s = False, b"", now_s

    def due(self, now_s: float) -> Iterator[bytes]:
        """What is to be sent now."""
        if self._asked and now_s >= self._answer_s:
            if self._tries < TRIES_MAX:
                self._tries += 1
                self._answer_s = now_s + ANSWER_S
                yield self._asked
            else:
                self._asked = b""
                self.last_error = "the reader does not answer its trigger"
        if now_s < self._until_s:
            if now_s >= self._start_s:
                self._start_s = now_s + self._reading_s
                self._on = True
                yield self._command(self._trigger.start, now_s)
        elif self._on:
            self._on = False
            if self._trigger.stop:
                yield self._command(self._trigger.stop, now_s)

    def _command(self, command: bytes, now_s: float) -> bytes:
        if self._answers:
            self._asked, self._answer_s, self._tries = command, now_s + ANSWER_S, 1
        return command
