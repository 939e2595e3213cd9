"""The clock for tests with real wires: what the process did not live through does not count."""

import time
from functools import partial

import pytest
import trio

from core.testing import PATIENT_STEP_S, PatientClock, patient_time

patient = pytest.fixture(autouse=True)(patient_time)


def test_a_patient_clock_does_not_count_the_time_that_the_process_did_not_have():
    async def halted():
        before = trio.current_time()
        time.sleep(0.2)  # noqa: ASYNC251 - stands for a machine that did something else
        assert 0 < trio.current_time() - before <= PATIENT_STEP_S + 1e-6

    trio.run(halted, clock=PatientClock())


def test_no_deadline_runs_out_on_a_patient_clock_because_the_machine_stood_still():
    """Both ends of a wire are in this process: the answer is always in time, however often everything stands still."""

    async def far_end(asked, answers):
        async for _ in asked:
            time.sleep(0.5)  # noqa: ASYNC251 - stands for a machine that did something else
            await trio.sleep(0.01)
            await answers.send(None)

    async def near_end():
        (ask, asked), (answers, answered) = trio.open_memory_channel(1), trio.open_memory_channel(1)
        async with trio.open_nursery() as nursery, ask, answered:
            nursery.start_soon(far_end, asked, answers)
            for _ in range(5):
                await ask.send(None)
                with trio.fail_after(0.3):
                    await answered.receive()

    trio.run(near_end, clock=PatientClock())
    with pytest.raises(BaseExceptionGroup) as late:  # the same on an ordinary clock
        trio.run(near_end)
    assert late.group_contains(trio.TooSlowError)


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.1])
def test_a_patient_clock_never_runs_ahead(seconds):
    started = time.perf_counter()
    trio.run(partial(trio.sleep, seconds), clock=PatientClock())
    assert time.perf_counter() - started >= seconds


async def test_a_module_runs_on_it_when_it_says_so():
    assert isinstance(trio.lowlevel.current_clock(), PatientClock)


async def test_virtual_time_stays_virtual_time(autojump_clock):
    assert trio.lowlevel.current_clock() is autojump_clock
