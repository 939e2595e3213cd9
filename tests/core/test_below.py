"""Finding a supervisor in a running tree, to start and stop children there."""

from __future__ import annotations

import pytest

from core import Address, Child, Supervisor


async def _nothing(me: Address) -> None:
    return


def test_a_supervisor_is_found_by_its_name_however_deep() -> None:
    devices = Supervisor("devices", [Child(Address("gate"), _nothing)])
    empty = Supervisor("empty")
    safety = Supervisor("safety", [Child(Address("x"), _nothing), Child(devices.address, devices.run)])
    site = Supervisor("site", [Child(empty.address, empty.run), Child(safety.address, safety.run)])
    assert site.below("devices") is devices
    assert site.below("safety") is safety
    assert safety.below("devices") is devices


@pytest.mark.parametrize("name", ["site", "gate", "nobody"])
def test_who_is_no_supervisor_below_is_not_found(name: str) -> None:
    devices = Supervisor("devices", [Child(Address("gate"), _nothing)])
    site = Supervisor("site", [Child(devices.address, devices.run)])
    with pytest.raises(KeyError, match=name):
        site.below(name)
