"""The real upsd of Debian's NUT with its own dummy driver: mains, battery, low, gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.testing import patient_time
from drivers.errors import DeviceUnavailable
from drivers.ups import read_power
from drivers.ups_testing import upsd
from protocols.nut import PowerSource

patient = pytest.fixture(autouse=True)(patient_time)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def test_a_real_upsd_says_mains_battery_and_low(tmp_path: Path) -> None:
    async with upsd(tmp_path) as supply:
        state = await supply.until(PowerSource.MAINS)
        assert (state.charge, state.runtime_s) == (100.0, 7200.0)
        supply.say("OB DISCHRG", 60, 1800)
        state = await supply.until(PowerSource.BATTERY)
        assert state.runtime_s == 1800.0
        supply.say("OB LB", 5, 60)
        await supply.until(PowerSource.LOW)
        with pytest.raises(DeviceUnavailable, match="UNKNOWN-UPS"):
            await read_power("another", port=supply.port)
    with pytest.raises(DeviceUnavailable):
        await read_power("ups", port=supply.port)
