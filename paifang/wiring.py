"""The composition root: from a site file, keys and a database to the tree of actors.

The only place that knows concrete drivers, the concrete ledger and the concrete console at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog
import trio

from actors.admission import Admission, Explainer, Identify, LaneHere, decide
from actors.desk import Desk
from actors.evacuation import Evacuation
from actors.health import Health
from actors.lane import LaneParts
from actors.occupancy import Occupancy
from actors.office import Office, OfficeSeal
from actors.passes import Passes, Sealer
from actors.sales import HolderSeal, Sales
from actors.site import SiteTree, supervise
from actors.zones import Zones
from admin_ws.hub import HUB_MAILBOX_CAPACITY, Hub
from admin_ws.server import Console
from core import Address, Child, DeadLetters, Inspection, Notice, Supervisor, inspect_tree
from drivers.base import DriverStatistics
from drivers.nng import SafetyServer, WorkServer
from paifang._wire_accounts import accounts_of
from paifang._wire_alarms import Outgoing
from paifang._wire_cases import cases
from paifang._wire_devices import Devices
from paifang._wire_evacuation import places, unsensing
from paifang._wire_link import link_actor
from paifang._wire_lists import LaneServices
from paifang._wire_methods import recorder, routes
from paifang._wire_metrics import Passing, Views
from paifang._wire_modes import ModeKeeper, mode_keeper
from paifang._wire_phones import phones
from paifang._wire_reports import reports
from paifang._wire_wallet import wallets
from paifang.announce import Announcer
from paifang.faces import matcher
from paifang.keys import KeyRing
from paifang.reload import Reloader
from paifang.setups import plain_gates, product_setups, site_setup, ticket_signer, zone_marks
from paifang.site import SiteFile
from paifang.slips import ticket_slips
from paifang.watch import Watch
from paifang.webtls import web_tls
from protocols.console_rights import VIEW
from protocols.devicelink import (
    Release,
    sign_release,
    verify_release,
)
from protocols.errors import LinkError
from protocols.messages import CredentialKind, Direction
from protocols.ticketcode import Verifier
from storage.connection import Dsn
from storage.ledger import Ledger

LEDGER_MAILBOX_CAPACITY = 4096  # beyond what the ledger itself keeps pending; then lanes are refused at once
LANE_MAILBOX_CAPACITY = 512  # a flood of device events; scans are refused earlier by the lane's own state
ADMISSION_MAILBOX_CAPACITY = 1024
CONSOLE_LOOK_S = 0.02  # between two looks whether the console listens
HOLDER_CONTEXT = "holder-name"
ID_NUMBER_CONTEXT = "id-number"

log = structlog.get_logger(__name__)


class BuiltSite:
    """The tree, not yet running, with what the process around it needs to know."""

    def __init__(
        self,
        root: Supervisor,
        console: Console,
        lanes: Mapping[str, Address],
        web: Address,
        reloader: Address | None,
        evacuation: Address,
    ) -> None:
        self.root = root
        self.evacuation = evacuation
        self.reloader = reloader
        self.console = console
        self.lanes = lanes
        self._web = web
        self.stopping = False

    def console_error(self) -> str:
        """Why the console does not listen, as far as is known."""
        return self._web.last_error or self._web.state

    async def wait_for_console(self) -> None:
        """Wait until the console's port is being listened on. The lanes started before it."""
        while not (self._web.alive and self._web.state.startswith("listening")):  # noqa: ASYNC110 - no event over restarts
            await trio.sleep(CONSOLE_LOOK_S)


def build(
    site: SiteFile, data: Path, dsn: Callable[[], Dsn], keys: KeyRing, path: Path | None = None
) -> BuiltSite:
    """Everything of a site, wired. `dsn` is asked at each connection; `path` is the file to read at a reload."""
    builder = _Builder(site, data, dsn, keys, path)
    return builder.build()


