"""Reads a card after each jump of the clock; run by `test_clock.py` with `clock.c` preloaded.

Arguments: a folder, and the jumps in seconds. Prints `shifted` when the clock really jumps, then one line for each
jump: the seconds until the card was read, or `never`; and at the end how often the reader was reported as down.
"""

import ctypes
import sys
import time
from pathlib import Path

import trio

from drivers.base import CredentialRead, DeviceDown, DeviceEvent
from drivers.osdp import OsdpBus
from sim.osdp import SimOsdpBus

KEY = bytes(range(1, 17))
LIMIT_S = 20.0


async def main() -> None:
    shift = ctypes.CDLL(None).shift_clock
    shift.argtypes = [ctypes.c_longlong]
    path = Path(sys.argv[1]) / "bus"
    sim = SimOsdpBus(path)
    device = sim.reader(1, key=KEY)
    events: list[DeviceEvent] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sim.run)
        nursery.start_soon(OsdpBus(str(path), 115200).reader(1, key=KEY).run, events.append)
        with trio.fail_after(LIMIT_S):
            while not events:
                await trio.sleep(0.01)
        before = time.time()
        shift(86400)
        print("shifted" if time.time() - before > 80000 else "not shifted")
        shift(-86400)
        for number, jump_s in enumerate(map(int, sys.argv[2:])):
            shift(jump_s)
            uid, began_s = f"04A1B2{number:02}", trio.current_time()
            with trio.move_on_after(LIMIT_S):
                while not any(isinstance(event, CredentialRead) and event.value == uid for event in events):
                    device.card(uid)
                    await trio.sleep(0.1)
                print(f"{trio.current_time() - began_s:.2f}", flush=True)
                continue
            print("never", flush=True)
        print("downs", sum(isinstance(event, DeviceDown) for event in events))
        nursery.cancel_scope.cancel()


trio.run(main)
