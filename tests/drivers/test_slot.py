"""A device's place: its driver is changed under a running actor, and its health is one line down and one line up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from drivers._statistics import Meter
from drivers.base import (
    AlarmKind,
    Availability,
    Barrier,
    BarrierChanged,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    DriverStatistics,
    Emit,
    Feedback,
    GateAlarm,
    InputChanged,
    InputState,
    Outcome,
    PassageCounted,
)
from drivers.errors import DeviceUnavailable
from drivers.slot import CHANGED, CounterSlot, GateSlot, PrinterSlot, Slot
from drivers.words import WORDS_MAX, said
from protocols.messages import Counters, CredentialKind, Direction


class Fake:
    """A driver that says what it is told to, and knows whether it runs."""

    capabilities = None

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.running = 0
        self.most = 0
        self.calls: list[Any] = []
        self.meter = Meter()
        self._emit: Emit | None = None

    async def run(self, emit: Emit) -> None:
        self._emit = emit
        self.running += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)  # closing takes a moment
            self.running -= 1
            self._emit = None

    def say(self, event: DeviceEvent) -> None:
        assert self._emit is not None, "it does not run"
        self._emit(event)

    def statistics(self) -> DriverStatistics:
        return self.meter.snapshot()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))


@asynccontextmanager
async def running(slot: Any) -> AsyncIterator[list[DeviceEvent]]:
    events: list[DeviceEvent] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.run, events.append)
        await trio.testing.wait_all_tasks_blocked()
        yield events
        nursery.cancel_scope.cancel()


async def test_another_driver_begins_when_the_old_one_has_closed_its_line(autojump_clock: Any) -> None:
    old, new = Fake("old"), Fake("new")
    slot = Slot("reader/1", old)
    async with running(slot) as events:
        old.say(DeviceUp())
        slot.replace(new)
        await trio.testing.wait_all_tasks_blocked()
        assert (old.running, new.running) == (1, 0)  # still closing
        await trio.sleep(0.3)
        assert (old.running, new.running) == (0, 1)
        assert events == [DeviceUp(), DeviceDown(reason=CHANGED)]
        new.say(CodeRead(text="SECRET"))
        assert events[-1] == CodeRead(text="SECRET")
        assert slot.statistics().replaced == 1
        assert slot.statistics().last_said == "read a code of 6 characters"
        await trio.sleep(5.0)
        assert slot.statistics().last_said_s == pytest.approx(5.0)
    assert (old.running, new.running) == (0, 0)


async def test_a_device_that_was_never_up_is_not_said_to_go_down(autojump_clock: Any) -> None:
    slot = Slot("reader/1", Fake())
    async with running(slot) as events:
        slot.replace(Fake())
        await trio.sleep(1.0)
        assert events == []


async def test_the_newest_of_several_changes_is_what_runs(autojump_clock: Any) -> None:
    fakes = [Fake(str(n)) for n in range(4)]
    slot = Slot("reader/1", fakes[0])
    async with running(slot):
        for fake in fakes[1:]:
            slot.replace(fake)
        await trio.sleep(3.0)
        assert [fake.running for fake in fakes] == [0, 0, 0, 1]
    slot = Slot("reader/2", fakes[0])
    slot.replace(fakes[1])  # before it was started
    async with running(slot):
        assert [fake.running for fake in fakes] == [0, 1, 0, 0]


async def test_down_and_up_are_one_line_each_however_often_they_are_said(autojump_clock: Any) -> None:
    fake = Fake()
    with structlog.testing.capture_logs() as logs:
        async with running(Slot("gate/n1", fake)):
            for _ in range(3):
                fake.say(DeviceUp())
            await trio.sleep(60.0)
            for _ in range(3):
                fake.say(DeviceDown(reason="no answer"))
            await trio.sleep(30.0)
            fake.say(DeviceUp())
    assert [(log["event"], log["log_level"], log.get("reason"), log.get("after_s")) for log in logs] == [
        ("device.up", "info", None, None),
        ("device.down", "warning", "no answer", 60.0),
        ("device.up", "info", None, 30.0),
    ]


async def test_a_release_outlives_a_change_of_the_driver(autojump_clock: Any) -> None:
    old, new, newer = Fake(), Fake(), Fake()
    slot = GateSlot("gate/n1", old)  # type: ignore[arg-type]
    slot.open(Direction.ENTRY, 1, 2.0)
    slot.release()
    slot.replace(new)  # type: ignore[arg-type]
    slot.rearm()
    slot.replace(newer)  # type: ignore[arg-type]
    slot.close()
    slot.resume("e", 1, 2)
    slot.look()
    assert old.calls == [("open", Direction.ENTRY, 1, 2.0), ("release",)]
    assert new.calls == [("release",), ("rearm",)]
    assert newer.calls == [("close",), ("resume", "e", 1, 2), ("look",)]


async def test_what_a_driver_cannot_do_is_dropped(autojump_clock: Any) -> None:
    class Plain:
        async def run(self, emit: Emit) -> None: ...
        def statistics(self) -> DriverStatistics:
            return Meter().snapshot()

    Slot("reader/1", Plain()).signal(Feedback(outcome=Outcome.GO))
    CounterSlot("people/1", Plain()).resume("e", 1, 2)
    GateSlot("gate/n1", Plain()).look()  # type: ignore[arg-type]
    able = Fake()
    Slot("reader/1", able).signal(Feedback(outcome=Outcome.GO))
    CounterSlot("people/1", able).resume("e", 1, 2)
    assert [call[0] for call in able.calls] == ["signal", "resume"]


async def test_a_printers_health_comes_from_its_jobs(autojump_clock: Any) -> None:
    class FakePrinter:
        fails = True

        async def print_job(self, payload: bytes, timeout_s: float) -> None:
            if self.fails:
                raise DeviceUnavailable("nobody answers")

        def statistics(self) -> DriverStatistics:
            return Meter().snapshot()

    printer = FakePrinter()
    slot = PrinterSlot("printer/w1", printer)
    with structlog.testing.capture_logs() as logs:
        for printer.fails in (True, True, False, False):
            try:
                await slot.print_job(b"x", 1.0)
            except DeviceUnavailable:
                assert slot.statistics().last_said == "not printed: nobody answers"
    assert [log["event"] for log in logs] == ["device.down", "device.up"]
    assert slot.statistics().last_said == "printed a job"
    slot.replace(FakePrinter())
    assert slot.statistics().replaced == 1


def test_the_words_of_an_event_hold_no_secret() -> None:
    secret = "42010119900101001X"
    for event, words in (
        (DeviceUp(counters=Counters("ep", 3, 4), barrier=Barrier.CLOSED), "up, barrier closed, entries 3, exits 4"),
        (DeviceUp(), "up"),
        (BarrierChanged(barrier=Barrier.OPEN, detail="open entry"), "barrier open (open entry)"),
        (PassageCounted(direction=Direction.EXIT, epoch="epoch-1", counter=9), "counted exit 9"),
        (GateAlarm(kind=AlarmKind.FIRE), "alarm fire"),
        (CodeRead(text=secret, symbology="]Q1"), "read a code of 18 characters ]Q1"),
        (CredentialRead(kind=CredentialKind.ID_NUMBER, value=secret), "read a id number of 18 characters"),
        (InputChanged(name="fire", state=InputState.BROKEN), "input fire broken"),
    ):  # fmt: skip
        assert said(event) == words
        assert secret not in said(event)
    assert len(said(DeviceDown(reason="x" * 5000))) == WORDS_MAX
    assert Availability.UNAUTHENTICATED.value == "unauthenticated"