class _Builder:
    """Holds the addresses while the actors that need them are made."""

    def __init__(
        self, site: SiteFile, data: Path, dsn: Callable[[], Dsn], keys: KeyRing, path: Path | None
    ) -> None:
        self.site = site
        self.path = path
        self.data = data
        self.dsn = dsn
        self.keys = keys
        self.dead_letters = DeadLetters()
        self.outgoing = Outgoing(site, data, self.dead_letters)
        self.views = Views()
        self.hub = Passing("consoles", capacity=HUB_MAILBOX_CAPACITY, dead_letters=self.dead_letters, see=self._see)
        self.ledger = self.address("ledger", LEDGER_MAILBOX_CAPACITY)
        self.admission = self.address("admission", ADMISSION_MAILBOX_CAPACITY)
        self.occupancy = self.address("occupancy", 512)
        self.passes = self.address("passes", 128)
        self.accounts = self.address("accounts", 128)
        self.sales = self.address("sales", 256)
        self.office = self.address("office", 64)
        self.desk = self.address("desk", 128)
        self.zones = self.address("zones", 32)
        self.phones = self.address("phones", 128)
        self.modes = self.address("modes", 64)
        self.explainer = self.address("explainer", 32)
        self.reports = self.address("reports", 32)
        self.wallets = self.address("wallets", 32)
        self.cases = self.address("cases", 32)
        self.reloader = self.address("reload", 8)
        self.health = self.address("health", 64)
        self.evacuation = self.address("evacuation", 1024)
        self.link = self.address("link", 512)
        self.announcer = self.address("announcer", 16)
        self.lane_services = LaneServices(self.address, site, data)
        self.web = self.address("web", 16)
        self.watch = self.address("watch", 16)
        self.web_tls = web_tls(site, data)
        self.statistics: dict[str, Callable[[], DriverStatistics]] = {}
        self.links: dict[str, WorkServer | SafetyServer] = {}
        self.lanes = {lane.id: self.address(f"lane/{lane.id}", LANE_MAILBOX_CAPACITY) for lane in site.lanes}
        self.devices = Devices(
            site,
            data,
            address=self.address,
            lanes=self.lanes,
            ledger=self.ledger,
            hub=self.hub,
            evacuation=self.evacuation,
            statistics=self.statistics,
        )
        self.root: Supervisor | None = None
        self.watcher: Watch | None = None

    def _see(self, message: object) -> None:
        self.views.see(message)
        self.outgoing.see(message)

    def address(self, name: str, capacity: int) -> Address:
        return Address(name, capacity=capacity, dead_letters=self.dead_letters)

    def build(self) -> BuiltSite:
        console = self._console()
        tree = SiteTree(
            link=self._link(),
            evacuation=Child(self.evacuation, self._evacuation().run),
            devices=[*self._device_children(), self._announcer()],
            business=[*self._business(console), Child(self.watch, self._watch(console).run)],
        )
        self.root = supervise(tree, dead_letters=self.dead_letters, hook=_log_notice)
        reloader = None if self.path is None else self.reloader
        return BuiltSite(self.root, console, self.lanes, self.web, reloader, self.evacuation)

    # --- safety -----------------------------------------------------------------------------------------------

    def _evacuation(self) -> Evacuation:
        key_id, key = self.keys.release_signer
        site_id = self.site.site.id

        def sign_incident(incident: int, drill: bool, scope: str = "site") -> Release:
            return sign_release(key, key_id, site=site_id, incident=incident, scope=scope, drill=drill)

        def is_genuine(release: Release) -> bool:
            verifier = self.keys.release_verifiers.get(release.key)
            if verifier is None or release.site != site_id:
                return False
            try:
                verify_release(release, verifier)
            except LinkError:
                return False
            return True

        return Evacuation(
            lanes=self.lanes,
            gates=self.devices.gates,
            link_address=self.link,
            hub=self.hub,
            ledger=self.ledger,
            sign=sign_incident,
            verify=is_genuine,
            latch=self.data / "evacuation.latch",
            places=places(self.site),
            unsensing=unsensing(self.site),
            announcer=self.announcer,
            say=lambda broadcast: self.link_actor.say(broadcast),
        )

    def _announcer(self) -> Child:
        table = self.site.evacuation
        return Child(self.announcer, Announcer(table.announce, table.announce_timeout_s, self.hub).run)

    def _link(self) -> Child:
        devices = {lane.device: (lane.id, self.lanes[lane.id]) for lane in self.site.lanes if lane.device is not None}
        places = {"hub": self.hub, "ledger": self.ledger}
        self.link_actor = link_actor(
            self.site, self.data, devices, servers=self.links, services=self.lane_services.serves, **places
        )
        return Child(self.link, self.link_actor.run)

    def _device_children(self) -> list[Child]:
        verifier = Verifier(self.keys.ticket_verifiers, self.site.site.id)
        parts = LaneParts(
            admission=self.admission,
            books=self.ledger,
            evacuation=self.evacuation,
            occupancy=self.occupancy,
            hub=self.hub,
            gates=plain_gates(self.site),
            signal=self.devices.signal,
            stored=Identify(verifier.verify, self.keys.hash_id, self.keys.rotating_key).stored,
        )
        return self.devices.children(parts, self.link)

    # --- business ---------------------------------------------------------------------------------------------

    def _business(self, console: Console) -> list[Child]:
        site = self.site
        hub = Hub(site=site.site.id, site_name=site.site.name, timezone=site.site.timezone)
        ledger = Ledger(
            site_setup(site),
            self.dsn,
            decide,
            hash_id=self.keys.hash_id,
            on_zones=self.occupancy,
            on_state=self.health,
        )
        verifier = Verifier(self.keys.ticket_verifiers, site.site.id)
        admission = Admission(
            verify=verifier.verify,
            hash_id=self.keys.hash_id,
            ledger=self.ledger,
            passes=self.passes,
            rotating_key=self.keys.rotating_key,
            seal=lambda data, context: self.keys.seal(data, context.decode()),
        )
        explainer = Explainer(
            lanes={
                lane.id: LaneHere(
                    to_zone=lane.to_zone,
                    max_pax=lane.max_group,
                    refuses=self.devices.refuses[lane.id],
                    refuses_exit=partial(self.devices.refuses[lane.id], Direction.EXIT),
                    class_=lane.class_,
                    from_zone=lane.from_zone,
                )
                for lane in site.lanes
            },
            verify=verifier.verify,
            hash_id=self.keys.hash_id,
            ledger=self.ledger,
            timezone=ZoneInfo(site.site.timezone),
            rotating_key=self.keys.rotating_key,
        )
        passes = Passes(
            matcher=matcher(site.face),
            sealer=Sealer(
                seal=lambda data, context: self.keys.seal(data, context.decode()),
                open=lambda data, context: self.keys.open(data, context.decode()),
            ),
            ledger=self.ledger,
        )
        occupancy = Occupancy(
            names={zone.id: zone.name for zone in site.zones},
            hub=self.hub,
            marks=zone_marks(site),
            evacuation=self.evacuation,
        )
        zones = Zones(zones=[zone.id for zone in site.zones], ledger=self.ledger, hub=self.hub)
        accounts = accounts_of(self.site, self.data, self.keys, hub=self.hub, ledger=self.ledger, web=self.web)
        desk = Desk(lanes=self.lanes, ledger=self.ledger, inspect=self._inspect)
        return [
            Child(self.hub, hub.run),
            *self.outgoing.children(self.hub),
            Child(self.health, Health(hub=self.hub).run),
            Child(self.accounts, accounts.run),
            Child(self.web, console.run),
            Child(self.occupancy, occupancy.run),
            Child(self.ledger, ledger.run, shutdown_s=10.0),
            *self.lane_services.children(self.dsn, self.keys, self.ledger, self.link),
            Child(self.admission, admission.run),
            Child(self.passes, passes.run),
            Child(self.sales, self._sales(verifier).run),
            Child(self.office, self._office().run),
            Child(self.desk, desk.run),
            Child(self.zones, zones.run),
            Child(self.modes, self._modes().run),
            Child(self.phones, phones(site, self.keys, self.lanes, self.ledger, self.zones).run),
            Child(self.explainer, explainer.run),
            Child(self.reports, reports(site, self.dsn).run),
            Child(self.wallets, wallets(site, self.keys, self.ledger).run),
            Child(
                self.cases,
                cases(site, self.dsn, self.keys, ledger=self.ledger, office=self.office, hub=self.hub).run,
            ),
            *([] if self.web_tls is None else [Child(self.address("web_tls", 8), self.web_tls.run)]),
            *([] if self.path is None else [Child(self.reloader, self._reload(self.path).run)]),
        ]

    def _reload(self, path: Path) -> Reloader:
        return Reloader(
            path=path,
            started=self.site,
            devices=self.devices,
            supervisor=lambda: self._root().below("devices"),
            lanes=self.lanes,
            ledger=self.ledger,
            hub=self.hub,
        )

    def _modes(self) -> ModeKeeper:
        return mode_keeper(
            self.site, self.data, self.lanes, zones=self.zones, desk=self.desk, ledger=self.ledger, hub=self.hub
        )

    def _office(self) -> Office:
        keys = self.keys
        return Office(
            ledger=self.ledger,
            hub=self.hub,
            seal=OfficeSeal(
                hash_id_number=lambda number: keys.hash_id(CredentialKind.ID_NUMBER, number),
                hash_card=lambda card: keys.hash_id(CredentialKind.CARD, card),
                seal_id_number=lambda number: keys.seal(number.encode(), ID_NUMBER_CONTEXT),
                seal_name=lambda name: keys.seal(name.encode(), HOLDER_CONTEXT),
                sign=ticket_signer(self.site, keys),
            ),
            product_class={product.product: product.product_class for product in product_setups(self.site)},
        )

    def _sales(self, verifier: Verifier) -> Sales:
        return Sales(
            products=product_setups(self.site),
            timezone=self.site.site.timezone,
            business_day_start=self.site.site.business_day_start,
            sign=ticket_signer(self.site, self.keys),
            read_code=lambda text: verifier.verify(text).ticket,
            render=ticket_slips(self.site),
            holder=HolderSeal(
                hash_card=lambda card: self.keys.hash_id(CredentialKind.CARD, card),
                seal_name=lambda name: self.keys.seal(name.encode(), HOLDER_CONTEXT),
            ),
            ledger=self.ledger,
            passes=self.passes,
            printers=self.devices.printers,
            hub=self.hub,
        )

    def _console(self) -> Console:
        return Console(
            host=self.site.http.host,
            port=self.site.http.port,
            hub=self.hub,
            accounts=self.accounts,
            routes=routes(self._answerers()),
            record=recorder(self.ledger),
            tls=None if self.web_tls is None else self.web_tls.context,
            site_id=self.site.site.id,
            site_name=self.site.site.name,
            view_permission=VIEW,
            metrics=self._metrics if self.site.http.metrics else None,
            ready=self.views.ready,
        )

    def _answerers(self) -> dict[str, Address]:
        """Who answers the console's methods (`paifang._wire_methods`)."""
        found = {
            "accounts": self.accounts,
            "evacuation": self.evacuation,
            "desk": self.desk,
            "zones": self.zones,
            "phones": self.phones,
            "modes": self.modes,
            "explainer": self.explainer,
            "reports": self.reports,
            "wallets": self.wallets,
            "cases": self.cases,
            "sales": self.sales,
            "office": self.office,
        }
        return found if self.path is None else found | {"reloader": self.reloader}

    def _root(self) -> Supervisor:
        assert self.root is not None
        return self.root

    def _inspect(self) -> Inspection:
        return inspect_tree(self._root())

    def _metrics(self) -> bytes:
        assert self.watcher is not None
        return self.watcher.metrics()

    def _watch(self, console: Console) -> Watch:
        self.watcher = Watch(
            tree=self._inspect,
            dead_letters=self.dead_letters,
            drivers=self.statistics,
            links=lambda: {name: server.statistics() for name, server in self.links.items()},
            console=console.statistics,
            more=[self.outgoing.metrics, self.views.metrics],
        )
        return self.watcher


def _log_notice(notice: Notice) -> None:
    log.warning(
        "actor",
        supervisor=notice.supervisor,
        child=notice.child,
        kind=str(notice.kind),
        error=repr(notice.error) if notice.error is not None else "",
        delay_s=round(notice.delay_s, 2),
    )
