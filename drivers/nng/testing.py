"""For tests of the device link: free addresses, and a gate that only says what it is told to say."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from core.ports import free_ports
from drivers.nng._endpoint import Sensed
from protocols.devicelink import Release


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """The `[link]` table with addresses of free ports on loopback."""

    work: str
    wake: str
    release: str
    safety: str
    evacuate_release: str
    evacuate_safety: str


def free_addresses(scheme: str = "tcp") -> Addresses:
    """Six addresses nobody listens on. Another program may take one before it is used: tests only."""
    names = [field.name for field in msgspec.structs.fields(Addresses)]
    ports = free_ports(len(names))
    return Addresses(**{name: f"{scheme}://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)})


async def until(condition: Callable[[], object], deadline_s: float = 3.0) -> None:
    """Wait for something that happens beyond a socket. Raises trio.TooSlowError."""
    with trio.fail_after(deadline_s):
        while not condition():  # noqa: ASYNC110 what is awaited happens in another thread or process
            await trio.sleep(0.005)


class FakeGate:
    """Sensors in memory: on a release they say `opens_as`. Only the client's partner; simulated gates are in `sim/`."""

    def __init__(self, opens_as: str = "released") -> None:
        self._opens_as = opens_as
        self.barrier = "closed"
        self.incident: int | None = None
        self.releases: list[Release] = []

    def sensed(self) -> Sensed:
        return Sensed(
            barrier=self.barrier,
            open=self.barrier == "released",
            released=self.incident is not None,
            incident=self.incident,
        )

    def release(self, release: Release) -> None:
        self.releases.append(release)
        self.incident = release.incident
        self.barrier = self._opens_as
