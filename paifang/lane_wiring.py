"""The composition root of a lane controller: from a lane file and a data folder to its tree of actors.

The lane, its counter and its devices are the same as in a site server; admission, ledger, evacuation and console are
replaced by the lane's own (`actors.edge`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import time as clock_time
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog
import trio

from actors._common import offer
from actors.admission import Identify
from actors.edge import (
    Clocks,
    Connected,
    Decider,
    Disk,
    DiskTrouble,
    EdgeEvacuation,
    EdgeKeys,
    EdgeLedger,
    EdgeLink,
    EdgePolicy,
    Hint,
    ListActor,
    NeighbourActor,
    PowerActor,
    RenewalActor,
    ServerRelease,
    UploadActor,
    Woken,
)
from actors.lane import LaneParts
from actors.site import SiteTree, supervise
from core import Address, Child, DeadLetters, Notice, NoticeKind, Stop, Supervisor
from drivers.base import DriverStatistics, Feedback
from drivers.nng import LinkClient, LinkTlsError, NeighbourLink, Sensed
from drivers.ups import read_power
from paifang._wire_devices import Devices
from paifang.lane_keys import LaneKeys, neighbour_key
from paifang.lane_status import STATUS_FILE, LaneHub
from paifang.lanefile import LaneFile
from paifang.pki import PkiError
from paifang.pki_renew import LaneCertificate
from protocols.clock import LocalTime, local_time
from protocols.devicelink import Release
from protocols.messages import Credential, Passed
from storage.journal import JournalError, late_journal
from storage.lanebook import LaneBook
from storage.lanelists import LaneLists, ListsError

JOURNAL_FILE = "journal.sqlite"
LISTS_FILE = "lists.sqlite"
LATCH_FILE = "evacuation.latch"
LANE_MAILBOX_CAPACITY = 512
SENSED_OPEN = frozenset({"open", "released"})
QUIET_STATES = frozenset({"idle", "unavailable", "released", "needs_rearm", "starting"})
QUIET_WITHIN_S = 15.0  # a restart waits so long for the visitor who is just passing

log = structlog.get_logger(__name__)


class BuiltLane:
    """The tree, not yet running, with what the process and tests look at. `why_stopped` is set before an own end."""

    def __init__(self, file: LaneFile, data: Path) -> None:
        """Raises KeysError, LinkTlsError or ListsError before anything runs."""
        self.file = file
        self.data = data
        self.why_stopped = ""
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._dead_letters = DeadLetters()
        self._passed = 0
        lane = file.lane
        start = clock_time.fromisoformat(file.site.business_day_start)
        self._local: Callable[[float], LocalTime] = partial(
            local_time, timezone=ZoneInfo(file.site.timezone), start=start
        )
        self.lists = LaneLists(data / LISTS_FILE, lambda at: self._local(at).day)
        identity = _below(data, file.controller.identity) if file.controller.identity else None
        self.keys = LaneKeys(file.site.id, identity or data / "identity", self.lists)
        self.certificate: LaneCertificate | None = None
        if identity is not None and (identity / "device.pem").exists():
            self.certificate = LaneCertificate(identity, file.controller.device, self.now)
        tls = None if self.certificate is None else self.certificate.tls
        key = neighbour_key(_below(data, file.neighbours.key), needed=bool(file.neighbours.lanes))
        self.journal, trouble = late_journal(data / JOURNAL_FILE)
        if trouble:
            log.error("lane.journal", error=trouble)
        elif self.journal.set_aside:
            log.error("lane.journal_damaged", set_aside=self.journal.set_aside)
        self.book = LaneBook(self.journal, lane.id, lambda at: self._local(at).day.isoformat())
        self.disk = Disk(self.book, (JournalError, ListsError), changed=self._disk_trouble)

        self.hub_address = self._address("hub", 1024)
        self.lane_address = self._address(f"lane/{lane.id}", LANE_MAILBOX_CAPACITY)
        self.ledger_address = self._address("ledger", 4096)
        self.admission_address = self._address("admission", 64)
        self.evacuation_address = self._address("evacuation", 256)
        self.upload_address = self._address("upload", 64)
        self.lists_address = self._address("lists", 64)
        self.neighbours_address = self._address("neighbours", 1024)
        self.link_address = self._address("link", 64)
        self.client_address = self._address("client", 16)
        self.power_address = self._address("power", 16)
        self.renewal_address = self._address("renewal", 16)
        statistics: dict[str, Callable[[], DriverStatistics]] = {}
        self.devices = Devices(
            file.as_site,
            data,
            address=self._address,
            lanes={lane.id: self.lane_address},
            ledger=self.ledger_address,
            hub=self.hub_address,
            evacuation=self.evacuation_address,
            statistics=statistics,
        )
        self.client = LinkClient(
            file.link,
            file.controller.device,
            self.keys.release,
            site=file.site.id,
            sensed=self._sensed,
            on_release=self._on_release,
            lane=lane.id,
            on_wake=lambda: self.link_address.tell(Woken()),
            on_lists=lambda: offer(self.lists_address, Hint()),
            on_link=lambda up: self.link_address.tell(Connected(up=up)),
            tls=tls,
        )
        self._actors(key)

    def _actors(self, key: bytes) -> None:
        file, lane = self.file, self.file.lane
        policy = EdgePolicy(**{name: getattr(file.policy, name) for name in EdgePolicy.__struct_fields__})
        self.hub = LaneHub(lane=lane.id, path=self.data / STATUS_FILE, facts=self.facts, signal=self._signal)
        self.evacuation = EdgeEvacuation(
            lanes={lane.id: self.lane_address},
            gates=self.devices.gates,
            latch=self.data / LATCH_FILE,
            trouble=lambda words: log.error("lane.latch", error=words),
        )
        self.decider = Decider(
            lane=lane.id,
            device=file.controller.device,
            policy=policy,
            ask=self.client.ask,
            header=self.client.header,
            disk=self.disk,
            lists=self.lists,
            keys=EdgeKeys(verify=self.keys.verify, hash_id=self.keys.hash_id, neighbours=key),
            clocks=Clocks(now=self.now, local=self._local),
            zones=[zone.id for zone in file.zones],
            neighbours=self.neighbours_address,
            upload=self.upload_address,
            told=[self.link_address, self.hub_address],
        )
        self.ledger = EdgeLedger(
            disk=self.disk,
            neighbours=self.neighbours_address,
            upload=self.upload_address,
            clock=self.now,
            passed=self._count,
        )
        self.upload = UploadActor(
            disk=self.disk, ask=self.client.ask, header=self.client.header, decider=self.admission_address
        )
        self.list_actor = ListActor(
            store=self.lists,
            failures=(ListsError,),
            ask=self.client.ask,
            header=self.client.header,
            changed=self.keys.refresh,
        )
        outlet = None
        if file.neighbours.listen:
            outlet = NeighbourLink(file.neighbours.listen, [each.url for each in file.neighbours.lanes])
        self.neighbours = NeighbourActor(
            lane=lane.id,
            lanes=[each.lane for each in file.neighbours.lanes],
            key=key,
            outlet=outlet,
            disk=self.disk,
        )
        self.link = EdgeLink(
            lane=lane.id,
            ask=self.client.ask,
            header=self.client.header,
            barrier=lambda: self.hub.barrier,
            released=lambda: self.evacuation.incident,
            counts=lambda: self.hub.counts,
            disk=self.disk,
            lane_address=self.lane_address,
            evacuation=self.evacuation_address,
            lists=self.lists_address,
            told=[self.admission_address, self.upload_address, self.lists_address, *self._renewals()],
            restart=lambda: self.stop("restart"),
            beat_limit_s=policy.answer_limit_s,
        )
        self.renewal = None if self.certificate is None else self._renewal(self.certificate)
        self.power = PowerActor(
            read=partial(read_power, file.power.ups, file.power.host, file.power.port),
            lane=lane.id,
            ledger=self.ledger_address,
            low=lambda: self.stop("low_battery"),
            clock=self.now,
            poll_s=file.power.poll_s,
        )
        self.root = self._tree()

    def _renewals(self) -> list[Address]:
        return [] if self.certificate is None else [self.renewal_address]

    def _renewal(self, certificate: LaneCertificate) -> RenewalActor:
        return RenewalActor(
            keeper=certificate,
            failures=(PkiError, LinkTlsError),
            ask=self.client.ask,
            header=self.client.header,
            disk=self.disk,
            upload=self.upload_address,
            changed=lambda: self.client.use(certificate.tls),
        )

    def _stored(self, credential: Credential) -> bytes:
        """A credential's keyed hash, once the lists have brought the key."""
        hash_id = self.keys.hash_id()
        return b"" if hash_id is None else Identify(self.keys.verify, hash_id).stored(credential)

    def _tree(self) -> Supervisor:
        parts = LaneParts(
            admission=self.admission_address,
            books=self.ledger_address,
            evacuation=self.evacuation_address,
            occupancy=self.hub_address,
            hub=self.hub_address,
            signal=self.devices.signal,
            stored=self._stored,
        )
        business = [
            Child(self.hub_address, self.hub.run),
            Child(self.ledger_address, self.ledger.run, shutdown_s=10.0),
            Child(self.admission_address, self.decider.run),
            Child(self.neighbours_address, self.neighbours.run),
            Child(self.upload_address, self.upload.run),
            Child(self.lists_address, self.list_actor.run),
            Child(self.link_address, self.link.run),
        ]
        if self.file.power.ups:
            business.append(Child(self.power_address, self.power.run))
        if self.renewal is not None:
            business.append(Child(self.renewal_address, self.renewal.run))
        tree = SiteTree(
            evacuation=Child(self.evacuation_address, self.evacuation.run),
            link=Child(self.client_address, self._run_client),
            devices=self.devices.children(parts, self.link_address),
            business=business,
        )
        return supervise(tree, dead_letters=self._dead_letters, hook=_log_notice)

    async def _run_client(self, me: Address) -> None:
        """The link's sockets as an actor."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.client.run)
            while True:
                envelope = await me.receive()
                if isinstance(envelope.msg, Stop):
                    nursery.cancel_scope.cancel()
                    return

    # --- what others ask ----------------------------------------------------------------------------------------

    def now(self) -> float:
        """The server's clock as far as it is known; ours until then."""
        return time.time() + (self.client.statistics().clock_offset_s or 0.0)

    def stop(self, why: str) -> None:
        """End the process in order, once nobody is passing. What is released stays released."""
        if not self.why_stopped:
            self.why_stopped = why
            log.warning("lane.stops", why=why)

    async def stop_when_told(self) -> None:
        """Wait for `stop`, then for the visitor who is just passing, and end the tree."""
        while not self.why_stopped:  # noqa: ASYNC110 - told from anywhere, also from signal handlers
            await trio.sleep(0.05)
        with trio.move_on_after(QUIET_WITHIN_S):
            while self.hub.state not in QUIET_STATES:  # noqa: ASYNC110 - the view is a value
                await trio.sleep(0.05)
        self.root.address.tell(Stop(), system=True)

    def facts(self) -> dict[str, Any]:
        """For the status file."""
        client = self.client.statistics()
        power = self.power.state
        heard = self.neighbours.statistics()
        return {
            "mode": self.decider.mode,
            "link_up": self.link.up,
            "released": self.evacuation.released,
            "incident": self.evacuation.incident,
            "clock_offset_s": client.clock_offset_s,
            "decided_online": self.decider.decided_online,
            "decided_alone": self.decider.decided_alone,
            "decision_p99_ms": self._decision_p99_ms(),
            "passed": self._passed,
            "waiting_for_upload": self.book.waiting,
            "unwritten": self.book.unwritten,
            "journal_trouble": self.disk.trouble,
            "journal_set_aside": self.journal.set_aside,
            "list_version": self.lists.version,
            "list_as_of": self.lists.as_of,
            "list_trouble": self.list_actor.trouble,
            "list_whole_s": self.list_actor.whole_s,
            "list_delta_s": self.list_actor.delta_s,
            "neighbours_heard": heard.heard,
            "certificate_days_left": None if self.certificate is None else round(self.certificate.days_left, 3),
            "certificate_trouble": "" if self.renewal is None else self.renewal.trouble,
            "power": power.source.value,
            "battery_minutes": None if power.runtime_s is None else round(power.runtime_s / 60, 1),
        }

    def _decision_p99_ms(self) -> float | None:
        """Of the latest decisions that the lane made alone, its journal included."""
        times_s = sorted(self.decider.times_s)
        return round(times_s[int(0.99 * len(times_s))] * 1000, 2) if times_s else None

    def close(self) -> None:
        """Let go of the files, when the tree has ended."""
        self.journal.close()
        self.lists.close()

    # --- small helpers ------------------------------------------------------------------------------------------

    def _address(self, name: str, capacity: int) -> Address:
        return Address(name, capacity=capacity, dead_letters=self._dead_letters)

    def _sensed(self) -> Sensed:
        barrier = self.hub.barrier
        incident = self.evacuation.incident
        return Sensed(barrier, barrier in SENSED_OPEN, incident is not None, incident)

    def _on_release(self, release: Release) -> None:
        self.evacuation_address.tell(ServerRelease(incident=release.incident, drill=release.drill), system=True)

    def _signal(self, feedback: Feedback) -> None:
        self.devices.signal(self.file.lane.id, "", feedback)

    def _count(self, statement: Passed) -> None:
        self._passed += 1

    def _disk_trouble(self, trouble: str) -> None:
        offer(self.link_address, DiskTrouble(trouble=trouble))
        if trouble:
            log.error("lane.journal", error=trouble)
        else:
            log.warning("lane.journal_back")


def _below(data: Path, path: str) -> Path:
    return data / path  # an absolute path stays as it is


def _log_notice(notice: Notice) -> None:
    if notice.kind is NoticeKind.CRASHED:
        log.error("lane.crashed", child=notice.child, error=repr(notice.error)[:500])
