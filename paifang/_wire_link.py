"""The device link, put together: sockets, TLS, who is let in, and what stands beside them where there is TLS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import trio

from actors.link import Handler, LinkActor, OnSafety
from core import Address
from drivers.errors import DeviceError
from drivers.nng import Peer, SafetyServer, WorkServer
from paifang._wire_pki import FOLDER, CertificateWatch, LinkGuard, uses_tls
from paifang.pki_enrol import EnrolServer
from paifang.site import SiteFile
from protocols.devicelink import WorkRequest

RETRY_S = 5.0  # before what failed beside the link is tried again

log = structlog.get_logger(__name__)


def link_actor(
    site: SiteFile,
    data: Path,
    lanes: Mapping[str, tuple[str, Address]],
    *,
    hub: Address,
    ledger: Address,
    servers: dict[str, Any],
    services: Mapping[type[WorkRequest], Address] | None = None,
) -> LinkActor:
    """The actor of the link. `lanes` maps a device's name to its lane's (name, address); `services` as in `LinkActor`.

    What has statistics is put into `servers`: the sockets in use under `work` and `safety`, and `certificates`.
    """
    addresses = site.link
    guard = LinkGuard(data / FOLDER) if uses_tls(addresses) else None

    def make_work(handler: Handler) -> WorkServer:
        tls, accepts = (None, _everybody) if guard is None else (guard.work(), guard.accepts_work)
        servers["work"] = server = WorkServer(addresses.work, addresses.wake, handler, tls=tls, accepts=accepts)
        return server

    def make_safety(on_request: OnSafety) -> SafetyServer:
        tls, accepts = (None, _everybody) if guard is None else (guard.safety(), guard.accepts_safety)
        servers["safety"] = server = SafetyServer(
            addresses.release, addresses.safety, on_request, tls=tls, accepts=accepts
        )
        return server

    async def watch(changed: Callable[[], None]) -> None:
        assert guard is not None
        servers["certificates"] = certificates = CertificateWatch(data / FOLDER, lanes, hub=hub, ledger=ledger)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard.watch, changed)
            nursery.start_soon(_keep, "certificates", certificates.run)
            if addresses.enrol:
                nursery.start_soon(_keep, "enrol", EnrolServer(site, data, frozenset(lanes)).run)

    return LinkActor(
        site=site.site.id,
        lanes=lanes,
        hub=hub,
        make_work=make_work,
        make_safety=make_safety,
        watch=None if guard is None else watch,
        books=ledger,
        clock_tolerance_s=addresses.clock_tolerance_s,
        services=services,
    )


def _everybody(peer: Peer) -> bool:
    return True


async def _keep(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run for ever. What fails beside the link is no trouble of the link's."""
    while True:
        try:
            await run()
        except* (DeviceError, OSError) as group:
            log.error("link.beside_down", what=name, error="; ".join(map(str, group.exceptions))[:200])
        await trio.sleep(RETRY_S)
