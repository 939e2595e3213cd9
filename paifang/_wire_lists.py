"""What lane controllers ask beside scans, put together: their lists, and where their journals go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.lists import Lists
from actors.uploads import LanePlace, Uploads
from core import Address, Child
from paifang.keys import KeyRing
from paifang.setups import site_setup
from paifang.site import SiteFile
from protocols import devicelink as link
from protocols.lists import ListKey
from storage._lists import ListReader
from storage.connection import Dsn

RELEASE, TICKET, HASH = "release", "ticket", "hash"


class LaneServices:
    """The two actors, and which request each of them serves."""

    def __init__(self, lists: Address, uploads: Address) -> None:
        self.lists = lists
        self.uploads = uploads
        self.serves: Mapping[type[link.WorkRequest], Address] = {link.GetList: lists, link.Upload: uploads}

    def children(
        self, site: SiteFile, dsn: Dsn | Callable[[], Dsn], keys: KeyRing, ledger: Address
    ) -> list[Child]:
        reader = ListReader(site_setup(site), dsn, keys=lambda: lane_keys(keys))
        places = {
            lane.id: LanePlace(lane.from_zone, lane.to_zone, lane.grant_ttl_s, lane.class_) for lane in site.lanes
        }
        return [
            Child(self.lists, Lists(reader).run),
            Child(self.uploads, Uploads(lanes=places, ledger=ledger).run),
        ]


def lane_keys(keys: KeyRing) -> list[ListKey]:
    """What a lane needs to read tickets, to find credentials and to believe a release; nothing that signs."""
    public = [
        (purpose, str(name), key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex())
        for purpose, ring in ((TICKET, keys.ticket_verifiers), (RELEASE, keys.release_verifiers))
        for name, key in sorted(ring.items(), key=lambda item: str(item[0]))
    ]
    secret = (HASH, "1", keys.hash_key.hex())
    return [ListKey("k", f"{purpose}/{name}", purpose, name, value) for purpose, name, value in [*public, secret]]
