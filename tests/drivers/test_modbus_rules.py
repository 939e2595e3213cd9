"""The rules of a relay gate against an unkind bus, in virtual time: nobody gets in whom nobody let in."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Barrier, BarrierChanged, DeviceDown, DeviceUp
from drivers.errors import DeviceRefused, DeviceUnavailable
from drivers.modbus import RelayGate, RelayWiring
from drivers.modbus._bus import TooLate
from drivers.modbus.testing import Recorder
from protocols.messages import Direction
from sim.modbus import SimRelayGate

ENTRY = Direction.ENTRY
ANSWER_S = 0.2
CONTACTS = {"open_input": 0, "closed_input": 1, "entry_register": 0, "exit_register": 1}
SERVER = RelayWiring(open_coil=0, exit_coil=1, hold_coil=2, pulse_s=0.3, **CONTACTS)
BOARD = RelayWiring(open_coil=0, exit_coil=1, hold_coil=2, pulse="board", pulse_s=0.3, **CONTACTS)
SHARED = RelayWiring(open_coil=0, pulse_s=0.3, **CONTACTS)


class UnkindBus:
    """Carries requests to a simulated gate, and loses what `rng` says: the request, or only its answer."""

    def __init__(self, sim: SimRelayGate, rng: random.Random, lossy: float) -> None:
        self.name, self.opened = "bus", 1
        self.sim, self.rng, self.lossy = sim, rng, lossy

    @asynccontextmanager
    async def attached(self):
        yield

    async def call(self, request, turn, meter, *, deadline=float("inf")):
        await trio.sleep(0.005 + 0.02 * self.rng.random())
        if trio.current_time() >= deadline:
            raise TooLate("late")
        fate = self.rng.random()
        if fate < self.lossy / 2:
            await trio.sleep(ANSWER_S)
            raise DeviceUnavailable("the request was lost")
        answer = self.sim.obey(request)
        if self.sim.wiring.pulse == "board" and request.coils == (True,) and request.address != 2:
            self.sim.coils[request.address] = False  # a momentary relay; the turnstile has seen its edge
        if fate < self.lossy:
            await trio.sleep(ANSWER_S)
            raise DeviceUnavailable("the answer was lost")
        if isinstance(answer, int):
            raise DeviceRefused("busy")
        return answer


def in_virtual_time(main) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


WIRINGS = st.sampled_from([SERVER, BOARD, SHARED])


@settings(max_examples=25, deadline=None)
@given(WIRINGS, st.integers(1, 4), st.integers(0, 4), st.floats(0, 0.6), st.integers(0, 2**32))
def test_an_opening_lets_through_at_most_the_people_it_is_for(wiring, pax, come, lossy, seed):
    """Whatever is lost, and however often the lane asks: one edge of the coil for each person, at most."""

    rng = random.Random(seed)

    async def main() -> None:
        sim = SimRelayGate(1)
        sim.wiring = wiring
        bus, heard = UnkindBus(sim, rng, lossy), Recorder()
        gate = RelayGate(bus, 1, wiring, poll_s=0.2, rng=random.Random(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.run, heard)
            with trio.fail_after(600):
                while not heard.of(DeviceUp):
                    await trio.sleep(0.05)
            gate.open(ENTRY, pax, 5.0)
            passed, opened_at = 0, trio.current_time()
            for _ in range(80):
                await trio.sleep(0.1)
                if passed < come and rng.random() < 0.5 and sim.may_pass(ENTRY):
                    sim.person()
                    passed += 1
                waits = passed == 0 and not heard.of(DeviceDown) and trio.current_time() - opened_at < 4.0
                if waits and rng.random() < 0.2:  # a lane asks again only for a grant that is still open
                    gate.open(ENTRY, pax, 5.0)
            assert sim.openings <= pax
            assert passed <= pax
            bus.lossy = 0.0
            await trio.sleep(8.0)
            assert not any(sim.coils[:2]), "and nothing is left open"
            assert heard.people() == list(range(1, passed + 1)) or heard.of(DeviceUp)[-1].counters.entries == passed
            nursery.cancel_scope.cancel()

    in_virtual_time(main)


@settings(max_examples=20, deadline=None)
@given(WIRINGS, st.floats(0, 0.7), st.integers(0, 2**32))
def test_a_release_always_comes_through_and_stays(wiring, lossy, seed):
    rng = random.Random(seed)

    async def main() -> None:
        sim = SimRelayGate(1)
        sim.wiring = wiring
        bus, heard = UnkindBus(sim, rng, lossy), Recorder()
        gate = RelayGate(bus, 1, wiring, poll_s=0.2, rng=random.Random(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.run, heard)
            await trio.sleep(5 * rng.random())
            gate.open(ENTRY, 2, 5.0)
            await trio.sleep(rng.random())
            gate.release()
            for order in rng.choices([gate.close, gate.release, lambda: gate.open(ENTRY, 1, 5.0)], k=5):
                await trio.sleep(rng.random())
                order()
            with trio.fail_after(900):
                while not sim.coils[wiring.hold]:
                    await trio.sleep(0.05)
            for _ in range(100):
                await trio.sleep(0.1)
                assert sim.coils[wiring.hold], "it was let go"
            bus.lossy = 0.0
            await trio.sleep(15.0)
            said = [event.barrier for event in heard.events if isinstance(event, BarrierChanged | DeviceUp)]
            assert said[-1] is Barrier.RELEASED
            gate.rearm()
            await trio.sleep(15.0)
            assert not sim.coils[wiring.hold]
            nursery.cancel_scope.cancel()

    in_virtual_time(main)


@pytest.mark.parametrize("wiring", [SERVER, BOARD, SHARED])
async def test_a_close_ends_a_turn_and_the_next_one_opens_again(wiring, autojump_clock):
    sim = SimRelayGate(1)
    sim.wiring = wiring
    heard = Recorder()
    gate = RelayGate(UnkindBus(sim, random.Random(1), 0.0), 1, wiring)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.run, heard)
        await trio.sleep(1.0)
        gate.open(ENTRY, 3, 5.0)
        await trio.sleep(0.2)
        gate.close()
        await trio.sleep(3.0)
        assert sim.openings == 1 and not sim.coils[0]
        gate.open(ENTRY, 1, 5.0)
        await trio.sleep(1.0)
        assert sim.openings == 2
        nursery.cancel_scope.cancel()
