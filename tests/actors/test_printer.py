"""A ticket printer: jobs one after the other, done when the printer says so, each printed once."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors import printer as module
from actors.printer import RETRY_MAX_S, RETRY_REFUSED_S, PrinterActor, PrintTicket
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from drivers.base import Availability, DriverStatistics
from drivers.errors import DeviceRefused, DeviceUnavailable, JobBroken, JobUnconfirmed
from protocols.console import DeviceView, FeedEvent
from storage.interfaces import PrintJobState


class Paper:
    """A printer that takes `slow_s` a job; `fails` is what it answers instead while it is set."""

    def __init__(self) -> None:
        self.printed = []
        self.tries = []
        self.fails: Exception | None = None
        self.slow_s = 0.0
        self.crash = False

    async def print_job(self, payload: bytes, timeout_s: float) -> None:
        assert timeout_s == module.JOB_TIMEOUT_S
        self.tries.append(trio.current_time())
        await trio.sleep(self.slow_s)
        if self.crash:
            self.crash = False
            raise RuntimeError("a mistake of ours")
        if self.fails is not None:
            raise self.fails
        self.printed.append(payload)

    def statistics(self) -> DriverStatistics:
        return DriverStatistics(
            availability=Availability.AVAILABLE, since_s=1, frames_in=1, frames_out=1, bytes_in=1, bytes_out=1,
            bad_frames=0, reconnects=0, last_heard_s=0.1, last_error="",
        )  # fmt: skip


def again(payload: bytes, copy: int) -> bytes:
    return payload + b" copy %d" % copy


class Rig:
    def __init__(self, reprint=None) -> None:
        self.paper = Paper()
        self.ledger, self.hub = Probe("ledger", capacity=4096), Probe("consoles")
        self.me = Address("printer/w1", capacity=512)
        options = {} if reprint is None else {"reprint": reprint}
        self.actor = PrinterActor("w1", self.paper, ledger=self.ledger, hub=self.hub, **options)

    def print(self, *jobs: int) -> None:
        for job in jobs:
            self.me.tell(PrintTicket(job=job, payload=b"ticket %d" % job))

    async def states(self, job: int | None = None):
        told = only(await heard(self.ledger), PrintJobState)
        return [(state.job, state.state) if job is None else state.state for state in told if job in (None, state.job)]


@asynccontextmanager
async def printer(*, crashes=0, reprint=None):
    rig = Rig(reprint)
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


async def test_jobs_are_printed_in_order_one_at_a_time(autojump_clock):
    async with printer() as rig:
        rig.paper.slow_s = 2.0
        rig.print(1, 2, 3)
        await trio.sleep(3.0)
        assert rig.paper.printed == [b"ticket 1"]
        assert await rig.states() == [(1, "printing"), (1, "done"), (2, "printing")]
        await trio.sleep(3.1)
        assert rig.paper.printed == [b"ticket 1", b"ticket 2", b"ticket 3"]
        assert await rig.states() == [(2, "done"), (3, "printing"), (3, "done")]


async def test_a_job_comes_out_at_once_when_nothing_waits(autojump_clock):
    async with printer() as rig:
        await trio.sleep(3600.0)
        before = trio.current_time()
        rig.print(1)
        await settle()
        assert rig.paper.printed == [b"ticket 1"] and trio.current_time() == before


async def test_without_paper_it_is_tried_again_and_people_are_told_until_it_is_there(autojump_clock):
    async with printer() as rig:
        rig.paper.fails = DeviceRefused("paper out")
        rig.print(1, 2)
        await trio.sleep(2.5 * RETRY_REFUSED_S)
        assert len(rig.paper.tries) == 3
        assert set(await rig.states()) == {(1, "printing"), (1, "queued")}
        (line, *_) = only(await heard(rig.hub), FeedEvent)
        assert "paper out" in line.text_en and "w1" in line.text_zh
        rig.paper.fails = None
        await trio.sleep(RETRY_REFUSED_S)
        assert rig.paper.printed == [b"ticket 1", b"ticket 2"], "in their order"
        assert (await rig.states(1))[-1] == "done"


async def test_a_printer_that_does_not_answer_is_tried_less_and_less_often_and_then_at_once(autojump_clock):
    async with printer() as rig:
        rig.paper.fails = DeviceUnavailable("nobody answers")
        rig.print(1)
        await trio.sleep(600.0)
        pauses = [b - a for a, b in zip(rig.paper.tries, rig.paper.tries[1:], strict=False)]
        assert pauses[:4] == [0.5, 1.0, 2.0, 4.0] and pauses[-1] == RETRY_MAX_S
        rig.paper.fails = None
        await trio.sleep(RETRY_MAX_S)
        rig.print(2)
        rig.paper.fails = DeviceUnavailable("again")
        before = len(rig.paper.tries)
        await trio.sleep(0.6)
        assert len(rig.paper.tries) == before + 2, "the pauses begin anew"


async def test_a_job_offered_twice_is_printed_once(autojump_clock):
    async with printer() as rig:
        rig.paper.slow_s = 1.0
        rig.print(1, 1, 2, 1)
        await trio.sleep(5.0)
        assert rig.paper.printed == [b"ticket 1", b"ticket 2"]


async def test_a_job_offered_again_while_its_done_is_on_its_way_to_the_ledger_is_not_printed_twice(autojump_clock):
    """Sales reads the unfinished jobs from the ledger, which does not know yet what has just been printed."""
    async with printer() as rig:
        rig.print(1)
        await settle()
        rig.print(1)
        await trio.sleep(5.0)
        assert rig.paper.printed == [b"ticket 1"]
        assert await rig.states() == [(1, "printing"), (1, "done"), (1, "done")], "and the ledger is told again"


async def test_too_many_jobs_fail_at_once_and_may_be_offered_later(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "JOBS_MAX", 2)
    async with printer() as rig:
        rig.paper.fails = DeviceRefused("cover open")
        rig.print(1, 2, 3)
        assert await rig.states(3) == ["failed"]
        rig.paper.fails = None
        await trio.sleep(RETRY_REFUSED_S + 0.1)
        rig.print(3)
        await settle()
        assert rig.paper.printed == [b"ticket 1", b"ticket 2", b"ticket 3"]


async def test_waiting_jobs_survive_a_bug_in_the_driver(autojump_clock):
    async with printer(crashes=1) as rig:
        rig.paper.fails = ZeroDivisionError("a bug")
        rig.print(1, 2)
        await settle()
        rig.paper.fails = None
        await trio.sleep(0.1)
        assert rig.paper.printed == [b"ticket 1", b"ticket 2"]


async def test_a_full_ledger_and_console_stop_no_printer(autojump_clock):
    async with printer() as rig:
        for probe in (rig.ledger, rig.hub):
            while probe.statistics().depth < probe.capacity:
                probe.tell("something else")
        rig.print(1)
        await settle()
        assert rig.paper.printed == [b"ticket 1"]


async def test_the_console_sees_the_printer_and_no_log_sees_the_ticket(autojump_clock):
    async with printer() as rig:
        rig.print(1)
        assert {view.device for view in only(await heard(rig.hub), DeviceView)} == {"w1"}
        assert "SECRET" not in repr(PrintTicket(job=1, payload=b"SECRET"))


@pytest.mark.parametrize("failure", [JobBroken("out of paper in the job"), JobUnconfirmed("sent, and not confirmed")])
async def test_a_job_that_broke_is_printed_again_under_a_number_of_its_own(autojump_clock, failure):
    async with printer(reprint=again) as rig:
        rig.paper.fails = failure
        rig.print(1, 2)
        await trio.sleep(0.1)
        rig.paper.fails = DeviceRefused("out of paper; nothing was sent")
        await trio.sleep(3 * RETRY_REFUSED_S)
        rig.paper.fails = None
        await trio.sleep(2 * RETRY_MAX_S)
        # however often it was refused before anything was sent, the copy is the second one, and only that job's
        assert rig.paper.printed == [b"ticket 1 copy 2", b"ticket 2"]
        told = only(await heard(rig.ledger), PrintJobState)
        assert any(state.job == 1 and state.detail == f"copy 1 is void: {failure}" for state in told)
        assert [(state.job, state.detail) for state in told if state.state == "done"] == [(1, "copy 2"), (2, "")]
        words = [event.text_en for event in only(await heard(rig.hub), FeedEvent)]
        assert any("copy 1 is void and printed again" in text for text in words)


async def test_a_job_that_breaks_twice_has_a_third_copy(autojump_clock):
    async with printer(reprint=again) as rig:
        rig.paper.fails = JobBroken("cover open during the job")
        rig.print(1)
        await trio.sleep(RETRY_REFUSED_S * 1.5)
        rig.paper.fails = None
        await trio.sleep(2 * RETRY_MAX_S)
        assert rig.paper.printed == [b"ticket 1 copy 3"]


async def test_a_printer_that_never_confirms_does_not_eat_the_roll(autojump_clock):
    async with printer(reprint=again) as rig:
        rig.paper.fails = JobUnconfirmed("sent, and not confirmed")
        rig.print(1)
        await trio.sleep(3600.0)
        assert 20 < len(rig.paper.tries) < 45


async def test_a_job_that_was_not_begun_is_printed_as_it_was(autojump_clock):
    async with printer(reprint=again) as rig:
        rig.paper.fails = DeviceUnavailable("does not answer; nothing was sent")
        rig.print(1)
        await trio.sleep(1.0)
        rig.paper.fails = None
        await trio.sleep(2 * RETRY_MAX_S)
        assert rig.paper.printed == [b"ticket 1"]


async def test_a_job_that_was_under_way_in_a_crash_is_printed_as_another_copy(autojump_clock):
    async with printer(crashes=1, reprint=again) as rig:
        rig.paper.slow_s = 5.0
        rig.print(1, 2)
        await trio.sleep(1.0)
        rig.paper.crash = True
        await trio.sleep(60.0)
        assert rig.paper.printed == [b"ticket 1 copy 2", b"ticket 2"]
