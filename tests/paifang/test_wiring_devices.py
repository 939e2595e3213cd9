"""What the wiring does between lanes and readers: light and sound at the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from actors.reader import Signal
from core import Address
from core.testing import Probe
from drivers.base import Feedback, Outcome
from paifang._wire_devices import Devices
from paifang.check import load

EXAMPLE = Path(__file__).parents[2] / "sites" / "devices.toml"


async def test_a_signal_goes_to_the_reader_that_was_used_or_to_all_of_the_lane(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    site = load(EXAMPLE)
    statistics: dict[str, Any] = {}
    lanes: dict[str, Address] = {lane.id: Probe(f"lane/{lane.id}") for lane in site.lanes}
    devices = Devices(
        site, tmp_path, address=lambda name, capacity: Probe(name, capacity=capacity), lanes=lanes,
        ledger=Probe("ledger"), hub=Probe("hub"), evacuation=Probe("evacuation"), statistics=statistics,
    )  # fmt: skip
    for spec in devices.specs.values():
        devices.child(spec)

    def heard() -> dict[str, int]:
        return {
            name: address.statistics().depth
            for name, address in devices._addresses.items()
            if name.startswith("reader/") and address.statistics().depth
        }

    go = Feedback(outcome=Outcome.GO, product_class="discount")
    devices.signal("e1", "reader/e1/2", go)
    assert heard() == {"reader/e1/2": 1}
    message = (await devices._addresses["reader/e1/2"].receive()).msg
    assert message == Signal(feedback=go)
    devices.signal("e1", "", Feedback(outcome=Outcome.EMERGENCY))
    assert heard() == {f"reader/e1/{n}": 1 for n in range(1, 7)}
    devices.signal("n1", "reader/e1/1", go)  # of another lane: nobody's
    devices.signal("nowhere", "", go)
    assert sum(heard().values()) == 6
    devices.forget("reader/e1/6")
    devices.signal("e1", "", go)
    assert heard() == {f"reader/e1/{n}": 2 for n in range(1, 6)}
