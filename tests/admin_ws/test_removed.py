"""The hub forgets a device that is in the site file no more."""

from __future__ import annotations

import trio

from admin_ws.hub import BATCH_S, HUB_MAILBOX_CAPACITY, Hub
from core import Address, Child, Supervisor
from core.testing import running
from protocols.console import DeviceView


async def test_a_removed_device_is_in_no_later_snapshot_and_may_come_back(autojump_clock: trio.abc.Clock) -> None:
    hub, address = Hub(site="s", site_name="S"), Address("consoles", capacity=HUB_MAILBOX_CAPACITY)

    def shown() -> list[str]:
        return [view.device for view in hub.snapshot().devices]

    async with running(Supervisor("root", [Child(address, hub.run)])):
        for availability, expected in (("available", ["printer/w1"]), ("removed", []), ("unknown", ["printer/w1"])):
            address.tell(DeviceView(device="printer/w1", kind="printer", lane="", availability=availability))
            await trio.sleep(BATCH_S * 3)
            assert shown() == expected
