"""What lane controllers ask beside scans, put together: their lists, and where their journals go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors._common import offer
from actors.lane._link import Wake
from actors.lists import Lists
from actors.renewals import Renewals
from actors.uploads import LanePlace, Uploads
from core import Address, Child
from paifang._keyfiles import KeysError
from paifang._wire_pki import FOLDER, uses_tls
from paifang.keys import KeyRing
from paifang.pki import Authority
from paifang.pki_renew import renewed
from paifang.setups import site_setup
from paifang.site import SiteFile
from protocols import devicelink
from protocols.devicelink import EVERYBODY
from protocols.lists import ListKey
from storage._lists import ListReader
from storage.connection import Dsn

RELEASE, TICKET, HASH = "release", "ticket", "hash"


class LaneServices:
    """The actors, and which request each of them serves. Without TLS there is no certificate to renew."""

    def __init__(self, address: Callable[[str, int], Address], site: SiteFile, data: Path) -> None:
        self.lists = address("lists", 64)
        self.uploads = address("uploads", 64)
        self.renewals = address("renewals", 16) if uses_tls(site.link) else None
        self._site = site
        self._data = data
        self.serves: dict[type[devicelink.WorkRequest], Address] = {
            devicelink.GetList: self.lists,
            devicelink.Upload: self.uploads,
        }
        if self.renewals is not None:
            self.serves[devicelink.Renew] = self.renewals

    def children(self, dsn: Dsn | Callable[[], Dsn], keys: KeyRing, ledger: Address, link: Address) -> list[Child]:
        site = self._site
        reader = ListReader(site_setup(site), dsn, keys=lambda: lane_keys(keys))
        wake = partial(offer, link, Wake(device=EVERYBODY))
        places = {
            lane.id: LanePlace(lane.from_zone, lane.to_zone, lane.grant_ttl_s, lane.class_) for lane in site.lanes
        }
        children = [
            Child(self.lists, Lists(reader, wake=wake).run),
            Child(self.uploads, Uploads(lanes=places, ledger=ledger).run),
        ]
        if self.renewals is not None:
            issue = partial(_renewed, self._data / FOLDER)
            children.append(Child(self.renewals, Renewals(issue, (KeysError,)).run))
        return children


def _renewed(folder: Path, device: str, request: bytes) -> bytes:
    return renewed(Authority.load(folder), device, request)


def lane_keys(keys: KeyRing) -> list[ListKey]:
    """What a lane needs to read tickets, to find credentials and to believe a release; nothing that signs."""
    public = [
        (purpose, str(name), key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex())
        for purpose, ring in ((TICKET, keys.ticket_verifiers), (RELEASE, keys.release_verifiers))
        for name, key in sorted(ring.items(), key=lambda item: str(item[0]))
    ]
    secret = (HASH, "1", keys.hash_key.hex())
    return [ListKey("k", f"{purpose}/{name}", purpose, name, value) for purpose, name, value in [*public, secret]]
